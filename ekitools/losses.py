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

from ekitools.core.arrays import array_namespace, digest, is_numpy, like
from ekitools.typing import Array

__all__ = ["BinaryCrossEntropy", "CrossEntropy", "FunctionLoss", "Huber", "as_loss"]

_TINY = 1e-12
"""Probabilities below it count as it, so that a zero costs 27.6 and not infinity."""
_BLOCK_BYTES = 1 << 18
"""Bytes of the outputs that are treated at a time."""
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
        y = like(y, z)
        if not self.logits:
            return -xp.sum(y * xp.log(xp.clip(z, min=_TINY)), axis=-1)
        targets = self._columns(y)
        total = xp.sum(targets, axis=-2)

        def of(z: Array) -> Array:
            below = self._below_largest(z)
            chosen = xp.sum(targets * below, axis=-2)
            log_sum = xp.log(xp.sum(_exp_of(below), axis=-2))
            return xp.sum(log_sum * total - chosen, axis=-1)

        return _by_members(of, z)

    def gradient(self, z: Array, y: Array) -> Array:
        """∇_z Ψ, ``(..., m k)``."""
        xp = array_namespace(z)
        y = like(y, z)
        if not self.logits:
            return -y / xp.clip(z, min=_TINY)
        targets = self._columns(y)
        total = xp.sum(targets, axis=-2, keepdims=True)

        def of(z: Array) -> Array:
            share = self._shares(z)
            share *= total
            share -= targets
            return xp.reshape(xp.matrix_transpose(share), z.shape)

        return _by_members(of, z)

    def curvature_product(self, z: Array, y: Array, f: Array) -> Array:
        """∇²_z Ψ f, ``(..., m k)``: for logits (diag p − ppᵀ) f, sample by sample."""
        xp = array_namespace(z)
        y = like(y, z)
        if not self.logits:
            return f * (y / xp.clip(z, min=_TINY) ** 2)
        total = xp.sum(self._columns(y), axis=-2, keepdims=True)

        def of(f: Array, share: Array) -> Array:
            many = self._columns(f)
            mean = xp.sum(many * share, axis=-2, keepdims=True)
            product = (many - mean) * share
            product *= total
            return xp.reshape(xp.matrix_transpose(product), f.shape)

        if z.ndim == 1:
            share = self._shares(z)
            return _by_members(lambda f: of(f, share), f)
        return _by_members(lambda f, z: of(f, self._shares(z)), f, z)

    def _columns(self, z: Array) -> Array:
        """``(..., k, m)``: what is done along a last axis of k = 10 is slow in NumPy."""
        xp = array_namespace(z)
        columns = xp.matrix_transpose(xp.reshape(z, (*z.shape[:-1], -1, self.n_classes)))
        return np.ascontiguousarray(columns) if is_numpy(z) else columns

    def _below_largest(self, z: Array) -> Array:
        """Z less the largest of its sample, as columns."""
        columns = self._columns(z)
        return columns - array_namespace(z).max(columns, axis=-2, keepdims=True)

    def _shares(self, z: Array) -> Array:
        """Softmax(z) as columns."""
        share = _exp_of(self._below_largest(z))
        share /= array_namespace(z).sum(share, axis=-2, keepdims=True)
        return share


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


def _by_members(function: Callable[..., Array], *arrays: Array) -> Array:
    """The function of some rows of the arrays after the other, where NumPy would leave the cache.

    All of it is then in the cache but what it is given and what it returns.
    """
    first = arrays[0]
    if first.ndim != 2 or not is_numpy(first) or first.nbytes <= _BLOCK_BYTES:
        return function(*arrays)
    n, rows = len(first), max(1, _BLOCK_BYTES // first[0].nbytes)
    out: Array = None
    for i in range(0, n, rows):
        found = function(*(array[i : i + rows] for array in arrays))
        out = np.empty((n, *found.shape[1:]), found.dtype) if out is None else out
        out[i : i + rows] = found
    return out


def _exp_of(z: Array) -> Array:
    """exp(z), written over z where that is a NumPy array."""
    return np.exp(z, out=z) if is_numpy(z) else array_namespace(z).exp(z)


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
