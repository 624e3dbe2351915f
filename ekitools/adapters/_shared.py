"""Checks that adapters have in common."""

from __future__ import annotations

from typing import Any

from ekitools.core.checks import integer, number

__all__ = ["check_members", "check_variances", "check_vector", "checked_chunk"]


def checked_chunk(chunk: Any) -> int | None:
    """A number of members, or None."""
    return None if chunk is None else integer("chunk", chunk)


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
        if value is not None:
            number(name, value, above=0, remedy="It is a variance.")
