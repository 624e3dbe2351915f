"""A method on trial: a problem, an ensemble, and the steps that the method makes from it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, get_args, get_origin

import numpy as np

from ekitools.core.arrays import host
from ekitools.core.streams import Streams
from ekitools.models.evaluate import evaluate
from ekitools.models.plain import LinearModel
from ekitools.priors.gaussian import GaussianPrior
from ekitools.problem import InverseProblem
from ekitools.testing.promises import broken, calling
from ekitools.typing import Array, Level, Quadrature, Status, StepInfo, is_sampler

__all__ = ["Quiet", "Step", "Trial", "linear_problem"]

MOST_STEPS = 60
"""Steps of a run that may have no end of its own."""


def linear_problem() -> InverseProblem:
    """Three parameters, four data, a linear model, and a Gaussian prior and noise.

    Examples
    --------
    >>> from ekitools.testing.trial import linear_problem
    >>> linear_problem().info.shape
    (4, 3)
    """
    matrix = np.random.default_rng(0).normal(size=(4, 3))
    prior = GaussianPrior(np.zeros(3), 1.0)
    return InverseProblem(LinearModel(matrix), prior, 0.1, matrix.sum(axis=1))


class Step(NamedTuple):
    """One call of ``tell``."""

    state: Any
    ended: Status | None
    """What ``finished`` says of the state."""
    g: Array
    following: Any
    info: StepInfo


@dataclass(frozen=True)
class Trial:
    """A method and what it is tried on."""

    method: Any
    problem: InverseProblem
    n_members: int
    seed: int

    @property
    def moves(self) -> bool:
        """Whether the method moves its members: it is no sampler."""
        return not is_sampler(self.method)

    @property
    def nodes(self) -> bool:
        """Whether the members are the nodes of a quadrature rule."""
        return isinstance(self.method, Quadrature)

    @property
    def state_class(self) -> type:
        """The NamedTuple class of the state, without type parameters."""
        return get_origin(self.method.State) or self.method.State

    @cached_property
    def ensemble(self) -> np.ndarray:
        """The initial ensemble, unconstrained."""
        if self.nodes:
            with calling("nodes", "must return the members (J, p) of the first step"):
                return np.asarray(self.method.nodes(self.seen(0)))
        return host(self.problem.prior.sample_unconstrained(self.n_members, rng=self.seed))

    @cached_property
    def walk(self) -> tuple[Step, ...]:
        """The steps from the initial ensemble to the end of the run."""
        return tuple(self.steps(copy.deepcopy(self.ensemble), MOST_STEPS))

    def seen(self, n: int) -> InverseProblem:
        """The problem that step ``n`` sees."""
        streams = Streams(self.seed)
        return self.problem.seen(n, streams) or self.seen(n - 1)

    def stream(self, n: int) -> np.random.Generator:
        """The randomness of step ``n``, the same whenever asked."""
        return np.random.default_rng([self.seed, n])

    def init(self, ensemble: Array) -> Any:
        """The state before the first step."""
        with calling("init", "must accept the initial ensemble (J, p) and the target"):
            state = self.method.init(ensemble, self.seen(0))
        kind = self.state_class
        if not isinstance(state, kind):
            raise broken(
                "init",
                f"must return a state of the class {kind.__name__} that State names",
                type(state).__name__,
                "Return that class, or let State be the class that init returns.",
            )
        return state

    def ask(self, state: Any) -> Array:
        """The members at which the model is evaluated."""
        with calling("ask", "must return the members (J, p) of a state"):
            asked = self.method.ask(state)
        p, rows = self.problem.n_parameters, int(state.ensemble.shape[0])
        if tuple(getattr(asked, "shape", ())) != (rows, p):
            raise broken(
                "ask",
                f"must return the members (J, p) = {(rows, p)}",
                str(getattr(asked, "shape", type(asked).__name__)),
                "Return one row for each member of state.ensemble.",
            )
        return asked

    def outputs(self, asked: Array, n: int) -> Array:
        """The model outputs of members at step ``n``; NaN rows where the model fails."""
        seen, info = self.seen(n), self.problem.info
        u = self.problem.prior.to_physical(asked)
        streams = Streams(self.seed)
        seeds = [streams.member(n, j) for j in range(len(u))] if info.stochastic else None
        return evaluate(seen.model, u, seen.n_data, seeds=seeds).g

    def finished(self, state: Any) -> Status | None:
        """The status with which a state is the last one."""
        with calling("finished", "must return None or a Status for every state"):
            status = self.method.finished(state)
        _check_status("finished", status)
        return status

    def tell(self, state: Any, g: Array, rng: Any = None, **options: Any) -> tuple[Any, StepInfo]:
        """One step, with the randomness of its number where none is given."""
        n = int(state.n)
        rng = self.stream(n) if rng is None else rng
        with calling("tell", "must return the next state from the outputs (J, d)"):
            told = self.method.tell(state, g, self.seen(n), rng=rng, **options)
        pair = isinstance(told, tuple) and len(told) == 2 and not hasattr(told, "_fields")
        if not pair or not isinstance(told[0], self.state_class):
            raise broken(
                "tell",
                f"must return the pair (next state, info) with a state of the class "
                f"{self.state_class.__name__}",
                type(told[0] if pair else told).__name__,
                "Return both, for the state in the class that State names.",
            )
        following, info = told[0], told[1]
        if not isinstance(info, StepInfo):
            raise broken(
                "tell",
                "must return an ekitools.typing.StepInfo with the next state",
                type(info).__name__,
                "Return StepInfo(step, misfit, status, spread).",
            )
        reported: dict[str, Any] = {"extra": info.extra, "by_parameter": info.by_parameter}
        for name, each in reported.items():
            if not isinstance(each, Mapping):
                got, remedy = type(each).__name__, f"Return a dict, or leave {name} out."
                rule = "must be a mapping of names to numbers"
                raise broken(f"StepInfo.{name}", rule, got, remedy)
        _check_status("tell: StepInfo.status", info.status)
        return following, info

    def steps(self, ensemble: Array, most: int) -> list[Step]:
        """At most so many steps from an initial ensemble."""
        state, made = self.init(ensemble), list[Step]()
        while len(made) < most:
            ended = self.finished(state)
            g = self.outputs(self.ask(state), int(state.n))
            if not np.all(np.isfinite(host(g))):
                if not made:
                    raise ValueError(
                        "problem: its model must not fail at draws of the prior, got outputs that "
                        "are not finite. Use a problem whose model is defined everywhere."
                    )
                break
            step = Step(state, ended, g, *self.tell(state, g))
            made.append(step)
            if step.info.status is not None or ended is not None:
                break
            state = step.following
        return made


class Quiet(np.random.Generator):
    """A Generator whose normal draws are zeros, so that no member has noise of its own.

    ``drew`` says whether anything else was drawn, of which the members depend on their order.

    Examples
    --------
    >>> from ekitools.testing.trial import Quiet
    >>> rng = Quiet()
    >>> rng.standard_normal(2), rng.normal(1.0, 2.0), rng.drew
    (array([0., 0.]), array(1.), False)
    """

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))
        self.drew = False

    def standard_normal(self, size: Any = None, dtype: Any = np.float64, out: Any = None) -> Any:
        """Zeros."""
        zeros = np.zeros(() if size is None else size, dtype=dtype)
        if out is None:
            return zeros if size is not None else float(zeros)
        out[...] = 0
        return out

    def normal(self, loc: Any = 0.0, scale: Any = 1.0, size: Any = None) -> Any:
        """``loc``."""
        shape = np.broadcast_shapes(np.shape(loc), np.shape(scale)) if size is None else size
        return np.broadcast_to(np.asarray(loc, dtype=np.float64), shape).copy()

    def multivariate_normal(self, mean: Any, cov: Any, size: Any = None, *_: Any, **__: Any) -> Any:  # noqa: ARG002
        """``mean``."""
        leading = () if size is None else tuple(np.atleast_1d(size))
        mean = np.asarray(mean, dtype=np.float64)
        return np.broadcast_to(mean, (*leading, *mean.shape)).copy()

    def __getattribute__(self, name: str) -> Any:
        if name in _OTHER_DRAWS:
            self.drew = True
        return super().__getattribute__(name)


_OTHER_DRAWS = {name for name in dir(np.random.Generator) if not name.startswith("_")} - {
    *("standard_normal", "normal", "multivariate_normal"),
}


def _check_status(member: str, status: Any) -> None:
    if status is None:
        return
    remedy = 'Return Status(code, sentence, level="good", posterior=True), or without posterior.'
    if not isinstance(status, Status):
        rule = "must be None or an ekitools.typing.Status, which has a level"
        raise broken(member, rule, f"{status!r:.60}", remedy)
    code, sentence, level, posterior = tuple[Any, ...](status)
    kinds = {
        "code": isinstance(code, str) and code.isidentifier(),
        "sentence": isinstance(sentence, str) and sentence.endswith("."),
        "level": level in get_args(Level),
        "posterior": isinstance(posterior, bool),
    }
    rules = {
        "code": "must be a text such as posterior_reached, for programs",
        "sentence": "must be a sentence that ends with a full stop",
        "level": f"must be one of {', '.join(get_args(Level))}",
        "posterior": "must be True or False",
    }
    for name, fine in kinds.items():
        if not fine:
            got = f"{getattr(status, name)!r:.60}"
            raise broken(f"{member}: Status.{name}", rules[name], got, remedy)
