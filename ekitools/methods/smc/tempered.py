"""Sequential Monte Carlo by tempering: the comparator that converges to the posterior."""

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
from ekitools.methods.smc.moves import MOVES, largest_scale, propose
from ekitools.methods.smc.resampling import SCHEMES, effective_sample_size, normalised, resample
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

FEW: tuple[str, ...] = ("ensemble", "kernel")
MANY: tuple[str, ...] = ("ensemble",)
"""Moves for up to eight parameters, and for more."""


class SMCState(NamedTuple):
    """What the next step needs; in the coordinates x the Gaussian of the start is N(0, I)."""

    ensemble: Array
    """The particles, unconstrained, ``(J, p)``."""
    n: int
    t: float
    """Temperature that the particles are moved at."""
    proposal: Array
    """Unconstrained, ``(J, p)``."""
    x: np.ndarray
    x_proposed: np.ndarray
    log_ratio: np.ndarray
    """What a proposal's acceptance owes to all but the energy, ``(J,)``."""
    scaled: np.ndarray
    """Which proposals the step size had a part in, ``(J,)``."""
    g: Array | None
    """Outputs of the particles, ``(J, d)``."""
    misfit: np.ndarray
    energy: np.ndarray
    """V = Φ + log q − log prior; +inf where the likelihood is zero."""
    weight: np.ndarray
    """Normalised, ``(J,)``."""
    origin: np.ndarray
    """x at the first move of this temperature."""
    mode: np.ndarray
    """The mode that the origin is in, ``(J,)``."""
    eve: np.ndarray
    """The first particle that each descends from, ``(J,)``."""
    scales: tuple[float, ...]
    """Step size of each kind of move."""
    moves: int
    """Moves made at this temperature."""
    log_evidence: float
    initial_variance: float
    source: np.ndarray
    """The model run that each particle is from, ``(J,)``."""


@dataclass(frozen=True)
class TemperedSMC:
    r"""Adaptive tempered sequential Monte Carlo.

    Particles go from a start q to the posterior through

    .. math:: \mu_t(du) \propto q(u)\, e^{-t V(u)} du, \qquad
              V = \Phi + \log q - \log \mu_0, \qquad 0 = t_0 < t_1 < \dots < 1;

    q is the prior μ₀, so that V = Φ [1]_, or the mixture of a `GaussianStart`. At every
    temperature they are reweighted, resampled if the weights have become uneven, and moved by
    Metropolis–Hastings steps that leave μ_t invariant, until they have forgotten where in their
    mode they were [2]_. The weights, and not the moves, give the modes their masses. Every move
    costs one model run a particle. Unlike EKI the particles sample the posterior of a nonlinear G
    too, as J → ∞.

    All proposals are made in coordinates in which the prior, or the Gaussian of the start, is
    N(0, I):

    ``"kernel"``
        x' ~ the kernel density estimate of the other half of the particles, whatever x: it
        follows tails, bends and modes in few dimensions. The halves take turns, and the one
        whose turn it is not makes a random walk.
    ``"ensemble"``
        x' = m + √(1 − β²)(x − m) + β S^{1/2} ξ with the mean and covariance of the other half:
        at β = 1 an independence proposal from the ensemble's Gaussian, and in many dimensions
        the pCN of the posterior.
    ``"pcn"``
        x' = √(1 − β²) x + β ξ, preconditioned Crank–Nicolson [3]_.
    ``"random_walk"``
        x' = x + 2.38 p^{-1/2} s S^{1/2} ξ.

    Parameters
    ----------
    temperatures : tuple of float, optional
        t₁ < … < t_N = 1; by default each is chosen such that the effective sample size falls
        to ``ess`` times the number of particles.
    ess : float, default 0.5
        Share of the particles; they are also resampled where their effective number is not
        above it.
    resampling : {"systematic", "stratified", "residual", "multinomial"}
        How.
    move : str or tuple of str, optional
        The proposal, or several made in turn. By default ``("ensemble", "kernel")`` for up to
        eight parameters and ``"ensemble"`` for more.
    acceptance : float, default 0.3
        The acceptance rate that β and s are adapted to, each for itself (β is 1 at most).
    decorrelation : float, default 0.2
        Moves at one temperature end when the mean correlation of the particles' coordinates
        with those at the first has come below it, in the whole population or within its modes.
    max_moves : int, default 20
        Most moves made at one temperature.
    start : GaussianStart, optional
        A Gaussian near the posterior, such as EKI finds at a fraction of the cost, mixed with a
        share of the prior. The weights correct the start: the result is the same posterior.

    Raises
    ------
    TypeError, ValueError
        If an option is of the wrong kind or out of range.

    Notes
    -----
    The initial ensemble must be draws from the prior, as it is where none is given. A failed
    model run is a likelihood of zero: a proposal that fails is refused. Particles that fail at the
    start are drawn again until all run, and the evidence counts the failed draws. With
    ``on_failure="drop"`` or ``"resample"``, or with an initial ensemble of your own, they are given
    no weight instead.
    The likelihood of a stochastic model is averaged over its randomness, since a particle keeps its
    outputs until a proposal is accepted [5]_: the noise is that of the observations alone.
    The outputs of the last particles are known, so ``evaluate_final`` makes no difference.
    The result has the variables ``weight``, ``history_log_evidence``,
    ``history_acceptance``, ``history_scale`` and ``history_ess``, and the attribute
    ``log_evidence``: log ∫ exp(−Φ) dμ₀, the density of the data but for the noise's own
    constant (det 2πΓ)^{-1/2}. Unknown scales of the noise (`ekitools.UnknownNoise`) are moved like
    all parameters; Γ in the constant is then the shape. The work between model runs is done in
    NumPy, float64.

    The status is "good" only if three conditions hold. The moves decorrelated the particles. The
    standard errors, which come from the genealogy of the particles [4]_ and from the number of the
    start's draws in a mode, are at most 0.05 for the masses of the modes, and 0.083 standard
    deviations, or twice what J independent draws have, for the means. At least ten of the start's
    draws of the prior (their effective number) are in the posterior, so that another mode of its
    size would show. A mode that is much narrower than those found can be missed from any start.

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
    resampling: str = "systematic"
    move: str | tuple[str, ...] | None = None
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
            If the prior has no coordinates in which it is N(0, I): the moves need them.
        ValueError
            If a member is not finite in them, because it lies on or outside a bound of the prior.
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
        """The members at which G is wanted, ``(J, p)``: proposals."""
        return state.proposal

    def finished(self, state: SMCState) -> Status | None:  # noqa: ARG002 - the contract's
        """Never: whether the moves were enough shows only when they have been told."""
        return None

    def tell(
        self, state: SMCState, g: Array, target: Target, *, rng: np.random.Generator
    ) -> tuple[SMCState, StepInfo]:
        """Accept or refuse the proposals; then the next temperature where it is time."""
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

    def _moves(self, x: np.ndarray) -> tuple[str, ...]:
        if self.move is None:
            return FEW if x.shape[1] <= 8 else MANY
        return tuple(self.move)

    def _white(self, x: np.ndarray) -> np.ndarray:
        """Particles x in coordinates in which the prior is N(0, I)."""
        return x if self.start is None else self.start.gaussian.unwhiten(x)

    def _log_start(self, white: np.ndarray) -> np.ndarray:
        """Density of the start, its logarithm but for a constant."""
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
            # V = Φ + log q − log μ₀, both densities but for the same constant
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
                f"The likelihood is zero for all {n} particles: none of them can be given a "
                "weight. Check the model, the noise and the data at one draw of the prior.",
                level="bad",
            )
        if size < min(2, n / 2):
            return state, Status(
                "degenerate",
                f"At the temperature {t:.4g} one particle of {n} would hold all the weight "
                f"(effective number {size:.3g}); these are the particles before. Use more "
                "members, or smaller steps in temperature.",
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
        """Where the effective number is ``ess`` times that of the particles alive."""
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
            "prior: must have coordinates in which it is N(0, I) (whiten and unwhiten), for the "
            f"moves of TemperedSMC need its density; got {type(target.prior).__name__}. Use a "
            "prior of ekitools, or a method without moves, such as ek.EKI()."
        ) from error
    return white


def _checked_temperatures(temperatures: Any) -> tuple[float, ...]:
    steps = sequence("temperatures", temperatures, "a sequence of numbers")
    given = tuple(number("temperatures", t, above=0, most=1) for t in steps)
    rising = all(a < b for a, b in zip((0.0, *given), given, strict=False))
    if not given or not rising or given[-1] != 1:
        raise ValueError(
            f"temperatures: must rise from above 0 to 1, got {given}. Leave them out to have them "
            "chosen."
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
    """Correlation with the origins, in the population or within its modes: the smaller one.

    Particles that change modes forget, and particles that cannot have to forget within theirs.
    """
    whole = memory(state.x, state.origin, state.weight, np.zeros_like(state.mode))
    if whole <= 0 or not state.mode.any():
        return whole
    return min(whole, memory(state.x, state.origin, state.weight, state.mode))
