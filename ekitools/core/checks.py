"""Checks of arguments: each names the argument, the rule, the value and the remedy.

There is one way to refuse a number. A value of a wrong kind is a TypeError and one out of range a
ValueError. Scalars of NumPy and of other arrays are welcome, booleans are not numbers, and what
comes back is a plain Python number, which JSON can hold and options can be compared by.
"""

from __future__ import annotations

import dataclasses
import math
import operator
import os
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np

from ekitools.typing import (
    Aim,
    NoiseModel,
    Normalisation,
    Prior,
    ScaledNoise,
    Schedule,
    StoppingRule,
)

__all__ = [
    "as_path",
    "check_gaussian",
    "check_method",
    "check_prior",
    "check_schedule",
    "flag",
    "function",
    "integer",
    "number",
    "one_of",
    "put",
    "sequence",
    "share",
    "stopping_rules",
]


_METHOD = ("State", "aim", "normalisation", "init", "ask", "tell", "finished", "select")
"""The parts of a `Method`."""

Choice = TypeVar("Choice", bound=str)
"""A text of a fixed list: the ``Literal`` type of the list."""


def integer(
    name: str,
    value: Any,
    *,
    least: int | None = 1,
    most: int | None = None,
    remedy: str = "",
) -> int:
    """``value`` as an int from ``least`` to ``most``, which are allowed.

    Parameters
    ----------
    name : str
        Of the argument.
    value : integer
        Checked.
    least : int or None, default 1
        The lower bound; None for none.
    most : int, optional
        The upper bound.
    remedy : str, optional
        A sentence to end the error with.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.core.checks import integer
    >>> integer("n_steps", np.int64(2))
    2
    >>> integer("n_steps", 2.5)
    Traceback (most recent call last):
    TypeError: n_steps: must be an integer, got 2.5.
    >>> integer("port", 70000, most=65535)
    Traceback (most recent call last):
    ValueError: port: must be from 1 to 65535, got 70000.
    """
    end = f" {remedy}" if remedy else ""
    given = _plain(value)
    try:
        found = operator.index(given)
    except TypeError:
        found = None
    if found is None or isinstance(given, bool):
        raise TypeError(f"{name}: must be an integer, got {value!r}.{end}")
    if (least is not None and found < least) or (most is not None and found > most):
        rule = f"at most {most}" if least is None else f"from {least} to {most}"
        rule = f"at least {least}" if most is None else rule
        raise ValueError(f"{name}: must be {rule}, got {found}.{end}")
    return found


def number(
    name: str,
    value: Any,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
    infinite: bool = False,
    remedy: str = "",
) -> float:
    """``value`` as a float: greater than ``above``, at least ``least``, and so on.

    Parameters
    ----------
    name : str
        Of the argument.
    value : real number
        Checked.
    above, least, below, most : float, optional
        Bounds; the bound itself is allowed by ``least`` and ``most`` alone.
    infinite : bool, default False
        Whether infinity within the bounds is allowed. NaN never is.
    remedy : str, optional
        A sentence to end the error with.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.core.checks import number
    >>> number("h", np.float32(0.25), above=0)
    0.25
    >>> number("h", -1, above=0)
    Traceback (most recent call last):
    ValueError: h: must be positive and finite, got -1.
    """
    end = f" {remedy}" if remedy else ""
    given = _plain(value)
    if isinstance(given, bool | np.timedelta64) or not isinstance(given, Real):
        raise TypeError(f"{name}: must be a number, got {value!r}.{end}")
    try:
        found = float(given)
    except OverflowError:  # an integer of more than 308 digits
        found = value = -math.inf if given < 0 else math.inf
    fits = (
        (above is None or found > above)
        and (least is None or found >= least)
        and (below is None or found < below)
        and (most is None or found <= most)
        and not math.isnan(found)
        and (infinite or math.isfinite(found))
    )
    if not fits:
        rule = _rule(above, least, below, most, infinite=infinite)
        raise ValueError(f"{name}: must be {rule}, got {value!s}.{end}")
    return found


def share(name: str, value: Any) -> float:
    """``value`` as a float within (0, 1).

    Examples
    --------
    >>> from ekitools.core.checks import share
    >>> share("ess", 1)
    Traceback (most recent call last):
    ValueError: ess: must be within (0, 1), got 1.
    """
    return number(name, value, above=0, below=1)


def flag(name: str, value: Any) -> bool:
    """``value`` as a bool.

    Examples
    --------
    >>> from ekitools.core.checks import flag
    >>> flag("perturbed", "no")
    Traceback (most recent call last):
    TypeError: perturbed: must be True or False, got 'no'.
    """
    given = _plain(value)
    if not isinstance(given, bool):
        raise TypeError(f"{name}: must be True or False, got {value!r}.")
    return given


def one_of(name: str, value: Any, choices: Iterable[Choice]) -> Choice:
    """The text among ``choices`` that equals ``value``.

    Examples
    --------
    >>> from ekitools.core.checks import one_of
    >>> one_of("on_failure", "ignore", ("drop", "resample", "raise"))
    Traceback (most recent call last):
    ValueError: on_failure: must be "drop", "resample" or "raise", got 'ignore'.
    """
    known = tuple(choices)
    if not isinstance(value, str) or value not in known:
        listed = _listed([f'"{choice}"' for choice in known], "or")
        raise ValueError(f"{name}: must be {listed}, got {value!r}.")
    return known[known.index(value)]


def function(name: str, value: Any) -> Any:
    """``value`` where it can be called.

    Examples
    --------
    >>> from ekitools.core.checks import function
    >>> function("on_step", 3)
    Traceback (most recent call last):
    TypeError: on_step: must be callable, got int.
    """
    if not callable(value):
        raise TypeError(f"{name}: must be callable, got {type(value).__name__}.")
    return value


def sequence(name: str, value: Any, what: str) -> tuple[Any, ...]:
    """``value`` as a tuple: a list or anything else in order, but no text and no mapping.

    Examples
    --------
    >>> from ekitools.core.checks import sequence
    >>> sequence("parameter_names", "ab", "a sequence of names")
    Traceback (most recent call last):
    TypeError: parameter_names: must be a sequence of names, got 'ab'.
    """
    values: Any = value.values if hasattr(value, "dims") else value  # of an xarray.DataArray
    unordered = isinstance(value, str | bytes | Mapping | set | frozenset | type)
    if unordered or not isinstance(value, Iterable) or getattr(value, "ndim", 1) == 0:
        raise TypeError(f"{name}: must be {what}, got {value!r:.60}.")
    return tuple(values)


def as_path(name: str, value: Any, what: str) -> Path:
    """``value`` as a path.

    Examples
    --------
    >>> from ekitools.core.checks import as_path
    >>> as_path("checkpoint", "", "a folder")
    Traceback (most recent call last):
    ValueError: checkpoint: must be the path of a folder, got ''.
    """
    given = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(given, str):
        raise TypeError(f"{name}: must be the path of {what}, got {type(value).__name__}.")
    if not given or "\0" in given:
        raise ValueError(f"{name}: must be the path of {what}, got {given!r}.")
    return Path(given)


def put(options: Any, **values: Any) -> None:
    """Set checked fields of a frozen dataclass, in its ``__post_init__``."""
    for name, value in values.items():
        object.__setattr__(options, name, value)


def _listed(parts: Sequence[str], word: str) -> str:
    """a, b and c, where ``word`` is "and"."""
    return f" {word} ".join(part for part in (", ".join(parts[:-1]), parts[-1]) if part)


def _plain(value: Any) -> Any:
    """A scalar of any array library as a Python scalar; durations stay what they are."""
    kind = getattr(getattr(value, "dtype", None), "kind", "")  # torch's dtypes have none
    scalar = getattr(value, "shape", None) == () and hasattr(value, "item")
    return value.item() if scalar and kind not in ("m", "M") else value


def _rule(
    above: float | None,
    least: float | None,
    below: float | None,
    most: float | None,
    *,
    infinite: bool,
) -> str:
    """The bounds in words."""
    if (below is not None or most is not None) and (above is not None or least is not None):
        low = f"({above:g}" if above is not None else f"[{least:g}"
        high = f"{below:g})" if below is not None else f"{most:g}]"
        return f"within {low}, {high}"
    words = {
        "positive" if above == 0 else f"greater than {above}": above,
        f"at least {least}": least,
        f"less than {below}": below,
        f"at most {most}": most,
    }
    parts = [text for text, bound in words.items() if bound is not None]
    if not infinite:
        parts.append("finite")
    return " and ".join(parts) or "a number"


def check_method(method: Any) -> None:
    """Check that it is a method, and check its declarations."""
    missing = [part for part in _METHOD if not hasattr(method, part)]
    if isinstance(method, type) or len(missing) == len(_METHOD):
        raise TypeError(f"method: must be a method such as ek.EKI(), got {method!r}.")
    if missing:
        raise TypeError(
            f"method: must have {_listed(missing, 'and')} (see ekitools.typing.Method), got "
            f"{method!r} without. Add these attributes."
        )
    one_of("method: its aim", method.aim, get_args(Aim))
    one_of("method: its normalisation", method.normalisation, get_args(Normalisation))
    if not dataclasses.is_dataclass(method):
        raise TypeError(f"method: must be a frozen dataclass of options, got {method!r}.")


def check_prior(prior: Any) -> None:
    """Check that it is a prior."""
    if isinstance(prior, type) or not isinstance(prior, Prior):
        raise TypeError(
            "prior: must be a Prior such as ek.GaussianPrior(mean, cov) or "
            f"ek.Prior({{name: distribution}}), got {type(prior).__name__}. Put several priors "
            "side by side by ek.JointPrior({name: prior})."
        )


def check_schedule(step: Any) -> None:
    """Check that it is a step rule."""
    if isinstance(step, type) or not (isinstance(step, Schedule) and callable(step.step)):
        raise TypeError(f"step: must be a step rule such as ek.FixedStep(h), got {step!r}.")


def stopping_rules(stop: Any) -> tuple[StoppingRule, ...]:
    """One stopping rule, or any sequence of them, as a tuple."""
    what = "stopping rules such as ek.Discrepancy()"
    one = isinstance(stop, StoppingRule) and not isinstance(stop, type)
    rules = (stop,) if one else sequence("stop", stop, what)
    for rule in rules:
        if isinstance(rule, type) or not isinstance(rule, StoppingRule):
            raise TypeError(f"stop: must be {what}, got {rule!r}.")
    return rules


def check_gaussian(noise: Any, who: str) -> None:
    """Check that there is a known Γ, and not a loss."""
    if isinstance(noise, ScaledNoise):
        raise TypeError(
            f"noise: must have known scales for {who}, got {noise!r}. Use a method that estimates "
            "them: ek.GNKI(), ek.TemperedSMC() or ek.EKI(). Or use ek.GaussianNoise(sd=...)."
        )
    if not isinstance(noise, NoiseModel):
        raise TypeError(
            f"noise: must be Gaussian for {who}, which whitens by it, got the loss "
            f"{type(noise).__name__}. Use ek.GaussianNoise(cov), or a method that takes any loss: "
            "ek.LossEKI, ek.TemperedSMC, or ek.integrate with ek.EKIFlow or ek.EKSFlow."
        )
