"""Findings about the posterior of a result: its importance weights, and the verdict of a check."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr

from ekitools.core.statuses import CONFIRMED
from ekitools.typing import Level

__all__ = [
    "MOST_RATIO",
    "MOST_SHIFT",
    "Finding",
    "found_by_runs",
    "found_by_weights",
    "largest_shift",
    "verdict_of",
]

MOST_SHIFT = 0.35
"""Shift of a mean, in standard deviations, above which a result is doubted. Chosen on the problems
1000 to 1119 of benchmarks/verdict_problems.py."""

MOST_RATIO = 1.35
"""Ratio of two standard deviations above which a result is doubted, chosen on the same problems."""

_MOST_ERROR = 0.25
"""Standard error of a shift above which the shift counts as unknown."""


class Finding(NamedTuple):
    """A level and a sentence."""

    level: Level
    sentence: str


def found_by_weights(result: xr.Dataset) -> Finding | None:
    """Finding from the importance weights of the last members; None if the weights are unknown."""
    if "posterior_shift" not in result:
        return None
    shift, error, ratio = (
        np.atleast_1d(result[f"posterior_{name}"].values).astype(np.float64)
        for name in ("shift", "shift_error", "sd_ratio")
    )
    names = result.parameter.values.tolist()
    # the standard error of a log ratio of standard deviations is 1/√2 of that of a shift
    noisy = bool(np.max(error) > _MOST_ERROR)
    if noisy and result.attrs.get("stochastic", 0):
        # the log-weights of random outputs are noisy: extreme estimates are chance
        return _too_noisy(error)
    size = np.abs(without_noise(shift, error))
    ratio = np.exp(without_noise(np.log(ratio), error / np.sqrt(2)))
    first, second = int(np.argmax(size)), int(np.argmax(np.abs(np.log(ratio))))
    far, stretched = size[first] > MOST_SHIFT, factor(ratio[second]) > MOST_RATIO
    if far or stretched:
        said = []
        if far:
            about = "more than 3" if size[first] > 3 else f"about {size[first]:.2g}"
            said.append(f"the mean of {names[first]!r} is off by {about} standard deviations")
        if stretched:
            much = factor(ratio[second])
            about = "more than 3" if much > 3 else f"about {much:.2g}"
            which = "too small" if ratio[second] > 1 else "too large"
            said.append(
                f"the standard deviation of {names[second]!r} is {which} by a factor of {about}"
            )
        return Finding(
            "care",
            f"By the importance weights of the last members, {' and '.join(said)}. Use "
            "ek.check_posterior(result, problem), or ek.GNKI() or ek.TemperedSMC().",
        )
    if noisy:
        return _too_noisy(error)
    return Finding(
        "good",
        "By the importance weights of the last members, every mean is within "
        f"{max(size[first], 0.01):.2g} standard deviations of the posterior mean, and every "
        f"standard deviation within {100 * max(factor(ratio[second]) - 1, 0.01):.2g} %. These "
        "weights cannot detect other modes. Use ek.check_posterior(result, problem), which "
        "searches further.",
    )


def _too_noisy(error: np.ndarray) -> Finding:
    return Finding(
        "note",
        "The importance weights of the last members are too noisy to judge the posterior: the "
        f"standard error of a mean is {np.max(error):.2g} standard deviations. Use "
        "ek.check_posterior(result, problem), or more members.",
    )


def largest_shift(result: xr.Dataset) -> float | None:
    """Largest shift of a mean by the weights of the last members; None if it is unknown."""
    if "posterior_shift" not in result:
        return None
    shift, error = (
        np.atleast_1d(result[f"posterior_{name}"].values).astype(np.float64)
        for name in ("shift", "shift_error")
    )
    return float(np.max(np.abs(without_noise(shift, error))))


def without_noise(values: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Shrink estimates ``(p,)`` towards 0 as far as their standard errors explain their size.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.results.shifts import without_noise
    >>> without_noise(np.array([0.3, -0.3]), np.array([0.1, 0.1])).round(2)
    array([ 0.27, -0.27])
    """
    squares, noise = float(np.mean(values**2)), float(np.mean(error**2))
    return values * (max(1 - noise / squares, 0.0) if squares > 0 else 1.0)


def verdict_of(result: xr.Dataset) -> str:
    """The verdict of `check_posterior`, or "" without one."""
    return str(result.attrs.get("verdict", ""))


def found_by_runs(result: xr.Dataset) -> Finding | None:
    """Finding of `check_posterior`; None if it was not called."""
    said = verdict_of(result)
    if not said:
        return None
    reason = result.attrs.get("verdict_reason", "")
    level: Level = "good" if said == CONFIRMED else "care"
    return Finding(level, f"{said[0].upper()}{said[1:]}. {reason}".strip())


def factor(ratio: float) -> float:
    """The larger of a ratio and its inverse."""
    return float(np.exp(abs(np.log(ratio)))) if ratio > 0 else float("inf")
