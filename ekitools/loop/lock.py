"""The lock of a checkpoint folder, to which one living process at a time writes.

``checkpoint.lock`` names the host, the process and its start. The lock of an ended process is taken
over. Only a process on the same host can know that the process has ended.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

from ekitools.core.errors import CheckpointError
from ekitools.loop.disk import LOCK, create, fresh_name, opened

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["Lock"]

_HELD: weakref.WeakSet[Lock] = weakref.WeakSet()
"""The locks of this process. A lock that was dropped by Ctrl-C, without a release, is stale."""

_ATTEMPTS, _PAUSE = 20, 0.05


class Holder(NamedTuple):
    """The process that holds a lock."""

    host: str
    pid: int
    start: str
    """Boot and clock tick at which the process started; empty if the system does not report it."""
    namespace: str
    """Namespace of the process number; containers on one host have several."""
    token: str

    @classmethod
    def this(cls) -> Holder:
        """A new holder for this process."""
        pid, token = os.getpid(), secrets.token_hex(16)
        return cls(socket.gethostname(), pid, _start(pid) or "", _namespace(), token)

    def is_gone(self) -> bool:
        """Whether the process has ended, as far as this process can know."""
        if self.host != socket.gethostname() or self.namespace != _namespace():
            return False
        if not _is_alive(self.pid):
            return True
        start = _start(self.pid)
        if start is None or start != self.start:
            return True  # it ended, or its number now belongs to another process
        return self.pid == os.getpid() and all(held.token != self.token for held in _HELD)


class Lock:
    """A lock of the folder, which `with` acquires and releases.

    Parameters
    ----------
    folder : Path
        An existing checkpoint folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._holder = Holder.this()
        self.token = self._holder.token

    def __enter__(self) -> Self:
        try:
            self.acquire()
        except BaseException:
            self.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def renew(self) -> None:
        """Check that the lock file exists, and write a deleted one again."""
        if _read(self.folder) != self._holder:
            self.acquire()

    def release(self) -> None:
        """Delete the lock file, if it still belongs to this lock."""
        try:
            self._remove()
        except BaseException:  # Ctrl-C came in between
            self._remove()
            raise
        finally:
            _HELD.discard(self)

    def _remove(self) -> None:
        with suppress(OSError):
            if _read(self.folder) == self._holder:
                os.unlink(self.folder / LOCK)  # noqa: PTH108 - as in disk

    def acquire(self) -> None:
        """Write the lock file.

        Raises
        ------
        CheckpointError
            If a living process holds the lock.
        OSError
            If the folder cannot be written to.
        """
        _HELD.add(self)
        other: Holder | None = None
        for _ in range(_ATTEMPTS):
            if self._placed():
                return
            other = _read(self.folder)
            if other == self._holder:  # it could not be read a moment ago
                return
            if other is None:
                time.sleep(_PAUSE)
            elif other.is_gone():
                _take_away(self.folder, other)
            else:
                break
        if other is None:
            raise CheckpointError(
                f"checkpoint: {self.folder / LOCK} is not a readable lock file. Delete it if no "
                "other process writes to this folder."
            )
        this = " (this process)" if other.pid == os.getpid() else ""
        raise CheckpointError(
            f"checkpoint: {self.folder} is in use by process {other.pid}{this} on host "
            f"{other.host}. Wait until that run ends, or choose another folder. If that process "
            f"has ended, delete {self.folder / LOCK}."
        )

    def _placed(self) -> bool:
        """Whether the lock file was placed; it appears whole or not at all."""
        content = json.dumps(self._holder._asdict()).encode()
        temporary = fresh_name("checkpoint")
        try:
            with create(self.folder, temporary) as sink:
                sink.write(content)
                sink.flush()
            os.link(self.folder / temporary, self.folder / LOCK)
        except (FileExistsError, FileNotFoundError):
            if not self.folder.is_dir():
                raise
            return False
        except OSError:
            return self._placed_without_link(content)
        finally:
            with suppress(OSError):
                os.unlink(self.folder / temporary)  # noqa: PTH108 - as in disk
        return True

    def _placed_without_link(self, content: bytes) -> bool:
        """The steps of `_placed` on a file system without hard links."""
        try:
            with create(self.folder, LOCK) as sink:
                sink.write(content)
                sink.flush()
        except FileExistsError:
            return False
        return True


def _read(folder: Path) -> Holder | None:
    """The holder of the lock; None if the file is missing or unreadable."""
    try:
        with opened(folder, LOCK) as file:
            found = json.loads(file.read(4096))
        holder = Holder(**found)
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    kinds: tuple[Any, ...] = (str, int, str, str, str)
    fits = all(type(value) is kind for value, kind in zip(holder, kinds, strict=True))
    return holder if fits and holder.pid > 0 else None


def _take_away(folder: Path, stale: Holder) -> None:
    """Delete a stale lock. If several processes try, at most one deletes it."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except FileNotFoundError:
        return
    try:
        if fcntl is not None:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # another process is deleting it
                time.sleep(_PAUSE)
                return
            except OSError:  # a file system without such locks
                pass
        if _is_same(folder / LOCK, descriptor) and _read(folder) == stale:
            with suppress(FileNotFoundError):
                os.unlink(folder / LOCK)  # noqa: PTH108 - as in disk
    finally:
        os.close(descriptor)


def _is_same(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _is_alive(pid: int) -> bool:
    if sys.platform == "win32":  # os.kill would end it; a lock there has to be deleted by hand
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def _start(pid: int) -> str | None:
    """Start of the process; "" if the system does not report it, None if the process has ended."""
    proc = Path("/proc")
    try:
        boot = (proc / "sys/kernel/random/boot_id").read_text("ascii").strip()
        fields = (proc / str(pid) / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return None if fields[0] in "ZX" else f"{boot}/{fields[19]}"


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""
