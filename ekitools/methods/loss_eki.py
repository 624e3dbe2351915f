"""Ensemble Kalman inversion for any loss, with explicit time steps for learning."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ekitools.core.arrays import array_namespace, finfo, is_numpy, take_rows
from ekitools.core.checks import check_schedule, integer, number, put, sequence
from ekitools.core.fetching import fetched
from ekitools.linalg import anomaly_products, combine_anomalies, frobenius, moved
from ekitools.linalg.products import frobenius_there, total_variance_there
from ekitools.methods.shared import averaged, initial_variance
from ekitools.methods.spread import Spread, drawn_around
from ekitools.methods.steps import NormStep, rule_step
from ekitools.typing import (
    Aim,
    Array,
    Normalisation,
    Reported,
    Schedule,
    Seen,
    Status,
    StepInfo,
    Target,
)

__all__ = ["LossEKI", "LossEKIState"]


class LossEKIState(NamedTuple):
    """State of `LossEKI` between two steps."""

    ensemble: Array
    n: int
    t: float
    initial_variance: float
    """Trace of the initial ensemble's covariance."""
    average: Array
    """Average of the mean over the previous steps, ``(1, p)``; ``(0, p)`` without an average."""


@dataclass(frozen=True)
class LossEKI:
    r"""Ensemble Kalman inversion for any loss Ψ, by explicit steps of `EKIFlow` [1]_.

    .. math::
        u \leftarrow u - h_n D(u)\, u, \qquad D_{jk} = \tfrac1J
        \langle G(u^{(k)}) - \bar G, \nabla_z \Psi(G(u^{(j)}), y) \rangle .

    The default step size is h_n = h/(‖D‖ + ε). For a network, G is the vector of outputs at the
    inputs of the present batch (`MiniBatches`, `OnlineData`), and Ψ is a `CrossEntropy` or least
    squares. The initial ensemble is drawn from the prior. Without ``spread`` the members stay in
    the affine span of the initial ensemble. That space is far too small for a network. With
    ``spread`` the method is the EKI(R) of [1]_, and ``Nesterov(LossEKI(spread=...))`` is the MEKI.

    At a step that redraws members, only the mean is updated: ū ← ū − (h/J) 1ᵀD u. This update costs
    O(Jp) instead of O(J²p).

    Parameters
    ----------
    step : Schedule, default NormStep()
        Step rule: `NormStep`, `FixedStep` or your own.
    spread : Spread, optional
        Steps at which members are redrawn around their mean, and the distance from the mean. By
        default members are never redrawn.
    expand : tuple of (int, int), default ()
        Pairs (n, J) for a growing ensemble, in increasing order. From the first redraw after n
        steps, J members are drawn. Results have rows of NaN for members that do not exist yet.
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
    CurvatureEKI : Steps with the curvature of the loss.
    Nesterov : Momentum for this method.
    EKI : Kalman analyses for Gaussian noise.

    References
    ----------
    .. [1] Kovachki & Stuart (2019), Inverse Problems 35, 095005.

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
    >>> result = ek.run(problem, ek.LossEKI(ek.NormStep(0.5), spread=ek.Spread(0.1)),
    ...                 n_steps=100, rng=0)
    >>> result.u[-1].mean("member").values.round(1)  # maximum likelihood
    array([-1.3,  2.2])
    """

    step: Schedule = NormStep()
    spread: Spread | None = None
    expand: tuple[tuple[int, int], ...] = ()
    averaging: float = 0.0

    State: ClassVar[type] = LossEKIState
    aim: ClassVar[Aim] = "fit"
    normalisation: ClassVar[Normalisation] = "1/J"
    updates_in_place: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_schedule(self.step)
        put(self, averaging=number("averaging", self.averaging, least=0, below=1))
        if self.spread is not None and not isinstance(self.spread, Spread):
            raise TypeError(
                f"spread: must be an ek.Spread or None, got {self.spread!r}. "
                "For a number use ek.Spread(gamma)."
            )
        expand = _pairs(self.expand)
        put(self, expand=expand)
        if expand and self.spread is None:
            raise ValueError(
                f"spread: must be given with expand = {expand}, got None. Pass ek.Spread(gamma), "
                "which draws the new members around the mean."
            )
        falls = any(a[0] >= b[0] or a[1] >= b[1] for a, b in pairwise(expand))
        if falls or any(n < 1 or size < 2 for n, size in expand):
            raise ValueError(
                "expand: must be pairs (n, J) of increasing steps n >= 1 and increasing numbers "
                f"of members J >= 2, got {expand}."
            )

    def init(self, ensemble: Array, target: Target) -> LossEKIState:  # noqa: ARG002
        """The state before the first step.

        Raises
        ------
        ValueError
            If all members are the same, because EKI moves only along differences of members.
        """
        return LossEKIState(ensemble, 0, 0.0, initial_variance(ensemble), ensemble[:0, :])

    def ask(self, state: LossEKIState) -> Array:
        """The members at which G is wanted, ``(J, p)``."""
        return state.ensemble

    def finished(self, state: LossEKIState) -> Status | None:  # noqa: ARG002
        """None, because learning continues to the end of the step budget or of the data."""
        return None

    def redraws(self, n: int) -> bool:
        """Whether members are redrawn at the end of step n."""
        return self.spread is not None and self.spread.due(n)

    def tell(
        self,
        state: LossEKIState,
        g: Array,
        target: Target,
        *,
        rng: np.random.Generator,
        in_place: bool = False,
    ) -> tuple[LossEKIState, StepInfo]:
        """One step. With ``in_place`` the step overwrites the ensemble of ``state``.

        The ensemble is overwritten only after a check that the step is finite. A run that diverges
        keeps its last finite ensemble.
        """
        before, u, y, loss = state, state.ensemble, target.data, target.noise
        xp, n_members = array_namespace(u), u.shape[0]
        misfits = loss.misfit(g, y)
        average = None
        if self.averaging:
            mean = xp.mean(u, axis=0, keepdims=True)
            average = averaged(state.average, mean, self.averaging, state.n)
            state = state._replace(average=average)
        with np.errstate(over="ignore", invalid="ignore"):  # an overflow ends the run
            gradient = loss.gradient(g, y)

            @cache
            def weights() -> Array:  # D_jk = ⟨G(u_k) − Ḡ, ∇Ψ_j⟩ / J
                return anomaly_products(gradient, g) / n_members

            redraws = self.redraws(state.n)
            if redraws:
                mean_gradient = xp.mean(gradient, axis=0, keepdims=True)
                row = anomaly_products(mean_gradient, g) / n_members  # 1ᵀD / J
            # the host waits for a device once in a step
            numbers = [misfits, total_variance_there(u), _largest(u)]
            numbers.append(xp.sum(xp.abs(row)) if redraws else frobenius_there(weights()))
            if redraws and isinstance(self.step, NormStep):
                numbers.append(frobenius_there(weights()))
            found, variance, largest, total, *norms = fetched(*numbers)
            misfit, size = found.astype(np.float64), float(total)

            def norm() -> float:
                if norms:
                    return float(norms[0])
                return frobenius(weights()) if redraws else size

            spread = math.sqrt(float(variance) / state.initial_variance)
            extra = {"best_misfit": Reported(float(np.min(misfit)), "misfit of the best member")}
            info = StepInfo(0.0, misfit, None, spread, extra=extra, average=average)
            diverged = info._replace(status=_diverged(state.n))
            if not math.isfinite(size):
                return before, diverged
            seen = Seen(state.n, state.t, math.inf, misfit, int(g.shape[1]), norm)
            h = rule_step(self.step, seen)  # h_n
            # no entry of D(U − ū) is larger than this
            bound = h * size * (1 if redraws else math.sqrt(n_members)) * 2 * float(largest)
        if not bound < 0.5 * finfo(u).max:
            return before, diverged
        in_place = in_place and is_numpy(u)
        if self.spread is not None and redraws:
            # ū ← ū − (h/J) 1ᵀD u
            mean = xp.mean(u, axis=0, keepdims=True) - combine_anomalies(h * row, u)
            n_after = self._size(state.n + 1, n_members)
            out = u if in_place and n_after == n_members else None
            gamma = self.spread.at(state.n)
            u = drawn_around(mean, target.prior, gamma, n_after, rng, out=out)
        else:
            u = moved(u, -h * weights(), in_place=in_place)  # u ← u − h D u
        new = state._replace(ensemble=u, n=state.n + 1, t=state.t + h)
        return new, info._replace(step=h)

    def _size(self, n: int, present: int) -> int:
        """The number of members after ``n`` steps, at least the present number."""
        return max([present, *(size for start, size in self.expand if start <= n)])

    def select(self, state: LossEKIState, index: np.ndarray) -> LossEKIState:
        """The state of the members ``index``."""
        return state._replace(ensemble=take_rows(state.ensemble, index))


def _pairs(expand: Any) -> tuple[tuple[int, int], ...]:
    try:
        pairs = [(n, size) for n, size in sequence("expand", expand, "pairs (n, J) of integers")]
    except (TypeError, ValueError):
        raise TypeError(f"expand: must be pairs (n, J) of integers, got {expand!r}.") from None
    return tuple(
        (integer("expand", n, least=0), integer("expand", size, least=0)) for n, size in pairs
    )


def _largest(u: Array) -> Array:
    """The largest |u|, without a copy of the ensemble."""
    xp = array_namespace(u)
    return xp.maximum(xp.max(u), -xp.min(u))


def _diverged(n: int) -> Status:
    return Status(
        "diverged",
        f"Step {n} has an update that is not finite: this is the last finite ensemble. Use smaller "
        "steps or less spread, or let either decay.",
        level="bad",
    )
