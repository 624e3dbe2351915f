r"""Importance weights of an evaluated ensemble, which measure its distance from the posterior.

In coordinates in which the prior is N(0, I), the weights of members x_j with outputs are

.. math:: \log w_j = -\Phi(x_j) - \tfrac12 \|x_j\|^2 - \log N(x_j; m, C)

with the sample mean m and covariance C. By Stein's identity the slope of log w on the standardised
members is to first order the mean of the posterior less m, in standard deviations. The curvature is
the change of the variance.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ekitools.core.arrays import host
from ekitools.methods.unknown_noise import misfits_of_members
from ekitools.problem import InverseProblem
from ekitools.results.history import Record
from ekitools.typing import Drawn

__all__ = ["SPARE", "Shift", "log_target", "shift_of_ensemble", "shift_of_nodes", "shift_variables"]

SPARE = 20
"""Number of members beyond p that a useful linear fit needs."""

_HUBER = 1.345
"""Residuals beyond this number of robust standard deviations count linearly. The efficiency under a
normal distribution is 95 % (Huber 1964)."""

_CUT = 3.0
"""Residuals beyond this number of robust standard deviations are cut before the fit of
curvatures."""

_STEPS = 50
_MOST = 300
"""Number of parameters above which the regression costs more than its result is worth."""


class Shift(NamedTuple):
    """Differences between the posterior and an ensemble, for every parameter, ``(p,)`` each."""

    mean: np.ndarray
    """Mean of the posterior minus mean of the ensemble, in standard deviations."""
    error: np.ndarray
    """Standard error of ``mean``, from the regression."""
    sd: np.ndarray
    """Standard deviation of the posterior, divided by that of the ensemble."""


def log_target(
    white: np.ndarray, unconstrained: Any, g: np.ndarray, problem: InverseProblem
) -> np.ndarray:
    """Log-likelihood plus log-density of the prior, up to a constant, ``(J,)``.

    Parameters
    ----------
    white, unconstrained : (J, p)
        Members in coordinates in which the prior is N(0, I), and in unconstrained ones.
    g : (J, d)
        Outputs; a member with NaN or with outputs too large to be squared has −inf.
    problem : InverseProblem
        Problem of the members.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        misfit, log_scale = misfits_of_members(unconstrained, g, problem)
        value = -misfit - log_scale - 0.5 * np.sum(white * white, axis=1)
    return np.where(np.isfinite(value), value, -np.inf)


def shift_of_ensemble(white: np.ndarray, values: np.ndarray, target: np.ndarray) -> Shift:
    """The shift by a robust regression of log w on the standardised members.

    Huber's regression gives little weight to members far in a tail, where the Gaussian contains no
    information about the posterior.

    Parameters
    ----------
    white, values : (J, p)
        Members in coordinates in which the prior is N(0, I), and in the coordinates of the shift. J
        must be at least p + 2.
    target : (J,)
        Finite values of `log_target`.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.results.weights import shift_of_ensemble
    >>> x = np.random.default_rng(0).standard_normal((1000, 1))
    >>> shift = shift_of_ensemble(x, x, -0.5 * ((x[:, 0] - 0.2) / 1.1) ** 2)  # of N(0.2, 1.21)
    >>> shift.mean.round(1), shift.sd.round(1)
    (array([0.2]), array([1.1]))
    """
    n = len(white)
    left, s, _ = np.linalg.svd(white - white.mean(axis=0), full_matrices=False)
    z = np.sqrt(n - 1) * left[:, s > 1e-10 * s[0]]
    log_weight = target + 0.5 * np.sum(z * z, axis=1)
    slope, rest, scale = _huber(z, log_weight)
    direction = z.T @ (values - values.mean(axis=0)) / (n - 1)
    direction /= np.linalg.norm(direction, axis=0)
    along = z @ direction
    # (ZᵀZ)⁻¹ = I/(J − 1): the error of every slope is the same
    error = scale / np.sqrt(n - 1)
    cut = np.clip(rest, -_CUT * scale, _CUT * scale)
    square = along**2 - np.mean(along**2, axis=0)
    curvature = square.T @ cut / np.sum(square**2, axis=0)
    return Shift(slope @ direction, np.full(values.shape[1], error), np.exp(curvature))


def shift_of_nodes(values: np.ndarray, target: np.ndarray, nodes: np.ndarray) -> Shift:
    """The shift for a Gaussian represented by nodes: least-squares slopes, without sampling error.

    Parameters
    ----------
    values, target
        As in `shift_of_ensemble`, for the nodes.
    nodes : (J, p)
        The nodes in coordinates in which the Gaussian is N(0, I), with the centre first.
    """
    log_weight = target + 0.5 * np.sum(nodes * nodes, axis=1)
    slope = np.linalg.lstsq(nodes, log_weight - log_weight.mean(), rcond=None)[0]
    direction = np.linalg.lstsq(nodes, values - values.mean(axis=0), rcond=None)[0]
    direction /= np.linalg.norm(direction, axis=0)
    # along a pair of nodes z, −z: log w = a + b z + c z²; a simplex determines only the mean of c
    rest = log_weight - log_weight[0] - nodes @ slope
    squares = nodes**2
    if len(nodes) == 2 * nodes.shape[1] + 1:
        curvature = squares.T @ rest / np.sum(squares**2, axis=0)
    else:
        whole = np.sum(squares, axis=1)
        curvature = np.full(nodes.shape[1], whole @ rest / (whole @ whole))
    return Shift(
        slope @ direction,
        np.zeros(values.shape[1]),
        np.exp(np.clip(direction.T**2 @ curvature, -20.0, 20.0)),
    )


def shift_variables(
    record: Record, problem: InverseProblem, drawn: Drawn | None = None
) -> dict[str, Any]:
    """Variables of a Dataset with the shift at an evaluated record.

    The result is empty if the shift cannot be computed: if outputs are missing or belong to a part
    of the data, the members have weights, there are fewer than p + 20 members or more than 300
    parameters, or the prior has no coordinates in which it is N(0, I).
    """
    known = np.isfinite(record.misfit) & np.isfinite(record.u).all(axis=1)
    n, p = int(known.sum()), record.u.shape[1]
    enough = known.all() and n > 1 if drawn is not None else n >= p + SPARE
    seen_in_parts = problem.batch is not None or problem.batched
    if seen_in_parts or record.weight.size or not enough or p > _MOST:
        return {}
    prior, u = problem.prior, record.u[known].astype(np.float64)
    try:
        unconstrained = host(prior.to_unconstrained(u))
        white = host(prior.whiten(unconstrained))
    except (AttributeError, NotImplementedError):
        return {}
    target = log_target(white, unconstrained, record.g[known].astype(np.float64), problem)
    if not (np.isfinite(target).all() and np.isfinite(white).all()):
        return {}
    if drawn is not None:
        shift = shift_of_nodes(unconstrained, target, drawn.nodes)
    else:
        shift = shift_of_ensemble(white, unconstrained, target)
    return {
        "posterior_shift": ("parameter", shift.mean),
        "posterior_shift_error": ("parameter", shift.error),
        "posterior_sd_ratio": ("parameter", shift.sd),
    }


def _huber(z: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Slopes ``(k,)`` of Huber's regression, residuals ``(J,)`` and their robust deviation."""
    n, k = z.shape
    design = np.hstack([np.ones((n, 1)), z])
    share, found = np.ones(n), np.zeros(k + 1)
    for _ in range(_STEPS):
        before, weighted = found, design * share[:, None]
        # the columns of the design are orthogonal, so squaring loses no digits
        found = np.linalg.solve(weighted.T @ design, weighted.T @ y)
        rest = y - design @ found
        # 1.4826 times the median of absolute values is the deviation of a normal sample
        scale = 1.4826 * float(np.median(np.abs(rest))) * np.sqrt(n / max(n - k - 1, 1))
        if scale <= 1e-12 * max(1.0, float(np.abs(y).max())):
            break
        share = np.minimum(1.0, _HUBER * scale / np.maximum(np.abs(rest), 1e-300))
        if np.max(np.abs(found - before)) < 1e-6:
            break
    return found[1:], rest, scale
