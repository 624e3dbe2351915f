"""Gaussian fields at given points with a Matérn covariance in physical lengths."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.linalg import eigh
from scipy.sparse.linalg import eigsh
from scipy.spatial.distance import pdist, squareform
from scipy.special import gamma, kv

from ekitools.core.arrays import as_real, digest
from ekitools.core.checks import integer, number
from ekitools.priors.base import check_points
from ekitools.priors.field import (
    FieldPrior,
    Meaning,
    check_all_modes,
    checked_parameters,
    per_direction,
)
from ekitools.priors.transforms import Transform, pointwise

__all__ = ["MaternField", "matern"]

_MOST_ALL = 2_000
"""Largest number of points for keeping all modes: the eigenvectors take seconds."""

_MOST_DENSE = 5_000
"""Largest number of points for which the matrix of all pairs is formed: 200 MB."""

_SMALL = 600
"""Largest number of points for a dense eigendecomposition, then faster than Lanczos."""

_NEGLIGIBLE = 1e-12
"""Share of the largest eigenvalue below which eigenvalues are rounding errors."""


def matern(h: np.ndarray, nu: float) -> np.ndarray:
    r"""Matérn correlation at distances h in lengths: 2^{1−ν}/Γ(ν) x^ν K_ν(x), x = √(2ν) h.

    Parameters
    ----------
    h : ndarray
        Distances divided by the correlation length.
    nu : float
        Smoothness ν > 0. ν = ½ is the exponential kernel.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.priors.matern import matern
    >>> matern(np.array([0.0, 1.0]), 0.5)  # exp(-h)
    array([1.        , 0.36787944])
    """
    x = math.sqrt(2 * nu) * np.asarray(h, dtype=np.float64)
    if nu % 1 == 0.5 and nu < 10:  # a polynomial times exp(-x)
        k = int(nu)
        factors = [
            math.factorial(k) * math.factorial(2 * k - i) * 2.0**i
            / (math.factorial(2 * k) * math.factorial(i) * math.factorial(k - i))
            for i in range(k + 1)
        ]  # fmt: skip
        return np.asarray(np.polynomial.polynomial.polyval(x, factors) * np.exp(-x))
    with np.errstate(invalid="ignore", over="ignore"):
        value = 2 ** (1 - nu) / gamma(nu) * x**nu * kv(nu, x)
    return np.where(np.isfinite(value), np.minimum(value, 1.0), 1.0)  # K_ν overflows at x = 0


class MaternField(FieldPrior):
    r"""A Gaussian field at points in space, as a prior on coefficients or values.

    The field is a = T(m + g) with a Matérn covariance [1]_ of the Gaussian field g,

    .. math::
        \operatorname{Cov}(g_i, g_j) = s^2\, \frac{2^{1-\nu}}{\Gamma(\nu)}\, x^\nu K_\nu(x),
        \qquad x = \sqrt{2\nu}\, |x_i - x_j| / \ell.

    By default the parameters are the coefficients u_k ~ N(0, 1) of the Karhunen–Loève expansion
    g = Σ √λ_k u_k φ_k, in the order of decreasing λ. With ``parameters="values"`` the parameters
    are the values a_i at up to 5000 points. Values have a location, so data can be localized by
    distance.

    Parameters
    ----------
    points : (n,) or (n, dim)
        Coordinates, for example in metres, of grid cells, stations or nodes of a mesh.
    length : float or (dim,)
        Correlation length ℓ in the unit of the coordinates, one for all directions or one for
        each. For every ν the correlation is about 0.5 at 0.7 to 1.2 lengths.
    nu : float, default 1.5
        Smoothness ν > 0: draws have about ν derivatives. ν = ½ is the exponential kernel.
    sd : float, default 1
        Standard deviation s of g at every point.
    mean : float, default 0
        Level m.
    n_modes : int, optional
        Number p of modes kept, which hold the share ``explained`` of the variance. By default
        all modes are kept for up to 2000 points, and more points need a number. For coefficients
        only.
    transform : None, "exp" or ("bounded", lower, upper), default None
        T at every point: the identity, exp for a positive field, or the logistic function
        scaled to an interval. ``mean`` and ``sd`` refer to the field before the transform.
    parameters : {"coefficients", "values"}, default "coefficients"
        Meaning of the parameters. Values are those of the transformed field, and methods work on
        T^{-1} of the values.

    Attributes
    ----------
    parameters : str
        The option as given.
    basis : (n, p) ndarray
        √λ_k φ_k at the points, so that g = basis u. For coefficients only.
    explained : float
        Share of the variance Σ Var(g_i) that the modes hold. For coefficients only.
    cov : ndarray
        The variance 1 of every coefficient or, for values, the ``(n, n)`` covariance of g.

    Raises
    ------
    TypeError, ValueError
        If an option is out of range, or there are more than 2000 points and no ``n_modes``. For
        values, also if there are more than 5000 points, or the covariance cannot be inverted in
        double precision, for example because a point occurs twice.

    See Also
    --------
    ekitools.GaussianRandomField : Gaussian field on a regular grid, by fast cosine transforms.
    ekitools.GraphField : Gaussian field on the nodes of a graph.
    ekitools.typing.HasPoints : The contract of parameters that have a location.

    Notes
    -----
    For up to 5000 points the eigenvectors are those of the matrix of all pairs. For more points
    this matrix is never formed. The modes are then those of its pivoted Cholesky factor [2]_ with
    3p + 50 columns, in O(n p²) operations. They are close to the exact modes if ``explained`` is
    close to 1.

    References
    ----------
    .. [1] Rasmussen & Williams (2006), Gaussian Processes for Machine Learning, MIT Press, 4.2.
    .. [2] Harbrecht, Peters & Schneider (2012), Appl. Numer. Math. 62, 428-440.

    Examples
    --------
    Conductivity at 50 wells, positive, correlated over 300 m:

    >>> import numpy as np
    >>> import ekitools as ek
    >>> wells = np.random.default_rng(0).uniform(0, 1000, size=(50, 2))
    >>> prior = ek.MaternField(wells, length=300, sd=0.5, n_modes=20, transform="exp")
    >>> prior
    MaternField(n=50, p=20)
    >>> conductivity = prior.field(prior.sample(100, rng=0))
    >>> conductivity.shape, bool((conductivity > 0).all())
    ((100, 50), True)

    The same with the conductivity at every well as a parameter:

    >>> prior = ek.MaternField(
    ...     wells, length=300, sd=0.5, transform="exp", parameters="values")
    >>> prior.names[:2], prior.points.shape, bool((prior.sample(100, rng=0) > 0).all())
    (('point 0', 'point 1'), (50, 2), True)
    """

    def __init__(
        self,
        points: Any,
        *,
        length: Any,
        nu: float = 1.5,
        sd: float = 1.0,
        mean: float = 0.0,
        n_modes: int | None = None,
        transform: Transform = None,
        parameters: Meaning = "coefficients",
    ) -> None:
        places = _coordinates(points)
        x = places / per_direction("length", length, places.shape[1])
        n = len(x)
        nu = number("nu", nu, above=0, most=50, remedy="Draws with 50 derivatives are smooth.")
        sd, mean = number("sd", sd, above=0), number("mean", mean)
        self.parameters = checked_parameters(parameters)
        values = self.parameters == "values"
        if values:
            check_all_modes(n_modes)
            _check_dense(n)
        elif n_modes is not None:
            remedy = f"There are {n} points."
            n_modes = integer("n_modes", n_modes, most=n, remedy=remedy)
        elif n > _MOST_ALL:
            raise ValueError(
                f"n_modes: must be given for more than {_MOST_ALL} points, got {n} points. Use "
                "n_modes=200, for example; the attribute explained is the share of the variance "
                "in the modes."
            )
        self._transform = pointwise(transform)
        self.level = mean
        if values:
            self._set_values(places, x, nu, sd)
        else:
            self._set_coefficients(x, nu, sd, n_modes)
        kind = (self.parameters,) if values else ()
        self._identity = digest("MaternField", x, nu, sd, mean, n_modes, self._transform, *kind)

    def _set_coefficients(self, x: np.ndarray, nu: float, sd: float, n_modes: int | None) -> None:
        basis = _modes(x, lambda h: matern(h, nu), n_modes)
        super().__init__(np.zeros(basis.shape[1]), 1.0)
        self.basis = sd * basis
        self.basis.flags.writeable = False
        self.explained = float(np.sum(basis**2) / len(x))
        self.names = tuple(f"mode {k}" for k in range(basis.shape[1]))

    def _set_values(self, places: np.ndarray, x: np.ndarray, nu: float, sd: float) -> None:
        try:
            cov = sd**2 * _correlations(x, lambda h: matern(h, nu))
            super().__init__(np.full(len(x), self.level), cov)
        except ValueError as error:
            raise ValueError(
                'points: must have a covariance that can be inverted for parameters="values", got '
                f"{len(x)} points with nu = {nu:g} and sd = {sd:g}. Drop repeated points, lower nu "
                'or length, or use parameters="coefficients".'
            ) from error
        self._points = places
        self._points.flags.writeable = False
        self.names = tuple(f"point {i}" for i in range(len(x)))

    def __repr__(self) -> str:
        n = self.n_parameters if self.parameters == "values" else len(self.basis)
        return f"MaternField(n={n}, p={self.n_parameters})"

    def field(self, u: Any) -> np.ndarray:
        """Values at the points: u ``(p,)`` to ``(n,)``, ``(J, p)`` to ``(J, n)``.

        Parameters that are values are returned as they are.

        Examples
        --------
        >>> import ekitools as ek
        >>> prior = ek.MaternField([0.0, 5.0], length=2.0, mean=1.0)
        >>> prior.field([0.0, 0.0])
        array([1., 1.])
        """
        u = check_points(u, self.n_parameters)
        if self.parameters == "values":
            return u
        return np.asarray(self._transform.forward(self.level + u @ self.basis.T))

    @property
    def points(self) -> np.ndarray | None:
        """Coordinates of the points as given, ``(n, dim)``.

        None if the parameters are coefficients, which have no location.
        """
        return self._points if self.parameters == "values" else None

    def fingerprint(self) -> str:
        """A short text that changes whenever the field's distribution does."""
        return self._identity


def _coordinates(points: Any) -> np.ndarray:
    """Points ``(n, dim)`` in float64."""
    x = as_real("points", points, ndim=(1, 2)).astype(np.float64)
    x = x[:, None] if x.ndim == 1 else x
    if x.size == 0:
        raise ValueError(f"points: must not be empty, got {points!r:.60}.")
    return x


def _check_dense(n: int) -> None:
    if n > _MOST_DENSE:
        raise ValueError(
            f'points: must be at most {_MOST_DENSE} for parameters="values", whose covariance is a '
            f"dense matrix, got {n}. Use ek.GaussianRandomField on a regular grid, or "
            'parameters="coefficients" with n_modes.'
        )


def _correlations(x: np.ndarray, correlation: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The correlation matrix of all points, ``(n, n)``."""
    C = np.asarray(squareform(correlation(pdist(x))))
    np.fill_diagonal(C, 1.0)
    return C


def _modes(
    x: np.ndarray, correlation: Callable[[np.ndarray], np.ndarray], count: int | None
) -> np.ndarray:
    """√λ_k φ_k of the leading modes, ``(n, p)``, the largest first."""
    n = len(x)
    if n > _MOST_DENSE and count is not None:
        factor = _pivoted_cholesky(x, correlation, min(n, 3 * count + 50))
        values, vectors = np.linalg.eigh(factor @ factor.T)
        basis = factor.T @ vectors[:, ::-1][:, :count]
    else:
        C = _correlations(x, correlation)
        if count is None or n <= _SMALL or 2 * count >= n:
            values, vectors = eigh(C)
        else:
            start = np.random.default_rng(0).standard_normal(n)
            values, vectors = eigsh(C, k=count, which="LA", v0=start)
        order = np.argsort(-values)[:count]
        values = values[order]
        if count is None:
            order, values = (a[values > _NEGLIGIBLE * values[0]] for a in (order, values))
        basis = vectors[:, order] * np.sqrt(np.maximum(values, 0.0))
    largest = np.argmax(np.abs(basis), axis=0)  # fix the sign, which is free
    signs = np.sign(basis[largest, np.arange(basis.shape[1])])
    return np.asarray(basis * np.where(signs == 0, 1.0, signs))


def _pivoted_cholesky(
    x: np.ndarray, correlation: Callable[[np.ndarray], np.ndarray], rank: int
) -> np.ndarray:
    """F ``(rank, n)`` with FᵀF near the correlation matrix, by the largest remainder first."""
    factor = np.zeros((rank, len(x)))
    left = np.ones(len(x))
    for k in range(rank):
        pivot = int(np.argmax(left))
        if left[pivot] <= _NEGLIGIBLE:
            return factor[:k]
        row = correlation(np.sqrt(((x - x[pivot]) ** 2).sum(axis=1)))
        factor[k] = (row - factor[:k, pivot] @ factor[:k]) / math.sqrt(left[pivot])
        left = np.maximum(left - factor[k] ** 2, 0.0)
    return factor
