r"""Pareto smoothing of importance weights: the largest weights follow a fitted tail."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import logsumexp

__all__ = ["pareto_smoothed"]

_FEWEST = 5
"""Smallest number of weights in a tail that is fitted."""


def pareto_smoothed(log_weights: np.ndarray) -> tuple[np.ndarray, float]:
    r"""Normalised weights whose tail is smoothed, and the shape k̂ of the tail [1]_.

    The M = min(n/5, 3√n) largest weights are replaced by the expected order statistics of a
    generalized Pareto distribution that is fitted to them [2]_, and cut at the largest weight.
    If k̂ < 0.7, weighted means are reliable. For a larger k̂ the proposal misses a tail.

    Parameters
    ----------
    log_weights : (n,)
        Logarithms of the weights, up to a constant; −inf for a weight of zero.

    Returns
    -------
    weights : (n,) ndarray
        Weights that add up to 1, in the given order.
    khat : float
        0 for a tail of equal weights; infinite if the tail has fewer than 5 weights.

    References
    ----------
    .. [1] Vehtari, Simpson, Gelman, Yao & Gabry (2024), J. Mach. Learn. Res. 25(72).
    .. [2] Zhang & Stephens (2009), Technometrics 51, 316-325.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.linalg.pareto import pareto_smoothed
    >>> x = np.random.default_rng(0).standard_normal(1000)
    >>> weights, khat = pareto_smoothed(-0.1 * x**2)  # of a slightly narrower target
    >>> khat < 0.7
    True
    """
    logs = np.asarray(log_weights, dtype=np.float64)
    logs = logs - np.max(logs)
    n = len(logs)
    order = np.argsort(logs, kind="stable")
    m = math.ceil(min(0.2 * n, 3 * math.sqrt(n)))
    if n <= m or m < _FEWEST:
        return _normalised(logs), math.inf
    cut = max(float(logs[order[-m - 1]]), math.log(np.finfo(np.float64).tiny))
    tail = order[logs[order] > cut]
    if len(tail) < _FEWEST:
        equal = np.ptp(logs[order[-m:]]) < 1e-12
        return _normalised(logs), 0.0 if equal else math.inf
    threshold = math.exp(cut)
    khat, scale = _fit(np.exp(logs[tail]) - threshold)
    ranks = (np.arange(len(tail)) + 0.5) / len(tail)
    if abs(khat) > 1e-12:
        quantiles = np.expm1(-khat * np.log1p(-ranks)) / khat
    else:
        quantiles = -np.log1p(-ranks)
    logs = logs.copy()
    logs[tail] = np.minimum(np.log(threshold + scale * quantiles), 0.0)
    return _normalised(logs), khat


def _normalised(logs: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(logs - logsumexp(logs)))


def _fit(x: np.ndarray) -> tuple[float, float]:
    """Shape and scale of the generalized Pareto distribution of increasing excesses.

    The posterior mean of Zhang and Stephens, with the shape shrunk towards 0.5, as if there were
    ten more observations (Vehtari et al., appendix C).
    """
    n = len(x)
    grid = 30 + math.isqrt(n)
    quartile = x[math.floor(n / 4 + 0.5) - 1]
    b = 1 / x[-1] + (1 - np.sqrt(grid / (np.arange(grid) + 0.5))) / (3 * quartile)
    shape = np.mean(np.log1p(-b[:, None] * x), axis=1)
    profile = n * (np.log(-b / shape) - shape - 1)
    share = np.exp(profile - logsumexp(profile))
    mean = float(share @ b)
    khat = float(np.mean(np.log1p(-mean * x)))
    return (n * khat + 5) / (n + 10), -khat / mean
