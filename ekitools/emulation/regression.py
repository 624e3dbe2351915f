"""Regressors of an emulator: the default ones, and held-out tests of any."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import numpy as np

from ekitools.emulation.quadratic import QuadraticRegressor
from ekitools.typing import JointRegressor, Regressor

__all__ = ["MOST_OF_PROCESS", "GaussianProcess", "Predictor", "checked_regressor", "learned"]

MOST_OF_PROCESS = 12
"""Largest number of parameters for which Gaussian processes are the default."""

_TUNED = 200
"""Points at which the hyperparameters are sought, for the cost grows with their cube."""

_FOLDS = 5


class GaussianProcess:
    """A Gaussian process of scikit-learn with a Matérn kernel, ν = 5/2.

    The hyperparameters are those of the largest marginal likelihood at up to 200 of the points.
    A second fit keeps them, so that `held_out` does not seek them again.

    Parameters
    ----------
    noisy : bool
        Whether the values have noise of their own.
    seed : int, default 0
        Chooses the points.
    """

    def __init__(self, *, noisy: bool, seed: int = 0) -> None:
        self.noisy, self.seed = noisy, seed
        self._kernel: Any = None
        self._process: Any = None
        self._scale = (0.0, 1.0)

    def fit(self, x: np.ndarray, y: np.ndarray, /) -> GaussianProcess:
        """Learn from points ``(n, p)`` and values ``(n,)``."""
        module = _sklearn()
        self._scale = float(y.mean()), float(y.std()) or 1.0
        y = (y - self._scale[0]) / self._scale[1]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a hyperparameter at its bound
            if self._kernel is None:
                rows = np.random.default_rng(self.seed).permutation(len(x))[:_TUNED]
                tuned = module.GaussianProcessRegressor(self._prior(x.shape[1]), alpha=1e-10)
                self._kernel = tuned.fit(x[rows], y[rows]).kernel_
            process = module.GaussianProcessRegressor(self._kernel, alpha=1e-10, optimizer=None)
            self._process = process.fit(x, y)
        return self

    def predict(self, x: np.ndarray, /, return_std: bool = False) -> Any:
        """Mean, and standard deviation where asked for, ``(n,)`` each."""
        middle, unit = self._scale
        found = self._process.predict(x, return_std=return_std)
        if not return_std:
            return middle + unit * found
        return middle + unit * found[0], unit * found[1]

    def _prior(self, p: int) -> Any:
        kernels = import_module("sklearn.gaussian_process.kernels")
        noise = (1e-6, 10.0) if self.noisy else (1e-8, 1e-2)
        return kernels.ConstantKernel(1.0, (1e-2, 1e4)) * kernels.Matern(
            np.full(p, 4.0), (0.3, 1e3), nu=2.5
        ) + kernels.WhiteKernel(1e-2 if self.noisy else 1e-6, noise)


class Predictor(Protocol):
    """Fitted regressors of all components."""

    def predict_components(self, x: np.ndarray, /) -> tuple[np.ndarray, np.ndarray]:
        """Means and standard deviations ``(n, k)`` at points ``(n, p)``."""
        ...


@dataclass(frozen=True, eq=False)
class _Separate:
    """Fitted regressors, one for each component."""

    regressors: tuple[Regressor, ...]

    def predict_components(self, x: np.ndarray, /) -> tuple[np.ndarray, np.ndarray]:
        found = [_predicted(each, x) for each in self.regressors]
        mean, sd = (np.stack(each, axis=1) for each in zip(*found, strict=True))
        return mean, sd


@dataclass(frozen=True, eq=False)
class _Together:
    """A fitted regressor of all components, with its predictions checked."""

    regressor: JointRegressor
    k: int

    def predict_components(self, x: np.ndarray, /) -> tuple[np.ndarray, np.ndarray]:
        mean, sd = (np.asarray(v, np.float64) for v in self.regressor.predict_components(x))
        if mean.shape != (len(x), self.k) or sd.shape != mean.shape:
            raise ValueError(
                f"regressor: must predict means and standard deviations of the shape ({len(x)}, "
                f"{self.k}), got {mean.shape} and {sd.shape}. Return a row for every row of X."
            )
        return mean, np.maximum(sd, 0.0)


def checked_regressor(regressor: Any, n_parameters: int, *, noisy: bool) -> Any:
    """The given regressor, or the default one for this number of parameters if it is None."""
    if regressor is None and n_parameters > MOST_OF_PROCESS:
        return QuadraticRegressor()
    if regressor is None:
        _sklearn()
        return GaussianProcess(noisy=noisy)
    if isinstance(regressor, type) or not isinstance(regressor, Regressor | JointRegressor):
        raise TypeError(
            "regressor: must have fit(X, y) and predict(X, return_std=True), such as a "
            "GaussianProcessRegressor() of scikit-learn, or be like ek.QuadraticRegressor(), got "
            f"{regressor!r:.80}."
        )
    return regressor


def learned(
    regressor: Regressor | JointRegressor, x: np.ndarray, z: np.ndarray, rng: np.random.Generator
) -> tuple[Predictor, np.ndarray, np.ndarray]:
    """Fitted copies of a regressor, with held-out means and standard deviations ``(n, k)``."""
    if isinstance(regressor, JointRegressor):
        return _learned_together(regressor, x, z, rng)
    own, parts = [], []
    for k in range(z.shape[1]):
        each = copy.deepcopy(regressor)
        each.fit(x, z[:, k])
        parts.append(_held_out(each, x, z[:, k], rng))
        own.append(each)
    mean, sd = (np.stack(each, axis=1) for each in zip(*parts, strict=True))
    return _Separate(tuple(own)), mean, sd


def _learned_together(
    regressor: JointRegressor, x: np.ndarray, z: np.ndarray, rng: np.random.Generator
) -> tuple[Predictor, np.ndarray, np.ndarray]:
    fold = rng.permutation(len(x)) % _FOLDS
    mean, sd = np.empty((2, *z.shape))
    for i in range(_FOLDS):
        away = fold == i
        other = copy.deepcopy(regressor)
        other.fit_components(x[~away], z[~away])
        mean[away], sd[away] = _Together(other, z.shape[1]).predict_components(x[away])
    own = copy.deepcopy(regressor)
    own.fit_components(x, z)
    return _Together(own, z.shape[1]), mean, sd


def _predicted(regressor: Regressor, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation ``(n,)`` of a fitted regressor, checked."""
    found = regressor.predict(x, return_std=True)
    if not isinstance(found, tuple) or len(found) != 2:
        raise TypeError(
            "regressor: must return (mean, standard deviation) from predict(X, return_std=True), "
            f"got {type(found).__name__}. Return a tuple of two arrays."
        )
    mean, sd = (np.asarray(each, dtype=np.float64) for each in found)
    if mean.shape != (len(x),) or sd.shape != (len(x),):
        raise ValueError(
            f"regressor: must predict {len(x)} means and standard deviations for {len(x)} points, "
            f"got the shapes {mean.shape} and {sd.shape}. Return one of each for every row of X."
        )
    return mean, np.maximum(sd, 0.0)


def _held_out(
    regressor: Regressor, x: np.ndarray, y: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations ``(n,)`` of points that a copy of a regressor did not see.

    Every point belongs to one of five folds, and is predicted from the others.
    """
    fold = rng.permutation(len(x)) % _FOLDS
    mean, sd = np.empty(len(x)), np.empty(len(x))
    for i in range(_FOLDS):
        away = fold == i
        other = copy.deepcopy(regressor)
        other.fit(x[~away], y[~away])
        mean[away], sd[away] = _predicted(other, x[away])
    return mean, sd


def _sklearn() -> Any:
    try:
        return import_module("sklearn.gaussian_process")
    except ImportError:
        raise ImportError(
            "scikit-learn: must be installed for the Gaussian processes of ek.emulate, and is not. "
            'Use pip install "ekitools[sklearn]", or pass regressor=ek.QuadraticRegressor().'
        ) from None
