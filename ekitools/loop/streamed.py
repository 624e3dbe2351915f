"""Updates of an ensemble in blocks of columns, for arrays larger than the memory."""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import is_array_api_obj

from ekitools.core.arrays import as_real, host, like, of_library, unmasked
from ekitools.core.checks import flag, integer
from ekitools.core.devices import map_of
from ekitools.linalg.columns import combine, combine_part, part_width
from ekitools.linalg.local import LocalAnalysis
from ekitools.linalg.local_coefficients import LocalCoefficients
from ekitools.typing import Array, ChunkedArray, StoredArray, WritableArray

__all__ = ["apply_update", "bar_of_bytes", "columns_at_a_time", "give_back_pages"]

_BLOCK_BYTES = 1 << 26
"""Bytes of a block of columns: one read takes longer than a disk seek, and fits into memory."""

_ADVISES = hasattr(mmap, "MADV_DONTNEED")
"""Whether the system supports `mmap.madvise`."""

_ROUNDING = 1e-5
"""Largest sum of a row of coefficients, relative to its entries, that counts as rounding."""


def apply_update(
    coefficients: Array | LocalCoefficients,
    source: StoredArray,
    target: WritableArray | None = None,
    *,
    block: int | None = None,
    progress: bool = False,
) -> Any:
    r"""Apply the coefficients of a Kalman analysis to an ensemble, in blocks of columns.

    .. math::
        u_i \leftarrow u_i + \sum_j K_{ij} (u_j - \bar u).

    The ensemble is read once and written once. The memory holds a few blocks, so the ensemble may
    be a file of any size.

    Parameters
    ----------
    coefficients : (J, J), or localized ones
        K, from `kalman_coefficients`. The rows sum to 0. With localization every parameter has its
        own coefficients, and the blocks are whole tiles of about 64 MB.
    source : (J, p)
        The ensemble, of a floating dtype: a NumPy array or memory map, an array of zarr, h5py,
        netCDF4 or dask, or any other array whose columns are ``source[:, a:b]``. A torch, JAX or
        other array-API array is updated in memory.
    target : (J, p), optional
        The array for the result, of the same shape and dtype. Pass ``source`` itself to update the
        ensemble in place. By default the result is a new NumPy array in memory, a new array of the
        kind of an array-API ``source``, or a lazy dask array.
    block : int, optional
        Number of columns in one read. The default is about 64 MB, and at least one whole chunk of
        ``target``, or of ``source`` if ``target`` has no chunks. For a sharded zarr array pass the
        columns of a shard. Blocks of less than 8 MB are read together. The result is bitwise the
        same for any number.
    progress : bool, default False
        Whether to show a tqdm progress bar in bytes on standard error.

    Returns
    -------
    array (J, p)
        ``target``, or the new array.

    Raises
    ------
    TypeError, ValueError
        If shapes or dtypes disagree, rows of K do not sum to 0, ``target`` is not writeable, or
        ``target`` overlaps with ``source`` in memory without being the same array.

    See Also
    --------
    kalman_coefficients : K from the outputs of the ensemble.
    kalman_update : Coefficients and update in one call, for an ensemble in memory.

    Notes
    -----
    One call costs 2J²p operations. The result equals that of `kalman_update` with the same
    analysis: bitwise if J ≤ d and the array has C order, and to rounding otherwise.

    An interrupted update leaves ``source`` unchanged, except in an update in place. In that case
    some columns are new and the others are old. A note of the exception names the columns. Pass a
    second array as ``target`` to keep the ensemble.

    Chunks should have all members and few columns. A chunk of one member and all columns forces the
    whole ensemble into memory.

    Pages of a memory map are returned to the system after each block and do not count as memory of
    the process. Call ``target.flush()`` to write a memory map to the disk.

    A dask array gives a lazy result, which the cluster computes when the result is stored
    (``to_zarr``). Do not store the result in the array of ``source``. With a ``target`` this
    process computes and writes the blocks one after the other.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> u = np.array([[-1.0], [0.0], [1.0]])
    >>> K = ek.kalman_coefficients(u, np.array([2.0]), 1.0, analysis="unperturbed")
    >>> ek.apply_update(K, u)
    array([[0.5],
           [1. ],
           [1.5]])
    """
    weights: np.ndarray | LocalCoefficients
    if isinstance(coefficients, LocalCoefficients):
        weights = coefficients
    else:
        weights = _checked_coefficients(coefficients)
    source = _checked_source(source, len(weights))
    if block is not None:
        block = integer("block", block)
    flag("progress", progress)
    lazy = of_library(source, "dask.array", "Array")
    if _is_in_memory(source) and not lazy:
        if target is not None:
            raise TypeError(
                f"target: must be left out for a {type(source).__name__}, which is updated in "
                "memory and gives a new array."
            )
        if isinstance(weights, LocalCoefficients):
            return like(weights.located(source.shape[1]).update(host(source)), source)
        return combine(source, like(weights, source))
    update = _update_of(weights, source)
    if target is None and lazy:
        return _lazy(update, source, block)
    if target is None:
        target = np.empty(source.shape, dtype=source.dtype)
    else:
        _check_target(target, source)
    columns = columns_at_a_time(source, target, block, update.tile)
    return _streamed(update, source, target, columns, progress)


@dataclass(frozen=True, eq=False)
class _Update:
    """The update of a block of columns, which may begin at any column."""

    coefficients: np.ndarray | LocalAnalysis
    n_columns: int
    tile: int | None
    """Columns of a tile of a localized update. Blocks consist of whole tiles."""

    def __call__(self, columns: np.ndarray, out: np.ndarray, start: int) -> None:
        if isinstance(self.coefficients, LocalAnalysis):
            self.coefficients.update(columns, out, start)
        else:
            combine_part(columns, self.coefficients, out, start, self.n_columns)


def _update_of(coefficients: np.ndarray | LocalCoefficients, source: Any) -> _Update:
    p = source.shape[1]
    native = np.dtype(source.dtype).newbyteorder("=")
    if isinstance(coefficients, LocalCoefficients):
        analysis = coefficients.located(p)
        return _Update(analysis, p, analysis.tile(native.itemsize))
    return _Update(coefficients.astype(native), p, None)


def _streamed(
    update: _Update, source: Any, target: Any, block: int, progress: bool
) -> WritableArray:
    """``target``, filled block by block."""
    n, p = source.shape
    native = np.dtype(source.dtype).newbyteorder("=")
    # matrix products can write directly to rows with contiguous numbers
    direct = (
        isinstance(target, np.ndarray)
        and target.dtype == native
        and target.strides[1] == native.itemsize
    )
    buffer = None if direct else np.empty((n, min(block, p)), dtype=native)
    with bar_of_bytes(progress, n * p * native.itemsize, "apply_update", stays=True) as bar:
        columns = slice(0, 0)
        try:
            for start in range(0, p, block):
                columns = slice(start, min(start + block, p))
                read = host(unmasked("source", source[:, columns]))  # netCDF4 gives masked arrays
                ask_for_pages(source, slice(columns.stop, columns.stop + block))
                out = target[:, columns] if buffer is None else buffer[:, : read.shape[1]]
                update(read, out, start)
                if buffer is not None:
                    target[:, columns] = out
                del read, out
                for each in (source, target):
                    give_back_pages(each)
                bar.update(n * (columns.stop - start) * native.itemsize)
        except BaseException as error:
            error.add_note(
                f"apply_update: columns 0 to {columns.start} of target are new, and the columns "
                f"from {columns.stop} on are unchanged. The columns between may be new or old."
            )
            raise
    return target


def _lazy(update: _Update, source: Any, block: int | None) -> Any:
    """A dask array of the result, with all members in every chunk."""
    columns: Any = "auto"
    if block is not None or update.tile is not None:
        columns = columns_at_a_time(source, source, block, update.tile)
    whole = source.rechunk({0: -1, 1: columns})
    return whole.map_blocks(
        _chunk, update=update, dtype=source.dtype, meta=np.empty((0, 0), dtype=source.dtype)
    )


def _chunk(columns: np.ndarray, update: _Update, block_info: Any = None) -> np.ndarray:
    """One chunk of the result, computed by dask."""
    start = block_info[0]["array-location"][1][0]
    out = np.empty(columns.shape, dtype=columns.dtype.newbyteorder("="))
    update(columns, out, start)
    return out.astype(columns.dtype, copy=False)


def columns_at_a_time(source: Any, target: Any, block: int | None, tile: int | None = None) -> int:
    """``block`` or about `_BLOCK_BYTES` in columns, in whole chunks or whole tiles."""
    n, p = source.shape
    itemsize = np.dtype(source.dtype).itemsize
    if tile is not None:
        return min(p, tile * max(1, (block or 1) // tile))
    least = part_width(n, itemsize)  # fewer columns cost as much work
    if block is not None:
        return min(p, block * math.ceil(least / block))
    unit = least
    for each in (source, target):  # target comes last: partly written chunks cost the most
        if isinstance(each, ChunkedArray) and each.chunks is not None:
            width = each.chunks[1]
            unit = width if isinstance(width, int) else width[0]  # dask lists all widths
    return min(p, unit * max(1, _BLOCK_BYTES // (n * itemsize * unit)))


def give_back_pages(array: Any) -> None:
    """Return the pages of a mapped file to the system; written data stay in the file.

    Without this call the memory of the process grows by all data read and written.
    """
    base, shared = map_of(array)
    if base is not None and shared and _ADVISES:
        base.madvise(mmap.MADV_DONTNEED)


def ask_for_pages(array: Any, columns: slice) -> None:
    """Let the system begin to read some columns of a mapped file.

    The disk reads these columns during the update of other columns.
    """
    base, _ = map_of(array)
    if base is None or not _ADVISES:
        return
    part = array[:, columns]
    if part.size == 0 or part.strides[1] != part.itemsize:
        return
    begin = np.frombuffer(base, dtype=np.uint8).__array_interface__["data"][0]
    for row in part:
        first = row.__array_interface__["data"][0] - begin
        page = first - first % mmap.PAGESIZE
        base.madvise(mmap.MADV_WILLNEED, page, first - page + row.nbytes)


@contextmanager
def bar_of_bytes(shown: bool, n_bytes: int, title: str, *, stays: bool) -> Iterator[Any]:
    """A tqdm progress bar in bytes on standard error, or a dummy if ``shown`` is False."""
    if not shown:
        yield _NoBar()
        return
    from tqdm.auto import tqdm

    with tqdm(total=n_bytes, unit="B", unit_scale=True, desc=title, leave=stays) as bar:
        yield bar


class _NoBar:
    """A dummy in place of a progress bar."""

    def update(self, n: int) -> None:
        """Do nothing."""


def _checked_coefficients(coefficients: Any) -> np.ndarray:
    weights = as_real("coefficients", coefficients, ndim=(2,)).astype(np.float64)
    n = len(weights)
    if weights.shape != (n, n) or n < 2:
        raise ValueError(
            f"coefficients: must be (J, J) with J >= 2 members, got shape {weights.shape}. Use "
            "ek.kalman_coefficients."
        )
    sums = np.abs(weights.sum(axis=1))
    if np.any(sums > _ROUNDING * (1 + np.abs(weights).sum(axis=1))):
        raise ValueError(
            f"coefficients: rows must sum to 0, got a sum of {sums.max():.3g}. Subtract the mean "
            "of each row."
        )
    return weights


def _checked_source(source: Any, n: int) -> Any:
    source = unmasked("source", source)
    if not isinstance(source, StoredArray):
        raise TypeError(
            f"source: must be an array with a shape, a dtype and slices, got "
            f"{type(source).__name__}. Use numpy.asarray."
        )
    shape = tuple(source.shape)
    if len(shape) != 2 or shape[0] != n or not shape[1] > 0:
        raise ValueError(
            f"source: must be (J, p) with the J = {n} members of coefficients, got shape {shape}."
        )
    if not _is_floating(source.dtype):
        raise TypeError(f"source: must have a floating dtype, got {source.dtype}. Convert it.")
    return source


def _check_target(target: Any, source: Any) -> None:
    unmasked("target", target)
    if not isinstance(target, WritableArray) or (
        _is_in_memory(target) and not isinstance(target, np.ndarray)
    ):
        raise TypeError(
            "target: must be a NumPy array, a memory map or an array of zarr or h5py, got "
            f"{type(target).__name__}. Leave it out for a new array."
        )
    if tuple(target.shape) != tuple(source.shape) or target.dtype != source.dtype:
        raise ValueError(
            f"target: must have the shape {tuple(source.shape)} and the dtype {source.dtype} of "
            f"source, got {tuple(target.shape)} and {target.dtype}."
        )
    if not isinstance(target, np.ndarray):
        return
    if not target.flags.writeable:
        raise ValueError("target: must be writeable, got a read-only array. Open it for writing.")
    if isinstance(source, np.ndarray) and np.may_share_memory(source, target):
        ours, theirs = (
            (each.__array_interface__["data"][0], each.strides) for each in (source, target)
        )
        if ours != theirs:
            raise ValueError(
                "target: must be source itself or share no memory with source, got an overlapping "
                "part. Pass an array with its own memory."
            )


def _is_in_memory(array: Any) -> bool:
    """Whether the array is of torch, JAX or another array-API library except NumPy."""
    return not isinstance(array, np.ndarray) and bool(is_array_api_obj(array))


def _is_floating(dtype: Any) -> bool:
    return dtype.kind == "f" if isinstance(dtype, np.dtype) else "float" in str(dtype)
