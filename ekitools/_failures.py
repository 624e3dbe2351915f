"""Members whose model run failed: why, and who takes their places."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ekitools._arrays import array_namespace, take_rows
from ekitools.analysis import with_ensemble
from ekitools.linalg import gaussian_draws

__all__ = ["name_reasons", "replaced"]


def name_reasons(
    failed: np.ndarray, failures: Mapping[int, Any]
) -> dict[int, tuple[str, BaseException | None]]:
    """Reason and error of every failed row; ``failed`` gets the rows of ``failures`` too."""
    for row in failures:
        if not 0 <= row < len(failed):
            raise ValueError(f"failures: rows must be in 0 ... {len(failed) - 1}, got {row}.")
        failed[row] = True
    rows = {int(row): failures.get(int(row)) for row in np.flatnonzero(failed)}
    return {
        row: (
            str(getattr(why, "reason", why or "output not finite, or too large to be squared")),
            getattr(why, "error", None),
        )
        for row, why in rows.items()
    }


def replaced(
    method: Any, state: Any, survivors: np.ndarray, n_all: int, rng: np.random.Generator
) -> Any:
    """The state with draws from the survivors' Gaussian in the places of those that failed."""
    lost = np.setdiff1d(np.arange(n_all), survivors)
    kept = state.ensemble
    drawn = gaussian_draws(kept, len(lost), rng)
    index = np.zeros(n_all, dtype=np.int64)
    index[survivors] = np.arange(len(survivors))
    both = array_namespace(kept).concat([kept, drawn], axis=0)
    order = np.argsort(np.concatenate([survivors, lost]))
    return with_ensemble(method, method.select(state, index), take_rows(both, order))
