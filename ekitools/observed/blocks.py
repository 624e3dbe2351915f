"""Blocks of data: arrays, plain or labelled, as parts of the vector y."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any, NamedTuple, Protocol

import numpy as np

from ekitools.core.arrays import as_array, as_real, masked_as_nan, of_library
from ekitools.core.labels import plain_coordinate

__all__ = ["ArrayBlock", "Block", "LabelledBlock", "as_labelled", "with_gaps"]


class Block(Protocol):
    """A block of data."""

    @property
    def name(self) -> str:
        """Name of the block; "" if the only block has no name."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape as given, including the gaps."""
        ...

    @property
    def names(self) -> tuple[str, ...] | None:
        """A label for every entry; None for default labels."""
        ...

    @property
    def units(self) -> str:
        """Units of all entries; "" without units."""
        ...

    @property
    def coords(self) -> Mapping[str, np.ndarray]:
        """Coordinates of the entries, each a vector."""
        ...

    def flat(self, argument: str, value: Any) -> np.ndarray:
        """Turn a ``value`` in the form of the block into a vector; NaN stays NaN.

        Raises
        ------
        TypeError, ValueError
            If the value does not have the form of the block. The message starts with ``argument``.
        """
        ...


class ArrayBlock(NamedTuple):
    """A block without labels."""

    name: str
    shape: tuple[int, ...]
    units: str = ""

    @property
    def names(self) -> tuple[str, ...] | None:
        """``name[0]``, ``name[1]``, ...; the name itself for a single number."""
        if not self.name:
            return None
        if not self.shape:
            return (self.name,)
        indices = product(*map(range, self.shape))
        return tuple(f"{self.name}[{', '.join(map(str, index))}]" for index in indices)

    @property
    def coords(self) -> Mapping[str, np.ndarray]:
        """None."""
        return {}

    def flat(self, argument: str, value: Any) -> np.ndarray:
        """Turn a ``value`` in the shape of the block, or flattened, into a vector."""
        return _flat(argument, value, self.shape)


class LabelledBlock:
    """A block that is an xarray.DataArray.

    Parameters
    ----------
    name : str
        Name of the block.
    array : xarray.DataArray
        The data with dimensions and coordinates.
    """

    def __init__(self, name: str, array: Any) -> None:
        from ekitools.models.layout import Layout

        self.name = name
        self.shape: tuple[int, ...] = array.shape
        self._layout = Layout(f"data[{name!r}]", array.rename(name or "y"))
        self._names = self._layout.names
        self.units = self._layout.units[0] if self._layout.units else ""
        self.coords = {
            str(key): plain_coordinate(
                coordinate.broadcast_like(array).transpose(*array.dims).values.reshape(-1)
            )
            for key, coordinate in array.coords.items()
        }

    @property
    def names(self) -> tuple[str, ...]:
        """``name(dimension=label, ...)``."""
        return self._names

    def flat(self, argument: str, value: Any) -> np.ndarray:
        """Turn ``value`` into the order of the block, by labels or, without labels, by shape."""
        labelled = as_labelled(value)
        if labelled is None:
            return _flat(argument, value, self.shape)
        return with_gaps(argument, self._layout.pack(argument, labelled))


def as_labelled(value: Any) -> Any:
    """Convert an object with labels, such as a pandas.Series, to a DataArray; else None."""
    if of_library(value, "xarray", "DataArray"):
        return value
    if of_library(value, "pandas", "Series"):
        import xarray as xr

        named = value.rename_axis(value.index.name or "index")
        return xr.DataArray(named).assign_attrs(value.attrs)  # such as units
    return None


def with_gaps(argument: str, value: Any, *, remedy: str = "") -> np.ndarray:
    """Convert ``value`` to a real array, finite except for NaN at NaN or masked entries.

    Raises
    ------
    TypeError, ValueError
        As for `ekitools.core.arrays.as_real`.
    """
    value = masked_as_nan(value)
    array = as_array(argument, value)
    if array.dtype.kind != "f" or not np.isnan(array).any():
        return as_real(argument, value, remedy=remedy)
    as_real(argument, np.nan_to_num(array, nan=0.0, posinf=np.inf, neginf=-np.inf))
    return array


def _flat(argument: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    array = with_gaps(argument, value)
    size = int(np.prod(shape))
    if array.shape not in (shape, (size,)):
        raise ValueError(f"{argument}: must have the shape {shape}, got {array.shape}.")
    return array.reshape(-1)
