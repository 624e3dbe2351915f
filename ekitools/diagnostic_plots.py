"""Pictures of any diagnostic by iteration, and of the probability integral transform."""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ekitools.diagnostics import check_result, diagnose
from ekitools.plots import BLUE, COLOURS, GREY, MARKERS, axes_for, whole_numbers

if TYPE_CHECKING:
    from ekitools.problem import InverseProblem

__all__ = ["plot_diagnostic", "plot_pit"]

_MOST_LINES = len(COLOURS)


def plot_diagnostic(
    result: xr.Dataset, name: str, ax: Any = None, *, problem: InverseProblem | None = None
) -> Any:
    """Any number that `diagnose` measures, or any ``history_...`` of the result, by iteration.

    Parameters
    ----------
    result : xarray.Dataset
        What `run` or `integrate` returned.
    name : str
        A variable of ``ek.diagnose(result, problem)``, such as "coverage", "n_effective",
        "misfit_min", "spread" (a line for each of the first six parameters); or one of the
        result, such as "history_spread", "history_acceptance".
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.
    problem : InverseProblem, optional
        As in `diagnose`.

    Returns
    -------
    matplotlib Axes
        Its labels are the ``long_name`` and the ``units`` of the variable. The axis is
        logarithmic where all values are positive and span more than a factor of ten.

    Raises
    ------
    TypeError, ValueError
        If ``result`` is no result, or there is no such number.

    Examples
    --------
    >>> import ekitools as ek
    >>> result = ek.run(ek.problems.linear().problem, ek.EKI(), n_members=50, rng=0)
    >>> ek.plot_diagnostic(result, "misfit_min").get_ylabel()
    'smallest misfit of a member'
    """
    check_result(result)
    values = _series(result, name, problem)
    ax = axes_for(ax)
    x = values[values.dims[0]].values
    columns = values.values.reshape(x.size, -1)[:, :_MOST_LINES]
    for i, column in enumerate(columns.T):
        label = str(values.parameter.values[i]) if values.ndim > 1 else None
        ax.plot(x, column, f"{MARKERS[i]}-", ms=4, color=COLOURS[i], label=label)
    known = columns[np.isfinite(columns)]
    if known.size and known.min() > 0 and known.max() > 10 * known.min():
        ax.set_yscale("log")
    whole_numbers(ax)
    units = values.attrs.get("units", "1")
    text = _broken(values.attrs.get("long_name", name))
    ax.set(xlabel="iteration", ylabel=text if units == "1" else f"{text}\n[{units}]")
    ax.set_title(name.removeprefix("history_").replace("_", " ").capitalize())
    if values.ndim > 1:
        ax.legend(frameon=False, fontsize="small")
    return ax


def _series(result: xr.Dataset, name: str, problem: InverseProblem | None) -> xr.DataArray:
    if name in result and result[name].dims == ("history",):
        return result[name]
    diagnosis = diagnose(result, problem)
    if name not in diagnosis.data_vars:
        history = [str(each) for each in result if result[each].dims == ("history",)]
        raise ValueError(
            f"name: must be one of {', '.join(map(str, diagnosis.data_vars))}; or one of "
            f"{', '.join(history)}; got {name!r}."
        )
    return diagnosis[name]


def _broken(text: str, width: int = 40) -> str:
    """The text in lines, so that it fits along an axis."""
    return fill(text, width)


def plot_pit(calibration: Any, ax: Any = None, *, bins: Any = 10) -> Any:
    """Histogram of the probability integral transform F(y): flat if predictions are calibrated.

    A hump says that predictions are not sure enough, a valley that they are too sure, a slope
    that they are biased [1]_. The band is two standard errors of independent data.

    Parameters
    ----------
    calibration : xarray.Dataset
        What `ekitools.calibration` returned.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.
    bins : int, default 10
        Number of bins, at least 2.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    TypeError, ValueError
        If ``calibration`` is something else, or there are too few bins.

    References
    ----------
    .. [1] Gneiting, Balabdaoui & Raftery (2007), J. R. Stat. Soc. B 69, 243-268.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> y = np.random.default_rng(0).normal(size=200)
    >>> ek.plot_pit(ek.calibration(np.zeros((1, 200)), y, 1.0)).get_ylabel()
    'share of the data'
    """
    if not (isinstance(calibration, xr.Dataset) and "pit" in calibration):
        raise TypeError(
            f"calibration: must be what ek.calibration returns, got {type(calibration).__name__}."
        )
    if isinstance(bins, bool) or not isinstance(bins, int) or bins < 2:
        raise ValueError(f"bins: must be an integer of at least 2, got {bins!r}.")
    pit, label = calibration.pit.values, calibration.pit.attrs.get("long_name", "F(y)")
    counts, edges = np.histogram(pit, bins, (0, 1))
    ax = axes_for(ax)
    ax.bar(edges[:-1], counts / pit.size, 1 / bins, align="edge", color=BLUE, alpha=0.75,
           edgecolor="white")  # fmt: skip
    error = 2 * np.sqrt((1 - 1 / bins) / bins / pit.size)
    ax.axhspan(1 / bins - error, 1 / bins + error, color=GREY, alpha=0.35, lw=0,
               label="calibrated, ± 2 standard errors")  # fmt: skip
    ax.set(xlim=(0, 1), xlabel=label, ylabel="share of the data", title="Calibration")
    ax.legend(frameon=False, fontsize="small")
    return ax
