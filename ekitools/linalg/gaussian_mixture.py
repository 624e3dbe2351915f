r"""Mixtures of Gaussians, fitted to weighted samples by expectation maximisation.

A single Gaussian is a poor proposal for a sample with several modes or with a curved mode. The
number of Gaussians minimises the Bayesian information criterion [1]_.

References
----------
.. [1] Fraley & Raftery (2002), J. Am. Stat. Assoc. 97, 611-631.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

__all__ = ["GaussianMixture", "fit_mixture"]

_NUMBERS = (2, 3, 4, 6, 8)
"""Numbers of Gaussians that are tried, in addition to one."""

_STARTS, _STEPS = 2, 60
_FLOOR = 1e-4
"""Smallest variance of a Gaussian, as a share of the variance of the whole sample along the same
direction. Copies of one particle would have zero variance."""


class GaussianMixture(NamedTuple):
    """Shares ``(k,)``, means ``(k, p)`` and covariances ``(k, p, p)``."""

    shares: np.ndarray
    means: np.ndarray
    covariances: np.ndarray

    def log_densities(self, x: np.ndarray) -> np.ndarray:
        """Log densities of the Gaussians times their shares at rows ``(n, p)``, ``(n, k)``."""
        found = np.empty((len(x), len(self.shares)))
        for k, (share, mean, cov) in enumerate(zip(*self, strict=True)):
            root = np.linalg.cholesky(cov)
            white = np.linalg.solve(root, (x - mean).T)
            size = np.sum(np.log(2 * np.pi * np.diag(root) ** 2))
            found[:, k] = np.log(share) - 0.5 * (np.sum(white * white, axis=0) + size)
        return found


def fit_mixture(x: np.ndarray, weight: np.ndarray, rng: np.random.Generator) -> GaussianMixture:
    """Fit a mixture of 1 to 8 Gaussians to a weighted sample.

    Every Gaussian has at least 3 p + 5 effective rows, so the mixture of a small sample has few
    Gaussians.

    Parameters
    ----------
    x : (n, p)
        The sample. Equal rows count as one, with the sum of their weights.
    weight : (n,)
        Weights. They are not negative and sum to 1.
    rng : numpy.random.Generator
        Chooses the rows that are the initial means of the Gaussians.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.linalg.gaussian_mixture import fit_mixture
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(np.repeat([-3.0, 3.0], 200), 0.5)[:, None]
    >>> found = fit_mixture(x, np.full(400, 1 / 400), rng)
    >>> len(found.shares), np.sort(found.means[:, 0]).round(1)
    (2, array([-3.,  3.]))
    """
    x, rows = np.unique(x, axis=0, return_inverse=True)
    weight = np.bincount(rows.ravel(), weight, len(x))
    x, weight = x[weight > 0], weight[weight > 0]
    n, p = 1 / float(weight @ weight), x.shape[1]
    mean, scale, basis = _principal(x, weight)
    if len(scale) < p:  # all rows in a plane: fit one Gaussian
        whole = (weight[:, None] * (x - mean)).T @ (x - mean)
        return GaussianMixture(np.ones(1), mean[None], whole[None])
    z = (x - mean) @ basis / scale
    best, least = None, np.inf
    for k in (1, *_NUMBERS):
        if k > 1 and k * (3 * p + 5) > n:
            break
        for _ in range(_STARTS if k > 1 else 1):
            found = _fitted(z, weight, k, rng)
            level = float(weight @ logsumexp(found.log_densities(z), axis=1))
            numbers = k * (1 + p + p * (p + 1) / 2) - 1
            criterion = numbers * np.log(n) - 2 * n * level
            if best is None or criterion < least:
                best, least = found, criterion
    assert best is not None
    back = (basis * scale).T
    return GaussianMixture(best.shares, mean + best.means @ back, back.T @ best.covariances @ back)


def _principal(x: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, nonzero standard deviations, and the principal directions as columns."""
    mean = weight @ x
    _, s, rows = np.linalg.svd(np.sqrt(weight)[:, None] * (x - mean), full_matrices=False)
    known = s > 1e-9 * max(float(s[0]), 1e-300)
    return mean, s[known], rows[known].T


def _fitted(z: np.ndarray, weight: np.ndarray, k: int, rng: np.random.Generator) -> GaussianMixture:
    """Fit a mixture of k Gaussians to a sample with covariance I."""
    p = z.shape[1]
    centres = z[[rng.choice(len(z), p=weight)]]
    while len(centres) < k:  # far from each other, as in k-means++
        gaps = np.min(np.sum((z[:, None] - centres) ** 2, axis=2), axis=1) * weight
        centres = np.concatenate([centres, z[[rng.choice(len(z), p=gaps / gaps.sum())]]])
    near = np.argmin(np.sum((z[:, None] - centres) ** 2, axis=2), axis=1)
    parts, before = np.eye(k)[near], -np.inf
    for _ in range(_STEPS):
        mixture = _maximised(z, weight[:, None] * parts, p)
        logs = mixture.log_densities(z)
        total = logsumexp(logs, axis=1)
        level, parts = float(weight @ total), np.exp(logs - total[:, None])
        if level - before < 1e-4:
            break
        before = level
    return mixture


def _maximised(z: np.ndarray, parts: np.ndarray, p: int) -> GaussianMixture:
    """Shares, means and covariances for given responsibilities ``(n, k)``."""
    shares = np.maximum(parts.sum(axis=0), 1e-12)
    means = (parts.T @ z) / shares[:, None]
    covariances = np.empty((len(shares), p, p))
    for k, (share, mean) in enumerate(zip(shares, means, strict=True)):
        centred = z - mean
        covariances[k] = (parts[:, k, None] * centred).T @ centred / share + _FLOOR * np.eye(p)
    return GaussianMixture(shares / shares.sum(), means, covariances)
