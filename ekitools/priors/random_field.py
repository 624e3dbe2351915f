"""Gaussian random fields by their Karhunen–Loève expansion in cosines."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.fft import dctn, idctn

from ekitools.core.arrays import as_real, digest
from ekitools.core.checks import integer, number, sequence
from ekitools.priors.base import check_points
from ekitools.priors.gaussian import GaussianPrior
from ekitools.priors.transforms import Interval, pointwise

__all__ = ["GaussianRandomField"]


class GaussianRandomField(GaussianPrior):
    r"""A Gaussian field on the unit interval, square or cube, as a prior on its coefficients.

    The covariance is proportional to (−Δ + τ²)^{−α} with homogeneous Neumann conditions and
    without the constant mode. Its eigenfunctions are products of cosines, so

    .. math::
        a(x) = T\Bigl(m + s \sum_k \sqrt{\lambda_k}\, u_k\, \varphi_k(x)\Bigr), \qquad
        \lambda_k = (\pi^2 |k|^2 + \tau^2)^{-\alpha}, \qquad u_k \sim N(0, 1),

    with ∫φ_k² = 1 and the modes in the order of decreasing λ. The parameters are the u_k; a
    field lives at the cell centres (i + ½)/n.

    Parameters
    ----------
    shape : tuple of int
        Cells in each of one to three directions.
    alpha : float, default 2
        Smoothness α > dim/2: draws have about α − dim/2 derivatives.
    tau : float, default 3
        Inverse length scale τ ≥ 0.
    sd : float, default 1
        Root of the average pointwise variance of the expansion with all modes that the grid
        resolves; fewer modes have less.
    mean : float, default 0
        m.
    n_modes : int, optional
        Number p of modes kept; all that the grid resolves by default.
    transform : None, "exp" or ("bounded", lower, upper), default None
        T at every point: the identity, exp for a positive field, or the logistic function
        scaled to an interval. ``mean`` and ``sd`` are those before the transform.

    Attributes
    ----------
    shape : tuple of int
        As given.
    modes : (p, dim) ndarray of int
        The wave numbers k.
    scales : (p,) ndarray
        s √λ_k, the standard deviation of each mode.

    Raises
    ------
    TypeError, ValueError
        If an option is of a wrong kind or out of range.

    See Also
    --------
    ekitools.MaternField : Fields at any points, with lengths in their unit.

    Notes
    -----
    Away from the boundary this is a Matérn covariance of smoothness ν = α − dim/2 [1]_ without
    its constant part. A correlation length ℓ on a domain with sides L is τ = √(2ν) L/ℓ.

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
    """

    _transform = Interval()

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        alpha: float = 2.0,
        tau: float = 3.0,
        sd: float = 1.0,
        mean: float = 0.0,
        n_modes: int | None = None,
        transform: Any = None,
    ) -> None:
        shape = _checked_shape(shape)
        self._transform = pointwise(transform)
        dim, resolved = len(shape), math.prod(shape) - 1
        alpha = number("alpha", alpha, above=dim / 2, remedy=f"The bound is dim/2, dim = {dim}.")
        tau, sd, mean = number("tau", tau, least=0), number("sd", sd, above=0), number("mean", mean)
        if n_modes is None:
            n_modes = resolved
        remedy = f"The grid resolves {resolved} modes."
        n_modes = integer("n_modes", n_modes, most=resolved, remedy=remedy)
        waves = np.indices(shape).reshape(dim, -1).T[1:]  # without the constant
        squares = (waves**2).sum(axis=1)
        order = np.argsort(squares, kind="stable")[:n_modes]
        values = (np.pi**2 * squares + tau**2) ** -alpha
        super().__init__(np.zeros(n_modes), 1.0)
        self.shape = shape
        self.modes = waves[order]
        self.scales = sd * np.sqrt(values[order] / values.sum())
        self.level = mean
        transformed = () if transform is None else (self._transform,)
        self._identity = (shape, alpha, tau, sd, mean, n_modes, *transformed)
        self.names = tuple("mode " + " ".join(map(str, k)) for k in self.modes.tolist())

    def __repr__(self) -> str:
        return f"GaussianRandomField(shape={self.shape}, p={self.n_parameters})"

    def field(self, u: Any) -> np.ndarray:
        """Values at the cell centres: u ``(p,)`` to ``shape``, ``(J, p)`` to ``(J, *shape)``.

        Examples
        --------
        >>> import numpy as np
        >>> import ekitools as ek
        >>> prior = ek.GaussianRandomField((4,), n_modes=1)
        >>> (prior.field(np.ones(1)) / prior.scales).round(4)  # √2 cos(π x)
        array([ 1.3066,  0.5412, -0.5412, -1.3066])
        """
        u = check_points(u, self.n_parameters)
        spectrum = np.zeros((*u.shape[:-1], *self.shape))
        spectrum[..., *self.modes.T] = u * self.scales
        axes = tuple(range(-len(self.shape), 0))
        root = math.sqrt(math.prod(self.shape))
        values = self.level + root * idctn(spectrum, axes=axes, norm="ortho")
        return np.asarray(self._transform.forward(values))

    def coefficients(self, field: Any) -> np.ndarray:
        """The u_k of a field, ``shape`` to ``(p,)``: what of it the kept modes can hold.

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
                f"transform, got {field[~np.isfinite(values)].flat[0]:g}."
            )
        spectrum = dctn(values - self.level, axes=axes, norm="ortho") / root
        return np.asarray(spectrum[..., *self.modes.T] / self.scales)

    def fingerprint(self) -> str:
        """A short text that changes whenever the field's distribution does."""
        return digest("GaussianRandomField", self._identity)


def _checked_shape(shape: Any) -> tuple[int, ...]:
    """One to three numbers of cells."""
    given = sequence("shape", shape, "a tuple of one to three integers")
    cells = tuple(integer("shape", n, least=2) for n in given)
    if len(cells) not in (1, 2, 3):
        raise ValueError(f"shape: must have one to three integers, got {cells}.")
    return cells
