"""Exponentially correlated noise of a series, whitened at the cost of one pass over the data."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.linalg.lapack import dtbtrs

from ekitools.core.arrays import array_namespace, digest, like, take_columns
from ekitools.core.checks import put
from ekitools.typing import Array

__all__ = ["Markov"]


@dataclass(frozen=True, eq=False, repr=False)
class Markov:
    r"""The covariance Γ_ij = sd_i sd_j exp(−|x_i − x_j|) of d different coordinates x.

    In the order of x the scaled noise e_i = η_i/sd_i is a Markov chain: with ρ_i = exp(x_{i−1} −
    x_i), e_i given all before it is N(ρ_i e_{i−1}, 1 − ρ_i²). So its whitened values are

    .. math:: w_1 = e_1, \quad w_i = (e_i - ρ_i e_{i-1}) / \sqrt{1 - ρ_i^2},

    and Γ⁻¹ is tridiagonal (Rybicki & Press 1995, Phys. Rev. Lett. 74, 1060). ρ e is written as
    e − (1 − ρ)e, which keeps its digits where neighbours are close to each other.
    """

    sd: np.ndarray
    x: np.ndarray
    _order: np.ndarray | None = field(init=False)  # None where x increases
    _back: np.ndarray | None = field(init=False)
    _lost: np.ndarray = field(init=False)  # 1 − ρ, (d − 1,)
    _fresh: np.ndarray = field(init=False)  # √(1 − ρ²), (d − 1,)

    def __post_init__(self) -> None:
        order = None if np.all(np.diff(self.x) > 0) else np.argsort(self.x)
        gaps = np.diff(self.x if order is None else self.x[order])
        put(
            self,
            _order=order,
            _back=None if order is None else np.argsort(order),
            _lost=-np.expm1(-gaps),
            _fresh=np.sqrt(-np.expm1(-2 * gaps)),
        )

    def __repr__(self) -> str:
        return f"Markov({self.x.size} data over {np.ptp(self.x):.4g} lengths)"

    def whiten(self, r: Array) -> Array:
        """W r, entry i at the place of datum i."""
        return self._put_back(self._chain(r))

    def precision(self, r: Array) -> Array:
        """Γ⁻¹ r = WᵀW r."""
        xp = array_namespace(r)
        lost, fresh = like(self._lost, r), like(self._fresh, r)
        w = self._chain(r)
        later = w[..., 1:] / fresh
        w = xp.concat([w[..., :1], later], axis=-1)
        carried = xp.concat([w[..., :-1] - later + lost * later, w[..., -1:]], axis=-1)
        return self._put_back(carried) / like(self.sd, r)

    def sample(self, n: int, d: int, rng: np.random.Generator) -> np.ndarray:
        """Draws, ``(n, d)``."""
        chain = rng.standard_normal((n, d))
        chain[:, 1:] *= self._fresh
        bands = np.zeros((2, d))  # of e_i − ρ_i e_{i−1}
        bands[0] = 1
        bands[1, :-1] = self._lost - 1
        chain = dtbtrs(bands, chain.T, uplo="L", overwrite_b=True)[0].T
        return np.ascontiguousarray(self._put_back(chain)) * self.sd

    def marginal(self, index: np.ndarray) -> Markov:
        """The covariance of some of the data."""
        return Markov(self.sd[index], self.x[index])

    def fingerprint(self) -> str:
        """A short text that changes whenever Γ does."""
        return digest("exponential", self.sd, self.x)

    def _chain(self, r: Array) -> Array:
        """Whitened vectors in the order of x."""
        xp = array_namespace(r)
        e = r / like(self.sd, r)
        e = e if self._order is None else take_columns(e, self._order)
        before, after = e[..., :-1], e[..., 1:]
        fresh = (after - before + like(self._lost, r) * before) / like(self._fresh, r)
        return xp.concat([e[..., :1], fresh], axis=-1)

    def _put_back(self, r: Array) -> Array:
        return r if self._back is None else take_columns(r, self._back)
