"""The report of a result: one HTML page that needs no other file."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ekitools._public import lookup
from ekitools._version import __version__
from ekitools.core.checks import as_path
from ekitools.core.markup import figure, page, paragraph, table
from ekitools.pages.summary import ResultSummary, called, duration, head, summary
from ekitools.plots.convergence import plot_misfit
from ekitools.plots.diagnostic import plot_diagnostic
from ekitools.plots.pairs import plot_pairs
from ekitools.plots.posterior import plot_marginals
from ekitools.plots.predictive import plot_predictive
from ekitools.plots.style import as_svg, detached
from ekitools.results.marginals import start_of
from ekitools.results.reading import attribute, has_noise, last_evaluated, method_of, model_runs

if TYPE_CHECKING:
    from ekitools.problem import InverseProblem

__all__ = ["CITATION", "report"]

CITATION = {
    "author": "The ekitools developers",
    "title": "ekitools: ensemble Kalman inversion in Python",
    "year": "2026",
}
"""As in CITATION.cff, which an installed package does not carry along."""

_MOST_FAILURES = 30
_MOST_BLOCKS = 8
_MOST_DATA = 400
_MOST_PAIRED = 6
_NUMBER = re.compile(r"-?\b\d+(?:\.\d*)?(?:[eE][-+]?\d+)?")
"""Left out of reasons that are counted, for they differ between members."""


def report(result: xr.Dataset, path: str | Path, problem: InverseProblem | None = None) -> Path:
    """Write a result as one HTML page: what was run, how far to trust it, what was learnt.

    The page needs no network and no scripts; figures are within it. It has what `summary` says,
    the marginals of the parameters at the start and at the end, misfit and spread by iteration,
    predictions beside the data, pairs of the parameters that the data said most about, failures
    with their reasons, times, versions, and what to cite. Of thousands of parameters it shows
    those whose standard deviation was reduced most; of thousands of data as many as can be seen.

    Parameters
    ----------
    result : xarray.Dataset
        What `run` or `integrate` returned, or what was read back from its file.
    path : str or Path
        The file; its folder is made where it is missing.
    problem : InverseProblem, optional
        Its prior is drawn from where the result does not hold the first ensemble.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    TypeError, ValueError
        If ``result`` is no result, or ``problem`` another one's.

    Notes
    -----
    The same result gives the same page, byte by byte, with the same versions.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import ekitools as ek
    >>> result = ek.run(ek.problems.linear(p=3).problem, ek.EKI(), n_members=50, rng=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = ek.report(result, Path(folder) / "report.html").read_text("utf-8")
    >>> page.count("<figure>")
    5
    """
    path = as_path("path", path, "a file")
    summed = summary(result, problem)
    sections = {
        "parameters": ("Parameters", _parameters(result, problem, summed)),
        "convergence": ("Convergence", _convergence(result)),
        "data": ("Data and predictions", _data(result)),
        "pairs": ("Pairs of parameters", _pairs(result, problem, summed)),
        "failures": ("Failed members", _failures(result)),
        "run": ("Options, times and versions", _run(result)),
        "cite": ("How to cite", _cite(result)),
    }
    links = "".join(f'<li><a href="#{key}">{name}</a></li>' for key, (name, _) in sections.items())
    body = "\n".join(
        f'<section id="{key}"><h2>{name}</h2>\n{content}\n</section>'
        for key, (name, content) in sections.items()
    )
    text = page(
        f"{summed.title}: report",
        f'<header>{head(summed, level=1)}</header>\n<nav aria-label="Sections"><ul>{links}</ul>'
        f"</nav>\n<main>{body}</main>",
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _parameters(result: xr.Dataset, problem: InverseProblem | None, summed: ResultSummary) -> str:
    names = summed.table.parameter.values.tolist()
    alts = [
        f"{name}: {cells[-1] if len(cells) > 4 else cells[3]}"
        for name, cells in zip(names, summed.rows(), strict=True)
    ]
    start = bool(summed.table.attrs["start"])
    what = "standard deviation left" if start else "90 % interval"
    return _drawn(
        lambda ax: plot_marginals(result, ax, parameters=names, problem=problem),
        (7.5, 1.8 + 0.34 * len(names)),
        alt=f"Intervals of {len(names)} parameters. Share of the {what}: " + "; ".join(alts),
        caption="Medians, 50 % and 90 % intervals at the "
        + ("start and at the end" if start else "end")
        + f", in standard deviations from the mean at the {'start' if start else 'end'}.",
    )


def _convergence(result: xr.Dataset) -> str:
    mean = result.history_misfit.values
    known = mean[np.isfinite(mean)]
    ends = f"from {known[0]:.4g} to {known[-1]:.4g}" if known.size else "not known"
    pictures = [
        _drawn(
            lambda ax: plot_misfit(result, ax),
            (5.0, 3.6),
            alt=f"Mean misfit by iteration, {ends}.",
            caption="Misfit, or loss, of the members.",
        )
    ]
    for name in ("spread", "ess", "acceptance"):
        series = result.get(f"history_{name}")
        if series is None or not np.isfinite(series.values).any():
            continue
        values = series.values[np.isfinite(series.values)]
        pictures.append(
            _drawn(
                lambda ax, name=name: plot_diagnostic(result, f"history_{name}", ax),  # type: ignore[misc]
                (5.0, 3.6),
                alt=f"{name} by iteration, from {values[0]:.4g} to {values[-1]:.4g}.",
                caption=str(series.attrs.get("long_name", name)).capitalize() + ".",
            )
        )
    return f'<div class="pair">{"".join(pictures)}</div>'


def _data(result: xr.Dataset) -> str:
    at = last_evaluated(result)
    if at < 0:
        return "<p>No stored ensemble was evaluated: there are no predictions to show.</p>"
    d = result.sizes["data"]
    index = np.unique(np.linspace(0, d - 1, min(d, _MOST_DATA)).astype(int))
    ends = sorted({0, at})
    part = result.isel(data=index, iteration=ends)
    noisy = has_noise(result)
    if "position" in part.coords and index.size < d:  # data left out here are no gaps
        part = part.assign_coords(position=("data", np.arange(index.size)))
    blocks = list(dict.fromkeys(part.block.values.tolist())) if "block" in part.coords else []
    text = "" if noisy else (
        "<p>A loss stands in place of the noise: the bands are those of the outputs alone, and "
        "where these are on another scale than the data (such as logits and labels), they cannot "
        "be compared.</p>"
    )  # fmt: skip
    some = "" if index.size == d else f" {index.size} of {d} data, evenly chosen."
    iteration = int(result.iteration[at])
    caption = (
        f"predictions of iteration {iteration}"
        + (" with noise" if noisy else "")
        + f"{'; the faint band is that of the first stored ensemble' * (at > 0)}.{some}"
    )
    alt = f"data and the predictions of iteration {iteration}: median, 50 % and 90 % bands."
    if not blocks:
        return text + _drawn(
            lambda ax: plot_predictive(part, ax),
            (7.5, 4.0),
            alt=f"{index.size} {alt}",
            caption=f"Data, and {caption}",
        )
    pictures = [
        _drawn(
            lambda ax, block=block: plot_predictive(part, ax, block=block),  # type: ignore[misc]
            (7.5, 3.4),
            alt=f"{block}: {alt}",
            caption=f"Data {block}, and {caption}",
        )
        for block in blocks[:_MOST_BLOCKS]
    ]
    left = len(blocks) - len(pictures)
    more = f"<p>{left} more blocks are not shown; see ek.plot_predictive.</p>" if left > 0 else ""
    return text + "".join(pictures) + more


def _pairs(result: xr.Dataset, problem: InverseProblem | None, summed: ResultSummary) -> str:
    order = np.argsort(summed.table.sd_ratio.values, kind="stable")[:_MOST_PAIRED]
    names = summed.table.parameter.values[np.sort(order)].tolist()
    if len(names) < 2:
        return "<p>There is one parameter only.</p>"
    size = (1.55 * len(names), 1.5 * len(names))
    drawing, axes = detached(len(names), len(names), figsize=size)
    plot_pairs(result, axes, parameters=names, problem=problem)
    listed, start = ", ".join(map(str, names)), start_of(result, problem)
    chosen = f"the {len(names)} parameters whose standard deviation was reduced most"
    if not start:
        chosen = f"the first {len(names)} parameters"
    behind = {"prior": ", on those of the prior", "start": ", on those of the first ensemble"}
    return figure(
        as_svg(drawing),
        size,
        alt=f"Scatter of the last ensemble for every pair of {listed}; densities on the diagonal.",
        caption="Members of the last ensemble" + behind.get(start, "")
        + (f"; {chosen}." if len(names) < result.sizes["parameter"] else "."),
    )  # fmt: skip


def _failures(result: xr.Dataset) -> str:
    failures = attribute(result, "failures", [])
    if not failures:
        return "<p>No model run failed.</p>"
    reasons = Counter(_NUMBER.sub("…", failure["reason"]) for failure in failures)
    shown = failures[:_MOST_FAILURES]
    return "\n".join(
        [
            table(
                [(count, reason) for reason, count in reasons.most_common(_MOST_FAILURES)],
                header=["Model runs", "Reason"],
                caption=f"Failed model runs, {len(failures)} in all, by reason (numbers left out)",
            ),
            table(
                [(f["iteration"], f["member"], f["reason"]) for f in shown],
                header=["Iteration", "Member", "Reason"],
                caption=f"The first {len(shown)} of {len(failures)} failures.",
            ),
        ]
    )


def _run(result: xr.Dataset) -> str:
    attrs, options = result.attrs, method_of(result)
    rows = [(name, called(value)) for name, value in options.items() if name != "type"]
    runs = model_runs(result)
    times = [("Model runs", f"{runs}")]
    if "seconds" in attrs:
        seconds = float(attrs["seconds"])
        times += [("Wall time, the model’s included", duration(seconds))]
        times += [("Wall time per model run", f"{seconds / max(runs, 1):.3g} s")]
    times += [("Covariances", str(attrs.get("covariance_normalisation", "not recorded")))]
    problem = attribute(result, "problem", {})
    return "\n".join(
        [
            table(rows, caption=f"Options of {options.get('type', 'the method')}"),
            table(times, caption="Times"),
            table(problem.items(), caption="Fingerprints of the problem"),
            table(
                [*attribute(result, "versions", {}).items()],
                caption="Versions with which it was computed",
            ),
        ]
    )


def _cite(result: xr.Dataset) -> str:
    version = attribute(result, "versions", {}).get("ekitools", __version__)
    author, title, year = CITATION["author"], CITATION["title"], CITATION["year"]
    entry = (
        f"@software{{ekitools,\n  author  = {{{{{author}}}}},\n  title   = {{{title}}},\n"
        f"  year    = {{{year}}},\n  version = {{{version}}}\n}}"
    )
    references = "".join(f"<li>{paragraph(text)}</li>" for text in _references(result))
    return "\n".join(
        [
            f"<p>{paragraph(f'{author} ({year}). {title}, version {version}.')}</p>",
            f"<pre><code>{paragraph(entry)}</code></pre>",
            f"<p>For the method:</p><ul>{references}</ul>" if references else "",
        ]
    )


def _references(result: xr.Dataset) -> list[str]:
    """Those of the docstrings of the method and of what its options are."""
    found: dict[str, None] = {}
    for name in _types(method_of(result)):
        known = lookup(name)
        section = re.search(r"^References\n-+\n(.*?)(?=^\S[^\n]*\n---|\Z)",
                            inspect.getdoc(known) or "" if known else "", re.M | re.S)  # fmt: skip
        for text in re.split(r"^\.\. \[\d+\] ", section[1], flags=re.M)[1:] if section else []:
            found[" ".join(text.split())] = None
    return list(found)


def _types(options: Any) -> Iterator[str]:
    if isinstance(options, dict):
        yield options.get("type", "")
        for value in options.values():
            yield from _types(value)
    elif isinstance(options, list):
        for value in options:
            yield from _types(value)


def _drawn(draw: Callable[[Any], Any], size: tuple[float, float], *, alt: str, caption: str) -> str:
    drawing, ax = detached(figsize=size)
    draw(ax)
    return figure(as_svg(drawing), size, alt=alt, caption=caption)
