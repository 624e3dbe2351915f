"""Readers of program outputs (JSON, CSV, netCDF), and storage of the outputs on disk."""

from __future__ import annotations

import csv
import hashlib
import inspect
import io
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["FORMATS", "identity", "load_stored", "read_output", "store"]

_MARK = b"\nsha256 "


def read_output(path: Path, key: str | None) -> np.ndarray:
    r"""Read the numbers of a file as a float64 vector ``(d,)``; arrays are read row by row.

    Parameters
    ----------
    path : Path
        The file; its ending is one of `FORMATS`.
    key : str or None
        Key of a JSON object, name of a CSV column, or netCDF variable; None for a JSON list, a
        CSV file of numbers alone, or the only variable of a netCDF file.

    Raises
    ------
    ValueError, TypeError
        If the file has no such key, or the value is not numeric.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "out.csv")
    ...     _ = path.write_text("x,g\n0,1.5\n1,2.5\n")
    ...     read_output(path, "g")
    array([1.5, 2.5])
    """
    values = FORMATS[path.suffix](path, key)
    return np.asarray(values, dtype=np.float64).reshape(-1)


def _json(path: Path, key: str | None) -> Any:
    content = json.loads(path.read_text("utf-8"))
    if key is None:
        return content
    if not isinstance(content, dict) or key not in content:
        raise _lacking(path, key, content if isinstance(content, dict) else ())
    return content[key]


def _csv(path: Path, key: str | None) -> Any:
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.reader(file, skipinitialspace=True) if row]
    if key is None:
        return [float(cell) for row in rows for cell in row]
    header = [cell.strip() for cell in rows[0]] if rows else []
    if key not in header:
        raise _lacking(path, key, header)
    return [float(row[header.index(key)]) for row in rows[1:]]


def _netcdf(path: Path, key: str | None) -> Any:
    import xarray as xr  # noqa: PLC0415 - only where it is needed

    with xr.open_dataset(path) as dataset:
        if key is None and len(dataset.data_vars) == 1:
            (key,) = map(str, dataset.data_vars)
        if key not in dataset:
            raise _lacking(path, key, map(str, dataset.data_vars))
        return dataset[key].values


FORMATS: dict[str, Callable[[Path, str | None], Any]] = {
    ".json": _json,
    ".csv": _csv,
    ".nc": _netcdf,
}
"""Readers by file ending."""


def identity(function: Callable[..., Any]) -> str:
    """The source text of a function, or its name if the source is not available."""
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        kind = type(function)
        name = getattr(function, "__qualname__", kind.__qualname__)
        return f"{getattr(function, '__module__', kind.__module__)}.{name}"


def load_stored(path: Path) -> np.ndarray | None:
    """Read an array that `store` wrote; None if the file is missing or damaged.

    Earlier versions wrote no digest. A file without one must contain exactly one array.
    """
    try:
        content = path.read_bytes() if path.is_file() else None  # a pipe would wait for a writer
    except OSError as error:
        _warn_damaged(path, str(error))
        return None
    if content is None:
        if os.path.lexists(path):
            _warn_damaged(path, "it is not a plain file")
        return None
    array, mark, written = content.rpartition(_MARK)
    if not mark:
        array = content
    elif written != _digest(path, array):
        _warn_damaged(path, "its digest does not match its name and contents")
        return None
    stream = io.BytesIO(array)
    try:
        g = np.asarray(np.load(stream, allow_pickle=False))
    except (ValueError, EOFError) as error:  # truncated by a crash of the machine
        _warn_damaged(path, str(error))
        return None
    if stream.read(1):
        _warn_damaged(path, "it is longer than its array")
        return None
    return g


def store(folder: Path, path: Path, g: np.ndarray) -> None:
    """Write an array and its digest to a temporary file, then rename the complete file."""
    stream = io.BytesIO()
    np.save(stream, g)
    content = stream.getvalue()
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".npy", delete=False) as file:
        file.write(content + _MARK + _digest(path, content))
    Path(file.name).replace(path)


def _digest(path: Path, content: bytes) -> bytes:
    """Digest of a stored output; it includes the file name, which detects swapped files."""
    return hashlib.sha256(path.name.encode() + content).hexdigest().encode()


def _warn_damaged(path: Path, why: str) -> None:
    warnings.warn(
        f"The stored output {path} is damaged ({why}). The program is run again.",
        RuntimeWarning,
        stacklevel=3,
    )


def _lacking(path: Path, key: str | None, names: Iterable[str]) -> ValueError:
    there = ", ".join(map(repr, names)) or "none"
    return ValueError(f"key: must be one of the keys in {path.name} ({there}), got {key!r}.")
