"""Plot of predictions and data, block by block."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from ekitools.core.arrays import as_array, check_array
from ekitools.core.checks import integer
from ekitools.core.labels import plain_labels
from ekitools.plots.style import (
    BLUE,
    GREY,
    LINES,
    WIDTH,
    axes_for,
    drawable,
    legend_above,
    panels,
    whole_numbers,
)
from ekitools.results.predictive import predictive_quantiles
from ekitools.results.reading import (
    check_result,
    has_noise,
    last_evaluated,
    members_at,
    stored_index,
)
from ekitools.results.views import View, views_of

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes


__all__ = ["band", "plot_predictive"]

_FAINT = 0.08
"""Opacity of the first ensemble."""


@overload
def plot_predictive(
    result: xr.Dataset,
    ax: Axes,
    *,
    iteration: int = -1,
    x: Any = None,
    groups: Any = None,
    block: str | None = None,
) -> Axes: ...


@overload
def plot_predictive(
    result: xr.Dataset,
    ax: np.ndarray,
    *,
    iteration: int = -1,
    x: None = None,
    groups: None = None,
    block: None = None,
) -> np.ndarray: ...


@overload
def plot_predictive(
    result: xr.Dataset,
    ax: Any = None,
    *,
    iteration: int = -1,
    x: Any = None,
    groups: Any = None,
    block: str | None = None,
) -> Any: ...


def plot_predictive(
    result: xr.Dataset,
    ax: Any = None,
    *,
    iteration: int = -1,
    x: Any = None,
    groups: Any = None,
    block: str | None = None,
) -> Any:
    """Data and predictive intervals of 50 % and 90 %.

    The intervals are quantiles of the mixture of the members' Gaussians (outputs plus noise),
    without sampling. For a problem with a loss instead of noise they are quantiles of the outputs.
    The lightest band is the 90 % interval of the first ensemble.

    Each block of the data has its own Axes. Data with dates, or with one numeric coordinate, are
    drawn over this coordinate as lines and bands. A gap in the data is a gap in the bands. Data
    without a coordinate have no order, so each datum has its own interval and no line connects
    them. A block with two numeric coordinates is a map of the residuals in standard deviations of
    the prediction. A block whose labels have no order is drawn as predicted against observed.

    Parameters
    ----------
    result : xarray.Dataset
        A result of `run`.
    ax : matplotlib Axes, or an array with Axes for every block, optional
        Where to draw; a new figure by default.
    iteration : int, default -1
        Which stored iteration; −1 is the last iteration that was evaluated.
    x : (d,), optional
        Coordinate of every datum, numbers or dates. All data are then drawn on one Axes. By default
        the coordinates of the blocks, or the labels of the data if they are numbers.
    groups : (d,), optional
        The series of every datum. Each series has its own colour, on one Axes.
    block : str, optional
        Draw this block alone.

    Returns
    -------
    matplotlib Axes, or an array of them
        An array if there are several blocks, else one Axes.

    Raises
    ------
    TypeError, ValueError
        If ``x`` or ``groups`` has another length, there is no such block, or ``ax`` is not an Axes
        for every block.

    See Also
    --------
    predict : Draws of the data, also of new data.
    plot_calibration : Coverage of the intervals.

    Examples
    --------
    >>> import ekitools as ek
    >>> result = ek.run(ek.problems.linear().problem, ek.EKI(), n_members=50, rng=0)
    >>> ek.plot_predictive(result).get_title()
    'Data and predictive bands'
    """
    check_result(result)
    iteration = integer("iteration", iteration, least=None)
    views = views_of(result) if x is None and groups is None else []
    if block is not None:
        views = [_of_block(views, block)]
    y, sd = result.y.values, result.noise_sd.values
    if not has_noise(result):  # bands of the outputs alone
        sd = np.full_like(y, 1e-9 * max(float(np.ptp(y)), 1e-300))
    index = last_evaluated(result) if iteration == -1 else stored_index(result, iteration)
    what = "predictive intervals" if has_noise(result) else "intervals of the outputs"
    bands = _bands(result, index, sd)
    before = _bands(result, 0, sd)[[0, 4]] if index > 0 else None
    if not views:
        view = _plain_view(result, x, groups)
        axes = np.array([axes_for(ax)], dtype=object)
        views, title, alone = [view], "Data and predictive bands", True
        label = "data coordinate" if view.x_name else "datum"
        axes[0].set_xlabel(label)
    else:
        alone, title = len(views) == 1, ""
        axes = _axes(ax, len(views))
    for each, view in zip(axes, views, strict=True):
        draw = {"series": _series, "map": _map, "pairs": _pairs}[view.kind]
        draw(each, view, y, bands, before)
        each.set(title=title or drawable(view.block or "Data and predictive bands"))
        if view.kind == "series":
            each.set_ylabel(_output_label(result, view.rows))
            _legend(each, view, what, before is not None)
    return axes[0] if alone else axes


def _of_block(views: list[View], block: Any) -> View:
    for view in views:
        if view.block == block:
            return view
    known = ", ".join(repr(view.block) for view in views) or "no blocks"
    raise ValueError(f"block: must be a block of the data ({known}), got {block!r}.")


def _axes(ax: Any, n: int) -> np.ndarray:
    """Axes for ``n`` blocks."""
    if ax is None:
        return np.ravel(panels(n, 1, size=(WIDTH, 3.4 if n > 1 else 3.8)))
    given = np.ravel(np.asarray(ax, dtype=object))
    if given.size != n:
        raise ValueError(
            f"ax: must be {n} Axes, one for each block, got {given.size}. Choose a block by "
            "block=, or make them by plt.subplots."
        )
    for each in given:
        axes_for(each)
    return given


def _plain_view(result: xr.Dataset, x: Any, groups: Any) -> View:
    """All data as series over ``x``, the labels of the data, or 0, 1, ..."""
    d, labels = result.sizes["data"], result["data"].values
    numeric = np.issubdtype(labels.dtype, np.number)
    at = as_array("x", x if x is not None else labels if numeric else np.arange(d))
    if at.dtype.kind != "M":
        check_array("x", at)
        at = at.astype(float)
    groups = np.array(plain_labels("groups", ["data"] * d if groups is None else groups))
    for name, values in (("x", at), ("groups", groups)):
        if values.shape != (d,):
            raise ValueError(f"{name}: must have d = {d} entries, got shape {values.shape}.")
    rows, nothing = np.arange(d), np.zeros(0)
    name = "data coordinate" if numeric or x is not None else ""
    ends = np.zeros(d, dtype=bool)
    return View("", rows, "series", at, name, nothing, "", groups, ends)


def _ordered(view: View) -> bool:
    """Whether the data have an order, so that a line may connect them."""
    return view.x_name not in ("", "position")


def _series(
    ax: Any, view: View, y: np.ndarray, bands: np.ndarray, before: np.ndarray | None
) -> None:
    """Intervals, median and data over one coordinate, a colour for each series."""
    known, colours = list(dict.fromkeys(view.groups)), cycle(LINES)
    d = view.rows.size
    for group, colour in zip(known, colours, strict=False):
        chosen = np.flatnonzero(view.groups == group)
        chosen = chosen[np.argsort(view.x[chosen], kind="stable")]
        rows, at, ends = view.rows[chosen], view.x[chosen], np.flatnonzero(view.ends[chosen]) + 1
        prefix = f"{drawable(group)}: " if len(known) > 1 else ""
        drawn = [(*bands[[0, 4]], 0.2, "90 %"), (*bands[[1, 3]], 0.4, "50 %")]
        if before is not None:
            drawn.insert(0, (*before, _FAINT, "first ensemble, 90 %"))
        pieces = [p for p in np.split(np.arange(at.size), ends) if p.size]
        median, along, line = bands[2, rows], at, "_"
        if _ordered(view):
            line = "-" if max(piece.size for piece in pieces) > 1 else "_"
            median = np.insert(median, ends, np.nan)
            along = np.insert(at, ends, at[ends] if ends.size else at[:0])
        for low, high, alpha, label in drawn:
            style = {"color": colour, "alpha": alpha}
            if not _ordered(view):
                _bars(ax, at, low[rows], high[rows], label=f"{prefix}{label}", **style)
                continue
            for i, piece in enumerate(pieces):
                name = f"{prefix}{label}" if i == 0 else None
                band(ax, at[piece], low[rows[piece]], high[rows[piece]], label=name, **style)
        size = 4 if d <= (100 if _ordered(view) else 30) else 2.5
        dash = max(2.0, min(8.0, 1.3 * _bar(ax, d)))
        ax.plot(along, median, line, color=colour, lw=1.2, ms=dash, label=f"{prefix}median")
        edge = colour if len(known) > 1 else "black"
        ax.plot(at, y[rows], "o", ms=size, mfc="white", mec=edge, label=f"{prefix}data")
    if view.x.dtype.kind == "M":
        _dates(ax, (view.x.max() - view.x.min()) / np.timedelta64(1, "D"))
    elif np.all(view.x == np.round(view.x.astype(float))):
        whole_numbers(ax)
    within = bands[:, view.rows]
    limits = [np.nanmin([y[view.rows].min(), within.min()]),
              np.nanmax([y[view.rows].max(), within.max()])]  # fmt: skip
    margin = 0.15 * (limits[1] - limits[0])
    ax.set_ylim(limits[0] - margin, limits[1] + margin)
    if before is not None:
        _clip_first(ax)
    if not ax.get_xlabel():
        name = view.x_name if _ordered(view) else "datum"
        ax.set_xlabel(drawable(name))


def _clip_first(ax: Any) -> None:
    """Cut the bands of the first ensemble at the limits, below a line and the caption above it."""
    from matplotlib import rcParams
    from matplotlib.patches import Rectangle

    low, high = ax.get_ylim()
    across = ax.get_yaxis_transform()
    for each in ax.collections:
        if each.get_alpha() == _FAINT:
            each.set_clip_path(Rectangle((0, low), 1, high - low, transform=across))
    style = {"color": rcParams["axes.edgecolor"], "lw": rcParams["axes.linewidth"]}
    ax.add_patch(Rectangle((0, high), 1, 0, transform=across, **style))


def _legend(ax: Any, view: View, what: str, before: bool) -> None:
    """A caption that explains the picture, and the colours of several series."""
    from matplotlib.lines import Line2D

    known = list(dict.fromkeys(view.groups))
    handles = [Line2D([], [], color=colour, lw=3) for _, colour in zip(known, cycle(LINES))]
    several = len(known) > 1
    form, middle = ("Bands", "line") if _ordered(view) else ("Bars", "dash")
    caption = f"Circles: data; {middle}: median. {form}: 50 % and 90 % {what}"
    caption += f"; lightest {form[:-1].lower()}: 90 % of the first ensemble." if before else "."
    legend_above(ax, handles if several else [], known if several else [], title=caption)


def _map(ax: Any, view: View, y: np.ndarray, bands: np.ndarray, before: Any) -> None:  # noqa: ARG001
    """Residuals at two coordinates, in standard deviations of the prediction."""
    sd = (bands[4] - bands[0])[view.rows] / 3.2897  # the width of a Gaussian's central 90 %
    residual = (y - bands[2])[view.rows] / np.where(sd > 0, sd, np.nan)
    points = ax.scatter(view.x, view.y, c=residual, cmap="RdBu_r", vmin=-3, vmax=3, edgecolors="k",
                        linewidths=0.5)  # fmt: skip
    ax.set(xlabel=drawable(view.x_name), ylabel=drawable(view.y_name))
    ax.figure.colorbar(points, ax=ax, label="residual / predictive sd")


def _pairs(ax: Any, view: View, y: np.ndarray, bands: np.ndarray, before: Any) -> None:  # noqa: ARG001
    """Predicted against observed, with the line on which they are equal."""
    low, middle, high = (bands[i, view.rows] for i in (0, 2, 4))
    observed = y[view.rows]
    ax.errorbar(observed, middle, [middle - low, high - middle], fmt="o", ms=4, mfc="white",
                color=BLUE, lw=1, label="median and 90 %")  # fmt: skip
    ends = [min(observed.min(), low.min()), max(observed.max(), high.max())]
    ax.plot(ends, ends, "--", color=GREY, lw=1, label="predicted = observed")
    ax.set(xlabel="observed", ylabel="predicted")
    legend_above(ax)


def _dates(ax: Any, days: float) -> None:
    """Ticks of x at dates, in a short form."""
    from matplotlib import dates

    module: Any = dates  # it has no types
    # within two months, multiples of days would put a tick at the 29th, and one at the 1st
    locator = module.AutoDateLocator(maxticks=8, interval_multiples=days > 62)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(module.ConciseDateFormatter(locator))


def band(ax: Any, x: np.ndarray, low: np.ndarray, high: np.ndarray, **style: Any) -> None:
    """Fill the space between two lines; a single point becomes a thick bar."""
    if x.size > 1:
        ax.fill_between(x, low, high, lw=0, **style)
    else:  # the filled space would have no width
        ax.vlines(x, low, high, lw=6, **style)


def _bars(
    ax: Any, x: np.ndarray, low: np.ndarray, high: np.ndarray, *, label: str, **style: Any
) -> None:
    """A bar for each datum, as wide as leaves space between them."""
    ax.vlines(x, low, high, lw=_bar(ax, x.size), label=label, **style)


def _bar(ax: Any, n: int) -> float:
    """Width in points of one of ``n`` bars side by side."""
    points = ax.bbox.width * 72 / ax.figure.dpi
    return float(np.clip(0.6 * points / max(n, 1), 1, 6))


def _bands(result: xr.Dataset, index: int, sd: np.ndarray) -> np.ndarray:
    g, _, weight = members_at(result, index).evaluated()
    if not len(g):
        raise ValueError(
            f"iteration: must have been evaluated, got {int(result.iteration[index])}, which has "
            "no outputs. Run with evaluate_final=True or choose another."
        )
    return predictive_quantiles((0.05, 0.25, 0.5, 0.75, 0.95), g, sd, weight)


def _output_label(result: xr.Dataset, rows: np.ndarray) -> str:
    """G(u), with the units that the data of these rows share."""
    units = {""}
    if "data_units" in result.coords:
        units = set(map(str, result.data_units.values[rows].tolist()))
    (one,) = units if len(units) == 1 else ("as the datum",)
    return drawable(f"G(u) [{one}]") if one else "G(u)"
