"""Independent parameters by name, each with a distribution of scipy.stats."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from scipy import stats
from scipy.special import ndtr, ndtri

from ekitools.core.arrays import as_rng, digest, host, like
from ekitools.core.checks import integer
from ekitools.priors.gaussian import _check_points
from ekitools.typing import Array, Rng

__all__ = ["Prior"]


_FARTHEST = 37.5
"""Beyond it the standard normal's tail probability is not a positive double any more."""


class Prior:
    r"""Named, independent parameters, each with a distribution from scipy.stats.

    Every parameter is carried to a standard normal by its own quantile function,
    u = F⁻¹(Φ(z)), so bounds hold for every member at every iteration and the prior is
    exactly N(0, I) in the coordinates in which the methods work. Both tails are computed
    from their own side (the quantile function below the median, the inverse survival
    function above), so no digits are lost in either.

    Parameters
    ----------
    marginals : mapping of str to frozen scipy.stats distribution
        ``{"rate": scipy.stats.lognorm(1.0), ...}``, continuous and with scalar parameters.

    Attributes
    ----------
    marginals : mapping
        As given, read-only.
    names : tuple of str
        Its keys.

    Raises
    ------
    TypeError, ValueError
        If it is empty or an entry is not a frozen continuous distribution.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import stats
    >>> import ekitools as ek
    >>> prior = ek.Prior({"rate": stats.lognorm(1.0), "share": stats.uniform(0, 1)})
    >>> prior.to_physical(np.array([[0.0, 0.0]]))  # the medians
    array([[1. , 0.5]])
    >>> bool((prior.sample(100, rng=0) > 0).all())
    True
    """

    def __init__(self, marginals: Mapping[str, Any]) -> None:
        if not isinstance(marginals, Mapping):
            raise TypeError(
                "marginals: must be a mapping of names to frozen scipy.stats distributions, got "
                f"{type(marginals).__name__}."
            )
        if not marginals:
            raise ValueError("marginals: must not be empty.")
        for name, marginal in marginals.items():
            _check_marginal(name, marginal)
        self._marginals = dict(marginals)
        self.names: tuple[str, ...] = tuple(self._marginals)
        self._groups = _group(list(self._marginals.values()))

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}: {m.dist.name}" for name, m in self._marginals.items())
        return f"Prior({inside})"

    @property
    def marginals(self) -> Mapping[str, Any]:
        """The distributions by name, read-only."""
        return MappingProxyType(self._marginals)

    @property
    def n_parameters(self) -> int:
        """Number of parameters p."""
        return len(self.names)

    def sample(self, n: int, *, rng: Rng = None) -> np.ndarray:
        """``n`` draws in physical coordinates, ``(n, p)``."""
        return self.to_physical(self.sample_unconstrained(n, rng=rng))

    def sample_unconstrained(self, n: int, *, rng: Rng = None) -> np.ndarray:
        """``n`` standard normal draws, ``(n, p)``."""
        return as_rng(rng).standard_normal((integer("n", n), self.n_parameters))

    def logpdf(self, u: Any) -> np.ndarray:
        """Log-density at physical ``(p,)`` or ``(n, p)``; −inf outside the support."""
        u = _check_points(u, self.n_parameters)
        columns = [m.logpdf(u[..., i]) for i, m in enumerate(self._marginals.values())]
        return np.asarray(np.sum(columns, axis=0))

    def to_physical(self, z: Array) -> Array:
        """U = F⁻¹(Φ(z)), strictly within every bound; NaN rows stay NaN."""
        return self._map(z, _Family.to_physical)

    def to_unconstrained(self, u: Array) -> Array:
        """Z = Φ⁻¹(F(u)), within ±37.5 for u inside the support."""
        return self._map(u, _Family.to_unconstrained)

    def whiten(self, z: Array) -> Array:
        """The same: the prior already is N(0, I) in unconstrained coordinates."""
        return z

    def unwhiten(self, w: Array) -> Array:
        """The same: the prior already is N(0, I) in unconstrained coordinates."""
        return w

    def fingerprint(self) -> str:
        """A short text that changes whenever a name or a distribution does."""
        return digest(*((name, *_identity(m)) for name, m in self._marginals.items()))

    def _map(self, x: Array, transform: Any) -> Array:
        values = host(x)
        if values.ndim == 0 or values.shape[-1] != self.n_parameters:
            raise ValueError(
                f"ensemble: last axis must have p = {self.n_parameters} entries, got "
                f"{values.shape}."
            )
        out = np.empty(values.shape, dtype=np.float64)
        for columns, family in self._groups:
            out[..., columns] = transform(family, values[..., columns].astype(np.float64))
        return like(out, x)


class _Family:
    """Marginals of one family, evaluated together by broadcasting their parameters."""

    def __init__(self, marginals: list[Any]) -> None:
        self.dist = marginals[0].dist
        count = len(marginals[0].args)
        self.args = [np.array([m.args[i] for m in marginals], dtype=float) for i in range(count)]
        names = marginals[0].kwds
        self.kwds = {k: np.array([m.kwds[k] for m in marginals], dtype=float) for k in names}
        self.frozen = self.dist(*self.args, **self.kwds)
        lower, upper = np.broadcast_arrays(*self.frozen.support())
        # an end point itself is not a value the parameter may take
        self.lower = np.where(np.isfinite(lower), np.nextafter(lower, np.inf), lower)
        self.upper = np.where(np.isfinite(upper), np.nextafter(upper, -np.inf), upper)
        # the identity up to scale, also where a tail probability underflows
        self.closed = None
        if self.dist.name == "norm":
            self.closed = (self.frozen.mean(), self.frozen.std())

    def to_physical(self, z: np.ndarray) -> np.ndarray:
        if self.closed is not None:
            mean, sd = self.closed
            return np.asarray(mean + sd * z)
        z = np.clip(z, -_FARTHEST, _FARTHEST)
        with warnings.catch_warnings():
            # some families of scipy lose digits, not bounds, at probabilities below 1e-100
            warnings.simplefilter("ignore", RuntimeWarning)
            low = self.frozen.ppf(ndtr(np.minimum(z, 0)))
            high = self.frozen.isf(ndtr(-np.maximum(z, 0)))
        u = np.where(z <= 0, low, high)
        lost = np.isnan(u) & ~np.isnan(z)
        u = np.where(lost, np.where(z <= 0, self.lower, self.upper), u)
        return np.clip(u, self.lower, self.upper)

    def to_unconstrained(self, u: np.ndarray) -> np.ndarray:
        if self.closed is not None:
            mean, sd = self.closed
            return np.asarray((u - mean) / sd)
        below, above = self.frozen.cdf(u), self.frozen.sf(u)
        z = np.where(below <= 0.5, ndtri(below), -ndtri(above))
        inside = (u >= self.lower) & (u <= self.upper)
        return np.where(inside, np.clip(z, -_FARTHEST, _FARTHEST), z)


def _group(marginals: list[Any]) -> list[tuple[list[int], _Family]]:
    """Columns of the same family and the same way of giving parameters, together."""
    groups: dict[Any, list[int]] = {}
    for i, m in enumerate(marginals):
        groups.setdefault((type(m.dist), m.dist.name, len(m.args), tuple(m.kwds)), []).append(i)
    return [(columns, _Family([marginals[i] for i in columns])) for columns in groups.values()]


def _identity(marginal: Any) -> tuple[Any, ...]:
    kwds = tuple(sorted((k, float(v)) for k, v in marginal.kwds.items()))
    return marginal.dist.name, tuple(float(a) for a in marginal.args), kwds


def _check_marginal(name: Any, marginal: Any) -> None:
    if not isinstance(name, str):
        raise TypeError(f"marginals: names must be text, got {name!r}.")
    if isinstance(marginal, stats.rv_continuous):
        raise TypeError(
            f"marginals[{name!r}]: must be a frozen distribution, got the family itself. Call it "
            f"with its parameters, such as scipy.stats.{marginal.name}(...)."
        )
    if not isinstance(getattr(marginal, "dist", None), stats.rv_continuous):
        raise TypeError(
            f"marginals[{name!r}]: must be a frozen continuous scipy.stats distribution, got "
            f"{type(marginal).__name__}."
        )
    if any(np.ndim(value) for value in (*marginal.args, *marginal.kwds.values())):
        raise TypeError(
            f"marginals[{name!r}]: must have scalar parameters, got arrays. Give every parameter "
            "a name and a distribution of its own."
        )
    if not np.all(np.isfinite(marginal.median())):
        raise ValueError(
            f"marginals[{name!r}]: must have valid parameters, got {_identity(marginal)}, whose "
            "median is not finite."
        )
