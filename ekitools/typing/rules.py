"""Contracts of step rules and stopping rules, and the status with which a run ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np

Level: TypeAlias = Literal["good", "note", "care", "bad"]
"""The level of a finding. "note" is information; "care" is a reason to doubt the result."""


class Status(NamedTuple):
    """The reason for the end of a run: a code for programs, a sentence for people.

    See Also
    --------
    Progress : The numbers from which a stopping rule makes a status.
    ekitools.run : Records the status in the result.

    Examples
    --------
    >>> import ekitools as ek
    >>> status = ek.typing.Status("calm", "The members no longer move.", level="good")
    >>> status.code, status.level, status.posterior
    ('calm', 'good', False)
    """

    code: str
    sentence: str
    level: Level = "care"
    """"good" (the run reached its end), "care" (a reason to doubt the result) or "bad"."""
    posterior: bool = False
    """Whether the last ensemble is meant as a sample of the posterior."""


class Seen(NamedTuple):
    """The numbers that a step rule receives.

    See Also
    --------
    Schedule : The step rule that receives these numbers.

    Examples
    --------
    >>> import ekitools as ek
    >>> seen = ek.typing.Seen(0, 0.0, 1.0, misfit=[30.0, 10.0], n_data=20, d_norm=lambda: 5.0)
    >>> round(ek.NormStep(0.5).step(seen), 4)  # h / (‖D‖ + ε)
    0.1
    """

    n: int
    """Number of the step; in `ekitools.EKI` with an end time and batches, of the epoch."""
    t: float
    remaining: float
    """t_end − t; infinite where the run has no end time."""
    misfit: np.ndarray
    """Φ of every member, ``(J,)``."""
    n_data: int
    d_norm: Callable[[], float]
    """‖D‖ (Frobenius) of D_jk = ⟨G_k − Ḡ, ∇_zΨ(G_j, y)⟩ / J, computed when called."""


@runtime_checkable
class Schedule(Protocol):
    """A step rule: a pure function from `Seen` to h. The caller cuts h at ``seen.remaining``.

    See Also
    --------
    ekitools.FixedStep, ekitools.NormStep, ekitools.MisfitController : Step rules.
    ekitools.testing.check_schedule : Tests a rule of your own.

    Examples
    --------
    >>> import ekitools as ek
    >>> class Growing:
    ...     def step(self, seen):
    ...         return 0.1 * 2**seen.n
    >>> problem = ek.problems.linear(p=2, d=4).problem
    >>> result = ek.run(problem, ek.EKI(Growing()), n_members=50, rng=0)
    >>> result.history_step.values.round(1)
    array([0.1, 0.2, 0.4, 0.3, nan])
    """

    def step(self, seen: Seen) -> float:
        """The step h > 0, not yet cut at ``seen.remaining``."""
        ...


@runtime_checkable
class BoundedSchedule(Schedule, Protocol):
    """A step rule that can end a run early, to bound the cost.

    See Also
    --------
    ekitools.MisfitController : A rule of this kind.
    Schedule : A step rule without a bound.

    Examples
    --------
    >>> import ekitools as ek
    >>> isinstance(ek.MisfitController(), ek.typing.BoundedSchedule)
    True
    >>> isinstance(ek.FixedStep(0.01), ek.typing.BoundedSchedule)
    False
    """

    def given_up(self, seen: Seen) -> Status | None:
        """The status with which the run ends at this ensemble, or None to continue.

        The loop calls ``given_up`` before each step, but only if the run has an end time.
        """
        ...


class Progress(NamedTuple):
    """The numbers that a stopping rule receives.

    See Also
    --------
    StoppingRule : The rule that receives these numbers.

    Examples
    --------
    >>> import ekitools as ek
    >>> seen = ek.typing.Progress(residual=3.0, n_data=16, spread=0.5, trace=(90.0, 8.0))
    >>> ek.Discrepancy(tau=1.0).check(seen).code  # 3 <= √16
    'discrepancy_reached'
    """

    residual: float
    """‖Γ^{-1/2}(Ḡ − y)‖, to compare with √d; NaN if a loss is passed in place of the noise."""
    n_data: int
    spread: float
    """Root of the total ensemble variance, relative to the initial one."""
    trace: tuple[float, ...]
    """Mean misfit (or other objective of the method) at every iteration so far, this one last."""


@runtime_checkable
class StoppingRule(Protocol):
    """A rule that can end a run early: a pure function from `Progress` to a status or None.

    A rule that needs Gaussian noise implements `ChecksProblem`.

    See Also
    --------
    ekitools.Discrepancy, ekitools.Collapsed, ekitools.NoProgress : Stopping rules.
    LocatedRule : A rule that flows locate in time.

    Examples
    --------
    >>> import ekitools as ek
    >>> class Enough:
    ...     def check(self, progress):
    ...         if progress.trace[-1] < 10:
    ...             return ek.typing.Status("enough", "The mean misfit is below 10.")
    >>> problem = ek.problems.linear(p=2, d=4).problem
    >>> result = ek.run(problem, ek.EKI(t_end=None), stop=Enough(), n_members=50, rng=0)
    >>> result.attrs["status"]
    'The mean misfit is below 10.'
    """

    def check(self, progress: Progress) -> Status | None:
        """The status with which the run ends here, or None."""
        ...


@runtime_checkable
class LocatedRule(StoppingRule, Protocol):
    """A stopping rule with a distance that falls to zero. A flow stops at distance zero.

    See Also
    --------
    ekitools.Discrepancy : A rule of this kind.
    ekitools.integrate : Stops a flow at distance zero.

    Examples
    --------
    >>> import ekitools as ek
    >>> progress = ek.typing.Progress(residual=3.0, n_data=16, spread=0.5, trace=(90.0, 8.0))
    >>> ek.Discrepancy().distance(progress)
    -1.0
    """

    def distance(self, progress: Progress) -> float:
        """A positive number before the rule fires, and zero or less afterwards."""
        ...

    def reached(self, progress: Progress) -> Status:
        """The status of a run that ends at distance zero."""
        ...
