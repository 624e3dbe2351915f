r"""Log-likelihood of every datum, for leave-one-out checks.

For independent noise it is log N(y_i; g_i, sd_i²). For correlated noise it is the density of a
datum given all others, with Λ = Γ⁻¹ and α = Λ(y − g) [1]_:

.. math:: \log p(y_i \mid y_{-i}, u) =
          \tfrac12 \log \Lambda_{ii} - \tfrac12 \log 2\pi - \tfrac12 \alpha_i^2 / \Lambda_{ii}.

References
----------
.. [1] Bürkner, Gabry & Vehtari (2021), Computational Statistics 36, 1243-1261, eq. 14.
"""

from __future__ import annotations

import numpy as np

from ekitools.typing import NoiseModel

__all__ = ["pointwise_log_likelihood"]

_BLOCK = 256
"""Unit vectors that are whitened at a time."""


def pointwise_log_likelihood(g: np.ndarray, y: np.ndarray, noise: NoiseModel) -> np.ndarray:
    """Log-density of each datum given the parameters and the other data.

    Parameters
    ----------
    g : (..., d)
        Outputs.
    y : (d,)
        The data.
    noise : NoiseModel
        Γ.

    Returns
    -------
    (..., d)

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> from ekitools.results.pointwise import pointwise_log_likelihood
    >>> pointwise_log_likelihood(np.zeros((1, 1)), np.ones(1), ek.GaussianNoise(1.0)).round(4)
    array([[-1.4189]])
    """
    alpha = -np.asarray(noise.gradient(g, y))  # ∇_z Φ = Λ(z − y)
    precision = _diagonal(noise, y.size)
    return np.asarray(0.5 * (np.log(precision / (2 * np.pi)) - alpha**2 / precision))


def _diagonal(noise: NoiseModel, d: int) -> np.ndarray:
    """The diagonal of Λ: squared lengths of Γ^{-1/2} e_i."""
    if noise.n_data is None:
        return np.broadcast_to(1 / np.asarray(noise.sd, dtype=np.float64) ** 2, (d,))
    found = np.empty(d)
    for start in range(0, d, _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, d))
        units = np.zeros((rows.size, d))
        units[np.arange(rows.size), rows] = 1
        found[rows] = np.sum(np.asarray(noise.whiten(units)) ** 2, axis=1)
    return found
