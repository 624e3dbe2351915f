"""Models of labelled arrays: which number of u and of G(u) belongs to which labels."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from itertools import compress, product
from typing import Any

import numpy as np
import xarray as xr

from ekitools.core.arrays import as_array, check_array, host
from ekitools.core.checks import flag
from ekitools.core.checks import function as checked_function
from ekitools.core.signatures import check_accepts
from ekitools.typing import Array

__all__ = ["XarrayModel"]

Labelled = xr.DataArray | xr.Dataset


class XarrayModel:
    """A function of labelled parameters, with labelled outputs, as the black box G.

    What was observed says what is wanted of the outputs: which variables, at which labels and in
    which order. Outputs are matched with it by their labels, so that the function may return more,
    or its dimensions in another order.

    Parameters
    ----------
    function : callable
        ``function(parameters)`` returns a DataArray, or a Dataset with the variables observed.
    parameters : sequence of str, DataArray or Dataset
        Names of numbers, which the function gets as a Dataset of them; or an example of what it
        is to get, such as a field on a grid, whose values do not matter.
    observations : DataArray or Dataset
        What was observed, with coordinates. NaN is what was not observed, and is left out.
    stochastic : bool, default False
        Whether the function is also to be given ``rng=``, as in `FunctionModel`.

    Attributes
    ----------
    data : (d,) ndarray
        The observations as a vector: the datum of the problem. Variables come one after the other
        in the order of the Dataset, each with its last dimension running fastest.
    data_names, parameter_names : tuple of str
        A name for every datum and every parameter, such as ``"height(year=1890, site=2)"``. They
        become the labels of the results.
    data_units, parameter_units : tuple of str
        The attribute ``units`` of the variable that each belongs to, or "". Results have them as
        coordinates, and plots show them.
    shape : tuple of int
        (d, p).
    vectorized : bool
        False.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind, has no numbers, or has labels that are not unique.

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
        """Outputs ``(d,)`` of one member ``(p,)``, at the labels that were observed."""
        outputs = self.function(self.unflatten_parameters(host(u)), **kwargs)
        return self._observations.pack("model", outputs)

    def flatten(self, labelled: Labelled) -> np.ndarray:
        """The vector ``(d,)`` of what has the labels of the observations, such as variances.

        Parameters
        ----------
        labelled : DataArray or Dataset
            In any order, and with more than was observed if you like.

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
        """Data as labelled arrays again, NaN where nothing was observed.

        Parameters
        ----------
        values : (..., d) array or DataArray
            Such as ``problem.data`` or, from a result, ``result.g`` or ``result.y``, whose other
            dimensions and coordinates are kept.
        """
        return self._observations.unpack("data", values)

    def flatten_parameters(self, labelled: Labelled) -> np.ndarray:
        """The vector ``(p,)`` of labelled parameters, such as a prior mean."""
        return self._parameters.pack("labelled", labelled)

    def unflatten_parameters(self, values: Any) -> Labelled:
        """Parameters ``(..., p)`` as the function gets them; ``values`` such as ``result.u``."""
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


class _Layout:
    """Which entry of a vector belongs to which variable and labels."""

    def __init__(self, argument: str, example: Any, *, nan_is_missing: bool = False) -> None:
        self.one = isinstance(example, xr.DataArray)
        self.example = _as_dataset(argument, example)
        parts = []
        for name, variable in self.example.data_vars.items():
            if variable.dtype.kind not in "fiub":
                raise TypeError(
                    f"{argument}: must be real numbers, got {name!r} of dtype {variable.dtype}."
                )
            parts.append(np.asarray(variable.values, dtype=np.float64).reshape(-1))
        flat = np.concatenate(parts) if parts else np.empty(0)
        self.used = ~np.isnan(flat) if nan_is_missing else np.ones(flat.size, dtype=bool)
        if not self.used.any():
            there = f"{flat.size} NaN" if flat.size else "none"
            raise ValueError(f"{argument}: must have at least one number, got {there}.")
        self.indexes: dict[Hashable, Any] = {}
        for dim, index in self.example.indexes.items():
            if index.nlevels > 1:
                raise TypeError(f"{argument}: must not be stacked, got {dim!r}. Unstack it first.")
            if not index.is_unique:
                raise ValueError(f"{argument}: must have unique labels, got some twice in {dim!r}.")
            self.indexes[dim] = index
        names = [n for each in self.example.data_vars for n in self._names(each)]
        units = [
            str(variable.attrs.get("units", ""))
            for variable in self.example.data_vars.values()
            for _ in range(variable.size)
        ]
        self.names = tuple(compress(names, self.used))
        self.units = tuple(compress(units, self.used))

    def _names(self, name: Hashable) -> list[str]:
        variable = self.example[name]
        if not variable.dims:
            return [str(name)]
        texts = [
            [f"{dim}={text}" for text in _texts(self.indexes.get(dim), size)]
            for dim, size in variable.sizes.items()
        ]
        return [f"{name}({', '.join(labels)})" for labels in product(*texts)]

    def pack(self, argument: str, labelled: Any) -> np.ndarray:
        """What is labelled like the example, as a vector."""
        if self.one and isinstance(labelled, xr.DataArray):
            (name,) = self.example.data_vars
            labelled = labelled.rename(name)
        dataset = _as_dataset(argument, labelled)
        parts = []
        for name, variable in self.example.data_vars.items():
            if name not in dataset.data_vars:
                there = ", ".join(map(str, dataset.data_vars)) or "none"
                raise ValueError(f"{argument}: must have the variable {name!r}, got {there}.")
            values = self._aligned(f"{argument}[{name!r}]", dataset[name], variable.dims)
            if values.shape != variable.shape:
                raise ValueError(
                    f"{argument}[{name!r}]: must have the shape {variable.shape}, got "
                    f"{values.shape}."
                )
            if values.dtype.kind in "cmMSU":
                raise TypeError(
                    f"{argument}[{name!r}]: must be real numbers, got dtype {values.dtype}."
                )
            parts.append(np.asarray(values.values, dtype=np.float64).reshape(-1))
        return np.concatenate(parts)[self.used]

    def _aligned(
        self, argument: str, variable: xr.DataArray, dims: tuple[Hashable, ...]
    ) -> xr.DataArray:
        if set(variable.dims) != set(dims):
            raise ValueError(f"{argument}: must have the dimensions {dims}, got {variable.dims}.")
        for dim in dims:
            if dim not in self.indexes:
                continue
            wanted, there = self.indexes[dim], variable.indexes.get(dim)
            if there is None:
                raise ValueError(f"{argument}: must have the coordinate {dim!r}, got none.")
            if not there.is_unique:
                raise ValueError(f"{argument}: must have unique labels, got some twice in {dim!r}.")
            if there.equals(wanted):
                continue
            places = there.get_indexer(wanted)
            if np.any(places < 0):
                label = _texts(wanted[places < 0], 1)[0]
                raise ValueError(
                    f"{argument}: must be there at {dim}={label}, got no such label. Labels are "
                    "compared exactly; interpolate in the function."
                )
            variable = variable.isel({dim: places})
        return variable.transpose(*dims)

    def unpack(self, last: str, values: Any) -> Labelled:
        """Vectors ``(..., n)`` as what is labelled like the example."""
        coords: dict[Any, Any] = dict(self.example.coords)
        before: tuple[Hashable, ...] = ()
        if isinstance(values, xr.DataArray):
            if last not in values.dims:
                raise ValueError(
                    f"values: must have the dimension {last!r}, got {values.dims}. Rename one."
                )
            values = values.transpose(..., last)
            before = values.dims[:-1]
            coords |= {n: c for n, c in values.coords.items() if last not in c.dims}
        values = as_array("values", values)
        check_array("values", values, last=len(self.names))
        if not before:
            before = tuple(f"axis_{i}" for i in range(values.ndim - 1))
        whole = np.full((*values.shape[:-1], self.used.size), np.nan, dtype=values.dtype)
        whole[..., self.used] = values
        ends = np.cumsum([variable.size for variable in self.example.data_vars.values()])
        variables = {
            name: (
                (*before, *variable.dims),
                part.reshape((*values.shape[:-1], *variable.shape)),
                variable.attrs,
            )
            for (name, variable), part in zip(
                self.example.data_vars.items(), np.split(whole, ends[:-1], axis=-1), strict=True
            )
        }
        dataset = xr.Dataset(variables, coords=coords)
        if not self.one:
            return dataset
        (name,) = variables
        return dataset[name]


def _as_dataset(argument: str, labelled: Any) -> xr.Dataset:
    if isinstance(labelled, xr.Dataset):
        return labelled
    if not isinstance(labelled, xr.DataArray):
        raise TypeError(
            f"{argument}: must be an xarray.DataArray or Dataset, got {type(labelled).__name__}. "
            "For plain arrays use ek.FunctionModel."
        )
    name = labelled.name if labelled.name is not None else "y"
    return labelled.to_dataset(name=name)


def _texts(index: Any, size: int) -> list[str]:
    """Labels as texts: dates no finer than they need to be, positions where there are none."""
    if index is None:
        return [str(i) for i in range(size)]
    if isinstance(index.dtype, np.dtype) and index.dtype.kind == "M":
        return list(np.datetime_as_string(index.values, unit="auto"))
    return [str(label) for label in index]
