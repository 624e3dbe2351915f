"""How a flow is carried through time: SciPy's solvers, or Euler–Maruyama where there is noise.

Both leave what they have in a list of `Entry`, which is therefore still there when a model
fails on the way.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.integrate import solve_ivp

from ekitools.core.errors import RunError
from ekitools.core.streams import Streams
from ekitools.flows import Output
from ekitools.linalg import anomaly_products
from ekitools.methods.steps import landing, rule_step
from ekitools.models.evaluate import evaluate
from ekitools.problem import InverseProblem
from ekitools.typing import Flow, Schedule, Seen, Status, StochasticFlow

__all__ = ["Entry", "Outputs", "Stops", "euler_maruyama_step", "march", "solve"]


class Entry(NamedTuple):
    """One time of a flow."""

    t: float
    u: np.ndarray
    g: np.ndarray
    runs: int
    """Model runs so far."""


class Outputs:
    """G and ∇Ψ at an ensemble, remembering the last one, and how many runs that took."""

    def __init__(self, problem: InverseProblem) -> None:
        self.problem = problem
        self.runs = 0
        self.failures: dict[int, str] = {}
        self._seen = np.empty((0, 0))
        self._last: Output | None = None

    def __call__(self, u: np.ndarray, seeds: Any = None) -> Output:
        """Of the ensemble ``(J, p)``.

        Raises
        ------
        RunError
            If the model fails for a member.
        """
        if self._last is None or not self._is_last(u):
            problem = self.problem
            physical = np.asarray(problem.prior.to_physical(u)).view()
            physical.flags.writeable = False
            g, failures = evaluate(problem.model, physical, problem.n_data, seeds=seeds)
            self.runs += len(u)
            if failures:
                self.failures = {row: failure.reason for row, failure in failures.items()}
                row, failure = next(iter(failures.items()))
                raise RunError(
                    f"model: failed for member {row} during a flow ({failure.reason}). A flow "
                    "needs every member; use ek.run, which can drop some, or a tamer prior. The "
                    "part computed until then is in this error's result."
                ) from next((f.error for f in failures.values() if f.error), None)
            if self._seen.shape != u.shape:
                self._seen = np.empty(u.shape)
            np.copyto(self._seen, u)  # a solver may use its own array again
            self._last = Output(g, problem.noise.gradient(g, problem.data))
        return self._last

    def entry(self, t: float, u: np.ndarray) -> Entry:
        """What is kept of time ``t``."""
        return Entry(float(t), u, self(u).g, self.runs)

    def _is_last(self, u: np.ndarray) -> bool:
        # one member tells most ensembles apart
        return np.array_equal(u[:1], self._seen[:1]) and np.array_equal(u, self._seen)


Stops = dict[str, Callable[[np.ndarray, Outputs], float]]
"""Status codes, each with a function of the ensemble that falls to zero where the flow stops."""


def solve(
    flow: Flow,
    initial: np.ndarray,
    outputs: Outputs,
    span: tuple[float, float],
    t_eval: np.ndarray | None,
    stops: Stops,
    entries: list[Entry],
    options: dict[str, Any],
) -> tuple[Status, dict[str, Any]]:
    """Solve a flow without noise by `scipy.integrate.solve_ivp`, filling ``entries``.

    Returns the status and what the solver says of itself.
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
        return np.concatenate([v, force / 4 if t == 0 else force - 3 / t * v])

    def event(distance: Callable[[np.ndarray, Outputs], float]) -> Any:
        def stop(t: float, x: np.ndarray) -> float:
            return 1.0 if t == start else distance(members(x), outputs)  # seen already

        stop.terminal, stop.direction = True, -1  # type: ignore[attr-defined]  # scipy's way
        return stop

    accepted: dict[int, tuple[float, np.ndarray]] = {}  # the last before every time of t_eval

    def record(t: float, x: np.ndarray) -> float:
        """Called as an event, at the start and after every accepted step; never fires."""
        if t > start and t_eval is not None:
            accepted[int(np.searchsorted(t_eval, t, side="right"))] = (t, x)
        elif t > start:
            entries.append(outputs.entry(t, members(x)))
        return 1.0

    first = outputs.entry(start, initial)
    if t_eval is None or t_eval[0] == start:
        entries.append(first)
    code = _stopped(stops, initial, outputs)
    if code is not None:
        entries[:] = [first]
        return _stop_status(code, start), {"nfev": 0, "message": "Nothing was to be solved."}

    x0 = initial.ravel() if flow.order == 1 else np.concatenate([initial.ravel(), np.zeros(size)])
    asked = options.pop("events", None) or []
    theirs = list(asked) if isinstance(asked, list | tuple) else [asked]
    events = [*(event(distance) for distance in stops.values()), *theirs, record]
    try:
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
        return Status("t_end_reached", f"The flow was integrated to t = {end:g}."), info
    if solution.status == 1:
        found = zip(solution.t_events, solution.y_events, strict=True)
        t, x = max(((ts[-1], xs[-1]) for ts, xs in found if len(ts)), key=lambda point: point[0])
        while entries and entries[-1].t >= t:
            entries.pop()
        entries.append(outputs.entry(t, members(x)))
        codes = [c for c, ts in zip(stops, solution.t_events, strict=False) if len(ts)]
        return _stop_status(codes[0] if codes else "event", t), info
    for t, x in list(accepted.values())[-1:]:
        if not entries or t > entries[-1].t:
            entries.append(outputs.entry(t, members(x)))
    if not entries:
        entries.append(first)
    return _gave_up(entries[-1].t, str(solution.message)), info


def euler_maruyama_step(
    flow: StochasticFlow,
    t: float,
    u: np.ndarray,
    out: Output,
    h: float,
    increment: np.ndarray,
    problem: Any,
) -> np.ndarray:
    """One step u + h F(t, u) + S(u) ΔW, pure.

    Parameters
    ----------
    flow : StochasticFlow
        With the drift F and the diffusion S.
    t : float
        Time at the beginning of the step.
    u : (J, p)
        Unconstrained ensemble.
    out : Output
        G and ∇Ψ there.
    h : float
        Length of the step.
    increment : ndarray
        ΔW ~ N(0, h I), of the flow's ``increment_shape``.
    problem : Target
        With data, noise and prior.

    Returns
    -------
    (J, p)
        The next ensemble; not finite where it overflowed.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> from ekitools.flows import Output
    >>> from ekitools.integrators import euler_maruyama_step
    >>> problem = ek.InverseProblem(
    ...     ek.LinearModel([[1.0]]), ek.GaussianPrior(0.0, 1.0), 1.0, [0.0])
    >>> u = np.array([[-1.0], [1.0]])
    >>> increment = np.array([[0.0], [0.5]])
    >>> euler_maruyama_step(ek.StochasticEKIFlow(), 0.0, u, Output(u, u), 0.1, increment, problem)
    array([[-0.9],
           [ 1.4]])
    """
    with np.errstate(over="ignore", invalid="ignore"):
        drift = flow.acceleration(t, u, out, problem)
        return np.asarray(u + h * drift + flow.diffusion(u, out, increment, problem))


def march(
    flow: StochasticFlow,
    initial: np.ndarray,
    outputs: Outputs,
    span: tuple[float, float],
    t_eval: np.ndarray | None,
    stops: Stops,
    entries: list[Entry],
    step: Schedule,
    streams: Streams,
) -> tuple[Status, dict[str, Any]]:
    """Carry a flow with noise through time by Euler–Maruyama, filling ``entries``.

    Returns the status and what there is to say of the steps.
    """
    problem = outputs.problem
    n_members, n_data = len(initial), problem.n_data
    kept = None if t_eval is None else set(t_eval.tolist())
    targets = np.array([span[1]]) if t_eval is None else np.append(t_eval, span[1])
    shape = flow.increment_shape(n_members, n_data)
    (t, end), u, n = span, initial, 0
    last: Entry | None = None

    def keep(entry: Entry | None) -> None:
        if entry is not None and (not entries or entries[-1].t < entry.t):
            entries.append(entry)

    while True:
        seeds = None
        if getattr(problem.model, "stochastic", False):
            seeds = [streams.member(n, j) for j in range(n_members)]
        try:
            out = outputs(u, seeds)
        except RunError:
            keep(last)
            raise
        last = Entry(t, u, out.g, outputs.runs)
        if kept is None or t in kept:
            keep(last)
        info = {"n_steps": n}
        code = _stopped(stops, u, outputs)
        if code is not None:
            keep(last)
            return _stop_status(code, t), info
        if t >= end:
            return Status("t_end_reached", f"The flow was integrated to t = {end:g}."), info

        with np.errstate(over="ignore", invalid="ignore"):
            misfit = np.asarray(problem.noise.misfit(out.g, problem.data), dtype=np.float64)
        following, h = np.full_like(u, np.nan), math.nan
        if np.all(np.isfinite(misfit)):
            seen = Seen(n, t, end - t, misfit, n_data, lambda out=out: _d_norm(out))  # type: ignore[misc]
            try:
                h = rule_step(step, seen)
            except ValueError as error:  # from here on even a mistake keeps what there is
                keep(last)
                raise RunError(str(error)) from error
            h, new_t = landing(t, h, float(targets[np.searchsorted(targets, t, side="right")]))
            if not new_t > t:
                keep(last)
                return _gave_up(t, f"A step of {h:.3g} is too small to move on."), info
            increment = math.sqrt(h) * streams.step(n).standard_normal(shape)
            following = euler_maruyama_step(flow, t, u, out, h, increment, problem)
        if not np.all(np.isfinite(following)):
            keep(last)
            sentence = (
                f"The update of step {n} at t = {t:.4g} with h = {h:.4g} overflowed: this is the "
                "last good ensemble. Use smaller steps or a prior that keeps the model tame."
            )
            return Status("diverged", sentence), info
        t, u, n = new_t, following, n + 1


def _d_norm(out: Output) -> float:
    """‖D‖ in the Frobenius norm, D_jk = ⟨G_k − Ḡ, ∇Ψ_j⟩ / J, without overflow."""
    d = anomaly_products(out.gradient, out.g) / len(out.g)
    return float(np.hypot.reduce(d, axis=None))


def _stopped(stops: Stops, u: np.ndarray, outputs: Outputs) -> str | None:
    return next((code for code, distance in stops.items() if distance(u, outputs) <= 0), None)


def _stop_status(code: str, t: float) -> Status:
    return Status(code, f"The integration stopped at t = {t:.4g} by an event ({code}).")


def _gave_up(t: float, message: str) -> Status:
    return Status(
        "solver_failed",
        f"The solver gave up at t = {t:.4g}: {message} What it computed until then is here; use "
        "an implicit method or a longer step, larger tolerances, or a shorter t_span.",
    )
