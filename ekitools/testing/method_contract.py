"""Checks of a method: what it declares, and its states."""

from __future__ import annotations

import copy
import math
from typing import Any, get_args, get_origin

from ekitools.core.signatures import check_accepts
from ekitools.testing.options import check_options
from ekitools.testing.promises import broken, calling, exactly, leaves, missing, unchanged
from ekitools.testing.trial import Trial
from ekitools.typing import Aim, InPlace, LinearOver, Normalisation, Redraws, StoppingRule

__all__ = ["PURE", "check_members", "check_method_options", "check_state"]

PURE = (
    "Compute everything from the arguments, make new arrays, and take all randomness from rng: no "
    "attribute of the method and no global may change."
)
_MEMBERS = {
    "State": "the NamedTuple class of its state",
    "aim": '"posterior" or "fit": what the last ensemble is meant as',
    "normalisation": '"1/J" or "1/(J-1)": how covariances are normalised',
    "init": "init(ensemble, target), which returns the state before the first step",
    "ask": "ask(state), which returns the members at which the model is evaluated",
    "tell": "tell(state, g, target, *, rng), which returns the next state and a StepInfo",
    "finished": "finished(state), which returns None or the Status of the end",
    "select": "select(state, index), which returns the state of some of the members",
}
_ARGUMENTS: dict[str, tuple[str, ...]] = {
    "init": ("ensemble", "target"),
    "ask": ("state",),
    "tell": ("state", "g", "target"),
    "finished": ("state",),
    "select": ("state", "index"),
    "redraws": ("n",),
    "map_members": ("state", "rows", "index"),
    "nodes": ("target",),
    "drawn": ("state",),
}
_FLAGS = ("keeps_members", "updates_in_place")


def check_members(trial: Trial) -> None:
    """Check that all members of the contract are there and of the right kind."""
    method = trial.method
    missing(method, _MEMBERS, "a method")
    for name, arguments in _ARGUMENTS.items():
        if not hasattr(method, name):
            continue
        tell = ("rng", "in_place") if isinstance(method, InPlace) else ("rng",)
        keywords = {"tell": tell, "drawn": ("rng",)}
        listed = ", ".join(arguments)
        with calling(name, f"must be a function of ({listed})", "Write it with these arguments."):
            function = getattr(method, name)
            if not callable(function):
                raise TypeError(f"a {type(function).__name__}")
            check_accepts(name, function, *arguments, keywords=keywords.get(name, ()))
    choices = {"aim": Aim, "normalisation": Normalisation, "linear_over": LinearOver}
    for name, kind in choices.items():
        if hasattr(method, name) and getattr(method, name) not in get_args(kind):
            known = " or ".join(f'"{each}"' for each in get_args(kind))
            got = f"{getattr(method, name)!r:.60}"
            raise broken(name, f"must be {known}", got, "Declare one of these texts.")
    for name in _FLAGS:
        if hasattr(method, name) and not isinstance(getattr(method, name), bool):
            got = f"{getattr(method, name)!r:.60}"
            raise broken(name, "must be True or False", got, "Declare a bool.")
    rules: Any = getattr(method, "stop", ())
    if not isinstance(rules, tuple) or not all(isinstance(rule, StoppingRule) for rule in rules):
        remedy = "Convert the option to a tuple in __post_init__."
        raise broken("stop", "must be a tuple of stopping rules", f"{rules!r:.60}", remedy)
    _check_state_class(method)


def check_method_options(trial: Trial) -> None:
    """Check the options of the method."""
    check_options(trial.method, "a method")


def check_state(trial: Trial) -> None:
    """Check the states of a run, and the members that are asked for."""
    given = copy.deepcopy(trial.ensemble)
    with unchanged("init", "Copy the ensemble before you change it.", ensemble=given):
        first = trial.init(given)
    if (first.n, first.t) != (0, 0.0):
        got = f"n = {first.n!r} and t = {first.t!r}"
        raise broken("init", "must return a state with n = 0 and t = 0", got, "Start from both.")
    if trial.finished(first) is not None:
        rule = "must return None for the state before the first step"
        raise broken("finished", rule, "a status", "Let the method make at least one step.")
    _check_fields("init", first, trial.n_members)
    for state, _, _, following, info in trial.walk:
        with unchanged("ask", "Return the members and leave the state as it is.", state=state):
            asked = trial.ask(state)
        again = "must return the same members whenever it is asked"
        exactly(trial.ask(state), asked, "ask", again, PURE, "members")
        if asked.dtype != trial.ensemble.dtype:
            rule = f"must keep the dtype of the ensemble, {trial.ensemble.dtype}"
            raise broken("ask", rule, str(asked.dtype), "Convert arrays to that dtype.")
        if info.status is None:
            _check_successor(trial, state, following, info.step)


def _check_state_class(method: Any) -> None:
    kind: Any = get_origin(method.State) or method.State
    remedy = "Declare class MyState(NamedTuple) and, in the method, State = MyState."
    fields = getattr(kind, "_fields", None)
    if not isinstance(kind, type) or fields is None:
        got = f"{method.State!r:.60}"
        raise broken("State", "must be the NamedTuple class of the state", got, remedy)
    absent = [name for name in ("ensemble", "n", "t") if name not in fields]
    if absent:
        raise broken(
            "State",
            "must have the fields ensemble, n and t",
            f"{kind.__name__} without {' and '.join(absent)}",
            f"Add {' and '.join(absent)} to it.",
        )


def _check_fields(member: str, state: Any, n_members: int) -> None:
    """Check the kinds of all fields."""
    for name, value in leaves(state, "state"):
        plain = value is None or isinstance(value, bool | int | float | str)
        if not plain and not hasattr(value, "shape"):
            raise broken(
                member,
                "must return a state of arrays, numbers, texts, None, NamedTuples and tuples",
                f"{name} of the type {type(value).__name__}",
                "A checkpoint can hold nothing else: use tuples for lists and mappings.",
            )
    if len(getattr(state.ensemble, "shape", ())) != 2 or len(state.ensemble) < n_members:
        raise broken(
            member,
            f"must return a state whose ensemble has {n_members} rows",
            str(getattr(state.ensemble, "shape", type(state.ensemble).__name__)),
            "Keep a row for each member.",
        )


def _check_successor(trial: Trial, before: Any, after: Any, h: float) -> None:
    n = int(before.n)
    rows = int(before.ensemble.shape[0])
    _check_fields("tell", after, 2)
    if after.n != n + 1:
        got, remedy = f"n = {after.n} after n = {n}", "Add 1 at each step."
        raise broken("tell", "must count its steps in state.n", got, remedy)
    whole = trial.seen(n).batch is None  # of a part of the data a step may count in part
    counted = math.isclose(after.t, h, abs_tol=1e-12) or (not whole and after.t < h)
    if not after.t >= before.t or (n == 0 and not counted):
        raise broken(
            "tell",
            "must add the step it reports to state.t",
            f"t = {after.t:.6g} after t = {before.t:.6g} with StepInfo.step = {h:.6g}",
            "Return t + h.",
        )
    redraws = isinstance(trial.method, Redraws) and trial.method.redraws(n)
    now = int(after.ensemble.shape[0])
    if now < rows or (now > rows and not redraws):
        raise broken(
            "tell",
            f"must return {rows} members, one for each that it was given",
            str(now),
            "Declare redraws(n), True for the steps that draw new members, if it makes more.",
        )
