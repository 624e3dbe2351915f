"""The contracts: what a model, a prior, a noise model, a schedule and a method must offer.

Everything here is structural (`typing.Protocol`): a class of yours fits by having the
members, without importing ekitools. Shapes: ``J`` members, ``p`` parameters, ``d`` data;
ensembles are ``(J, p)`` and their outputs ``(J, d)``, members first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np

Array: TypeAlias = Any
"""An array-API array: NumPy, torch, JAX, ... Kernels keep its dtype and its device."""

Rng: TypeAlias = "int | np.random.Generator | None"
"""Anything `numpy.random.default_rng` takes."""


@runtime_checkable
class ForwardModel(Protocol):
    """The black box G.

    ``vectorized`` says whether ``__call__`` takes ``(J, p)`` and returns ``(J, d)``, or takes
    one member ``(p,)`` and returns ``(d,)``. A ``stochastic`` model is also given
    ``rng=`` (a Generator of its own for every member and iteration). A model with the
    attribute ``takes_inputs = True`` is G(u | x) and is also given ``inputs=``, the
    ``(m, ...)`` inputs x of m samples: its outputs are those of the samples one after the
    other, d = m k.

    Where a model knows them it may also say ``shape``, (d, p), or ``n_parameters``; and
    ``parameter_names`` and ``data_names``, which become the labels of the results. A problem is
    checked against them.

    Examples
    --------
    >>> import ekitools as ek
    >>> class Doubling:
    ...     vectorized, stochastic = True, False
    ...     def __call__(self, u):
    ...         return 2 * u
    >>> isinstance(Doubling(), ek.typing.ForwardModel)
    True
    """

    @property
    def vectorized(self) -> bool: ...

    @property
    def stochastic(self) -> bool: ...

    def __call__(self, u: Array, /, **kwargs: Any) -> Array: ...


@runtime_checkable
class Prior(Protocol):
    """μ₀, together with the bijection between physical and unconstrained coordinates.

    Methods work on unconstrained ensembles ``z``, in which the prior is Gaussian; models
    and users see physical ones ``u``.

    Examples
    --------
    >>> import ekitools as ek
    >>> from scipy import stats
    >>> prior = ek.Prior({"rate": stats.lognorm(0.5)})
    >>> z = prior.sample_unconstrained(1000, rng=0)
    >>> bool((z < 0).any()), bool((prior.to_physical(z) < 0).any())
    (True, False)
    """

    @property
    def n_parameters(self) -> int: ...

    @property
    def names(self) -> tuple[str, ...] | None: ...

    def sample(self, n: int, *, rng: Rng = None) -> Array:
        """``n`` draws in physical coordinates, ``(n, p)``."""
        ...

    def sample_unconstrained(self, n: int, *, rng: Rng = None) -> Array:
        """``n`` draws in unconstrained coordinates, ``(n, p)``."""
        ...

    def logpdf(self, u: Array) -> Array:
        """Log-density at physical ``(p,)`` or ``(n, p)``."""
        ...

    def to_physical(self, z: Array) -> Array: ...

    def to_unconstrained(self, u: Array) -> Array: ...

    def whiten(self, z: Array) -> Array:
        """Carry unconstrained ``(J, p)`` to coordinates in which the prior is N(0, I)."""
        ...

    def unwhiten(self, w: Array) -> Array:
        """Carry them back."""
        ...

    def fingerprint(self) -> str:
        """A short text that changes whenever the distribution does."""
        ...


@runtime_checkable
class Loss(Protocol):
    """Ψ(z, y) of outputs z and data y, where Φ(u) = Ψ(G(u), y).

    It may also have ``check_data(data)``, which raises where the data are not what it takes;
    and ``curvature_product(z, y, f)``, the product of ∇²_z Ψ at z ``(d,)`` with every row of f
    ``(J, d)``, which `CurvatureEKI` needs.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> loss = ek.Huber(delta=1.0, scale=1.0)
    >>> loss.gradient(np.array([0.5, 9.0]), np.zeros(2))  # an outlier pulls no harder than 1
    array([0.5, 1. ])
    """

    def misfit(self, z: Array, y: Array) -> Array:
        """Ψ along the last axis."""
        ...

    def gradient(self, z: Array, y: Array) -> Array:
        """∇_z Ψ, of the shape of ``z``."""
        ...

    def fingerprint(self) -> str: ...


@runtime_checkable
class NoiseModel(Loss, Protocol):
    """η ~ N(0, Γ), known only through its whitening map: the loss ½ ‖Γ^{-1/2}(z − y)‖².

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> ek.GaussianNoise(0.25).whiten(np.array([1.0, 3.0]))
    array([2., 6.])
    """

    @property
    def n_data(self) -> int | None:
        """d, or None where one variance serves any d."""
        ...

    def whiten(self, r: Array) -> Array:
        """Γ^{-1/2} r along the last axis: ``whiten(r) · whiten(s) = rᵀ Γ⁻¹ s``."""
        ...

    def sample(self, n: int, *, rng: Rng = None) -> Array:
        """``n`` draws of η, ``(n, d)``."""
        ...


@runtime_checkable
class Batches(Protocol):
    """What is seen at step n, in place of data that are all seen at every step.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> batches = ek.OnlineData(np.arange(6.0), np.arange(6.0), size=2)
    >>> batches.batch(1, np.random.default_rng)  # inputs and datum of the second step
    (array([2., 3.]), array([2., 3.]))
    """

    @property
    def targets(self) -> np.ndarray:
        """All of the data, ``(N, k)`` or ``(N,)``."""
        ...

    @property
    def n_data(self) -> int:
        """Length d of the datum of one step, the same at every step."""
        ...

    @property
    def n_steps(self) -> int | None:
        """Steps after which there is nothing more to see; None where there always is."""
        ...

    def batch(
        self, n: int, order: Callable[[int], np.random.Generator]
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Inputs ``(m, ...)`` and datum ``(d,)`` of step n, None where there are none.

        Pure: ``order(epoch)`` gives the randomness of an epoch, the same whenever asked.
        """
        ...

    def fingerprint(self) -> str: ...


class Target(Protocol):
    """What a method sees of an inverse problem: no model, no labels.

    Examples
    --------
    >>> import ekitools as ek
    >>> target = ek.problems.linear(p=2, d=3).problem  # one that has a model too
    >>> state = ek.EKI().init(target.prior.sample_unconstrained(20, rng=0), target)
    >>> state.ensemble.shape
    (20, 2)
    """

    @property
    def data(self) -> Array: ...

    @property
    def noise(self) -> Any: ...

    @property
    def prior(self) -> Any: ...


class Status(NamedTuple):
    """Why a run ended: a code for programs, a sentence with the remedy for people.

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.typing.Status("calm", "The members no longer move.").code
    'calm'
    """

    code: str
    sentence: str


class Shown(NamedTuple):
    """What a sampler holds once its proposals are judged: this is recorded, not they.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> shown = ek.typing.Shown(np.zeros((4, 2)), np.zeros((4, 3)), np.full(4, 0.25))
    >>> shown.weight.sum()
    np.float64(1.0)
    """

    ensemble: Array
    """Unconstrained, ``(J, p)``."""
    g: Array
    """Its outputs, ``(J, d)``."""
    weight: np.ndarray
    """Normalised, ``(J,)``."""


class StepInfo(NamedTuple):
    """What only the reader needs of one step (the next step needs the state).

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> info = ek.typing.StepInfo(0.5, np.array([3.0, 1.0]), None, 0.8, extra={"accepted": 0.3})
    >>> info.misfit.mean()
    np.float64(2.0)
    """

    step: float
    """h taken; 0 where the run ended at this ensemble."""
    misfit: np.ndarray
    """Φ of every member, ``(J,)``, float64."""
    status: Status | None
    """Set where the run ends at this ensemble."""
    spread: float
    """Root of the total ensemble variance, relative to the initial one."""
    shown: Shown | None = None
    """From a sampler only."""
    extra: Mapping[str, float] = MappingProxyType({})
    """Further numbers, which become ``history_<name>``."""
    average: Array | None = None
    """Unconstrained, ``(1, p)``: an average of the mean over the steps, which is recorded."""


class State(Protocol):
    """Any NamedTuple of arrays, numbers, strings, None and further NamedTuples with these three.

    Examples
    --------
    >>> import ekitools as ek
    >>> problem = ek.problems.linear(p=2, d=3).problem
    >>> state = ek.EKI().init(problem.prior.sample_unconstrained(20, rng=0), problem)
    >>> state.n, state.t
    (0, 0.0)
    """

    @property
    def ensemble(self) -> Array:
        """Unconstrained, ``(J, p)``."""
        ...

    @property
    def n(self) -> int:
        """Updates made so far."""
        ...

    @property
    def t(self) -> float:
        """Pseudo-time Σh."""
        ...


@runtime_checkable
class Method(Protocol):
    """An algorithm: a frozen dataclass of options with pure functions of a state.

    Nothing is stored on the method and nothing is mutated, so a step can be repeated,
    saved, resumed and tested alone. All randomness comes from ``rng``.

    A sampler, which asks for proposals and holds other members than those, says so by a
    class attribute ``keeps_members = True``: failed members are then told as NaN rows,
    none is dropped or replaced, and every `StepInfo` has ``shown``.

    A method with the class attribute ``updates_in_place = True`` takes ``in_place=`` in
    ``tell``: where it is True the state's ensemble is the method's to write over, unless the
    run ends there. One that draws its members anew at the end of step n says so by
    ``redraws(n)``, so that `Nesterov` knows them for others. It may then draw more than there
    were.

    A method that holds more of its members than the ensemble may offer
    ``map_members(state, rows, index)``, the state with ``rows(a)`` in place of every array a with
    one row for each member: so that a failed member, which is replaced by a combination of
    others, gets the same combination of what they have. ``index`` names a member for every row,
    for what cannot be combined.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> problem, method = ek.problems.linear(p=2, d=3).problem, ek.EKI(ek.ESMDA(4))
    >>> state = method.init(problem.prior.sample_unconstrained(20, rng=0), problem)
    >>> g = problem.model(problem.prior.to_physical(method.ask(state)))
    >>> state, info = method.tell(state, g, problem, rng=np.random.default_rng(1))
    >>> state.n, info.step
    (1, 0.25)
    """

    def init(self, ensemble: Array, target: Target) -> Any:
        """The state before the first step."""
        ...

    def ask(self, state: Any) -> Array:
        """The unconstrained members ``(J, p)`` at which G is wanted."""
        ...

    def tell(
        self, state: Any, g: Array, target: Target, *, rng: np.random.Generator
    ) -> tuple[Any, StepInfo]:
        """The next state from the outputs ``(J, d)``, all finite."""
        ...

    def finished(self, state: Any) -> Status | None:
        """Set where the state already is the last one, before G is evaluated there."""
        ...

    def select(self, state: Any, index: np.ndarray) -> Any:
        """The state of the members ``index`` (repeats allowed): how members are dropped."""
        ...


class Seen(NamedTuple):
    """What a step rule may look at.

    Examples
    --------
    >>> import ekitools as ek
    >>> seen = ek.typing.Seen(0, 0.0, 1.0, misfit=[30.0, 10.0], n_data=20, d_norm=lambda: 5.0)
    >>> round(ek.NormStep(0.5).step(seen), 4)  # h / (‖D‖ + ε)
    0.1
    """

    n: int
    t: float
    remaining: float
    """t_end − t; infinite where the run has no end time."""
    misfit: np.ndarray
    """Φ of every member, ``(J,)``."""
    n_data: int
    d_norm: Callable[[], float]
    """‖D‖ (Frobenius) of the slides' D_jk = ⟨G_k − Ḡ, ∇_zΨ(G_j, y)⟩ / J, computed when called."""


class Progress(NamedTuple):
    """What a stopping rule may look at.

    Examples
    --------
    >>> import ekitools as ek
    >>> seen = ek.typing.Progress(residual=3.0, n_data=16, spread=0.5, trace=(90.0, 8.0))
    >>> ek.Discrepancy(tau=1.0).check(seen).code  # 3 <= √16
    'discrepancy_reached'
    """

    residual: float
    """‖Γ^{-1/2}(Ḡ − y)‖, to be compared with √d."""
    n_data: int
    spread: float
    """Root of the total ensemble variance, relative to the initial one."""
    trace: tuple[float, ...]
    """Mean misfit at every iteration so far, this one last."""


@runtime_checkable
class StoppingRule(Protocol):
    """Ends a run early. Pure; None means go on.

    Examples
    --------
    >>> import ekitools as ek
    >>> class Enough:
    ...     def check(self, progress):
    ...         if progress.trace[-1] < 10:
    ...             return ek.typing.Status("enough", "The mean misfit is below 10.")
    >>> problem = ek.problems.linear(p=2, d=4).problem
    >>> result = ek.run(problem, ek.EKI(t_end=None, stop=Enough()), n_members=50, rng=0)
    >>> result.attrs["status"]
    'The mean misfit is below 10.'
    """

    def check(self, progress: Progress) -> Status | None: ...


@runtime_checkable
class Schedule(Protocol):
    """A step rule: h from what was seen. Pure; the caller cuts h at ``seen.remaining``.

    Examples
    --------
    >>> import ekitools as ek
    >>> class Growing:
    ...     def step(self, seen):
    ...         return 0.1 * 2**seen.n
    >>> problem = ek.problems.linear(p=2, d=4).problem
    >>> result = ek.run(problem, ek.EKI(Growing()), n_members=50, rng=0)
    >>> result.history_step.values.round(1)
    array([0.1, 0.2, 0.4, 0.3, nan])
    """

    def step(self, seen: Seen) -> float: ...


@runtime_checkable
class Flow(Protocol):
    """A right-hand side in continuous time, u̇ = F or, of ``order`` 2, ü + (3/t) u̇ = F.

    A ``check_problem(problem)`` of its own, where it has one, raises before any model run.

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
    def order(self) -> int: ...

    def acceleration(self, t: float, u: Array, out: Any, problem: Any) -> Array:
        """F, ``(J, p)``, from u and its `ekitools.flows.Output`."""
        ...


@runtime_checkable
class StochasticFlow(Flow, Protocol):
    """A stochastic differential equation du = F dt + S(u) dW, of order 1.

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
