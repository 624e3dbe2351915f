"""Series of observations, with some of the observations in every step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from ekitools.core.arrays import digest
from ekitools.core.checks import integer, one_of, put, sequence
from ekitools.losses.blocks import joined
from ekitools.models.plain import LinearModel
from ekitools.observed.observation import Observation
from ekitools.observed.together import PerObservation, Together
from ekitools.typing import Batch, Loss, NoiseModel

__all__ = ["ObservationSeries", "Part", "noise_of_all", "part_of"]

Order: TypeAlias = Literal["random", "given"]
Remainder: TypeAlias = Literal["join", "drop"]
_ORDERS: tuple[Order, ...] = get_args(Order)
_REMAINDERS: tuple[Remainder, ...] = get_args(Remainder)


@dataclass(frozen=True, eq=False, repr=False)
class ObservationSeries:
    """Observations that differ in length, noise and inputs, with some of them in every step.

    Pass the series as ``data`` of an `InverseProblem`. Every epoch uses each observation once, with
    its own y, Γ and inputs.

    Parameters
    ----------
    observations : sequence of Observation
        The N observations. Either all have inputs, or none.
    size : int, default 1
        Number b of observations in a step.
    order : {"random", "given"}, default "random"
        Whether every epoch has a new order, which depends only on the seed of the run and on the
        number of the epoch, or all epochs have the given order.
    remainder : {"join", "drop"}, default "join"
        Whether the remaining N mod b observations at the end of an epoch join the last batch, or
        are left out of this epoch.
    passes : int, optional
        Number of epochs after which the run ends with the status "stream_ended", unless the method
        ends earlier. By default the method or ``n_steps`` ends the run.

    Attributes
    ----------
    names : tuple of str
        Names of the observations.
    n_data : int
        Number of data of all observations.
    steps_per_epoch : int
        N / b, rounded down.

    Raises
    ------
    TypeError, ValueError
        If an entry is not an `Observation`, two have the same name, only some have inputs, an
        option is of a wrong kind, or some observations would never be used.

    See Also
    --------
    MiniBatches : Samples of one length with one noise.

    Notes
    -----
    A step h on a batch uses the part h of the information of its observations and nothing of the
    other observations. The ensemble approximates the posterior of all data when the steps of
    *every* observation add up to 1, Σh = 1. `EKI` keeps the sum Σh of each observation and cuts
    each sum at ``t_end``. The time t is the mean of the sums, weighted by the number of data:
    t = Σ_i d_i (Σh)_i / Σ_i d_i. For a linear model, a Gaussian prior and many members the result
    is the posterior of all data, for every order, batch size and step rule.

    A model with inputs is called as ``model(u, inputs=...)`` once for every observation of the
    batch, and returns outputs in the form of that observation. A model without inputs is called
    once. It returns a mapping of outputs by observation, for at least the observations of the
    step, or the outputs of all observations in one vector.

    Examples
    --------
    Two instruments measure a line at different places and with different noise:

    >>> import numpy as np
    >>> import ekitools as ek
    >>> series = ek.ObservationSeries([
    ...     ek.Observation([1.1, 2.9, 5.2], 0.04, inputs=[0.0, 1.0, 2.0], name="coarse"),
    ...     ek.Observation([3.99], 1e-4, inputs=[1.5], name="fine"),
    ... ])
    >>> model = ek.FunctionModel(lambda u, inputs: u[0] + u[1] * inputs, takes_inputs=True)
    >>> problem = ek.InverseProblem(model, ek.GaussianPrior([0.0, 0.0], 10.0), data=series)
    >>> result = ek.run(problem, ek.EKI(), n_members=400, rng=0)
    >>> result.attrs["status_code"], ek.intervals(result)["mean"].values.round(1)
    ('posterior_reached', array([1., 2.]))
    """

    observations: Sequence[Observation]
    size: int = 1
    order: Order = field(default="random", kw_only=True)
    remainder: Remainder = field(default="join", kw_only=True)
    passes: int | None = field(default=None, kw_only=True)
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        observations = _checked(self.observations)
        n = len(observations)
        size = integer("size", self.size, most=n, remedy=f"There are {n} observations.")
        order = one_of("order", self.order, _ORDERS)
        remainder = one_of("remainder", self.remainder, _REMAINDERS)
        if (order, remainder) == ("given", "drop") and n % size:
            raise ValueError(
                f'remainder: must be "join" with order="given", got "drop": the last {n % size} of '
                f"{n} observations would never be used. Or leave them out of the series."
            )
        passes = None if self.passes is None else integer("passes", self.passes)
        names = tuple(
            f"observation{i}" if each.name is None else each.name
            for i, each in enumerate(observations)
        )
        twice = [name for i, name in enumerate(names) if name in names[:i]]
        if twice:
            raise ValueError(
                f"observations: must have different names, got {twice[0]!r} twice. Rename one of "
                "them."
            )
        put(self, observations=observations, size=size, order=order, remainder=remainder)
        put(self, passes=passes, names=names)

    def __repr__(self) -> str:
        return f"ObservationSeries({len(self.names)} observations, {self.size} at a time)"

    @property
    def n_data(self) -> int:
        """Number of data of all observations."""
        return int(self.sizes.sum())

    @cached_property
    def sizes(self) -> np.ndarray:
        """Number of data of each observation, ``(N,)``."""
        return np.array([each.n_data for each in self.observations])

    @property
    def targets(self) -> np.ndarray:
        """The data of all observations, one after the other."""
        return self.take(np.arange(len(self.names)))[1]

    @property
    def takes_inputs(self) -> bool:
        """Whether the observations have inputs."""
        return self.observations[0].inputs is not None

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps that use every observation once."""
        return len(self.names) // self.size

    @property
    def n_steps(self) -> int | None:
        """Number of steps in all passes; None without ``passes``."""
        return None if self.passes is None else self.passes * self.steps_per_epoch

    @cached_property
    def layout(self) -> Together:
        """Blocks, labels and gaps of the data of all observations."""
        return Together(self.names, tuple(each.layout for each in self.observations))

    def part(self, n: int, order: Callable[[int], np.random.Generator]) -> Batch | None:
        """Observations of step n, in the order of the series; None after the last pass.

        Parameters
        ----------
        n : int
            Number of the step.
        order : callable
            ``order(epoch)`` returns the random generator of an epoch.
        """
        if self.n_steps is not None and n >= self.n_steps:
            return None
        epoch, i = divmod(n, self.steps_per_epoch)
        n_all = len(self.names)
        last = self.remainder == "join" and i == self.steps_per_epoch - 1
        rows = np.arange(n_all)
        if self.order == "random":
            rows = order(epoch).permutation(n_all)
        index = np.sort(rows[i * self.size : n_all if last else (i + 1) * self.size])
        names = tuple(self.names[j] for j in index)
        return Batch(index, self.sizes[index], n_all, self.n_data, epoch, names)

    def take(self, index: np.ndarray) -> tuple[tuple[Any, ...], np.ndarray]:
        """Inputs, one for each of the observations ``index``, and their data ``(d,)``."""
        chosen = [self.observations[i] for i in index]
        return tuple(each.inputs for each in chosen), np.concatenate([each.data for each in chosen])

    def noises(self, noise: Any, noise_sd: Any) -> Loss | tuple[NoiseModel, ...]:
        """The noise of every observation, or one loss for all of them.

        Parameters
        ----------
        noise, noise_sd : covariance, NoiseModel, loss, a mapping of these by block, or None
            Noise of the problem, for observations without their own noise.

        Raises
        ------
        TypeError, ValueError
            If an observation has no noise, or the noise of the problem serves none.
        """
        lacking = [each for each in self.observations if each.noise is None]
        given = noise is not None or noise_sd is not None
        if given and not lacking:
            raise TypeError(
                "noise: must be left out if every observation has its own noise, got "
                f"{'noise' if noise is not None else 'noise_sd'}. Remove it, or remove the "
                "noise of the observations that should use it."
            )
        if lacking and not given:
            first = next(i for i, each in enumerate(self.observations) if each.noise is None)
            raise TypeError(
                f"noise: must be given for every observation, got none for {self.names[first]!r}. "
                "Pass ek.Observation(data, noise), or noise= for all observations without noise."
            )
        made = []
        for name, each in zip(self.names, self.observations, strict=True):
            own = each.noise
            if own is None:
                try:
                    own = each.noise_from(noise, noise_sd)
                except (TypeError, ValueError) as error:
                    raise type(error)(f"observation {name!r}: {error}") from None
            if not isinstance(own, NoiseModel):
                if len(lacking) == len(self.names):
                    return own
                raise TypeError(
                    f"noise: must be Gaussian if some observations have their own noise, got "
                    f"the loss {type(own).__name__}. Leave out the noise of all observations, or "
                    "pass Gaussian noise."
                )
            made.append(own)
        return tuple(made)

    def fingerprint(self) -> str:
        """A short text that changes whenever an observation, their order or an option does."""
        return self._digest

    @cached_property
    def _digest(self) -> str:  # cached: checkpoints use it at every step
        options = (self.size, self.order, self.remainder, self.passes)
        each = [observation.fingerprint() for observation in self.observations]
        return digest("ObservationSeries", self.names, *options, *each)


def _checked(given: Any) -> tuple[Observation, ...]:
    """The observations as a tuple."""
    what = "a sequence of ek.Observation"
    observations: tuple[Any, ...] = sequence("observations", given, what)
    if not observations:
        raise ValueError(f"observations: must be {what}, got none. Pass at least one.")
    for i, each in enumerate(observations):
        if not isinstance(each, Observation):
            raise TypeError(
                f"observations[{i}]: must be an ek.Observation, got {type(each).__name__}. Use "
                "ek.Observation(data, noise)."
            )
    having = [each.inputs is not None for each in observations]
    if any(having) and not all(having):
        raise ValueError(
            f"observations: must all have inputs, or none of them, got none for number "
            f"{having.index(False)} and some for number {having.index(True)}. Give inputs to every "
            "observation."
        )
    return observations


class Part(NamedTuple):
    """Some observations of a series, as the fields of a problem."""

    data: np.ndarray
    inputs: tuple[np.ndarray, ...] | None
    noise: Loss
    layout: Together
    model: Any
    columns: np.ndarray
    """Positions of the data among the data of all observations."""


def noise_of_all(noises: Loss | tuple[NoiseModel, ...], layout: Together) -> Loss:
    """Joint noise of several observations from the noise of each; or the loss of all."""
    if not isinstance(noises, tuple):
        return noises
    named = dict(zip(layout.observations, noises, strict=True))
    return joined(named, layout.sizes.tolist())


def part_of(
    series: ObservationSeries,
    index: np.ndarray,
    model: Any,
    noises: Loss | tuple[NoiseModel, ...],
) -> Part:
    """The observations ``index`` of a series.

    Parameters
    ----------
    series : ObservationSeries
        All observations.
    index : (b,)
        Increasing numbers of observations.
    model : ForwardModel
        Model of all observations, or with inputs.
    noises : tuple of NoiseModel, or Loss
        Result of `ObservationSeries.noises`.
    """
    every, (inputs, data) = series.layout, series.take(index)
    layout, columns = every.part(index), every.columns(index)
    if isinstance(noises, tuple):
        noises = tuple(noises[i] for i in index)
    given = inputs if series.takes_inputs else None
    if isinstance(model, LinearModel):  # multiply only the needed rows
        n = model.shape[0]
        rows = np.zeros(n, dtype=bool)
        rows[columns if n == every.n_data else np.flatnonzero(every.kept)[columns]] = True
        model = model.rows(rows)
    else:
        model = PerObservation(model, every, index, given)
    return Part(data, given, noise_of_all(noises, layout), layout, model, columns)
