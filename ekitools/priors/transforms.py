"""Pointwise transforms between the real line and an interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from scipy.special import expit, log_expit, logit

from ekitools.core.checks import number

__all__ = ["Interval", "Transform", "pointwise"]

Transform: TypeAlias = Literal["exp"] | tuple[Literal["bounded"], float, float] | None
"""The identity, exp, or a map to an interval."""


@dataclass(frozen=True)
class Interval:
    """An increasing map from the real line to an interval.

    The map is the identity without bounds, exp with one bound and the logistic function with two.

    Parameters
    ----------
    lower, upper : float
        The bounds; infinite means no bound.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.priors.transforms import Interval
    >>> Interval(0, 10).forward(np.array([-np.log(3), 0.0]))
    array([2.5, 5. ])
    """

    lower: float = -np.inf
    upper: float = np.inf

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Map reals x into the interval, strictly inside the bounds."""
        low, high = np.isfinite([self.lower, self.upper])
        with np.errstate(over="ignore"):
            if low and high:
                y = self.lower + (self.upper - self.lower) * expit(x)
            elif low:
                y = self.lower + np.exp(x)
            elif high:
                y = self.upper - np.exp(-x)
            else:
                return x
        kind = np.asarray(y).dtype.type  # compare with bounds in the dtype of y
        lower, upper = kind(self.lower), kind(self.upper)
        return np.clip(y, np.nextafter(lower, kind(np.inf)), np.nextafter(upper, kind(-np.inf)))

    def inverse(self, y: np.ndarray) -> np.ndarray:
        """Map y back; NaN or infinite on and outside the bounds."""
        low, high = np.isfinite([self.lower, self.upper])
        with np.errstate(divide="ignore", invalid="ignore"):
            if low and high:
                return np.asarray(logit((y - self.lower) / (self.upper - self.lower)))
            if low:
                return np.log(y - self.lower)
            return -np.log(self.upper - y) if high else y

    def log_slope(self, x: np.ndarray) -> np.ndarray:
        """Logarithm of the derivative of `forward` at x."""
        low, high = np.isfinite([self.lower, self.upper])
        if low and high:
            return np.log(self.upper - self.lower) + log_expit(x) + log_expit(-x)
        if low:
            return x
        return -x if high else np.zeros_like(x)


def pointwise(transform: Any) -> Interval:
    """The transform for an option: None, ``"exp"`` or ``("bounded", lower, upper)``.

    Examples
    --------
    >>> from ekitools.priors.transforms import pointwise
    >>> pointwise("exp")
    Interval(lower=0.0, upper=inf)
    >>> pointwise("log")
    Traceback (most recent call last):
    ValueError: transform: must be None, "exp" or ("bounded", lower, upper), got 'log'.
    """
    if transform is None:
        return Interval()
    if isinstance(transform, str) and transform == "exp":
        return Interval(0.0)
    if isinstance(transform, tuple | list) and len(transform) == 3 and transform[0] == "bounded":
        lower = number("transform: lower bound", transform[1])
        upper = number("transform: upper bound", transform[2], above=lower)
        return Interval(lower, upper)
    raise ValueError(
        f'transform: must be None, "exp" or ("bounded", lower, upper), got {transform!r}.'
    )
