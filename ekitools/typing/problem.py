"""Contracts of the parts of an inverse problem: model, prior, batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from ekitools.typing.arrays import Array, Rng


@runtime_checkable
class ForwardModel(Protocol):
    """The black box G.

    A model may also declare the fields of `ModelInfo`, such as ``takes_inputs`` or ``shape``.

    See Also
    --------
    ModelInfo : The optional attributes of a model.
    ekitools.FunctionModel : A Python function as a forward model.

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
    def vectorized(self) -> bool:
        """Whether a call maps an ensemble ``(J, p)`` to ``(J, d)``, or one member to ``(d,)``."""
        ...

    @property
    def stochastic(self) -> bool:
        """Whether a call also takes ``rng=``, a Generator for each member and iteration."""
        ...

    def __call__(self, u: Array, /, **kwargs: Any) -> Array:
        """G(u)."""
        ...


class ModelInfo(NamedTuple):
    """Everything that a model declares about itself.

    ekitools reads these attributes of a model once, when an `ekitools.InverseProblem` is made, and
    keeps them as ``problem.info``. Attributes that a model lacks have the defaults below.

    See Also
    --------
    ForwardModel : The required members of a model.
    ekitools.InverseProblem : Reads these attributes once.

    Examples
    --------
    >>> import ekitools as ek
    >>> problem = ek.problems.linear(p=2, d=3).problem
    >>> problem.info.vectorized, problem.info.shape
    (True, (3, 2))
    """

    vectorized: bool | None = None
    """Whether a call takes a whole ensemble; None if the model does not declare it."""
    stochastic: bool = False
    """Whether a call also takes ``rng=``."""
    takes_inputs: bool = False
    """Whether the model is G(u | x): a call also takes ``inputs=``, the ``(m, ...)`` inputs x of m
    samples, and returns the outputs of the samples one after the other, d = m k. For an
    `ekitools.ObservationSeries` a call takes the inputs of one observation."""
    shape: tuple[int, int] | None = None
    """(d, p)."""
    n_parameters: int | None = None
    """p, if d is not known."""
    parameter_names: Sequence[str] | None = None
    """Labels of the parameters in results."""
    data_names: Sequence[Any] | None = None
    """Labels of the data in results."""
    parameter_units: Sequence[str] | None = None
    """Units of the parameters, "" for none."""
    data_units: Sequence[str] | None = None
    """Units of the data, "" for none."""


@runtime_checkable
class LinearOperatorModel(Protocol):
    """A linear model that also applies its transpose, which gives gradients.

    See Also
    --------
    ekitools.LinearModel : A model of this kind.
    ekitools.GradientFlow : Uses the transpose.

    Examples
    --------
    >>> import ekitools as ek
    >>> isinstance(ek.LinearModel([[1.0, 2.0]]), ek.typing.LinearOperatorModel)
    True
    """

    def __call__(self, u: Array, /) -> Array:
        """A u for ``(p,)`` or every row of ``(J, p)``."""
        ...

    def adjoint(self, r: Array, /) -> Array:
        """Aᵀ r for ``(d,)`` or every row of ``(J, d)``."""
        ...


@runtime_checkable
class LabelledModel(Protocol):
    """A model whose parameters and outputs are labelled arrays.

    `ekitools.posterior` and `ekitools.predict` return these arrays if they receive the model.
    `ekitools.XarrayModel` is a labelled model.

    See Also
    --------
    ekitools.XarrayModel : A model of this kind.

    Examples
    --------
    >>> import xarray as xr
    >>> import ekitools as ek
    >>> observed = xr.DataArray([1.0, 2.0], {"site": ["a", "b"]}, name="level")
    >>> model = ek.XarrayModel(lambda p: p.shift + 0 * observed, ["shift"], observed)
    >>> isinstance(model, ek.typing.LabelledModel), isinstance(len, ek.typing.LabelledModel)
    (True, False)
    """

    def unflatten_parameters(self, values: Any) -> Any:
        """A DataArray whose last dimension is ``parameter``, as an xarray object with labels."""
        ...

    def unflatten(self, values: Any) -> Any:
        """A DataArray whose last dimension is ``data``, as an xarray object with labels."""
        ...


@runtime_checkable
class Prior(Protocol):
    """The prior μ₀ with the bijection between physical and unconstrained coordinates.

    Methods work on unconstrained ensembles ``z``, in which the prior is Gaussian. Models
    and users see physical ensembles ``u``.

    See Also
    --------
    ekitools.BasePrior : Base class for priors of your own.
    HasSupport, HasPoints : Further abilities of a prior.
    ekitools.testing.check_prior : Tests a prior of your own.

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
    def n_parameters(self) -> int:
        """Number of parameters p."""
        ...

    @property
    def names(self) -> tuple[str, ...] | None:
        """Names of the parameters, or None."""
        ...

    def sample(self, n: int, *, rng: Rng = None) -> Array:
        """``n`` draws in physical coordinates, ``(n, p)``."""
        ...

    def sample_unconstrained(self, n: int, *, rng: Rng = None) -> Array:
        """``n`` draws in unconstrained coordinates, ``(n, p)``."""
        ...

    def logpdf(self, u: Array) -> Array:
        """Log-density at physical ``(p,)`` or ``(n, p)``."""
        ...

    def to_physical(self, z: Array) -> Array:
        """Map unconstrained ``(J, p)`` to physical coordinates without changing the argument."""
        ...

    def to_unconstrained(self, u: Array) -> Array:
        """Map physical ``(J, p)`` to unconstrained coordinates."""
        ...

    def whiten(self, z: Array) -> Array:
        """Map unconstrained ``(J, p)`` to coordinates in which the prior is N(0, I)."""
        ...

    def unwhiten(self, w: Array) -> Array:
        """Map ``(J, p)`` in coordinates of N(0, I) to unconstrained coordinates."""
        ...

    def fingerprint(self) -> str:
        """A short text that changes whenever the distribution does."""
        ...


@runtime_checkable
class HasSupport(Protocol):
    """A prior that knows the bounds of each parameter, which errors and plots name.

    See Also
    --------
    Prior : The required members of a prior.

    Examples
    --------
    >>> import ekitools as ek
    >>> from scipy import stats
    >>> prior = ek.Prior({"share": stats.uniform(0, 1)})
    >>> isinstance(prior, ek.typing.HasSupport), prior.support(0)
    (True, (0.0, 1.0))
    """

    def support(self, parameter: int) -> tuple[float, float]:
        """Lower and upper bound of the parameter at this position; infinite if unbounded."""
        ...


@runtime_checkable
class HasPoints(Protocol):
    """A prior whose parameters have a location, such as the values of a field in cells.

    Localization by distance uses the locations.

    See Also
    --------
    ekitools.GaussianRandomField, ekitools.MaternField : Priors with locations.
    ekitools.localization.Distance : Localization by the distance to the data.

    Examples
    --------
    >>> import ekitools as ek
    >>> cells = ek.GaussianRandomField((2,), lengths=100.0, parameters="values")
    >>> isinstance(cells, ek.typing.HasPoints), cells.points.tolist()
    (True, [[25.0], [75.0]])
    >>> ek.GaussianRandomField((2,)).points is None  # coefficients of cosines
    True
    """

    @property
    def points(self) -> np.ndarray | None:
        """Coordinates of the parameters in physical units, ``(p, dim)``.

        A parameter without a location has a row of NaN. None means that no parameter has one.
        """
        ...


@dataclass(frozen=True, eq=False)
class Batch:
    """The part of the data that a step sees: some of N observations, or of N samples.

    Parameters
    ----------
    index : (b,) of int
        Numbers of the observations or samples.
    sizes : (b,) of int
        Number of data of each observation or sample.
    n_all : int
        N. Samples that no step sees are not counted.
    n_data_all : int
        Number of data of all N.
    repeat : int, default 0
        Number of earlier passes through the data of this batch.
    names : tuple of str, default ()
        Names of the observations; empty for samples.
    independent : bool, default True
        Whether the noise of each observation is independent of the noise of the others.

    See Also
    --------
    Batches : Data in parts, which make the batches.
    Target : The parts of the problem in one step.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> batches = ek.OnlineData(np.arange(6.0), np.arange(6.0), size=2)
    >>> batch = batches.part(1, np.random.default_rng)  # the second step
    >>> batch.index, batch.share
    (array([2, 3]), 0.3333333333333333)
    """

    index: np.ndarray
    sizes: np.ndarray
    n_all: int
    n_data_all: int
    repeat: int = 0
    names: tuple[str, ...] = ()
    independent: bool = True

    @property
    def share(self) -> float:
        """Data of this batch, as a share of all data."""
        return float(self.sizes.sum() / self.n_data_all)


@runtime_checkable
class Batches(Protocol):
    """Mini-batches or online data: the part of the data that step n uses.

    See Also
    --------
    ekitools.MiniBatches, ekitools.OnlineData, ekitools.ObservationSeries : Data in parts.
    Batch : The part of one step.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> batches = ek.OnlineData(np.arange(6.0), np.arange(6.0), size=2)
    >>> batches.take(batches.part(1, np.random.default_rng).index)  # what the second step sees
    (array([2., 3.]), array([2., 3.]))
    """

    @property
    def targets(self) -> np.ndarray:
        """All of the data, ``(N, k)`` or ``(N,)``."""
        ...

    @property
    def n_data(self) -> int:
        """Number d of data of one step; of all data if the number differs between steps."""
        ...

    @property
    def n_steps(self) -> int | None:
        """Number of steps until the data are used up; None if they are never used up."""
        ...

    def part(self, n: int, order: Callable[[int], np.random.Generator]) -> Batch | None:
        """The batch of step n, or None if there is none.

        Pure: ``order(epoch)`` always returns the same randomness for an epoch.
        """
        ...

    def take(self, index: np.ndarray) -> tuple[Any, np.ndarray]:
        """Inputs and data ``(d,)`` of the samples or observations ``index``."""
        ...

    def fingerprint(self) -> str:
        """A short text that changes whenever the data or the options do."""
        ...


class Target(Protocol):
    """The parts of an inverse problem that a method sees: no model and no labels.

    See Also
    --------
    Method : The algorithm that receives the target.
    ekitools.InverseProblem : A target with a model.

    Examples
    --------
    >>> import ekitools as ek
    >>> target = ek.problems.linear(p=2, d=3).problem  # one that has a model too
    >>> state = ek.EKI().init(target.prior.sample_unconstrained(20, rng=0), target)
    >>> state.ensemble.shape
    (20, 2)
    """

    @property
    def data(self) -> Array:
        """The data y, ``(d,)``."""
        ...

    @property
    def noise(self) -> Any:
        """A `NoiseModel` or another `Loss`."""
        ...

    @property
    def prior(self) -> Any:
        """A `Prior`."""
        ...

    @property
    def batch(self) -> Batch | None:
        """The part of the data that these are; None for all data."""
        ...


@runtime_checkable
class ChecksProblem(Protocol):
    """A flow or a stopping rule with requirements on the problem, such as Gaussian noise.

    See Also
    --------
    Flow, StoppingRule : Objects that may have requirements.

    Examples
    --------
    >>> import ekitools as ek
    >>> isinstance(ek.Discrepancy(), ek.typing.ChecksProblem)
    True
    """

    def check_problem(self, problem: Any) -> None:
        """Raise an error before any model run if the problem does not meet the requirements."""
        ...


@runtime_checkable
class MemberFailure(Protocol):
    """The reason why a member has no output, for `ekitools.AskTell.tell`.

    See Also
    --------
    ekitools.AskTell : Its method ``tell`` takes failures.

    Examples
    --------
    >>> from typing import NamedTuple
    >>> import ekitools as ek
    >>> class Crash(NamedTuple):
    ...     reason: str
    ...     error: BaseException | None = None
    >>> isinstance(Crash("out of memory"), ek.typing.MemberFailure)
    True
    """

    @property
    def reason(self) -> str:
        """The reason in words."""
        ...

    @property
    def error(self) -> BaseException | None:
        """The exception, or None."""
        ...
