"""Statuses of the loop, and doubts added to the status of a method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ekitools.typing import Status

__all__ = [
    "CHECK_NEXT",
    "CONFIRMED",
    "CORRECTED",
    "FAILED",
    "INTERRUPTED",
    "NOT_CONFIRMED",
    "RUNNING",
    "RUNS_SPENT",
    "STREAM_ENDED",
    "Losses",
    "budget_spent",
    "doubted",
    "failed",
    "half_updated",
    "runs_spent",
]

CHECK_NEXT = (
    "For a nonlinear model the result is an approximation: check it with ek.summary(result), and "
    "then with ek.check_posterior(result, problem)."
)
"""Advice after a run whose method has finished."""

CONFIRMED, CORRECTED, NOT_CONFIRMED = "confirmed", "corrected", "not confirmed"
"""The verdicts of `check_posterior`."""

FAILED = "failed"
"""The code of a run that ended with an error."""

RUNS_SPENT = "runs_spent"
"""The code of a run that ended before it exceeded a budget of model runs."""

INTERRUPTED = Status(
    "interrupted",
    "Interrupted from the keyboard: the result holds the iterations computed so far. "
    "Continue with ek.resume if there is a checkpoint.",
)

RUNNING = Status("running", "The run has not ended: the result holds the iterations so far.")

STREAM_ENDED = Status(
    "stream_ended",
    "All data have been used as often as requested. The last ensemble is not evaluated. "
    "Use more passes to continue.",
    level="good",
)


def budget_spent(n_steps: int, t: float) -> Status:
    """The budget of steps is spent."""
    return Status(
        "budget_spent",
        f"The budget of {n_steps} step{'s' * (n_steps != 1)} is spent at t = {t:.4g}, before the "
        "method finished. To continue, resume from a checkpoint with a larger n_steps.",
    )


def runs_spent(most: int, t: float) -> Status:
    """The budget of model runs is spent."""
    return Status(
        RUNS_SPENT,
        f"The budget of {most} model runs is spent at t = {t:.4g}, before the method finished. "
        "Give a larger budget.",
    )


def failed(sentence: str) -> Status:
    """The run cannot continue."""
    return Status(FAILED, sentence, level="bad")


def half_updated(n: int) -> Status:
    """An update in place was interrupted."""
    return Status(
        "interrupted",
        f"Step {n} was interrupted within an update in place: only a part of the ensemble is "
        "updated. Continue from a checkpoint with ek.resume.",
    )


class Losses(NamedTuple):
    """Members that a run lost: dropped, or failed at the last evaluation.

    Parameters
    ----------
    members : int
        The size of the ensemble, lost members included.
    dropped : int
        Members dropped before the last evaluation.
    failed : int
        Members that failed at the last evaluation.

    Examples
    --------
    >>> from ekitools.core.statuses import Losses
    >>> losses = Losses(60, 57, 1)
    >>> losses.left, losses.many, losses.most
    (2, True, True)
    >>> losses.sentence
    'Only 2 of 60 members are left: 57 were dropped and 1 failed at the last evaluation.'
    """

    members: int
    dropped: int
    failed: int

    @property
    def left(self) -> int:
        """Members that are left."""
        return self.members - self.dropped - self.failed

    @property
    def many(self) -> bool:
        """Whether more than a fifth of the members was lost: a reason to doubt the result."""
        return 5 * (self.dropped + self.failed) > self.members

    @property
    def most(self) -> bool:
        """Whether more than half of the members was lost: the result is not a posterior."""
        return 2 * (self.dropped + self.failed) > self.members

    @property
    def sentence(self) -> str:
        """A sentence with the numbers of members left, dropped and failed."""
        parts = [
            f"{self.dropped} {'was' if self.dropped == 1 else 'were'} dropped" * bool(self.dropped),
            f"{self.failed} failed at the last evaluation" * bool(self.failed),
        ]
        lost = " and ".join(part for part in parts if part) or "none was lost"
        return f"Only {self.left} of {self.members} members are left: {lost}."


def doubted(status: Status, losses: Losses, bounds: Sequence[str] = ()) -> Status:
    """The final status of a run, with a lower level if there are reasons to doubt the result.

    Parameters
    ----------
    status : Status
        The status of the method, of a stopping rule or of the loop.
    losses : Losses
        Members that were lost.
    bounds : sequence of str
        Sentences about a doubtful start, and about members at a bound of the prior.

    Returns
    -------
    Status
        ``status`` itself if there is no doubt. Otherwise the level is at least "care", and the
        sentence names the doubt. If more than half of the members were lost, the level is "bad"
        and the last ensemble does not count as a sample of the posterior. A status that claimed the
        posterior then gets the code "members_lost".

    Examples
    --------
    >>> from ekitools.core.statuses import Losses, doubted
    >>> from ekitools.typing import Status
    >>> end = Status("posterior_reached", "Done.", level="good", posterior=True)
    >>> doubted(end, Losses(10, 0, 1)) is end
    True
    >>> doubted(end, Losses(10, 3, 0)).level, doubted(end, Losses(10, 6, 0)).code
    ('care', 'members_lost')
    """
    doubts = list(bounds)
    if losses.many:
        doubts.insert(0, f"{losses.sentence} {_REMEDY}")
    if not doubts:
        return status
    claimed, most = status.posterior, losses.most
    # a sentence that claims the posterior is not repeated beside a doubt
    ended = "The method finished, but the result is doubtful."
    start = ended if claimed else status.sentence
    level = "bad" if most else "care" if status.level in ("good", "note") else status.level
    return Status(
        "members_lost" if claimed and most else status.code,
        " ".join([start, *doubts]),
        level=level,
        posterior=claimed and level != "bad",
    )


_REMEDY = (
    "The ensemble does not represent the region where the model fails: repair the model there, or "
    "exclude the region by the prior, and run again."
)
