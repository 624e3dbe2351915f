"""Foreign files, folders, links and pipes in a checkpoint folder, before and during a run.

ekitools withstands an attack before a run if a `CheckpointError` refuses the run before the first
model run. It withstands an attack during a run if the run has bitwise the same result, or ends in a
`CheckpointError` whose ``result`` has the computed iterations. In every case no foreign file may be
changed or deleted, in the folder or at the target of a link.
"""

from __future__ import annotations

import os
import socket
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

from attack_tools import OPTIONS, Row, contents, differs, method, never, problem, tally

import ekitools as ek
from ekitools.loop import lock

OURS = "state-0123456789abcdef.npy"
"""A name as the checkpoints give it; a plain file of that name counts as theirs."""

NAMES = (
    "results.npz", ".hidden", "-rf", "state-000001.npz", "checkpoint.json.tmp", "a\nb", "ünïcode",
    os.fsdecode(b"caf\xe9"), "x" * 255, OURS, "checkpoint-0123456789abcdef.tmp",
)  # fmt: skip


def file(path, precious) -> None:
    path.write_bytes(b"mine")


def empty(path, precious) -> None:
    path.touch()


def unreadable(path, precious) -> None:
    path.write_bytes(b"mine")
    path.chmod(0)


def hard_link(path, precious) -> None:
    path.hardlink_to(precious / "file")


def folder(path, precious) -> None:
    path.mkdir()
    (path / "inner").write_bytes(b"mine")


def closed_folder(path, precious) -> None:
    path.mkdir(0)


def link(path, precious) -> None:
    path.symlink_to(precious / "file")


def link_to_folder(path, precious) -> None:
    path.symlink_to(precious)


def link_to_nothing(path, precious) -> None:
    path.symlink_to(precious / "nothing")


def link_to_itself(path, precious) -> None:
    path.symlink_to(path)


def pipe(path, precious) -> None:
    os.mkfifo(path)


def door(path, precious) -> None:
    """A socket; the system allows short paths only."""
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        with closing(socket.socket(socket.AF_UNIX)) as opened:
            opened.bind(f"/proc/self/fd/{descriptor}/s")
        (path.parent / "s").rename(path)
    finally:
        os.close(descriptor)


PLAIN = (file, empty, unreadable, hard_link)
OTHER = (folder, closed_folder, link, link_to_folder, link_to_nothing, link_to_itself, pipe, door)


def placed() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Contents of a folder by name; a plain file with a checkpoint's name belongs to the run."""
    for name in NAMES:
        ours = name in (OURS, "checkpoint-0123456789abcdef.tmp")
        for put in OTHER if ours else (*PLAIN, *OTHER):
            yield name, put


def room(scratch, number) -> tuple[Path, Path]:
    """A new folder, and beside it one with precious files."""
    path, precious = scratch / str(number) / "run", scratch / str(number) / "precious"
    precious.mkdir(parents=True)
    (precious / "file").write_bytes(b"precious")
    return path, precious


def refused(path) -> str | None:
    """None if a run in this folder is refused before the first model run."""
    before = contents(path.parent)
    try:
        ek.run(problem(never), method(), checkpoint=path, **OPTIONS)
    except ek.CheckpointError as error:
        if contents(path.parent) != before:
            return "something was changed"
        return None if len(str(error)) < 1000 else "the message is too long"
    except BaseException as error:
        return f"{error!r:.200}"
    return "the run was not refused"


def before_a_run(scratch, stride) -> Iterator[str | None]:
    names = ("checkpoint.json", "checkpoint.lock")
    everything = [*placed(), *((name, put) for name in names for put in (*PLAIN, *OTHER))]
    for number, (name, put) in enumerate(everything[::stride]):
        path, precious = room(scratch, number)
        path.mkdir()
        put(path / name, precious)
        found = refused(path)
        yield found and f"{put.__name__} {name[:20]!r}: {found}"


def in_its_place(scratch, stride) -> Iterator[str | None]:
    """Something else is where the folder shall be made."""
    puts = [put for put in (*PLAIN, *OTHER) if put not in (folder, closed_folder, link_to_folder)]
    for number, put in enumerate([*puts, folder, link_to_folder][::stride]):
        path, precious = room(scratch, number)
        put(path, precious)
        for asked in (path, path / "inner", path / "inner" / "run")[: 3 if put in puts else 1]:
            found = refused(asked)
            yield found and f"{put.__name__}: {found}"
    path, _ = room(scratch, "long")
    yield refused(path / ("x" * 300))


def during_a_run(scratch, stride) -> Iterator[str | None]:
    """At the third iteration it appears beside the files of the run."""
    expected = ek.run(problem(), method(), **OPTIONS)
    for number, (name, put) in enumerate(list(placed())[::stride]):
        found = meddled(*room(scratch, number), name, put, expected, must_go_on=True)
        yield found and f"{put.__name__} {name[:20]!r}: {found}"


def instead_of_ours(scratch, stride) -> Iterator[str | None]:
    """At the third iteration it takes the place of a file of the run, which is deleted."""
    expected = ek.run(problem(), method(), **OPTIONS)
    kinds = ("checkpoint.json", "checkpoint.lock", "state", "history", "records")
    pairs = [(k, p) for k in kinds for p in (OTHER if "." not in k else (*PLAIN, *OTHER))]
    for number, (kind, put) in enumerate(pairs[::stride]):
        found = meddled(*room(scratch, number), kind, put, expected)
        yield found and f"{put.__name__} for {kind}: {found}"


def meddled(path, precious, name, put, expected, *, must_go_on=False) -> str | None:
    """None if the run is held with something put into its folder at the third iteration."""
    after = {}

    def put_it(info) -> None:
        if info.iteration != 2:
            return
        (at, *_) = [*path.glob(f"{name}-*"), path / name] if name.isalpha() else [path / name]
        if os.path.lexists(at):
            at.unlink()
        put(at, precious)
        foreign = contents(path.parent)
        after.update(
            {n: c for n, c in foreign.items() if n.startswith((f"run/{at.name}", "precious"))}
        )

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            found = ek.run(problem(), method(), checkpoint=path, on_step=put_it, **OPTIONS)
        except ek.CheckpointError as error:
            found = None if must_go_on else error.result
        except BaseException as error:
            return f"{error!r:.200}"
    if found is None:
        return "the run did not continue"
    ended_early = found.sizes["iteration"] < expected.sizes["iteration"]
    if why := differs(found, expected, found.sizes["iteration"]):
        return why
    if must_go_on and (ended_early or warned):
        return "the run ended" if ended_early else f"warned: {warned[0].message}"
    now = contents(path.parent)
    if any(now.get(n) != content for n, content in after.items()):
        return "something foreign was changed"
    return None if ended_early else differs(ek.resume(path, problem()), expected)


ATTACKS = {
    "foreign files before a run": before_a_run,
    "something else in the place of the folder": in_its_place,
    "foreign files during a run": during_a_run,
    "something else in the place of a file during a run": instead_of_ours,
}


def attack(*, quick=False, report=print) -> list[Row]:
    """A row for every time and place of foreign files."""
    rows = []
    with mock.patch.object(lock, "_PAUSE", 0):  # between looks at a lock that cannot be read
        for title, outcomes in ATTACKS.items():
            with tempfile.TemporaryDirectory() as scratch:
                rows.append(tally(title, outcomes(Path(scratch), 13 if quick else 1), report))
    return rows
