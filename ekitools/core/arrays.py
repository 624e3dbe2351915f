"""Conversion, checks and digests of arrays of any library, and random generators."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from numbers import Integral
from typing import Any

import numpy as np
from scipy.linalg import cholesky, eigvalsh

from ekitools.core.devices import (
    array_namespace,
    beside,
    data_like,
    device,
    double,
    finfo,
    host,
    in_host_memory,
    is_large,
    is_numpy,
    is_updatable,
    like,
    numpy_dtype,
    own,
    placed,
    take_columns,
    take_rows,
)
from ekitools.core.masks import masked_as_nan, unmasked
from ekitools.typing import Rng

__all__ = [
    "array_namespace",
    "as_array",
    "as_real",
    "as_rng",
    "as_vector",
    "beside",
    "check_array",
    "checked_cholesky",
    "checked_inputs",
    "data_like",
    "device",
    "digest",
    "double",
    "finfo",
    "host",
    "in_host_memory",
    "is_large",
    "is_numpy",
    "is_updatable",
    "like",
    "masked_as_nan",
    "numpy_dtype",
    "of_library",
    "own",
    "placed",
    "take_columns",
    "take_rows",
    "unmasked",
]


def of_library(value: Any, module: str, *names: str) -> bool:
    """Whether ``value`` is an instance of one of a module's classes, without an import."""
    library = sys.modules.get(module)  # a module that is not imported has no instances
    return library is not None and isinstance(value, tuple(vars(library)[n] for n in names))


def as_array(name: str, value: Any) -> np.ndarray:
    """``value`` as a NumPy array of any dtype on the host.

    Raises
    ------
    TypeError, ValueError
        If ``value`` is not an array (a list of rows of different lengths, for example), or an entry
        is masked.

    Examples
    --------
    >>> from ekitools.core.arrays import as_array
    >>> as_array("data", [[1.0, 2.0], [3.0]])
    Traceback (most recent call last):
    TypeError: data: must be an array of real numbers, got list (setting an array element with ...
    """
    value = unmasked(name, value)
    try:
        return host(value) if hasattr(value, "shape") else np.asarray(value)
    except (TypeError, ValueError) as error:  # a ragged list, or a Dataset
        raise TypeError(
            f"{name}: must be an array of real numbers, got {type(value).__name__} ({error})."
        ) from None


def check_array(name: str, value: Any, *, last: int | None = None) -> None:
    """Check an array ``(..., last)`` of real numbers of any library; NaN is allowed.

    Every public function that preserves the library and device of an array calls this function.

    Parameters
    ----------
    name : str
        Name of the argument.
    value : array
        The array to check.
    last : int, optional
        Required length of the last axis; by default every length of at least one is allowed.

    Raises
    ------
    TypeError
        If ``value`` is not an array of real numbers.
    ValueError
        If an entry is masked, or the last axis is of another length.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.core.arrays import check_array
    >>> check_array("r", np.array([[1.0, np.nan]]), last=2)
    >>> check_array("r", [1.0, 2.0])
    Traceback (most recent call last):
    TypeError: r: must be an array of real numbers, got list. Use numpy.asarray.
    """
    unmasked(name, value)
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if not isinstance(shape, tuple) or not _is_real(value, dtype):
        of = f" of dtype {dtype}" if dtype is not None else ""
        raise TypeError(
            f"{name}: must be an array of real numbers, got {type(value).__name__}{of}. "
            "Use numpy.asarray."
        )
    if not shape or 0 in shape[-1:] or last not in (None, shape[-1]):
        raise ValueError(
            f"{name}: last axis must have {last or 'one or more'} entries, got {tuple(shape)}."
        )


def _is_real(value: Any, dtype: Any) -> bool:
    if getattr(dtype, "kind", "") in ("f", "i", "u", "b"):
        return True
    if dtype is None or isinstance(value, np.ndarray | np.generic):
        return False
    try:  # dtypes of torch have no attribute kind
        kinds = ("real floating", "integral", "bool")
        return bool(array_namespace(value).isdtype(dtype, kinds))
    except TypeError:
        return False


def as_real(
    name: str, value: Any, *, ndim: Iterable[int] | None = None, remedy: str = ""
) -> np.ndarray:
    """``value`` as a finite real floating NumPy array; float32 stays float32.

    Parameters
    ----------
    name : str
        Name of the argument.
    value : array_like
        The value to check.
    ndim : iterable of int, optional
        Allowed numbers of dimensions.
    remedy : str, optional
        Last sentence of the error about dimensions.

    Raises
    ------
    TypeError
        If ``value`` is not numeric, or complex.
    ValueError
        If an entry is masked or not finite, or the number of dimensions is not in ``ndim``.
    """
    array = as_array(name, value)
    if array.dtype.kind not in ("fiub" if array.ndim else "fiu"):  # a single bool is refused
        raise TypeError(
            f"{name}: must be an array of real numbers, got {type(value).__name__} of dtype "
            f"{array.dtype}. Convert it to floats first."
        )
    if array.dtype.kind != "f":
        array = array.astype(np.float64)
    if ndim is not None and array.ndim not in tuple(ndim):
        allowed = " or ".join(str(n) for n in ndim)
        end = f" {remedy}" if remedy else ""
        raise ValueError(f"{name}: must have {allowed} dimensions, got shape {array.shape}.{end}")
    bad = np.count_nonzero(~np.isfinite(array))
    if bad:
        first = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(
            f"{name}: must be finite, got {bad} non-finite value(s), the first at index {first}. "
            "Remove or impute them."
        )
    return array


def checked_inputs(inputs: Any) -> np.ndarray:
    """Checked inputs of a model; integers stay integers, because they may be indices.

    Raises
    ------
    TypeError, ValueError
        If the inputs are empty or not finite real numbers.

    Examples
    --------
    >>> from ekitools.core.arrays import checked_inputs
    >>> checked_inputs([0, 2])
    array([0, 2])
    """
    found = as_array("inputs", inputs)
    if found.dtype.kind not in ("iub" if found.ndim else "iu"):  # a single bool is refused
        found = as_real("inputs", inputs)
    if found.size == 0:
        raise ValueError(f"inputs: must not be empty, got shape {found.shape}.")
    return found


def as_vector(name: str, value: Any, *, remedy: str = "") -> np.ndarray:
    """``value`` as a finite real vector ``(n,)``, ``n >= 1``; ``remedy`` ends an error."""
    array = as_real(name, value, ndim=(1,), remedy=remedy or f"Flatten it with np.ravel({name}).")
    if array.size == 0:
        raise ValueError(f"{name}: must not be empty, got shape {array.shape}.")
    return array


def as_rng(rng: Rng) -> np.random.Generator:
    """``rng`` as a Generator: a new Generator for None or a seed, or the given Generator.

    Raises
    ------
    TypeError, ValueError
        If ``rng`` is of another kind, or a seed below 0.

    Examples
    --------
    >>> from ekitools.core.arrays import as_rng
    >>> as_rng("seed")
    Traceback (most recent call last):
    TypeError: rng: must be None, an integer of at least 0 or a numpy.random.Generator, got 'seed'.
    """
    rule = "must be None, an integer of at least 0 or a numpy.random.Generator"
    given: Any = rng
    several = isinstance(given, list | tuple) or getattr(given, "ndim", 0) > 0
    wrong = several and not (len(given) and all(isinstance(n, Integral) for n in given))
    if wrong or isinstance(given, bool | np.bool_ | np.timedelta64):
        raise TypeError(f"rng: {rule}, got {rng!r}.")
    try:
        return np.random.default_rng(rng)
    except TypeError:
        raise TypeError(f"rng: {rule}, got {rng!r}.") from None
    except ValueError:
        raise ValueError(f"rng: {rule}, got {rng!r}.") from None


def checked_cholesky(name: str, cov: np.ndarray) -> np.ndarray:
    """Lower Cholesky factor of a matrix, checked to be symmetric positive definite."""
    if cov.ndim != 2 or cov.shape[0] != cov.shape[1] or cov.size == 0:
        raise ValueError(f"{name}: must be a square matrix, got shape {cov.shape}.")
    scale = np.max(np.abs(np.diag(cov)))
    asymmetry = float(np.max(np.abs(cov - cov.T)))
    if asymmetry > 100 * np.finfo(cov.dtype).eps * scale:
        raise ValueError(
            f"{name}: must be symmetric, got entries that differ by {asymmetry:.3g} from their "
            f"transposes. Pass ({name} + {name}.T) / 2 to make the matrix symmetric."
        )
    try:
        return np.asarray(cholesky(cov, lower=True))
    except np.linalg.LinAlgError:
        smallest = float(eigvalsh(cov, subset_by_index=(0, 0))[0])
        raise ValueError(
            f"{name}: must be positive definite, got a smallest eigenvalue of {smallest:.3g}. "
            "Remove redundant rows or add a small variance to the diagonal."
        ) from None


def digest(*parts: Any) -> str:
    """Sixteen hexadecimal digits of SHA-256 over texts and arrays (dtype, shape and bytes)."""
    sha = hashlib.sha256()
    for part in parts:
        if hasattr(part, "shape"):
            array = np.ascontiguousarray(host(part))
            sha.update(f"{array.dtype.str}{array.shape}".encode())
            sha.update(array.tobytes())
        else:
            sha.update(repr(part).encode())
        sha.update(b"\0")
    return sha.hexdigest()[:16]
