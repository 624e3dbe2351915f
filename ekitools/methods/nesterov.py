"""Nesterov momentum, for any method that moves its members."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np

from ekitools.core.arrays import array_namespace, take_rows
from ekitools.core.checks import check_method
from ekitools.linalg import total_variance
from ekitools.methods.shared import mapped, with_ensemble
from ekitools.typing import (
    Aim,
    Array,
    Method,
    Normalisation,
    Quadrature,
    Redraws,
    Starts,
    Status,
    StepInfo,
    StoppingRule,
    Stops,
    Target,
    is_sampler,
)

__all__ = ["Nesterov", "NesterovState"]


Inner = TypeVar("Inner")


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


@dataclass(frozen=True)
class Nesterov:
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

    Raises
    ------
    TypeError
        If it is not a method, a sampler such as `TemperedSMC`, or a method with nodes such as
        `UKI`.

    References
    ----------
    .. [1] Su, Boyd & Candès (2016), J. Mach. Learn. Res. 17, 1-43.
    .. [2] Kovachki & Stuart (2019), Inverse Problems 35, 095005.

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

    aim: ClassVar[Aim] = "fit"

    def __post_init__(self) -> None:
        check_method(self.method)
        if is_sampler(self.method):
            raise TypeError(
                f"method: must move its members, got the sampler {type(self.method).__name__}, "
                "which keeps or replaces them and has no step to be carried on. Use it without "
                "momentum."
            )
        if isinstance(self.method, Quadrature):
            raise TypeError(
                f"method: must move its members one by one, got {type(self.method).__name__}, "
                "whose members are the nodes of a quadrature rule: with momentum they are no "
                "nodes. Use it without momentum."
            )

    @property
    def State(self) -> Any:  # noqa: N802 - it is a class
        """`NesterovState` with the state of the method within."""
        return NesterovState[self.method.State]  # type: ignore[name-defined]

    @property
    def normalisation(self) -> Normalisation:
        """That of the method within."""
        return self.method.normalisation

    @property
    def stop(self) -> tuple[StoppingRule, ...]:
        """The stopping rules of the method within."""
        return self.method.stop if isinstance(self.method, Stops) else ()

    @property
    def start(self) -> Any:
        """Where the method within starts from."""
        return self.method.start if isinstance(self.method, Starts) else None

    def init(self, ensemble: Array, target: Target) -> NesterovState:
        """The state before the first step, at rest."""
        inner = self.method.init(ensemble, target)
        return self._state(inner, array_namespace(ensemble).zeros_like(ensemble))

    def ask(self, state: NesterovState) -> Array:
        """The members at which G is wanted, ``(J, p)``."""
        return self.method.ask(self._inner(state))

    def finished(self, state: NesterovState) -> Status | None:
        """Set once the method within has come to its end."""
        return _named(self.method.finished(self._inner(state)))

    def tell(
        self, state: NesterovState, g: Array, target: Target, *, rng: np.random.Generator
    ) -> tuple[NesterovState, StepInfo]:
        """One step with momentum, or the end: then the state is returned as it was."""
        inner, info = self.method.tell(self._inner(state), g, target, rng=rng)
        if info.status is not None:
            return state, info._replace(status=_named(info.status))
        factor = state.n / (state.n + 3)  # v_{n+1} = u_{n+1} + n/(n + 3) (u_{n+1} − u_n)
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
            status = Status(
                "diverged",
                f"The momentum of step {state.n} overflowed: this is the last good ensemble. Use "
                "smaller steps, or the method without momentum.",
                level="bad",
            )
            return state, info._replace(step=0.0, status=status)
        return self._state(with_ensemble(self.method, inner, ensemble), momentum), info

    def select(self, state: NesterovState, index: np.ndarray) -> NesterovState:
        """The state of the members ``index``, each with its momentum."""
        inner = self.method.select(self._inner(state), index)
        return self._state(inner, take_rows(state.momentum, index))

    def map_members(
        self, state: NesterovState, rows: Callable[[Array], Array], index: np.ndarray
    ) -> NesterovState:
        """The state with ``rows`` of members and momenta."""
        inner = mapped(self.method, self._inner(state), rows, index)
        return self._state(inner, rows(state.momentum))

    def _state(self, inner: Any, momentum: Array) -> NesterovState:
        return NesterovState(
            inner.ensemble, inner.n, inner.t, momentum, inner._replace(ensemble=None)
        )

    def _inner(self, state: NesterovState) -> Any:
        return state.inner._replace(ensemble=state.ensemble)


def _named(status: Status | None) -> Status | None:
    """A status of the method within, less the claim that momentum makes untrue."""
    if status is None or not status.posterior:
        return status
    return Status(
        "method_finished",
        "The method came to its end, but with momentum: the ensemble fits the data and is no "
        "sample of the posterior. Use the method without momentum for that.",
        level="good",
    )
