"""Contracts of a method: its state, its report of a step, and its further abilities."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np

from ekitools.typing.arrays import Array
from ekitools.typing.problem import Target
from ekitools.typing.rules import Status, StoppingRule

Aim: TypeAlias = Literal["posterior", "fit"]
"""The purpose of a method's last ensemble."""

Normalisation: TypeAlias = Literal["1/J", "1/(J-1)"]
"""Normalisation of the covariances of an ensemble."""

LinearOver: TypeAlias = Literal["ensembles", "last", "none"]
"""The ensembles over which a method assumes a linear model."""


class Reported(NamedTuple):
    """A number that a method reports for a step, with its long name in results.

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


@runtime_checkable
class Sampler(Method, Protocol):
    """A method that asks for proposals and keeps other members.

    Failed proposals are passed to ``tell`` as rows of NaN. No member is dropped or replaced, except
    draws of the prior that fail at the first step: ``init`` is then called again. Every `StepInfo`
    has ``shown``.

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.typing.is_sampler(ek.TemperedSMC()), ek.typing.is_sampler(ek.EKI())
    (True, False)
    """

    @property
    def keeps_members(self) -> bool:
        """True."""
        ...


@runtime_checkable
class Quadrature(Method, Protocol):
    """A method whose members are the nodes of a quadrature rule.

    The method chooses the number and the places of its members. The loop gives the nodes to
    ``init`` in place of draws from the prior, and refuses another ``n_members`` or an ``ensemble``.
    Failed nodes are passed to ``tell`` as rows of NaN, and their `StepInfo.misfit` is NaN. No node
    is dropped or replaced, because the rule needs all nodes. The method handles the failed nodes.
    ``select`` returns the state for all members in their order, and refuses any other index.

    A result holds draws of the Gaussian of every stored iteration beside the nodes. Readers, such
    as `ekitools.posterior`, use these draws and not the nodes. The outputs of a draw are computed
    by the linear map through the outputs of the nodes.

    Examples
    --------
    >>> import ekitools as ek
    >>> isinstance(ek.UKI(), ek.typing.Quadrature), isinstance(ek.EKI(), ek.typing.Quadrature)
    (True, False)
    """

    def nodes(self, target: Target) -> np.ndarray:
        """The members of the first step, unconstrained, ``(J, p)``."""
        ...

    def drawn(self, state: Any, *, rng: np.random.Generator) -> Drawn:
        """The Gaussian that the state holds, with draws."""
        ...


@runtime_checkable
class InPlace(Method, Protocol):
    """A method whose ``tell`` also takes ``in_place=``.

    With ``in_place=True`` the ensemble of the state may be overwritten, unless the run ends.

    Examples
    --------
    >>> import ekitools as ek
    >>> isinstance(ek.LossEKI(), ek.typing.InPlace), isinstance(ek.EKI(), ek.typing.InPlace)
    (True, False)
    """

    @property
    def updates_in_place(self) -> bool:
        """True."""
        ...


@runtime_checkable
class ByCoefficients(Method, Protocol):
    """A method whose steps are U + K(U − ū), with coefficients K from the outputs alone.

    The ensemble of the state may be an `UpdatableEnsemble`, which is not in memory. Therefore
    ``init``, ``tell`` and ``select`` use the ensemble only by `ekitools.kalman_update`,
    ``linalg.transform.transform_update``, ``linalg.total_variance`` and ``core.arrays.take_rows``.

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.ETKI().by_coefficients, ek.ETKI(t_end=None, tikhonov=True).by_coefficients
    (True, False)
    >>> isinstance(ek.GNKI(), ek.typing.ByCoefficients)
    False
    """

    @property
    def by_coefficients(self) -> bool:
        """Whether the steps have this form with the options of this method."""
        ...


@runtime_checkable
class Redraws(Method, Protocol):
    """A method that draws new members, and possibly more members, at the end of some steps.

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.LossEKI(spread=ek.Spread(0.1, every=2)).redraws(1)
    True
    """

    def redraws(self, n: int) -> bool:
        """Whether new members are drawn at the end of step n."""
        ...


@runtime_checkable
class MapsMembers(Method, Protocol):
    """A method that keeps further arrays with one row for each member.

    A failed member is replaced by a combination of other members, and its rows of the further
    arrays are replaced by the same combination of rows.

    Examples
    --------
    >>> import ekitools as ek
    >>> isinstance(ek.GNKI(), ek.typing.MapsMembers)
    True
    """

    def map_members(self, state: Any, rows: Callable[[Array], Array], index: np.ndarray) -> Any:
        """The state with ``rows(a)`` in place of every array a with one row for each member.

        ``index`` names a member for every new row, for fields that cannot be combined.
        """
        ...


@runtime_checkable
class Stops(Method, Protocol):
    """A method with stopping rules among its options; the loop checks them.

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.EKI(t_end=None, stop=ek.Discrepancy()).stop
    (Discrepancy(tau=1.0),)
    """

    @property
    def stop(self) -> tuple[StoppingRule, ...]:
        """The rules."""
        ...


@runtime_checkable
class EstimatesNoise(Method, Protocol):
    """A method that supports `ScaledNoise` and estimates its scales, the last parameters.

    Examples
    --------
    >>> import ekitools as ek
    >>> isinstance(ek.GNKI(), ek.typing.EstimatesNoise)
    True
    >>> isinstance(ek.LossEKI(), ek.typing.EstimatesNoise)
    False
    """

    @property
    def estimates_noise(self) -> bool:
        """True."""
        ...


@runtime_checkable
class Starts(Method, Protocol):
    """A method that may start from a distribution of its own in place of the prior.

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.TemperedSMC().start is None
    True
    """

    @property
    def start(self) -> Any:
        """The starting distribution; None, or a text that names a first phase, for the prior."""
        ...


@runtime_checkable
class Relinearizes(Protocol):
    """A method or flow that declares the ensembles over which it assumes a linear model.

    Without this declaration a method whose aim is the posterior counts as "ensembles".

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.GNKI().linear_over
    'last'
    """

    @property
    def linear_over(self) -> LinearOver:
        """All ensembles of the run ("ensembles"), the last ensemble ("last"), or "none"."""
        ...


@runtime_checkable
class LearnsPrior(Protocol):
    """A method that estimates variances of the prior from the data.

    Its last ensemble belongs to the learned prior, and not to the prior of the problem.

    Examples
    --------
    >>> import ekitools as ek
    >>> isinstance(ek.Sparse(ek.GNKI()), ek.typing.LearnsPrior)
    True
    """

    @property
    def learns_prior(self) -> bool:
        """True."""
        ...


def is_sampler(method: Any) -> bool:
    """Whether a method is a `Sampler`.

    Parameters
    ----------
    method : Method
        Any method.

    Returns
    -------
    bool
        False also where ``keeps_members`` is False.

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.typing.is_sampler(ek.TemperedSMC())
    True
    """
    return isinstance(method, Sampler) and method.keeps_members


def takes_failures(method: Any) -> bool:
    """Whether a method receives failed members as rows of NaN, and no member is dropped.

    Parameters
    ----------
    method : Method
        Any method.

    Returns
    -------
    bool
        True for a `Sampler` and for a `Quadrature`.

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.typing.takes_failures(ek.UKI()), ek.typing.takes_failures(ek.EKI())
    (True, False)
    """
    return is_sampler(method) or isinstance(method, Quadrature)
