"""Forms of a covariance Γ: how vectors are whitened by it without its inverse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from scipy.linalg import cho_solve, solve_triangular

from ekitools.core.arrays import array_namespace, as_real, checked_cholesky, is_numpy, placed
from ekitools.losses.markov import Markov
from ekitools.typing import Array

__all__ = [
    "Dense",
    "Diagonal",
    "Form",
    "LowRank",
    "Stack",
    "checked_sd",
    "form_of_covariance",
    "stacked",
]


class Form(Protocol):
    """One way to whiten by Γ = W⁻¹W⁻ᵀ. Vectors are the last axis of arrays of any kind."""

    @property
    def sd(self) -> np.ndarray:
        """√Γ_ii, ``(d,)``, or 0-d where one variance serves any d."""
        ...

    def whiten(self, r: Array) -> Array:
        """W r."""
        ...

    def precision(self, r: Array) -> Array:
        """Γ⁻¹ r = WᵀW r."""
        ...

    def sample(self, n: int, d: int, rng: np.random.Generator) -> np.ndarray:
        """``n`` draws from N(0, Γ), ``(n, d)``."""
        ...


@dataclass(frozen=True)
class Diagonal:
    """Variances: whitening is one multiplication."""

    sd: np.ndarray
    scale: np.ndarray

    def whiten(self, r: Array) -> Array:
        """W r."""
        return r * placed(self.scale, r)

    def precision(self, r: Array) -> Array:
        """Γ⁻¹ r."""
        return r * placed(self._inverse, r)

    @cached_property
    def _inverse(self) -> np.ndarray:
        """1/Γ_ii."""
        return np.asarray(self.scale**2)

    def sample(self, n: int, d: int, rng: np.random.Generator) -> np.ndarray:
        """Draws, ``(n, d)``."""
        return rng.standard_normal((n, d)) * self.sd


@dataclass(frozen=True)
class Dense:
    """A matrix by its Cholesky factor: whitening is one substitution."""

    sd: np.ndarray
    lower: np.ndarray

    def whiten(self, r: Array) -> Array:
        """W r."""
        if is_numpy(r):
            lower = self.lower.astype(r.dtype, copy=False)
            columns = r.reshape(-1, r.shape[-1]).T
            # not checked for finiteness: a failed member's NaN row stays a NaN row
            white = solve_triangular(lower, columns, lower=True, check_finite=False)
            return np.ascontiguousarray(white.T).reshape(r.shape)
        return _solve(self.lower, r)

    def precision(self, r: Array) -> Array:
        """Γ⁻¹ r."""
        if is_numpy(r):
            lower = self.lower.astype(r.dtype, copy=False)
            columns = r.reshape(-1, r.shape[-1]).T
            return cho_solve((lower, True), columns, check_finite=False).T.reshape(r.shape)
        return _solve(self.lower, _solve(self.lower, r), transposed=True)

    def sample(self, n: int, d: int, rng: np.random.Generator) -> np.ndarray:
        """Draws, ``(n, d)``."""
        return rng.standard_normal((n, d)) @ self.lower.T


@dataclass(frozen=True)
class LowRank:
    """diag + factor factorᵀ by its symmetric root, which is never formed."""

    sd: np.ndarray
    root: np.ndarray  # D^{1/2}, (d,)
    basis: np.ndarray  # Q, (d, k)
    shrink: np.ndarray  # (1 + s²)^{-1/2} − 1, (k,)
    factor: np.ndarray

    def whiten(self, r: Array) -> Array:
        """W r."""
        return self._half(r / placed(self.root, r))

    def precision(self, r: Array) -> Array:
        """Γ⁻¹ r."""
        root = placed(self.root, r)
        return self._half(self._half(r / root)) / root

    def sample(self, n: int, d: int, rng: np.random.Generator) -> np.ndarray:
        """Draws, ``(n, d)``."""
        k = self.factor.shape[1]
        return rng.standard_normal((n, d)) * self.root + rng.standard_normal((n, k)) @ self.factor.T

    def _half(self, r: Array) -> Array:
        basis = placed(self.basis, r)
        return r + ((r @ basis) * placed(self.shrink, r)) @ basis.T


@dataclass(frozen=True)
class Stack:
    """B dense blocks of k data each: whitening is one product of stacks ``(B, k, k)``.

    The Cholesky factors are inverted, once and by substitution: for blocks as small as these a
    product costs a fraction of B calls of a solver, with array-API arrays of every kind.
    """

    sd: np.ndarray
    lower: np.ndarray  # (B, k, k)
    root: np.ndarray  # its inverse W

    def whiten(self, r: Array) -> Array:
        """W r."""
        return _each(r, placed(self.root, r))

    def precision(self, r: Array) -> Array:
        """Γ⁻¹ r."""
        root = placed(self.root, r)
        return _each(_each(r, root), array_namespace(root).matrix_transpose(root))

    def sample(self, n: int, d: int, rng: np.random.Generator) -> np.ndarray:
        """Draws, ``(n, d)``."""
        return np.asarray(_each(rng.standard_normal((n, d)), self.lower))


def stacked(blocks: Sequence[Dense]) -> Stack:
    """Dense blocks of one size as a stack."""
    lower = np.stack([block.lower for block in blocks])
    root = np.zeros_like(lower)
    for i, unit in enumerate(np.eye(lower.shape[1], dtype=lower.dtype)):
        known = (lower[:, i : i + 1, :i] @ root[:, :i])[:, 0]
        root[:, i] = (unit - known) / lower[:, i, i, None]
    return Stack(np.concatenate([block.sd for block in blocks]), lower, root)


def _each(r: Array, matrices: Array) -> Array:
    """Block b of the last axis of ``r`` times matrix b."""
    xp = array_namespace(r)
    count, size = matrices.shape[:2]
    rows = xp.permute_dims(xp.reshape(r, (-1, count, size)), (1, 0, 2))
    product = rows @ xp.matrix_transpose(matrices)
    return xp.reshape(xp.permute_dims(product, (1, 0, 2)), r.shape)


def form_of_covariance(cov: Any) -> Form:
    """The form of a covariance as `ekitools.GaussianNoise` takes it."""
    if isinstance(cov, Markov):
        return cov
    if isinstance(cov, tuple):
        return _low_rank(cov)
    cov = as_real("cov", cov, ndim=(0, 1, 2))
    return _dense(cov) if cov.ndim == 2 else _diagonal("cov", cov)


def checked_sd(name: str, sd: Any) -> np.ndarray:
    """Positive standard deviations, one or ``(d,)``, whose squares are positive and finite."""
    found = as_real(name, sd, ndim=(0, 1))
    if found.size == 0:
        raise ValueError(f"{name}: must not be empty, got shape {found.shape}.")
    with np.errstate(over="ignore", under="ignore"):
        squares = found**2
    usable = (found > 0) & (squares > 0) & np.isfinite(squares)
    if not usable.all():
        raise ValueError(
            f"{name}: must be positive, with squares that are positive and finite, got "
            f"{found[~usable].flat[0]:.6g}. Rescale the data where their noise is that small or "
            "large."
        )
    return found


def _solve(matrix: np.ndarray, r: Array, *, transposed: bool = False) -> Array:
    xp, there = array_namespace(r), placed(matrix, r)
    there = xp.matrix_transpose(there) if transposed else there
    flat = xp.reshape(r, (-1, r.shape[-1]))
    solved = xp.linalg.solve(there, xp.matrix_transpose(flat))
    return xp.reshape(xp.matrix_transpose(solved), r.shape)


def _diagonal(name: str, variances: np.ndarray) -> Diagonal:
    if variances.size == 0:
        raise ValueError(f"{name}: must not be empty, got shape {variances.shape}.")
    if np.any(variances <= 0):
        raise ValueError(
            f"{name}: variances must be positive, got {float(np.min(variances)):.6g}. "
            "A datum without noise needs a small variance instead."
        )
    sd = np.sqrt(variances)
    return Diagonal(sd, 1 / sd)


def _dense(cov: np.ndarray) -> Dense:
    if cov.shape[0] != cov.shape[1]:
        raise ValueError(
            f"cov: must be a square matrix, got shape {cov.shape}. For one variance for each datum "
            "of an image pass cov.ravel()."
        )
    return Dense(np.sqrt(np.abs(np.diag(cov))), checked_cholesky("cov", cov))


def _low_rank(cov: tuple[Any, ...]) -> LowRank:
    if len(cov) != 2:
        raise ValueError(f"cov: a tuple must be the pair (diag, factor), got {len(cov)} entries.")
    diag = as_real("cov[0] (diag)", cov[0], ndim=(1,))
    factor = as_real("cov[1] (factor)", cov[1], ndim=(2,))
    root = _diagonal("cov[0] (diag)", diag).sd
    if factor.shape[0] != diag.shape[0]:
        raise ValueError(
            f"cov: factor must have as many rows as diag has entries ({diag.shape[0]}), "
            f"got shape {factor.shape}."
        )
    basis, s, _ = np.linalg.svd(factor / root[:, None], full_matrices=False)
    shrink = 1 / np.hypot(1, s) - 1
    return LowRank(np.sqrt(diag + np.sum(factor**2, axis=1)), root, basis, shrink, factor)


# the names in pickles of version 0.1.0
_Diagonal, _Dense, _LowRank = Diagonal, Dense, LowRank
