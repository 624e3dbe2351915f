"""A folder for every run of a program. Folders of killed processes are removed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# Not POSIX, and nothing tells a killed process from a slow one.
_fcntl: Any = import_module("fcntl") if find_spec("fcntl") else None

__all__ = ["RunFolder", "clear_unfinished", "run_folder"]

_MARK = ".unfinished"


@dataclass
class RunFolder:
    """A folder, and whether it stays at the end."""

    path: Path
    kept: bool = False


@contextmanager
def run_folder(runs: Path) -> Iterator[RunFolder]:
    """A new folder in ``runs``. It is removed at the end unless it is marked as kept.

    A locked file marks a folder in use. The system releases the lock when the process ends or is
    killed. So `clear_unfinished` finds the folders that are no longer in use.
    """
    descriptor, name = tempfile.mkstemp(prefix="run-", suffix=_MARK, dir=runs)
    mark = Path(name)
    folder = RunFolder(mark.with_suffix(""))
    with os.fdopen(descriptor, "wb") as file:
        if _fcntl is not None:
            with suppress(OSError):  # a file system without locks
                _fcntl.flock(file, _fcntl.LOCK_EX)
        folder.path.mkdir()
        try:
            yield folder
        finally:
            if not folder.kept:
                shutil.rmtree(folder.path, ignore_errors=True)
            mark.unlink(missing_ok=True)


def clear_unfinished(runs: Path) -> None:
    """Remove the folders of processes that have ended. Folders in use and kept folders stay."""
    if _fcntl is None:
        return
    for mark in runs.glob(f"run-*{_MARK}"):
        try:
            with mark.open("r+b") as file:
                _fcntl.flock(file, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
                shutil.rmtree(mark.with_suffix(""), ignore_errors=True)
                mark.unlink(missing_ok=True)
        except OSError:  # in use, removed meanwhile, or on a file system without locks
            continue
