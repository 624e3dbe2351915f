"""Pictures of a result: one function, one Axes; matplotlib is imported when one is drawn."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from ekitools.results.diagnostics import diagnose, fit_rate
from ekitools.results.predictive import predictive_quantiles
from ekitools.results.reading import check_result, last_evaluated, members_at, stored_index

if TYPE_CHECKING:
    import xarray as xr

    from ekitools.problem import InverseProblem

__all__ = [
    "as_svg",
    "axes_for",
    "detached",
    "legend_below",
    "logarithmic",
    "not_known",
    "own_colours",
    "panels",
    "plot_collapse",
    "plot_misfit",
    "plot_predictive",
    "plot_residual",
    "shortened",
    "whole_numbers",
]

# Okabe & Ito's palette, which all kinds of colour vision tell apart
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#7f7f7f"
PINK, SKY = "#CC79A7", "#56B4E9"
COLOURS = (BLUE, ORANGE, GREEN, RED, PINK, SKY)
LINES = (BLUE, RED, GREEN, ORANGE, PINK, SKY)  # those first that are told apart as thin lines
MARKERS = "osD^vPX"  # seven, for six colours: 42 lines look different


def plot_collapse(
    result: xr.Dataset, ax: Any = None, *, problem: InverseProblem | None = None
) -> Any:
    """Ensemble collapse: the spread of parameters and outputs, by pseudo-time.

    Means over members of ‖u_j − ū‖² and ‖Γ^{-1/2}(g_j − ḡ)‖², relative to the first. Where the
    run is long enough to show it, the rate t⁻¹ of the linear theory for the second, beside the
    rate that `ekitools.diagnostics.fit_rate` finds over the last factor of ten in t.

    Parameters
    ----------
    result : xarray.Dataset
        What `run` or `integrate` returned.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.
    problem : InverseProblem, optional
        For the noise's exact whitening; its standard deviations are used otherwise.

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> import ekitools as ek
    >>> result = ek.run(ek.problems.linear().problem, ek.EKI(), n_members=50, rng=0)
    >>> ek.plot_collapse(result).get_yscale()
    'log'
    """
    d = diagnose(result, problem)
    x, label = _abscissa(result)
    ax = axes_for(ax)
    series = (
        ("collapse", "parameters, mean $|u_j - \\bar{u}|^2$", BLUE, "o"),
        ("output_collapse", "outputs, mean $|g_j - \\bar{g}|^2_\\Gamma$", ORANGE, "s"),
    )
    for name, text, colour, marker in series:
        values = d[name].values
        share = np.full_like(values, np.nan) if values[0] == 0 else values / values[0]
        ax.plot(x, share, marker=marker, ms=4, color=colour, label=text)
    log = ["y"]
    times = result.t.values
    late = times > 0
    if label.startswith("pseudo-time") and times.max() >= 10 * times[late].min():
        log = ["x", "y"]
        reference = share[late]  # that of the outputs
        known = np.isfinite(reference) & (reference > 0)
        if known.any():
            t, level = times[late][known], reference[known]
            text = "rate $t^{-1}$"
            if np.sum(t >= t[-1] / 10) > 2:
                fit = fit_rate(t, level, t_min=t[-1] / 10)
                text += f"; at the end that of the outputs is $t^{{{fit.exponent:.2f}}}$"
            ax.plot(t, level[0] * t[0] / t, "--", color=GREY, label=text)
    else:
        _whole_iterations(ax, label)
    logarithmic(ax, *log)
    ax.set(xlabel=label, ylabel="spread, relative to the first", title="Ensemble collapse")
    ax.legend(frameon=False)
    return ax


def plot_misfit(result: xr.Dataset, ax: Any = None) -> Any:
    r"""Misfit by iteration: mean and range of the members, and the expected d/2.

    Under a loss in place of noise nothing is expected, and no line drawn.

    Parameters
    ----------
    result : xarray.Dataset
        What `run` or `integrate` returned.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> import ekitools as ek
    >>> result = ek.run(ek.problems.linear().problem, ek.EKI(), n_members=50, rng=0)
    >>> ek.plot_misfit(result).get_ylabel()
    'misfit $\\Phi$'
    """
    check_result(result)
    ax = axes_for(ax)
    misfit, x = result.misfit.values, result.iteration.values
    known = np.isfinite(misfit).any(axis=1)
    low, high = np.empty((2, 0))
    if known.any():
        low, high = np.nanquantile(misfit[known], [0.05, 0.95], axis=1)
        _band(ax, x[known], low, high, color=BLUE, alpha=0.25, label="90 % of the members")
    mean = result.history_misfit.values
    ax.plot(result.history.values, mean, "o-", ms=4, color=BLUE, label="mean")
    name = "loss" if np.isnan(result.noise_sd.values).any() else "misfit"
    if name == "misfit":
        expected = result.sizes["data"] / 2
        ax.axhline(expected, ls="--", color=GREY, label=f"expected of noise, d/2 = {expected:g}")
    if 0 < np.nanmin([*mean, *low, np.inf]) < np.inf:  # a loss may be negative
        logarithmic(ax, "y")
    ax.set(
        xlabel="iteration", ylabel=f"{name} $\\Phi$", title=f"{name.capitalize()} of the members"
    )
    whole_numbers(ax)
    ax.legend(frameon=False)
    return ax


def plot_residual(
    result: xr.Dataset, ax: Any = None, *, problem: InverseProblem | None = None
) -> Any:
    """Residual of the mean output in noise standard deviations, and the noise level √d.

    Under a loss in place of noise it is not known.

    Parameters
    ----------
    result : xarray.Dataset
        What `run` or `integrate` returned.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.
    problem : InverseProblem, optional
        With a `LinearModel`, the parts of A r within the span of the initial ensemble (‖A r_∥‖,
        which decays as t^{-1/2}) and orthogonal to it (‖A r_⊥‖, constant) are drawn too.

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> import ekitools as ek
    >>> problem = ek.problems.linear().problem
    >>> result = ek.run(problem, ek.EKI(), n_members=50, rng=0)
    >>> len(ek.plot_residual(result, problem=problem).get_lines())
    4
    """
    d = diagnose(result, problem)
    x, label = _abscissa(result)
    ax = axes_for(ax)
    ax.plot(x, d.residual_mean.values, "o-", ms=4, color=BLUE, label="$|\\bar{g} - y|_\\Gamma$")
    parts = (
        ("residual_parallel", "$|A r_\\parallel|_\\Gamma$", ORANGE, "s"),
        ("residual_perpendicular", "$|A r_\\perp|_\\Gamma$", GREEN, "^"),
    )
    for name, text, colour, marker in parts:
        if name in d:
            ax.plot(x, d[name].values, marker=marker, ms=4, color=colour, label=text)
    if np.isfinite(result.noise_sd.values).all():
        level = d.attrs["noise_level"]
        ax.axhline(level, ls="--", color=GREY, label=f"noise level, $\\sqrt{{d}}$ = {level:.3g}")
    else:
        not_known(ax)
    long = label.startswith("pseudo-time") and result.t.values.max() >= 100
    logarithmic(ax, *("xy" if long else "y"))
    _whole_iterations(ax, label)
    ax.set(
        xlabel=label,
        ylabel="residual, noise standard deviations",
        title="Residual of the mean output",
    )
    ax.legend(frameon=False)
    return ax


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
    d = result.sizes["data"]
    labels = result["data"].values
    numeric = np.issubdtype(labels.dtype, np.number)
    x = np.asarray(x if x is not None else labels if numeric else np.arange(d), dtype=float)
    groups = np.full(d, "data") if groups is None else np.asarray(groups)
    for name, values in (("x", x), ("groups", groups)):
        if values.shape != (d,):
            raise ValueError(f"{name}: must have d = {d} entries, got shape {values.shape}.")
    y, sd = result.y.values, result.noise_sd.values
    if not np.isfinite(sd).all():  # a loss has no noise: bands of the outputs alone
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
            _band(ax, at, low[chosen], high[chosen], color=colour, alpha=alpha,
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


def _band(ax: Any, x: np.ndarray, low: np.ndarray, high: np.ndarray, **style: Any) -> None:
    if x.size > 1:
        ax.fill_between(x, low, high, lw=0, **style)
    else:  # which would not be seen
        ax.vlines(x, low, high, lw=6, **style)


def _bands(result: xr.Dataset, index: int, sd: np.ndarray) -> np.ndarray:
    g, _, weight = members_at(result, index).evaluated()
    if not len(g):
        raise ValueError(
            f"iteration: must have been evaluated, got {int(result.iteration[index])}, which has "
            "no outputs. Run with evaluate_final=True or choose another."
        )
    return predictive_quantiles((0.05, 0.25, 0.5, 0.75, 0.95), g, sd, weight)


def _abscissa(result: xr.Dataset) -> tuple[np.ndarray, str]:
    """Pseudo-time where it advances all along, else iterations."""
    times = result.t.values
    if times.size > 1 and np.all(np.diff(times) > 0):
        return times, "pseudo-time $t$"
    return result.iteration.values, "iteration"


def axes_for(ax: Any) -> Any:
    """The Axes given, or those of a new figure."""
    if ax is not None:
        if not hasattr(ax, "get_xlabel"):
            raise TypeError(
                f"ax: must be one matplotlib Axes, such as plt.subplots()[1], got "
                f"{type(ax).__name__}."
            )
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(layout="constrained")[1]


def panels(rows: int, columns: int, *, size: tuple[float, float]) -> Any:
    """The Axes ``(rows, columns)`` of a new figure; ``size`` in inches is that of one of them."""
    import matplotlib.pyplot as plt

    return plt.subplots(
        rows,
        columns,
        figsize=(size[0] * columns, size[1] * rows),
        layout="constrained",
        squeeze=False,
    )[1]


def detached(rows: int = 1, columns: int = 1, *, figsize: tuple[float, float]) -> tuple[Any, Any]:
    """A figure that has no window and need not be closed, and its Axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=figsize, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns)


def as_svg(figure: Any) -> bytes:
    """The figure as SVG; the same drawing gives the same bytes."""
    from io import BytesIO

    from matplotlib import rc_context

    buffer = BytesIO()
    with rc_context({"svg.hashsalt": "ekitools"}):
        figure.savefig(buffer, format="svg", dpi=120, metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def legend_below(ax: Any, *, ncols: int) -> None:
    """A legend below the label of x, as far from it whatever the height of the Axes."""
    from matplotlib.transforms import ScaledTranslation

    down = ScaledTranslation(0, -0.5, ax.figure.dpi_scale_trans)
    ax.legend(frameon=False, fontsize="small", loc="upper center", ncols=ncols,
              bbox_to_anchor=(0.5, 0), bbox_transform=ax.transAxes + down)  # fmt: skip


def not_known(ax: Any) -> None:
    """Say that there is nothing to draw."""
    ax.text(0.5, 0.5, "not known: NaN throughout", ha="center", transform=ax.transAxes)


def whole_numbers(ax: Any) -> None:
    """Ticks of x at whole numbers alone, and at round ones."""
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(
        MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
    )


def own_colours() -> Any:
    """A context in which whoever draws takes the colours of this module one after the other."""
    from matplotlib import rc_context
    from matplotlib.rcsetup import cycler

    return rc_context({"axes.prop_cycle": cycler(color=COLOURS)})


def _whole_iterations(ax: Any, label: str) -> None:
    if label == "iteration":
        whole_numbers(ax)


def logarithmic(ax: Any, *which: str) -> None:
    """Log scales of what is drawn, ``which`` being "x" and "y"; with ticks where it spans little.

    Powers of ten alone are too few over less than two of them; there ticks are plain numbers.
    """
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

    for name in which:
        ax.set(**{f"{name}scale": "log"})
        axis = getattr(ax, f"{name}axis")
        low, high = sorted(axis.get_view_interval())
        if low > 0 and high < 200 * low:
            few = high < 10 * low
            axis.set_major_locator(MaxNLocator(6) if few else LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.set_minor_formatter(NullFormatter())


def shortened(names: Iterable[Any], most: int) -> list[str]:
    """Names without their middles, of ``most`` characters or as many as tell them apart."""
    texts = [str(name) for name in names]
    short = [_cut(text, most) for text in texts]
    return short if len(set(short)) == len(set(texts)) else shortened(texts, most + 4)


def _cut(text: str, most: int) -> str:
    """Formulas between dollar signs are shorter than their source; a cut one shows as it is."""
    if len(re.sub(r"\$[^$]+\$", "", text)) <= most:
        return text
    start, end = text[: (most - 1) // 2], text[-(most // 2) :]
    whole = start.count("$") % 2 == end.count("$") % 2 == 0
    return f"{start}…{end}" if whole else f"{start}…{end}".replace("$", r"\$")


def _output_label(result: xr.Dataset) -> str:
    """G(u), with the units that all data share."""
    units = set(result.data_units.values.tolist()) if "data_units" in result.coords else {""}
    (one,) = units if len(units) == 1 else ("as the datum",)
    return f"G(u) [{one}]" if one else "G(u)"
