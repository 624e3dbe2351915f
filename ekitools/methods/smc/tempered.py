"""Sequential Monte Carlo by tempering, a sampler that converges to the posterior."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ekitools.core.arrays import array_namespace, host, like, take_rows
from ekitools.core.checks import integer, number, one_of, put, sequence, share
from ekitools.methods.gaussian import GaussianStart
from ekitools.methods.smc.ending import ended
from ekitools.methods.smc.modes import memory, modes_of
from ekitools.methods.smc.moves import FEW, MANY, MOVES, Move, largest_scale, propose
from ekitools.methods.smc.resampling import (
    SCHEMES,
    Scheme,
    effective_sample_size,
    normalised,
    resample,
)
from ekitools.methods.unknown_noise import misfits_of_members
from ekitools.typing import (
    Aim,
    Array,
    LinearOver,
    Normalisation,
    Reported,
    Shown,
    Status,
    StepInfo,
    Target,
)

__all__ = ["SMCState", "TemperedSMC"]


class SMCState(NamedTuple):
    """State of `TemperedSMC` between two steps.

    x are coordinates in which the Gaussian of the start is N(0, I).
    """

    ensemble: Array
    """The particles, unconstrained, ``(J, p)``."""
    n: int
    t: float
    """Temperature of the present moves."""
    proposal: Array
    """The proposals, unconstrained, ``(J, p)``."""
    x: np.ndarray
    x_proposed: np.ndarray
    log_ratio: np.ndarray
    """Log acceptance ratio of the proposals without the energy, ``(J,)``."""
    scaled: np.ndarray
    """Whether a proposal depends on the step size, ``(J,)``."""
    g: Array | None
    """Outputs of the particles, ``(J, d)``."""
    misfit: np.ndarray
    energy: np.ndarray
    """V = Φ + log q − log prior; +inf if the likelihood is zero."""
    weight: np.ndarray
    """Normalised weights, ``(J,)``."""
    origin: np.ndarray
    """x before the first move at this temperature, ``(J, p)``."""
    mode: np.ndarray
    """Number of the mode that contains the origin, ``(J,)``."""
    eve: np.ndarray
    """Number of the initial particle from which each particle descends, ``(J,)``."""
    scales: tuple[float, ...]
    """Step size of each kind of move."""
    moves: int
    """Number of moves at this temperature."""
    log_evidence: float
    initial_variance: float
    source: np.ndarray
    """Number of the model run that produced each particle, ``(J,)``."""


@dataclass(frozen=True)
class TemperedSMC:
    r"""Adaptive tempered sequential Monte Carlo.

    Particles go from a start q to the posterior through

    .. math:: \mu_t(du) \propto q(u)\, e^{-t V(u)} du, \qquad
              V = \Phi + \log q - \log \mu_0, \qquad 0 = t_0 < t_1 < \dots < 1;

    where q is the prior μ₀, so that V = Φ [1]_, or the mixture of a `GaussianStart`. At every
    temperature the particles are reweighted, and resampled if the weights have become uneven. Then
    Metropolis–Hastings steps that leave μ_t invariant move the particles until their positions
    within their modes are decorrelated [2]_. The weights, not the moves, determine the masses of
    the modes. Every move costs one model run a particle. Unlike EKI, the particles sample the
    posterior of a nonlinear G too, as J → ∞.

    All proposals are made in coordinates in which the prior, or the Gaussian of the start, is
    N(0, I):

    ``"kernel"``
        x' is a draw from the kernel density estimate of the other half of the particles,
        independent of x. In few dimensions this proposal follows tails, bends and modes. The
        halves take turns; the other half makes a random walk.
    ``"ensemble"``
        x' = m + √(1 − β²)(x − m) + β S^{1/2} ξ, with the mean m and covariance S of the other
        half. At β = 1 this is an independence proposal from the Gaussian of the ensemble. In
        many dimensions it is the pCN proposal of the posterior.
    ``"pcn"``
        x' = √(1 − β²) x + β ξ, preconditioned Crank–Nicolson [3]_.
    ``"random_walk"``
        x' = x + 2.38 p^{-1/2} s S^{1/2} ξ.

    Parameters
    ----------
    temperatures : tuple of float, optional
        Temperatures t₁ < … < t_N = 1. By default each temperature is chosen such that the
        effective sample size falls to ``ess`` times the number of particles.
    ess : float, default 0.5
        Share of the particles. They are also resampled if their effective number is at most
        this share.
    resampling : {"systematic", "stratified", "residual", "multinomial"}, default "systematic"
        The resampling scheme.
    move : {"kernel", "ensemble", "pcn", "random_walk"} or tuple of them, optional
        The proposal, or several proposals used in turn. By default ``("ensemble", "kernel")``
        for up to eight parameters and ``"ensemble"`` for more.
    acceptance : float, default 0.3
        Target acceptance rate. The step sizes β and s are adapted to it separately (β is at
        most 1).
    decorrelation : float, default 0.2
        The moves at one temperature end when the mean correlation between the present and the
        first coordinates of the particles is at most this number, in the whole population or
        within its modes.
    max_moves : int, default 20
        Largest number of moves at one temperature.
    start : GaussianStart, optional
        A Gaussian near the posterior, mixed with a share of the prior. EKI finds such a Gaussian
        at a fraction of the cost. The weights correct the start, so the particles still sample
        the posterior.

    Raises
    ------
    TypeError, ValueError
        If an option has the wrong type or is out of range.

    See Also
    --------
    GaussianStart : A start from the result of another method.
    GNKI : A cheaper approximation of a posterior with one mode.

    Notes
    -----
    The initial ensemble must consist of draws from the prior, as it does by default. A failed
    model run has the likelihood zero, so a proposal that fails is refused. Particles that fail at
    the start are drawn again until all of them run, and the evidence counts the failed draws. With
    ``on_failure="drop"`` or ``"resample"``, or with your own initial ensemble, failed particles get
    the weight zero instead.
    The likelihood of a stochastic model is averaged over the randomness of the model, because a
    particle keeps its outputs until a proposal is accepted [5]_. The noise must therefore describe
    the observations alone.
    The outputs of the last particles are known, so ``evaluate_final`` makes no difference.
    The result has the variables ``weight``, ``history_log_evidence``,
    ``history_acceptance``, ``history_scale`` and ``history_ess``. The attribute
    ``log_evidence`` is log ∫ exp(−Φ) dμ₀, the log density of the data without the constant
    (det 2πΓ)^{-1/2} of the noise. Unknown scales of the noise (`ekitools.UnknownNoise`) are sampled
    like all parameters; Γ in the constant is then the shape of the noise. The computations between
    model runs use NumPy in float64.

    The status is "good" only if three conditions hold. First, the moves decorrelated the particles.
    Second, the standard errors are at most 0.05 for the masses of the modes, and for the means at
    most 0.083 standard deviations or twice the error of J independent draws. They are computed
    from the genealogy of the particles [4]_ and from the number of draws of the start in a mode.
    Third, at least ten of the start's draws of the prior (their effective number) are in the
    posterior, so that another mode of the same size would be found. A mode that is much narrower
    than those found can be missed from any start.

    References
    ----------
    .. [1] Beskos, Jasra, Muzaffer & Stuart (2015), Stat. Comput. 25, 727-737.
    .. [2] Buchholz, Chopin & Jacob (2021), Bayesian Analysis 16, 745-771.
    .. [3] Cotter, Roberts, Stuart & White (2013), Statistical Science 28, 424-446.
    .. [4] Lee & Whiteley (2018), Biometrika 105, 609-625.
    .. [5] Andrieu & Roberts (2009), Annals of Statistics 37, 697-725.

    Examples
    --------
    >>> import ekitools as ek
    >>> problem = ek.InverseProblem(
    ...     ek.LinearModel([[1.0]]), ek.GaussianPrior(0.0, [1.0]), 1.0, [2.0])
    >>> result = ek.run(problem, ek.TemperedSMC(), n_members=2000, rng=0)
    >>> round(float(ek.posterior(result).u0.mean()), 1)  # exact: 1
    1.0
    >>> round(result.attrs["log_evidence"], 1)  # exact: -1 - log(2)/2
    -1.3
    """

    temperatures: tuple[float, ...] | None = None
    ess: float = 0.5
    resampling: Scheme = "systematic"
    move: Move | tuple[Move, ...] | None = None
    acceptance: float = 0.3
    decorrelation: float = 0.2
    max_moves: int = 20
    start: GaussianStart | None = None

    State: ClassVar[type] = SMCState
    aim: ClassVar[Aim] = "posterior"
    normalisation: ClassVar[Normalisation] = "1/(J-1)"
    linear_over: ClassVar[LinearOver] = "none"
    keeps_members: ClassVar[bool] = True
    estimates_noise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.temperatures is not None:
            put(self, temperatures=_checked_temperatures(self.temperatures))
        put(
            self,
            ess=share("ess", self.ess),
            acceptance=share("acceptance", self.acceptance),
            decorrelation=share("decorrelation", self.decorrelation),
            resampling=one_of("resampling", self.resampling, SCHEMES),
            max_moves=integer("max_moves", self.max_moves),
        )
        if self.move is not None:
            one = isinstance(self.move, str)
            moves = (self.move,) if one else sequence("move", self.move, "one or more moves")
            if not moves:
                raise ValueError("move: must name at least one move, got none.")
            put(self, move=tuple(one_of("move", move, MOVES) for move in moves))
        if not isinstance(self.start, GaussianStart | None):
            raise TypeError(
                "start: must be an ek.GaussianStart, such as "
                f"ek.GaussianStart.from_ensemble(u, prior), got {type(self.start).__name__}."
            )

    def init(self, ensemble: Array, target: Target) -> SMCState:
        """The state before the first step; ``ensemble`` are draws of the prior.

        Raises
        ------
        TypeError
            If the prior has no coordinates in which it is N(0, I), which the moves need.
        ValueError
            If a member lies on or outside a bound of the prior.
        """
        x = _whitened(ensemble, target)
        inside = np.isfinite(x).all(axis=1)
        if not inside.all():
            raise ValueError(
                "ensemble: must be finite in unconstrained coordinates, got member "
                f"{int(np.argmin(inside))} with {ensemble[int(np.argmin(inside))]}. Move members "
                "strictly inside the bounds of the prior, or draw them with prior.sample(n)."
            )
        if self.start is not None:
            ensemble = self.start.mixed(ensemble, target.prior)
            x = self.start.gaussian.whiten(_whitened(ensemble, target))
        n, zeros = len(x), np.zeros(len(x))
        weight = np.full(n, 1 / n)
        variance = _variance(host(ensemble), weight)
        return SMCState(
            ensemble, 0, 0.0, ensemble, x, x, zeros, zeros > 0, None, zeros, zeros, weight, x,
            np.zeros(n, dtype=np.int64), np.arange(n), (1.0,) * len(self._moves(x)), 0, 0.0,
            variance, np.arange(n),
        )  # fmt: skip

    def ask(self, state: SMCState) -> Array:
        """The proposals at which the loop evaluates G, ``(J, p)``."""
        return state.proposal

    def finished(self, state: SMCState) -> Status | None:  # noqa: ARG002 - the contract's
        """None: only `tell` can decide whether the particles are decorrelated."""
        return None

    def tell(
        self, state: SMCState, g: Array, target: Target, *, rng: np.random.Generator
    ) -> tuple[SMCState, StepInfo]:
        """Accept or refuse the proposals, and raise the temperature after enough moves."""
        state, chosen = self._accepted(state, g, target, rng)
        t, weight = state.t, state.weight
        moves = self._moves(state.x)
        last = (state.moves - 1) % len(moves)
        info = StepInfo(
            0.0,
            state.misfit,
            None,
            math.sqrt(_variance(host(state.ensemble), weight) / state.initial_variance),
            Shown(state.ensemble, state.g, weight, state.source),
            {
                "log_evidence": Reported(
                    state.log_evidence, "log of the prior mean of exp(-t misfit)"
                ),
                "acceptance": Reported(
                    float(weight @ chosen) if state.n else math.nan,
                    "share of the proposals accepted",
                ),
                "scale": Reported(state.scales[last], "step size of the moves"),
                "ess": Reported(
                    effective_sample_size(weight),
                    "effective number of members, (sum w)^2 / sum w^2",
                ),
            },
        )
        left = _memory(state) if state.n else 0.0
        moved = left <= self.decorrelation
        if moved or state.moves >= self.max_moves:
            if t >= 1:
                return state, info._replace(status=self._ended(state, left, moved))
            state, status = self._reweighted(state, rng)
            info = info._replace(step=state.t - t, status=status)
            if status is not None:
                return state, info
        elif state.n:  # β or s for the next move
            share = weight[state.scaled] / np.sum(weight[state.scaled])
            acceptance = float(share @ chosen[state.scaled])
            factor = min(max(acceptance / self.acceptance, 0.4), 2.0)
            scales = list(state.scales)
            scales[last] = min(scales[last] * factor, largest_scale(moves[last]))
            state = state._replace(scales=tuple(scales))
        return self._proposed(state, target, rng), info

    def select(self, state: SMCState, index: np.ndarray) -> SMCState:
        """The state of the members ``index``."""
        rows = {
            name: value[index]
            for name, value in state._asdict().items()
            if isinstance(value, np.ndarray) and name not in ("ensemble", "proposal", "g")
        }
        rows["weight"] = rows["weight"] / rows["weight"].sum()
        g = None if state.g is None else take_rows(state.g, index)
        arrays = {
            "ensemble": take_rows(state.ensemble, index),
            "proposal": take_rows(state.proposal, index),
        }
        return state._replace(**rows, **arrays, g=g)

    def _moves(self, x: np.ndarray) -> tuple[Move, ...]:
        if self.move is None:
            return FEW if x.shape[1] <= 8 else MANY
        return (self.move,) if isinstance(self.move, str) else self.move

    def _white(self, x: np.ndarray) -> np.ndarray:
        """Particles x in coordinates in which the prior is N(0, I)."""
        return x if self.start is None else self.start.gaussian.unwhiten(x)

    def _log_start(self, white: np.ndarray) -> np.ndarray:
        """Log density of the start, up to a constant."""
        if self.start is None:
            return np.asarray(-0.5 * np.sum(white * white, axis=1))
        return self.start.log_density(white)

    def _ended(self, state: SMCState, left: float, moved: bool) -> Status:
        white = self._white(state.x)
        return ended(
            state.x, state.weight, state.eve, state.moves, left, moved,
            prior_share=None if self.start is None else self.start.prior_share,
            log_ratio=-state.energy - state.log_evidence,
            log_start=self._log_start(white) + 0.5 * np.sum(white * white, axis=1),
        )  # fmt: skip

    def _accepted(
        self, state: SMCState, g: Array, target: Target, rng: np.random.Generator
    ) -> tuple[SMCState, np.ndarray]:
        misfit, log_scale = misfits_of_members(state.proposal, g, target)
        misfit = np.where(np.isfinite(misfit), misfit, np.inf)
        energy = misfit + log_scale
        if self.start is not None:
            white = self._white(state.x_proposed)
            # V = Φ + log q − log μ₀, with both densities up to the same constant
            energy = energy + self._log_start(white) + 0.5 * np.sum(white * white, axis=1)
        if state.g is None:
            return state._replace(g=g, misfit=misfit, energy=energy), np.isfinite(energy)
        possible = np.isfinite(energy)
        # accept with probability min{1, (kernel's ratio) e^{−t (V' − V)}}
        change = np.where(possible, energy, 0) - np.where(possible, state.energy, 0)
        with np.errstate(divide="ignore"):
            chosen = np.log(rng.random(len(energy))) < state.log_ratio - state.t * change
        chosen &= possible
        rows = like(chosen[:, None].astype(np.float64), state.ensemble) > 0.5
        where = array_namespace(g).where
        state = state._replace(
            ensemble=where(rows, state.proposal, state.ensemble),
            g=where(rows, g, state.g),
            x=np.where(chosen[:, None], state.x_proposed, state.x),
            misfit=np.where(chosen, misfit, state.misfit),
            energy=np.where(chosen, energy, state.energy),
            moves=state.moves + 1,
            source=np.where(chosen, state.n * len(chosen) + np.arange(len(chosen)), state.source),
        )
        return state, chosen

    def _reweighted(
        self, state: SMCState, rng: np.random.Generator
    ) -> tuple[SMCState, Status | None]:
        n = len(state.energy)
        if self.temperatures is None:
            t = self._next_temperature(state)
        else:
            t = next(t for t in self.temperatures if t > state.t)
        weight, log_sum = normalised(_log_weight(state, t))
        size = effective_sample_size(weight)
        if size == 0:
            return state, Status(
                "no_likelihood",
                f"The likelihood is zero for all {n} particles, so their weights are undefined. "
                "Check the model, the noise and the data at one draw of the prior.",
                level="bad",
            )
        if size < min(2, n / 2):
            return state, Status(
                "degenerate",
                f"At the temperature {t:.4g} one particle of {n} would have nearly all the weight "
                f"(effective number {size:.3g}). The result holds the particles of the previous "
                "temperature. Use more members, or smaller steps in temperature.",
                level="bad",
            )
        state = state._replace(
            t=t, weight=weight, log_evidence=state.log_evidence + log_sum, moves=0
        )
        if size <= self.ess * n * (1 + 1e-6):
            drawn = resample(weight, n, scheme=self.resampling, rng=rng)
            state = self.select(state, drawn)._replace(weight=np.full(n, 1 / n))
        return state._replace(origin=state.x, mode=modes_of(state.x, state.weight)), None

    def _next_temperature(self, state: SMCState) -> float:
        """The temperature at which the effective number is ``ess`` times the particles alive."""
        goal = self.ess * np.count_nonzero(np.isfinite(state.energy) & (state.weight > 0))

        def size(t: float) -> float:
            return effective_sample_size(normalised(_log_weight(state, t))[0])

        if size(1.0) >= goal:
            return 1.0
        low, high = state.t, 1.0
        for _ in range(60):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if size(middle) >= goal else (low, middle)
        return high

    def _proposed(self, state: SMCState, target: Target, rng: np.random.Generator) -> SMCState:
        x, moves = state.x, self._moves(state.x)
        which = state.moves % len(moves)
        proposed, log_ratio, scaled = propose(
            moves[which], x, state.weight, state.scales[which], rng, turn=state.moves // len(moves)
        )
        white = self._white(proposed)
        log_ratio += self._log_start(white) - self._log_start(self._white(x))
        return state._replace(
            n=state.n + 1,
            proposal=like(target.prior.unwhiten(white), state.ensemble),
            x_proposed=proposed,
            log_ratio=log_ratio,
            scaled=scaled,
        )


def _whitened(ensemble: Array, target: Target) -> np.ndarray:
    try:
        white = host(target.prior.whiten(ensemble)).astype(np.float64)
    except (AttributeError, NotImplementedError) as error:
        raise TypeError(
            "prior: must have coordinates in which it is N(0, I) (whiten and unwhiten) for the "
            f"moves of TemperedSMC, got {type(target.prior).__name__}. Use a prior of ekitools, or "
            "a method without moves, such as ek.EKI()."
        ) from error
    return white


def _checked_temperatures(temperatures: Any) -> tuple[float, ...]:
    steps = sequence("temperatures", temperatures, "a sequence of numbers")
    given = tuple(number("temperatures", t, above=0, most=1) for t in steps)
    rising = all(a < b for a, b in zip((0.0, *given), given, strict=False))
    if not given or not rising or given[-1] != 1:
        raise ValueError(
            f"temperatures: must rise from above 0 to 1, got {given}. Leave temperatures out for "
            "an automatic choice."
        )
    return given


def _log_weight(state: SMCState, t: float) -> np.ndarray:
    energy = np.where(np.isfinite(state.energy), (t - state.t) * state.energy, np.inf)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(state.weight) - energy)


def _variance(ensemble: np.ndarray, weight: np.ndarray) -> float:
    centred = ensemble - weight @ ensemble
    return float(np.sum(weight @ (centred * centred)) / max(1 - weight @ weight, 1e-12))


def _memory(state: SMCState) -> float:
    """The smaller of two correlations with the origins: in the population and within its modes.

    Particles that change modes decorrelate in the population. Particles that cannot change modes
    have to decorrelate within their mode.
    """
    whole = memory(state.x, state.origin, state.weight, np.zeros_like(state.mode))
    if whole <= 0 or not state.mode.any():
        return whole
    return min(whole, memory(state.x, state.origin, state.weight, state.mode))
