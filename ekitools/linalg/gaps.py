r"""Missing outputs: regression on the parameters, and the marginal noise without a datum.

Both fill entries of an ensemble's outputs ``(J, d)``. A regression replaces an output that other
members have. A conditional mean replaces an output that no member has, so that the datum has no
effect in any analysis. The residual r = G − y has known entries r_k and missing entries r_m, and

.. math::
    \min_{r_m} \| \Gamma^{-1/2} (r_k, r_m) \|^2 = r_k^T \Gamma_{kk}^{-1} r_k,

is the misfit under the marginal noise of the known entries [1]_.

References
----------
.. [1] Boyd & Vandenberghe (2004), Convex Optimization, A.5.5 (the Schur complement).
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["conditional_residual", "filled_by_regression"]

_RIDGES = np.geomspace(1e-12, 1e2, 29)
"""Ridges tried, relative to the largest squared singular value."""


def filled_by_regression(g: np.ndarray, features: np.ndarray, *, ridge: bool = True) -> np.ndarray:
    """``g`` with every NaN replaced by a ridge regression on the features.

    Each output is regressed over the members that have it; the ridge minimises the generalised
    cross-validation score. If at most p + 2 members have an output, their mean replaces it.

    Parameters
    ----------
    g : (J, d)
        Outputs; every column has at least one number.
    features : (J, p)
        Parameters, preferably in coordinates in which the prior is N(0, I).
    ridge : bool, default True
        Use False for nodes of a quadrature rule, which are few and have no sampling error. The
        regression then uses least squares, over any number of members.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.linalg.gaps import filled_by_regression
    >>> w = np.arange(6.0)[:, None]
    >>> g = 2 + 3 * w
    >>> g[4] = np.nan
    >>> filled_by_regression(g, w)[4].round(6)
    array([14.])
    """
    filled = np.array(g)
    gaps = np.isnan(g)
    columns = np.flatnonzero(gaps.any(axis=0))
    patterns, which = np.unique(gaps[:, columns], axis=1, return_inverse=True)
    for k, lacking in enumerate(patterns.T):
        alike = columns[which.reshape(-1) == k]
        has = ~lacking
        values = g[np.ix_(has, alike)]
        if not ridge:
            x, centre, mean = features[has], features[has].mean(axis=0), values.mean(axis=0)
            slopes = np.linalg.lstsq(x - centre, values - mean, rcond=1e-8)[0]
            estimate = mean + (features[lacking] - centre) @ slopes
        elif np.count_nonzero(has) > features.shape[1] + 2:
            estimate = _ridge(features[has], values, features[lacking])
        else:
            estimate = np.broadcast_to(values.mean(axis=0), (int(lacking.sum()), len(alike)))
        filled[np.ix_(lacking, alike)] = estimate
    return filled


def _ridge(features: np.ndarray, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Ridge regressions of the columns of ``values``, each with its own ridge, at ``at``."""
    centre, mean = features.mean(axis=0), values.mean(axis=0)
    left, s, right = np.linalg.svd(features - centre, full_matrices=False)
    known = values - mean
    projected = left.T @ known
    beyond = np.sum(known**2, axis=0) - np.sum(projected**2, axis=0)
    shrink = s**2 / (s**2 + _RIDGES[:, None] * max(s[0] ** 2, np.finfo(float).tiny))
    residual = ((1 - shrink) ** 2) @ projected**2 + np.maximum(beyond, 0)
    free = len(features) - 1 - shrink.sum(axis=1)
    best = np.argmin(residual / free[:, None] ** 2, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes = np.where(s > 0, shrink / s, 0)  # s / (s² + ridge)
    return np.asarray(mean + ((at - centre) @ right.T) @ (slopes[best].T * projected))


def conditional_residual(residual: np.ndarray, missing: np.ndarray, noise: Any) -> np.ndarray:
    """Residuals for the ``missing`` entries that leave the misfit of the other entries unchanged.

    Parameters
    ----------
    residual : (J, d)
        G − y, with any value at the missing entries.
    missing : (m,) of int
        The missing entries.
    noise : NoiseModel
        Γ.

    Returns
    -------
    (J, m)
        The residuals r_m that minimise the misfit; all 0 for a diagonal Γ.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> from ekitools.linalg.gaps import conditional_residual
    >>> noise = ek.GaussianNoise([[2.0, 1.0], [1.0, 2.0]])
    >>> conditional_residual(np.array([[1.0, 0.0]]), np.array([1]), noise)
    array([[0.5]])
    """
    known = np.array(residual, dtype=np.float64)
    known[:, missing] = 0
    units = np.zeros((len(missing), known.shape[1]))
    units[np.arange(len(missing)), missing] = 1
    # columns of Γ^{-1/2} that belong to r_m, and Γ^{-1/2} (r_k, 0)
    basis, white = np.asarray(noise.whiten(units)), np.asarray(noise.whiten(known))
    return np.asarray(-np.linalg.solve(basis @ basis.T, basis @ white.T).T)
