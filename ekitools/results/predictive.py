"""The predictive distribution of G(u) + η: a mixture over the members."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

__all__ = ["predictive_cdf", "predictive_quantiles"]


def predictive_cdf(
    z: np.ndarray, g: np.ndarray, sd: np.ndarray, weight: np.ndarray | None = None
) -> np.ndarray:
    """Distribution function of G(u) + η at ``z``: Σ_j w_j Φ((z − g_j)/sd).

    Parameters
    ----------
    z : (d,)
        Where.
    g : (J, d)
        Outputs, all finite.
    sd : (d,)
        Standard deviations of η.
    weight : (J,), optional
        w, here not necessarily normalised; by default the same for all.

    Returns
    -------
    (d,)
        Between 0 and 1.
    """
    return np.asarray(np.average(ndtr((z - g) / sd), axis=0, weights=weight))


def predictive_quantiles(
    levels: Any, g: np.ndarray, sd: np.ndarray, weight: np.ndarray | None = None
) -> np.ndarray:
    """Quantiles of G(u) + η, without any sampling.

    `predictive_cdf` is inverted by bisection. The quantile of a mixture lies between the
    smallest and the largest quantile of its components, min_j g_j + sd Φ⁻¹(level) and
    max_j g_j + sd Φ⁻¹(level).

    Parameters
    ----------
    levels : (q,)
        Probabilities within (0, 1).
    g, sd, weight
        As in `predictive_cdf`.

    Returns
    -------
    (q, d)
        To about 1e-12 of the range of the outputs.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.results.predictive import predictive_quantiles
    >>> predictive_quantiles([0.5, 0.975], np.array([[1.0]]), np.array([2.0])).round(2)
    array([[1.  ],
           [4.92]])
    """
    quantiles = []
    for level in levels:
        low, high = (end + sd * ndtri(level) for end in (g.min(axis=0), g.max(axis=0)))
        for _ in range(40):
            middle = 0.5 * (low + high)
            above = predictive_cdf(middle, g, sd, weight) > level
            low, high = np.where(above, low, middle), np.where(above, middle, high)
        quantiles.append(0.5 * (low + high))
    return np.array(quantiles)
