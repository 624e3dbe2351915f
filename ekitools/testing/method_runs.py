"""Checks of a method: whole runs in float32, in place, from a checkpoint, with momentum."""

from __future__ import annotations

import copy
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ekitools.loop.checkpoint import pack, unpack
from ekitools.loop.driver import resume, run
from ekitools.methods.nesterov import Nesterov
from ekitools.testing.options import fresh, rebuilt
from ekitools.testing.promises import broken, calling, difference, exactly
from ekitools.testing.trial import Trial
from ekitools.typing import ByCoefficients, InPlace

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["check_float32", "check_in_place", "check_momentum", "check_on_disk", "check_resume"]

_RESUMED = 5
"""Steps of the runs that are interrupted."""


def check_float32(trial: Trial) -> None:
    """Check that a float32 ensemble stays one."""
    remedy = "Convert random numbers and matrices to the dtype of the ensemble."
    for step in trial.steps(trial.ensemble.astype(np.float32), 8):
        arrays = {
            "init" if step.state.n == 0 else "tell": step.state.ensemble,
            "ask": trial.ask(step.state),
            "tell": step.following.ensemble,
        }
        for member, array in arrays.items():
            if str(array.dtype).rpartition(".")[2] != "float32":
                rule = "must keep the dtype of the ensemble, float32"
                raise broken(member, rule, f"{array.dtype} at step {step.state.n}", remedy)
        if step.info.misfit.dtype != np.float64:
            got = str(step.info.misfit.dtype)
            remedy = "Convert it by np.asarray(misfit, dtype=np.float64)."
            raise broken("StepInfo.misfit", "must be float64 for any ensemble", got, remedy)


def check_in_place(trial: Trial) -> None:
    """Check that an update in place is the same step."""
    if not (isinstance(trial.method, InPlace) and trial.method.updates_in_place):
        return
    for step in trial.walk[:6]:
        state = copy.deepcopy(step.state)
        following, info = trial.tell(state, step.g.copy(), in_place=True)
        if phrase := difference(following, step.following, "state", rtol=1e-9):
            rule = "must make the same step with in_place=True"
            raise broken("tell", rule, phrase, "Read what is needed before it is overwritten.")
        if info.status is not None:
            rule = "must not overwrite the ensemble where the run ends, even with in_place=True"
            remedy = "Write nothing before the step is known to be made."
            exactly(state.ensemble, step.state.ensemble, "tell", rule, remedy, "ensemble")


def check_on_disk(trial: Trial) -> None:
    """Check that a run with the ensemble on disk is the run in memory."""
    method = trial.method
    if not (isinstance(method, ByCoefficients) and method.by_coefficients):
        return
    options: Any = {"n_members": trial.n_members, "rng": trial.seed, "store": "final"}
    remedy = (
        "Use the ensemble by kalman_update, total_variance and take_rows alone, or let "
        "by_coefficients be False."
    )
    n_steps = min(_RESUMED, len(trial.walk))
    whole = run(trial.problem, fresh(method), n_steps=n_steps, **options)
    rule = "must run with the ensemble on disk, as by_coefficients declares"
    with tempfile.TemporaryDirectory(prefix="ekitools-") as folder, calling("tell", rule, remedy):
        found = run(trial.problem, fresh(method), n_steps=n_steps, scratch=folder, **options)
        found = found.load().copy(deep=True)
    if phrase := _difference_of_results(found, whole):
        rule = "must make the same run with the ensemble on disk"
        raise broken("tell", rule, phrase, remedy)


def check_resume(trial: Trial) -> None:
    """Check that a checkpoint holds all that the next step needs."""
    remedy = (
        "Annotate each field of the State that holds a NamedTuple with its class, and define both "
        "at the top of a module."
    )
    for step in trial.walk:
        with calling("State", "must come back from a checkpoint", remedy):
            packed, arrays = pack(step.state)
            text = json.dumps(packed)
            back = unpack(trial.method.State, json.loads(text), arrays, np.empty(0))
        rule = "must come back from a checkpoint as it was"
        exactly(back, step.state, "State", rule, remedy, "state")
    _check_interrupted_runs(trial)


def check_momentum(trial: Trial) -> None:
    """Check that `Nesterov` can carry the steps of the method on."""
    if not trial.moves or trial.nodes:
        return
    remedy = "Let select refresh what the state holds of its members: Nesterov replaces them."
    rule = "must let Nesterov(method) run"
    with calling("select", rule, remedy):
        options: Any = {"n_members": trial.n_members, "rng": trial.seed, "store": "last"}
        run(trial.problem, Nesterov(trial.method), n_steps=4, **options)


def _check_interrupted_runs(trial: Trial) -> None:
    method, problem = trial.method, trial.problem
    n_steps = min(_RESUMED, len(trial.walk))
    options: Any = {"n_members": trial.n_members, "rng": trial.seed}
    remedy = (
        "Keep all that the next step needs in the state: a resumed run has only the options of the "
        "method and the state."
    )
    with tempfile.TemporaryDirectory(prefix="ekitools-") as folder:
        with calling("tell", f"must run for {n_steps} steps", remedy):
            whole = run(problem, fresh(method), n_steps=n_steps, **options)
        passed = None if rebuilt(method) is not None else fresh(method)
        for n in range(1, n_steps):
            path = Path(folder) / str(n)
            rule = f"must resume after step {n}"
            with calling("State", rule, remedy):
                run(
                    problem,
                    fresh(method),
                    n_steps=n,
                    checkpoint=path,
                    checkpoint_every=n_steps,
                    **options,
                )
                resumed = resume(path, problem, passed, n_steps=n_steps)
            if phrase := _difference_of_results(resumed, whole):
                rule = f"a run resumed after step {n} must be bitwise the run without interruption"
                raise broken("tell", rule, phrase, remedy)


def _difference_of_results(found: xr.Dataset, expected: xr.Dataset) -> str:
    """The first difference but for the wall time; empty where there is none."""
    ours, theirs = (
        {name: x.values for name, x in each.variables.items()} for each in (found, expected)
    )
    if phrase := difference(ours, theirs, "variables"):
        return phrase
    ours, theirs = ({**each.attrs, "seconds": 0.0} for each in (found, expected))
    return difference(ours, theirs, "attributes")
