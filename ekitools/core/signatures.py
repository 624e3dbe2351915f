"""Checks of the signatures of users' functions, before any run."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

__all__ = ["check_accepts"]


def check_accepts(
    argument: str, function: Callable[..., Any], *names: str, keywords: tuple[str, ...] = ()
) -> None:
    """Check that a function accepts these positional arguments and keywords."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some builtins have no signature
        return
    try:
        signature.bind(*names, **dict.fromkeys(keywords))
    except TypeError as error:
        asked = ", ".join([*names, *(f"{keyword}=" for keyword in keywords)])
        raise TypeError(
            f"{argument}: must be a function ({asked}), got one of {signature} ({error})."
        ) from error
