"""Diagnostics of a run by iteration, such as spread, misfit and coverage, and rates of decay."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from ekitools.core.arrays import host
from ekitools.models.plain import LinearModel
from ekitools.problem import check_problem, check_whole
from ekitools.results.alignment import columns_of
from ekitools.results.predictive import crps_of_members, predictive_cdf
from ekitools.results.reading import (
    Members,
    attribute,
    check_result,
    has_noise,
    members_at,
    moments,
)
from ekitools.results.span import Span
from ekitools.typing import MarginalNoise, NoiseModel

if TYPE_CHECKING:
    from ekitools.problem import InverseProblem

__all__ = ["Rate", "check_same", "diagnose", "fit_rate"]


_BLOCK_BYTES = 1 << 24
"""Bytes of a block of members in double precision; one block is whitened at a time."""

_LABELS = {  # long name and units
    "mean": ("ensemble mean", "as the parameter"),
    "spread": ("ensemble standard deviation, normalised by 1/(J-1)", "as the parameter"),
    "spread_total": ("root of the total variance, relative to the first stored iteration", "1"),
    "collapse": ("ensemble collapse: mean of |u_j - mean u|^2", "as the parameters, squared"),
    "output_collapse": ("mean of |Gamma^-1/2 (g_j - mean g)|^2", "1"),
    "misfit_mean": ("mean misfit of the members", "1"),
    "misfit_min": ("smallest misfit of a member", "1"),
    "misfit_of_mean": ("misfit of the mean output, |Gamma^-1/2 (mean g - y)|^2 / 2", "1"),
    "residual_mean": ("residual of the mean output, |Gamma^-1/2 (mean g - y)|", "1"),
    "rmse": ("root mean square of mean g - y over the data", "as the data"),
    "crps": (
        "continuous ranked probability score of the outputs, in noise standard deviations",
        "1",
    ),
    "bayes_loss": (
        "(|Gamma^-1/2 (mean g - y)|^2 + |whitened mean u|^2) / (p d), as bayes_loss in EKP.jl",
        "1",
    ),
    "coverage": ("share of the data within the central 90 % predictive interval", "1"),
    "n_data": ("data with outputs at this iteration", "1"),
    "n_effective": ("effective number of members, (sum w)^2 / sum w^2", "1"),
    "n_failed": ("model runs that failed at this iteration", "1"),
    "model_runs": ("model runs so far", "1"),
    "t": ("pseudo-time, the sum of the steps", "1"),
    "step": ("step h of the update that leaves this ensemble", "1"),
    "residual_parallel": (
        "residual A u_j - y within the initial span of A(u_j - mean u), root mean square",
        "1",
    ),
    "residual_perpendicular": (
        "residual A u_j - y orthogonal to the initial span of A(u_j - mean u), root mean square",
        "1",
    ),
    "residual_perpendicular_drift": (
        "change of the orthogonal part of A u_j - y since iteration 0, root mean square",
        "1",
    ),
}


class Rate(NamedTuple):
    """Exponent of a power law, value ∝ t^exponent."""

    exponent: float
    standard_error: float
    """Standard error of the exponent; NaN if there are only two points."""
    n: int
    """Number of points used."""


def diagnose(result: xr.Dataset, problem: InverseProblem | None = None) -> xr.Dataset:
    r"""Diagnostics of a run at every stored iteration.

    Members that were dropped or failed at the iteration are left out. Weighted results use their
    weights. ū and ḡ are the means of the members' parameters and outputs.

    ================================  =====================================================
    ``mean``, ``spread``              mean and standard deviation, with 1/(J − 1), of every
                                      parameter
    ``spread_total``                  root of the total variance, relative to the first
                                      stored iteration, in physical coordinates
    ``collapse``                      mean of ‖u_j − ū‖², the ensemble collapse
    ``output_collapse``               mean of ‖Γ^{-1/2}(g_j − ḡ)‖²
    ``misfit_mean``, ``misfit_min``   mean and minimum of Φ_j = ½‖Γ^{-1/2}(g_j − y)‖²
    ``misfit_of_mean``                ½‖Γ^{-1/2}(ḡ − y)‖²
    ``residual_mean``                 ‖Γ^{-1/2}(ḡ − y)‖, about √d at the noise level
    ``rmse``                          √(mean over the data of (ḡ_i − y_i)²), in the units of
                                      the data; NaN if the data have different units
    ``crps``                          CRPS of the members' outputs, without noise, as an ensemble
                                      forecast of the data [2]_, in standard deviations of the
                                      noise: mean over the data of (E\|X − y_i\| − ½E\|X − X'\|)/σ_i
    ``bayes_loss``                    (‖Γ^{-1/2}(ḡ − y)‖² + ‖C₀^{-1/2}(ū − m)‖²)/(p d)
    ``coverage``                      share of the data within the central 90 % interval of
                                      outputs plus noise
    ``n_data``                        number of data with outputs; if a step sees only some
                                      observations, misfit, residual and coverage use these
    ``n_effective``                   (Σw)²/Σw², the number of members if all weights are equal
    ``n_failed``, ``model_runs``      model runs that failed at this iteration; runs so far
    ``t``, ``step``                   as in the result
    ================================  =====================================================

    If the members of a method are nodes, as in `UKI`, the diagnostics use its draws. The outputs of
    the draws are computed with the linear map through the outputs of the nodes.

    In ``crps``, X and X' are independent draws from the weighted outputs g_ji of the members. It
    agrees with ``properscoring.crps_ensemble(y / sd, g.T / sd).mean()``. `calibration` computes the
    score of outputs with noise.

    ``bayes_loss`` is −2 log of the posterior density at ū and ḡ, up to a constant and divided by
    p d. Here ū and the prior's moments m and C₀ are in unconstrained coordinates, and d counts the
    data with outputs. EnsembleKalmanProcesses.jl has the same definition [3]_, but combines ḡ with
    the ū of the following iteration. Here both belong to the same iteration.

    For a `LinearModel` and a result that holds iteration 0, the residual A u_j − y is split
    Γ-orthogonally into its part in span{A(u_j(0) − ū(0))} and the rest. ``residual_parallel`` and
    ``residual_perpendicular`` are the root mean squares over members of the Γ-norms of the two
    parts. ``residual_perpendicular_drift`` is the same for the change of the second part since
    iteration 0. In the noise-free flow with y = A u†, the norm of the first part decays as
    t^{-1/2}, so its square decays as t^{-1}, like ``output_collapse``. The second part is constant
    and equal for all members [1]_. With localization, members leave the span and the second part
    changes too.

    Parameters
    ----------
    result : xarray.Dataset
        A result of `run` or `integrate`, also read back from its file.
    problem : InverseProblem, optional
        The problem of the result. Without it, Γ is assumed to be diagonal with the variances
        ``noise_sd**2``, and ``bayes_loss`` and the two parts of the residual are left out.

    Returns
    -------
    xarray.Dataset
        The variables above along ``iteration``; ``mean`` and ``spread`` also along
        ``parameter``. Each has a ``long_name`` and ``units``. Values that need outputs are NaN at
        iterations without outputs. Attributes: ``noise_level`` √d, ``expected_misfit`` d/2,
        ``whitening`` and ``covariance_normalisation``.

    Raises
    ------
    TypeError, ValueError
        If ``result`` is not a result, or ``problem`` is not the problem of the result.

    See Also
    --------
    plot_diagnostic : Plot of one of these diagnostics.
    calibration : Scores of predictions with noise.
    check_posterior : Checks that the ensemble approximates the posterior.
    summary : Checks of a result, with remedies.

    References
    ----------
    .. [1] Schillings & Stuart (2017), SIAM J. Numer. Anal. 55, 1264-1290.
    .. [2] Gneiting & Raftery (2007), J. Am. Stat. Assoc. 102, 359-378, eq. 21.
    .. [3] Dunbar et al. (2022), J. Open Source Softw. 7, 4869 (version 2.7 of the package).

    Examples
    --------
    >>> import ekitools as ek
    >>> problem = ek.InverseProblem(
    ...     ek.LinearModel([[1.0], [1.0]]), ek.GaussianPrior(0.0, [1.0]), 0.25, [2.0, 1.0])
    >>> result = ek.run(problem, ek.EKI(ek.FixedStep(0.25)), n_members=2000, rng=0)
    >>> diagnosis = ek.diagnose(result, problem)
    >>> diagnosis.spread.sel(parameter="u0").values[[0, -1]].round(1)  # exact: 1, 0.33
    array([1. , 0.3])
    >>> round(diagnosis.attrs["noise_level"], 3)
    1.414
    """
    check_result(result)
    y, sd = (np.asarray(result[name], dtype=np.float64) for name in ("y", "noise_sd"))
    span, whiten = None, _whitening(sd)
    if problem is not None:
        check_same(result, problem)
        if isinstance(problem.noise, NoiseModel):
            whiten = _by_noise(problem.noise)
            if isinstance(problem.model, LinearModel) and result.iteration[0] == 0:
                span = Span(problem, members_at(result, 0))
    rows = []
    for i in range(result.sizes["iteration"]):
        members = members_at(result, i)
        row = _parameters(members) | _outputs(members, y, sd, whiten)
        if problem is not None:
            row["bayes_loss"] = _bayes_loss(members, problem, row)
        if span is not None:
            row |= span.residuals(members)
        rows.append(row)

    values = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    initial = values["spread_total"][0]
    values["spread_total"] = values["spread_total"] / (initial if initial > 0 else np.nan)
    runs = result.history_model_runs.sel(history=result.iteration.values)
    failures = attribute(result, "failures", [])
    replaced = [each["iteration"] for each in failures if each.get("replaced")]
    again = np.equal.outer(result.iteration.values, np.array(replaced, dtype=np.int64))
    n_failed = result.failed.sum("member").values + again.sum(axis=1)
    values |= {"n_failed": n_failed, "model_runs": runs.values}
    values |= {"t": result.t.values, "step": result.step.values}
    units = _units(result)
    if len(units) > 1:
        values["rmse"] = np.full_like(values["rmse"], np.nan)
    diagnosis = xr.Dataset(
        {
            name: (
                ("iteration", "parameter")[: values[name].ndim],
                values[name],
                {"long_name": long_name, "units": units},
            )
            for name, (long_name, units) in _LABELS.items()
            if name in values
        },
        coords={name: result[name] for name in ("iteration", "parameter")},
        attrs={
            "title": "diagnostics of an ensemble Kalman inversion",
            "noise_level": float(np.sqrt(y.size)),
            "expected_misfit": y.size / 2 if has_noise(result) else np.nan,
            "whitening": "by noise_sd alone" if problem is None else "by the noise of the problem",
            "covariance_normalisation": "spread: 1/(J-1); collapse and output_collapse: 1/J",
        },
    )
    if len(units) == 1 and units[0]:
        diagnosis.rmse.attrs["units"] = units[0]
    return diagnosis


def fit_rate(t: Any, value: Any, *, t_min: float | None = None) -> Rate:
    r"""Exponent of a power law, value ∝ t^exponent.

    The exponent is the slope of the least-squares line of log value against log t. Its standard
    error follows from the scatter about the line. Points are left out if t or the value is not
    positive, or if the value is NaN, because they have no logarithm.

    Parameters
    ----------
    t, value : (n,)
        Pseudo-times and values. For example, the exponent of the ``output_collapse`` of
        `diagnose` tends to −1 in the linear, noise-free flow.
    t_min : float, optional
        Leave out earlier times, because a power law holds only for large t.

    Returns
    -------
    Rate
        ``exponent``, ``standard_error`` and the number of points ``n``.

    Raises
    ------
    ValueError
        If the sizes differ, or fewer than two different times are left.

    See Also
    --------
    diagnose : Diagnostics whose decay can be fitted.

    Examples
    --------
    >>> from ekitools.results.diagnostics import fit_rate
    >>> fit_rate([1.0, 10.0, 100.0], [3.0, 0.3, 0.03]).exponent
    -1.0
    """
    t, value = np.asarray(t, dtype=np.float64), np.asarray(value, dtype=np.float64)
    if t.ndim != 1 or t.shape != value.shape:
        raise ValueError(
            f"value: must be a vector as long as t, got shapes {value.shape} and {t.shape}."
        )
    used = (t > 0) & (t < np.inf) & (value > 0) & (value < np.inf)
    if t_min is not None:
        used &= t >= t_min
    x, z = np.log(t[used]), np.log(value[used])
    if np.unique(x).size < 2:
        raise ValueError(
            f"t: must hold at least two different positive times with a positive value, got "
            f"{np.unique(x).size}. Store more iterations or lower t_min."
        )
    x, z = x - x.mean(), z - z.mean()
    exponent = float(x @ z / (x @ x))
    scatter = float(np.sum((z - exponent * x) ** 2))
    error = float(np.sqrt(scatter / (x.size - 2) / (x @ x))) if x.size > 2 else np.nan
    return Rate(exponent, error, int(x.size))


def _parameters(members: Members) -> dict[str, Any]:
    u, w = members.present()
    if not w.size:
        nothing = np.full(members.u.shape[1], np.nan)
        numbers = dict.fromkeys(("spread_total", "collapse"), np.nan)
        return {"mean": nothing, "spread": nothing, **numbers, "n_effective": 0.0}
    mean, variance = moments(u, w)
    n_effective = 1 / float(w @ w)
    # dividing by 1 − Σw², which is (J − 1)/J for equal weights, makes the variance unbiased
    unbiased = variance / (1 - 1 / n_effective) if w.size > 1 else np.full_like(mean, np.nan)
    return {
        "mean": mean,
        "spread": np.sqrt(unbiased),
        "spread_total": np.sqrt(np.sum(unbiased)),
        "collapse": np.sum(variance),
        "n_effective": n_effective,
    }


def _whitening(sd: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Function that whitens residuals by a diagonal Γ, given the mask of their data."""
    return lambda r, known: r / sd[known]


def _by_noise(noise: NoiseModel) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Function that whitens by a noise model, or by its marginal if some data have no outputs."""

    def whiten(r: np.ndarray, known: np.ndarray) -> np.ndarray:
        if known.all():
            return host(noise.whiten(r))
        if isinstance(noise, MarginalNoise):
            return host(noise.marginal(known).whiten(r))
        return np.full(r.shape, np.nan)

    return whiten


def _outputs(
    members: Members,
    y: np.ndarray,
    sd: np.ndarray,
    whiten: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> dict[str, float]:
    g, misfit, w = members.evaluated()
    known = ~np.isnan(g).all(axis=0)
    if not w.size or not known.any():
        names = ("output_collapse", "misfit_mean", "misfit_min", "misfit_of_mean", "residual_mean")
        return dict.fromkeys((*names, "rmse", "crps", "coverage"), np.nan) | {"n_data": 0}
    g, y, sd = g[:, known], y[known], sd[known]
    white_mean, white_variance = moments(whiten(g - y, known), w)
    off = np.abs(predictive_cdf(y, g, sd, w) - 0.5)  # NaN for a loss
    return {
        "output_collapse": float(np.sum(white_variance)),
        "misfit_mean": float(w @ misfit),
        "misfit_min": float(np.min(misfit)),
        "misfit_of_mean": 0.5 * float(white_mean @ white_mean),
        "residual_mean": float(np.linalg.norm(white_mean)),
        "rmse": float(np.sqrt(np.mean((w @ g - y) ** 2))),
        "crps": float(np.mean(crps_of_members(y, g, w) / sd)),
        "coverage": float(np.mean(np.where(np.isnan(off), np.nan, off <= 0.45))),
        "n_data": int(known.sum()),
    }


def _bayes_loss(members: Members, problem: InverseProblem, row: dict[str, Any]) -> float:
    """Squared distances of ḡ from the data and of ū from the prior's mean, divided by p d."""
    u, w = members.present()
    if not w.size or not row["n_data"]:
        return np.nan
    prior, rows = problem.prior, max(1, _BLOCK_BYTES // (8 * u.shape[1]))

    def white(start: int) -> np.ndarray:
        some = u[start : start + rows].astype(np.float64, copy=False)
        return host(prior.whiten(prior.to_unconstrained(some)))

    with np.errstate(invalid="ignore"):  # rounding can put a member on a bound, which is infinite
        mean: Any = sum(w[i : i + rows] @ white(i) for i in range(0, len(u), rows))
    squares = 2 * row["misfit_of_mean"] + float(mean @ mean)
    return float(squares / (mean.size * row["n_data"]))


def _units(result: xr.Dataset) -> list[str]:
    """Different units of the data; empty if unknown."""
    known = result.data_units.values if "data_units" in result.coords else ()
    return list(dict.fromkeys(str(unit) for unit in known))


def check_same(result: xr.Dataset, problem: Any) -> None:
    """Check that ``problem`` is the problem of the result."""
    check_problem(problem)
    check_whole(problem, "diagnostics of a result")
    shape = (result.sizes["data"], result.sizes["parameter"])
    if (problem.n_data, problem.n_parameters) != shape:
        raise ValueError(
            f"problem: must be the problem of the result, with (d, p) = {shape}, got "
            f"({problem.n_data}, {problem.n_parameters})."
        )
    if not np.array_equal(columns_of(problem, result), np.arange(shape[1])):
        raise ValueError(
            "problem: must have the parameters in the order of the result, got another order. Use "
            "result.sel(parameter=list(problem.parameter_names))."
        )
    if not np.array_equal(problem.data, result.y.values):
        raise ValueError("problem: must be the problem of the result, got other data.")
