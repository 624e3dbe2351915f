"""The checkpoint folder of a run: locks, appended logs, commits, and repair after damage."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ekitools.core.errors import CheckpointError
from ekitools.loop.disk import INDEX, LOCK, File, first_foreign, replace_index, strays, sweep
from ekitools.loop.index import encoded, listed, parsed, read_index
from ekitools.loop.lock import Lock
from ekitools.loop.saved import Commit, Counts, Saved, described, read_run, write_parts
from ekitools.problem import InverseProblem
from ekitools.results.history import History

__all__ = ["Folder"]

_READS = 5
"""Largest number of reads of a checkpoint that another process replaces in the meantime."""


class Folder:
    """The checkpoint folders of one run: their committed contents, and the locks in use.

    A save writes a new file for the state, appends new iterations to two logs, and then replaces
    ``checkpoint.json``, which lists the files with their sizes and digests. The cost of a save does
    not grow with the iterations. The previous checkpoint stays complete until the replacement.
    """

    def __init__(self) -> None:
        self._done: dict[Path, Commit] = {}
        self._begun: dict[Path, Commit] = {}  # an interrupted save may have committed or not
        self._locks: dict[Path, Lock] = {}

    def rewind(self, history: History) -> None:
        """Forget saved entries beyond the current ``history``, after entries were taken back."""
        lengths = Counts(len(history.summaries), len(history.failures), len(history.records))
        for commits in (self._done, self._begun):
            for folder, commit in commits.items():
                counts = Counts._make(map(min, commit.counts, lengths))
                commits[folder] = commit._replace(counts=counts)

    @contextmanager
    def holding(self, path: Path) -> Iterator[None]:
        """Hold the lock of the folder, and delete unfinished files of an earlier process."""
        folder = path.absolute()
        with self._locked(path) as lock:
            with _said(path):
                commit = self._found(folder) if folder in self._done else None
                if commit is not None:
                    sweep(folder, _names(commit.files))
            self._locks[folder] = lock
            try:
                yield
            finally:
                self._locks.pop(folder, None)

    def tidy(self, path: Path) -> None:
        """Delete unfinished files of an earlier process, unless a process writes to the folder."""
        commit = self._done.get(path.absolute())
        with suppress(CheckpointError, OSError):
            if commit is None:
                return
            if os.path.lexists(path / LOCK) or strays(path, _names(commit.files)):
                with self.holding(path):
                    pass

    def save(self, path: Path, problem: InverseProblem, run: Saved) -> None:
        """Add the new parts of the run to the folder, then commit them.

        Raises
        ------
        CheckpointError
            If the folder holds other files or another run, is in use, or cannot be written to.
        """
        folder = path.absolute()
        held = self._locks.get(folder)
        if held is None:
            with self._locked(path), _said(path):
                self._save(folder, problem, run)
            return
        with _said(path):
            _make(folder)
            held.renew()
            self._save(folder, problem, run)

    def load(
        self, path: Path, problem: InverseProblem, given: tuple[Any, Any, Any], reference: Any
    ) -> Saved:
        """Read the run in the folder, without a change of the folder.

        ``given`` are the method, the stopping rules and the scratch folder; each one that is None
        is rebuilt from the checkpoint. Arrays of the state are returned in the namespace and on the
        device of ``reference``. If it is None, they have the kind that was saved.
        """
        for attempt in range(_READS):
            data = read_index(path)
            if data is None:
                break
            try:
                run, commit = read_run(path, data, problem, given, reference)
            except CheckpointError:
                if attempt + 1 == _READS or read_index(path) == data:
                    raise  # otherwise another process saved in the meantime
            else:
                self._done[path.absolute()] = commit
                return run
        raise CheckpointError(
            f"path: must be a checkpoint folder, got {path} without a {INDEX}. Pass the folder of "
            "run(checkpoint=) or save(), or start a new run."
        )

    @contextmanager
    def _locked(self, path: Path) -> Iterator[Lock]:
        folder = path.absolute()
        lock = Lock(folder)
        try:
            with _said(path):
                _make(folder)
                lock.acquire()
            yield lock
        finally:
            lock.release()

    def _found(self, folder: Path) -> Commit | None:
        """The checkpoint of this run in the folder; None if all files have to be written."""
        data = read_index(folder)
        done, begun = self._done.get(folder), self._begun.get(folder)
        if data is None:
            if done is not None:
                _warn(folder / INDEX, "deleted")
            return None
        if done is None and begun is None:
            raise CheckpointError(
                f"checkpoint: {folder} already holds a run. Continue it with ek.resume, or choose "
                "another folder."
            )
        index = hashlib.sha256(data).hexdigest()
        commit = next((c for c in (done, begun) if c is not None and c.sha256 == index), None)
        if commit is None:
            raise CheckpointError(
                f"checkpoint: {folder / INDEX} was changed by another program. Continue from it "
                "with ek.resume, or choose another folder."
            )
        for file in commit.files.values():
            if why := file.missing(folder):
                _warn(folder / file.name, why)
                return None
        return commit

    def _save(self, folder: Path, problem: InverseProblem, run: Saved) -> None:
        commit = self._found(folder)
        if commit is None and folder not in self._done:
            sweep(folder, ())  # files of a process that ended before its first commit
        try:
            meta, files, counts = write_parts(folder, commit, run)
            data = encoded({**described(problem, run), **meta, "files": listed(files)})
            begun = Commit(hashlib.sha256(data).hexdigest(), files, counts)
            self._begun[folder] = begun
            replace_index(folder, data)
        except Exception:
            with suppress(CheckpointError):
                found = read_index(folder)
                listing = parsed(folder, found)["files"] if found else {}
                sweep(folder, [file["name"] for file in listing.values()])
            raise
        self._done[folder] = begun
        self._begun.pop(folder, None)
        sweep(folder, _names(files))


def _make(folder: Path) -> None:
    """Create the folder; a folder with other files is refused."""
    folder.mkdir(parents=True, exist_ok=True)
    if read_index(folder) is None and (foreign := first_foreign(folder)) is not None:
        raise CheckpointError(
            f"checkpoint: {folder} holds {foreign!r}, which is not part of a checkpoint. Choose an "
            "empty or a new folder."
        )


def _names(files: dict[str, File]) -> list[str]:
    return [file.name for file in files.values()]


def _warn(path: Path, why: str) -> None:
    warnings.warn(
        f"checkpoint: {path} was lost during the run ({why}). The whole checkpoint is written "
        "again. Make sure that no other program changes this folder.",
        RuntimeWarning,
        stacklevel=2,
    )


@contextmanager
def _said(path: Path) -> Iterator[None]:
    """Convert errors of the operating system to a `CheckpointError`."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"checkpoint: cannot write to {path} ({error.strerror or error}). The last complete "
            "checkpoint, if any, is unchanged. Free space or choose another folder."
        ) from error
