"""Noise scales as further parameters: their prior, and the model without scales."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ekitools.core.arrays import array_namespace, as_rng, digest, host, like
from ekitools.core.checks import integer
from ekitools.core.described import first
from ekitools.core.model_info import WrappedModel
from ekitools.priors.base import joined_points
from ekitools.priors.marginals import Prior
from ekitools.typing import Array, Rng
from ekitools.typing import Prior as AnyPrior

_FAR, _LARGEST = 8.0, 300.0
"""Largest normal score of a scale, and largest logarithm of a scale."""

__all__ = ["ScalePrior", "WithScales", "WithoutScales"]


class ScalePrior:
    """Independent scales s, or their squares, with distributions of scipy.stats.

    Parameters
    ----------
    marginals : mapping of str to frozen distribution
        Distributions by the names of the scales.
    squared : bool
        Whether the distributions are those of s².
    """

    def __init__(self, marginals: Mapping[str, Any], *, squared: bool) -> None:
        self._prior = Prior(marginals)
        self._squared = squared
        self.names: tuple[str, ...] = self._prior.names

    @property
    def n_parameters(self) -> int:
        """Number of scales B."""
        return self._prior.n_parameters

    def sample(self, n: int, *, rng: Rng = None) -> np.ndarray:
        """Scales, ``(n, B)``."""
        return self.to_physical(self.sample_unconstrained(n, rng=rng))

    def sample_unconstrained(self, n: int, *, rng: Rng = None) -> np.ndarray:
        """Standard normal draws, ``(n, B)``."""
        return self._prior.sample_unconstrained(n, rng=rng)

    def logpdf(self, s: Any) -> np.ndarray:
        """Log-density at scales ``(..., B)``; −inf outside the support."""
        with np.errstate(divide="ignore", invalid="ignore"):
            log_s = np.log(np.asarray(s, dtype=np.float64))
        found = sum(self.log_density(b, log_s[..., b]) for b in range(self.n_parameters))
        return np.asarray(found - np.sum(log_s, axis=-1))

    def log_density(self, b: int, log_s: np.ndarray) -> np.ndarray:
        """Log-density of the logarithm of scale b."""
        log_x = 2 * log_s if self._squared else log_s
        found = self._prior.marginals[self.names[b]].logpdf(np.exp(log_x)) + log_x
        return np.asarray(found + np.log(2) if self._squared else found)

    @cached_property
    def log_bounds(self) -> np.ndarray:
        """Logarithms of the scales that enclose all but 1e-15 of the prior, ``(2, B)``."""
        ends = self.to_physical(np.outer([-_FAR, _FAR], np.ones(self.n_parameters)))
        return np.clip(np.log(ends), -_LARGEST, _LARGEST)

    def to_physical(self, z: Array) -> Array:
        """Map standard normal coordinates to scales."""
        x = self._prior.to_physical(z)
        return array_namespace(x).sqrt(x) if self._squared else x

    def to_unconstrained(self, u: Array) -> Array:
        """The inverse of `to_physical`."""
        return self._prior.to_unconstrained(u * u if self._squared else u)

    def whiten(self, z: Array) -> Array:
        """The same array: the prior already is N(0, I)."""
        return z

    def unwhiten(self, w: Array) -> Array:
        """The same array: the prior already is N(0, I)."""
        return w

    def fingerprint(self) -> str:
        """A short text that changes whenever a name or a distribution does."""
        return digest(self._prior.fingerprint(), self._squared)


class WithScales:
    """The joint prior of the parameters of a model, followed by independent scales.

    Parameters
    ----------
    parameters : Prior
        Prior of the p parameters of the model.
    scales : ScalePrior
        Prior of B scales.
    """

    def __init__(self, parameters: AnyPrior, scales: ScalePrior) -> None:
        self.parameters = parameters
        self.scales = scales
        given = parameters.names
        self.names: tuple[str, ...] | None = given if given is None else (*given, *scales.names)

    def __repr__(self) -> str:
        return f"{self.parameters!r} with {first(self.scales.names)}"

    @property
    def n_parameters(self) -> int:
        """Number of parameters, p + B."""
        return self.parameters.n_parameters + self.scales.n_parameters

    @property
    def points(self) -> np.ndarray | None:
        """Coordinates of the parameters, NaN for the scales; None if no parameter has any."""
        return joined_points([self.parameters, self.scales])

    def sample(self, n: int, *, rng: Rng = None) -> Array:
        """``n`` draws in physical coordinates, ``(n, p + B)``."""
        rng, n = as_rng(rng), integer("n", n)
        return _joined(self.parameters.sample(n, rng=rng), self.scales.sample(n, rng=rng))

    def sample_unconstrained(self, n: int, *, rng: Rng = None) -> Array:
        """``n`` draws in unconstrained coordinates, ``(n, p + B)``."""
        rng, n = as_rng(rng), integer("n", n)
        draws = self.parameters.sample_unconstrained(n, rng=rng)
        return _joined(draws, self.scales.sample_unconstrained(n, rng=rng))

    def logpdf(self, u: Array) -> Array:
        """Log-density at physical ``(p + B,)`` or ``(n, p + B)``."""
        parameters, scales = self._split(u)
        return self.parameters.logpdf(parameters) + like(self.scales.logpdf(host(scales)), u)

    def to_physical(self, z: Array) -> Array:
        """Map unconstrained coordinates to parameters and scales."""
        return self._each("to_physical", z)

    def to_unconstrained(self, u: Array) -> Array:
        """The inverse of `to_physical`."""
        return self._each("to_unconstrained", u)

    def whiten(self, z: Array) -> Array:
        """Map to coordinates in which the prior is N(0, I)."""
        return self._each("whiten", z)

    def unwhiten(self, w: Array) -> Array:
        """The inverse of `whiten`."""
        return self._each("unwhiten", w)

    def fingerprint(self) -> str:
        """A short text that changes whenever the distribution does."""
        return digest(self.parameters.fingerprint(), self.scales.fingerprint())

    def _split(self, x: Array) -> tuple[Array, Array]:
        if x.ndim == 0 or x.shape[-1] != self.n_parameters:
            raise ValueError(
                f"ensemble: last axis must have p = {self.n_parameters} entries, including "
                f"the scales of the noise, got {tuple(x.shape)}."
            )
        p = self.parameters.n_parameters
        return x[..., :p], x[..., p:]

    def _each(self, name: str, x: Array) -> Array:
        parameters, scales = self._split(x)
        return _joined(
            getattr(self.parameters, name)(parameters), getattr(self.scales, name)(scales)
        )


@dataclass(frozen=True, eq=False, repr=False)
class WithoutScales(WrappedModel):
    """A `ForwardModel` of all parameters that passes the first p to a model.

    Parameters
    ----------
    model : ForwardModel
        Model of p parameters.
    n_model : int
        Number of parameters p.
    """

    n_model: int

    def __call__(self, u: Array, /, **kwargs: Any) -> Any:
        """Outputs of the model at the first p parameters."""
        return self.model(u[..., : self.n_model], **kwargs)


def _joined(left: Array, right: Any) -> Array:
    return array_namespace(left).concat([left, like(right, left)], axis=-1)
