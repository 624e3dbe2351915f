"""Nesterov momentum, for any method that moves its members."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeAlias, TypeVar, get_args

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

Momentum: TypeAlias = Literal["su", "theta"]
_MOMENTA: tuple[Momentum, ...] = get_args(Momentum)

Inner = TypeVar("Inner")

_WHY = (
    "with momentum the ensemble fits the data and is not a sample of the posterior. Use the method "
    "without momentum for a sample."
)


class Pace(NamedTuple):
    """The quantities that determine the factor of the momentum."""

    since: int = 0
    """Steps since the momentum started from zero."""
    theta: float = 1.0
    """θ of the recurrence, which starts at 1."""
    misfit: float = math.inf
    """Mean of the method's objective at the previous step."""


class NesterovState(NamedTuple, Generic[Inner]):
    """State of `Nesterov` between two steps."""

    ensemble: Array
    """The members v_n, at which G is evaluated."""
    n: int
    t: float
    momentum: Array
    """The differences v_n − u_n. A replaced member takes the momentum of surviving members."""
    inner: Inner
    """The state of the wrapped method, without its ensemble."""
    pace: Pace = Pace()


@dataclass(frozen=True)
class Nesterov(Around):
    r"""Nesterov momentum for a method such as `EKI`.

    The step of the wrapped method leads from v_n to u_{n+1}. G is evaluated at [1]_ [2]_

    .. math::
        v_{n+1} = u_{n+1} + \tfrac{n}{n+3} (u_{n+1} - u_n), \qquad v_0 = u_0, \quad n = 0, 1, \dots

    The first step has no momentum (v_1 = u_1), and the second step has a quarter of its move as
    momentum. If the method redraws members at the end of a step (`Spread`), all members have the
    momentum of the mean. Results show the members v_n, because their outputs are known. The
    ensemble fits the data. With momentum the ensemble is not a sample of the posterior, for any Σh.

    Parameters
    ----------
    method : Method
        A method that moves its members: `EKI`, `LossEKI`, `GNKI` or your own. For `EKI` the usual
        options are ``t_end=None`` and ``perturbed=False``.
    momentum : {"su", "theta"} or float, default "su"
        The factor of the momentum. "su" is n/(n + 3). "theta" is θ_{n+1}(1/θ_n − 1) with θ_0 = 1
        and θ_{n+1} = (√(θ_n⁴ + 4θ_n²) − θ_n²)/2 [3]_. A number within [0, 1) is a constant factor.
    restart : bool, default False
        Whether the momentum restarts from zero after a rise of the mean misfit, or of the mean
        objective of a method that minimises another function [4]_.

    Raises
    ------
    TypeError, ValueError
        If the method is a sampler such as `TemperedSMC`, has nodes, such as `UKI`, or an option is
        of the wrong kind or out of range. With ``restart``, a run raises a TypeError if a step sees
        a part of the data.

    See Also
    --------
    NesterovFlow : Nesterov momentum in continuous time.
    EKI : A method for which momentum is useful.

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
    momentum: Momentum | float = "su"
    restart: bool = False

    aim: ClassVar[Aim] = "fit"

    def __post_init__(self) -> None:
        check_moves(
            self.method,
            sampler="which keeps or replaces them and has no step that momentum could continue",
            nodes=" and would not stay nodes with momentum",
            remedy="Use it without momentum.",
        )
        momentum: Momentum | float
        if isinstance(self.momentum, str):
            momentum = one_of("momentum", self.momentum, _MOMENTA)
        else:
            remedy = 'Or use "su" or "theta".'
            momentum = number("momentum", self.momentum, least=0, below=1, remedy=remedy)
        put(self, momentum=momentum, restart=flag("restart", self.restart))

    @property
    def State(self) -> Any:  # noqa: N802 - it is a class
        """`NesterovState` with the state class of the wrapped method."""
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
        """The final status once the wrapped method has finished; None before."""
        return without_posterior(self.method.finished(self._inner(state)), _WHY)

    def tell(
        self, state: NesterovState, g: Array, target: Target, *, rng: np.random.Generator
    ) -> tuple[NesterovState, StepInfo]:
        """One step with momentum. At the end of the run the state is returned unchanged."""
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
        """The factor of the momentum at a step, and the quantities for the next step."""
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
