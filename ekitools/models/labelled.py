"""Models of labelled arrays: maps between labels and the entries of u and G(u)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from ekitools.core.arrays import host
from ekitools.core.checks import flag
from ekitools.core.checks import function as checked_function
from ekitools.core.signatures import check_accepts
from ekitools.models.layout import Labelled
from ekitools.models.layout import Layout as _Layout
from ekitools.typing import Array

__all__ = ["XarrayModel"]


class XarrayModel:
    """A function of labelled parameters, with labelled outputs, as the black box G.

    The observations define the variables, labels and order of the outputs. Outputs are matched by
    their labels, so the function may return further labels, or dimensions in another order.

    Parameters
    ----------
    function : callable
        ``function(parameters)`` returns a DataArray, or a Dataset with the variables observed.
    parameters : sequence of str, DataArray or Dataset
        Names of numbers, which the function receives as a Dataset; or an example of the argument
        of the function, such as a field on a grid, whose values do not matter.
    observations : DataArray or Dataset
        Observations with coordinates. NaN marks missing observations, which are left out.
    stochastic : bool, default False
        Whether the function also receives ``rng=``, as in `FunctionModel`.

    Attributes
    ----------
    data : (d,) ndarray
        The observations as a vector: the data of the problem. Variables follow one after the other
        in the order of the Dataset, each with its last dimension running fastest.
    data_names, parameter_names : tuple of str
        Names of the data and the parameters, such as ``"height(year=1890, site=2)"``. The names
        become the labels of the results.
    data_units, parameter_units : tuple of str
        The attribute ``units`` of the variable of each datum and parameter, or "". Results store
        units as coordinates, and plots show them.
    shape : tuple of int
        (d, p).
    vectorized : bool
        False.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind, has no numbers, or has labels that are not unique.

    See Also
    --------
    FunctionModel : A function of plain arrays.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> import ekitools as ek
    >>> observed = xr.DataArray([1.2, np.nan, 0.4], {"time": [1, 2, 3]}, name="activity")
    >>> def decay(p):
    ...     time = xr.DataArray(np.arange(5), {"time": np.arange(5)}, dims="time")
    ...     return p.start * np.exp(-p.rate * time)
    >>> model = ek.XarrayModel(decay, ["start", "rate"], observed)
    >>> prior = ek.GaussianPrior([2.0, 0.5], 0.1)
    >>> problem = ek.InverseProblem(model, prior, 0.01, model.data)
    >>> problem.data_names
    ('activity(time=1)', 'activity(time=3)')
    >>> result = ek.run(problem, ek.EKI(), n_members=50, rng=0)
    >>> model.unflatten(result.g).dims
    ('iteration', 'member', 'time')
    """

    vectorized = False

    def __init__(
        self,
        function: Callable[..., Labelled],
        parameters: Sequence[str] | Labelled,
        observations: Labelled,
        *,
        stochastic: bool = False,
    ) -> None:
        self.function = checked_function("function", function)
        self.stochastic = flag("stochastic", stochastic)
        keywords = ("rng",) if self.stochastic else ()
        check_accepts("function", function, "parameters", keywords=keywords)
        if not isinstance(parameters, xr.DataArray | xr.Dataset):
            parameters = xr.Dataset(dict.fromkeys(_names(parameters), 0.0))
        self._parameters = _Layout("parameters", parameters)
        self._observations = _Layout("observations", observations, nan_is_missing=True)
        self.data = self._observations.pack("observations", observations)
        self.data.flags.writeable = False
        self.data_names = self._observations.names
        self.parameter_names = self._parameters.names
        self.data_units, self.parameter_units = self._observations.units, self._parameters.units
        self.shape = (len(self.data_names), len(self.parameter_names))

    def __repr__(self) -> str:
        name = getattr(self.function, "__qualname__", type(self.function).__qualname__)
        return f"XarrayModel({name}, shape={self.shape})"

    def __call__(self, u: Array, /, **kwargs: Any) -> np.ndarray:
        """Outputs ``(d,)`` of one member ``(p,)``, at the labels of the observations."""
        outputs = self.function(self.unflatten_parameters(host(u)), **kwargs)
        return self._observations.pack("model", outputs)

    def flatten(self, labelled: Labelled) -> np.ndarray:
        """Convert values with the labels of the observations, such as variances, to ``(d,)``.

        Parameters
        ----------
        labelled : DataArray or Dataset
            Values in any order, possibly with further labels.

        Examples
        --------
        >>> import xarray as xr
        >>> import ekitools as ek
        >>> observed = xr.DataArray([1.0, 2.0], {"site": ["a", "b"]}, name="y")
        >>> model = ek.XarrayModel(lambda p: p.shift + 0 * observed, ["shift"], observed)
        >>> model.flatten(xr.DataArray([0.3, 0.1], {"site": ["b", "a"]}))
        array([0.1, 0.3])
        """
        return self._observations.pack("labelled", labelled)

    def unflatten(self, values: Any) -> Labelled:
        """Convert data back to labelled arrays, with NaN for missing observations.

        Parameters
        ----------
        values : (..., d) array or DataArray
            Data such as ``problem.data`` or, from a result, ``result.g`` or ``result.y``, whose
            other dimensions and coordinates are kept.
        """
        return self._observations.unpack("data", values)

    def flatten_parameters(self, labelled: Labelled) -> np.ndarray:
        """Convert labelled parameters, such as a prior mean, to a vector ``(p,)``."""
        return self._parameters.pack("labelled", labelled)

    def unflatten_parameters(self, values: Any) -> Labelled:
        """Convert ``(..., p)``, such as ``result.u``, to labelled parameters."""
        return self._parameters.unpack("parameter", values)


def _names(parameters: Any) -> tuple[str, ...]:
    names = (
        (parameters,)
        if isinstance(parameters, str) or not np.iterable(parameters)
        else tuple(parameters)
    )
    if not all(isinstance(name, str) and name for name in names):
        raise TypeError(
            f"parameters: must be names, or an xarray.DataArray or Dataset, got {parameters!r:.60}."
        )
    if not names or len(set(names)) != len(names):
        raise ValueError(f"parameters: must be one or more different names, got {names}.")
    return names
