"""Check of a step rule of your own."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from ekitools.testing.options import check_options
from ekitools.testing.promises import (
    broken,
    calling,
    check_object,
    missing,
    run_checks,
    unchanged,
)
from ekitools.typing import Seen

__all__ = ["CHECKS", "check_schedule"]

_SEEN = tuple(
    (n, t, end - t, misfit, norm)
    for misfit, norm in (
        ((1.0, 3.0, 2.0), 2.0),
        ((0.0, 0.0, 0.0), 0.0),
        ((1e9, 2e9, 3e9), 1e9),
        ((1e-9, 1e-9, 2e-9), 1e-9),
    )
    for n, t, end in ((0, 0.0, 1.0), (2, 0.5, 1.0), (0, 0.0, math.inf), (50, 12.0, math.inf))
)


def _check_members(rule: Any) -> None:
    missing(rule, {"step": "step(seen), which returns the step size h"}, "a step rule")
    if not callable(rule.step):
        got = type(rule.step).__name__
        raise broken("step", "must be a function of seen", got, "Write def step(self, seen).")


def _check_options(rule: Any) -> None:
    if dataclasses.is_dataclass(rule) or getattr(
        rule, "__dict__", None
    ):  # without options there is nothing to record
        check_options(rule, "a step rule with options")


def _check_step(rule: Any) -> None:
    for n, t, remaining, misfit, norm in _SEEN:
        phi = np.array(misfit)
        seen = Seen(n, t, remaining, phi, 4, partial(float, norm))
        where = f"n = {n}, t = {t:g}, misfits {misfit} and {remaining:g} remaining"
        with (
            unchanged("step", "Work on a copy.", misfit=phi),
            calling("step", f"must return a step size at {where}"),
        ):
            h, again = rule.step(seen), rule.step(seen)
        number = isinstance(h, int | float) and not isinstance(h, bool)
        if not number or not 0 < h < math.inf:
            promise = f"must return a positive finite float at {where}"
            remedy = "Bound the step from below and from above, and convert it by float()."
            raise broken("step", promise, repr(h), remedy)
        if h != again:
            promise = "must return the same step whenever it sees the same"
            remedy = "Compute it from seen and the options alone."
            raise broken("step", promise, f"{again!r} after {h!r}", remedy)


CHECKS: Mapping[str, Callable[[Any], None]] = MappingProxyType(
    {"members": _check_members, "options": _check_options, "step": _check_step}
)


def check_schedule(rule: Any, *, exclude: str | Sequence[str] = ()) -> None:
    """Check that a step rule keeps every promise of `ekitools.typing.Schedule`.

    Parameters
    ----------
    rule : Schedule
        An object of your class, with the options that are to be checked.
    exclude : str or sequence of str, default ()
        Names of checks that are left out (see the notes).

    Raises
    ------
    AssertionError
        If a promise is broken or a member of the contract is missing: the message names the
        member, what was expected, what was found, and what to do.
    TypeError, ValueError
        If another argument is out of order.

    See Also
    --------
    check_method : The check of a method.
    ekitools.typing.Schedule : The contract.

    Notes
    -----
    The checks, in the order in which they are made:

    ``members``
        There is a function ``step``.
    ``options``
        A rule with options is a frozen dataclass that can be compared and hashed, survives
        pickle, and has the same JSON whenever it is written.
    ``step``
        The step is positive and finite for small, large and zero misfits, with and without an
        end time, and the same whenever the rule sees the same.

    Examples
    --------
    >>> import ekitools as ek
    >>> from ekitools.testing import check_schedule
    >>> check_schedule(ek.NormStep(0.5))
    >>> class Whole:
    ...     def step(self, seen):
    ...         return 1 / seen.misfit.mean()
    >>> import numpy as np
    >>> try:
    ...     with np.errstate(divide="ignore"):
    ...         check_schedule(Whole())
    ... except AssertionError as error:
    ...     print(error)
    step: must return a positive finite float ... by float().
    """
    check_object("rule", rule)
    run_checks(CHECKS, exclude, rule)
