"""``checkpoint.json``: the commit point of a checkpoint, with a SHA-256 of everything.

The file lists the other files with their committed sizes and digests. Its last entry is the
SHA-256 of the bytes before that entry. The file does not grow with the iteration.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ekitools.core.checks import flag, integer, number, one_of
from ekitools.core.draws import PLACES
from ekitools.core.errors import CheckpointError
from ekitools.loop.checks import checked_store
from ekitools.loop.disk import INDEX, File, damaged, is_name, opened
from ekitools.loop.policies import POLICIES
from ekitools.models.extras import Labels

__all__ = ["FORMAT", "KINDS", "encoded", "listed", "parsed", "read_index"]

FORMAT = 4
KINDS = ("state", "history", "records")
"""The files that a checkpoint lists."""

_LARGEST = 1 << 26
"""Largest number of bytes of an index that is read."""

_SIGNED = re.compile(rb'(.*), "sha256": "([0-9a-f]{64})"\}\n', re.DOTALL)


def encoded(meta: Mapping[str, Any]) -> bytes:
    """The content of ``checkpoint.json``.

    Raises
    ------
    CheckpointError
        If JSON cannot hold it.
    """
    try:
        body = json.dumps({"format": FORMAT, **meta}).encode()[:-1]
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"checkpoint: cannot hold the state of the method ({error}). Give the method a State "
            "of arrays, numbers, texts, None and tuples of them."
        ) from error
    data = body + b', "sha256": "' + hashlib.sha256(body).hexdigest().encode() + b'"}\n'
    if len(data) > _LARGEST:
        raise CheckpointError(
            f"checkpoint: the options and the state of the method take {len(data)} bytes as JSON, "
            f"more than {_LARGEST}. Keep large values of the state in arrays."
        )
    return data


def read_index(folder: Path) -> bytes | None:
    """The bytes of ``checkpoint.json``; None if there is no such file."""
    try:
        with opened(folder, INDEX) as file:
            size = os.fstat(file.fileno()).st_size
            if size <= _LARGEST:
                return file.read(size + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise damaged(folder / INDEX, error.strerror or error) from error
    raise damaged(folder / INDEX, f"it has {size} bytes")


def listed(files: Mapping[str, File]) -> dict[str, Any]:
    """The entry for the files of a checkpoint."""
    return {
        kind: {"name": file.name, "size": file.size, "sha256": file.digest.hexdigest()}
        for kind, file in files.items()
    }


def parsed(folder: Path, data: bytes) -> dict[str, Any]:
    """The checked content of ``checkpoint.json``; the files that it lists are not read.

    Raises
    ------
    CheckpointError
        If a byte was changed, an entry is missing or of the wrong type, or the format is another.
    """
    path = folder / INDEX
    match = _SIGNED.fullmatch(data)
    signed = match is not None and hashlib.sha256(match[1]).hexdigest() == match[2].decode()
    try:
        meta = json.loads(data)
        found = meta["format"]
    except (ValueError, KeyError, TypeError, RecursionError, MemoryError) as error:
        raise damaged(path, f"it is not the JSON of a checkpoint: {error!r:.200}") from error
    if found != FORMAT and (signed or "sha256" not in meta):
        version = meta.get("ekitools", "as it was")
        raise CheckpointError(
            f"path: {folder} has checkpoint format {found!s:.20}, this version of ekitools reads "
            f"format {FORMAT}. Resume with ekitools {version!s:.20}."
        )
    if not signed:
        raise damaged(path, "its content does not have the SHA-256 at its end")
    try:
        return _checked(meta)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError) as error:
        raise damaged(path, f"an entry is missing or wrong: {error}") from error


def _checked(meta: dict[str, Any]) -> dict[str, Any]:
    options = meta["options"]
    kinds = {
        "ekitools": str,
        "problem": dict,
        "method": str,
        "stop": str,
        "options": dict,
        "labels": dict,
        "seed": list,
        "start": str,
        "n_members": int,
        "model_runs": int,
        "counts": list,
        "blocks": list,
        "spent": bool,
    }
    for name, kind in kinds.items():
        if type(meta[name]) is not kind:
            raise TypeError(f"{name} must be of type {kind.__name__}, got {meta[name]!r:.80}")
    _check_all("problem", meta["problem"].values(), str)
    _check_all("blocks", meta["blocks"], str)
    meta["labels"] = {name: Labels.of_json(entry) for name, entry in meta["labels"].items()}
    _check_all("counts", meta["counts"], int, length=3)
    _check_all("seed", meta["seed"], int, length=4)
    if not all(0 <= word < 2**32 for word in meta["seed"]) or min(meta["counts"]) < 0:
        raise ValueError("seed or counts has a number out of its range")
    if not re.fullmatch("[0-9]*", meta.setdefault("rng", "")):
        raise ValueError(f"rng must be digits, got {meta['rng']!r:.80}")
    if type(meta["seconds"]) not in (int, float):
        raise TypeError(f"seconds must be a number, got {meta['seconds']!r:.80}")
    if meta["status"] is not None:
        code, sentence, level, posterior = meta["status"]
        _check_all("status", (code, sentence, level), str)
        flag("status", posterior)
    one_of("start", meta["start"], ("prior", "ensemble", "method"))
    for name in ("scratch", "members_file"):
        meta.setdefault(name, None)
        if not isinstance(meta[name], str | None):
            raise TypeError(f"{name} must be a text, got {meta[name]!r:.80}")
    if meta.setdefault("kind", None) is not None:
        _check_all("kind", meta["kind"], str, length=3)
    integer("n_members", meta["n_members"], least=2)
    integer("model_runs", meta["model_runs"], least=0)
    meta["options"] = {
        "n_steps": integer("n_steps", options["n_steps"], least=0),
        "on_failure": one_of("on_failure", options["on_failure"], POLICIES),
        "store": checked_store(options["store"]),
        "evaluate_final": flag("evaluate_final", options["evaluate_final"]),
        "missing": number("missing", options["missing"], least=0, below=1),
        "draws": one_of("draws", options.get("draws", "host"), PLACES),
    }
    if not {"state", "files"} <= set(meta) or set(meta["files"]) != set(KINDS):
        raise KeyError("state or files")
    for file_kind, entry in meta["files"].items():
        _check_file(file_kind, **entry)
    return meta


def _check_file(kind: str, name: Any, size: Any, sha256: Any) -> None:
    """Check an entry of ``files``: a plain name within the folder, a size and a digest."""
    if not is_name(kind, name):
        raise ValueError(f"{name!r:.80} is not the name of a {kind} file")
    integer("size", size, least=0)
    if not isinstance(sha256, str) or not re.fullmatch("[0-9a-f]{64}", sha256):
        raise ValueError(f"{sha256!r:.80} is not a SHA-256")


def _check_all(name: str, values: Any, kind: type, length: int | None = None) -> None:
    values = list(values)
    if length not in (None, len(values)) or any(type(value) is not kind for value in values):
        raise TypeError(f"{name} has entries of the wrong type or number")
