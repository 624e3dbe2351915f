"""Short texts for reprs: shapes in place of arrays, and lists that are cut."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

__all__ = ["brief", "first", "shape"]


def first(texts: Iterable[str], *, most: int = 8) -> str:
    """The first texts, and the number of the others.

    Examples
    --------
    >>> from ekitools.core.described import first
    >>> first(["a", "b", "c"], most=2), first([]), first(["a"])
    ('a, b and 1 more', '', 'a')
    """
    remaining = iter(texts)
    shown = list(islice(remaining, most))
    left = sum(1 for _ in remaining)
    return ", ".join(shown) + (f" and {left} more" if left else "")


def brief(value: Any, *, most: int = 200) -> str:
    r"""The repr of an object, or its text, on one line of at most ``most`` characters.

    Examples
    --------
    >>> from ekitools.core.described import brief
    >>> brief(range(3)), brief("a\n  b"), brief("abcdef", most=4)
    ('range(0, 3)', 'a b', 'abc…')
    """
    text = " ".join((value if isinstance(value, str) else repr(value)).split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


def shape(value: Any) -> str:
    """The shape of an array, the number of entries of a mapping, or a brief repr.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.core.described import shape
    >>> shape(np.zeros((2, 3))), shape({"a": 1}), shape(0.5), shape(None)
    ('array of shape (2, 3)', '1 entry', '0.5', 'None')
    """
    dimensions = getattr(value, "shape", None)
    if isinstance(dimensions, tuple) and dimensions:
        return f"array of shape {dimensions}"
    if isinstance(value, Mapping):
        return f"{len(value)} {'entry' if len(value) == 1 else 'entries'}"
    return brief(value, most=60)
