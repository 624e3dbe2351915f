"""Gaussian priors."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import solve_triangular

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
from ekitools.priors.base import check_points
from ekitools.typing import Array, Rng

__all__ = ["GaussianPrior"]


_BLOCK_BYTES = 1 << 22
"""Bytes of one block of draws."""


class GaussianPrior:
    r"""A Gaussian prior N(m, C₀); physical and unconstrained coordinates are the same.

    Parameters
    ----------
    mean : float or (p,)
        Mean m; a single number is the mean of all parameters. Draws have the dtype of ``mean``:
        use float32 for ensembles that fill the memory.
    cov : float, (p,) or (p, p)
        Covariance C₀: one variance, p variances, or a dense symmetric positive definite
        matrix. Variances never become a matrix.

    Attributes
    ----------
    mean : (p,) ndarray
        m.
    cov : ndarray
        C₀ as given.

    Raises
    ------
    TypeError, ValueError
        If sizes disagree or C₀ is not finite, symmetric and positive definite.

    See Also
    --------
    Prior : Named parameters with distributions of scipy.stats.
    JointPrior : Several priors side by side.

    Examples
    --------
    >>> import ekitools as ek
    >>> prior = ek.GaussianPrior([0.0, 1.0], [1.0, 4.0])
    >>> prior.sample(3, rng=0).shape
    (3, 2)
    >>> float(prior.logpdf([0.0, 1.0]).round(6))  # -log(2 π) - log(2)
    -2.531024
    """

    names: tuple[str, ...] | None = None

    def __init__(self, mean: Any, cov: Any) -> None:
        mean = as_real("mean", mean, ndim=(0, 1)).copy()
        cov = as_real("cov", cov, ndim=(0, 1, 2)).copy()
        sizes = {a.shape[0] for a in (mean, cov) if a.ndim}
        if len(sizes) > 1:
            raise ValueError(
                f"mean, cov: must have as many entries as cov has rows, got shapes {mean.shape} "
                f"and {cov.shape}."
            )
        p = sizes.pop() if sizes else 1
        if p == 0:
            raise ValueError(f"mean: must not be empty, got shape {mean.shape}.")
        if cov.ndim == 2:
            self._root = checked_cholesky("cov", cov)
        elif np.any(cov <= 0):
            raise ValueError(
                f"cov: variances must be positive, got {float(np.min(cov)):.6g}. A known "
                "parameter belongs in the model as a constant."
            )
        else:
            self._root = np.broadcast_to(np.sqrt(cov), (p,)).copy()
        self.mean = np.broadcast_to(mean, (p,)).copy()
        self.cov = cov
        for array in (self.mean, self.cov, self._root):
            array.flags.writeable = False

    def __repr__(self) -> str:
        kind = ("scalar", "diagonal", "dense")[self.cov.ndim]
        return f"GaussianPrior(p={self.n_parameters}, {kind} covariance)"

    @property
    def n_parameters(self) -> int:
        """Number of parameters p."""
        return int(self.mean.shape[0])

    @property
    def constrained(self) -> bool:
        """Whether physical and unconstrained coordinates differ: False for this prior."""
        return False

    def sample(self, n: int, *, rng: Rng = None) -> np.ndarray:
        """``n`` draws, ``(n, p)``.

        Examples
        --------
        >>> import ekitools as ek
        >>> ek.GaussianPrior(100.0, [1e-12]).sample(1, rng=0).round(3)
        array([[100.]])
        """
        return self.sample_unconstrained(n, rng=rng)

    def sample_unconstrained(self, n: int, *, rng: Rng = None) -> np.ndarray:
        """``n`` draws, ``(n, p)``: the same as `sample`."""
        n, rng, p = integer("n", n), as_rng(rng), self.n_parameters
        u = np.empty((n, p), dtype=self.mean.dtype)
        rows = max(1, _BLOCK_BYTES // (8 * p))  # in one block: the ensemble may fill the memory
        for i in range(0, n, rows):
            block = u[i : i + rows]
            block[...] = self.unwhiten(rng.standard_normal(block.shape))
        return u

    def logpdf(self, u: Any) -> np.ndarray:
        """Log-density at ``(p,)`` or ``(n, p)``."""
        u = check_points(u, self.n_parameters)
        white = self.whiten(u)
        constant = 0.5 * self.n_parameters * np.log(2 * np.pi) + self._log_volume()
        return np.asarray(-0.5 * (white * white).sum(axis=-1) - constant)

    def _log_volume(self) -> float:
        """Logarithm of the determinant of C₀^{1/2}."""
        diagonal = self._root if self._root.ndim == 1 else np.diag(self._root)
        return float(np.log(diagonal).sum())

    def to_physical(self, z: Array) -> Array:
        """The same array: the parameters have no bounds."""
        check_array("z", z, last=self.n_parameters)
        return z

    def to_unconstrained(self, u: Array) -> Array:
        """The same array: the parameters have no bounds."""
        check_array("u", u, last=self.n_parameters)
        return u

    def whiten(self, z: Array) -> Array:
        """C₀^{-1/2}(z − m) along the last axis: N(0, I) under the prior.

        Examples
        --------
        >>> import numpy as np
        >>> import ekitools as ek
        >>> ek.GaussianPrior([1.0, 1.0], 4.0).whiten(np.array([[3.0, 1.0]]))
        array([[1., 0.]])
        """
        check_array("z", z, last=self.n_parameters)
        centred = z - like(self.mean, z)
        if self._root.ndim == 1:
            return centred / like(self._root, z)
        if is_numpy(z):
            rows = centred.reshape(-1, self.n_parameters)
            root = self._root.astype(rows.dtype, copy=False)
            white = solve_triangular(root, rows.T, lower=True, check_finite=False)
            return np.ascontiguousarray(white.T).reshape(z.shape)
        xp = array_namespace(z)
        white = xp.linalg.solve(like(self._root, z), xp.matrix_transpose(centred))
        return xp.matrix_transpose(white)

    def unwhiten(self, w: Array) -> Array:
        """Inverse of `whiten`: m + C₀^{1/2} w along the last axis.

        Examples
        --------
        >>> import numpy as np
        >>> import ekitools as ek
        >>> ek.GaussianPrior([1.0, 1.0], 4.0).unwhiten(np.array([[1.0, 0.0]]))
        array([[3., 1.]])
        """
        check_array("w", w, last=self.n_parameters)
        root = like(self._root, w)
        return like(self.mean, w) + (w * root if root.ndim == 1 else w @ root.T)

    def fingerprint(self) -> str:
        """A short text that changes whenever the distribution does."""
        return digest("GaussianPrior", self.mean, self.cov)
