"""Layout of the data: blocks, gaps, and the vector y of all observed entries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ekitools.core.arrays import as_vector, host, of_library
from ekitools.observed.blocks import (
    ArrayBlock,
    Block,
    LabelledBlock,
    as_labelled,
    with_gaps,
)

__all__ = ["FLATTEN", "Layout", "layout_of", "parts_of"]

FLATTEN = (
    "Flatten an image with data.ravel() and return outputs.ravel() from the model, or pass an "
    'xarray.DataArray, or a block with a name: data={"image": data}. Pass one datum as [datum].'
)
"""Remedy in errors about data of another shape."""

_REMEDY = "Pass an array, a Series, a DataArray, a Dataset, or a dictionary of these."


@dataclass(frozen=True, eq=False)
class Layout:
    """Map between the entries of y and the observed entries of the blocks."""

    blocks: tuple[Block, ...]
    kept: np.ndarray
    """Mask of the observed entries among the n entries of all blocks, ``(n,)``."""

    @property
    def n_whole(self) -> int:
        """Number of entries of all blocks, including gaps."""
        return int(self.kept.size)

    @property
    def n_data(self) -> int:
        """Length d of y."""
        return int(np.count_nonzero(self.kept))

    @property
    def n_gaps(self) -> int:
        """Number of entries that were not observed."""
        return self.n_whole - self.n_data

    @property
    def block_names(self) -> tuple[str, ...]:
        """Names of the blocks."""
        return tuple(block.name for block in self.blocks)

    @property
    def named(self) -> bool:
        """Whether the blocks have names; False for a single block without a name."""
        return self.block_names != ("",)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of entries of each block, including gaps."""
        return tuple(int(np.prod(block.shape)) for block in self.blocks)

    @property
    def slices(self) -> dict[str, slice]:
        """Positions of the entries of each block among the entries of all blocks."""
        ends = np.cumsum((0, *self.sizes)).tolist()
        spans = pairwise(ends)
        return {name: slice(*span) for name, span in zip(self.block_names, spans, strict=True)}

    @property
    def names(self) -> tuple[str, ...] | None:
        """Labels of the data; None for default labels."""
        names = [block.names for block in self.blocks]
        if None in names:
            return None if self.n_gaps == 0 else self.of_data(range(self.n_whole), stem="y")
        return self.of_data([label for each in names for label in each or ()])

    @property
    def units(self) -> tuple[str, ...] | None:
        """Units of the data; None if no block has units."""
        if not any(block.units for block in self.blocks):
            return None
        return self.of_data(
            [
                block.units
                for block, n in zip(self.blocks, self.sizes, strict=True)
                for _ in range(n)
            ]
        )

    def of_data(self, entries: Sequence[Any], *, stem: str = "") -> tuple[Any, ...]:
        """The observed ones of the entries of all blocks; as texts if a stem is given."""
        kept = (entries[i] for i in np.flatnonzero(self.kept).tolist())
        return tuple(f"{stem}{entry}" for entry in kept) if stem else tuple(kept)

    def coordinates(self) -> dict[str, np.ndarray]:
        """Coordinates ``(d,)`` of the data: ``block``, ``position`` and the blocks' coordinates.

        A position counts the entries of a block, including gaps. If only some blocks have a
        coordinate, the other blocks get NaN, NaT or "".
        """
        labels = [np.full(n, block.name, dtype=object) for block, n in self._sized()]
        found = {
            "block": np.concatenate(labels),
            "position": np.concatenate([np.arange(n) for n in self.sizes]),
        }
        for key in dict.fromkeys(key for block in self.blocks for key in block.coords):
            parts = [(block.coords.get(key), n) for block, n in self._sized()]
            found[key] = _joined(parts)
        return {key: values[self.kept] for key, values in found.items()}

    def flat(self, argument: str, value: Any) -> np.ndarray:
        """Turn a value in the form of the data into a vector ``(n,)``; NaN stays NaN.

        Parameters
        ----------
        argument : str
            Name of the value, for errors.
        value : array, Series, DataArray, Dataset or mapping
            A vector of all entries, or a value with the labels or names of the blocks, and
            possibly more labels.

        Raises
        ------
        TypeError, ValueError
            If a block is missing, or has another shape or other labels.
        """
        parts = parts_of(value)
        if parts is None and len(self.blocks) == 1:
            return self.blocks[0].flat(argument, value)
        if parts is None:
            return ArrayBlock("", (self.n_whole,)).flat(argument, value)
        self.check_names(argument, parts, more=True)
        return np.concatenate(
            [block.flat(f"{argument}[{block.name!r}]", parts[block.name]) for block in self.blocks]
        )

    def check_names(self, argument: str, parts: Mapping[Any, Any], *, more: bool) -> None:
        """Check that every block has an entry, and no others exist unless ``more``."""
        known, given = self.block_names, tuple(parts)
        lacking = [name for name in known if name not in parts]
        if lacking or (not more and set(given) - set(known)):
            rule = f"have the blocks {', '.join(map(repr, known))} of the data"
            if not self.named:
                rule = "not be by block if the data are one array"
            there = ", ".join(map(repr, given)) or "none"
            raise ValueError(f"{argument}: must {rule}, got {there}.")

    def rows(self, argument: str, value: Any, n: int) -> Any:
        """Outputs ``(n, d)`` of ``n`` members from arrays ``(n, ...)`` by block or of all entries.

        Raises
        ------
        TypeError, ValueError
            If a block is missing or has another shape.
        """
        parts = parts_of(value)
        if parts is None:
            whole = value if hasattr(value, "shape") else np.asarray(value)
            if tuple(whole.shape) == (n, self.n_whole):
                return whole[:, np.flatnonzero(self.kept)] if self.n_gaps else whole
            raise ValueError(
                f"{argument}: must have the shape {(n, self.n_whole)}, one column for every datum "
                f"given{', including gaps' if self.n_gaps else ''}, got {tuple(whole.shape)}."
            )
        self.check_names(argument, parts, more=True)
        columns = []
        for block, size in self._sized():
            part = host(parts[block.name])
            if part.shape not in ((n, *block.shape), (n, size)):
                raise ValueError(
                    f"{argument}[{block.name!r}]: must have the shape {(n, *block.shape)}, got "
                    f"{part.shape}."
                )
            columns.append(part.reshape(n, size))
        return np.concatenate(columns, axis=1)[:, self.kept]

    def _sized(self) -> zip[tuple[Block, int]]:
        return zip(self.blocks, self.sizes, strict=True)


def layout_of(data: Any, *, remedy: str) -> tuple[Layout | None, np.ndarray]:
    """Layout of the data and the vector y ``(d,)``; the layout of a vector without gaps is None.

    Parameters
    ----------
    data : array, Series, DataArray, Dataset, DataFrame or mapping of these
        The data as given. NaN and masked entries are gaps.
    remedy : str
        Last sentence of the error about an array of another shape.

    Raises
    ------
    TypeError, ValueError
        If the data are not numbers, are infinite or all missing, or two blocks have the same name.
    """
    parts = parts_of(data)
    if parts is None:
        labelled = as_labelled(data)
        if labelled is None:
            whole = with_gaps("data", data)
            if not np.isnan(whole).any():
                return None, as_vector("data", whole, remedy=remedy)
            as_vector("data", np.zeros(whole.shape), remedy=remedy)
            return _observed((ArrayBlock("", whole.shape),), whole)
        name = labelled.name
        parts = {"y" if name is None else str(name): labelled}
    if not parts:
        raise ValueError(f"data: must have at least one block, got none. {_REMEDY}")
    blocks = tuple(_block(name, part) for name, part in parts.items())
    flat = [b.flat(_of(b.name), part) for b, part in zip(blocks, parts.values(), strict=True)]
    return _observed(blocks, np.concatenate(flat))


def _observed(blocks: tuple[Block, ...], whole: np.ndarray) -> tuple[Layout, np.ndarray]:
    kept = ~np.isnan(whole)
    if not kept.any():
        raise ValueError(
            f"data: must have at least one number, got {whole.size} missing entries. Check how "
            "the data were read."
        )
    kept.flags.writeable = False
    return Layout(blocks, kept), whole[kept]


def _block(name: Any, part: Any) -> Block:
    if not isinstance(name, str) or not name.strip():
        raise TypeError(f"data: names of blocks must be texts, got {name!r}. Use str().")
    if parts_of(part) is not None:
        raise TypeError(f"{_of(name)}: must be one array, got {type(part).__name__}. {_REMEDY}")
    labelled = as_labelled(part)
    if labelled is not None:
        if labelled.dtype.kind not in "fiub":
            raise TypeError(
                f"{_of(name)}: must be real numbers, got dtype {labelled.dtype}. Convert it to "
                "floats, or drop it."
            )
        return LabelledBlock(name, labelled)
    array = with_gaps(_of(name), part)
    if array.size == 0:
        raise ValueError(f"{_of(name)}: must not be empty, got shape {array.shape}.")
    return ArrayBlock(name, array.shape)


def _of(name: str) -> str:
    return f"data[{name!r}]"


def parts_of(value: Any) -> Mapping[Any, Any] | None:
    """The blocks of a mapping, a Dataset or a DataFrame; None for other objects."""
    if of_library(value, "xarray", "Dataset"):  # a mapping that also has coordinates
        return dict(value.data_vars)
    if isinstance(value, Mapping):
        return value
    return dict(value.items()) if of_library(value, "pandas", "DataFrame") else None


def _joined(parts: Sequence[tuple[np.ndarray | None, int]]) -> np.ndarray:
    """One coordinate of all blocks, filled for blocks without the coordinate."""
    kinds = {"n" if p.dtype.kind in "iuf" else p.dtype.kind for p, _ in parts if p is not None}
    whole = all(p is not None for p, _ in parts)
    if len(kinds) > 1:
        texts = [None if p is None else np.array([str(x) for x in p], object) for p, _ in parts]
        parts = [(text, n) for text, (_, n) in zip(texts, parts, strict=True)]
        kinds = {"O"}
    fill: Any = {"M": np.datetime64("NaT", "ns"), "n": np.nan}.get(kinds.pop(), "")
    if whole:
        return np.concatenate([p for p, _ in parts if p is not None])
    return np.concatenate(
        [
            np.full(n, fill, dtype=object if fill == "" else None) if p is None else p
            for p, n in parts
        ]
    )
