"""Contracts of arrays that are read and written in slices: files, stores, NumPy arrays."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

__all__ = ["ChunkedArray", "StoredArray", "WritableArray"]


@runtime_checkable
class StoredArray(Protocol):
    """An array of two dimensions that can be read in blocks of columns.

    Arrays of zarr, h5py, netCDF4, dask and xarray fit, and NumPy arrays and memory maps.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.typing import StoredArray
    >>> isinstance(np.eye(2), StoredArray), isinstance([[1.0]], StoredArray)
    (True, False)
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of members and the number of parameters."""
        ...

    @property
    def dtype(self) -> Any:
        """A NumPy dtype."""
        ...

    def __getitem__(self, key: Any, /) -> Any:
        """The columns ``[:, a:b]``, which NumPy can convert."""
        ...


@runtime_checkable
class WritableArray(StoredArray, Protocol):
    """A stored array that can be written in blocks of columns.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.typing import WritableArray
    >>> isinstance(np.eye(2), WritableArray)
    True
    """

    def __setitem__(self, key: Any, value: Any, /) -> None:
        """Write a NumPy array ``(J, b − a)`` to the columns ``[:, a:b]``."""
        ...


@runtime_checkable
class ChunkedArray(Protocol):
    """A stored array that is read and written fastest in whole chunks.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.typing import ChunkedArray
    >>> isinstance(np.eye(2), ChunkedArray)  # arrays of zarr, h5py and dask are
    False
    """

    @property
    def chunks(self) -> Any:
        """Length of a chunk along each dimension, or the lengths of all; None for no chunks."""
        ...
