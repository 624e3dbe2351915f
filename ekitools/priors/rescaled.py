"""Priors with other variances along the whitened coordinates of another prior."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ekitools.core.arrays import as_real, as_rng, digest, host, like
from ekitools.core.checks import check_prior, integer
from ekitools.priors.base import check_points, joined_points
from ekitools.typing import Array, Rng
from ekitools.typing import Prior as AnyPrior

__all__ = ["RescaledPrior"]


class RescaledPrior:
    r"""A prior rescaled in its whitened coordinates w: N(0, diag s²) in place of N(0, I).

    Parameters
    ----------
    prior : Prior
        The prior to rescale. Its mean (in unconstrained coordinates), bounds and names are kept.
    scale : (p,)
        Positive factors s.

    Raises
    ------
    TypeError, ValueError
        If ``prior`` is not a prior, or ``scale`` is not p positive numbers.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> from ekitools.priors.rescaled import RescaledPrior
    >>> prior = RescaledPrior(ek.GaussianPrior([1.0, 1.0], 4.0), [1.0, 0.1])
    >>> prior.unwhiten(np.array([[1.0, 1.0]]))
    array([[3. , 1.2]])
    """

    def __init__(self, prior: AnyPrior, scale: Any) -> None:
        check_prior(prior)
        self.prior = prior
        self.scale = as_real("scale", scale, ndim=(1,))
        if self.scale.shape != (self.n_parameters,) or not np.all(self.scale > 0):
            raise ValueError(
                f"scale: must be p = {self.n_parameters} positive numbers, got the shape "
                f"{self.scale.shape} and the smallest {np.min(self.scale, initial=math.inf):.4g}."
            )

    def __repr__(self) -> str:
        return f"{self.prior!r} with other variances"

    @property
    def n_parameters(self) -> int:
        """Number of parameters p."""
        return self.prior.n_parameters

    @property
    def names(self) -> tuple[str, ...] | None:
        """Names of the parameters, or None."""
        return self.prior.names

    @property
    def points(self) -> np.ndarray | None:
        """Coordinates of the parameters of the original prior, or None."""
        return joined_points([self.prior])

    def sample(self, n: int, *, rng: Rng = None) -> Array:
        """``n`` draws in physical coordinates, ``(n, p)``."""
        return self.to_physical(self.sample_unconstrained(n, rng=rng))

    def sample_unconstrained(self, n: int, *, rng: Rng = None) -> Array:
        """``n`` draws in unconstrained coordinates, ``(n, p)``."""
        return self.unwhiten(as_rng(rng).standard_normal((integer("n", n), self.n_parameters)))

    def logpdf(self, u: Array) -> Array:
        """Log-density at physical ``(p,)`` or ``(n, p)``."""
        u = check_points(u, self.n_parameters)
        found = np.asarray(host(self.prior.logpdf(u)), dtype=np.float64)
        inside = np.isfinite(found)
        points = np.atleast_2d(u)[np.atleast_1d(inside)]
        if points.size:  # log N(w/s; 0, I) − Σ log s in place of log N(w; 0, I)
            w = host(self.prior.whiten(self.prior.to_unconstrained(points)))
            gain = 0.5 * np.sum(w**2 - (w / self.scale) ** 2, axis=1) - np.log(self.scale).sum()
            found = np.array(found)
            found[inside] += gain if found.ndim else gain[0]
        return found

    def to_physical(self, z: Array) -> Array:
        """Map unconstrained ``(J, p)`` to physical coordinates."""
        return self.prior.to_physical(z)

    def to_unconstrained(self, u: Array) -> Array:
        """Map physical ``(J, p)`` back."""
        return self.prior.to_unconstrained(u)

    def whiten(self, z: Array) -> Array:
        """Map to coordinates in which the prior is N(0, I)."""
        w = self.prior.whiten(z)
        return w / like(self.scale, w)

    def unwhiten(self, w: Array) -> Array:
        """The inverse of `whiten`."""
        return self.prior.unwhiten(w * like(self.scale, w))

    def fingerprint(self) -> str:
        """A short text that changes whenever the distribution does."""
        return digest("RescaledPrior", self.prior.fingerprint(), self.scale)
