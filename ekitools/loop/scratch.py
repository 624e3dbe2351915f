"""The scratch folder of a run with its ensemble on disk, and the files that are still needed."""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from ekitools.core.checks import as_path
from ekitools.core.errors import RunError
from ekitools.loop.streamed import bar_of_bytes

__all__ = ["Scratch"]

_NAME = re.compile(r"ensemble-([0-9a-f]{16})-\d{6,}\.npy")


class Scratch:
    """The ``.npy`` files of one run in a folder that may hold other files too.

    A file is written once and never changed. So the files of a checkpoint stay unchanged until the
    next checkpoint is committed.

    Parameters
    ----------
    folder : Path
        Created if it does not exist.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from ekitools.loop.scratch import Scratch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     scratch = Scratch(Path(folder))
    ...     names = [scratch.write((2, 3), "f4", lambda array: array.fill(1)) for _ in range(2)]
    ...     scratch.release(names[1:])
    ...     len(list(Path(folder).iterdir())), float(scratch.opened(names[1]).sum())
    (1, 6.0)
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.progress = False
        """Whether passes over an ensemble show a bar of bytes."""
        self._tokens = [secrets.token_hex(8)]
        self._written = 0
        self._handed: set[str] = set()
        self._committed: dict[Path, frozenset[str]] = {}

    def __fspath__(self) -> str:
        return str(self.folder)

    @classmethod
    def of(cls, folder: Any) -> Scratch:
        """The argument ``scratch``, checked before any model run.

        Raises
        ------
        TypeError, ValueError
            If it is not the path of a folder that can be written to.
        """
        if isinstance(folder, cls):
            return folder
        path = as_path("scratch", folder, "a folder").absolute()
        if path.exists() and not path.is_dir():
            raise ValueError(f"scratch: must be a folder, got the file {path}. Choose a folder.")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"scratch: must be a folder that can be made, got {path} "
                f"({error.strerror or error}). Choose another folder."
            ) from error
        if not os.access(path, os.W_OK | os.X_OK):
            raise ValueError(
                f"scratch: must be a folder that can be written to, got {path}. Change its "
                "permissions or choose another folder."
            )
        return cls(path)

    def write(
        self, shape: tuple[int, int], dtype: Any, fill: Callable[[np.ndarray], object]
    ) -> str:
        """The name of a new file, after ``fill`` has written to its memory map.

        Raises
        ------
        RunError
            If the file system has no space, or refuses the file.
        """
        name = f"ensemble-{self._tokens[0]}-{self._written:06d}.npy"
        self._written += 1
        path = self.folder / name
        try:
            try:
                array = np.lib.format.open_memmap(path, "w+", np.dtype(dtype), shape)
                _reserve(path)
            except OSError as error:
                size = np.dtype(dtype).itemsize * shape[0] * shape[1] / 1e9
                raise RunError(
                    f"scratch: cannot write an ensemble of {size:.3g} GB to {self.folder} "
                    f"({error.strerror or error}). Free space, or choose another folder. A "
                    "checkpoint can be resumed with scratch=."
                ) from error
            fill(array)
        except BaseException:
            with suppress(OSError):
                path.unlink()
            raise
        return name

    def opened(self, name: str) -> np.memmap:
        """A read-only memory map of a file.

        Raises
        ------
        RunError
            If the file is missing or damaged, or its name is not one that `write` returns.
        """
        if not _NAME.fullmatch(name):
            raise RunError(
                f"scratch: must have files named by ekitools, got {name!r:.80}. Restore the "
                "checkpoint from a copy, or start the run again."
            )
        path = self.folder / name
        try:
            found = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise RunError(
                f"scratch: {path} is missing or damaged ({error}). Restore it from a copy, or "
                "start the run again."
            ) from error
        assert isinstance(found, np.memmap)
        return found

    def bar(self, n_bytes: int, title: str) -> AbstractContextManager[Any]:
        """A bar of the bytes of one pass over an ensemble, if such bars are shown."""
        return bar_of_bytes(self.progress, n_bytes, title, stays=False)

    def commit(self, checkpoint: Path, names: Iterable[str], *, begun: bool = False) -> None:
        """Keep the files that a checkpoint names, until it names other files.

        While a commit has only ``begun``, the checkpoint may name these files or the previous ones.
        """
        before = self._committed.get(checkpoint, frozenset()) if begun else frozenset()
        self._committed[checkpoint] = before.union(names)

    def hand_out(self, names: Iterable[str]) -> None:
        """Keep the files of a result for good, because they belong to the user."""
        self._handed.update(names)

    def bring_to_disk(self, names: Iterable[str]) -> None:
        """Wait until the files are on the disk."""
        for name in names:
            descriptor = os.open(self.folder / name, os.O_RDWR)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def adopt(self, names: Iterable[str]) -> None:
        """Take over the files of the process that wrote ``names``, if that process has ended."""
        self._tokens += [match[1] for name in names if (match := _NAME.fullmatch(name))]

    def release(self, needed: Iterable[str]) -> None:
        """Delete the files of this run, except the needed, committed and handed-out ones."""
        kept = frozenset(needed).union(self._handed, *self._committed.values())
        with suppress(OSError):
            for path in self.folder.iterdir():
                match = _NAME.fullmatch(path.name)
                if match and match[1] in self._tokens and path.name not in kept:
                    with suppress(OSError):  # on Windows an open file is deleted at the next call
                        path.unlink()


def _reserve(path: Path) -> None:
    """Reserve the space on the disk, because a memory map without room would end the process."""
    if not hasattr(os, "posix_fallocate"):
        return
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.posix_fallocate(descriptor, 0, os.fstat(descriptor).st_size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
    finally:
        os.close(descriptor)
