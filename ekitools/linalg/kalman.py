r"""The Kalman analysis of an ensemble, computed by few matrix products.

With anomalies E = U − ū ``(J, p)``, whitened output anomalies F = (G − Ḡ)Γ^{-1/2} ``(J, d)``
and whitened innovations Δ = (y + η − G)Γ^{-1/2} ``(J, d)``, the analysis with noise Γ/h reads

    C^{uw}(C^{ww} + Γ/h)⁻¹(y + η_j − g_j)  =  row j of  Δ (FᵀF + cI)⁻¹ Fᵀ E  =  Δ Fᵀ (FFᵀ + cI)⁻¹ E,

with c = (J − 1)/h. The linear system has the smaller of the sizes J and d. It is solved in float64
for an ensemble of any dtype, and the large arrays enter only matrix products. Systems of NumPy
arrays are solved on the host. Systems on a device are solved on the device unless it has no
float64. Only the few numbers that measure the accuracy of the solution are copied to the host. The
products are streamed in column blocks that fit the cache. No array of the size of U or G is
allocated except the result. The columns of F sum to zero, and therefore the rows of the J × J
coefficients do too. E may then be replaced by U − u_J, which keeps the value of a parameter without
spread to the last bit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ekitools.core.arrays import (
    as_vector,
    check_array,
    double,
    finfo,
    host,
    is_numpy,
    like,
)
from ekitools.core.checks import number
from ekitools.linalg.columns import centred, combine
from ekitools.linalg.gram import Accuracy, accuracy, loses_digits, solved
from ekitools.linalg.local_coefficients import local_coefficients
from ekitools.linalg.local_score import adapted
from ekitools.linalg.orthogonal import orthogonal_coefficients
from ekitools.linalg.whitened import blocks_of
from ekitools.losses.gaussian import as_noise
from ekitools.typing import Array, Localization

__all__ = [
    "Gain",
    "checked_analysis",
    "checked_localization",
    "gain_factors",
    "gain_of_squares",
    "kalman_update",
    "moved_by",
]

_EPS = float(np.finfo(np.float64).eps)


def kalman_update(
    u: Array,
    g: Array,
    data: Array,
    noise: Any = None,
    *,
    step: float = 1.0,
    noise_draw: Array | None = None,
    noise_sd: Any = None,
    localization: Localization | None = None,
) -> Array:
    r"""One ensemble Kalman analysis, pure.

    .. math::
        u_j \leftarrow u_j + C^{uw}(C^{ww} + \Gamma / h)^{-1}(y + \eta_j - g_j),

    with covariances normalised by 1/(J − 1) [1]_. The updated members are linear combinations of
    the members and stay in the affine span of the ensemble.

    Parameters
    ----------
    u : (J, p)
        Ensemble, an array of NumPy, PyTorch, JAX or any other array-API library. The result has its
        dtype, device and library.
    g : (J, d)
        Outputs G(u), in the same array library.
    data : (d,)
        The data y.
    noise : GaussianNoise, another noise model, or a covariance
        Γ. A scalar, ``(d,)``, ``(d, d)`` or ``(diag, factor)`` has the same meaning as in
        `GaussianNoise`.
    step : float, default 1
        Step size h > 0. The analysis uses the noise Γ/h.
    noise_draw : (J, d), optional
        η, added to the data without scaling (already drawn from N(0, Γ/h)). By default η = 0, which
        gives the deterministic analysis of Kovachki & Stuart (2019).
    noise_sd : float or (d,), optional
        Standard deviations of the data, in place of ``noise``.
    localization : rule of `ekitools.localization`, optional
        Weights of the data for every parameter. Every parameter then has its own local analysis,
        and the updated members leave the span of the ensemble.

    Returns
    -------
    (J, p)
        The updated ensemble. The inputs are not changed.

    Raises
    ------
    TypeError, ValueError
        If shapes disagree, J < 2, h is not a positive number, both or neither of ``noise`` and
        ``noise_sd`` are given, or the outputs overflow their dtype.

    See Also
    --------
    EKI : The method that repeats this analysis until the posterior is reached.
    kalman_coefficients : The coefficients of one analysis, from the outputs alone.
    localization.Distance : Localization by distance.

    References
    ----------
    .. [1] Iglesias, Law & Stuart (2013), Inverse Problems 29, 045001.

    Examples
    --------
    One parameter is observed directly. The prior variance and the noise variance are both 1, so
    each member moves half of the way to the data.

    >>> import numpy as np
    >>> import ekitools as ek
    >>> u = np.array([[-1.0], [0.0], [1.0]])
    >>> ek.kalman_update(u, u, np.array([2.0]), 1.0)
    array([[0.5],
           [1. ],
           [1.5]])
    """
    check_array("u", u)
    if u.ndim != 2 or u.shape[0] < 2:
        raise ValueError(f"u: must be (J, p) with J >= 2 members, got shape {tuple(u.shape)}.")
    g, data, noise, step = checked_analysis(g, data, noise, step, noise_draw, noise_sd)
    if g.shape[0] != u.shape[0]:
        raise ValueError(
            f"g: must be (J, d) with the J = {u.shape[0]} rows of u, got shape {tuple(g.shape)}."
        )
    if localization is not None:
        return _localized(checked_localization(localization), u, g, data, noise, step, noise_draw)
    return moved_by(u, *gain_factors(g, data, noise, step, noise_draw))


def moved_by(u: Array, left: Array, right: Array | None) -> Array:
    """U + K E with the coefficients K that `gain_factors` returns."""
    left = like(left, u)
    if right is None:
        return combine(u, left)
    right = like(right, u)
    if 2 * right.shape[1] < u.shape[0]:  # two thin products are cheaper than one (J, J) product
        return combine(u, left, right)
    return combine(u, centred(left @ right.T))


def _localized(
    rule: Localization, u: Array, g: Array, data: Array, noise: Any, step: float, draw: Any
) -> Array:
    whole, difference = host(u), _exact(g) - _exact(data)
    rule, _ = adapted(rule, whole, difference, noise, step)
    drawn = None if draw is None else host(draw)
    analysis = local_coefficients(rule, difference, noise, step, "unperturbed", noise_draw=drawn)
    return like(analysis.located(whole.shape[1]).update(whole), u)


def checked_localization(localization: Any) -> Localization:
    """Check a rule of localization and return it."""
    if isinstance(localization, type) or not isinstance(localization, Localization):
        raise TypeError(
            f"localization: must be a rule of ek.localization or None, got {localization!r:.80}. "
            "Use ek.localization.Distance(parameters, data, radius)."
        )
    return localization


def gain_factors(
    g: Array, data: Array, noise: Any, step: float, noise_draw: Array | None
) -> tuple[Array, Array | None]:
    """Coefficients of the update U + K E: K ``(J, J)`` and None, or L and R with K = L Rᵀ.

    The arguments are checked arguments of `kalman_update`. L and R have at most d columns.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # an overflow becomes an error below
        return _factors(g, data, noise, (g.shape[0] - 1) / step, noise_draw)


def _factors(
    g: Array, data: Array, noise: Any, ridge: float, noise_draw: Array | None
) -> tuple[Array, Array | None]:
    gain = gain_of_squares(g, data, noise, ridge, noise_draw)
    if not loses_digits(gain.accuracy, g):
        return gain.left, gain.right
    # squares in float64 may be accurate enough; of data on the host, an SVD is as fast
    n, d = g.shape
    if _eps(g) > _EPS and (n <= d or not is_numpy(g)):
        wide = double(g)
        draw = None if noise_draw is None else like(noise_draw, wide)
        gain = gain_of_squares(wide, like(data, wide), noise, ridge, draw)
        if not loses_digits(gain.accuracy, wide):
            return gain.left, gain.right
    draw = None if noise_draw is None else noise.whiten(_exact(noise_draw))
    blocks = blocks_of(_exact(g), _exact(data), noise, None)
    left, members = orthogonal_coefficients(blocks, draw, ridge)
    if 2 * members.shape[1] < n:
        return left, members
    return centred(left @ members.T), None


class Gain(NamedTuple):
    """Coefficients of the update U + K E from a Gram matrix, and their accuracy."""

    left: Array
    """K ``(J, J)``, or L ``(J, d)`` with K = L Rᵀ."""
    right: Array | None
    """R ``(J, d)``, or None."""
    accuracy: Accuracy


def gain_of_squares(
    g: Array, data: Array, noise: Any, ridge: Any, noise_draw: Array | None
) -> Gain:
    """Coefficients from FFᵀ if J ≤ d, else from FᵀF. ``ridge`` is c = (J − 1)/h."""
    in_space = _member_space if g.shape[0] <= g.shape[1] else _data_space
    return in_space(g, data, noise, ridge, noise_draw)


def _eps(a: Array) -> float:
    """The rounding unit of the dtype."""
    return float(finfo(a).eps)


def _exact(a: Array) -> np.ndarray:
    """The array on the host in float64."""
    return host(a).astype(np.float64, copy=False)


def _data_space(g: Array, data: Array, noise: Any, ridge: Any, draw: Array | None) -> Gain:
    """Δ(FᵀF + cI)⁻¹ and F, ``(J, d)`` each."""
    ((anomalies, mean, draw, _),) = blocks_of(g, data, noise, draw)
    gram = double(anomalies.T @ anomalies)
    innovations = -(anomalies + mean)
    if draw is not None:
        innovations += draw
    innovations = host(innovations) if is_numpy(gram) else like(innovations, gram)
    rows, pivots = solved(gram, ridge, innovations)
    # ‖(FᵀF + cI)⁻¹Fᵀ‖ ≤ 1/√λ, where λ is the smallest eigenvalue of FᵀF + cI
    return Gain(rows, anomalies, accuracy(gram, rows, pivots, root=True))


def _member_space(g: Array, data: Array, noise: Any, ridge: Any, draw: Array | None) -> Gain:
    """K = ΔFᵀ(FFᵀ + cI)⁻¹, ``(J, J)``."""
    gram: Array = None
    offset: Array = None
    drawn: Array = None
    for anomalies, mean, part, partner in blocks_of(g, data, noise, draw):
        gram = _plus(gram, anomalies @ anomalies.T)
        offset = _plus(offset, anomalies @ mean[0, :])
        drawn = drawn if part is None else _plus(drawn, part @ partner.T)
    gram = double(gram)
    # ΔFᵀ = ηFᵀ − FFᵀ − 1 (F(Ḡ − y))ᵀ
    product = -gram if drawn is None else like(drawn, gram) - gram
    product -= like(offset, gram)[None, :]
    rows, pivots = solved(gram, ridge, product)
    coefficients = centred(rows)
    return Gain(coefficients, None, accuracy(gram, coefficients, pivots))


def _plus(total: Array | None, part: Array) -> Array:
    return part if total is None else total + part


def checked_analysis(
    g: Any, data: Any, noise: Any, step: Any, noise_draw: Any, noise_sd: Any
) -> tuple[Array, Array, Any, float]:
    """The checked outputs, data (of the outputs' kind), noise and step size of an analysis."""
    name = "noise" if noise_sd is None else "noise_sd"
    noise, step = as_noise(noise, noise_sd), number("step", step, above=0)
    check_array("g", g)
    if noise_draw is not None:
        check_array("noise_draw", noise_draw)
    data = data if hasattr(data, "shape") else as_vector("data", data)
    check_array("data", data)
    data = like(data, g)
    if g.ndim != 2 or g.shape[0] < 2 or g.shape[1] == 0:
        raise ValueError(f"g: must be (J, d) with J >= 2 members, got shape {tuple(g.shape)}.")
    d = g.shape[1]
    if tuple(data.shape) != (d,):
        raise ValueError(
            f"g, data: must be (J, d) and (d,), got shapes {tuple(g.shape)} and "
            f"{tuple(data.shape)}."
        )
    if noise_draw is not None and tuple(noise_draw.shape) != tuple(g.shape):
        raise ValueError(
            f"noise_draw: must have the shape {tuple(g.shape)} of g, got {tuple(noise_draw.shape)}."
        )
    if noise.n_data not in (None, d):
        raise ValueError(
            f"{name}: must be for the d = {d} data of g, got noise for {noise.n_data}."
        )
    return g, data, noise, step
