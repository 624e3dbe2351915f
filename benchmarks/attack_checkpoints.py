"""Damaged and forged checkpoints: the number of attacks, and how many ekitools withstands.

    python benchmarks/attacks.py --only bytes

Every attack changes one small checkpoint and loads it. ekitools withstands an attack on bytes if
the load ends in a `CheckpointError` that names the damaged file. An attack with new digests also
rewrites the SHA-256 of the changed files. ekitools withstands it if the load ends in a
`CheckpointError`. If the changed values have the right types, the run may also continue from them,
or its next step may refuse them by a `ValueError` or a `RunError`. No other exception is allowed.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from attack_tools import Row, tally

import ekitools as ek
from ekitools.loop.index import encoded

INDEX = "checkpoint.json"
JUNK = (None, True, -1, 10**30, 1e308, "", "x", [], [[[]]], {}, {"array": "y"}, {"fields": {}})
"""Values that take the place of every value of checkpoint.json."""


Changes = Iterator[tuple[str | None, dict[str, Any]]]
"""The file that an error must name, and the files of a changed checkpoint."""


class AtHand(NamedTuple):
    """Start of an attack."""

    files: dict[str, bytes]
    """The genuine checkpoint."""
    other: dict[str, bytes]
    """One of another run of the same problem."""
    stride: int = 1


def make(folder, seed=0) -> ek.InverseProblem:
    """A small checkpoint of a run that can continue, with failed members and three records."""

    def model(u) -> np.ndarray:
        return np.full(2, np.nan) if u[0] > 1.2 else np.array([u[0], u[0] + u[1]])

    prior = ek.GaussianPrior(np.zeros(2), 1.0)
    problem = ek.InverseProblem(ek.FunctionModel(model), prior, 0.1, [0.3, 0.2])
    options = {"n_members": 6, "n_steps": 9, "rng": seed, "store": 2, "on_failure": "drop"}
    loop = ek.AskTell(problem, ek.EKI(ek.FixedStep(0.1)), **options)
    for _ in range(4):
        tell(loop)
        loop.save(folder)
    return problem


def tell(loop) -> None:
    loop.tell(np.array([loop.problem.model(u) for u in loop.ask()]))


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def signed(files, **changes) -> dict[str, bytes]:
    """The files with ``changes`` (by kind) and the digests that belong to them."""
    meta = json.loads(files[INDEX])
    for key in ("format", "sha256"):
        del meta[key]
    files = dict(files)
    for kind, data in changes.items():
        entry = meta["files"][kind]
        files[entry["name"]] = data
        entry |= {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return files | {INDEX: encoded(meta)}


def of_kind(files, kind) -> bytes:
    return files[json.loads(files[INDEX])["files"][kind]["name"]]


def flipped(at_hand) -> Changes:
    files, stride = at_hand.files, at_hand.stride
    for name, data in files.items():
        for at in range(0, len(data), stride):
            changed = bytearray(data)
            changed[at] ^= 1 << (at % 8)
            yield name, files | {name: bytes(changed)}


def digits(at_hand) -> Changes:
    """Every digit of checkpoint.json becomes another digit."""
    files = at_hand.files
    data = files[INDEX]
    for at in (i for i, byte in enumerate(data) if chr(byte).isdigit()):
        digit = str((int(chr(data[at])) + 1) % 10).encode()
        yield INDEX, files | {INDEX: data[:at] + digit + data[at + 1 :]}


def truncated(at_hand) -> Changes:
    files, stride = at_hand.files, at_hand.stride
    for name, data in files.items():
        for length in range(0, len(data), stride):
            yield name, files | {name: data[:length]}


def swapped(at_hand) -> Changes:
    files = at_hand.files
    for name, data in files.items():
        for kind in ("state", "history", "records"):
            if of_kind(files, kind) != data:
                yield name, files | {name: of_kind(files, kind)}


def foreign(at_hand) -> Changes:
    """Files of another run of the same problem."""
    files, other = at_hand.files, at_hand.other
    for kind in ("state", "history", "records"):
        name = json.loads(files[INDEX])["files"][kind]["name"]
        yield name, files | {name: of_kind(other, kind)}


def absent(at_hand) -> Changes:
    files = at_hand.files
    for name in files:
        yield name, {key: data for key, data in files.items() if key != name}
        for instead in ("folder", "link", "pipe"):
            yield name, files | {name: instead}


def not_json(at_hand) -> Changes:
    files = at_hand.files
    nested = b'{"a":' * 100_000
    for text in (
        b"",
        b"{",
        b"[]",
        b"{}",
        b"null",
        b"3",
        b"\xff\xfe",
        nested,
        b"[" * 10**6,
        b"9" * 10**5,
    ):
        yield INDEX, files | {INDEX: text}


def places(value, path=()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values within JSON."""
    entries = ()
    if isinstance(value, dict):
        entries = value.items()
    elif isinstance(value, list):
        entries = enumerate(value)
    for key, inner in entries:
        yield (*path, key)
        yield from places(inner, (*path, key))


def entries(at_hand) -> Changes:
    """Every entry of checkpoint.json removed, and replaced by values of other types."""
    files = at_hand.files
    meta = {k: v for k, v in json.loads(files[INDEX]).items() if k not in ("format", "sha256")}
    for path in places(meta):
        for junk in ("remove", *JUNK):
            changed = copy.deepcopy(meta)
            inner = changed
            for key in path[:-1]:
                inner = inner[key]
            if junk == "remove":
                del inner[path[-1]]
            else:
                inner[path[-1]] = junk
            yield None, files | {INDEX: encoded(changed)}


def names(at_hand) -> Changes:
    """Listed names that lead out of the folder."""
    files = at_hand.files
    meta = {k: v for k, v in json.loads(files[INDEX]).items() if k not in ("format", "sha256")}
    for kind, entry in meta["files"].items():
        name = entry["name"]
        for forged in (
            f"../{name}",
            f"/tmp/{name}",
            f"./{name}",
            f"x/../{name}",
            "..",
            ".",
            INDEX,
            "\0",
        ):
            changed = copy.deepcopy(meta)
            changed["files"][kind]["name"] = forged
            yield INDEX, files | {INDEX: encoded(changed)}


def headers(at_hand) -> Changes:
    """Headers of arrays that claim other shapes and dtypes, with new digests."""
    files = at_hand.files
    forged = [
        f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"
        for descr in ("'<f8'", "'|O'", "'<U0'", "'|V0'", "'x'", "[('a', '<f8')]", "'<M8[s]'", "7")
        for order in ("False", "True", "2")
        for shape in ("(10**12,)", "(1000000000000,)", "(-1,)", "(3, -1)",
                      "(0, 9999999999999999999999)", "(1,) * 40", "7", "()", "(" * 300 + ")" * 300)
    ]  # fmt: skip
    forged += ["", "{}", "[", "\0", "{'descr': '<f8'}", "x" * 9000]
    for kind in ("state", "records"):
        data = of_kind(files, kind)
        rest = data[10 + int.from_bytes(data[8:10], "little") :]
        for text in forged:
            header = text.encode("latin1")
            block = data[:8] + len(header).to_bytes(2, "little") + header
            yield None, signed(files, **{kind: block + rest})


def lines(at_hand) -> Changes:
    """Lines of the history that are no iterations and no failures, with new digests."""
    files = at_hand.files
    rows = of_kind(files, "history").splitlines(keepends=True)
    for at, row in enumerate(rows):
        value = json.loads(row)
        forged = [
            b"\n",
            b"{}\n",
            b"[]\n",
            b"\xff\n",
            b"[" * 10**5 + b"\n",
            row[: len(row) // 2],
            b"",
        ]
        for path in places(value):
            for junk in JUNK:
                changed = copy.deepcopy(value)
                inner = changed
                for key in path[:-1]:
                    inner = inner[key]
                inner[path[-1]] = junk
                forged.append(json.dumps(changed).encode() + b"\n")
        for text in forged:
            yield None, signed(files, history=b"".join([*rows[:at], text, *rows[at + 1 :]]))


ATTACKS = {
    "a bit of every byte of every file is flipped": flipped,
    "every digit of checkpoint.json is another digit": digits,
    "every file is cut at every length": truncated,
    "a file has the content of another file": swapped,
    "a file comes from another run": foreign,
    "a file is missing, a folder, a link, a pipe": absent,
    "checkpoint.json is no JSON, or nested too deep": not_json,
    "new digests: an entry of checkpoint.json is missing or wrong": entries,
    "new digests: a listed name leads elsewhere": names,
    "new digests: the header of an array is forged": headers,
    "new digests: a line of the history is wrong": lines,
}


def lay(folder, files) -> None:
    """Write the files of an attack; a text stands for something else than a plain file."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, data in files.items():
        path = folder / name
        if isinstance(data, bytes):
            path.write_bytes(data)
        elif data == "folder":
            path.mkdir()
        elif data == "link":
            path.symlink_to(folder.parent / "genuine" / name)
        else:
            os.mkfifo(path)


def outcome(folder, problem, name) -> str | None:
    """None where the attack was held, else what happened."""
    try:
        loop = ek.AskTell.load(folder, problem)
        loop.result()
    except ek.CheckpointError as error:
        return None if name is None or name in str(error) else f"does not name {name}: {error}"
    except BaseException as error:
        return repr(error)
    if name is not None:
        return "loaded"
    try:
        if not loop.done:
            tell(loop)
    except (ek.RunError, ValueError):
        return None  # the method refuses a value that no run has
    except BaseException as error:
        return repr(error)
    return None


def outcomes(title, at_hand, folder, problem, *, quick=False) -> Iterator[str | None]:
    """The outcome of every single attack of that title, or of every seventh after the first 40."""
    for number, (name, changed) in enumerate(ATTACKS[title](at_hand)):
        if quick and number > 40 and number % 7:
            continue
        lay(folder / "attacked", changed)
        yield outcome(folder / "attacked", problem, name)


def at_hand_in(folder, stride=1) -> tuple[ek.InverseProblem, AtHand]:
    """A problem, and what the attacks on its checkpoint start from, made in ``folder``."""
    problem = make(folder / "genuine")
    make(folder / "other", seed=1)
    return problem, AtHand(contents(folder / "genuine"), contents(folder / "other"), stride)


def attack(*, quick=False, report=print) -> list[Row]:
    """A row for every attack on the bytes of a checkpoint."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        problem, at_hand = at_hand_in(folder, 61 if quick else 1)
        return [
            tally(title, outcomes(title, at_hand, folder, problem, quick=quick), report)
            for title in ATTACKS
        ]
