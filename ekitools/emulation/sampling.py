"""Rounds of sampling an emulator, running the model at the draws, and learning from the runs."""

from __future__ import annotations

import json
import time
from concurrent.futures import Executor
from typing import NamedTuple

import numpy as np
import xarray as xr

from ekitools.core.arrays import host
from ekitools.core.checks import integer
from ekitools.core.errors import RunError
from ekitools.core.statuses import INTERRUPTED
from ekitools.core.streams import Streams
from ekitools.emulation.emulator import Emulator, fitted
from ekitools.emulation.runs import runs_of
from ekitools.linalg.pareto import pareto_smoothed
from ekitools.loop.driver import run
from ekitools.methods.gaussian import GaussianStart
from ekitools.methods.smc.resampling import effective_sample_size
from ekitools.methods.smc.tempered import TemperedSMC
from ekitools.methods.unknown_noise import misfits_of_members
from ekitools.models.evaluate import check_executor, check_timeout, evaluate
from ekitools.models.workers import Workers
from ekitools.problem import InverseProblem
from ekitools.results.dataset import to_dataset
from ekitools.results.history import History, Record, Summary
from ekitools.results.reading import members_at
from ekitools.typing import Reported, Rng, Status

__all__ = ["sample_emulated"]

_ESS, _KHAT = 0.5, 0.7
"""Least effective share of the draws, and the largest shape of the tail of their weights."""

_EQUAL = 0.999
"""Effective share above which weights are so equal that the shape of their tail is rounding."""

_EDGE = 0.05
"""Largest share of the particles at the edge of what the emulator knows."""

_PARTICLES = 5
"""Particles of the emulator's posterior for each draw of a round."""

_WIDER = 1.5
"""Standard deviations of the start of a round, in those of the sample of the round before."""


class _Proposal(NamedTuple):
    """Draws of the emulator's posterior."""

    u: np.ndarray
    """Physical, ``(n, p + B)``."""
    gap: np.ndarray
    """Their negative log-likelihood under the emulator, ``(n,)``."""
    sample: np.ndarray
    """All particles, physical, of equal weight."""
    log_evidence: float
    at_edge: float
    """Share of the particles about which the emulator knows little."""


class _Outputs(NamedTuple):
    """True outputs at draws."""

    g: np.ndarray
    """``(n, d)``, NaN where the model failed."""
    reasons: dict[int, str]
    """Why, by draw."""
    n_runs: int


class _Round(NamedTuple):
    """Draws with true outputs and importance weights."""

    record: Record
    ess: float
    """Effective number of the weights, as a share of the draws."""
    khat: float
    share_wrong: float
    log_evidence: float
    at_edge: float

    @property
    def good(self) -> bool:
        light = self.khat < _KHAT or self.ess > _EQUAL
        return self.ess > _ESS and light and self.at_edge <= _EDGE


def sample_emulated(
    emulator: Emulator,
    *,
    n_draws: int = 400,
    max_runs: int = 2000,
    rng: Rng = None,
    executor: Executor | None = None,
    timeout: float | None = None,
) -> xr.Dataset:
    r"""Sample the posterior by way of an emulator, and correct the sample by true runs.

    In every round `TemperedSMC` samples the posterior of the emulator,
    :math:`q(u) \propto \hat L(u) \mu_0(u)`, in which :math:`\hat L` has the emulator's variance.
    The model is run at draws of q. The true likelihood L gives them importance weights
    :math:`w = L / \hat L`, whose tail is Pareto-smoothed [1]_, and the emulator learns from the new
    runs. A round has ``n_draws / 4`` draws until the effective number of the weights is more than
    half of the draws, the Pareto shape k̂ is below 0.7, and at most 5 % of the sample of q is at
    the edge of the region in which the emulator is valid. The following rounds have ``n_draws``
    draws, until one meets the same conditions.

    Parameters
    ----------
    emulator : Emulator
        An emulator from `emulate`.
    n_draws : int, default 400
        Draws of the last round, at least 100.
    max_runs : int, default 2000
        Largest number of model runs of this call.
    rng : None, int or numpy.random.Generator
        Source of randomness.
    executor : concurrent.futures.Executor, optional
        Runs the model, as in `run`.
    timeout : float, optional
        Seconds for one run of the model.

    Returns
    -------
    xarray.Dataset
        As from `run`. Every round is an iteration, from 1 on, with the true outputs of its draws
        and their ``weight``. ``history_ess`` and ``history_khat`` belong to the weights,
        ``history_share_wrong`` is the share of the held-out z-scores of the emulator beyond 3, and
        ``history_log_evidence`` is as in `TemperedSMC`. ``model_runs`` counts runs of this call.
        The attribute ``posterior`` is 1 only if the last round met the conditions.

    Raises
    ------
    RunError
        If the model fails at all draws of a round, or the emulator has no likelihood to sample.
    TypeError, ValueError
        If an argument has the wrong type or is out of range, before any model run.

    See Also
    --------
    emulate : Makes the emulator.

    Notes
    -----
    The draws are taken from a sample of q with five times as many members. Factors near 1 in the
    final weights give the draws the means and variances of this sample. A failed run has the weight
    0. After an interrupt from the keyboard the call returns the rounds so far.

    If a call ends early, no run is lost: ``ek.emulate([result, sample], problem)`` also learns from
    the rounds.

    References
    ----------
    .. [1] Vehtari, Simpson, Gelman, Yao & Gabry (2024), J. Mach. Learn. Res. 25(72).

    Examples
    --------
    >>> import ekitools as ek
    >>> problem = ek.problems.linear(p=2, d=3).problem
    >>> result = ek.run(problem, ek.EKI(), n_members=50, rng=0)
    >>> emulator = ek.emulate(result, problem)
    >>> sample = ek.sample_emulated(emulator, n_draws=200, rng=0)
    >>> sample.attrs["status_code"], sample.attrs["model_runs"] <= 50 + 200
    ('posterior_reached', True)
    """
    if not isinstance(emulator, Emulator):
        raise TypeError(f"emulator: must be a result of ek.emulate, got {type(emulator).__name__}.")
    n_draws = integer("n_draws", n_draws, least=100)
    max_runs = integer("max_runs", max_runs, least=n_draws + _few(n_draws))
    check_executor(executor)
    check_timeout(timeout)
    since, streams, problem = time.perf_counter(), Streams(rng), emulator.problem
    history, rounds = History(n_draws, "all"), list[_Round]()
    history.summaries.append(_before())
    status: Status | None = None
    latest, start = emulator, emulator.start
    with Workers(executor) as workers:
        while status is None:
            n = n_draws if any(each.good for each in rounds) else _few(n_draws)
            if history.model_runs + n > max_runs:
                status = _not_confirmed(rounds[-1], max_runs, n)
                break
            number = len(history.summaries)
            try:
                if rounds:
                    latest = _refitted(emulator, rounds, streams.policy(number))
                proposal = _proposed(latest, n, start, streams.step(number))
                outputs = _evaluated(problem, proposal.u, number, streams, workers, timeout)
            except KeyboardInterrupt:
                if not rounds:
                    raise
                status = INTERRUPTED
                break
            last = _weighted(proposal, outputs, latest, number)
            rounds.append(last)
            history.model_runs += outputs.n_runs
            history.failures += [
                {"iteration": number, "member": j, "reason": reason}
                for j, reason in outputs.reasons.items()
            ]
            history.summaries.append(_summary(last, n, history.model_runs))
            if last.good and n == n_draws:
                status = _confirmed(last, n)
            start = GaussianStart.from_ensemble(
                proposal.sample, problem.prior, inflation=_WIDER, prior_share=0
            )
    history.records = [_padded(each.record, len(rounds[-1].record.u)) for each in rounds]
    attributes = {
        "problem": problem.fingerprint(),
        "method": json.dumps({"type": "Emulator", "n_draws": n_draws, "max_runs": max_runs}),
        "seed": streams.root,
        "seconds": time.perf_counter() - since,
        "covariance_normalisation": "1/(J-1)",
        "start": "method",
        "aim": "posterior",
        "linear_over": "none",
        "members": "kept",
    }
    return to_dataset(history, problem, status, attributes)


def _few(n_draws: int) -> int:
    """Draws of a round that only improves the emulator."""
    return max(n_draws // 4, 50)


def _refitted(emulator: Emulator, rounds: list[_Round], rng: np.random.Generator) -> Emulator:
    """An emulator that has learned from the rounds too."""
    u = np.concatenate([each.record.u for each in rounds])
    g = np.concatenate([each.record.g for each in rounds])
    found = runs_of(u, g, emulator.problem)
    return fitted(
        emulator.problem,
        emulator.runs.joined(found),
        emulator.regressor,
        emulator.most_points,
        len(found.u),
        rng,
    )


def _proposed(
    emulator: Emulator, n: int, start: GaussianStart, rng: np.random.Generator
) -> _Proposal:
    """Draws of the emulator's posterior."""
    cheap = emulator.problem_with(emulator.inflation)
    n_particles = max(_PARTICLES * n, 500)
    sampled = run(cheap, TemperedSMC(start=start), n_members=n_particles, rng=rng, store="last")
    if sampled.attrs["status_code"] == INTERRUPTED.code:
        raise KeyboardInterrupt
    if sampled.attrs["status_level"] == "bad":
        raise RunError(
            "emulator: must have a likelihood near its runs, but the sampler found none. Emulate "
            f"runs that are closer to the data. The sampler said: {sampled.attrs['status']}"
        )
    members = members_at(sampled, -1)
    rows = members.equally_weighted(rng)
    chosen = np.sort(rng.permutation(rows)[:n])
    return _Proposal(
        members.u[chosen], members.misfit[chosen], members.u[rows],
        float(sampled.attrs["log_evidence"]), float(np.mean(emulator.at_edge(members.u[rows]))),
    )  # fmt: skip


def _evaluated(
    problem: InverseProblem,
    u: np.ndarray,
    number: int,
    streams: Streams,
    workers: Workers,
    timeout: float | None,
) -> _Outputs:
    """The model at every draw. Draws that are copies of one particle share a run."""
    seeds, where = None, np.arange(len(u))
    if problem.info.stochastic:
        seeds = [streams.member(number, j) for j in range(len(u))]
    else:
        u, where = np.unique(u, axis=0, return_inverse=True)
    found = evaluate(
        problem.model, u, problem.n_data, executor=workers, timeout=timeout, seeds=seeds
    )
    failures = found.failures
    reasons = {j: failures[i].reason for j, i in enumerate(where.tolist()) if i in failures}
    return _Outputs(host(found.g).astype(np.float64)[where], reasons, len(u))


def _weighted(proposal: _Proposal, outputs: _Outputs, emulator: Emulator, number: int) -> _Round:
    """The draws with true outputs and importance weights."""
    problem, n = emulator.problem, len(proposal.u)
    z = host(problem.prior.to_unconstrained(proposal.u))
    misfit, log_scale = misfits_of_members(z, outputs.g, problem)
    failed = ~np.isfinite(misfit)
    if failed.all():
        reason = next(iter(outputs.reasons.values()), "misfits that are not finite")
        raise RunError(
            f"model: must return outputs at one draw at least, got {n} failures in {n} runs. "
            f"Reason: {reason}"
        )
    log_weight = np.where(failed, -np.inf, proposal.gap - misfit - log_scale)
    weight, khat = pareto_smoothed(log_weight)
    ess = effective_sample_size(weight) / n
    weight *= _calibration(z, proposal.sample, problem)
    log_mean = float(np.logaddexp.reduce(log_weight)) - np.log(n)

    weight /= weight.sum()
    record = Record(
        number, proposal.u, outputs.g, np.where(failed, np.nan, misfit), failed, 1.0, np.nan, weight
    )
    log_evidence = proposal.log_evidence + log_mean
    return _Round(record, ess, khat, emulator.share_wrong, log_evidence, proposal.at_edge)


def _padded(record: Record, n: int) -> Record:
    """A record with rows of NaN up to ``n``: rounds have no more draws than the last one."""
    more = n - len(record.u)

    def padded(rows: np.ndarray) -> np.ndarray:
        return np.concatenate([rows, np.full((more, *rows.shape[1:]), np.nan)])

    return record._replace(
        u=padded(record.u), g=padded(record.g), misfit=padded(record.misfit),
        failed=np.pad(record.failed, (0, more)), weight=padded(record.weight),
    )  # fmt: skip


def _calibration(z: np.ndarray, sample: np.ndarray, problem: InverseProblem) -> np.ndarray:
    """Factors of draws, ``(n,)``, that give them the means and variances of a larger sample.

    They are the closest to 1 by least squares, and at least 0.2.
    """
    prior = problem.prior
    x, all_x = (host(prior.whiten(each)) for each in (z, host(prior.to_unconstrained(sample))))
    centre, scale = all_x.mean(axis=0), all_x.std(axis=0)

    def features(points: np.ndarray) -> np.ndarray:
        y = (points - centre) / np.where(scale > 0, scale, 1.0)
        return np.concatenate([np.ones((len(y), 1)), y, y * y], axis=1)

    here = features(x)
    if len(x) < 4 * here.shape[1]:
        return np.ones(len(x))
    gap = features(all_x).mean(axis=0) - here.mean(axis=0)
    factor = 1 + here @ np.linalg.lstsq(here.T @ here / len(x), gap, rcond=None)[0]
    return np.maximum(factor, 0.2)


def _before() -> Summary:
    """The entry of the history that stands for the runs that the first emulator learned from."""
    nan = np.nan
    return Summary(0.0, nan, nan, nan, 0, nan, _extra(nan, nan, nan, nan))


def _summary(last: _Round, n: int, model_runs: int) -> Summary:
    record = last.record
    kept = np.isfinite(record.misfit)
    misfit = float(np.average(record.misfit[kept], weights=record.weight[kept]))
    extra = _extra(last.ess * n, last.khat, last.share_wrong, last.log_evidence)
    return Summary(1.0, np.nan, misfit, np.nan, model_runs, misfit, extra)


def _extra(ess: float, khat: float, wrong: float, log_evidence: float) -> dict[str, Reported]:
    return {
        "ess": Reported(ess, "effective number of members, (sum w)^2 / sum w^2"),
        "khat": Reported(khat, "Pareto shape of the tail of the weights"),
        "share_wrong": Reported(wrong, "share of held-out z-scores of the emulator beyond 3"),
        "log_evidence": Reported(log_evidence, "log of the prior mean of exp(-misfit)"),
    }


def _confirmed(last: _Round, n: int) -> Status:
    return Status(
        "posterior_reached",
        f"True runs confirm the sample: the weights of {n} draws of the emulator's posterior have "
        f"an effective number of {last.ess * n:.4g}"
        + ("." if last.ess > _EQUAL else f" and a Pareto shape of {last.khat:.2f}."),
        level="good",
        posterior=True,
    )


def _not_confirmed(last: _Round, max_runs: int, n: int) -> Status:
    """The budget of runs does not allow another round."""
    wrong = ""
    if last.share_wrong > 0.05:
        wrong = (
            f" {100 * last.share_wrong:.2g} % of the held-out runs are more than 3 standard "
            "deviations from the emulator's prediction: use another regressor."
        )
    return Status(
        "not_confirmed",
        f"The next round of {n} model runs exceeds max_runs = {max_runs}, and true runs do not "
        f"confirm the sample yet: the weights of the last round have an effective share of "
        f"{last.ess:.2g} and a Pareto shape of {last.khat:.2g}; {100 * last.at_edge:.2g} % of the "
        f"sample is at the edge of what the emulator knows.{wrong} Continue with "
        "ek.sample_emulated(ek.emulate([result, sample], problem)).",
        level="care",
    )
