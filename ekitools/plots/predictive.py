"""Plot of predictions beside the data."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from ekitools.core.arrays import as_array, check_array
from ekitools.core.checks import integer
from ekitools.core.labels import plain_labels
from ekitools.plots.style import LINES, axes_for, drawable, whole_numbers
from ekitools.results.predictive import predictive_quantiles
from ekitools.results.reading import (
    check_result,
    has_noise,
    last_evaluated,
    members_at,
    stored_index,
)

if TYPE_CHECKING:
    import xarray as xr


__all__ = ["band", "plot_predictive"]


def plot_predictive(
    result: xr.Dataset,
    ax: Any = None,
    *,
    iteration: int = -1,
    x: Any = None,
    groups: Any = None,
) -> Any:
    """Data and predictive bands: 50 % and 90 % intervals of outputs plus noise.

    The quantiles are those of the mixture of the members' Gaussians, without sampling; under
    a loss in place of noise those of the outputs alone. The first ensemble's 90 % band is drawn
    faintly behind.

    Parameters
    ----------
    result : xarray.Dataset
        What `run` returned.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.
    iteration : int, default -1
        Which stored iteration; the last one that was evaluated if −1.
    x : (d,), optional
        Coordinate of every datum; the data's own labels if those are numbers, else 0, 1, ...
    groups : (d,), optional
        The series that every datum belongs to, each drawn in a colour of its own.

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> import ekitools as ek
    >>> result = ek.run(ek.problems.linear().problem, ek.EKI(), n_members=50, rng=0)
    >>> ek.plot_predictive(result).get_title()
    'Data and predictive bands'
    """
    check_result(result)
    iteration = integer("iteration", iteration, least=None)
    d = result.sizes["data"]
    labels = result["data"].values
    numeric = np.issubdtype(labels.dtype, np.number)
    x = as_array("x", x if x is not None else labels if numeric else np.arange(d))
    check_array("x", x)
    x = x.astype(float)
    groups = np.array(plain_labels("groups", ["data"] * d if groups is None else groups))
    for name, values in (("x", x), ("groups", groups)):
        if values.shape != (d,):
            raise ValueError(f"{name}: must have d = {d} entries, got shape {values.shape}.")
    y, sd = result.y.values, result.noise_sd.values
    if not has_noise(result):  # bands of the outputs alone
        sd = np.full_like(y, 1e-9 * max(float(np.ptp(y)), 1e-300))
    index = last_evaluated(result) if iteration == -1 else stored_index(result, iteration)
    bands = _bands(result, index, sd)
    before = _bands(result, 0, sd)[[0, 4]] if index > 0 else None
    ax = axes_for(ax)
    limits = [np.nanmin([y.min(), bands.min()]), np.nanmax([y.max(), bands.max()])]
    several = len(np.unique(groups)) > 1
    for group, colour in zip(dict.fromkeys(groups), cycle(LINES)):
        chosen = np.flatnonzero(groups == group)
        chosen = chosen[np.argsort(x[chosen], kind="stable")]
        at = x[chosen]
        prefix = f"{group}: " if several else ""
        drawn = [(*bands[[0, 4]], 0.2, "90 %"), (*bands[[1, 3]], 0.4, "50 %")]
        if before is not None:
            drawn.insert(0, (*before, 0.07, "first ensemble, 90 %"))
        for low, high, alpha, label in drawn:
            band(ax, at, low[chosen], high[chosen], color=colour, alpha=alpha,
                 label=f"{prefix}{label}")  # fmt: skip
        line = "-" if at.size > 1 else "_"
        ax.plot(at, bands[2, chosen], line, color=colour, lw=1.2, label=f"{prefix}median")
        edge, size = colour if several else "black", 4 if d <= 100 else 2
        ax.plot(at, y[chosen], "o", ms=size, mfc="white", mec=edge, label=f"{prefix}data")
    if np.all(x == np.round(x)):
        whole_numbers(ax)
    margin = 0.15 * (limits[1] - limits[0])
    ax.set_ylim(limits[0] - margin, limits[1] + margin)
    ax.set(
        xlabel="data coordinate" if numeric or several else "datum",
        ylabel=_output_label(result),
        title="Data and predictive bands",
    )
    ax.legend(frameon=False, fontsize="small", ncols=2 if several else 1)
    return ax


def band(ax: Any, x: np.ndarray, low: np.ndarray, high: np.ndarray, **style: Any) -> None:
    """Fill the space between two lines; a thick bar where they have one point."""
    if x.size > 1:
        ax.fill_between(x, low, high, lw=0, **style)
    else:  # the filled space would have no width
        ax.vlines(x, low, high, lw=6, **style)


def _bands(result: xr.Dataset, index: int, sd: np.ndarray) -> np.ndarray:
    g, _, weight = members_at(result, index).evaluated()
    if not len(g):
        raise ValueError(
            f"iteration: must have been evaluated, got {int(result.iteration[index])}, which has "
            "no outputs. Run with evaluate_final=True or choose another."
        )
    return predictive_quantiles((0.05, 0.25, 0.5, 0.75, 0.95), g, sd, weight)


def _output_label(result: xr.Dataset) -> str:
    """G(u), with the units that all data share."""
    units = (
        set(map(str, result.data_units.values.tolist())) if "data_units" in result.coords else {""}
    )
    (one,) = units if len(units) == 1 else ("as the datum",)
    return drawable(f"G(u) [{one}]") if one else "G(u)"
