"""Check of a posterior by model runs at draws from its Gaussian: `check_posterior`."""

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
"""Fewest model runs of a check."""

_LEVELS = np.arange(1, 20) / 20
"""Levels of the quantiles that are compared."""

_EXACT = 4096
"""Draws of the Gaussian without a model run, for its moments in physical coordinates."""

_MOST_NUMBERS = 20_000_000
"""Largest size of the array of these draws."""


def check_posterior(
    result: xr.Dataset,
    problem: InverseProblem,
    n: int = 200,
    *,
    executor: Any = None,
    timeout: float | None = None,
    rng: Rng = None,
) -> xr.Dataset:
    r"""Check the posterior of a result by n model runs, and correct its moments.

    A Gaussian q₁ is fitted to the last ensemble, in coordinates in which the prior is N(0, I). The
    model is run at draws from a mixture q of four parts: q₁, q₁ with doubled standard deviations,
    a Gaussian of all stored runs, and the prior. The check therefore sees tails and modes that q₁
    misses, if an earlier ensemble or the prior reaches them. For a sampler such as `TemperedSMC`,
    Gaussians fitted to the particles replace the Gaussian of stored runs, so that a sample with
    several modes or a curved shape can be confirmed. With the weights

    .. math:: w_i \propto e^{-\Phi(x_i)} \, N(x_i; 0, I) / q(x_i)

    weighted means over the draws estimate means over the posterior. The largest weights are
    smoothed, and the shape k̂ of their tail is estimated [1]_. The prior draws at the start of the
    run count as further draws of the mixture [2]_ and need no new model runs. Known moments of q₁
    serve as control variates: if q₁ is the posterior, the correction is zero.

    Parameters
    ----------
    result : xarray.Dataset
        Result of `run` or `integrate`, possibly read from a file.
    problem : InverseProblem
        The problem of the result.
    n : int, default 200
        Number of model runs, at least 50.
    executor : concurrent.futures.Executor, optional
        Executor that runs the model in parallel, such as a process pool. By default the model runs
        in this process.
    timeout : float, optional
        Time limit of one model run in seconds. A longer run counts as failed, and a failed run
        has the likelihood zero.
    rng : None, int or numpy.random.Generator, optional
        Source of randomness for the draws and for stochastic models. By default every check
        draws other numbers.

    Returns
    -------
    xarray.Dataset
        A copy of ``result`` with a verdict. The attribute ``verdict`` is one of

        "confirmed"
            The weights are reliable. Two standard errors included, every mean is within 0.45
            standard deviations of the corrected mean, and every standard deviation within a
            factor of 1.45 of the corrected one. No quantile of the ensemble is off by more than
            a probability of 0.1.
        "corrected"
            The weights are reliable, but the corrected moments or quantiles may differ by more.
        "not confirmed"
            The weights are not reliable, the weights of the stored runs disagree, the data are not
            fitted, the ensemble has no more members than parameters, or the noise includes the
            variance of a stochastic model. In the last two cases the model is not run (see Notes).
            The attribute ``verdict_reason`` gives the reason.

        Corrected moments in physical coordinates are ``checked_mean``, ``checked_sd`` and
        ``checked_quantile(checked_level)``, each with a standard error (``checked_mean_error``,
        ...). The attribute ``check`` is a JSON text with the number of model runs (``runs``) and
        of failed runs (``failed``), k̂ (``khat``), the effective number of draws (``ess``), and the
        largest differences. If the posterior is confirmed, the attribute ``posterior`` is 1.

    Raises
    ------
    TypeError, ValueError
        If ``result`` is not a result or has a learned prior, or if ``problem`` is not the problem
        of the result, uses a part of the data at each step, or has a prior without coordinates in
        which the prior is N(0, I).

    See Also
    --------
    summary : Shows the verdict, or a check that costs no model run if there is no verdict.
    TemperedSMC : A sampler for posteriors that are not confirmed.
    sample_emulated : A checked sample for more parameters.

    Notes
    -----
    Weights are reliable if k̂ < min(1 − 1/log₁₀ n, 0.7), at least 30 draws are effective, and
    the standard error of every corrected mean is at most 0.15 standard deviations. The verdict is
    computed in unconstrained coordinates. A run with missing outputs counts as failed.

    With more than about 20 parameters the Gaussian of an ensemble is seldom close enough to the
    posterior, and the verdict is "not confirmed". `sample_emulated` checks its own sample by
    weights, also in this case. A narrow mode far from the ensemble is found only if a stored run
    or a draw of the prior is near the mode.

    For a stochastic model the likelihood of every draw is random, and the weights average over the
    randomness. The average is exact if the noise of ``problem`` is the noise of the observations
    alone, without the variance of the model. EKI and related methods need both variances in the
    noise. A problem with this noise cannot confirm the ensemble: the verdict is "not confirmed",
    without a model run. Pass another problem, with the noise of the observations alone.

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
            "result: must be of a method that keeps the prior of the problem, got a result with "
            "learned variances. Run another method with the kept parameters."
        )
    n = integer("n", n, least=_FEWEST)
    check_executor(executor)
    check_timeout(timeout)
    known = draws_of_prior(result, problem)
    return checked_by_runs(result, problem, n, known, executor, timeout, as_rng(rng)).result


class Checked(NamedTuple):
    """Result of a check."""

    result: xr.Dataset
    drawn: Draws | None
    """None if the model was not run."""


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
    """Check a posterior like `check_posterior`, with checked arguments and ``known`` prior draws.

    ``known`` has whitened draws ``(m, p)`` of the prior and their outputs ``(m, d)``, from any run
    of the problem. The last ensembles of the results ``before`` are further parts of the proposal.
    The stored runs of the first of them replace those of the result, unless the result started
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
    if result.attrs.get("members") == "kept":  # a sample may have any shape
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
    """The reason why a Gaussian of the members cannot be checked; "" if it can."""
    n, p = round(1 / float(weight @ weight), 6) if weight.size else 0, u.shape[1]
    if n <= p + 1:
        return (
            f"The {n:.4g} members span fewer directions than the {p} parameters. Draws from the "
            "Gaussian of the members cannot check the other directions, and the model was not run. "
            f"Use more than {p + 1} members."
        )
    same = np.flatnonzero(np.ptp(u, axis=0) == 0)
    if same.size:
        return (
            f"All members have the same value of {result.parameter.values[same[0]]!r}. The "
            "ensemble has no Gaussian, and the model was not run. Run the method again with a "
            "wider prior."
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
    """Run the model at draws of the mixture, add the ``known`` draws, and weight all draws."""
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
    """A copy of the result with this verdict, which replaces the verdict of an earlier check."""
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
