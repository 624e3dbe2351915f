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
"""Prior standard deviations from the prior mean, in whitened coordinates."""

_FARTHEST = 37.5
"""Where the bounds of a prior lie in double precision, in the same coordinates."""

_ROUNDING = 1e-9
"""Distance to a bound, relative to the width of the prior."""

_SHARE = 0.01
"""Members at a bound below this share are not named."""

_MOST_NAMED = 5


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
        What ended the run.
    prior : Prior
        Of the problem.
    names : sequence of labels or None
        Of the parameters.
    ensemble : (J, p)
        The members that are left, in unconstrained coordinates.
    losses : Losses
        The others.
    start : str, default ""
        A warning about the run that the start of the method is from.

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
    physical = prior.to_physical(ensemble)
    if physical is ensemble:  # no parameter is transformed, so none has a bound
        return
    z, u = host(ensemble), host(physical).astype(np.float64)
    try:
        far = host(prior.whiten(ensemble))
        ends = prior.unwhiten(like(_rows(z.shape[1]), ensemble))
    except (AttributeError, NotImplementedError):  # a prior without whitened coordinates
        return
    suspects = np.flatnonzero((np.abs(far) > _FAR).any(axis=0))
    if not suspects.size:
        return
    low, left, right, high = host(prior.to_physical(ends)).astype(np.float64)
    found = []
    for i in suspects:
        width = abs(right[i] - left[i])
        for bound, side in ((low[i], far[:, i] < -_FAR), (high[i], far[:, i] > _FAR)):
            n = int(np.sum(side & (np.abs(u[:, i] - bound) <= _ROUNDING * width)))
            if n > _SHARE * len(u):
                found.append((i, n, bound))
    for i, n, bound in found[:_MOST_NAMED]:
        name = f"parameter {i}" if names is None else f'parameter "{names[int(i)]}"'
        yield (
            f"{n} of {len(u)} members have {name} at the bound {bound:.6g} of its prior, within "
            "rounding: widen the prior or check the model there."
        )
    if len(found) > _MOST_NAMED:
        yield f"{len(found) - _MOST_NAMED} further bounds are reached too."


def _rows(p: int) -> np.ndarray:
    """Whitened points at the bounds, and one standard deviation from the mean."""
    return np.outer([-_FARTHEST, -1.0, 1.0, _FARTHEST], np.ones(p))
