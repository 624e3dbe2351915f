"""Parts that each break one promise of their contract, for the checks of ekitools.testing."""

import dataclasses
import enum
import threading
from typing import Any, ClassVar, NamedTuple

import numpy as np

import ekitools as ek
from ekitools.typing import PerParameter, Reported, Status
from zoo.own import Own, OwnMember, OwnModel, OwnNoise, OwnPrior, OwnRule, OwnState, Walk

# ------------------------------------------------------------------------ methods: members


@dataclasses.dataclass(frozen=True)
class WithoutState:
    aim: ClassVar[str] = "fit"
    normalisation: ClassVar[str] = "1/J"
    init, ask, tell, finished, select = Own.init, Own.ask, Own.tell, Own.finished, Own.select


@dataclasses.dataclass(frozen=True)
class WithoutSelect:
    State: ClassVar[type] = OwnState
    aim: ClassVar[str] = "fit"
    normalisation: ClassVar[str] = "1/J"
    init, ask, tell, finished = Own.init, Own.ask, Own.tell, Own.finished


class WrongAim(Own):
    aim = "learning"


class WrongNormalisation(Own):
    normalisation = "J"


class WrongLinearOver(Own):
    linear_over = "all"


class FlagOfText(Own):
    updates_in_place = "no"

    def tell(self, state, g, target, *, rng, in_place=False):
        return super().tell(state, g, target, rng=rng)


class ListOfRules(Own):
    stop: ClassVar[Any] = []


class WithoutRng(Own):
    def tell(self, state, g, target):
        return super().tell(state, g, target, rng=np.random.default_rng(0))


class StateOfDict(Own):
    State = dict


class Timeless(NamedTuple):
    ensemble: np.ndarray
    n: int


class StateWithoutTime(Own):
    State = Timeless


# ------------------------------------------------------------------------ methods: options


class Plain:
    State, aim, normalisation = Own.State, Own.aim, Own.normalisation
    steps, inertia = 5, 0.1
    init, ask, tell, finished = Own.init, Own.ask, Own.tell, Own.finished
    select, info, moved, velocity = Own.select, Own.info, Own.moved, Own.velocity


@dataclasses.dataclass
class Mutable(Plain):
    steps: int = 5


@dataclasses.dataclass(frozen=True, eq=False)
class Incomparable(Plain):
    steps: int = 5


@dataclasses.dataclass(frozen=True)
class OptionOfList(Own):
    sizes: Any = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class OptionOfArray(Own):
    sizes: Any = dataclasses.field(default_factory=lambda: np.ones(2))


@dataclasses.dataclass(frozen=True)
class OptionOfLambda(Own):
    function: Any = dataclasses.field(default_factory=lambda: lambda n: n)


class Setting:
    """Options of which JSON knows the name alone."""

    def __init__(self, h):
        self.h = h

    def __eq__(self, other):
        return self.h == other.h

    def __hash__(self):
        return hash(self.h)


@dataclasses.dataclass(frozen=True)
class OptionOfComplex(Own):
    number: Any = dataclasses.field(default_factory=lambda: np.complex128(1j))


class Forgetful(Setting):
    """It comes back from pickle as another one."""

    def __reduce__(self):
        return type(self), (self.h + 1,)


@dataclasses.dataclass(frozen=True)
class OptionThatForgets(Own):
    setting: Any = dataclasses.field(default_factory=lambda: Forgetful(2.0))


class Touchy(Setting):
    def __eq__(self, other):
        raise TypeError("do not compare")

    __hash__ = Setting.__hash__

    def __copy__(self):
        return Touchy(self.h)


@dataclasses.dataclass(frozen=True)
class OptionThatRaises(Own):
    setting: Any = dataclasses.field(default_factory=lambda: Touchy(2.0))


@dataclasses.dataclass(frozen=True)
class OptionOfObject(Own):
    setting: Any = dataclasses.field(default_factory=lambda: Setting(2.0))


@dataclasses.dataclass(frozen=True)
class Doubling(Own):
    h: float = 1.0

    def __post_init__(self):
        object.__setattr__(self, "h", 2 * self.h)


# -------------------------------------------------------------------------- methods: state


class OtherState(Own):
    def init(self, ensemble, target):
        return Timeless(ensemble, 0)


class StartsAtOne(Own):
    def init(self, ensemble, target):
        return super().init(ensemble, target)._replace(n=1)


class ShiftsTheGiven(Own):
    def init(self, ensemble, target):
        ensemble += 0.1
        return super().init(ensemble, target)


class EndsAtOnce(Own):
    def finished(self, state):
        return Status("ended", "It ends.", level="good")


class StateWithList(Own):
    def init(self, ensemble, target):
        return super().init(ensemble, target)._replace(memory=[1.0])

    def velocity(self, state):
        return np.zeros_like(state.ensemble)

    def select(self, state, index):
        return super().select(state._replace(memory=None), index)._replace(memory=state.memory)


class ListAfterAStep(Own):
    def tell(self, state, g, target, *, rng):
        new, info = super().tell(state, g, target, rng=rng)
        return (new, info) if info.status else (new._replace(memory=[1.0]), info)

    def velocity(self, state):
        return np.zeros_like(state.ensemble)


class HalfTheMembers(Own):
    def init(self, ensemble, target):
        return super().init(ensemble[:5], target)


class RefusesToBegin(Own):
    def init(self, ensemble, target):
        raise RuntimeError("not today")


class RefusesToAsk(Own):
    def ask(self, state):
        raise RuntimeError("not today")


class RefusesToEnd(Own):
    def finished(self, state):
        raise RuntimeError("not today")


class AsksAnew(Own):
    def ask(self, state):
        return state.ensemble + np.random.default_rng().standard_normal(state.ensemble.shape)


class AsksForOne(Own):
    def ask(self, state):
        return state.ensemble[:1]


class AsksInFloat32(Own):
    def ask(self, state):
        return state.ensemble.astype(np.float32)


class AsksAndShifts(Own):
    def ask(self, state):
        state.ensemble[0] += 1e-3
        return state.ensemble.copy()


class Uncounted(Own):
    def tell(self, state, g, target, *, rng):
        new, info = super().tell(state, g, target, rng=rng)
        return (state, info) if info.status else (new._replace(n=2 * new.n), info)


class WithoutTime(Own):
    def tell(self, state, g, target, *, rng):
        new, info = super().tell(state, g, target, rng=rng)
        return new._replace(t=0.0), info


class Splits(Own):
    def tell(self, state, g, target, *, rng):
        new, info = super().tell(state, g, target, rng=rng)
        if info.status or state.n != 1:
            return new, info
        return self.select(new, np.append(np.arange(len(g)), 0)), info


class TextStatus(Own):
    def finished(self, state):
        return "done" if state.n == self.steps else None


class OldStatus(NamedTuple):
    code: str
    sentence: str


class StatusWithoutLevel(Own):
    def finished(self, state):
        return OldStatus("done", "Done.") if state.n == self.steps else None


class StatusOfWrongLevel(Own):
    def finished(self, state):
        return Status("done", "Done.", level="fine") if state.n == self.steps else None


class StatusWithoutSentence(Own):
    def finished(self, state):
        return Status("done", "done", level="good") if state.n == self.steps else None


# ------------------------------------------------------------------------- methods: purity


class StatusFromTell(Own):
    """Its status of the wrong kind comes from `tell`."""

    def info(self, state, g, target):
        info = super().info(state, g, target)
        return info if info.status is None else info._replace(status="done")


class GlobalNoise(Own):
    def moved(self, state, r, rng):
        return super().moved(state, r, np.random.default_rng())


class Counts(Own):
    """It counts its steps on itself."""

    def moved(self, state, r, rng):
        u, velocity = super().moved(state, r, rng)
        count = getattr(self, "_count", 0)
        object.__setattr__(self, "_count", count + 1)
        return u + 1e-3 * count, velocity


class ClipsOutputs(Own):
    def tell(self, state, g, target, *, rng):
        np.clip(g, -1, 1, out=g)
        return super().tell(state, g, target, rng=rng)


class MovesInPlace(Own):
    def moved(self, state, r, rng):
        u, velocity = super().moved(state, r, rng)
        state.ensemble[...] = u
        return state.ensemble, velocity


class TwoBuffers(Own):
    """Its ensembles are in turn one of two arrays."""

    buffers: ClassVar[Any] = np.zeros((2, 9, 3))

    def moved(self, state, r, rng):
        u, velocity = super().moved(state, r, rng)
        if u.shape != self.buffers.shape[1:] or u.dtype != np.float64:
            return u, velocity
        self.buffers[state.n % 2] = u
        return self.buffers[state.n % 2], velocity


# --------------------------------------------------------------------------- methods: info


class Reports(Own):
    """It reports something else."""

    def changes(self, state, info):
        return {}

    def tell(self, state, g, target, *, rng):
        new, info = super().tell(state, g, target, rng=rng)
        return new, info._replace(**self.changes(state, info))


class TupleForInfo(Own):
    def tell(self, state, g, target, *, rng):
        new, info = super().tell(state, g, target, rng=rng)
        return new, tuple(info)


class StateAlone(Own):
    def tell(self, state, g, target, *, rng):
        return super().tell(state, g, target, rng=rng)[0]


class PenalisedMisfit(Reports):
    def changes(self, state, info):
        return {"misfit": info.misfit + 1}


class MisfitInFloat32(Reports):
    def changes(self, state, info):
        return {"misfit": info.misfit.astype(np.float32)}


class ChangingNames(Reports):
    def changes(self, state, info):
        return {"extra": {f"number_{state.n}": 1.0}}


class ArrayInExtra(Reports):
    def changes(self, state, info):
        return {"extra": {"best": Reported(np.ones(2), "two")}}


class NameOfAVariable(Reports):
    def changes(self, state, info):
        return {"extra": {"misfit": 1.0}}


class ListForExtra(Reports):
    def changes(self, state, info):
        return {"extra": [1.0]}


class ListByParameter(Reports):
    def changes(self, state, info):
        return {"by_parameter": [1.0]}


class ParameterWithoutItsName(Reports):
    def changes(self, state, info):
        return {"by_parameter": {"size": np.ones(3)}}


class OneNumberByParameter(Reports):
    def changes(self, state, info):
        return {"by_parameter": {"size": PerParameter(np.ones(1), "size of the parameter")}}


class InfiniteStep(Reports):
    def changes(self, state, info):
        return {"step": np.inf} if state.n == 1 else {}


class SpreadOfFloat32(Reports):
    def changes(self, state, info):
        return {"spread": np.float32(info.spread)}


class VectorForAverage(Reports):
    def changes(self, state, info):
        return {"average": state.ensemble.mean(axis=0)}


class ObjectiveOfMembers(Reports):
    def changes(self, state, info):
        return {"objective": info.misfit}


class ShowsWithoutKeeping(Reports):
    def changes(self, state, info):
        return {"shown": (state.ensemble, state.ensemble, np.full(len(state.ensemble), 0.1))}


class ConstantSpread(Reports):
    def changes(self, state, info):
        return {"spread": 1.0}


class WalkWithoutShown(Walk):
    def tell(self, state, g, target, *, rng):
        new, info = super().tell(state, g, target, rng=rng)
        return new, info._replace(shown=None)


class WalkWithWeightsOfOne(Walk):
    def tell(self, state, g, target, *, rng):
        new, info = super().tell(state, g, target, rng=rng)
        return new, info._replace(shown=info.shown._replace(weight=np.ones(len(g))))


class WalkThatShowsOne(Walk):
    def tell(self, state, g, target, *, rng):
        new, info = super().tell(state, g, target, rng=rng)
        return new, info._replace(shown=info.shown._replace(ensemble=state.ensemble[:1]))


# ---------------------------------------------------------------------------- methods: end


class GoesOn(Own):
    """Its `tell` does not ask whether it is finished."""

    def info(self, state, g, target):
        return super().info(state, g, target)._replace(status=None)


class OtherEnd(Own):
    def info(self, state, g, target):
        info = super().info(state, g, target)
        if info.status is None:
            return info
        return info._replace(status=Status("tired", "It is tired.", level="good"))


class MovesAtTheEnd(Own):
    def tell(self, state, g, target, *, rng):
        new, info = super().tell(state, g, target, rng=rng)
        if info.status is None:
            return new, info
        return new._replace(ensemble=new.ensemble + 1.0), info


class StepsAtTheEnd(Reports):
    def changes(self, state, info):
        return {"step": 0.1}


class PosteriorOfAFit(Own):
    def finished(self, state):
        status = super().finished(state)
        return status and status._replace(posterior=True)


# ------------------------------------------------------------- methods: members and failures


class ForgetsVelocity(Own):
    def select(self, state, index):
        return super().select(state, index)._replace(memory=state.memory)

    def velocity(self, state):
        return 0.0 * state.ensemble


class ForgetsTheOrder(Own):
    """It leaves velocities where they are if no member is dropped."""

    def select(self, state, index):
        new = super().select(state, index)
        return new if len(index) < len(state.ensemble) else new._replace(memory=state.memory)


class ForgetsVariance(Own):
    def select(self, state, index):
        return super().select(state, index)._replace(variance=state.variance)


class SelectsTheFirst(Own):
    def select(self, state, index):
        return super().select(state, np.arange(len(index)))


class SelectResetsTime(Own):
    def select(self, state, index):
        return super().select(state, index)._replace(n=0, t=0.0)


class DroppingResetsTime(Own):
    def select(self, state, index):
        new = super().select(state, index)
        return new if len(index) == len(state.ensemble) else new._replace(n=0, t=0.0)


class Regrows(Own):
    """It replaces by itself the members that were dropped."""

    def moved(self, state, r, rng):
        u, velocity = super().moved(state, r, rng)
        if len(u) != 8:
            return u, velocity
        return np.concatenate([u, 2 * u[:1]]), np.concatenate([velocity, velocity[:1]])


class MapRefuses(Own):
    def map_members(self, state, rows, index):
        raise NotImplementedError("members cannot be combined")


class SelectsATuple(Own):
    def select(self, state, index):
        return tuple(super().select(state, index))


class SelectInPlace(Own):
    def select(self, state, index):
        state.ensemble.sort(axis=0)
        return super().select(state, index)


class SelectRefuses(Own):
    def select(self, state, index):
        raise NotImplementedError("members cannot be dropped")


class SelectOnce(Own):
    """Selecting twice is not selecting at once."""

    def select(self, state, index):
        new = super().select(state, index)
        return new._replace(initial=state.initial * len(state.ensemble) / len(index))


class NeedsNine(Own):
    def moved(self, state, r, rng):
        if len(r) < 9:
            raise ValueError("nine members are needed")
        return super().moved(state, r, rng)


class FirstIsSpecial(Own):
    def moved(self, state, r, rng):
        u, velocity = super().moved(state, r, rng)
        u[0] *= 1.1
        return u, velocity


class Maps(Own):
    """It maps its members, and forgets their velocities."""

    def map_members(self, state, rows, index):
        u = rows(state.ensemble)
        variance = float(np.sum(np.var(u, axis=0, ddof=1)))
        return state._replace(ensemble=u, variance=variance)


class NanAfterAFailure(Own):
    """It divides by the number of members that were lost."""

    def moved(self, state, r, rng):
        u, velocity = super().moved(state, r, rng)
        return (u, velocity) if len(r) != 8 or state.n < 2 else (u * np.nan, velocity)


class WalkThatWeighsFailures(Walk):
    def tell(self, state, g, target, *, rng):
        new, info = super().tell(state, g, target, rng=rng)
        weight = np.full(len(g), 1 / len(g))
        return new, info._replace(shown=info.shown._replace(weight=weight))


class NodesOfAnotherGaussian(ek.UKI):
    def drawn(self, state, *, rng):
        drawn = super().drawn(state, rng=rng)
        return drawn._replace(root=2 * drawn.root)


class NodesWithScoresOfOne(ek.UKI):
    def drawn(self, state, *, rng):
        drawn = super().drawn(state, rng=rng)
        return drawn._replace(scores=drawn.scores[0])


class NodesThatCanBeDropped(ek.UKI):
    def select(self, state, index):
        return state._replace(ensemble=state.ensemble[index])


# --------------------------------------------------------------------------- methods: runs


class Float64(Own):
    def moved(self, state, r, rng):
        u, velocity = super().moved(state, r, rng)
        return u + 0.0 * rng.standard_normal(u.shape), velocity


class MisfitOfTheOutputs(Own):
    def info(self, state, g, target):
        info = super().info(state, g, target)
        return info._replace(misfit=target.noise.misfit(g, target.data))


class InPlaceOtherwise(Own):
    updates_in_place = True

    def tell(self, state, g, target, *, rng, in_place=False):
        if in_place and self.finished(state) is None:
            state.ensemble[0] += 1.0
        return super().tell(state, g, target, rng=rng)


class OnDiskOfAnArray(Own):
    by_coefficients = True


class OnDiskOtherwise(ek.ETKI):
    def tell(self, state, g, target, *, rng):
        if not isinstance(state.ensemble, np.ndarray):
            g = g + 0.1
        return super().tell(state, g, target, rng=rng)


class InPlaceAtTheEnd(Own):
    updates_in_place = True

    def tell(self, state, g, target, *, rng, in_place=False):
        kept = state._replace(ensemble=state.ensemble.copy())
        if in_place and self.finished(state) is not None:
            state.ensemble[0] += 1.0
        return super().tell(kept, g, target, rng=rng)


class VagueState(NamedTuple):
    ensemble: np.ndarray
    n: int
    t: float
    variance: float
    initial: float
    memory: object


class Vague(Own):
    State = VagueState


class Phase(enum.IntEnum):
    FIRST = 1


class PhaseState(NamedTuple):
    ensemble: np.ndarray
    n: int
    t: float
    variance: float
    initial: float
    memory: Any
    phase: Phase = Phase.FIRST


class KeepsAnEnum(Own):
    """A number of its state comes back from a checkpoint as a plain one."""

    State = PhaseState

    def select(self, state, index):
        return super().select(state._replace(memory=None), index)

    def velocity(self, state):
        return np.zeros_like(state.ensemble)

    def tell(self, state, g, target, *, rng):
        new, info = super().tell(state, g, target, rng=rng)
        return new._replace(memory=None, phase=state.phase), info


class KeepsObjects(KeepsAnEnum):
    """Its state holds an array that NumPy cannot save."""

    def init(self, ensemble, target):
        new = super().init(ensemble, target)
        return new._replace(phase=np.array(["first", None], dtype=object))


class Caches(Own):
    """It keeps on itself what the next step needs: pure to look at, until it is resumed."""

    def moved(self, state, r, rng):
        u, velocity = super().moved(state, r, rng)
        cache = getattr(self, "_cache", None)
        if cache is None:
            object.__setattr__(self, "_cache", cache := {})
        old = cache.get(state.n, np.zeros(u.shape[1]))
        cache[state.n + 1] = u.mean(axis=0)
        return u + (1e-3 * old).astype(u.dtype), velocity


class OnlyItsOwnMembers(Own):
    """It refuses members that it did not make."""

    made: ClassVar[Any] = {}

    def moved(self, state, r, rng):
        known = self.made.get(state.n)
        if state.n >= 3 and known is not None and not np.isclose(known, state.ensemble).any():
            raise ValueError("members of another run")
        u, velocity = super().moved(state, r, rng)
        self.made.setdefault(state.n + 1, u)
        return u, velocity


# ---------------------------------------------------------------------------------- priors


class PriorWithoutNames(OwnPrior):
    names = ("width",)


class PriorWithoutParameters(OwnPrior):
    n_parameters = 0


class PriorOfWrongInverse(OwnPrior):
    def to_unconstrained(self, u):
        return np.log(u) + 1e-3


class PriorOfWrongUnwhitening(OwnPrior):
    def unwhiten(self, w):
        return (self.sd * w).astype(w.dtype)

    def sample_unconstrained(self, n, *, rng=None):
        return self.mean + super().sample_unconstrained(n, rng=rng)


class PriorOfWrongDensity(OwnPrior):
    """It forgets the Jacobian."""

    def logpdf(self, u):
        return super().logpdf(u) + np.log(u).sum(axis=-1)


class PriorOfRoundedDensity(OwnPrior):
    def logpdf(self, u):
        return np.sum(super().logpdf(u)) if u.ndim == 2 else super().logpdf(u)


class PriorOfRelativeDensity(OwnPrior):
    def logpdf(self, u):
        found = super().logpdf(u)
        return found if u.ndim == 1 else found - found.max()


class PriorOfWideDraws(OwnPrior):
    def sample_unconstrained(self, n, *, rng=None):
        z = super().sample_unconstrained(n, rng=rng)
        return self.mean + 1.1 * (z - self.mean)

    def sample(self, n, *, rng=None):
        return self.to_physical(super().sample_unconstrained(n, rng=rng))


class PriorOfShiftedDraws(OwnPrior):
    def sample(self, n, *, rng=None):
        return 1.1 * super().sample(n, rng=rng)


class PriorOfGlobalDraws(OwnPrior):
    def sample_unconstrained(self, n, *, rng=None):
        return super().sample_unconstrained(n)


class PriorOfOneSeed(OwnPrior):
    def sample(self, n, *, rng=None):
        return super().sample(n, rng=1)


class PriorOfVectors(OwnPrior):
    def sample(self, n, *, rng=None):
        return super().sample(n, rng=rng).ravel()


class PriorInPlace(OwnPrior):
    def to_physical(self, z):
        return np.exp(z, out=z)


class PriorInPlaceOfDensity(OwnPrior):
    def logpdf(self, u):
        found = super().logpdf(u)
        u *= 2
        return found


class PriorThatRaises(OwnPrior):
    def __init__(self, name):
        self.name = name

    def sample_unconstrained(self, n, *, rng=None):
        self.refuse("sample_unconstrained")
        return super().sample_unconstrained(n, rng=rng)

    def to_unconstrained(self, u):
        self.refuse("to_unconstrained")
        return super().to_unconstrained(u)

    def logpdf(self, u):
        self.refuse("logpdf")
        return super().logpdf(u)

    def fingerprint(self):
        self.refuse("fingerprint")
        return super().fingerprint()

    def refuse(self, name):
        if self.name == name:
            raise RuntimeError("not today")


class PriorOfHiddenNames(OwnPrior):
    @property
    def names(self):
        raise RuntimeError("not today")


class PriorOfSeedsOnly(OwnPrior):
    def sample_unconstrained(self, n, *, rng=None):
        seed = rng if isinstance(rng, int) else 0
        return super().sample_unconstrained(n, rng=seed)


class PriorOfInfiniteDraws(OwnPrior):
    def sample(self, n, *, rng=None):
        return super().sample(n, rng=rng) * np.array([1.0, np.inf])


class PriorOfFlatMaps(OwnPrior):
    def to_unconstrained(self, u):
        return super().to_unconstrained(u).ravel()


class PriorOfCorrelatedDraws(OwnPrior):
    def sample_unconstrained(self, n, *, rng=None):
        z = super().sample_unconstrained(n, rng=rng)
        z[:, 1] += 0.1 * self.sd[1] * (z - self.mean)[:, 0] / self.sd[0]
        return z


class PriorOfWideLastDraws(ek.GaussianPrior):
    """Only the last of many parameters is wrong."""

    def sample_unconstrained(self, n, *, rng=None):
        z = super().sample_unconstrained(n, rng=rng)
        z[:, -1] *= 1.1
        return z


class PriorWithoutNan(OwnPrior):
    def to_physical(self, z):
        return np.nan_to_num(super().to_physical(z))


class PriorOfFloat64(OwnPrior):
    def to_unconstrained(self, u):
        return np.log(u.astype(np.float64))


class PriorOfChangingFingerprint(OwnPrior):
    def fingerprint(self):
        return f"prior at {id(self)}"


class PriorOfBytes(OwnPrior):
    def fingerprint(self):
        return b"prior"


# ---------------------------------------------------------------------------------- noises


class NoiseWithoutSample:
    n_data, sd, root = 3, np.ones(3), OwnNoise.root
    whiten, misfit, gradient = OwnNoise.whiten, OwnNoise.misfit, OwnNoise.gradient
    fingerprint = OwnNoise.fingerprint


class NoiseOfNoSize(OwnNoise):
    n_data = 0


class NoiseOfOneSd(OwnNoise):
    sd = np.array(1.0)


class NoiseOfZeroSd(OwnNoise):
    sd = np.zeros(3)


class NoiseOfVariances(OwnNoise):
    @property
    def sd(self):
        return super().sd ** 2


class NoiseOfRootRows(OwnNoise):
    def marginal(self, kept):
        return ek.GaussianNoise(np.diag(self.root)[kept] ** 2)


class NoiseOfWrongGradient(OwnNoise):
    def gradient(self, z, y):
        return 2 * super().gradient(z, y)


class NoiseOfWrongMisfit(OwnNoise):
    def misfit(self, z, y):
        return 2 * super().misfit(z, y)

    def gradient(self, z, y):
        return 2 * super().gradient(z, y)


class NoiseOfTotalMisfit(OwnNoise):
    def misfit(self, z, y):
        return np.sum(super().misfit(z, y))


class NoiseOfRelativeMisfit(OwnNoise):
    def misfit(self, z, y):
        found = super().misfit(z, y)
        return found - found.min() if z.ndim == 2 else found


class NoiseInPlace(OwnNoise):
    def misfit(self, z, y):
        z -= y
        return super().misfit(z, 0 * y)


class NoiseWithoutCorrelation(OwnNoise):
    def sample(self, n, *, rng=None):
        return np.random.default_rng(rng).standard_normal((n, 3)) * self.sd


class NoiseWithAMean(OwnNoise):
    def sample(self, n, *, rng=None):
        return super().sample(n, rng=rng) + 0.1


class NoiseOfGlobalDraws(OwnNoise):
    def sample(self, n, *, rng=None):
        return super().sample(n)


class NoiseOfOneSeed(OwnNoise):
    def sample(self, n, *, rng=None):
        return super().sample(n, rng=1)


class NoiseOfColumns(OwnNoise):
    def sample(self, n, *, rng=None):
        return super().sample(n, rng=rng).T


class NoiseOfWrongCurvature(OwnNoise):
    def curvature_product(self, z, y, f):
        return self.whiten(f)


class NoiseOfHalfSamples(OwnNoise):
    outputs_per_sample = 2


class NoiseOfFloat64(OwnNoise):
    def gradient(self, z, y):
        return super().gradient(z.astype(np.float64), y)


class NoiseThatMixesRows(OwnNoise):
    def whiten(self, r):
        white = super().whiten(r)
        return white if np.isfinite(white).all() else np.full_like(white, np.nan)


class NoiseWithoutNan(OwnNoise):
    def whiten(self, r):
        return super().whiten(np.nan_to_num(r))


class NoiseThatRaises(OwnNoise):
    def __init__(self, name):
        self.name = name

    def misfit(self, z, y):
        self.refuse("misfit")
        return super().misfit(z, y)

    def gradient(self, z, y):
        self.refuse("gradient")
        return super().gradient(z, y)

    def sample(self, n, *, rng=None):
        self.refuse("sample")
        return super().sample(n, rng=rng)

    def refuse(self, name):
        if self.name == name:
            raise RuntimeError("not today")


class NoiseOfInfiniteMisfit(OwnNoise):
    def misfit(self, z, y):
        return super().misfit(z, y) + np.inf


class NoiseInPlaceOfGradient(OwnNoise):
    def gradient(self, z, y):
        found = super().gradient(z, y)
        z -= y
        return found


class NoiseOfTotalGradient(OwnNoise):
    def gradient(self, z, y):
        return super().gradient(z, y).sum(axis=0)


class NoiseOfChangingFingerprint(OwnNoise):
    def fingerprint(self):
        return f"noise at {id(self)}"


class NoiseOfALock(OwnNoise):
    """It cannot be pickled."""

    def __init__(self):
        self.lock = threading.Lock()


class LossOfWrongGradient:
    """A loss that is no noise."""

    def misfit(self, z, y):
        return np.sum((z - y.astype(z.dtype)) ** 4, axis=-1)

    def gradient(self, z, y):
        return (z - y.astype(z.dtype)) ** 3

    def fingerprint(self):
        return "quartic"


# ---------------------------------------------------------------------------------- models


class ModelOfOneBuffer(OwnModel):
    def __init__(self):
        self.buffer = np.zeros((20, 3))

    def __call__(self, u):
        self.buffer[: len(u)] = super().__call__(u)
        return self.buffer[: len(u)]


class MemberOfOneBuffer(OwnMember):
    def __init__(self):
        self.buffer = np.zeros(3)

    def __call__(self, u):
        self.buffer[:] = super().__call__(u)
        return self.buffer


class ModelThatMixesRows(OwnModel):
    def __call__(self, u):
        g = super().__call__(u)
        return g - g.mean(axis=0)


class ModelByOrder(OwnModel):
    def __call__(self, u):
        return super().__call__(u) + np.arange(len(u))[:, None]


class ModelOfTransposes(OwnModel):
    def __call__(self, u):
        return super().__call__(u).T


class ModelOfOneRow(OwnModel):
    def __call__(self, u):
        return super().__call__(u)[0]


class ModelOfAFlagOfText(OwnModel):
    vectorized = "yes"


class ModelOfBothFlags(OwnModel):
    stochastic = True


class ModelOfWrongShape(OwnModel):
    shape = (4, 2)


class ModelOfFewNames(OwnModel):
    data_names = ("a",)


class ModelOfComplexNumbers(OwnModel):
    def __call__(self, u):
        return super().__call__(u) + 0j


class MemberOfRaggedLists(OwnMember):
    def __call__(self, u):
        return [[1.0], [1.0, 2.0]]


class MemberOfWords(OwnMember):
    shape = "wide"


class MemberOfManyParameters(OwnMember):
    shape, n_parameters = None, "many"


class ModelOfFirstRows(OwnModel):
    """It drops repeated members."""

    def __call__(self, u):
        return super().__call__(u)[:6]


class ModelThatFails(OwnModel):
    def __call__(self, u):
        raise RuntimeError("no convergence")


class MemberThatFails(OwnMember):
    def __call__(self, u):
        raise RuntimeError("no convergence")


class MemberOfNan(OwnMember):
    def __call__(self, u):
        return super().__call__(u) * np.nan


class MemberInPlace(OwnMember):
    def __call__(self, u):
        u *= 2
        return super().__call__(u)


class MemberOfAMatrix(OwnMember):
    def __call__(self, u):
        return super().__call__(u)[None]


class MemberOfChangingLength(OwnMember):
    shape = None
    n_parameters = 2

    def __call__(self, u):
        g = super().__call__(u)
        return g if u[0] > 0 else g[:2]


class MemberWithNoise(OwnMember):
    def __call__(self, u):
        return super().__call__(u) + np.random.default_rng().standard_normal(3)


class StochasticWithoutRng(OwnMember):
    stochastic = True


class StochasticByItself(OwnMember):
    stochastic = True

    def __call__(self, u, rng):
        return super().__call__(u) + np.random.default_rng().standard_normal(3)


class ModelOfNoAdjoint(OwnModel):
    def adjoint(self, r):
        raise RuntimeError("not today")


class ModelOfWrongAdjoint:
    vectorized, stochastic, shape = True, False, (3, 2)
    matrix = np.array([[1.0, 2.0], [0.0, 1.0], [3.0, 0.0]])

    def __call__(self, u):
        return u @ self.matrix.T

    def adjoint(self, r):
        return 2 * r @ self.matrix


# ------------------------------------------------------------------------------- step rules


class RuleWithoutStep:
    pass


class RuleOfANumber:
    step = 0.1


class RuleOfZero(OwnRule):
    def step(self, seen):
        return max(0.0, 1 - seen.n)


class RuleOfInfinity(OwnRule):
    def step(self, seen):
        mean = float(seen.misfit.mean())
        return 1 / mean if mean else np.inf


class RuleOfFloat32(OwnRule):
    def step(self, seen):
        return np.float32(super().step(seen))


class RuleInPlace(OwnRule):
    def step(self, seen):
        seen.misfit.sort()
        seen.misfit[0] = 0.0
        return super().step(seen)


class RuleThatCounts(OwnRule):
    def step(self, seen):
        count = getattr(self, "_count", 1)
        object.__setattr__(self, "_count", count + 1)
        return 0.1 * count


class RuleThatRaises(OwnRule):
    def step(self, seen):
        return 1 / (seen.remaining - 0.5)


class PlainRule:
    def __init__(self, h):
        self.h = h

    def step(self, seen):
        return self.h
