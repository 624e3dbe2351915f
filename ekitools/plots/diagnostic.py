"""Plot of a diagnostic of a run, a comparison or a calibration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import cycle
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ekitools.plots.style import (
    COLOURS,
    MARKERS,
    axes_for,
    drawable,
    label_ends,
    legend_above,
    logarithmic,
    not_known,
    whole_numbers,
)
from ekitools.problem import check_problem
from ekitools.results.diagnostics import diagnose
from ekitools.results.reading import check_result, with_units
from ekitools.results.reference import listed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ekitools.problem import InverseProblem

__all__ = ["plot_diagnostic"]

_NAMED = ("parameter", "label")
_ALONG = ("iteration", "history", "level", "datum", *_NAMED)
"""Dimensions of the x axis, by precedence; a second dimension gives one line for each entry."""

_MOST_ROWS = 30
_TITLES = {
    "bayes_loss": "Bayes loss",
    "cov_error": "Covariance error",
    "crps": "CRPS",
    "ess": "Effective number of members",
    "nlpd": "NLPD",
    "pit": "PIT",
    "rmse": "RMSE",
    "t": "Pseudo-time",
}


def plot_diagnostic(
    measured: xr.Dataset | Mapping[str, xr.Dataset],
    name: str,
    ax: Any = None,
    *,
    problem: InverseProblem | None = None,
) -> Axes:
    """Plot of any diagnostic of a run, a comparison or a calibration.

    Parameters
    ----------
    measured : xarray.Dataset, or mapping of label to xarray.Dataset
        A result of `run`, `integrate`, `diagnose`, `compare` or `calibration`. A mapping draws
        several results of one kind together.
    name : str
        For a run, a variable of ``ek.diagnose(result, problem)``, such as "coverage",
        "n_effective", "misfit_min" or "spread" (a line for each of the first six parameters), or a
        history of the result, such as "history_spread" or "history_acceptance". For a comparison, a
        variable such as "wasserstein" or "cov_error". For a calibration, a variable such as "width"
        or "crps".
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.
    problem : InverseProblem, optional
        The problem of the result, for diagnostics of linear models and correlated noise.

    Returns
    -------
    matplotlib Axes
        The axis label is the ``long_name`` and the ``units`` of the variable. A variable by
        parameter, method or label is drawn with one row for each entry. The axis is logarithmic if
        all values are positive and span more than a factor of ten.

    Raises
    ------
    TypeError, ValueError
        If ``measured`` is none of these, or has no diagnostic of this name.

    See Also
    --------
    diagnose, compare, calibration : The values of the diagnostics.
    plot_misfit, plot_residual, plot_collapse : Plots of the most common diagnostics.

    Examples
    --------
    >>> import ekitools as ek
    >>> example = ek.problems.linear(p=3, d=5)
    >>> result = ek.run(example.problem, ek.EKI(), n_members=50, rng=0)
    >>> ek.plot_diagnostic(result, "misfit_min").get_ylabel()
    'smallest misfit of a member'
    >>> comparison = ek.compare({"EKI": result}, (example.extra["mean"], example.extra["cov"]))
    >>> ek.plot_diagnostic(comparison, "cov_error").get_yticklabels()[0].get_text()
    'EKI'
    """
    if not isinstance(name, str):
        raise TypeError(f"name: must be the name of a diagnostic, got {name!r:.60}.")
    if problem is not None:
        check_problem(problem)
    lines = list(_lines(measured, name, problem))
    first = lines[0][1]
    along, axis = str(first.dims[0]), first[first.dims[0]]
    in_rows = along in _NAMED
    ax = axes_for(ax)
    styles = zip(cycle(MARKERS), cycle(COLOURS), strict=False)
    for i, ((label, values), (marker, colour)) in enumerate(zip(lines, styles, strict=False)):
        if in_rows:
            at = np.arange(values.size) + 0.5 * ((i + 0.5) / len(lines) - 0.5)
            ax.plot(values.values, at, marker, ms=5, color=colour, label=label)
        else:
            style = "." if along == "datum" else f"{marker}-"
            x = values[along].values if along in values.coords else np.arange(values.size)
            ax.plot(x, values.values, style, ms=4, color=colour, label=label)
    drawn = np.concatenate([values.values for _, values in lines])
    known = drawn[np.isfinite(drawn)]
    if known.size and known.min() > 0 and known.max() > 10 * known.min():
        logarithmic(ax, "x" if in_rows else "y")
    if not known.size:
        not_known(ax)
    units = first.attrs.get("units", "1")
    text = drawable(_broken(str(first.attrs.get("long_name", name))))
    text = text if units == "1" else drawable(f"{text}\n[{units}]")
    if in_rows:
        few = first.size <= _MOST_ROWS
        names = [drawable(with_units(first, along, each)) for each in axis.values] if few else []
        ax.set(xlabel=text, ylabel="" if along == "label" else along if few else f"{along} number")
        if few:
            ax.set_yticks(range(first.size), names)
        ax.set_ylim(first.size - 0.5, -0.5)
    else:
        if along != "level":
            whole_numbers(ax)
        known_as = "iteration" if along == "history" else along
        ax.set(xlabel=axis.attrs.get("long_name", known_as), ylabel=text)
    short = name.removeprefix("history_")
    ax.set_title(_TITLES.get(short, short.replace("_", " ").capitalize()))
    if len(lines) > 1:
        shown = str(first.attrs.get("shown", ""))
        if in_rows or shown:
            legend_above(ax, title=shown)
        else:
            label_ends(ax)
    return ax


def _lines(
    measured: Any, name: str, problem: InverseProblem | None
) -> Iterator[tuple[str, xr.DataArray]]:
    """Label ("_" for none) and values along one dimension, for every line."""
    several = measured
    if isinstance(measured, xr.Dataset):  # a Dataset is also a mapping of its variables
        several = {"": measured}
    if not isinstance(several, Mapping) or not several:
        raise TypeError(
            "measured: must be a result of ek.run, integrate, diagnose, compare or calibration, or "
            f"a mapping of labels to such results, got {type(measured).__name__}."
        )
    found = {
        str(label): _values(each, name, problem, f"measured[{label!r}]" if label else "measured")
        for label, each in several.items()
    }
    if len({values.dims for values in found.values()}) > 1:
        raise ValueError(
            f"measured: must be of one kind, got {name!r} along "
            f"{' and '.join(str(values.dims) for values in found.values())}. Plot them separately."
        )
    if not next(iter(found.values())).dims:
        labels = xr.DataArray(np.array(list(found), dtype=object), dims="label")
        yield "_", xr.concat(list(found.values()), "label").assign_coords(label=labels)
        return
    found = _by_name(found)
    for label, values in found.items():
        along = next(dim for dim in _ALONG if dim in values.dims)
        others = [str(dim) for dim in values.dims if dim != along]
        if not others:
            yield label or "_", values
        n = values.sizes[others[0]] if others else 0
        most = min(n, len(COLOURS))
        for i in range(most):
            one = values.isel({others[0]: i})
            if most < n:
                one = one.assign_attrs(shown=f"the first {most} of {n}")
            shown = drawable(with_units(values, others[0], values[others[0]].values[i]))
            yield f"{label}: {shown}" if label else shown, one


def _by_name(found: dict[str, xr.DataArray]) -> dict[str, xr.DataArray]:
    """Values with their names in the order of the first entry; raises if the names differ."""
    first_label, first = next(iter(found.items()))
    for dim in ("parameter", "label"):
        if dim not in first.dims:
            continue
        names = first[dim].values.tolist()
        for label, values in found.items():
            theirs = values[dim].values.tolist()
            if set(theirs) != set(names) and (dim == "parameter" or first.dims == (dim,)):
                raise ValueError(
                    f"measured[{label!r}]: must have the {dim}s of {first_label!r} "
                    f"({listed(names)}), got {listed(theirs)}. Select the names that both have."
                )
            if set(theirs) == set(names) and theirs != names:
                found[label] = values.sel({dim: first[dim].values})
    return found


def _values(measured: Any, name: str, problem: InverseProblem | None, what: str) -> xr.DataArray:
    diagnosed = measured
    known = isinstance(measured, xr.Dataset) and "u" not in measured
    if not (known and set(measured.dims) & set(_ALONG)):
        check_result(measured, what)
        if name in measured and measured[name].dims == ("history",):
            return measured[name]
        diagnosed = diagnose(measured, problem)
    if name in diagnosed.data_vars and set(diagnosed[name].dims) <= set(_ALONG):
        return diagnosed[name]
    history = [str(each) for each in measured if measured[each].dims == ("history",)]
    raise ValueError(
        f"name: must be one of {', '.join(map(str, (*diagnosed.data_vars, *history)))}, got "
        f"{name!r}."
    )


def _broken(text: str, width: int = 40) -> str:
    """Text broken into lines that fit along an axis."""
    return fill(text.replace(" %", "\N{NO-BREAK SPACE}%"), width)
