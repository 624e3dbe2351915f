"""Damaged outputs that a `CommandModel` has stored.

ekitools withstands an attack if the model returns bitwise the output of its program, and warns of
every file that it did not use.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from attack_tools import Row, tally

from ekitools.adapters.command import CommandModel

U, OTHER = np.array([0.1, -2.5]), np.array([3.0, 4.0])


def model_in(folder) -> CommandModel:
    """A program that copies its input."""
    return CommandModel(
        ["cp", "input.txt", "output.json"],
        ["a", "b"],
        folder,
        "output.json",
        inputs={"input.txt": "[${a}, ${b}]"},
    )


def outcome(model, path, put) -> str | None:
    """None where ``put`` has spoiled the stored output and the model does not mind."""
    put(path)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            found = model(U)
        except Exception as error:
            return f"{error!r:.200}"
    if not np.array_equal(found, U):
        return f"{found} became data"
    return None if [each.category for each in warned] == [RuntimeWarning] else "no warning"


def flips(genuine, other) -> Iterator[bytes]:
    for at in range(8 * len(genuine)):
        changed = bytearray(genuine)
        changed[at // 8] ^= 1 << at % 8
        yield bytes(changed)


def cuts(genuine, other) -> Iterator[bytes]:
    size = genuine.rfind(b"\nsha256 ")  # what earlier versions have written: a whole array
    yield from (genuine[:length] for length in range(len(genuine)) if length != size)


def others(genuine, other) -> Iterator[bytes]:
    """The output of another member, other arrays, and what is no array."""
    yield from (other, b"", b"\0" * len(genuine), b"{}", genuine * 2, genuine[1:], b"\x93NUMPY")


def kinds(genuine, other) -> Iterator[Callable[[Path], Any]]:
    yield from (os.mkfifo, lambda path: path.symlink_to(path))


ATTACKS = {
    "a bit of a stored output of CommandModel is flipped": flips,
    "a stored output is cut at every length": cuts,
    "a stored output is that of another member, or none": others,
    "a stored output is a pipe, or a link to itself": kinds,
}


def outcomes(folder, attack, stride=1) -> Iterator[str | None]:
    model = model_in(folder)
    model(OTHER)
    (path,) = folder.glob("results/*.npy")
    other = path.read_bytes()
    path.unlink()
    model(U)
    (path,) = folder.glob("results/*.npy")
    for number, put in enumerate(attack(path.read_bytes(), other)):
        if number % stride == 0:
            write = put if callable(put) else lambda p, content=put: p.write_bytes(content)
            yield outcome(model, path, lambda p, write=write: (p.unlink(), write(p)))


def attack(*, quick=False, report=print) -> list[Row]:
    """A row for every way to damage a stored output."""
    rows = []
    for title, each in ATTACKS.items():
        with tempfile.TemporaryDirectory() as scratch:
            stride = 41 if quick and each in (flips, cuts) else 1
            rows.append(tally(title, outcomes(Path(scratch), each, stride), report))
    return rows
