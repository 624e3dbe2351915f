"""Text and HTML view of an inverse problem: parameters, data, noise and model, without arrays."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np

from ekitools.core.described import brief, first
from ekitools.core.markup import STYLE, paragraph, table
from ekitools.observed.layout import Layout
from ekitools.observed.scales import WithScales
from ekitools.observed.together import Together
from ekitools.priors.gaussian import GaussianPrior
from ekitools.priors.joint import JointPrior
from ekitools.priors.marginals import Prior
from ekitools.typing import Prior as AnyPrior

__all__ = ["problem_html", "problem_text"]

_MOST_ROWS = 8
"""Parameters and blocks of data that are shown."""


def problem_text(problem: Any) -> str:
    """A few lines: the parts of the problem with their sizes.

    Parameters
    ----------
    problem : InverseProblem
        The problem.
    """
    blocks = [
        f"{name} ({size}{f', {gaps} missing' if gaps else ''})" if name else f"{gaps} missing"
        for name, size, gaps, _ in _blocks(problem)
        if name or gaps
    ]
    data = f"{problem.n_data} in a step of {brief(problem.data)}" if problem.batched else (
        f"{problem.n_data}")  # fmt: skip
    lines = {
        "model": brief(problem.model),
        "prior": brief(problem.prior),
        "noise" if problem.has_noise else "loss": brief(problem.noise),
        "parameters": f"{problem.n_parameters}: {first(_names(problem))}",
        "data": f"{data}{f': {first(blocks)}' if blocks else ''}",
    }
    return "\n".join(
        [type(problem).__name__, *(f"  {name:<11}{brief(text)}" for name, text in lines.items())]
    )


def problem_html(problem: Any) -> str:
    """Two small tables for notebooks, in the colours of the page around them.

    Parameters
    ----------
    problem : InverseProblem
        The problem.
    """
    p, units = problem.n_parameters, problem.info.parameter_units
    parameters = [
        (name, brief(prior, most=120), units[i] if units else "–")
        for i, (name, prior) in enumerate(
            islice(zip(_names(problem), _priors(problem.prior), strict=False), _MOST_ROWS)
        )
    ]
    rows = list(_blocks(problem))
    data = [(name or "data", f"{size}", f"{gaps}", unit) for name, size, gaps, unit in rows]
    parts = [
        ("Model", brief(problem.model)),
        ("Prior", brief(problem.prior)),
        ("Noise" if problem.has_noise else "Loss", brief(problem.noise)),
    ]
    if problem.batched:
        parts.append(("Batches", brief(problem.data)))
    return "\n".join(
        [
            f'<style>{STYLE}</style><div class="ekitools">',
            f"<p><strong>{paragraph(type(problem).__name__)}</strong></p>",
            table(parts, caption=f"{p} parameters, {problem.n_data} data"),
            table(
                parameters,
                header=["Parameter", "Prior", "Unit"],
                caption=_caption("parameters", len(parameters), p),
            ),
            table(
                data[:_MOST_ROWS],
                header=["Data", "Observed", "Missing", "Unit"],
                caption=_caption("blocks of data", min(len(data), _MOST_ROWS), len(data)),
            ),
            "</div>",
        ]
    )


def _caption(what: str, shown: int, n: int) -> str:
    return what.capitalize() if shown == n else f"{shown} of {n} {what} shown"


def _names(problem: Any) -> Iterator[str]:
    return (brief(str(name), most=60) for name in problem.parameter_names or ())


def _priors(prior: AnyPrior) -> Iterator[str]:
    """The distribution of every parameter, in words."""
    if isinstance(prior, WithScales):
        yield from _priors(prior.parameters)
        yield from ("scale of the noise" for _ in prior.scales.names)
    elif isinstance(prior, JointPrior):
        for part in prior.parts.values():
            yield from _priors(part)
    elif isinstance(prior, Prior):
        yield from (_distribution(marginal) for marginal in prior.marginals.values())
    elif type(prior) is GaussianPrior:
        sd = np.sqrt(prior.cov.diagonal() if prior.cov.ndim == 2 else prior.cov)
        for mean, width in zip(prior.mean, np.broadcast_to(sd, prior.mean.shape), strict=True):
            yield f"normal, mean {mean:.4g}, sd {width:.4g}"
    else:
        yield from (type(prior).__name__ for _ in range(prior.n_parameters))


def _distribution(marginal: Any) -> str:
    """A frozen distribution as one writes it: ``lognorm(0.5, scale=2)``."""
    if not all(hasattr(marginal, part) for part in ("dist", "args", "kwds")):
        return type(marginal).__name__
    given = [_number(value) for value in marginal.args]
    given += [f"{name}={_number(value)}" for name, value in marginal.kwds.items()]
    return f"{marginal.dist.name or type(marginal.dist).__name__}({', '.join(given)})"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float | np.number) else brief(value, most=20)


def _blocks(problem: Any) -> Iterator[tuple[str, int, int, str]]:
    """Name, numbers of observed and of missing data, and units of every block of data."""
    layout = problem.layout
    if isinstance(layout, Together):
        for name, part in zip(layout.observations, layout.layouts, strict=True):
            yield name, part.n_data, part.n_gaps, first(_units(part)) or "–"
    elif isinstance(layout, Layout):
        for (name, span), block in zip(layout.slices.items(), layout.blocks, strict=True):
            kept = int(np.count_nonzero(layout.kept[span]))
            yield name, kept, layout.kept[span].size - kept, block.units or "–"
    else:
        units = problem.info.data_units
        yield "", problem.n_data, 0, first(dict.fromkeys(units)) if units else "–"


def _units(layout: Layout) -> dict[str, None]:
    return dict.fromkeys(block.units for block in layout.blocks if block.units)
