"""Huber's loss, and a loss given by two functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from ekitools.core.arrays import array_namespace, digest
from ekitools.core.checks import function, number, put
from ekitools.core.signatures import check_accepts
from ekitools.losses.base import Fingerprinted, checked_data
from ekitools.typing import Array

__all__ = ["FunctionLoss", "Huber"]


@dataclass(frozen=True)
class FunctionLoss:
    """Your own loss Ψ, given by two functions.

    Parameters
    ----------
    misfit : callable
        ``misfit(z, y)``, which returns Ψ ``(J,)`` of the rows of the outputs z ``(J, d)``.
    gradient : callable
        ``gradient(z, y)``, which returns ∇_z Ψ ``(J, d)``.

    Raises
    ------
    TypeError
        If an argument is not callable, or does not accept z and y.

    See Also
    --------
    Huber : A loss that limits the influence of outliers.
    LossEKI : Ensemble Kalman inversion for any loss.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> quartic = ek.FunctionLoss(
    ...     lambda z, y: ((z - y) ** 4).sum(axis=-1) / 4, lambda z, y: (z - y) ** 3)
    >>> problem = ek.InverseProblem(
    ...     ek.LinearModel([[1.0]]), ek.GaussianPrior(0.0, [1.0]), quartic, [2.0])
    >>> result = ek.integrate(problem, ek.EKIFlow(), t_span=(0, 20), n_members=20, rng=0)
    >>> bool(result.misfit[-1].mean() < 0.01 * result.misfit[0].mean())
    True
    """

    misfit: Callable[[Array, Array], Array]
    gradient: Callable[[Array, Array], Array]

    def __post_init__(self) -> None:
        for name in ("misfit", "gradient"):
            check_accepts(name, function(name, getattr(self, name)), "z", "y")

    def fingerprint(self) -> str:
        """A digest of the names of the functions. Their code has no influence."""
        names = (getattr(f, "__qualname__", repr(type(f))) for f in (self.misfit, self.gradient))
        return digest(*names)


@dataclass(frozen=True)
class Huber(Fingerprinted):
    r"""Huber's loss, which limits the influence of outliers [1]_.

    The loss is quadratic for small residuals and linear for large ones:

    .. math::
        \Psi(z, y) = \sum_i \rho((z_i - y_i)/s), \qquad
        \rho(r) = \tfrac12 r^2 \ (|r| \le \delta), \quad \delta |r| - \tfrac12\delta^2
        \ (|r| > \delta).

    Parameters
    ----------
    scale : float
        The standard deviation s of the noise without outliers.
    delta : float, default 1.345
        The residual δ at which the loss becomes linear, in units of s. The default has an
        efficiency of 95 % for Gaussian noise.

    Raises
    ------
    TypeError, ValueError
        If an argument is not a number, or not positive.

    See Also
    --------
    GaussianNoise : Least squares, for noise without outliers.
    FunctionLoss : Your own loss, given by two functions.

    References
    ----------
    .. [1] Huber (1964), Ann. Math. Statist. 35, 73-101.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> loss = ek.Huber(1.0, delta=1.0)
    >>> loss.misfit(np.array([[0.5], [3.0]]), np.array([0.0]))
    array([0.125, 2.5  ])
    >>> loss.gradient(np.array([[0.5], [3.0]]), np.array([0.0])).ravel()
    array([0.5, 1. ])
    """

    scale: float
    delta: float = 1.345
    outputs_per_sample: ClassVar[int] = 1

    def __post_init__(self) -> None:
        scale = number("scale", self.scale, above=0)
        put(self, scale=scale, delta=number("delta", self.delta, above=0))

    def misfit(self, z: Array, y: Array) -> Array:
        """Ψ along the last axis: ``(..., d)`` to ``(...)``."""
        y = checked_data(y, z)
        xp = array_namespace(z)
        r = xp.abs(z - y) / self.scale
        near = xp.clip(r, max=self.delta)
        return xp.sum(near * (r - 0.5 * near), axis=-1)

    def gradient(self, z: Array, y: Array) -> Array:
        """∇_z Ψ, ``(..., d)``."""
        r = (z - checked_data(y, z)) / self.scale
        return array_namespace(z).clip(r, min=-self.delta, max=self.delta) / self.scale

    def curvature_product(self, z: Array, y: Array, f: Array) -> Array:
        """∇²_z Ψ f, ``(..., d)``: f/s² for a quadratic part of the loss, else 0."""
        y = checked_data(y, z, f)
        xp = array_namespace(z)
        near = xp.abs(z - y) <= self.delta * self.scale
        return xp.where(near, f / self.scale**2, xp.zeros_like(f))
