"""Verdicts on a posterior from the importance weights of a check."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from scipy.special import chdtri

from ekitools.core.arrays import host
from ekitools.core.statuses import CONFIRMED, CORRECTED, NOT_CONFIRMED
from ekitools.problem import InverseProblem
from ekitools.results.importance import Draws
from ekitools.results.proposal import Pilot
from ekitools.results.reading import moments
from ekitools.typing import NoiseModel

__all__ = ["agreed", "elsewhere", "judged", "too_few", "undecided"]

_LEAST_ESS = 30
"""Fewest effective draws for a verdict other than "not confirmed"."""

_MOST_ERROR = 0.15
"""Largest standard error of a corrected mean, in standard deviations, and of the logarithm of a
corrected standard deviation. Above it a posterior is not confirmed. These limits were chosen on the
problems 0 to 199, 1000 to 1119 and 2000 to 2199 of benchmarks/verdict_problems.py."""

_MOST_SHIFT, _MOST_RATIO = 0.45, 1.45
"""Largest shift of a mean in standard deviations, and largest ratio of two standard deviations,
of a confirmed posterior. Both include two standard errors."""

_MOST_MISPLACED = 0.1
"""Largest probability on the wrong side of a quantile, less its statistical error, of a confirmed
posterior. An ensemble between two modes may have the right moments, but its quantiles are wrong."""

_TAIL = 1e-3
"""Probability under the noise of a mean misfit above the accepted range."""


def judged(
    numbers: dict[str, Any],
    shift: np.ndarray,
    ratio: np.ndarray,
    drawn: Draws,
    problem: InverseProblem,
    result: xr.Dataset,
) -> tuple[str, str]:
    """The verdict, and the reason in words."""
    if drawn.failed == drawn.runs:
        return NOT_CONFIRMED, (
            f"All {drawn.runs} model runs failed. Reason: {drawn.why}. Check the model at "
            "one draw of ek.posterior(result)."
        )
    names = result.parameter.values.tolist()
    runs = f"{drawn.runs} model runs"
    if drawn.failed:
        runs += f", {drawn.failed} of which failed"
    limit = _most_khat(len(drawn.white))
    quality = f"k-hat = {drawn.khat:.2f}, {drawn.ess:.0f} of {len(drawn.white)} draws effective"
    error = max(numbers["shift_error"], numbers["sd_error"])
    if not drawn.khat < limit:
        if problem.info.stochastic:
            return NOT_CONFIRMED, (
                f"The importance weights of {runs} are not reliable ({quality}): the model's "
                "randomness is too large compared with the noise, or the Gaussian of the ensemble "
                f"is too far from the posterior. Use n={5 * drawn.runs}, or "
                "ek.emulate(result, problem), which includes the variance of the model in the "
                "likelihood."
            )
        return NOT_CONFIRMED, (
            f"The importance weights of {runs} are not reliable ({quality}): the Gaussian of the "
            "ensemble is too far from the posterior. Use ek.TemperedSMC(), or ek.GNKI() with more "
            "members, and check again."
        )
    if drawn.ess < _LEAST_ESS or error > _MOST_ERROR:
        more = max(_LEAST_ESS / drawn.ess, (error / _MOST_ERROR) ** 2)
        return NOT_CONFIRMED, (
            f"The importance weights of {runs} are too few for a verdict ({quality}): the standard "
            f"error of a mean or of a standard deviation is {error:.2g} standard deviations. Use "
            f"n={int(np.ceil(more * drawn.runs / 50)) * 100}, or ek.TemperedSMC()."
        )
    if isinstance(problem.noise, NoiseModel):
        phi = float(drawn.weight[drawn.weight > 0] @ drawn.misfit[drawn.weight > 0])
        most = float(chdtri(problem.n_data, _TAIL)) / 2
        if phi > most:
            return NOT_CONFIRMED, (
                f"The mean misfit over {runs} is {phi:.4g}, and noise explains at most {most:.4g}. "
                "The model or the stated noise is wrong, or the posterior has a better mode "
                "elsewhere. Check the model and the noise, or use ek.TemperedSMC()."
            )
    near = _near(numbers["shift_bound"], numbers["sd_bound"])
    if near and numbers["misplaced"] <= _MOST_MISPLACED:
        return CONFIRMED, (
            f"By the importance weights of {runs} ({quality}), every mean is within "
            f"{numbers['shift_bound']:.2g} standard deviations of the posterior mean, and every "
            f"standard deviation within {100 * (numbers['sd_bound'] - 1):.2g} % (two standard "
            "errors included)."
        )
    if near:
        return CORRECTED, (
            f"By the importance weights of {runs} ({quality}), means and standard deviations are "
            "right, but the posterior has another shape than the ensemble: the quantiles differ. "
            "Use checked_quantile of the result, or ek.TemperedSMC()."
        )
    far, wide = int(np.argmax(np.abs(shift))), int(np.argmax(np.abs(np.log(ratio))))
    return CORRECTED, (
        f"By the importance weights of {runs} ({quality}), the mean of {names[far]!r} changes by "
        f"{shift[far]:+.2g} standard deviations, and the standard deviation of {names[wide]!r} "
        f"by a factor of {ratio[wide]:.2g}. Use checked_mean, checked_sd and checked_quantile of "
        "the result."
    )


def too_few(numbers: dict[str, Any]) -> bool:
    """Whether a check has reliable weights but too few draws, judged by its ``numbers``.

    Examples
    --------
    >>> from ekitools.results.judged import too_few
    >>> numbers = {"draws": 400, "khat": 0.3, "ess": 100.0, "shift_error": 0.2, "sd_error": 0.1}
    >>> too_few(numbers), too_few(numbers | {"khat": 0.9}), too_few({"runs": 0, "failed": 0})
    (True, False, False)
    """
    if not _reliable(numbers):
        return False
    error = max(numbers["shift_error"], numbers["sd_error"])
    return bool(numbers["ess"] < _LEAST_ESS or error > _MOST_ERROR)


def undecided(numbers: dict[str, Any], said: str) -> bool:
    """Whether the standard errors alone keep a corrected posterior from being confirmed.

    Examples
    --------
    >>> from ekitools.results.judged import undecided
    >>> numbers = {"shift": 0.2, "sd_ratio": 1.3, "misplaced": 0.05}
    >>> undecided(numbers, "corrected"), undecided(numbers | {"shift": 0.5}, "corrected")
    (True, False)
    """
    if said != CORRECTED:
        return False
    near = _near(numbers["shift"], numbers["sd_ratio"])
    return bool(near and numbers["misplaced"] <= _MOST_MISPLACED)


def elsewhere(numbers: dict[str, Any], said: str) -> bool:
    """Whether the posterior is not confirmed despite reliable weights and enough draws.

    In this case the data are not fitted, or stored runs contradict the weights. The posterior may
    have another mode.

    Examples
    --------
    >>> from ekitools.results.judged import elsewhere
    >>> numbers = {"draws": 400, "khat": 0.3, "ess": 100.0, "shift_error": 0.1, "sd_error": 0.1}
    >>> elsewhere(numbers, "not confirmed"), elsewhere(numbers, "corrected")
    (True, False)
    """
    return _reliable(numbers) and said == NOT_CONFIRMED and not too_few(numbers)


def _near(shift: float, ratio: float) -> bool:
    """Whether means and standard deviations are within the limits of a confirmed posterior."""
    return shift <= _MOST_SHIFT and ratio <= _MOST_RATIO


def _reliable(numbers: dict[str, Any]) -> bool:
    """Whether the tail of the weights is light enough for moments."""
    khat = numbers.get("khat")
    return khat is not None and khat < _most_khat(numbers["draws"])


def _most_khat(n: int) -> float:
    return float(min(0.7, 1 - 1 / np.log10(n)))


def agreed(
    reason: str,
    pilot: Pilot | None,
    mean: np.ndarray,
    sd: np.ndarray,
    problem: InverseProblem,
    n: int,
) -> tuple[str, str]:
    """Confirm the posterior for ``reason``, unless the stored runs are reliable and disagree."""
    if pilot is None or not pilot.reliable:
        return CONFIRMED, reason
    before, variance = moments(host(problem.prior.unwhiten(pilot.white)), pilot.weight)
    apart = float(np.max(np.abs(before - mean) / np.sqrt(variance)))
    stretch = float(np.exp(np.max(np.abs(np.log(np.sqrt(variance) / sd)))))
    if _near(apart, stretch):
        return CONFIRMED, reason
    return NOT_CONFIRMED, (
        f"The importance weights of {n} model runs agree with the ensemble, but those of the "
        f"stored runs do not: they shift a mean by {apart:.2g} standard deviations, or change a "
        f"standard deviation by a factor of {stretch:.2g}. The posterior may have a tail or a mode "
        f"elsewhere. Use n={5 * n}, or ek.TemperedSMC()."
    )
