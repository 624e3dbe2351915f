"""Plots of convergence: collapse, misfit and residual by pseudo-time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ekitools.plots.predictive import band
from ekitools.plots.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    axes_for,
    logarithmic,
    not_known,
    whole_numbers,
)
from ekitools.results.diagnostics import diagnose, fit_rate
from ekitools.results.marginals import weighted_quantiles
from ekitools.results.reading import check_result, has_noise, members_at

if TYPE_CHECKING:
    import xarray as xr

    from ekitools.problem import InverseProblem

__all__ = ["plot_collapse", "plot_misfit", "plot_residual"]


def plot_collapse(
    result: xr.Dataset, ax: Any = None, *, problem: InverseProblem | None = None
) -> Any:
    """Ensemble collapse: the spread of parameters and outputs, by pseudo-time.

    Means over members of ‖u_j − ū‖² and ‖Γ^{-1/2}(g_j − ḡ)‖², relative to the first. Where the
    run is long enough to show it, the rate t⁻¹ of the linear theory for the second, beside the
    rate that `ekitools.results.diagnostics.fit_rate` finds over the last factor of ten in t.

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
    r"""Misfit by iteration: mean and range of the members that did not fail, and the expected d/2.

    The legend counts the failed model runs of the stored iterations.

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
    n = result.sizes["iteration"]
    known, low, high = np.zeros(n, dtype=bool), *np.full((2, n), np.nan)
    for i in range(n):
        _, misfit, weight = members_at(result, i).evaluated()
        if misfit.size:
            known[i] = True
            low[i], high[i] = weighted_quantiles(misfit, (0.05, 0.95), weight)
    low, high = low[known], high[known]
    if known.any():
        lost = int(result.failed.sum())
        text = "90 % of the members" + f" ({lost} failed left out)" * bool(lost)
        band(ax, result.iteration.values[known], low, high, color=BLUE, alpha=0.25, label=text)
    mean = result.history_misfit.values.astype(np.float64)
    mean = np.where(np.isfinite(mean), mean, np.nan)
    x = result.history.values
    if "draws_misfit" in result:  # the history has the mean over nodes, which are no draws
        x, mean = result.iteration.values, result.draws_misfit.mean("draw").values
    ax.plot(x, mean, "o-", ms=4, color=BLUE, label="mean")
    name = "misfit" if has_noise(result) else "loss"
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
        which decays as t^{-1/2}) and orthogonal to it (‖A r_⊥‖, constant without localization) are
        drawn too.

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
    if has_noise(result):
        level, n_data = d.attrs["noise_level"], d.n_data.values
        if len(np.unique(n_data[n_data > 0])) > 1:  # steps see some of the observations
            known = np.sqrt(np.where(n_data > 0, n_data, np.nan))
            ax.plot(x, known, ls="--", color=GREY, label="noise level, $\\sqrt{d}$ of the step")
        else:
            text = f"noise level, $\\sqrt{{d}}$ = {level:.3g}"
            ax.axhline(level, ls="--", color=GREY, label=text)
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


def _abscissa(result: xr.Dataset) -> tuple[np.ndarray, str]:
    """Pseudo-time where it advances all along, else iterations."""
    times = result.t.values
    if times.size > 1 and np.all(np.diff(times) > 0):
        return times, "pseudo-time $t$"
    return result.iteration.values, "iteration"


def _whole_iterations(ax: Any, label: str) -> None:
    if label == "iteration":
        whole_numbers(ax)
