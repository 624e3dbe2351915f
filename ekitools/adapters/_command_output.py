"""What a program has written, as a vector of numbers (JSON, CSV, netCDF), and its storage."""

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
    r"""The numbers in a file, as float64 ``(d,)``, arrays row by row.

    Parameters
    ----------
    path : Path
        A file whose ending is one of `FORMATS`.
    key : str or None
        Key of a JSON object, name of a CSV column, or netCDF variable; None for a JSON list, a
        CSV file of numbers alone, or the only variable of a netCDF file.

    Raises
    ------
    ValueError, TypeError
        If the file lacks what is asked for, or that is not numbers.

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
"""Readers by the ending of the file."""


def identity(function: Callable[..., Any]) -> str:
    """The text of a function, or its name where that cannot be had."""
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        kind = type(function)
        name = getattr(function, "__qualname__", kind.__qualname__)
        return f"{getattr(function, '__module__', kind.__module__)}.{name}"


def load_stored(path: Path) -> np.ndarray | None:
    """The array in a file that `store` has written; None where there is none, or a damaged one.

    A file without a digest, as earlier versions wrote it, has to be a whole array and nothing else.
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
    array, mark, told = content.rpartition(_MARK)
    if not mark:
        array = content
    elif told != _digest(path, array):
        _warn_damaged(path, "its digest is not that of its name and contents")
        return None
    stream = io.BytesIO(array)
    try:
        g = np.asarray(np.load(stream, allow_pickle=False))
    except (ValueError, EOFError) as error:  # cut off when the machine went down
        _warn_damaged(path, str(error))
        return None
    if stream.read(1):
        _warn_damaged(path, "it is longer than its array")
        return None
    return g


def store(folder: Path, path: Path, g: np.ndarray) -> None:
    """Write an array and the digest of it, all or nothing: a file under its name is finished."""
    stream = io.BytesIO()
    np.save(stream, g)
    content = stream.getvalue()
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".npy", delete=False) as file:
        file.write(content + _MARK + _digest(path, content))
    Path(file.name).replace(path)


def _digest(path: Path, content: bytes) -> bytes:
    """Of a stored output; the name is in it, so that no file can take the place of another."""
    return hashlib.sha256(path.name.encode() + content).hexdigest().encode()


def _warn_damaged(path: Path, why: str) -> None:
    warnings.warn(
        f"The stored output {path} is damaged ({why}). The program is run again.",
        RuntimeWarning,
        stacklevel=3,
    )


def _lacking(path: Path, key: str | None, names: Iterable[str]) -> ValueError:
    there = ", ".join(map(repr, names)) or "none"
    return ValueError(f"key: must be one of those in {path.name} ({there}), got {key!r}.")
