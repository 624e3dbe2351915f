"""Kinds of arguments, and the values that an argument of each kind must refuse.

`POOL` holds values of every type. A kind says which of them are right, and adds wrong values of its
own: numbers out of range, arrays of another size, a class in place of an object.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

import ekitools as ek


def nothing() -> None:
    """A function without arguments."""


POOL: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "True": lambda: True,
    "NumPy's True": lambda: np.True_,
    "zero": lambda: 0,
    "minus one": lambda: -1,
    "2.5": lambda: 2.5,
    "NaN": lambda: math.nan,
    "infinity": lambda: math.inf,
    "minus infinity": lambda: -math.inf,
    "complex": lambda: 1j,
    "decimal": lambda: Decimal("0.5"),
    "text": lambda: "nonsense",
    "empty text": lambda: "",
    "number as text": lambda: "2",
    "bytes": lambda: b"2",
    "empty list": list,
    "list of None": lambda: [None],
    "nested list": lambda: [[[]]],
    "ragged list": lambda: [[1.0, 2.0], [3.0]],
    "list of texts": lambda: ["a", "b"],
    "five numbers": lambda: [1.0, 2.0, 3.0, 4.0, 5.0],
    "five by five": lambda: np.eye(5),
    "dict": lambda: {"a": 1.0},
    "set": lambda: {1.0},
    "object": object,
    "class": lambda: dict,
    "function": lambda: nothing,
    "module": lambda: math,
    "date": lambda: np.datetime64("2020-01-01"),
    "duration": lambda: np.timedelta64(1, "s"),
    "day": lambda: dt.date(2020, 1, 1),
    "masked array": lambda: np.ma.masked_array([1.0, 2.0, 3.0], [False, True, False]),
    "array of texts": lambda: np.array(["a", "b"]),
    "array of objects": lambda: np.array([None, {}], dtype=object),
    "array of dates": lambda: np.array(["2020-01-01"], dtype="M8[D]"),
    "complex array": lambda: np.array([1j, 2j]),
    "array with NaN": lambda: np.array([1.0, math.nan]),
    "empty array": lambda: np.empty(0),
    "array of 5 dimensions": lambda: np.ones((1, 1, 1, 1, 7)),
    "Dataset": xr.Dataset,
    "iterator": lambda: iter(()),
}
"""Values of every type, by what they are; made anew every time."""


class Kind(NamedTuple):
    """What an argument has to be."""

    name: str
    right: tuple[str, ...] = ()
    """The entries of `POOL` that are right."""
    wrong: tuple[Callable[[], Any], ...] = ()
    """Further values that are wrong."""
    errors: tuple[type[Exception], ...] = (TypeError, ValueError)
    free: str = ""
    """Why every value is right."""
    elsewhere: bool = False
    """Whether the argument has a row of its own."""

    def values(self) -> Iterator[tuple[str, Any]]:
        """Every wrong value with its name."""
        if self.free:
            return
        for label, make in POOL.items():
            if label not in self.right:
                yield label, make()
        for make in self.wrong:
            value = make()
            yield f"{value!r:.60}", value

    def but(self, *right: str) -> Kind:
        """The same kind, for which some more entries of `POOL` are right."""
        return self._replace(right=(*self.right, *right))

    def without(self, *right: str) -> Kind:
        """The same kind, for which some fewer entries of `POOL` are right."""
        return self._replace(right=tuple(label for label in self.right if label not in right))

    def also(self, *wrong: Any) -> Kind:
        """The same kind with further wrong values."""
        return self._replace(wrong=(*self.wrong, *_constants(wrong)))


def _constants(values: Any) -> list[Callable[[], Any]]:
    return [partial(lambda value: value, value) for value in values]


def kind(name: str, *wrong: Any, right: tuple[str, ...] = ()) -> Kind:
    """A kind with wrong values of its own."""
    return Kind(name, right, tuple(_constants(wrong)))


def made(name: str, *wrong: Callable[[], Any], right: tuple[str, ...] = ()) -> Kind:
    """A kind whose wrong values are made when they are needed."""
    return Kind(name, right, wrong)


def optional(of: Kind) -> Kind:
    """The same kind, or None."""
    return of.but("None")


def anything(reason: str) -> Kind:
    """An argument for which every value is right, and why."""
    return Kind("anything", free=reason)


def elsewhere() -> Kind:
    """An argument that goes with other right values, and so has a row of its own."""
    return Kind("anything", free="another row has it", elsewhere=True)


def integer(least: int | None = 1, most: int | None = None) -> Kind:
    """An integer within bounds."""
    right = {None: ("zero", "minus one"), -1: ("zero", "minus one"), 0: ("zero",)}.get(least, ())
    wrong: list[Any] = [2.0, np.float64(3), [2], np.array([1, 2]), 1 + 0j, (3,), "1e3"]
    wrong += [] if least is None else [least - 1, -(10**6)]
    wrong += [] if most is None else [most + 1, 10**6, 10**30]
    return kind("integer", *wrong, right=right)


_NO_NUMBERS = ([0.5], np.ones(2), "0.5", np.array(["1"]), (0.5, 1.0))
_TOO_LARGE = 10**400  # for a float

POSITIVE = kind("positive number", -0.5, *_NO_NUMBERS, _TOO_LARGE, right=("2.5",))
POSITIVE_OR_INFINITE = kind("positive number", -0.5, *_NO_NUMBERS, right=("2.5", "infinity"))
NUMBER = kind("number", *_NO_NUMBERS, _TOO_LARGE, right=("2.5", "zero", "minus one"))
SHARE = kind("share", 1, 1.5, -0.5, *_NO_NUMBERS, "half")
COUNT = integer()
FLAG = kind("flag", 1, 1.0, "yes", "no", [True], np.int64(1), right=("True", "NumPy's True"))
CHOICE = kind("choice", "Drop", "auto ", b"drop", ["drop"], ("a",))
RNG = kind("rng", "seed", [-1], 1.5, np.float64(1), (1, "a"), [0.5], right=("None", "zero"))
PATH = kind("path", ["x"], 3, b"x", ("a", "b"), Path, "\0", right=("text", "number as text"))
TEXT = kind("text", ["x"], 3, b"x", ("a",), str, right=("text", "number as text"))
FUNCTION = kind("function", 3, "f", [nothing], {"f": nothing}, right=("class", "function"))
OF_ARGUMENTS = FUNCTION.without("function")
"""A function that takes arguments."""
AXES = kind("Axes", "ax", 3, [None], {"ax": None}, (1, 2), right=("None",))
NAMES = kind(
    "names", "ab", b"ab", ["a"], ["a", "a"], ["a", ""], ["a", None], ["a", math.nan], {"a", "b"}
)
COVARIANCE = kind(
    "covariance",
    [1.0, -1.0],
    [0.0, 0.0],
    [[1.0, 2.0], [2.0, 1.0]],
    [[1.0, 0.5], [0.0, 1.0]],
    np.eye(4)[:3],
    np.ones((2, 2)),
    (np.ones(2),),
    (np.ones(2), np.ones((3, 1))),
    (np.ones(2), np.ones((2, 1)), 1.0),
    "identity",
    np.zeros((0, 0)),
    right=("2.5",),
)
SD = kind(
    "standard deviations",
    *(-0.5, [1.0, 1.0, -1.0], [0.0, 1.0, 1.0], "0.5", [[1.0, 1.0, 1.0]], 1e-200, 1e200),
    *([1.0, math.nan, 1.0], np.ones((3, 3)), (np.ones(3), np.ones((3, 1))), _TOO_LARGE),
    right=("None", "2.5"),  # None leaves it to the covariance
)
KEPT = kind(
    "mask or indices",
    *([True], [False, False, False], [3], [-1], [0, 0], [1.0], ["0"], [[True, True, True]]),
    *(range(4), (True, False), {0, 1}, slice(None)),
)
"""Of three data."""
SIZE_OR_NAMES = kind(
    "number or names",
    *("ab", b"ab", ["a", "a"], ["a", ""], ["a", None], ["a", 3], {"a", "b"}, [["a"]], 2.0, "2"),
    right=("list of texts", "array of texts"),
)
TRANSFORM = kind(
    "transform",
    *("log", "bounded", ("bounded", 0.0), ("bounded", 1.0, 0.0), ("bounded", 0.0, math.inf)),
    *(("bounded", "0", "1"), ("exp", 0.0, 1.0), ("bounded", None, 1.0), np.exp, ["exp"]),
    right=("None",),
)
STORE = kind("store", 0, 2.0, "none", "All", b"all", ["all"], (1, 2))
LOCALIZATION = kind(
    "rule of localization", 3.0, "distance", {0: 0}, ("Correlation",), ek.localization.Correlation
)
TIMES = kind(
    "times",
    [-1.0, 1.0],
    [math.nan],
    [[0.0, 1.0]],
    ["0", "1"],
    right=("zero", "2.5", "five numbers"),
)


def array(
    *shape: int, lists: bool = True, sized: bool = True, gaps: bool = False, dates: bool = False
) -> Kind:
    """Real numbers in this shape.

    Parameters
    ----------
    shape : int
        Of the right call.
    lists : bool
        Whether a list is right too, and not only an array.
    sized : bool
        Whether another length of the last axis is wrong.
    gaps : bool
        Whether masked entries are right: they are missing.
    dates : bool
        Whether dates are right too.
    """
    rows = np.ones(shape)
    wrong: list[Any] = [rows.astype(dtype) for dtype in (complex, str, object, "m8[s]")]
    wrong += [] if dates else [rows.astype("M8[s]")]
    wrong += [] if gaps else [np.ma.masked_array(rows, rows > 0)]
    if sized:
        wrong += [rows[..., :-1], np.concatenate([rows, rows, rows], axis=-1)]
    if lists:
        wrong.append(rows[..., :0])
    else:
        wrong.append(rows.tolist())
    fits = {1: ("five numbers",), 2: ("five by five",)}.get(len(shape), ())
    return kind("array", *wrong, right=() if sized else fits)
