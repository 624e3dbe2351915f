"""Progress and end of iterated refinements."""

from __future__ import annotations

import math
from typing import NamedTuple

from ekitools.typing import Status

__all__ = ["Refining", "progress", "rose", "settled", "spent"]

_LESS = 0.9
"""A move below this share of the smallest one so far counts as progress."""

_FALL, _ROUNDING = 0.1, 1e-6
"""So does a fall of the mean objective by the first, and by the second of itself."""

_NEAR = 0.1
"""With fresh draws the objective is stationary within this share of its lowest value."""

_REST = 1.0
"""Mean square of what the linear model leaves, above which the limit is no posterior. It was below
0.15 on problems where GNKI is right, and 2 to 50 for y = u²."""

_IDLE = 5
"""Refinements without progress after which nothing more is expected."""


class Refining(NamedTuple):
    """What the refinements have come to."""

    damping: float
    """α of the last one."""
    change: float = math.inf
    """Root mean square distance that it left, in ensemble standard deviations."""
    objective: float = math.nan
    """Mean objective before it."""
    rest: float = math.nan
    """Mean square of what the linear model leaves of the outputs (see `Newton`)."""
    gain: float = 0.0
    """What its full step promised: the part α lowers it by (α − α²/2) of that."""
    level: float = math.inf
    """The same without the draws, where they are fresh."""
    smallest: float = math.inf
    """Smallest change so far."""
    lowest: float = math.inf
    """Lowest level so far."""
    idle: int = 0
    """Refinements since the last progress."""


def progress(old: Refining, new: Refining) -> Refining:
    """The record after one more refinement; ``new`` has what is known of that one."""
    further = new.change < _LESS * old.smallest or rose(new.level, old.lowest)
    return new._replace(
        smallest=min(old.smallest, new.change),
        lowest=min(old.lowest, new.level),
        idle=0 if further else old.idle + 1,
    )


def rose(before: float, after: float) -> bool:
    """Whether a mean objective is higher after than before, by more than may be ignored."""
    return not after <= (1 + _ROUNDING) * before + _FALL


def settled(refining: Refining, rtol: float, *, fresh: bool) -> Status | None:
    """The status where refinements have converged, or bring nothing more."""
    change, near = refining.change, refining.level <= (1 + _NEAR) * refining.lowest
    if (change <= rtol or refining.idle >= _IDLE) and refining.rest > _REST:
        return Status(
            "linear_fit_poor",
            "The refinement came to its end, but the linear fit of the model over the ensemble "
            f"leaves {math.sqrt(refining.rest):.3g} noise standard deviations of the outputs "
            "unexplained. The ensemble is not a sample of the posterior, which may have several "
            "modes. Use ek.TemperedSMC().",
        )
    if change <= rtol:
        return Status(
            "posterior_reached",
            "The refinement converged: its last step left the members about "
            f"{change:.3g} standard deviations from their limit. The ensemble approximates the "
            "posterior.",
            level="good",
            posterior=True,
        )
    if refining.idle < _IDLE:
        return None
    if fresh and near:
        return Status(
            "posterior_reached",
            f"The ensemble is stationary: {_IDLE} refinements with fresh draws did not lower "
            "the mean objective. The ensemble approximates the posterior if the data are "
            'fitted. Compare it with draws="kept", whose convergence can be measured.',
            level="note",
            posterior=True,
        )
    return Status(
        "refinement_stalled",
        f"The refinement no longer makes progress: the last {_IDLE} steps lowered neither "
        f"the misfit nor their own length. The last one moved the members by {change:.3g} "
        f"standard deviations (rtol = {rtol:g}). The linear fit of the model does not "
        "hold over this ensemble. Use ek.TemperedSMC(), or more members.",
    )


def spent(refining: Refining, refinements: int, rtol: float) -> Status:
    """The status where all refinements were made."""
    return Status(
        "refinements_spent",
        f"All {refinements} refinements were made; the last one still moved the members "
        f"by {refining.change:.3g} standard deviations (rtol = {rtol:g}). Look at the "
        "misfit; allow more refinements, or a smaller damping if it does not settle.",
    )
