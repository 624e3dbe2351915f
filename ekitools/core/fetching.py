"""Small arrays on a device that are copied to the host together, by one transfer.

The host waits for the device whenever it reads a number from it. A step of a method needs a few
such numbers, and the loop needs some too. `fetched` copies many of them at once, together with the
arrays that the loop is `awaiting`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from array_api_compat import is_array_api_obj

from ekitools.core.arrays import array_namespace, device, host, is_numpy, numpy_dtype
from ekitools.typing import Array

__all__ = ["Awaited", "awaiting", "fetched"]


class Awaited:
    """Small arrays on a device that the next transfer brings along.

    Parameters
    ----------
    *arrays : array
        Floating numbers or truth values, of one library and on one device.
    """

    def __init__(self, *arrays: Array) -> None:
        self.arrays: tuple[Array, ...] = arrays
        self._values: tuple[np.ndarray, ...] | None = None

    @property
    def arrived(self) -> bool:
        """Whether the host has them."""
        return self._values is not None

    @property
    def values(self) -> tuple[np.ndarray, ...]:
        """The arrays on the host. They are fetched now if no transfer has copied them."""
        if self._values is None:
            self.arrive(_transferred(self.arrays))
        assert self._values is not None
        return self._values

    def arrive(self, values: Sequence[np.ndarray]) -> None:
        """Take the values that a transfer brought."""
        self._values, self.arrays = tuple(values), ()


_AWAITED: ContextVar[Awaited | None] = ContextVar("awaited", default=None)


@contextmanager
def awaiting(awaited: Awaited) -> Iterator[None]:
    """Within this context the first transfer brings the awaited arrays along."""
    token = _AWAITED.set(awaited)
    try:
        yield
    finally:
        _AWAITED.reset(token)


def fetched(*arrays: Any) -> tuple[np.ndarray, ...]:
    """Small arrays on the host: those on a device by one transfer, NumPy arrays as they are.

    Parameters
    ----------
    *arrays : array or float
        Floating numbers or truth values. Arrays on a device are of one library and on one device.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.core.fetching import fetched
    >>> fetched(np.ones(2), 3.0)
    (array([1., 1.]), array(3.))
    """
    far = [i for i, a in enumerate(arrays) if is_array_api_obj(a) and not is_numpy(a)]
    found = [a if i in far else np.asarray(a) for i, a in enumerate(arrays)]
    if far:
        awaited = _AWAITED.get()
        riders = () if awaited is None or awaited.arrived else awaited.arrays
        if riders and not _are_together(riders[0], arrays[far[0]]):
            riders = ()
        values = _transferred([*(arrays[i] for i in far), *riders])
        for i, value in zip(far, values, strict=False):
            found[i] = value
        if awaited is not None and riders:
            awaited.arrive(values[len(far) :])
    return tuple(found)


def _are_together(x: Array, y: Array) -> bool:
    """Whether two arrays are of one library and on one device."""
    return array_namespace(x) is array_namespace(y) and device(x) == device(y)


def _transferred(arrays: Sequence[Array]) -> list[np.ndarray]:
    """The arrays on the host, packed into one for the transfer."""
    if len(arrays) == 1:
        return [host(arrays[0])]
    xp, dtype = array_namespace(arrays[0]), arrays[0].dtype
    if all(a.ndim == 0 and a.dtype == dtype for a in arrays):  # one kernel
        numbers = host(xp.stack(list(arrays)))
        return [numbers[i, ...] for i in range(len(arrays))]
    kinds = [numpy_dtype(a) for a in arrays]
    floats = [a.dtype for a, kind in zip(arrays, kinds, strict=True) if kind.kind == "f"]
    wide = xp.result_type(*floats) if floats else xp.float32
    flat = [xp.reshape(a if a.dtype == wide else xp.astype(a, wide), (-1,)) for a in arrays]
    numbers, start, found = host(xp.concat(flat)), 0, []
    for array, kind in zip(arrays, kinds, strict=True):
        stop = start + math.prod(array.shape)
        found.append(numbers[start:stop].reshape(tuple(array.shape)).astype(kind, copy=False))
        start = stop
    return found
