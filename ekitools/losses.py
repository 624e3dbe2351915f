"""Losses beside least squares: Φ(u) = Ψ(G(u), y) for any Ψ with a gradient in its first argument.

A loss stands where the noise of an `InverseProblem` does. Least squares is `GaussianNoise`,
which can whiten too; what needs a Γ (the Kalman analysis, discrepancy) refuses other losses.
A class of yours fits by having ``misfit``, ``gradient`` and ``fingerprint``
(`ekitools.typing.Loss`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from ekitools._arrays import array_namespace, digest, like
from ekitools.typing import Array

__all__ = ["BinaryCrossEntropy", "CrossEntropy", "FunctionLoss", "Huber", "as_loss"]

_TINY = 1e-12
"""Probabilities below it count as it, so that a zero costs 27.6 and not infinity."""
_ONE_HOT = "Make labels one-hot: np.eye(n_classes)[labels].ravel()."


class _Loss:
    """What the losses here share."""

    n_data: int | None = None

    def fingerprint(self) -> str:
        """A short text that changes whenever an option does."""
        values = (getattr(self, field.name) for field in fields(self))  # type: ignore[arg-type]
        return digest(type(self).__name__, *values)


@dataclass(frozen=True)
class FunctionLoss:
    """A loss of your own, as a pair of functions.

    Parameters
    ----------
    misfit : callable
        ``misfit(z, y)``: Ψ of every row of outputs z ``(J, d)``, ``(J,)``.
    gradient : callable
        ``gradient(z, y)``: ∇_z Ψ, ``(J, d)``.

    Raises
    ------
    TypeError
        If one of them cannot be called.

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
    n_data = None

    def __post_init__(self) -> None:
        for name in ("misfit", "gradient"):
            if not callable(getattr(self, name)):
                raise TypeError(
                    f"{name}: must be a function of outputs and data, got {getattr(self, name)!r}."
                )

    def fingerprint(self) -> str:
        """The names of the functions: what they compute cannot be told."""
        names = (getattr(f, "__qualname__", repr(type(f))) for f in (self.misfit, self.gradient))
        return digest(*names)


@dataclass(frozen=True)
class Huber(_Loss):
    r"""Huber's loss, quadratic near the data and linear far from them: outliers pull less.

    .. math::
        \Psi(z, y) = \sum_i \rho((z_i - y_i)/s), \qquad
        \rho(r) = \tfrac12 r^2 \ (|r| \le \delta), \quad \delta |r| - \tfrac12\delta^2
        \ (|r| > \delta)

    [1]_.

    Parameters
    ----------
    scale : float
        s, the standard deviation of the noise where there are no outliers.
    delta : float, default 1.345
        δ; the default has an efficiency of 95 % for Gaussian noise.

    Raises
    ------
    ValueError
        If one of them is not positive.

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

    def __post_init__(self) -> None:
        for name in ("scale", "delta"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(
                    f"{name}: must be positive and finite, got {getattr(self, name)!r}."
                )

    def misfit(self, z: Array, y: Array) -> Array:
        """Ψ along the last axis: ``(..., d)`` to ``(...)``."""
        xp = array_namespace(z)
        r = xp.abs(z - like(y, z)) / self.scale
        near = xp.clip(r, max=self.delta)
        return xp.sum(near * (r - 0.5 * near), axis=-1)

    def gradient(self, z: Array, y: Array) -> Array:
        """∇_z Ψ, ``(..., d)``."""
        r = (z - like(y, z)) / self.scale
        return array_namespace(z).clip(r, min=-self.delta, max=self.delta) / self.scale

    def curvature_product(self, z: Array, y: Array, f: Array) -> Array:
        """∇²_z Ψ f, ``(..., d)``: f/s² where the loss is quadratic, else 0."""
        xp = array_namespace(z)
        near = xp.abs(z - like(y, z)) <= self.delta * self.scale
        return xp.where(near, f / self.scale**2, xp.zeros_like(f))


@dataclass(frozen=True)
class CrossEntropy(_Loss):
    r"""Cross-entropy −Σ⟨y, log p⟩ of class probabilities p.

    Outputs and data are m samples of k classes one after the other, d = m k; data are one-hot,
    or probabilities themselves. The gradient is −y/z for probabilities z, as in the slides
    [1]_, and softmax(z) − y for logits.

    Parameters
    ----------
    n_classes : int
        k.
    logits : bool, default True
        Whether outputs are logits, p = softmax(z), rather than probabilities. Probabilities
        below 1e-12, zero and negative ones among them, count as that: there the gradient is
        −1e12 y, which still points uphill.

    Raises
    ------
    TypeError, ValueError
        If there are fewer than two classes; and, for an `InverseProblem`, if the data are not
        probabilities.

    References
    ----------
    .. [1] Kovachki & Stuart (2019), Inverse Problems 35, 095005.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> loss = ek.CrossEntropy(2, logits=False)
    >>> z, y = np.array([[0.5, 0.5, 0.25, 0.75]]), np.array([1.0, 0.0, 0.0, 1.0])
    >>> loss.misfit(z, y).round(4), loss.gradient(z, y).round(4)  # log 2 + log 4/3
    (array([0.9808]), array([[-2.    , -0.    , -0.    , -1.3333]]))
    """

    n_classes: int
    logits: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.n_classes, bool) or not isinstance(self.n_classes, int | np.integer):
            raise TypeError(f"n_classes: must be an integer, got {self.n_classes!r}.")
        if self.n_classes < 2:
            raise ValueError(f"n_classes: must be at least 2, got {self.n_classes}.")

    def check_data(self, data: np.ndarray) -> None:
        """Raise a ValueError unless the data are m rows of k probabilities."""
        if data.size % self.n_classes:
            raise ValueError(
                f"data: must be rows of n_classes = {self.n_classes} probabilities, got "
                f"{data.size} numbers. {_ONE_HOT}"
            )
        _check_probabilities(data, _ONE_HOT)
        sums = data.reshape(-1, self.n_classes).sum(axis=1)
        if not np.allclose(sums, 1, atol=1e-5):
            row = int(np.argmax(np.abs(sums - 1)))
            raise ValueError(
                f"data: the {self.n_classes} probabilities of a sample must add up to 1, got "
                f"{sums[row]:.6g} for sample {row}. {_ONE_HOT}"
            )

    def misfit(self, z: Array, y: Array) -> Array:
        """Ψ summed over samples: ``(..., m k)`` to ``(...)``."""
        xp = array_namespace(z)
        rows, targets = self._rows(z), self._rows(like(y, z))
        if not self.logits:
            return -xp.sum(targets * xp.log(xp.clip(rows, min=_TINY)), axis=(-2, -1))
        top = xp.max(rows, axis=-1, keepdims=True)
        log_sum = top[..., 0] + xp.log(xp.sum(xp.exp(rows - top), axis=-1))
        total = xp.sum(targets, axis=-1)
        return xp.sum(log_sum * total - xp.sum(targets * rows, axis=-1), axis=-1)

    def gradient(self, z: Array, y: Array) -> Array:
        """∇_z Ψ, ``(..., m k)``."""
        xp = array_namespace(z)
        rows, targets = self._rows(z), self._rows(like(y, z))
        if not self.logits:
            return xp.reshape(-targets / xp.clip(rows, min=_TINY), z.shape)
        total = xp.sum(targets, axis=-1, keepdims=True)
        return xp.reshape(_softmax(rows) * total - targets, z.shape)

    def curvature_product(self, z: Array, y: Array, f: Array) -> Array:
        """∇²_z Ψ f, ``(..., m k)``: for logits (diag p − ppᵀ) f, sample by sample."""
        xp = array_namespace(z)
        rows, targets, many = self._rows(z), self._rows(like(y, z)), self._rows(f)
        if not self.logits:
            return xp.reshape(many * targets / xp.clip(rows, min=_TINY) ** 2, f.shape)
        share = _softmax(rows)
        weighted = many * share
        weighted -= share * xp.sum(weighted, axis=-1, keepdims=True)
        return xp.reshape(weighted * xp.sum(targets, axis=-1, keepdims=True), f.shape)

    def _rows(self, z: Array) -> Array:
        return array_namespace(z).reshape(z, (*z.shape[:-1], -1, self.n_classes))


@dataclass(frozen=True)
class BinaryCrossEntropy(_Loss):
    r"""Binary cross-entropy −Σ{y log p + (1 − y) log(1 − p)} of probabilities p.

    Parameters
    ----------
    logits : bool, default True
        Whether outputs are logits, p = 1/(1 + e^{−z}), rather than probabilities. Probabilities
        within 1e-12 of 0 or 1 count as that far from them.

    Raises
    ------
    ValueError
        For an `InverseProblem`, if a datum is not within [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> loss = ek.BinaryCrossEntropy()
    >>> loss.misfit(np.array([[0.0, 1e4]]), np.array([1.0, 1.0])).round(4)
    array([0.6931])
    >>> loss.gradient(np.array([[0.0, 1e4]]), np.array([1.0, 1.0]))
    array([[-0.5,  0. ]])
    """

    logits: bool = True

    def check_data(self, data: np.ndarray) -> None:
        """Raise a ValueError unless the data are probabilities."""
        _check_probabilities(data, "Make labels 0 and 1.")

    def misfit(self, z: Array, y: Array) -> Array:
        """Ψ along the last axis: ``(..., d)`` to ``(...)``."""
        xp = array_namespace(z)
        y = like(y, z)
        if self.logits:
            softplus = xp.clip(z, min=0) + xp.log1p(xp.exp(-xp.abs(z)))
            return xp.sum(softplus - y * z, axis=-1)
        yes, no = (xp.log(xp.clip(p, min=_TINY)) for p in (z, 1 - z))
        return -xp.sum(y * yes + (1 - y) * no, axis=-1)

    def gradient(self, z: Array, y: Array) -> Array:
        """∇_z Ψ, ``(..., d)``."""
        xp = array_namespace(z)
        y = like(y, z)
        if not self.logits:
            return (1 - y) / xp.clip(1 - z, min=_TINY) - y / xp.clip(z, min=_TINY)
        return _sigmoid(z) - y

    def curvature_product(self, z: Array, y: Array, f: Array) -> Array:
        """∇²_z Ψ f, ``(..., d)``: for logits p(1 − p) f."""
        xp = array_namespace(z)
        y = like(y, z)
        if self.logits:
            return f * (_sigmoid(z) * _sigmoid(-z))
        yes, no = (xp.clip(p, min=_TINY) for p in (z, 1 - z))
        return f * (y / yes**2 + (1 - y) / no**2)


def _softmax(rows: Array) -> Array:
    xp = array_namespace(rows)
    share = xp.exp(rows - xp.max(rows, axis=-1, keepdims=True))
    return share / xp.sum(share, axis=-1, keepdims=True)


def _sigmoid(z: Array) -> Array:
    xp = array_namespace(z)
    small = xp.exp(-xp.abs(z))
    return xp.where(z < 0, small, xp.ones_like(z)) / (1 + small)


def as_loss(noise: Any) -> Any | None:
    """``noise`` where it is a loss that cannot whiten, else None."""
    parts = ("misfit", "gradient", "fingerprint")
    has = all(callable(getattr(noise, part, None)) for part in parts)
    return noise if has and not hasattr(noise, "whiten") else None


def _check_probabilities(data: np.ndarray, remedy: str) -> None:
    if data.min() < 0 or data.max() > 1:
        outside = float(data.min() if data.min() < 0 else data.max())
        raise ValueError(f"data: must be probabilities within [0, 1], got {outside:.6g}. {remedy}")
