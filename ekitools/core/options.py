"""Methods and rules as JSON, for results and checkpoints."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np

from ekitools._public import lookup
from ekitools.core.arrays import digest

__all__ = ["from_json", "to_json"]


def to_json(options: Any) -> str:
    """Write a frozen dataclass of options, nested ones included, as JSON.

    Examples
    --------
    >>> import ekitools as ek
    >>> from ekitools.core.options import to_json
    >>> to_json(ek.FixedStep(0.5))
    '{"type": "FixedStep", "h": 0.5}'
    """
    return json.dumps(_encode(options))


def from_json(text: str) -> Any:
    """Rebuild an object of a public class of ekitools from the JSON that `to_json` wrote.

    Raises
    ------
    ValueError
        If a class is not a public class of ekitools. The caller must then pass the object.

    Examples
    --------
    >>> from ekitools.core.options import from_json
    >>> from_json('{"type": "FixedStep", "h": 0.5}')
    FixedStep(h=0.5)
    """
    return _decode(json.loads(text))


def _encode(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = (f for f in dataclasses.fields(value) if f.init)
        return {"type": _name(type(value))} | {
            f.name: _encode(getattr(value, f.name)) for f in fields
        }
    if isinstance(value, tuple | list):
        return [_encode(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if hasattr(value, "shape"):
        return {"type": "array", "digest": digest(value)}
    named = value if hasattr(value, "__qualname__") else type(value)
    return {"type": f"{named.__module__}.{named.__qualname__}"}


def _name(cls: type) -> str:
    """The public name of a class, or its full path if the class is not public."""
    inner = ".".join((*cls.__module__.split(".")[1:2], cls.__name__))  # of a public module
    public = (name for name in (cls.__name__, inner) if lookup(name) is cls)
    return next(public, f"{cls.__module__}.{cls.__qualname__}")


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_decode(item) for item in value)
    if not isinstance(value, dict):
        return value
    name = value["type"]
    cls = lookup(name)
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        raise ValueError(f"{name} is not a public class of ekitools and cannot be rebuilt.")
    return cls(**{key: _decode(item) for key, item in value.items() if key != "type"})
