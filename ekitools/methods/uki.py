"""Unscented Kalman inversion: a Gaussian fit from the outputs at the nodes of a quadrature rule."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, TypeAlias, get_args

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

Points: TypeAlias = Literal["symmetric", "simplex"]
Centre: TypeAlias = Literal["mean", "output"]
_POINTS: dict[Points, Callable[[int], np.ndarray]] = {
    "symmetric": symmetric_points,
    "simplex": simplex_points,
}
_CENTRES: tuple[Centre, ...] = get_args(Centre)
_MANY = 200
"""A warning about the cost of a step is issued for more parameters than this number."""
_NARROWEST = 1e-10
"""Smallest standard deviation, in prior standard deviations. Below it the nodes coincide within
rounding."""


class UKIState(NamedTuple):
    """State of `UKI` between two steps; x are coordinates in which the prior is N(0, I)."""

    ensemble: Array
    """The nodes, unconstrained, ``(J, p)``."""
    n: int
    t: float
    mean: np.ndarray
    """Mean m of x ~ N(m, LLᵀ)."""
    root: np.ndarray
    """Root L of the covariance of x."""
    variance: float
    """Total variance of the nodes."""
    initial_variance: float
    moved: float
    """Root mean square move of the mean in the last step, in standard deviations of x."""
    reshaped: float
    """Largest change of the logarithm of a standard deviation of x in the last step."""
    lost: int
    """Number of directions without a slope in the last step, because nodes failed."""


@dataclass(frozen=True)
class UKI:
    r"""Unscented Kalman inversion: a deterministic Gaussian approximation of the posterior.

    The state is a Gaussian N(m, C). Every step evaluates G at the sigma points of N(m, C), fits a
    linear map to the outputs, and makes one Kalman update of N(m, (1 + h)C). In this update the
    data have the noise (1 + h)/h Γ, and the prior enters as further data with the covariance
    (1 + h)/h C₀ [1]_:

    .. math::
        C_{n+1}^{-1} = \frac{1}{1 + h} C_n^{-1}
        + \frac{h}{1 + h} \{H^T \Gamma^{-1} H + C_0^{-1}\},
        \qquad
        m_{n+1} = m_n + \frac{h}{1 + h} C_{n+1}
        \{H^T \Gamma^{-1} (y - \bar G) - C_0^{-1} (m_n - m_0)\}.

    H is the slope of the linear map [2]_. For a linear G the fixed point is the posterior, for
    every h > 0, and the distance to the fixed point shrinks by the factor 1/(1 + h) in every step.
    For a nonlinear G the fixed point is a Gaussian that the linear map over its own sigma points
    reproduces. The run ends at the fixed point, and the result holds draws of the Gaussian.

    Parameters
    ----------
    points : {"symmetric", "simplex"}, default "symmetric"
        Sigma points. "symmetric" places a centre and a pair on each axis of C, with 2p + 1 model
        runs a step. "simplex" places a centre and a simplex, with p + 2 runs. The simplex sees less
        of a nonlinear G and is less robust.
    h : float, default 2
        Step size, h > 0. Use a smaller h if the mean oscillates. Small steps also average the noise
        of a stochastic G over many steps.
    centre : {"mean", "output"}, default "mean"
        The output that is compared with the data: the mean output of the nodes ("mean"), or the
        output of the centre ("output"). "output" finds a point near the maximum a posteriori.
    rtol : float, default 0.01
        The run ends when the estimated distance to the fixed point is below rtol. The distance of
        the mean is measured in standard deviations; the distance of each standard deviation is
        relative.
    max_steps : int, default 50
        Largest number of steps.
    n_draws : int, default 1000
        Number of draws of the Gaussian in the result.

    Raises
    ------
    TypeError, ValueError
        If an option has the wrong type or is out of range.

    Warns
    -----
    UserWarning
        If there are more than 200 parameters. The warning names the number of model runs a step.

    See Also
    --------
    GNKI : Refines an ensemble; the ensemble needs no more members than the data have directions.
    GaussianStart.from_result : Start of `TemperedSMC` from the Gaussian of a result.

    Notes
    -----
    The method places its own members, the nodes, so leave ``n_members`` and ``ensemble`` out. The
    nodes are not draws of the posterior. ``result.draws`` holds draws in physical coordinates, and
    `posterior`, `intervals`, `summary` and the plots use these draws. Outputs of the draws, as in
    `predict` without a model, come from the linear map.

    The nodes are two standard deviations of C from the centre, for every h. The residual covariance
    of the linear map is not added to Γ, because the run might then settle far from the posterior,
    on a wide Gaussian over which the map explains little. The update equals that of
    natural-gradient variational inference with the step size h/(1 + h).

    The Gaussian covers one mode. It is a poor approximation of a posterior that has several modes
    or is curved at the scale of its width. Compare with `TemperedSMC`. If the data lie far outside
    the range of the prior and G grows exponentially, a step may reach parameters at which the model
    fails. Use a prior that covers the data.

    The fit leaves failed nodes out. For a linear G the map stays exact as long as the other nodes
    span all directions, for example if one node of a pair failed. If both nodes of a pair failed,
    their direction gets no information from the data in that step, and its variance relaxes to the
    prior variance. A run that ends in this state has the status "directions_lost".

    A step costs O(d p² + p³) in addition to the model runs. The nodes are NumPy arrays in float64.

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

    points: Points = "symmetric"
    h: float = 2.0
    centre: Centre = "mean"
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
            centre=one_of("centre", self.centre, _CENTRES),
            rtol=number("rtol", self.rtol, above=0),
            max_steps=integer("max_steps", self.max_steps),
            n_draws=integer("n_draws", self.n_draws, least=2),
        )

    def nodes(self, target: Target) -> np.ndarray:
        """The sigma points of the prior, unconstrained, ``(J, p)``: members of the first step.

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
            If the problem has a loss that is not Gaussian noise, a step sees only a part of the
            data, or the prior has no coordinates in which it is N(0, I).
        ValueError
            If ``ensemble`` holds other members.
        """
        check_all_data(target, "UKI, which fits one Gaussian to all of them")
        check_gaussian(target.noise, "UKI")
        nodes, given = self.nodes(target), host(ensemble)
        (n, p), scale = nodes.shape, float(np.abs(nodes).max())
        if given.shape != nodes.shape or not np.allclose(given, nodes, 1e-5, 1e-5 * scale):
            raise ValueError(
                f"ensemble: must be the {n} nodes of UKI, got other members in the shape "
                f"{given.shape}. UKI places its own members: leave n_members and ensemble out, and "
                "do not wrap UKI in another method."
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
        """The nodes at which the loop evaluates G, ``(J, p)``."""
        return state.ensemble

    def finished(self, state: UKIState) -> Status | None:
        """The status when the fixed point or ``max_steps`` is reached; None before."""
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
                f"{state.lost} of {len(state.mean)} directions have no slope. Repair the model at "
                "these nodes, or exclude the region by the prior.",
            )
        if state.n < self.max_steps:
            return None
        return Status(
            "steps_spent",
            f"All {self.max_steps} steps were made. The last step still moved the mean by "
            f"{state.moved:.3g} standard deviations and changed a standard deviation by "
            f"{100 * math.expm1(min(state.reshaped, 99.0)):.3g} % (rtol = {self.rtol:g}). Increase "
            "max_steps. If the mean oscillates, use a smaller h.",
        )

    def tell(
        self,
        state: UKIState,
        g: Array,
        target: Target,
        *,
        rng: np.random.Generator,  # noqa: ARG002 - the contract's argument
    ) -> tuple[UKIState, StepInfo]:
        """One step; at the end of the run the state is returned unchanged."""
        outputs = np.array(host(g), dtype=np.float64, order="C")
        known = np.isfinite(outputs).all(axis=1)
        r = np.full_like(outputs, np.nan)
        with np.errstate(over="ignore"):
            r[known] = target.noise.whiten(outputs[known] - np.asarray(target.data))
            misfit = misfits(r)
        change = Reported(
            max(state.moved, state.reshaped) if state.n else math.nan,
            "largest change of the mean or of a standard deviation in the previous step",
        )
        spread = math.sqrt(state.variance / state.initial_variance)
        info = StepInfo(0.0, misfit, self.finished(state), spread, extra={"change": change})
        if info.status is not None:
            return state, info
        usable = np.isfinite(misfit)
        if usable.sum() < 2:
            status = Status(
                "diverged",
                f"The misfit of step {state.n} overflowed. The result holds the last finite "
                "Gaussian. Check the scales of the data and of the noise, or use a smaller h.",
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
        """Return the state unchanged, because the quadrature rule needs all nodes in their order.

        Raises
        ------
        ValueError
            If ``index`` is not 0 ... J − 1.
        """
        if not np.array_equal(index, np.arange(int(state.ensemble.shape[0]))):
            raise ValueError(
                f"index: must name all {int(state.ensemble.shape[0])} nodes in their order, got "
                f"{np.asarray(index).tolist()!r:.60}. Pass NaN rows for failed nodes to tell()."
            )
        return state

    def drawn(self, state: UKIState, *, rng: np.random.Generator) -> Drawn:
        """The Gaussian of the state, with draws.

        If there are more draws than parameters, the draws have exactly the mean and the covariance
        of the Gaussian.
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
    """Raise the singular values of the root to the smallest standard deviation."""
    left, s, right = np.linalg.svd(root)
    if s[-1] >= _NARROWEST:
        return root
    return (left * np.maximum(s, _NARROWEST)) @ right
