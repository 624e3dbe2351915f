"""Checks of the arguments that the loop takes, before any model run."""

from __future__ import annotations

from typing import Any

import numpy as np

from ekitools.core.arrays import host, like
from ekitools.core.checks import check_method
from ekitools.problem import check_problem, check_whole
from ekitools.typing import Array

__all__ = ["check_budget", "check_ensemble", "check_members", "check_options", "checked_outputs"]


def check_options(
    problem: Any, method: Any, n_members: int, n_steps: int | None, on_failure: str, store: Any
) -> None:
    """Check what `ekitools.AskTell` and `ekitools.run` are given."""
    check_problem(problem)
    check_method(method)
    check_members(n_members)
    if n_steps is not None:
        check_budget(n_steps)
    if on_failure not in ("drop", "resample", "raise"):
        raise ValueError(f'on_failure: must be "drop", "resample" or "raise", got {on_failure!r}.')
    every = isinstance(store, int) and not isinstance(store, bool) and store >= 1
    if store not in ("all", "last", "final") and not every:
        raise ValueError(
            f'store: must be "all", "last", "final" or a positive integer, got {store!r}.'
        )
    if getattr(method, "keeps_members", False):
        check_whole(problem, f"{type(method).__name__}, which keeps members and their outputs")


def check_members(n_members: Any) -> None:
    """Check a number of members."""
    if isinstance(n_members, bool) or not isinstance(n_members, int | np.integer):
        raise TypeError(f"n_members: must be an integer, got {n_members!r}.")
    if n_members < 2:
        raise ValueError(f"n_members: must be at least 2, got {n_members}.")


def check_budget(n_steps: Any) -> None:
    """Check a number of steps."""
    if isinstance(n_steps, bool) or not isinstance(n_steps, int | np.integer) or n_steps < 1:
        raise ValueError(f"n_steps: must be a positive integer, got {n_steps!r}.")


def check_ensemble(ensemble: Array, p: int) -> None:
    """Check an initial ensemble in physical coordinates."""
    shape = tuple(getattr(ensemble, "shape", ()))
    if len(shape) != 2 or shape[0] < 2 or shape[1] != p:
        raise ValueError(
            f"ensemble: must be an array (J, p) with J >= 2 and p = {p}, got "
            f"{shape or type(ensemble).__name__}."
        )
    if "float" not in str(ensemble.dtype):
        raise TypeError(f"ensemble: must have a floating dtype, got {ensemble.dtype}.")
    if not np.all(np.isfinite(host(ensemble))):
        raise ValueError("ensemble: must be finite, got NaN or infinite entries.")


def checked_outputs(g: Any, asked: Array, n_data: int) -> Array:
    """Outputs of the members ``asked`` for, in their namespace and dtype."""
    expected = (asked.shape[0], n_data)
    if not hasattr(g, "shape"):
        g = np.asarray(g)
    if tuple(g.shape) != expected:
        raise ValueError(
            f"g: must have the shape (members asked for, d) = {expected}, got {tuple(g.shape)}."
        )
    if isinstance(g, np.ndarray) and g.dtype.kind not in "fiu":
        raise TypeError(f"g: must be real numbers, got dtype {g.dtype}.")
    return g if type(g) is type(asked) and g.dtype == asked.dtype else like(g, asked)
