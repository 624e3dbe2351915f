r"""Ensemble algebra: one Kalman analysis at the cost of the matrix products it cannot avoid.

With anomalies E = U − ū ``(J, p)``, whitened output anomalies F = (G − Ḡ)Γ^{-1/2} ``(J, d)``
and whitened innovations Δ = (y + η − G)Γ^{-1/2} ``(J, d)``, the analysis with noise Γ/h reads

    C^{uw}(C^{ww} + Γ/h)⁻¹(y + η_j − g_j)  =  row j of  Δ (FᵀF + cI)⁻¹ Fᵀ E  =  Δ Fᵀ (FFᵀ + cI)⁻¹ E,

with c = (J − 1)/h. The linear system is solved in the smaller of J and d, on the host in
float64 whatever the dtype of the ensemble, and only the products touch the large arrays.
They are streamed in column blocks that fit the cache, so nothing of the size of U or G is
allocated beside the result. F has columns that sum to zero, so J × J coefficients have rows
that do, and E may be replaced by U − u_J: a parameter without spread then keeps its value to
the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ekitools.core.arrays import array_namespace, host, is_numpy, like
from ekitools.core.checks import number
from ekitools.losses.gaussian import GaussianNoise, as_noise
from ekitools.typing import Array

__all__ = [
    "anomaly_products",
    "combine_anomalies",
    "covariance_product",
    "d_norm",
    "frobenius",
    "gaussian_draws",
    "kalman_update",
    "moved",
    "solve_spd",
    "total_variance",
]

_BLOCK_BYTES = 1 << 22
"""Bytes of one column block: small beside the ensemble, large for a matrix product."""


def kalman_update(
    u: Array,
    g: Array,
    data: Array,
    noise: Any,
    *,
    step: float = 1.0,
    noise_draw: Array | None = None,
) -> Array:
    r"""One ensemble Kalman analysis, pure.

    .. math::
        u_j \leftarrow u_j + C^{uw}(C^{ww} + \Gamma / h)^{-1}(y + \eta_j - g_j),

    with covariances normalised by 1/(J − 1) [1]_. The result is a linear combination of the
    members: it stays in the affine span of the ensemble.

    Parameters
    ----------
    u : (J, p)
        Ensemble. NumPy, torch, JAX or any other array-API array; its dtype, device and kind
        are kept.
    g : (J, d)
        Outputs G(u), of the same kind.
    data : (d,)
        The datum y.
    noise : GaussianNoise, or a covariance
        Γ; a scalar, ``(d,)``, ``(d, d)`` or ``(diag, factor)`` is taken as
        `GaussianNoise` takes it.
    step : float, default 1
        h > 0: the noise is Γ/h.
    noise_draw : (J, d), optional
        η, added to the data as it is (already drawn from N(0, Γ/h)). Without it the analysis
        is the deterministic one of the slides.

    Returns
    -------
    (J, p)
        The updated ensemble; the inputs are left alone.

    Raises
    ------
    TypeError, ValueError
        If shapes disagree, J < 2, h is no positive number, or the outputs overflow their dtype.

    References
    ----------
    .. [1] Iglesias, Law & Stuart (2013), Inverse Problems 29, 045001.

    Examples
    --------
    One parameter seen directly: prior variance 1 and noise variance 1, so each member moves
    half of the way to the datum.

    >>> import numpy as np
    >>> import ekitools as ek
    >>> u = np.array([[-1.0], [0.0], [1.0]])
    >>> ek.kalman_update(u, u, np.array([2.0]), 1.0)
    array([[0.5],
           [1. ],
           [1.5]])
    """
    noise, data, step = as_noise(noise), like(data, g), number("step", step, above=0)
    _check(u, g, data, noise, noise_draw)
    with np.errstate(over="ignore", invalid="ignore"):  # an overflow becomes an error below
        return _analysis(u, g, data, noise, (u.shape[0] - 1) / step, noise_draw)


def _analysis(
    u: Array, g: Array, data: Array, noise: Any, ridge: float, noise_draw: Array | None
) -> Array:
    blocks = _blocks(g, data, noise, noise_draw)
    if g.shape[0] <= g.shape[1]:
        return _combine(u, like(_member_space(blocks, ridge), u))
    ((anomalies, mean, draw, _),) = blocks
    gram = host(anomalies.T @ anomalies).astype(np.float64, copy=False)
    innovations = -(anomalies + mean)
    if draw is not None:
        innovations += draw
    weights = like(solve_spd(gram, ridge, host(innovations)), u)
    if 2 * g.shape[1] < g.shape[0]:  # two thin products are cheaper than one (J, J) product
        return _combine(u, weights, like(anomalies, u))
    return _combine(u, _centred(weights @ like(anomalies, u).T))


def total_variance(u: Array) -> float:
    """Trace of the ensemble covariance, 1/(J − 1), without a copy of the ensemble.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.linalg import total_variance
    >>> total_variance(np.array([[0.0, 1.0], [2.0, 1.0]]))
    2.0
    """
    xp = array_namespace(u)
    total = 0.0
    for c in _columns(u):
        shifted = u[:, c] - u[:1, c]  # equal members give exactly zero
        total -= float(xp.sum(xp.sum(shifted, axis=0) ** 2)) / u.shape[0]
        shifted *= shifted
        total += float(xp.sum(shifted))
    return total / (u.shape[0] - 1)


def covariance_product(u: Array, *pairs: tuple[Array, Array], factor: float = 1.0) -> Array:
    """Σ R (G − Ḡ)ᵀ (U − ū) / J over the pairs (R, G): cross-covariances applied to rows.

    For one pair row j is C^{uw} r_j, with the covariance normalised by 1/J. No covariance is
    formed: the products go through ``(J, J)`` or ``(d, p)``, whichever is cheaper.

    Parameters
    ----------
    u : (J, p)
        Ensemble.
    *pairs : ((J, d), (J, d))
        R and G, all with the J rows of ``u``.
    factor : float, default 1
        What the sum is multiplied by.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.linalg import covariance_product
    >>> u = np.array([[-1.0], [1.0]])
    >>> covariance_product(u, (np.array([[1.0], [2.0]]), 3 * u))
    array([[3.],
           [6.]])
    """
    n, factor = u.shape[0], factor / u.shape[0]
    if 2 * sum(g.shape[1] for _, g in pairs) < n:  # two thin products are cheaper
        xp = array_namespace(u)
        rows = xp.concat([r for r, _ in pairs], axis=1) * factor
        shifted = xp.concat([g - g[-1:, :] for _, g in pairs], axis=1)  # without an offset's digits
        return _times_anomalies(u, rows, shifted - xp.mean(shifted, axis=0, keepdims=True))
    weights = anomaly_products(*pairs[0])
    for rows, g in pairs[1:]:
        weights = weights + anomaly_products(rows, g)
    return combine_anomalies(weights * factor, u)


def anomaly_products(rows: Array, g: Array) -> Array:
    """R (G − Ḡ)ᵀ, ``(n, J)``, without a copy of ``g``: ``(n, d)`` and ``(J, d)``.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.linalg import anomaly_products
    >>> anomaly_products(np.array([[2.0]]), np.array([[1.0], [3.0]]))
    array([[-2.,  2.]])
    """
    products: Array = 0.0
    for c, shifted in _shifted(g):
        products = products + rows[:, c] @ shifted.T
    return _centred(products)


def frobenius(d: Array) -> float:
    """‖D‖ in the Frobenius norm, also where squares of its entries overflow.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.linalg import frobenius
    >>> frobenius(np.array([[3e200, 4e200]]))
    5e+200
    """
    xp = array_namespace(d)
    largest = float(xp.max(xp.abs(d)))
    if not 0 < largest < math.inf:
        return largest
    return largest * float(xp.linalg.matrix_norm(d / largest))


def d_norm(gradient: Array, g: Array) -> float:
    """‖D‖ of D_jk = ⟨G_k − Ḡ, ∇Ψ_j⟩ / J; for whitened residuals r it is ``d_norm(r, r)``.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.linalg import d_norm
    >>> d_norm(np.array([[1.0], [3.0]]), np.array([[1.0], [3.0]])).__round__(6)
    2.236068
    """
    return frobenius(anomaly_products(gradient, g) / g.shape[0])


def combine_anomalies(weights: Array, u: Array) -> Array:
    """Weights times U − ū, ``(n, p)``, without a copy of ``u``: ``(n, J)`` and ``(J, p)``.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.linalg import combine_anomalies
    >>> combine_anomalies(np.array([[1.0, 0.0]]), np.array([[1.0], [3.0]]))
    array([[-1.]])
    """
    return _times_anomalies(u, _centred(weights))


def moved(u: Array, weights: Array, *, in_place: bool = False) -> Array:
    """U + W(U − ū), ``(J, p)``, without a further copy of ``u``: W is ``(J, J)``.

    With ``in_place`` it is written over ``u`` where that is a NumPy array, in column blocks.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.linalg import moved
    >>> moved(np.array([[1.0], [3.0]]), np.array([[1.0, 0.0], [0.0, 0.0]])).ravel()
    array([0., 3.])
    """
    return _combine(u, _centred(weights), out=u if in_place else None)


def gaussian_draws(u: Array, white: np.ndarray) -> Array:
    """Draws from the Gaussian with the ensemble's mean and covariance: ū + zE/√(J − 1).

    Parameters
    ----------
    u : (J, p)
        Ensemble.
    white : (n, J) ndarray
        z, standard normal numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.linalg import gaussian_draws
    >>> gaussian_draws(np.array([[0.0, 1.0], [2.0, 1.0]]), np.array([[1.0, -1.0]]))
    array([[-1.,  1.]])
    """
    mean = array_namespace(u).mean(u, axis=0, keepdims=True)
    return mean + like(white / np.sqrt(u.shape[0] - 1), u) @ (u - mean)


class _Block(NamedTuple):
    """Some columns of what the analysis needs; all of it where whitening mixes the columns."""

    anomalies: Array
    """F = (G − Ḡ)Γ^{-1/2}."""
    mean: Array
    """(Ḡ − y)Γ^{-1/2}, ``(1, ·)``."""
    draw: Array | None
    """ηΓ^{-1/2}, or η where it is streamed."""
    partner: Array
    """``draw @ partner.T`` is (ηΓ^{-1/2}) Fᵀ: F, or FΓ^{-1/2} where ``draw`` is not scaled."""


def _blocks(g: Array, data: Array, noise: Any, draw: Array | None) -> Iterator[_Block]:
    """F and what goes with it, from G − g_J: an offset that all outputs share costs no digits."""
    xp = array_namespace(g)
    # an attribute `scale` of another noise model may mean anything: only ours is 1/sd
    ours = isinstance(noise, GaussianNoise) and type(noise).whiten is GaussianNoise.whiten
    scale = noise.scale if ours else None
    if scale is None:
        shifted = g - g[-1:, :]
        mean = xp.mean(shifted, axis=0, keepdims=True)
        anomalies = noise.whiten(shifted - mean)
        draw = None if draw is None else noise.whiten(draw)
        yield _Block(anomalies, noise.whiten(mean + (g[-1:, :] - data)), draw, anomalies)
        return
    scale = xp.broadcast_to(like(scale, g), data.shape)
    whole = g.shape[0] > g.shape[1]
    columns = [slice(None)] if whole else _columns(g)
    scratch = _Scratch(g, columns[0])
    weights = like(np.full((1, g.shape[0]), 1 / g.shape[0]), g)
    for c in columns:
        anomalies = scratch.subtract(g[:, c], g[-1:, c])
        mean = weights @ anomalies  # of Ḡ − g_J; as a product: on all threads
        anomalies -= mean
        anomalies *= scale[c]
        mean += g[-1:, c] - data[c]
        part, partner = None, anomalies
        if draw is not None and whole:
            part = draw * scale
        elif draw is not None:  # scaling what is in the cache saves a pass over the draws
            part, partner = draw[:, c], scratch.multiply(anomalies, scale[c])
        yield _Block(anomalies, mean * scale[c], part, partner)


class _Scratch:
    """Two buffers for blocks of columns, used again and again; plain results outside NumPy."""

    def __init__(self, a: Array, columns: slice) -> None:
        self._like = a[:, columns] if is_numpy(a) else None
        self._buffers: dict[str, np.ndarray] = {}

    def subtract(self, x: Array, y: Array) -> Array:
        return x - y if self._like is None else np.subtract(x, y, out=self._buffer("-", x))

    def multiply(self, x: Array, y: Array) -> Array:
        return x * y if self._like is None else np.multiply(x, y, out=self._buffer("*", x))

    def _buffer(self, use: str, x: np.ndarray) -> np.ndarray:
        if use not in self._buffers:
            self._buffers[use] = np.empty_like(self._like, order="C")
        return self._buffers[use][:, : x.shape[1]]


def _member_space(blocks: Iterator[_Block], ridge: float) -> np.ndarray:
    """Coefficients K = ΔFᵀ(FFᵀ + cI)⁻¹, ``(J, J)``, of the update K E."""
    gram: Array = 0.0
    offset: Array = 0.0
    drawn: Array = 0.0
    for anomalies, mean, draw, partner in blocks:
        gram = gram + anomalies @ anomalies.T
        offset = offset + anomalies @ mean[0, :]
        drawn = drawn if draw is None else drawn + draw @ partner.T
    gram = host(gram).astype(np.float64, copy=False)
    # ΔFᵀ = ηFᵀ − FFᵀ − 1 (F(Ḡ − y))ᵀ
    product = host(drawn) - gram - host(offset)[None, :]
    return _centred(solve_spd(gram, ridge, product))


def solve_spd(gram: np.ndarray, ridge: float, rows: np.ndarray) -> np.ndarray:
    """``rows @ inv(gram + ridge I)`` for a positive semi-definite Gram matrix."""
    if not np.isfinite(np.sum(gram)):
        raise ValueError(
            "g: must be small enough for the squares of its whitened anomalies to be finite in "
            "its dtype, got an overflow. Rescale the outputs, or use float64."
        )
    system = gram.copy()
    system.flat[:: gram.shape[0] + 1] += ridge
    # NumPy's LAPACK and not SciPy's: two BLAS libraries in turn fight over the cores
    try:
        np.linalg.cholesky(system)  # positive definite to rounding, so that solving is safe
        return np.asarray(np.linalg.solve(system, rows.T).T)
    except np.linalg.LinAlgError:  # rounding in a Gram matrix far larger than the ridge
        values, vectors = np.linalg.eigh(gram)
        return np.asarray(((rows @ vectors) / (np.maximum(values, 0) + ridge)) @ vectors.T)


def _centred(coefficients: Array) -> Array:
    xp = array_namespace(coefficients)
    return coefficients - xp.mean(coefficients, axis=1, keepdims=True)


def _combine(
    u: Array, left: Array, right: Array | None = None, out: np.ndarray | None = None
) -> Array:
    """U + left E, or U + left (rightᵀ E), with E = U − u_J in column blocks."""
    if not is_numpy(u):
        return u + _times_anomalies(u, left, right)
    out = np.empty_like(u) if out is None else out
    if right is None:  # U + left E = u_J + (I + left) E, whose last row is zero: u_J goes there
        left = left + np.eye(left.shape[0], dtype=left.dtype)
        left[:, -1] = 1
    for c, shifted in _shifted(u):
        if right is None:
            shifted[-1] = u[-1, c]
            np.matmul(left, shifted, out=out[:, c])
            continue
        np.matmul(left, right.T @ shifted, out=out[:, c])
        out[:, c] += u[:, c]
    return out


def _times_anomalies(u: Array, left: Array, right: Array | None = None) -> Array:
    """Left E, or left (rightᵀ E), with E = U − u_J; rows of left, or columns of right, sum to 0."""
    if not is_numpy(u):
        shifted = u - u[-1:, :]
        return left @ shifted if right is None else left @ (right.T @ shifted)
    out = np.empty((left.shape[0], u.shape[1]), dtype=u.dtype)
    for c, shifted in _shifted(u):
        np.matmul(left, shifted if right is None else right.T @ shifted, out=out[:, c])
    return out


def _shifted(a: Array) -> Iterator[tuple[slice, Array]]:
    """A − a_J in blocks of columns, one after the other in the same buffer."""
    columns = _columns(a, 2 * _BLOCK_BYTES)  # there is one buffer here
    scratch = _Scratch(a, columns[0])
    for c in columns:
        yield c, scratch.subtract(a[:, c], a[-1:, c])


def _columns(a: Array, block_bytes: int | None = None) -> list[slice]:
    width = a.shape[1]
    if is_numpy(a):
        width = max(64, (block_bytes or _BLOCK_BYTES) // (a.shape[0] * a.dtype.itemsize))
    return [slice(i, i + width) for i in range(0, a.shape[1], width)]


def _check(u: Array, g: Array, data: Array, noise: Any, noise_draw: Array | None) -> None:
    if u.ndim != 2 or u.shape[0] < 2:
        raise ValueError(f"u: must be (J, p) with J >= 2 members, got shape {tuple(u.shape)}.")
    if g.ndim != 2 or g.shape[0] != u.shape[0] or g.shape[1] == 0:
        raise ValueError(
            f"g: must be (J, d) with the J = {u.shape[0]} rows of u, got shape {tuple(g.shape)}."
        )
    d = g.shape[1]
    if tuple(data.shape) != (d,):
        raise ValueError(f"data: must be (d,) = ({d},) as g has it, got shape {tuple(data.shape)}.")
    if noise.n_data not in (None, d):
        raise ValueError(f"noise: must be for the d = {d} data of g, got one for {noise.n_data}.")
    if noise_draw is not None and tuple(noise_draw.shape) != tuple(g.shape):
        raise ValueError(
            f"noise_draw: must have the shape {tuple(g.shape)} of g, got {tuple(noise_draw.shape)}."
        )
