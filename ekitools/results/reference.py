"""Reference posteriors for `compare`: a result, a Gaussian, draws, or means and deviations."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from scipy.special import ndtri

from ekitools.core.arrays import as_array
from ekitools.results.reading import check_result, members_at, method_of

__all__ = ["Reference", "Sample", "as_reference", "as_sample", "listed", "method_names"]

_QUANTILES = 4096
"""Points that represent a Gaussian marginal, with an error of at most 5.1e-4 sd."""


class Sample(NamedTuple):
    """Weighted members, in the coordinates in which they are given."""

    x: np.ndarray
    """``(n, p)``."""
    weight: np.ndarray
    """``(n,)``, normalised."""
    mean: np.ndarray
    anomalies: np.ndarray
    """``(n, p)``; the product of their transpose with them is the covariance."""

    @property
    def sd(self) -> np.ndarray:
        """Standard deviations, ``(p,)``."""
        return np.asarray(np.linalg.norm(self.anomalies, axis=0))

    @property
    def n_effective(self) -> float:
        """Effective number of members, 1/Σw²."""
        return 1 / float(self.weight @ self.weight)

    def covariance(self, rows: slice) -> np.ndarray:
        """The rows ``rows`` of the covariance, ``(·, p)``."""
        return np.asarray(self.anomalies[:, rows].T @ self.anomalies)


class Reference(NamedTuple):
    """Moments, marginals and correlations of the posterior, for the compared parameters."""

    text: str
    names: list[Any]
    mean: np.ndarray
    sd: np.ndarray
    marginals: tuple[np.ndarray, np.ndarray] | None = None
    """Points ``(n, p)``, in standard deviations from the mean, and their weights ``(n,)``."""
    covariance: Callable[[slice], np.ndarray] | None = None
    """Rows of the covariance, in the same coordinates."""
    n_effective: float = np.nan
    named: bool = False
    """Whether the reference names its parameters. Only these parameters are compared."""


def as_sample(x: np.ndarray, weight: np.ndarray) -> Sample:
    """Moments of members ``(n, p)`` with normalised weights ``(n,)``."""
    mean = weight @ x
    root = np.sqrt(weight / max(1 - weight @ weight, 1e-12))
    return Sample(x, weight, mean, root[:, None] * (x - mean))


def method_names(results: list[xr.Dataset]) -> Iterator[str]:
    """The name of every method; the second and later results of a method get a number."""
    seen: dict[str, int] = {}
    for result in results:
        name = method_of(result).get("type", "result")
        seen[name] = seen.get(name, 0) + 1
        yield name if seen[name] == 1 else f"{name} {seen[name]}"


def as_reference(reference: Any, names: list[Any]) -> Reference:
    """Convert any reference that `ekitools.compare` takes.

    ``names`` are the parameters of the results.
    """
    if isinstance(reference, xr.Dataset):
        check_result(reference, "reference")
        (method,) = method_names([reference])
        u, weight = members_at(reference, -1).present()
        found = _from_draws(u, weight, reference.parameter.values.tolist(), names)
        return found._replace(text=f"{len(u)} members of {method}")
    if isinstance(reference, xr.DataArray):
        return _from_array(reference, names)
    if isinstance(reference, Mapping):
        return _from_pairs(reference, names)
    if isinstance(reference, tuple):
        return _from_gaussian(reference, names)
    return _from_draws(_as_numbers(reference, "draws"), None, None, names)


def _from_array(reference: xr.DataArray, names: list[Any]) -> Reference:
    if "parameter" not in reference.dims or reference.ndim < 2:
        raise ValueError(
            "reference: a DataArray must have the dimension parameter and a dimension of draws, "
            f"got {reference.dims}. Rename its dimensions."
        )
    draws = reference.transpose(..., "parameter").values.reshape(-1, reference.sizes["parameter"])
    known = reference.parameter.values.tolist() if "parameter" in reference.coords else None
    return _from_draws(draws, None, known, names)


def _from_draws(
    draws: np.ndarray, weight: np.ndarray | None, known: list[Any] | None, names: list[Any]
) -> Reference:
    wanted = _matched(names if known is None else known, names)
    if draws.ndim != 2 or draws.shape[1] != len(names if known is None else known):
        raise ValueError(
            f"reference: draws must have the shape (n, p) with p = {len(names)}, got "
            f"{draws.shape}. Pass an exact Gaussian as the tuple (mean, cov)."
        )
    if known is not None:
        at = {name: i for i, name in enumerate(known)}
        draws = draws[:, [at[name] for name in wanted]]
    if weight is None:
        draws = draws[np.isfinite(draws).all(axis=1)]
        weight = np.full(len(draws), 1 / max(len(draws), 1))
    if len(draws) < 2:
        raise ValueError(f"reference: must hold at least two finite draws, got {len(draws)}.")
    raw = as_sample(draws.astype(np.float64), weight)
    sd = _checked_sd(raw.sd, wanted)
    scaled = as_sample((raw.x - raw.mean) / sd, weight)
    return Reference(
        f"{len(draws)} draws",
        wanted,
        raw.mean,
        sd,
        (scaled.x, weight),
        scaled.covariance,
        raw.n_effective,
        known is not None,
    )


def _from_gaussian(reference: tuple[Any, ...], names: list[Any]) -> Reference:
    p = len(names)
    parts = [_as_numbers(part, "a tuple (mean, cov)") for part in reference]
    shapes = [part.shape for part in parts]
    if shapes != [(p,), (p, p)]:
        raise ValueError(
            f"reference: a tuple must be (mean, cov) of the shapes ({p},) and ({p}, {p}), got "
            f"{', '.join(map(str, shapes))}."
        )
    mean, cov = parts
    sd = _checked_sd(np.sqrt(np.maximum(np.diag(cov), 0)), names)
    correlation = cov / sd / sd[:, None]
    if not np.allclose(correlation, correlation.T, atol=1e-6) or not np.all(np.isfinite(mean)):
        raise ValueError(
            "reference: mean must be finite and cov symmetric. Use (cov + cov.T) / 2 for a "
            "covariance with rounding errors."
        )
    quantiles = ndtri((np.arange(_QUANTILES) + 0.5) / _QUANTILES)
    return Reference(
        "exact Gaussian",
        names,
        mean,
        sd,
        (
            np.broadcast_to(quantiles[:, None], (_QUANTILES, p)),
            np.full(_QUANTILES, 1 / _QUANTILES),
        ),
        correlation.__getitem__,
        np.inf,
    )


def _from_pairs(reference: Mapping[Any, Any], names: list[Any]) -> Reference:
    wanted = _matched(list(reference), names)
    pairs = _as_numbers([reference[name] for name in wanted], "a mapping of names to (mean, sd)")
    if pairs.shape != (len(wanted), 2) or not np.all(np.isfinite(pairs)):
        raise ValueError(
            "reference: a mapping must give a pair of finite numbers (mean, sd) for every "
            f"parameter, got the shape {pairs.shape}."
        )
    return Reference(
        "means and standard deviations",
        wanted,
        pairs[:, 0],
        _checked_sd(pairs[:, 1], wanted),
        named=True,
    )


def _matched(known: list[Any], names: list[Any]) -> list[Any]:
    """The ``known`` names of the reference, in the order of the results' ``names``."""
    there = set(known)
    unknown = sorted(there - set(names), key=known.index)
    if unknown or not known:
        raise ValueError(
            f"reference: must have parameters of the results ({listed(names)}), got "
            f"{listed(unknown) or 'none'}."
        )
    return [name for name in names if name in there]


def _as_numbers(value: Any, what: str) -> np.ndarray:
    with contextlib.suppress(TypeError):  # rows of different lengths
        array = as_array("reference", value)
        if array.dtype.kind in "fiub":
            return array.astype(np.float64)
    raise TypeError(
        "reference: must be a result, a tuple (mean, cov), draws (n, p) or a mapping of names "
        f"to (mean, sd), got {type(value).__name__} as {what}, which does not consist of numbers."
    )


def _checked_sd(sd: np.ndarray, names: list[Any]) -> np.ndarray:
    bad = ~((sd > 0) & (sd < np.inf))
    if bad.any():
        name = names[int(np.argmax(bad))]
        raise ValueError(
            f"reference: must have positive, finite standard deviations, got {sd[bad][0]} for "
            f"{name!r}. Leave out parameters with known values."
        )
    return sd


def listed(names: Sequence[Any], most: int = 8) -> str:
    """The names as a text, with at most ``most`` of them."""
    shown = ", ".join(map(str, names[:most]))
    return shown if len(names) <= most else f"{shown}, ... ({len(names)} in all)"
