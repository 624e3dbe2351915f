"""The inverse problem: model, prior, noise or loss, and data, checked once."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ekitools.batches import AtInputs
from ekitools.core.arrays import as_vector, digest
from ekitools.core.checks import check_prior
from ekitools.core.labels import checked_labels
from ekitools.core.model_info import info_of
from ekitools.core.streams import Streams
from ekitools.losses.gaussian import as_loss
from ekitools.models.plain import FunctionModel
from ekitools.typing import Batches, ChecksData, ModelInfo, NoiseModel, Prior

__all__ = ["InverseProblem", "check_problem", "check_whole"]

_FLATTEN = (
    "Flatten an image with data.ravel() and return outputs.ravel() from the model, or use "
    "ek.XarrayModel, which keeps dimensions and labels. Pass one datum as [datum]."
)
_RESERVED = ("iteration", "member", "parameter", "data", "history", "chain", "draw")
"""Dimensions of results and of ArviZ: a parameter of that name cannot be a variable of theirs."""


@dataclass(frozen=True, eq=False)
class InverseProblem:
    """Find u from y = G(u) + η, with u ~ μ₀ and η ~ N(0, Γ).

    Parameters
    ----------
    model : ForwardModel
        G: a `FunctionModel`, a `LinearModel`, or anything callable with the attribute
        ``vectorized``. A plain function of one member is wrapped in a `FunctionModel`.
    prior : Prior
        μ₀ over p parameters.
    noise : GaussianNoise, a covariance, or a loss
        Γ; what `GaussianNoise` takes is taken here too. Or a loss Ψ(G(u), y), such as `Huber`,
        `CrossEntropy` or a `FunctionLoss`, for the flows, `LossEKI` and `TemperedSMC`, which
        need no Γ.
    data : (d,), MiniBatches or OnlineData
        The datum y, in the units of G's output; or what is seen of it at every step, for a
        model that takes inputs.
    parameter_names, data_names : sequence of str, optional
        Labels of the results. By default the prior's or the model's own names, or
        ``u0, u1, ...``; and the model's own, or ``y0, y1, ...``. Labels are texts, numbers or
        dates. Pairs, such as a pandas MultiIndex, and other objects become texts.

    Attributes
    ----------
    n_parameters, n_data : int
        p and d; with batches d is what one step sees.
    info : ModelInfo
        Everything that the model declares about itself.
    has_noise : bool
        Whether there is Gaussian noise, and not another loss.

    Raises
    ------
    TypeError, ValueError
        If a part lacks what it must offer, sizes disagree, the data are masked or not finite, or a
        label is empty, not unique or reserved.

    Examples
    --------
    >>> import ekitools as ek
    >>> problem = ek.InverseProblem(
    ...     ek.LinearModel([[1.0, 2.0]]), ek.GaussianPrior([0.0, 0.0], 1.0), 0.1, [3.0])
    >>> problem.n_parameters, problem.n_data
    (2, 1)
    """

    model: Any
    prior: Prior
    noise: Any
    data: Any
    parameter_names: Sequence[str] | None = field(default=None, kw_only=True)
    data_names: Sequence[Any] | None = field(default=None, kw_only=True)
    info: ModelInfo = field(init=False, repr=False)

    def __post_init__(self) -> None:
        put = object.__setattr__
        if self.batched:
            whole = self.data.targets.reshape(-1)
        else:
            whole = as_vector("data", self.data, remedy=_FLATTEN).copy()
            whole.flags.writeable = False
            put(self, "data", whole)
        put(self, "noise", as_loss(self.noise))
        expected = self.noise.n_data if self.has_noise else None
        if expected not in (None, self.n_data):
            raise ValueError(
                f"noise: must be for the {self.n_data} data, got a covariance for "
                f"{expected}. Pass one variance, one for each datum, or a d x d matrix."
            )
        if isinstance(self.noise, ChecksData):
            self.noise.check_data(whole)
        check_prior(self.prior)
        put(self, "model", _as_model(self.model))
        put(self, "info", info_of(self.model))
        self._check_inputs()
        self._check_sizes()
        put(self, "parameter_names", self._checked_names())
        of_model = None if self.batched else self.info.data_names
        given = of_model if self.data_names is None else self.data_names
        put(self, "data_names", checked_labels("data_names", given, self.n_data, stem="y"))

    def _check_inputs(self) -> None:
        """Check that the model takes inputs if, and only if, the data come with some."""
        if self.batched and not self.info.takes_inputs:
            raise TypeError(
                f"model: must take inputs= for {type(self.data).__name__} and say so by an "
                f"attribute takes_inputs = True, got {self.model!r}. For a function use "
                "ek.FunctionModel(fn, takes_inputs=True)."
            )
        if self.info.takes_inputs and not self.batched:
            raise TypeError(
                "model, data: must be ek.MiniBatches or ek.OnlineData for "
                f"{self.model!r}, which is to be given inputs with them, got an array. Or give the "
                "model all its inputs itself."
            )

    def _check_sizes(self) -> None:
        """Check the sizes that the model declares."""
        size, info = (self.n_data, self.n_parameters), self.info
        if info.shape is not None and info.shape != size:
            raise ValueError(
                f"model: must have the shape (d, p) = {size} that data and prior ask for, "
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
                    f"model: must have {n} {name}, if it has some, got {len(given)}. Give a text "
                    'for each, "" where there is no unit.'
                )

    def _checked_names(self) -> tuple[Any, ...]:
        """Names of the parameters, which a model that knows them by name must have in its order."""

        def checked(names: Any) -> tuple[Any, ...]:
            p = self.n_parameters
            return checked_labels("parameter_names", names, p, stem="u", reserved=_RESERVED)

        given = self.parameter_names if self.parameter_names is not None else self.prior.names
        if self.info.parameter_names is None:
            return checked(given)
        known = checked(self.info.parameter_names)
        if given is not None and checked(given) != known:
            raise ValueError(
                f"parameter_names: must be those of the model in its order, {known}, got "
                f"{tuple(given)}. Give the prior, or the model, its parameters in the same order."
            )
        return known

    @property
    def n_parameters(self) -> int:
        """Number of parameters p."""
        return self.prior.n_parameters

    @property
    def n_data(self) -> int:
        """Number of data d; with batches those of one step."""
        return int(self.data.n_data if self.batched else self.data.size)

    @property
    def batched(self) -> bool:
        """Whether a step sees a part of the data (see `seen`)."""
        return isinstance(self.data, Batches)

    @property
    def has_noise(self) -> bool:
        """Whether there is Gaussian noise, and not another loss."""
        return isinstance(self.noise, NoiseModel)

    @property
    def noise_sd(self) -> np.ndarray:
        """Marginal standard deviations of η, ``(d,)``; NaN where there is a loss instead."""
        sd = self.noise.sd if self.has_noise else np.nan
        return np.broadcast_to(sd, (self.n_data,)).copy()

    def seen(self, n: int, streams: Streams) -> InverseProblem | None:
        """The problem that step ``n`` sees: this one, or with batches the one of its batch.

        The order of an epoch's data is drawn from ``streams``, those of the run.
        None where there is nothing more to see.
        """
        if not self.batched:
            return self
        batch = self.data.batch(n, streams.epoch)
        if batch is None:
            return None
        inputs, data = batch
        data.flags.writeable = False
        bound = copy.copy(self)  # all was checked for the whole
        object.__setattr__(bound, "model", AtInputs(self.model, inputs))
        object.__setattr__(bound, "data", data)
        return bound

    def fingerprint(self) -> dict[str, str]:
        """What tells this problem from another, part by part; the model only by its name."""
        return {
            "data": self.data.fingerprint() if self.batched else digest(self.data),
            "prior": self.prior.fingerprint(),
            "noise": self.noise.fingerprint(),
            "parameter_names": digest(self.parameter_names),
            "model": repr(self.model),
        }


def _as_model(model: Any) -> Any:
    if isinstance(model, type):
        raise TypeError(f"model: must be a model, got the class {model.__name__} itself.")
    if not callable(model):
        raise TypeError(
            f"model: must be callable, got {type(model).__name__}. Wrap a function in "
            "ek.FunctionModel(fn) or a matrix in ek.LinearModel(A)."
        )
    return FunctionModel(model) if info_of(model).vectorized is None else model


def check_problem(problem: Any) -> None:
    """Check that it is one."""
    if not isinstance(problem, InverseProblem):
        raise TypeError(f"problem: must be an ek.InverseProblem, got {type(problem).__name__}.")


def check_whole(problem: InverseProblem, who: str) -> None:
    """Check that all data are seen at once."""
    if problem.batched:
        raise TypeError(
            f"problem: must have all its data at once for {who}, got {problem.data!r}. Use a "
            "problem with whole data, or ek.run with a method such as ek.LossEKI."
        )
