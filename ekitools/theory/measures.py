"""Quantities of the theorems on an ensemble: span, derivative, velocity, covariance."""

from __future__ import annotations

import numpy as np

from ekitools.flows.right_hand_sides import EKIFlow, Output
from ekitools.models.evaluate import evaluate
from ekitools.problem import InverseProblem

__all__ = [
    "covariance",
    "covariance_rate_error",
    "derivative",
    "outputs",
    "outside",
    "velocity_error",
]


def outputs(problem: InverseProblem, u: np.ndarray) -> np.ndarray:
    """G at every member, ``(J, d)``."""
    return np.asarray(evaluate(problem.model, u, problem.n_data).g)


def outside(u: np.ndarray) -> float:
    """Relative distance of ensembles ``(n, J, p)`` from the affine span of the first."""
    mean = u[0].mean(axis=0)
    _, s, rows = np.linalg.svd(u[0] - mean, full_matrices=False)
    basis = rows[s > 1e-10 * s[0]]
    move = u - mean
    return float(np.max(np.abs(move - move @ basis.T @ basis)) / np.max(np.abs(move)))


def covariance(u: np.ndarray) -> np.ndarray:
    """Covariance C(u) with 1/J, ``(p, p)``."""
    anomalies = u - u.mean(axis=0)
    return np.asarray(anomalies.T @ anomalies / len(u))


def derivative(problem: InverseProblem, u: np.ndarray) -> np.ndarray:
    """Derivative DG at every member by central differences, ``(J, d, p)``."""
    columns = []
    for i, h in enumerate(1e-5 * np.maximum(np.abs(u).max(axis=0), 1)):
        shift = h * np.eye(u.shape[1])[i]
        columns.append((outputs(problem, u + shift) - outputs(problem, u - shift)) / (2 * h))
    return np.stack(columns, axis=2)


def velocity_error(problem: InverseProblem, u: np.ndarray, slope: np.ndarray) -> tuple[float, ...]:
    """Relative and absolute error of EKI's velocity against −C ∇Φ(u_j), DG ``(J, d, p)``."""
    velocity, gradient = _velocity(problem, u)
    natural = -np.einsum("jdp,jd->jp", slope, gradient) @ covariance(u)
    error = float(np.max(np.abs(velocity - natural)))
    return error / float(np.max(np.abs(natural))), error


def covariance_rate_error(problem: InverseProblem, u: np.ndarray) -> float:
    """Relative error of Ċ, from EKI's velocity, against −2CMC with M = DGᵀΓ⁻¹DG at the mean."""
    velocity, _ = _velocity(problem, u)
    half = u.T @ (velocity - velocity.mean(axis=0)) / len(u)
    slope = derivative(problem, u.mean(axis=0, keepdims=True))[0]
    white = problem.noise.whiten(covariance(u) @ slope.T)
    predicted = -2 * white @ white.T
    return float(np.max(np.abs(half + half.T - predicted)) / np.max(np.abs(predicted)))


def _velocity(problem: InverseProblem, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """EKI's velocity and ∇_zΨ at every member."""
    g = outputs(problem, u)
    out = Output(g, problem.noise.gradient(g, problem.data))
    return EKIFlow().acceleration(0.0, u, out, problem), out.gradient
