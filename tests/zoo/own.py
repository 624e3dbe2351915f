"""Parts of a user's own that keep their contracts, for the checks of ekitools.testing."""

import dataclasses
import hashlib
from typing import ClassVar, NamedTuple

import numpy as np
from scipy import stats
from scipy.special import ndtr, ndtri

import ekitools as ek
from ekitools.typing import Reported, Shown, Status, StepInfo


class Memory(NamedTuple):
    """What the state holds from its first step on, of each member."""

    velocity: np.ndarray
    label: str


class OwnState(NamedTuple):
    ensemble: np.ndarray
    n: int
    t: float
    variance: float
    initial: float
    memory: Memory | None


def total_variance(u):
    return float(np.sum(np.var(u.astype(np.float64), axis=0, ddof=1)))


@dataclasses.dataclass(frozen=True)
class Own:
    """Kalman steps with a velocity of each member; it refuses fewer than five members."""

    steps: int = 5
    inertia: float = 0.1

    State: ClassVar[type] = OwnState
    aim: ClassVar[str] = "fit"
    normalisation: ClassVar[str] = "1/(J-1)"

    def init(self, ensemble, target):
        if len(ensemble) < 5:
            raise ValueError(f"ensemble: must have at least 5 members, got {len(ensemble)}.")
        variance = total_variance(ensemble)
        return self.State(ensemble, 0, 0.0, variance, variance, None)

    def ask(self, state):
        return state.ensemble

    def finished(self, state):
        if state.n < self.steps:
            return None
        return Status("steps_made", "All steps are made.", level="good")

    def velocity(self, state):
        return np.zeros_like(state.ensemble) if state.memory is None else state.memory.velocity

    def moved(self, state, r, rng):
        """The next members and their velocities."""
        u, h = state.ensemble, 1 / self.steps
        E, F = u - u.mean(axis=0), r - r.mean(axis=0)
        gain = np.linalg.solve(F.T @ F / (len(u) - 1) + np.eye(r.shape[1]) / h, F.T @ E)
        noise = 0.1 * rng.standard_normal(r.shape).astype(u.dtype)
        move = -(r + noise) @ gain.astype(u.dtype) / (len(u) - 1)
        velocity = move + u.dtype.type(self.inertia) * self.velocity(state)
        return (u + velocity).astype(u.dtype), velocity.astype(u.dtype)

    def info(self, state, g, target):
        misfit = np.asarray(target.noise.misfit(g, target.data), dtype=np.float64)
        spread = float(np.sqrt(state.variance / state.initial))
        extra = {"best": Reported(float(misfit.min()), "misfit of the best member")}
        return StepInfo(0.0, misfit, self.finished(state), spread, extra=extra)

    def tell(self, state, g, target, *, rng):
        info = self.info(state, g, target)
        if info.status is not None:
            return state, info
        u, velocity = self.moved(state, target.noise.whiten(g - target.data), rng)
        memory = Memory(velocity, f"step {state.n}")
        h = 1 / self.steps
        new = self.State(u, state.n + 1, state.t + h, total_variance(u), state.initial, memory)
        return new, info._replace(step=h)

    def select(self, state, index):
        u, memory = state.ensemble[index], state.memory
        if memory is not None:
            memory = memory._replace(velocity=memory.velocity[index])
        return state._replace(ensemble=u, variance=total_variance(u), memory=memory)


class WalkState(NamedTuple):
    ensemble: np.ndarray
    n: int
    t: float
    proposal: np.ndarray
    g: np.ndarray | None
    misfit: np.ndarray


@dataclasses.dataclass(frozen=True)
class Walk:
    """A sampler: Metropolis with a random walk, for a prior that is N(0, I)."""

    steps: int = 4

    State: ClassVar[type] = WalkState
    aim: ClassVar[str] = "posterior"
    normalisation: ClassVar[str] = "1/J"
    keeps_members: ClassVar[bool] = True

    def init(self, ensemble, target):
        return WalkState(ensemble, 0, 0.0, ensemble, None, np.full(len(ensemble), np.inf))

    def ask(self, state):
        return state.proposal

    def finished(self, state):
        return None

    def accepted(self, state, misfit, target, rng):
        change = misfit - np.where(np.isfinite(state.misfit), state.misfit, 1e300)
        for sign, u in ((0.5, state.proposal), (-0.5, state.ensemble)):
            change = change + sign * np.sum(target.prior.whiten(u) ** 2, axis=1)
        return np.isfinite(misfit) & (np.log(rng.random(len(change))) < -change)

    def tell(self, state, g, target, *, rng):
        misfit = np.asarray(target.noise.misfit(g, target.data), dtype=np.float64)
        misfit = np.where(np.isfinite(misfit), misfit, np.inf)
        if state.g is None:
            state = state._replace(g=g, misfit=misfit)
        else:
            yes = self.accepted(state, misfit, target, rng)
            state = state._replace(
                ensemble=np.where(yes[:, None], state.proposal, state.ensemble),
                g=np.where(yes[:, None], g, state.g),
                misfit=np.where(yes, misfit, state.misfit),
            )
        status = None
        if state.n == self.steps:
            status = Status("walked", "All steps are made.", level="good", posterior=True)
        alive = np.isfinite(state.misfit)
        shown = Shown(state.ensemble, state.g, alive / alive.sum())
        info = StepInfo(0.0, state.misfit, status, 1.0, shown)
        noise = 0.1 * rng.standard_normal(state.ensemble.shape)
        proposal = (state.ensemble + noise).astype(state.ensemble.dtype)
        return state._replace(n=state.n + 1, proposal=proposal), info

    def select(self, state, index):
        rows = {name: getattr(state, name)[index] for name in ("ensemble", "proposal", "misfit")}
        return state._replace(**rows, g=None if state.g is None else state.g[index])


class OwnPrior:
    """exp(z) with z ~ N(mean, sd²), for two parameters."""

    n_parameters, names = 2, ("width", "height")
    mean, sd = np.array([0.5, -0.3]), np.array([0.4, 1.5])

    def sample_unconstrained(self, n, *, rng=None):
        return self.unwhiten(np.random.default_rng(rng).standard_normal((n, 2)))

    def sample(self, n, *, rng=None):
        return self.to_physical(self.sample_unconstrained(n, rng=rng))

    def logpdf(self, u):
        z = np.log(u)
        white = (z - self.mean) / self.sd
        constant = np.log(2 * np.pi) + np.log(self.sd).sum()
        return -0.5 * np.sum(white**2, axis=-1) - z.sum(axis=-1) - constant

    def to_physical(self, z):
        return np.exp(z)

    def to_unconstrained(self, u):
        return np.log(u)

    def whiten(self, z):
        return ((z - self.mean) / self.sd).astype(z.dtype)

    def unwhiten(self, w):
        return (self.mean + self.sd * w).astype(w.dtype)

    def fingerprint(self):
        return "two lognormal parameters"


class OwnNoise:
    """Correlated noise for three data, by the root of its covariance."""

    n_data = 3
    outputs_per_sample = 1
    root = np.array([[1.0, 0.0, 0.0], [0.5, 2.0, 0.0], [0.0, -0.3, 0.7]])

    @property
    def sd(self):
        return np.sqrt(np.diag(self.root @ self.root.T))

    def whiten(self, r):
        return (r @ np.linalg.inv(self.root).T).astype(r.dtype)

    def misfit(self, z, y):
        return 0.5 * np.sum(self.whiten(z - y.astype(z.dtype)) ** 2, axis=-1)

    def gradient(self, z, y):
        return (self.whiten(z - y) @ np.linalg.inv(self.root)).astype(z.dtype)

    def curvature_product(self, z, y, f):
        return (self.whiten(f) @ np.linalg.inv(self.root)).astype(z.dtype)

    def sample(self, n, *, rng=None):
        return np.random.default_rng(rng).standard_normal((n, 3)) @ self.root.T

    def fingerprint(self):
        return hashlib.sha256(self.root.tobytes()).hexdigest()


class OwnModel:
    """An ensemble of two parameters to three data."""

    vectorized, stochastic, shape = True, False, (3, 2)

    def __call__(self, u):
        return np.stack([u[:, 0], u[:, 1] ** 2, np.sin(u.sum(axis=1))], axis=1)


class OwnMember:
    """One member of two parameters to three data."""

    vectorized, stochastic, shape = False, False, (3, 2)

    def __call__(self, u):
        return np.array([u[0], u[1] ** 2, np.sin(u.sum())])


@dataclasses.dataclass(frozen=True)
class OwnRule:
    """A step that grows, by one option."""

    h: float = 0.1

    def step(self, seen):
        return self.h * (1 + seen.n)


class Wind(ek.BasePrior):
    """A wind vector of uniform direction and lognormal speed, by the three functions."""

    def __init__(self, sd=1.0):
        super().__init__(["east", "north"])
        self.sd = sd

    def forward(self, z):
        speed, angle = np.exp(self.sd * z[:, 0]), 2 * np.pi * ndtr(z[:, 1])
        return np.stack([speed * np.cos(angle), speed * np.sin(angle)], axis=1)

    def inverse(self, u):
        turns = np.arctan2(u[:, 1], u[:, 0]) / (2 * np.pi) % 1
        return np.stack([np.log(np.hypot(u[:, 0], u[:, 1])) / self.sd, ndtri(turns)], axis=1)

    def log_density(self, u):
        speed = np.hypot(u[:, 0], u[:, 1])
        return stats.lognorm(self.sd).logpdf(speed) - np.log(2 * np.pi * speed)
