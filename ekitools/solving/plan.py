"""The plan of `solve`: stages, and the choice of the next stage, without a model.

A stage is a set of options, and a decision is a function of the earlier stages' findings. The plan
can therefore be read, tested and stored without a model run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ekitools.core.statuses import CONFIRMED

__all__ = [
    "DEFAULT_BUDGET",
    "ITERATIONS",
    "LEAST_BUDGET",
    "Approximate",
    "Check",
    "Decision",
    "Emulate",
    "Facts",
    "Sample",
    "Seen",
    "Stage",
    "advice",
    "following",
]

DEFAULT_BUDGET, LEAST_BUDGET = 20_000, 500
"""Default and smallest number of model runs."""

_FEW_MEMBERS, _SOME_MEMBERS, _MANY_MEMBERS = 50, 100, 200
_SOME_RUNS, _MANY_RUNS = 3000, 8000
"""Smallest budgets for a first ensemble of 100 and 200 members. On lynx and hare, GNKI is wrong in
4 of 20 cases with 100 members, and in 1 of 20 with 200."""

_APPROXIMATING, ITERATIONS = 0.5, 30
"""Largest share of the budget, and largest number of iterations, of the first stage."""

_SPARE = 20
"""Members in addition to p that a regression on all parameters needs."""

_CLEARLY = 1.5
"""Largest shift of a mean, in standard deviations, for which an ensemble is checked. The shift is
estimated by the weights of the last members."""

_DOUBTFUL = 0.25
"""Largest such shift for which the check comes before an emulator. With few runs the emulator costs
as many runs as a check, and removes the shift."""

_CHECK, _LARGE_CHECK, _MOST_CHECKS = 200, 400, 3200
_MORE, _LEAST_MORE = 4, 2
"""Planned and smallest factor of the number of draws if a check had too few. The check of an
ensemble that Kalman updates made always uses the planned factor, because its bias may remain."""

_PARTICLES, _MOST_PARTICLES = 500, 2000
_FROM_RESULT, _FROM_PRIOR, _ROUNDS = 8, 12, 30
"""Model runs per particle: the smallest number from a Gaussian near the posterior, the smallest
number from the prior, and the planned number."""

_AGAIN = 3
"""Smallest factor of the number of particles for another sampler from the prior."""

_DRAWS, _FEW_DRAWS, _EMULATED = 400, 200, 2000
_ENOUGH = 8000
"""Smallest number of model runs for which a check or a sampler comes before an emulator."""

_MANY_PARAMETERS = 12
"""Largest number of parameters for which a sampler of the model may precede an emulator."""

_MOST_SAMPLED = 40
"""Largest number of parameters of a sample that can be checked."""


@dataclass(frozen=True)
class Facts:
    """Properties of a problem that the plan depends on.

    Parameters
    ----------
    n_parameters : int
        Number of estimated parameters.
    unknown_noise : bool
        Whether scales of the noise are estimated.
    noise : bool
        Whether the noise is Gaussian, not a loss.
    emulates : bool
        Whether the outputs can be emulated: the model is deterministic, has few parameters, and the
        regressor is installed.
    stochastic : bool
        Whether the outputs of the model are random.
    located : bool
        Whether parameters and data have coordinates in the same space.
    """

    n_parameters: int
    unknown_noise: bool = False
    noise: bool = True
    emulates: bool = False
    stochastic: bool = False
    located: bool = False


@dataclass(frozen=True)
class Approximate:
    """An ensemble Kalman method from the prior."""

    method: str
    """Public name of the method."""
    localization: str
    """Public name of a localization rule, or ""."""
    n_members: int
    most_runs: int

    def __str__(self) -> str:
        local = f" and localization by {self.localization.lower()}" if self.localization else ""
        return f"{self.method} with {self.n_members} members{local}"


@dataclass(frozen=True)
class Check:
    """Importance weights of model runs at draws of a proposal, as in `check_posterior`."""

    n: int

    def __str__(self) -> str:
        return f"check by importance weights of {self.n} draws"


@dataclass(frozen=True)
class Emulate:
    """A sample from an emulator that learns from all runs."""

    n_draws: int
    most_runs: int

    def __str__(self) -> str:
        return f"sample by an emulator, with at most {self.most_runs} model runs"


@dataclass(frozen=True)
class Sample:
    """A sample by `TemperedSMC`."""

    n_members: int
    most_runs: int
    start: str
    """"result" or "prior"."""

    def __str__(self) -> str:
        start = "the prior" if self.start == "prior" else "the last ensemble"
        return f"TemperedSMC with {self.n_members} particles from {start}"


Stage = Approximate | Check | Emulate | Sample


class Seen(NamedTuple):
    """A finished stage and its findings."""

    stage: Stage
    runs: int
    reached: bool
    """Whether the stage made an ensemble that should be checked."""
    made: bool = True
    """Whether the stage made an ensemble."""
    finished: bool = True
    """Whether the method of the stage finished, and did not only spend its runs."""
    torn: bool = False
    """Whether there are signs of another mode: the method stopped early, which is typical of an
    ensemble with several modes, or stored runs contradict a check."""
    verdict: str = ""
    few: bool = False
    """Whether a check had too few draws for a verdict, or for the confirmation of a sample."""
    shift: float | None = None
    """Largest shift of a mean by the weights of the last members, in standard deviations."""
    saw: str = ""
    """The findings, in sentences."""
    why: str = ""
    """Reason for the stage, without a full stop."""

    @property
    def line(self) -> str:
        """The stage in the path of a result."""
        name = str(self.stage)
        return f"{self.why}. {name[0].upper()}{name[1:]}: {self.runs} model runs. {self.saw}"


class Decision(NamedTuple):
    """The next stage and the reason; the stage is None at the end."""

    stage: Stage | None
    why: str


def following(facts: Facts, seen: Sequence[Seen], budget: int) -> Decision:
    """Choose the stage that follows the stages ``seen``.

    Examples
    --------
    >>> from ekitools.solving.plan import Facts, Seen, following
    >>> first = following(Facts(3), [], 20_000)
    >>> str(first.stage)
    'GNKI with 200 members'
    >>> good = Seen(first.stage, 2000, reached=True, shift=0.1)
    >>> str(following(Facts(3), [good], 20_000).stage)
    'check by importance weights of 400 draws'
    """
    if not seen:
        return Decision(_first(facts, budget), "Begin at the prior")
    last, left = seen[-1], budget - sum(each.runs for each in seen)
    if last.verdict == CONFIRMED:
        return Decision(None, "The posterior is confirmed")
    if isinstance(last.stage, Check):
        more, least = _MORE * last.stage.n, _MORE
        if _checked(seen) is not Approximate:
            more, least = min(more, left), _LEAST_MORE
        if last.few and least * last.stage.n <= more <= min(left, _MOST_CHECKS):
            return Decision(Check(more), "The check had too few draws for a verdict")
        return _sampling(facts, seen, budget, "The posterior is not confirmed")
    if facts.stochastic and isinstance(last.stage, Approximate):
        return _sampling(facts, seen, budget, "The noise of Kalman methods has other parts")
    if last.torn:
        return _sampling(facts, seen, budget, "There may be several modes")
    if not last.reached:
        return _sampling(facts, seen, budget, "The method did not finish")
    if last.shift is not None and last.shift > _CLEARLY:
        return _sampling(facts, seen, budget, "The ensemble is clearly not the posterior")
    if isinstance(last.stage, Approximate) and _doubtful(last) and left < _ENOUGH:
        decision = _sampling(facts, seen, budget, "The ensemble is doubtful")
        if isinstance(decision.stage, Emulate):
            return decision
    n = _check_size(budget)
    if n > left:
        return Decision(None, "No runs are left for a check")
    # a check of a sample that cannot be repeated with more draws uses all runs
    last_check = not isinstance(last.stage, Approximate) and left < (1 + _LEAST_MORE) * n
    return Decision(Check(left if last_check else n), "The ensemble has to be checked")


def advice(facts: Facts, seen: Sequence[Seen], budget: int) -> str:
    """Advice on the use of ten times the budget, in a sentence."""
    if seen and seen[-1].verdict == CONFIRMED:
        return (
            "The posterior is confirmed. Ten times the runs would only reduce the sampling error. "
            "For a smaller error, use ek.run with more members."
        )
    more = 10 * budget
    stage, _ = following(facts, seen, more)
    if stage is None or isinstance(stage, Approximate):
        first = _first(facts, more)
        if str(first) == str(seen[0].stage if seen else first):
            return (
                "Ten times the runs would not change the verdict, because no remaining stage can "
                "confirm the posterior. Reduce the number of parameters, or use ek.compare with "
                "the result of another method."
            )
        return f"With ten times the runs, ek.solve(problem, budget={more}) starts with {first}."
    return f"With ten times the runs, ek.solve(problem, budget={more}) continues with: {stage}."


def _first(facts: Facts, budget: int) -> Stage:
    most, p = int(_APPROXIMATING * budget), facts.n_parameters
    if not facts.noise:
        usable = budget - _check_size(budget)
        return Sample(_particles(usable), usable, "prior")
    many = _MANY_MEMBERS if budget >= _MANY_RUNS else _SOME_MEMBERS
    n = many if budget >= _SOME_RUNS else _FEW_MEMBERS
    n = max(n, min(3 * p, most // 15))
    most = min(most, ITERATIONS * n)
    if n >= p + _SPARE and facts.stochastic:  # refinements of GNKI do not converge
        return Approximate("EKI", "", n, most)
    if n >= p + _SPARE:
        return Approximate("GNKI", "", n, most)
    # ETKI cannot estimate scales of the noise
    method = "EKI" if facts.unknown_noise else "ETKI"
    return Approximate(method, "Distance" if facts.located else "Correlation", n, most)


def _sampling(facts: Facts, seen: Sequence[Seen], budget: int, why: str) -> Decision:
    """Choose a sampler that was not tried before and fits the budget."""
    p, left = facts.n_parameters, budget - sum(each.runs for each in seen)
    if p > _MOST_SAMPLED:
        return Decision(None, f"{why}, and a sample of {p} parameters cannot be checked")
    usable = left - _check_size(budget)
    samples = [each.stage for each in seen if isinstance(each.stage, Sample)]
    made = [each for each in seen if each.made]
    # a sample that starts near one of several modes, and stays there, would be confirmed
    torn = any(each.torn for each in seen)
    of_prior = isinstance(seen[0].stage, Sample) or any(s.start == "prior" for s in samples)
    whole = bool(made) and (of_prior or not torn)
    n = _particles(usable)
    emulated = Emulate(_FEW_DRAWS if usable < 1000 else _DRAWS, min(usable, _EMULATED))
    emulates = (
        facts.emulates
        and usable >= _FEW_DRAWS + 100
        and whole
        and not any(isinstance(each.stage, Emulate) for each in seen)
    )
    if emulates and (usable < _ENOUGH or p > _MANY_PARAMETERS):
        return Decision(emulated, why)
    if whole and not samples and usable >= _FROM_RESULT * n:
        return Decision(Sample(n, usable, "result"), why)
    before = max((each.n_members for each in samples if each.start == "prior"), default=0)
    if usable >= _FROM_PRIOR * n and n >= _AGAIN * before:
        return Decision(Sample(n, usable, "prior"), why)
    if emulates:
        return Decision(emulated, why)
    return Decision(None, f"{why}, and the remaining {left} runs are too few for another stage")


def _doubtful(seen: Seen) -> bool:
    return not seen.finished or (seen.shift is not None and seen.shift > _DOUBTFUL)


def _checked(seen: Sequence[Seen]) -> type:
    """Type of the stage that made the last checked ensemble."""
    return type(next(each.stage for each in reversed(seen) if not isinstance(each.stage, Check)))


def _check_size(budget: int) -> int:
    return _LARGE_CHECK if budget >= _MANY_RUNS else _CHECK if budget >= 1000 else _CHECK // 2


def _particles(usable: int) -> int:
    return max(_PARTICLES, min(usable // _ROUNDS, _MOST_PARTICLES))
