"""Checks that adapters have in common."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["check_chunk", "check_members", "check_variances", "check_vector"]


def check_chunk(chunk: Any) -> None:
    """Check a number of members."""
    if chunk is None:
        return
    if isinstance(chunk, bool) or not isinstance(chunk, int):
        raise TypeError(f"chunk: must be an integer, got {chunk!r}.")
    if chunk < 1:
        raise ValueError(f"chunk: must be at least 1, got {chunk}.")


def check_members(u: Any, p: int) -> None:
    """Check an ensemble ``(J, p)`` or one member ``(p,)``."""
    shape = tuple(getattr(u, "shape", ()))
    if len(shape) not in (1, 2) or shape[-1] != p:
        raise ValueError(
            f"u: must be an array (J, p) with p = {p}, got {shape or type(u).__name__}. Members "
            "have the parameters of the model, as flat() returns them."
        )
    if "float" not in str(u.dtype):
        raise TypeError(f"u: must have a floating dtype, got {u.dtype}.")


def check_vector(u: Any, p: int) -> None:
    """Check one member ``(p,)``."""
    if tuple(u.shape) != (p,):
        raise ValueError(
            f"u: must be one vector of p = {p} entries, got shape {tuple(u.shape)}. Take the mean "
            "over the members first."
        )


def check_variances(**variances: float | None) -> None:
    """Check variances by the names of their arguments."""
    for name, value in variances.items():
        if isinstance(value, str):
            raise TypeError(f"{name}: must be a number, got {value!r}.")
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name}: must be a positive finite variance, got {value!r}.")
