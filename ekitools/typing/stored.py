"""Contracts of arrays and ensembles that need not be in memory: files, stores, NumPy arrays."""

from __future__ import annotations

from typing import Any, Protocol, Self, runtime_checkable

import numpy as np

from ekitools.typing.arrays import Array

__all__ = ["ChunkedArray", "LargeEnsemble", "StoredArray", "UpdatableEnsemble", "WritableArray"]


@runtime_checkable
class StoredArray(Protocol):
    """An array of two dimensions that can be read in blocks of columns.

    Arrays of zarr, h5py, netCDF4, dask and xarray fit, and NumPy arrays and memory maps.

    See Also
    --------
    WritableArray : An array that can also be written.
    ekitools.apply_update : Updates a stored ensemble in blocks.

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

    See Also
    --------
    StoredArray : An array that can be read.
    ekitools.apply_update : Writes the new ensemble to such an array.

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

    See Also
    --------
    StoredArray : The required members of a stored array.

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


@runtime_checkable
class LargeEnsemble(Protocol):
    """An ensemble that is not in memory. Some of its members are read at a time.

    See Also
    --------
    UpdatableEnsemble : The ensemble in the state of a method.
    ekitools.run : Keeps the ensemble on disk with ``scratch``.

    Examples
    --------
    >>> import tempfile
    >>> import ekitools as ek
    >>> from ekitools.typing import LargeEnsemble
    >>> problem = ek.problems.linear(p=2, d=3).problem
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     loop = ek.AskTell(problem, ek.ETKI(), n_members=5, store="final", scratch=folder)
    ...     isinstance(loop.ask(), LargeEnsemble), loop.ask()[:3].shape
    (True, (3, 2))
    """

    @property
    def shape(self) -> tuple[int, int]:
        """J and p."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """A floating dtype."""
        ...

    @property
    def rows_at_a_time(self) -> int:
        """Number of members that are read together."""
        ...

    def __getitem__(self, key: Any, /) -> np.ndarray:
        """The member ``j``, ``(p,)``, or the members of a slice or of indices, in memory."""
        ...

    def member(self, j: int) -> Any:
        """The member ``j`` as an object that NumPy can convert, read when it is converted."""
        ...


@runtime_checkable
class UpdatableEnsemble(Protocol):
    """An ensemble that is not in memory, in the state of a method that is `ByCoefficients`.

    It stands for an array ``(J, p)`` in `ekitools.kalman_update`, ``linalg.total_variance`` and
    ``core.arrays.take_rows``. None of these changes it.

    See Also
    --------
    ByCoefficients : Methods that take such an ensemble.
    LargeEnsemble : The ensemble that a model receives.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.typing import UpdatableEnsemble
    >>> isinstance(np.eye(2), UpdatableEnsemble)
    False
    """

    @property
    def shape(self) -> tuple[int, int]:
        """J and p."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """A floating dtype."""
        ...

    def rows(self, index: np.ndarray) -> Self:
        """The members ``index``."""
        ...

    def columns(self, index: np.ndarray) -> np.ndarray:
        """The parameters ``index`` of all members, in memory."""
        ...

    def localized(self, analysis: Any) -> Self:
        """The ensemble after the ``linalg.local.LocalAnalysis``."""
        ...

    def combined(self, left: Array, right: Array | None = None) -> Self:
        """U + K(U − u_J), with K = left ``(J, J)``, or K = left rightᵀ; its rows sum to 0."""
        ...

    def total_variance(self) -> float:
        """Trace of the covariance, normalised by 1/(J − 1)."""
        ...
