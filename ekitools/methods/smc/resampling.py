"""Weighted ensembles: effective sample size, and drawing members by their weights."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import numpy as np

from ekitools.core.arrays import unmasked
from ekitools.core.checks import one_of

__all__ = ["SCHEMES", "Scheme", "effective_sample_size", "normalised", "resample"]

Scheme: TypeAlias = Literal["systematic", "stratified", "residual", "multinomial"]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)


def normalised(log_weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights that add up to 1, and the logarithm of their sum before the division.

    If every logarithm is −inf, all weights are zero.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.methods.smc.resampling import normalised
    >>> weights, log_sum = normalised(np.log([1.0, 3.0]))
    >>> weights, round(float(np.exp(log_sum)), 12)
    (array([0.25, 0.75]), 4.0)
    """
    top = float(np.max(log_weights))
    if top == -np.inf:
        return np.zeros_like(log_weights), top
    weights = np.exp(log_weights - top)
    total = float(weights.sum())
    return weights / total, top + float(np.log(total))


def effective_sample_size(weights: np.ndarray) -> float:
    """(Σw)² / Σw²: n for equal weights, 1 for a single positive weight, 0 without positive weights.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.methods.smc.resampling import effective_sample_size
    >>> effective_sample_size(np.array([1.0, 1.0, 0.0]))
    2.0
    """
    squares = float(np.sum(weights * weights))
    return float(np.sum(weights)) ** 2 / squares if squares > 0 else 0.0


def resample(
    weights: np.ndarray, n: int, *, scheme: Scheme = "systematic", rng: np.random.Generator
) -> np.ndarray:
    r"""Indices of ``n`` members, each drawn n w_j times on average.

    Parameters
    ----------
    weights : (J,)
        Not negative, not all zero; they need not add up to 1.
    n : int
        Number of draws.
    scheme : {"systematic", "stratified", "residual", "multinomial"}, default "systematic"
        "systematic" takes the quantiles of the weights' distribution at (U + i)/n with one U,
        "stratified" at (U_i + i)/n, and "multinomial" at U_i. "residual" takes ⌊n w_j⌋ copies, and
        the rest at U_i [1]_. "multinomial" varies most, and "systematic" is the cheapest.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    (n,) ndarray of int
        In increasing order.

    References
    ----------
    .. [1] Douc, Cappé & Moulines (2005), Proc. ISPA 2005, 64-69.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.methods.smc.resampling import resample
    >>> resample(np.array([0.5, 0.0, 0.5]), 4, rng=np.random.default_rng(0))
    array([0, 0, 2, 2])
    """
    scheme = one_of("scheme", scheme, SCHEMES)
    weights = np.asarray(unmasked("weights", weights), dtype=np.float64)
    total = weights.sum()
    if not (np.all(weights >= 0) and 0 < total < np.inf):
        raise ValueError(
            f"weights: must be finite, not negative and not all zero, got {weights!r:.60}."
        )
    shares = weights / total
    kept = np.zeros(0, dtype=np.int64)
    if scheme == "residual":
        copies = np.floor(n * shares + 1e-9).astype(np.int64)  # 2.9999999 is three
        kept = np.repeat(np.arange(len(shares)), copies)
        shares, n = np.maximum(n * shares - copies, 0), n - int(copies.sum())
        if n == 0:
            return kept
        shares /= shares.sum()
    if scheme == "systematic":
        positions = (np.arange(n) + rng.random()) / n
    elif scheme == "stratified":
        positions = (np.arange(n) + rng.random(n)) / n
    else:
        positions = rng.random(n)
    edges = np.cumsum(shares)
    edges /= edges[-1]
    drawn = np.searchsorted(edges, positions, side="right")
    return np.sort(np.concatenate([kept, drawn]))
