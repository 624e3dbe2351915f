"""Contracts of flows in continuous time."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np

from ekitools.typing.arrays import Array


@runtime_checkable
class Flow(Protocol):
    """A right-hand side in continuous time, u̇ = F or, of ``order`` 2, ü + (3/t) u̇ = F.

    A flow with requirements for the problem also has `ChecksProblem`. A flow whose ensemble samples
    the posterior also has `SamplingFlow`.

    See Also
    --------
    ekitools.integrate : Integrates a flow.
    StochasticFlow : A flow with noise.

    Examples
    --------
    >>> import ekitools as ek
    >>> class Decay:
    ...     order = 1
    ...     def acceleration(self, t, u, out, problem):
    ...         return -u
    >>> problem = ek.problems.linear(p=2, d=3).problem
    >>> result = ek.integrate(problem, Decay(), t_span=(0, 1), n_members=5, rng=0, rtol=1e-8)
    >>> float((result.u[-1] / result.u[0]).mean().round(4))  # 1/e
    0.3679
    """

    @property
    def order(self) -> int:
        """1 or 2."""
        ...

    def acceleration(self, t: float, u: Array, out: Any, problem: Any) -> Array:
        """F, ``(J, p)``, from u and its `ekitools.flows.Output`."""
        ...


@runtime_checkable
class StochasticFlow(Flow, Protocol):
    """A stochastic differential equation du = F dt + S(u) dW, of order 1.

    See Also
    --------
    Flow : A flow without noise.
    OwnSteps : A flow with its own time steps.

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.EKSFlow().increment_shape(n_members=10, n_data=3)
    (10, 10)
    """

    def increment_shape(self, n_members: int, n_data: int) -> tuple[int, ...]:
        """The shape of dW, independent standard Brownian motions."""
        ...

    def diffusion(self, u: Array, out: Any, increment: Array, problem: Any) -> Array:
        """S(u) dW, ``(J, p)``."""
        ...


@runtime_checkable
class OwnSteps(StochasticFlow, Protocol):
    """A flow with noise that makes its steps itself, in place of Euler and Maruyama's.

    The flow may draw the noise of a step one step ahead. Therefore `integrate` asks the step rule
    one step ahead too.

    See Also
    --------
    ekitools.EKSFlow : A flow of this kind.
    StochasticFlow : A flow in steps of Euler and Maruyama.

    Examples
    --------
    >>> import ekitools as ek
    >>> isinstance(ek.EKSFlow(), ek.typing.OwnSteps), ek.EKSFlow().scheme
    (True, 'leimkuhler-matthews')
    >>> isinstance(ek.StochasticEKIFlow(), ek.typing.OwnSteps)
    False
    """

    @property
    def scheme(self) -> str:
        """Name of the scheme, which results record.

        With "euler-maruyama" the flow is carried like any other, and `advance` is not used.
        """
        ...

    def advance(
        self,
        u: Array,
        out: Any,
        carried: Any,
        h: float,
        length: float,
        problem: Any,
        *,
        rng: np.random.Generator,
    ) -> tuple[Array, Any]:
        """The ensemble ``(J, p)`` after a step of ``length``, and what the next step needs.

        ``carried`` is the second value that the previous step returned, and None at the first step.
        ``h`` is the step size of the rule at ``u``, for the next step. ``length`` is the h of the
        previous step, and ``h`` at the first step. It is smaller if the step is cut.
        """
        ...


@runtime_checkable
class SamplingFlow(Flow, Protocol):
    """A flow whose ensemble samples the posterior, for all times or at one.

    See Also
    --------
    ekitools.StochasticEKIFlow, ekitools.EKSFlow : Flows of this kind.

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.StochasticEKIFlow().samples_posterior(1.0), ek.StochasticEKIFlow().samples_posterior(2.0)
    (True, False)
    """

    def samples_posterior(self, t: float) -> bool:
        """Whether the ensemble of a flow that ended at time t is a sample of the posterior."""
        ...
