"""Sentences about broken promises, and comparisons that name the first difference."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ekitools.core.arrays import as_rng, host
from ekitools.core.checks import one_of, sequence
from ekitools.typing import Rng

__all__ = [
    "broken",
    "calling",
    "check_fingerprint",
    "check_object",
    "difference",
    "exactly",
    "far",
    "leaves",
    "missing",
    "named",
    "run_checks",
    "seed_of",
    "unchanged",
]

_STANDARD_ERRORS = 4.0


def broken(member: str, rule: str, got: str = "", remedy: str = "") -> AssertionError:
    """The error for a promise that ``member`` breaks.

    Examples
    --------
    >>> from ekitools.testing.promises import broken
    >>> print(broken("aim", "must be a text", "3", "Declare one."))
    aim: must be a text, got 3. Declare one.
    """
    found = f", got {got}" if got else ""
    return AssertionError(f"{member}: {rule}{found}. {remedy}".rstrip())


@contextmanager
def calling(member: str, rule: str, remedy: str = "") -> Iterator[None]:
    """Turn an exception of the code under test into the sentence about ``member``."""
    try:
        yield
    except AssertionError:
        raise
    except Exception as error:
        raise broken(member, rule, named(error), remedy) from error


def named(error: BaseException) -> str:
    """An exception on one line."""
    text = " ".join(str(error).split()).rstrip(".")
    return f"{type(error).__name__} ({text})" if text else type(error).__name__


def check_object(name: str, value: Any) -> None:
    """Refuse a class in place of an object of it."""
    if isinstance(value, type):
        raise TypeError(
            f"{name}: must be an object, got the class {value.__name__} itself. Call the class."
        )


def seed_of(rng: Rng) -> int:
    """One draw, from which a check seeds every generator that it needs."""
    return int(as_rng(rng).integers(2**32))


def run_checks(
    checks: Mapping[str, Callable[[Any], None]], exclude: str | Sequence[str], subject: Any
) -> None:
    """Make every check but the excluded ones, in order."""
    one = isinstance(exclude, str)
    names = (exclude,) if one else sequence("exclude", exclude, "names of checks")
    left_out = {one_of("exclude", name, checks) for name in names}
    for name, check in checks.items():
        if name in left_out:
            continue
        try:
            check(subject)
        except AssertionError as error:
            error.add_note(f'The check "{name}" found this; exclude=("{name}",) leaves it out.')
            raise


def missing(subject: Any, members: Mapping[str, str], what: str) -> None:
    """Refuse an object without one of ``members``, which maps names to what each of them is."""
    for name, meaning in members.items():
        try:
            present = hasattr(subject, name)
        except Exception as error:
            raise broken(name, f"{what} must have it, {meaning}", repr(error)) from error
        if not present:
            raise broken(
                name,
                f"{what} must have it, {meaning}",
                f"{type(subject).__name__} without",
                f"Add {name} to the class.",
            )


def leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Arrays, numbers and texts within NamedTuples, tuples and mappings, each with its name."""
    if hasattr(value, "_fields"):
        for field in value._fields:
            yield from leaves(getattr(value, field), f"{name}.{field}")
    elif isinstance(value, tuple):
        for i, item in enumerate(value):
            yield from leaves(item, f"{name}[{i}]")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, f"{name}[{key!r}]")
    else:
        yield name, value


def difference(found: Any, expected: Any, name: str, *, rtol: float = 0.0) -> str:
    """The first difference in words; empty where there is none. NaN equals NaN.

    Numbers may differ by ``rtol`` times the largest of their array; with 0 they are bitwise the
    same.

    Examples
    --------
    >>> from ekitools.testing.promises import difference
    >>> difference((1.0, 2.0), (1.0, 3.0), "pair")
    'pair[1] = 2.0 in place of 3.0'
    """
    ours, theirs = list(leaves(found, name)), list(leaves(expected, name))
    names = [[leaf for leaf, _ in each] for each in (ours, theirs)]
    if names[0] != names[1]:
        other = next(iter(set(names[0]) ^ set(names[1])), name)
        return f"{other} in one of the two only"
    for (leaf, a), (_, b) in zip(ours, theirs, strict=True):
        if phrase := _of_leaves(a, b, leaf, rtol):
            return phrase
    return ""


def exactly(found: Any, expected: Any, member: str, rule: str, remedy: str, what: str) -> None:
    """Refuse what is not bitwise what was expected."""
    if phrase := difference(found, expected, what):
        raise broken(member, rule, phrase, remedy)


@contextmanager
def unchanged(member: str, remedy: str, **given: Any) -> Iterator[None]:
    """Refuse code that changes an argument in place."""
    kept = copy.deepcopy(given)
    yield
    for name, value in given.items():
        rule = f"must not change its argument {name} in place"
        exactly(value, kept[name], member, rule, remedy, name)


def far(scores: np.ndarray) -> float:
    """The largest of some standard scores if it is too large to be chance, else 0.

    One score may be up to 4; where many are looked at the largest of them may be a little more.
    """
    largest = float(np.max(np.abs(scores), initial=0.0))
    bound = math.sqrt(_STANDARD_ERRORS**2 + 2 * math.log(max(1, scores.size)))
    return largest if not largest < bound else 0.0


def check_fingerprint(part: Any) -> None:
    """Check that a part of a problem is known again, also after it was pickled."""
    remedy = "Compute it from all values that define the object, and from nothing else."
    with calling("fingerprint", "must return a text", remedy):
        text = part.fingerprint()
    if not isinstance(text, str):
        raise broken("fingerprint", "must return a text", type(text).__name__, remedy)
    with calling(
        "fingerprint",
        "must be the same after pickle",
        "Define the class, and the functions that it holds, at the top of a module.",
    ):
        pickled = pickle.loads(pickle.dumps(part))
    for other, how in ((part, "again"), (copy.deepcopy(part), "a copy"), (pickled, "pickle")):
        if other.fingerprint() != text:
            got = f"{other.fingerprint()} after {text} ({how})"
            raise broken("fingerprint", "must be the same for the same object", got, remedy)


def _of_leaves(a: Any, b: Any, name: str, rtol: float) -> str:
    if not (hasattr(a, "shape") or hasattr(b, "shape")):
        if isinstance(a, float) and isinstance(b, float):
            same = a == b or (math.isnan(a) and math.isnan(b)) or abs(a - b) <= rtol * abs(b)
        else:
            same = type(a) is type(b) and bool(a == b)
        return "" if same else f"{name} = {a!r:.60} in place of {b!r:.60}"
    x, y = (host(each) if hasattr(each, "shape") else np.asarray(each) for each in (a, b))
    if x.shape != y.shape:
        return f"{name} of the shape {x.shape} in place of {y.shape}"
    if x.dtype.kind not in "fiub" or y.dtype.kind not in "fiub":
        dates = x.dtype == y.dtype and x.dtype.kind in "mM"  # these may be NaT
        return "" if np.array_equal(x, y, equal_nan=dates) else f"{name} that differs"
    if rtol == 0 and x.ndim and x.dtype != y.dtype:
        return f"{name} of dtype {x.dtype} in place of {y.dtype}"
    if np.array_equal(x, y, equal_nan=True):
        return ""
    x, y = (np.asarray(each, dtype=np.float64) for each in (x, y))
    finite = np.isfinite(x) & np.isfinite(y)
    odd = ~finite & ~((x == y) | (np.isnan(x) & np.isnan(y)))
    if odd.any():
        return f"{name} with {x[odd][0]} in place of {y[odd][0]}"
    gap = float(np.max(np.abs(x - y)[finite], initial=0.0))
    scale = float(np.max(np.abs(y[finite]), initial=0.0))
    return "" if gap <= rtol * scale else f"{name} with a difference of up to {gap:.3g}"
