"""Priors of parameters in increasing order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import gammaln, log_ndtr, ndtri_exp

from ekitools.core.arrays import digest
from ekitools.priors.base import BasePrior, position
from ekitools.priors.families import Family, check_marginal, identity

__all__ = ["Ordered"]


class Ordered(BasePrior):
    r"""Ordered parameters u₁ < u₂ < … < u_p: the order statistics of p draws from one distribution.

    Use this prior for parameters that would otherwise be exchangeable, such as the depths of layers
    or the rates of a mixture of decays. It removes the p! equivalent modes. Members keep the order
    at every iteration.

    Unconstrained coordinates follow the conditional distributions of order statistics [1]_.
    Given u_{i−1}, the survival probability S_i = P(X > u_i) is S_{i−1} times the largest of
    p − i + 1 uniform numbers,

    .. math::
        S_i = S_{i-1}\, \Phi(-z_i)^{1/(p-i+1)}, \qquad S_0 = 1,

    so the prior is exactly N(0, I) in z.

    Parameters
    ----------
    distribution : frozen scipy.stats distribution
        Continuous distribution of one draw.
    parameters : int or sequence of str
        The number of parameters p, or their names, the smallest first.

    Attributes
    ----------
    distribution : frozen scipy.stats distribution
        The distribution as given.

    Raises
    ------
    TypeError, ValueError
        If ``distribution`` is not a frozen continuous distribution of one number, or
        ``parameters`` is not a positive integer or a sequence of different texts.

    See Also
    --------
    ekitools.Prior : Named parameters without an order.
    ekitools.JointPrior : Ordered parameters beside other parameters.

    References
    ----------
    .. [1] David & Nagaraja (2003), Order Statistics, 3rd ed., Wiley, section 2.5.

    Examples
    --------
    >>> from scipy import stats
    >>> import ekitools as ek
    >>> prior = ek.Ordered(stats.uniform(0, 100), ["topsoil", "subsoil", "bedrock"])
    >>> depth = prior.sample(1000, rng=0)
    >>> bool((depth[:, 0] < depth[:, 1]).all() and (depth[:, 1] < depth[:, 2]).all())
    True
    >>> (depth.mean(axis=0) / 5).round() * 5  # 100 i/4
    array([25., 50., 75.])
    """

    def __init__(self, distribution: Any, parameters: int | Sequence[str]) -> None:
        check_marginal("distribution", distribution)
        super().__init__(parameters)
        self.distribution = distribution
        self._family = Family([distribution])
        self._left = np.arange(self.n_parameters, 0, -1)

    def forward(self, z: np.ndarray) -> np.ndarray:
        """Order statistics from z."""
        log_survival = np.cumsum(log_ndtr(-z) / self._left, axis=1)
        return self._family.to_physical(-ndtri_exp(log_survival))

    def inverse(self, u: np.ndarray) -> np.ndarray:
        """The inverse of `forward` at u; NaN or infinite if u does not increase."""
        log_survival = log_ndtr(-self._family.to_unconstrained(u))
        steps = np.diff(log_survival, prepend=0, axis=1)
        return np.where(steps < 0, -ndtri_exp(np.minimum(steps * self._left, 0)), np.nan)

    def log_density(self, u: np.ndarray) -> np.ndarray:
        """Log-density log p! + Σ log f(u_i) at u."""
        constant = gammaln(self.n_parameters + 1)
        return np.asarray(constant + self.distribution.logpdf(u).sum(axis=1))

    def support(self, parameter: int) -> tuple[float, float]:
        """The bounds of the distribution, for every position ``parameter``."""
        position(parameter, self.n_parameters)
        low, high = self.distribution.support()
        return float(low), float(high)

    def fingerprint(self) -> str:
        """A short text that changes whenever the distribution, p or a name does."""
        return digest("Ordered", self.n_parameters, self.names, identity(self.distribution))
