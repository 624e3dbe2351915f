"""Inverse problems: model, prior, noise or loss, and data, checked once."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from ekitools.batches import AtInputs, Samples, independent_samples
from ekitools.core.arrays import digest, in_host_memory
from ekitools.core.checks import check_prior, put
from ekitools.core.labels import checked_labels
from ekitools.core.model_info import info_of
from ekitools.core.streams import Streams
from ekitools.losses.gaussian import as_loss
from ekitools.models.plain import FunctionModel
from ekitools.observed.described import problem_html, problem_text
from ekitools.observed.layout import FLATTEN, Layout, layout_of
from ekitools.observed.noise import noise_of
from ekitools.observed.observation import Observation
from ekitools.observed.outputs import packed
from ekitools.observed.scales import WithoutScales, WithScales
from ekitools.observed.series import ObservationSeries, noise_of_all, part_of
from ekitools.observed.together import Together
from ekitools.observed.unknown import ScaledGaussian, UnknownNoise, check_no_parts
from ekitools.typing import Batch, Batches, ChecksData, ModelInfo, NoiseModel, Prior, ScaledNoise

__all__ = ["InverseProblem", "as_model", "check_problem", "check_whole"]

_RESERVED = ("iteration", "member", "parameter", "data", "history", "chain", "draw",
             "observation")  # fmt: skip
"""Dimensions of results and of ArviZ, which cannot be names of parameters."""


@dataclass(frozen=True, eq=False, init=False, repr=False)
class InverseProblem:
    """Find u from y = G(u) + η, with u ~ μ₀ and η ~ N(0, Γ).

    Parameters
    ----------
    model : ForwardModel
        Model G: a `FunctionModel`, a `LinearModel`, or any callable with the attribute
        ``vectorized``. A plain function of one member is wrapped in a `FunctionModel`.
    prior : Prior
        Prior μ₀ of p parameters.
    noise : GaussianNoise, a covariance, a loss, or a mapping of noises by block
        Noise covariance Γ, in any form that `GaussianNoise` accepts. `UnknownNoise` makes the
        scales of the noise further parameters. A loss Ψ(G(u), y), such as `Huber`,
        `CrossEntropy` or a `FunctionLoss`, is for the flows, `LossEKI` and `TemperedSMC`, which
        need no Γ. For data in blocks, a mapping has the noise of every block. A Series, a
        DataArray or a Dataset has the variance of every datum, matched by labels. For an
        `ObservationSeries` the noise is for observations without their own noise.
    data : array, Series, DataArray, Dataset, mapping, ObservationSeries, MiniBatches or OnlineData
        Data y, in the units of the outputs of G. A mapping, a Dataset or a DataFrame has data in
        named blocks. NaN and masked entries are gaps: they are left out, and Γ becomes the
        marginal of the other data. An `ObservationSeries`, `MiniBatches` or `OnlineData` gives a
        part of the data to every step.
    noise_sd : number, (d,), Series, DataArray, Dataset or mapping by block, optional
        Standard deviations in place of ``noise``.
    parameter_names, data_names : sequence of str, optional
        Labels of the results. By default parameters have the names of the prior or the model, or
        ``u0, u1, ...``, and data have the names of the model, or ``y0, y1, ...``. Labels are
        texts, numbers or dates. Pairs, such as a pandas MultiIndex, and other objects become
        texts.

    Attributes
    ----------
    n_parameters, n_data : int
        Numbers p and d. With `MiniBatches` and `OnlineData` d is the number of data in one step,
        and with an `ObservationSeries` the number of all data.
    info : ModelInfo
        The declarations of the model.
    layout : Layout, Together or None
        Blocks, labels and gaps of the data; None for a vector without gaps.
    batch : Batch or None
        Part of the data that this problem uses (see `seen`); None for all data.
    inputs : array, tuple of arrays or None
        Inputs of this part: an array, or one for each observation.
    has_noise : bool
        Whether the problem has Gaussian noise, and not another loss.

    Raises
    ------
    TypeError, ValueError
        If a part lacks a required member, sizes or labels disagree, a block has no noise, the
        data are infinite or all missing, or a label is empty, not unique or reserved.

    See Also
    --------
    ekitools.run : Run a method on the problem.
    ekitools.Prior : Named parameters with distributions of scipy.stats.
    ekitools.GaussianNoise : Gaussian noise of the data.

    Notes
    -----
    A model returns outputs in the form of the data, including gaps: a vector with one entry for
    every datum, a mapping by block, or labelled arrays. Labelled arrays are matched by their labels
    and may have further labels. The outputs of a vectorized model have the members first.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> problem = ek.InverseProblem(
    ...     ek.LinearModel([[1.0, 2.0]]), ek.GaussianPrior([0.0, 0.0], 1.0), 0.1, [3.0])
    >>> problem.n_parameters, problem.n_data
    (2, 1)

    Two instruments, one with a gap, and standard deviations by instrument:

    >>> def model(u):
    ...     return {"height": u[0] + u[1] * np.arange(3), "rate": u[1]}
    >>> problem = ek.InverseProblem(
    ...     model,
    ...     ek.GaussianPrior([0.0, 0.0], 1.0),
    ...     data={"height": [1.0, np.nan, 2.1], "rate": 0.6},
    ...     noise_sd={"height": 0.1, "rate": 0.05},
    ... )
    >>> problem.data_names, problem.data
    (('height[0]', 'height[2]', 'rate'), array([1. , 2.1, 0.6]))
    """

    model: Any
    prior: Prior
    noise: Any
    data: Any
    parameter_names: Sequence[str] | None
    data_names: Sequence[Any] | None
    info: ModelInfo = field(init=False, repr=False)
    layout: Layout | Together | None = field(init=False, repr=False)
    batch: Batch | None = field(init=False, repr=False)
    inputs: Any = field(init=False, repr=False)
    _noises: Any = field(init=False, repr=False)

    def __init__(
        self,
        model: Any,
        prior: Prior,
        noise: Any = None,
        data: Any = None,
        *,
        noise_sd: Any = None,
        parameter_names: Sequence[str] | None = None,
        data_names: Sequence[Any] | None = None,
    ) -> None:
        check_prior(prior)
        layout: Layout | Together | None = None
        if isinstance(data, ObservationSeries):
            layout = data.layout
        elif not isinstance(data, Batches):
            layout, data = _observed(data)
        model = as_model(model)
        put(self, prior=prior, data=data, layout=layout, info=info_of(model))
        put(self, batch=None, inputs=None, _noises=None)
        put(self, noise=self._checked_noise(noise, noise_sd))
        put(self, model=packed(model, self.info, layout) if isinstance(layout, Layout) else model)
        if layout is not None:
            put(self, info=_of_data(self.info, layout))
        self._check_inputs()
        self._check_sizes()
        put(self, parameter_names=self._checked_names(parameter_names))
        put(self, data_names=self._checked_data_names(data_names))
        if isinstance(self.noise, ScaledGaussian):
            self._add_scales(self.noise)

    def __repr__(self) -> str:
        return problem_text(self)

    def _repr_html_(self) -> str:
        return problem_html(self)

    def _checked_noise(self, noise: Any, noise_sd: Any) -> Any:
        """The noise, or the loss, of the data in use."""
        check_no_parts(noise)
        if isinstance(noise, UnknownNoise):
            if noise_sd is not None:
                as_loss(noise, noise_sd)  # refuses both together
            check_whole(self, "UnknownNoise")
            layout = self.layout
            return noise.bound(self.data, layout if isinstance(layout, Layout) else None)
        if self.series:
            put(self, _noises=self.series.noises(noise, noise_sd))
            noise = noise_of_all(self._noises, self.series.layout)
        elif isinstance(self.layout, Layout):
            noise = noise_of(self.layout, noise, noise_sd)
        elif isinstance(noise_sd if noise is None else noise, Mapping):
            name = "noise" if noise_sd is None else "noise_sd"
            raise TypeError(
                f"{name}: must not be by block if the data are one array, got a mapping. Pass "
                "the data by block as well: data={name: array}."
            )
        else:
            noise = as_loss(noise, noise_sd)
        expected = noise.n_data if isinstance(noise, NoiseModel) else None
        if expected not in (None, self.n_data):
            raise ValueError(
                f"{'noise' if noise_sd is None else 'noise_sd'}: must be for the {self.n_data} "
                "data, got a covariance for "
                f"{expected}. Pass one variance, one for each datum, or a d x d matrix."
            )
        if isinstance(noise, ChecksData):
            noise.check_data(self.data.targets.reshape(-1) if self.batched else self.data)
        return noise

    def _check_inputs(self) -> None:
        """Check that the model takes inputs if and only if the data have inputs."""
        given = self.series.takes_inputs if self.series else self.batched
        if given and not self.info.takes_inputs:
            raise TypeError(
                f"model: must take inputs= for {type(self.data).__name__} and declare the "
                f"attribute takes_inputs = True, got {self.model!r}. For a function use "
                "ek.FunctionModel(fn, takes_inputs=True)."
            )
        if self.info.takes_inputs and not given:
            if self.series:
                raise TypeError(
                    f"data: must have inputs for {self.model!r}, which takes inputs, got "
                    "observations without inputs. Use ek.Observation(data, noise, inputs=...)."
                )
            raise TypeError(
                "model, data: must be ek.MiniBatches or ek.OnlineData for "
                f"{self.model!r}, which takes inputs, got an array. Or bind the "
                "inputs in the model."
            )

    def _check_sizes(self) -> None:
        """Check the sizes that the model declares."""
        size, info = (self.n_data, self.n_parameters), self.info
        if info.shape is not None and info.shape != size:
            raise ValueError(
                f"model: must have the shape (d, p) = {size} that data and prior require, "
                f"got {info.shape}."
            )
        if info.n_parameters not in (None, self.n_parameters):
            raise ValueError(
                f"prior: must be over the {info.n_parameters} parameters of {self.model!r}, got "
                f"one over {self.n_parameters}."
            )
        units = {"parameter_units": self.n_parameters, "data_units": self.n_data}
        for name, n in units.items():
            given = getattr(info, name)
            if given is not None and len(given) != n:
                raise ValueError(
                    f"model: must have {n} {name}, if any, got {len(given)}. Give a text "
                    'for each, "" for no unit.'
                )

    def _checked_data_names(self, names: Any) -> tuple[Any, ...]:
        """Labels of the data: from the argument, from the data, or from the model."""
        layout = self.layout
        if names is None and layout is not None and layout.names is not None:
            names = layout.names
        elif names is None and not self.batched:
            names = self.info.data_names
        elif layout is not None and not isinstance(names, str) and len(names) == layout.n_whole:
            names = layout.of_data(names)
        return checked_labels("data_names", names, self.n_data, stem="y")

    def _checked_names(self, parameter_names: Any) -> tuple[Any, ...]:
        """Names of the parameters, in the order of the model if the model has names."""

        def checked(names: Any) -> tuple[Any, ...]:
            p = self.n_parameters
            return checked_labels("parameter_names", names, p, stem="u", reserved=_RESERVED)

        given = parameter_names if parameter_names is not None else self.prior.names
        if self.info.parameter_names is None:
            return checked(given)
        known = checked(self.info.parameter_names)
        if given is not None and checked(given) != known:
            raise ValueError(
                f"parameter_names: must be the names of the model in the same order, {known}, got "
                f"{tuple(given)}. Order the parameters of the prior or of the model accordingly."
            )
        return known

    def _add_scales(self, noise: ScaledGaussian) -> None:
        """Make the scales of the noise parameters, without passing them to the model."""
        info, p, names = self.info, self.n_parameters, noise.prior.names
        if taken := set(names) & set(self.parameter_names or ()):
            raise ValueError(
                f"parameter_names: must not have {taken.pop()!r}, which is the name of a noise "
                "scale. Rename the parameter, or the block of data."
            )
        units = info.parameter_units
        put(
            self,
            info=info._replace(
                shape=info.shape and (info.shape[0], p + len(names)),
                parameter_units=None if units is None else (*units, *[""] * len(names)),
            ),
            model=WithoutScales(self.model, p),
            prior=WithScales(self.prior, noise.prior),
            parameter_names=(*(self.parameter_names or ()), *names),
        )

    @property
    def n_parameters(self) -> int:
        """Number of parameters p, including noise scales (see `UnknownNoise`)."""
        return self.prior.n_parameters

    @property
    def n_data(self) -> int:
        """Number of data d; with batches the number in one step."""
        return int(self.data.n_data) if self.batched else math.prod(self.data.shape)

    def n_data_of(self, observations: np.ndarray) -> int:
        """Number of data in a step; for a series, in a step with these ``observations``."""
        if isinstance(self.layout, Together):
            return int(self.layout.sizes[observations].sum())
        return self.n_data

    @property
    def batched(self) -> bool:
        """Whether a step uses only a part of the data (see `seen`)."""
        return isinstance(self.data, Batches)

    @property
    def series(self) -> ObservationSeries | None:
        """The observation series, or None for other data."""
        return self.data if isinstance(self.data, ObservationSeries) else None

    @property
    def has_noise(self) -> bool:
        """Whether the problem has Gaussian noise, and not another loss."""
        return isinstance(self.noise, NoiseModel | ScaledNoise)

    @property
    def n_scales(self) -> int:
        """Number of noise scales, which are the last parameters (see `UnknownNoise`)."""
        return self.noise.n_scales if isinstance(self.noise, ScaledNoise) else 0

    @property
    def noise_sd(self) -> np.ndarray:
        """Marginal standard deviations of η, ``(d,)``; NaN for a loss.

        For `UnknownNoise` these are the standard deviations of the shape.
        """
        sd = self.noise.sd if self.has_noise else np.nan
        return np.broadcast_to(sd, (self.n_data,)).copy()

    def seen(self, n: int, streams: Streams) -> InverseProblem | None:
        """The problem of step ``n``: this problem, or with batches the problem of the batch.

        The order of the data in an epoch is drawn from the ``streams`` of the run.
        None is returned after the last batch.
        """
        if not self.batched:
            return self
        batch = self.data.part(n, streams.epoch)
        if batch is None:
            return None
        if self.series:
            return self._observations(batch.index, batch)
        inputs, data = self.data.take(batch.index)
        batch = replace(batch, independent=self._independent)
        return self._bound(data, batch=batch, inputs=inputs, model=AtInputs(self.model, inputs))

    def placed(self, reference: Any) -> InverseProblem:
        """The problem with its samples on the device of the ensemble ``reference``.

        So batches are gathered there. It is this problem unless the data are `MiniBatches` or
        `OnlineData`, the model is vectorized and the device has a memory of its own.
        """
        if not isinstance(self.data, Samples) or reference is None or in_host_memory(reference):
            return self
        if not self.info.vectorized:  # its members are evaluated on the host
            return self
        moved = copy.copy(self)
        put(moved, data=self.data.placed(reference))
        return moved

    def whole(self) -> InverseProblem:
        """The problem with all observations of an `ObservationSeries` in every step.

        Every method can solve this problem. A problem without a series is returned unchanged.

        Raises
        ------
        TypeError
            With `MiniBatches` or `OnlineData`, whose noise is for one batch.

        Examples
        --------
        >>> import ekitools as ek
        >>> series = ek.ObservationSeries([ek.Observation([1.0], 0.1), ek.Observation([2.0], 0.2)])
        >>> model = ek.LinearModel([[1.0], [2.0]])
        >>> problem = ek.InverseProblem(model, ek.GaussianPrior(0.0, [1.0]), data=series)
        >>> problem.whole().data
        array([1., 2.])
        """
        if self.series:
            return self._observations(np.arange(len(self.series.names)), None)
        check_whole(self, "whole()")
        return self

    @cached_property
    def _independent(self) -> bool:  # cached, because it may whiten a matrix
        return independent_samples(self.noise, self.data.size)

    def _observations(self, index: np.ndarray, batch: Batch | None) -> InverseProblem:
        """The problem of the observations ``index`` of the series."""
        fields = part_of(self.data, index, self.model, self._noises)._asdict()
        labels: Any = self.data_names
        names = tuple(labels[i] for i in fields.pop("columns").tolist())
        return self._bound(**fields, batch=batch, data_names=names)

    def _bound(self, data: Any, **parts: Any) -> InverseProblem:
        """A copy with other data, without checks, which were made for all data."""
        if isinstance(data, np.ndarray):
            data.flags.writeable = False
        bound = copy.copy(self)
        bound.__dict__.pop("_independent", None)
        put(bound, data=data, **parts)
        return bound

    def fingerprint(self) -> dict[str, str]:
        """Fingerprints of the parts of this problem; the model only by its name."""
        layout = () if self.layout is None else (self.layout.kept, self.layout.block_names)
        return {
            "data": self.data.fingerprint() if self.batched else digest(self.data, *layout),
            "prior": self.prior.fingerprint(),
            "noise": self.noise.fingerprint(),
            "parameter_names": digest(self.parameter_names),
            "model": repr(self.model),
        }


def _observed(data: Any) -> tuple[Layout | None, np.ndarray]:
    """Layout of the data and the read-only vector y."""
    first = data[0] if isinstance(data, list | tuple) and data else data
    if isinstance(first, Observation):
        raise TypeError(
            "data: must be an ek.ObservationSeries for observations, got "
            f"{type(data).__name__}. Use ek.ObservationSeries([observation, ...])."
        )
    if data is None:
        raise TypeError("data: must be given, got None. Pass the observed data y.")
    layout, vector = layout_of(data, remedy=FLATTEN)
    vector = vector.copy()
    vector.flags.writeable = False
    return layout, vector


def _of_data(info: ModelInfo, layout: Layout | Together) -> ModelInfo:
    """Declarations of the model for the observed data only."""
    changes: dict[str, Any] = {}
    if info.shape is not None and info.shape[0] == layout.n_whole:
        changes["shape"] = (layout.n_data, info.shape[1])
    for name in ("data_names", "data_units"):
        entries = getattr(info, name)
        if entries is not None and len(entries) == layout.n_whole:
            changes[name] = layout.of_data(entries)
    if layout.units is not None:
        changes["data_units"] = layout.units
    return info._replace(**changes)


def as_model(model: Any) -> Any:
    """``model`` if it declares ``vectorized``, else a `FunctionModel` of ``model``."""
    if isinstance(model, type):
        raise TypeError(f"model: must be a model, got the class {model.__name__} itself.")
    if not callable(model):
        raise TypeError(
            f"model: must be callable, got {type(model).__name__}. Wrap a function in "
            "ek.FunctionModel(fn) or a matrix in ek.LinearModel(A)."
        )
    return FunctionModel(model) if info_of(model).vectorized is None else model


def check_problem(problem: Any) -> None:
    """Check that ``problem`` is an `InverseProblem`."""
    if not isinstance(problem, InverseProblem):
        raise TypeError(f"problem: must be an ek.InverseProblem, got {type(problem).__name__}.")


def check_whole(problem: InverseProblem, who: str) -> None:
    """Check that every step uses all data."""
    if problem.batched:
        raise TypeError(
            f"problem: must have all its data at once for {who}, got {problem.data!r}. Use a "
            "problem with whole data (problem.whole() of a series), or a method such as ek.LossEKI."
        )
