"""Side products of a model run: numbers and arrays that do not enter the misfit."""

from __future__ import annotations

from collections.abc import Container, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from ekitools.core.arrays import host, masked_as_nan, of_library
from ekitools.core.labels import checked_labels
from ekitools.models.outputs import Failure, UnfitError, failure_of, safe_text
from ekitools.typing import Array

__all__ = [
    "Evaluation",
    "Extra",
    "Labels",
    "Output",
    "checked_extras",
    "gathered",
    "split_extras",
]


class Labels(NamedTuple):
    """Dimensions of a side product with their labels; empty for plain arrays."""

    dims: tuple[str, ...] = ()
    coords: tuple[tuple[str, str, tuple[Any, ...]], ...] = ()
    """A dimension, the kind of its labels ("date" or "plain") and the labels (dates as texts)."""

    @classmethod
    def of_json(cls, entry: Any) -> Labels:
        """Labels from an ``entry`` in JSON."""
        dims, coords = entry
        found = tuple((str(dim), str(kind), tuple(values)) for dim, kind, values in coords)
        return cls(tuple(map(str, dims)), found)

    def without_first(self) -> Labels:
        """The labels of one row."""
        first = self.dims[:1]
        return Labels(self.dims[1:], tuple(each for each in self.coords if each[0] not in first))

    def coordinates(self) -> dict[str, np.ndarray]:
        """The labels as arrays."""
        return {
            dim: np.array(values, dtype="datetime64[ns]" if kind == "date" else None)
            for dim, kind, values in self.coords
        }


class Extra(NamedTuple):
    """A side product of one member."""

    values: np.ndarray
    labels: Labels = Labels()


class Output(NamedTuple):
    """Outputs and side products of the model run of one member."""

    g: np.ndarray
    """Outputs ``(d,)``."""
    extras: dict[str, Extra]


class Evaluation(NamedTuple):
    """Outputs ``(J, d)``, with NaN rows for failures, and the reason of every failure."""

    g: Array
    failures: dict[int, Failure]
    extras: Mapping[int, Mapping[str, Extra]] = MappingProxyType({})
    """Side products by row, for rows that have any."""


def checked_extras(extras: Mapping[Any, Any]) -> dict[str, Extra]:
    """Copied side products of one member.

    Raises
    ------
    UnfitError
        If a name is not a text, or a value does not consist of real numbers.
    """
    return {_name(name): _extra(name, value) for name, value in extras.items()}


def split_extras(extras: Mapping[Any, Any], n: int) -> list[dict[str, Extra]]:
    """Side products of every member, from arrays with ``n`` members first, labelled or not.

    Raises
    ------
    UnfitError
        As for `checked_extras`, or if an array does not have the members first.
    """
    rows: list[dict[str, Extra]] = [{} for _ in range(n)]
    for name, extra in checked_extras(extras).items():
        if extra.values.shape[:1] != (n,):
            raise UnfitError(
                f"model: extras[{name!r}]: must have the {n} members first, got shape "
                f"{extra.values.shape}"
            )
        labels = extra.labels.without_first()
        for row, values in zip(rows, extra.values, strict=True):
            row[name] = Extra(np.asarray(values), labels)
    return rows


def gathered(
    rows: Mapping[int, Mapping[str, Extra]],
    n: int,
    known: Mapping[str, Labels],
    reserved: Container[str],
) -> tuple[dict[str, np.ndarray], dict[str, Labels], dict[int, Failure]]:
    """Side products of ``n`` members as arrays ``(n, ...)``, with NaN for members without any.

    Returns the arrays, their labels, and a `Failure` for each member whose side product differs in
    shape or labels from that of the first member. ``known`` are labels of earlier iterations.
    """
    arrays: dict[str, np.ndarray] = {}
    labels, failures = dict(known), {}
    for row, extras in rows.items():
        try:
            for name, extra in extras.items():
                _check_alike(name, extra, arrays.get(name), labels.get(name), reserved)
        except UnfitError as error:
            failures[row] = failure_of(error)
            continue
        for name, extra in extras.items():
            labels.setdefault(name, extra.labels)
            if name not in arrays:
                arrays[name] = np.full((n, *extra.values.shape), np.nan)
            arrays[name][row] = extra.values
    return arrays, labels, failures


def _check_alike(
    name: str, extra: Extra, array: Any, labels: Labels | None, reserved: Container[str]
) -> None:
    if name in reserved:
        raise UnfitError(f"model: extras: must not have the name {name!r}, which results use")
    if array is not None and array.shape[1:] != extra.values.shape:
        raise UnfitError(
            f"model: extras[{name!r}]: must have the same shape for every member, got "
            f"{array.shape[1:]} and {extra.values.shape}"
        )
    if labels is not None and labels != extra.labels:
        raise UnfitError(
            f"model: extras[{name!r}]: must have the same dimensions and labels for every member"
        )


def _name(name: Any) -> str:
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise UnfitError(f"model: extras: names must be texts, got {safe_text(name):.60}")
    return name


def _extra(name: Any, value: Any) -> Extra:
    labels = Labels()
    if of_library(value, "xarray", "DataArray"):
        indexes = {str(dim): value.indexes[dim] for dim in value.dims if dim in value.indexes}
        coords = tuple(_coordinate(name, dim, index) for dim, index in indexes.items())
        labels = Labels(tuple(map(str, value.dims)), coords)
        value = value.values
    try:
        value = masked_as_nan(value)
        array = host(value) if hasattr(value, "shape") else np.asarray(value)
    except (TypeError, ValueError):
        array = np.empty(0, dtype=object)
    if array.dtype.kind not in "fiub":
        raise UnfitError(
            f"model: extras[{name!r}]: must be real numbers, got {type(value).__name__} of dtype "
            f"{array.dtype}"
        )
    return Extra(array.astype(np.float64), labels)


def _coordinate(name: Any, dim: str, index: Any) -> tuple[str, str, tuple[Any, ...]]:
    try:
        values = checked_labels(f"extras[{name!r}]: {dim}", index, len(index), stem="")
    except (TypeError, ValueError) as error:
        raise UnfitError(f"model: {error}") from None
    if values and isinstance(values[0], np.datetime64):
        return dim, "date", tuple(map(str, values))
    return dim, "plain", values
