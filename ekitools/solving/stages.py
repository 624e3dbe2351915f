"""Execution of the stages of `solve`: each stage yields a result and its findings."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

from ekitools import localization
from ekitools.core.errors import RunError
from ekitools.core.statuses import CONFIRMED, INTERRUPTED, RUNS_SPENT
from ekitools.emulation.emulator import emulate
from ekitools.emulation.regression import MOST_OF_PROCESS
from ekitools.emulation.sampling import sample_emulated
from ekitools.loop.driver import run_within
from ekitools.methods.eki import EKI
from ekitools.methods.etki import ETKI
from ekitools.methods.gaussian import GaussianStart
from ekitools.methods.gnki import GNKI
from ekitools.methods.smc.tempered import TemperedSMC
from ekitools.methods.steps import MisfitController
from ekitools.models.evaluate import BrokenPoolError
from ekitools.problem import InverseProblem
from ekitools.results.checks import attribute
from ekitools.results.judged import elsewhere, too_few, undecided
from ekitools.results.proposal import draws_of_prior
from ekitools.results.reading import model_runs
from ekitools.results.shifts import largest_shift, verdict_of
from ekitools.results.trust import is_posterior
from ekitools.results.verdicts import checked_by_runs, with_verdict
from ekitools.solving.plan import (
    ITERATIONS,
    Approximate,
    Check,
    Emulate,
    Facts,
    Sample,
    Seen,
    Stage,
)
from ekitools.solving.resampling import resampled
from ekitools.typing import HasPoints, Localization, Method

__all__ = ["MOST_EMULATED", "Border", "Done", "Interrupted", "ensembles", "facts_of", "perform"]

MOST_EMULATED = 40
"""Largest number of model parameters for an emulator: 861 terms of a quadratic regression."""

_MOST_CHECKED = 12
"""Largest number of parameters for which a sample of an emulator has a second check. With more
parameters Gaussian proposals are not effective, and the weights of the sample are the check."""

_LEAST_SHARE = 0.1
"""Smallest share of effective draws for which a check is repeated with more draws. On the random
problem 97 of `benchmarks/solving.py`, a thin ridge in seven dimensions, the share was 0.07, and a
larger check confirmed a wrong sample."""

_INFLATION = 1.5
"""Factor from the standard deviations of an ensemble to those of a sampler's start."""

_MOVES = 12
"""Largest number of moves at one temperature. With several modes a check is cheaper than moves."""

_CRAWLING = 15
"""Iterations after which tempering stops if it needs many more."""


class Border(NamedTuple):
    """Executor, timeout and progress display of model runs."""

    executor: Executor | None
    timeout: float | None
    progress: bool


class Done(NamedTuple):
    """A finished stage with its result; the result is None if the stage failed."""

    seen: Seen
    result: xr.Dataset | None


def ensembles(done: Sequence[Done]) -> list[xr.Dataset]:
    """Results of the stages that left an ensemble."""
    return [each.result for each in done if each.result is not None and each.seen.made]


def facts_of(problem: InverseProblem) -> Facts:
    """Properties of a problem that the plan depends on."""
    n_model = problem.n_parameters - problem.n_scales
    few = n_model <= MOST_EMULATED and not problem.info.stochastic
    regressor_at_hand = n_model > MOST_OF_PROCESS or find_spec("sklearn") is not None
    return Facts(
        problem.n_parameters,
        unknown_noise=bool(problem.n_scales),
        noise=problem.has_noise,
        emulates=few and problem.has_noise and regressor_at_hand,
        stochastic=problem.info.stochastic,
        located=_located(problem),
    )


def _located(problem: InverseProblem) -> bool:
    """Whether parameters and data have coordinates in the same plane or space.

    Coordinates on a line are ignored, because data and parameters may have different coordinates.
    """
    prior = problem.prior
    points = prior.points if isinstance(prior, HasPoints) else None
    if points is None or points.shape[1] < 2:
        return False
    try:
        localization.Distance(radius=1.0).located(problem.n_parameters, problem.n_data, problem)
    except ValueError:
        return False
    return True


def perform(
    stage: Stage,
    problem: InverseProblem,
    before: Sequence[Done],
    rng: np.random.Generator,
    border: Border,
    folder: Path | None,
) -> Done:
    """Execute a stage.

    Parameters
    ----------
    stage : Stage
        A stage of the plan.
    problem : InverseProblem
        The problem that is solved.
    before : sequence of Done
        The earlier stages.
    rng : numpy.random.Generator
        Random numbers of this stage.
    border : Border
        Executor, timeout and progress display.
    folder : Path or None
        Folder for the checkpoint of a stage with iterations.

    Raises
    ------
    RunError
        If the model fails at every draw of the prior, or the executor breaks down.
    Interrupted, KeyboardInterrupt
        After a keyboard interrupt.
    """
    made = ensembles(before)
    try:
        match stage:
            case Approximate():
                return _run(stage, _method(stage), problem, rng, border, folder)
            case Sample():
                start = None
                if stage.start == "result":
                    prior = problem.prior
                    start = GaussianStart.from_result(made[-1], prior, inflation=_INFLATION)
                return _run(
                    stage, TemperedSMC(start=start, max_moves=_MOVES), problem, rng, border, folder
                )
            case Emulate():
                return _emulated(stage, made, problem, rng, border)
            case Check():
                return _checked(stage, made, problem, rng, border)
    except RunError as error:
        nothing = error.result is None or error.result.sizes["iteration"] < 2
        if isinstance(error.__cause__, BrokenPoolError) or (nothing and not before):
            raise
        # without a result the number of runs is unknown: count the largest possible number
        runs = _most(stage) if error.result is None else model_runs(error.result)
        return Done(Seen(stage, runs, reached=False, made=False, saw=str(error)), None)


def _most(stage: Stage) -> int:
    return stage.n if isinstance(stage, Check) else stage.most_runs


def _method(stage: Approximate) -> Method:
    rules: dict[str, Localization | None] = {
        "": None,
        "Distance": localization.Distance(),
        "Correlation": localization.Correlation(),
    }
    rule = rules[stage.localization]
    step = MisfitController(max_runs=_CRAWLING)
    methods: dict[str, Method] = {
        "GNKI": GNKI(step),
        "ETKI": ETKI(step, localization=rule),
        "EKI": EKI(step, localization=rule),
    }
    return methods[stage.method]


def _emulated(
    stage: Emulate,
    made: Sequence[xr.Dataset],
    problem: InverseProblem,
    rng: np.random.Generator,
    border: Border,
) -> Done:
    try:
        emulator = emulate(made, problem, rng=rng)
    except ValueError as error:  # too few different runs
        return Done(Seen(stage, 0, reached=False, made=False, saw=str(error)), None)
    result = sample_emulated(
        emulator,
        n_draws=stage.n_draws,
        max_runs=stage.most_runs,
        rng=rng,
        executor=border.executor,
        timeout=border.timeout,
    )
    done = _ended(stage, result)
    if not is_posterior(result) or problem.n_parameters <= _MOST_CHECKED:
        return done
    result, saw = _confirmed(result)
    return Done(done.seen._replace(verdict=CONFIRMED, saw=saw), result)


def _confirmed(result: xr.Dataset) -> tuple[xr.Dataset, str]:
    """A sample whose draws had true runs, with the verdict of these weights, in a sentence."""
    n, ess, khat = result.sizes["member"], float(result.history_ess[-1]), result.history_khat[-1]
    reason = f"In the last round {ess:.0f} of {n} draws of the emulator's posterior are effective."
    numbers = {
        "runs": 0,  # those of the rounds count already
        "failed": int(np.isnan(result.misfit[-1]).sum()),
        "draws": n,
        "khat": float(khat) if np.isfinite(khat) else None,
        "ess": ess,
    }
    return with_verdict(result, CONFIRMED, reason, numbers, {}), f"Confirmed. {reason}"


def _checked(
    stage: Check,
    made: Sequence[xr.Dataset],
    problem: InverseProblem,
    rng: np.random.Generator,
    border: Border,
) -> Done:
    known = draws_of_prior(made[0], problem)
    executor, timeout = border.executor, border.timeout
    *before, latest = made
    result, drawn = checked_by_runs(latest, problem, stage.n, known, executor, timeout, rng, before)
    numbers, said = attribute(result, "check", {}), verdict_of(result)
    moved, saw = latest.attrs["members"] == "moved", f"{said[0].upper()}{said[1:]}"
    if numbers.get("khat") is not None:
        effective = f"{numbers['ess']:.0f} of {numbers['draws']} draws are effective"
        saw += f" with k-hat = {numbers['khat']:.2f}, and {effective}"
    # the particles of a sampler have no bias that resampling could remove
    if said == CONFIRMED and drawn is not None and moved:
        result = resampled(result, drawn, problem, rng)
        saw += ". The last ensemble is resampled by the weights"
    few = too_few(numbers) or (not moved and undecided(numbers, said))
    seen = Seen(
        stage,
        numbers["runs"],
        is_posterior(result),
        made=False,
        torn=elsewhere(numbers, said),
        verdict=said,
        few=few and numbers["ess"] >= _LEAST_SHARE * numbers["draws"],
        saw=f"{saw}.",
    )
    return Done(seen, result)


def _run(
    stage: Approximate | Sample,
    method: Method,
    problem: InverseProblem,
    rng: np.random.Generator,
    border: Border,
    folder: Path | None,
) -> Done:
    result = run_within(
        stage.most_runs,
        problem,
        method,
        stage.n_members,
        rng=rng,
        executor=border.executor,
        timeout=border.timeout,
        checkpoint=folder,
        progress=border.progress,
    )
    return _ended(stage, result)


def _ended(stage: Stage, result: xr.Dataset) -> Done:
    """The findings of a stage that made an ensemble."""
    if result.attrs["status_code"] == INTERRUPTED.code:
        raise Interrupted(result)
    shift, reached = largest_shift(result), is_posterior(result)
    level, code, finished = result.attrs["status_level"], result.attrs["status_code"], reached
    saw = "The method finished." if finished else f"The method ended with the status {code!r}."
    if level != "bad" and float(result.t[-1]) >= 1:
        # slowly moving particles and shortened refinements may still be right
        reached = True
    if reached and shift is not None:
        saw += f" The weights of its last members shift a mean by {shift:.2g} standard deviations."
    shift = shift if reached else None
    torn = False
    if isinstance(stage, Approximate) and not finished:
        # a method with all its iterations should have finished
        torn = code != RUNS_SPENT or stage.most_runs >= ITERATIONS * stage.n_members
    seen = Seen(
        stage, model_runs(result), reached, finished=finished, torn=torn, shift=shift, saw=saw
    )
    return Done(seen, result)


class Interrupted(KeyboardInterrupt):
    """A keyboard interrupt within a stage, with the stage's result so far."""

    def __init__(self, result: xr.Dataset) -> None:
        super().__init__()
        self.result = result
