"""Kalman updates for learning, with the curvature of a loss in place of Γ⁻¹."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ekitools.core.arrays import array_namespace, double, host, is_numpy, like, take_rows
from ekitools.core.checks import integer, number, put
from ekitools.core.fetching import fetched
from ekitools.linalg import anomaly_products, combine_anomalies, solve_spd
from ekitools.linalg.gram import solved
from ekitools.linalg.products import total_variance_there
from ekitools.methods.shared import averaged, initial_variance
from ekitools.methods.spread import drawn_around
from ekitools.typing import (
    Aim,
    Array,
    CurvedLoss,
    Normalisation,
    Reported,
    Status,
    StepInfo,
    Target,
)

__all__ = ["CurvatureEKI", "CurvatureEKIState"]


class CurvatureEKIState(NamedTuple):
    """State of `CurvatureEKI` between two steps."""

    ensemble: Array
    n: int
    t: float
    initial_variance: float
    """Trace of the initial ensemble's covariance."""
    past: Array
    """Latest steps of the mean, each scaled to the length of a draw of the prior, ``(k, p)``."""
    average: Array
    """Average of the mean over the previous steps, ``(1, p)``; ``(0, p)`` without an average."""


@dataclass(frozen=True)
class CurvatureEKI:
    r"""Kalman analysis of the mean, with the curvature of any loss in place of Γ⁻¹.

    The members u_j = ū + γξ_j lie close to their mean. The deviations ξ_j follow the prior and are
    redrawn at every step. To first order G(ū + Σ w_j ξ_j) = Ḡ + Σ w_j f_j with the differences
    f_j = (G(u_j) − Ḡ)/γ. To second order in w the loss of m samples and a penalty are

    .. math::
        \tfrac1m \Psi\Big(\bar G + \sum_j w_j f_j\Big) + \tfrac\lambda2 \|w\|^2
        \approx \tfrac1m \Psi(\bar G) + g^T w + \tfrac12 w^T (S + \lambda I) w, \\
        g_j = \tfrac1m \langle f_j, \nabla\Psi(\bar G) \rangle, \qquad
        S_{jk} = \tfrac1m \langle f_j, H f_k \rangle, \qquad H = \nabla^2_z \Psi(\bar G),

    The minimiser w = −(S + λI)⁻¹ g gives the step ū ← ū + Σ w_j ξ_j. For least squares H = Γ⁻¹, and
    the step is the analysis of `kalman_update` for the mean, with the noise λmΓ. For any other loss
    the step is a damped generalised Gauss–Newton step in the span of the members, without a
    derivative of G [1]_. Far from its minimum cross-entropy is nearly linear and does not bound the
    step. The length of w is therefore cut at ``radius``. A batch should have many more outputs than
    there are members (10 m ≫ J for ten classes). Otherwise every step overfits its batch.

    The run starts at the first member of the initial ensemble. The other members give the first
    deviations. The prediction is the mean, ``result.u[-1].mean("member")``.

    Parameters
    ----------
    gamma : float, default 0.02
        Size γ > 0 of the deviations. It should be small enough that G is close to linear over the
        ensemble, and large compared with rounding errors.
    damping : float, default 1
        Damping λ > 0, the inverse of a step size.
    radius : float, default 0.4
        Largest ‖w‖. In one step the mean moves by at most about ``radius`` times the length of a
        prior draw. Use ``math.inf`` for no bound.
    memory : int, default 0
        Number of recent steps of the mean that are added as members, each scaled to the length of a
        draw. They keep directions that were successful. Use it only with large batches, because
        steps from small batches are mostly noise.
    averaging : float, default 0
        Weight a < 1 of the past in an exponential average of the mean over the steps. The average
        reduces the noise of batches, and the result holds it as
        ``u_average(iteration, parameter)``. Use 0 for no average.

    Raises
    ------
    TypeError, ValueError
        If an option is of the wrong kind or out of range.

    See Also
    --------
    LossEKI : Explicit steps for any loss, also without a curvature.
    CrossEntropy, BinaryCrossEntropy, Huber : Losses with a curvature.

    References
    ----------
    .. [1] Kovachki & Stuart (2019), Inverse Problems 35, 095005; for the curvature, Schraudolph
       (2002), Neural Computation 14, 1723-1738.

    Examples
    --------
    Logistic regression estimates the slope and the offset of log-odds from labels.

    >>> import numpy as np
    >>> import ekitools as ek
    >>> x = np.linspace(-3, 3, 200)
    >>> labels = (np.random.default_rng(0).uniform(size=200) < 1 / (1 + np.exp(1 - 2 * x)))
    >>> model = ek.LinearModel(np.stack([np.ones(200), x], axis=1))
    >>> problem = ek.InverseProblem(
    ...     model, ek.GaussianPrior([0.0, 0.0], 1.0), ek.BinaryCrossEntropy(), labels)
    >>> result = ek.run(problem, ek.CurvatureEKI(), n_members=20, n_steps=20, rng=0)
    >>> result.u[-1].mean("member").values.round(1)  # maximum likelihood
    array([-1.3,  2.2])
    """

    gamma: float = 0.02
    damping: float = 1.0
    radius: float = 0.4
    memory: int = 0
    averaging: float = 0.0

    State: ClassVar[type] = CurvatureEKIState
    aim: ClassVar[Aim] = "fit"
    normalisation: ClassVar[Normalisation] = "1/J"

    def __post_init__(self) -> None:
        put(
            self,
            gamma=number("gamma", self.gamma, above=0),
            damping=number("damping", self.damping, above=0),
            radius=number(
                "radius", self.radius, above=0, infinite=True, remedy="Use math.inf for no bound."
            ),
            averaging=number("averaging", self.averaging, least=0, below=1),
            memory=integer("memory", self.memory, least=0),
        )

    def init(self, ensemble: Array, target: Target) -> CurvatureEKIState:
        """The state before the first step, around the first member of ``ensemble``.

        Raises
        ------
        ValueError
            If all members are the same.
        TypeError
            If the loss has no curvature.
        """
        if not isinstance(target.noise, CurvedLoss):
            raise TypeError(
                "noise: must have curvature_product(z, y, f) and outputs_per_sample for "
                f"CurvatureEKI, got {type(target.noise).__name__}. Use GaussianNoise, Huber, "
                "CrossEntropy or BinaryCrossEntropy, add both to your own loss "
                "(see ekitools.typing.CurvedLoss), or use ek.LossEKI."
            )
        initial_variance(ensemble)
        xp = array_namespace(ensemble)
        shift = ensemble[:1, :] - self.gamma * xp.mean(ensemble, axis=0, keepdims=True)
        near = self.gamma * ensemble + shift
        nothing = near[:0, :]
        return CurvatureEKIState(near, 0, 0.0, initial_variance(near), nothing, nothing)

    def ask(self, state: CurvatureEKIState) -> Array:
        """The members at which G is wanted, ``(J, p)``."""
        return state.ensemble

    def finished(self, state: CurvatureEKIState) -> Status | None:  # noqa: ARG002
        """None, because learning continues to the end of the step budget or of the data."""
        return None

    def redraws(self, n: int) -> bool:  # noqa: ARG002
        """True, because members are redrawn at the end of every step."""
        return True

    def tell(
        self, state: CurvatureEKIState, g: Array, target: Target, *, rng: np.random.Generator
    ) -> tuple[CurvatureEKIState, StepInfo]:
        """One step of the mean, and new members around the mean. An overflow ends the run."""
        u, y, loss = state.ensemble, target.data, target.noise
        xp, n_members = array_namespace(u), int(u.shape[0])
        centre = xp.mean(g, axis=0, keepdims=True)
        numbers = [loss.misfit(g, y), loss.misfit(centre, y), total_variance_there(u)]
        average, old_mean = state.average, xp.mean(u, axis=0, keepdims=True)
        if self.averaging:
            average = averaged(average, old_mean, self.averaging, state.n)
        with np.errstate(over="ignore", invalid="ignore"):  # an overflow ends the run
            curved = loss.curvature_product(centre[0, :], y, g - centre)
            m = int(g.shape[1]) / loss.outputs_per_sample
            # S_jk = ⟨f_j, H f_k⟩ / m and g_j = ⟨f_j, ∇Ψ(Ḡ)⟩ / m
            system = double(anomaly_products(curved, g)) / (m * self.gamma**2)
            slope = double(anomaly_products(loss.gradient(centre, y), g)) / (m * self.gamma)

            def solution(system: Array, slope: Array) -> tuple[Array, tuple[np.ndarray, ...]]:
                """The step Σ w_j ξ_j, and the numbers for the host, fetched together."""
                w, sound = self._weights(system, slope)
                step = combine_anomalies(like(w / self.gamma, u), u)
                size, length = xp.sum(xp.abs(old_mean + step)), self._length(step, target.prior)
                return step, fetched(*numbers, size, length, sound)

            step, found = solution(system, slope)
            if not (found[-1] or is_numpy(system)):  # a singular matrix, or an overflow
                step, found = solution(host(system), host(slope))
        misfit, of_mean, variance, size, length, sound = found
        misfit = misfit.astype(np.float64)
        extra = {
            "best_misfit": Reported(float(np.min(misfit)), "misfit of the best member"),
            "misfit_of_mean": Reported(float(of_mean[0]), "misfit of the mean output"),
        }
        spread = math.sqrt(float(variance) / state.initial_variance)
        info = StepInfo(0.0, misfit, None, spread, extra=extra)
        info = info._replace(average=average if self.averaging else None)
        if not (sound and math.isfinite(float(size))):
            status = Status(
                "diverged",
                f"Step {state.n} has an update that is not finite: this is the last finite "
                "ensemble. Use more damping or larger batches.",
                level="bad",
            )
            return state, info._replace(status=status)
        past = self._remembered(state.past, step, float(length))
        mean = old_mean + step
        given = past[max(0, past.shape[0] - n_members + 1) :, :] if past.shape[0] else None
        new = drawn_around(mean, target.prior, self.gamma, n_members, rng, given=given)
        h = 1 / self.damping
        following = CurvatureEKIState(
            new, state.n + 1, state.t + h, state.initial_variance, past, average
        )
        return following, info._replace(step=h)

    def select(self, state: CurvatureEKIState, index: np.ndarray) -> CurvatureEKIState:
        """The state of the members ``index``."""
        return state._replace(ensemble=take_rows(state.ensemble, index))

    def _weights(self, system: Array, slope: Array) -> tuple[Array, Any]:
        """The weights −(S + λI)⁻¹ g, cut at the radius, and whether they are usable."""
        system = 0.5 * (system + system.T)
        if is_numpy(system):
            if not math.isfinite(float(np.sum(system))):
                return np.full_like(slope, math.inf), False
            w = -solve_spd(system, self.damping, slope)
            w *= min(1.0, self.radius / max(float(np.linalg.norm(w)), 1e-300))
            return w, True
        xp = array_namespace(system)
        rows, pivots = solved(system, self.damping, slope)
        sound = xp.logical_and(xp.isfinite(xp.sum(system)), xp.min(pivots) > 0)
        cut = self.radius / xp.clip(xp.linalg.vector_norm(rows), min=1e-300)
        return -rows * xp.clip(cut, max=1.0), sound

    def _length(self, step: Array, prior: Any) -> Any:
        """The length of a step in whitened coordinates; zero without a memory of steps."""
        if not self.memory:
            return 0.0
        xp = array_namespace(step)
        zeros = np.zeros(tuple(step.shape)) if is_numpy(step) else xp.zeros_like(step)
        white = prior.whiten(step + like(prior.unwhiten(zeros), step))
        return xp.linalg.vector_norm(white)

    def _remembered(self, past: Array, step: Array, length: float) -> Array:
        """The latest steps including the new one, scaled to the length √p of whitened draws."""
        if not (self.memory and length > 0):
            return past
        xp = array_namespace(step)
        steps = xp.concat([past, step * (math.sqrt(step.shape[1]) / length)], axis=0)
        return steps[max(0, steps.shape[0] - self.memory) :, :]
