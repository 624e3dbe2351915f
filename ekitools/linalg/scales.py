r"""Noise scales and parameters under a linear model, member by member.

In coordinates x along the span of the ensemble, in which the prior is N(0, I), member j has the
linear model

.. math:: \|r_b(x)\|^2 = \|R_b x - c_{bj}\|^2 + e_{bj}, \qquad b = 1, \dots, B,

of its residuals in units of scale 1. R_b is the triangular factor of the slope of the d_b data of
block b, so all matrices have at most the size of x. Given the other scales, x is Gaussian. With the
singular values σ_i of R_b in the metric of this Gaussian, the density of s_b with x integrated
out is

.. math:: p(s_b \mid s_{-b}, y) \propto p(s_b)\, s_b^{-(d_b - k_b)} e^{-e_b / 2 s_b^2}
          \prod_{i=1}^{k_b} (s_b^2 + \sigma_i^2)^{-1/2} e^{-f_i^2 / 2 (s_b^2 + \sigma_i^2)},

f is the residual of c_b at the mean of the Gaussian. This is a density of one number. A draw is the
quantile function at a normal score. For one scale it is a draw from the marginal posterior. For
several scales it is a step of a Gibbs sampler of the scales alone, because x is integrated out. All
computations are in NumPy and float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

__all__ = [
    "LinearFit",
    "linear_fit",
    "pooled",
    "pulled",
    "quantiles",
    "scale_draws",
    "solved",
    "transported",
]

_COARSE, _FINE = 33, 129
"""Number of points in the grid that locates the density, and in the grid that integrates it."""

_NEGLIGIBLE = 30.0
"""A density counts as zero if its logarithm is this far below the maximum: e^{-30} is 1e-13."""

_NUMBERS = 1 << 22
"""Largest size of a temporary array."""


class LinearFit(NamedTuple):
    """Linear models of the residuals of J members, or one model for all (J = 1), by block."""

    slopes: tuple[np.ndarray, ...]
    """R_b, ``(k_b, k)``."""
    offsets: tuple[np.ndarray, ...]
    """c_b, ``(J, k_b)``."""
    rest: tuple[np.ndarray, ...]
    """e_b, ``(J,)``: the squares that no x can fit."""
    bases: tuple[np.ndarray, ...]
    """Orthonormal Q_b, ``(d_b, k_b)``: the slope of the data of block b is Q_b R_b."""

    def rows(self, members: slice) -> LinearFit:
        """The models of some members; one model for all stays unchanged."""
        if len(self.rest[0]) == 1:
            return self
        offsets = tuple(c[members] for c in self.offsets)
        return self._replace(offsets=offsets, rest=tuple(e[members] for e in self.rest))


def linear_fit(slope: np.ndarray, r: np.ndarray, x: np.ndarray, groups: np.ndarray) -> LinearFit:
    """The linear models with a common slope, each exact at the x of its member.

    Parameters
    ----------
    slope : (d, k)
        Slope of the residuals, in units of scale 1, with respect to x.
    r : (J, d)
        Residuals of the members in these units.
    x : (J, k)
        Members.
    groups : (d,)
        Number of the scale of each datum; −1 for a known scale of 1, whose block comes last.
    """
    parts = []
    for b in (*range(int(groups.max()) + 1), *([-1] if (groups < 0).any() else [])):
        rows = groups == b
        basis, triangle = np.linalg.qr(slope[rows])
        wanted = x @ slope[rows].T - r[:, rows]
        offset = wanted @ basis
        rest = np.sum((wanted - offset @ basis.T) ** 2, axis=1)
        parts.append((triangle, offset, rest, basis))
    return LinearFit(*zip(*parts, strict=True))


def pooled(fit: LinearFit) -> LinearFit:
    """One model: its ‖r_b(x)‖² is the mean of ‖r_b(x)‖² over the members, at every x.

    The part of the residuals that a fit to all members does not explain then counts as noise.
    """
    centres = tuple(np.mean(c, axis=0, keepdims=True) for c in fit.offsets)
    rest = tuple(
        np.atleast_1d(np.mean(e + np.sum((c - centre) ** 2, axis=1)))
        for e, c, centre in zip(fit.rest, fit.offsets, centres, strict=True)
    )
    return fit._replace(offsets=centres, rest=rest)


def scale_draws(
    fit: LinearFit,
    log_prior: Callable[[int, np.ndarray], np.ndarray],
    bounds: np.ndarray,
    scores: np.ndarray,
    start: np.ndarray,
) -> np.ndarray:
    """Scales of the members from their posterior under the linear fit.

    Parameters
    ----------
    fit : LinearFit
        Models of J members, or one model for all members.
    log_prior : callable
        ``log_prior(b, log_s)``: the log-density of log s_b, of any shape.
    bounds : (2, B)
        Bounds of log s, between which the density is evaluated.
    scores : (J, n, B)
        Standard normal draws. Each of n rounds draws the scales one by one. With zeros every scale
        is the median of its density given the other scales.
    start : (B,)
        Scales at the start of the sampler.

    Returns
    -------
    (J, B)
    """
    n, rounds, n_scales = scores.shape
    scales = np.tile(start, (n, 1))
    for members in _chunks(n, fit.slopes[0].shape[1] ** 2 if n_scales > 1 else 1):
        part, drawn = fit.rows(members), scales[members]
        for each in range(rounds if n_scales > 1 else 1):
            for b in range(n_scales):
                density = _Conditional.of(part, b, drawn, log_prior)
                drawn[:, b] = np.exp(quantiles(density, bounds[:, b], scores[members, each, b]))
    return scales


def solved(fit: LinearFit, scales: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(I + Σ_b R_bᵀR_b/s_bj²)⁻¹ v_j for every row v_j, ``(J, k)``."""
    weights = _weights(fit, scales)
    if len(fit.slopes) == 1:
        _, sd, right = np.linalg.svd(fit.slopes[0])
        sd = np.concatenate([sd, np.zeros(len(right) - len(sd))])
        with np.errstate(over="ignore"):
            return np.asarray((rows @ right.T) / (1 + weights * sd**2) @ right)
    found = np.empty_like(rows)
    for members in _chunks(len(rows), rows.shape[1] ** 2):
        matrices = _precision(fit, weights if len(weights) == 1 else weights[members])
        found[members] = np.linalg.solve(matrices, rows[members, :, None])[..., 0]
    return found


def pulled(
    fit: LinearFit, scales: np.ndarray, draws: np.ndarray | None, groups: np.ndarray
) -> np.ndarray:
    """Σ_b R_bᵀ(c_bj + s_bj Q_bᵀη_j)/s_bj² for standard normal draws η ``(J, d)``, ``(J, k)``.

    If a draw of the prior is added to the result, `solved` turns the sum into a draw of the
    posterior. Without draws (None), it turns the result into the posterior mean.
    """
    weights = _weights(fit, scales)
    found: np.ndarray = np.zeros(1)
    for b, (slope, offset, basis) in enumerate(
        zip(fit.slopes, fit.offsets, fit.bases, strict=True)
    ):
        rows = groups == (b if b < scales.shape[1] else -1)
        weight = weights[:, b : b + 1]
        target = weight * offset
        if draws is not None:
            target = target + np.sqrt(weight) * (draws[:, rows] @ basis)
        found = found + target @ slope
    return found


def transported(
    fit: LinearFit, x: np.ndarray, precisions: np.ndarray, scales: np.ndarray
) -> np.ndarray:
    """Map members of the posterior at some precisions to the posteriors at their own scales.

    Both posteriors are Gaussian under the fit. The map is affine and symmetric in the metric of the
    first posterior. A member does not move if its scale has not changed.

    Parameters
    ----------
    fit : LinearFit
        One linear model for all members.
    x : (J, k)
        Draws from the posterior at 1/s_b² = ``precisions``.
    precisions : (blocks,)
        Precisions of all blocks, with a known block last.
    scales : (J, B)
        Scales of the members.

    Returns
    -------
    (J, k)
    """
    lower = np.linalg.cholesky(_precision(fit, precisions[None])[0])
    slopes = [np.linalg.solve(lower, slope.T).T for slope in fit.slopes]  # R_b L⁻ᵀ
    grams = np.stack([slope.T @ slope for slope in slopes])
    offsets = np.concatenate([c @ s for c, s in zip(fit.offsets, slopes, strict=True)])
    mean = precisions @ offsets  # Lᵀm, with m the mean at the precisions
    change = _weights(fit, scales) - precisions
    centred, toward = x @ lower - mean, change @ (offsets - np.einsum("bkl,l->bk", grams, mean))
    moved = np.empty_like(centred)
    alone = np.linalg.eigh(grams[0]) if len(grams) == 1 else None
    for members in _chunks(len(x), 1 if alone else x.shape[1] ** 2):
        if alone:
            values, vectors = 1 + change[members] * alone[0], alone[1][None]
        else:
            matrices = np.eye(x.shape[1]) + np.tensordot(change[members], grams, axes=1)
            values, vectors = np.linalg.eigh(matrices)
        values = np.maximum(values, np.finfo(np.float64).tiny)
        turned, pull = (_times(each[members], vectors) for each in (centred, toward))
        turned = turned / np.sqrt(values) + pull / values
        moved[members] = _times(turned, np.swapaxes(vectors, 1, 2))
    return np.asarray(np.linalg.solve(lower.T, (moved + mean).T).T)


def quantiles(
    log_density: Callable[[np.ndarray], np.ndarray], bounds: np.ndarray, scores: np.ndarray
) -> np.ndarray:
    """Quantiles of densities of one number at the probabilities of normal scores.

    Parameters
    ----------
    log_density : callable
        Logarithms of J densities, row by row, or of one density for all, at points ``(J, n)`` or
        ``(1, n)``. Points ``(1, n)`` have a row for every density.
    bounds : (2,)
        Bounds between which the densities are located.
    scores : (J,)
        Normal scores of the wanted quantiles.

    Returns
    -------
    (J,)
    """
    low, high = bounds[None, :1], bounds[None, 1:]
    share = np.linspace(0, 1, _COARSE)
    for _ in range(12):
        grid = low + (high - low) * share
        values = log_density(grid)
        grid = np.broadcast_to(grid, values.shape)
        counts = values > np.max(values, axis=1, keepdims=True) - _NEGLIGIBLE
        first = np.maximum(np.argmax(counts, axis=1) - 1, 0)[:, None]
        last = np.minimum(_COARSE - np.argmax(counts[:, ::-1], axis=1), _COARSE - 1)[:, None]
        width = high - low
        low, high = (np.take_along_axis(grid, each, axis=1) for each in (first, last))
        if np.all(high - low > 0.8 * width):
            break
    grid = low + (high - low) * np.linspace(0, 1, _FINE)
    values = log_density(grid)
    values = np.maximum(values - np.max(values, axis=1, keepdims=True), -_NEGLIGIBLE)
    pieces = _simpson(values)
    nothing = np.zeros((len(pieces), 1))
    below = np.concatenate([nothing, np.cumsum(pieces, axis=1)], axis=1)
    above = np.concatenate([np.cumsum(pieces[:, ::-1], axis=1)[:, ::-1], nothing], axis=1)
    total = below[:, -1:]
    with np.errstate(divide="ignore"):
        z = np.where(below <= above, ndtri(below / total), -ndtri(above / total))
    z = np.clip(z, -40, 40)  # finite scores at the ends of the grid
    if len(z) == 1:
        return np.interp(scores, z[0], grid[0])
    return np.array([np.interp(*each) for each in zip(scores, z, grid, strict=True)])


def _simpson(values: np.ndarray) -> np.ndarray:
    """Integrals of exp(values) from each point of a grid to the next, ``(rows, n − 1)``.

    The values at midpoints come from cubics in the logarithm. A cap bounds them at a jump.
    """
    padded = np.pad(values, ((0, 0), (1, 1)), mode="edge")
    left, right = values[:, :-1], values[:, 1:]
    middle = (9 * (left + right) - padded[:, :-3] - padded[:, 3:]) / 16
    middle = np.clip(middle, np.minimum(left, right), np.maximum(left, right) + 0.1)
    return np.asarray((np.exp(left) + 4 * np.exp(middle) + np.exp(right)) / 6)


@dataclass(frozen=True)
class _Conditional:
    """The density of one scale given the others, with x integrated out."""

    sd: np.ndarray
    """σ, ``(J or 1, k_b)``."""
    offset: np.ndarray
    """f, ``(J or 1, k_b)``."""
    rest: np.ndarray
    """e, ``(J or 1,)``."""
    n_rest: int
    """d_b − k_b."""
    log_prior: Callable[[np.ndarray], np.ndarray]

    @classmethod
    def of(
        cls,
        fit: LinearFit,
        b: int,
        scales: np.ndarray,
        log_prior: Callable[[int, np.ndarray], np.ndarray],
    ) -> _Conditional:
        """The density of scale b at the others."""
        slope, offset, rest, basis = (part[b] for part in fit)
        n_rest, prior = len(basis) - len(slope), partial(log_prior, b)
        if len(fit.slopes) == 1:
            left, sd, _ = np.linalg.svd(slope, full_matrices=False)
            return cls(sd[None], offset @ left, rest, n_rest, prior)
        weights = _weights(fit, scales)
        weights[:, b] = 0
        if np.all(weights == weights[:1]):  # one metric for all
            weights = weights[:1]
        matrices = _precision(fit, weights)
        lower = np.linalg.cholesky(matrices)
        inner = np.swapaxes(np.linalg.solve(lower, slope.T[None]), 1, 2)  # R_b L⁻ᵀ
        left, sd, _ = np.linalg.svd(inner, full_matrices=False)
        pull = sum(
            w[:, None] * (c @ s) for w, c, s in zip(weights.T, fit.offsets, fit.slopes, strict=True)
        )
        mean = np.linalg.solve(matrices, pull[..., None])[..., 0]
        return cls(sd, _times(offset - mean @ slope.T, left), rest, n_rest, prior)

    def __call__(self, log_s: np.ndarray, /) -> np.ndarray:
        """The log-density of log s, up to a constant, at points ``(J or 1, n)``."""
        n = max(map(len, (self.sd, self.offset, log_s)))
        found = np.empty((n, log_s.shape[1]))
        for rows in _chunks(n, found.shape[1] * self.sd.shape[1]):
            sd, f, e, at = (
                a if len(a) == 1 else a[rows] for a in (self.sd, self.offset, self.rest, log_s)
            )
            s2 = np.exp(2 * at)
            total = s2[:, :, None] + sd[:, None, :] ** 2
            terms = np.log(total) + f[:, None, :] ** 2 / total
            found[rows] = -np.sum(terms, axis=2) / 2 - self.n_rest * at - e[:, None] / (2 * s2)
        return found + self.log_prior(log_s)


def _weights(fit: LinearFit, scales: np.ndarray) -> np.ndarray:
    """1/s² of all blocks, ``(J, blocks)``; a known scale is 1."""
    known = np.ones((len(scales), len(fit.slopes) - scales.shape[1]))
    return np.concatenate([1 / scales**2, known], axis=1)


def _precision(fit: LinearFit, weights: np.ndarray) -> np.ndarray:
    """I + Σ_b w_b R_bᵀR_b for every row of the weights, ``(J, k, k)``."""
    grams = np.stack([slope.T @ slope for slope in fit.slopes])
    return np.asarray(np.eye(grams.shape[1]) + np.tensordot(weights, grams, axes=1))


def _times(rows: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """Row j times matrix j, or times the only one."""
    return np.asarray((rows[:, None, :] @ matrices)[:, 0, :])


def _chunks(n: int, numbers: int) -> Iterator[slice]:
    """Slices of n rows, for rows with ``numbers`` numbers each."""
    size = max(1, _NUMBERS // max(numbers, 1))
    return (slice(i, i + size) for i in range(0, n, size))
