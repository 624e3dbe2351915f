"""Plot of pairs of parameters: members, contours, medians and the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ekitools.plots.density import contour_levels, density, prior_density, support_of
from ekitools.plots.posterior import limits_of, truth_by_name
from ekitools.plots.style import (
    BLUE,
    GREY,
    RED,
    WIDTH,
    axes_array,
    axes_for,
    drawable,
    ink,
    legend_above,
    not_known,
    panels,
    shortened,
)
from ekitools.results.alignment import columns_of
from ekitools.results.marginals import first_members, marginals, start_of, weighted_quantiles
from ekitools.results.reading import members_at, with_units

if TYPE_CHECKING:
    import xarray as xr

    from ekitools.problem import InverseProblem

__all__ = ["plot_pairs"]

_MOST_PAIRS = 6


def plot_pairs(
    result: xr.Dataset,
    ax: Any = None,
    *,
    parameters: Any = None,
    problem: InverseProblem | None = None,
    truth: Any = None,
) -> np.ndarray:
    """Pairs of parameters: members of the last ensemble and of the prior.

    The diagonal shows densities (ArviZ's kernel density estimate), the panels below it the members
    with the contours that hold 50 % and 90 % of the last ensemble. Lines mark the medians and the
    truth. The axes show the range of the last ensemble. The area of a point is proportional to the
    weight of its member.

    Parameters
    ----------
    result : xarray.Dataset
        A result of `run` or `integrate`.
    ax : (k, k) array of matplotlib Axes, optional
        Where to draw; the Axes above the diagonal are removed. A new figure by default.
    parameters : sequence of k labels, optional
        Which parameters; by default the six whose standard deviation was reduced most.
    problem : InverseProblem, optional
        The problem of the result, for the exact densities of the prior, and for draws of the prior
        if the result does not hold the first ensemble.
    truth : (p,), or mapping of names to numbers, optional
        The true parameters, where they are known: all p in the order of the result, or some by
        name.

    Returns
    -------
    (k, k) ndarray of matplotlib Axes

    Raises
    ------
    TypeError, ValueError
        If ``result`` is no result, there is no such parameter, ``ax`` has another shape, or
        ``truth`` belongs to other parameters.

    See Also
    --------
    plot_ensemble : Densities of the parameters, with a reference.
    plot_arviz : Pairs as ArviZ draws them.

    Examples
    --------
    >>> import ekitools as ek
    >>> example = ek.problems.linear(p=3)
    >>> result = ek.run(example.problem, ek.EKI(), n_members=50, rng=0)
    >>> axes = ek.plot_pairs(result, parameters=["u0", "u2"], truth=example.truth)
    >>> axes[1, 0].get_xlabel(), axes[1, 0].get_ylabel()
    ('u0', 'u2')
    """
    table = marginals(result, problem, parameters=parameters, most=_MOST_PAIRS)
    values = truth_by_name(truth, list(result.parameter.values))
    index = table.position.values
    k = index.size
    side = min(1.9, (WIDTH + 0.6) / k)
    axes = panels(k, k, size=(side, side)) if ax is None else axes_array(ax)
    if axes.shape != (k, k):
        raise ValueError(
            f"ax: must be an array of ({k}, {k}) Axes, one for every pair, got {axes.shape}. Use "
            f"plt.subplots({k}, {k})[1]."
        )
    for panel in axes.flat:
        axes_for(panel)
    last, weight = members_at(result.isel(parameter=index), -1).present()
    clouds = [(last, weight, BLUE, "last ensemble")]
    start = start_of(result, problem)
    if start:
        clouds.insert(0, (*first_members(result, problem, index), GREY, start))
    shown = result.parameter.values[index]
    names = [
        drawable(with_units(result, "parameter", name, text))
        for name, text in zip(shown, shortened(shown, 14), strict=True)
    ]
    if not len(last):
        for panel in axes.flat:
            not_known(panel)
        return axes
    medians = weighted_quantiles(last, [0.5], weight)[0]
    truths = [values.get(name) for name in shown]
    limits = [_limits(*each) for each in zip(last.T, truths, strict=True)]
    prior = None if problem is None else problem.prior
    columns = np.zeros(k, int) if problem is None else columns_of(problem, result)[index]
    many = k * k * sum(len(u) for u, *_ in clouds) > 1000  # as an image in a vector graphic
    for i in range(k):
        for j in range(k):
            panel = axes[i, j]
            if j > i:
                panel.remove()
                continue
            if i == j:
                _diagonal(panel, clouds, i, limits[i], prior, int(columns[i]))
            else:
                _cloud(panel, clouds, (j, i), (limits[j], limits[i]), many)
                panel.axhline(medians[i], color=ink(BLUE), lw=0.8, ls="--")
                if truths[i] is not None:
                    panel.axhline(truths[i], color=RED, lw=1.2, ls=":")
                panel.set_ylim(limits[i])
            panel.axvline(medians[j], color=ink(BLUE), lw=0.8, ls="--", label="median")
            if truths[j] is not None:
                panel.axvline(truths[j], color=RED, lw=1.2, ls=":", label="truth")
            panel.set_xlim(limits[j])
            _label(panel, names, i, j, k)
    _legend(axes)
    return axes


def _diagonal(
    panel: Any, clouds: list[Any], i: int, limits: tuple[float, float], prior: Any, column: int
) -> None:
    """Densities of one parameter, with the exact prior where it is known."""
    top, exact = 0.0, prior_density(prior, column)
    for u, w, colour, label in clouds:
        x, height = density(u[:, i], w, support_of(prior, column))
        if label == "prior" and exact is not None:
            x = np.linspace(*limits, 200)
            height = np.nan_to_num(exact(x), posinf=0.0)
        panel.fill_between(x, height, color=colour, alpha=0.25, lw=0)
        panel.plot(x, height, color=colour, lw=1.2, label=label)
        top = float(np.max(height, initial=0.0))
    panel.set(yticks=[], ylim=(0, 1.1 * top or 1.0))


def _cloud(panel: Any, clouds: list[Any], pair: tuple[int, int], limits: Any, many: bool) -> None:
    """Members of two parameters, and contours of the last ensemble."""
    for u, w, colour, _ in clouds:
        area = np.clip(6 * w / w.mean(), 0.0, 40.0)
        panel.scatter(*u[:, list(pair)].T, area, color=colour, alpha=0.35, lw=0, rasterized=many)
    u, w, colour, _ = clouds[-1]
    if (found := contour_levels(u[:, list(pair)], w, *limits)) is not None:
        x, y, height, levels = found
        panel.contour(x, y, height, levels, colors=[ink(colour)], linewidths=1.1)


def _legend(axes: np.ndarray) -> None:
    """One legend, where there are no Axes: to the right of the first diagonal panel."""
    from matplotlib.lines import Line2D

    handles, labels = axes[0, 0].get_legend_handles_labels()
    if len(axes) == 1:
        legend_above(axes[0, 0], handles, labels)
        return
    handles.append(Line2D([], [], color=ink(BLUE), lw=1.1))
    labels.append("contours: 50 %, 90 %")
    legend = axes[0, 0].legend(
        handles,
        labels,
        frameon=False,
        fontsize="small",
        loc="upper left",
        bbox_to_anchor=(1, 1),
    )
    legend.set_in_layout(False)


def _limits(x: np.ndarray, truth: float | None) -> tuple[float, float]:
    """The range of the draws, and of the truth."""
    low, high = limits_of(x)
    if truth is None:
        return low, high
    margin = 0.05 * (high - low)
    return min(low, truth - margin), max(high, truth + margin)


def _label(panel: Any, names: list[str], i: int, j: int, k: int) -> None:
    """Names and numbers at the outer panels alone."""
    panel.tick_params(labelsize="small" if k < 5 else "x-small")
    panel.locator_params(nbins=4 if k < 5 else 3)
    if i == k - 1:
        panel.set_xlabel(names[j], fontsize="small")
    else:
        panel.tick_params(labelbottom=False)
    if j == 0 and i > 0:
        panel.set_ylabel(names[i], fontsize="small")
    elif i != j:
        panel.tick_params(labelleft=False)
