"""Priors of named parameters with distributions of scipy.stats, independent or correlated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from ekitools.core.arrays import digest
from ekitools.core.described import first
from ekitools.priors.base import BasePrior, position
from ekitools.priors.correlation import checked_correlation
from ekitools.priors.families import Family as _Family
from ekitools.priors.families import check_marginal, grouped, identity
from ekitools.priors.gaussian import GaussianPrior
from ekitools.priors.samples import fit_marginal, intervals, read_samples
from ekitools.typing import Array, Rng

__all__ = ["Prior"]


class Prior(BasePrior):
    r"""Named parameters, each with a distribution from scipy.stats.

    The quantile function of every parameter maps a standard normal z to the parameter,
    u = F⁻¹(Φ(z)), so bounds hold for every member at every iteration. In the coordinates z, in
    which the methods work, the prior is exactly Gaussian: N(0, I), or N(0, R) with a
    ``correlation`` R, the Gaussian copula [1]_. The quantile function is used below the median
    and the inverse survival function above, so no digits are lost in either tail.

    Parameters
    ----------
    marginals : mapping of str to frozen scipy.stats distribution
        Continuous distributions with scalar parameters, such as
        ``{"rate": scipy.stats.lognorm(1.0), ...}``. The new distributions of SciPy 1.15, such as
        ``scipy.stats.truncate(scipy.stats.Normal(mu=1, sigma=2), lb=0)``, are accepted too.
    correlation : (p, p) or mapping of pairs of names to float, optional
        Correlation R of z: a matrix, or ``{("rate", "share"): 0.6}`` with zeros for all other
        pairs. The parameters are independent by default. The rank correlation of two parameters
        is (6/π) arcsin(r/2) for all marginals.

    Attributes
    ----------
    marginals : mapping
        The marginals as given, read-only.
    correlation : (p, p) ndarray or None
        The correlation R.
    names : tuple of str
        The keys of ``marginals``.

    Raises
    ------
    TypeError, ValueError
        If ``marginals`` is empty, an entry is not a frozen continuous distribution of one number,
        or ``correlation`` is not a positive definite correlation matrix.

    See Also
    --------
    ekitools.JointPrior : Several priors side by side.
    ekitools.bounded : A distribution by its mean, standard deviation and bounds.

    References
    ----------
    .. [1] Nelsen (2006), An Introduction to Copulas, 2nd ed., Springer.

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
    >>> marginals = {"rate": stats.lognorm(1.0), "share": stats.uniform(0, 1)}
    >>> prior = ek.Prior(marginals, correlation={("rate", "share"): 0.8})
    >>> rank = stats.spearmanr(prior.sample(100_000, rng=0)).statistic
    >>> bool(abs(rank - 6 / np.pi * np.arcsin(0.8 / 2)) < 0.01)
    True
    """

    _gaussian: GaussianPrior | None = None
    """N(0, R) of correlated z."""

    def __init__(self, marginals: Mapping[str, Any], *, correlation: Any = None) -> None:
        if not isinstance(marginals, Mapping):
            raise TypeError(
                "marginals: must be a mapping of names to frozen scipy.stats distributions, got "
                f"{type(marginals).__name__}."
            )
        if not marginals:
            raise ValueError(f"marginals: must not be empty, got {marginals!r:.60}.")
        for name, marginal in marginals.items():
            _check_name(name)
            check_marginal(f"marginals[{name!r}]", marginal)
        self._marginals = dict(marginals)
        self.names: tuple[str, ...] = tuple(self._marginals)
        self._groups = grouped(list(self._marginals.values()))
        if correlation is not None:
            R = checked_correlation(self.names, correlation)
            self._gaussian = GaussianPrior(np.zeros(len(R)), R)

    @classmethod
    def from_samples(
        cls,
        samples: Any,
        weights: Any = None,
        *,
        names: Sequence[str] | None = None,
        bounds: Any = None,
    ) -> Prior:
        r"""Fit a prior to samples, such as an earlier posterior that new data update.

        Every marginal is the distribution of a smooth increasing function of a standard normal
        variable, through the quantiles of the samples, with Gaussian tails. The correlation of
        the Gaussian copula is that of the samples in the coordinates of the marginals. Samples
        that are Gaussian, or Gaussian after the transform to unbounded coordinates, give a
        Gaussian there. Several modes are kept if the marginals show them, and lost if only the
        joint distribution has them.

        Parameters
        ----------
        samples : (n, p), mapping of names to (n,), or result
            One sample in a row. Columns by name may be a dict, a DataFrame or a Dataset, in which
            ``weight`` holds the weights. A result of `ekitools.run` gives its last ensemble,
            without failed members.
        weights : (n,), optional
            Weights of the samples, such as those of `ekitools.TemperedSMC`, with any positive sum.
        names : sequence of str, optional
            Names of the columns of an array; ``u0``, ``u1``, … by default.
        bounds : mapping of names to (lower, upper) or prior, optional
            Bounds of the parameters, infinite by default. A prior gives the bounds of its
            parameters: pass the prior of the run that made the samples.

        Returns
        -------
        Prior
            The fitted prior, with a correlation if p > 1.

        Raises
        ------
        TypeError, ValueError
            If the effective sample size (Σw)²/Σw² is less than max(20, 2p), samples lie on or
            outside the bounds, or a column does not vary.

        Examples
        --------
        >>> import numpy as np
        >>> import ekitools as ek
        >>> rng = np.random.default_rng(0)
        >>> samples = {"rate": np.exp(rng.normal(size=2000)), "shift": rng.normal(3, 2, size=2000)}
        >>> prior = ek.Prior.from_samples(samples, bounds={"rate": (0, np.inf)})
        >>> prior
        Prior(rate: smooth_quantiles, shift: smooth_quantiles; correlated)
        >>> prior.sample(10_000, rng=0).mean(axis=0).round(1)  # exp(1/2) and 3
        array([1.6, 3. ])
        """
        table = read_samples(samples, weights, names)
        marginals = {
            name: fit_marginal(name, x, table, interval)
            for name, x, interval in zip(
                table.names, table.x.T, intervals(bounds, table.names), strict=True
            )
        }
        independent = cls(marginals)
        if len(marginals) == 1:
            return independent
        return cls(marginals, correlation=table.correlation(independent.inverse(table.x)))

    def __repr__(self) -> str:
        kinds = ((name, getattr(m, "dist", None), m) for name, m in self._marginals.items())
        inside = first(f"{n}: {d.name if d else type(m).__name__}" for n, d, m in kinds)
        return f"Prior({inside}{'' if self._gaussian is None else '; correlated'})"

    @property
    def marginals(self) -> Mapping[str, Any]:
        """The distributions by name, read-only."""
        return MappingProxyType(self._marginals)

    @property
    def correlation(self) -> np.ndarray | None:
        """The correlation R of the unconstrained coordinates; None for R = I."""
        return None if self._gaussian is None else self._gaussian.cov

    def support(self, parameter: int) -> tuple[float, float]:
        """The bounds of the parameter at a position.

        Examples
        --------
        >>> from scipy import stats
        >>> import ekitools as ek
        >>> ek.Prior({"rate": stats.lognorm(1.0), "share": stats.uniform(0, 1)}).support(1)
        (0.0, 1.0)
        """
        name = self.names[position(parameter, self.n_parameters)]
        low, high = self._marginals[name].support()
        return float(low), float(high)

    def forward(self, z: np.ndarray) -> np.ndarray:
        """F⁻¹(Φ(z)) of every parameter, strictly within its bounds."""
        return self._mapped_by_family(z, _Family.to_physical)

    def inverse(self, u: np.ndarray) -> np.ndarray:
        """Φ⁻¹(F(u)) of every parameter: within ±37.5 inside the support, infinite outside."""
        return self._mapped_by_family(u, _Family.to_unconstrained)

    def log_density(self, u: np.ndarray) -> np.ndarray:
        """Sum of the log-densities of the parameters and of the copula at u."""
        columns = [m.logpdf(u[:, i]) for i, m in enumerate(self._marginals.values())]
        total = np.asarray(np.sum(columns, axis=0))
        if self._gaussian is None:
            return total
        z = self.inverse(u)
        independent = -0.5 * (z * z).sum(axis=1) - 0.5 * z.shape[1] * np.log(2 * np.pi)
        return total + self._gaussian.logpdf(z) - independent

    def sample_unconstrained(self, n: int, *, rng: Rng = None) -> np.ndarray:
        """``n`` draws in unconstrained coordinates, ``(n, p)``, from N(0, R)."""
        gaussian = self._gaussian
        if gaussian is None:
            return super().sample_unconstrained(n, rng=rng)
        return gaussian.sample_unconstrained(n, rng=rng)

    def whiten(self, z: Array) -> Array:
        """R^{-1/2} z along the last axis: the same array for independent parameters."""
        return super().whiten(z) if self._gaussian is None else self._gaussian.whiten(z)

    def unwhiten(self, w: Array) -> Array:
        """R^{1/2} w along the last axis: the inverse of `whiten`."""
        return super().unwhiten(w) if self._gaussian is None else self._gaussian.unwhiten(w)

    def fingerprint(self) -> str:
        """A short text that changes whenever a name or a distribution does."""
        R = () if self._gaussian is None else (self._gaussian.cov,)
        return digest(*((name, *identity(m)) for name, m in self._marginals.items()), *R)

    def _mapped_by_family(self, x: np.ndarray, transform: Any) -> np.ndarray:
        out = np.empty_like(x)
        for columns, family in self._groups:
            out[:, columns] = transform(family, x[:, columns])
        return out


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not name.strip():
        raise TypeError(f"marginals: names must be texts, got {name!r}.")
