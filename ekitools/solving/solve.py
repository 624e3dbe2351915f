"""From a problem to a posterior with a verdict: `solve`."""

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
from ekitools.core.statuses import INTERRUPTED
from ekitools.core.streams import Streams
from ekitools.models.evaluate import check_executor, check_timeout
from ekitools.problem import InverseProblem, check_problem, check_whole
from ekitools.results.proposal import coordinates
from ekitools.results.shifts import CONFIRMED, CORRECTED, NOT_CONFIRMED, verdict_of
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
from ekitools.solving.stages import Border, Done, Interrupted, facts_of, perform
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
    r"""Find the posterior of a problem, and say whether model runs confirm it.

    The call begins with a cheap method and goes on as far as needed:

    1. `GNKI` from the prior. With too few members for the parameters it is `ETKI` with
       localization; with a loss in place of Gaussian noise it is `TemperedSMC`.
    2. The importance weights of the last members, which cost no run. An ensemble that is clearly
       wrong is not checked.
    3. `check_posterior`. A posterior that is confirmed ends the call. Its last ensemble is then
       resampled from the draws of the check by their importance weights [1]_, which removes the
       bias that the method still has. Earlier iterations stay as the method left them.
    4. `sample_emulated` where runs are few, the model is deterministic, has at most 12 parameters,
       and scikit-learn is installed. Otherwise `TemperedSMC`, first from the ensemble and then from
       the prior.
       Where there are signs of several modes, only the sampler from the prior follows: a method
       that gave up, or stored runs that contradict a check.
    5. Every sample is checked by `check_posterior` too, with a mixture of
       Gaussians as proposal. They are fitted to the sample and to the ensembles before, and draws
       of the prior are added.

    Parameters
    ----------
    problem : InverseProblem
        What is to be solved, with all its data at once.
    budget : int, optional
        Most model runs, those that fail included; at least 500. The default is 20,000. The call
        ends as soon as the posterior is confirmed, so most problems take less.
    executor : concurrent.futures.Executor, optional
        Where the model runs, as in `run`. The result does not depend on it.
    timeout : float, optional
        Seconds that one model run may take; a longer one counts as failed.
    rng : None, int or numpy.random.Generator
        Source of all randomness.
    checkpoint : str or Path, optional
        Folder for checkpoints. It must be new, empty, or of an earlier call with the same problem.
        A call with the folder of an earlier one goes on from there, with its randomness. If it was
        over without being confirmed, a larger ``budget`` takes it further. A check or an emulated
        sample that was interrupted is repeated; other stages go on from their last iteration.
    progress : bool, default False
        Whether to print a line for each stage, and bars, on standard error.

    Returns
    -------
    xarray.Dataset
        The best result, as from `run`, with the verdict of `check_posterior` and further
        attributes:

        ``verdict``, ``verdict_reason``
            "confirmed", "corrected" (use ``checked_mean``, ``checked_sd`` and
            ``checked_quantile``) or "not confirmed", and why.
        ``status``
            The same in a sentence, with the next thing to do.
        ``path``
            The stages, as a JSON list of sentences: what was done, the model runs, and what was
            seen.
        ``n_runs``, ``budget``
            Model runs of all stages, and the most that were allowed. ``model_runs`` counts those of
            the stage that made the result.
        ``advice``
            What ten times the runs would be used for.

        An interrupt from the keyboard returns the best result so far, not confirmed by more than
        it was.

    Raises
    ------
    RunError
        If the model runs at no draw of the prior, or the budget is spent before the first ensemble
        has run. The message has the most frequent reason.
    CheckpointError
        If ``checkpoint`` is in use, damaged, or of another problem, before any model run.
    KeyboardInterrupt
        If it comes before there is any result.
    TypeError, ValueError
        If an argument is out of order, before any model run.

    See Also
    --------
    summary : Shows the verdict, the path and all other checks.
    check_posterior : The check alone, for a result of your own.

    Notes
    -----
    The verdict is that of importance weights from fresh model runs. They see modes that the
    proposal, including its draws of the prior, reaches. A narrow mode that holds little of the
    prior can be missed by every stage. With more than about 20 parameters the weights are seldom
    reliable, and the verdict is "not confirmed" though the result may be right.

    For a stochastic model every run is one draw of its output, and it counts as if it were exact.
    The noise has to contain the variance of these draws. The verdict then refers to the posterior
    of the model with outputs drawn anew at every run.

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
    """A stage that an earlier call has finished, with its result."""
    _print(border, len(done), seen.line)
    if isinstance(seen.stage, Check | Emulate):
        if isinstance(seen.stage, Emulate) and not seen.made:
            return Done(seen, None)
        made = [each.result for each in done if each.result is not None and each.seen.made]
        return Done(seen, store.result(len(done), made))
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
        raise RunError(f"solve: no stage gave a result. {done[-1].seen.line} {end}")
    # of equal ones the last
    _, result = max(
        reversed(made), key=lambda each: _RANKS.get(each[0].verdict, 2 * each[0].reached)
    )
    seen = [each.seen for each in done]
    said = verdict_of(result) or NOT_CONFIRMED
    told = advice(facts, seen, budget)
    status, level = _STATUSES[said], "good" if said == CONFIRMED else "care"
    if said == NOT_CONFIRMED:
        status = f"{status} {INTERRUPTED.sentence if interrupted else told}"
    if result.attrs["status_level"] == "bad":
        level = "bad"
    reason = result.attrs.get("verdict_reason", f"It was not checked. {result.attrs['status']}")
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
        advice=told,
    )


_RANKS = {CONFIRMED: 4, CORRECTED: 3, NOT_CONFIRMED: 2}
"""A sample that was not checked counts as one that was not confirmed."""

_STATUSES = {
    CONFIRMED: "Confirmed by model runs: the ensemble is a sample of the posterior. Read it with "
    "ek.intervals(result) and ek.posterior(result).",
    CORRECTED: "Corrected by model runs: the ensemble differs from the posterior. Use "
    "checked_mean, checked_sd and checked_quantile of the result.",
    NOT_CONFIRMED: "Not confirmed by model runs: do not rely on the uncertainty of this ensemble. "
    "Read ek.summary(result).",
}
