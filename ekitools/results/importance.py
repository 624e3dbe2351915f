"""Means, standard deviations and quantiles by importance weights, with standard errors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ekitools.results.marginals import weighted_quantiles
from ekitools.results.reading import moments

__all__ = ["Draws", "Moments", "corrected_moments", "corrected_quantiles", "misplaced"]


class Draws(NamedTuple):
    """Whitened draws of the proposal, with outputs, weights and failures."""

    white: np.ndarray
    misfit: np.ndarray
    weight: np.ndarray
    """Smoothed weights, with the sum 1."""
    g: np.ndarray
    """Outputs, NaN for failed runs."""
    gaussian: np.ndarray
    """Ratio of the density of the Gaussian to the density of the proposal."""
    khat: float
    runs: int
    """Model runs of the check; the other draws are prior draws of earlier runs."""
    failed: int
    why: str
    """The reason of a failed run."""

    @property
    def ess(self) -> float:
        """Effective number of draws."""
        return float(1 / (self.weight @ self.weight))


class Moments(NamedTuple):
    """Corrected means and standard deviations with their standard errors, ``(p,)`` each."""

    mean: np.ndarray
    mean_error: np.ndarray
    sd: np.ndarray
    sd_error: np.ndarray


def corrected_moments(values: np.ndarray, drawn: Draws, exact: np.ndarray) -> Moments:
    """Weighted moments of ``values`` (n, p), with draws ``exact`` of q₁ as control variates."""
    mean, variance = moments(values, drawn.weight)
    mean_of_q, variance_of_q = exact.mean(axis=0), exact.var(axis=0)
    off, mean_error = _controlled(values - mean, values - mean_of_q, drawn)
    squares = (values - mean_of_q) ** 2 - variance_of_q
    widened, variance_error = _controlled((values - mean) ** 2 - variance, squares, drawn)
    corrected = variance - widened
    # a correction of more than half the variance means that the control variate failed
    variance = np.where(corrected > 0.5 * variance, corrected, variance)
    sd = np.sqrt(np.maximum(variance, 1e-300))
    return Moments(mean - off, mean_error, sd, variance_error / (2 * sd))


def _controlled(
    centred: np.ndarray, control: np.ndarray, drawn: Draws
) -> tuple[np.ndarray, np.ndarray]:
    """Correction of a weighted mean by a control variate, and the remaining standard error.

    ``centred`` are the values minus their weighted mean; ``control`` has mean zero under q₁.
    """
    n = len(centred)
    influence = n * drawn.weight[:, None] * centred
    control = drawn.gaussian[:, None] * control
    squares = np.sum(control * control, axis=0)
    share = np.sum(influence * control, axis=0) / np.maximum(squares, 1e-300)
    share = np.clip(share, 0.0, 1.0)
    rest = influence - share * control
    return share * control.mean(axis=0), np.sqrt(np.mean(rest * rest, axis=0) / n)


def corrected_quantiles(
    values: np.ndarray, weight: np.ndarray, levels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted quantiles ``(levels, p)`` with standard errors (Woodruff 1952).

    Let e be the standard error of the distribution function at a quantile. The standard error of
    the quantile is half the distance between the quantiles at the levels plus e and minus e.
    """
    found = weighted_quantiles(values, levels, weight)
    errors = np.empty_like(found)
    for row, (level, quantile) in enumerate(zip(levels, found, strict=True)):
        off = weight[:, None] * ((values <= quantile) - level)
        error = np.sqrt(np.sum(off * off, axis=0))
        for i, (x, each) in enumerate(zip(values.T, error, strict=True)):
            ends = np.clip([level - each, level + each], 0.0, 1.0)
            low, high = weighted_quantiles(x, ends, weight)
            errors[row, i] = (high - low) / 2
    return found, errors


def misplaced(
    values: np.ndarray, weight: np.ndarray, quantiles: np.ndarray, levels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Probability on the wrong side of the ``quantiles`` of another sample, with standard error.

    Parameters
    ----------
    values, weight : (n, p), (n,)
        Draws of the posterior, with weights that add up to 1.
    quantiles : (levels, p)
        Quantiles of the other sample.
    levels : (levels,)
        Probabilities of these quantiles in the other sample.

    Returns
    -------
    (levels, p), (levels, p)
        The probabilities and their standard errors.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.results.importance import misplaced
    >>> x, w = np.array([[0.0], [1.0], [2.0], [3.0]]), np.full(4, 0.25)
    >>> misplaced(x, w, np.array([[0.5]]), np.array([0.5]))[0]
    array([[0.25]])
    """
    below = values[None] <= quantiles[:, None, :]
    share = np.einsum("j,ljp->lp", weight, below)
    error = np.sqrt(np.einsum("j,ljp->lp", weight**2, (below - share[:, None, :]) ** 2))
    return np.abs(share - levels[:, None]), error
