"""Hierarchical priors: parameters of similar groups with a common population."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from ekitools.core.arrays import digest
from ekitools.priors.base import BasePrior, named, position
from ekitools.priors.families import Family, check_marginal, identity
from ekitools.priors.transforms import Transform, pointwise

__all__ = ["Hierarchical"]


class Hierarchical(BasePrior):
    r"""Hierarchical prior: members of a population with unknown mean and standard deviation.

    .. math::
        m \sim \pi_m, \qquad s \sim \pi_s, \qquad
        \theta_i = T(m + s\,\varepsilon_i), \quad \varepsilon_i \sim N(0, 1).

    The parameters are m, s, θ₁, …, θ_n: p = n + 2. The unconstrained coordinates are
    those of m and s, and the ε_i (the non-centred parametrisation [1]_). In these coordinates the
    prior is exactly N(0, I), without narrow funnels between population and members.

    Parameters
    ----------
    mean : frozen scipy.stats distribution
        Distribution π_m of the population mean, before the transform.
    sd : frozen scipy.stats distribution
        Distribution π_s of the population standard deviation; its support must be positive.
    members : int or sequence of str
        The number n of members, or their names, such as sites, patients or sensors.
    transform : None, "exp" or ("bounded", lower, upper), default None
        T: the identity, exp for positive θ, or the logistic function scaled to an interval.

    Attributes
    ----------
    names : tuple of str
        ``"mean"``, ``"sd"`` and the members, which are ``"theta[0]"`` and so on if only a number
        is given.

    Raises
    ------
    TypeError, ValueError
        If a distribution is not a frozen continuous distribution of one number, if ``sd`` may be
        negative, or if names are repeated.

    See Also
    --------
    ekitools.JointPrior : Several hierarchies, or a hierarchy beside other parameters.

    References
    ----------
    .. [1] Papaspiliopoulos, Roberts & Sköld (2007), Statist. Sci. 22, 59-73.

    Examples
    --------
    >>> from scipy import stats
    >>> import ekitools as ek
    >>> prior = ek.Hierarchical(
    ...     stats.norm(0, 1), stats.halfnorm(scale=0.5), ["north", "south"], transform="exp")
    >>> prior.names
    ('mean', 'sd', 'north', 'south')
    >>> bool((prior.sample(100, rng=0)[:, 1:] > 0).all())
    True
    """

    def __init__(
        self, mean: Any, sd: Any, members: int | Sequence[str], *, transform: Transform = None
    ) -> None:
        check_marginal("mean", mean)
        check_marginal("sd", sd)
        lowest = float(sd.support()[0])
        if not lowest >= 0:
            raise ValueError(
                f"sd: must be a distribution of positive numbers, got the lower bound {lowest:g}. "
                "Use a distribution such as scipy.stats.halfnorm(scale=1)."
            )
        self._transform = pointwise(transform)
        names, _ = named("members", members, "theta")
        everything, _ = named("members", ("mean", "sd", *(names or ())))
        super().__init__(everything or ())
        self._distributions = (mean, sd)
        self._families = (Family([mean]), Family([sd]))

    def forward(self, z: np.ndarray) -> np.ndarray:
        """Population and members from z."""
        m, s = (f.to_physical(z[:, [i]]) for i, f in enumerate(self._families))
        return np.concatenate([m, s, self._transform.forward(m + s * z[:, 2:])], axis=1)

    def inverse(self, u: np.ndarray) -> np.ndarray:
        """The inverse of `forward` at u; NaN or infinite outside the support."""
        m, s = (f.to_unconstrained(u[:, [i]]) for i, f in enumerate(self._families))
        return np.concatenate([m, s, self._standard(u)], axis=1)

    def log_density(self, u: np.ndarray) -> np.ndarray:
        """Log-density at u by the chain rule: m, s, and the members given m and s."""
        mean, sd = self._distributions
        m, s, epsilon = u[:, 0], u[:, 1], self._standard(u)
        slopes = np.log(s)[:, None] + self._transform.log_slope(m[:, None] + s[:, None] * epsilon)
        members = (stats.norm.logpdf(epsilon) - slopes).sum(axis=1)
        return np.asarray(mean.logpdf(m) + sd.logpdf(s) + members)

    def support(self, parameter: int) -> tuple[float, float]:
        """The bounds of the parameter at a position."""
        parameter = position(parameter, self.n_parameters)
        if parameter < 2:
            low, high = self._distributions[parameter].support()
            return float(low), float(high)
        return self._transform.lower, self._transform.upper

    def fingerprint(self) -> str:
        """A short text that changes whenever a distribution, a name or the transform does."""
        distributions = tuple(map(identity, self._distributions))
        return digest("Hierarchical", self.names, distributions, self._transform)

    def _standard(self, u: np.ndarray) -> np.ndarray:
        """ε of the members."""
        return (self._transform.inverse(u[:, 2:]) - u[:, :1]) / u[:, 1:2]
