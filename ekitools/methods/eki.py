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

    Every step is one analysis [1]_ with the noise Γ/h_n:

    .. math::
        u_j \leftarrow u_j + C^{uw}(C^{ww} + \Gamma/h_n)^{-1}(y + \eta_j - G(u_j)),
        \qquad \eta_j \sim N(0, \Gamma/h_n).

    The run ends at Σh = 1. With many members, a linear G and a Gaussian prior, the last ensemble is
    a sample of the posterior. For other problems it is an approximation. Without an end time the
    method minimises the misfit within the span of the initial ensemble. Stop such a run by a rule.

    A step may see a part of the data (`ObservationSeries`, `MiniBatches`, `OnlineData`). It then
    uses the share h of the information in these data. With an end time the method records Σh of
    each observation. An observation whose Σh has reached ``t_end`` has no further effect, and the
    step rule does not see it. The run ends when all observations have reached ``t_end``. The time t
    is the mean Σh, weighted by the number of data. Without an end time t is the sum of the steps.

    If the noise has unknown scales (`UnknownNoise`), every step estimates them from a linear fit of
    G over the ensemble. The last step draws a scale for every member from the posterior of the
    scales under this fit, with the parameters integrated out, and moves the member to the posterior
    at its scale. This needs ``t_end=1`` and perturbed data. It is exact for a linear G and many
    members. For a nonlinear G the scales have the bias of EKI, and `GNKI` is much closer. If a step
    lowers the estimate of a scale, the pseudo-time t decreases, because a smaller share of the
    information has then been used.

    Parameters
    ----------
    step : Schedule, default MisfitController()
        Step rule: `FixedStep`, `NormStep`, `MisfitController`, `ESMDA`, or your own.
    t_end : float or None, default 1
        Σh at which the run ends. With 1 the run ends at the posterior, with None it has no end
        time. With batches it is the Σh of every observation.
    perturbed : bool, default True
        Whether the data are perturbed by η_j. Without perturbation the update is the deterministic
        update of Kovachki & Stuart (2019). It fits the mean equally well, but at Σh = 1 its spread
        is smaller than that of the posterior.
    tikhonov : bool, default False
        Whether the prior N(m, C₀) counts as p further data (Tikhonov-regularised EKI [2]_). No
        p × p matrix is formed. As Σh → ∞ the ensemble converges to the maximum a posteriori
        estimate. This needs ``t_end=None``, because at Σh = 1 the prior would count twice.
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
