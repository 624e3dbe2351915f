"""Contracts of a method: its state, and its report of a step."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np

from ekitools.typing.arrays import Array
from ekitools.typing.problem import Target
from ekitools.typing.rules import Status

Aim: TypeAlias = Literal["posterior", "fit"]
"""The purpose of a method's last ensemble."""

Normalisation: TypeAlias = Literal["1/J", "1/(J-1)"]
"""Normalisation of the covariances of an ensemble."""

LinearOver: TypeAlias = Literal["ensembles", "last", "none"]
"""The ensembles over which a method assumes a linear model."""


class Reported(NamedTuple):
    """A number that a method reports for a step, with its long name in results.

    See Also
    --------
    StepInfo : Its field ``extra`` holds such numbers.
    PerParameter : A number for every parameter.

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.typing.Reported(0.3, "share of the proposals accepted").value
    0.3
    """

    value: float
    long_name: str
    curve: tuple[tuple[float, float], ...] = ()
    """The values that were tried and the score of each, if the number was chosen by score."""


class PerParameter(NamedTuple):
    """One number for every parameter, with their long name in results.

    See Also
    --------
    StepInfo : Its field ``by_parameter`` holds such numbers.
    Reported : One number for a step.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> ek.typing.PerParameter(np.ones(3), "variance of the prior").values.sum()
    np.float64(3.0)
    """

    values: np.ndarray
    """``(p,)``, numbers or bools."""
    long_name: str


class Shown(NamedTuple):
    """The particles of a sampler after acceptance, which are recorded in place of the proposals.

    See Also
    --------
    Sampler : The method that reports particles.
    StepInfo : Its field ``shown`` holds the particles.

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
    """Outputs of the ensemble, ``(J, d)``."""
    weight: np.ndarray
    """Normalised, ``(J,)``."""
    source: np.ndarray = np.zeros(0, dtype=np.int64)
    """The model run of each particle, ``(J,)``: n J + j for row j of the outputs of step n.
    Only models with side products need this field."""


class StepInfo(NamedTuple):
    """The report of one step for readers; the next step needs only the state.

    See Also
    --------
    Method : Its function ``tell`` returns the report.
    Reported, PerParameter : Further numbers of a report.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> info = ek.typing.StepInfo(0.5, np.array([3.0, 1.0]), None, 0.8, extra={"accepted": 0.3})
    >>> info.misfit.mean()
    np.float64(2.0)
    """

    step: float
    """The step size h; 0 if the run ended at this ensemble."""
    misfit: np.ndarray
    """Φ of every member, ``(J,)``, float64."""
    status: Status | None
    """The status with which the run ends at this ensemble, else None."""
    spread: float
    """Root of the total ensemble variance, relative to the initial one."""
    shown: Shown | None = None
    """From a sampler only."""
    extra: Mapping[str, float | Reported] = MappingProxyType({})
    """Further numbers by name, plain or as a `Reported`; they become ``history_<name>``."""
    average: Array | None = None
    """Unconstrained, ``(1, p)``: an average of the mean over the steps, which is recorded."""
    objective: float | None = None
    """The mean of the objective of the method, if the objective is not the misfit."""
    by_parameter: Mapping[str, PerParameter] = MappingProxyType({})
    """Numbers for every parameter by name; they become ``parameter_<name>``."""


class Drawn(NamedTuple):
    """The Gaussian that a `Quadrature` method holds, and standard normal draws for it.

    In coordinates in which the prior is N(0, I) the Gaussian is N(mean, root rootᵀ). A draw is
    mean + root ξ with a row ξ of ``scores``, and a member is mean + root z with a row z of
    ``nodes``.

    See Also
    --------
    Quadrature : The method that holds a Gaussian.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> problem, method = ek.problems.linear(p=2, d=3).problem, ek.UKI(n_draws=10)
    >>> state = method.init(method.nodes(problem), problem)
    >>> drawn = method.drawn(state, rng=np.random.default_rng(0))
    >>> drawn.scores.shape, drawn.mean.tolist()  # before the first step: the prior
    ((10, 2), [0.0, 0.0])
    """

    scores: np.ndarray
    """ξ, ``(n, p)``."""
    nodes: np.ndarray
    """z, ``(J, p)``."""
    mean: np.ndarray
    """``(p,)``."""
    root: np.ndarray
    """``(p, p)``."""


class State(Protocol):
    """The state of a method: a NamedTuple with at least these three fields.

    Fields are arrays, numbers, texts, None, further NamedTuples, and tuples of these. Their
    annotations are read when a checkpoint is resumed: a field that holds a NamedTuple names its
    class, alone or in a union such as ``Inner | None``.

    See Also
    --------
    Method : The functions of a state.

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
        """Pseudo-time Σh; where steps see a part of the data, each h may count by its share."""
        ...


@runtime_checkable
class Method(Protocol):
    """An algorithm: a frozen dataclass of options with pure functions of a state.

    Nothing is stored on the method and nothing is mutated, so a step can be repeated,
    saved, resumed and tested alone. All randomness comes from ``rng``. A method declares
    further abilities by the members of `Sampler`, `Quadrature`, `InPlace`, `ByCoefficients`,
    `Redraws`, `MapsMembers`, `Stops`, `Starts`, `Relinearizes` and `LearnsPrior`.
    `ekitools.testing.check_method` tries all of them.

    See Also
    --------
    ekitools.run, ekitools.AskTell : Run a method.
    ekitools.testing.check_method : Tests a method of your own.
    State, StepInfo : The state and the report of a step.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> problem, method = ek.problems.linear(p=2, d=3).problem, ek.EKI(ek.ESMDA(4))
    >>> state = method.init(problem.prior.sample_unconstrained(20, rng=0), problem)
    >>> g = problem.model(problem.prior.to_physical(method.ask(state)))
    >>> state, info = method.tell(state, g, problem, rng=np.random.default_rng(1))
    >>> state.n, info.step, method.aim
    (1, 0.25, 'posterior')
    """

    @property
    def State(self) -> Any:  # noqa: N802 - it is a class
        """The NamedTuple class of the state, by whose annotations a checkpoint is read."""
        ...

    @property
    def aim(self) -> Aim:
        """The purpose of the last ensemble: a sample of the posterior, or a fit to the data."""
        ...

    @property
    def normalisation(self) -> Normalisation:
        """Normalisation of the covariances of the ensemble in the update."""
        ...

    def init(self, ensemble: Array, target: Target) -> Any:
        """The state before the first step."""
        ...

    def ask(self, state: Any) -> Array:
        """The unconstrained members ``(J, p)`` at which the loop evaluates G."""
        ...

    def tell(
        self, state: Any, g: Array, target: Target, *, rng: np.random.Generator
    ) -> tuple[Any, StepInfo]:
        """The next state from the outputs ``(J, d)``, all finite.

        A `Sampler` and a `Quadrature` receive rows of NaN for failed members. If the run ends at
        this ensemble, ``tell`` returns the state unchanged, and the info has the status. On a
        device, outputs are checked later, and a step from unusable outputs is discarded.
        """
        ...

    def finished(self, state: Any) -> Status | None:
        """The status if the run ends at this state without an evaluation of G, else None."""
        ...

    def select(self, state: Any, index: np.ndarray) -> Any:
        """The state of the members ``index`` (repeats allowed). The loop drops members with it."""
        ...
