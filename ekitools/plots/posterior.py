"""Plots of the posterior: histograms, intervals of many parameters, and pairs of some."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ekitools.plots.style import (
    BLUE,
    GREY,
    axes_array,
    axes_for,
    drawable,
    legend_below,
    not_known,
    panels,
    shortened,
)
from ekitools.priors.marginals import Prior
from ekitools.problem import check_problem
from ekitools.results.marginals import first_members, marginals, start_of
from ekitools.results.reading import check_result, members_at, with_units

if TYPE_CHECKING:
    import xarray as xr

    from ekitools.problem import InverseProblem

__all__ = ["plot_ensemble", "plot_marginals", "plot_pairs"]

_MOST_ROWS = 20
_MOST_PAIRS = 6


def plot_ensemble(
    result: xr.Dataset,
    ax: Any = None,
    *,
    parameter: Any = None,
    problem: InverseProblem | None = None,
) -> Any:
    """Prior against posterior: marginal histograms of the first and the last ensemble.

    Parameters
    ----------
    result : xarray.Dataset
        What `run` returned, with iteration 0 stored; else the last ensemble alone.
    ax : matplotlib Axes, optional
        Where to draw one parameter. Without it a figure with a panel for each parameter (the
        first twelve) is made.
    parameter : label, optional
        Which parameter; the first by default, where ``ax`` is given.
    problem : InverseProblem, optional
        Not needed; its named marginals, if it has any, are drawn as curves.

    Returns
    -------
    matplotlib Axes, or ndarray of Axes
        One Axes where ``ax`` or ``parameter`` was given, else the array of panels.

    Examples
    --------
    >>> import ekitools as ek
    >>> result = ek.run(ek.problems.linear(p=3).problem, ek.EKI(), n_members=50, rng=0)
    >>> [panel.get_xlabel() for panel in ek.plot_ensemble(result)]
    ['u0', 'u1', 'u2']
    """
    check_result(result)
    if problem is not None:
        check_problem(problem)
    names = list(result.parameter.values)
    if ax is None and parameter is None:
        shown = names[:12]
        columns = min(len(shown), 3)
        axes = panels(-(-len(shown) // columns), columns, size=(3.4, 2.8)).ravel()
        for spare in axes[len(shown) :]:
            spare.remove()
        axes = axes[: len(shown)]
        for panel, name in zip(axes, shown, strict=True):
            plot_ensemble(result, panel, parameter=name, problem=problem)
        if len(shown) < len(names):
            axes[0].figure.suptitle(f"The first {len(shown)} of {len(names)} parameters")
        return axes
    name = names[0] if parameter is None else parameter
    if isinstance(name, np.ndarray) or name not in names:
        raise ValueError(f"parameter: must be one of {names}, got {parameter!r}.")
    ax = axes_for(ax)
    column = names.index(name)
    last, weight = members_at(result, -1).present()
    draws = last[:, column]
    if not draws.size:
        not_known(ax)
        return ax
    start = start_of(result)
    if start:
        first, first_weight = members_at(result, 0).present(at_start=True)
        before = first[:, column]
        low, high = np.quantile(before, [0.005, 0.995])
        edges = np.linspace(min(low, draws.min()), max(high, draws.max()), 31)
        ax.hist(
            before, edges, weights=first_weight, density=True, color=GREY, alpha=0.45, label=start
        )
    width = float(np.ptp(draws)) or 1.0
    edges = np.linspace(draws.min() - 0.02 * width, draws.max() + 0.02 * width, 17)
    ax.hist(
        draws, edges, weights=weight, density=True, color=BLUE, alpha=0.75, label="last ensemble"
    )
    if problem is not None and isinstance(problem.prior, Prior) and name in problem.prior.marginals:
        left, right = ax.get_xlim()
        grid = np.linspace(left, right, 400)
        density = problem.prior.marginals[name].pdf(grid)
        ax.plot(grid, density, color="black", lw=1, label="prior density")
    text = with_units(result, "parameter", name, *shortened([name], 30))
    ax.set(xlabel=drawable(text), ylabel="density")
    ax.legend(frameon=False, fontsize="small")
    return ax


def plot_marginals(
    result: xr.Dataset,
    ax: Any = None,
    *,
    parameters: Any = None,
    problem: InverseProblem | None = None,
) -> Any:
    """Prior against posterior, a line for every parameter: medians, 50 % and 90 % intervals.

    All are in standard deviations of the prior from its mean, so that parameters of any
    units share one axis: a short bar says that the data told much, a bar far from 0 that they
    disagree with the prior. Where the prior is not known, one standard deviation and the mean
    of the last ensemble take its place.

    Parameters
    ----------
    result : xarray.Dataset
        What `run` or `integrate` returned.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.
    parameters : sequence of labels, optional
        Which parameters, from top to bottom; by default the first 20 at most, those with the
        smallest share of their prior standard deviation left.
    problem : InverseProblem, optional
        Its prior is used where the result does not hold the first ensemble.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    TypeError, ValueError
        If ``result`` is no result, or there is no such parameter.

    Examples
    --------
    >>> import ekitools as ek
    >>> result = ek.run(ek.problems.linear(p=3).problem, ek.EKI(), n_members=50, rng=0)
    >>> ax = ek.plot_marginals(result, parameters=["u2", "u0"])
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['u2', 'u0']
    """
    table = marginals(result, problem, parameters=parameters, most=_MOST_ROWS)
    start, p = table.attrs["start"], table.attrs["n_parameters"]
    centre, scale = (table.start_mean, table.start_sd) if start else (table["mean"], table.sd)
    scale = scale.where(scale > 0, 1.0)
    rows = np.arange(table.sizes["parameter"])
    ax = axes_for(ax)
    bars = [("quantile", BLUE, -0.14 if start else 0.0, "last ensemble")]
    if start:
        bars.insert(0, ("start_quantile", GREY, 0.14, start))
    for name, colour, shift, label in bars:
        low, left, middle, right, high = ((table[name] - centre) / scale).values
        at = rows - shift
        ax.hlines(at, low, high, color=colour, lw=1.5, label=f"{label}, 90 %")
        ax.hlines(at, left, right, color=colour, lw=5, label=f"{label}, 50 %")
        ax.plot(middle, at, "o", ms=4, mfc="white", mec=colour)
    ax.axvline(0, color=GREY, lw=0.8, ls=":")
    ax.set_yticks(rows, shortened(table.parameter.values, 24))
    ax.set_ylim(rows.size - 0.5, -0.5)
    of = {"prior": "the prior", "start": "the first ensemble", "": "the last ensemble"}[start]
    ax.set(
        xlabel=f"from the mean of {of}, in its standard deviations",
        ylabel="parameter" + f", {rows.size} of {p}" * (rows.size < p),
        title=f"Marginals: {start} and last ensemble"
        if start
        else "Marginals of the last ensemble",
    )
    legend_below(ax, ncols=2)
    return ax


def plot_pairs(
    result: xr.Dataset,
    ax: Any = None,
    *,
    parameters: Any = None,
    problem: InverseProblem | None = None,
) -> Any:
    """Parameters in pairs: members of the last ensemble on those of the prior.

    Histograms on the diagonal, scatter below it; the axes are those of the last ensemble. Members
    with weights have points of an area in proportion.

    Parameters
    ----------
    result : xarray.Dataset
        What `run` or `integrate` returned.
    ax : (k, k) array of matplotlib Axes, optional
        Where to draw; those above the diagonal are taken away. A new figure by default.
    parameters : sequence of k labels, optional
        Which parameters; by default the first six at most, those with the smallest share of
        their prior standard deviation left.
    problem : InverseProblem, optional
        Its prior is used where the result does not hold the first ensemble.

    Returns
    -------
    (k, k) ndarray of matplotlib Axes

    Raises
    ------
    TypeError, ValueError
        If ``result`` is no result, there is no such parameter, or ``ax`` has another shape.

    Examples
    --------
    >>> import ekitools as ek
    >>> result = ek.run(ek.problems.linear(p=3).problem, ek.EKI(), n_members=50, rng=0)
    >>> axes = ek.plot_pairs(result, parameters=["u0", "u2"])
    >>> axes[1, 0].get_xlabel(), axes[1, 0].get_ylabel()
    ('u0', 'u2')
    """
    table = marginals(result, problem, parameters=parameters, most=_MOST_PAIRS)
    index = table.position.values
    k = index.size
    axes = panels(k, k, size=(1.9, 1.9)) if ax is None else axes_array(ax)
    if axes.shape != (k, k):
        raise ValueError(
            f"ax: must be an array of ({k}, {k}) Axes, one for every pair, got {axes.shape}."
        )
    for panel in axes.flat:
        axes_for(panel)
    start = start_of(result, problem)
    clouds = [(*members_at(result.isel(parameter=index), -1).present(), BLUE, "last ensemble")]
    if start:
        clouds.insert(0, (*first_members(result, problem, index), GREY, start))
    shown = result.parameter.values[index]
    names = [
        drawable(with_units(result, "parameter", name, text))
        for name, text in zip(shown, shortened(shown, 14), strict=True)
    ]
    if not len(clouds[-1][0]):
        for panel in axes.flat:
            not_known(panel)
        return axes
    limits = [_limits(column) for column in clouds[-1][0].T]
    many = k * k * sum(len(u) for u, *_ in clouds) > 1000
    for i in range(k):
        for j in range(k):
            panel = axes[i, j]
            if j > i:
                panel.remove()
                continue
            for u, w, colour, label in clouds:
                if i == j:  # a density of all members, whether within the limits or not
                    edges = np.linspace(*limits[i], 31)
                    height = w / (edges[1] - edges[0])
                    panel.hist(u[:, i], edges, weights=height, color=colour, alpha=0.6, label=label)
                    panel.set_yticks([])
                else:
                    area = np.clip(6 * w / w.mean(), 0.0, 40.0)
                    panel.scatter(
                        u[:, j], u[:, i], area, color=colour, alpha=0.5, lw=0, rasterized=many
                    )
                    panel.set_ylim(limits[i])
            panel.set_xlim(limits[j])
            _label(panel, names, i, j, k)
    if k == 1:
        axes[0, 0].legend(frameon=False, fontsize="small")
    else:
        where = {"loc": "upper left", "bbox_to_anchor": (1, 1)}
        legend = axes[0, 0].legend(frameon=False, fontsize="small", **where)
        legend.set_in_layout(False)  # it lies where there are no Axes
    return axes


def _label(panel: Any, names: list[str], i: int, j: int, k: int) -> None:
    """Names outside alone, and no numbers where a panel below or to the left has them."""
    panel.tick_params(labelsize="small")
    panel.locator_params(nbins=4)
    if i == k - 1:
        panel.set_xlabel(names[j], fontsize="small")
    else:
        panel.tick_params(labelbottom=False)
    if j == 0 and i > 0:
        panel.set_ylabel(names[i], fontsize="small")
    elif i != j:
        panel.tick_params(labelleft=False)


def _limits(x: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(x, [0.002, 0.998])
    margin = 0.3 * float(high - low) or 0.5
    return float(low) - margin, float(high) + margin
