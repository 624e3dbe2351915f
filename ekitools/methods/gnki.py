"""Gauss–Newton Kalman inversion: refinement with the slope of the model near the posterior."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias, get_args

import numpy as np

from ekitools.core.arrays import take_rows
from ekitools.core.checks import check_schedule, integer, number, one_of, put
from ekitools.core.draws import standard_normal
from ekitools.linalg import total_variance
from ekitools.methods.gauss_newton import (
    LEAST,
    Span,
    adapted,
    newton_step,
    objectives,
    relative_size,
)
from ekitools.methods.gaussian import GaussianStart
from ekitools.methods.refining import (
    DRAWS,
    Draws,
    GNKIState,
    Refining,
    check_members,
    progress,
    rose,
    settled,
    spent,
)
from ekitools.methods.shared import (
    check_all_data,
    diverged,
    misfits,
    tempered_analysis,
    whitened_residual,
)
from ekitools.methods.steps import MisfitController, choose_step, given_up
from ekitools.methods.unknown_noise import (
    ROUNDS,
    checked_start,
    misfits_of_members,
    refined_with_scales,
    tempered_with_scales,
)
from ekitools.typing import (
    Aim,
    Array,
    LinearOver,
    Normalisation,
    ScaledNoise,
    Schedule,
    Status,
    StepInfo,
    Target,
)

__all__ = ["GNKI"]

Start: TypeAlias = Literal["eki", "prior"]
_STARTS: tuple[Start, ...] = get_args(Start)

_HALF = 0.5
"""First damping from the prior, because a full step may be far too long. With unknown scales of the
noise it is the damping of all refinements."""


@dataclass(frozen=True)
class GNKI:
    r"""Gauss–Newton Kalman inversion: EKI, then refinements that remove most of its bias.

    EKI estimates the slope of G from an ensemble that is as broad as the prior. If G is nonlinear,
    this slope is not the slope at the posterior, and EKI has a bias. GNKI first runs EKI to Σh = 1.
    The ensemble is then near the posterior. The refinements use the slope of this ensemble. Every
    member solves a randomised maximum a posteriori problem with the data y + η_j and with a prior
    centred at a draw m_j ~ μ₀. A refinement is a damped Gauss–Newton step,

    .. math::
        u_j \leftarrow u_j + \alpha \{m_j - u_j
        + K (y + \eta_j - G(u_j) - H (m_j - u_j))\}, \qquad
        K = C_0 H^T (H C_0 H^T + \Gamma)^{-1}.

    H is the linear regression of G on u over the present ensemble (statistical linearisation
    [1]_, [2]_). m_j and η_j are drawn once, so the iteration converges. For a linear G and J > p,
    one step with α = 1 gives exact samples of the posterior. For a nonlinear G the samples are
    approximate, without the bias from the broad prior.

    With J ≤ p members, a regression cannot find the slope in directions that the members do not
    span. The refinements then stay in the affine span of the initial ensemble, as EKI does. The
    sample covariance of the initial ensemble takes the place of C₀, and its members take the place
    of m_j. For a linear G the members are exact samples of the posterior under this prior. EKI has
    the same prior. GNKI has no localization, because a local analysis leaves the span. Use
    ``ETKI(localization=...)`` or ``EKI(localization=...)`` for such problems.

    If the noise has unknown scales s (`UnknownNoise`), every member has its own s_j. It is drawn
    from p(s | y) under the linear model of the member, with the parameters integrated out. The
    member is then refined with the noise level s_j. For a linear G the linear model is exact, and
    the pair (u_j, s_j) is a draw from the joint posterior, without burn-in. Four rounds of a Gibbs
    sampler draw several scales, and the parameters stay integrated out. The random numbers of s_j
    are drawn once, so the iteration converges.

    Parameters
    ----------
    step : Schedule, default MisfitController()
        Step rule of the EKI phase.
    damping : float or "adaptive", default "adaptive"
        The factor α in (0, 1]. "adaptive" starts from 1, or from 0.5 with ``start="prior"``, and
        compares the mean of ½‖u_j − m_j‖²_{C₀} + ½‖y + η_j − G(u_j)‖²_Γ over the members with its
        value under the linear model. If the mean has fallen by three quarters of the predicted fall
        or more, α is doubled, up to 1. If it has fallen by less than half, α is halved. If it has
        risen, the members go back by half of their last move. With unknown scales of the noise
        "adaptive" is 0.5 throughout.
    refinements : int, default 20
        Largest number of Gauss–Newton steps.
    rtol : float, default 0.02
        Tolerance for the distance of the members from their limit, in standard deviations of the
        ensemble. The distance is estimated by the root mean square of the last move, or of the part
        of the move that damping left undone if this part is larger. The refinements also end after
        five steps without progress.
    start : {"eki", "prior"} or GaussianStart, default "eki"
        First ensemble of the refinements: the ensemble of EKI, the initial ensemble, or draws from
        a Gaussian of an earlier run. "prior" takes the initial members for m_j and saves the model
        runs of EKI. It converges only if the slope of G changes little over the prior.
    draws : {"kept", "fresh"}, default "kept"
        "kept" draws m_j and η_j once. "fresh" draws them at every refinement, with the variances
        C₀(2 − α)/α and Γ(2 − α)/α. The ensemble then becomes stationary, and for a linear G its
        covariance is exact for every α. Use "fresh" with ``damping=0.2`` for stochastic models,
        whose outputs differ at every refinement. It needs J > p and known scales of the noise.

    Raises
    ------
    TypeError, ValueError
        If an option is of the wrong kind or out of range.

    See Also
    --------
    EKI : The first phase alone.
    GaussianStart : A start from an earlier ensemble.
    TemperedSMC : The posterior without the linear model, for more model runs.

    References
    ----------
    .. [1] Chada, Chen & Sanz-Alonso (2021), Foundations of Data Science 3, 331-369.
    .. [2] Raanes, Stordal & Evensen (2019), Nonlin. Processes Geophys. 26, 325-338.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> problem = ek.InverseProblem(
    ...     ek.FunctionModel(lambda u: np.exp(u)), ek.GaussianPrior(0.0, [4.0]), 0.01, [3.0])
    >>> result = ek.run(problem, ek.GNKI(), n_members=500, rng=0)
    >>> bool(abs(ek.posterior(result).u0.mean() - np.log(3)) < 0.01)
    True
    """

    step: Schedule = MisfitController()
    damping: float | Literal["adaptive"] = "adaptive"
    refinements: int = 20
    rtol: float = 0.02
    start: Start | GaussianStart = "eki"
    draws: Draws = "kept"

    State: ClassVar[type] = GNKIState
    aim: ClassVar[Aim] = "posterior"
    normalisation: ClassVar[Normalisation] = "1/(J-1)"
    linear_over: ClassVar[LinearOver] = "last"
    estimates_noise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_schedule(self.step)
        remedy = 'Use "adaptive" to have it chosen by the misfit.'
        put(
            self,
            refinements=integer("refinements", self.refinements),
            rtol=number("rtol", self.rtol, above=0),
            draws=one_of("draws", self.draws, DRAWS),
        )
        damping: Any = self.damping
        if not (isinstance(damping, str) and damping == "adaptive"):
            put(self, damping=number("damping", damping, above=0, most=1, remedy=remedy))
        start: Any = self.start
        if isinstance(start, GaussianStart):
            return
        if not (isinstance(start, str) and start in _STARTS):
            raise ValueError(
                f'start: must be "eki", "prior" or an ek.GaussianStart, got {start!r:.60}.'
            )
        put(self, start=str(start))

    def init(self, ensemble: Array, target: Target) -> GNKIState:
        """The state before the first step.

        Raises
        ------
        TypeError
            If the problem has another loss than Gaussian noise, or a step sees a part of the data.
        ValueError
            If all members are the same. If there are no more members than parameters, and the draws
            are fresh or the scales of the noise are unknown. If the start has another number of
            parameters.
        """
        check_all_data(target, "GNKI, which fits every member to the same perturbed data")
        variance = checked_start(ensemble, target, "GNKI")
        unknown = isinstance(target.noise, ScaledNoise)
        check_members(ensemble, target, self.draws)
        anchors = None if unknown else target.prior.whiten(ensemble)
        if isinstance(self.start, GaussianStart):
            ensemble = self.start.moved(ensemble, target.prior)
            variance = total_variance(ensemble)
        damping = _HALF if unknown or self.start == "prior" else 1.0
        refining = Refining(damping if isinstance(self.damping, str) else self.damping)
        return GNKIState(ensemble, 0, 0.0, variance, variance, 0, refining, anchors, None)

    def ask(self, state: GNKIState) -> Array:
        """The members at which G is wanted, ``(J, p)``."""
        return state.ensemble

    def finished(self, state: GNKIState) -> Status | None:
        """Set after the refinements have converged, made no progress, or are spent."""
        status = settled(state.refining, self.rtol, fresh=self.draws == "fresh")
        if status is not None or state.refined < self.refinements:
            return status
        return spent(state.refining, self.refinements, self.rtol)

    def tell(
        self, state: GNKIState, g: Array, target: Target, *, rng: np.random.Generator
    ) -> tuple[GNKIState, StepInfo]:
        """One step of either phase. At the end of the run the state is returned unchanged."""
        unknown = isinstance(target.noise, ScaledNoise)
        with np.errstate(over="ignore", invalid="ignore"):  # an overflow ends the run
            r = g if unknown else whitened_residual(g, target)
            misfit = misfits_of_members(state.ensemble, g, target)[0] if unknown else misfits(r)
        spread = math.sqrt(state.variance / state.initial_variance)
        status = self.finished(state)
        if status is None and self._tempers(state):
            status = given_up(self.step, state.n, state.t, 1.0, misfit, int(g.shape[1]))
        if status is not None:
            return state, StepInfo(0.0, misfit, status, spread)
        with np.errstate(over="ignore", invalid="ignore"):
            if unknown:
                following, h = self._followed_with_scales(state, g, target, rng)
            else:
                following, h = self._followed(state, r, misfit, target, rng)
            variance = total_variance(following.ensemble)
        if not math.isfinite(variance):
            status = diverged(
                f"The update of step {state.n} with h = {h:.4g}",
                "Use smaller steps or a prior under which the model stays finite.",
            )
            return state, StepInfo(0.0, misfit, status, spread)
        return following._replace(n=state.n + 1, variance=variance), StepInfo(
            h, misfit, None, spread
        )

    def select(self, state: GNKIState, index: np.ndarray) -> GNKIState:
        """The state of the members ``index``."""
        return self.map_members(state, lambda kept: take_rows(kept, index), index)

    def map_members(
        self,
        state: GNKIState,
        rows: Callable[[Array], Array],
        index: np.ndarray,  # noqa: ARG002 - the contract's argument
    ) -> GNKIState:
        """The state with ``rows`` of the ensemble, of its anchors and of its draws.

        For a linear G, a combination of refined members has the same combination of anchors and
        draws.
        """
        ensemble = rows(state.ensemble)
        kept = ("anchors", "draws", "move", "scores")
        held = {name: getattr(state, name) for name in kept}
        held = {name: rows(each) for name, each in held.items() if each is not None}
        variance = total_variance(ensemble)
        return state._replace(ensemble=ensemble, variance=variance, **held)

    def _tempers(self, state: GNKIState) -> bool:
        """Whether the next step is one of EKI."""
        return self.start == "eki" and state.t < 1

    def _followed(
        self,
        state: GNKIState,
        r: Array,
        misfit: np.ndarray,
        target: Target,
        rng: np.random.Generator,
    ) -> tuple[GNKIState, float]:
        """The state after one step of either phase, and the step."""
        if self._tempers(state):
            h, t = choose_step(self.step, state.n, state.t, 1.0, r, misfit)
            return state._replace(ensemble=tempered_analysis(state.ensemble, r, h, rng), t=t), h
        w = target.prior.whiten(state.ensemble)
        if state.draws is None:
            anew = self.start == "eki" and int(w.shape[0]) > int(w.shape[1])
            anchors = standard_normal(rng, tuple(w.shape), w) if anew else state.anchors
            draws = standard_normal(rng, tuple(r.shape), r)
            state = state._replace(anchors=anchors, draws=draws)
        return self._refined(state, w, r, target, rng)

    def _refined(
        self, state: GNKIState, w: Array, r: Array, target: Target, rng: np.random.Generator
    ) -> tuple[GNKIState, float]:
        """One Gauss–Newton step in coordinates in which the prior is N(0, I), and its damping."""
        n, p = (int(size) for size in w.shape)
        span = Span.of(state.anchors) if n <= p else None
        x, m = ((w if span is None else span.coordinates(w)), state.anchors)
        m = m if span is None else span.coordinates(m)
        objective = float(np.mean(objectives(x, r, m, state.draws)))
        old, damping = state.refining, state.refining.damping
        if state.move is not None and damping > LEAST and rose(old.objective, objective):
            half = 0.5 * state.move  # back by half of the last move
            back = target.prior.unwhiten(w - half)
            refining = old._replace(damping=damping / 2)
            state = state._replace(ensemble=back, move=half, refining=refining)
            return state._replace(refined=state.refined + 1), damping / 2
        if state.move is not None:
            damping = adapted(damping, old.objective - objective, old.gain)
        level = objective
        if self.draws == "fresh" and span is None:
            sd = math.sqrt(2 / damping - 1)
            m, draws = (standard_normal(rng, tuple(a.shape), a, sd) for a in (w, r))
            state = state._replace(anchors=m, draws=draws)
            objective = float(np.mean(objectives(x, r, m, draws)))
            level = float(np.mean(objectives(x, r, 0 * m, 0 * draws)))
        newton = newton_step(x, r, m, state.draws)
        full = newton.step if span is None else newton.step @ span.rows
        # only members of another start, and rounding errors, are outside the span
        inside = w if span is None else span.members(x)
        change = relative_size(full, w) * max(damping, 1 - damping)
        gain = float(np.mean(newton.gain))
        new = Refining(damping, change, objective, newton.rest, gain, level)
        state = state._replace(
            ensemble=target.prior.unwhiten(inside + damping * full),
            t=min(1.0, state.t + damping),  # from the prior a step covers the share α of the way
            refined=state.refined + 1,
            refining=progress(old, new),
            move=damping * full if self.damping == "adaptive" else None,
        )
        return state, damping

    def _followed_with_scales(
        self, state: GNKIState, g: Array, target: Target, rng: np.random.Generator
    ) -> tuple[GNKIState, float]:
        """As `_followed`, for unknown scales of the noise."""
        if self._tempers(state):
            new = tempered_with_scales(state, g, target, self.step, rng)
            return state._replace(ensemble=new.ensemble, t=new.t, scaling=new.scaling), new.h
        if state.anchors is None:
            (n, p), n_scales = state.ensemble.shape, target.noise.n_scales
            anchors = rng.standard_normal((n, p - n_scales))
            draws = rng.standard_normal(tuple(g.shape))
            scores = rng.standard_normal((n, ROUNDS * n_scales))
            state = state._replace(anchors=anchors, draws=draws, scores=scores)
        damping = state.refining.damping
        ensemble, change = refined_with_scales(state, g, target, damping)
        misfit = float(np.mean(np.sum(misfits_of_members(state.ensemble, g, target), axis=0)))
        latest = Refining(damping, change, misfit, level=misfit)
        state = state._replace(
            ensemble=ensemble,
            t=min(1.0, state.t + damping),
            refined=state.refined + 1,
            refining=progress(state.refining, latest),
        )
        return state, damping
