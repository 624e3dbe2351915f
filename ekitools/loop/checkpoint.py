"""Checkpoints: a folder of plain arrays and one JSON file, without pickle.

``checkpoint.json`` is the commit point. Arrays are written first, each to a temporary file
that is flushed and renamed; the JSON file that names them is replaced last, atomically.
A process killed at any moment leaves the previous checkpoint or the new one, and at most
some files that nothing names, which the next write removes.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar, get_args, get_origin, get_type_hints

import numpy as np

from ekitools.core.arrays import host, like
from ekitools.core.errors import CheckpointError

__all__ = ["FORMAT", "check_same", "pack", "read", "read_arrays", "unpack", "write"]

FORMAT = 3
_INDEX = "checkpoint.json"


def write(
    path: Path, meta: Mapping[str, Any], arrays: Mapping[str, Mapping[str, np.ndarray]]
) -> None:
    """Add files of arrays to the folder ``path``, then commit ``meta``, then tidy up.

    ``meta["files"]`` lists every file of arrays that the checkpoint consists of: the new
    ones, given in ``arrays``, and those already there.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        for name, bundle in arrays.items():
            with _replacing(path / f"{name}.npz") as file:
                np.savez(file, allow_pickle=False, **bundle)
        with _replacing(path / _INDEX) as file:
            file.write(json.dumps({"format": FORMAT, **meta}).encode())
        named = {f"{name}.npz" for name in meta["files"]} | {_INDEX}
        for stray in path.iterdir():
            if stray.name not in named and stray.suffix in (".npz", ".tmp"):
                stray.unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"checkpoint: cannot write to {path} ({error.strerror or error}). The last complete "
            "checkpoint, if any, is untouched; free space or choose another folder."
        ) from error


def read(path: Path) -> dict[str, Any]:
    """The committed ``meta`` of the checkpoint at ``path``."""
    index = path / _INDEX
    if not index.is_file():
        raise CheckpointError(f"path: must be a checkpoint folder, got {path} without a {_INDEX}.")
    try:
        meta = json.loads(index.read_text())
        found = meta["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"path: {index} is damaged ({error!r}). Start the run anew."
        ) from error
    if found != FORMAT:
        raise CheckpointError(
            f"path: {path} has checkpoint format {found}, this version of ekitools reads format "
            f"{FORMAT}. Resume with ekitools {meta.get('ekitools', 'as it was')}."
        )
    return dict(meta)


def read_arrays(path: Path, name: str) -> dict[str, np.ndarray]:
    """The arrays of one file of the checkpoint; their check sums are verified."""
    file = path / f"{name}.npz"
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as bundle:
            return {key: bundle[key] for key in bundle.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"path: {file} is missing or damaged ({error}). Restore it, or start the run anew."
        ) from error


def check_same(
    path: Path,
    meta: Mapping[str, Any],
    fingerprint: Mapping[str, str],
    given: Mapping[str, str | None],
) -> None:
    """Refuse a checkpoint of another problem, method or stopping rules, saying what differs.

    ``given`` has the JSON of the arguments ``method`` and ``stop``, None where they are left out.

    The model is not compared: it may be another object that computes the same.
    """
    was = meta["problem"]
    differing = [part for part in was if part != "model" and fingerprint[part] != was[part]]
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
        if hasattr(value, "shape"):
            arrays[name] = host(value)
            return {"array": name}
        if isinstance(value, tuple):
            return [walk(item, f"{name}.{i}") for i, item in enumerate(value)]
        return value

    return walk(state, "state"), arrays


def unpack(hint: Any, packed: Any, arrays: Mapping[str, np.ndarray], reference: Any) -> Any:
    """Rebuild what `pack` took apart.

    ``hint`` is the class of a state; the annotations of its fields name the NamedTuples within.
    Floating arrays come back in the namespace and on the device of ``reference``.
    """
    if isinstance(packed, list):
        (inner, *_) = (*get_args(hint), Any)
        return tuple(unpack(inner, item, arrays, reference) for item in packed)
    if not isinstance(packed, dict):
        return packed
    if "array" in packed:
        array = arrays[packed["array"]]
        return array if isinstance(reference, np.ndarray) else like(array, reference)
    kind, parameters = _named_tuple(hint, packed["fields"])
    try:
        hints = get_type_hints(kind)
    except NameError:  # a class defined within a function: only what it nests cannot be found
        hints = {}
    return kind(
        **{
            name: unpack(_known(hints.get(name, Any), parameters), value, arrays, reference)
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


def _known(hint: Any, parameters: Mapping[Any, Any]) -> Any:
    """The annotation, or what a type parameter stands for."""
    return parameters.get(hint, hint) if isinstance(hint, TypeVar) else hint


@contextmanager
def _replacing(target: Path) -> Iterator[IO[bytes]]:
    """Write ``target`` so that it is seen whole or not at all, even after a power cut."""
    temporary = target.with_name(target.name + ".tmp")
    with temporary.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(target)
    if os.name == "posix":  # the rename itself lives in the folder
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
