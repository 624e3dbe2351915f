"""Nesterov momentum, for any method that moves its members."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np

from ekitools.core.arrays import array_namespace, take_rows
from ekitools.core.checks import flag, number, one_of, put
from ekitools.linalg import total_variance
from ekitools.methods.around import Around, check_moves, without_posterior
from ekitools.methods.shared import check_all_data, diverged, mapped, with_ensemble
from ekitools.typing import (
    Aim,
    Array,
    Method,
    Redraws,
    Status,
    StepInfo,
    Target,
)

__all__ = ["Nesterov", "NesterovState"]


Inner = TypeVar("Inner")

_WHY = (
    "with momentum: the ensemble fits the data and is no sample of the posterior. Use the method "
    "without momentum for that."
)


class Pace(NamedTuple):
    """What the factor of the momentum depends on."""

    since: int = 0
    """Steps since the momentum started from zero."""
    theta: float = 1.0
    """θ of the recurrence, which starts at 1."""
    misfit: float = math.inf
    """The mean of what the method minimises, at the step before."""


class NesterovState(NamedTuple, Generic[Inner]):
    """What the next step needs."""

    ensemble: Array
    """v_n, at which G is asked for."""
    n: int
    t: float
    momentum: Array
    """v_n − u_n, so that a member that replaces a failed one can have the survivors'."""
    inner: Inner
    """The state of the method within, without its ensemble, which is the one above."""
    pace: Pace = Pace()


@dataclass(frozen=True)
class Nesterov(Around):
    r"""Nesterov momentum for a method such as `EKI`.

    The method's own step leads from v_n to u_{n+1}; G is evaluated at

    .. math::
        v_{n+1} = u_{n+1} + \tfrac{n}{n+3} (u_{n+1} - u_n), \qquad v_0 = u_0, \quad n = 0, 1, \dots

    [1]_, [2]_, so the first step has no momentum (v_1 = u_1) and the second a quarter of its
    move. Where the method draws its members anew at the end of a step (`Spread`) they are others
    than before: only the mean has moved, and all are carried on as it is. Results show the v_n,
    for which outputs are known. The ensemble is one that fits the data: with momentum it is no
    sample of the posterior, whatever Σh.

    Parameters
    ----------
    method : Method
        `EKI`, `LossEKI`, `GNKI` or your own: one that moves its members. With `EKI`,
        ``t_end=None`` and ``perturbed=False`` is what is usually wanted.
    momentum : {"su", "theta"} or float, default "su"
        The factor of the momentum. "su" is n/(n + 3). "theta" is θ_{n+1}(1/θ_n − 1) with θ_0 = 1
        and θ_{n+1} = (√(θ_n⁴ + 4θ_n²) − θ_n²)/2 [3]_. A number within [0, 1) is constant.
    restart : bool, default False
        Whether the momentum starts from zero again where the mean misfit has risen (the mean of
        what the method minimises, where that is not the misfit) [4]_.

    Raises
    ------
    TypeError, ValueError
        If the method is a sampler such as `TemperedSMC` or has nodes, such as `UKI`; or an option
        is of the wrong kind or out of range. If the problem shows a part of its data at a step and
        ``restart`` is True.

    See Also
    --------
    NesterovFlow : The same in continuous time.

    Notes
    -----
    Keep the defaults. "theta" is nearly "su" (the factors are 0, 0.282, 0.434, 0.531 and 0, 0.25,
    0.4, 0.5) and no faster. The constant factor 0.9 is slower on the way to a good fit. A restart
    saves about one step in twelve. ``benchmarks/momentum.py`` has the numbers.

    References
    ----------
    .. [1] Su, Boyd & Candès (2016), J. Mach. Learn. Res. 17, 1-43.
    .. [2] Kovachki & Stuart (2019), Inverse Problems 35, 095005.
    .. [3] Nesterov (1983), Soviet Math. Dokl. 27, 372-376.
    .. [4] O'Donoghue & Candès (2015), Found. Comput. Math. 15, 715-732.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> A = np.diag([1.0, 0.1])
    >>> problem = ek.InverseProblem(
    ...     ek.LinearModel(A), ek.GaussianPrior([0.0, 0.0], 1.0), 1.0, A @ [1.0, 1.0])
    >>> plain = ek.EKI(ek.FixedStep(10.0), t_end=None, perturbed=False)
    >>> for method in (plain, ek.Nesterov(plain)):
    ...     result = ek.run(problem, method, n_members=20, n_steps=80, rng=0)
    ...     print(result.u[-1].mean("member").values.round(1))
    [1.  0.7]
    [1. 1.]
    """

    method: Method
    momentum: str | float = "su"
    restart: bool = False

    aim: ClassVar[Aim] = "fit"

    def __post_init__(self) -> None:
        check_moves(
            self.method,
            sampler="which keeps or replaces them and has no step to be carried on",
            nodes=": with momentum they are no nodes",
            remedy="Use it without momentum.",
        )
        momentum: str | float
        if isinstance(self.momentum, str):
            momentum = one_of("momentum", self.momentum, ("su", "theta"))
        else:
            remedy = 'Or use "su" or "theta".'
            momentum = number("momentum", self.momentum, least=0, below=1, remedy=remedy)
        put(self, momentum=momentum, restart=flag("restart", self.restart))

    @property
    def State(self) -> Any:  # noqa: N802 - it is a class
        """`NesterovState` with the state of the method within."""
        return NesterovState[self.method.State]  # type: ignore[name-defined]

    def init(self, ensemble: Array, target: Target) -> NesterovState:
        """The state before the first step, at rest."""
        if self.restart:
            check_all_data(target, "Nesterov(restart=True), which compares misfits of all steps")
        inner = self.method.init(ensemble, target)
        return self._state(inner, array_namespace(ensemble).zeros_like(ensemble), Pace())

    def ask(self, state: NesterovState) -> Array:
        """The members at which G is wanted, ``(J, p)``."""
        return self.method.ask(self._inner(state))

    def finished(self, state: NesterovState) -> Status | None:
        """Set once the method within has come to its end."""
        return without_posterior(self.method.finished(self._inner(state)), _WHY)

    def tell(
        self, state: NesterovState, g: Array, target: Target, *, rng: np.random.Generator
    ) -> tuple[NesterovState, StepInfo]:
        """One step with momentum, or the end: then the state is returned as it was."""
        inner, info = self.method.tell(self._inner(state), g, target, rng=rng)
        if info.status is not None:
            return state, info._replace(status=without_posterior(info.status, _WHY))
        factor, pace = self._paced(state.pace, info)
        # v_{n+1} = u_{n+1} + factor (u_{n+1} − u_n) with
        # u_{n+1} − u_n = (u_{n+1} − v_n) + (v_n − u_n)
        new, old, carried = inner.ensemble, state.ensemble, state.momentum
        if isinstance(self.method, Redraws) and self.method.redraws(state.n):
            xp = array_namespace(new)
            means = (xp.mean(each, axis=0, keepdims=True) for each in (new, old, carried))
            new_mean, old, carried = means
            momentum = xp.zeros_like(new) + factor * (new_mean - old + carried)
        else:
            momentum = factor * (new - old + carried)
        ensemble = new + momentum
        if not math.isfinite(total_variance(ensemble)):
            status = diverged(
                f"The momentum of step {state.n}",
                "Use smaller steps, or the method without momentum.",
            )
            return state, info._replace(step=0.0, status=status)
        return self._state(with_ensemble(self.method, inner, ensemble), momentum, pace), info

    def select(self, state: NesterovState, index: np.ndarray) -> NesterovState:
        """The state of the members ``index``, each with its momentum."""
        inner = self.method.select(self._inner(state), index)
        return self._state(inner, take_rows(state.momentum, index), state.pace)

    def map_members(
        self, state: NesterovState, rows: Callable[[Array], Array], index: np.ndarray
    ) -> NesterovState:
        """The state with ``rows`` of members and momenta."""
        inner = mapped(self.method, self._inner(state), rows, index)
        return self._state(inner, rows(state.momentum), state.pace)

    def _paced(self, pace: Pace, info: StepInfo) -> tuple[float, Pace]:
        """The factor of the momentum at a step, and what the next one depends on."""
        misfit = float(np.mean(info.misfit)) if info.objective is None else info.objective
        rising = self.restart and misfit > pace.misfit
        since, theta = (0, 1.0) if rising else pace[:2]
        following = theta * (math.sqrt(theta**2 + 4) - theta) / 2
        if self.momentum == "su":
            factor = since / (since + 3)
        elif self.momentum == "theta":
            factor = following * (1 / theta - 1)
        else:
            factor = 0.0 if rising else float(self.momentum)
        return factor, Pace(since + 1, following, misfit)

    def _state(self, inner: Any, momentum: Array, pace: Pace) -> NesterovState:
        within = inner._replace(ensemble=None)
        return NesterovState(inner.ensemble, inner.n, inner.t, momentum, within, pace)

    def _inner(self, state: NesterovState) -> Any:
        return state.inner._replace(ensemble=state.ensemble)
