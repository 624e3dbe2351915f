"""`solve`, which turns a problem into a posterior with a verdict."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path

import numpy as np
import xarray as xr

from ekitools.core.checks import as_path, flag, integer
from ekitools.core.errors import RunError
from ekitools.core.statuses import CONFIRMED, CORRECTED, INTERRUPTED, NOT_CONFIRMED
from ekitools.core.streams import Streams
from ekitools.models.evaluate import check_executor, check_timeout
from ekitools.problem import InverseProblem, check_problem, check_whole
from ekitools.results.proposal import coordinates
from ekitools.results.shifts import verdict_of
from ekitools.solving.plan import (
    DEFAULT_BUDGET,
    LEAST_BUDGET,
    Check,
    Emulate,
    Facts,
    Seen,
    advice,
    following,
)
from ekitools.solving.stages import Border, Done, Interrupted, ensembles, facts_of, perform
from ekitools.solving.store import Store
from ekitools.typing import Rng

__all__ = ["solve"]


def solve(
    problem: InverseProblem,
    *,
    budget: int | None = None,
    executor: Executor | None = None,
    timeout: float | None = None,
    rng: Rng = None,
    checkpoint: str | Path | None = None,
    progress: bool = False,
) -> xr.Dataset:
    r"""Find the posterior of a problem, and check it by further model runs.

    The call starts with a cheap method and stops as soon as the posterior is confirmed:

    1. `GNKI` runs from the prior. If the budget allows too few members for the parameters, `ETKI`
       with localization runs instead. If the problem has a loss in place of Gaussian noise,
       `TemperedSMC` runs instead.
    2. The importance weights of the last members are computed without model runs. An ensemble that
       is clearly wrong is not checked further. If few runs are left and the model can be emulated,
       a doubtful ensemble is not checked either: its method did not finish, or the weights shift a
       mean by more than a quarter of a standard deviation.
    3. `check_posterior` runs. If it confirms the posterior, the call ends. The last ensemble is
       then resampled from the draws of the check by their importance weights [1]_, which removes
       the remaining bias of the method. Earlier iterations do not change.
    4. `sample_emulated` runs if the model is deterministic and has 13 to 40 parameters, or if the
       model is deterministic and has fewer parameters, the remaining budget is small, and
       scikit-learn is installed. Otherwise `TemperedSMC` runs, first from the ensemble and then
       from the prior. If there are signs of several modes, only the
       sampler from the prior runs. These signs are a method that stopped early, and stored runs
       that contradict a check.
    5. `check_posterior` checks every sample too. The proposal is a mixture of Gaussians that are
       fitted to the sample and to earlier ensembles, with added draws of the prior. A check with
       too few draws is repeated with more draws. An emulated sample of more than 12 parameters is
       instead judged by the weights of its own model runs.

    Parameters
    ----------
    problem : InverseProblem
        Problem to solve. Every step must use all of its data.
    budget : int, optional
        Largest number of model runs, including failed runs; at least 500. The default is 20,000.
        Most problems need fewer runs, because the call ends as soon as the posterior is confirmed.
    executor : concurrent.futures.Executor, optional
        Evaluates the members, as in `run`. The result does not depend on the executor.
    timeout : float, optional
        Time limit of one model run in seconds. A longer run counts as failed.
    rng : None, int or numpy.random.Generator
        Source of all randomness.
    checkpoint : str or Path, optional
        Folder for checkpoints. It must be new, empty, or the folder of an earlier call with the
        same problem. The new call then continues the earlier call, with the same random numbers.
        Pass a larger ``budget`` to continue a call that ended without confirmation. An interrupted
        check or emulated sample is repeated. Other stages continue from their last iteration.
    progress : bool, default False
        Whether to print a line for each stage, and progress bars, to standard error.

    Returns
    -------
    xarray.Dataset
        The best result, in the form of `run`, with the verdict of `check_posterior` and these
        attributes:

        ``verdict``, ``verdict_reason``
            "confirmed", "corrected" (use ``checked_mean``, ``checked_sd`` and
            ``checked_quantile``) or "not confirmed", and the reason.
        ``status``
            The verdict in a sentence, with the next action.
        ``path``
            A JSON list with the reason, the model runs and the findings of each stage, in
            sentences.
        ``n_runs``, ``budget``
            Model runs of all stages, and the largest number allowed. ``model_runs`` counts the runs
            of the stage that made the result.
        ``advice``
            Use of ten times the budget.

        A keyboard interrupt returns the best result so far, with its verdict so far.

    Raises
    ------
    RunError
        If the model fails at every draw of the prior, or the budget is spent before the first
        ensemble is evaluated. The message contains the most frequent reason.
    CheckpointError
        If ``checkpoint`` is in use, damaged, or belongs to another problem, before any model run.
    KeyboardInterrupt
        If the interrupt arrives before the first result.
    TypeError, ValueError
        If an argument is invalid, before any model run.

    See Also
    --------
    summary : Shows the verdict, the path and all other checks.
    check_posterior : Checks the result of any run.

    Notes
    -----
    The verdict depends on importance weights from new model runs. The weights detect modes that the
    proposal reaches, including its draws of the prior. Every stage can miss a narrow mode with a
    small share of the prior. With more than about 20 parameters the weights are seldom reliable.
    The verdict is then "not confirmed" even if the result is right.

    For a stochastic model the noise must be that of the observations alone. A sampler then follows
    the first stage without a check, and the likelihood is the mean over the random outputs at the
    same parameters. If the randomness is large beside the noise, no sample can be confirmed.

    References
    ----------
    .. [1] Rubin (1988), Bayesian Statistics 3, 395-402.

    Examples
    --------
    >>> import ekitools as ek
    >>> problem = ek.problems.linear(p=3).problem
    >>> result = ek.solve(problem, budget=2000, rng=0)
    >>> result.attrs["verdict"], result.attrs["n_runs"] <= 2000
    ('confirmed', True)
    """
    check_problem(problem)
    check_whole(problem, "ek.solve")
    coordinates(np.asarray(problem.prior.sample(1, rng=0), dtype=np.float64), problem)
    budget = DEFAULT_BUDGET if budget is None else integer("budget", budget, least=LEAST_BUDGET)
    check_executor(executor)
    check_timeout(timeout)
    border = Border(executor, timeout, flag("progress", progress))
    facts, streams = facts_of(problem), Streams(rng)
    if checkpoint is None:
        return _solved(problem, facts, budget, streams.root, border, None)
    folder = as_path("checkpoint", checkpoint, "a folder").absolute()
    store = Store(folder, problem)
    root = store.root or streams.root
    with store.holding(root):
        return _solved(problem, facts, budget, root, border, store)


def _solved(
    problem: InverseProblem,
    facts: Facts,
    budget: int,
    root: list[int],
    border: Border,
    store: Store | None,
) -> xr.Dataset:
    done: list[Done] = []
    earlier = [] if store is None else list(store.seen)
    while True:
        seen, number = [each.seen for each in done], len(done)
        rng = np.random.default_rng(np.random.SeedSequence(root, spawn_key=(number,)))
        folder = None if store is None else store.path(number)
        if store is not None and number < len(earlier):
            done.append(_restored(earlier[number], problem, done, rng, border, store))
            continue
        stage, why = following(facts, seen, budget)
        if store is not None and store.begun is not None:
            stage, why = store.begun
        if stage is None:
            break
        if store is not None:
            store.begin(stage, why)
        try:
            last = perform(stage, problem, done, rng, border, folder)
        except Interrupted as error:
            runs = int(error.result.attrs["model_runs"])
            cut = Seen(stage, runs, reached=False, saw=INTERRUPTED.sentence, why=why)
            return _result([*done, Done(cut, error.result)], facts, budget, "", interrupted=True)
        except KeyboardInterrupt:
            if not done:
                raise
            return _result(done, facts, budget, INTERRUPTED.sentence, interrupted=True)
        last = last._replace(seen=last.seen._replace(why=why))
        if store is not None:
            store.end(last)
        done.append(last)
        _print(border, number, last.seen.line)
    _print(border, len(done), f"{why}.")
    return _result(done, facts, budget, f"{why}.")


def _restored(
    seen: Seen,
    problem: InverseProblem,
    done: Sequence[Done],
    rng: np.random.Generator,
    border: Border,
    store: Store,
) -> Done:
    """Restore a stage that an earlier call has finished."""
    _print(border, len(done), seen.line)
    if isinstance(seen.stage, Check | Emulate):
        if isinstance(seen.stage, Emulate) and not seen.made:
            return Done(seen, None)
        return Done(seen, store.result(len(done), ensembles(done)))
    if not seen.made:
        return Done(seen, None)
    quiet = border._replace(progress=False)
    again = perform(seen.stage, problem, done, rng, quiet, store.path(len(done)))
    return Done(seen, again.result)


def _print(border: Border, number: int, line: str) -> None:
    if border.progress:
        print(f"{number + 1}. {line}", file=sys.stderr, flush=True)


def _result(
    done: Sequence[Done], facts: Facts, budget: int, end: str, *, interrupted: bool = False
) -> xr.Dataset:
    """The best result with the verdict, the path and the advice."""
    made = [(each.seen, each.result) for each in done if each.result is not None]
    if not made:
        raise RunError(f"solve: no stage made a result. {done[-1].seen.line} {end}")
    # the last of equally good results
    _, result = max(
        reversed(made), key=lambda each: _RANKS.get(each[0].verdict, 2 * each[0].reached)
    )
    seen = [each.seen for each in done]
    said = verdict_of(result) or NOT_CONFIRMED
    next_action = advice(facts, seen, budget)
    status, level = _STATUSES[said], "good" if said == CONFIRMED else "care"
    if said == NOT_CONFIRMED:
        status = f"{status} {INTERRUPTED.sentence if interrupted else next_action}"
    if result.attrs["status_level"] == "bad":
        level = "bad"
    unchecked = f"The result was not checked. {result.attrs['status']}"
    reason = result.attrs.get("verdict_reason", unchecked)
    code = INTERRUPTED.code if interrupted and said != CONFIRMED else said.replace(" ", "_")
    path = [each.line for each in seen] + [end] * bool(end)
    return result.assign_attrs(
        verdict=said,
        verdict_reason=reason,
        status=status,
        status_code=code,
        status_level=level,
        path=json.dumps(path),
        n_runs=sum(each.runs for each in seen),
        budget=budget,
        advice=next_action,
    )


_RANKS = {CONFIRMED: 4, CORRECTED: 3, NOT_CONFIRMED: 2}
"""Ranks of the verdicts. A sample without a check ranks as one that is not confirmed."""

_STATUSES = {
    CONFIRMED: "Confirmed by model runs: the ensemble is a sample of the posterior. Read it with "
    "ek.intervals(result) and ek.posterior(result).",
    CORRECTED: "Corrected by model runs: the ensemble differs from the posterior. Use "
    "checked_mean, checked_sd and checked_quantile of the result.",
    NOT_CONFIRMED: "Not confirmed by model runs: do not rely on the uncertainty of this ensemble. "
    "Read ek.summary(result).",
}
