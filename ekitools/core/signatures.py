"""Whether a function of the user's takes what it will be given, found out before any run."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

__all__ = ["check_accepts"]


def check_accepts(
    argument: str, function: Callable[..., Any], *names: str, keywords: tuple[str, ...] = ()
) -> None:
    """Check that a function can be called with arguments in these places, and with keywords."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some builtins do not tell
        return
    try:
        signature.bind(*names, **dict.fromkeys(keywords))
    except TypeError as error:
        asked = ", ".join([*names, *(f"{keyword}=" for keyword in keywords)])
        raise TypeError(
            f"{argument}: must be a function ({asked}), got one of {signature} ({error})."
        ) from error
