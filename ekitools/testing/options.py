"""Check of options: a frozen dataclass that results and checkpoints can record."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from typing import Any

import numpy as np

from ekitools.core.options import from_json, to_json
from ekitools.testing.promises import broken, calling

__all__ = ["check_options", "fresh", "rebuilt"]

_KINDS = "Use numbers, texts, tuples, functions and frozen dataclasses as options."


def check_options(options: Any, what: str) -> None:
    """Check that options are frozen, comparable, hashable, and survive pickle and JSON.

    Examples
    --------
    >>> import ekitools as ek
    >>> from ekitools.testing.options import check_options
    >>> check_options(ek.FixedStep(0.1), "a step rule")
    """
    name = type(options).__name__
    if not dataclasses.is_dataclass(options):
        raise broken(
            "options",
            f"{what} must be a frozen dataclass of its options",
            f"the plain class {name}",
            "Decorate the class with @dataclass(frozen=True).",
        )
    if not getattr(type(options), "__dataclass_params__").frozen:  # noqa: B009 - mypy
        raise broken(
            "options",
            f"{what} must be a frozen dataclass of its options",
            f"the dataclass {name}, whose fields can be assigned",
            "Decorate the class with @dataclass(frozen=True).",
        )
    _check_comparable(options, copy.copy(options), "a copy", what)
    with calling("options", f"{what} must be hashable", _KINDS):
        hash(options)
    with calling(
        "options",
        f"{what} must survive pickle",
        "Define the class, and the functions among its options, at the top of a module.",
    ):
        pickled = pickle.loads(pickle.dumps(options))
    _check_comparable(options, pickled, "what pickle returns", what)
    _check_json(options, pickled, what)


def rebuilt(options: Any) -> Any:
    """The options that `from_json` rebuilds; None where it cannot."""
    try:
        return from_json(to_json(options))
    except (TypeError, ValueError):
        return None


def fresh(options: Any) -> Any:
    """Options made anew from their fields, as in another process: nothing else is kept."""
    try:
        return dataclasses.replace(options)
    except (TypeError, ValueError):  # an argument of its __init__ is no field
        return copy.copy(options)


def _check_comparable(options: Any, other: Any, which: str, what: str) -> None:
    rule = f"{what} must be comparable by =="
    with calling("options", rule, _KINDS):
        same = bool(other == options)
    if not same:
        raise broken("options", rule, f"{which} that is not equal to the original", _KINDS)


def _check_json(options: Any, pickled: Any, what: str) -> None:
    rule = f"{what} must have the same JSON whenever it is written"
    with calling("options", rule, _KINDS):
        text = to_json(options)
        json.loads(text)
        again = {to_json(options), to_json(pickled), to_json(fresh(options))}
    if again != {text}:
        raise broken("options", rule, f"{next(iter(again - {text}))} after {text}", _KINDS)
    if unrecorded := _unrecorded(options):
        raise broken(
            "options",
            f"{what} must be recorded whole in a result",
            f"an object of the class {unrecorded}, of which JSON holds only the name",
            "Make that class a frozen dataclass.",
        )


def _unrecorded(value: Any) -> str:
    """The class of an option of which JSON would hold only the name; empty where there is none."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = (_unrecorded(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init)
        return next(filter(None, parts), "")
    if isinstance(value, tuple):
        return next(filter(None, map(_unrecorded, value)), "")
    plain = value is None or isinstance(value, bool | int | float | str | np.generic)
    if plain or hasattr(value, "shape") or hasattr(value, "__qualname__"):
        return ""
    stateless = hasattr(value, "__dict__") and not vars(value)
    return "" if stateless else type(value).__name__
