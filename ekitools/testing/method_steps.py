"""Checks of a method: single steps and their reports."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np

from ekitools.core.arrays import host
from ekitools.linalg import total_variance
from ekitools.results.history import Summary
from ekitools.testing.method_contract import PURE
from ekitools.testing.promises import broken, difference, exactly, unchanged
from ekitools.testing.trial import Step, Trial
from ekitools.typing import PerParameter, Reported, Shown

__all__ = [
    "check_end",
    "check_info",
    "check_purity",
    "check_spread",
    "wrong_spread",
]


def check_purity(trial: Trial) -> None:
    """Check that a step depends on its arguments alone and changes none of them."""
    rule = "must return the same step for the same state, outputs and rng"
    state, earlier = trial.init(copy.deepcopy(trial.ensemble)), list[tuple[Any, Any]]()
    for n in range(6):
        g = trial.outputs(trial.ask(state), n)
        kept, kept_g = copy.deepcopy((state, g))
        with unchanged("tell", "Make a new array, and leave the given one.", state=state, g=g):
            following, info = trial.tell(state, g)
        info = info._replace(extra=dict(info.extra), by_parameter=dict(info.by_parameter))
        first = copy.deepcopy((following, info))
        again = trial.tell(copy.deepcopy(kept), kept_g)
        for found, expected, what in zip(again, first, ("state", "info"), strict=True):
            exactly(found, expected, "tell", rule, PURE, what)
        earlier.append((state, kept))
        if info.status is not None:
            break
        state = following
    for before, kept in earlier:
        rule = "must leave the states of earlier steps unchanged"
        exactly(before, kept, "tell", rule, PURE, "state")


def check_info(trial: Trial) -> None:
    """Check the report of every step."""
    names: set[str] | None = None
    for step in trial.walk:
        info = step.info
        _check_shown(trial, step)
        _check_misfit(trial, step)
        if not _is_number(info.step) or not 0 <= info.step < math.inf:
            rule = "must be a finite number of at least 0"
            raise broken("StepInfo.step", rule, f"{info.step!r}", "Report the step h, as a float.")
        if not _is_number(info.spread) or not info.spread >= 0:
            remedy = "Report float(sqrt(variance / initial variance))."
            raise broken("StepInfo.spread", "must be a number", f"{info.spread!r}", remedy)
        if info.objective is not None and not _is_number(info.objective):
            got = f"{info.objective!r:.60}"
            raise broken("StepInfo.objective", "must be None or a number", got, "Use float().")
        shape = (1, trial.problem.n_parameters)
        if info.average is not None and tuple(getattr(info.average, "shape", ())) != shape:
            rule = f"must be None or an array of the shape (1, p) = {shape}"
            got = str(getattr(info.average, "shape", type(info.average).__name__))
            raise broken("StepInfo.average", rule, got, "Keep the axis of the members.")
        _check_extra(info.extra)
        _check_by_parameter(trial, info.by_parameter)
        names = set(info.extra) if names is None else names
        if set(info.extra) != names:
            raise broken(
                "StepInfo.extra",
                "must have the same names at every step as at the first step",
                f"{', '.join(sorted(set(info.extra) ^ names))} at only some of them",
                "Report NaN for a number that is not known.",
            )


def check_spread(trial: Trial) -> None:
    """Check that the reported spread is the spread of the members, relative to the first ones."""
    if not trial.moves:
        return
    for step in trial.walk:
        if gap := wrong_spread(trial, step.state, step.info.spread):
            raise broken(
                "StepInfo.spread",
                "must be the root of the total variance of the members that ask returned, "
                f"divided by the root for the initial ensemble, at step {step.state.n}",
                gap,
                "Keep the initial variance in the state and divide by it.",
            )


def check_end(trial: Trial) -> None:
    """Check that ``finished`` and ``tell`` agree on the end, and that the end keeps the state."""
    for step in trial.walk:
        ended, status, n = step.ended, step.info.status, step.state.n
        if ended is not None and status is None:
            raise broken(
                "tell",
                f"must end the run where finished does, at n = {n} with the code {ended.code}",
                "another step",
                "Call self.finished(state) in tell and return its status with the state.",
            )
        if ended is not None and status is not None and ended.code != status.code:
            raise broken(
                "tell",
                f"must end the run with the status of finished, {ended.code}",
                status.code,
                "Call self.finished(state) in tell and return its status with the state.",
            )
        if status is None:
            continue
        if step.info.step != 0:
            got, remedy = f"{step.info.step:.4g}", "Report 0.0."
            raise broken("StepInfo.step", "must be 0 where the run ends", got, remedy)
        if trial.moves:  # a sampler may accept its last proposals, which changes the state
            exactly(
                step.following,
                step.state,
                "tell",
                "must return the state as it was where the run ends",
                "Return the given state together with the status.",
                "state",
            )
        if status.posterior and trial.method.aim != "posterior":
            raise broken(
                "aim",
                f'must be "posterior" for a method that ends with posterior=True ({status.code})',
                f'"{trial.method.aim}"',
                "Declare the aim, or leave posterior out of the Status.",
            )


def wrong_spread(trial: Trial, state: Any, found: float) -> str:
    """Describe a wrong spread of a state; empty if the spread is right.

    Variances may be normalised by 1/(J - 1) or by 1/J. The two ratios differ if members were
    dropped.
    """
    now, first = trial.ask(state), trial.ask(trial.walk[0].state)
    expected = math.sqrt(total_variance(now) / total_variance(first))
    J, J0 = int(now.shape[0]), int(first.shape[0])
    other = expected * math.sqrt((1 - 1 / J) / (1 - 1 / J0))
    right = (math.isclose(found, each, rel_tol=1e-6, abs_tol=1e-12) for each in (expected, other))
    return "" if any(right) else f"{found:.6g} in place of {expected:.6g}"


def _check_misfit(trial: Trial, step: Step) -> None:
    info, target = step.info, trial.seen(int(step.state.n))
    misfit: Any = info.misfit
    rows = int(step.g.shape[0])
    rule = f"must be a NumPy array of the shape (J,) = ({rows},) and dtype float64"
    array = isinstance(misfit, np.ndarray)
    if not array or misfit.shape != (rows,) or misfit.dtype != np.float64:
        got = f"{getattr(misfit, 'shape', type(misfit).__name__)} {getattr(misfit, 'dtype', '')}"
        remedy = "Convert it with np.asarray(misfit, dtype=np.float64)."
        raise broken("StepInfo.misfit", rule, got.strip(), remedy)
    g = step.g if info.shown is None else info.shown.g
    expected = host(target.noise.misfit(g, target.data)).astype(np.float64)
    known = np.isfinite(expected) & np.isfinite(misfit)
    if phrase := difference(misfit[known], expected[known], "misfit", rtol=1e-8):
        raise broken(
            "StepInfo.misfit",
            "must be target.noise.misfit(g, target.data) of the outputs",
            phrase,
            "Report the misfit to the data, and another objective as StepInfo.objective.",
        )


def _check_shown(trial: Trial, step: Step) -> None:
    shown: Any = step.info.shown
    if trial.moves:
        if shown is not None:
            rule = "must be None for a method that is not a sampler"
            raise broken("StepInfo.shown", rule, "", "Declare keeps_members = True, or omit shown.")
        return
    if not isinstance(shown, Shown):
        rule = "must be an ekitools.typing.Shown at every step of a sampler"
        got = type(shown).__name__
        raise broken("StepInfo.shown", rule, got, "Return Shown(ensemble, g, weight).")
    rows, p = (int(n) for n in step.state.ensemble.shape)
    shapes = {
        "ensemble": (rows, p),
        "g": (rows, trial.problem.n_data),
        "weight": (rows,),
    }
    for name, shape in shapes.items():
        found = tuple(getattr(getattr(shown, name), "shape", ()))
        if found != shape:
            member = f"StepInfo.shown.{name}"
            raise broken(member, f"must have the shape {shape}", str(found), "Show every member.")
    weight = host(shown.weight)
    if not (np.all(weight >= 0) and math.isclose(float(weight.sum()), 1.0, rel_tol=1e-6)):
        got = f"weights from {weight.min():.3g} that add up to {weight.sum():.6g}"
        rule = "must be at least 0 and add up to 1"
        raise broken("StepInfo.shown.weight", rule, got, "Divide the weights by their sum.")


def _check_extra(extra: Any) -> None:
    for name, value in extra.items():
        number = value.value if isinstance(value, Reported) else value
        if not str(name).isidentifier() or name in Summary._fields:
            rule = "must have names that are Python identifiers and no variables of a result"
            raise broken("StepInfo.extra", rule, repr(name), "Choose another name.")
        if not _is_number(number):
            rule = "must have numbers, or ekitools.typing.Reported(number, long name), as values"
            raise broken("StepInfo.extra", rule, f"{name} = {value!r:.60}", "Use float().")


def _check_by_parameter(trial: Trial, reported: Any) -> None:
    p = trial.problem.n_parameters
    for name, each in reported.items():
        if not str(name).isidentifier():
            remedy = "Choose another name."
            raise broken(
                "StepInfo.by_parameter", "must have identifiers as names", repr(name), remedy
            )
        values = np.asarray(each.values) if isinstance(each, PerParameter) else np.zeros(0)
        if values.shape != (p,) or values.dtype.kind not in "bif":
            raise broken(
                "StepInfo.by_parameter",
                f"must have ekitools.typing.PerParameter(values, long name) with {p} numbers",
                f"{name} = {each!r:.60}",
                "Report one number for each parameter.",
            )


def _is_number(value: Any) -> bool:
    """Whether JSON can hold the value as a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)
