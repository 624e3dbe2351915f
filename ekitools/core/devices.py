"""The one place that knows how numbers reach the host and a device.

Kernels take arrays of any library that follows the array API. `host` copies an array to the host,
and `like` copies an array to the device of another one. No other function moves arrays.
"""

from __future__ import annotations

import contextlib
import mmap
import warnings
import weakref
from functools import cache, partial
from typing import Any, TypeGuard

import array_api_compat
import numpy as np
from array_api_compat import (
    is_array_api_obj,
    is_cupy_array,
    is_jax_namespace,
    is_numpy_namespace,
    is_torch_array,
    is_torch_namespace,
    to_device,
)

from ekitools.core.masks import unmasked
from ekitools.typing import Array, LargeEnsemble, UpdatableEnsemble

__all__ = [
    "array_namespace",
    "beside",
    "data_like",
    "device",
    "double",
    "finfo",
    "host",
    "in_host_memory",
    "is_large",
    "is_numpy",
    "is_updatable",
    "like",
    "map_of",
    "numpy_dtype",
    "own",
    "placed",
    "take_columns",
    "take_rows",
]

_PLACED: dict[int, tuple[Any, dict[Any, Array]]] = {}
"""Copies of constants on devices, which live as long as the constants."""

_SPACES: dict[type, Any] = {np.ndarray: array_api_compat.array_namespace(np.empty(0))}
"""Namespaces by the type of an array: a step asks for them a hundred times."""

_CPU = 1
"""The number of the host in DLPack."""


def array_namespace(*arrays: Any) -> Any:
    """The namespace of arrays of one library, as `array_api_compat.array_namespace` finds it.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.core.devices import array_namespace
    >>> array_namespace(np.ones(2)).__name__
    'array_api_compat.numpy'
    """
    if len(arrays) != 1:
        return array_api_compat.array_namespace(*arrays)
    space = _SPACES.get(type(arrays[0]))
    if space is None:
        space = _SPACES[type(arrays[0])] = array_api_compat.array_namespace(*arrays)
    return space


def device(x: Array) -> Any:
    """The device of ``x``."""
    if is_torch_namespace(array_namespace(x)):
        return x.device
    return array_api_compat.device(x)


def is_numpy(x: Array) -> bool:
    """Whether ``x`` is a NumPy array (so that in-place work and SciPy are allowed)."""
    return bool(is_numpy_namespace(array_namespace(x)))


def is_large(x: Any) -> TypeGuard[LargeEnsemble]:
    """Whether members of ``x`` have to be read; the numbers of an array are not looked at."""
    return not is_array_api_obj(x) and isinstance(x, LargeEnsemble)


def is_updatable(x: Any) -> TypeGuard[UpdatableEnsemble]:
    """Whether ``x`` is an ensemble that is not in memory and can be updated."""
    return not is_array_api_obj(x) and isinstance(x, UpdatableEnsemble)


def host(x: Array) -> np.ndarray:
    """``x`` as a NumPy array on the host; a NumPy array is not copied.

    Raises
    ------
    ValueError
        If ``x`` is a masked array with masked entries.
    """
    if isinstance(x, np.ndarray):
        return np.asarray(unmasked("array", x))
    if is_torch_array(x):  # off the graph and off the accelerator
        return np.asarray(x.detach().cpu())
    if is_cupy_array(x):  # it refuses np.asarray
        return np.asarray(to_device(x, "cpu"))
    if not hasattr(x, "__dlpack__"):
        return np.asarray(x)
    if hasattr(x, "__array__"):
        try:
            return np.asarray(x)
        except (TypeError, RuntimeError):  # an array on a device need not convert itself
            pass
    return np.from_dlpack(x, device="cpu")


def like(x: Any, reference: Array) -> Array:
    """``x`` in the namespace, the dtype and on the device of ``reference``.

    An array of the same library stays on its device. For an ensemble that is not in memory it
    becomes a NumPy array.
    """
    if isinstance(reference, np.ndarray) or is_updatable(reference) or is_large(reference):
        return np.asarray(host(x) if is_array_api_obj(x) else x, dtype=reference.dtype)
    xp = array_namespace(reference)
    if is_array_api_obj(x) and not isinstance(x, np.ndarray) and array_namespace(x) is xp:
        return _moved(x, reference, xp)
    array = np.asarray(host(x), dtype=numpy_dtype(reference))  # the smaller of the two crosses
    return _sent(array, xp, device(reference), reference.dtype)


def placed(constant: Any, reference: Array) -> Array:
    """As `like`, for NumPy numbers that never change: they cross once to every device and dtype."""
    if isinstance(reference, np.ndarray) or is_updatable(reference) or is_large(reference):
        return like(constant, reference)
    xp = array_namespace(reference)
    if not isinstance(constant, np.ndarray):
        return xp.full((), float(constant), dtype=reference.dtype, device=device(reference))
    if is_jax_namespace(xp):  # it may trace functions
        return like(constant, reference)
    number, key = id(constant), (xp.__name__, str(reference.dtype), str(device(reference)))
    known = _PLACED.get(number)
    if known is None or known[0]() is not constant:
        forget = partial(_PLACED.pop, number)  # it is called with the dead reference: a default
        known = weakref.ref(constant, forget), {}
        _PLACED[number] = known
    if key not in known[1]:
        known[1][key] = like(constant, reference)
    return known[1][key]


def data_like(data: Array, reference: Array) -> Array:
    """As `placed` for data that nobody can write to, and as `like` for other data."""
    known = isinstance(data, np.ndarray) and not data.flags.writeable
    return placed(data, reference) if known else like(data, reference)


def own(x: Array) -> Array:
    """A copy of ``x`` in its own memory, of the same kind and dtype."""
    if isinstance(x, np.ndarray):
        return np.array(x, copy=True)
    return array_namespace(x).asarray(x, copy=True)


def beside(x: np.ndarray, reference: Array) -> Array:
    """``x`` on the device of ``reference``, floats in its dtype and integers in their own."""
    if x.dtype.kind == "f" or isinstance(reference, np.ndarray):
        return like(x, reference) if x.dtype.kind == "f" else x
    return _sent(x, array_namespace(reference), device(reference))


def in_host_memory(x: Array) -> bool:
    """Whether the numbers of ``x`` are in the memory of the host."""
    if isinstance(x, np.ndarray) or not hasattr(x, "__dlpack_device__"):
        return True
    try:
        return int(x.__dlpack_device__()[0]) == _CPU
    except (ValueError, RuntimeError, BufferError):  # of a device that DLPack does not know
        return False


def map_of(array: Any) -> tuple[mmap.mmap | None, bool]:
    """The map of a file that an array lies in, and whether its changes go to the file.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.core.devices import map_of
    >>> map_of(np.ones(2))
    (None, False)
    """
    base, shared = array, False
    while isinstance(base, np.ndarray):
        # the pages of a copy-on-write map (mode "c") hold changes that are in no file
        shared = shared or (isinstance(base, np.memmap) and base.mode != "c")
        base = base.base
    return (base if isinstance(base, mmap.mmap) else None), shared


def numpy_dtype(x: Array) -> np.dtype[Any]:
    """The dtype as NumPy has it, without a look at the numbers; float32 for a shorter float.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.core.devices import numpy_dtype
    >>> numpy_dtype(np.ones(2, dtype=np.float32))
    dtype('float32')
    """
    return x.dtype if isinstance(x.dtype, np.dtype) else _named_dtype(str(x.dtype))


@cache
def _named_dtype(name: str) -> np.dtype[Any]:
    try:
        found = np.dtype(name.rpartition(".")[2])
    except TypeError:  # bfloat16
        return np.dtype(np.float32)
    return np.dtype(np.float32) if found.kind == "V" else found  # bfloat16 after an import of JAX


def finfo(x: Array) -> np.finfo[Any]:
    """Limits of the floating dtype of ``x``, without a look at the numbers."""
    return np.finfo(numpy_dtype(x))


def double(x: Array) -> Array:
    """``x`` in float64 on its device, or on the host if its device has no float64.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.core.devices import double
    >>> double(np.ones(2, dtype=np.float32))
    array([1., 1.])
    """
    if isinstance(x, np.ndarray):
        return host(x).astype(np.float64, copy=False)
    if numpy_dtype(x) == np.float64:
        return x
    xp = array_namespace(x)
    with warnings.catch_warnings(), contextlib.suppress(TypeError, ValueError, RuntimeError):
        warnings.simplefilter("ignore")  # JAX without 64 bits
        wide = xp.astype(x, xp.float64)
        if numpy_dtype(wide) == np.float64:
            return wide
    return host(x).astype(np.float64)


def take_rows(x: Array, index: np.ndarray) -> Array:
    """The rows ``index`` of ``x``, repeats allowed, in the namespace and on the device of ``x``.

    Of an ensemble that is not in memory, the members ``index``.
    """
    if is_updatable(x):
        return x.rows(index)
    if is_large(x):
        return x[index]
    xp = array_namespace(x)
    return xp.take(x, _sent(np.asarray(index), xp, device(x)), axis=0)


def take_columns(x: Array, index: np.ndarray) -> Array:
    """The entries ``index`` of the last axis of ``x``, as `take_rows` does for the first.

    Of an ensemble that is not in memory, an array.
    """
    if not isinstance(x, np.ndarray) and isinstance(x, UpdatableEnsemble):
        return x.columns(index)
    xp = array_namespace(x)
    return xp.take(x, _sent(np.asarray(index), xp, device(x)), axis=-1)


def _moved(x: Array, reference: Array, xp: Any) -> Array:
    """An array of the same library in the dtype and on the device of ``reference``."""
    if is_torch_namespace(xp):
        x = x.detach()
    if x.dtype != reference.dtype:
        x = xp.astype(x, reference.dtype)
    there = device(reference)
    return x if device(x) == there else to_device(x, there)


def _sent(array: np.ndarray, xp: Any, there: Any, dtype: Any = None) -> Array:
    """A NumPy array on a device; where the library can, without waiting for the device."""
    if not array.flags.writeable:  # torch would share the memory, and warn
        array = array.copy()
    if is_torch_namespace(xp):
        return xp.from_numpy(array).to(there, dtype, non_blocking=there.type == "cuda")
    return xp.asarray(array, dtype=dtype, device=there)
