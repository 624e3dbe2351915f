"""Statuses of runs that end by the loop and not by their method."""

from __future__ import annotations

from ekitools.typing import Status

__all__ = ["INTERRUPTED", "RUNNING", "STREAM_ENDED", "budget_spent", "failed", "half_updated"]

INTERRUPTED = Status(
    "interrupted",
    "Interrupted from the keyboard: this is what was computed until then. "
    "Go on with ek.resume if there is a checkpoint.",
)

RUNNING = Status("running", "The run is not over: this is what was computed so far.")

STREAM_ENDED = Status(
    "stream_ended",
    "All data have been seen as often as was asked for: the last ensemble is not evaluated. "
    "Use more passes to go on.",
    level="good",
)


def budget_spent(n_steps: int, t: float) -> Status:
    """The budget of steps is spent."""
    return Status(
        "budget_spent",
        f"The budget of {n_steps} step{'s' * (n_steps != 1)} is spent at t = {t:.4g}, before the "
        "method came to its own end. Resume from a checkpoint with a larger n_steps to go on.",
    )


def failed(sentence: str) -> Status:
    """The run cannot go on."""
    return Status("failed", sentence, level="bad")


def half_updated(n: int) -> Status:
    """An update in place did not come to its end."""
    return Status(
        "interrupted",
        f"Step {n} was interrupted within an update in place: a part of the ensemble has made it, "
        "a part has not. Go on from a checkpoint with ek.resume.",
    )
