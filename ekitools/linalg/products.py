"""Products with an ensemble's anomalies, in time and memory of the arrays that they read."""

from __future__ import annotations

import math

import numpy as np

from ekitools.core.arrays import array_namespace, host, is_numpy, is_updatable, like
from ekitools.linalg.columns import centred, columns_of, combine, shifted_blocks, times_anomalies
from ekitools.typing import Array

__all__ = [
    "anomaly_products",
    "combine_anomalies",
    "covariance_product",
    "d_norm",
    "frobenius",
    "frobenius_there",
    "gaussian_draws",
    "moved",
    "squared_deviations",
    "total_variance",
    "total_variance_there",
]


def total_variance(u: Array) -> float:
    """Trace of the ensemble covariance, 1/(J − 1), without a copy of the ensemble.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.linalg import total_variance
    >>> total_variance(np.array([[0.0, 1.0], [2.0, 1.0]]))
    2.0
    """
    if is_updatable(u):
        return u.total_variance()
    if not is_numpy(u):
        return float(host(total_variance_there(u)))
    return squared_deviations(u) / (u.shape[0] - 1)


def total_variance_there(u: Array) -> Array:
    """`total_variance` as an array without axes on the device of ``u``, not yet fetched.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.linalg.products import total_variance_there
    >>> total_variance_there(np.array([[0.0, 1.0], [2.0, 1.0]]))
    array(2.)
    """
    if is_updatable(u) or is_numpy(u):
        return np.asarray(total_variance(u))
    xp = array_namespace(u)
    shifted = u - u[:1, :]  # equal members give exactly zero
    between = xp.sum(xp.sum(shifted, axis=0) ** 2) / u.shape[0]
    lengths = xp.linalg.vector_norm(shifted, axis=1)  # without an array of the squares
    return (xp.sum(lengths * lengths) - between) / (u.shape[0] - 1)


def squared_deviations(u: Array, total: float = 0.0) -> float:
    """Sum of the squared deviations of all members from ū, added to ``total``.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.linalg.products import squared_deviations
    >>> squared_deviations(np.array([[0.0, 1.0], [2.0, 1.0]]))
    2.0
    """
    xp = array_namespace(u)
    for c in columns_of(u):
        shifted = u[:, c] - u[:1, c]  # equal members give exactly zero
        total -= float(xp.sum(xp.sum(shifted, axis=0) ** 2)) / u.shape[0]
        shifted *= shifted
        total += float(xp.sum(shifted))
    return total


def covariance_product(u: Array, *pairs: tuple[Array, Array], factor: float = 1.0) -> Array:
    """Σ R (G − Ḡ)ᵀ (U − ū) / J over the pairs (R, G): cross-covariances applied to rows.

    For one pair row j is C^{uw} r_j, with the covariance normalised by 1/J. No covariance is
    formed: the products go through ``(J, J)`` or ``(d, p)``, whichever is cheaper.

    Parameters
    ----------
    u : (J, p)
        Ensemble.
    *pairs : ((J, d), (J, d))
        R and G, all with the J rows of ``u``.
    factor : float, default 1
        What the sum is multiplied by.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.linalg import covariance_product
    >>> u = np.array([[-1.0], [1.0]])
    >>> covariance_product(u, (np.array([[1.0], [2.0]]), 3 * u))
    array([[3.],
           [6.]])
    """
    n, factor = u.shape[0], factor / u.shape[0]
    if 2 * sum(g.shape[1] for _, g in pairs) < n:  # two thin products are cheaper
        xp = array_namespace(u)
        rows = xp.concat([r for r, _ in pairs], axis=1) * factor
        shifted = xp.concat([g - g[-1:, :] for _, g in pairs], axis=1)  # without an offset's digits
        return times_anomalies(u, rows, shifted - xp.mean(shifted, axis=0, keepdims=True))
    weights = anomaly_products(*pairs[0])
    for rows, g in pairs[1:]:
        weights = weights + anomaly_products(rows, g)
    return combine_anomalies(weights * factor, u)


def anomaly_products(rows: Array, g: Array) -> Array:
    """R (G − Ḡ)ᵀ, ``(n, J)``, without a copy of ``g``: ``(n, d)`` and ``(J, d)``.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.linalg import anomaly_products
    >>> anomaly_products(np.array([[2.0]]), np.array([[1.0], [3.0]]))
    array([[-2.,  2.]])
    """
    products: Array = 0.0
    for c, shifted in shifted_blocks(g):
        products = products + rows[:, c] @ shifted.T
    return centred(products)


def frobenius(d: Array) -> float:
    """‖D‖ in the Frobenius norm, also where squares of its entries overflow.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.linalg import frobenius
    >>> round(frobenius(np.array([[3e200, 4e200]])) / 1e200, 12)
    5.0
    """
    if not is_numpy(d):
        return float(host(frobenius_there(d)))
    xp = array_namespace(d)
    largest = float(xp.max(xp.abs(d)))
    if not 0 < largest < math.inf:
        return largest
    return largest * float(xp.linalg.matrix_norm(d / largest))


def frobenius_there(d: Array) -> Array:
    """`frobenius` as an array without axes on the device of ``d``, not yet fetched.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.linalg.products import frobenius_there
    >>> frobenius_there(np.array([[3.0, 4.0]]))
    array(5.)
    """
    if is_numpy(d):
        return np.asarray(frobenius(d))
    xp = array_namespace(d)
    largest = xp.max(xp.abs(d))
    usable = xp.logical_and(largest > 0, xp.isfinite(largest))
    unit = xp.where(usable, largest, xp.ones_like(largest))
    return xp.where(usable, unit * xp.linalg.matrix_norm(d / unit), largest)


def d_norm(gradient: Array, g: Array) -> float:
    """‖D‖ of D_jk = ⟨G_k − Ḡ, ∇Ψ_j⟩ / J; for whitened residuals r it is ``d_norm(r, r)``.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.linalg import d_norm
    >>> round(d_norm(np.array([[1.0], [3.0]]), np.array([[1.0], [3.0]])), 6)
    2.236068
    """
    return frobenius(anomaly_products(gradient, g) / g.shape[0])


def combine_anomalies(weights: Array, u: Array) -> Array:
    """Weights times U − ū, ``(n, p)``, without a copy of ``u``: ``(n, J)`` and ``(J, p)``.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.linalg import combine_anomalies
    >>> combine_anomalies(np.array([[1.0, 0.0]]), np.array([[1.0], [3.0]]))
    array([[-1.]])
    """
    return times_anomalies(u, centred(weights))


def moved(u: Array, weights: Array, *, in_place: bool = False) -> Array:
    """U + W(U − ū), ``(J, p)``, without a further copy of ``u``: W is ``(J, J)``.

    With ``in_place`` a NumPy array ``u`` is overwritten, in column blocks.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.linalg import moved
    >>> moved(np.array([[1.0], [3.0]]), np.array([[1.0, 0.0], [0.0, 0.0]])).ravel()
    array([0., 3.])
    """
    return combine(u, centred(weights), out=u if in_place else None)


def gaussian_draws(u: Array, white: np.ndarray) -> Array:
    """Draws from the Gaussian with the ensemble's mean and covariance: ū + zE/√(J − 1).

    Parameters
    ----------
    u : (J, p)
        Ensemble.
    white : (n, J) ndarray
        z, standard normal numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.linalg import gaussian_draws
    >>> gaussian_draws(np.array([[0.0, 1.0], [2.0, 1.0]]), np.array([[1.0, -1.0]]))
    array([[-1.,  1.]])
    """
    mean = array_namespace(u).mean(u, axis=0, keepdims=True)
    return mean + like(white / np.sqrt(u.shape[0] - 1), u) @ (u - mean)
