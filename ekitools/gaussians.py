r"""A Gaussian fitted to an ensemble: the standard normal but for a few directions.

In coordinates in which the prior is N(0, I) the data usually inform a few directions only.
The fit is N(m, I + V(S² − I)Vᵀ): the sample's own variance s_k² where it differs from 1 by more
than the noise of J samples explains (the Marchenko–Pastur range), and 1 elsewhere. It costs
O(J p min(J, p)) and never forms a p × p matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Gaussian", "fit_gaussian"]


@dataclass(frozen=True, eq=False)
class Gaussian:
    """N(m, I + V(S² − I)Vᵀ).

    Parameters
    ----------
    mean : (p,)
        m.
    basis : (k, p)
        Orthonormal rows Vᵀ.
    sd : (k,)
        Standard deviations along them; 1 in every other direction.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.gaussians import Gaussian
    >>> gaussian = Gaussian(np.zeros(2), np.eye(2)[:1], np.array([3.0]))
    >>> gaussian.unwhiten(np.ones((1, 2)))
    array([[3., 1.]])
    >>> float(gaussian.log_density(np.zeros((1, 2)))[0].round(6))  # but for (2π)^(-p/2)
    -1.098612
    """

    mean: np.ndarray
    basis: np.ndarray
    sd: np.ndarray

    def spread(self, x: np.ndarray) -> np.ndarray:
        """Rows times the symmetric root of the covariance."""
        return x + ((x @ self.basis.T) * (self.sd - 1)) @ self.basis

    def unwhiten(self, x: np.ndarray) -> np.ndarray:
        """Draws, from standard normal rows."""
        return self.mean + self.spread(x)

    def whiten(self, x: np.ndarray) -> np.ndarray:
        """The inverse of `unwhiten`."""
        centred = x - self.mean
        return np.asarray(centred + ((centred @ self.basis.T) * (1 / self.sd - 1)) @ self.basis)

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Of rows, without the (2π)^{-p/2}."""
        white = self.whiten(x)
        return np.asarray(-0.5 * np.sum(white * white, axis=1) - np.sum(np.log(self.sd)))


def fit_gaussian(
    x: np.ndarray, weights: np.ndarray | None = None, *, inflation: float = 1.0
) -> Gaussian:
    """The Gaussian of an ensemble ``(J, p)``, its standard deviations times ``inflation``.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.gaussians import fit_gaussian
    >>> x = np.random.default_rng(0).normal(size=(10_000, 3)) * [0.1, 1.0, 1.0]
    >>> fit_gaussian(x).sd.round(3)
    array([0.1])
    """
    n = len(x)
    shares = np.full(n, 1 / n) if weights is None else weights / np.sum(weights)
    mean = shares @ x
    rows = np.sqrt(shares / max(1 - np.sum(shares**2), 1e-12))[:, None] * (x - mean)
    _, s, basis = np.linalg.svd(rows, full_matrices=False)
    ratio = np.sqrt(x.shape[1] * np.sum(shares**2))  # √(p / effective J)
    known = (s > 1e-8) & ((s < abs(1 - ratio)) | (s > 1 + ratio))
    return Gaussian(mean, basis[known], inflation * s[known])
