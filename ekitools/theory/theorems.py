"""Theorems that need separate runs: one function for each row.

The subject of a theorem (the model, the method, the flow, ...) is an argument. The theorem holds
for the default, and tests pass a subject for which the theorem does not hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ekitools.exact import linear_flow
from ekitools.flows.integrate import integrate
from ekitools.flows.right_hand_sides import EKIFlow, NesterovFlow
from ekitools.linalg import kalman_update
from ekitools.loop.driver import run
from ekitools.methods.eki import EKI
from ekitools.methods.nesterov import Nesterov
from ekitools.methods.steps import FixedStep
from ekitools.models.plain import FunctionModel, LinearModel
from ekitools.priors.gaussian import GaussianPrior
from ekitools.problem import InverseProblem
from ekitools.problems import linear
from ekitools.results.diagnostics import fit_rate
from ekitools.theory.measures import covariance, outside, velocity_error
from ekitools.theory.rows import (
    CRAMER_RAO,
    ITERATIVE,
    KOVACHKI_STUART,
    MOMENTUM,
    Row,
    error_row,
    judged,
    rate_row,
)
from ekitools.typing import Flow, Method

__all__ = [
    "affine_analysis",
    "affine_flow",
    "approximation",
    "bound",
    "cramer_rao_time",
    "discrete_to_flow",
    "efficiency",
    "linear_problem",
    "momentum_flows",
    "momentum_runs",
    "momentum_steps",
    "momentum_time",
    "posterior_moments",
    "smooth_problem",
    "subspace",
]

Derivative = Callable[[np.ndarray], np.ndarray]
"""Derivative DG at every member, ``(J, p) -> (J, d, p)``."""
Mapping = Callable[[np.ndarray], np.ndarray]


def linear_problem(p: int, d: int, rng: int, scale: float = 1.0) -> InverseProblem:
    """Linear problem G(u) = Au with a dense Γ of size ``scale`` and data y = Au†."""
    draw = np.random.default_rng(rng)
    matrix, root = draw.normal(size=(d, p)), 0.3 * draw.normal(size=(d, d))
    noise = scale * (np.eye(d) + root @ root.T)
    truth = draw.normal(size=p)
    return InverseProblem(
        LinearModel(matrix), GaussianPrior(np.zeros(p), 1.0), noise, matrix @ truth
    )


def smooth_problem(p: int, d: int, rng: int) -> tuple[InverseProblem, Derivative]:
    """The model G(u) = tanh(Bu + c) and its derivative."""
    draw = np.random.default_rng(rng)
    matrix, shift = draw.normal(size=(d, p)) / np.sqrt(p), draw.normal(size=d)

    def model(u: np.ndarray) -> np.ndarray:
        return np.tanh(u @ matrix.T + shift)

    def slope(u: np.ndarray) -> np.ndarray:
        return np.asarray((1 - model(u) ** 2)[:, :, None] * matrix)

    data = model(draw.normal(size=p))
    prior = GaussianPrior(np.zeros(p), 1.0)
    return InverseProblem(FunctionModel(model, vectorized=True), prior, 0.1, data), slope


def subspace(problem: InverseProblem, algorithm: Any, rng: int) -> Row:
    """Fewer members than parameters stay in the affine span of the first ensemble."""
    if isinstance(algorithm, Flow):
        kind, result = "flow", integrate(problem, algorithm, t_span=(0, 1), n_members=5, rng=rng)
    else:
        kind, result = "EKI", run(problem, algorithm, n_members=5, n_steps=5, rng=rng)
    shape = "linear" if isinstance(problem.model, LinearModel) else "nonlinear"
    statement = f"subspace property, {shape} G, {kind}"
    return error_row(statement, ITERATIVE, outside(result.u.values), 1e-10)


def approximation(
    rng: int, model: Callable[[int, int, int], tuple[InverseProblem, Derivative]] = smooth_problem
) -> Row:
    """EKI's velocity against −C∇Φ for a nonlinear G, for an ensemble that shrinks to its mean.

    For anomalies e = O(ε), insert the Taylor expansion G(u_k) − Ḡ = DG(u_j) e_k + O(ε²) into
    u̇_j = −(1/J) Σ_k ⟨G(u_k) − Ḡ, G(u_j) − y⟩_Γ e_k. Velocity and −C∇Φ are O(ε²), and their
    difference is O(ε³).
    """
    problem, slope = model(4, 6, rng)
    anomalies = problem.prior.sample(10, rng=rng)
    anomalies -= anomalies.mean(axis=0)
    scales = np.geomspace(1e-4, 1e-2, 7)
    errors = np.array(
        [velocity_error(problem, e, slope(e)) for e in scales[:, None, None] * anomalies]
    )
    relative, absolute = (fit_rate(scales, column) for column in errors.T)
    measured = f"eps^{relative.exponent:.3f}, absolute eps^{absolute.exponent:.3f}"
    share = np.maximum(abs(relative.exponent - 1), abs(absolute.exponent - 3)) / 0.1
    return judged(
        "velocity = -C grad Phi for nonlinear G, spread eps",
        KOVACHKI_STUART,
        "eps^1, absolute eps^3",
        measured,
        share,
    )


def cramer_rao_time(rng: int, flow: Any = None) -> Row:
    """C(t) ⪰ F⁻¹ with F = AᵀΓ⁻¹A holds early in the flow, until a known time.

    Because C(t)⁻¹ = C(0)⁻¹ + 2tF, the statement C(t) ⪰ F⁻¹ is equivalent to C(0)⁻¹ ⪯ (1 − 2t)F,
    that is t ≤ (1 − 1/μ)/2 with the smallest eigenvalue μ of F^{1/2} C(0) F^{1/2}. At t = 1/2 the
    covariance is the posterior covariance (C(0)⁻¹ + F)⁻¹, which is below F⁻¹ because it includes
    the information of the prior.
    """
    problem = linear_problem(4, 20, rng, scale=0.1)
    root, start = _information_root(problem), problem.prior.sample(20, rng=rng)

    def least(x: np.ndarray) -> float:
        cov = covariance(x[: start.size].reshape(start.shape))
        return float(np.linalg.eigvalsh(root.T @ cov @ root)[0])

    def crossing(t: float, x: np.ndarray) -> float:  # noqa: ARG001 - solve_ivp's signature
        return least(x) - 1

    crossing.terminal = True  # type: ignore[attr-defined]  # required by SciPy
    predicted = 0.5 * (1 - 1 / least(start.ravel()))
    result = integrate(problem, flow or EKIFlow(), t_span=(0, 2), ensemble=start, events=crossing)
    t = float(result.t[-1])
    return judged(
        "C(t) >= F^-1 in the linear flow for t <= (1 - 1/mu)/2 alone",
        CRAMER_RAO,
        f"t = {predicted:.6f}",
        f"t = {t:.6f}",
        abs(t - predicted) / 1e-5,
    )


def efficiency(rng: int, noise: Any = None) -> Row:
    """EKI's mean for t → ∞ is the maximum-likelihood estimate with covariance F⁻¹ over data."""
    values, _ = _estimator(rng, noise, h=1e8)
    return error_row(
        "covariance over data of EKI's mean at t = inf is F^-1",
        CRAMER_RAO,
        float(np.max(np.abs(values - 1))),
        1e-5,
    )


def bound(rng: int, h: float = 1e8) -> Row:
    """An unbiased estimate with weights other than Γ⁻¹ has a covariance over data ⪰ F⁻¹.

    With the identity in place of Γ, EKI converges to ordinary least squares. If EKI stops early (a
    finite h), its mean is biased towards that of the initial ensemble, and the bound does not
    apply.
    """
    values, bias = _estimator(rng, 1.0, h)
    return judged(
        "covariance over data >= F^-1 for an unbiased estimate",
        CRAMER_RAO,
        "eigenvalues of F C >= 1",
        f"{values[0]:.4g} to {values[-1]:.4g}, bias {bias:.1g}",
        max(1 - values[0], 0) / 1e-6,
    )


def discrete_to_flow(rng: int, *, perturbed: bool = False) -> Row:
    """The difference of EKI and the flow at one time, for steps h → 0."""
    problem = linear_problem(4, 6, rng)
    start = problem.prior.sample(6, rng=rng)
    # covariances of EKI have 1/(J − 1), those of the flow 1/J
    flow = linear_flow(start, problem.model, problem.data, problem.noise, 6 / 5)[0]
    steps, errors = np.array([0.008, 0.004, 0.002]), []
    for h in steps:
        method = EKI(FixedStep(float(h)), perturbed=perturbed)
        last = run(problem, method, ensemble=start, rng=rng, store="last").u[-1].values
        errors.append(np.linalg.norm(last - flow))
    statement = "discrete EKI to the flow as h to 0"
    return rate_row(
        statement, KOVACHKI_STUART, steps, np.array(errors), 1.0, symbol="h", tolerance=0.1
    )


def posterior_moments(rng: int, t_end: float = 1.0) -> list[Row]:
    """EKI at Σh = 1 with perturbed data: errors of mean and covariance as functions of J."""
    example = linear(p=4, d=6, rng=rng)
    sizes, repeats = np.array([100, 400, 1600, 6400]), 20
    errors = np.zeros((2, len(sizes)))
    mean, cov = example.extra["mean"], example.extra["cov"]
    for i, n in enumerate(sizes):
        for k in range(repeats):
            last = run(
                example.problem,
                EKI(FixedStep(0.5), t_end=t_end),
                n_members=int(n),
                rng=1000 * rng + 100 * i + k,
                store="last",
                evaluate_final=False,
            )
            u = last.u[-1].values
            errors[0, i] += np.sum((u.mean(axis=0) - mean) ** 2) / repeats
            errors[1, i] += np.sum((np.cov(u.T) - cov) ** 2) / repeats
    # a root mean square of 20 runs has an error of 11 %, the slope of 0.04: four standard errors
    return [
        rate_row(
            f"EKI with noise, sum h = 1: {what} to the posterior's",
            ITERATIVE,
            sizes,
            np.sqrt(square),
            -0.5,
            symbol="J",
            tolerance=0.15,
        )
        for what, square in zip(("mean", "covariance"), errors, strict=True)
    ]


def _affine_pair(p: int, rng: int) -> tuple[Mapping, Mapping]:
    draw = np.random.default_rng(rng)
    matrix, shift = draw.normal(size=(p, p)) + 3 * np.eye(p), draw.normal(size=p)
    inverse = np.linalg.inv(matrix)
    return lambda u: u @ matrix + shift, lambda v: (v - shift) @ inverse


def affine_analysis(rng: int, pair: tuple[Mapping, Mapping] | None = None) -> Row:
    """The analysis of a mapped ensemble is the mapped analysis, for any affine bijection."""
    draw = np.random.default_rng(rng)
    u, g, y = draw.normal(size=(8, 3)), draw.normal(size=(8, 5)), draw.normal(size=5)
    there, _ = pair or _affine_pair(3, rng)
    error = np.max(np.abs(kalman_update(there(u), g, y, 0.5) - there(kalman_update(u, g, y, 0.5))))
    return error_row("affine invariance of the analysis", "this package", float(error), 1e-10)


def affine_flow(rng: int, pair: tuple[Mapping, Mapping] | None = None) -> Row:
    """The flow of a mapped ensemble is the mapped flow, also for a nonlinear G."""
    problem, _ = smooth_problem(3, 5, rng)
    there, back = pair or _affine_pair(3, rng)
    mapped = InverseProblem(
        FunctionModel(lambda v: problem.model(back(v)), vectorized=True),
        problem.prior,
        problem.noise,
        problem.data,
    )
    start = problem.prior.sample(8, rng=rng)
    options: dict[str, Any] = {"t_span": (0, 1), "rtol": 1e-10, "atol": 1e-12}
    last = integrate(problem, EKIFlow(), ensemble=start, **options).u[-1].values
    other = integrate(mapped, EKIFlow(), ensemble=there(start), **options).u[-1].values
    error = np.max(np.abs(other - there(last))) / np.max(np.abs(other))
    return error_row("affine invariance of the flow", "this package", float(error), 1e-7)


def momentum_steps(rng: int, fast: Callable[[Method], Method] = Nesterov) -> Row:
    """Steps until the l2 error of the mean is 0.3 of the first, with and without momentum."""
    results, truth = momentum_runs(rng, fast)
    reached = [_first_below(result, truth, result.iteration.values) for result in results]
    return _speed("Nesterov against plain EKI, steps to an error of 0.3", "n", *reached)


def momentum_time(rng: int, fast: Any = None) -> Row:
    """Time until the l2 error of the mean is 0.3 of the first, with and without momentum."""
    results, truth = momentum_flows(rng, fast)
    reached = [_first_below(result, truth, result.t.values) for result in results]
    return _speed("Nesterov's flow against the plain one, time to 0.3", "t", *reached)


def momentum_runs(
    rng: int, fast: Callable[[Method], Method] = Nesterov
) -> tuple[list[Any], np.ndarray]:
    """Deterministic EKI without and with momentum, on an ill-conditioned A, and the truth."""
    problem, truth = _ill_conditioned()
    plain = EKI(FixedStep(10.0), t_end=None, perturbed=False)
    options: dict[str, Any] = {"n_members": 30, "n_steps": 1500, "evaluate_final": False}
    return [run(problem, method, rng=rng, **options) for method in (plain, fast(plain))], truth


def momentum_flows(rng: int, fast: Any = None) -> tuple[list[Any], np.ndarray]:
    """The flows without and with momentum, on an ill-conditioned A, and the truth."""
    problem, truth = _ill_conditioned()
    times = [0.0, *np.geomspace(0.1, 3e4, 500)]
    options: dict[str, Any] = {"t_span": (0, 3e4), "t_eval": times, "method": "LSODA"}
    flows = (EKIFlow(), fast or NesterovFlow())
    return [integrate(problem, flow, n_members=30, rng=rng, **options) for flow in flows], truth


def _speed(statement: str, symbol: str, plain: float, fast: float) -> Row:
    measured = f"{plain / fast:.1f} ({symbol} = {plain:.3g} against {fast:.3g})"
    return judged(statement, MOMENTUM, "ratio > 1", measured, fast / plain)


def _first_below(result: Any, truth: np.ndarray, x: np.ndarray) -> float:
    error = np.linalg.norm(result.u.values.mean(axis=1) - truth, axis=1)
    below = np.flatnonzero(error < 0.3 * error[0])
    return float(x[below[0]]) if below.size else math.inf


def _ill_conditioned() -> tuple[InverseProblem, np.ndarray]:
    matrix, truth = np.diag(np.geomspace(1, 0.02, 6)), np.ones(6)
    prior = GaussianPrior(np.zeros(6), 1.0)
    return InverseProblem(LinearModel(matrix), prior, 1.0, matrix @ truth), truth


def _estimator(rng: int, noise: Any, h: float) -> tuple[np.ndarray, float]:
    """Eigenvalues of F^{1/2} C F^{1/2} and bias of EKI's mean over data y ~ N(Au†, Γ).

    The gain does not depend on the data. The mean is therefore Ly plus a constant, with the
    covariance C = LΓLᵀ and the bias ‖LA − I‖. One step h of EKI is close to the flow at t = h.
    ``noise`` is the Γ that EKI uses.
    """
    problem = linear_problem(3, 6, rng)
    start = problem.prior.sample(10, rng=rng)
    method = EKI(FixedStep(h), t_end=None, perturbed=False)
    means = []
    for y in (np.zeros(6), *np.eye(6)):
        told = InverseProblem(
            problem.model, problem.prior, problem.noise if noise is None else noise, y
        )
        result = run(told, method, ensemble=start, n_steps=1, evaluate_final=False)
        means.append(result.u[-1].values.mean(axis=0))
    gain = np.array(means[1:]) - means[0]  # Lᵀ
    root = np.linalg.inv(problem.noise.whiten(np.eye(6))) @ gain  # Γ^{1/2} Lᵀ
    half = root @ _information_root(problem)
    bias = np.linalg.norm(problem.model(np.eye(3)) @ gain - np.eye(3), 2)
    return np.linalg.eigvalsh(half.T @ half), float(bias)


def _information_root(problem: InverseProblem) -> np.ndarray:
    """Lower L with L Lᵀ = F = AᵀΓ⁻¹A, ``(p, p)``."""
    white = problem.noise.whiten(problem.model(np.eye(problem.n_parameters)))
    return np.linalg.cholesky(white @ white.T)
