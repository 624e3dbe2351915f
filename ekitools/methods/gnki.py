"""Gauss–Newton Kalman inversion: EKI first, then refinement where the posterior is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from ekitools.core.arrays import array_namespace, host, like, take_rows
from ekitools.core.checks import check_schedule, integer, number, put
from ekitools.linalg import frobenius, total_variance
from ekitools.methods.shared import (
    check_all_data,
    misfits,
    slope_on_span,
    tempered_analysis,
    whitened_residual,
)
from ekitools.methods.steps import MisfitController, choose_step, given_up
from ekitools.methods.unknown_noise import (
    ROUNDS,
    Scaling,
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

__all__ = ["GNKI", "GNKIState"]

_LOSS = 1e-9
"""Largest error of a refinement, relative to its length, that squares may cause."""


class GNKIState(NamedTuple):
    """What the next step needs."""

    ensemble: Array
    n: int
    t: float
    variance: float
    initial_variance: float
    refined: int
    """Refinements made."""
    change: float
    """Root mean square move of the last refinement, in ensemble standard deviations."""
    anchors: Array | None
    """Whitened draws of the prior, one for every member, ``(J, p)``; drawn at t = 1."""
    draws: Array | None
    """Whitened perturbations of the data, ``(J, d)``."""
    scaling: Scaling | None = None
    """Where the scales of the noise are not known."""
    scores: Array | None = None
    """Normal scores of the scales, ``(J, rounds B)``, likewise; drawn at t = 1."""


@dataclass(frozen=True)
class GNKI:
    r"""Gauss–Newton Kalman inversion: the bias of EKI for a nonlinear G, mostly removed.

    EKI inherits the slope of G from an ensemble as broad as the prior. Once it has reached
    Σh = 1, the ensemble is where the posterior is, and its own slope there is the right one.
    From then on every member solves its own randomised maximum a posteriori problem, with
    data y + η_j and a prior centred at its own draw m_j ~ μ₀, by damped Gauss–Newton steps

    .. math::
        u_j \leftarrow u_j + \alpha \{m_j - u_j
        + K (y + \eta_j - G(u_j) - H (m_j - u_j))\}, \qquad
        K = C_0 H^T (H C_0 H^T + \Gamma)^{-1},

    where H is the linear regression of G on u over the present ensemble (statistical
    linearisation [1]_, [2]_), in the subspace the ensemble spans. The m_j and η_j are drawn
    once, so the iteration converges. For a linear G one step with α = 1 gives exact posterior
    samples, for any J > p; in general it samples approximately, without the bias of a
    broad prior. With J ≤ p the refinement moves along the ensemble's span only and follows
    the prior elsewhere.

    Where the scales s of the noise are not known (`UnknownNoise`), every member also has its own
    s_j. It is drawn from p(s | y) with the parameters integrated out, under the linear model that
    the member is refined by. The member is then refined with the noise level s_j. For a linear G
    all members have the same linear model, and it is exact. So s_j is a draw from p(s | y), u_j a
    draw from p(u | s_j, y), and the pair a draw from the joint posterior, without any burn-in
    (several scales are drawn in four rounds of a Gibbs sampler, in which the parameters stay
    integrated out). An alternation of s_j given u_j with u_j given s_j has the same limit, but one
    refinement, a model run a member, for each of its dependent sweeps, and it can stay where large
    scales and a bad fit confirm each other. The random numbers behind s_j are drawn once, like m_j
    and η_j, so the iteration converges.

    Parameters
    ----------
    step : Schedule, default MisfitController()
        Step rule of the EKI phase.
    damping : float, default 0.5
        α in (0, 1].
    refinements : int, default 20
        Most Gauss–Newton steps made.
    rtol : float, default 0.02
        They end where the root mean square move of the members, in units of the ensemble's
        standard deviations, has come below rtol.

    Raises
    ------
    TypeError, ValueError
        If an option is of the wrong kind or out of range.

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
    damping: float = 0.5
    refinements: int = 20
    rtol: float = 0.02

    State: ClassVar[type] = GNKIState
    aim: ClassVar[Aim] = "posterior"
    normalisation: ClassVar[Normalisation] = "1/(J-1)"
    linear_over: ClassVar[LinearOver] = "last"
    estimates_noise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_schedule(self.step)
        put(
            self,
            damping=number("damping", self.damping, above=0, most=1),
            refinements=integer("refinements", self.refinements),
            rtol=number("rtol", self.rtol, above=0),
        )

    def init(self, ensemble: Array, target: Target) -> GNKIState:
        """The state before the first step.

        Raises
        ------
        TypeError
            If the problem has another loss than Gaussian noise, or a step sees a part of the data.
        ValueError
            If all members are the same.
        """
        check_all_data(target, "GNKI, which fits every member to the same perturbed data")
        variance = checked_start(ensemble, target, "GNKI")
        return GNKIState(ensemble, 0, 0.0, variance, variance, 0, math.inf, None, None)

    def ask(self, state: GNKIState) -> Array:
        """The members at which G is wanted, ``(J, p)``."""
        return state.ensemble

    def finished(self, state: GNKIState) -> Status | None:
        """Set once the refinement has converged or used up its steps."""
        if state.change <= self.rtol:
            return Status(
                "posterior_reached",
                f"The refinement converged: its last step moved the members by {state.change:.3g} "
                "standard deviations. The ensemble approximates the posterior.",
                level="good",
                posterior=True,
            )
        if state.refined < self.refinements:
            return None
        return Status(
            "refinements_spent",
            f"All {self.refinements} refinements were made; the last one still moved the members "
            f"by {state.change:.3g} standard deviations (rtol = {self.rtol:g}). Look at the "
            "misfit; allow more refinements, or a smaller damping if it does not settle.",
        )

    def tell(
        self, state: GNKIState, g: Array, target: Target, *, rng: np.random.Generator
    ) -> tuple[GNKIState, StepInfo]:
        """One step of either phase, or the end: then the state is returned as it was."""
        unknown = isinstance(target.noise, ScaledNoise)
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows ends the run
            r = g if unknown else whitened_residual(g, target)
            misfit = misfits_of_members(state.ensemble, g, target)[0] if unknown else misfits(r)
        spread = math.sqrt(state.variance / state.initial_variance)
        status = self.finished(state)
        if status is None and state.t < 1:
            status = given_up(self.step, state.n, state.t, 1.0, misfit, target.n_data)
        if status is not None:
            return state, StepInfo(0.0, misfit, status, spread)
        with np.errstate(over="ignore", invalid="ignore"):
            if unknown:
                following, h = self._followed_with_scales(state, g, target, rng)
            else:
                following, h = self._followed(state, r, misfit, target, rng)
            variance = total_variance(following.ensemble)
        if not math.isfinite(variance):
            status = Status(
                "diverged",
                f"The update of step {state.n} with h = {h:.4g} overflowed: this is the last "
                "good ensemble. Use smaller steps or a prior that keeps the model tame.",
                level="bad",
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
        """The state with ``rows`` of the ensemble and, alike, of its anchors and draws.

        For a linear G a combination of members that have been refined has the same combination
        of their anchors and draws for its own.
        """
        ensemble = rows(state.ensemble)
        kept = ("anchors", "draws", "scores")
        held = {name: getattr(state, name) for name in kept}
        held = {name: rows(each) for name, each in held.items() if each is not None}
        variance = total_variance(ensemble)
        return state._replace(ensemble=ensemble, variance=variance, **held)

    def _followed(
        self,
        state: GNKIState,
        r: Array,
        misfit: np.ndarray,
        target: Target,
        rng: np.random.Generator,
    ) -> tuple[GNKIState, float]:
        """The state after one step of either phase, and the step."""
        if state.t < 1:
            h, t = choose_step(self.step, state.n, state.t, 1.0, r, misfit)
            return state._replace(ensemble=tempered_analysis(state.ensemble, r, h, rng), t=t), h
        if state.anchors is None:
            shapes = tuple(state.ensemble.shape), tuple(r.shape)
            anchors, draws = (like(rng.standard_normal(shape), r) for shape in shapes)
            state = state._replace(anchors=anchors, draws=draws)
        ensemble, change = self._refined(state, r, target)
        state = state._replace(ensemble=ensemble, refined=state.refined + 1, change=change)
        return state, self.damping

    def _followed_with_scales(
        self, state: GNKIState, g: Array, target: Target, rng: np.random.Generator
    ) -> tuple[GNKIState, float]:
        """As `_followed`, where the scales of the noise are not known."""
        if state.t < 1:
            new = tempered_with_scales(state, g, target, self.step, rng)
            return state._replace(ensemble=new.ensemble, t=new.t, scaling=new.scaling), new.h
        if state.anchors is None:
            (n, p), n_scales = state.ensemble.shape, target.noise.n_scales
            anchors = rng.standard_normal((n, p - n_scales))
            draws = rng.standard_normal(tuple(g.shape))
            scores = rng.standard_normal((n, ROUNDS * n_scales))
            state = state._replace(anchors=anchors, draws=draws, scores=scores)
        ensemble, change = refined_with_scales(state, g, target, self.damping)
        state = state._replace(ensemble=ensemble, refined=state.refined + 1, change=change)
        return state, self.damping

    def _refined(self, state: GNKIState, r: Array, target: Target) -> tuple[Array, float]:
        """One damped Gauss–Newton step in coordinates whitened by the prior.

        The regression is H = B Vᵀ (`slope_on_span`), and (I + HᵀH)⁻¹Hᵀ = V (I + BᵀB)⁻¹ Bᵀ:
        nothing is p × p.
        """
        w = target.prior.whiten(state.ensemble)
        xp = array_namespace(w)
        right, slope = slope_on_span(w, r)
        gap = state.anchors - w  # m_j − u_j
        innovation = (  # y + η_j − G(u_j) − H (m_j − u_j), whitened
            state.draws - r - (gap @ xp.matrix_transpose(right)) @ xp.matrix_transpose(slope)
        )
        # K = V (I + BᵀB)⁻¹ Bᵀ, and the step α {m_j − u_j + K (...)}
        move = gap + _regularised(innovation, slope) @ right
        move = self.damping * move
        sd = host(xp.std(w, axis=0, correction=1))
        spread = sd > 0
        relative = host(move)[:, spread] / sd[spread]
        change = float(np.sqrt(np.mean(relative**2)))
        return target.prior.unwhiten(w + move), change


def _regularised(rows: Array, slope: Array) -> Array:
    """``rows`` B(I + BᵀB)⁻¹, ``(J, rank)``; by the SVD of B where BᵀB has too few digits.

    Rounding in BᵀB changes the result by at most ε‖B‖² of itself. With the thin SVD B = Q σ Zᵀ,
    which squares nothing, B(I + BᵀB)⁻¹ = Q diag(σ / (1 + σ²)) Zᵀ.
    """
    xp = array_namespace(slope)
    size, eps = frobenius(slope), float(xp.finfo(slope.dtype).eps)
    if not math.isfinite(size):
        return xp.full_like(rows[:, :1] * slope[:1, :], math.inf)
    if size <= math.sqrt(max(_LOSS / eps, 100)):
        system = xp.matrix_transpose(slope) @ slope + like(np.eye(int(slope.shape[1])), slope)
        solved = xp.linalg.solve(system, xp.matrix_transpose(rows @ slope))
        return xp.matrix_transpose(solved)
    left, s, right = xp.linalg.svd(slope, full_matrices=False)
    s = xp.where(s > 1e-30, s, xp.full_like(s, 1e-30))
    weights = 1 / (s + 1 / s)  # σ / (1 + σ²), where σ² may overflow
    return ((rows @ left) * weights) @ right
