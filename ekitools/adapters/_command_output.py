"""What a program has written, as a vector of numbers: JSON, CSV and netCDF."""

from __future__ import annotations

import csv
import inspect
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["FORMATS", "identity", "read_output"]


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


def _lacking(path: Path, key: str | None, names: Iterable[str]) -> ValueError:
    there = ", ".join(map(repr, names)) or "none"
    return ValueError(f"key: must be one of those in {path.name} ({there}), got {key!r}.")
