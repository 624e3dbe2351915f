"""An array library with a device of its own, which counts what crosses to and from the host.

Its arrays wrap those of NumPy. They refuse every conversion but the ways that an accelerator has:
a number, a truth value or DLPack to the host, and ``asarray`` from the host. `counting` counts
them. `cupy` is the same library with the names and the habits of CuPy.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any, Self

import array_api_compat.numpy as npx
import numpy as np

CPU = (1, 0)


class Card:
    """The device."""

    def __str__(self) -> str:
        return "<card 0>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


CARD = Card()


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
    """The counts of what is done within, which are there when it ends."""
    before = Counts(**vars(_COUNTS))
    found = Counts()
    yield found
    for name, value in vars(_COUNTS).items():
        setattr(found, name, value - getattr(before, name))


class Array:
    """An array on the card."""

    __array_ufunc__ = None  # NumPy's operators leave the work to this class
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, values: Any) -> None:
        self._values = np.asarray(values)
        self.shape, self.dtype = self._values.shape, self._values.dtype
        self.ndim, self.size, self.device = self._values.ndim, self._values.size, CARD

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return xp

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.shape}, {self.dtype})"

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("an array on the card is not converted implicitly")

    def to_device(self, device: Any, /, *, stream: Any = None) -> Any:
        if device is not CARD:
            raise ValueError(f"there is no device {device!r}")
        return self

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0  # as CUDA has it

    def __dlpack__(self, *, dl_device: Any = None, **_: Any) -> Any:
        if dl_device != CPU:
            raise BufferError("the host can only copy an array of the card")
        return self._fetched().__dlpack__()

    def _fetched(self) -> np.ndarray:
        _COUNTS.waits += 1
        _COUNTS.down += self._values.nbytes
        return np.array(self._values)

    def _number(self, kind: type) -> Any:
        if self.size != 1:
            raise TypeError(f"{self.size} numbers are none")
        return kind(self._fetched().reshape(()))

    def __float__(self) -> float:
        return self._number(float)

    def __int__(self) -> int:
        return self._number(int)

    def __bool__(self) -> bool:
        return self._number(bool)

    def __index__(self) -> int:
        return operator.index(self._fetched())

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Any:
        raise TypeError("the host goes through no array of the card")

    def __getitem__(self, key: Any) -> Array:
        return type(self)(self._values[key])

    @property
    def T(self) -> Array:
        return type(self)(self._values.T)


def _operator(name: str) -> Any:
    def operate(self: Array, *others: Any) -> Any:
        found = getattr(self._values, name)(*map(_inner, others))
        if found is NotImplemented:
            return found
        if name.startswith("__i") and name != "__invert__":
            self._values = found
            return self
        return type(self)(found)

    return operate


_TWO = "add sub mul truediv floordiv mod pow matmul and or xor"
_ONE = "neg pos abs invert lt le gt ge eq ne"
_NAMES = [way + each for each in _TWO.split() for way in ("", "r", "i")] + _ONE.split()
for _name in _NAMES:
    setattr(Array, f"__{_name}__", _operator(f"__{_name}__"))


def _inner(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError("an array of the host must be sent to the card first")
    if isinstance(value, list | tuple):
        return type(value)(map(_inner, value))
    return value._values if isinstance(value, Array) else value


def _check(device: Any) -> None:
    if device not in (CARD, None):
        raise ValueError(f"there is no device {device!r}")


class Namespace:
    """The functions of the standard on arrays of the card."""

    def __init__(self, name: str, functions: Any, kind: type[Array]) -> None:
        self.__name__, self._functions, self._kind = name, functions, kind

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._functions, name)
        if name == "linalg":
            return Namespace(f"{self.__name__}.linalg", found, self._kind)
        if not callable(found) or isinstance(found, type) or name in ("isdtype", "finfo"):
            return found

        def function(*args: Any, device: Any = CARD, **options: Any) -> Any:
            _check(device)
            given = {key: _inner(value) for key, value in options.items()}
            return self._outer(found(*map(_inner, args), **given))

        return function

    def _outer(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(self._outer, value))
        return self._kind(value) if isinstance(value, np.ndarray | np.generic) else value

    def asarray(
        self, x: Any, /, *, dtype: Any = None, device: Any = CARD, copy: bool | None = None
    ) -> Array:
        _check(device)
        if isinstance(x, Array):
            return self._kind(np.array(x._values, dtype=dtype, copy=copy))
        values = np.array(x, dtype=dtype)
        _COUNTS.up += values.nbytes
        return self._kind(values)

    def result_type(self, *given: Any) -> Any:
        return npx.result_type(*map(_inner, given))


xp = Namespace("counting", npx, Array)


def card(x: Any) -> Array:
    """An array of the host on the card, not counted."""
    return Array(np.array(x))


class CupyArray(Array):
    """An array of `cupy`, which comes to the host by ``get`` alone."""

    def get(self) -> np.ndarray:
        return self._fetched()

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return cupy_space

    def __dlpack__(self, **_: Any) -> Any:
        raise BufferError("only copies on the card")


cupy_space = Namespace("array_api_compat.cupy", npx, CupyArray)


class _Random:
    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def standard_normal(self, shape: tuple[int, ...]) -> CupyArray:
        return CupyArray(self._rng.standard_normal(shape))


cupy = ModuleType("cupy")
for _key, _value in {
    "ndarray": CupyArray,
    "random": SimpleNamespace(default_rng=_Random),
    "empty": cupy_space.empty,
    "cuda": SimpleNamespace(
        Device=lambda _: CARD, runtime=SimpleNamespace(getDeviceCount=lambda: 1)
    ),
}.items():
    setattr(cupy, _key, _value)


@contextmanager
def cupy_installed(patch: Any) -> Iterator[Any]:
    """Within this context `cupy` can be imported, and array-api-compat knows its arrays."""
    patch.setitem(sys.modules, "cupy", cupy)
    patch.setitem(sys.modules, "array_api_compat.cupy", cupy_space)
    yield cupy
