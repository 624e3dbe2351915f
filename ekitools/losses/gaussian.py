"""Gaussian observation noise, known through its whitening map and never through an inverse."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from scipy.linalg import cho_solve, solve_triangular

from ekitools.core.arrays import (
    array_namespace,
    as_real,
    as_rng,
    check_array,
    checked_cholesky,
    digest,
    is_numpy,
    like,
)
from ekitools.core.checks import integer
from ekitools.losses.base import checked_data
from ekitools.typing import Array, Loss, NoiseModel, Rng

__all__ = ["GaussianNoise", "as_loss", "as_noise"]

_CONTRACT = ("misfit", "gradient", "fingerprint", "n_data", "sd", "whiten", "sample")
"""The parts of a `NoiseModel`."""


@dataclass(frozen=True, eq=False)
class GaussianNoise:
    r"""Observation noise η ~ N(0, Γ).

    Parameters
    ----------
    cov : float, (d,), (d, d) or (diag, factor)
        Γ in data units squared: one variance for every datum, d variances, a dense
        symmetric positive definite matrix, or the pair ``((d,), (d, k))`` that stands for
        ``diag(diag) + factor @ factor.T`` and is never formed.

    Raises
    ------
    TypeError, ValueError
        If Γ is not real, finite, symmetric and positive definite.

    Notes
    -----
    ``whiten`` applies W with WᵀW = Γ⁻¹: 1/sd for variances, the inverse Cholesky factor by
    substitution for a dense Γ, and for D + BBᵀ the symmetric root
    (I + Q((1 + s²)^{-1/2} − 1)Qᵀ) D^{-1/2} with the thin SVD D^{-1/2}B = Q s Vᵀ, which
    costs O(dk) a vector.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> noise = ek.GaussianNoise([4.0, 9.0])
    >>> noise.whiten(np.array([2.0, 3.0]))
    array([1., 1.])
    >>> float(noise.misfit(np.array([2.0, 3.0]), np.zeros(2)))
    1.0
    """

    cov: Any
    outputs_per_sample: ClassVar[int] = 1
    _form: _Diagonal | _Dense | _LowRank = field(init=False, repr=False)

    def __post_init__(self) -> None:
        form: _Diagonal | _Dense | _LowRank
        if isinstance(self.cov, tuple):
            form = _low_rank(self.cov)
        else:
            cov = as_real("cov", self.cov, ndim=(0, 1, 2))
            form = _dense(cov) if cov.ndim == 2 else _diagonal("cov", cov)
        object.__setattr__(self, "_form", form)

    @property
    def n_data(self) -> int | None:
        """Number of data d, or None where one variance serves any d."""
        return None if self.scale is not None and self.scale.ndim == 0 else int(self.sd.shape[0])

    @property
    def sd(self) -> np.ndarray:
        """Marginal standard deviations √Γ_ii: ``(d,)``, or 0-d for a scalar Γ."""
        return self._form.sd

    @property
    def scale(self) -> np.ndarray | None:
        """1/sd where Γ is diagonal, so that whitening is one multiplication; else None."""
        return self._form.scale if isinstance(self._form, _Diagonal) else None

    def whiten(self, r: Array) -> Array:
        """Γ^{-1/2} r along the last axis.

        Parameters
        ----------
        r : (..., d)
            Vectors in data units, of any array-API kind.

        Returns
        -------
        (..., d)
            Dimensionless vectors with ``whiten(r) · whiten(s) = rᵀ Γ⁻¹ s``.

        Examples
        --------
        >>> import numpy as np
        >>> import ekitools as ek
        >>> ek.GaussianNoise([[4.0, 0.0], [0.0, 1.0]]).whiten(np.array([[2.0, 3.0]]))
        array([[1., 3.]])
        """
        check_array("r", r, last=self.n_data)
        return self._form.whiten(r)

    def misfit(self, z: Array, y: Array) -> Array:
        """Φ = ½ ‖Γ^{-1/2}(z − y)‖² along the last axis: ``(..., d)`` to ``(...)``.

        Examples
        --------
        >>> import numpy as np
        >>> import ekitools as ek
        >>> ek.GaussianNoise(2.0).misfit(np.array([[2.0, 0.0]]), np.zeros(2))
        array([1.])
        """
        white = self.whiten(z - checked_data(y, z, last=self.n_data))
        return 0.5 * array_namespace(white).sum(white * white, axis=-1)

    def gradient(self, z: Array, y: Array) -> Array:
        """∇_z Φ = Γ⁻¹(z − y), along the last axis.

        Examples
        --------
        >>> import numpy as np
        >>> import ekitools as ek
        >>> ek.GaussianNoise(2.0).gradient(np.array([2.0, 0.0]), np.zeros(2))
        array([1., 0.])
        """
        r = z - checked_data(y, z, last=self.n_data)
        return self._form.precision(r)

    def curvature_product(self, z: Array, y: Array, f: Array) -> Array:
        """∇²_z Φ f = Γ⁻¹ f, along the last axis, whatever z and y.

        Examples
        --------
        >>> import numpy as np
        >>> import ekitools as ek
        >>> ek.GaussianNoise(2.0).curvature_product(np.zeros(2), np.zeros(2), np.array([2.0, 0.0]))
        array([1., 0.])
        """
        checked_data(y, z, f, last=self.n_data)
        return self._form.precision(f)

    def sample(self, n: int, *, rng: Rng = None, n_data: int | None = None) -> np.ndarray:
        """``n`` draws of η, ``(n, d)``.

        Parameters
        ----------
        n : int
            Number of draws, at least 1.
        rng : None, int or numpy.random.Generator
            Source of randomness.
        n_data : int, optional
            d; needed only where Γ is one scalar variance.

        Examples
        --------
        >>> import ekitools as ek
        >>> ek.GaussianNoise([1.0, 4.0]).sample(3, rng=0).shape
        (3, 2)
        """
        n = integer("n", n)
        d = self.n_data if n_data is None else integer("n_data", n_data)
        if d is None:
            raise ValueError("n_data: must be given to sample from one scalar variance.")
        if self.n_data not in (None, d):
            raise ValueError(f"n_data: must be {self.n_data}, the size of cov, got {d}.")
        return self._form.sample(n, d, as_rng(rng))

    def fingerprint(self) -> str:
        """A short text that changes whenever Γ does."""
        return digest(*self.cov) if isinstance(self.cov, tuple) else digest(np.asarray(self.cov))


def as_noise(noise: Any) -> NoiseModel:
    """``noise`` where it is a `NoiseModel`, else the `GaussianNoise` of that covariance.

    Raises
    ------
    TypeError
        If it can whiten but lacks another part of the contract: it would be taken for a loss.
    """
    if isinstance(noise, type):
        raise TypeError(f"noise: must be a noise model, got the class {noise.__name__} itself.")
    if isinstance(noise, NoiseModel):
        return noise
    if hasattr(noise, "whiten"):
        missing = [part for part in _CONTRACT if not hasattr(noise, part)]
        raise TypeError(
            f"noise: must have {', '.join(missing)} too (see ekitools.typing.NoiseModel), got "
            f"{type(noise).__name__}, which has whiten. Add what is missing."
        )
    try:
        return GaussianNoise(noise)
    except (TypeError, ValueError) as error:  # the argument has another name here
        raise type(error)(re.sub(r"\bcov\b", "noise", str(error))) from None


def as_loss(noise: Any) -> Loss:
    """``noise`` where it is a `Loss`, else what `as_noise` makes of it."""
    if isinstance(noise, Loss) and not isinstance(noise, type) and not hasattr(noise, "whiten"):
        return noise
    return as_noise(noise)


@dataclass(frozen=True)
class _Diagonal:
    sd: np.ndarray
    scale: np.ndarray

    def whiten(self, r: Array) -> Array:
        return r * like(self.scale, r)

    def precision(self, r: Array) -> Array:
        return r * like(self.scale**2, r)

    def sample(self, n: int, d: int, rng: np.random.Generator) -> np.ndarray:
        return rng.standard_normal((n, d)) * self.sd


@dataclass(frozen=True)
class _Dense:
    sd: np.ndarray
    lower: np.ndarray

    def whiten(self, r: Array) -> Array:
        if is_numpy(r):
            lower = self.lower.astype(r.dtype, copy=False)
            columns = r.reshape(-1, r.shape[-1]).T
            # not checked for finiteness: a failed member's NaN row stays a NaN row
            white = solve_triangular(lower, columns, lower=True, check_finite=False)
            return np.ascontiguousarray(white.T).reshape(r.shape)
        return _solve(self.lower, r)

    def precision(self, r: Array) -> Array:
        if is_numpy(r):
            lower = self.lower.astype(r.dtype, copy=False)
            columns = r.reshape(-1, r.shape[-1]).T
            return cho_solve((lower, True), columns, check_finite=False).T.reshape(r.shape)
        return _solve(self.lower.T, _solve(self.lower, r))

    def sample(self, n: int, d: int, rng: np.random.Generator) -> np.ndarray:
        return rng.standard_normal((n, d)) @ self.lower.T


@dataclass(frozen=True)
class _LowRank:
    sd: np.ndarray
    root: np.ndarray  # D^{1/2}, (d,)
    basis: np.ndarray  # Q, (d, k)
    shrink: np.ndarray  # (1 + s²)^{-1/2} − 1, (k,)
    factor: np.ndarray

    def whiten(self, r: Array) -> Array:
        return self._half(r / like(self.root, r))

    def precision(self, r: Array) -> Array:
        root = like(self.root, r)
        return self._half(self._half(r / root)) / root

    def sample(self, n: int, d: int, rng: np.random.Generator) -> np.ndarray:
        k = self.factor.shape[1]
        return rng.standard_normal((n, d)) * self.root + rng.standard_normal((n, k)) @ self.factor.T

    def _half(self, r: Array) -> Array:
        basis = like(self.basis, r)
        return r + ((r @ basis) * like(self.shrink, r)) @ basis.T


def _solve(matrix: np.ndarray, r: Array) -> Array:
    xp = array_namespace(r)
    flat = xp.reshape(r, (-1, r.shape[-1]))
    solved = xp.linalg.solve(like(matrix, r), xp.matrix_transpose(flat))
    return xp.reshape(xp.matrix_transpose(solved), r.shape)


def _diagonal(name: str, variances: np.ndarray) -> _Diagonal:
    if variances.size == 0:
        raise ValueError(f"{name}: must not be empty, got shape {variances.shape}.")
    if np.any(variances <= 0):
        raise ValueError(
            f"{name}: variances must be positive, got {float(np.min(variances)):.6g}. "
            "A datum without noise needs a small variance instead."
        )
    sd = np.sqrt(variances)
    return _Diagonal(sd, 1 / sd)


def _dense(cov: np.ndarray) -> _Dense:
    if cov.shape[0] != cov.shape[1]:
        raise ValueError(
            f"cov: must be a square matrix, got shape {cov.shape}. For one variance for each datum "
            "of an image pass cov.ravel()."
        )
    return _Dense(np.sqrt(np.abs(np.diag(cov))), checked_cholesky("cov", cov))


def _low_rank(cov: tuple[Any, ...]) -> _LowRank:
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
    return _LowRank(np.sqrt(diag + np.sum(factor**2, axis=1)), root, basis, shrink, factor)
