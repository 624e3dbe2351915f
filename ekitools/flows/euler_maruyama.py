"""Time integration of flows with noise, by Euler–Maruyama or by the flow's own scheme."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ekitools.core.errors import RunError
from ekitools.core.streams import Streams
from ekitools.flows.outputs import Entry, Outputs, at_the_end, gave_up
from ekitools.flows.right_hand_sides import Output
from ekitools.flows.stopping import Watch
from ekitools.linalg import d_norm
from ekitools.methods.steps import landing, rule_step
from ekitools.typing import OwnSteps, Schedule, Seen, Status, StochasticFlow

__all__ = ["euler_maruyama_step", "march", "own_steps"]


def own_steps(flow: StochasticFlow) -> OwnSteps | None:
    """The flow if it has its own time-stepping scheme, else None."""
    return flow if isinstance(flow, OwnSteps) and flow.scheme != "euler-maruyama" else None


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
        The flow, with drift F and diffusion S.
    t : float
        Time at the beginning of the step.
    u : (J, p)
        Unconstrained ensemble.
    out : Output
        G and ∇Ψ at ``u``.
    h : float
        Step size.
    increment : ndarray
        ΔW ~ N(0, h I), in the flow's ``increment_shape``.
    problem : Target
        Data, noise and prior.

    Returns
    -------
    (J, p)
        The next ensemble. Its entries are not finite if the step overflowed.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> from ekitools.flows.right_hand_sides import Output
    >>> from ekitools.flows.euler_maruyama import euler_maruyama_step
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
    watch: Watch,
    entries: list[Entry],
    step: Schedule,
    streams: Streams,
) -> tuple[Status, dict[str, Any]]:
    """Integrate a flow with noise over ``span`` and append the kept times to ``entries``.

    The steps are Euler–Maruyama steps unless the flow has its own scheme.

    Returns the status and the number of steps.
    """
    problem = outputs.problem
    n_members, n_data = len(initial), problem.n_data
    kept = None if t_eval is None else set(t_eval.tolist())
    targets = np.array([span[1]]) if t_eval is None else np.append(t_eval, span[1])
    shape = flow.increment_shape(n_members, n_data)
    (t, end), u, n = span, initial, 0
    last: Entry | None = None
    own = own_steps(flow)
    carried: Any = None
    prepared = math.nan  # step size of the noise in ``carried``

    def keep(entry: Entry | None) -> None:
        if entry is not None and (not entries or entries[-1].t < entry.t):
            entries.append(entry)

    while True:
        seeds = None
        if problem.info.stochastic:
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
        status = watch.status(u)
        if status is not None:
            keep(last)
            return status, info
        if t >= end:
            return at_the_end(flow, end), info

        with np.errstate(over="ignore", invalid="ignore"):
            misfit = np.asarray(problem.noise.misfit(out.g, problem.data), dtype=np.float64)
        following, h = np.full_like(u, np.nan), math.nan
        if np.all(np.isfinite(misfit)):
            seen = Seen(n, t, end - t, misfit, n_data, lambda out=out: d_norm(out.gradient, out.g))  # type: ignore[misc]
            try:
                h = rule_step(step, seen)
            except ValueError as error:  # the result so far is kept even after a wrong step rule
                keep(last)
                raise RunError(str(error)) from error
            asked = h
            if carried is not None:
                h = prepared
            h, new_t = landing(t, h, float(targets[np.searchsorted(targets, t, side="right")]))
            if not new_t > t:
                keep(last)
                return gave_up(t, f"A step of {h:.3g} is too small to advance."), info
            if own is None:
                increment = math.sqrt(h) * streams.step(n).standard_normal(shape)
                following = euler_maruyama_step(flow, t, u, out, h, increment, problem)
            else:
                prepared, rng = asked, streams.step(n)
                with np.errstate(over="ignore", invalid="ignore"):
                    following, carried = own.advance(u, out, carried, asked, h, problem, rng=rng)
        if not np.all(np.isfinite(following)):
            keep(last)
            sentence = (
                f"The update of step {n} at t = {t:.4g} with h = {h:.4g} overflowed. The result "
                "ends with the last finite ensemble. Use smaller steps or a narrower prior."
            )
            return Status("diverged", sentence, level="bad"), info
        t, u, n = new_t, following, n + 1
