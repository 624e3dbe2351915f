"""Independent parameters by name, each with a distribution of scipy.stats."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from ekitools.core.arrays import as_rng, check_array, digest, host, like
from ekitools.core.checks import integer
from ekitools.priors.families import Family as _Family
from ekitools.priors.families import check_marginal, grouped, identity
from ekitools.priors.gaussian import _check_points
from ekitools.typing import Array, Rng

__all__ = ["Prior"]


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
        ``{"rate": scipy.stats.lognorm(1.0), ...}``, continuous and with scalar parameters. The
        distributions that SciPy has had since version 1.15, such as
        ``scipy.stats.truncate(scipy.stats.Normal(mu=1, sigma=2), lb=0)``, are accepted too.

    Attributes
    ----------
    marginals : mapping
        As given, read-only.
    names : tuple of str
        Its keys.

    Raises
    ------
    TypeError, ValueError
        If it is empty or an entry is not a frozen continuous distribution of one number.

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
            raise ValueError(f"marginals: must not be empty, got {marginals!r:.60}.")
        for name, marginal in marginals.items():
            check_marginal(name, marginal)
        self._marginals = dict(marginals)
        self.names: tuple[str, ...] = tuple(self._marginals)
        self._groups = grouped(list(self._marginals.values()))

    def __repr__(self) -> str:
        kinds = ((name, getattr(m, "dist", None), m) for name, m in self._marginals.items())
        inside = ", ".join(f"{n}: {d.name if d else type(m).__name__}" for n, d, m in kinds)
        return f"Prior({inside})"

    @property
    def marginals(self) -> Mapping[str, Any]:
        """The distributions by name, read-only."""
        return MappingProxyType(self._marginals)

    @property
    def n_parameters(self) -> int:
        """Number of parameters p."""
        return len(self.names)

    def support(self, parameter: int) -> tuple[float, float]:
        """The bounds of one parameter, given by its position.

        Examples
        --------
        >>> from scipy import stats
        >>> import ekitools as ek
        >>> ek.Prior({"rate": stats.lognorm(1.0), "share": stats.uniform(0, 1)}).support(1)
        (0.0, 1.0)
        """
        p = self.n_parameters
        parameter = integer("parameter", parameter, least=-p, most=p - 1)
        low, high = self._marginals[self.names[parameter]].support()
        return float(low), float(high)

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
        return self._map("z", z, _Family.to_physical)

    def to_unconstrained(self, u: Array) -> Array:
        """Z = Φ⁻¹(F(u)), within ±37.5 for u inside the support."""
        return self._map("u", u, _Family.to_unconstrained)

    def whiten(self, z: Array) -> Array:
        """The same: the prior already is N(0, I) in unconstrained coordinates."""
        check_array("z", z, last=self.n_parameters)
        return z

    def unwhiten(self, w: Array) -> Array:
        """The same: the prior already is N(0, I) in unconstrained coordinates."""
        check_array("w", w, last=self.n_parameters)
        return w

    def fingerprint(self) -> str:
        """A short text that changes whenever a name or a distribution does."""
        return digest(*((name, *identity(m)) for name, m in self._marginals.items()))

    def _map(self, name: str, x: Array, transform: Any) -> Array:
        check_array(name, x, last=self.n_parameters)
        values = host(x)
        out = np.empty(values.shape, dtype=np.float64)
        for columns, family in self._groups:
            out[..., columns] = transform(family, values[..., columns].astype(np.float64))
        return like(out, x)
