r"""Sigma points of a Gaussian, the linear map through their outputs, and its Gaussian update.

The nodes of N(m, LLᵀ) are m + L z_i, with the centre z_0 = 0 and off-centre points that satisfy
w Σ_i z_i z_iᵀ = I and Σ_i z_i = 0 [1]_. Outputs at the nodes give a linear map r ≈ b + zF
(statistical linear regression [2]_). With Ĉ = (1 + h)C, the noise (1 + h)/h I and the prior N(0, I)
as data with the noise (1 + h)/h I, one Kalman update is

.. math::
    m \leftarrow m - h L \Omega (F b + L^T m), \quad
    L \leftarrow \sqrt{1 + h}\, L \Omega^{1/2}, \quad
    \Omega = (I + h \{F F^T + L^T L\})^{-1}.

For a linear map its only fixed point is the posterior, for every h > 0.

References
----------
.. [1] Julier & Uhlmann (2004), Proceedings of the IEEE 92, 401-422.
.. [2] García-Fernández, Svensson, Morelande & Särkkä (2015), IEEE Trans. Signal Process. 63,
   5561-5573.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = [
    "LinearFit",
    "exact_draws",
    "gaussian_update",
    "linear_fit",
    "simplex_points",
    "symmetric_points",
]

_RANK = 1e-8
"""Singular values of the nodes below this share of the largest one count as zero."""


class LinearFit(NamedTuple):
    """The linear map through the outputs of nodes, r ≈ centre + z slopes."""

    centre: np.ndarray
    """b, ``(d,)``."""
    slopes: np.ndarray
    """F, ``(p, d)``."""
    rank: int
    """Number of directions that the nodes with outputs span; F is zero in all others."""


def symmetric_points(p: int) -> np.ndarray:
    """The centre and a pair on each axis, ``(2p + 1, p)``, at the distance 2.

    Examples
    --------
    >>> from ekitools.linalg.quadrature import symmetric_points
    >>> symmetric_points(1).tolist()
    [[0.0], [2.0], [-2.0]]
    """
    axes = 2.0 * np.eye(p)
    return np.concatenate([np.zeros((1, p)), axes, -axes])


def simplex_points(p: int) -> np.ndarray:
    """The centre and the corners of a regular simplex, ``(p + 2, p)``, at the distance 2.

    Examples
    --------
    >>> from ekitools.linalg.quadrature import simplex_points
    >>> (simplex_points(1) ** 2).round(12).tolist()
    [[0.0], [4.0], [4.0]]
    """
    corners = np.zeros((p + 1, p))
    for i in range(1, p + 1):
        side = 1 / np.sqrt(p / (4 * (p + 1)) * i * (i + 1))
        corners[:i, i - 1], corners[i, i - 1] = side, -i * side
    return np.concatenate([np.zeros((1, p)), corners])


def exact_draws(n: int, p: int, rng: np.random.Generator) -> np.ndarray:
    """Draws of N(0, I), ``(n, p)``, with the sample mean 0 and, for n > p, the sample covariance I.

    An affine map sets the moments [1]_.

    References
    ----------
    .. [1] Pham (2001), Monthly Weather Review 129, 1194-1207.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.linalg.quadrature import exact_draws
    >>> x = exact_draws(100, 2, np.random.default_rng(0))
    >>> bool(np.allclose(x.mean(axis=0), 0)), bool(np.allclose(np.cov(x.T), np.eye(2)))
    (True, True)
    """
    x = rng.standard_normal((n, p))
    x -= x.mean(axis=0)
    if n <= p:
        return x
    left, _, right = np.linalg.svd(x, full_matrices=False)
    return np.asarray(np.sqrt(n - 1) * left @ right)


def linear_fit(z: np.ndarray, r: np.ndarray, *, through_centre: bool) -> LinearFit:
    """The linear map through outputs ``(J, d)`` at nodes ``(J, p)``, by least squares.

    Rows of NaN are left out. The map is exact for a linear model as long as the other nodes span
    all directions. In a direction that they do not span, the slope is zero.

    Parameters
    ----------
    z : (J, p)
        Nodes in standard coordinates, with the centre first.
    r : (J, d)
        Outputs.
    through_centre : bool
        Whether the map has the output of the centre at 0, if that output is known. Otherwise it is
        the least-squares map of all nodes. Its value at 0 is then the mean output of a full set of
        nodes.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.linalg.quadrature import linear_fit, symmetric_points
    >>> z = symmetric_points(2)
    >>> r = 3.0 + z @ [[1.0], [2.0]]
    >>> r[1] = np.nan
    >>> fit = linear_fit(z, r, through_centre=True)
    >>> fit.centre.round(12), fit.slopes.ravel().round(12), fit.rank
    (array([3.]), array([1., 2.]), 2)
    """
    known = np.isfinite(r).all(axis=1)
    off = known.copy()
    off[0] = False
    if through_centre and known[0]:
        centre, origin, rows = r[0], np.zeros(z.shape[1]), off
    else:
        centre, origin, rows = r[known].mean(axis=0), z[known].mean(axis=0), known
    slopes, _, rank, _ = np.linalg.lstsq(z[rows] - origin, r[rows] - centre, rcond=_RANK)
    return LinearFit(centre - origin @ slopes, slopes, int(rank))


def gaussian_update(
    mean: np.ndarray, root: np.ndarray, fit: LinearFit, h: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One update of N(m, LLᵀ), in coordinates in which the prior is N(0, I).

    The update acts on the root of the covariance, so the covariance stays symmetric and positive.

    Parameters
    ----------
    mean, root : (p,), (p, p)
        m and L.
    fit : LinearFit
        Linear map of the whitened residuals Γ^{-1/2}(G(u) − y).
    h : float
        Step, h > 0.

    Returns
    -------
    (p,), (p, p), (p,)
        The new m and L, and the move of the mean in the new standard deviations, L⁻¹Δm.

    Notes
    -----
    One update costs O(d p² + p³). The d data enter only one QR factorisation.

    Examples
    --------
    One parameter observed directly, with the datum 2 and the noise variance 1. The posterior is
    N(1, 1/2):

    >>> import numpy as np
    >>> from ekitools.linalg.quadrature import gaussian_update, linear_fit, symmetric_points
    >>> mean, root, z = np.zeros(1), np.eye(1), symmetric_points(1)
    >>> for _ in range(60):
    ...     r = mean + z @ root.T - 2.0
    ...     mean, root, _ = gaussian_update(mean, root, linear_fit(z, r, through_centre=True), 1.0)
    >>> float(mean[0].round(12)), float((root[0, 0] ** 2).round(12))
    (1.0, 0.5)
    """
    p = len(mean)
    # the same inner products of F and b, in at most p + 1 coordinates
    both = np.asarray(np.linalg.qr(np.column_stack([fit.slopes.T, fit.centre]), mode="r"))
    # A = [Fᵀ; L] has AᵀA = FFᵀ + LᵀL
    map_of_all = np.concatenate([both[:, :p], root])
    residual = np.concatenate([both[:, p], mean])
    left, s, right = np.linalg.svd(map_of_all, full_matrices=False)
    factor = np.sqrt(1 + h) / np.hypot(1, np.sqrt(h) * s)  # {(1 + h)/(1 + h s²)}^{1/2}
    # L⁻¹Δm = −h Ω Aᵀρ for the old L; for the new root L factor, half of Ω cancels
    scores = -h * s / (np.hypot(1, np.sqrt(h) * s) * np.sqrt(1 + h)) * (left.T @ residual)
    new_root = root @ ((right.T * factor) @ right)
    return mean + root @ (right.T @ (factor * scores)), new_root, right.T @ scores
