"""Plots of calibration: coverage by level, and probability integral transforms."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ekitools.core.checks import integer
from ekitools.plots.style import (
    BLUE,
    COLOURS,
    GREY,
    MARKERS,
    axes_for,
    legend_above,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_calibration", "plot_pit"]


def plot_calibration(calibrations: Any, ax: Any = None) -> Axes:
    """Coverage against nominal level, for one or several predictions.

    Calibrated predictions lie on the diagonal. The half-width of the band is two standard errors
    for independent data, as many as in the first prediction. Curves below the diagonal are
    overconfident.

    Parameters
    ----------
    calibrations : xarray.Dataset, or mapping of label to xarray.Dataset
        Results of `calibration`.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    TypeError, ValueError
        If the mapping is empty, or a value is not a result of `calibration`.

    See Also
    --------
    plot_pit : Histogram of the probability integral transform.
    calibration : The numbers of this plot.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> y = np.random.default_rng(0).normal(size=200)
    >>> right, narrow = (ek.calibration(np.zeros((1, 200)), y, sd) for sd in (1.0, 0.5))
    >>> ek.plot_calibration({"right": right, "too narrow": narrow}).get_ylabel()
    'coverage'
    """
    several = calibrations if isinstance(calibrations, Mapping) else {}
    if isinstance(calibrations, xr.Dataset):  # a Dataset is a mapping of its variables
        several = {"coverage": calibrations}
    if not several:
        raise ValueError("calibrations: must hold at least one result of ek.calibration, got none.")
    for label, each in several.items():
        if not (isinstance(each, xr.Dataset) and {"coverage", "standard_error"} <= set(each)):
            raise TypeError(
                f"calibrations: must be results of ek.calibration, got {type(each).__name__} for "
                f"{label!r}."
            )
    ax = axes_for(ax, height=4.6)
    first = next(iter(several.values()))
    level, error = first.level.values, 2 * first.standard_error.values
    ax.plot([0, 1], [0, 1], "--", color=GREY, lw=1)
    ax.fill_between(level, level - error, level + error, color=GREY, alpha=0.25, lw=0,
                    label="calibrated, ± 2 standard errors")  # fmt: skip
    styles = zip(cycle(COLOURS), cycle(MARKERS), strict=False)
    for (label, each), (colour, marker) in zip(several.items(), styles, strict=False):
        x, height = each.level.values, each.coverage.values
        ax.plot(x, height, f"{marker}-", ms=4, lw=1.2, color=colour, label=str(label))
    ax.set(
        xlim=(0, 1),
        ylim=(0, 1),
        xlabel="nominal level",
        ylabel="coverage",
        title="Calibration of intervals",
    )
    ax.set_aspect("equal")
    ax.apply_aspect()  # the legend fits into the square
    legend_above(ax)
    ax.set_yticks(ax.get_xticks())  # coverage ends at 1, the legend is above
    return ax


def plot_pit(calibration: Any, ax: Any = None, *, bins: Any = 10) -> Axes:
    """Histogram of the probability integral transform F(y): flat if predictions are calibrated.

    A peak in the middle is a sign of underconfident predictions. Peaks at both ends are a sign of
    overconfident predictions, and a slope is a sign of bias [1]_. The half-width of the band is two
    standard errors for independent data.

    Parameters
    ----------
    calibration : xarray.Dataset
        A result of `calibration`.
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
        If ``calibration`` is not a result of `calibration`, or there are too few bins.

    See Also
    --------
    plot_calibration : Coverage of the intervals.
    calibration : The numbers of this plot.

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
            f"calibration: must be a result of ek.calibration, got {type(calibration).__name__}."
        )
    bins = integer("bins", bins, least=2)
    pit, label = calibration.pit.values, calibration.pit.attrs.get("long_name", "F(y)")
    counts, edges = np.histogram(pit, bins, (0, 1))
    ax = axes_for(ax)
    ax.bar(edges[:-1], counts / pit.size, 1 / bins, align="edge", color=BLUE, alpha=0.75,
           edgecolor="white")  # fmt: skip
    error = 2 * np.sqrt((1 - 1 / bins) / bins / pit.size)
    ax.axhspan(1 / bins - error, 1 / bins + error, color=GREY, alpha=0.35, lw=0,
               label="calibrated, ± 2 standard errors")  # fmt: skip
    ax.set(
        xlim=(0, 1),
        xlabel=label,
        ylabel="share of the data",
        title="Probability integral transform",
    )
    legend_above(ax)
    return ax
