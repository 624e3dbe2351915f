"""Data of several observations as one vector, and models of their outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ekitools.core.arrays import array_namespace, host, take_columns
from ekitools.core.model_info import WrappedModel
from ekitools.models.outputs import UnfitError, parted
from ekitools.observed.layout import Layout, parts_of
from ekitools.typing import Array

__all__ = ["PerObservation", "Together"]


@dataclass(frozen=True, eq=False)
class Together:
    """Layout of the data of several observations, one after the other."""

    observations: tuple[str, ...]
    """Names of the observations."""
    layouts: tuple[Layout, ...]
    """Layout of each observation."""

    @cached_property
    def joined(self) -> Layout:
        """The layout of the blocks of all observations; block names may repeat."""
        blocks = tuple(block for layout in self.layouts for block in layout.blocks)
        return Layout(blocks, np.concatenate([layout.kept for layout in self.layouts]))

    @property
    def kept(self) -> np.ndarray:
        """Mask of the observed entries among the n entries of all observations, ``(n,)``."""
        return self.joined.kept

    @property
    def block_names(self) -> tuple[str, ...]:
        """Names of the blocks of all observations."""
        return self.joined.block_names

    @property
    def n_whole(self) -> int:
        """Number of entries of all observations, including gaps."""
        return self.joined.n_whole

    @property
    def n_data(self) -> int:
        """Length d of y."""
        return self.joined.n_data

    @property
    def n_gaps(self) -> int:
        """Number of entries that were not observed."""
        return self.joined.n_gaps

    @property
    def units(self) -> tuple[str, ...] | None:
        """Units of the data; None if no block has units."""
        return self.joined.units

    @property
    def names(self) -> tuple[str, ...]:
        """Labels of the data: ``observation.label``, or ``observation[0]`` without labels."""
        found: list[str] = []
        for name, layout in zip(self.observations, self.layouts, strict=True):
            if layout.named:
                found += [f"{name}.{label}" for label in layout.names or ()]
            else:
                found += [f"{name}[{i}]" for i in np.flatnonzero(layout.kept)]
        return tuple(found)

    @cached_property
    def sizes(self) -> np.ndarray:
        """Number of data of each observation."""
        return np.array([layout.n_data for layout in self.layouts])

    def of_data(self, entries: Sequence[Any]) -> tuple[Any, ...]:
        """The observed ones of the entries of all observations."""
        return self.joined.of_data(entries)

    def columns(self, index: np.ndarray) -> np.ndarray:
        """Positions in y of the data of the observations ``index``."""
        return columns_of(self.sizes, index)

    def coordinates(self) -> dict[str, np.ndarray]:
        """Coordinates of the data: ``data_observation``, and the coordinates of `Layout`."""
        found = self.joined.coordinates()
        if not any(layout.named for layout in self.layouts):
            del found["block"]
        return {"data_observation": np.repeat(np.array(self.observations, object), self.sizes),
                **found}  # fmt: skip

    def part(self, index: np.ndarray) -> Together:
        """The layout of the observations ``index``."""
        names = tuple(self.observations[i] for i in index)
        return Together(names, tuple(self.layouts[i] for i in index))

    def rows(self, argument: str, value: Any, n: int) -> Any:
        """Outputs ``(n, d)`` of ``n`` members, from a mapping by observation or an array.

        Raises
        ------
        TypeError, ValueError
            If an observation is missing, or its outputs have another form.
        """
        parts = parts_of(value)
        if parts is None:
            return self.joined.rows(argument, value, n)
        self._check_names(argument, parts)
        return _side_by_side(
            [
                layout.rows(f"{argument}[{name!r}]", _columns(parts[name], n, layout), n)
                for name, layout in zip(self.observations, self.layouts, strict=True)
            ]
        )

    def vector(self, argument: str, value: Any) -> np.ndarray:
        """Outputs ``(d,)`` of one member, like `rows`."""
        parts = parts_of(value)
        if parts is None:
            return self.joined.flat(argument, value)[self.kept]
        self._check_names(argument, parts)
        return np.concatenate(
            [
                _vector(f"{argument}[{name!r}]", parts[name], layout)
                for name, layout in zip(self.observations, self.layouts, strict=True)
            ]
        )

    def _check_names(self, argument: str, parts: Mapping[Any, Any]) -> None:
        lacking = [name for name in self.observations if name not in parts]
        if lacking:
            there = ", ".join(map(repr, parts)) or "none"
            raise ValueError(
                f"{argument}: must have outputs of the observation {lacking[0]!r}, got {there}"
            )


@dataclass(frozen=True, eq=False, repr=False)
class PerObservation(WrappedModel):
    """A `ForwardModel` of some observations, with the outputs of one step."""

    every: Together
    """The layout of all observations of the series."""
    index: np.ndarray
    """The observations of the step."""
    inputs: tuple[np.ndarray, ...] | None
    """Inputs of each observation; None for a model without inputs."""

    def __call__(self, u: Array, /, **kwargs: Any) -> Any:
        """Outputs ``(d,)``, or ``(J, d)`` of a vectorized model, and side products if any.

        Side products of a model with inputs get the name of the observation: ``name_observation``.
        """
        seen = self.every.part(self.index)
        if self.inputs is None:
            outputs, extras = parted(self.model(u, **kwargs))
            return _with(self._chosen(outputs, seen, u), extras)
        found: dict[str, Any] = {}
        further: dict[str, Any] = {}
        for name, inputs in zip(seen.observations, self.inputs, strict=True):
            # the model gets copied inputs, so a change does not affect the next member
            found[name], extras = parted(self.model(u, inputs=inputs.copy(), **kwargs))
            further |= {f"{key}_{name}": value for key, value in extras.items()}
        return _with(self._chosen(found, seen, u), further)

    def _chosen(self, outputs: Any, seen: Together, u: Array) -> Any:
        """The outputs of the observations of the step."""
        whole = parts_of(outputs) is None
        layout = self.every if whole else seen
        try:
            if self.vectorized:
                chosen = layout.rows("model", outputs, len(u))
            else:
                chosen = layout.vector("model", outputs)
        except (TypeError, ValueError) as error:
            raise UnfitError(str(error)) from None
        return take_columns(chosen, self.every.columns(self.index)) if whole else chosen


def columns_of(sizes: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Positions of the entries of the parts ``index`` among the entries of all parts.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.observed.together import columns_of
    >>> columns_of(np.array([2, 1, 3]), np.array([0, 2]))
    array([0, 1, 3, 4, 5])
    """
    ends = np.cumsum(sizes)
    spans = [np.arange(ends[i] - sizes[i], ends[i]) for i in index]
    return np.concatenate([np.zeros(0, dtype=np.int64), *spans])


def _with(outputs: Any, extras: Mapping[str, Any]) -> Any:
    return (outputs, extras) if extras else outputs


def _vector(argument: str, value: Any, layout: Layout) -> np.ndarray:
    """Outputs of one member for one observation; a single datum may be a number."""
    if parts_of(value) is None and layout.n_whole == 1 and np.ndim(value) == 0:
        value = np.reshape(value, 1)
    return layout.flat(argument, value)[layout.kept]


def _columns(value: Any, n: int, layout: Layout) -> Any:
    """Outputs of ``n`` members for one observation; a single datum may be a vector."""
    single = parts_of(value) is None and layout.n_whole == 1 and np.shape(value) == (n,)
    return value.reshape(n, 1) if single else value


def _side_by_side(parts: Sequence[Any]) -> Any:
    """Columns of arrays joined: on the host if the kinds of array differ."""
    if len({type(part) for part in parts}) == 1:
        return array_namespace(parts[0]).concat(parts, axis=-1)
    return np.concatenate([host(part) for part in parts], axis=-1)
