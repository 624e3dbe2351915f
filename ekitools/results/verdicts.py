"""Check of a posterior by runs of the model at draws of its Gaussian: `check_posterior`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from scipy.special import ndtri

from ekitools.core.arrays import as_rng, host
from ekitools.core.checks import integer
from ekitools.core.statuses import CONFIRMED, NOT_CONFIRMED
from ekitools.core.streams import Streams
from ekitools.linalg.pareto import pareto_smoothed
from ekitools.methods.gaussian import Gaussian, fit_gaussian
from ekitools.models.evaluate import check_executor, check_timeout, evaluate
from ekitools.problem import InverseProblem, check_problem
from ekitools.results.checks import check_contents, check_result
from ekitools.results.diagnostics import check_same
from ekitools.results.importance import (
    Draws,
    corrected_moments,
    corrected_quantiles,
    misplaced,
)
from ekitools.results.judged import agreed, judged
from ekitools.results.marginals import LEVELS, weighted_quantiles
from ekitools.results.proposal import (
    Mixture,
    coordinates,
    draws_of_prior,
    gaussians_of,
    mixture_of,
    pilot_of,
)
from ekitools.results.randomness import noise_of_another_kind
from ekitools.results.reading import members_at, moments
from ekitools.results.weights import log_target
from ekitools.typing import Rng

__all__ = ["Checked", "check_posterior", "checked_by_runs", "with_verdict"]

_FEWEST = 50
"""Model runs that a check needs at least."""

_LEVELS = np.arange(1, 20) / 20
"""Of the quantiles whose places are checked."""

_EXACT = 4096
"""Draws of the Gaussian without a model run, for its own moments in physical coordinates."""

_MOST_NUMBERS = 20_000_000
"""Numbers of these draws that may be in memory."""


def check_posterior(
    result: xr.Dataset,
    problem: InverseProblem,
    n: int = 200,
    *,
    executor: Any = None,
    timeout: float | None = None,
    rng: Rng = None,
) -> xr.Dataset:
    r"""Check the posterior of a result by n runs of the model, and correct its moments.

    A Gaussian q₁ is fitted to the last ensemble, in coordinates in which the prior is N(0, I). The
    model is run at draws of a mixture q of q₁, of q₁ with twice its standard deviations, of a
    Gaussian of all stored runs, and of the prior. So tails and modes that q₁ misses are seen where
    an earlier ensemble or the prior reaches them. For a sampler such as `TemperedSMC`, a mixture of
    Gaussians that is fitted to the particles stands in place of the Gaussian of stored runs, so
    that a sample with several modes or a bend can be confirmed. With the weights

    .. math:: w_i \propto e^{-\Phi(x_i)} \, N(x_i; 0, I) / q(x_i)

    means over the posterior are weighted means over the draws. The largest weights are smoothed,
    and the shape k̂ of their tail is estimated [1]_. The draws of the prior with which the run began
    count as further draws of the mixture [2]_: they cost nothing. Moments of q₁ that are known are
    used as control variates, so that a Gaussian that is right has a correction of zero.

    Parameters
    ----------
    result : xarray.Dataset
        What `run` or `integrate` returned, or what was read back from its file.
    problem : InverseProblem
        What was solved.
    n : int, default 200
        Model runs, at least 50.
    executor : concurrent.futures.Executor, optional
        Runs the model, as in `run`.
    timeout : float, optional
        Seconds for one run of the model. A run that fails has the likelihood zero.
    rng : None, int or numpy.random.Generator
        For the draws, and for stochastic models.

    Returns
    -------
    xarray.Dataset
        The result, with a verdict; ``result`` itself stays as it is. The attribute ``verdict`` is

        "confirmed"
            The weights are reliable, and with two standard errors every mean is within 0.45
            standard deviations of the corrected one and every standard deviation within a factor
            of 1.45; and no quantile of the ensemble is off by more than a probability of 0.1.
        "corrected"
            The weights are reliable, and the corrected moments or quantiles may differ by more.
        "not confirmed"
            The weights are not reliable, those of the stored runs disagree, the data are not
            fitted, there are no more members than parameters, or the noise is not that of the
            observations (see Notes; in these two cases the model is not run). ``verdict_reason``
            says which.

        Corrected moments in physical coordinates are ``checked_mean``, ``checked_sd`` and
        ``checked_quantile(checked_level)``, each with a standard error (``checked_mean_error``,
        ...). The attribute ``check`` has, as JSON, the number of ``runs`` and of failed ones, k̂ as
        ``khat``, the effective number of draws as ``ess``, and the largest differences. Where the
        posterior is confirmed the attribute ``posterior`` is 1.

    Raises
    ------
    TypeError, ValueError
        If ``result`` is no result or has a learned prior, or ``problem`` is another one's, sees a
        part of the data at a step, or has a prior without coordinates in which it is N(0, I).

    See Also
    --------
    summary : Shows the verdict; without one it reports a check that costs no model run.
    TemperedSMC : The way on where the posterior is not confirmed.

    Notes
    -----
    Weights are reliable where k̂ < min(1 − 1/log₁₀ n, 0.7), at least 30 draws are effective, and
    every corrected mean is known to 0.15 standard deviations. The verdict is given in unconstrained
    coordinates. A run with missing outputs counts as failed.

    With more than about 20 parameters the Gaussian of an ensemble is seldom near enough to the
    posterior: the verdict is then "not confirmed". `sample_emulated` checks its sample by weights
    of its own, also there. A narrow mode far from the ensemble is found
    only if a stored run or a draw of the prior falls near it.

    For a stochastic model the likelihood of every draw is random, and the weights average over it.
    This is exact where the noise of ``problem`` is that of the observations alone, without the
    variance of the model. An ensemble that was moved by the same noise cannot be confirmed by it,
    since EKI and its relatives need both variances: the verdict is then "not confirmed", without a
    model run. Give another problem with the noise of the observations.

    References
    ----------
    .. [1] Vehtari, Simpson, Gelman, Yao & Gabry (2024), J. Mach. Learn. Res. 25(72).
    .. [2] Veach & Guibas (1995), SIGGRAPH 95, 419-428 (the balance heuristic).

    Examples
    --------
    >>> import ekitools as ek
    >>> problem = ek.problems.linear(p=3).problem
    >>> result = ek.run(problem, ek.EKI(), n_members=200, rng=0)
    >>> checked = ek.check_posterior(result, problem, rng=1)
    >>> checked.attrs["verdict"], ek.posterior(checked).attrs["verdict"]
    ('confirmed', 'confirmed')
    """
    check_result(result)
    check_contents(result)
    check_problem(problem)
    problem = problem.whole()
    check_same(result, problem)
    if result.attrs.get("prior") == "learned":
        raise ValueError(
            "result: must be of a method that keeps the prior of the problem, got one with learned "
            "variances. Run another method with the parameters that were kept."
        )
    n = integer("n", n, least=_FEWEST)
    check_executor(executor)
    check_timeout(timeout)
    known = draws_of_prior(result, problem)
    return checked_by_runs(result, problem, n, known, executor, timeout, as_rng(rng)).result


class Checked(NamedTuple):
    """What a check gives."""

    result: xr.Dataset
    drawn: Draws | None
    """None where the model was not run."""


def checked_by_runs(
    result: xr.Dataset,
    problem: InverseProblem,
    n: int,
    known: tuple[np.ndarray, np.ndarray] | None,
    executor: Any,
    timeout: float | None,
    rng: np.random.Generator,
    before: Sequence[xr.Dataset] = (),
) -> Checked:
    """`check_posterior` with checked arguments and ``known`` draws of the prior.

    These are whitened, ``(m, p)``, with their outputs ``(m, d)``, from any run of the problem.
    Results ``before`` this one are further places to look at: their last ensembles are among the
    proposals, and the stored runs of the first one are compared, unless the result is a sample
    from the prior.
    """
    u, weight = members_at(result, -1).present()
    unconstrained, white = coordinates(u, problem)
    inside = np.isfinite(white).all(axis=1)
    unconstrained, white, weight = unconstrained[inside], white[inside], weight[inside]
    weight = weight / weight.sum()
    reason = noise_of_another_kind(result, problem) or _unknown(unconstrained, weight, result)
    if reason:
        unknown = with_verdict(result, NOT_CONFIRMED, reason, {"runs": 0, "failed": 0}, {})
        return Checked(unknown, None)
    p = white.shape[1]
    gaussian = fit_gaussian(white, weight)
    pilot = pilot_of(result, problem)
    if before and result.attrs.get("start") != "prior":
        pilot = pilot_of(before[0], problem)
    others: tuple[Gaussian, ...] = () if pilot is None else (pilot.gaussian,)
    if result.attrs.get("members") == "kept":  # a sample, whose shape may be any
        others += gaussians_of(white, weight, rng)
    for each in before:
        earlier, share = members_at(each, -1).present()
        _, x = coordinates(earlier, problem)
        share, x = share[np.isfinite(x).all(axis=1)], x[np.isfinite(x).all(axis=1)]
        if len(x) > 1:
            others += gaussians_of(x, share / share.sum(), rng) or (fit_gaussian(x, share),)
    mixture = mixture_of(gaussian, others, n)
    drawn = _drawn(mixture, problem, known, executor, timeout, rng)
    numbers: dict[str, Any] = {
        "runs": drawn.runs,
        "failed": drawn.failed,
        "draws": len(drawn.white),
        "khat": drawn.khat if np.isfinite(drawn.khat) else None,
        "ess": drawn.ess,
    }
    free = rng.standard_normal((min(_EXACT, max(_MOST_NUMBERS // p, 100)), p))
    exact = gaussian.unwhiten(free)
    corrected = corrected_moments(
        _unconstrained(drawn.white, problem), drawn, _unconstrained(exact, problem)
    )
    mean, variance = moments(unconstrained, weight)
    sd = np.sqrt(variance / max(1 - float(weight @ weight), 1e-12))
    shift, shift_error = (corrected.mean - mean) / corrected.sd, corrected.mean_error / corrected.sd
    ratio, ratio_error = corrected.sd / sd, corrected.sd_error / corrected.sd
    stretch = np.abs(np.log(ratio))
    numbers |= {
        "shift": float(np.max(np.abs(shift))),
        "shift_error": float(np.max(shift_error)),
        "shift_bound": float(np.max(np.abs(shift) + 2 * shift_error)),
        "sd_ratio": float(np.exp(np.max(stretch))),
        "sd_error": float(np.max(ratio_error)),
        "sd_bound": float(np.exp(np.max(stretch + 2 * ratio_error))),
    }
    wrong, wrong_error = misplaced(
        _unconstrained(drawn.white, problem),
        drawn.weight,
        weighted_quantiles(unconstrained, _LEVELS, weight),
        _LEVELS,
    )
    # the largest of p such errors is below this many standard errors in 19 of 20 cases
    errors_of_most = float(ndtri(1 - 0.05 / p))
    numbers["misplaced"] = float(np.max(wrong - errors_of_most * wrong_error))
    said, reason = judged(numbers, shift, ratio, drawn, problem, result)
    if said == CONFIRMED:
        said, reason = agreed(reason, pilot, mean, sd, problem, n)
    physical = _physical(drawn.white, problem)
    found = corrected_moments(physical, drawn, _physical(exact, problem))
    quantiles, errors = corrected_quantiles(physical, drawn.weight, np.array(LEVELS))
    variables = {
        **{f"checked_{name}": ("parameter", each) for name, each in found._asdict().items()},
        "checked_quantile": (("checked_level", "parameter"), quantiles),
        "checked_quantile_error": (("checked_level", "parameter"), errors),
    }
    return Checked(with_verdict(result, said, reason, numbers, variables), drawn)


def _unknown(u: np.ndarray, weight: np.ndarray, result: xr.Dataset) -> str:
    """Why draws of the Gaussian of members would say nothing of the posterior; "" if they do."""
    n, p = round(1 / float(weight @ weight), 6) if weight.size else 0, u.shape[1]
    if n <= p + 1:
        return (
            f"The {n:.4g} members span fewer directions than the {p} parameters have. Draws of "
            "their Gaussian say nothing of the other directions, and the model was not run. Use "
            f"more than {p + 1} members."
        )
    same = np.flatnonzero(np.ptp(u, axis=0) == 0)
    if same.size:
        return (
            f"All members have the same {result.parameter.values[same[0]]!r}, so that they have no "
            "Gaussian, and the model was not run. Run the method again with a prior that is wider."
        )
    return ""


def _unconstrained(white: np.ndarray, problem: InverseProblem) -> np.ndarray:
    return host(problem.prior.unwhiten(white))


def _physical(white: np.ndarray, problem: InverseProblem) -> np.ndarray:
    return host(problem.prior.to_physical(problem.prior.unwhiten(white)))


def _drawn(
    mixture: Mixture,
    problem: InverseProblem,
    known: tuple[np.ndarray, np.ndarray] | None,
    executor: Any,
    timeout: float | None,
    rng: np.random.Generator,
) -> Draws:
    """Draws of the mixture with model runs, the ``known`` draws of the prior, and weights."""
    white = mixture.draws(rng)
    n, streams = len(white), Streams(rng)
    seeds = [streams.member(0, j) for j in range(n)] if problem.info.stochastic else None
    outputs = evaluate(
        problem.model,
        _physical(white, problem),
        problem.n_data,
        executor=executor,
        timeout=timeout,
        seeds=seeds,
    )
    g = host(outputs.g).astype(np.float64)
    if known is not None:
        white, g = np.concatenate([white, known[0]]), np.concatenate([g, known[1]])
        mixture = mixture.with_prior_draws(len(known[0]))
    log_mixture, log_gaussian = mixture.log_densities(white)
    target = log_target(white, _unconstrained(white, problem), g, problem)
    weight, khat = np.full(len(white), 1 / len(white)), np.inf
    if np.isfinite(target).any():
        weight, khat = pareto_smoothed(target - log_mixture)
    return Draws(
        white,
        -target - 0.5 * np.sum(white * white, axis=1),
        weight,
        g,
        np.exp(log_gaussian - log_mixture),
        float(khat),
        n,
        len(outputs.failures),
        next((failure.reason for failure in outputs.failures.values()), ""),
    )


def with_verdict(
    result: xr.Dataset,
    said: str,
    reason: str,
    numbers: dict[str, Any],
    variables: dict[str, Any],
) -> xr.Dataset:
    """A copy of the result with the verdict, and without that of an earlier check."""
    old = [name for name in result.data_vars if str(name).startswith("checked_")]
    checked = result.drop_vars([*old, "checked_level"], errors="ignore").assign(variables)
    if variables:
        checked = checked.assign_coords(checked_level=list(LEVELS))
    for name, text in _LONG_NAMES.items():
        if name in checked:
            checked[name].attrs["long_name"] = text
    checked.attrs |= {"verdict": said, "verdict_reason": reason, "check": json.dumps(numbers)}
    if said == CONFIRMED:
        checked.attrs["posterior"] = 1
    return checked


_LONG_NAMES = {
    "checked_mean": "mean of the posterior, by importance weights of model runs",
    "checked_mean_error": "standard error of checked_mean",
    "checked_sd": "standard deviation of the posterior, by importance weights of model runs",
    "checked_sd_error": "standard error of checked_sd",
    "checked_quantile": "quantiles of the posterior, by importance weights of model runs",
    "checked_quantile_error": "standard error of checked_quantile",
}
