"""Views of the data: the coordinate and the series with which each block is plotted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["View", "views_of"]

_MOST_SERIES = 8
"""Largest number of series plotted as lines. More are plotted as predicted against observed."""

_OWN = ("data", "block", "position", "data_units", "observation")
"""Coordinates along the data that do not locate a datum."""


class View(NamedTuple):
    """The plot of one block."""

    block: str
    rows: np.ndarray
    """The data of the block, as positions."""
    kind: Literal["series", "map", "pairs"]
    """Over one coordinate; on a map of two; or as predicted against observed."""
    x: np.ndarray
    """Coordinate of each datum, numbers or dates."""
    x_name: str
    y: np.ndarray
    """Second coordinate of each datum on a map; else empty."""
    y_name: str
    groups: np.ndarray
    """The series of each datum, as texts."""
    ends: np.ndarray
    """Whether a gap follows each datum in the order of x, for one series alone."""


def views_of(result: xr.Dataset) -> list[View]:
    """One view for each block of the data.

    A block with dates, or with one numeric coordinate, is plotted over this coordinate. Labels of
    a further coordinate separate the series. A block with two numeric coordinates is a map. A
    block whose labels have no order is plotted as predicted against observed.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> from ekitools.results.views import views_of
    >>> problem = ek.InverseProblem(
    ...     lambda u: {"a": u[0] * np.ones(3), "b": u}, ek.GaussianPrior([0.0], 1.0), 1.0,
    ...     {"a": [1.0, np.nan, 2.0], "b": [0.0]})
    >>> result = ek.run(problem, ek.EKI(), n_members=4, n_steps=1, rng=0)
    >>> [(view.block, view.kind, view.x.tolist()) for view in views_of(result)]
    [('a', 'series', [0, 2]), ('b', 'series', [0])]
    """
    if "block" not in result.coords:
        return []
    blocks = result.block.values
    return [_view(result, str(name), np.flatnonzero(blocks == name)) for name in _unique(blocks)]


def _view(result: xr.Dataset, block: str, rows: np.ndarray) -> View:
    ordered: dict[str, np.ndarray] = {}
    labels: dict[str, np.ndarray] = {}
    for name, coordinate in result.coords.items():
        if coordinate.dims != ("data",) or name in _OWN:
            continue
        values = coordinate.values[rows]
        if _is_known(values):
            kind = ordered if values.dtype.kind in "iufM" else labels
            kind[str(name)] = values
    position = result.position.values[rows]
    dates = [name for name, values in ordered.items() if values.dtype.kind == "M"]
    numbers = [name for name in ordered if name not in dates]
    series = [np.array([str(v) for v in labels[name]]) for name in labels]
    nothing = np.zeros(0)
    if not dates and len(numbers) >= 2:
        at, other = numbers[:2]
        x, y = ordered[at], ordered[other]
        return View(block, rows, "map", x, at, y, other, _texts(rows.size), nothing)
    if not ordered:
        kind_: Literal["series", "pairs"] = "pairs" if labels else "series"
        groups, ends = _texts(rows.size), _ends(position)
        return View(block, rows, kind_, position, "position", nothing, "", groups, ends)
    (first, *_) = [*dates, *numbers]
    x = ordered[first]
    series += [np.array([f"{name} = {v}" for v in ordered[name]]) for name in numbers if dates]
    groups = np.array([", ".join(parts) for parts in zip(*series, strict=True)])
    if not series or np.unique(x).size == x.size:
        groups = _texts(rows.size)
    many = np.unique(groups).size > _MOST_SERIES or np.unique(x).size == 1 < rows.size
    order = np.argsort(x, kind="stable")
    ends = np.zeros(rows.size, dtype=bool)
    if np.unique(groups).size == 1 and np.all(np.diff(position[order]) > 0):
        ends[order] = _ends(position[order])
    kind_ = "pairs" if many else "series"
    return View(block, rows, kind_, x, first, nothing, "", groups, ends)


def _is_known(values: np.ndarray) -> bool:
    """Whether the block has values of this coordinate."""
    if values.dtype.kind == "M":
        return not np.isnat(values).all()
    if values.dtype.kind in "iuf":
        return not np.isnan(values.astype(float)).all()
    return any(str(value) for value in values)


def _ends(position: np.ndarray) -> np.ndarray:
    """Whether data are missing between each position and the following one."""
    return np.append(np.diff(position) > 1, [False])[: position.size]


def _texts(n: int) -> np.ndarray:
    return np.full(n, "data")


def _unique(names: np.ndarray) -> list[object]:
    return list(dict.fromkeys(names.tolist()))
