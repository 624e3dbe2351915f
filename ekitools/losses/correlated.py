"""Covariances of a densely sampled series or field, from a kernel of the distance."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import numpy as np

from ekitools.core.arrays import as_real, host, unmasked
from ekitools.core.checks import number, one_of
from ekitools.losses.forms import checked_sd
from ekitools.losses.markov import Markov

__all__ = ["KERNELS", "MOST_DENSE", "Kernel", "correlated_covariance"]

MOST_DENSE = 5_000
"""Most data of a dense covariance: its matrix has 200 MB, and its factorisation takes seconds."""


def _exponential(h: np.ndarray) -> np.ndarray:
    return np.exp(-h)


def _matern_3(h: np.ndarray) -> np.ndarray:
    h = np.sqrt(3) * h
    return (1 + h) * np.exp(-h)


def _matern_5(h: np.ndarray) -> np.ndarray:
    h = np.sqrt(5) * h
    return (1 + h + h**2 / 3) * np.exp(-h)


def _squared_exponential(h: np.ndarray) -> np.ndarray:
    return np.exp(-(h**2) / 2)


Kernel: TypeAlias = Literal["exponential", "matern-3/2", "matern-5/2", "squared-exponential"]
KERNELS: Mapping[Kernel, Callable[[np.ndarray], np.ndarray]] = MappingProxyType(
    {
        "exponential": _exponential,
        "matern-3/2": _matern_3,
        "matern-5/2": _matern_5,
        "squared-exponential": _squared_exponential,
    }
)
"""Correlations of two data at a distance of h lengths."""


def correlated_covariance(
    sd: Any, coordinates: Any, length: Any, kernel: Kernel, nugget: float
) -> Markov | np.ndarray:
    """Γ of `ekitools.GaussianNoise.correlated`. It is a matrix only if no smaller form exists."""
    correlation = KERNELS[one_of("kernel", kernel, KERNELS)]
    nugget = number("nugget", nugget, least=0, below=1)
    x = _in_lengths(coordinates, length)
    d = len(x)
    scale = checked_sd("sd", sd)
    if scale.ndim and scale.size != d:
        raise ValueError(f"sd: must be one number or have d = {d} entries, got {scale.size}.")
    scale = np.broadcast_to(scale, (d,)).astype(np.float64)
    if nugget == 0:
        _check_different(x)
        if correlation is _exponential and x.shape[1] == 1:
            return Markov(scale, x[:, 0])
    if d > MOST_DENSE:
        raise ValueError(
            f"coordinates: must be at most {MOST_DENSE} for a dense covariance, got {d}, whose "
            f"matrix has {8e-9 * d**2:.3g} GB. Keep one of every {-(-d // MOST_DENSE)} data, or "
            'kernel="exponential" without nugget on a series, which costs O(d).'
        )
    matrix = (1 - nugget) * correlation(_distances(x))
    np.fill_diagonal(matrix, 1.0)
    return matrix * np.outer(scale, scale)


def _distances(x: np.ndarray) -> np.ndarray:
    """Euclidean distances between all rows, ``(d, d)``."""
    if x.shape[1] == 1:
        return np.abs(np.subtract.outer(x[:, 0], x[:, 0]))
    return np.sqrt(sum(np.subtract.outer(column, column) ** 2 for column in x.T))


def _check_different(x: np.ndarray) -> None:
    """Check that no coordinate is there twice: Γ would be singular."""
    order = np.lexsort(x.T)
    equal = np.ones(len(x) - 1, dtype=bool)
    for column in x.T:
        equal &= np.diff(column[order]) == 0
    same = np.flatnonzero(equal)
    if same.size:
        first, second = sorted(order[same[0] : same[0] + 2].tolist())
        raise ValueError(
            f"coordinates: must be different, got the same at index {first} and {second}. Average "
            "data that share a coordinate, or pass nugget > 0, their share of independent noise."
        )


def _in_lengths(coordinates: Any, length: Any) -> np.ndarray:
    """Coordinates from their smallest on in units of the length, ``(d, dim)``."""
    dates = _dates(unmasked("coordinates", coordinates))
    if dates is not None:
        return np.asarray((dates - dates.min()) / _duration(length), dtype=np.float64)[:, None]
    x = as_real("coordinates", coordinates, ndim=(1, 2)).astype(np.float64)
    if x.size == 0:
        raise ValueError(f"coordinates: must not be empty, got {coordinates!r:.60}.")
    remedy = "Give the length in the units of coordinates."
    x = (x - x.min(axis=0)) / number("length", length, above=0, remedy=remedy)
    return x[:, None] if x.ndim == 1 else x


def _dates(coordinates: Any) -> np.ndarray | None:
    """Dates as datetime64 or durations as timedelta64, ``(d,)``; None for other coordinates."""
    try:
        given = host(coordinates) if hasattr(coordinates, "shape") else np.asarray(coordinates)
    except (TypeError, ValueError):  # a ragged list, or a Dataset
        return None
    if given.dtype == object and given.size:
        first = given.flat[0]
        if getattr(first, "tzinfo", None) is not None:
            raise TypeError(
                "coordinates: must be dates without a time zone, got one with. Convert them to "
                "UTC and drop the zone, as with index.tz_convert(None)."
            )
        if isinstance(first, dt.date | dt.timedelta):
            unit = "datetime64[us]" if isinstance(first, dt.date) else "timedelta64[us]"
            given = given.astype(unit)
    if given.dtype.kind not in "mM":
        return None
    if given.ndim != 1 or given.size == 0:
        raise ValueError(f"coordinates: dates must be (d,), got shape {given.shape}.")
    if np.isnat(given).any():
        first = int(np.flatnonzero(np.isnat(given))[0])
        raise ValueError(
            f"coordinates: must have no missing date, got NaT at index {first}. Remove that datum."
        )
    if np.datetime_data(given.dtype)[0] in ("Y", "M"):  # their steps have no fixed length
        given = given.astype(f"{given.dtype.kind}8[D]")
    return given


def _duration(length: Any) -> np.timedelta64:
    """A correlation length of fixed duration."""
    if isinstance(length, dt.timedelta):
        length = np.timedelta64(length)
    if not isinstance(length, np.timedelta64):
        raise TypeError(
            f"length: must be a duration if coordinates are dates, got {length!r}. Pass "
            "np.timedelta64(6, 'h'), for example."
        )
    unit = np.datetime_data(length.dtype)[0]
    if unit in ("Y", "M", "generic") or not length > np.timedelta64(0, "D"):
        raise ValueError(
            f"length: must be positive, in days or a shorter unit, got {length!r}. Pass "
            "np.timedelta64(30, 'D') for a month."
        )
    return length
