"""Steps that see a part of the data: the pseudo-time of every observation."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ekitools.core.arrays import like, take_columns
from ekitools.linalg import d_norm
from ekitools.methods.shared import misfits
from ekitools.methods.steps import landing, rule_step
from ekitools.typing import Array, Batch, Schedule, Seen, Target

__all__ = ["PartStep", "check_independent", "nothing_used", "part_step"]


class PartStep(NamedTuple):
    """One step on a batch: the data that are used, and their noise Γ/h."""

    h: float
    """The largest h of an observation; 0 if all observations are used up."""
    r: Array
    """Whitened residuals of the data that are used, ``(J, k)``, with the noise I/scale."""
    scale: float
    """The h of the analysis of ``r``: the common h if all observations have the same h, else 1."""
    t: float
    """The pseudo-time after the step."""
    used: tuple[float, ...]
    """Σh of each of the N observations after the step."""


def nothing_used(target: Target) -> tuple[float, ...]:
    """Σh of every observation before the first step; empty for whole data."""
    return () if target.batch is None else (0.0,) * target.batch.n_all


def check_independent(target: Target) -> None:
    """Check that the data of a batch can be used up one sample after the other."""
    if target.batch is not None and not target.batch.independent:
        raise TypeError(
            "noise: must be independent between the samples of a batch for EKI with t_end, which "
            "uses each sample as often as t_end says, got a covariance that correlates samples. "
            "Use variances, an ek.ObservationSeries with a covariance for each observation, or "
            "t_end=None."
        )


def part_step(schedule: Schedule, state: Any, t_end: float, batch: Batch, r: Array) -> PartStep:
    """The step of a rule on a batch, cut for every observation at ``t_end``.

    The rule sees only the data of observations that are not used up, and the number of these data.
    In place of the number of the step it sees the number of the epoch.

    Parameters
    ----------
    schedule : Schedule
        The rule.
    state : TemperedState
        State with ``t`` and ``used``.
    t_end : float
        Σh at which an observation is used up.
    batch : Batch
        The observations of the residuals.
    r : (J, d)
        Whitened residuals.
    """
    used = np.array(state.used)
    unfinished = used[batch.index] < t_end
    index, sizes = batch.index[unfinished], batch.sizes[unfinished]
    if not index.size:
        return PartStep(0.0, r[:, :0], 1.0, state.t, state.used)
    if not unfinished.all():
        r = take_columns(r, np.flatnonzero(np.repeat(unfinished, batch.sizes)))
    remaining = t_end - float(used[index].min())
    n_data = int(sizes.sum())
    seen = Seen(batch.repeat, state.t, remaining, misfits(r), n_data, lambda: d_norm(r, r))
    proposed = rule_step(schedule, seen)
    steps, times = zip(*(landing(t, proposed, t_end) for t in used[index].tolist()), strict=True)
    used[index] = times
    t = t_end
    if (used < t_end).any():
        gained = float(np.dot(steps, sizes)) / batch.n_data_all
        t = min(state.t + gained, math.nextafter(t_end, 0.0))
    h, after = max(steps), tuple(used.tolist())
    if min(steps) == h:
        return PartStep(h, r, h, t, after)
    # Γ_i/h_i for observation i: its whitened residuals times √h_i, with the noise I
    root = np.repeat(np.sqrt(steps), sizes)
    return PartStep(h, r * like(root, r), 1.0, t, after)
