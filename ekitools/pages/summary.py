"""The summary of a result: the run, its end, the checks, and a table of the parameters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ekitools.core.markup import STYLE, paragraph, plain, table
from ekitools.core.statuses import CONFIRMED, CORRECTED, NOT_CONFIRMED
from ekitools.problem import check_problem
from ekitools.results.alignment import columns_of
from ekitools.results.checks import check_contents
from ekitools.results.marginals import frame, marginals
from ekitools.results.reading import (
    attribute,
    check_result,
    losses,
    method_of,
    model_runs,
    with_units,
)
from ekitools.results.shifts import verdict_of
from ekitools.results.tables import table_lines
from ekitools.results.trust import Check, doubted, is_posterior, judge, verdict

if TYPE_CHECKING:
    import pandas as pd

    from ekitools.problem import InverseProblem

__all__ = ["ResultSummary", "called", "duration", "head", "number", "summary"]

_MOST_ROWS = 20


@dataclass(frozen=True, eq=False)
class ResultSummary:
    """The summary of a result: text in a terminal, HTML in a notebook.

    Parameters
    ----------
    title : str
        The method and the model.
    trust : Check
        All ``checks`` in one sentence.
    checks : tuple of Check
        ``level`` ("good", "note", "care" or "bad"), ``topic``, ``sentence``.
    facts : dict of str to str
        The run: method, sizes, model runs, wall time, seed.
    table : xarray.Dataset
        The parameters: ``mean``, ``sd``, ``quantile(level)``, the same at the start
        (``start_mean``, ``start_sd``, ``start_quantile``), and ``sd_ratio``.
    end : str
        The name of the last ensemble: "posterior" if model runs confirmed it, "approximation" if
        it is meant as a sample of the posterior and no check doubts it, and "last ensemble"
        otherwise.
    verdict : str
        The verdict of `check_posterior`: "confirmed", "corrected", "not confirmed", or "" if the
        posterior was not checked.
    """

    title: str
    trust: Check
    checks: tuple[Check, ...]
    facts: dict[str, str]
    table: xr.Dataset
    end: str
    verdict: str = ""

    def to_dataframe(self) -> pd.DataFrame:
        """The table as a `pandas.DataFrame`: the columns of `ekitools.intervals`, at 90 %.

        Examples
        --------
        >>> import ekitools as ek
        >>> problem = ek.problems.linear(p=3).problem
        >>> result = ek.run(problem, ek.EKI(), n_members=50, rng=0)
        >>> ek.summary(result).to_dataframe().index.tolist()
        ['u0', 'u1', 'u2']
        """
        return frame(self.table)

    def rows(self) -> Iterator[list[str]]:
        """The cells of the table: a list for every parameter, in the columns of `header`."""
        t = self.table
        low, high = t["quantile"].values[[0, -1]]
        first = [t.start_mean.values, t.start_sd.values, t.start_quantile[0], t.start_quantile[-1]]
        for i, name in enumerate(t.parameter.values):
            start = [float(column[i]) for column in first] if t.attrs["start"] else []
            known = np.isfinite(t.sd_ratio.values[i])
            yield [
                plain(with_units(t, "parameter", name)),
                *([number(start[0]), number(start[1]), interval(*start[2:])] if start else []),
                number(t["mean"].values[i]),
                number(t.sd.values[i]),
                interval(low[i], high[i]),
                *([f"{100 * t.sd_ratio.values[i]:.3g} %" if known else "–"] if start else []),
            ]

    def header(self) -> list[str]:
        """The columns of the table."""
        start, end = self.table.attrs["start"], self.end
        cells = [f"{end} mean", f"{end} sd", f"{end} 90 % interval"]
        if not start:
            return ["parameter", *cells]
        before = [f"{start} mean", f"{start} sd", f"{start} 90 % interval"]
        return ["parameter", *before, *cells, f"sd / {start} sd"]

    def caption(self) -> str:
        """The caption of the table, with the number of parameters that are left out."""
        n, p = self.table.sizes["parameter"], self.table.attrs["n_parameters"]
        text = "Physical coordinates; intervals from the 5 % to the 95 % quantile."
        shares = self.table.attrs["sd_ratio_quantiles"]
        if not len(shares):
            return text if n == p else f"The first {n} of {p} parameters. {text}"
        if n == p:
            return text
        low, _, middle, _, high = (f"{100 * share:.3g} %" for share in shares)
        return (
            f"The {n} of {p} parameters whose standard deviation was reduced most. Over all "
            f"parameters, the median of sd / {self.table.attrs['start']} sd is {middle}, and 90 % "
            f"are from {low} to {high}. {text}"
        )

    def __str__(self) -> str:
        wide = max(map(len, self.facts))
        title = plain(self.title)
        lines = [title, "-" * len(title), self.trust.sentence, ""]
        lines += [f"{name:<{wide}}  {plain(text)}" for name, text in self.facts.items()]
        lines += ["", *(f"[{c.level}] {c.topic}: {plain(c.sentence)}" for c in self.checks), ""]
        return "\n".join([*lines, *table_lines(self.header(), self.rows()), self.caption()])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return f'<style>{STYLE}</style><div class="ekitools">{head(self)}</div>'


def summary(result: xr.Dataset, problem: InverseProblem | None = None) -> ResultSummary:
    """Summarise a result on one page: the run, the checks, and a table of the parameters.

    A notebook shows the summary as HTML. ``result.eki`` shows the same. Every Dataset has ``eki``
    as soon as ekitools is imported, also a Dataset that was read from a file.

    Parameters
    ----------
    result : xarray.Dataset
        A result of `run`, `integrate` or `solve`, or one that was read from a file.
    problem : InverseProblem, optional
        The problem of the result. Draws of its prior replace the first ensemble if the result does
        not hold it.

    Returns
    -------
    ResultSummary
        It has ``trust``, ``checks``, ``facts``, ``verdict`` and ``table``;
        ``to_dataframe()`` returns the table as a `pandas.DataFrame`. If there are more than 20
        parameters, the table has those whose standard deviation was reduced most. `intervals` has
        all parameters.

    Raises
    ------
    TypeError, ValueError
        If ``result`` is not a result, or ``problem`` belongs to another one.

    See Also
    --------
    check_posterior : A verdict on the posterior, by model runs.
    report : The summary with figures, as one HTML page.

    Examples
    --------
    >>> import ekitools as ek
    >>> result = ek.run(ek.problems.linear(p=3).problem, ek.EKI(), n_members=200, rng=0)
    >>> summary = ek.summary(result)
    >>> summary.trust.sentence
    'All checks that cost no model run passed. Confirm the posterior with
    ek.check_posterior(result, problem).'
    >>> bool((summary.table.sd_ratio < 0.5).all())
    True
    """
    check_result(result)
    check_contents(result)
    _check_problem(result, problem)
    checks = judge(result)
    return ResultSummary(
        title=_title(result),
        trust=verdict(checks),
        checks=checks,
        facts=_facts(result),
        table=marginals(result, problem, most=_MOST_ROWS),
        end=_end(result, checks),
        verdict=verdict_of(result),
    )


def _end(result: xr.Dataset, checks: tuple[Check, ...]) -> str:
    if doubted(checks) or not is_posterior(result):
        return "last ensemble"
    return "posterior" if verdict_of(result) == CONFIRMED else "approximation"


def head(summed: ResultSummary, *, level: int = 2) -> str:
    """The summary as HTML, with a heading of the level ``level``."""
    title = f"<h{level}>{paragraph(summed.title)}</h{level}>"
    trust = (
        f'<p class="trust {summed.trust.level}"><strong>{paragraph(summed.trust.sentence)}'
        "</strong></p>"
    )
    return "\n".join(
        [
            title,
            _badge(summed.verdict),
            trust,
            table(summed.facts.items(), caption="The run"),
            table(
                [(check.topic, check.level, check.sentence) for check in summed.checks],
                header=["Check", "Level", "Finding"],
                caption="Checks of the result",
                level=1,
            ),
            table(summed.rows(), header=summed.header(), caption=summed.caption()),
        ]
    )


_COLOURS = {CONFIRMED: "confirmed", CORRECTED: "corrected", NOT_CONFIRMED: "not-confirmed"}
"""Classes in `STYLE`: green, amber and red."""


def _badge(said: str) -> str:
    """The verdict as a word on a coloured ground; nothing if there is no verdict."""
    if not said:
        return ""
    return (
        f'<p class="verdict"><strong class="{_COLOURS[said]}">{said.capitalize()}</strong>'
        "Verdict of ek.check_posterior, by model runs.</p>"
    )


def number(value: float) -> str:
    """Four digits."""
    return f"{value:.4g}" if np.isfinite(value) else "–"


def interval(low: float, high: float) -> str:
    """Both ends of an interval, or a dash if they are not known."""
    return f"{number(low)} to {number(high)}" if np.isfinite(low) else "–"


def called(options: Any) -> str:
    """Options from JSON, written as Python code: EKI(step=FixedStep(h=0.5), ...)."""
    if isinstance(options, dict):
        name = options.get("type", "")
        given = (f"{key}={called(value)}" for key, value in options.items() if key != "type")
        return f"{name}({', '.join(given)})"
    if isinstance(options, list):
        return f"({', '.join(map(called, options))})"
    return repr(options)


def duration(seconds: float) -> str:
    """A wall time with its unit: hours, minutes or seconds."""
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 90 else f"{seconds:.2g} s"


def _check_problem(result: xr.Dataset, problem: Any) -> None:
    if problem is None:
        return
    check_problem(problem)
    columns_of(problem, result)


def _title(result: xr.Dataset) -> str:
    method = method_of(result).get("type", "Unknown method")
    model = attribute(result, "problem", {}).get("model", "")
    return f"{method} on {model}" if model else str(method)


def _seed(result: xr.Dataset) -> str:
    """``rng`` as the user gave it; the root of the streams for a Generator or None."""
    if "rng" in result.attrs:
        return f"rng={result.attrs['rng']}"
    if "seed" in result.attrs:
        return f"no integer was given; the root is {result.attrs['seed']}"
    return "not recorded"


def _facts(result: xr.Dataset) -> dict[str, str]:
    sizes, attrs = result.sizes, result.attrs
    solver = attribute(result, "solver", {})
    left, gaps = losses(result).left, int(attrs.get("gaps", 0))
    stored, last = sizes["iteration"], int(result.iteration[-1])
    facts = {
        "Method": called(method_of(result)),
        "Members": f"{sizes['member']}" + (f", {left} left" if left < sizes["member"] else ""),
        "Parameters": f"{sizes['parameter']}",
        "Data": f"{sizes['data']}" + (f" ({gaps} missing)" if gaps else ""),
        "Iterations": f"{last}, to t = {float(result.t[-1]):.4g}; "
        + ("every one stored" if stored == last + 1 else f"{stored} stored"),
        "Model runs": f"{model_runs(result)}",
        "Wall time": duration(float(attrs["seconds"])) if "seconds" in attrs else "not recorded",
        "Seed": _seed(result),
    }
    if solver:
        facts["Solver"] = called(solver).strip("()")
    if "verdict" in attrs:
        facts["Verdict"] = str(attrs["verdict"])
    if "n_runs" in attrs:
        facts["Model runs"] += f" for this result, {attrs['n_runs']} of {attrs['budget']} in all"
        path = attribute(result, "path", [])
        facts |= {f"Stage {number}": line for number, line in enumerate(path, 1)}
        facts["With more runs"] = str(attrs["advice"])
    if "log_evidence" in attrs:
        facts["Log evidence"] = f"{float(attrs['log_evidence']):.4f}"
    return facts
