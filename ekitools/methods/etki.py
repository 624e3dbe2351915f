"""Ensemble transform Kalman inversion: a square-root analysis without random numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ekitools.core.arrays import like
from ekitools.core.checks import flag, put
from ekitools.linalg.columns import combine
from ekitools.linalg.drafts import Draft, transform_draft
from ekitools.linalg.local_coefficients import Analysis
from ekitools.linalg.transform import mean_preserving_rotation, transform_update
from ekitools.methods.steps import MisfitController
from ekitools.methods.tempering import Tempered, TemperedState
from ekitools.typing import (
    Aim,
    Array,
    Localization,
    Normalisation,
    Schedule,
    StoppingRule,
)

__all__ = ["ETKI"]


@dataclass(frozen=True)
class ETKI(Tempered):
    r"""Ensemble transform Kalman inversion: EKI by a deterministic square root.

    With E = U − ū and F = (G − Ḡ)Γ^{-1/2}, every step is one analysis with the noise Γ/h [1]_ [2]_,

    .. math::
        u_k \leftarrow \bar u + \sum_j (w_j + T_{jk}) E_j, \qquad
        T = \Big(I + \tfrac{h}{J-1} F F^T\Big)^{-1/2}, \qquad
        w = \tfrac{h}{J-1} T^2 F \, \Gamma^{-1/2} (y - \bar G).

    The new ensemble has exactly the mean and the covariance that the Kalman formula gives with the
    sample covariances, for any J. The data are not perturbed, so they add no sampling error. For a
    linear model, several steps with Σh = 1 give the same members as one step with h = 1.

    Parameters
    ----------
    step : Schedule, default MisfitController()
        Step rule: `FixedStep`, `NormStep`, `MisfitController`, `ESMDA`, or your own.
    t_end : float or None, default 1
        Σh at which the run ends. With 1 the run ends at the posterior, with None it has no end
        time.
    tikhonov : bool, default False
        Whether the prior counts as further data, as in `EKI`. This needs ``t_end=None``.
    rotate : bool, default False
        Whether a random rotation mixes the deviations after every step. The rotation keeps mean and
        covariance. With a nonlinear model it prevents single members from becoming outliers.
    stop : tuple of stopping rules, default ()
        Rules such as `Discrepancy`, `Collapsed` and `NoProgress`; the same as ``run(..., stop=)``.
    localization : rule of `ekitools.localization`, optional
        Weights of the data for every parameter, for fewer members than parameters. Every parameter
        then has a local analysis [3]_. By default every datum moves every parameter.

    Raises
    ------
    TypeError, ValueError
        If an option is of the wrong kind or out of range.

    See Also
    --------
    EKI : The same with perturbed data.
    GNKI : Less bias for nonlinear models, at a higher cost.

    Notes
    -----
    One step costs O(J² (p + d) + J³), or O(J d (p + d)) if d < J/2. If J ≤ p, the ensemble stays in
    the span of the initial ensemble, and its covariance is that of the posterior within this span.
    With localization the ensemble leaves the span.

    References
    ----------
    .. [1] Bishop, Etherton & Majumdar (2001), Monthly Weather Review 129, 420-436.
    .. [2] Huang, Huang, Reich & Stuart (2022), Inverse Problems 38, 125006.
    .. [3] Hunt, Kostelich & Szunyogh (2007), Physica D 230, 112-126.

    Examples
    --------
    >>> import ekitools as ek
    >>> problem = ek.InverseProblem(
    ...     ek.LinearModel([[1.0]]), ek.GaussianPrior(0.0, [1.0]), 1.0, [2.0])
    >>> result = ek.run(problem, ek.ETKI(), n_members=1000, rng=0)
    >>> u = ek.posterior(result).u0
    >>> round(float(u.mean()), 1), round(float(u.var()), 1)  # exact: 1, 0.5
    (1.0, 0.5)
    """

    step: Schedule = MisfitController()
    t_end: float | None = 1.0
    tikhonov: bool = False
    rotate: bool = False
    stop: tuple[StoppingRule, ...] = ()
    localization: Localization | None = None

    State: ClassVar[type] = TemperedState
    normalisation: ClassVar[Normalisation] = "1/(J-1)"
    estimates_noise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        put(self, rotate=flag("rotate", self.rotate))

    @property
    def aim(self) -> Aim:
        """A sample of the posterior with Σh = 1, else a fit."""
        return "posterior" if self.t_end == 1 else "fit"

    def _analysis(self, u: Array, r: Array, h: float, rng: np.random.Generator) -> Array:
        """The ensemble ``(J, p)`` after one analysis of the whitened residuals ``(J, d)``."""
        rotation = mean_preserving_rotation(int(u.shape[0]), rng) if self.rotate else None
        return transform_update(u, r, h, rotation)

    def _draft(self, u: Array, r: Array, rng: np.random.Generator, h: Array) -> Draft:
        """The same analysis on a device, not checked; h is an array on the device."""
        rotation = mean_preserving_rotation(int(u.shape[0]), rng) if self.rotate else None
        return transform_draft(u, r, h, rotation)

    @property
    def _kind(self) -> Analysis:
        return "transform"

    def _mixed(self, u: Array, rng: np.random.Generator) -> Array:
        if not self.rotate:
            return u
        rotation = mean_preserving_rotation(int(u.shape[0]), rng)
        return combine(u, like(rotation - np.eye(len(rotation)), u))
