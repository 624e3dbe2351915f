"""Mini-batches and online data.

Both are passed to an `InverseProblem` in place of the data. Every step uses the same number m of
samples, so the data vector of a step is always (m k,): the m targets of k numbers, concatenated.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np

from ekitools.core.arrays import (
    array_namespace,
    as_real,
    beside,
    checked_inputs,
    digest,
    host,
    own,
    take_rows,
)
from ekitools.core.checks import flag, integer, put
from ekitools.core.devices import map_of
from ekitools.core.model_info import WrappedModel
from ekitools.losses.formed import FormedNoise
from ekitools.typing import Array, Batch, NoiseModel

__all__ = ["AtInputs", "MiniBatches", "OnlineData", "Samples", "independent_samples"]


@dataclass(frozen=True, eq=False)
class Samples:
    """Pairs of inputs and targets, of which every step uses ``size``."""

    inputs: Any
    targets: Any
    size: int

    def __post_init__(self) -> None:
        inputs = checked_inputs(self.inputs)
        targets = as_real("targets", self.targets, ndim=(1, 2))
        if inputs.ndim == 0 or targets.size == 0 or len(inputs) != len(targets):
            raise ValueError(
                "inputs, targets: must have one row for each of N >= 1 samples, got shapes "
                f"{inputs.shape} and {targets.shape}."
            )
        remedy = f"There are {len(targets)} samples."
        size = integer("size", self.size, most=len(targets), remedy=remedy)
        put(self, inputs=_frozen(inputs), targets=_frozen(targets), size=size)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.targets)} samples, {self.size} at a time)"

    @property
    def n_data(self) -> int:
        """Length d = m k of the data vector of one step."""
        return self.size * math.prod(self.targets.shape[1:])

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one pass over the data: N / m, rounded down."""
        return len(self.targets) // self.size

    def fingerprint(self) -> str:
        """A short text that changes if the data or the options change."""
        return self._digest

    @cached_property
    def _digest(self) -> str:  # cached, because checkpoints use it at every step
        return digest(type(self).__name__, self.inputs, self.targets, *self._options())

    def take(self, index: Any) -> tuple[Array, Array]:
        """Inputs ``(m, ...)`` and data ``(m k,)`` of the samples ``index``, on their device."""
        targets = _rows(self.targets, index)
        return _rows(self.inputs, index), array_namespace(targets).reshape(targets, (-1,))

    def placed(self, reference: Array) -> Self:
        """The same samples on the device of ``reference``; memory-mapped arrays stay on disk."""
        moved = copy.copy(self)
        names = [name for name in ("inputs", "targets") if map_of(getattr(self, name))[0] is None]
        put(moved, _digest=self._digest)
        put(moved, **{name: beside(getattr(self, name), reference) for name in names})
        return moved

    def _options(self) -> tuple[Any, ...]:
        return (self.size,)

    def _part(self, index: np.ndarray, n_all: int, repeat: int) -> Batch:
        k = math.prod(self.targets.shape[1:])
        return Batch(index, np.full(len(index), k), n_all, n_all * k, repeat)


@dataclass(frozen=True, eq=False, repr=False)
class MiniBatches(Samples):
    """Mini-batches: a random subset of the data at every step [1]_.

    No sample is used twice within an epoch. Every epoch has a new order, which depends only on the
    seed of the run and the number of the epoch. Samples left over at the end of an epoch, fewer
    than a batch, are not used in that epoch.

    Parameters
    ----------
    inputs : (N, ...)
        One row for each sample. Writeable arrays are copied. Read-only arrays are not copied, which
        saves memory for large data: set ``inputs.flags.writeable = False``, or map a file with
        ``mode="r"``. The same holds for the targets.
    targets : (N, k) or (N,)
        Observed outputs at the inputs.
    size : int
        Number m of samples in a batch.
    shuffle : bool, default True, keyword-only
        Whether the order is random. With False, every epoch uses the given order.

    Raises
    ------
    TypeError, ValueError
        If numbers are not finite, lengths disagree, the batch is larger than the data, or an
        option is of the wrong kind.

    See Also
    --------
    OnlineData : The samples in their order, each used once.
    InverseProblem : The problem that takes batches in place of the data.

    References
    ----------
    .. [1] Kovachki & Stuart (2019), Inverse Problems 35, 095005.

    Examples
    --------
    Fit a straight line to two of its points at a time:

    >>> import numpy as np
    >>> import ekitools as ek
    >>> x = np.linspace(-1, 1, 7)
    >>> def line(u, inputs):
    ...     return u[:, :1] + u[:, 1:] * inputs
    >>> model = ek.FunctionModel(line, vectorized=True, takes_inputs=True)
    >>> data = ek.MiniBatches(x, 1 + 2 * x, 2)
    >>> problem = ek.InverseProblem(model, ek.GaussianPrior([0.0, 0.0], 1.0), 1.0, data)
    >>> method = ek.LossEKI(ek.FixedStep(0.5), spread=ek.Spread())
    >>> result = ek.run(problem, method, n_steps=20 * data.steps_per_epoch, rng=0)
    >>> result.u[-1].mean("member").values.round(2)
    array([1., 2.])
    """

    shuffle: bool = field(default=True, kw_only=True)
    n_steps = None
    _latest: ClassVar[tuple[str, np.ndarray] | None] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        put(self, shuffle=flag("shuffle", self.shuffle))

    def batch(
        self, n: int, order: Callable[[int], np.random.Generator]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Inputs ``(m, ...)`` and data ``(m k,)`` of step n.

        Parameters
        ----------
        n : int
            The step.
        order : callable
            ``order(epoch)`` returns the random generator of an epoch.
        """
        return self.take(self.part(n, order).index)

    def part(self, n: int, order: Callable[[int], np.random.Generator]) -> Batch:
        """Samples of step n; without shuffling, left-over samples do not count as data."""
        epoch, i = divmod(n, self.steps_per_epoch)
        rows = np.arange(i * self.size, (i + 1) * self.size)
        if not self.shuffle:
            return self._part(rows, self.steps_per_epoch * self.size, epoch)
        return self._part(self._shuffled(order(epoch))[rows], len(self.targets), epoch)

    def _shuffled(self, rng: np.random.Generator) -> np.ndarray:
        """The order of an epoch; the latest order is cached, because it costs as much as a step."""
        state = repr(rng.bit_generator.state)
        if self._latest is None or self._latest[0] != state:
            put(self, _latest=(state, rng.permutation(len(self.targets))))
        assert self._latest is not None
        return self._latest[1]

    def _options(self) -> tuple[Any, ...]:
        return (self.size, self.shuffle)


@dataclass(frozen=True, eq=False, repr=False)
class OnlineData(Samples):
    """Online data: the samples in their order, one sample or one batch at a time [1]_.

    After the last batch the run ends with the status "stream_ended". The last ensemble is not
    evaluated, because no data are left for a comparison. Samples left over at the end of a pass,
    fewer than a batch, are not used.

    Parameters
    ----------
    inputs : (N, ...)
        One row for each sample. Writeable arrays are copied. Read-only arrays are not copied, which
        saves memory for large data: set ``inputs.flags.writeable = False``, or map a file with
        ``mode="r"``. The same holds for the targets.
    targets : (N, k) or (N,)
        Observed outputs at the inputs.
    size : int, default 1
        Number m of samples in a batch.
    passes : int, default 1
        Number of passes over the data.
    repeats : int, default 1
        Number of steps on each batch.

    Raises
    ------
    TypeError, ValueError
        If numbers are not finite, lengths disagree, the batch is larger than the data, or an
        option is of the wrong kind.

    See Also
    --------
    MiniBatches : Random batches, a new order in every epoch.
    InverseProblem : The problem that takes online data in place of the data.

    References
    ----------
    .. [1] Kovachki & Stuart (2019), Inverse Problems 35, 095005.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> x = np.linspace(-1, 1, 40)
    >>> def line(u, inputs):
    ...     return u[:, :1] + u[:, 1:] * inputs
    >>> model = ek.FunctionModel(line, vectorized=True, takes_inputs=True)
    >>> problem = ek.InverseProblem(
    ...     model, ek.GaussianPrior([0.0, 0.0], 1.0), 0.01, ek.OnlineData(x, 1 + 2 * x))
    >>> result = ek.run(problem, ek.EKI(ek.FixedStep(1.0), t_end=None), rng=0)
    >>> result.attrs["status_code"], result.u[-1].mean("member").values.round(1)
    ('stream_ended', array([1., 2.]))
    """

    size: int = 1
    passes: int = 1
    repeats: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        passes, repeats = integer("passes", self.passes), integer("repeats", self.repeats)
        put(self, passes=passes, repeats=repeats)

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one pass over the data."""
        return self.repeats * (len(self.targets) // self.size)

    @property
    def n_steps(self) -> int:
        """Steps of all passes over the data."""
        return self.passes * self.steps_per_epoch

    def batch(
        self,
        n: int,
        order: Callable[[int], np.random.Generator],
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Inputs ``(m, ...)`` and data ``(m k,)`` of step n; None after the last step.

        Parameters
        ----------
        n : int
            The step.
        order : callable
            Not used, because the order of online data is fixed.
        """
        part = self.part(n, order)
        return None if part is None else self.take(part.index)

    def part(
        self,
        n: int,
        order: Callable[[int], np.random.Generator],  # noqa: ARG002 - the contract's argument
    ) -> Batch | None:
        """Samples of step n; None after the last step."""
        if n >= self.n_steps:
            return None
        past, within = divmod(n, self.steps_per_epoch)
        i, repeat = divmod(within, self.repeats)
        rows = np.arange(i * self.size, (i + 1) * self.size)
        n_all = len(self.targets) // self.size * self.size
        return self._part(rows, n_all, past * self.repeats + repeat)

    def _options(self) -> tuple[Any, ...]:
        return (self.size, self.passes, self.repeats)


@dataclass(frozen=True, eq=False, repr=False)
class AtInputs(WrappedModel):
    """A model at the inputs of one step: a `ForwardModel` of the parameters alone."""

    inputs: Array

    def __call__(self, u: Array, /, **kwargs: Any) -> Array:
        """G(u | x); every call receives its own copy of the inputs."""
        given = self.inputs
        copied = given.copy() if isinstance(given, np.ndarray) else own(given)
        return self.model(u, inputs=copied, **kwargs)


def independent_samples(noise: Any, size: int) -> bool:
    """Whether the noises of the ``size`` samples in a batch are independent of each other.

    Examples
    --------
    >>> import ekitools as ek
    >>> from ekitools.batches import independent_samples
    >>> independent_samples(ek.GaussianNoise([[2.0, 1.0], [1.0, 2.0]]), 2)
    False
    """
    if not isinstance(noise, NoiseModel) or noise.n_data is None or size == 1:
        return True
    if isinstance(noise, FormedNoise) and noise.scale is not None:
        return True
    sample = np.arange(noise.n_data) * size // noise.n_data
    across = sample[:, None] != sample
    return not host(noise.whiten(np.eye(noise.n_data)))[across].any()


def _frozen(array: np.ndarray) -> np.ndarray:
    """``array`` itself if its memory is read-only, otherwise a read-only copy."""
    base: Any = array
    while isinstance(base, np.ndarray):
        if base.flags.writeable:
            array = array.copy()
            array.flags.writeable = False
            return array
        base = base.base
    return array


def _rows(array: Array, index: Any) -> Array:
    return array[index] if isinstance(array, np.ndarray) else take_rows(array, index)
