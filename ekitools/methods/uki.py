"""Unscented Kalman inversion: a Gaussian from the outputs at the nodes of a quadrature rule."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from ekitools.core.arrays import host, like
from ekitools.core.checks import check_gaussian, integer, number, one_of, put
from ekitools.core.statuses import CHECK_NEXT
from ekitools.linalg import total_variance
from ekitools.linalg.quadrature import (
    exact_draws,
    gaussian_update,
    linear_fit,
    simplex_points,
    symmetric_points,
)
from ekitools.methods.shared import check_all_data, misfits
from ekitools.typing import (
    Aim,
    Array,
    Drawn,
    LinearOver,
    Normalisation,
    Reported,
    Status,
    StepInfo,
    Target,
)

__all__ = ["UKI", "UKIState"]

_POINTS = {"symmetric": symmetric_points, "simplex": simplex_points}
_MANY = 200
"""Parameters above which the cost of a step is told."""
_NARROWEST = 1e-10
"""Least standard deviation kept, of the prior's: below it the nodes coincide within rounding."""


class UKIState(NamedTuple):
    """What the next step needs; x are coordinates in which the prior is N(0, I)."""

    ensemble: Array
    """The nodes, unconstrained, ``(J, p)``."""
    n: int
    t: float
    mean: np.ndarray
    """m of x ~ N(m, LLᵀ)."""
    root: np.ndarray
    """L."""
    variance: float
    """Total variance of the nodes."""
    initial_variance: float
    moved: float
    """Root mean square move of the mean in the last step, in standard deviations of x."""
    reshaped: float
    """Largest change of the logarithm of a standard deviation of x in the last step."""
    lost: int
    """Directions in which the last step knew no slope, because nodes failed."""


@dataclass(frozen=True)
class UKI:
    r"""Unscented Kalman inversion: a deterministic Gaussian approximation of the posterior.

    The state is a Gaussian N(m, C). Every step evaluates G at the sigma points of N(m, C), fits a
    linear map to the outputs, and makes one Kalman update of N(m, (1 + h)C), in which the data have
    the noise (1 + h)/h Γ and the prior counts as further data with (1 + h)/h C₀ [1]_:

    .. math::
        C_{n+1}^{-1} = \frac{1}{1 + h} C_n^{-1}
        + \frac{h}{1 + h} \{H^T \Gamma^{-1} H + C_0^{-1}\},
        \qquad
        m_{n+1} = m_n + \frac{h}{1 + h} C_{n+1}
        \{H^T \Gamma^{-1} (y - \bar G) - C_0^{-1} (m_n - m_0)\}.

    H is the slope of the linear map [2]_. For a linear G the fixed point is the posterior, for
    every h > 0: the distance to it shrinks by the factor 1/(1 + h) in every step. For a nonlinear G
    it is the Gaussian whose own linear map of G reproduces it. The run ends at the fixed point, and
    the result holds draws of the Gaussian.

    Parameters
    ----------
    points : {"symmetric", "simplex"}, default "symmetric"
        Sigma points: a centre and a pair on each axis of C, 2p + 1 model runs a step; or a centre
        and a simplex, p + 2 runs. The simplex sees less of a nonlinear G, and is less robust.
    h : float, default 2
        Step, h > 0. Use a smaller one if the mean goes back and forth. Small steps also average the
        noise of a stochastic G over many steps.
    centre : {"mean", "output"}, default "mean"
        What is compared with the data: the mean output of the nodes, or the output of the centre.
        "output" finds a point near the maximum a posteriori.
    rtol : float, default 0.01
        The run ends where the distance to the fixed point is estimated to be below rtol, in
        standard deviations for the mean and relatively for each standard deviation.
    max_steps : int, default 50
        Most steps made.
    n_draws : int, default 1000
        Draws of the Gaussian in the result.

    Raises
    ------
    TypeError, ValueError
        If an option is of the wrong kind or out of range.

    Warns
    -----
    UserWarning
        If there are more than 200 parameters: the warning says how many model runs a step needs.

    See Also
    --------
    GNKI : Refines an ensemble, and needs no more members than the data have directions.
    GaussianStart.from_result : The Gaussian of a result as a start of `TemperedSMC`.

    Notes
    -----
    The method places its own members, the nodes: leave ``n_members`` and ``ensemble`` out. The
    nodes are no draws. ``result.draws`` holds draws in physical coordinates, and `posterior`,
    `intervals`, `summary` and the plots use them. Outputs of the draws, as in `predict` without a
    model, are those of the linear map.

    Nodes are two standard deviations of C from the centre. A large h does not widen them. The
    covariance of what the linear map leaves over is not added to Γ: with it, the run may settle on
    a wide Gaussian over which the map explains little, far from the posterior. The update is that
    of natural-gradient variational inference with the step size h/(1 + h).

    The Gaussian covers one mode. It is a poor approximation of a posterior with several modes, or
    of one that is curved at the scale of its own width: compare with `TemperedSMC`. If data lie far
    outside of what the prior expects and G grows like an exponential, a step may reach parameters
    at which the model fails. Use a prior that covers the data.

    A failed node leaves the fit. The map goes through the other nodes, and for a linear G it stays
    exact as long as they span all directions, such as when one node of a pair failed. In a
    direction that they do not span (both nodes of a pair failed) the data say nothing in that step,
    and the variance relaxes to that of the prior. A run that ends so has the status
    "directions_lost".

    A step costs O(d p² + p³) besides the model runs. The nodes are NumPy arrays in float64.

    References
    ----------
    .. [1] Huang, Huang, Reich & Stuart (2022), Inverse Problems 38, 125006.
    .. [2] García-Fernández, Svensson, Morelande & Särkkä (2015), IEEE Trans. Signal Process. 63,
       5561-5573.

    Examples
    --------
    >>> import ekitools as ek
    >>> problem = ek.InverseProblem(
    ...     ek.LinearModel([[1.0]]), ek.GaussianPrior(0.0, [1.0]), 1.0, [2.0])
    >>> result = ek.run(problem, ek.UKI(), rng=0)
    >>> result.attrs["status_code"], result.attrs["model_runs"]
    ('posterior_reached', 18)
    >>> u = ek.posterior(result).u0
    >>> round(float(u.mean()), 1), round(float(u.var()), 1)  # exact: 1, 0.5
    (1.0, 0.5)
    """

    points: str = "symmetric"
    h: float = 2.0
    centre: str = "mean"
    rtol: float = 0.01
    max_steps: int = 50
    n_draws: int = 1000

    State: ClassVar[type] = UKIState
    aim: ClassVar[Aim] = "posterior"
    normalisation: ClassVar[Normalisation] = "1/J"
    linear_over: ClassVar[LinearOver] = "last"

    def __post_init__(self) -> None:
        put(
            self,
            points=one_of("points", self.points, _POINTS),
            h=number("h", self.h, above=0),
            centre=one_of("centre", self.centre, ("mean", "output")),
            rtol=number("rtol", self.rtol, above=0),
            max_steps=integer("max_steps", self.max_steps),
            n_draws=integer("n_draws", self.n_draws, least=2),
        )

    def nodes(self, target: Target) -> np.ndarray:
        """The members of the first step, unconstrained, ``(J, p)``: sigma points of the prior.

        Raises
        ------
        TypeError
            If the prior has no coordinates in which it is N(0, I).
        """
        return host(_unwhitened(_POINTS[self.points](target.prior.n_parameters), target))

    def init(self, ensemble: Array, target: Target) -> UKIState:
        """The state before the first step, from the members that `nodes` returned.

        Raises
        ------
        TypeError
            If the problem has another loss than Gaussian noise, a step sees a part of the data, or
            the prior has no coordinates in which it is N(0, I).
        ValueError
            If ``ensemble`` are other members.
        """
        check_all_data(target, "UKI, which fits one Gaussian to all of them")
        check_gaussian(target.noise, "UKI")
        nodes, given = self.nodes(target), host(ensemble)
        (n, p), scale = nodes.shape, float(np.abs(nodes).max())
        if given.shape != nodes.shape or not np.allclose(given, nodes, 1e-5, 1e-5 * scale):
            raise ValueError(
                f"ensemble: must be the {n} nodes of UKI, got other members in the shape "
                f"{given.shape}. UKI places its own members: leave n_members and ensemble out, and "
                "use it without a method around it."
            )
        if p > _MANY:
            warnings.warn(
                f"method: UKI runs the model {n} times a step for p = {p} parameters. Use "
                + ('points="simplex", which needs p + 2 runs, or ' * (self.points != "simplex"))
                + "ek.GNKI() or ek.ETKI(), whose ensembles may be smaller than p.",
                UserWarning,
                stacklevel=2,
            )
        variance = total_variance(ensemble)
        return UKIState(
            ensemble, 0, 0.0, np.zeros(p), np.eye(p), variance, variance, math.inf, math.inf, 0
        )

    def ask(self, state: UKIState) -> Array:
        """The nodes at which G is wanted, ``(J, p)``."""
        return state.ensemble

    def finished(self, state: UKIState) -> Status | None:
        """Set once the fixed point is reached or the steps are spent."""
        gap = max(state.moved, state.reshaped) * max(1.0, 1 / self.h)
        if gap <= self.rtol and not state.lost:
            return Status(
                "posterior_reached",
                f"Finished: the Gaussian is at its fixed point, within about {gap:.2g} standard "
                f"deviations. {CHECK_NEXT}",
                level="good",
                posterior=True,
            )
        if gap <= self.rtol:
            return Status(
                "directions_lost",
                f"The Gaussian has settled, but the model failed at so many nodes that "
                f"{state.lost} of {len(state.mean)} directions have no slope. Repair the model "
                "there, or exclude the region by the prior.",
            )
        if state.n < self.max_steps:
            return None
        return Status(
            "steps_spent",
            f"All {self.max_steps} steps were made. The last one still moved the mean by "
            f"{state.moved:.3g} standard deviations and changed a standard deviation by "
            f"{100 * math.expm1(min(state.reshaped, 99.0)):.3g} % (rtol = {self.rtol:g}). Allow "
            "more max_steps; if the mean goes back and forth, use a smaller h.",
        )

    def tell(
        self,
        state: UKIState,
        g: Array,
        target: Target,
        *,
        rng: np.random.Generator,  # noqa: ARG002 - the contract's argument
    ) -> tuple[UKIState, StepInfo]:
        """One step, or the end: then the state is returned as it was."""
        outputs = np.array(host(g), dtype=np.float64, order="C")
        known = np.isfinite(outputs).all(axis=1)
        r = np.full_like(outputs, np.nan)
        with np.errstate(over="ignore"):
            r[known] = target.noise.whiten(outputs[known] - np.asarray(target.data))
            misfit = misfits(r)
        change = Reported(
            max(state.moved, state.reshaped) if state.n else math.nan,
            "largest change by the step before, of the mean or of a standard deviation",
        )
        spread = math.sqrt(state.variance / state.initial_variance)
        info = StepInfo(0.0, misfit, self.finished(state), spread, extra={"change": change})
        if info.status is not None:
            return state, info
        usable = np.isfinite(misfit)
        if usable.sum() < 2:
            status = Status(
                "diverged",
                f"The misfit of step {state.n} overflowed: this is the last good Gaussian. Check "
                "the scale of the data and of the noise, or use a smaller h.",
                level="bad",
            )
            return state, info._replace(status=status)
        r[~usable] = np.nan
        z = _POINTS[self.points](len(state.mean))
        fit = linear_fit(z, r, through_centre=self.centre == "output")
        mean, root, moves = gaussian_update(state.mean, state.root, fit, self.h)
        root = _not_singular(root)
        ensemble = like(_unwhitened(mean + z @ root.T, target), state.ensemble)
        changes = np.linalg.svd(np.linalg.solve(state.root, root), compute_uv=False)
        following = UKIState(
            ensemble,
            state.n + 1,
            state.t + self.h,
            mean,
            root,
            total_variance(ensemble),
            state.initial_variance,
            float(np.sqrt(np.mean(moves**2))),
            float(np.max(np.abs(np.log(changes)))),
            len(mean) - fit.rank,
        )
        return following, info._replace(step=self.h)

    def select(self, state: UKIState, index: np.ndarray) -> UKIState:
        """The state itself: the rule needs all of its nodes, in their order.

        Raises
        ------
        ValueError
            If ``index`` is anything else.
        """
        if not np.array_equal(index, np.arange(int(state.ensemble.shape[0]))):
            raise ValueError(
                f"index: must name all {int(state.ensemble.shape[0])} nodes in their order, got "
                f"{np.asarray(index).tolist()!r:.60}. Tell failed nodes as rows of NaN."
            )
        return state

    def drawn(self, state: UKIState, *, rng: np.random.Generator) -> Drawn:
        """The Gaussian that the state holds, with draws.

        More draws than parameters have its mean and its covariance exactly.
        """
        p = len(state.mean)
        scores = exact_draws(self.n_draws, p, rng)
        return Drawn(scores, _POINTS[self.points](p), state.mean, state.root)


def _unwhitened(white: np.ndarray, target: Target) -> Array:
    try:
        return target.prior.unwhiten(white)
    except (AttributeError, NotImplementedError) as error:
        raise TypeError(
            "prior: must have coordinates in which it is N(0, I) (whiten and unwhiten) for the "
            f"nodes of UKI, got {type(target.prior).__name__}. Use a prior of ekitools, or a "
            "method without nodes, such as ek.EKI()."
        ) from error


def _not_singular(root: np.ndarray) -> np.ndarray:
    """The root, with singular values of at least the narrowest standard deviation."""
    left, s, right = np.linalg.svd(root)
    if s[-1] >= _NARROWEST:
        return root
    return (left * np.maximum(s, _NARROWEST)) @ right
