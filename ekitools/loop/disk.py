"""Files of a checkpoint folder: exclusive creation, no symbolic links, digests while writing.

All system calls that change the folder are in this module or in `ekitools.loop.lock`.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

from ekitools.core.errors import CheckpointError

__all__ = [
    "INDEX",
    "LOCK",
    "File",
    "Sink",
    "append",
    "create",
    "damaged",
    "first_foreign",
    "fresh_name",
    "is_name",
    "opened",
    "reading",
    "replace_index",
    "strays",
    "sweep",
    "verified",
]

INDEX = "checkpoint.json"
LOCK = "checkpoint.lock"

_ENDINGS = {"state": "npy", "records": "npy", "history": "jsonl", "checkpoint": "tmp"}
_OURS = re.compile(
    "|".join(rf"{kind}-[0-9a-f]{{16}}\.{ending}" for kind, ending in _ENDINGS.items())
)
_SAFE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_BLOCK = 1 << 20


class File(NamedTuple):
    """One file of a committed checkpoint."""

    name: str
    size: int
    """Number of committed bytes. Later bytes of a log belong to a save that was not committed."""
    digest: Any
    """The running SHA-256 of the committed bytes."""
    inode: int

    def missing(self, folder: Path) -> str | None:
        """The reason why the written file is no longer on the disk; None if it is there."""
        try:
            found = (folder / self.name).lstat()
        except OSError as error:
            return error.strerror or str(error)
        if not stat.S_ISREG(found.st_mode) or found.st_ino != self.inode:
            return "replaced by another file"
        return "truncated" if found.st_size < self.size else None


def damaged(path: Path, why: object) -> CheckpointError:
    """The error for an unusable file of a checkpoint."""
    return CheckpointError(
        f"path: {path} is missing or damaged ({why}). Restore the folder from a copy, or start a "
        "new run."
    )


def fresh_name(kind: str) -> str:
    """A new random name, which cannot be guessed."""
    return f"{kind}-{secrets.token_hex(8)}.{_ENDINGS[kind]}"


def is_name(kind: str, name: Any) -> bool:
    """Whether ``name`` has the form of `fresh_name` for files of this kind."""
    return isinstance(name, str) and bool(_OURS.fullmatch(name)) and name.startswith(f"{kind}-")


class Sink:
    """A buffered writer to a file descriptor, with a running size and digest."""

    def __init__(self, descriptor: int, digest: Any = None, size: int = 0) -> None:
        self.digest = hashlib.sha256() if digest is None else digest.copy()
        self.size = size
        self._descriptor = descriptor
        self._buffer = bytearray()

    def write(self, data: bytes) -> int:
        """Write bytes; small pieces are buffered."""
        self.digest.update(data)
        self.size += len(data)
        if len(data) < _BLOCK:
            self._buffer += data
        if len(data) >= _BLOCK or len(self._buffer) >= _BLOCK:
            self.flush()
        if len(data) >= _BLOCK:
            _write_all(self._descriptor, data)
        return len(data)

    def finish(self, name: str) -> File:
        """Write the buffer to the disk, and describe the file."""
        self.flush()
        os.fsync(self._descriptor)
        return File(name, self.size, self.digest, os.fstat(self._descriptor).st_ino)

    def flush(self) -> None:
        """Write the buffer to the descriptor."""
        _write_all(self._descriptor, bytes(self._buffer))
        self._buffer.clear()


@contextmanager
def create(folder: Path, name: str) -> Iterator[Sink]:
    """A new file; an existing file or a symbolic link is an error."""
    descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE, 0o666)
    try:
        yield Sink(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def append(folder: Path, file: File) -> Iterator[Sink]:
    """A file opened for appending to its committed bytes; later bytes are cut off."""
    descriptor = os.open(folder / file.name, os.O_WRONLY | _SAFE)
    try:
        found = os.fstat(descriptor)
        if found.st_ino != file.inode or found.st_size < file.size:
            raise OSError(errno.ESTALE, f"{file.name} was replaced by another file")
        if found.st_size > file.size:
            os.ftruncate(descriptor, file.size)
        os.lseek(descriptor, file.size, os.SEEK_SET)
        yield Sink(descriptor, file.digest, file.size)
    finally:
        os.close(descriptor)


def replace_index(folder: Path, data: bytes) -> None:
    """Commit: replace ``checkpoint.json`` atomically, after its files are on the disk."""
    temporary = fresh_name("checkpoint")
    with create(folder, temporary) as sink:
        sink.write(data)
        sink.finish(temporary)
    _sync(folder)
    os.replace(folder / temporary, folder / INDEX)  # noqa: PTH105 - one place for system calls
    _sync(folder)


def opened(folder: Path, name: str) -> IO[bytes]:
    """A file of the folder, opened for reading; a link, pipe or folder is an `OSError`."""
    descriptor = os.open(folder / name, os.O_RDONLY | _SAFE | getattr(os, "O_NONBLOCK", 0))
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise OSError(errno.EINVAL, "not a plain file")


@contextmanager
def reading(folder: Path, file: File) -> Iterator[IO[bytes]]:
    """A file of a checkpoint, opened at its start; an error while reading counts as damage."""
    try:
        with opened(folder, file.name) as stream:
            yield stream
    except (OSError, MemoryError) as error:
        raise damaged(folder / file.name, getattr(error, "strerror", None) or error) from error


def verified(folder: Path, name: str, size: int, sha256: str) -> File:
    """The file, after a check of its size and its SHA-256.

    Raises
    ------
    CheckpointError
        If the file is missing, or its size or SHA-256 differs.
    """
    file = File(name, size, hashlib.sha256(), 0)
    with reading(folder, file) as stream:
        rest = size
        while rest and (block := stream.read(min(rest, _BLOCK))):
            file.digest.update(block)
            rest -= len(block)
        inode = os.fstat(stream.fileno()).st_ino
    if rest:
        raise damaged(folder / name, f"it ends after {size - rest} of {size} bytes")
    if file.digest.hexdigest() != sha256:
        raise damaged(folder / name, f"its SHA-256 is not the one in {INDEX}")
    return file._replace(inode=inode)


def first_foreign(folder: Path) -> str | None:
    """The name of the first entry of the folder that does not belong to a checkpoint."""
    with os.scandir(folder) as entries:
        return min((e.name for e in entries if e.name != LOCK and not _is_ours(e)), default=None)


def strays(folder: Path, keep: Iterable[str]) -> list[str]:
    """Files of saves that were not committed; ``keep`` are the files of the checkpoint."""
    kept = set(keep)
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.name not in kept and _is_ours(e))


def sweep(folder: Path, keep: Iterable[str]) -> None:
    """Delete the strays; a file that cannot be deleted remains until the next save."""
    with suppress(OSError):
        for name in strays(folder, keep):
            with suppress(OSError):
                os.unlink(folder / name)  # noqa: PTH108 - one place for system calls


def _is_ours(entry: os.DirEntry[str]) -> bool:
    return bool(_OURS.fullmatch(entry.name)) and entry.is_file(follow_symlinks=False)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync(folder: Path) -> None:
    """Write new names in the folder to the disk."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
