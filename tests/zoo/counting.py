"""An array library with a device of its own, which counts what crosses to and from the host.

Its arrays wrap those of NumPy. They refuse every conversion but the ways that an accelerator has:
a number, a truth value or DLPack to the host, and `asarray` from the host. `counting` counts them.
Like a `cupy.ndarray`, an array refuses ``__array__``.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import array_api_compat.numpy as npx
import numpy as np

CARD = "card"
CPU = (1, 0)


@dataclass
class Counts:
    """What crossed."""

    waits: int = 0
    """How often the host waited for the device."""
    down: int = 0
    """Bytes from the device to the host."""
    up: int = 0
    """Bytes from the host to the device."""

    @property
    def traffic(self) -> int:
        """Bytes either way."""
        return self.down + self.up


_COUNTS = Counts()


@contextmanager
def counting() -> Iterator[Counts]:
    """The counts of what is done within."""
    before = Counts(**vars(_COUNTS))
    found = Counts()
    yield found
    for name, value in vars(_COUNTS).items():
        setattr(found, name, value - getattr(before, name))


class Array:
    """An array on the card."""

    __array_ufunc__ = None  # NumPy's operators leave the work to this class

    def __init__(self, values: Any) -> None:
        self._values = np.asarray(values)
        self.shape, self.dtype, self.ndim = (getattr(self._values, n) for n in _SEEN)
        self.size, self.device = self._values.size, CARD

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return xp

    def __repr__(self) -> str:
        return f"Array({self.shape}, {self.dtype})"

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("an array on the card is not converted implicitly")

    def to_device(self, device: Any, /, *, stream: Any = None) -> Any:
        if device != CARD:
            raise ValueError(f"there is no device {device!r}")
        return self

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0  # as CUDA has it

    def __dlpack__(self, *, dl_device: Any = None, **_: Any) -> Any:
        if dl_device != CPU:
            raise BufferError("the host can only copy an array of the card")
        _fetched(self._values)
        return np.array(self._values).__dlpack__()

    def _number(self, kind: type) -> Any:
        if self.size != 1:
            raise TypeError(f"{self.size} numbers are none")
        _fetched(self._values)
        return kind(self._values.reshape(()))

    def __float__(self) -> float:
        return self._number(float)

    def __int__(self) -> int:
        return self._number(int)

    def __bool__(self) -> bool:
        return self._number(bool)

    def __index__(self) -> int:
        return self._number(operator.index)

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Any:
        raise TypeError("the host goes through no array of the card")

    def __getitem__(self, key: Any) -> Array:
        return Array(self._values[key])

    @property
    def T(self) -> Array:
        return Array(self._values.T)

    @property
    def mT(self) -> Array:
        return Array(self._values.mT)


_SEEN = ("shape", "dtype", "ndim")


def _fetched(values: np.ndarray) -> None:
    _COUNTS.waits += 1
    _COUNTS.down += values.nbytes


def _inner(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError("an array of the host must be sent to the card first")
    if isinstance(value, list | tuple):
        return type(value)(map(_inner, value))
    return value._values if isinstance(value, Array) else value


def _outer(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_outer, value))
    return Array(value) if isinstance(value, np.ndarray | np.generic) else value


def _operator(name: str) -> Any:
    def operate(self: Array, *others: Any) -> Any:
        found = getattr(self._values, name)(*map(_inner, others))
        if name.startswith("__i"):
            self._values = found
            return self
        return found if found is NotImplemented else Array(found)

    return operate


_TWO = "add sub mul truediv floordiv mod pow matmul and or xor"
_ONE = "neg pos abs invert lt le gt ge eq ne"
_NAMES = [way + each for each in _TWO.split() for way in ("", "r", "i")] + _ONE.split()
for _name in _NAMES:
    setattr(Array, f"__{_name}__", _operator(f"__{_name}__"))
Array.__hash__ = None  # type: ignore[assignment]


class Namespace:
    """The functions of the standard on arrays of the card."""

    def __init__(self, name: str, functions: Any) -> None:
        self.__name__, self._functions = name, functions

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._functions, name)
        if name == "linalg":
            return Namespace("counting.linalg", found)
        if not callable(found) or isinstance(found, type):
            return found

        def function(*args: Any, device: Any = CARD, **options: Any) -> Any:
            if device not in (CARD, None):
                raise ValueError(f"there is no device {device!r}")
            given = {key: _inner(value) for key, value in options.items()}
            return _outer(found(*map(_inner, args), **given))

        return function

    def asarray(
        self, x: Any, /, *, dtype: Any = None, device: Any = CARD, copy: bool | None = None
    ) -> Array:
        if device not in (CARD, None):
            raise ValueError(f"there is no device {device!r}")
        if isinstance(x, Array):
            return Array(np.array(x._values, dtype=dtype, copy=copy))
        values = np.array(x, dtype=dtype)
        _COUNTS.up += values.nbytes
        return Array(values)

    def isdtype(self, dtype: Any, kind: Any) -> bool:
        return npx.isdtype(dtype, kind)

    def result_type(self, *given: Any) -> Any:
        return npx.result_type(*map(_inner, given))

    def finfo(self, dtype: Any) -> Any:
        return npx.finfo(dtype)


xp = Namespace("counting", npx)


def card(x: Any) -> Array:
    """An array of the host on the card, not counted."""
    return Array(np.array(x))
