"""Observations of a series: data, noise and inputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ekitools.core.arrays import checked_inputs, digest
from ekitools.core.checks import put
from ekitools.observed.blocks import ArrayBlock
from ekitools.observed.layout import FLATTEN, Layout, layout_of
from ekitools.observed.noise import noise_of
from ekitools.typing import Loss, NoiseModel

__all__ = ["Observation"]


@dataclass(frozen=True, eq=False, repr=False)
class Observation:
    """One observation of a series: data with their noise and inputs.

    Parameters
    ----------
    data : array, Series, DataArray, Dataset or mapping
        As in `InverseProblem`: a vector, labelled data or blocks with names. NaN and masked entries
        are gaps. The data are copied.
    noise : GaussianNoise, a covariance or a mapping of noises by block, optional
        Noise Γ of this observation, by default the noise of the `InverseProblem`.
    noise_sd : number, (d,), Series, DataArray, Dataset or mapping by block, optional
        Standard deviations in place of ``noise``.
    inputs : array of numbers, optional
        Inputs that the model receives as ``inputs=`` for this observation. The inputs are copied.
    name : str, optional
        Label in results; by default ``observation0``, ``observation1``, ... by the position in the
        series.

    Attributes
    ----------
    layout : Layout
        Blocks, labels and gaps of the data.
    n_data : int
        Number of data d.

    Raises
    ------
    TypeError, ValueError
        If the data, the noise or the inputs are of another kind or do not fit each other.

    See Also
    --------
    ObservationSeries : Several observations, with a few in every step.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> radar = ek.Observation([1.2, np.nan, 0.7], noise_sd=0.1, name="radar")
    >>> radar.n_data, radar.data, radar.noise
    (2, array([1.2, 0.7]), GaussianNoise(cov=0.010000000000000002))
    """

    data: Any
    noise: Any = None
    noise_sd: Any = field(default=None, kw_only=True)
    inputs: Any = field(default=None, kw_only=True)
    name: Any = field(default=None, kw_only=True)
    layout: Layout = field(init=False)

    def __post_init__(self) -> None:
        if self.name is not None and (not isinstance(self.name, str) or not self.name.strip()):
            raise TypeError(f"name: must be a text, got {self.name!r}. Leave it out for none.")
        if self.data is None:
            raise TypeError("data: must be given, got None. Pass the observed data.")
        layout, vector = layout_of(self.data, remedy=FLATTEN)
        if layout is None:
            layout = Layout((ArrayBlock("", vector.shape),), np.ones(vector.shape, dtype=bool))
        put(self, data=_frozen(vector), layout=layout, inputs=_inputs(self.inputs))
        if self.noise is not None or self.noise_sd is not None:
            noise = self.noise_from(self.noise, self.noise_sd)
            if not isinstance(noise, NoiseModel):
                raise TypeError(
                    f"noise: must be Gaussian for an observation, got the loss "
                    f"{type(noise).__name__}. A loss is for all observations: pass it to "
                    "ek.InverseProblem."
                )
            put(self, noise=noise, noise_sd=None)

    def __repr__(self) -> str:
        name = "" if self.name is None else f"{self.name!r}: "
        return f"Observation({name}{self.n_data} data)"

    @property
    def n_data(self) -> int:
        """Number of data d."""
        return self.layout.n_data

    def noise_from(self, noise: Any, noise_sd: Any) -> Loss:
        """The noise, or the loss, of these data.

        Parameters
        ----------
        noise, noise_sd : covariance, NoiseModel, loss, or a mapping of these by block
            As for `InverseProblem`; exactly one of both.

        Raises
        ------
        TypeError, ValueError
            If the noise does not fit the data.
        """
        made = noise_of(self.layout, noise, noise_sd)
        if isinstance(made, NoiseModel) and made.n_data not in (None, self.n_data):
            raise ValueError(
                f"noise: must be for the {self.n_data} data, got a covariance for {made.n_data}. "
                "Pass one variance, one for each datum, or a d x d matrix."
            )
        return made

    def fingerprint(self) -> str:
        """A short text that changes whenever the data, the inputs or the name do."""
        layout = self.layout
        return digest(self.data, layout.kept, layout.block_names, self.inputs, self.name)


def _inputs(given: Any) -> np.ndarray | None:
    """A read-only copy of the inputs; integers stay integers."""
    if given is None:
        return None
    return _frozen(checked_inputs(given))


def _frozen(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array
