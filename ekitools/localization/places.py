"""Positions of a problem's parameters and data, looked up by their labels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ekitools.observed.layout import Layout
from ekitools.typing import HasPoints

__all__ = ["named_data", "named_parameters", "of_data", "of_parameters"]

_REMEDY = "Pass coordinates: ek.localization.Distance(parameters, data, radius)."


def named_parameters(entries: Iterable[Any], n: int, target: Any) -> list[int]:
    """Return the indices of parameters that are given by name or index."""
    names = None if target is None else target.parameter_names
    known = {} if names is None else {name: i for i, name in enumerate(names)}
    return [_number(entry, known, n, "parameters") for entry in entries]


def named_data(entries: Iterable[Any], n: int, target: Any) -> np.ndarray:
    """Return the indices of data that are given by block, name or index."""
    known: dict[Any, int] = {}
    blocks = np.zeros(0, dtype=object)
    if target is not None:
        known = {name: i for i, name in enumerate(target.data_names)}
        if isinstance(target.layout, Layout) and target.layout.named:
            blocks = target.layout.coordinates()["block"]
    found = []
    for entry in entries:
        own = np.flatnonzero(blocks == entry) if isinstance(entry, str) else np.zeros(0, int)
        found.append(own if own.size else np.array([_number(entry, known, n, "data")]))
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)


def _number(entry: Any, known: dict[Any, int], n: int, what: str) -> int:
    if isinstance(entry, str):
        if entry in known:
            return known[entry]
        some = ", ".join(map(repr, list(known)[:20])) or f"the numbers 0 to {n - 1}"
        raise ValueError(f"groups: must name known {what}, got {entry!r}. Use one of {some}.")
    if not 0 <= entry < n:
        raise ValueError(f"groups: must have indices of {what} from 0 to {n - 1}, got {entry}.")
    return int(entry)


def of_parameters(target: Any) -> np.ndarray:
    """Return the coordinates ``(p, dim)`` of a problem's parameters, taken from its prior."""
    prior = None if target is None else target.prior
    points = prior.points if isinstance(prior, HasPoints) else None
    if points is None:
        raise ValueError(
            f"parameters: must have coordinates, got a prior without coordinates. {_REMEDY} Or "
            'parametrize a field by its values: ek.GaussianRandomField(..., parameters="values").'
        )
    if np.isnan(points).any():
        raise ValueError(
            "parameters: must all have coordinates, got a field and parameters without "
            f"coordinates. {_REMEDY} Or use ek.localization.Groups."
        )
    return points


def of_data(target: Any, names: tuple[str, ...] | None) -> np.ndarray:
    """Return the coordinates ``(d, dim)`` of a problem's labelled data."""
    layout = None if target is None else target.layout
    known = layout.coordinates() if isinstance(layout, Layout) else {}
    found = {name: values for name, values in known.items() if name not in ("block", "position")}
    if names is None:
        found = {name: v for name, v in found.items() if v.dtype.kind in "iuf"}
    else:
        for name in names:
            if name not in found:
                there = ", ".join(map(repr, found)) or "none"
                raise ValueError(
                    f"coordinates: must be coordinates of the data, got {name!r}. The data have "
                    f"{there}."
                )
        found = {name: found[name] for name in names}
    if not found:
        raise ValueError(f"data: must have coordinates, got data without labels. {_REMEDY}")
    return np.stack([np.asarray(v, dtype=np.float64) for v in found.values()], axis=1)
