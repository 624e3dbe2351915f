"""Layouts of labelled arrays: maps between entries of a vector, variables and labels."""

from __future__ import annotations

from collections.abc import Hashable
from itertools import compress, product
from typing import Any

import numpy as np
import xarray as xr

from ekitools.core.arrays import as_array, check_array

__all__ = ["Labelled", "Layout"]

Labelled = xr.DataArray | xr.Dataset


class Layout:
    """Layout of an example: variables one after the other, with the last dimension fastest."""

    def __init__(self, argument: str, example: Any, *, nan_is_missing: bool = False) -> None:
        self.one = isinstance(example, xr.DataArray)
        self.example = _as_dataset(argument, example)
        parts = []
        for name, variable in self.example.data_vars.items():
            if variable.dtype.kind not in "fiub":
                raise TypeError(
                    f"{argument}: must be real numbers, got {name!r} of dtype {variable.dtype}. "
                    "Convert it to floats, or drop it."
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
                raise ValueError(
                    f"{argument}: must have unique labels, got duplicates in {dim!r}. Make "
                    f"{dim!r} a coordinate of another dimension, as in xr.DataArray(values, "
                    f"{{{dim!r}: ('datum', labels)}}, dims='datum')."
                )
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
        """Convert an object labelled like the example to a vector."""
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
                raise ValueError(
                    f"{argument}: must have the coordinate {dim!r}, got none. Use assign_coords."
                )
            if not there.is_unique:
                raise ValueError(
                    f"{argument}: must have unique labels, got duplicates in {dim!r}. Use "
                    "drop_duplicates."
                )
            if there.equals(wanted):
                continue
            places = there.get_indexer(wanted)
            if np.any(places < 0):
                label = _texts(wanted[places < 0], 1)[0]
                raise ValueError(
                    f"{argument}: must have the label {dim}={label}, got no such label. Labels are "
                    "compared exactly: interpolate in the function."
                )
            variable = variable.isel({dim: places})
        return variable.transpose(*dims)

    def unpack(self, last: str, values: Any) -> Labelled:
        """Convert vectors ``(..., n)`` to objects labelled like the example."""
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
    if name in labelled.coords:  # a variable cannot have the name of a coordinate
        name = f"{name}_"
    return labelled.to_dataset(name=name)


def _texts(index: Any, size: int) -> list[str]:
    """Labels as texts: dates as short as possible, positions if there are no labels."""
    if index is None:
        return [str(i) for i in range(size)]
    if isinstance(index.dtype, np.dtype) and index.dtype.kind == "M":
        return list(np.datetime_as_string(index.values, unit="auto"))
    return [str(label) for label in index]
