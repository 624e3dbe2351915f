"""Summaries and failures in a file: one line of JSON each, appended and never changed.

A line holds its position in the list. An iteration that is computed again, after a spent budget was
extended, is appended again. A line replaces earlier lines with the same or a later position.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ekitools.core.errors import CheckpointError
from ekitools.loop.disk import File, Sink, damaged, reading
from ekitools.results.history import Summary

__all__ = ["read_lines", "write_lines"]

_KINDS = ("summary", "failure")


def write_lines(
    sink: Sink,
    summaries: Sequence[Summary],
    failures: Sequence[dict[str, Any]],
    *,
    start: tuple[int, int],
) -> None:
    """Write the summaries and the failures from the two positions ``start`` on."""
    for kind, values, first in zip(_KINDS, (summaries, failures), start, strict=True):
        for position in range(first, len(values)):
            line = json.dumps([kind, position, values[position]], default=_plain)
            sink.write(line.encode() + b"\n")


def read_lines(
    folder: Path, file: File, counts: tuple[int, int]
) -> tuple[list[Summary], list[dict[str, Any]]]:
    """The summaries and the failures of a file, with their numbers given by ``counts``.

    Raises
    ------
    CheckpointError
        If `write_lines` cannot have written a line, or if lines are missing.
    """
    lists: dict[str, list[Any]] = {kind: [] for kind in _KINDS}
    n_lines = 0
    with reading(folder, file) as stream:
        while stream.tell() < file.size:
            n_lines += 1
            text = stream.readline(file.size - stream.tell())
            try:
                _replay(lists, *json.loads(text))
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                why = f"line {n_lines} is not an iteration or a failure: {error}"
                raise damaged(folder / file.name, why) from error
    for kind, count in zip(_KINDS, counts, strict=True):
        if len(lists[kind]) < count:
            why = f"it holds {len(lists[kind])} of {count} lines of the kind {kind}"
            raise damaged(folder / file.name, why)
    return lists["summary"][: counts[0]], lists["failure"][: counts[1]]


def _replay(lists: dict[str, list[Any]], kind: str, position: int, value: Any) -> None:
    values = lists[kind]
    if type(position) is not int or not 0 <= position <= len(values):
        raise ValueError(f"position {position!r}")
    parsed = _summary(value) if kind == "summary" else _failure(value)
    del values[position:]
    values.append(parsed)


def _summary(value: Any) -> Summary:
    *numbers, extra = value
    if len(numbers) != len(Summary._fields) - 1:
        raise ValueError(f"{len(numbers)} numbers")
    for number in numbers:
        _check_number(number)
    if type(numbers[Summary._fields.index("model_runs")]) is not int:
        raise TypeError("model_runs is not an integer")
    if not isinstance(extra, dict):
        raise TypeError(f"{extra!r}")
    for number, long_name, *curve in extra.values():
        for each in (number, *(x for pairs in curve for pair in pairs for x in pair)):
            _check_number(each)
        if not isinstance(long_name, str):
            raise TypeError(f"{long_name!r} is not a name")
    return Summary.of(value)


def _failure(value: Any) -> dict[str, Any]:
    kinds = {"iteration": int, "member": int, "reason": str}
    found = {k: type(v) for k, v in value.items()} if isinstance(value, dict) else {}
    if found.get("replaced") is bool:
        kinds |= {"replaced": bool, **({"u": list} if "u" in found else {})}
    if found != kinds or any(type(x) not in (float, type(None)) for x in value.get("u", ())):
        raise ValueError(f"{value!r}")
    return value


def _check_number(value: Any) -> None:
    if not isinstance(value, float | bool) and not (type(value) is int and abs(value) < 2**53):
        raise TypeError(f"{value!r:.80} is not a number")


def _plain(value: Any) -> Any:
    """A NumPy number, which a method may report, as a Python number."""
    if isinstance(value, np.generic):
        return value.item()
    raise CheckpointError(
        f"checkpoint: cannot hold {value!r:.80}, which the method reports of a step. Let the "
        "method report numbers."
    )
