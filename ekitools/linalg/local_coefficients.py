"""One localized analysis, before it is known which ensemble it is applied to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from ekitools.core.arrays import as_rng
from ekitools.linalg.local import LocalAnalysis
from ekitools.linalg.whitened import check_independent, is_independent
from ekitools.typing import Localization, MarginalNoise, Rng

__all__ = ["ANALYSES", "Analysis", "LocalCoefficients", "local_coefficients"]

Analysis: TypeAlias = Literal["transform", "perturbed", "unperturbed"]
"""The square root, perturbed data, or data without perturbation."""
ANALYSES: tuple[Analysis, ...] = get_args(Analysis)


@dataclass(frozen=True, eq=False)
class LocalCoefficients:
    """One localized analysis, before it is known which ensemble it is applied to.

    Made by `local_coefficients`.
    """

    localization: Localization
    outputs: np.ndarray
    """F, the anomalies of the outputs ``(d, J)``; not whitened if ``noise`` is set."""
    mean: np.ndarray
    """r̄, the mean of G(u) − y ``(d,)``, in the same units."""
    h: float
    draw: np.ndarray | None
    """η of perturbed data ``(d, J)``, with the noise I/h, or with the covariance of ``noise``."""
    noise: MarginalNoise | None
    """Noise that correlates data."""

    def __len__(self) -> int:
        return self.outputs.shape[1]

    def located(self, n_parameters: int, target: Any = None) -> LocalAnalysis:
        """The analysis of an ensemble with p parameters; names are those of the ``target``."""
        localizer = self.localization.located(n_parameters, len(self.outputs), target)
        a = self.h / (len(self) - 1)
        return LocalAnalysis(localizer, self.outputs, self.mean, self.draw, a, self.noise)


def local_coefficients(
    localization: Localization,
    difference: np.ndarray,
    noise: Any,
    h: float,
    kind: Analysis,
    rng: Rng = None,
    noise_draw: np.ndarray | None = None,
) -> LocalCoefficients:
    """One localized analysis with the noise Γ/h.

    Parameters
    ----------
    localization : Localization
        Rule for the data that move each parameter.
    difference : (J, d)
        G(u) − y.
    noise : NoiseModel
        Γ.
    h : float
        The noise is Γ/h.
    kind : {"transform", "perturbed", "unperturbed"}
        The square root, perturbed data, or data without perturbation.
    rng : None, int or numpy.random.Generator
        Source of η for "perturbed" data. For independent noise the draws are the same as in the
        analysis without localization.
    noise_draw : (J, d), optional
        η itself, from N(0, Γ/h).

    Examples
    --------
    Two parameters, each observed by one datum and moved by this datum alone:

    >>> import numpy as np
    >>> import ekitools as ek
    >>> from ekitools.linalg.local_coefficients import local_coefficients
    >>> u = np.array([[-1.0, 3.0], [0.0, 4.0], [1.0, 5.0]])
    >>> rule = ek.localization.Groups({0: 0, 1: 1})
    >>> noise = ek.GaussianNoise(1.0)
    >>> analysis = local_coefficients(rule, u - [2.0, 4.0], noise, 1.0, "transform").located(2)
    >>> new = analysis.update(u)
    >>> new.mean(axis=0).round(12), new.var(axis=0, ddof=1).round(12)
    (array([1., 4.]), array([0.5, 0.5]))
    """
    independent = is_independent(noise)
    if not independent and not isinstance(noise, MarginalNoise):
        check_independent(noise, "local analyses")

    def white(x: np.ndarray) -> np.ndarray:
        x = np.asarray(x, dtype=np.float64)
        return noise.whiten(x) if independent else x

    r = white(difference)
    del difference  # the memory may not hold many copies of the outputs
    shape, last = r.shape, r[-1].copy()
    outputs = np.subtract(r.T, last[:, None], order="C")  # a shared offset costs no digits
    del r
    mean = outputs.mean(axis=1)
    outputs -= mean[:, None]
    draw = None
    if noise_draw is not None:
        draw = np.ascontiguousarray(white(noise_draw).T)
    elif kind == "perturbed":
        rng = as_rng(rng)
        drawn = rng.standard_normal(shape) if independent else noise.sample(shape[0], rng=rng)
        draw = np.divide(drawn.T, math.sqrt(h), order="C")
    elif kind == "unperturbed":
        draw = np.zeros_like(outputs)
    correlating = None if independent else noise
    return LocalCoefficients(localization, outputs, last + mean, h, draw, correlating)
