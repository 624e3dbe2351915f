"""The predictive distribution of G(u) + η: a mixture over the members."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

__all__ = ["crps_of_members", "predictive_cdf", "predictive_quantiles"]

_MOST_STEPS = 100
"""Most steps of the root search. Bisections alone need 40. A Newton step is at most half as long as
the previous step."""

_COLUMNS = 4096
"""Data in one block of a sort, which avoids a second ensemble in memory."""

_ROOT_2PI = np.sqrt(2 * np.pi)


def predictive_cdf(
    z: np.ndarray, g: np.ndarray, sd: np.ndarray, weight: np.ndarray | None = None
) -> np.ndarray:
    """Distribution function of G(u) + η at ``z``: Σ_j w_j Φ((z − g_j)/sd).

    Parameters
    ----------
    z : (d,)
        Points at which the function is evaluated.
    g : (J, d)
        Outputs, all finite.
    sd : (d,)
        Standard deviations of η.
    weight : (J,), optional
        Weights w, which need not be normalised; equal by default.

    Returns
    -------
    (d,)
        Probabilities between 0 and 1.
    """
    return np.asarray(np.average(ndtr((z - g) / sd), axis=0, weights=weight))


def crps_of_members(y: np.ndarray, g: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """CRPS of the weighted members as a forecast of every datum: E|X − y| − ½E|X − X'|.

    Let the outputs of a datum be sorted, and let W_j be the sum of the weights up to member j. Then
    ½E|X − X'| = Σ_j w_j g_j (2W_j − w_j − 1). This formula needs a sort instead of all pairs.

    Parameters
    ----------
    y : (d,)
        The data.
    g : (J, d)
        Outputs, all finite, without noise.
    weight : (J,)
        Weights w ≥ 0 with the sum 1.

    Returns
    -------
    (d,)
        Scores in the units of the data, not negative; |g − y| for one member.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.results.predictive import crps_of_members
    >>> crps_of_members(np.array([0.0]), np.array([[-1.0], [1.0]]), np.array([0.5, 0.5]))
    array([0.5])
    """
    found = np.empty(y.size)
    for start in range(0, y.size, _COLUMNS):
        columns = slice(start, start + _COLUMNS)
        residual = g[:, columns] - y[columns]  # avoids rounding errors of large outputs
        order = np.argsort(residual, axis=0)
        w, ranked = weight[order], np.take_along_axis(residual, order, axis=0)
        pairs = np.sum(w * ranked * (2 * np.cumsum(w, axis=0) - w - 1), axis=0)
        found[columns] = weight @ np.abs(residual) - pairs
    return np.maximum(found, 0.0)


def predictive_quantiles(
    levels: Any, g: np.ndarray, sd: np.ndarray, weight: np.ndarray | None = None
) -> np.ndarray:
    """Quantiles of G(u) + η, without sampling.

    `predictive_cdf` is inverted by Newton's method. A Newton step is replaced by a bisection if the
    step leaves the bracket or is longer than half the previous step (Press et al. 2007, Numerical
    Recipes, section 9.4). The quantile of a mixture lies between the smallest and the largest
    quantile of its components, min_j g_j + sd Φ⁻¹(level) and max_j g_j + sd Φ⁻¹(level).

    Parameters
    ----------
    levels : (q,)
        Probabilities within (0, 1).
    g : (J, d)
        Outputs, all finite.
    sd : (d,)
        Standard deviations of η.
    weight : (J,), optional
        Weights, which need not be normalised; equal by default.

    Returns
    -------
    (q, d)
        Quantiles, accurate to about 1e-12 of the range of the outputs.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.results.predictive import predictive_quantiles
    >>> predictive_quantiles([0.5, 0.975], np.array([[1.0]]), np.array([2.0])).round(2)
    array([[1.  ],
           [4.92]])
    """
    g_low, g_high = g.min(axis=0), g.max(axis=0)
    ends = ((g_low + sd * ndtri(level), g_high + sd * ndtri(level)) for level in levels)
    found = [
        _inverted(level, low, high, g, sd, weight)
        for level, (low, high) in zip(levels, ends, strict=True)
    ]
    return np.array(found)


def _inverted(
    level: float,
    low: np.ndarray,
    high: np.ndarray,
    g: np.ndarray,
    sd: np.ndarray,
    weight: np.ndarray | None,
) -> np.ndarray:
    """Points between ``low`` and ``high`` at which the distribution function is ``level``."""
    z, step, enough = 0.5 * (low + high), high - low, 1e-12 * (high - low)
    for _ in range(_MOST_STEPS):
        t = (z - g) / sd
        excess = np.average(ndtr(t), axis=0, weights=weight) - level
        density = np.average(np.exp(-0.5 * t * t), axis=0, weights=weight) / (_ROOT_2PI * sd)
        low, high = np.where(excess > 0, low, z), np.where(excess > 0, z, high)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            newton = z - excess / density
            length = np.abs(newton - z)
            good = (low <= newton) & (newton <= high) & (length < 0.5 * np.abs(step))
            good |= length <= enough  # at the root: shorter steps are rounding errors
        following = np.where(good, newton, 0.5 * (low + high))
        step, z = following - z, following
        if np.all(np.abs(step) <= enough):
            break
    return z
