"""Arrays in files, as NumPy blocks in the format of ``.npy`` one after the other, without pickle.

`numpy.load` reads such a file block by block from an open file. The readers of this module check
every header against the bytes that follow, before they allocate memory.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO

import numpy as np

from ekitools.core.errors import CheckpointError
from ekitools.loop.disk import File, Sink, damaged, reading
from ekitools.results.history import BY_PARAMETER, FIXED, Record

__all__ = ["read_bundle", "read_records", "record_of", "write_bundle", "write_records"]

_MAGIC = b"\x93NUMPY\x01\x00"
_MOST_AXES = 32


class BlockError(ValueError):
    """A block that cannot be read."""


def write_bundle(sink: Sink, arrays: Mapping[str, np.ndarray]) -> None:
    """Write the arrays in their order, without their names.

    Raises
    ------
    CheckpointError
        If an array holds Python objects.
    """
    for name, array in arrays.items():
        try:
            np.lib.format.write_array(sink, array, version=(1, 0), allow_pickle=False)
        except ValueError as error:
            raise CheckpointError(
                f"checkpoint: cannot hold {name} ({error}). Give the method a State of arrays of "
                "numbers, numbers, texts, None and tuples of them."
            ) from error


def write_records(sink: Sink, records: Iterable[Record]) -> None:
    """Write iterations, each as one block per field of `Record`.

    Further arrays are side products and reports of the method by parameter. Their number comes
    first, and the name of each comes before its block.
    """
    for record in records:
        arrays = record.arrays()
        write_bundle(sink, {"": np.array(len(arrays) - len(FIXED))})
        write_bundle(sink, {name: arrays[name] for name in FIXED})
        for name in list(arrays)[len(FIXED) :]:
            text = np.frombuffer(name.encode(), dtype=np.uint8)
            write_bundle(sink, {"name": text, name: arrays[name]})


def read_bundle(folder: Path, file: File, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The arrays of a file, by name."""
    with _blocks(folder, file) as stream:
        arrays = [_read_block(stream, file.size) for _ in names]
        _check(stream.tell() == file.size, "it holds more arrays than checkpoint.json lists")
    return dict(zip(names, arrays, strict=True))


def read_records(folder: Path, file: File) -> list[Record]:
    """The iterations of a file. If an iteration was written twice, the last one counts."""
    records: list[Record] = []
    with _blocks(folder, file) as stream:
        while stream.tell() < file.size:
            record = record_of(_read_record(stream, file.size))
            while records and records[-1].iteration >= record.iteration:
                records.pop()
            records.append(record)
    return records


def _read_record(stream: IO[bytes], end: int) -> dict[str, np.ndarray]:
    count = _read_block(stream, end)
    _check(
        count.shape == () and count.dtype.kind == "i", "an iteration does not start with a count"
    )
    arrays = {name: _read_block(stream, end) for name in FIXED}
    for _ in range(int(count)):
        text = _read_block(stream, end)
        _check(text.dtype == np.uint8, "a further array has no name")
        arrays[text.tobytes().decode(errors="replace")] = _read_block(stream, end)
    return arrays


def record_of(arrays: Mapping[str, np.ndarray]) -> Record:
    """The record that has these fields.

    Raises
    ------
    BlockError
        If shapes or dtypes do not belong to one ensemble.
    """
    rows, outputs, average = (arrays[name] for name in ("u", "g", "average"))
    fit = rows.ndim == outputs.ndim == 2 and outputs.shape[0] == rows.shape[0]
    fit &= all(arrays[name].shape == () for name in ("iteration", "t", "step"))
    fit &= all(arrays[name].shape == rows.shape[:1] for name in ("misfit", "failed"))
    fit &= arrays["weight"].shape in ((0,), rows.shape[:1])
    fit &= average.shape in ((0,), rows.shape[1:])
    fit &= arrays["missing"].shape in ((0,), outputs.shape[1:])
    fit &= arrays["source"].shape in ((0,), rows.shape[:1])
    fit &= arrays["observations"].ndim == 1 and arrays["observations"].dtype.kind == "i"
    for name in arrays.keys() - set(FIXED):
        by_parameter = name.startswith(BY_PARAMETER)
        shape = arrays[name].shape
        fit &= shape == rows.shape[1:] if by_parameter else shape[:1] == rows.shape[:1]
    _check(fit, "its arrays have shapes that do not fit each other")
    fit = arrays["iteration"].dtype.kind in "iu" and arrays["failed"].dtype.kind == "b"
    fit &= all(array.dtype.kind in "biuf" for array in arrays.values())
    _check(fit, "its arrays have dtypes that do not fit their names")
    return Record.of(arrays)


@contextmanager
def _blocks(folder: Path, file: File) -> Iterator[IO[bytes]]:
    with reading(folder, file) as stream:
        try:
            yield stream
        except BlockError as error:
            raise damaged(folder / file.name, error) from error


def _read_block(file: IO[bytes], end: int) -> np.ndarray:
    start = file.read(10)
    _check(len(start) == 10 and start[:8] == _MAGIC, "an array does not start where it should")
    head = start + file.read(int.from_bytes(start[8:], "little"))
    try:
        shape, fortran, dtype = _layout(head)
        n_entries = math.prod(shape)
        n_bytes = n_entries * dtype.itemsize
    except Exception as error:  # a forged header can raise anything
        raise BlockError(f"the header of an array is not one of NumPy: {error}") from error
    plain = dtype.itemsize > 0 and not dtype.hasobject and dtype.names is None
    _check(plain and min(shape, default=0) >= 0, f"an array claims {dtype} and shape {shape}")
    _check(
        n_bytes <= end - file.tell() and len(shape) <= _MOST_AXES and max(shape, default=0) < 2**62,
        f"an array claims {n_bytes} bytes and the shape {shape}, which the file does not hold",
    )
    array = np.empty(n_entries, dtype)
    if n_bytes:
        read = file.readinto(array.view(np.uint8).data)  # type: ignore[attr-defined]
        _check(read == n_bytes, "an array ends before its last entry")
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)


def _check(fits: bool, why: str) -> None:
    if not fits:
        raise BlockError(why)


@lru_cache(maxsize=256)
def _layout(head: bytes) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether columns come first, and dtype, of a whole header."""
    stream = io.BytesIO(head)
    np.lib.format.read_magic(stream)
    return np.lib.format.read_array_header_1_0(stream)
