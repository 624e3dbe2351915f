"""`integrate`: time integration of an ensemble flow, with a labelled Dataset as the result."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from array_api_compat import is_array_api_obj

from ekitools.core.arrays import as_real, numpy_dtype
from ekitools.core.checks import check_gaussian, check_schedule, integer, number, stopping_rules
from ekitools.core.errors import RunError
from ekitools.core.kinds import checked_like
from ekitools.core.options import to_json
from ekitools.core.statuses import failed
from ekitools.core.streams import Streams
from ekitools.flows.euler_maruyama import march, own_steps
from ekitools.flows.outputs import Entry, Outputs
from ekitools.flows.solve_ivp import checked_options, solve
from ekitools.flows.stopping import Watch
from ekitools.linalg import total_variance
from ekitools.loop.checks import check_rules, checked_ensemble
from ekitools.methods.shared import initial_variance
from ekitools.methods.stopping import Collapsed, Discrepancy
from ekitools.problem import InverseProblem, check_problem, check_whole
from ekitools.results.dataset import to_dataset, traits
from ekitools.results.history import History
from ekitools.typing import (
    ChecksProblem,
    Flow,
    Rng,
    ScaledNoise,
    Schedule,
    Status,
    StepInfo,
    StochasticFlow,
    StoppingRule,
)

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["integrate"]


def integrate(
    problem: InverseProblem,
    flow: Flow,
    *,
    t_span: tuple[float, float],
    n_members: int = 100,
    ensemble: Any = None,
    rng: Rng = None,
    step: Schedule | None = None,
    t_eval: Any = None,
    discrepancy: float | None = None,
    collapsed: float | None = None,
    stop: StoppingRule | Sequence[StoppingRule] = (),
    like: Any = None,
    **solve_ivp_options: Any,
) -> xr.Dataset:
    """Integrate a flow of the ensemble over a span of time.

    `scipy.integrate.solve_ivp` solves a flow without noise. A flow with noise takes Euler–Maruyama
    steps, u ← u + h F(t, u) + S(u) ΔW with ΔW ~ N(0, h I), unless it has its own scheme, as
    `EKSFlow` has.

    Parameters
    ----------
    problem : InverseProblem
        The inverse problem: model, prior, noise and data.
    flow : Flow
        The right-hand side. Flows without noise are `EKIFlow`, `NesterovFlow`, `GradientFlow` and
        `NaturalGradientFlow`. Flows with noise are `StochasticEKIFlow` and `EKSFlow`.
    t_span : (float, float)
        Start and end, with 0 <= start < end.
    n_members : int, default 100
        Ensemble size J. The members are drawn from the prior.
    ensemble : (J, p), optional
        Initial ensemble in physical coordinates, in place of draws from the prior. The model
        receives members in the ensemble's library and dtype, on its device.
    rng : None, int or numpy.random.Generator
        Source of the draws from the prior and of the Brownian motions, which are independent.
    step : step rule
        Step rule of a flow with noise, which requires one: `FixedStep`, or `NormStep` for
        h/(‖D‖ + ε). Steps are shortened to end at the times ``t_eval`` and at the end.
    t_eval : (n,), optional
        Increasing times in ``t_span`` that the result keeps. By default it keeps every step.
    discrepancy : float, optional
        τ, the short form of ``stop=Discrepancy(τ)``: stop when ‖Γ^{-1/2}(Ḡ − y)‖ falls to τ√d.
    collapsed : float, optional
        The short form of ``stop=Collapsed(collapsed)``: stop when the root of the total ensemble
        variance falls to this share of its initial value.
    stop : stopping rule or sequence of them, default ()
        Stopping rules. Rules with a distance, such as `Discrepancy` and `Collapsed`, stop a flow
        without noise at the time when the distance falls to zero. Other rules stop it at the end
        of a step of the solver.
    like : array, optional
        The model receives members in this array's library and dtype, on its device, such as
        ``torch.empty(1, device="cuda")``. The flow itself is computed by NumPy in float64.
    **solve_ivp_options
        Options for a flow without noise: ``method``, ``rtol`` (default 1e-8), ``atol`` (default
        1e-10), ``max_step``, ``events`` and so on. ``events`` receive the ensemble as a flat vector
        of J p numbers, followed by J p velocities for a second-order flow.

    Returns
    -------
    xarray.Dataset
        A result as from `ekitools.run`, with one iteration for every kept time and the coordinate
        ``t``. If a stopping rule, an event, a failed solver or an overflow ends the flow early, the
        last ensemble is kept too, and the status gives the reason.

    Raises
    ------
    ValueError, TypeError
        If an argument is invalid, before any model run.
    RunError
        If the model fails for a member, because a flow needs all members. The error's ``result``
        is the Dataset of the times computed so far, or None if there are none.

    See Also
    --------
    run : Run a method in discrete steps, with replacement of failed members.
    EKIFlow : The ensemble Kalman flow.
    EKSFlow : A flow that samples the posterior.
    theory.linear_flow : The exact flow of a linear model.

    Examples
    --------
    >>> import ekitools as ek
    >>> problem = ek.problems.linear(p=3, d=5).problem
    >>> result = ek.integrate(problem, ek.EKIFlow(), t_span=(0, 1e3), n_members=20, rng=0,
    ...                       discrepancy=1.5)
    >>> result.attrs["status_code"]
    'discrepancy_reached'
    >>> ek.integrate(problem, ek.EKSFlow(), t_span=(0, 2), n_members=20, rng=0,
    ...              step=ek.NormStep(), t_eval=[1.0, 2.0]).t.values
    array([1., 2.])
    """
    since = time.perf_counter()
    check_problem(problem)
    check_whole(problem, "a flow")
    if isinstance(problem.noise, ScaledNoise):
        check_gaussian(problem.noise, "a flow")
    span = _checked_span(t_span)
    times = None if t_eval is None else _checked_times(t_eval, span)
    _check_flow(flow, problem, step, solve_ivp_options)
    rules = _rules(discrepancy, collapsed, stop, problem)
    streams = Streams(rng)
    reference = _reference(like, ensemble)
    if ensemble is None:
        n_members = integer("n_members", n_members, least=2)
        initial = problem.prior.sample_unconstrained(n_members, rng=streams.prior())
    else:
        given = as_real("ensemble", ensemble).astype(np.float64)
        initial = checked_ensemble(given, problem)[1]
    initial = np.ascontiguousarray(initial, dtype=np.float64)
    variance = initial_variance(initial)
    attributes: dict[str, Any] = {
        "title": "ensemble Kalman flow",
        "method": to_json(flow),
        **streams.recorded(),
        "covariance_normalisation": "1/J",
        "start": "prior" if ensemble is None else "ensemble",
        **traits(flow),
    }
    entries: list[Entry] = []
    outputs = Outputs(problem, reference)
    watch = Watch(rules, outputs, variance)
    try:
        if isinstance(flow, StochasticFlow) and step is not None:
            own = own_steps(flow)
            name = "Euler-Maruyama" if own is None else own.scheme
            attributes["solver"] = {"method": name, "step": json.loads(to_json(step))}
            status, info = march(flow, initial, outputs, span, times, watch, entries, step, streams)
        else:
            size = initial.size * flow.order
            defaults = {"method": "RK45", "rtol": 1e-8, "atol": 1e-10}
            options = {**defaults, **checked_options(solve_ivp_options, size)}
            method = options["method"]
            name = method.__name__ if isinstance(method, type) else method
            attributes["solver"] = {"method": name}
            status, info = solve(flow, initial, outputs, span, times, watch, entries, options)
    except RunError as error:
        if entries:
            status = failed(str(error))
            attributes["seconds"] = time.perf_counter() - since
            error.result = _dataset(problem, entries, outputs, variance, status, attributes)
        raise
    attributes["solver"] |= info
    attributes["seconds"] = time.perf_counter() - since
    return _dataset(problem, entries, outputs, variance, status, attributes)


def _reference(like: Any, ensemble: Any) -> Any:
    """An array of the kind that the model receives; None for NumPy in float64."""
    if like is not None:
        return checked_like(like)
    if isinstance(ensemble, np.ndarray | np.generic) or not is_array_api_obj(ensemble):
        return None
    return checked_like(ensemble) if numpy_dtype(ensemble).kind == "f" else None


def _dataset(
    problem: InverseProblem,
    entries: Sequence[Entry],
    outputs: Outputs,
    variance: float,
    status: Status,
    attributes: dict[str, Any],
) -> xr.Dataset:
    everyone = np.arange(len(entries[0].u))
    history = History(len(everyone), "all")
    for i, (t, u, g, runs) in enumerate(entries):
        last = i == len(entries) - 1
        h = math.nan if last else entries[i + 1].t - t
        with np.errstate(over="ignore", invalid="ignore"):
            misfit = np.asarray(problem.noise.misfit(g, problem.data))
            spread = math.sqrt(total_variance(u) / variance)
        history.model_runs = runs
        info = StepInfo(h, misfit, status if last else None, spread)
        history.add(i, t, everyone, everyone, (problem.prior.to_physical(u), g), info)
    history.model_runs = outputs.runs
    history.failures = [
        {"iteration": len(entries), "member": int(member), "reason": reason}
        for member, reason in outputs.failures.items()
    ]
    return to_dataset(history, problem, status, attributes)


def _rules(
    discrepancy: float | None, collapsed: float | None, stop: Any, problem: InverseProblem
) -> tuple[StoppingRule, ...]:
    """The stopping rules; the two short forms come first."""
    rules: list[StoppingRule] = []
    remedy = "Omit it for a flow without this stopping rule."
    if discrepancy is not None:
        rules.append(Discrepancy(number("discrepancy", discrepancy, above=0, remedy=remedy)))
    if collapsed is not None:
        share = number("collapsed", collapsed, above=0, below=1, remedy=remedy)
        rules.append(Collapsed(share))
    rules += stopping_rules(stop)
    check_rules(rules, problem)
    return tuple(rules)


def _check_flow(flow: Any, problem: InverseProblem, step: Any, options: dict[str, Any]) -> None:
    if isinstance(flow, type) or not isinstance(flow, Flow):
        raise TypeError(f"flow: must be a flow such as ek.EKIFlow(), got {flow!r}.")
    if isinstance(flow, StochasticFlow):
        check_schedule(step)
        for name, value in options.items():
            raise TypeError(
                f"{name}: must be left out for {flow!r}, got {value!r}. solve_ivp solves only "
                "flows without noise. The only option of a flow with noise is step=."
            )
    elif step is not None:
        raise TypeError(
            f"step: must be left out for {flow!r}, got {step!r}. solve_ivp chooses the steps of "
            "a flow without noise. Use rtol=, atol= or max_step=."
        )
    elif problem.info.stochastic:
        raise TypeError(
            f"model: must not be stochastic for {flow!r}, got {problem.model!r}. A solver with "
            "error control needs a smooth right-hand side. Use ek.run, or a flow with noise."
        )
    if isinstance(flow, ChecksProblem):
        flow.check_problem(problem)


def _checked_span(t_span: Any) -> tuple[float, float]:
    span = as_real("t_span", t_span, ndim=(1,))
    if span.shape != (2,) or not 0 <= span[0] < span[1]:
        raise ValueError(f"t_span: must be (start, end) with 0 <= start < end, got {t_span!r}.")
    return float(span[0]), float(span[1])


def _checked_times(t_eval: Any, span: tuple[float, float]) -> np.ndarray:
    times = as_real("t_eval", t_eval, ndim=(1,)).astype(np.float64)
    if not len(times) or np.any(np.diff(times) <= 0):
        raise ValueError(f"t_eval: must be increasing times, at least one, got {t_eval!r}.")
    if times[0] < span[0] or times[-1] > span[1]:
        raise ValueError(
            f"t_eval: must be within t_span = {span}, got times from {times[0]:g} to "
            f"{times[-1]:g}. Remove the times outside, or extend t_span."
        )
    return times
