"""Checked selections of data by a mask or by indices."""

from __future__ import annotations

from typing import Any

import numpy as np

from ekitools.core.arrays import as_array

__all__ = ["kept_indices"]


def kept_indices(kept: Any, d: int | None) -> np.ndarray:
    """Indices of the kept data, from a mask ``(d,)`` or from indices; d may be None (unknown).

    Raises
    ------
    TypeError, ValueError
        If ``kept`` is neither a mask nor indices, is empty, or has an index that is repeated or out
        of range.

    Examples
    --------
    >>> from ekitools.core.indices import kept_indices
    >>> kept_indices([True, False, True], 3)
    array([0, 2])
    """
    kept = as_array("kept", kept)
    if kept.ndim != 1 or (kept.dtype.kind not in "biu" and kept.size):
        raise TypeError(
            f"kept: must be a boolean mask (d,) or integer indices, got dtype {kept.dtype} and "
            f"shape {kept.shape}. Pass np.isfinite(data), for example."
        )
    if kept.dtype.kind == "b" and d not in (None, kept.size):
        raise ValueError(f"kept: a mask must have d = {d} entries, got {kept.size}.")
    index = np.flatnonzero(kept) if kept.dtype.kind == "b" else kept.astype(np.intp)
    if index.size == 0:
        raise ValueError("kept: must keep at least one datum, got none. Check the mask.")
    if index.min() < 0 or (d is not None and index.max() >= d):
        bad = index[(index < 0) | (index >= (d or np.inf))][0]
        end = "at least 0" if d is None else f"from 0 to {d - 1}"
        raise ValueError(f"kept: indices must be {end}, got {bad}.")
    if np.unique(index).size < index.size:
        raise ValueError("kept: must have every index once, got one twice. Pass np.unique(kept).")
    return index
