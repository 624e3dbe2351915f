"""Write faults: every system call of a run with checkpoints fails once, or from some call on.

ekitools withstands a fault if the run ends as without the fault, or with one `CheckpointError` that
has all computed iterations as ``result``. The run can then be resumed from the folder, or started
again in it, with bitwise the result of a run without the fault.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from attack_tools import OPTIONS, Row, differs, method, polite, problem, tally, whole

import ekitools as ek
from ekitools.loop import disk, lock

WRITES = ("open", "write", "fsync", "ftruncate", "replace", "link", "unlink")
CALLS = (*WRITES, "read")
"""System calls of the checkpoints; "read" stands for opening a file in order to read it."""

FULL = OSError(errno.ENOSPC, "No space left on device")
BROKEN = OSError(errno.EIO, "Input/output error")


class FaultySystem:
    """The module ``os`` for the checkpoints; the n-th of its calls fails.

    Parameters
    ----------
    at : int
        Which of the calls ``names``; -1 is none.
    error : BaseException or None
        What is raised; None lets a write take only a part of its bytes.
    for_good : bool
        Whether all later calls fail too.
    """

    def __init__(self, at=-1, error=None, names=CALLS, *, for_good=False) -> None:
        self.at, self.error, self.names, self.for_good = at, error, names, for_good
        self.calls = self.written = 0

    def __getattr__(self, name) -> Any:
        value = getattr(os, name)
        if name not in WRITES:
            return value

        def call(*args, **kwargs) -> Any:
            if name == "open" and not args[1] & (os.O_WRONLY | os.O_CREAT):
                return self._called("read", value, args, kwargs)
            return self._called(name, value, args, kwargs)

        return call

    def _called(self, name, value, args, kwargs) -> Any:
        if name in self.names:
            self.calls += 1
            if self.calls >= self.at > 0 if self.for_good else self.calls == self.at:
                part = 0
                if name == "write" and len(args[1]) > 1:
                    part = os.write(args[0], args[1][: len(args[1]) // 2])
                if self.error is not None:
                    raise self.error
                if part:
                    return part
        if name == "write":
            self.written += len(args[1])
        if name == "fsync":
            return None  # takes long, and changes nothing that can be seen here
        return value(*args, **kwargs)


@contextmanager
def on(system) -> Iterator[Any]:
    """The checkpoints use this system, and do not wait for a lock that cannot be read."""
    with (
        mock.patch.object(disk, "os", system),
        mock.patch.object(lock, "os", system),
        mock.patch.object(lock, "_PAUSE", 0),
    ):
        yield system


class Fault(NamedTuple):
    """One kind of fault."""

    error: OSError | None
    names: tuple[str, ...] = WRITES
    for_good: bool = False


FAULTS = {
    "no space left at a system call": Fault(FULL),
    "no space left from a system call on": Fault(FULL, for_good=True),
    "a write takes half of its bytes": Fault(None, ("write",)),
    "all writes take half of their bytes": Fault(None, ("write",), for_good=True),
    "fsync fails": Fault(BROKEN, ("fsync",)),
    "fsync fails from then on": Fault(BROKEN, ("fsync",), for_good=True),
    "replace fails": Fault(BROKEN, ("replace",)),
    "a file cannot be read": Fault(BROKEN, ("read",)),
    "files cannot be read from then on": Fault(BROKEN, ("read",), for_good=True),
}


def outcome(folder, fault, at, expected) -> tuple[str | None, bool]:
    """None where the fault was held, else what happened; and whether the call was reached."""
    asked = []

    def counted(u) -> Any:
        asked.append(u)
        return polite(u)

    error = None
    system = FaultySystem(at, fault.error, fault.names, for_good=fault.for_good)
    with on(system):
        try:
            found = ek.run(problem(counted), method(), checkpoint=folder, **OPTIONS)
        except ek.CheckpointError as caught:
            error, found = caught, getattr(caught, "result", None)
        except BaseException as caught:
            return repr(caught), True
    n = len(asked) // OPTIONS["n_members"]
    reached = system.calls >= at
    said = (getattr(fault.error, "strerror", ""), "is not a readable lock file")
    if error is not None and not any(text in str(error) for text in said):
        return f"unclear: {error}", reached
    if n and found is None:
        return "what was computed is lost", reached
    if found is not None and (why := differs(found, expected, n)):
        return why, reached
    return whole(folder, expected, method()), reached


def outcomes(folder, fault, stride=1) -> Iterator[str | None]:
    """The outcome at the first call, the second one, and so on until no call is left."""
    expected, at = ek.run(problem(), method(), **OPTIONS), 1
    while True:
        found, reached = outcome(folder / str(at), fault, at, expected)
        if not reached:
            return
        yield found if found is None else f"call {at}: {found}"
        at += stride


def attack(*, quick=False, report=print) -> list[Row]:
    """A row for every kind of fault."""
    rows = []
    for title, fault in FAULTS.items():
        with tempfile.TemporaryDirectory() as scratch:
            rows.append(tally(title, outcomes(Path(scratch), fault, 17 if quick else 1), report))
    return rows
