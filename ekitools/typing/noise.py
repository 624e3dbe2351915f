"""Contracts of losses and of noise."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np

from ekitools.typing.arrays import Array, Rng

__all__ = ["ChecksData", "CurvedLoss", "Loss", "MarginalNoise", "NoiseModel", "ScaledNoise"]


@runtime_checkable
class Loss(Protocol):
    """Ψ(z, y) of outputs z and data y, where Φ(u) = Ψ(G(u), y).

    A loss that checks its data is also a `ChecksData`, and one with a known curvature a
    `CurvedLoss`.

    See Also
    --------
    NoiseModel : The loss of Gaussian noise.
    ekitools.FunctionLoss : A loss of your own, from two functions.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> loss = ek.Huber(delta=1.0, scale=1.0)
    >>> loss.gradient(np.array([0.5, 9.0]), np.zeros(2))  # the outlier's gradient is cut at 1
    array([0.5, 1. ])
    """

    def misfit(self, z: Array, y: Array) -> Array:
        """Ψ along the last axis."""
        ...

    def gradient(self, z: Array, y: Array) -> Array:
        """∇_z Ψ, of the shape of ``z``."""
        ...

    def fingerprint(self) -> str:
        """A short text that changes whenever the loss does."""
        ...


@runtime_checkable
class ChecksData(Protocol):
    """A loss that refuses data which it is not defined for.

    See Also
    --------
    Loss : The required members of a loss.

    Examples
    --------
    >>> import ekitools as ek
    >>> isinstance(ek.CrossEntropy(3), ek.typing.ChecksData)
    True
    """

    def check_data(self, data: np.ndarray) -> None:
        """Raise a ValueError unless the loss is defined for these data ``(d,)``."""
        ...


@runtime_checkable
class CurvedLoss(Loss, Protocol):
    """A loss with a known curvature, for `ekitools.CurvatureEKI`.

    See Also
    --------
    ekitools.CurvatureEKI : The method that uses the curvature.
    ekitools.CrossEntropy : A loss of this kind.

    Examples
    --------
    >>> import ekitools as ek
    >>> isinstance(ek.CrossEntropy(3), ek.typing.CurvedLoss), ek.CrossEntropy(3).outputs_per_sample
    (True, 3)
    """

    @property
    def outputs_per_sample(self) -> int:
        """k, where the d = m k outputs belong to m samples: losses are averaged over samples."""
        ...

    def curvature_product(self, z: Array, y: Array, f: Array) -> Array:
        """∇²_z Ψ at z ``(d,)`` times every row of f ``(J, d)``."""
        ...


@runtime_checkable
class NoiseModel(Loss, Protocol):
    """η ~ N(0, Γ), known only through its whitening map: the loss ½ ‖Γ^{-1/2}(z − y)‖².

    See Also
    --------
    ekitools.GaussianNoise : Noise of this kind.
    MarginalNoise : Noise that allows missing data.
    ekitools.testing.check_noise : Tests noise of your own.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> ek.GaussianNoise(0.25).whiten(np.array([1.0, 3.0]))
    array([2., 6.])
    """

    @property
    def n_data(self) -> int | None:
        """d, or None if one variance is for any d."""
        ...

    @property
    def sd(self) -> np.ndarray:
        """Marginal standard deviations √Γ_ii: ``(d,)``, or 0-d for one that serves any d."""
        ...

    def whiten(self, r: Array) -> Array:
        """Γ^{-1/2} r along the last axis: ``whiten(r) · whiten(s) = rᵀ Γ⁻¹ s``."""
        ...

    def sample(self, n: int, *, rng: Rng = None) -> Array:
        """``n`` draws of η, ``(n, d)``."""
        ...


@runtime_checkable
class MarginalNoise(NoiseModel, Protocol):
    """Noise that knows the noise of some of its data, so that data may be missing.

    See Also
    --------
    NoiseModel : The required members of noise.
    ekitools.GaussianNoise.marginal : The noise of some of the data.

    Examples
    --------
    >>> import ekitools as ek
    >>> isinstance(ek.GaussianNoise(0.25), ek.typing.MarginalNoise)
    True
    """

    def marginal(self, kept: Any) -> NoiseModel:
        """N(0, Γ[kept, kept]), with ``kept`` a mask ``(d,)`` or indices."""
        ...


@runtime_checkable
class ScaledNoise(Protocol):
    """Noise N(0, D Γ D) with unknown scales: D has scale s_b at every datum of group b.

    The scales are the last B parameters of the problem. Only a method that `EstimatesNoise` takes
    such a problem.

    See Also
    --------
    ekitools.UnknownNoise : Noise with unknown scales.
    EstimatesNoise : Methods that take this noise.

    Examples
    --------
    >>> from scipy import stats
    >>> import ekitools as ek
    >>> noise = ek.UnknownNoise(stats.lognorm(1.0))
    >>> problem = ek.InverseProblem(
    ...     ek.LinearModel([[1.0], [2.0]]), ek.GaussianPrior(0.0, [1.0]), noise, [1.0, 2.0])
    >>> isinstance(problem.noise, ek.typing.ScaledNoise), problem.noise.groups
    (True, array([0, 0]))
    """

    @property
    def shape(self) -> NoiseModel:
        """N(0, Γ), without covariance between data of different groups."""
        ...

    @property
    def groups(self) -> np.ndarray:
        """The number of the scale of every datum, ``(d,)``; −1 for a scale of 1."""
        ...

    @property
    def prior(self) -> Any:
        """A prior of the scales, with ``log_density(b, log_s)`` and ``log_bounds`` ``(2, B)``."""
        ...

    @property
    def n_scales(self) -> int:
        """B."""
        ...

    def scales(self, ensemble: Array) -> np.ndarray:
        """The scales of unconstrained members ``(J, p + B)``, ``(J, B)``."""
        ...

    def sd_at(self, scales: np.ndarray) -> np.ndarray:
        """Marginal standard deviations ``(d,)`` at the scales ``(B,)``."""
        ...
