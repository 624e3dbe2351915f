"""Plots of the posterior: densities of each parameter, and intervals of many parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from scipy import stats

from ekitools.core.arrays import as_real
from ekitools.core.checks import number
from ekitools.plots.density import density, prior_density, support_of
from ekitools.plots.style import (
    BLUE,
    GREY,
    RED,
    WIDTH,
    axes_array,
    axes_for,
    drawable,
    legend_above,
    legend_of_figure,
    not_known,
    panels,
    shortened,
)
from ekitools.results.alignment import columns_of
from ekitools.results.marginals import first_members, marginals, start_of
from ekitools.results.reading import check_result, members_at, with_units
from ekitools.results.reference import Reference, as_reference, listed

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

    from ekitools.problem import InverseProblem

__all__ = ["limits_of", "plot_ensemble", "plot_marginals", "truth_by_name"]

_MOST_ROWS = 20
_MOST_PANELS = 12


@overload
def plot_ensemble(
    result: xr.Dataset,
    ax: Axes,
    *,
    parameter: Any = None,
    problem: InverseProblem | None = None,
    reference: Any = None,
    truth: Any = None,
) -> Axes: ...


@overload
def plot_ensemble(
    result: xr.Dataset,
    ax: np.ndarray | None = None,
    *,
    parameter: None = None,
    problem: InverseProblem | None = None,
    reference: Any = None,
    truth: Any = None,
) -> np.ndarray: ...


@overload
def plot_ensemble(
    result: xr.Dataset,
    ax: None = None,
    *,
    parameter: Any,
    problem: InverseProblem | None = None,
    reference: Any = None,
    truth: Any = None,
) -> Axes: ...


def plot_ensemble(
    result: xr.Dataset,
    ax: Any = None,
    *,
    parameter: Any = None,
    problem: InverseProblem | None = None,
    reference: Any = None,
    truth: Any = None,
) -> Any:
    """Prior and posterior densities of each parameter.

    The density of the last ensemble is ArviZ's kernel density estimate [1]_. The prior is drawn as
    its exact density if ``problem`` has a prior with a closed-form density, and otherwise as the
    density estimate of the first ensemble. The axes show the range of the posterior.

    Parameters
    ----------
    result : xarray.Dataset
        A result of `run` or `integrate`. The prior is left out if ``problem`` is not given and
        iteration 0 is not stored.
    ax : matplotlib Axes, or an array of k Axes, optional
        One Axes shows one parameter, an array the first k parameters. By default a new figure has
        a panel for each of the first twelve parameters.
    parameter : label, optional
        The parameter to draw on one Axes; the first by default.
    problem : InverseProblem, optional
        The problem of the result, for the prior.
    reference : optional
        A reference posterior in any form that `compare` takes: a result, ``(mean, cov)`` of an
        exact Gaussian, draws, or names with ``(mean, sd)``.
    truth : (p,), or mapping of names to numbers, optional
        The true parameters, if they are known.

    Returns
    -------
    matplotlib Axes, or ndarray of Axes
        One Axes if ``parameter`` or one Axes was given, else the array of panels.

    Raises
    ------
    TypeError, ValueError
        If ``result`` is not a result, ``parameter`` is unknown, there are more Axes than
        parameters, or ``reference`` or ``truth`` has other parameters.

    See Also
    --------
    plot_marginals : Intervals of many parameters on one axis.
    plot_pairs : Pairs of parameters.

    References
    ----------
    .. [1] Kumar et al. (2019), J. Open Source Softw. 4(33), 1143.

    Examples
    --------
    >>> import ekitools as ek
    >>> example = ek.problems.linear(p=3)
    >>> result = ek.run(example.problem, ek.EKI(), n_members=50, rng=0)
    >>> exact = (example.extra["mean"], example.extra["cov"])
    >>> panels = ek.plot_ensemble(result, problem=example.problem, reference=exact)
    >>> [panel.get_xlabel() for panel in panels]
    ['u0', 'u1', 'u2']
    """
    check_result(result)
    names = list(result.parameter.values)
    columns = None if problem is None else columns_of(problem, result)
    known = None if reference is None else as_reference(reference, names)
    values = truth_by_name(truth, names)
    several = parameter is None and (ax is None or isinstance(ax, np.ndarray | list | tuple))
    if several:
        axes = _panels(ax, len(names))
        shown = names[: axes.size]
    else:
        shown = [names[0] if parameter is None else parameter]
        if isinstance(shown[0], np.ndarray) or shown[0] not in names:
            raise ValueError(f"parameter: must be one of {names}, got {parameter!r}.")
        axes = np.array([axes_for(ax, height=3.2)], dtype=object)
    for i, (panel, name) in enumerate(zip(axes.flat, shown, strict=True)):
        column = names.index(name)
        in_prior = 0 if columns is None else int(columns[column])
        _densities(panel, result, column, problem, in_prior, known, values.get(name))
        text = with_units(result, "parameter", name, *shortened([name], 30 if not several else 20))
        panel.set(xlabel=drawable(text), ylabel="density" if i % 3 == 0 else "", yticks=[])
    if not several:
        legend_above(axes[0])
        return axes[0]
    legend_of_figure(axes)
    if len(shown) < len(names) and ax is None:
        axes.flat[0].figure.suptitle(f"The first {len(shown)} of {len(names)} parameters")
    return axes


def _panels(ax: Any, p: int) -> np.ndarray:
    """The given Axes, or new Axes for the first parameters."""
    if ax is not None:
        given = axes_array(ax)
        if not 0 < given.size <= p:
            raise ValueError(
                f"ax: must be an array of at most p = {p} Axes, one for each parameter, got "
                f"{given.size}. Choose one parameter with parameter=."
            )
        return given
    n = min(p, _MOST_PANELS)
    columns = min(n, 3)
    axes = panels(-(-n // columns), columns, size=(WIDTH / max(columns, 2), 1.9)).ravel()
    for spare in axes[n:]:
        spare.remove()
    return axes[:n]


def _densities(
    ax: Axes,
    result: xr.Dataset,
    column: int,
    problem: InverseProblem | None,
    in_prior: int,
    reference: Reference | None,
    truth: float | None,
) -> None:
    """Draw the last ensemble, prior, reference and truth of one parameter."""
    u, weight = members_at(result.isel(parameter=[column]), -1).present()
    draws = u[:, 0].astype(np.float64)
    if not draws.size:
        not_known(ax)
        return
    low, high = limits_of(draws)
    prior = None if problem is None else problem.prior
    support = support_of(prior, in_prior)
    x, height = density(draws, weight, support)
    heights = [0.0, *height]
    if x.size:
        ax.fill_between(x, height, color=BLUE, alpha=0.25, lw=0)
        ax.plot(x, height, color=BLUE, lw=1.5, label="last ensemble")
    else:
        ax.axvline(float(np.median(draws)), color=BLUE, lw=1.5, label="last ensemble")
    name = result.parameter.values[column]
    if reference is not None and name in reference.names:
        at = reference.names.index(name)
        mean, sd = float(reference.mean[at]), float(reference.sd[at])
        low, high = min(low, mean - 3 * sd), max(high, mean + 3 * sd)
        heights += _reference(ax, reference, at, np.linspace(low, high, 400))
    if truth is not None:
        margin = 0.05 * (high - low)
        low, high = min(low, truth - margin), max(high, truth + margin)
    start = start_of(result, problem)
    if start:
        exact = prior_density(prior, in_prior)
        grid = np.linspace(low, high, 400)
        if exact is not None:
            before = np.asarray(exact(grid))
        else:
            first, first_weight = first_members(result, problem, [column])
            grid, before = density(first[:, 0], first_weight, support)
        before = np.where(np.isfinite(before), before, np.nan)
        if len(grid):
            ax.plot(grid, before, color=GREY, lw=1.5, label=start)
            inside = before[(grid >= low) & (grid <= high)]
            heights.append(min(np.nanmax([0.0, *inside]), 2 * max(heights)))
    if truth is not None:
        ax.axvline(truth, color=RED, lw=1.5, ls=":", label="truth")
    ax.set_xlim(low, high)
    ax.set_ylim(0, 1.08 * max(heights) or 1.0)


def _reference(ax: Axes, reference: Reference, at: int, grid: np.ndarray) -> list[float]:
    """Draw the marginal of the reference, and return its maximum if it has a density."""
    mean, sd = reference.mean[at], reference.sd[at]
    style: dict[str, Any] = {"color": "black", "lw": 1.2, "ls": "--"}
    if reference.marginals is None:  # a mean and a standard deviation alone have no shape
        ax.axvline(mean, **style, label="reference, mean ± sd")
        ax.axvspan(mean - sd, mean + sd, color="black", alpha=0.08, lw=0)
        return []
    if np.isinf(reference.n_effective):
        height = stats.norm(mean, sd).pdf(grid)
    else:
        points, weight = reference.marginals
        grid, height = density(mean + sd * points[:, at], weight)
    ax.plot(grid, height, **style, label="reference")
    return [float(height.max())] if height.size else []


def truth_by_name(truth: Any, names: list[Any]) -> dict[Any, float]:
    """True parameters by name, from a vector of all p or a mapping of some."""
    if truth is None:
        return {}
    if isinstance(truth, Mapping):
        unknown = [name for name in truth if name not in names]
        if unknown or not truth:
            raise ValueError(
                f"truth: must have names among {listed(names)}, got {listed(unknown) or 'none'}."
            )
        return {name: number(f"truth[{name!r}]", value) for name, value in truth.items()}
    values = as_real("truth", truth)
    if values.shape != (len(names),):
        raise ValueError(
            f"truth: must have p = {len(names)} entries, got shape {values.shape}. Give some of "
            "the parameters as a mapping of names to numbers."
        )
    return dict(zip(names, values.tolist(), strict=True))


def plot_marginals(
    result: xr.Dataset,
    ax: Any = None,
    *,
    parameters: Any = None,
    problem: InverseProblem | None = None,
) -> Axes:
    """Medians, 50 % and 90 % intervals of many parameters, prior and posterior.

    Values are standardised by the mean and the standard deviation of the prior, so that parameters
    of any units share one axis. A short bar means that the data were informative. A bar far from 0
    means that the data disagree with the prior. If the prior is unknown, the mean and the standard
    deviation of the last ensemble are used.

    Parameters
    ----------
    result : xarray.Dataset
        A result of `run` or `integrate`.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default, as high as the rows need.
    parameters : sequence of labels, optional
        The parameters to draw, from top to bottom; by default the 20 whose standard deviations
        were reduced most.
    problem : InverseProblem, optional
        The problem of the result. Its prior is used if the result does not hold the first ensemble.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    TypeError, ValueError
        If ``result`` is not a result, or a parameter is unknown.

    See Also
    --------
    plot_ensemble : Densities of the parameters.
    intervals : Table of the intervals.

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
    ax = axes_for(ax, height=1.6 + 0.3 * rows.size)
    bars = [("quantile", BLUE, -0.14 if start else 0.0, "last ensemble")]
    if start:
        bars.insert(0, ("start_quantile", GREY, 0.14, start))
    handles: dict[str, Any] = {}
    for name, colour, shift, label in bars:
        low, left, middle, right, high = ((table[name] - centre) / scale).values
        at = rows - shift
        ax.hlines(at, low, high, color=colour, lw=1.5, label=f"{label}, 90 %")
        bar = ax.hlines(at, left, right, color=colour, lw=5, label=f"{label}, 50 %")
        ax.plot(middle, at, "o", ms=4, mfc="white", mec=colour)
        handles[label] = bar
    ax.plot([0, 0], [-0.5, rows.size - 0.5], color=GREY, lw=0.8, ls=":")
    ax.set_yticks(rows, shortened(table.parameter.values, 24))
    ax.set_ylim(rows.size - 0.5, -0.5)
    of = {"prior": "prior", "start": "first ensemble", "": "last ensemble"}[start]
    ax.set(
        xlabel=f"(value − mean) / sd of the {of}",
        ylabel="parameter" + f", {rows.size} of {p}" * (rows.size < p),
        title="Marginal intervals",
    )
    caption = "Thick bars: 50 %. Thin bars: 90 %. Circles: medians."
    legend_above(ax, list(handles.values()), list(handles), title=caption)
    return ax


def limits_of(x: np.ndarray) -> tuple[float, float]:
    """Limits of an axis that shows draws: their central 99.6 % and a margin."""
    low, high = np.quantile(x, [0.002, 0.998])
    margin = 0.3 * float(high - low) or 0.5
    return float(low) - margin, float(high) + margin
