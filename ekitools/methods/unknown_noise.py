r"""Steps of `EKI` and `GNKI` for noise with unknown scales (`ScaledNoise`).

The last B columns of an ensemble are then the scales, in coordinates in which their prior is
N(0, I). The model does not see them, so a Kalman update cannot move them. They are drawn from their
posterior under the linear fit of the model over the ensemble. This posterior uses all data and
integrates out the parameters (`ekitools.linalg.scales`). All computations use NumPy and float64.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ekitools.core.arrays import array_namespace, host, like
from ekitools.core.checks import check_gaussian
from ekitools.linalg.scales import (
    LinearFit,
    linear_fit,
    pooled,
    pulled,
    scale_draws,
    solved,
    transported,
)
from ekitools.methods.shared import (
    initial_variance,
    misfits,
    slope_on_span,
    tempered_analysis,
)
from ekitools.methods.steps import choose_step
from ekitools.typing import Array, ScaledNoise, Schedule, Target

__all__ = [
    "ROUNDS",
    "Scaling",
    "Tempered",
    "checked_start",
    "misfits_of_members",
    "refined_with_scales",
    "tempered_with_scales",
]

_SETTLED = 0.1
"""Largest change of the logarithm of a scale's estimate at which the last step is taken."""

_INFORMED = 1e-4
"""Smallest slope of the outputs along an informed direction, in noise standard deviations."""

_TINY = 1e-300

ROUNDS = 4
"""Rounds of Gibbs sampling if there are several scales."""


class Scaling(NamedTuple):
    """Estimated scales of the noise, and the precision used on the way to t = 1."""

    used: Array
    """Precision used so far, by block, in units of the shape; a known block is last."""
    estimate: Array
    """Estimate of the scales, ``(B,)``."""


class Tempered(NamedTuple):
    """Ensemble, scales, step and pseudo-time after one step."""

    ensemble: Array
    scaling: Scaling
    h: float
    t: float


def checked_start(ensemble: Array, target: Any, who: str) -> float:
    """Variance of an initial ensemble, for a method that can estimate the scales of the noise.

    Raises
    ------
    ValueError
        If the parameters of the model have no spread.
    TypeError
        If the problem has a loss that is not Gaussian noise.
    """
    if isinstance(target.noise, ScaledNoise):
        initial_variance(ensemble[:, : -target.noise.n_scales])
    else:
        check_gaussian(target.noise, who)
    return initial_variance(ensemble)


def misfits_of_members(u: Array, g: Array, target: Target) -> tuple[np.ndarray, np.ndarray]:
    """Misfit Φ of each member under its own scales, ``(J,)``, and Σ_b d_b log s_b.

    Their sum is the negative log-likelihood up to a constant. The second term is 0 for known noise.
    """
    noise = target.noise
    if not isinstance(noise, ScaledNoise):
        return host(noise.misfit(g, target.data)).astype(np.float64), np.zeros(1)
    s = _with_known(noise.scales(u))[:, noise.groups]
    with np.errstate(over="ignore"):  # a vague prior draws some scales close to zero
        return misfits(_unit_residual(g, target) / s), np.sum(np.log(s), axis=1)


def tempered_with_scales(
    state: Any, g: Array, target: Target, step: Schedule, rng: np.random.Generator
) -> Tempered:
    """One step of `EKI` towards t = 1 with unknown scales.

    Each member has its own linear model. The scales are estimated under the model that can fit the
    data best. A mean over the members would grow with the spread of the ensemble, and the run would
    stop early, because large scales keep a broad ensemble broad. If the model is linear, all
    members give the same estimate.

    The pseudo-time t is the used share of the precision 1/s². A step h uses the share h / (1 - t)
    of the remaining precision. If the estimate of a scale falls, its precision grows and t falls.
    The last step is taken only after the estimate has settled. It then moves each member from the
    used precision to the precision of the scales drawn for this member.
    """
    noise: Any = target.noise
    fit = _Fit.of(state.ensemble, g, target)
    one, prior, before = pooled(fit.models), noise.prior, state.scaling
    estimate = _smallest(fit, noise)
    goal = 1 / _with_known(estimate) ** 2
    used = np.zeros_like(goal) if before is None else host(before.used)
    blocks = np.unique(noise.groups)
    t = min(float(np.min(used[blocks] / goal[blocks])), 1.0)
    r = fit.r / _with_known(estimate)[noise.groups]
    h, end = choose_step(step, state.n, t, 1.0, like(r, g), misfits(r))
    if end == 1 and not _settled(estimate, before):
        h, end = (1 - t) / 2, (1 + t) / 2
    share = h / (1 - t) if t < 1 else 1.0
    added = share * np.maximum(goal - used, 0)
    u = state.ensemble[:, : -noise.n_scales]
    moved = tempered_analysis(u, like(fit.r * np.sqrt(added)[noise.groups], g), 1.0, rng)
    rounds = ROUNDS if end == 1 else 1
    scores = rng.standard_normal((len(fit.w), rounds, noise.n_scales))
    scales = scale_draws(one, prior.log_density, prior.log_bounds, scores, estimate)
    ensemble = _with_scales(moved, scales, target)
    used = used + added
    if end == 1:
        w = host(target.prior.whiten(ensemble)).astype(np.float64)
        x = w[:, : -noise.n_scales] @ fit.right.T
        carried = transported(one, x, used[: len(one.slopes)], scales)
        w[:, : -noise.n_scales] += (carried - x) @ fit.right
        ensemble = like(target.prior.unwhiten(like(w, ensemble)), ensemble)
    return Tempered(ensemble, Scaling(used, estimate), h, end)


def refined_with_scales(
    state: Any, g: Array, target: Target, damping: float
) -> tuple[Array, float]:
    """Ensemble after one refinement of `GNKI` with scales for each member, and its relative move.

    The relative move is the root mean square of the changes in ensemble standard deviations.
    """
    noise: Any = target.noise
    fit = _Fit.of(state.ensemble, g, target)
    prior, n = noise.prior, noise.n_scales
    scores = host(state.scores).reshape(len(fit.w), ROUNDS, n)
    scales = scale_draws(fit.models, prior.log_density, prior.log_bounds, scores, fit.estimate)
    anchors, draws = host(state.anchors), host(state.draws)
    inside = anchors @ fit.right.T
    pull = pulled(fit.models, scales, draws, noise.groups)
    gap = anchors - fit.w
    along = solved(fit.models, scales, inside + pull) - inside
    w = host(target.prior.whiten(state.ensemble)).astype(np.float64)
    following = w.copy()
    following[:, :-n] += damping * (gap + along @ fit.right)
    following[:, -n:] = prior.to_unconstrained(scales)
    sd = np.std(w, axis=0, ddof=1)
    spread = sd > 0
    relative = (following - w)[:, spread] / sd[spread]
    ensemble = target.prior.unwhiten(like(following, state.ensemble))
    return ensemble, float(np.sqrt(np.mean(relative**2)))


class _Fit(NamedTuple):
    """The linear fit of the model over an ensemble, in coordinates whitened by the prior."""

    w: np.ndarray
    """Parameters of the model, ``(J, p)``."""
    r: np.ndarray
    """Residuals whitened with all scales equal to 1, ``(J, d)``."""
    right: np.ndarray
    """Orthonormal directions in the ensemble's span that the data inform, ``(k, p)``."""
    models: LinearFit
    estimate: np.ndarray
    """Medians of the scales under the pooled model, ``(B,)``."""

    @classmethod
    def of(cls, ensemble: Array, g: Array, target: Target) -> _Fit:
        noise: Any = target.noise
        w = host(target.prior.whiten(ensemble)).astype(np.float64)[:, : -noise.n_scales]
        r = _unit_residual(g, target)
        right, slope = slope_on_span(w, r)
        models = linear_fit(slope, r, w @ right.T, noise.groups)
        estimate = _medians(pooled(models), noise)[0]
        white = slope / _with_known(estimate)[noise.groups][:, None]
        _, sd, turn = np.linalg.svd(white, full_matrices=False)
        turn = turn[sd > _INFORMED]  # in other directions the posterior equals the prior
        right, slope = turn @ right, slope @ turn.T
        return cls(w, r, right, linear_fit(slope, r, w @ right.T, noise.groups), estimate)


def _unit_residual(g: Array, target: Target) -> np.ndarray:
    noise: Any = target.noise
    return host(noise.shape.whiten(g - like(target.data, g))).astype(np.float64)


def _medians(fit: LinearFit, noise: Any) -> np.ndarray:
    """Median of each scale given the other scales, for every model of the fit."""
    n, prior = noise.n_scales, noise.prior
    zeros = np.zeros((len(fit.rest[0]), 2, n))
    start = prior.to_physical(np.zeros(n))
    return scale_draws(fit, prior.log_density, prior.log_bounds, zeros, start)


def _smallest(fit: _Fit, noise: Any) -> np.ndarray:
    """Medians of the scales, ``(B,)``, under the member's model that can fit the data best."""
    models, at = fit.models, fit.estimate[None]
    x = solved(models, at, pulled(models, at, None, noise.groups))
    parts = list(zip(models.slopes, models.offsets, models.rest, models.bases, strict=True))
    left = [
        len(basis) * np.log(np.sum((x @ slope.T - c) ** 2, axis=1) + e + _TINY)
        for slope, c, e, basis in parts[: noise.n_scales]
    ]
    best = int(np.argmin(np.sum(left, axis=0)))
    return np.asarray(_medians(models.rows(slice(best, best + 1)), noise)[0])


def _settled(estimate: np.ndarray, before: Scaling | None) -> bool:
    """Whether the last step hardly changed the estimate of the scales."""
    if before is None:
        return False
    return bool(np.max(np.abs(np.log(estimate / host(before.estimate)))) <= _SETTLED)


def _with_scales(u: Array, scales: np.ndarray, target: Target) -> Array:
    noise: Any = target.noise
    z = like(noise.prior.to_unconstrained(scales), u)
    return array_namespace(u).concat([u, z], axis=1)


def _with_known(scales: np.ndarray) -> np.ndarray:
    """Unknown scales followed by the known scale 1."""
    return np.concatenate([scales, np.ones((*scales.shape[:-1], 1))], axis=-1)
