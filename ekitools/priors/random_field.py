"""Gaussian random fields on grids: cosine coefficients, or values in the cells."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
from scipy.fft import dctn, idctn

from ekitools.core.arrays import as_real, check_array, digest
from ekitools.core.checks import integer, number, sequence
from ekitools.priors.base import check_points
from ekitools.priors.field import (
    FieldPrior,
    Meaning,
    by_rows,
    check_all_modes,
    checked_parameters,
    per_direction,
)
from ekitools.priors.transforms import Transform, pointwise
from ekitools.typing import Array

__all__ = ["GaussianRandomField"]

_LEAST_ROOT = 1e-10
"""Smallest root of a covariance eigenvalue, relative to sd, for six digits after whitening."""


class GaussianRandomField(FieldPrior):
    r"""A Gaussian field on an interval, rectangle or box, as a prior on coefficients or values.

    The covariance is proportional to (−Δ + τ²)^{−α} with homogeneous Neumann conditions. The
    eigenfunctions are products of cosines:

    .. math::
        a(x) = T\Bigl(m + s \sum_k \sqrt{\lambda_k}\, u_k\, \varphi_k(x)\Bigr), \qquad
        \lambda_k = c\,(\pi^2 |k/L|^2 + \tau^2)^{-\alpha}, \qquad u_k \sim N(0, 1),

    where the mean of φ_k² over the cells is 1, and c makes Σ λ_k = 1 over all modes that the
    grid resolves. The field is defined at the cell centres (i + ½) L/n. By default
    the parameters are the u_k, in the order of decreasing λ and without the constant mode k = 0.

    With ``parameters="values"`` the parameters are the values of a in the cells. Values have a
    location, so data can be localized by distance. All modes are kept, including the constant mode.
    The symmetric root C^{-1/2} whitens the coordinates in O(p log p) operations by cosine
    transforms. Whitened coordinates therefore belong to the cells as well.

    Parameters
    ----------
    shape : tuple of int
        Cells in each of one to three directions.
    alpha : float, default 2
        Smoothness α > dim/2: draws have about α − dim/2 derivatives.
    tau : float, default 3
        Inverse length scale τ ≥ 0, in one over the unit of ``lengths``. Values need τ > 0, because
        the constant mode has the variance s² c τ^{−2α}. On a unit square with α = 2 this variance
        is 57 % of s² for τ = 3 and 9 % for τ = 10.
    sd : float, default 1
        Amplitude s, the root of the average pointwise variance of the expansion with all modes that
        the grid resolves (for coefficients without the constant mode). Fewer modes have less
        variance.
    mean : float, default 0
        Level m.
    n_modes : int, optional
        Number p of modes kept, by default all modes that the grid resolves. For coefficients only.
    transform : None, "exp" or ("bounded", lower, upper), default None
        T at every point: the identity, exp for a positive field, or the logistic function
        scaled to an interval. ``mean`` and ``sd`` refer to the field before the transform.
    lengths : float or tuple of float, default 1
        Size L of the domain, for example in metres: one number for all directions or one for each.
    parameters : {"coefficients", "values"}, default "coefficients"
        Meaning of the parameters. Values are those of the transformed field, and methods work on
        T^{-1} of the values.

    Attributes
    ----------
    shape : tuple of int
        The shape as given.
    lengths : tuple of float
        Size L, one number for each direction.
    parameters : str
        The option as given.
    modes : (p, dim) ndarray of int
        The wave numbers k.
    scales : (p,) ndarray
        Standard deviation s √λ_k of each mode.
    cov : ndarray
        The variance 1 of every coefficient. For values this attribute is missing, because the
        covariance matrix is never formed.

    Raises
    ------
    TypeError, ValueError
        If an option is of a wrong kind or out of range. For values, also if τ = 0, if ``n_modes``
        is given, or if the covariance cannot be inverted in double precision.

    See Also
    --------
    ekitools.MaternField : Gaussian field at any points, with a correlation length.
    ekitools.typing.HasPoints : The contract of parameters that have a location.

    Notes
    -----
    Away from the boundary this is a Matérn covariance of smoothness ν = α − dim/2 [1]_, for
    coefficients without the constant part. For a correlation length ℓ, set τ = √(2ν)/ℓ. Within
    a correlation length of the boundary the variance is larger than inside: about two times at an
    edge, and four times in the corner of a square.

    The covariance of the values has the eigenvalues p s² λ_k. Rounding errors of the whitened
    coordinates are about 1e-16 κ, κ = (p λ_min)^{−1/2}, and 6e-8 κ in a float32 ensemble. On a
    grid of 1000 × 1000 cells with α = 2 and τ = 5, κ is 1500.

    References
    ----------
    .. [1] Lindgren, Rue & Lindström (2011), J. R. Stat. Soc. B 73, 423-498.

    Examples
    --------
    >>> import ekitools as ek
    >>> prior = ek.GaussianRandomField((32, 32), n_modes=5)
    >>> prior.names
    ('mode 0 1', 'mode 1 0', 'mode 1 1', 'mode 0 2', 'mode 2 0')
    >>> prior.field(prior.sample(3, rng=0)).shape
    (3, 32, 32)

    Conductivity in 50 m cells, positive, correlated over 300 m:

    >>> cells = ek.GaussianRandomField(
    ...     (40, 20), lengths=(2000, 1000), alpha=2.5, tau=3**0.5 / 300, transform="exp",
    ...     parameters="values")
    >>> cells.names[:2], cells.points[:2].tolist()
    (('cell 0 0', 'cell 0 1'), [[25.0, 25.0], [25.0, 75.0]])
    >>> u = cells.sample(3, rng=0)
    >>> u.shape, bool((u > 0).all()), cells.field(u).shape
    ((3, 800), True, (3, 40, 20))
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        alpha: float = 2.0,
        tau: float = 3.0,
        sd: float = 1.0,
        mean: float = 0.0,
        n_modes: int | None = None,
        transform: Transform = None,
        lengths: Any = 1.0,
        parameters: Meaning = "coefficients",
    ) -> None:
        shape = _checked_shape(shape)
        self._transform = pointwise(transform)
        self.parameters = checked_parameters(parameters)
        values = self.parameters == "values"
        dim, resolved = len(shape), math.prod(shape) - 1
        alpha = number("alpha", alpha, above=dim / 2, remedy=f"The bound is dim/2, dim = {dim}.")
        tau, sd, mean = number("tau", tau, least=0), number("sd", sd, above=0), number("mean", mean)
        sides = np.broadcast_to(per_direction("lengths", lengths, dim), dim).astype(np.float64)
        if values:
            check_all_modes(n_modes)
            _check_constant(tau)
            n_modes = resolved + 1
        elif n_modes is None:
            n_modes = resolved
        else:
            remedy = f"The grid resolves {resolved} modes."
            n_modes = integer("n_modes", n_modes, most=resolved, remedy=remedy)
        waves = np.indices(shape).reshape(dim, -1).T[0 if values else 1 :]  # the first is k = 0
        with np.errstate(all="ignore"):  # extreme options show up in the sum
            squares = ((waves / sides) ** 2).sum(axis=1)
            variances = (np.pi**2 * squares + tau * tau) ** -alpha
            total = float(variances.sum())
        if not 0 < total < math.inf:
            raise ValueError(
                "alpha, tau, lengths: must give modes of positive and finite variance, got "
                f"{alpha:g}, {tau:g} and {sides.tolist()}. Use another unit of length."
            )
        order = np.argsort(squares, kind="stable")[:n_modes]
        self.shape = shape
        self.lengths = tuple(sides.tolist())
        self.modes = waves[order]
        self.scales = sd * np.sqrt(variances[order] / total)
        self.level = mean
        if values:
            self._set_values(sd)
        else:
            super().__init__(np.zeros(n_modes), 1.0)
            self.names = tuple("mode " + " ".join(map(str, k)) for k in self.modes.tolist())
        transformed = () if transform is None else (self._transform,)
        sized = () if np.all(sides == 1) else (("lengths", self.lengths),)
        kind = (self.parameters,) if values else ()
        self._identity = (shape, alpha, tau, sd, mean, n_modes, *transformed, *sized, *kind)

    def _set_values(self, sd: float) -> None:
        """Mean, standard deviations by wave numbers, and names of the cells."""
        p, cells = math.prod(self.shape), [map(str, range(n)) for n in self.shape]
        self.mean = np.full(p, self.level)
        self.mean.flags.writeable = False
        self._spectrum = np.empty(self.shape)
        self._spectrum[*self.modes.T] = math.sqrt(p) * self.scales
        _check_invertible(float(self._spectrum.min()) / sd)
        self.names = tuple(map(" ".join, product(["cell"], *cells)))

    def __repr__(self) -> str:
        return f"GaussianRandomField(shape={self.shape}, p={self.n_parameters})"

    def field(self, u: Any) -> np.ndarray:
        """Values at the cell centres: u ``(p,)`` to ``shape``, ``(J, p)`` to ``(J, *shape)``.

        Parameters that are values are only reshaped to the grid.

        Examples
        --------
        >>> import numpy as np
        >>> import ekitools as ek
        >>> prior = ek.GaussianRandomField((4,), n_modes=1)
        >>> (prior.field(np.ones(1)) / prior.scales).round(4)  # √2 cos(π x)
        array([ 1.3066,  0.5412, -0.5412, -1.3066])
        """
        u = check_points(u, self.n_parameters)
        if self.parameters == "values":
            return u.reshape(*u.shape[:-1], *self.shape)
        spectrum = np.zeros((*u.shape[:-1], *self.shape))
        spectrum[..., *self.modes.T] = u * self.scales
        axes = tuple(range(-len(self.shape), 0))
        root = math.sqrt(math.prod(self.shape))
        values = self.level + root * idctn(spectrum, axes=axes, norm="ortho")
        return np.asarray(self._transform.forward(values))

    def coefficients(self, field: Any) -> np.ndarray:
        """Coefficients u_k of a field in the kept modes, ``shape`` to ``(p,)``.

        If the parameters are values, these are the coefficients of all ``modes``.

        Examples
        --------
        >>> import numpy as np
        >>> import ekitools as ek
        >>> prior = ek.GaussianRandomField((8,), n_modes=2)
        >>> prior.coefficients(prior.field(np.array([1.0, -2.0]))).round(12)
        array([ 1., -2.])
        """
        field = as_real("field", field)
        if field.shape[field.ndim - len(self.shape) :] != self.shape:
            raise ValueError(f"field: must have the shape {self.shape}, got {field.shape}.")
        axes = tuple(range(-len(self.shape), 0))
        root = math.sqrt(math.prod(self.shape))
        values = self._transform.inverse(field)
        if not np.all(np.isfinite(values)):
            low, high = self._transform.lower, self._transform.upper
            raise ValueError(
                f"field: must lie strictly between the bounds {low:g} and {high:g} of the "
                f"transform, got {field[~np.isfinite(values)].flat[0]:g}. Widen the bounds."
            )
        spectrum = dctn(values - self.level, axes=axes, norm="ortho") / root
        return np.asarray(spectrum[..., *self.modes.T] / self.scales)

    @property
    def points(self) -> np.ndarray | None:
        """Coordinates of the cell centres in the unit of ``lengths``, ``(p, dim)``.

        None if the parameters are coefficients, which have no location.
        """
        if self.parameters == "coefficients":
            return None
        dim = len(self.shape)
        cells = np.indices(self.shape).reshape(dim, -1).T
        return (cells + 0.5) * (np.array(self.lengths) / self.shape)

    def whiten(self, z: Array) -> Array:
        """C^{-1/2}(z − m) along the last axis: N(0, I) under the prior."""
        if self.parameters == "coefficients":
            return super().whiten(z)
        check_array("z", z, last=self.n_parameters)
        return by_rows(z, lambda rows: self._filtered(rows - self.level, 1 / self._spectrum))

    def unwhiten(self, w: Array) -> Array:
        """Inverse of `whiten`: m + C^{1/2} w along the last axis."""
        if self.parameters == "coefficients":
            return super().unwhiten(w)
        check_array("w", w, last=self.n_parameters)
        return by_rows(w, lambda rows: self.level + self._filtered(rows, self._spectrum))

    def _filtered(self, rows: np.ndarray, factors: np.ndarray) -> np.ndarray:
        """Multiply the cosine coefficients of fields ``(n, p)`` by factors, in float64."""
        fields = rows.astype(np.float64, copy=False).reshape(-1, *self.shape)
        axes = tuple(range(1, fields.ndim))
        spectrum = dctn(fields, axes=axes, norm="ortho")
        spectrum *= factors
        return np.asarray(idctn(spectrum, axes=axes, norm="ortho", overwrite_x=True)).reshape(
            rows.shape
        )

    def _log_volume(self) -> float:
        if self.parameters == "coefficients":
            return super()._log_volume()
        return float(np.log(self._spectrum).sum())

    def fingerprint(self) -> str:
        """A short text that changes whenever the field's distribution does."""
        return digest("GaussianRandomField", self._identity)


def _checked_shape(shape: Any) -> tuple[int, ...]:
    """The numbers of cells in one to three directions, checked."""
    given = sequence("shape", shape, "a tuple of one to three integers")
    cells = tuple(integer("shape", n, least=2) for n in given)
    if len(cells) not in (1, 2, 3):
        raise ValueError(f"shape: must have one to three integers, got {cells}.")
    return cells


def _check_constant(tau: float) -> None:
    if tau == 0:
        raise ValueError(
            'tau: must be positive for parameters="values", got 0. The constant mode has a '
            "variance proportional to tau^(-2 alpha). Use a small tau for a large variance, or "
            'parameters="coefficients", which have no constant mode.'
        )


def _check_invertible(least_root: float) -> None:
    if not least_root > _LEAST_ROOT:
        raise ValueError(
            'alpha: must be lower for parameters="values" on this grid, got a covariance whose '
            f"smallest eigenvalue is {least_root**2:.3g} sd^2. Eigenvalues below "
            f"{_LEAST_ROOT**2:.0e} sd^2 cannot be inverted in double precision. Lower alpha, raise "
            'tau, use fewer cells, or parameters="coefficients".'
        )
