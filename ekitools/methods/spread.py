"""Members redrawn around their mean, so that an ensemble keeps its spread."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ekitools.core.arrays import array_namespace, host
from ekitools.core.checks import integer, number, put
from ekitools.core.draws import standard_normal
from ekitools.typing import Array

__all__ = ["Spread", "drawn_around"]

_BLOCK_BYTES = 1 << 20
"""Bytes of the draws that are made at a time."""

_BLOCK_BYTES_ELSEWHERE = 1 << 28
"""Bytes of the draws on a device, where every block costs a launch."""


@dataclass(frozen=True)
class Spread:
    r"""Particle spread: members redrawn around their mean [1]_.

    .. math::
        u_{n+1}^{(j)} = \bar u_{n+1} + \gamma_n \xi^{(j)}, \qquad
        \xi^{(j)} \sim \mu_0 - m, \qquad \gamma_n = \frac{\gamma}{1 + \mathrm{decay} \cdot n},

    with the deviations of the prior from its mean m, in unconstrained coordinates. The draws are
    shifted to the mean zero, so that ū stays unchanged. They are scaled by √(J/(J − 1)) to keep the
    covariance of the prior.

    Parameters
    ----------
    gamma : float or callable, default 1
        γ > 0, or a function of the step n that returns γ_n. A checkpoint cannot rebuild a function,
        so pass the method again to `resume`.
    every : int, default 1
        Steps from one redraw to the next: 1 for every step, ``batches.steps_per_epoch`` for
        every epoch.
    decay : float, default 0
        Decay of a number γ.

    Raises
    ------
    TypeError, ValueError
        If an option is of the wrong kind or out of range.

    See Also
    --------
    LossEKI : The method with this option.
    Inflated : Covariance inflation for any method that moves its members.

    References
    ----------
    .. [1] Kovachki & Stuart (2019), Inverse Problems 35, 095005.

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.LossEKI(spread=ek.Spread(0.3, every=10)).spread
    Spread(gamma=0.3, every=10, decay=0.0)
    >>> ek.Spread(2.0, decay=0.01).at(100)
    1.0
    """

    gamma: float | Callable[[int], float] = 1.0
    every: int = 1
    decay: float = 0.0

    def __post_init__(self) -> None:
        decay = number("decay", self.decay, least=0)
        if not callable(self.gamma):
            put(self, gamma=number("gamma", self.gamma, above=0))
        elif decay:
            raise ValueError(
                f"decay: must be 0 if gamma is a function of the step, got {self.decay!r}. Put the "
                "decay into gamma."
            )
        put(self, every=integer("every", self.every), decay=decay)

    def at(self, n: int) -> float:
        """γ of step n."""
        if callable(self.gamma):
            return number("gamma", self.gamma(n), above=0)
        return float(self.gamma / (1 + self.decay * n))

    def due(self, n: int) -> bool:
        """Whether members are redrawn at the end of step n."""
        return (n + 1) % self.every == 0


def drawn_around(
    mean: Array,
    prior: Any,
    gamma: float,
    n: int,
    rng: np.random.Generator,
    *,
    given: Array | None = None,
    out: np.ndarray | None = None,
) -> Array:
    """``n`` members ``(n, p)`` with the mean ``mean`` and γ times deviations of the prior.

    Parameters
    ----------
    mean : (1, p)
        ū; its dtype, device and kind are kept.
    prior : Prior
        μ₀, by its ``unwhiten``.
    gamma : float
        γ.
    n : int
        J.
    rng : numpy.random.Generator
        Source of standard normal numbers, which are the same in any dtype.
    given : (k, p), optional
        Deviations of the first k members, in place of draws.
    out : (n, p) ndarray, optional
        Array to which NumPy members are written.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> from ekitools.methods.spread import drawn_around
    >>> prior = ek.GaussianPrior([5.0], 1.0)
    >>> u = drawn_around(np.array([[1.0]]), prior, 0.1, 4, np.random.default_rng(0))
    >>> u.shape, u.mean().round(12)
    ((4, 1), np.float64(1.0))
    """
    if not isinstance(mean, np.ndarray):
        return _drawn_on_device(mean, prior, gamma, n, rng, given)
    p, k = mean.shape[1], 0 if given is None else int(given.shape[0])
    u = np.empty((n, p), dtype=mean.dtype) if out is None else out
    if given is not None:
        u[:k] = gamma * host(given)
    origin = host(prior.unwhiten(np.zeros((1, p), dtype=u.dtype)))
    scale = gamma * math.sqrt(n / (n - 1))
    rows = max(1, _BLOCK_BYTES // (8 * p))
    for i in range(k, n, rows):
        block = u[i : i + rows]
        white = rng.standard_normal(block.shape)
        deviations = prior.unwhiten(white.astype(u.dtype, copy=False))
        deviations -= origin
        deviations *= scale
        block[...] = deviations
    u += mean - u.mean(axis=0, keepdims=True)
    return u


def _drawn_on_device(
    mean: Array, prior: Any, gamma: float, n: int, rng: np.random.Generator, given: Array | None
) -> Array:
    """As `drawn_around`, on the device of ``mean``, in blocks of members to save memory."""
    xp, p = array_namespace(mean), int(mean.shape[1])
    origin, scale = prior.unwhiten(xp.zeros_like(mean)), gamma * math.sqrt(n / (n - 1))
    blocks = [] if given is None else [gamma * given]
    missing = n if given is None else n - int(given.shape[0])
    rows = max(1, _BLOCK_BYTES_ELSEWHERE // (8 * p))
    for start in range(0, missing, rows):
        white = standard_normal(rng, (min(rows, missing - start), p), mean)
        deviations = prior.unwhiten(white) - origin
        deviations *= scale
        blocks.append(deviations)
    u = xp.concat(blocks, axis=0) if len(blocks) > 1 else blocks[0]
    u += mean - xp.mean(u, axis=0, keepdims=True)
    return u
