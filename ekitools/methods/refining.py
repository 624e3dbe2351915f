"""State of iterated refinements: what they need, how far they are, and when they end."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ekitools.core.statuses import CHECK_NEXT
from ekitools.methods.unknown_noise import Scaling
from ekitools.typing import Array, ScaledNoise, Status

__all__ = ["GNKIState", "Refining", "check_members", "progress", "rose", "settled", "spent"]

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


class GNKIState(NamedTuple):
    """What the next step needs."""

    ensemble: Array
    n: int
    t: float
    variance: float
    initial_variance: float
    refined: int
    """Refinements made."""
    refining: Refining
    anchors: Array | None
    """Whitened draws of the prior, one for every member, ``(J, p)``: the first ensemble. After EKI
    others are drawn in their place where J > p."""
    draws: Array | None
    """Whitened perturbations of the data, ``(J, d)``."""
    move: Array | None = None
    """The last one in whitened coordinates, ``(J, p)``; with adaptive damping."""
    scaling: Scaling | None = None
    """Where the scales of the noise are not known."""
    scores: Array | None = None
    """Normal scores of the scales, ``(J, rounds B)``, likewise; drawn at t = 1."""


def check_members(ensemble: Array, target: Any, draws: str) -> None:
    """Check that there are enough members for fresh draws, or for unknown scales of the noise."""
    n, p = (int(size) for size in ensemble.shape)
    unknown = isinstance(target.noise, ScaledNoise)
    if draws == "fresh" and unknown:
        raise ValueError(
            'draws: must be "kept" where the scales of the noise are not known, got "fresh": '
            "the variances of fresh draws hold for one known noise. Leave draws out."
        )
    n_parameters = p - (target.noise.n_scales if unknown else 0)
    if n > n_parameters or not (unknown or draws == "fresh"):
        return
    why = "unknown scales of the noise" if unknown else 'draws="fresh"'
    remedy = "ek.EKI()" if unknown else 'draws="kept"'
    raise ValueError(
        f"ensemble: must have more members than the {n_parameters} parameters for GNKI with "
        f"{why}, got {n}. Use more members, or {remedy}."
    )


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
            "modes. Use ek.TemperedSMC(). If the model is stochastic, the noise must contain its "
            "variance.",
        )
    if change <= rtol:
        return Status(
            "posterior_reached",
            "Finished: the refinement converged (its last step left the members about "
            f"{change:.3g} standard deviations from their limit). {CHECK_NEXT}",
            level="good",
            posterior=True,
        )
    if refining.idle < _IDLE:
        return None
    if fresh and near:
        return Status(
            "posterior_reached",
            f"Finished: the ensemble is stationary ({_IDLE} refinements with fresh draws did not "
            f"lower the mean objective). {CHECK_NEXT} "
            'Compare it with draws="kept", whose convergence can be measured.',
            level="note",
            posterior=True,
        )
    return Status(
        "refinement_stalled",
        f"The refinement no longer makes progress: the last {_IDLE} steps lowered neither "
        f"the misfit nor their own length. The last one moved the members by {change:.3g} "
        f"standard deviations (rtol = {rtol:g}). The linear fit of the model does not "
        "hold over this ensemble. Use ek.TemperedSMC(), or more members. If the model is "
        'stochastic, use draws="fresh" and damping=0.2.',
    )


def spent(refining: Refining, refinements: int, rtol: float) -> Status:
    """The status where all refinements were made."""
    return Status(
        "refinements_spent",
        f"All {refinements} refinements were made; the last one still moved the members "
        f"by {refining.change:.3g} standard deviations (rtol = {rtol:g}). Look at the "
        "misfit; allow more refinements, or a smaller damping if it does not settle.",
    )
