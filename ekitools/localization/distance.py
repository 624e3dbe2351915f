"""Localization by the distance between a parameter and a datum."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from scipy.sparse import csr_array
from scipy.spatial import cKDTree

from ekitools.core.arrays import as_real
from ekitools.core.checks import number, one_of, put, sequence
from ekitools.localization.places import of_data, of_parameters
from ekitools.localization.rule import Rule, Weighing, own_analyses
from ekitools.localization.tapers import TAPERS, Taper
from ekitools.typing import Localizer, Neighbourhoods

__all__ = ["Distance"]

Metric: TypeAlias = Literal["euclidean", "great-circle"]
_METRICS: tuple[Metric, ...] = get_args(Metric)

ADAPTIVE: Literal["adaptive"] = "adaptive"
"""A radius that is chosen from the ensemble."""

_EARTH = 6371.0088
"""Mean radius of the Earth in kilometres."""


@dataclass(frozen=True, eq=False, repr=False)
class Distance(Rule):
    r"""Weights that fall with the distance between a parameter and a datum.

    A datum at the distance x has the weight ρ(x/c) with the radius c and the taper ρ. The weight of
    Gaspari & Cohn's taper is 0.21 at one radius and 0 from two radii on. Parameters without a datum
    that near keep their prior.

    Parameters
    ----------
    parameters : (p,) or (p, dim), optional
        Coordinates of the parameters, in physical units such as kilometres. By default they are
        those of the prior, such as `GaussianRandomField` with ``parameters="values"`` (see
        `ekitools.typing.HasPoints`).
    data : (d,) or (d, dim), optional
        Coordinates of the data, in the same units. By default they are the numeric coordinates of
        labelled data, in the order of ``coordinates``.
    radius : float or "adaptive", default "adaptive"
        c ≥ 0 in the same units; kilometres with "great-circle". "adaptive" chooses c at the first
        step by leaving members out, for all of the data (see `choose_strength`). The result has
        it as ``history_radius``, and its curve as ``radius_score`` over ``radius_tried``.
    taper : {"gaspari-cohn", "box"}, default "gaspari-cohn"
        ρ. "box" is 1 up to one radius, and 0 beyond it.
    metric : {"euclidean", "great-circle"}, default "euclidean"
        How distance is measured. "great-circle" is for coordinates (longitude, latitude) in
        degrees; distances are in kilometres on a sphere with the Earth's mean radius.
    coordinates : tuple of str, optional
        Names of the coordinates of labelled data, one for each dimension. By default all numeric
        ones, in their order.
    resolution : float, default 0.5
        Local analyses are made at the points of a grid with this spacing, in radii, and
        interpolated to the parameters between them [1]_, where there are fewer points than
        parameters. This moves members by about 0.04 posterior standard deviations with 0.5, and by
        0.01 with 0.25. 0 makes one analysis for every parameter.

    Raises
    ------
    TypeError, ValueError
        If coordinates are missing, or do not fit each other, the parameters or the data.

    See Also
    --------
    Correlation : Without coordinates.
    choose_strength : The radius that predicts members left out best, and its curve.

    Notes
    -----
    Neighbours are found by a tree, so that no p × d matrix is formed. For different lengths in
    different directions, divide the coordinates by these lengths.

    References
    ----------
    .. [1] Yang, Kalnay, Hunt & Bowler (2009), Q. J. R. Meteorol. Soc. 135, 251-262.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> cells, wells = np.arange(100.0), np.array([10.0, 80.0])
    >>> rule = ek.localization.Distance(cells, wells, radius=5.0)
    >>> rule
    Distance(p=100, d=2, radius=5.0)
    >>> u = np.random.default_rng(0).standard_normal((20, 100))
    >>> new = ek.kalman_update(u, u[:, [10, 80]], np.ones(2), 0.1, localization=rule)
    >>> np.flatnonzero((new != u).any(axis=0))[[0, -1]]  # within two radii of a well
    array([ 1, 89])
    """

    parameters: Any = None
    data: Any = None
    radius: float | Literal["adaptive"] = ADAPTIVE
    taper: Taper = "gaspari-cohn"
    metric: Metric = "euclidean"
    coordinates: tuple[str, ...] | None = None
    resolution: float = 0.5
    _places: tuple[np.ndarray | None, np.ndarray | None] = field(init=False)

    def __post_init__(self) -> None:
        radius = _checked_radius(self.radius)
        put(self, taper=one_of("taper", self.taper, TAPERS))
        put(self, metric=one_of("metric", self.metric, _METRICS))
        if self.coordinates is not None:
            put(self, coordinates=_checked_names(self.coordinates))
        resolution = number("resolution", self.resolution, least=0, most=1)
        given = (("parameters", self.parameters), ("data", self.data))
        points, data = (None if x is None else self._checked(name, x) for name, x in given)
        if points is not None and data is not None:
            _check_dimensions(points, data)
        put(self, radius=radius, resolution=resolution, _places=(points, data))

    def __repr__(self) -> str:
        sizes = [
            f"{name}={len(place)}"
            for name, place in zip("pd", self._places, strict=True)
            if place is not None
        ]
        return f"Distance({', '.join([*sizes, f'radius={self.radius!r}'])})"

    def located(self, n_parameters: int, n_data: int, target: Any = None) -> Localizer:
        """The rule for p parameters and d data; coordinates that are not given are the target's."""
        if self.radius == ADAPTIVE:
            raise ValueError(
                f'radius: must be a number for one analysis, got "{ADAPTIVE}". Choose a number '
                "with ek.localization.choose_strength."
            )
        points, data = self._located_places(n_parameters, n_data, target)
        taper, end = TAPERS[self.taper]
        return _Near(points, data, float(self.radius), taper, end, self._on_sphere, self.resolution)

    @property
    def strength(self) -> float | None:
        """The radius; None where it has to be chosen."""
        return None if self.radius == ADAPTIVE else float(self.radius)

    @property
    def strength_name(self) -> str:
        """The name of the option that holds the strength."""
        return "radius"

    def strengths(self, n_parameters: int, n_data: int, target: Any = None) -> np.ndarray:
        """Radii by factors of √2, from few data to many.

        The least is the median distance of a parameter to its nearest datum, and the largest that
        to the 500th.
        """
        points, data = self._located_places(n_parameters, n_data, target)
        some = points[
            np.unique(np.linspace(0, len(points) - 1, min(len(points), 1000)).astype(int))
        ]
        many = min(len(data), _MOST_NEAR)
        near = cKDTree(data).query(some, k=[1, many])[0]
        least, most = np.median(near[:, 0]), np.median(near[:, 1])
        if self._on_sphere:
            least, most = (_arc(np.array([each]))[0] for each in (least, most))
        if not most > 0:
            return np.ones(1)
        least = max(least, most / 1000)
        return np.asarray(least * 2 ** np.arange(0, math.log2(most / least) + 0.5, 0.5))

    def with_strength(self, value: float) -> Distance:
        """The rule with this radius."""
        rule = copy(self)  # its coordinates are checked
        put(rule, radius=_checked_radius(value))
        return rule

    @property
    def _on_sphere(self) -> bool:
        return self.metric == "great-circle"

    def _checked(self, name: str, given: Any) -> np.ndarray:
        """Coordinates ``(n, dim)``; points in space for longitudes and latitudes."""
        points = as_real(name, given, ndim=(1, 2)).astype(np.float64, copy=False)
        points = points[:, None] if points.ndim == 1 else points
        if points.size == 0 or not np.isfinite(points).all():
            raise ValueError(
                f"{name}: must be finite coordinates (n,) or (n, dim), got "
                f"{'none' if points.size == 0 else 'NaN or infinity'}. Remove those places."
            )
        if not self._on_sphere:
            return points
        if points.shape[1] != 2 or np.abs(points[:, 1]).max() > 90:
            raise ValueError(
                f"{name}: must be (n, 2) with longitude and latitude in degrees for "
                f'metric="great-circle", got shape {points.shape}. Put the longitude first.'
            )
        longitude, latitude = np.radians(points).T
        flat = np.cos(latitude)
        return _EARTH * np.stack(
            [flat * np.cos(longitude), flat * np.sin(longitude), np.sin(latitude)], axis=1
        )

    def _located_places(
        self, n_parameters: int, n_data: int, target: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        points, data = self._places
        if points is None:
            points = self._checked("parameters", of_parameters(target))
        if data is None:
            data = self._checked("data", of_data(target, self.coordinates))
        for name, place, n in (("parameters", points, n_parameters), ("data", data, n_data)):
            if len(place) != n:
                raise ValueError(
                    f"localization: {name} must have coordinates of all {n} {name}, got "
                    f"{len(place)}."
                )
        _check_dimensions(points, data)
        return points, data


_BLOCK = 1 << 16
"""Parameters whose boxes are found at a time."""

_MOST_NEAR = 500
"""Data in the support of the largest radius that is tried."""


def _checked_radius(radius: Any) -> Any:
    """A number, or "adaptive"."""
    if not isinstance(radius, str):
        return number("radius", radius, least=0, infinite=True)
    if radius != ADAPTIVE:
        raise ValueError(f'radius: must be a number or "{ADAPTIVE}", got {radius!r}.')
    return radius


def _checked_names(names: Any) -> tuple[str, ...]:
    """Different names of coordinates."""
    texts = isinstance(names, np.ndarray) and names.dtype.kind == "U" and names.ndim == 1
    known = tuple(map(str, names)) if texts else names
    given = sequence("coordinates", known, "names of coordinates")
    if not given or any(not isinstance(name, str) or not name for name in given):
        raise TypeError(f"coordinates: must be names of coordinates, got {names!r:.60}.")
    if len(set(given)) < len(given):
        raise ValueError(f"coordinates: must be different names, got {given}.")
    return given


def _check_dimensions(points: np.ndarray, data: np.ndarray) -> None:
    if points.shape[1] != data.shape[1]:
        raise ValueError(
            "parameters, data: must have the same number of coordinates, got "
            f"{points.shape[1]} and {data.shape[1]}. Select coordinates of labelled data with "
            "coordinates=(...)."
        )


@dataclass(frozen=True, eq=False)
class _Near(Weighing):
    points: np.ndarray
    data: np.ndarray
    radius: float
    taper: Callable[[np.ndarray], np.ndarray]
    end: float
    on_sphere: bool
    resolution: float
    tree: cKDTree = field(init=False)
    origin: np.ndarray | None = field(init=False)
    """Of the grid of analyses, where they are interpolated."""

    def __post_init__(self) -> None:
        put(self, tree=cKDTree(self.data), origin=self._grid())

    def weights(self, columns: np.ndarray, _u: np.ndarray, _outputs: np.ndarray) -> csr_array:
        """The taper at the distances."""
        return self._weights(self.points[columns])

    def neighbourhoods(self, columns: slice, u: np.ndarray, outputs: np.ndarray) -> Neighbourhoods:
        """The analyses at the points of the grid, or one for every parameter."""
        if math.isinf(self.radius):
            m, d = columns.stop - columns.start, len(self.data)
            one = np.zeros((m, 1), dtype=np.int64)
            return Neighbourhoods(
                np.array([0, d]), np.arange(d), np.ones(d), one[:1], one[:, 0], one + 1.0
            )
        if self.origin is None:
            return super().neighbourhoods(columns, u, outputs)
        part = self.points[columns] - self.origin
        part /= self._spacing
        low = np.floor(part)
        part -= low
        shape = tuple(low.max(axis=0).astype(np.int64) + 2)
        strides = np.cumprod((1, *shape[:0:-1]))[::-1]
        keys = (low @ strides).astype(np.int64)
        del low
        boxes, mixture = _different(keys, math.prod(shape))
        corners = list(np.ndindex(*(2,) * len(shape)))
        grid, analysis = np.unique(boxes[:, None] + corners @ strides, return_inverse=True)
        at = self.origin + self._spacing * np.stack(np.unravel_index(grid, shape), axis=1)
        if self.on_sphere:
            at *= _EARTH / np.linalg.norm(at, axis=1, keepdims=True)
        near = own_analyses(self._weights(at))
        share = np.ones((len(part), len(corners)))
        for i, corner in enumerate(corners):
            for axis, high in enumerate(corner):
                share[:, i] *= part[:, axis] if high else 1 - part[:, axis]
        return near._replace(
            analysis=analysis.reshape(len(boxes), -1), mixture=mixture, share=share
        )

    @property
    def _spacing(self) -> float:
        return self.resolution * self.radius

    def _grid(self) -> np.ndarray | None:
        if self._spacing == 0 or math.isinf(self.radius) or self.points.shape[1] > 3:
            return None
        origin = self.points.min(axis=0)
        if np.ptp(self.points, axis=0).max() > 2**20 * self._spacing:
            return None
        p, found = len(self.points), np.zeros(0)
        for i in range(0, p, _BLOCK):
            cells = np.floor((self.points[i : i + _BLOCK] - origin) / self._spacing)
            found = np.union1d(found, cells @ 2.0 ** (21 * np.arange(cells.shape[1])))
            if p < 2 * len(found):
                return None
        return origin

    def _weights(self, points: np.ndarray) -> csr_array:
        shape = (len(points), len(self.data))
        if math.isinf(self.radius):
            return csr_array(np.ones(shape))
        reach = self.end * self.radius
        if self.on_sphere:  # a chord is shorter than its arc
            reach = 2 * _EARTH * math.sin(min(reach / (2 * _EARTH), math.pi / 2))
        near = cKDTree(points).sparse_distance_matrix(self.tree, reach, output_type="ndarray")
        x = near["v"]
        if self.on_sphere:
            x = _arc(x)
        z = x / self.radius if self.radius else np.where(x > 0, np.inf, 0.0)
        return csr_array((self.taper(z), (near["i"], near["j"])), shape=shape)


def _different(keys: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The different keys below n, and the place of every key among them."""
    if n > 4 * len(keys):
        return np.unique(keys, return_inverse=True)
    there = np.zeros(n, dtype=bool)
    there[keys] = True
    return np.flatnonzero(there), (np.cumsum(there) - 1)[keys]


def _arc(chord: np.ndarray) -> np.ndarray:
    """Length on the sphere of a chord through it."""
    return np.asarray(2 * _EARTH * np.arcsin(np.minimum(chord / (2 * _EARTH), 1)))
