"""Analyses on a device that are made before the host knows whether they are accurate.

The host waits for a device whenever it looks at a number. A draft has the updated ensemble and the
numbers that its check needs. So the host can fetch them together with other numbers of the step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ekitools.core.arrays import array_namespace
from ekitools.linalg.gram import Accuracy, is_accurate
from ekitools.linalg.kalman import gain_of_squares, moved_by
from ekitools.linalg.transform import keeps_digits, transform_of_squares, transformed
from ekitools.losses.gaussian import GaussianNoise
from ekitools.typing import Array

__all__ = ["Draft", "kalman_draft", "transform_draft"]

_UNIT = GaussianNoise(1.0)


class Draft(NamedTuple):
    """An analysis that the host has not checked."""

    ensemble: Array
    """The updated ensemble ``(J, p)``."""
    numbers: tuple[Array, ...]
    """Numbers on the device that the check needs."""
    accepts: Callable[..., bool]
    """Whether the analysis is accurate, from the numbers on the host."""


def kalman_draft(u: Array, r: Array, h: Array, noise_draw: Array | None) -> Draft:
    """The analysis of `kalman_update` for whitened residuals, with the noise I/h.

    Parameters
    ----------
    u : (J, p)
        Ensemble on a device.
    r : (J, d)
        Whitened residuals Γ^{-1/2}(G(u) − y) on the same device.
    h : array
        Step size, an array without axes in float64 on the same device.
    noise_draw : (J, d) or None
        Draws from N(0, I/h) for perturbed data, or None.

    Examples
    --------
    >>> import array_api_strict as xp
    >>> from ekitools.linalg.drafts import kalman_draft
    >>> u = xp.asarray([[-1.0], [0.0], [1.0]])
    >>> draft = kalman_draft(u, u - 2.0, xp.asarray(1.0), None)
    >>> draft.ensemble
    Array([[0.5],
           [1. ],
           [1.5]], dtype=array_api_strict.float64)
    >>> draft.accepts(*draft.numbers)
    True
    """
    xp = array_namespace(r)
    zero = xp.zeros_like(r[0, :])
    gain = gain_of_squares(r, zero, _UNIT, (r.shape[0] - 1) / h, noise_draw)

    def accepts(*numbers: Any) -> bool:
        return is_accurate(Accuracy(*numbers), r)

    return Draft(moved_by(u, gain.left, gain.right), tuple(gain.accuracy), accepts)


def transform_draft(u: Array, r: Array, h: Array, rotation: np.ndarray | None) -> Draft:
    """The analysis of `transform_update` for whitened residuals, with the noise I/h.

    The arguments u, r and h are those of `kalman_draft`. The rotation is that of
    `transform_update`.

    Examples
    --------
    >>> import array_api_strict as xp
    >>> from ekitools.linalg.drafts import transform_draft
    >>> u = xp.asarray([[-1.0], [0.0], [1.0]])
    >>> draft = transform_draft(u, u - 2.0, xp.asarray(1.0), None)
    >>> round(float(xp.var(draft.ensemble, correction=1)), 12)
    0.5
    """
    found = transform_of_squares(r, h / (r.shape[0] - 1), rotation)

    def accepts(total: Any, largest: Any) -> bool:
        return bool(np.isfinite(float(total))) and keeps_digits(float(largest), r)

    return Draft(transformed(u, found.left, found.right), (found.total, found.largest), accepts)
