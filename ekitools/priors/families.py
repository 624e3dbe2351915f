"""Families of marginals: quantile functions from both tails, and checks of marginals."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from scipy import stats
from scipy.special import ndtr, ndtri

from ekitools.priors.identity import describe, is_from_scipy, is_new, state_of
from ekitools.typing import Prior

__all__ = ["FARTHEST", "Family", "check_marginal", "grouped", "identity"]

FARTHEST = 37.5
"""Largest |z| whose standard normal tail probability is still a positive double."""

_NEW_NORMAL: Any = getattr(stats, "Normal", None)  # since scipy 1.15


class _Renamed:
    """A new distribution of scipy under the names of the old ones."""

    def __init__(self, marginal: Any) -> None:
        self.ppf, self.isf = marginal.icdf, marginal.iccdf
        self.cdf, self.sf = marginal.cdf, marginal.ccdf
        self.support = marginal.support


class Family:
    """Marginals of one family, evaluated together by broadcasting their parameters.

    Parameters
    ----------
    marginals : list of frozen distributions
        One distribution, or several of the same SciPy family with the same state and the same
        form of parameters.
    """

    def __init__(self, marginals: list[Any]) -> None:
        first = marginals[0]
        self.closed: tuple[Any, Any] | None = None
        if is_new(first):
            self.frozen: Any = _Renamed(first)
            if _NEW_NORMAL is not None and isinstance(first, _NEW_NORMAL):
                self.closed = (first.mean(), first.standard_deviation())
        elif not _is_plain(first):
            self.frozen = first  # a new instance might lose its state
        else:
            args = [
                np.array(each, dtype=float)
                for each in zip(*(m.args for m in marginals), strict=True)
            ]
            kwds = {k: np.array([m.kwds[k] for m in marginals], dtype=float) for k in first.kwds}
            self.frozen = first.dist(*args, **kwds)
            if type(first.dist) is type(stats.norm):
                # exact also if a tail probability underflows
                self.closed = (self.frozen.mean(), self.frozen.std())
        lower, upper = np.broadcast_arrays(*self.frozen.support())
        # the parameter never takes the value of an end point
        self.lower = np.where(np.isfinite(lower), np.nextafter(lower, np.inf), lower)
        self.upper = np.where(np.isfinite(upper), np.nextafter(upper, -np.inf), upper)

    def to_physical(self, z: np.ndarray) -> np.ndarray:
        """Quantiles of the standard normal to those of the family, ``(..., k)``."""
        if self.closed is not None:
            mean, sd = self.closed
            return np.asarray(mean + sd * z)
        z = np.clip(z, -FARTHEST, FARTHEST)
        u = self._quantile(z)
        lost = np.isnan(u) & ~np.isnan(z)
        u = np.where(lost, np.where(z <= 0, self.lower, self.upper), u)
        u = np.clip(u, self.lower, self.upper)
        for _ in range(80):  # an unbounded family without its tail: go back to a finite value
            lost = np.isinf(u)
            if not lost.any():
                break
            z = np.where(lost, 0.95 * z, z)
            u = np.where(lost, self._quantile(z), u)
            u = np.where(np.isnan(u) & lost, np.inf, u)
        return u

    def to_unconstrained(self, u: np.ndarray) -> np.ndarray:
        """The inverse of `to_physical`; infinite on and outside the bounds."""
        if self.closed is not None:
            mean, sd = self.closed
            return np.asarray((u - mean) / sd)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # from numbers outside the support
            below, above = self.frozen.cdf(u), self.frozen.sf(u)
        z = np.where(below <= 0.5, ndtri(below), -ndtri(above))
        inside = (u >= self.lower) & (u <= self.upper)
        return np.where(inside, np.clip(z, -FARTHEST, FARTHEST), z)

    def _quantile(self, z: np.ndarray) -> np.ndarray:
        with warnings.catch_warnings():
            # some families of scipy lose digits, not bounds, at probabilities below 1e-100
            warnings.simplefilter("ignore", RuntimeWarning)
            low = self.frozen.ppf(ndtr(np.minimum(z, 0)))
            high = self.frozen.isf(ndtr(-np.maximum(z, 0)))
        return np.where(z <= 0, low, high)


def grouped(marginals: list[Any]) -> list[tuple[list[int], Family]]:
    """Groups of columns with the same family and the same form of parameters.

    Only unmodified SciPy families are sure to broadcast their parameters. Any other distribution
    is a separate group.
    """
    groups: dict[Any, list[int]] = {}
    for i, m in enumerate(marginals):
        plain = not is_new(m) and _is_plain(m)
        key = (type(m.dist), len(m.args), tuple(m.kwds)) if plain else i
        groups.setdefault(key, []).append(i)
    return [(columns, Family([marginals[i] for i in columns])) for columns in groups.values()]


def identity(marginal: Any) -> tuple[Any, ...]:
    """Identity of a distribution: family, parameters and further state."""
    if is_new(marginal):
        return ("new", describe(marginal))
    kwds = tuple(sorted((k, float(v)) for k, v in marginal.kwds.items()))
    known = marginal.dist.name, tuple(float(a) for a in marginal.args), kwds
    state = state_of(marginal.dist)
    return (*known, state) if state else known


def check_marginal(where: str, marginal: Any) -> None:
    """Check the distribution of one parameter; ``where`` is the argument, for errors."""
    if is_new(marginal):
        return _check_new(where, marginal)
    if isinstance(marginal, stats.rv_continuous):
        known = getattr(stats, str(marginal.name), None)
        how = f"such as scipy.stats.{marginal.name}(...)" if known is not None else "by dist(...)"
        raise TypeError(
            f"{where}: must be a frozen distribution, got the family itself. Call it with its "
            f"parameters, {how}."
        )
    if not isinstance(getattr(marginal, "dist", None), stats.rv_continuous):
        raise TypeError(
            f"{where}: must be a frozen continuous scipy.stats distribution, got "
            f"{_kind(marginal)}.{_remedy(marginal)}"
        )
    if any(np.ndim(value) for value in (*marginal.args, *marginal.kwds.values())):
        raise TypeError(f"{where}: {_SCALAR}")
    if not np.all(np.isfinite(marginal.median())):
        raise ValueError(
            f"{where}: must have valid parameters, got {identity(marginal)}, whose median is not "
            "finite."
        )
    if not _is_plain(marginal):
        _check_quantiles(where, marginal)
    return None


_SCALAR = (
    "must have scalar parameters, got arrays. Give every parameter a name and its own distribution."
)
_DISCRETE = (
    " A discrete parameter needs a continuous relaxation: use a continuous distribution, such as "
    "scipy.stats.uniform(0.5, 50) for the whole numbers 1 to 50, and round in the model."
)


def _is_plain(marginal: Any) -> bool:
    """Whether the distribution is of an unmodified SciPy family."""
    return is_from_scipy(type(marginal.dist)) and not state_of(marginal.dist)


def _check_new(where: str, marginal: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        median = marginal.median()
        density = marginal.logpdf(median)
    if np.ndim(median):
        raise TypeError(f"{where}: {_SCALAR}")
    if not np.isfinite(median):
        raise ValueError(
            f"{where}: must have valid parameters, got {marginal!r}, whose median is not finite."
        )
    if np.isposinf(density):
        raise TypeError(f"{where}: must be continuous, got {marginal!r}.{_DISCRETE}")
    _check_quantiles(where, _Renamed(marginal))


def _check_quantiles(where: str, marginal: Any) -> None:
    """Check that quantiles lie within the support and agree with the distribution function."""
    p = np.array([0.05, 0.5, 0.95])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        u = np.asarray(marginal.ppf(p))
        back = np.asarray(marginal.cdf(u))
    low, high = marginal.support()
    if not np.all((low <= u) & (u <= high)) or not np.allclose(back, p, rtol=0, atol=1e-4):
        raise ValueError(
            f"{where}: must have a distribution function that rises from 0 to 1 over its support "
            f"({low:g}, {high:g}), got the values {back.tolist()} at its quantiles {p.tolist()}. "
            "Normalise the density, or derive the class from scipy.stats.rv_continuous with a "
            "support that fits it."
        )


def _kind(marginal: Any) -> str:
    return (
        f"the class {marginal.__name__}" if isinstance(marginal, type) else type(marginal).__name__
    )


def _remedy(marginal: Any) -> str:
    """The remedy in an error about this object."""
    if isinstance(marginal, type):
        return " Make an instance with its parameters."
    if isinstance(marginal, stats.gaussian_kde):
        return (
            " A kernel density estimate has no quantile function. Fit the prior to the sample by "
            "ek.Prior.from_samples({name: x}), or freeze a histogram, "
            "scipy.stats.rv_histogram(np.histogram(x, bins=50))()."
        )
    if isinstance(marginal, stats.rv_discrete) or isinstance(
        getattr(marginal, "dist", None), stats.rv_discrete
    ):
        return _DISCRETE
    if isinstance(marginal, Prior):
        return ' Join priors by ek.JointPrior({"field": ..., "rates": ek.Prior(...)}).'
    if hasattr(marginal, "logpdf") or hasattr(marginal, "rvs"):
        return (
            " A marginal is a distribution of one number with a quantile function. For correlated "
            "parameters use ek.Prior({...}, correlation=...) or ek.GaussianPrior(mean, cov)."
        )
    return " Use one such as scipy.stats.norm(0, 1)."
