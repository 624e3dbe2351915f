"""Plots of convergence: ensemble spread, misfit and residual."""

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
    label_ends,
    logarithmic,
    not_known,
    whole_numbers,
)
from ekitools.results.diagnostics import diagnose, fit_rate
from ekitools.results.marginals import weighted_quantiles
from ekitools.results.reading import check_result, has_noise, members_at

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

    from ekitools.problem import InverseProblem

__all__ = ["plot_collapse", "plot_misfit", "plot_residual"]


def plot_collapse(
    result: xr.Dataset, ax: Any = None, *, problem: InverseProblem | None = None
) -> Axes:
    """Ensemble spread of parameters and outputs, by pseudo-time.

    The lines are the means over members of ‖u_j − ū‖² and ‖Γ^{-1/2}(g_j − ḡ)‖², relative to their
    first values. If the pseudo-time spans a factor of ten, a dashed line shows the rate t⁻¹ of the
    linear theory for the outputs [1]_. Its label has the exponent that is fitted to the last factor
    of ten (`ekitools.results.diagnostics.fit_rate`).

    Parameters
    ----------
    result : xarray.Dataset
        A result of `run` or `integrate`.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.
    problem : InverseProblem, optional
        The problem of the result, for the whitening by correlated noise. By default the standard
        deviations of the noise are used.

    Returns
    -------
    matplotlib Axes

    See Also
    --------
    diagnose : The numbers ``collapse`` and ``output_collapse``.
    plot_diagnostic : Any other number.

    References
    ----------
    .. [1] Schillings & Stuart (2017), SIAM J. Numer. Anal. 55(3), 1264-1290.

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
        ("collapse", "parameters,\nmean $|u_j - \\bar{u}|^2$", BLUE, "o"),
        ("output_collapse", "outputs,\nmean $|g_j - \\bar{g}|^2_\\Gamma$", ORANGE, "s"),
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
                text += f"\n(outputs, at the end: $t^{{{fit.exponent:.2f}}}$)"
            ax.plot(t, level[0] * t[0] / t, "--", color=GREY, label=text)
    else:
        _whole_iterations(ax, label)
    logarithmic(ax, *log)
    ax.set(xlabel=label, ylabel="spread, relative to the first", title="Ensemble spread")
    label_ends(ax)
    return ax


def plot_misfit(result: xr.Dataset, ax: Any = None) -> Axes:
    r"""Misfit by iteration: the mean, 90 % of the members, and the expected value d/2.

    Members that failed are left out; the label counts them. A problem with a loss instead of noise
    has no expected value.

    Parameters
    ----------
    result : xarray.Dataset
        A result of `run` or `integrate`.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib Axes

    See Also
    --------
    plot_residual : The residual of the mean output.

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
    text = "mean"
    if known.any():
        lost = int(result.failed.sum())
        text = "mean and 90 %\nof the members" + f"\n({lost} failed left out)" * bool(lost)
        band(ax, result.iteration.values[known], low, high, color=BLUE, alpha=0.25)
    mean = result.history_misfit.values.astype(np.float64)
    mean = np.where(np.isfinite(mean), mean, np.nan)
    x = result.history.values
    if "draws_misfit" in result:  # the history has the mean over nodes, which are no draws
        x, mean = result.iteration.values, result.draws_misfit.mean("draw").values
    ax.plot(x, mean, "o-", ms=4, color=BLUE, label=text)
    name = "misfit" if has_noise(result) else "loss"
    if name == "misfit":
        expected = result.sizes["data"] / 2
        ax.axhline(expected, ls="--", color=GREY, label=f"expected: d/2 = {expected:g}")
    if 0 < np.nanmin([*mean, *low, np.inf]) < np.inf:  # a loss may be negative
        logarithmic(ax, "y")
    ax.set(
        xlabel="iteration", ylabel=f"{name} $\\Phi$", title=f"{name.capitalize()} of the members"
    )
    whole_numbers(ax)
    label_ends(ax)
    return ax


def plot_residual(
    result: xr.Dataset, ax: Any = None, *, problem: InverseProblem | None = None
) -> Axes:
    """Residual of the mean output in noise standard deviations, and the noise level √d.

    The residual is unknown for a problem with a loss instead of noise.

    Parameters
    ----------
    result : xarray.Dataset
        A result of `run` or `integrate`.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.
    problem : InverseProblem, optional
        The problem of the result. If its model is a `LinearModel`, the residual A r is also split
        into the part within the span of the initial ensemble (‖A r_∥‖, which decays as t^{-1/2})
        and the part orthogonal to it (‖A r_⊥‖, constant without localization).

    Returns
    -------
    matplotlib Axes

    See Also
    --------
    plot_misfit : The misfit of the members.

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
            ax.plot(x, known, ls="--", color=GREY, label="noise level,\n$\\sqrt{d}$ of the step")
        else:
            text = f"noise level,\n$\\sqrt{{d}}$ = {level:.3g}"
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
    label_ends(ax)
    return ax


def _abscissa(result: xr.Dataset) -> tuple[np.ndarray, str]:
    """Pseudo-time if it always increases, else iterations."""
    times = result.t.values
    if times.size > 1 and np.all(np.diff(times) > 0):
        return times, "pseudo-time $t$"
    return result.iteration.values, "iteration"


def _whole_iterations(ax: Any, label: str) -> None:
    if label == "iteration":
        whole_numbers(ax)
