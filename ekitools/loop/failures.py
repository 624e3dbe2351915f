"""Failed members: the reasons, and the draws that replace them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ekitools.core.arrays import array_namespace, host, take_rows
from ekitools.linalg import gaussian_draws
from ekitools.methods.shared import mapped
from ekitools.typing import Array, MemberFailure

__all__ = ["fatal_sentence", "largest_output", "name_reasons", "replaced"]


def largest_output(g: Array, noise_sd: np.ndarray) -> float:
    """The largest |g| whose whitened squares can be summed in the dtype of ``g``."""
    largest = float(np.finfo(host(g[:1, :1]).dtype).max)
    return 1e-4 * np.sqrt(largest) * float(np.fmin(1.0, np.min(noise_sd)))


def fatal_sentence(failed: np.ndarray, iteration: int, on_failure: str) -> str | None:
    """Why the run cannot go on, or None where it can."""
    n_failed, n_asked = int(failed.sum()), len(failed)
    if n_failed and on_failure == "raise":
        return (
            f"{n_failed} of {n_asked} members failed at iteration {iteration} and on_failure is "
            '"raise". See error.result.attrs["failures"], or use on_failure="drop".'
        )
    if n_asked - n_failed >= 2:
        return None
    return (
        f"{n_failed} of {n_asked} members failed at iteration {iteration}: fewer than 2 are left. "
        'See error.result.attrs["failures"]; check the model at one draw of the prior.'
    )


def name_reasons(
    failed: np.ndarray, failures: Mapping[int, Any]
) -> dict[int, tuple[str, BaseException | None]]:
    """Reason and error of every failed row; ``failed`` gets the rows of ``failures`` too."""
    for row in failures:
        if not 0 <= row < len(failed):
            raise ValueError(f"failures: rows must be in 0 ... {len(failed) - 1}, got {row}.")
        failed[row] = True
    rows = {int(row): failures.get(int(row)) for row in np.flatnonzero(failed)}
    return {row: _reason(why) for row, why in rows.items()}


def _reason(why: Any) -> tuple[str, BaseException | None]:
    if isinstance(why, MemberFailure):
        return str(why.reason), why.error
    if isinstance(why, BaseException):
        return repr(why), why
    return str(why or "output not finite, or too large to be squared"), None


def replaced(
    method: Any, state: Any, survivors: np.ndarray, n_all: int, rng: np.random.Generator
) -> Any:
    """The state with draws from the survivors' Gaussian in the places of those that failed.

    A draw is a combination of the survivors. What else a method holds of its members is combined
    alike, where it offers that (`ekitools.typing.Method`), and else taken from the first of them.
    """
    lost = np.setdiff1d(np.arange(n_all), survivors)
    white = rng.standard_normal((len(lost), len(survivors)))
    order = np.argsort(np.concatenate([survivors, lost]))

    def rows(kept: Array) -> Array:
        both = array_namespace(kept).concat([kept, gaussian_draws(kept, white)], axis=0)
        return take_rows(both, order)

    index = np.zeros(n_all, dtype=np.int64)
    index[survivors] = np.arange(len(survivors))
    return mapped(method, state, rows, index)
