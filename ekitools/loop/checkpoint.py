"""The state of a run as JSON and plain arrays, without pickle, and its reconstruction."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from ekitools.core.arrays import host, like
from ekitools.core.errors import CheckpointError
from ekitools.loop.ensemble import StoredEnsemble, reopened
from ekitools.loop.index import FORMAT
from ekitools.loop.scratch import Scratch

__all__ = ["FORMAT", "check_same", "pack", "unpack"]


def check_same(
    path: Path,
    meta: Mapping[str, Any],
    fingerprint: Mapping[str, str],
    given: Mapping[str, str | None],
) -> None:
    """Refuse a checkpoint of another problem, method or stopping rules, and name the differences.

    ``given`` has the JSON of the arguments ``method`` and ``stop``, None if they are left out.

    The model is not compared, because it may be another object that computes the same.
    """
    was = meta["problem"]
    parts = dict.fromkeys((*was, *fingerprint))
    differing = [p for p in parts if p != "model" and fingerprint.get(p) != was.get(p)]
    if differing:
        raise CheckpointError(
            f"problem: differs from the one of {path} in its {', '.join(differing)}. "
            "Resume with the same problem, or start a new run."
        )
    for name, now in given.items():
        if now not in (None, meta[name]):
            raise CheckpointError(
                f"{name}: differs from the one of {path}: {meta[name]} there, {now} now. "
                f"Resume without {name}=, or start a new run."
            )


def pack(state: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """A NamedTuple of arrays, numbers, texts, None, tuples and NamedTuples as JSON and arrays."""
    arrays: dict[str, np.ndarray] = {}

    def walk(value: Any, name: str) -> Any:
        if hasattr(value, "_fields"):
            fields = {f: walk(getattr(value, f), f"{name}.{f}") for f in value._fields}
            return {"fields": fields}
        if isinstance(value, StoredEnsemble):
            return {"stored": value.described()}
        if hasattr(value, "shape"):
            arrays[name] = host(value)
            return {"array": name}
        if isinstance(value, tuple):
            return [walk(item, f"{name}.{i}") for i, item in enumerate(value)]
        return value

    return walk(state, "state"), arrays


def unpack(
    hint: Any,
    packed: Any,
    arrays: Mapping[str, np.ndarray],
    reference: Any,
    scratch: Scratch | None = None,
) -> Any:
    """Rebuild the value that `pack` converted.

    ``hint`` is the class of a state; the annotations of its fields name the NamedTuples within.
    Arrays come back in the namespace and on the device of ``reference``. Fields annotated as NumPy
    arrays stay on the host. An ensemble on disk belongs to the ``scratch`` folder.
    """
    if not isinstance(packed, dict):
        _check_plain(hint, packed)
    if isinstance(packed, list):
        (inner, *_) = (*get_args(hint), Any)
        return tuple(unpack(inner, item, arrays, reference, scratch) for item in packed)
    if not isinstance(packed, dict):
        return packed
    if "stored" in packed and scratch is not None:
        return reopened(scratch, packed["stored"])
    if "array" in packed:
        array = arrays[packed["array"]]
        on_host = isinstance(reference, np.ndarray) or np.ndarray in (hint, *get_args(hint))
        return array if on_host else like(array, reference)
    kind, parameters = _named_tuple(hint, packed["fields"])
    try:
        hints = get_type_hints(kind)
    except NameError:  # a class inside a function: only the classes nested in it cannot be found
        hints = {}
    return kind(
        **{
            name: unpack(
                _known(hints.get(name, Any), parameters), value, arrays, reference, scratch
            )
            for name, value in packed["fields"].items()
        }
    )


def _named_tuple(hint: Any, fields: Mapping[str, Any]) -> tuple[Any, dict[Any, Any]]:
    """The NamedTuple class that an annotation names, and the values of its type parameters."""
    for each in (hint, *get_args(hint)):
        kind = get_origin(each) or each
        if isinstance(kind, type) and getattr(kind, "_fields", None) == tuple(fields):
            parameters = getattr(kind, "__parameters__", ())
            return kind, dict(zip(parameters, get_args(each), strict=False))
    raise CheckpointError(
        f"method: its State must name the NamedTuple with the fields {', '.join(fields)}, got "
        f"{hint!r}. Annotate the field of the state with that class, and define the class at the "
        "top of a module."
    )


def _check_plain(hint: Any, value: Any) -> None:
    """Check a number, a text or None against an annotation that consists of such types only."""
    named = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    kinds = {float if kind in (int, bool) else kind for kind in named}
    kind = float if isinstance(value, int) else type(value)
    if kinds <= {float, str, NoneType} and kind not in kinds:
        raise CheckpointError(
            f"method: its State has a field annotated as {hint!r}, and the checkpoint holds "
            f"{value!r:.80}. Annotate the field with the types of its values. If it is annotated "
            "so, the checkpoint is damaged: restore it from a copy."
        )


def _known(hint: Any, parameters: Mapping[Any, Any]) -> Any:
    """The annotation, or the value of a type parameter."""
    return parameters.get(hint, hint) if isinstance(hint, TypeVar) else hint
