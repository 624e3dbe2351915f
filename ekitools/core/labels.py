"""Labels of parameters and data, in the kinds that files and coordinates can hold.

A coordinate of a result holds texts, integers, floats or dates, all of one kind. Files of every
format keep these. `checked_labels` turns other labels into texts, or refuses them.
"""

from __future__ import annotations

import datetime as dt
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np

from ekitools.core.checks import sequence

__all__ = ["checked_labels", "distinct_decimals", "plain_coordinate", "plain_labels"]

_YEARS = range(1678, 2262)
"""The years that a count of nanoseconds can hold, as all versions of xarray have them."""


def checked_labels(
    argument: str,
    names: Any,
    size: int,
    *,
    stem: str,
    reserved: Sequence[str] = (),
) -> tuple[Any, ...]:
    """``size`` different labels, which are all texts, all integers, all floats or all dates.

    Pairs, such as the entries of a pandas MultiIndex, become texts like ``"A12, 1"``, or
    ``"station=A12, day=1"`` if the levels have names. Periods, durations and further objects become
    their texts. Dates become datetime64 in nanoseconds. They become ISO texts if they have a time
    zone, are mixed with labels of another kind, or lie before 1678 or after 2261.

    Parameters
    ----------
    argument : str
        Name of the argument, for errors.
    names : sequence or None
        Labels; None for the default ones.
    size : int
        How many there must be.
    stem : str
        The default labels are the stem and a number.
    reserved : sequence of str, optional
        Texts that no label may be.

    Raises
    ------
    TypeError
        If ``names`` is one text, or a label is an object without a text.
    ValueError
        If there are more or fewer labels, or one is empty, missing, reserved or not unique.

    Examples
    --------
    >>> from ekitools.core.labels import checked_labels
    >>> checked_labels("data_names", [("A12", 1), ("B07", 2)], 2, stem="y")
    ('A12, 1', 'B07, 2')
    >>> checked_labels("data_names", None, 2, stem="y")
    ('y0', 'y1')
    >>> checked_labels("parameter_names", ["a", ""], 2, stem="u")
    Traceback (most recent call last):
    ValueError: parameter_names: must not be empty or missing, got '' at index 1. Give every ...
    """
    if names is None:
        return tuple(f"{stem}{i}" for i in range(size))
    labels = plain_labels(argument, names)
    if len(labels) != size:
        raise ValueError(f"{argument}: must have {size} entries, got {len(labels)}.")
    _check_different(argument, labels)
    for label in labels:
        if label in reserved:
            raise ValueError(
                f"{argument}: must not be {label!r}, which names a dimension of results. Choose "
                f"another name, such as {label + '_'!r}."
            )
    return labels


def plain_labels(argument: str, names: Any) -> tuple[Any, ...]:
    """The labels, which may be the same, in one of the kinds of `checked_labels`."""
    if isinstance(names, str | bytes):
        raise TypeError(
            f"{argument}: must be a sequence of labels, got the text {names!r}. Pass [{names!r}]."
        )
    levels = tuple(getattr(names, "names", None) or ())  # of a pandas MultiIndex
    items = sequence(argument, names, "a sequence of labels")
    if _all_plain_texts(items):
        return items
    return _of_one_kind([_plain(argument, i, item, levels) for i, item in enumerate(items)])


def distinct_decimals(values: Any, *, least: int) -> int:
    """Smallest number of decimals, at least ``least``, that keeps different numbers different.

    Examples
    --------
    >>> from ekitools.core.labels import distinct_decimals
    >>> distinct_decimals([0.0005, 0.001], least=3)
    4
    """
    numbers_ = np.unique(np.asarray(values, dtype=np.float64)).tolist()
    for decimals in range(least, 18):
        if len({f"{x:.{decimals}f}" for x in numbers_}) == len(numbers_):
            return decimals
    return 17


def plain_coordinate(values: np.ndarray) -> np.ndarray:
    """A coordinate as numbers, as dates in nanoseconds or as texts, which files can hold.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.core.labels import plain_coordinate
    >>> plain_coordinate(np.array(["2001-01-01"], "M8[D]")).dtype
    dtype('<M8[ns]')
    >>> plain_coordinate(np.array(["2001-01-01", "9999-01-01"], "M8[D]"))
    array(['2001-01-01', '9999-01-01'], dtype=object)
    """
    if values.dtype.kind in "iuf":
        return values
    if values.dtype.kind == "b":
        return values.astype(np.int64)
    if values.dtype.kind == "M":
        years = values[~np.isnat(values)].astype("datetime64[Y]").astype(np.int64) + 1970
        if np.all((years >= _YEARS.start) & (years < _YEARS.stop)):
            return values.astype("datetime64[ns]")
    return np.array([str(value) for value in values], dtype=object)


def _all_plain_texts(items: tuple[Any, ...]) -> bool:
    """Whether nothing is to be done: a quick look at the names of many parameters."""
    if not all(type(item) is str and item.strip() for item in items):
        return False
    whole = "".join(items)
    return whole.isascii() and "\0" not in whole


def _check_different(argument: str, labels: tuple[Any, ...]) -> None:
    seen: set[Any] = set()
    for label in labels:
        if label in seen:
            shown = str(label) if isinstance(label, np.datetime64) else repr(label)
            raise ValueError(
                f"{argument}: must be different from each other, got {shown} twice. Rename one of "
                "them."
            )
        seen.add(label)


def _plain(argument: str, index: int, label: Any, levels: tuple[Any, ...]) -> Any:
    """One label as a text, an int, a float or a datetime64[ns]."""
    if isinstance(label, np.ndarray):
        label = label.tolist() if label.ndim else label[()]
    if isinstance(label, tuple | list):
        parts = [_text(_plain(argument, index, part, ())) for part in label]
        if len(levels) == len(parts):
            parts = [
                part if k is None else f"{k}={part}" for k, part in zip(levels, parts, strict=True)
            ]
        label = ", ".join(parts)
    elif isinstance(label, bytes):
        label = label.decode("utf-8", "replace")
    if _is_missing(label):
        raise ValueError(
            f"{argument}: must not be empty or missing, got {label!r} at index {index}. Give every "
            "entry a label."
        )
    if isinstance(label, str):
        return _checked_text(argument, index, str(label))
    if isinstance(label, bool | np.bool_):
        return str(bool(label))
    duration: Any = np.timedelta64  # NumPy counts it among the integers
    if isinstance(label, numbers.Integral) and not isinstance(label, duration):
        return int(label) if -(2**63) <= int(label) < 2**63 else str(int(label))
    if isinstance(label, float | np.floating):
        return float(label)
    if isinstance(label, np.datetime64 | dt.date):  # a pandas Timestamp is one too
        return _date(label)
    kind: Any = type(label)
    if kind.__str__ is object.__str__ and kind.__repr__ is object.__repr__:
        raise TypeError(
            f"{argument}: must be texts, numbers or dates, got {type(label).__name__} at index "
            f"{index}. Convert the labels to texts."
        )
    return _checked_text(argument, index, str(label))


def _is_missing(label: Any) -> bool:
    """Whether it is None, NaN, NaT, NA or a text without a character to see."""
    if label is None or label is np.ma.masked or (isinstance(label, str) and not label.strip()):
        return True
    try:
        return bool(label != label)  # noqa: PLR0124 - NaN and NaT
    except (TypeError, ValueError):  # pandas.NA is neither equal nor different
        return True


def _checked_text(argument: str, index: int, text: str) -> str:
    """The text where files can hold it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        fine = False
    else:
        fine = "\0" not in text
    if not fine:
        raise ValueError(
            f"{argument}: must be texts that a file can hold, got {text!r} at index {index}. "
            "Remove its control characters and lone surrogates."
        )
    return text


def _date(date: Any) -> Any:
    """A date as datetime64[ns]; as ISO text where it has a time zone or is too far away."""
    if getattr(date, "tzinfo", None) is not None:
        return str(date.isoformat())
    exact = np.datetime64(date) if not hasattr(date, "to_datetime64") else date.to_datetime64()
    year = int(exact.astype("datetime64[Y]").astype(np.int64)) + 1970
    if year not in _YEARS:
        return str(exact)
    return exact.astype("datetime64[ns]")


def _of_one_kind(labels: list[Any]) -> tuple[Any, ...]:
    """The labels as they are where they are of one kind, integers and floats as floats."""
    kinds = {type(label) for label in labels}
    if len(kinds) <= 1:
        return tuple(labels)
    if kinds == {int, float}:
        return tuple(map(float, labels))
    return tuple(map(_text, labels))


def _text(label: Any) -> str:
    """A label as text; a date no finer than it needs to be."""
    if isinstance(label, np.datetime64):
        return str(np.datetime_as_string(np.array([label]), unit="auto")[0])
    return str(label)
