r"""Quadratic regression of all components at once, with an error that grows like the remainder."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import solve_triangular

__all__ = ["QuadraticRegressor"]

_NEAR = 2.0
"""Squared distance from the centre, per parameter, within which the remainder is constant."""

_RATIOS = np.logspace(-6, 6, 61)
"""Candidates for the ratio of the variances of noise and coefficients, in mean eigenvalues."""

_BLOCK = 2000
"""Points that are predicted at once, which bounds the memory."""


class _Fit(NamedTuple):
    """Coefficients of the basis, after a regression on the constant and the linear terms."""

    triangle: np.ndarray
    """R of the QR factors of the weighted linear terms, ``(p + 1, p + 1)``."""
    linear: np.ndarray
    """Coefficients of the components on the linear terms, ``(p + 1, k)``."""
    shared: np.ndarray
    """Coefficients of the quadratic terms on the linear terms, ``(p + 1, m)``."""
    vectors: np.ndarray
    """Eigenvectors of the quadratic terms after that regression, ``(m, m)``."""
    quadratic: np.ndarray
    """Coefficients of the components in these eigenvectors, ``(m, k)``."""
    precision: np.ndarray
    """Posterior precision of these coefficients, in 1/s², ``(m, k)``."""
    variance: np.ndarray
    """s², variance of the remainder near the centre, ``(k,)``."""


class QuadraticRegressor:
    r"""A Bayesian quadratic regression of all components of the outputs.

    .. math::

        z_k = a_k + b_k \cdot x + x^\top C_k x + s_k\, c(x)\, \varepsilon, \qquad
        c(x) = \max\bigl(1, |x|^2 / 2p\bigr)^{3/2}

    with flat priors of a and b and a Gaussian prior of C. The variance of this prior and s² have
    the largest marginal likelihood, for each component [1]_. The error of a quadratic approximation
    is of third order in x. Runs far from the posterior therefore have a small weight.

    About (p + 1)(p + 2)/2 runs near the posterior are needed, and scikit-learn is not. The
    regressor is the default of `emulate` for more than 12 parameters, where a Gaussian process
    needs more runs, and minutes for each fit. With m = p (p + 1)/2 quadratic terms and n runs a fit
    needs O(n m² + m³) operations for all components together.

    See Also
    --------
    emulate : Learns from model runs with this regressor.

    References
    ----------
    .. [1] Bishop (2006), Pattern Recognition and Machine Learning, section 3.5.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> x = np.random.default_rng(0).standard_normal((40, 2))
    >>> z = np.stack([x[:, 0] * x[:, 1], 1 + x[:, 0]], axis=1)
    >>> regressor = ek.QuadraticRegressor()
    >>> regressor.fit_components(x, z)
    >>> mean, sd = regressor.predict_components(np.array([[2.0, 3.0]]))
    >>> mean.round(3).tolist(), bool(sd.max() < 0.01)
    ([[6.0, 3.0]], True)
    """

    def __init__(self) -> None:
        self._fit: _Fit | None = None

    def __repr__(self) -> str:
        return "QuadraticRegressor()"

    def fit_components(self, X: np.ndarray, Z: np.ndarray, /) -> None:
        """Learn from points ``(n, p)`` and values ``(n, k)``, with n > p + 1.

        Parameters
        ----------
        X : (n, p)
            Points. Their centre is the origin, and the posterior has about unit size.
        Z : (n, k)
            Values of the components.

        Raises
        ------
        ValueError
            If there are too few points for the linear terms.
        """
        n, p = X.shape
        if n <= p + 1:
            raise ValueError(
                f"X: must have more than p + 1 = {p + 1} points, got {n}. Use more model runs."
            )
        weight = (1 / _growth(X))[:, None]
        linear, quadratic = (weight * each for each in _terms(X))
        z = weight * Z
        q, triangle = np.linalg.qr(linear)
        own, of_z = q.T @ quadratic, q.T @ z
        quadratic -= q @ own
        z = z - q @ of_z
        values, vectors = np.linalg.eigh(quadratic.T @ quadratic)
        values = np.maximum(values, 0.0)
        along = vectors.T @ (quadratic.T @ z)
        ratio, variance = _most_probable(values, along, np.sum(z * z, axis=0), n - p - 1)
        precision = values[:, None] + ratio
        self._fit = _Fit(
            triangle, solve_triangular(triangle, of_z), solve_triangular(triangle, own), vectors,
            along / precision, precision, variance,
        )  # fmt: skip

    def predict_components(self, X: np.ndarray, /) -> tuple[np.ndarray, np.ndarray]:
        """Means and standard deviations ``(n, k)`` at points ``(n, p)``.

        The standard deviations contain the remainder and the uncertainty of the coefficients.

        Parameters
        ----------
        X : (n, p)
            Points.

        Raises
        ------
        RuntimeError
            If the regressor has not learned anything.
        """
        if self._fit is None:
            raise RuntimeError(
                "QuadraticRegressor: must be fitted before it predicts. Call fit(X, y) first."
            )
        parts = [self._predicted(self._fit, x) for x in _blocks(X)]
        mean, variance = (np.concatenate(each) for each in zip(*parts, strict=True))
        return mean, np.sqrt(variance)

    @staticmethod
    def _predicted(fit: _Fit, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        linear, quadratic = _terms(x)
        along = (quadratic - linear @ fit.shared) @ fit.vectors
        # phi' (Phi' W Phi + prior)^-1 phi, in the two orthogonal groups of terms
        flat = np.sum(solve_triangular(fit.triangle, linear.T, trans="T") ** 2, axis=0)
        spread = flat[:, None] + (along * along) @ (1 / fit.precision)
        mean = linear @ fit.linear + along @ fit.quadratic
        return mean, fit.variance * (_growth(x)[:, None] ** 2 + spread)


def _growth(x: np.ndarray) -> np.ndarray:
    """c(x), the size of the remainder relative to that near the centre, ``(n,)``."""
    return np.asarray(np.maximum(1.0, np.mean(x * x, axis=1) / _NEAR) ** 1.5)


def _terms(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Constant and linear terms ``(n, p + 1)``, and quadratic ones ``(n, p (p + 1) / 2)``.

    Hermite polynomials, which are orthonormal where x is standard normal.
    """
    i, j = np.triu_indices(x.shape[1])
    products = x[:, i] * x[:, j]
    squares = i == j
    products[:, squares] = (products[:, squares] - 1) / np.sqrt(2)
    return np.concatenate([np.ones((len(x), 1)), x], axis=1), products


def _blocks(x: np.ndarray) -> list[np.ndarray]:
    return np.array_split(x, max(-(-len(x) // _BLOCK), 1))


def _most_probable(
    values: np.ndarray, along: np.ndarray, square: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Ratio of variances and variance of the remainder, with the largest marginal likelihood.

    Parameters
    ----------
    values : (m,)
        Eigenvalues of the Gram matrix of the terms.
    along : (m, k)
        Products of the eigenvectors with the values.
    square : (k,)
        Squared lengths of the values.
    n : int
        Degrees of freedom.
    """
    tiny = 1e-14 * square + np.finfo(float).tiny
    candidates = _RATIOS * (values.mean() + np.finfo(float).tiny)
    score, rest = np.empty((2, len(candidates), along.shape[1]))
    for c, ratio in enumerate(candidates):
        left = square - np.sum(along * along / (values + ratio)[:, None], axis=0)
        rest[c] = np.maximum(left, tiny)
        score[c] = 0.5 * np.sum(np.log(ratio / (values + ratio))) - 0.5 * n * np.log(rest[c])
    best = np.argmax(score, axis=0)
    return candidates[best], rest[best, np.arange(along.shape[1])] / n
