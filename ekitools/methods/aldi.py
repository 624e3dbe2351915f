"""Affine invariant Langevin dynamics: the ensemble Kalman sampler in linearly implicit steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from ekitools.core.arrays import host, take_rows
from ekitools.core.checks import check_schedule, flag, number, one_of, put
from ekitools.core.statuses import CHECK_NEXT
from ekitools.linalg import d_norm, total_variance
from ekitools.methods.langevin import Kick, LocalFit, langevin_step, local_fit
from ekitools.methods.shared import (
    check_all_data,
    diverged,
    initial_variance,
    tempered_analysis,
    whitened_residual,
)
from ekitools.methods.steps import MisfitController, choose_step, rule_step
from ekitools.typing import (
    Aim,
    Array,
    LinearOver,
    NoiseModel,
    Normalisation,
    Reported,
    Schedule,
    Seen,
    Status,
    StepInfo,
    Target,
)

__all__ = ["ALDI", "ALDIState"]

Root: TypeAlias = Literal["members", "parameters"]
"""Root of the covariance in the noise of a step."""
_ROOTS: tuple[Root, ...] = get_args(Root)

_NAMES = {
    "covariance_ratio": "ensemble covariance relative to the posterior of the linear fit",
    "mean_offset": "distance of the mean from its fixed point in posterior standard deviations",
}
_LEAST = 3
"""Smallest number of ensembles for a statement about stationarity."""


class ALDIState(NamedTuple):
    """State of `ALDI` between two steps."""

    ensemble: Array
    n: int
    t: float
    variance: float
    """Trace of the ensemble covariance."""
    initial_variance: float
    kick: Kick | None
    """Step size, noise and divergence of the next step; None before the first step."""
    counted: int
    """Number of ensembles in the second half of the run."""
    ratios: float
    """Sum of the covariance ratios of these ensembles."""
    offsets: float
    """Sum of the mean offsets of these ensembles."""


@dataclass(frozen=True)
class ALDI:
    r"""Affine invariant Langevin dynamics, the ensemble Kalman sampler as a method.

    The ensemble samples the posterior at every step of a long run [1]_. With the correction for
    few members [2]_ [3]_ the equation is

    .. math::
        \mathrm d u_j = -C^{uw}(u)\, \nabla_z \Psi(G(u_j), y)\, \mathrm d t
        - C(u)\, C_0^{-1} (u_j - m)\, \mathrm d t
        + \tfrac{p + 1}{J} (u_j - \bar u)\, \mathrm d t + \sqrt{2 C(u)}\, \mathrm d W_j .

    A step of length h replaces C by P = (C⁻¹ + hH)⁻¹ in drift, correction and noise. H is the
    Hessian of the linear fit of G over the ensemble, in the span of the ensemble. The posterior of
    a linear model is invariant for every P, and no step is too long for such a model. The noise is
    averaged over two steps [4]_, which removes most of the step error in the covariance. One step
    takes the ensemble the share h/(1 + h) of the way to the posterior.

    Ψ is any loss, and exp(−Ψ) its likelihood. For a linear model and a Gaussian prior the method is
    exact for any J > p + 1, except for the step error. For a nonlinear model the slope of the
    linear fit replaces the derivative, and the ensemble is an approximation.

    Parameters
    ----------
    step : Schedule, default MisfitController()
        Step rule. The rule is asked one step ahead, because the noise of a step is drawn before the
        step.
    t_end : float, default 10
        The run ends at the first ensemble with Σh >= t_end. The last step is not cut.
    h_max : float, default 1
        Largest step of the sampler. The default rule takes this step once the data are fitted.
    tempered : bool, default True
        Whether the run begins with the analyses of `EKI`, up to Σh = 1. They bring the ensemble
        near the posterior. For a nonlinear model, a sampler that starts at the prior may stay far
        from the posterior. Losses other than Gaussian noise have no such analyses. Use False for an
        initial ensemble that is near the posterior.
    correction : bool, default True
        Whether the drift has the term for few members. The term needs J > p + 1. Without the term,
        and with small steps, the covariance is too small by the factor (J − p − 2)/(J − 1).
    noise : {"members", "parameters"}, default "members"
        Root of C in the noise. "members" combines the J deviations Eᵀ/√J, which makes every path
        affine invariant [3]_. "parameters" is the root of the ensemble Kalman sampler [1]_, which
        draws one normal number for every direction of the span. Both roots give the same law.

    Raises
    ------
    TypeError, ValueError
        If an option is of the wrong kind or out of range.

    See Also
    --------
    EKSFlow : The same equation in continuous time, for `integrate`.
    GNKI : Independent approximate draws at a similar cost.
    TemperedSMC : Draws that do not rely on a linear fit.

    Notes
    -----
    For a nearly linear model the default run makes nine steps of the sampler after the analyses.
    With small steps the distance from the posterior shrinks by the factor exp(−t).

    Two numbers are reported at every step. ``history_covariance_ratio`` is tr(C H)/p, with the
    covariance normalised by 1/(J − 1). In the stationary law of the equation its mean is 1, for
    nonlinear models too. ``history_mean_offset`` is the distance of the mean from the point of zero
    drift, in posterior standard deviations. Its stationary mean is about J^{-1/2}. The final status
    states the averages of both numbers over the second half of the run. The level of the status is
    "care" if the averages are further from the stationary values than chance allows. The run is
    then too short, or the steps are too long for a nonlinear model. Neither number measures the
    error of the linear fit of a nonlinear model.

    One step costs O(J k (p + d)) and J × J normal numbers, or J × k with "parameters", where k is
    the smaller of J − 1 and p.

    References
    ----------
    .. [1] Garbuno-Inigo, Hoffmann, Li & Stuart (2020), SIAM J. Appl. Dyn. Syst. 19, 412-441.
    .. [2] Nüsken & Reich (2019), arXiv:1908.10890.
    .. [3] Garbuno-Inigo, Nüsken & Reich (2020), SIAM J. Appl. Dyn. Syst. 19, 1633-1658.
    .. [4] Leimkuhler & Matthews (2013), Applied Mathematics Research eXpress 2013, 34-56.

    Examples
    --------
    >>> import ekitools as ek
    >>> problem = ek.InverseProblem(
    ...     ek.LinearModel([[1.0]]), ek.GaussianPrior(0.0, [1.0]), 1.0, [2.0])
    >>> result = ek.run(problem, ek.ALDI(), n_members=1000, rng=0)
    >>> u = ek.posterior(result).u0
    >>> round(float(u.mean()), 1), round(float(u.var()), 1)  # exact: 1, 0.5
    (1.0, 0.5)
    """

    step: Schedule = MisfitController()
    t_end: float = 10.0
    h_max: float = 1.0
    tempered: bool = True
    correction: bool = True
    noise: Root = "members"

    State: ClassVar[type] = ALDIState
    aim: ClassVar[Aim] = "posterior"
    normalisation: ClassVar[Normalisation] = "1/J"
    linear_over: ClassVar[LinearOver] = "last"

    def __post_init__(self) -> None:
        check_schedule(self.step)
        put(
            self,
            t_end=number("t_end", self.t_end, above=0),
            h_max=number("h_max", self.h_max, above=0),
            tempered=flag("tempered", self.tempered),
            correction=flag("correction", self.correction),
            noise=one_of("noise", self.noise, _ROOTS),
        )

    def init(self, ensemble: Array, target: Target) -> ALDIState:
        """The state before the first step.

        Raises
        ------
        TypeError
            If a step sees a part of the data.
        ValueError
            If all members are the same, or there are too few of them for the correction.
        """
        check_all_data(target, "ALDI")
        variance = initial_variance(ensemble)
        if self._too_few(ensemble):
            n, p = ensemble.shape
            raise ValueError(
                f"n_members: must be at least p + 2 = {p + 2} for ALDI with its correction, got "
                f"{n} for p = {p} parameters. Use more members, fewer parameters, or "
                "correction=False, which samples within the span of the members with too little "
                "spread."
            )
        return ALDIState(ensemble, 0, 0.0, variance, variance, None, 0, 0.0, 0.0)

    def ask(self, state: ALDIState) -> Array:
        """The members at which G is wanted, ``(J, p)``."""
        return state.ensemble

    def finished(self, state: ALDIState) -> Status | None:
        """The final status once Σh reaches t_end; None before."""
        return self._ended(state) if state.t >= self.t_end else None

    def tell(
        self, state: ALDIState, g: Array, target: Target, *, rng: np.random.Generator
    ) -> tuple[ALDIState, StepInfo]:
        """One step. At the end of the run the state is returned unchanged."""
        u, loss = state.ensemble, target.noise
        spread = math.sqrt(state.variance / state.initial_variance)
        with np.errstate(over="ignore", invalid="ignore"):  # an overflow ends the run
            misfit = host(loss.misfit(g, target.data)).astype(np.float64)
            gradient = loss.gradient(g, target.data)
            w = target.prior.whiten(u)
            fit = local_fit(w, gradient, g)
        numbers = {name: Reported(getattr(fit, name), long) for name, long in _NAMES.items()}
        info = StepInfo(0.0, misfit, self.finished(state), spread, extra=numbers)
        if info.status is None and self._too_few(u):
            info = info._replace(status=_members_lost(u))
        if info.status is not None:
            return state, info

        if state.t < 1 and self.tempered and isinstance(loss, NoiseModel):
            r = whitened_residual(g, target)
            h, t = choose_step(self.step, state.n, state.t, 1.0, r, misfit)
            new = state._replace(ensemble=tempered_analysis(u, r, h, rng), t=t)
            return self._moved(state, new, info, h)
        seen = Seen(
            state.n,
            state.t,
            self.t_end - state.t,
            misfit,
            int(g.shape[1]),
            lambda: d_norm(gradient, g),
        )
        with np.errstate(over="ignore", invalid="ignore"):
            following = min(rule_step(self.step, seen), self.h_max)
            h = following if state.kick is None else state.kick.h
            w, kick = langevin_step(
                w,
                fit,
                state.kick,
                following,
                rng,
                correction=self.correction,
                by_members=self.noise == "members",
            )
            ensemble = target.prior.unwhiten(w)
        new = self._counted(state, fit)._replace(ensemble=ensemble, t=state.t + h, kick=kick)
        return self._moved(state, new, info, h)

    def select(self, state: ALDIState, index: np.ndarray) -> ALDIState:
        """The state of the members ``index``, each with its noise."""
        return self.map_members(state, lambda kept: take_rows(kept, index), index)

    def map_members(
        self,
        state: ALDIState,
        rows: Callable[[Array], Array],
        index: np.ndarray,  # noqa: ARG002 - the contract's argument
    ) -> ALDIState:
        """The state with ``rows`` of the ensemble and of the next step's noise and divergence.

        The members already contain half of that noise. A combination of members therefore has the
        same combination of the noise.
        """
        ensemble, kick = rows(state.ensemble), state.kick
        if kick is not None:
            kick = kick._replace(noise=rows(kick.noise), divergence=rows(kick.divergence))
        return state._replace(ensemble=ensemble, variance=total_variance(ensemble), kick=kick)

    def _moved(
        self, state: ALDIState, new: ALDIState, info: StepInfo, h: float
    ) -> tuple[ALDIState, StepInfo]:
        """The state after a step. After an overflow, the old state with a status."""
        with np.errstate(over="ignore", invalid="ignore"):
            variance = total_variance(new.ensemble)
        if not math.isfinite(variance):
            status = diverged(
                f"The update of step {state.n} with h = {h:.4g}",
                "Use a smaller h_max or a narrower prior.",
            )
            return state, info._replace(status=status)
        return new._replace(n=state.n + 1, variance=variance), info._replace(step=h)

    def _too_few(self, u: Array) -> bool:
        return self.correction and int(u.shape[0]) <= int(u.shape[1]) + 1

    def _counted(self, state: ALDIState, fit: LocalFit) -> ALDIState:
        """The state with the two numbers of its ensemble added, in the second half of the run."""
        if state.t < self.t_end / 2:
            return state
        return state._replace(
            counted=state.counted + 1,
            ratios=state.ratios + fit.covariance_ratio,
            offsets=state.offsets + fit.mean_offset,
        )

    def _ended(self, state: ALDIState) -> Status:
        """The status at t_end, by the stationarity of the second half of the run."""
        (n, p), m = state.ensemble.shape, state.counted
        if m < _LEAST:
            return Status(
                "not_stationary",
                f"The run is too short for a statement about stationarity: its second half had {m} "
                f"steps of the sampler, and at least {_LEAST} are needed. Use a larger t_end.",
            )
        ratio, offset = state.ratios / m, state.offsets / m
        found = (
            f"over the second half of the run ({m} ensembles) the covariance was {ratio:.3g} times "
            f"that of the posterior of the linear fit, and the mean was {offset:.2g} posterior "
            "standard deviations from the point of zero drift"
        )
        # tr(C H)/k of independent Gaussian members has the variance 2/(k (n − 1)). Two ensembles
        # are nearly independent if they are two units of t, or two steps, apart.
        independent = max(min(m, state.t - self.t_end / 2) / 2, 1)
        error = math.sqrt(2 / (min(p, n - 1) * (n - 1) * independent))
        if abs(ratio - 1) <= 0.1 + 2 * error and offset <= 0.1 + 2 / math.sqrt(n):
            return Status(
                "posterior_reached",
                f"Finished: the ensemble is stationary ({found}). {CHECK_NEXT}",
                level="good",
                posterior=True,
            )
        remedy = "Use a larger t_end, or a smaller h_max if the model is strongly nonlinear" + (
            "." if self.correction else ", or correction=True with more than p + 1 members."
        )
        return Status("not_stationary", f"The ensemble is not stationary: {found}. {remedy}")


def _members_lost(u: Array) -> Status:
    n, p = u.shape
    return Status(
        "too_few_members",
        f"Only {n} members are left for {p} parameters, and the correction needs at least p + 2 = "
        f'{p + 2}: this is the last ensemble. Use more members, or on_failure="retry".',
        level="bad",
    )
