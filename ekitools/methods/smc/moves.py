r"""Proposals for a population: how the particles of a sampler move, in whitened coordinates.

Every proposal comes from a kernel whose ratio of densities is known, so that the
Metropolis–Hastings rule can correct it for any target. The kernel of a particle is fitted to the
*other half* of the population. A particle that is part of the fit of its own proposal would favour
its present place, a bias of order p/J. Copies of one particle are neighbours, so they are in the
same half.

A mean and a covariance contain little information about single particles, so both halves may use
the mean and covariance of the other half at once. A kernel density estimate contains more. If both
halves moved by the density estimate of the other half, the halves would depend on each other, and
the next move would be biased. So one half at a time draws from the estimate, and the other half
takes random-walk steps.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias, get_args

import numpy as np
from scipy.special import logsumexp

from ekitools.methods.gaussian import Gaussian, fit_gaussian

__all__ = ["FEW", "MANY", "MOVES", "Move", "largest_scale", "propose"]

Move: TypeAlias = Literal["kernel", "ensemble", "pcn", "random_walk"]
MOVES: tuple[Move, ...] = get_args(Move)
FEW: tuple[Move, ...] = ("ensemble", "kernel")
MANY: tuple[Move, ...] = ("ensemble",)
"""Default moves for up to eight parameters, and for more than eight."""

_BLOCK = 1 << 21
"""Number of pairs of particles whose distances are in memory at a time."""


def largest_scale(move: Move) -> float:
    """Largest step size of a move."""
    return math.inf if move in ("kernel", "random_walk") else 1.0


def propose(
    move: Move,
    x: np.ndarray,
    weight: np.ndarray,
    scale: float,
    rng: np.random.Generator,
    *,
    turn: int = 0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One proposal for every particle.

    Parameters
    ----------
    move : {"kernel", "ensemble", "pcn", "random_walk"}
        `ekitools.TemperedSMC` describes them.
    x : (J, p)
        Particles.
    weight : (J,)
        Their weights.
    scale : float
        Step size.
    rng : numpy.random.Generator
        Source of randomness.
    turn : int, default 0
        The half that draws from the kernel estimate of the other half: the first half if ``turn``
        is even.

    Returns
    -------
    (J, p), (J,), (J,)
        The proposals x'; log k(x', x) − log k(x, x') for the density k(x, x') of proposing x'
        at x; and whether a proposal depends on the step size.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.methods.smc.moves import propose
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(10, 2))
    >>> proposed, log_ratio, scaled = propose("random_walk", x, np.full(10, 0.1), 0.5, rng)
    >>> proposed.shape, bool(log_ratio.any()), bool(scaled.all())
    ((10, 2), False, True)
    """
    scaled = np.ones(len(x), dtype=bool)
    if move == "pcn":
        proposed = _contracted(x, scale, rng)
        return proposed, 0.5 * np.sum(proposed * proposed - x * x, axis=1), scaled
    first, second = slice(len(x) // 2), slice(len(x) // 2, None)
    proposed, log_ratio = np.empty_like(x), np.empty(len(x))
    for here, other, now in ((first, second, turn % 2 == 0), (second, first, turn % 2 == 1)):
        weights = weight[other] if weight[other].any() else np.ones(len(x[other]))
        share = weights / weights.sum()
        near = fit_gaussian(x[other], share)
        if move == "kernel" and now:
            scaled[here] = False
            proposed[here], log_ratio[here] = _kernel(x[here], x[other], share, near, rng)
        elif move == "ensemble":
            proposed[here] = near.unwhiten(_contracted(near.whiten(x[here]), scale, rng))
            log_ratio[here] = near.log_density(x[here]) - near.log_density(proposed[here])
        else:
            step = 2.38 / math.sqrt(x.shape[1]) * scale
            proposed[here] = x[here] + step * near.spread(rng.standard_normal(x[here].shape))
            log_ratio[here] = 0.0
    return proposed, log_ratio, scaled


def _contracted(x: np.ndarray, scale: float, rng: np.random.Generator) -> np.ndarray:
    """A reversible step that leaves N(0, I) invariant."""
    keep = math.sqrt(max(1 - scale * scale, 0.0))
    return np.asarray(keep * x + scale * rng.standard_normal(x.shape))


def _kernel(
    x: np.ndarray,
    others: np.ndarray,
    share: np.ndarray,
    near: Gaussian,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Independent draws from the kernel density of the other half, contracted to keep its moments.

    The bandwidth is Silverman's for the effective number of particles.
    """
    p = x.shape[1]
    width = min((4 / (p + 2) * float(np.sum(share**2))) ** (1 / (p + 4)), 1.0)
    centres = math.sqrt(1 - width * width) * near.whiten(others)
    drawn = centres[rng.choice(len(others), size=len(x), p=share)]
    white = drawn + width * rng.standard_normal(x.shape)
    with np.errstate(divide="ignore"):
        log_share = np.log(share)

    def log_density(y: np.ndarray) -> np.ndarray:
        rows = max(1, _BLOCK // len(centres))
        blocks = (y[i : i + rows] for i in range(0, len(y), rows))
        offset = log_share - np.sum(centres * centres, axis=1) / (2 * width**2)
        return np.concatenate([
            logsumexp(offset + block @ (centres.T / width**2), axis=1)
            - np.sum(block * block, axis=1) / (2 * width**2)
            for block in blocks
        ])  # fmt: skip

    return near.unwhiten(white), log_density(near.whiten(x)) - log_density(white)
