"""Rules without coordinates: weights from the sample correlations of parameters and outputs."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array, vstack

from ekitools.core.checks import number, put
from ekitools.localization.rule import Rule, Weighing
from ekitools.typing import Localizer

__all__ = ["Correlation", "Fisher", "Nice", "Unbiased"]

_BLOCK = 1 << 21
"""Correlations that are in memory at a time."""

_NEGLIGIBLE = 1e-3
"""Weights below it are left out: they cost as much as others and hardly move anything."""


class _BySample(Rule):
    """A rule τ(r, J) of the sample correlations r: the weight is τ of it."""

    def located(self, _n_parameters: int, _n_data: int, _target: Any = None) -> Localizer:
        """The rule for any parameters and data."""
        return _Sampled(self._weight)

    @abstractmethod
    def _weight(self, r: np.ndarray, n: int) -> np.ndarray:
        """The weights of correlations ``(m, d)`` of n members."""


@dataclass(frozen=True, eq=False)
class _Sampled(Weighing):
    weight: Callable[[np.ndarray, int], np.ndarray]

    def weights(self, columns: np.ndarray, u: np.ndarray, outputs: np.ndarray) -> csr_array:
        """The weights of the correlations."""
        unit_u, unit_f = _unit(u.T.astype(np.float64)), _unit(outputs)
        width = max(1, _BLOCK // len(outputs))
        blocks = []
        for i in range(0, len(columns), width):
            r = np.clip(unit_u[i : i + width] @ unit_f.T, -1, 1)
            w = self.weight(r, outputs.shape[1])
            blocks.append(csr_array(np.where(w < _NEGLIGIBLE, 0, w)))
        return csr_array(vstack(blocks))


def _unit(rows: np.ndarray) -> np.ndarray:
    """Centred rows of length 1; zero where a row has no spread."""
    rows = rows - rows.mean(axis=1, keepdims=True)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)


@dataclass(frozen=True)
class Correlation(_BySample):
    r"""Data whose sample correlation with the parameter is beyond what chance makes.

    A datum moves a parameter if :math:`|r| > t/\sqrt J`, with the sample correlation r of the
    parameter and the output. No coordinates are needed.

    Parameters
    ----------
    threshold : float, default 3.5
        t > 0. Correlations of independent numbers have the standard deviation 1/√J: with t = 3.5
        about one of 2,000 passes. For one analysis alone 4 to 5 is often better (see
        `choose_strength`); in several steps a correlation that is left out is lost every time.

    Raises
    ------
    TypeError, ValueError
        If it is no positive number.

    See Also
    --------
    Distance : Weights by distance, where parameters and data have places.
    Unbiased : Less weight for weak correlations, without a threshold.

    Notes
    -----
    With J ≤ t² members no correlation passes, and nothing moves.

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.ETKI(localization=ek.localization.Correlation()).localization
    Correlation(threshold=3.5)
    """

    threshold: float = 3.5

    def __post_init__(self) -> None:
        put(self, threshold=number("threshold", self.threshold, above=0))

    @property
    def strength(self) -> float:
        """The threshold."""
        return self.threshold

    @property
    def strength_name(self) -> str:
        """The name of the option that holds the strength."""
        return "threshold"

    def strengths(self, _n_parameters: int, _n_data: int, _target: Any = None) -> np.ndarray:
        """The candidate strengths, from few data to many."""
        return np.arange(7.0, 1.75, -0.25)

    def with_strength(self, value: float) -> Correlation:
        """The rule with this threshold."""
        return Correlation(value)

    def _weight(self, r: np.ndarray, n: int) -> np.ndarray:
        return (np.abs(r) * math.sqrt(n) > self.threshold).astype(np.float64)


@dataclass(frozen=True)
class Unbiased(_BySample):
    r"""Less weight for weak correlations: the positive part of the unbiased r².

    A datum has the weight :math:`\max(0, r^2 - (1 - r^2)^2/(J - 1))/r^2`: r² is too large by the
    subtracted variance of r, on average.

    See Also
    --------
    Fisher : The same aim by Fisher's transformation.
    Correlation : All or nothing.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> u = np.random.default_rng(0).standard_normal((50, 3))
    >>> new = ek.kalman_update(u, u, np.ones(3), 1.0, localization=ek.localization.Unbiased())
    >>> new.shape
    (50, 3)
    """

    def _weight(self, r: np.ndarray, n: int) -> np.ndarray:
        square = r * r
        part = np.maximum(0, square - (1 - square) ** 2 / (n - 1))
        return np.divide(part, square, out=np.zeros_like(r), where=square > 0)


@dataclass(frozen=True)
class Fisher(_BySample):
    r"""Less weight for weak correlations, by the error of Fisher's transformation [1]_.

    With s = artanh r and its standard deviation σ = 1/√(J − 3), the standard deviation of r is
    σ_r = (tanh(s + σ) − tanh(s − σ))/2. A datum has the weight q²/(1 + q²) with q = r/σ_r.

    See Also
    --------
    Unbiased : Without a transformation, for any J.

    References
    ----------
    .. [1] Flowerdew (2015), Tellus A 67, 25257.

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.EKI(localization=ek.localization.Fisher()).localization
    Fisher()
    """

    def _weight(self, r: np.ndarray, n: int) -> np.ndarray:
        if n < 4:
            raise ValueError(
                f"localization: Fisher must have J >= 4 members, got {n}. Use "
                "ek.localization.Unbiased()."
            )
        s, sigma = np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12)), 1 / math.sqrt(n - 3)
        square = (r / ((np.tanh(s + sigma) - np.tanh(s - sigma)) / 2)) ** 2
        return np.asarray(square / (1 + square))


@dataclass(frozen=True)
class Nice(_BySample):
    r"""The strongest power of correlations that noise explains (NICE [1]_).

    A datum has the weight :math:`|r|^\gamma`. For every parameter γ is the largest of 0, 0.25,
    ..., 10 for which the weighted correlations differ from r by no more than their sampling error,
    :math:`\lVert r|r|^\gamma - r\rVert \le \delta \lVert (1 - r^2)/\sqrt J\rVert` over the data.

    Parameters
    ----------
    delta : float, default 1
        δ > 0: larger for stronger localization.

    Raises
    ------
    TypeError, ValueError
        If it is no positive number.

    See Also
    --------
    Unbiased : Without an option.

    References
    ----------
    .. [1] Vishny, Morzfeld, Gwirtz, Bach, Dunbar & Hodyss (2024), J. Adv. Model. Earth Syst. 16,
       e2024MS004417.

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.ETKI(localization=ek.localization.Nice(1.5)).localization
    Nice(delta=1.5)
    """

    delta: float = 1.0

    def __post_init__(self) -> None:
        put(self, delta=number("delta", self.delta, above=0))

    def _weight(self, r: np.ndarray, n: int) -> np.ndarray:
        size = np.abs(r)
        most = self.delta * np.linalg.norm((1 - r * r) / math.sqrt(n), axis=1)
        weight = np.ones_like(r)
        for power in np.arange(0.25, 10.25, 0.25):
            tried = size**power
            fits = np.linalg.norm((1 - tried) * r, axis=1) <= most
            if not fits.any():  # the difference grows with the power
                break
            weight[fits] = tried[fits]
        return weight
