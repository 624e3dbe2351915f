"""Time integration of flows without noise, by SciPy's solvers.

The kept times are appended to a list of `Entry` that belongs to the caller, so the list survives a
failure of the model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.integrate import OdeSolver, solve_ivp

from ekitools.core.arrays import as_real
from ekitools.core.checks import function, number, one_of, sequence
from ekitools.core.errors import RunError
from ekitools.core.signatures import check_accepts
from ekitools.flows.outputs import Entry, Outputs, at_the_end, gave_up
from ekitools.flows.stopping import Watch
from ekitools.typing import Flow, Status

__all__ = ["checked_options", "solve"]

_METHODS = ("RK23", "RK45", "DOP853", "Radau", "BDF", "LSODA")
_CHECKED = ("method", "rtol", "atol", "max_step", "first_step", "events")
_OTHERS = ("dense_output", "jac", "jac_sparsity", "lband", "min_step", "uband", "vectorized")
"""Options that SciPy itself checks."""


def checked_options(options: Mapping[str, Any], size: int) -> dict[str, Any]:
    """Options of `scipy.integrate.solve_ivp` for a system of ``size`` equations."""
    found = dict(options)
    for name, value in options.items():
        if name not in _CHECKED + _OTHERS:
            raise TypeError(
                f"{name}: must be an argument of ek.integrate or an option of solve_ivp "
                f"({', '.join(_CHECKED + _OTHERS)}), got {name}={value!r:.60}."
            )
        if name == "method" and not (isinstance(value, type) and issubclass(value, OdeSolver)):
            one_of(name, value, _METHODS)
        elif name == "rtol" or (name == "first_step" and value is not None):
            found[name] = number(name, value, above=0)
        elif name == "max_step":
            found[name] = number(name, value, above=0, infinite=True)
        elif name == "atol":
            found[name] = as_real(name, value)
            if found[name].shape not in ((), (size,)) or np.any(found[name] < 0):
                raise ValueError(
                    f"{name}: must be one number >= 0, or {size} such numbers, got {value!r:.60}."
                )
        elif name == "events" and value is not None:
            what = "a function, or a list of functions"
            for event in (value,) if callable(value) else sequence(name, value, what):
                check_accepts(name, function(name, event), "t", "x")
    return found


def solve(
    flow: Flow,
    initial: np.ndarray,
    outputs: Outputs,
    span: tuple[float, float],
    t_eval: np.ndarray | None,
    watch: Watch,
    entries: list[Entry],
    options: dict[str, Any],
) -> tuple[Status, dict[str, Any]]:
    """Solve a flow without noise by `scipy.integrate.solve_ivp`, and append to ``entries``.

    Returns the status, and the solver's message with its number of evaluations.
    """
    shape, size = initial.shape, initial.size
    start, end = span

    def members(x: np.ndarray) -> np.ndarray:
        return x[:size].reshape(shape)

    def slope(t: float, x: np.ndarray) -> np.ndarray:
        u = members(x)
        force = flow.acceleration(t, u, outputs(u), outputs.problem).ravel()
        if flow.order == 1:
            return force
        v = x[size:]
        # ü = F − (3/t) u̇, and 4 ü(0) = F as t → 0
        return np.concatenate([v, force / 4 if t == 0 else force - 3 / t * v])

    accepted: dict[int, tuple[float, np.ndarray]] = {}  # last accepted step before each t_eval

    def record(t: float, x: np.ndarray) -> float:
        """Record an accepted step: an event that SciPy calls after every step and never fires."""
        if t > start and t_eval is not None:
            accepted[int(np.searchsorted(t_eval, t, side="right"))] = (t, x)
        elif t > start:
            entries.append(outputs.entry(t, members(x)))
        return 1.0

    first = outputs.entry(start, initial)
    if t_eval is None or t_eval[0] == start:
        entries.append(first)
    status = watch.status(initial)
    if status is not None:
        entries[:] = [first]
        return status, {"nfev": 0, "message": "A stopping rule fired at the start."}

    x0 = initial.ravel() if flow.order == 1 else np.concatenate([initial.ravel(), np.zeros(size)])
    asked = options.pop("events", None)
    theirs = [] if asked is None else [asked] if callable(asked) else list(asked)
    events = [*watch.events(start, members), *theirs, record]
    try:
        with np.errstate(under="ignore"):  # steps of the solver may underflow under any setting
            solution = solve_ivp(slope, span, x0, t_eval=t_eval, events=events, **options)
    except RunError:
        if t_eval is not None:
            entries[:] = [first]
            with contextlib.suppress(RunError):
                for t, x in accepted.values():
                    entries.append(outputs.entry(t, members(x)))
        raise
    if t_eval is not None:
        entries.clear()
        for t, x in zip(solution.t, np.asarray(solution.y).T, strict=True):
            entries.append(outputs.entry(t, members(x)))
    info = {"nfev": int(solution.nfev), "message": str(solution.message)}
    if solution.status == 0:
        return at_the_end(flow, end), info
    if solution.status == 1:
        found = zip(solution.t_events, solution.y_events, strict=True)
        last = {i: (ts[-1], xs[-1]) for i, (ts, xs) in enumerate(found) if len(ts)}
        i, (t, x) = max(last.items(), key=lambda item: item[1][0])
        while entries and entries[-1].t >= t:
            entries.pop()
        entries.append(outputs.entry(t, members(x)))
        if i < len(watch.rules):
            return watch.reached(i, members(x)), info
        return Status("event", f"The integration stopped at t = {t:.4g} by an event."), info
    for t, x in list(accepted.values())[-1:]:
        if not entries or t > entries[-1].t:
            entries.append(outputs.entry(t, members(x)))
    if not entries:
        entries.append(first)
    return gave_up(entries[-1].t, str(solution.message)), info
