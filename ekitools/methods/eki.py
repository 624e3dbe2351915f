"""Ensemble Kalman inversion: the Kalman analysis iterated with the noise Γ/h."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from ekitools.core.arrays import array_namespace, like, take_rows
from ekitools.core.checks import (
    check_schedule,
    flag,
    number,
    put,
    stopping_rules,
)
from ekitools.linalg import total_variance
from ekitools.methods.parts import check_independent, nothing_used, part_step
from ekitools.methods.shared import (
    misfits,
    tempered_analysis,
    whitened_residual,
)
from ekitools.methods.steps import MisfitController, choose_step
from ekitools.methods.unknown_noise import (
    Scaling,
    checked_start,
    misfits_of_members,
    tempered_with_scales,
)
from ekitools.typing import (
    Aim,
    Array,
    Normalisation,
    ScaledNoise,
    Schedule,
    Status,
    StepInfo,
    StoppingRule,
    Target,
)

__all__ = ["EKI", "EKIState"]


class EKIState(NamedTuple):
    """What the next step needs."""

    ensemble: Array
    n: int
    t: float
    variance: float
    """Trace of the ensemble covariance."""
    initial_variance: float
    used: tuple[float, ...] = ()
    """Σh of every observation, where steps see a part of the data and there is an end time."""
    scaling: Scaling | None = None
    """Where the scales of the noise are not known."""


@dataclass(frozen=True)
class EKI:
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

    Raises
    ------
    TypeError, ValueError
        If an option is of the wrong kind or out of range.

    References
    ----------
    .. [1] Iglesias, Law & Stuart (2013), Inverse Problems 29, 045001.
    .. [2] Chada, Stuart & Tong (2020), SIAM J. Numer. Anal. 58, 1263-1294.

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

    State: ClassVar[type] = EKIState
    normalisation: ClassVar[Normalisation] = "1/(J-1)"
    estimates_noise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_schedule(self.step)
        if self.t_end is not None:
            put(self, t_end=number("t_end", self.t_end, above=0, remedy="Use None for no end."))
        put(
            self,
            perturbed=flag("perturbed", self.perturbed),
            tikhonov=flag("tikhonov", self.tikhonov),
            stop=stopping_rules(self.stop),
        )
        if self.tikhonov and self.t_end is not None:
            raise ValueError(
                f"t_end: must be None with tikhonov=True, got {self.t_end}: the regularised "
                "ensemble goes to the maximum a posteriori estimate, and at a finite end the "
                "prior would count twice. Stop by n_steps or a stopping rule."
            )

    @property
    def aim(self) -> Aim:
        """A sample of the posterior with perturbed data and Σh = 1, else a fit."""
        return "posterior" if self.perturbed and self.t_end == 1 else "fit"

    def init(self, ensemble: Array, target: Target) -> EKIState:
        """The state before the first step.

        Raises
        ------
        ValueError
            If all members are the same: EKI moves only along their differences. Or if the
            scales of the noise are not known, and the aim is not the posterior.
        TypeError
            If the problem has a loss that is not Gaussian noise; or, with an end time, noise that
            correlates the samples of a batch.
        """
        variance = checked_start(ensemble, target, "EKI")
        if isinstance(target.noise, ScaledNoise) and self.aim != "posterior":
            raise ValueError(
                "noise: must have known scales for EKI without t_end=1 and perturbed=True, got "
                f"{target.noise!r}. Use EKI(step) as it samples the posterior, or ek.GNKI()."
            )
        if self.t_end is None:
            return EKIState(ensemble, 0, 0.0, variance, variance)
        check_independent(target)
        return EKIState(ensemble, 0, 0.0, variance, variance, nothing_used(target))

    def ask(self, state: EKIState) -> Array:
        """The members at which G is wanted, ``(J, p)``."""
        return state.ensemble

    def finished(self, state: EKIState) -> Status | None:
        """Set once Σh has come to t_end."""
        if self.t_end is None or state.t < self.t_end:
            return None
        each = " for every observation" if state.used else ""
        if self.t_end != 1:
            sentence = f"The steps add up to t_end = {self.t_end:g}{each}."
            return Status("t_end_reached", sentence, level="good")
        scales = (
            ""
            if state.scaling is None
            else (
                " The scales of the noise were drawn under a linear fit of the model; compare them "
                "with those of GNKI."
            )
        )
        return Status(
            "posterior_reached",
            f"The steps add up to 1{each}: the ensemble approximates the posterior (exactly for a "
            f"linear model, a Gaussian prior and many members).{scales}",
            level="good",
            posterior=self.perturbed,
        )

    def tell(
        self, state: EKIState, g: Array, target: Target, *, rng: np.random.Generator
    ) -> tuple[EKIState, StepInfo]:
        """One analysis, or the end: then the state is returned as it was."""
        u = state.ensemble
        unknown = isinstance(target.noise, ScaledNoise)
        r = g if unknown else whitened_residual(g, target)
        misfit = misfits_of_members(u, g, target)[0] if unknown else misfits(r)
        data_misfit = misfit
        objective = None
        if self.tikhonov:
            xp = array_namespace(r)
            prior = like(target.prior.whiten(u), r)
            if target.batch is not None:  # an epoch counts the prior once, as it does the data
                prior = math.sqrt(target.batch.share) * prior
            r = xp.concat([r, prior], axis=1)
            misfit = misfits(r)
            objective = float(np.mean(misfit))
        spread = math.sqrt(state.variance / state.initial_variance)
        info = StepInfo(0.0, data_misfit, self.finished(state), spread, objective=objective)
        if info.status is not None:
            return state, info

        noise, used, scaling = rng if self.perturbed else None, state.used, None
        if unknown:
            ensemble, scaling, h, t = tempered_with_scales(state, g, target, self.step, rng)
        elif target.batch is None or self.t_end is None:
            h, t = choose_step(self.step, state.n, state.t, self.t_end, r, misfit)
            ensemble = tempered_analysis(u, r, h, noise)
        else:
            h, r, scale, t, used = part_step(self.step, state, self.t_end, target.batch, r)
            ensemble = tempered_analysis(u, r, scale, noise) if h else u
        variance = total_variance(ensemble)
        if not math.isfinite(variance):
            status = Status(
                "diverged",
                f"The update of step {state.n} with h = {h:.4g} overflowed: this is the last "
                "good ensemble. Use smaller steps or a prior that keeps the model tame.",
                level="bad",
            )
            return state, info._replace(status=status)
        new = EKIState(ensemble, state.n + 1, t, variance, state.initial_variance, used, scaling)
        return new, info._replace(step=h)

    def select(self, state: EKIState, index: np.ndarray) -> EKIState:
        """The state of the members ``index``."""
        ensemble = take_rows(state.ensemble, index)
        return state._replace(ensemble=ensemble, variance=total_variance(ensemble))
