"""Measurements of the linear theorems: a table with one row for each statement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ekitools.core.checks import integer
from ekitools.exact import covariance_flow, linear_flow, spectrum
from ekitools.flows.integrate import integrate
from ekitools.flows.right_hand_sides import EKIFlow
from ekitools.methods.eki import EKI
from ekitools.methods.steps import FixedStep
from ekitools.models.plain import LinearModel
from ekitools.problem import InverseProblem, check_problem
from ekitools.results.checks import check_result
from ekitools.results.diagnostics import diagnose
from ekitools.theory.measures import (
    covariance_rate_error,
    derivative,
    outputs,
    outside,
    velocity_error,
)
from ekitools.theory.rows import (
    ITERATIVE,
    KOVACHKI_STUART,
    SCHILLINGS,
    Report,
    Row,
    error_row,
    rate_row,
)
from ekitools.theory.theorems import (
    affine_analysis,
    affine_flow,
    approximation,
    bound,
    cramer_rao_time,
    discrete_to_flow,
    efficiency,
    linear_problem,
    momentum_steps,
    momentum_time,
    posterior_moments,
    smooth_problem,
    subspace,
)

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Report", "Row", "check_linear_theory", "long_flow", "verify"]


def check_linear_theory(result: xr.Dataset, problem: InverseProblem) -> Report:
    r"""Check a noise-free ensemble flow of a linear model against its theorems.

    Let r_j = u_j − u† and y = A u†. The squared size of the ensemble decays as t⁻¹, and ‖A r_∥‖
    decays as t^{-1/2} [1]_. Its square decays as t⁻¹, which is the rate in [2]_. A r_⊥ is
    constant and equal for all members. Members stay in the affine span of the initial ensemble. The
    velocity is −C ∇Φ. Covariance and members agree with the closed form.

    Parameters
    ----------
    result : xarray.Dataset
        Result of `ekitools.integrate` with `EKIFlow`. Several times must be late enough for the
        rates: t λ ≥ 10 for the smallest eigenvalue λ > 0 of the initial output covariance.
    problem : InverseProblem
        The problem of the result.

    Returns
    -------
    Report
        Report with ``passed``, ``table`` and a text form. Rows fail for a model that is not a
        `LinearModel`, for added noise or for another rate.

    Raises
    ------
    ValueError
        If the result has fewer than three late times.

    See Also
    --------
    ekitools.theory.verify : The same checks on standard problems.
    ekitools.theory.linear_flow : Closed form of the flow.

    References
    ----------
    .. [1] Schillings & Stuart (2017), SIAM J. Numer. Anal. 55, 1264-1290.
    .. [2] Kovachki & Stuart (2019), Inverse Problems 35, 095005.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> problem = ek.problems.linear(p=3, d=5).problem
    >>> times = [0.0, *np.geomspace(1, 1e5, 11)]
    >>> result = ek.integrate(problem, ek.EKIFlow(), t_span=(0, 1e5), n_members=8, rng=0,
    ...                       t_eval=times, method="LSODA", rtol=1e-10, atol=1e-12)
    >>> ek.theory.check_linear_theory(result, problem).passed
    True
    """
    check_result(result)
    check_problem(problem)
    model = problem.model
    u, t = result.u.values, result.t.values
    start = u[0]
    if isinstance(model, LinearModel):
        linearised = problem
    else:  # test the theorems on the regression over the first ensemble
        slope, offset = _regression(problem, start)
        linearised = InverseProblem(
            LinearModel(slope), problem.prior, problem.noise, problem.data - offset
        )
    values = spectrum(start, linearised.model, problem.noise)
    late = 10 / values.min()
    if np.sum(t >= late) < 3:
        raise ValueError(
            f"result: must have at least three times t >= {late:.3g} to measure the rates, got "
            f"{int(np.sum(t >= late))}. Integrate longer, with t_eval."
        )
    d = diagnose(result.assign(y=("data", linearised.data)), linearised)
    exact = linear_flow(start, linearised.model, linearised.data, problem.noise, t)
    covariance = covariance_flow(start, linearised.model, problem.noise, t)
    anomalies = u - u.mean(axis=1, keepdims=True)
    found = anomalies.transpose(0, 2, 1) @ anomalies / u.shape[1]
    scale = float(d.residual_parallel[0] + d.residual_perpendicular[0])
    whole = 2 * problem.noise.misfit(result.g.values - problem.data, 0 * problem.data).mean(axis=1)
    parts = d.residual_parallel.values**2 + d.residual_perpendicular.values**2

    def decays(statement: str, source: str, value: np.ndarray, exponent: float) -> Row:
        return rate_row(
            statement, source, t, value, exponent, symbol="t", tolerance=0.03, x_min=late
        )

    rows = [
        decays("ensemble collapse |A e|^2", SCHILLINGS, d.output_collapse.values, -1.0),
        decays("|A r_par|", SCHILLINGS, d.residual_parallel.values, -0.5),
        decays("|A r_par|^2", KOVACHKI_STUART, d.residual_parallel.values**2, -1.0),
        error_row(
            "A r_perp constant, equal for all members",
            SCHILLINGS,
            float(np.max(d.residual_perpendicular_drift)) / scale,
            1e-6,
        ),
        error_row(
            "|A r|^2 = |A r_par|^2 + |A r_perp|^2",
            SCHILLINGS,
            float(np.max(np.abs(whole - parts)) / whole[0]),
            1e-8,
        ),
        error_row("subspace property", ITERATIVE, outside(u), 1e-6),
        error_row(
            "dC/dt = -2 C M C, the velocity",
            SCHILLINGS,
            covariance_rate_error(problem, start),
            1e-7,
        ),
        error_row(
            "dC/dt = -2 C M C, in closed form",
            SCHILLINGS,
            float(np.max(np.abs(found - covariance)) / np.max(np.abs(covariance[0]))),
            1e-6,
        ),
        error_row(
            "members as in the closed form",
            SCHILLINGS,
            float(np.max(np.abs(u - exact)) / np.max(np.abs(exact))),
            1e-6,
        ),
        error_row(
            "velocity = -C grad Phi",
            KOVACHKI_STUART,
            velocity_error(problem, start, derivative(problem, start))[0],
            1e-7,
        ),
    ]
    return Report(tuple(rows))


def verify(*, rng: int = 0) -> Report:
    """Measure the theorems on standard problems, as ``ekitools verify`` does.

    Parameters
    ----------
    rng : int, default 0
        Seed of the problems and ensembles.

    Returns
    -------
    Report
        The rows of `check_linear_theory` for a linear problem, followed by rows that need
        separate runs.

    See Also
    --------
    ekitools.theory.check_linear_theory : The checks for your own flow.

    Examples
    --------
    >>> from ekitools.theory.checks import verify
    >>> verify().passed
    True
    """
    rng = integer("rng", rng, least=0)
    problem, smooth = linear_problem(12, 8, rng), smooth_problem(12, 8, rng)[0]
    deterministic = EKI(FixedStep(0.2), perturbed=False)
    rows = [
        *check_linear_theory(long_flow(problem, rng), problem).table,
        subspace(problem, deterministic, rng),
        subspace(problem, EKIFlow(), rng),
        subspace(smooth, EKIFlow(), rng),
        subspace(smooth, deterministic, rng),
        approximation(rng),
        cramer_rao_time(rng),
        efficiency(rng),
        bound(rng),
        discrete_to_flow(rng),
        *posterior_moments(rng),
        affine_analysis(rng),
        affine_flow(rng),
        momentum_steps(rng),
        momentum_time(rng),
    ]
    return Report(tuple(rows))


def long_flow(problem: InverseProblem, rng: int, flow: Any = None) -> xr.Dataset:
    """A late flow of few members, as accurate as `check_linear_theory` needs."""
    end = 1e6
    options: dict[str, Any] = {"method": "LSODA", "rtol": 1e-10, "atol": 1e-12}
    times = [0.0, *np.geomspace(1e-1, end, 29)]
    return integrate(
        problem, flow or EKIFlow(), t_span=(0, end), n_members=6, rng=rng, t_eval=times, **options
    )


def _regression(problem: InverseProblem, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slope ``(d, p)`` and offset ``(d,)`` of G on u over the ensemble."""
    g = outputs(problem, u)
    mean = u.mean(axis=0)
    slope = np.linalg.lstsq(u - mean, g - g.mean(axis=0), rcond=None)[0].T
    return slope, g.mean(axis=0) - slope @ mean
