"""The status at the end of a run: lost members, and members at a bound of the prior."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ekitools.core.arrays import host, like
from ekitools.core.statuses import Losses, doubted
from ekitools.typing import Array, Status

__all__ = ["concluded"]

_FAR = 8.0
"""Distance from the prior mean beyond which a member may be at a bound, in whitened coordinates."""

_FARTHEST = 37.5
"""Distance of the bounds of a prior in double precision, in the same coordinates."""

_ROUNDING = 1e-9
"""Largest distance of a member at a bound from the bound, relative to the width of the prior."""

_SHARE = 0.01
"""Smallest share of members at a bound that is reported."""

_MOST_NAMED = 5

_BLOCK_BYTES = 1 << 24
"""Bytes of the members in float64 that are checked at a time."""


def concluded(
    status: Status,
    prior: Any,
    names: Sequence[Any] | None,
    ensemble: Array,
    losses: Losses,
    start: str = "",
) -> Status:
    """The status of a run that ends at an ensemble, with the doubts about that ensemble.

    Parameters
    ----------
    status : Status
        The status that ended the run.
    prior : Prior
        Prior of the problem.
    names : sequence of labels or None
        Names of the parameters.
    ensemble : (J, p)
        The members that are left, in unconstrained coordinates.
    losses : Losses
        Members that were lost.
    start : str, default ""
        A warning about the run from which the start of the method was taken.

    Returns
    -------
    Status
    """
    if status.level == "bad":
        return status
    doubts = [f"The start is from a run that ended with a warning: {start}"] if start else []
    return doubted(status, losses, [*doubts, *_at_bounds(prior, names, ensemble)])


def _at_bounds(prior: Any, names: Sequence[Any] | None, ensemble: Array) -> Iterator[str]:
    """A sentence for every parameter with members at a bound of the prior."""
    first = ensemble[:1, ...]
    if prior.to_physical(first) is first:  # no parameter is transformed, so none has a bound
        return
    n_members, p = (int(length) for length in ensemble.shape)
    try:
        ends = host(prior.to_physical(prior.unwhiten(like(_rows(p), first)))).astype(np.float64)
        prior.whiten(first)
    except (AttributeError, NotImplementedError):  # a prior without whitened coordinates
        return
    low, left, right, high = ends
    tolerance = _ROUNDING * np.abs(right - left)
    counts = np.zeros((p, 2), dtype=np.int64)
    rows = max(1, _BLOCK_BYTES // (8 * p))  # at a time: the ensemble may fill the memory
    for start in range(0, n_members, rows):
        block = ensemble[start : start + rows, ...]
        far = host(prior.whiten(block))
        if not (np.abs(far) > _FAR).any():
            continue
        u = host(prior.to_physical(block)).astype(np.float64)
        for side, bound, beyond in ((0, low, far < -_FAR), (1, high, far > _FAR)):
            counts[:, side] += np.sum(beyond & (np.abs(u - bound) <= tolerance), axis=0)
    found = [
        (i, int(counts[i, side]), (low, high)[side][i])
        for i, side in np.argwhere(counts > _SHARE * n_members)
    ]
    for i, n, bound in found[:_MOST_NAMED]:
        name = f"parameter {i}" if names is None else f'parameter "{names[int(i)]}"'
        yield (
            f"{n} of {n_members} members have {name} at the bound {bound:.6g} of its prior, within "
            "rounding: widen the prior or check the model there."
        )
    if len(found) > _MOST_NAMED:
        yield f"{len(found) - _MOST_NAMED} further bounds are reached too."


def _rows(p: int) -> np.ndarray:
    """Whitened points at the bounds, and one standard deviation from the mean."""
    return np.outer([-_FARTHEST, -1.0, 1.0, _FARTHEST], np.ones(p))
