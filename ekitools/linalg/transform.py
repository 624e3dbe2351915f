r"""The square-root analysis of the ensemble transform Kalman filter, in the space of the members.

With anomalies E = U − ū ``(J, p)``, anomalies F = r − r̄ ``(J, d)`` of the whitened residuals and
a = h/(J − 1), the analysis with the noise I/h is [1]_

.. math::
    u_k \leftarrow \bar u + \sum_j (w_j + T_{jk}) E_j, \qquad
    w = -a F (I + a F^T F)^{-1} \bar r, \qquad T = (I + a F F^T)^{-1/2}.

Its mean and covariance are those of the Kalman formula with the covariances of the ensemble. T has
the eigenvector 1, so the mean is moved by w alone.

References
----------
.. [1] Bishop, Etherton & Majumdar (2001), Monthly Weather Review 129, 420-436.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ekitools.core.arrays import array_namespace, device, double, finfo, host, is_numpy, like
from ekitools.core.fetching import fetched
from ekitools.linalg.columns import centred, combine, shifted_blocks
from ekitools.linalg.gram import check_finite
from ekitools.linalg.orthogonal import reduced_rows
from ekitools.linalg.whitened import blocks_of
from ekitools.losses.gaussian import GaussianNoise
from ekitools.typing import Array

__all__ = [
    "Squares",
    "keeps_digits",
    "mean_preserving_rotation",
    "transform_factors",
    "transform_of_squares",
    "transform_update",
    "transformed",
]

_UNIT = GaussianNoise(1.0)
_LOSS = 1e-9
"""Largest relative error of a factor (1 + h s)^{-1/2} that squares may cause."""


def transform_update(u: Array, r: Array, h: float, rotation: np.ndarray | None = None) -> Array:
    """One square-root analysis, pure.

    Parameters
    ----------
    u : (J, p)
        Ensemble; its dtype, device and kind are kept.
    r : (J, d)
        Whitened residuals Γ^{-1/2}(G(u) − y), of the same kind.
    h : float
        The noise is Γ/h.
    rotation : (J, J), optional
        An orthogonal matrix R with R1 = 1; the deviations are those of T R.

    Returns
    -------
    (J, p)
        The updated ensemble.

    Raises
    ------
    ValueError
        If squares of the residuals overflow their dtype.

    Examples
    --------
    One parameter seen directly, with the sample variance 1 and the noise variance 1:

    >>> import numpy as np
    >>> from ekitools.linalg.transform import transform_update
    >>> u = np.array([[-1.0], [0.0], [1.0]])
    >>> new = transform_update(u, u - 2.0, 1.0)
    >>> float(new.mean().round(12)), float(new.var(ddof=1).round(12))
    (1.0, 0.5)
    """
    return transformed(u, *transform_factors(r, h, rotation))


def transformed(u: Array, left: Array, right: Array | None) -> Array:
    """U + K E with the coefficients K that `transform_factors` returns."""
    return combine(u, like(left, u), None if right is None else like(right, u))


def transform_factors(
    r: Array, h: float, rotation: np.ndarray | None = None
) -> tuple[Array, Array | None]:
    """Coefficients of the update U + K E: K ``(J, J)`` and None, or L and R with K = L Rᵀ.

    The arguments are those of `transform_update`. L and R have d columns.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # an overflow becomes an error below
        a = h / (r.shape[0] - 1)
        found = transform_of_squares(r, a, rotation)
        total, largest = fetched(found.total, found.largest)
        check_finite(total)
        if keeps_digits(float(largest), r):
            return found.left, found.right
        return _rotated(*_orthogonal(r, a), rotation), None


def mean_preserving_rotation(n: int, rng: np.random.Generator) -> np.ndarray:
    """A random orthogonal ``(n, n)`` matrix R with R1 = 1, uniform among these.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.linalg.transform import mean_preserving_rotation
    >>> R = mean_preserving_rotation(4, np.random.default_rng(0))
    >>> bool(np.allclose(R @ R.T, np.eye(4))), R.sum(axis=1).round(12)
    (True, array([1., 1., 1., 1.]))
    """
    ones = np.full((n, 1), 1 / np.sqrt(n))
    basis = np.linalg.qr(np.concatenate([ones, np.eye(n)[:, : n - 1]], axis=1))[0][:, 1:]
    orthogonal, upper = np.linalg.qr(rng.standard_normal((n - 1, n - 1)))
    orthogonal = orthogonal * np.sign(np.diagonal(upper))  # or it is not uniform
    return np.asarray(ones @ ones.T + basis @ orthogonal @ basis.T)


class Squares(NamedTuple):
    """Coefficients from FᵀF or FFᵀ, and the numbers that tell whether they are accurate."""

    left: Array
    """K ``(J, J)``, or L ``(J, d)`` with K = L Rᵀ."""
    right: Array | None
    """R ``(J, d)``, or None."""
    total: Any
    """Sum of the Gram matrix; not finite after an overflow."""
    largest: Any
    """A σ₁²."""


def transform_of_squares(r: Array, a: Any, rotation: np.ndarray | None) -> Squares:
    """Coefficients by the eigenvalues of FᵀF or FFᵀ, whichever is smaller; not yet checked.

    ``a`` is a float, or a number on the device of ``r`` in float64.
    """
    n, d = r.shape
    if n > d:
        (block,) = blocks_of(r, array_namespace(r).zeros_like(r[0, :]), _UNIT, None)
        anomalies, gram = block.anomalies, double(block.anomalies.T @ block.anomalies)
        mean = like(block.mean, gram)[0, :]
        values, vectors, total = _eigen(gram)
        # T − I = F V φ Vᵀ Fᵀ with φ(σ²) = ((1 + a σ²)^{-1/2} − 1)/σ², which is finite at 0
        shrink = -(vectors.T @ mean) * a / (1 + a * values)
        root = array_namespace(values).sqrt(1 + a * values)
        phi = -a / (root * (1 + root))
        basis = anomalies @ like(vectors, r)
        if rotation is None:
            left = like(shrink[None, :], r) + basis * like(phi[None, :], r)
            return Squares(left, basis, total, a * values[-1])
        rows = like(basis, gram)
        unit = array_namespace(gram).eye(n, dtype=gram.dtype, device=device(gram))
        left = _rotated(unit + (rows * phi) @ rows.T, rows @ shrink, rotation)
        return Squares(left, None, total, a * values[-1])
    gram, cross = _products(r)
    # F = S − s̄ and r̄ = r_J + s̄, so F Fᵀ and F r̄ are S Sᵀ and S r_J + S Sᵀ1/J, centred
    xp = array_namespace(gram)
    offset = cross + xp.mean(gram, axis=1)
    offset, gram = offset - xp.mean(offset), centred(centred(gram).T)
    values, vectors, total = _eigen(gram)
    weights = -a * vectors @ ((vectors.T @ offset) / (1 + a * values))
    transform = (vectors / xp.sqrt(1 + a * values)) @ vectors.T
    return Squares(_rotated(transform, weights, rotation), None, total, a * values[-1])


def _products(r: Array) -> tuple[Array, Array]:
    """S Sᵀ and S r_J with S = r − r_J, in float64: less passes over r than its anomalies."""
    n = int(r.shape[0])
    if not is_numpy(r):
        shifted = r - r[-1:, :]
        gram = double(shifted @ shifted.T)
        return gram, like(shifted @ r[-1, :], gram)
    gram, cross = np.zeros((n, n)), np.zeros(n)
    for c, shifted in shifted_blocks(r):
        gram += shifted @ shifted.T
        cross += shifted @ r[-1, c]
    return gram, cross


def _eigen(gram: Array) -> tuple[Array, Array, Any]:
    """Eigenvalues of a positive semi-definite matrix, none below zero, eigenvectors and its sum."""
    if is_numpy(gram):
        check_finite(gram)
        values, vectors = np.linalg.eigh(gram)
        return np.maximum(values, 0), vectors, 0.0
    xp = array_namespace(gram)
    total, n = xp.sum(gram), int(gram.shape[0])
    # a library may refuse a matrix with entries that are not finite before the host knows of them
    usable = xp.where(xp.isfinite(total), gram, xp.eye(n, dtype=gram.dtype, device=device(gram)))
    values, vectors = xp.linalg.eigh(usable)
    return xp.clip(values, min=0), vectors, total


def _orthogonal(r: Array, a: float) -> tuple[np.ndarray, np.ndarray]:
    """T and w where squares would lose digits: by an SVD of F."""
    exact = host(r).astype(np.float64, copy=False)
    blocks = blocks_of(exact, np.zeros(exact.shape[1]), _UNIT, None)
    n = exact.shape[0]
    rows = reduced_rows(np.concatenate([b.anomalies, b.mean]).T for b in blocks)
    left, s, right = np.linalg.svd(rows[:, :n], full_matrices=False)
    members = right.T
    weights = -members @ (np.sqrt(a) * _damped(np.sqrt(a) * s) * (left.T @ rows[:, n]))
    shrink = 1 / np.hypot(1, np.sqrt(a) * s) - 1
    return np.eye(n) + (members * shrink) @ members.T, weights


def _damped(x: np.ndarray) -> np.ndarray:
    """X / (1 + x²), where x² may overflow."""
    with np.errstate(divide="ignore"):  # 1 / (0 + 1/0) = 0
        return np.asarray(1 / (x + 1 / x))


def _rotated(transform: Array, weights: Array, rotation: np.ndarray | None) -> Array:
    """Coefficients K of the update U + K E: K = 1wᵀ + RᵀT − I."""
    turned = transform if rotation is None else like(rotation.T, transform) @ transform
    xp, n = array_namespace(turned), int(turned.shape[0])
    unit = xp.eye(n, dtype=turned.dtype, device=device(turned))
    return centred(weights[None, :] + turned - unit)


def keeps_digits(largest: float, r: Array) -> bool:
    """Whether rounding of FᵀF, ε a σ₁², changes 1 + a σ² by less than `_LOSS`."""
    return bool(np.finfo(np.float64).eps * largest <= max(_LOSS, float(finfo(r).eps)))
