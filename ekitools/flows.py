"""Continuous time: right-hand sides over scipy's integrators, and Euler–Maruyama for noise.

Every deterministic flow is an ordinary differential equation du/dt = F(t, u) for the whole
ensemble, at a cost of O(J²(d + p)) and one evaluation of G: no p × p matrix. Flows work on
NumPy in float64, in the unconstrained coordinates of the prior.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.integrate import solve_ivp

from ekitools._arrays import Streams, as_real
from ekitools._checks import check_ensemble, check_problem
from ekitools.analysis import initial_variance
from ekitools.evaluate import evaluate
from ekitools.linalg import total_variance
from ekitools.options import to_json
from ekitools.problem import InverseProblem
from ekitools.results import History
from ekitools.typing import Rng, Status, StepInfo

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["EKIFlow", "GradientFlow", "NaturalGradientFlow", "NesterovFlow", "integrate"]


class Output(NamedTuple):
    """G at an ensemble and the gradient of the loss there."""

    g: np.ndarray
    gradient: np.ndarray
    """∇_z Ψ(G(u_j), y), ``(J, d)``."""


@dataclass(frozen=True)
class EKIFlow:
    r"""The ensemble Kalman flow, for any loss.

    .. math::
        \dot u_j = -C^{uw}(u)\, \nabla_z \Psi(G(u_j), y), \qquad
        C^{uw} = \tfrac1J \sum_k (u_k - \bar u) \otimes (G(u_k) - \bar G),

    which for Ψ = ½‖Γ^{-1/2}(z − y)‖² is the limit h → 0 of EKI without perturbed data
    [1]_, [2]_.

    Parameters
    ----------
    tikhonov : bool, default False
        Whether the prior is added as further data: −C(u) C₀⁻¹(u_j − m), so that the ensemble
        goes to the maximum a posteriori estimate.

    References
    ----------
    .. [1] Schillings & Stuart (2017), SIAM J. Numer. Anal. 55, 1264-1290.
    .. [2] Kovachki & Stuart (2019), Inverse Problems 35, 095005.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> problem = ek.InverseProblem(
    ...     ek.LinearModel([[1.0]]), ek.GaussianPrior(0.0, 1.0), 1.0, [0.0])
    >>> result = ek.integrate(problem, ek.EKIFlow(), t_span=(0, 4), ensemble=[[-1.0], [1.0]])
    >>> result.u.values[-1].round(4).ravel()
    array([-0.3333,  0.3333])
    """

    tikhonov: bool = False
    order = 1

    def acceleration(self, t: float, u: np.ndarray, out: Output, problem: Any) -> np.ndarray:  # noqa: ARG002
        """du/dt, ``(J, p)``."""
        n = len(u)
        anomalies, outputs = u - u.mean(axis=0), out.g - out.g.mean(axis=0)
        weights = out.gradient @ outputs.T
        if self.tikhonov:
            white = problem.prior.whiten(u)
            weights += white @ (white - white.mean(axis=0)).T
        return np.asarray(-(weights / n) @ anomalies)


@dataclass(frozen=True)
class NesterovFlow(EKIFlow):
    r"""The ensemble Kalman flow with momentum.

    .. math:: \ddot u_j + \tfrac3t \dot u_j = -C^{uw}(u)\, \nabla_z \Psi(G(u_j), y)

    with u̇(0) = 0 [1]_. At t = 0, where 3/t has no value, the equation's own limit is used:
    u̇ ~ t ü(0) makes it 4 ü(0) = −C^{uw}∇Ψ.

    Parameters
    ----------
    tikhonov : bool, default False
        As in `EKIFlow`.

    References
    ----------
    .. [1] Su, Boyd & Candès (2016), J. Mach. Learn. Res. 17, 1-43.

    Examples
    --------
    >>> import ekitools as ek
    >>> problem = ek.problems.linear(p=3, d=5).problem
    >>> plain, fast = (ek.integrate(problem, flow, t_span=(0, 5), n_members=10, rng=0)
    ...                for flow in (ek.EKIFlow(), ek.NesterovFlow()))
    >>> plain.attrs["status_code"] == fast.attrs["status_code"] == "t_end_reached"
    True
    """

    order = 2


@dataclass(frozen=True)
class GradientFlow:
    r"""Gradient flow of every member, u̇_j = −∇Φ(u_j), for comparison.

    It needs a derivative: a `LinearModel`, or a Jacobian.

    Parameters
    ----------
    jacobian : callable, optional
        ``jacobian(u) -> (d, p)`` of one member, in unconstrained coordinates.

    Examples
    --------
    >>> import ekitools as ek
    >>> problem = ek.problems.linear(p=2, d=3).problem
    >>> ek.integrate(problem, ek.GradientFlow(), t_span=(0, 1), n_members=3, rng=0).sizes["member"]
    3
    """

    jacobian: Callable[[np.ndarray], np.ndarray] | None = None
    order = 1

    def acceleration(self, t: float, u: np.ndarray, out: Output, problem: Any) -> np.ndarray:  # noqa: ARG002
        """du/dt, ``(J, p)``."""
        if self.jacobian is None:
            return np.asarray(-_linear(problem).adjoint(out.gradient))
        rows = zip(u, out.gradient, strict=True)
        return -np.array([self.jacobian(row).T @ gradient for row, gradient in rows])


@dataclass(frozen=True)
class NaturalGradientFlow(GradientFlow):
    r"""Natural gradient flow u̇_j = −F⁻¹∇Φ(u_j), F = DGᵀ Γ⁻¹ DG, for comparison [1]_.

    The least-squares solution where F is singular.

    Parameters
    ----------
    jacobian : callable, optional
        As in `GradientFlow`.

    References
    ----------
    .. [1] Amari (1998), Neural Computation 10, 251-276.

    Examples
    --------
    >>> import ekitools as ek
    >>> problem = ek.problems.linear(p=2, d=3).problem
    >>> flow = ek.NaturalGradientFlow()
    >>> ek.integrate(problem, flow, t_span=(0, 1), n_members=3, rng=0).sizes["member"]
    3
    """

    def acceleration(self, t: float, u: np.ndarray, out: Output, problem: Any) -> np.ndarray:  # noqa: ARG002
        """du/dt, ``(J, p)``."""
        noise, residual = problem.noise, problem.noise.whiten(out.g - problem.data)
        if self.jacobian is None:
            columns = _linear(problem)(np.eye(u.shape[1])).T  # (d, p)
            white = noise.whiten(columns.T).T
            return -np.linalg.lstsq(white, residual.T, rcond=None)[0].T
        slopes = (noise.whiten(self.jacobian(row).T).T for row in u)
        pairs = zip(slopes, residual, strict=True)
        return -np.array([np.linalg.lstsq(s, r, rcond=None)[0] for s, r in pairs])


def integrate(
    problem: InverseProblem,
    flow: Any,
    *,
    t_span: tuple[float, float],
    n_members: int = 100,
    ensemble: Any = None,
    rng: Rng = None,
    discrepancy: float | None = None,
    collapsed: float | None = None,
    **solve_ivp_options: Any,
) -> xr.Dataset:
    """Solve a flow with `scipy.integrate.solve_ivp`.

    Parameters
    ----------
    problem : InverseProblem
        What is to be solved.
    flow : EKIFlow, NesterovFlow, GradientFlow or NaturalGradientFlow
        The right-hand side.
    t_span : (float, float)
        0 <= start < end.
    n_members : int, default 100
        Ensemble size J, drawn from the prior.
    ensemble : (J, p), optional
        Initial ensemble in physical coordinates instead.
    rng : None, int or numpy.random.Generator
        Source of the prior's draws.
    discrepancy : float, optional
        τ: stop where ‖Γ^{-1/2}(Ḡ − y)‖ falls to τ√d.
    collapsed : float, optional
        Stop where the root of the total ensemble variance falls to this share of the initial.
    **solve_ivp_options
        ``method``, ``t_eval``, ``rtol`` (default 1e-8), ``atol`` (default 1e-10), ``max_step``,
        ``events`` and so on; ``events`` and ``fun`` see the flat vector of (J, p) numbers,
        followed by as many velocities for a second-order flow.

    Returns
    -------
    xarray.Dataset
        As from `ekitools.run`, an iteration for every time kept, with the coordinate ``t``.
        A solver that fails leaves the part that it computed, and its message as the status.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of order, before any model run.
    RuntimeError
        If the model fails for a member: a flow cannot go on without it.

    Examples
    --------
    >>> import ekitools as ek
    >>> problem = ek.problems.linear(p=3, d=5).problem
    >>> result = ek.integrate(problem, ek.EKIFlow(), t_span=(0, 1e3), n_members=20, rng=0,
    ...                       discrepancy=1.5)
    >>> result.attrs["status_code"]
    'discrepancy_reached'
    """
    check_problem(problem)
    start, end = _checked_span(t_span)
    if not callable(getattr(flow, "acceleration", None)):
        raise TypeError(f"flow: must be a flow such as ek.EKIFlow(), got {flow!r}.")
    streams = Streams(rng)
    if ensemble is None:
        initial = problem.prior.sample_unconstrained(n_members, rng=streams.prior())
    else:
        given = as_real("ensemble", ensemble).astype(np.float64)
        check_ensemble(given, problem.n_parameters)
        initial = np.asarray(problem.prior.to_unconstrained(given))
    variance = initial_variance(initial)
    shape, size = initial.shape, initial.size
    counter = _Counter(problem, shape)

    def slope(t: float, x: np.ndarray) -> np.ndarray:
        u = x[:size].reshape(shape)
        force = flow.acceleration(t, u, counter(u), problem).ravel()
        if flow.order == 1:
            return np.asarray(force)
        v = x[size:]
        return np.concatenate([v, force / 4 if t == 0 else force - 3 / t * v])

    def misfit_event(t: float, x: np.ndarray) -> float:  # noqa: ARG001 - solve_ivp's signature
        g = counter(x[:size].reshape(shape)).g
        white = problem.noise.whiten(g.mean(axis=0) - problem.data)
        return float(np.linalg.norm(white)) - (discrepancy or 0) * math.sqrt(problem.n_data)

    def spread_event(t: float, x: np.ndarray) -> float:  # noqa: ARG001 - solve_ivp's signature
        return math.sqrt(total_variance(x[:size].reshape(shape)) / variance) - (collapsed or 0)

    ours = [
        (misfit_event, "discrepancy_reached", discrepancy),
        (spread_event, "collapsed", collapsed),
    ]
    wanted = [(event, code) for event, code, level in ours if level is not None]
    for event, _ in wanted:
        event.terminal, event.direction = True, -1  # type: ignore[attr-defined]  # scipy's way
    asked = solve_ivp_options.pop("events", None) or []
    theirs = list(asked) if isinstance(asked, list | tuple) else [asked]
    options = {"rtol": 1e-8, "atol": 1e-10, **solve_ivp_options}
    x0 = initial.ravel() if flow.order == 1 else np.concatenate([initial.ravel(), np.zeros(size)])
    events = [*(event for event, _ in wanted), *theirs]
    solution = solve_ivp(slope, (start, end), x0, events=events or None, **options)
    status = _status(solution, [code for _, code in wanted], end)
    return _dataset(problem, flow, solution, counter, status, streams, variance)


class _Counter:
    """G and ∇Ψ at an ensemble, remembering the last one, and how many runs that took."""

    def __init__(self, problem: InverseProblem, shape: tuple[int, ...]) -> None:
        self.problem, self.shape = problem, shape
        self.runs = 0
        self._key: bytes | None = None
        self._last: Output | None = None

    def __call__(self, u: np.ndarray) -> Output:
        key = u.tobytes()
        if self._last is None or key != self._key:
            problem = self.problem
            g, failures = evaluate(problem.model, problem.prior.to_physical(u), problem.n_data)
            self.runs += len(u)
            if failures:
                row, failure = next(iter(failures.items()))
                raise RuntimeError(
                    f"model: failed for member {row} during a flow ({failure.reason}). A flow "
                    "needs every member; use ek.run, which can drop some, or a tamer prior."
                ) from failure.error
            self._key, self._last = key, Output(g, problem.noise.gradient(g, problem.data))
        return self._last


def _dataset(
    problem: InverseProblem,
    flow: Any,
    solution: Any,
    counter: _Counter,
    status: Status,
    streams: Streams,
    variance: float,
) -> xr.Dataset:
    shape = counter.shape
    history, members = History(shape[0], "all"), np.arange(shape[0])
    times = solution.t
    for i, t in enumerate(times):
        u = solution.y[: math.prod(shape), i].reshape(shape)
        runs = counter.runs
        g = counter(u).g
        counter.runs = runs  # looking back at the solution is not part of its cost
        misfit = problem.noise.misfit(g, problem.data)
        spread = math.sqrt(total_variance(u) / variance)
        last = i == len(times) - 1
        history.model_runs = runs
        info = StepInfo(
            math.nan if last else times[i + 1] - t, misfit, status if last else None, spread
        )
        history.add(i, float(t), members, members, (problem.prior.to_physical(u), g), info)
    attributes = {
        "title": "ensemble Kalman flow",
        "method": to_json(flow),
        "seed": streams.root,
        "covariance_normalisation": "1/J",
        "solver": {"nfev": int(solution.nfev), "message": str(solution.message)},
    }
    return history.to_dataset(problem, status, attributes)


def _status(solution: Any, codes: list[str], end: float) -> Status:
    reached = float(solution.t[-1]) if len(solution.t) else math.nan
    if solution.status == -1:
        return Status(
            "solver_failed",
            f"The solver gave up at t = {reached:.4g}: {solution.message} What it computed until "
            "then is here; use an implicit method, larger tolerances, or a shorter t_span.",
        )
    if solution.status == 1:
        found = [code for code, t in zip(codes, solution.t_events, strict=False) if len(t)]
        code = found[0] if found else "event"
        return Status(code, f"The integration stopped at t = {reached:.4g} by an event ({code}).")
    return Status("t_end_reached", f"The flow was integrated to t = {end:g}.")


def _checked_span(t_span: Any) -> tuple[float, float]:
    span = as_real("t_span", t_span, ndim=(1,))
    if span.shape != (2,) or not 0 <= span[0] < span[1]:
        raise ValueError(f"t_span: must be (start, end) with 0 <= start < end, got {t_span!r}.")
    return float(span[0]), float(span[1])


def _linear(problem: InverseProblem) -> Any:
    if not callable(getattr(problem.model, "adjoint", None)):
        raise TypeError(
            f"jacobian: must be given for a model that is not an ek.LinearModel, got "
            f"{problem.model!r}."
        )
    return problem.model
