"""State of the refinements of `GNKI`, their progress, and the criteria for their end."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from ekitools.core.statuses import CHECK_NEXT
from ekitools.methods.unknown_noise import Scaling
from ekitools.typing import Array, ScaledNoise, Status

__all__ = [
    "DRAWS",
    "Draws",
    "GNKIState",
    "Refining",
    "check_members",
    "progress",
    "rose",
    "settled",
    "spent",
]

Draws: TypeAlias = Literal["kept", "fresh"]
"""Whether the draws of the prior and of the noise stay the same in all refinements."""
DRAWS: tuple[Draws, ...] = get_args(Draws)

_LESS = 0.9
"""A move shorter than this share of the smallest move so far counts as progress."""

_FALL, _ROUNDING = 0.1, 1e-6
"""A decrease of the mean objective counts as progress if it exceeds the sum of the first number and
the second number times the objective."""

_NEAR = 0.1
"""With fresh draws the objective is stationary within this share of its lowest value."""

_REST = 1.0
"""Limit of the mean square residual of the linear fit. Above this limit the ensemble does not count
as a posterior. The residual was below 0.15 on problems where GNKI is right, and 2 to 50 for
y = u²."""

_IDLE = 5
"""The refinement ends after this number of refinements without progress."""


class Refining(NamedTuple):
    """Progress of the refinements."""

    damping: float
    """α of the last refinement."""
    change: float = math.inf
    """Root mean square distance to the limit after the last refinement, in ensemble standard
    deviations."""
    objective: float = math.nan
    """Mean objective before the last refinement."""
    rest: float = math.nan
    """Mean square residual of the linear fit of the outputs (see `Newton`)."""
    gain: float = 0.0
    """Predicted gain of a full step. A step with damping α lowers the objective by (α − α²/2) times
    this gain."""
    level: float = math.inf
    """Mean objective; without the random draws if they are fresh."""
    smallest: float = math.inf
    """Smallest change so far."""
    lowest: float = math.inf
    """Lowest level so far."""
    idle: int = 0
    """Refinements since the last progress."""


class GNKIState(NamedTuple):
    """State of `GNKI` between two steps."""

    ensemble: Array
    n: int
    t: float
    variance: float
    initial_variance: float
    refined: int
    """Number of refinements so far."""
    refining: Refining
    anchors: Array | None
    """Whitened draws of the prior, one for every member, ``(J, p)``. They are the first ensemble,
    and are redrawn after EKI if J > p."""
    draws: Array | None
    """Whitened perturbations of the data, ``(J, d)``."""
    move: Array | None = None
    """The last move in whitened coordinates, ``(J, p)``; only with adaptive damping."""
    scaling: Scaling | None = None
    """Precision used so far, if the scales of the noise are unknown."""
    scores: Array | None = None
    """Normal scores of unknown scales of the noise, ``(J, rounds B)``; drawn at t = 1."""


def check_members(ensemble: Array, target: Any, draws: Draws) -> None:
    """Check the number of members for fresh draws, and for unknown scales of the noise."""
    n, p = (int(size) for size in ensemble.shape)
    unknown = isinstance(target.noise, ScaledNoise)
    if draws == "fresh" and unknown:
        raise ValueError(
            'draws: must be "kept" if the scales of the noise are unknown, got "fresh", which '
            "needs a known noise. Leave draws out."
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
    """The record ``new`` of a refinement, with the progress since the ``old`` record."""
    further = new.change < _LESS * old.smallest or rose(new.level, old.lowest)
    return new._replace(
        smallest=min(old.smallest, new.change),
        lowest=min(old.lowest, new.level),
        idle=0 if further else old.idle + 1,
    )


def rose(before: float, after: float) -> bool:
    """Whether the mean objective rose by more than a negligible amount."""
    return not after <= (1 + _ROUNDING) * before + _FALL


def settled(refining: Refining, rtol: float, *, fresh: bool) -> Status | None:
    """The status if the refinements have converged or no longer make progress, else None."""
    change, near = refining.change, refining.level <= (1 + _NEAR) * refining.lowest
    if (change <= rtol or refining.idle >= _IDLE) and refining.rest > _REST:
        return Status(
            "linear_fit_poor",
            "The refinement ended, but the linear fit of the model over the ensemble "
            f"leaves {math.sqrt(refining.rest):.3g} noise standard deviations of the outputs "
            "unexplained. The ensemble is not a sample of the posterior, which may have several "
            "modes. Use ek.TemperedSMC(). If the model is stochastic, the noise must contain its "
            "variance.",
        )
    if change <= rtol:
        return Status(
            "posterior_reached",
            "Finished: the refinement converged (after the last step the members are about "
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
        f"The refinement no longer makes progress: in the last {_IDLE} steps neither the misfit "
        f"nor the length of the moves decreased. The last step moved the members by {change:.3g} "
        f"standard deviations (rtol = {rtol:g}). The linear fit of the model does not "
        "hold over this ensemble. Use ek.TemperedSMC(), or more members. If the model is "
        'stochastic, use draws="fresh" and damping=0.2.',
    )


def spent(refining: Refining, refinements: int, rtol: float) -> Status:
    """The status of a run that used all its refinements."""
    return Status(
        "refinements_spent",
        f"All {refinements} refinements were made. The last refinement still moved the members "
        f"by {refining.change:.3g} standard deviations (rtol = {rtol:g}). Allow more refinements, "
        "or use a smaller damping if the misfit does not settle.",
    )
