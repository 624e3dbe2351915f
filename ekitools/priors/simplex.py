"""Priors of shares that sum to one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats
from scipy.special import gammaln, xlogy

from ekitools.core.arrays import array_namespace, as_vector, check_array, digest
from ekitools.priors.base import BasePrior, named, position
from ekitools.priors.families import Family
from ekitools.typing import Array

__all__ = ["Dirichlet"]


class Dirichlet(BasePrior):
    r"""Dirichlet prior: shares that sum to one.

    k shares have k − 1 degrees of freedom. The parameters are the first p = k − 1 shares, and
    `shares` adds the last one. Members stay inside the simplex at every iteration.

    Unconstrained coordinates follow from stick breaking [1]_. With v_i the fraction of the
    remaining stick that share i takes,

    .. math::
        u_i = v_i \prod_{j<i} (1 - v_j), \qquad
        v_i \sim \mathrm{Beta}\Bigl(\alpha_i, \sum_{j>i} \alpha_j\Bigr), \qquad
        z_i = \Phi^{-1}(F_i(v_i)),

    with the distribution function F_i of v_i. The v_i are independent, so the prior is exactly
    N(0, I) in z.

    Parameters
    ----------
    alpha : (k,)
        Concentrations α > 0 of k ≥ 2 shares. The mean of a share is α_i/Σα, and shares vary less
        for a larger Σα. If all α are 1, the distribution is uniform on the simplex.
    names : sequence of str, optional
        Names of all k shares. The last share is not a parameter.

    Attributes
    ----------
    alpha : (k,) ndarray
        The concentrations as given.
    share_names : tuple of str or None
        Names of all k shares.
    names : tuple of str or None
        Names of the first k − 1 shares.

    Raises
    ------
    TypeError, ValueError
        If ``alpha`` has fewer than two entries or one that is not positive, or there are not k
        different names.

    See Also
    --------
    ekitools.Prior : Named parameters with distributions of scipy.stats.
    ekitools.JointPrior : Shares beside other parameters.

    References
    ----------
    .. [1] Connor & Mosimann (1969), J. Am. Stat. Assoc. 64, 194-206.

    Examples
    --------
    >>> import ekitools as ek
    >>> prior = ek.Dirichlet([2.0, 3.0, 5.0], names=["sand", "silt", "clay"])
    >>> prior.names
    ('sand', 'silt')
    >>> u = prior.sample(4, rng=0)
    >>> u.shape, prior.shares(u).shape
    ((4, 2), (4, 3))
    >>> prior.shares(u).sum(axis=1)
    array([1., 1., 1., 1.])
    """

    def __init__(self, alpha: Any, *, names: Sequence[str] | None = None) -> None:
        alpha = as_vector("alpha", alpha).astype(np.float64)
        k = len(alpha)
        if k < 2 or not np.all(alpha > 0):
            raise ValueError(
                f"alpha: must have at least two entries, all positive, got {alpha.tolist()!s:.80}."
            )
        self.share_names: tuple[str, ...] | None = None
        if names is not None:
            self.share_names, size = named("names", names)
            if self.share_names is None or size != k:
                raise ValueError(f"names: must be names of all {k} shares, got {names!r}.")
        super().__init__(k - 1 if self.share_names is None else self.share_names[:-1])
        alpha.flags.writeable = False
        self.alpha = alpha
        rest = np.cumsum(alpha[::-1])[-2::-1]
        self._fractions = Family([stats.beta(a, b) for a, b in zip(alpha, rest, strict=False)])

    def forward(self, z: np.ndarray) -> np.ndarray:
        """Shares from z, by stick breaking."""
        v = self._fractions.to_physical(z)
        left = np.cumprod(1 - v, axis=1)
        return np.concatenate([v[:, :1], v[:, 1:] * left[:, :-1]], axis=1)

    def inverse(self, u: np.ndarray) -> np.ndarray:
        """The inverse of `forward` at u; infinite outside the simplex."""
        left = 1 - np.cumsum(u, axis=1) + u
        return self._fractions.to_unconstrained(u / left)

    def log_density(self, u: np.ndarray) -> np.ndarray:
        """Log-density of the first k − 1 shares u."""
        constant = gammaln(self.alpha.sum()) - gammaln(self.alpha).sum()
        return np.asarray(constant + xlogy(self.alpha - 1, self.shares(u)).sum(axis=1))

    def support(self, parameter: int) -> tuple[float, float]:
        """The bounds 0 and 1 of a share, for every position ``parameter``."""
        position(parameter, self.n_parameters)
        return 0.0, 1.0

    def shares(self, u: Array) -> Array:
        """All k shares: ``(..., k-1)`` to ``(..., k)``.

        Parameters
        ----------
        u : (..., k-1)
            One member or an ensemble, of any array library.

        Returns
        -------
        (..., k) array
            ``u`` and the last share 1 − Σu. A rounding error below 0 is set to 0.

        Examples
        --------
        >>> import numpy as np
        >>> import ekitools as ek
        >>> ek.Dirichlet([1.0, 1.0, 1.0]).shares(np.array([0.25, 0.5]))
        array([0.25, 0.5 , 0.25])
        """
        check_array("u", u, last=self.n_parameters)
        xp = array_namespace(u)
        last = 1 - xp.sum(u, axis=-1, keepdims=True)
        return xp.concat([u, xp.where(last < 0, 0 * last, last)], axis=-1)

    def fingerprint(self) -> str:
        """A short text that changes whenever ``alpha`` or a name does."""
        return digest("Dirichlet", self.alpha, self.share_names)
