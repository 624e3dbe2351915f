"""Steps that a device makes before the host knows the misfits, so that the host waits once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ekitools.core.arrays import array_namespace, device, double, is_numpy
from ekitools.core.fetching import fetched
from ekitools.linalg import anomaly_products, d_norm
from ekitools.linalg.drafts import Draft
from ekitools.linalg.products import frobenius_there, total_variance_there
from ekitools.methods.shared import misfits, misfits_there
from ekitools.methods.steps import ESMDA, FixedStep, MisfitController, NormStep
from ekitools.typing import Array, Schedule, Seen

__all__ = ["Look", "Made", "look", "step_there"]


class Made(NamedTuple):
    """An analysis that was made with a step size from the device."""

    ensemble: Array
    h: float
    variance: float
    """Trace of the covariance of the ensemble."""

    def has_step(self, h: float) -> bool:
        """Whether the analysis has the step size that the host has found."""
        return math.isclose(h, self.h, rel_tol=1e-9)


class Look(NamedTuple):
    """The numbers of a step on the host."""

    misfit: np.ndarray
    """Misfits of the data, ``(J,)`` in float64."""
    total: np.ndarray
    """Misfits of the data and the prior, ``(J,)`` in float64."""
    norm: Callable[[], float] | None
    """Returns ‖D‖; None if the noise has unknown scales."""
    made: Made | None
    """The analysis, if it was made and is accurate."""


def look(
    schedule: Schedule,
    place: tuple[int, float, float],
    r: Array,
    whole: Array,
    make: Callable[[Array], Draft] | None = None,
) -> Look:
    """Fetch the misfits of a step, and make the step on the device meanwhile.

    Parameters
    ----------
    schedule : Schedule
        The step rule. The step is made only for the rules of ekitools.
    place : (int, float, float)
        n, t and the end time, which is infinite for a run without end.
    r : (J, d)
        Whitened residuals of the data.
    whole : (J, k)
        Whitened residuals of the data and the prior, or ``r`` itself.
    make : callable, optional
        Makes the analysis with a step size on the device. By default no step is made.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> from ekitools.methods.ahead import look
    >>> r = np.array([[1.0, 0.0], [2.0, 2.0]])
    >>> look(ek.FixedStep(1.0), (0, 0.0, 1.0), r, r).misfit
    array([0.5, 4. ])
    """
    if is_numpy(r):
        misfit = misfits(r)
        total = misfit if whole is r else misfits(whole)
        return Look(misfit, total, lambda: d_norm(whole, whole), None)
    n_members, n_data = whole.shape
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # the host checks all
        numbers = [double(misfits_there(whole)), *([] if whole is r else [misfits_there(r)])]
        norm, draft = None, None
        if isinstance(schedule, NormStep):
            norm = frobenius_there(anomaly_products(whole, whole) / n_members)
            numbers.append(norm)
        if make is not None and not is_numpy(numbers[0]):  # the device has float64
            h = step_there(schedule, place, numbers[0], n_data, norm)
            if h is not None:
                draft = make(h)
                numbers += [h, total_variance_there(draft.ensemble), *draft.numbers]
        found = iter(fetched(*numbers))
    total = next(found).astype(np.float64)
    misfit = total if whole is r else next(found).astype(np.float64)
    size = None if norm is None else float(next(found))
    known = (lambda: d_norm(whole, whole)) if size is None else (lambda: size)
    made = None
    if draft is not None:
        h, variance, *rest = found
        if draft.accepts(*rest):
            made = Made(draft.ensemble, float(h), float(variance))
    return Look(misfit, total, known, made)


def step_there(
    schedule: Schedule,
    place: tuple[int, float, float],
    misfit: Array,
    n_data: int,
    norm: Array | None,
) -> Array | None:
    """The step of a rule of ekitools, limited by the end time, on the device of the misfits.

    The host computes the step again by the rule itself and compares.

    Examples
    --------
    >>> import array_api_strict as xp
    >>> import ekitools as ek
    >>> from ekitools.methods.ahead import step_there
    >>> misfit = xp.asarray([10.0, 30.0])
    >>> float(step_there(ek.MisfitController(), (0, 0.0, 1.0), misfit, 20, None))
    0.5
    """
    n, t, end = place
    xp = array_namespace(misfit)

    def there(x: float) -> Array:
        return xp.full((), x, dtype=misfit.dtype, device=device(misfit))

    h: Any
    if isinstance(schedule, FixedStep | ESMDA):
        seen = Seen(n, t, end - t, np.full(1, math.nan), n_data, lambda: math.nan)
        h = there(schedule.step(seen))
    elif isinstance(schedule, NormStep) and norm is not None:
        h = schedule.h / (xp.astype(norm, misfit.dtype) + schedule.eps)
    elif isinstance(schedule, MisfitController):
        by_mean = n_data / (2 * xp.mean(misfit))
        by_variance = xp.sqrt(n_data / (2 * xp.var(misfit, correction=1)))
        h = xp.maximum(by_mean, by_variance)
        h = xp.where(xp.isfinite(h), h, there(min(end - t, 1.0)))
    else:
        return None
    return xp.where(h >= (end - t) * (1 - 1e-12), there(end - t), h)
