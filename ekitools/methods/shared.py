"""Functions that several methods share: checks, misfits, regression and one tempered analysis.

They work on whitened residuals r = Γ^{-1/2}(G(u) − y), ``(J, d)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ekitools.core.arrays import array_namespace, data_like, host, like
from ekitools.core.draws import DeviceGenerator, standard_normal
from ekitools.linalg import frobenius, kalman_update, total_variance
from ekitools.losses.gaussian import GaussianNoise
from ekitools.typing import Array, MapsMembers, Method, Status, Target

__all__ = [
    "averaged",
    "check_all_data",
    "diverged",
    "initial_variance",
    "mapped",
    "misfits",
    "misfits_there",
    "slope_on_span",
    "tempered_analysis",
    "whitened_residual",
    "with_ensemble",
]

_UNIT = GaussianNoise(1.0)


def diverged(what: str, remedy: str) -> Status:
    """The status of a run that ends because ``what`` overflowed."""
    sentence = f"{what} overflowed: this is the last finite ensemble. {remedy}"
    return Status("diverged", sentence, level="bad")


def initial_variance(ensemble: Array) -> float:
    """Trace of the covariance of the initial ensemble.

    Raises
    ------
    ValueError
        If all members are equal.
    """
    variance = total_variance(ensemble)
    if not variance > 0:
        raise ValueError(
            "ensemble: must have some spread, got members that are all the same. The method "
            "moves only along the differences between members. Draw the members from a prior."
        )
    return variance


def check_all_data(target: Target, who: str) -> None:
    """Check that the first step sees all data, for a method that needs all data at every step."""
    batch = target.batch
    if batch is not None:
        raise TypeError(
            f"problem: must have all its data at once for {who}, got a problem whose steps see "
            f"{len(batch.index)} of {batch.n_all} observations. Use problem.whole() if the data "
            "are a series, or ek.EKI(), which accepts batches."
        )


def with_ensemble(method: Method, state: Any, ensemble: Array) -> Any:
    """Replace the members of a state, and recompute the fields that depend on the members."""
    everyone = np.arange(int(ensemble.shape[0]))
    return method.select(state._replace(ensemble=ensemble), everyone)


def mapped(method: Method, state: Any, rows: Callable[[Array], Array], index: np.ndarray) -> Any:
    """Apply ``rows`` to every array of a state that has one row for each member.

    For a method without ``map_members``, ``rows`` is applied to the ensemble alone, and the other
    fields are those of the members ``index``.
    """
    if isinstance(method, MapsMembers):
        return method.map_members(state, rows, index)
    return with_ensemble(method, method.select(state, index), rows(state.ensemble))


def whitened_residual(g: Array, target: Any) -> Array:
    """Whitened residuals Γ^{-1/2}(G(u) − y), ``(J, d)``."""
    return target.noise.whiten(g - data_like(target.data, g))


def misfits(r: Array) -> np.ndarray:
    """Misfits Φ_j = ½ ‖r_j‖², ``(J,)``, on the host in float64."""
    return host(misfits_there(r)).astype(np.float64)


def misfits_there(r: Array) -> Array:
    """Misfits Φ_j, ``(J,)``, in the dtype and on the device of ``r``."""
    return 0.5 * array_namespace(r).sum(r * r, axis=1)


def averaged(past: Array, mean: Array, weight: float, n: int) -> Array:
    """Exponential average of the means of the steps 0 ... n, all ``(1, p)``.

    ``past`` is the average up to step n − 1 and has the weight ``weight``. Step 0 ignores ``past``.
    """
    share = (1 - weight) / (1 - weight ** (n + 1))
    return mean if n == 0 else past + share * (mean - past)


def slope_on_span(w: Array, r: Array) -> tuple[Array, Array]:
    """Linear regression of r ``(J, d)`` on w ``(J, p)``, along the span of the ensemble.

    With the anomalies F of r and the thin SVD E = P s Vᵀ of the anomalies of w, the slope is B Vᵀ
    with B = FᵀP/s.

    Returns
    -------
    (k, p), (d, k)
        Vᵀ and B.
    """
    xp = array_namespace(w)
    anomalies = w - xp.mean(w, axis=0, keepdims=True)
    left, s, right = xp.linalg.svd(anomalies, full_matrices=False)
    # singular values below 8ε‖w‖ are rounding of w; rows of Eᵀ sum to zero, so rank < J
    least = min(1e-6 * float(s[0]), 8 * float(xp.finfo(w.dtype).eps) * frobenius(w))
    rank = min(int(np.sum(host(s) > least)), int(w.shape[0]) - 1)
    left, s, right = left[:, :rank], s[:rank], right[:rank, :]
    outputs = xp.matrix_transpose(r - xp.mean(r, axis=0, keepdims=True))
    return right, (outputs @ left) / s


def tempered_analysis(u: Array, r: Array, h: float, rng: np.random.Generator | None) -> Array:
    """One Kalman analysis with the noise Γ/h; the data are perturbed if ``rng`` is given.

    The draws do not depend on dtype and device, unless ``rng`` draws on the device.
    """
    draw = None
    if isinstance(rng, DeviceGenerator):
        draw = standard_normal(rng, tuple(r.shape), r) / math.sqrt(h)
    elif rng is not None:
        draw = rng.standard_normal(tuple(r.shape))
        draw /= math.sqrt(h)
        draw = like(draw, r)
    zero = array_namespace(r).zeros_like(r[0, :])
    return kalman_update(u, r, zero, _UNIT, step=h, noise_draw=draw)
