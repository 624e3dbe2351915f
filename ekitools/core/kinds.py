"""The kind of an array as texts: its library, its dtype and its device."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from array_api_compat import (
    is_array_api_obj,
    is_cupy_namespace,
    is_jax_namespace,
    is_torch_namespace,
)

from ekitools.core.arrays import array_namespace, check_array, device, is_numpy, numpy_dtype
from ekitools.typing import Array

__all__ = ["checked_like", "empty_like", "kind_of", "of_kind"]

_NOT_HERE = (
    ImportError,
    StopIteration,
    RuntimeError,
    TypeError,
    AttributeError,
    AssertionError,  # torch without CUDA
)


def checked_like(like: Any, name: str = "like") -> Array | None:
    """An array without numbers of the kind of the argument ``like``, which ``name`` calls so.

    Raises
    ------
    TypeError
        If it is no array of a floating dtype.
    """
    if like is None:
        return None
    if not is_array_api_obj(like) or not tuple(like.shape):
        raise TypeError(
            f"{name}: must be an array of a floating dtype, got {type(like).__name__}. Pass an "
            "array with one axis or more, such as torch.empty(1, device=...)."
        )
    if 0 not in tuple(like.shape)[-1:]:
        check_array(name, like)
    if str(like.dtype).rpartition(".")[2] in ("float16", "bfloat16"):
        raise TypeError(
            f"{name}: must be of float32 or float64, got {like.dtype}. Use float32, and the option "
            "precision of TorchModel for a forward pass in 16 bits."
        )
    if numpy_dtype(like).kind != "f":
        raise TypeError(f"{name}: must have a floating dtype, got {like.dtype}. Convert it.")
    return empty_like(like)


def empty_like(x: Array) -> Array:
    """An array without numbers of the same library and dtype, on the same device."""
    xp = array_namespace(x)
    return xp.empty((0,), dtype=x.dtype, device=device(x))


def kind_of(x: Array) -> list[str] | None:
    """Library, dtype and device of ``x``; None for NumPy and for libraries `of_kind` lacks.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.core.kinds import kind_of
    >>> kind_of(np.ones(1)) is None
    True
    """
    if is_numpy(x):
        return None
    xp = array_namespace(x)
    known = {
        "torch": is_torch_namespace(xp),
        "jax": is_jax_namespace(xp),
        "cupy": is_cupy_namespace(xp),
    }
    library = next((name for name, holds in known.items() if holds), None)
    return None if library is None else [library, numpy_dtype(x).name, str(device(x))]


def of_kind(library: str, dtype: str, where: str) -> Array:
    """An array without numbers of the kind that `kind_of` wrote.

    Raises
    ------
    ValueError
        If the library is none of those, or not installed, or the device is not there.
    """
    try:
        if library == "torch":
            torch = importlib.import_module("torch")
            return torch.empty(0, dtype=getattr(torch, np.dtype(dtype).name), device=where)
        if library == "jax":
            jax = importlib.import_module("jax")
            there = next(each for each in jax.devices() if str(each) == where)
            return jax.device_put(jax.numpy.empty(0, dtype=np.dtype(dtype)), there)
        if library == "cupy":
            cupy = importlib.import_module("cupy")
            there = next(each for each in _devices(cupy) if str(each) == where)
            with there:
                return cupy.empty(0, dtype=np.dtype(dtype))
    except _NOT_HERE as error:
        raise ValueError(f"{library} has no {dtype} on {where} here ({error!r:.100})") from error
    raise ValueError(f"{library!r:.40} is no library that is known")


def _devices(cupy: Any) -> list[Any]:
    return [cupy.cuda.Device(i) for i in range(cupy.cuda.runtime.getDeviceCount())]
