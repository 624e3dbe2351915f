"""A linear-Gaussian problem of any size, and its exact posterior."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from ekitools.models import LinearModel
from ekitools.priors import GaussianPrior
from ekitools.problem import InverseProblem
from ekitools.problems import Example
from ekitools.typing import Rng

__all__ = ["gaussian_posterior", "linear"]


def gaussian_posterior(
    matrix: np.ndarray, data: np.ndarray, mean: np.ndarray, cov: np.ndarray, noise_cov: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of u given y = Au + η, for u ~ N(m, C₀), η ~ N(0, Γ).

    In the covariance form m + K(y − Am) and (I − KA)C₀(I − KA)ᵀ + KΓKᵀ (Joseph's, which stays
    symmetric and positive), K = C₀Aᵀ(AC₀Aᵀ + Γ)⁻¹.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.problems._linear import gaussian_posterior
    >>> one = np.eye(1)
    >>> gaussian_posterior(one, np.array([2.0]), np.zeros(1), one, one)
    (array([1.]), array([[0.5]]))
    """
    cross = cov @ matrix.T
    gain = cho_solve(cho_factor(matrix @ cross + noise_cov), cross.T).T
    rest = np.eye(len(mean)) - gain @ matrix
    posterior = rest @ cov @ rest.T + gain @ noise_cov @ gain.T
    return mean + gain @ (data - matrix @ mean), posterior


def linear(p: int = 10, d: int = 20, *, noise: float = 0.1, rng: Rng = 0) -> Example:
    """A random linear-Gaussian problem: y = Au† + η with u† ~ N(0, I), A of unit scale.

    Parameters
    ----------
    p, d : int
        Numbers of parameters and data.
    noise : float, default 0.1
        Variance of η.
    rng : None, int or numpy.random.Generator
        Source of A, u† and η.

    Returns
    -------
    Example
        ``extra["mean"]`` and ``extra["cov"]`` are the exact posterior's.

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.problems.linear(p=2, d=3).problem.model.shape
    (3, 2)
    """
    rng = np.random.default_rng(rng)
    matrix = rng.standard_normal((d, p)) / np.sqrt(p)
    truth = rng.standard_normal(p)
    data = matrix @ truth + np.sqrt(noise) * rng.standard_normal(d)
    problem = InverseProblem(LinearModel(matrix), GaussianPrior(np.zeros(p), 1.0), noise, data)
    mean, cov = gaussian_posterior(matrix, data, np.zeros(p), np.eye(p), noise * np.eye(d))
    return _example(problem, truth, mean, cov)


def _example(
    problem: InverseProblem, truth: Any, mean: np.ndarray, cov: np.ndarray, **known: Any
) -> Example:
    spread = np.sqrt(np.diag(cov))
    names = problem.parameter_names or ()
    pairs = zip(mean.tolist(), spread.tolist(), strict=True)
    return Example(
        problem,
        reference=dict(zip(names, pairs, strict=True)),
        truth=truth,
        x=known.pop("x", None),
        groups=None,
        extra={"mean": mean, "cov": cov, **known},
    )
