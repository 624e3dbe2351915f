r"""The strength of localization by leaving members out, without model runs or a truth.

The members of a fold serve as the truth. Their outputs with noise are the data, and the local
analysis of the other members predicts their parameters. With the gain K_i of parameter i, its
variance v_i after the analysis, and the expectation over the noise in closed form,

.. math::
    S = \Big\langle \tfrac12 \log v_i + \frac{(u_{ji} - \bar u_i - K_i (g_j - \bar g))^2
        + K_i \Gamma K_i^T / h}{2 v_i} \Big\rangle

is the mean negative log-density of the parameters that were left out. It is smallest for the best
combination of means and spreads.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ekitools.core.arrays import host, take_columns
from ekitools.linalg.whitened import check_independent
from ekitools.typing import Array, Localization, Localizer, StrengthCurve, Tunable

__all__ = ["PARAMETERS", "adapted", "check_choice", "expected_score", "strength_curve"]

_FOLDS = 10
_PATIENCE = 2
"""Number of strengths in a row that may be worse than the best one."""

PARAMETERS = 200
"""Largest number of parameters that are predicted."""

_BATCH_BYTES = 1 << 23
"""Bytes of the local outputs of parameters that are predicted together."""


def check_choice(noise: Any, n: int, what: str) -> None:
    """Check that a strength can be chosen from n members."""
    check_independent(noise, what)
    if n < 4:
        raise ValueError(
            f"localization: {what} must have 4 members or more, got {n}. Give it a number."
        )


def adapted(
    rule: Localization,
    u: Array,
    difference: np.ndarray,
    noise: Any,
    h: float,
    target: Any = None,
) -> tuple[Localization, StrengthCurve | None]:
    """The rule, with a chosen strength if it has none, and the curve of the choice.

    ``difference`` is G(u) − y ``(J, d)``.
    """
    if not isinstance(rule, Tunable) or rule.strength is not None:
        return rule, None
    check_choice(noise, len(difference), f'{rule.strength_name}="adaptive"')
    curve = strength_curve(rule, u, noise.whiten(difference), h, target)
    return rule.with_strength(curve.chosen), curve


def strength_curve(
    rule: Tunable,
    u: Array,
    r: np.ndarray,
    h: float,
    target: Any,
    n_parameters: int = PARAMETERS,
) -> StrengthCurve:
    """The score of every strength of a rule; ``r`` are whitened residuals ``(J, d)``."""
    (n, p), d = u.shape, r.shape[1]
    columns = np.sort(np.random.default_rng(0).permutation(p)[:n_parameters])
    some = host(take_columns(u, columns)).astype(np.float64)
    fold = np.arange(n) % min(_FOLDS, n // 2)
    values: list[float] = []
    scores: list[np.ndarray] = []
    for value in rule.strengths(p, d, target):
        localizer = rule.with_strength(float(value)).located(p, d, target)
        values.append(float(value))
        scores.append(expected_score(localizer, columns, some, r, h, fold))
        means = np.mean(scores, axis=1)
        if len(means) - np.argmin(means) > _PATIENCE:  # more data cost more without a better score
            break
    worse = np.array(scores) - scores[int(np.argmin(means))]
    error = worse.std(axis=1, ddof=1) / math.sqrt(n)
    chosen = np.flatnonzero(worse.mean(axis=1) <= error)[-1]  # the best itself is among them
    return StrengthCurve(rule.strength_name, np.array(values), means, values[int(chosen)])


def expected_score(
    localizer: Localizer,
    columns: np.ndarray,
    u: np.ndarray,
    r: np.ndarray,
    h: float,
    fold: np.ndarray,
) -> np.ndarray:
    """The mean negative log-density of every left-out member ``(J,)``, up to a constant.

    Parameters
    ----------
    localizer : Localizer
        The data that move each parameter, with weights.
    columns : (m,)
        Numbers of the parameters that are predicted.
    u : (J, m)
        Members at these parameters.
    r : (J, d)
        Whitened residuals of the members.
    h : float
        The noise is I/h.
    fold : (J,) of int
        The fold of every member. The members of a fold are left out together.
    """
    total = np.zeros(len(u))
    for k in range(int(fold.max()) + 1):
        out = fold == k
        centre, mean = u[~out].mean(axis=0), r[~out].mean(axis=0)
        e, f = (u[~out] - centre).T, (r[~out] - mean).T
        weights = localizer.weights(columns, e.T, f)
        weights.eliminate_zeros()
        u_out, r_out = (u[out] - centre).T, (r[out] - mean).T
        spread = np.flatnonzero(np.sum(e * e, axis=1) > 0)
        size = np.diff(weights.indptr)[spread]
        for n_near in np.unique(size):
            which = spread[size == n_near]
            width = max(1, _BATCH_BYTES // (8 * max(1, n_near) * f.shape[1]))
            for i in range(0, len(which), width):
                part = which[i : i + width]
                place = weights.indptr[part, None] + np.arange(n_near)
                index, root = weights.indices[place], np.sqrt(weights.data[place])
                total[out] += _score(e[part], f[index], root, h, u_out[part], r_out[index])
    return total / max(1, int(np.sum(np.ptp(u, axis=0) > 0)))


def _score(
    e: np.ndarray, f: np.ndarray, root: np.ndarray, h: float, u: np.ndarray, r: np.ndarray
) -> np.ndarray:
    """The sums over b parameters with k data each, for all members u that are left out.

    With f = W F_Iᵀ ``(b, k, n)`` and c = (n − 1)/h the gain of the residuals is
    W (f fᵀ + c)⁻¹ f e = W f (fᵀf + c)⁻¹ e, and the variance e·(I + fᵀf/c)⁻¹e/(n − 1).
    """
    f = f * root[:, :, None]
    (_, k, n), c = f.shape, (e.shape[1] - 1) / h
    if k <= n:
        z = f @ e[:, :, None]
        solved = np.linalg.solve(f @ f.swapaxes(1, 2) + c * np.eye(k), z)
        rest = np.sum(e * e, axis=1) - np.sum(z * solved, axis=(1, 2))
    else:
        inner = np.linalg.solve(f.swapaxes(1, 2) @ f + c * np.eye(n), e[:, :, None])
        solved = f @ inner
        rest = c * np.sum(e[:, :, None] * inner, axis=(1, 2))
    gain = root * solved[:, :, 0]
    variance = np.maximum(rest, np.finfo(np.float64).tiny)[:, None] / (n - 1)
    error = (u - (gain[:, None, :] @ r)[:, 0, :]) ** 2 + np.sum(gain**2, axis=1)[:, None] / h
    return np.asarray(np.sum(np.log(variance) / 2 + error / (2 * variance), axis=0))
