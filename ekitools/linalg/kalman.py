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
from array_api_compat import is_torch_namespace

from ekitools.core.arrays import (
    array_namespace,
    as_vector,
    check_array,
    device,
    double,
    finfo,
    host,
    is_numpy,
    like,
)
from ekitools.core.checks import number
from ekitools.core.fetching import fetched
from ekitools.linalg.columns import centred, combine
from ekitools.linalg.local_coefficients import local_coefficients
from ekitools.linalg.local_score import adapted
from ekitools.linalg.orthogonal import orthogonal_coefficients
from ekitools.linalg.whitened import blocks_of
from ekitools.losses.gaussian import as_noise
from ekitools.typing import Array, Localization

__all__ = [
    "Solution",
    "checked_analysis",
    "checked_localization",
    "gain_factors",
    "kalman_update",
    "solve_spd",
    "solved",
]

_EPS = float(np.finfo(np.float64).eps)
_LOSS = 1e-9
"""Largest error of an update due to a Gram matrix, relative to the ensemble's spread."""


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
    left, right = gain_factors(g, data, noise, step, noise_draw)
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
    n, d = g.shape
    if n <= d:
        coefficients = _member_space(g, data, noise, ridge, noise_draw)
        if coefficients is None and _eps(g) > _EPS:  # squares in float64 may be accurate enough
            g = double(g)
            data = like(data, g)
            noise_draw = None if noise_draw is None else like(noise_draw, g)
            coefficients = _member_space(g, data, noise, ridge, noise_draw)
        if coefficients is not None:
            return coefficients, None
    else:
        pair = _data_space(g, data, noise, ridge, noise_draw)
        if pair is None and not is_numpy(g) and _eps(g) > _EPS:  # float64 before the host
            wide = double(g)
            draw = None if noise_draw is None else like(noise_draw, wide)
            pair = _data_space(wide, like(data, wide), noise, ridge, draw)
        if pair is not None:
            return pair
    draw = None if noise_draw is None else noise.whiten(_exact(noise_draw))
    blocks = blocks_of(_exact(g), _exact(data), noise, None)
    left, members = orthogonal_coefficients(blocks, draw, ridge)
    if 2 * members.shape[1] < n:
        return left, members
    return centred(left @ members.T), None


def _eps(a: Array) -> float:
    """The rounding unit of the dtype."""
    return float(finfo(a).eps)


def _exact(a: Array) -> np.ndarray:
    """The array on the host in float64."""
    return host(a).astype(np.float64, copy=False)


def _data_space(
    g: Array, data: Array, noise: Any, ridge: float, draw: Array | None
) -> tuple[Array, Array] | None:
    """Δ(FᵀF + cI)⁻¹ and F, ``(J, d)`` each; None if the Gram matrix is not accurate enough."""
    ((anomalies, mean, draw, _),) = blocks_of(g, data, noise, draw)
    gram = double(anomalies.T @ anomalies)
    innovations = -(anomalies + mean)
    if draw is not None:
        innovations += draw
    innovations = host(innovations) if is_numpy(gram) else like(innovations, gram)
    solution = solved(gram, ridge, innovations)
    # ‖(FᵀF + cI)⁻¹Fᵀ‖ ≤ 1/√λ, where λ is the smallest eigenvalue of FᵀF + cI
    if _loses_digits(gram, solution.rows, solution.pivots, g, root=True):
        return None
    return solution.rows, anomalies


def _member_space(
    g: Array, data: Array, noise: Any, ridge: float, draw: Array | None
) -> Array | None:
    """Coefficients K = ΔFᵀ(FFᵀ + cI)⁻¹, ``(J, J)``, of the update K E.

    None if the Gram matrix is not accurate enough.
    """
    gram: Array = 0.0
    offset: Array = 0.0
    drawn: Array = 0.0
    for anomalies, mean, part, partner in blocks_of(g, data, noise, draw):
        gram = gram + anomalies @ anomalies.T
        offset = offset + anomalies @ mean[0, :]
        drawn = drawn if part is None else drawn + part @ partner.T
    gram = double(gram)
    offset = like(offset, gram)
    # ΔFᵀ = ηFᵀ − FFᵀ − 1 (F(Ḡ − y))ᵀ
    product = (drawn if draw is None else like(drawn, gram)) - gram - offset[None, :]
    coefficients, pivots = solved(gram, ridge, product)
    coefficients = centred(coefficients)
    return None if _loses_digits(gram, coefficients, pivots, g) else coefficients


def _loses_digits(gram: Array, rows: Array, pivots: Array, g: Array, *, root: bool = False) -> bool:
    """Whether rounding in FFᵀ or FᵀF may change the update by more than `_LOSS` of the spread.

    An error δ of the Gram matrix, of size ε‖FFᵀ‖, causes the error −Kδ(FFᵀ + cI)⁻¹ in the
    coefficients K = B(FFᵀ + cI)⁻¹. This error is at most ε‖K‖‖FFᵀ‖/λ, where λ is the smallest
    eigenvalue of FFᵀ + cI. The smallest pivot of the Cholesky factor estimates λ. ``root`` selects
    the error of Δ(FᵀF + cI)⁻¹Fᵀ, which has √λ in place of λ.

    Numbers on a device are copied to the host in one transfer, which also detects an overflow.
    """
    if is_numpy(gram):
        # columns of F sum to zero: the smallest pivot is of the vector of ones, which K maps to 0
        smallest = np.sqrt(np.min(pivots)) if root else np.partition(pivots, 1)[1]
        largest = np.sqrt(np.max(np.sum(rows * rows, axis=1)))
        size = float(np.linalg.norm(gram))
    else:
        xp = array_namespace(gram)
        least = xp.sort(pivots)[0 if root else 1]
        longest = xp.max(xp.sum(rows * rows, axis=1))
        norm = xp.linalg.matrix_norm(gram)
        total, length, most, low = fetched(xp.sum(gram), norm, longest, least)
        _check_finite(total)
        size, largest = float(length), np.sqrt(most)
        smallest = np.sqrt(low) if root else low
    eps = _eps(g)
    error = eps * size * float(largest)  # times λ
    return not error <= max(_LOSS, 100 * eps) * smallest


class Solution(NamedTuple):
    """Solution of a linear system with a Gram matrix plus a ridge."""

    rows: Array
    """``rows @ inv(gram + ridge I)``."""
    pivots: Array
    """The squared diagonal of the Cholesky factor; zeros if the factorization failed."""


def solve_spd(gram: np.ndarray, ridge: float, rows: np.ndarray) -> np.ndarray:
    """``rows @ inv(gram + ridge I)`` for a positive semi-definite Gram matrix."""
    return np.asarray(solved(gram, ridge, rows).rows)


def solved(gram: Array, ridge: float, rows: Array) -> Solution:
    """``rows @ inv(gram + ridge I)`` and the pivots, computed on the device of the arrays."""
    if not is_numpy(gram):
        return _solved_on_device(gram, ridge, rows)
    _check_finite(np.sum(gram))
    system = gram.copy()
    system.flat[:: gram.shape[0] + 1] += ridge
    # NumPy's LAPACK: alternating with SciPy's BLAS would make two thread pools compete
    try:
        factor = np.linalg.cholesky(system)  # success: positive definite, and solving is safe
        solution = np.asarray(np.linalg.solve(system, rows.T).T)
        return Solution(solution, np.diagonal(factor) ** 2)
    except np.linalg.LinAlgError:  # rounding errors of the Gram matrix exceed the ridge
        values, vectors = np.linalg.eigh(gram)
        solution = ((rows @ vectors) / (np.maximum(values, 0) + ridge)) @ vectors.T
        return Solution(np.asarray(solution), np.zeros(len(values)))


def _solved_on_device(gram: Array, ridge: float, rows: Array) -> Solution:
    """A solution on the device; its pivots are not positive if the factorization failed."""
    xp = array_namespace(gram)
    n = int(gram.shape[0])
    system = gram + ridge * xp.eye(n, dtype=gram.dtype, device=device(gram))
    if is_torch_namespace(xp):  # torch.linalg.cholesky would synchronize with the device
        factor, failed = xp.linalg.cholesky_ex(system)
        solution = xp.cholesky_solve(rows.T, factor).T
        pivots = xp.linalg.diagonal(factor) ** 2
        return Solution(solution, xp.where(failed > 0, xp.zeros_like(pivots), pivots))
    try:
        factor = xp.linalg.cholesky(system)
        solution = xp.matrix_transpose(xp.linalg.solve(system, xp.matrix_transpose(rows)))
    except Exception:  # the array API does not name the exception for a singular matrix
        return Solution(rows, xp.zeros(n, dtype=gram.dtype, device=device(gram)))
    return Solution(solution, xp.linalg.diagonal(factor) ** 2)


def _check_finite(total: Any) -> None:
    if not np.isfinite(total):
        raise ValueError(
            "g: must be small enough for the squares of its whitened anomalies to be finite in "
            "its dtype, got an overflow. Rescale the outputs, or use float64."
        )


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
