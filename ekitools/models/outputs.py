"""Checked outputs of models as copied rows of numbers, or the reasons of failures.

Checks raise `UnfitError`. Only `failure_of` turns this error, and every other exception of a
model, into a `Failure`.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ekitools.core.arrays import array_namespace, host, like, masked_as_nan
from ekitools.typing import Array

__all__ = [
    "LONGEST_REASON",
    "Failure",
    "TimedOutError",
    "UnfitError",
    "all_failed",
    "cut",
    "failure_of",
    "own",
    "parted",
    "row_of",
    "rows_of",
    "safe_text",
    "shares_memory",
]

LONGEST_REASON = 2000
"""Largest number of characters of a reason; longer reasons are cut."""

_PACKAGE = f"{Path(__file__).parents[1]}{os.sep}"
_LIBRARIES = tuple(
    {sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")} - {None, ""}
)


class Failure(NamedTuple):
    """Reason of a failed member."""

    reason: str
    error: BaseException | None = None
    where: str = ""
    """File and line of the exception."""
    datum: int | None = None
    """Index of the datum that is not finite."""


class UnfitError(Exception):
    """An output that cannot be used."""

    def __init__(self, reason: str, datum: int | None = None) -> None:
        super().__init__(reason)
        self.reason, self.datum = reason, datum


class TimedOutError(BaseException):
    """A model run took too long; not an Exception, so ``except Exception`` does not catch it."""

    def __init__(self, timeout: float) -> None:
        super().__init__(timeout)
        self.timeout = timeout


def failure_of(error: BaseException) -> Failure:
    """The `Failure` for an exception that ended a model run, or for an unfit output."""
    if isinstance(error, UnfitError):
        return Failure(cut(error.reason), None, "", error.datum)
    if isinstance(error, TimedOutError):
        return Failure(f"timed out after {error.timeout:g} s", TimeoutError(f"{error.timeout:g} s"))
    return Failure(safe_text(error), error, _where(error))


def safe_text(value: Any) -> str:
    """``repr(value)``, cut; or the name of the class if ``repr`` fails."""
    try:
        return cut(repr(value))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return f"{type(value).__name__} (its text cannot be read: {type(error).__name__})"


def cut(text: str) -> str:
    """At most `LONGEST_REASON` characters of ``text``."""
    return text if len(text) <= LONGEST_REASON else f"{text[: LONGEST_REASON - 4]} ..."


def own(x: Array) -> Array:
    """A copy of ``x`` in new memory, with the same kind and dtype."""
    if isinstance(x, np.ndarray):
        return np.array(x, copy=True)
    return array_namespace(x).asarray(x, copy=True)


def parted(value: Any) -> tuple[Any, Mapping[str, Any]]:
    """Outputs and side products from a return value ``outputs`` or ``(outputs, extras)``."""
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], Mapping):
        return value
    return value, {}


def shares_memory(x: Array, given: Any) -> bool:
    """Whether a change of ``given`` may change ``x``; False if this cannot be determined."""
    if isinstance(x, np.ndarray):
        given = host(given) if hasattr(given, "shape") else given
        return isinstance(given, np.ndarray) and np.may_share_memory(x, given)
    if x is given:
        return True
    ours, theirs = (getattr(each, "untyped_storage", None) for each in (x, given))
    return bool(ours and theirs and ours().data_ptr() == theirs().data_ptr())  # torch


def row_of(
    value: Any, n_data: int, n_members: int, dtype: np.dtype[Any], *, gaps: bool = False
) -> np.ndarray:
    """Copied output ``(d,)`` of one member; with ``gaps`` some entries may be NaN, but not all.

    Raises
    ------
    UnfitError
        If the output is not d finite real numbers that fit ``dtype``.
    """
    array = _numbers(value)
    if array.ndim == 0 and n_data == 1:
        array = array.reshape(1)
    if array.shape != (n_data,):
        together = array.ndim == 2 or (array.ndim == 1 and n_data == 1)
        advice = ""
        if together and array.shape[0] == n_members:
            advice = ". A model of a whole ensemble needs vectorized=True"
        elif array.size == n_data:
            advice = ". Flatten the output with np.ravel(output), or use ek.XarrayModel"
        raise UnfitError(
            f"model: must return d = {n_data} numbers for one member, got shape "
            f"{array.shape}{advice}"
        )
    if not _usable(array, gaps=gaps):
        raise _not_finite(array)
    with np.errstate(over="ignore"):
        row = array.astype(dtype)
    if np.any(np.isinf(row)):
        raise UnfitError(f"model: must return numbers that fit {dtype}")
    return row


def rows_of(
    value: Any, u: Array, n_data: int, *, gaps: bool = False
) -> tuple[Array, dict[int, Failure]]:
    """Copied outputs ``(J, d)`` of a vectorized model, and the failed rows.

    With ``gaps`` some entries of a row may be NaN, but not all.

    Raises
    ------
    UnfitError
        If the value is not an array of this shape.
    """
    n = int(u.shape[0])
    if isinstance(value, list | tuple) and len(value) == n:
        ragged = _row_by_row(value, u, n_data, gaps=gaps)
        if ragged is not None:
            return ragged
    g = value
    if not hasattr(g, "shape") or isinstance(g, np.ndarray):
        g = _numbers(g)
    if tuple(g.shape) != (n, n_data):
        advice = ""
        if tuple(g.shape) == (n_data,):
            advice = ". A model of one member needs vectorized=False"
        elif g.ndim > 2 and g.shape[0] == n:
            advice = ". Flatten the output of each member: g.reshape(len(g), -1)"
        raise UnfitError(
            f"model: must return (J, d) = {(n, n_data)} numbers for J members, got shape "
            f"{tuple(g.shape)}{advice}"
        )
    with np.errstate(over="ignore"):
        g = own(g) if type(g) is type(u) and g.dtype == u.dtype else own(like(g, u))
    xp = array_namespace(g)
    suspect = np.flatnonzero(~host(xp.all(xp.isfinite(g), axis=1))).tolist()
    rows = {j: host(g[j, :]) for j in suspect}
    failures = {
        j: failure_of(_not_finite(row)) for j, row in rows.items() if not _usable(row, gaps=gaps)
    }
    return g, failures


def all_failed(u: Array, n_data: int, failures: Mapping[int, Failure]) -> np.ndarray:
    """Rows of NaN for ``failures``, on the host with the dtype of ``u``."""
    return np.full((len(failures), n_data), np.nan, dtype=host(u[:1, :1]).dtype)


def _row_by_row(
    value: list[Any] | tuple[Any, ...], u: Array, n_data: int, *, gaps: bool
) -> tuple[Array, dict[int, Failure]] | None:
    """A list with a row of another length or kind; None if all rows are alike."""
    try:
        if np.asarray(value).dtype.kind in "fiub":
            return None
    except (ValueError, TypeError):
        pass
    n = len(value)
    g = np.full((n, n_data), np.nan, dtype=host(u[:1, :1]).dtype)
    failures: dict[int, Failure] = {}
    for j, row in enumerate(value):
        try:
            g[j] = row_of(row, n_data, 0, g.dtype, gaps=gaps)
        except UnfitError as error:
            failures[j] = failure_of(error)
    if len(failures) == n:
        return None
    return (g if isinstance(u, np.ndarray) else like(g, u)), failures


def _numbers(value: Any) -> np.ndarray:
    """``value`` as a real array, masked entries as NaN."""
    value = masked_as_nan(value)
    try:
        array = host(value) if hasattr(value, "shape") else np.asarray(value)
    except (ValueError, TypeError) as error:
        raise UnfitError(
            f"model: must return an array of numbers, got {safe_text(value):.60} ({error})"
        ) from None
    if array.dtype.kind not in "fiub":
        raise UnfitError(
            f"model: must return real numbers, got {type(value).__name__} of dtype {array.dtype}"
        )
    return array


def _usable(row: np.ndarray, *, gaps: bool) -> bool:
    """Whether all entries are finite, or with ``gaps`` some are and the others are NaN."""
    finite = np.isfinite(row)
    return bool(finite.all() or (gaps and finite.any() and not np.isinf(row).any()))


def _not_finite(row: np.ndarray) -> UnfitError:
    first = int(np.flatnonzero(~np.isfinite(row))[0])
    return UnfitError(
        f"model: must return finite numbers, got {row[first]} at data index {first}", first
    )


def _where(error: BaseException) -> str:
    """File and line of the deepest call in user code, or else of the deepest call."""
    frames = [
        (frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not frame.f_code.co_filename.startswith(_PACKAGE)
    ]
    theirs = [each for each in frames if not each[0].startswith((*_LIBRARIES, sys.prefix, "<"))]
    if not frames:
        return ""
    file, line = (theirs or frames)[-1]
    return f"{file}, line {line}"
