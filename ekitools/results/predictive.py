"""The predictive distribution of G(u) + η: a mixture over the members."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

__all__ = ["crps_of_members", "predictive_cdf", "predictive_quantiles"]

_MOST_STEPS = 100
"""Bisections alone need 40, and every other step halves the length of the one before."""

_COLUMNS = 4096
"""Data that are sorted at once, so that no second ensemble is in memory."""

_ROOT_2PI = np.sqrt(2 * np.pi)


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


def crps_of_members(y: np.ndarray, g: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """CRPS of the weighted members as a forecast of every datum: E|X − y| − ½E|X − X'|.

    With the outputs of a datum in order, and W the sum of the weights up to a member,
    ½E|X − X'| = Σ_j w_j g_j (2W_j − w_j − 1). This costs a sort instead of all pairs.

    Parameters
    ----------
    y : (d,)
        The data.
    g : (J, d)
        Outputs, all finite, without noise.
    weight : (J,)
        w ≥ 0, which add up to 1.

    Returns
    -------
    (d,)
        In the units of the data, not negative; |g − y| for one member.

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
        residual = g[:, columns] - y[columns]  # the differences of large numbers stay exact
        order = np.argsort(residual, axis=0)
        w, ranked = weight[order], np.take_along_axis(residual, order, axis=0)
        pairs = np.sum(w * ranked * (2 * np.cumsum(w, axis=0) - w - 1), axis=0)
        found[columns] = weight @ np.abs(residual) - pairs
    return np.maximum(found, 0.0)


def predictive_quantiles(
    levels: Any, g: np.ndarray, sd: np.ndarray, weight: np.ndarray | None = None
) -> np.ndarray:
    """Quantiles of G(u) + η, without any sampling.

    `predictive_cdf` is inverted by Newton's method, and by bisection where a step of Newton leaves
    the bracket or is not half as long as the step before (Press et al. 2007, Numerical Recipes,
    section 9.4). The quantile of a mixture lies between the smallest and the largest quantile of
    its components, min_j g_j + sd Φ⁻¹(level) and max_j g_j + sd Φ⁻¹(level).

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
    """Where the distribution function has the value ``level``, between ``low`` and ``high``."""
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
            good |= length <= enough  # at the root, where rounding decides the rest
        following = np.where(good, newton, 0.5 * (low + high))
        step, z = following - z, following
        if np.all(np.abs(step) <= enough):
            break
    return z
