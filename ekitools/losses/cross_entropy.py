"""Cross-entropy losses of class probabilities: Φ(u) = Ψ(G(u), y).

An `InverseProblem` takes a loss in place of its noise. Least squares is `GaussianNoise`, which also
whitens. The Kalman analysis and the discrepancy principle need a covariance Γ and refuse other
losses. Your own class is a loss if it has ``misfit``, ``gradient`` and ``fingerprint``
(`ekitools.typing.Loss`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ekitools.core.arrays import array_namespace, as_vector, is_numpy
from ekitools.core.checks import flag, integer, put
from ekitools.losses.base import Fingerprinted, by_members, checked_data, exp_of, sigmoid
from ekitools.typing import Array

__all__ = ["BinaryCrossEntropy", "CrossEntropy"]

_TINY = 1e-12
"""Smallest probability in a logarithm, such that a zero costs 27.6 instead of infinity."""
_ONE_HOT = "Make labels one-hot: np.eye(n_classes)[labels].ravel()."


@dataclass(frozen=True)
class CrossEntropy(Fingerprinted):
    r"""Cross-entropy −Σ⟨y, log p⟩ of class probabilities p.

    Outputs and data consist of m samples of k classes one after the other, d = m k. The data are
    one-hot labels or probabilities. The gradient is −y/z for probabilities z [1]_, and
    softmax(z) − y for logits.

    Parameters
    ----------
    n_classes : int
        Number of classes k.
    logits : bool, default True
        Whether the outputs are logits, p = softmax(z), rather than probabilities. Probabilities
        below 1e-12, including zero and negative values, are replaced by 1e-12. Their gradient is
        −1e12 y, which still points uphill.

    Raises
    ------
    TypeError, ValueError
        If an option is of a wrong kind, or there are fewer than two classes. An `InverseProblem`
        also raises a ValueError if the data are not probabilities.

    See Also
    --------
    BinaryCrossEntropy : The loss of independent labels 0 and 1.
    LossEKI : Ensemble Kalman inversion for any loss.
    CurvatureEKI : Kalman steps with the curvature of the loss.

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

    @property
    def outputs_per_sample(self) -> int:
        """The number of classes k."""
        return self.n_classes

    def __post_init__(self) -> None:
        n_classes = integer("n_classes", self.n_classes, least=2)
        put(self, n_classes=n_classes, logits=flag("logits", self.logits))

    def check_data(self, data: np.ndarray) -> None:
        """Raise a ValueError unless the data are m rows of k probabilities."""
        _check_probabilities(data, _ONE_HOT)
        if data.size % self.n_classes:
            raise ValueError(
                f"data: must be rows of n_classes = {self.n_classes} probabilities, got "
                f"{data.size} numbers. {_ONE_HOT}"
            )
        sums = data.reshape(-1, self.n_classes).sum(axis=1)
        if not np.allclose(sums, 1, atol=1e-5):
            row = int(np.argmax(np.abs(sums - 1)))
            raise ValueError(
                f"data: the {self.n_classes} probabilities of a sample must add up to 1, got "
                f"{sums[row]:.6g} for sample {row}. {_ONE_HOT}"
            )

    def misfit(self, z: Array, y: Array) -> Array:
        """Ψ summed over samples: ``(..., m k)`` to ``(...)``."""
        y = self._data(y, z)
        xp = array_namespace(z)
        if not self.logits:
            return -xp.sum(y * xp.log(xp.clip(z, min=_TINY)), axis=-1)
        targets = self._columns(y)
        total = xp.sum(targets, axis=-2)

        def of(z: Array) -> Array:
            below = self._below_largest(z)
            chosen = xp.sum(targets * below, axis=-2)
            log_sum = xp.log(xp.sum(exp_of(below), axis=-2))
            return xp.sum(log_sum * total - chosen, axis=-1)

        return by_members(of, z)

    def gradient(self, z: Array, y: Array) -> Array:
        """∇_z Ψ, ``(..., m k)``."""
        y = self._data(y, z)
        xp = array_namespace(z)
        if not self.logits:
            return -y / xp.clip(z, min=_TINY)
        targets = self._columns(y)
        total = xp.sum(targets, axis=-2, keepdims=True)

        def of(z: Array) -> Array:
            share = self._shares(z)
            share *= total
            share -= targets
            return xp.reshape(xp.matrix_transpose(share), z.shape)

        return by_members(of, z)

    def curvature_product(self, z: Array, y: Array, f: Array) -> Array:
        """∇²_z Ψ f, ``(..., m k)``: for logits (diag p − ppᵀ) f, sample by sample."""
        y = self._data(y, z, f)
        xp = array_namespace(z)
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
            return by_members(lambda f: of(f, share), f)
        return by_members(lambda f, z: of(f, self._shares(z)), f, z)

    def _data(self, y: Array, z: Array, *f: Array) -> Array:
        y = checked_data(y, z, *f)
        for name, x in {"z": z, "y": y}.items():
            if not x.shape or x.shape[-1] % self.n_classes:
                raise ValueError(
                    f"{name}: last axis must be rows of n_classes = {self.n_classes} numbers, got "
                    f"shape {tuple(x.shape)}."
                )
        return y

    def _columns(self, z: Array) -> Array:
        """Classes by samples, ``(..., k, m)``. NumPy is slow along a last axis of length k = 10."""
        xp = array_namespace(z)
        columns = xp.matrix_transpose(xp.reshape(z, (*z.shape[:-1], -1, self.n_classes)))
        return np.ascontiguousarray(columns) if is_numpy(z) else columns

    def _below_largest(self, z: Array) -> Array:
        """Outputs z minus the largest z of the same sample, as columns."""
        columns = self._columns(z)
        return columns - array_namespace(z).max(columns, axis=-2, keepdims=True)

    def _shares(self, z: Array) -> Array:
        """Probabilities softmax(z), as columns."""
        share = exp_of(self._below_largest(z))
        share /= array_namespace(z).sum(share, axis=-2, keepdims=True)
        return share


@dataclass(frozen=True)
class BinaryCrossEntropy(Fingerprinted):
    r"""Binary cross-entropy −Σ{y log p + (1 − y) log(1 − p)} of probabilities p.

    Parameters
    ----------
    logits : bool, default True
        Whether the outputs are logits, p = 1/(1 + e^{−z}), rather than probabilities. Logarithms
        and quotients use p and 1 − p of at least 1e-12.

    Raises
    ------
    TypeError, ValueError
        If ``logits`` is not a bool. An `InverseProblem` also raises a ValueError if a datum is
        outside [0, 1].

    See Also
    --------
    CrossEntropy : The loss of samples with two or more exclusive classes.
    LossEKI : Ensemble Kalman inversion for any loss.
    CurvatureEKI : Kalman steps with the curvature of the loss.

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
    outputs_per_sample: ClassVar[int] = 1

    def __post_init__(self) -> None:
        put(self, logits=flag("logits", self.logits))

    def check_data(self, data: np.ndarray) -> None:
        """Raise a ValueError unless the data are probabilities."""
        _check_probabilities(data, "Make labels 0 and 1.")

    def misfit(self, z: Array, y: Array) -> Array:
        """Ψ along the last axis: ``(..., d)`` to ``(...)``."""
        y = checked_data(y, z)
        xp = array_namespace(z)
        if self.logits:
            softplus = xp.clip(z, min=0) + xp.log1p(xp.exp(-xp.abs(z)))
            return xp.sum(softplus - y * z, axis=-1)
        yes, no = (xp.log(xp.clip(p, min=_TINY)) for p in (z, 1 - z))
        return -xp.sum(y * yes + (1 - y) * no, axis=-1)

    def gradient(self, z: Array, y: Array) -> Array:
        """∇_z Ψ, ``(..., d)``."""
        y = checked_data(y, z)
        xp = array_namespace(z)
        if not self.logits:
            return (1 - y) / xp.clip(1 - z, min=_TINY) - y / xp.clip(z, min=_TINY)
        return sigmoid(z) - y

    def curvature_product(self, z: Array, y: Array, f: Array) -> Array:
        """∇²_z Ψ f, ``(..., d)``: for logits p(1 − p) f."""
        y = checked_data(y, z, f)
        xp = array_namespace(z)
        if self.logits:
            return f * (sigmoid(z) * sigmoid(-z))
        yes, no = (xp.clip(p, min=_TINY) for p in (z, 1 - z))
        return f * (y / yes**2 + (1 - y) / no**2)


def _check_probabilities(data: np.ndarray, remedy: str) -> None:
    data = as_vector("data", data)
    if data.min() < 0 or data.max() > 1:
        outside = float(data.min() if data.min() < 0 else data.max())
        raise ValueError(f"data: must be probabilities within [0, 1], got {outside:.6g}. {remedy}")
