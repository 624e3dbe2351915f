"""Contracts of regressors, from which an emulator is made."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np

__all__ = ["JointRegressor", "Regressor"]


@runtime_checkable
class Regressor(Protocol):
    """A regression of one number on p parameters, with the standard deviation of its prediction.

    `ekitools.emulate` copies the object (`copy.deepcopy`) for every component of the outputs. The
    regressors of scikit-learn with ``return_std`` are of this kind.

    See Also
    --------
    JointRegressor : A regression of all components at once.
    ekitools.emulate : Learns an emulator from model runs.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> class Constant:
    ...     def fit(self, X, y):
    ...         self.mean, self.sd = y.mean(), y.std()
    ...         return self
    ...     def predict(self, X, return_std=False):
    ...         mean = np.full(len(X), self.mean)
    ...         return (mean, np.full(len(X), self.sd)) if return_std else mean
    >>> isinstance(Constant(), ek.typing.Regressor)
    True
    """

    def fit(self, X: np.ndarray, y: np.ndarray, /) -> Any:
        """Learn from points ``(n, p)`` and values ``(n,)``, and from nothing of an earlier fit."""
        ...

    def predict(self, X: np.ndarray, /, return_std: bool = False) -> Any:
        """Mean ``(n,)``, and with ``return_std=True`` also the standard deviation ``(n,)``."""
        ...


@runtime_checkable
class JointRegressor(Protocol):
    """A regression of all components of the outputs at once.

    It can share work between the components, which a `Regressor` cannot. `ekitools.emulate` copies
    the object (`copy.deepcopy`).

    See Also
    --------
    Regressor : Predicts one component.
    ekitools.QuadraticRegressor : A regressor of this kind.

    Examples
    --------
    >>> import ekitools as ek
    >>> isinstance(ek.QuadraticRegressor(), ek.typing.JointRegressor)
    True
    """

    def fit_components(self, X: np.ndarray, Z: np.ndarray, /) -> Any:
        """Learn from points ``(n, p)`` and values ``(n, k)``, and from no earlier fit."""
        ...

    def predict_components(self, X: np.ndarray, /) -> tuple[np.ndarray, np.ndarray]:
        """Means and standard deviations, ``(n, k)`` each."""
        ...
