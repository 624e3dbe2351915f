"""Ensemble Kalman inversion: the Kalman analysis iterated with the noise Γ/h."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ekitools.core.arrays import array_namespace, like
from ekitools.core.checks import flag, put
from ekitools.core.draws import standard_normal
from ekitools.linalg.drafts import Draft, kalman_draft
from ekitools.linalg.local_coefficients import Analysis
from ekitools.methods.shared import tempered_analysis
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

__all__ = ["EKI"]


@dataclass(frozen=True)
class EKI(Tempered):
    r"""Ensemble Kalman inversion, discrete in time.

    Every step is one analysis [1]_ with the noise Γ/h_n,

    .. math::
        u_j \leftarrow u_j + C^{uw}(C^{ww} + \Gamma/h_n)^{-1}(y + \eta_j - G(u_j)),
        \qquad \eta_j \sim N(0, \Gamma/h_n).

    With Σh = 1 and many members the last ensemble samples the posterior if G is linear and
    the prior Gaussian, and approximates it otherwise. Without end time the method minimises
    the misfit within the span of the initial ensemble; stop it by a rule.

    Steps may see a part of the data (`ObservationSeries`, `MiniBatches`, `OnlineData`). A step then
    uses h of the information of the data that it sees and nothing of the others. With an end time
    the method keeps Σh of each observation, cuts every one at ``t_end``, and ends where all have
    come to it. A step changes nothing for observations that are used up. The time t is the mean Σh,
    weighted by the number of data; without an end time it is the sum of the steps. The step rule
    sees the data of the batch that are not used up.

    Where the scales of the noise are not known (`UnknownNoise`), every step estimates them from
    the linear fit of G over the ensemble, and the last one gives every member a scale drawn from
    its posterior under that fit, with the parameters integrated out. The member moves to the
    posterior at its scale. This needs ``t_end=1`` and perturbed data. It is exact where the
    known noise is: for a linear G and many members. Otherwise the scales inherit the bias of
    EKI; `GNKI` is then much closer. The pseudo-time, the share of the information that has been
    used, falls back where a step lowers the estimate.

    Parameters
    ----------
    step : Schedule, default MisfitController()
        Step rule: `FixedStep`, `NormStep`, `MisfitController`, `ESMDA`, or your own.
    t_end : float or None, default 1
        Σh at which the run ends (1: the posterior); None for no end time. With batches it is the Σh
        of every observation.
    perturbed : bool, default True
        Whether the data are perturbed by η_j. Without it the update is the deterministic one of
        Kovachki & Stuart (2019): it fits the mean as well, but its spread at Σh = 1 is smaller than
        the posterior's.
    tikhonov : bool, default False
        Whether the prior is added as further data, u ~ N(m, C₀) beside y (Tikhonov-
        regularised EKI [2]_, p + d data, never a p × p matrix). The ensemble then goes to
        the maximum a posteriori estimate as Σh → ∞; it needs ``t_end=None``, for at Σh = 1
        the prior would count twice.
    stop : tuple of stopping rules, default ()
        `Discrepancy`, `Collapsed`, `NoProgress`, ...: the short form of ``run(..., stop=)``.
    localization : rule of `ekitools.localization`, optional
        Which data may move which parameters, and how strongly: for fewer members than parameters.
        Every parameter then has a local analysis [3]_. By default every datum moves every
        parameter.

    Raises
    ------
    TypeError, ValueError
        If an option is of the wrong kind or out of range.

    See Also
    --------
    ETKI : The square-root analysis, without perturbed data.
    GNKI : Gauss–Newton steps after EKI, with less bias for a nonlinear model.
    TemperedSMC : Samples of the posterior of a nonlinear model, for more model runs.

    References
    ----------
    .. [1] Iglesias, Law & Stuart (2013), Inverse Problems 29, 045001.
    .. [2] Chada, Stuart & Tong (2020), SIAM J. Numer. Anal. 58, 1263-1294.
    .. [3] Hunt, Kostelich & Szunyogh (2007), Physica D 230, 112-126.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> problem = ek.InverseProblem(
    ...     ek.LinearModel([[1.0]]), ek.GaussianPrior(0.0, [1.0]), 1.0, [2.0])
    >>> result = ek.run(problem, ek.EKI(), n_members=2000, rng=0)
    >>> u = ek.posterior(result).u0
    >>> round(float(u.mean()), 1), round(float(u.var()), 1)  # exact: 1, 0.5
    (1.0, 0.5)
    """

    step: Schedule = MisfitController()
    t_end: float | None = 1.0
    perturbed: bool = True
    tikhonov: bool = False
    stop: tuple[StoppingRule, ...] = ()
    localization: Localization | None = None

    State: ClassVar[type] = TemperedState
    normalisation: ClassVar[Normalisation] = "1/(J-1)"
    estimates_noise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        put(self, perturbed=flag("perturbed", self.perturbed))

    @property
    def aim(self) -> Aim:
        """A sample of the posterior with perturbed data and Σh = 1, else a fit."""
        return "posterior" if self.perturbed and self.t_end == 1 else "fit"

    def _analysis(self, u: Array, r: Array, h: float, rng: np.random.Generator) -> Array:
        """The ensemble ``(J, p)`` after one analysis of the whitened residuals ``(J, d)``."""
        return tempered_analysis(u, r, h, rng if self.perturbed else None)

    def _draft(self, u: Array, r: Array, rng: np.random.Generator, h: Array) -> Draft:
        """The same analysis on a device, not checked; h is an array on the device."""
        draw = None
        if self.perturbed:
            draw = standard_normal(rng, tuple(r.shape), r)
            draw /= like(array_namespace(h).sqrt(h), r)
        return kalman_draft(u, r, h, draw)

    @property
    def _kind(self) -> Analysis:
        return "perturbed" if self.perturbed else "unperturbed"
