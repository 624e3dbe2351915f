"""Gauss–Newton steps of randomised maximum a posteriori problems, one for every member.

In coordinates x in which the prior is N(0, I), member j minimises

    F_j(x) = ½ ‖x − m_j‖² + ½ ‖r(x) − η_j‖²

with its own draws m_j ~ N(0, I) and η_j ~ N(0, I), and whitened residuals r. Every array is
``(J, ...)``; no array is p × p.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ekitools.core.arrays import array_namespace, host, like
from ekitools.linalg import frobenius
from ekitools.methods.shared import slope_on_span
from ekitools.typing import Array

__all__ = [
    "LEAST",
    "Newton",
    "Span",
    "adapted",
    "newton_step",
    "objectives",
    "regularised",
    "relative_size",
]

_LOSS = 1e-9
"""Largest error of a refinement due to squaring, relative to the length of the refinement."""

_AS_PROMISED, _TOO_LITTLE = 0.75, 0.5
"""Shares of the fall that the linear model predicts. Above the first the damping grows, and below
the second it shrinks."""

_SPARE = 20
"""Number of members that a linear fit needs in addition to its coefficients."""

LEAST = 1 / 32
"""Smallest damping."""


class Newton(NamedTuple):
    """The full step of every member, and the predicted fall of the objective."""

    step: Array
    """Step to the minimiser of F_j under the linear model, ``(J, k)``."""
    gain: np.ndarray
    """Squared length of the step in the metric of F_j, ``(J,)``. Under the linear model the part α
    of the step lowers F_j by (α − α²/2) times this length."""
    rest: float
    """Mean square of the residuals of the linear model, in posterior standard deviations, over the
    directions that the data inform; NaN if J is too small."""


class Span(NamedTuple):
    """The affine span of J ≤ p members, with coordinates in which they have N(0, I).

    With the thin SVD E = P s Vᵀ of the anomalies, w = w̄ + z diag(s) Vᵀ/√(J − 1).
    """

    centre: Array
    """w̄, ``(1, p)``."""
    rows: Array
    """diag(s) Vᵀ/√(J − 1), ``(k, p)`` with k < J."""

    @classmethod
    def of(cls, w: Array) -> Span:
        """The span of members ``(J, p)``."""
        xp = array_namespace(w)
        centre = xp.mean(w, axis=0, keepdims=True)
        _, s, right = xp.linalg.svd(w - centre, full_matrices=False)
        least = 8 * float(xp.finfo(w.dtype).eps) * frobenius(w)
        rank = min(int(np.sum(host(s) > least)), int(w.shape[0]) - 1)
        sd = s[:rank] / math.sqrt(int(w.shape[0]) - 1)
        return cls(centre, sd[:, None] * right[:rank, :])

    def coordinates(self, w: Array) -> Array:
        """The coordinates z of the nearest points in the span, ``(J, k)``."""
        xp = array_namespace(w)
        z = (w - self.centre) @ xp.matrix_transpose(self.rows)
        return z / xp.sum(self.rows * self.rows, axis=1)[None, :]

    def members(self, z: Array) -> Array:
        """w, ``(J, p)``."""
        return self.centre + z @ self.rows


def newton_step(x: Array, r: Array, anchors: Array, draws: Array) -> Newton:
    """The full Gauss–Newton step of every member, with the slope from the regression of r on x.

    The regression is H = B Vᵀ (`slope_on_span`), and K = (I + HᵀH)⁻¹Hᵀ = V (I + BᵀB)⁻¹ Bᵀ.

    Parameters
    ----------
    x : (J, k)
        Members, in coordinates in which the prior is N(0, I).
    r : (J, d)
        Their whitened residuals.
    anchors : (J, k)
        Draws m_j of the prior.
    draws : (J, d)
        Perturbations η_j of the data.
    """
    xp = array_namespace(x)
    right, slope = slope_on_span(x, r)
    gap = anchors - x
    along, across = xp.matrix_transpose(right), xp.matrix_transpose(slope)
    innovation = draws - r - (gap @ along) @ across  # y + η_j − G(u_j) − H (m_j − u_j), whitened
    step = gap + regularised(innovation, slope) @ right
    shift = (step @ along) @ across
    gain = host(xp.sum(step * step, axis=1) + xp.sum(shift * shift, axis=1))
    return Newton(step, gain.astype(np.float64), _rest(x, r, right, slope))


def _rest(x: Array, r: Array, right: Array, slope: Array) -> float:
    """The ratio of e B(I + BᵀB)⁻¹Bᵀ eᵀ to tr B(I + BᵀB)⁻¹Bᵀ, with the residuals e."""
    xp = array_namespace(x)
    free = int(x.shape[0]) - 1 - int(right.shape[0])
    if free < _SPARE:
        return math.nan
    along, across = xp.matrix_transpose(right), xp.matrix_transpose(slope)
    deviations = x - xp.mean(x, axis=0, keepdims=True)
    e = r - xp.mean(r, axis=0, keepdims=True) - (deviations @ along) @ across
    informed = float(xp.linalg.trace(regularised(across, slope)))
    left = float(xp.sum((e @ slope) * regularised(e, slope))) / free
    return left / informed if informed > 0 else math.nan


def adapted(damping: float, fall: float, gain: float) -> float:
    """The damping after a step α that lowered the mean of F_j by ``fall``.

    Under the linear model the mean falls by (α − α²/2) times ``gain``. The damping is doubled, up
    to 1, if the fall is at least three quarters of this number. It is halved if the fall is less
    than half of this number.
    """
    promised = damping * (1 - damping / 2) * gain
    if fall >= _AS_PROMISED * promised:
        return min(1.0, 2 * damping)
    return damping if fall >= _TOO_LITTLE * promised else max(damping / 2, LEAST)


def objectives(x: Array, r: Array, anchors: Array, draws: Array) -> np.ndarray:
    """F_j, ``(J,)``, on the host in float64."""
    xp = array_namespace(x)
    gap, rest = anchors - x, r - draws
    found = xp.sum(gap * gap, axis=1) + xp.sum(rest * rest, axis=1)
    return host(found).astype(np.float64) / 2


def relative_size(move: Array, w: Array) -> float:
    """Root mean square of a move ``(J, p)`` in standard deviations of the members ``(J, p)``."""
    sd = host(array_namespace(w).std(w, axis=0, correction=1))
    spread = sd > 0
    relative = host(move)[:, spread] / sd[spread]
    return float(np.sqrt(np.mean(relative**2)))


def regularised(rows: Array, slope: Array) -> Array:
    """``rows`` B(I + BᵀB)⁻¹, ``(J, rank)``; by the SVD of B if BᵀB has too few digits.

    Rounding in BᵀB causes a relative error of at most ε‖B‖². With the thin SVD B = Q σ Zᵀ, which
    does not square B, B(I + BᵀB)⁻¹ = Q diag(σ / (1 + σ²)) Zᵀ.
    """
    xp = array_namespace(slope)
    size, eps = frobenius(slope), float(xp.finfo(slope.dtype).eps)
    if not math.isfinite(size):
        return xp.full_like(rows[:, :1] * slope[:1, :], math.inf)
    if size <= math.sqrt(max(_LOSS / eps, 100)):
        system = xp.matrix_transpose(slope) @ slope + like(np.eye(int(slope.shape[1])), slope)
        solved = xp.linalg.solve(system, xp.matrix_transpose(rows @ slope))
        return xp.matrix_transpose(solved)
    left, s, right = xp.linalg.svd(slope, full_matrices=False)
    s = xp.where(s > 1e-30, s, xp.full_like(s, 1e-30))
    weights = 1 / (s + 1 / s)  # σ / (1 + σ²), where σ² may overflow
    return ((rows @ left) * weights) @ right
