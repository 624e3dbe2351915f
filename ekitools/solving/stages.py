"""Stages of `solve`, carried out: a stage becomes a result, and what the result shows."""

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
from ekitools.core.statuses import INTERRUPTED, RUNS_SPENT
from ekitools.emulation.emulator import emulate
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
from ekitools.results.judged import elsewhere, too_few
from ekitools.results.proposal import draws_of_prior
from ekitools.results.reading import model_runs
from ekitools.results.shifts import CONFIRMED, largest_shift, verdict_of
from ekitools.results.trust import is_posterior
from ekitools.results.verdicts import checked_by_runs
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

__all__ = ["MOST_EMULATED", "Border", "Done", "Interrupted", "facts_of", "perform"]

MOST_EMULATED = 12
"""Parameters of a model above which an emulator of it knows too little."""

_INFLATION = 1.5
"""Standard deviations of a sampler's start, in those of the ensemble that it is from."""

_MOVES = 12
"""Moves at one temperature. With several modes more would follow, but a check is cheaper."""

_CRAWLING = 15
"""Iterations after which a tempering that needs many more is given up."""


class Border(NamedTuple):
    """Where and how the model runs."""

    executor: Executor | None
    timeout: float | None
    progress: bool


class Done(NamedTuple):
    """A stage with its result; None where the stage failed."""

    seen: Seen
    result: xr.Dataset | None


def facts_of(problem: InverseProblem) -> Facts:
    """What the plan has to know of a problem."""
    n_model = problem.n_parameters - problem.n_scales
    few = n_model <= MOST_EMULATED and not problem.info.stochastic
    return Facts(
        problem.n_parameters,
        unknown_noise=bool(problem.n_scales),
        noise=problem.has_noise,
        emulates=few and problem.has_noise and find_spec("sklearn") is not None,
        located=_located(problem),
    )


def _located(problem: InverseProblem) -> bool:
    """Whether parameters and data have places in a plane or in space.

    Along a line the coordinate of the data may be another one than that of the parameters.
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
    """Carry out a stage.

    Parameters
    ----------
    stage : Stage
        Of the plan.
    problem : InverseProblem
        What is solved.
    before : sequence of Done
        The stages before.
    rng : numpy.random.Generator
        For this stage alone.
    border : Border
        Of the model.
    folder : Path or None
        For the checkpoint of a stage that has iterations.

    Raises
    ------
    RunError
        If the model runs at no draw of the prior, or the executor broke down.
    Interrupted, KeyboardInterrupt
        After an interrupt from the keyboard.
    """
    made = [each.result for each in before if each.result is not None and each.seen.made]
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
        # not all runs of a stage without a result are known: it counts as if all were made
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
    return _ended(stage, result)


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
    saw = f"{said[0].upper()}{said[1:]}"
    if numbers.get("khat") is not None:
        told = f"{numbers['ess']:.0f} of {numbers['draws']} draws are effective"
        saw += f" with k-hat = {numbers['khat']:.2f}, and {told}"
    # a sampler's particles have no bias to be removed
    if said == CONFIRMED and drawn is not None and latest.attrs["members"] == "moved":
        result = resampled(result, drawn, problem, rng)
        saw += ". The last ensemble is resampled by the weights"
    seen = Seen(
        stage,
        numbers["runs"],
        is_posterior(result),
        made=False,
        torn=elsewhere(numbers, said),
        verdict=said,
        few=too_few(numbers),
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
    """A stage that made an ensemble."""
    if result.attrs["status_code"] == INTERRUPTED.code:
        raise Interrupted(result)
    shift, reached = largest_shift(result), is_posterior(result)
    level, code = result.attrs["status_level"], result.attrs["status_code"]
    saw = "It came to its end." if reached else f"It ended with the status {code!r}."
    if level != "bad" and float(result.t[-1]) >= 1:
        # particles that move slowly and refinements that were cut short may be right all the same
        reached = True
    if reached and shift is not None:
        saw += f" By weights that cost no run, a mean is off by {shift:.2g} standard deviations."
    shift = shift if reached else None
    torn = False
    if isinstance(stage, Approximate) and not is_posterior(result):
        # with all its iterations it should have come to its end
        torn = code != RUNS_SPENT or stage.most_runs >= ITERATIONS * stage.n_members
    return Done(Seen(stage, model_runs(result), reached, torn=torn, shift=shift, saw=saw), result)


class Interrupted(KeyboardInterrupt):
    """An interrupt from the keyboard within a stage, with what the stage had computed."""

    def __init__(self, result: xr.Dataset) -> None:
        super().__init__()
        self.result = result
