"""Linear systems with a Gram matrix plus a ridge, and the accuracy of their solutions."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from array_api_compat import is_torch_namespace

from ekitools.core.arrays import array_namespace, device, finfo, is_numpy
from ekitools.core.fetching import fetched
from ekitools.typing import Array

__all__ = [
    "Accuracy",
    "Solution",
    "accuracy",
    "check_finite",
    "is_accurate",
    "loses_digits",
    "solve_spd",
    "solved",
]

_LOSS = 1e-9
"""Largest error of an update due to a Gram matrix, relative to the ensemble's spread."""


class Solution(NamedTuple):
    """Solution of a linear system with a Gram matrix plus a ridge."""

    rows: Array
    """``rows @ inv(gram + ridge I)``."""
    pivots: Array
    """The squared diagonal of the Cholesky factor; zeros if the factorization failed."""


def solve_spd(gram: np.ndarray, ridge: float, rows: np.ndarray) -> np.ndarray:
    """``rows @ inv(gram + ridge I)`` for a positive semi-definite Gram matrix."""
    return np.asarray(solved(gram, ridge, rows).rows)


def solved(gram: Array, ridge: Any, rows: Array) -> Solution:
    """``rows @ inv(gram + ridge I)`` and the pivots, computed on the device of the arrays.

    ``ridge`` is a float, or a number on the device of the arrays.
    """
    if not is_numpy(gram):
        return _solved_on_device(gram, ridge, rows)
    check_finite(np.sum(gram))
    system = gram.copy()
    system.flat[:: gram.shape[0] + 1] += ridge
    # NumPy's LAPACK: alternating with SciPy's BLAS would make two thread pools compete
    try:
        factor = np.linalg.cholesky(system)  # success: positive definite, and solving is safe
        solution = np.asarray(np.linalg.solve(system, rows.T).T)
        return Solution(solution, np.diagonal(factor) ** 2)
    except np.linalg.LinAlgError:  # rounding errors of the Gram matrix exceed the ridge
        values, vectors = np.linalg.eigh(gram)
        solution = ((rows @ vectors) / (np.maximum(values, 0) + ridge)) @ vectors.T
        return Solution(np.asarray(solution), np.zeros(len(values)))


def _solved_on_device(gram: Array, ridge: Any, rows: Array) -> Solution:
    """A solution on the device; its pivots are not positive if the factorization failed."""
    xp = array_namespace(gram)
    n = int(gram.shape[0])
    if is_torch_namespace(xp):  # torch.linalg.cholesky would synchronize with the device
        system = gram.clone()
        system.diagonal().add_(ridge)
        factor, failed = xp.linalg.cholesky_ex(system)
        solution = xp.cholesky_solve(rows.T, factor).T
        pivots = xp.linalg.diagonal(factor) ** 2
        return Solution(solution, xp.where(failed > 0, xp.zeros_like(pivots), pivots))
    system = gram + ridge * xp.eye(n, dtype=gram.dtype, device=device(gram))
    try:
        factor = xp.linalg.cholesky(system)
        solution = xp.matrix_transpose(xp.linalg.solve(system, xp.matrix_transpose(rows)))
    except Exception:  # the array API does not name the exception for a singular matrix
        return Solution(rows, xp.zeros(n, dtype=gram.dtype, device=device(gram)))
    # a library that ignores the failure may return negative numbers there
    root = xp.linalg.diagonal(factor)
    return Solution(solution, xp.where(root > 0, root**2, xp.zeros_like(root)))


class Accuracy(NamedTuple):
    """Numbers that bound the error of a solution, on the device of the solution."""

    total: Any
    """Sum of the Gram matrix; not finite after an overflow."""
    size: Any
    """‖FFᵀ‖ in the Frobenius norm."""
    longest: Any
    """Length of the longest row of the solution, an estimate of ‖K‖."""
    smallest: Any
    """Estimate of λ, or of √λ."""


def accuracy(gram: Array, rows: Array, pivots: Array, *, root: bool = False) -> Accuracy:
    """The accuracy of a solution with FFᵀ or FᵀF, not yet fetched from a device.

    An error δ of the Gram matrix, of size ε‖FFᵀ‖, causes the error −Kδ(FFᵀ + cI)⁻¹ in the
    coefficients K = B(FFᵀ + cI)⁻¹. This error is at most ε‖K‖‖FFᵀ‖/λ, where λ is the smallest
    eigenvalue of FFᵀ + cI. The smallest pivot of the Cholesky factor estimates λ. ``root`` selects
    the error of Δ(FᵀF + cI)⁻¹Fᵀ, which has √λ in place of λ.
    """
    # columns of F sum to zero: the smallest pivot of FFᵀ is of the vector of ones, which K maps
    # to 0
    if is_numpy(gram):
        smallest = np.sqrt(np.min(pivots)) if root else np.partition(pivots, 1)[1]
        longest = np.sqrt(np.max(np.sum(rows * rows, axis=1)))
        return Accuracy(0.0, np.linalg.norm(gram), longest, smallest)
    xp = array_namespace(gram)
    smallest = xp.sqrt(xp.min(pivots)) if root else xp.sort(pivots)[1]
    longest = xp.sqrt(xp.max(xp.sum(rows * rows, axis=1)))
    return Accuracy(xp.sum(gram), xp.linalg.matrix_norm(gram), longest, smallest)


def loses_digits(found: Accuracy, g: Array) -> bool:
    """Whether rounding in FFᵀ or FᵀF may change the update by more than `_LOSS` of the spread.

    The numbers cross from a device in one transfer, which also detects an overflow.
    """
    numbers = Accuracy(*fetched(*found))
    check_finite(numbers.total)
    return not is_accurate(numbers, g)


def is_accurate(numbers: Accuracy, g: Array) -> bool:
    """Whether the error of an update is within the bound, from numbers on the host.

    The rounding unit is that of the outputs ``g``. After an overflow the update is not accurate.
    """
    eps = float(finfo(g).eps)
    error = eps * float(numbers.size) * float(numbers.longest)  # times λ
    return bool(np.isfinite(numbers.total) and error <= max(_LOSS, 100 * eps) * numbers.smallest)


def check_finite(total: Any) -> None:
    """Check the sum of a Gram matrix, or the matrix itself, for an overflow.

    Raises
    ------
    ValueError
        If it is not finite.
    """
    if not np.isfinite(total).all():
        raise ValueError(
            "g: must be small enough for the squares of its whitened anomalies to be finite in "
            "its dtype, got an overflow. Rescale the outputs, or use float64."
        )
