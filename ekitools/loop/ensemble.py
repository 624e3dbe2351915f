"""Ensembles stored in files, with the interfaces for methods, models and results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ekitools.core.arrays import host, unmasked
from ekitools.core.errors import RunError
from ekitools.linalg.columns import columns_of, combine, part_width
from ekitools.linalg.local import LocalAnalysis
from ekitools.linalg.products import squared_deviations
from ekitools.loop.checks import outside_sentence
from ekitools.loop.scratch import Scratch
from ekitools.loop.streamed import columns_at_a_time, give_back_pages
from ekitools.problem import InverseProblem
from ekitools.results.history import Record
from ekitools.typing import Array, StoredArray

__all__ = ["PhysicalMembers", "StoredEnsemble", "copied", "drawn", "names_of_files", "reopened"]

_BLOCK_BYTES = 1 << 26
"""Bytes of a block: large enough to amortize a disk seek, small compared with the memory."""


class StoredEnsemble:
    """An `ekitools.typing.UpdatableEnsemble` in a file of the scratch folder.

    The file is never changed. An update writes the new members to another file.

    Parameters
    ----------
    scratch : Scratch
        The scratch folder.
    name : str
        Name of the file, which holds an array ``(n, p)``.
    index : (J,) of int, optional
        Rows of the file that are members of the ensemble; by default all.
    """

    def __init__(self, scratch: Scratch, name: str, index: np.ndarray | None = None) -> None:
        file = scratch.opened(name)
        n = int(file.shape[0]) if index is None else len(index)
        self.shape: tuple[int, int] = (n, int(file.shape[1]))
        self.ndim, self.dtype = 2, file.dtype
        self.name = name
        self._scratch, self._index = scratch, index

    def __repr__(self) -> str:
        return f"StoredEnsemble({str(self._scratch.folder / self.name)!r}, shape={self.shape})"

    def __getitem__(self, key: Any) -> np.ndarray:
        """The members ``key`` in memory; ``[a:b, ...]`` is the same as ``[a:b]``."""
        rows = key[0] if isinstance(key, tuple) else key
        return np.array(self.file()[rows if self._index is None else self._index[rows]])

    def rows(self, index: np.ndarray) -> StoredEnsemble:
        """The members ``index``, in the same file."""
        chosen = np.asarray(index)
        return StoredEnsemble(
            self._scratch, self.name, chosen if self._index is None else self._index[chosen]
        )

    def columns(self, index: np.ndarray) -> np.ndarray:
        """The parameters ``index`` of all members, in memory."""
        rows = slice(None) if self._index is None else self._index
        chosen = np.array(self.file()[:, index][rows])
        give_back_pages(self.file())
        return chosen

    def localized(self, analysis: LocalAnalysis) -> StoredEnsemble:
        """The ensemble after local analyses, in a new file."""

        def fill(out: np.ndarray) -> None:
            with self._scratch.bar(out.nbytes, "update") as bar:
                for columns, block in self._blocks(analysis.tile(self.dtype.itemsize)):
                    analysis.update(block, out[:, columns], columns.start)
                    give_back_pages(out)
                    bar.update(block.nbytes)

        return StoredEnsemble(self._scratch, self._scratch.write(self.shape, self.dtype, fill))

    def combined(self, left: Array, right: Array | None = None) -> StoredEnsemble:
        """U + left (U − u_J), or U + left rightᵀ (U − u_J), in a new file."""
        width = part_width(self.shape[0], self.dtype.itemsize)

        def fill(out: np.ndarray) -> None:
            with self._scratch.bar(out.nbytes, "update") as bar:
                for columns, block in self._blocks(width):
                    combine(block, left, right, out=out[:, columns])
                    give_back_pages(out)
                    bar.update(block.nbytes)

        name = self._scratch.write(self.shape, self.dtype, fill)
        return StoredEnsemble(self._scratch, name)

    def total_variance(self) -> float:
        """Trace of the ensemble covariance."""
        return self._sums[0]

    @cached_property
    def _sums(self) -> tuple[float, int]:
        """The total variance, and the sum of all words as a checksum."""
        total, words = 0.0, 0
        word = np.uint32 if self.dtype.itemsize % 4 == 0 else np.uint8
        # the same blocks as in `total_variance` of an ensemble in memory
        width = columns_of(np.empty((self.shape[0], 1), dtype=self.dtype))[0].stop
        for _, block in self._blocks(width):
            total = squared_deviations(block, total)
            words += int(block.view(word).sum(dtype=np.uint64))
        return total / (self.shape[0] - 1), words

    def described(self) -> dict[str, Any]:
        """The entry of the ensemble in a checkpoint, for `reopened`."""
        index = None if self._index is None else self._index.tolist()
        return {"file": self.name, "index": index, "sum": self._sums[1]}

    def is_whole(self) -> bool:
        """Whether the ensemble has all members of its file, in the file's order."""
        return self._index is None

    def file(self) -> np.memmap:
        """The array in the file."""
        return self._scratch.opened(self.name)

    def _blocks(self, width: int) -> Iterator[tuple[slice, np.ndarray]]:
        """Blocks of several times ``width`` columns, which keeps the shapes of products."""
        (n, p), file = self.shape, self.file()
        step = width * max(1, _BLOCK_BYTES // (n * self.dtype.itemsize * width))
        starts = [*range(0, p, step)]
        if len(starts) > 1 and p - starts[-1] < width:
            starts.pop()
        for start, stop in zip(starts, [*starts[1:], p], strict=True):
            columns = slice(start, stop)
            rows = slice(None) if self._index is None else self._index
            yield columns, np.asarray(file[rows, columns])
            give_back_pages(file)


class PhysicalMembers:
    """A stored ensemble in physical coordinates, read some members at a time.

    ``members[j]`` is one member ``(p,)``, and ``members[a:b]`` is an array of several.

    Parameters
    ----------
    ensemble : StoredEnsemble
        The ensemble in unconstrained coordinates.
    prior : Prior
        The prior with the transformation to physical coordinates.
    """

    def __init__(self, ensemble: StoredEnsemble, prior: Any) -> None:
        self.shape, self.dtype = ensemble.shape, ensemble.dtype
        self.rows_at_a_time = max(1, _BLOCK_BYTES // (self.shape[1] * self.dtype.itemsize))
        self._ensemble, self._prior = ensemble, prior

    def __repr__(self) -> str:
        return f"PhysicalMembers({self._ensemble!r})"

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        rows = self._ensemble[key]
        return host(self._prior.to_physical(np.atleast_2d(rows))).reshape(rows.shape)

    def rows(self, index: np.ndarray) -> np.ndarray:
        """The members ``index`` in memory."""
        return self[index]

    def member(self, j: int) -> Row:
        """One member, read when it is used."""
        return Row(self, j)

    def recorded(self, scratch: Scratch, places: np.ndarray, n: int) -> np.memmap:
        """A file with ``n`` members: row i of the ensemble is member ``places[i]``, others are NaN.

        A row with the place -1 is left out. The file is the ensemble's own file if the ensemble has
        all members and the prior does not transform them.
        """
        ensemble, first = self._ensemble, self._ensemble[:1]
        is_all = ensemble.is_whole() and np.array_equal(places, np.arange(n))
        if is_all and self._prior.to_physical(first) is first:
            return ensemble.file()
        row_of = {int(place): row for row, place in enumerate(places)}

        def fill(out: np.ndarray) -> None:
            for j in range(n):
                out[j] = self[row_of[j]] if j in row_of else np.nan
                give_back_pages(out)

        return scratch.opened(scratch.write((n, self.shape[1]), self.dtype, fill))


class Row:
    """One member ``(p,)``, read when it becomes an array, and pickled as that array."""

    def __init__(self, members: PhysicalMembers, j: int) -> None:
        self._members, self._j = members, j

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("copy: must not be False for a member in a file. Use copy=None.")
        return np.asarray(self._members[self._j], dtype=dtype)

    def __reduce__(self) -> Any:
        return np.asarray(self).__reduce__()


def drawn(scratch: Scratch, prior: Any, n: int, rng: np.random.Generator) -> StoredEnsemble:
    """Draws from the prior in unconstrained coordinates, one member after the other.

    If the prior draws standard normal numbers member by member, as priors of parameters do, the
    draws are the same as from one call of `sample_unconstrained`.
    """
    first = host(prior.sample_unconstrained(1, rng=rng))

    def fill(out: np.ndarray) -> None:
        with scratch.bar(out.nbytes, "draw") as bar:
            for j in range(n):
                out[j] = first[0] if j == 0 else host(prior.sample_unconstrained(1, rng=rng))[0]
                give_back_pages(out)
                bar.update(out[j].nbytes)

    name = scratch.write((n, prior.n_parameters), first.dtype, fill)
    return StoredEnsemble(scratch, name)


def copied(scratch: Scratch, ensemble: Any, problem: InverseProblem) -> StoredEnsemble:
    """A copy of the user's ensemble in unconstrained coordinates.

    Raises
    ------
    TypeError, ValueError
        If the array has another shape or kind, an entry is masked or not finite, or a member lies
        on or outside a bound of the prior.
    """
    ensemble, p = unmasked("ensemble", ensemble), problem.n_parameters
    shape = tuple(ensemble.shape) if isinstance(ensemble, StoredArray) else ()
    if len(shape) != 2 or shape[0] < 2 or shape[1] != p:
        raise ValueError(
            f"ensemble: must be an array (J, p) with J >= 2 and p = {p}, got "
            f"{shape or type(ensemble).__name__}."
        )
    if not isinstance(ensemble.dtype, np.dtype) or ensemble.dtype.kind != "f":
        raise TypeError(
            f"ensemble: must have a floating dtype of NumPy with scratch=, got {ensemble.dtype}. "
            "Convert it to float64."
        )

    def fill(out: np.ndarray) -> None:
        step = columns_at_a_time(ensemble, ensemble, None)
        with scratch.bar(out.nbytes, "copy") as bar:
            for start in range(0, p, step):
                columns = slice(start, min(start + step, p))
                block = host(unmasked("ensemble", ensemble[:, columns]))
                if not np.isfinite(block).all():
                    raise ValueError(
                        "ensemble: must be finite, got NaN or infinite entries. Remove these "
                        "members."
                    )
                out[:, columns] = block
                for each in (ensemble, out):
                    give_back_pages(each)
                bar.update(block.nbytes)
        for j in range(len(out)):  # the transformation needs all parameters of a member
            physical = np.array(out[j : j + 1])
            found = host(problem.prior.to_unconstrained(physical))
            if found is physical:
                return
            if not np.isfinite(found).all():
                raise ValueError(outside_sentence(physical, ~np.isfinite(found), problem, first=j))
            out[j] = found[0]
            give_back_pages(out)

    name = scratch.write((shape[0], p), ensemble.dtype.newbyteorder("="), fill)
    return StoredEnsemble(scratch, name)


def reopened(scratch: Scratch, said: Mapping[str, Any]) -> StoredEnsemble:
    """The stored ensemble described by an entry of a checkpoint.

    Raises
    ------
    RunError
        If the file is missing, or has other members.
    """
    index = said["index"]
    chosen = None if index is None else np.asarray(index, dtype=np.int64)
    found = StoredEnsemble(scratch, said["file"], chosen)
    if found.described() != said:
        raise RunError(
            f"scratch: {scratch.folder / found.name} is damaged (its checksum differs from the "
            "checkpoint). Restore the file from a copy, or start a new run."
        )
    return found


def names_of_files(records: Iterable[Record]) -> list[str]:
    """Names of the files that hold the members of records."""
    return [Path(str(r.u.filename)).name for r in records if isinstance(r.u, np.memmap)]
