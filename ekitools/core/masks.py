"""Masked arrays of a user: refused, or masked entries as missing ones."""

from __future__ import annotations

import contextlib
import warnings
from typing import Any

import numpy as np

__all__ = ["masked_as_nan", "unmasked"]


def unmasked(name: str, value: Any) -> Any:
    """``value``, a masked array without masked entries as a plain array.

    Every function that takes an array of a user calls this one, or `as_real`, which calls it.
    NumPy's own conversion drops the mask and takes the fill value for a number.

    Raises
    ------
    ValueError
        If an entry is masked.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.core.masks import unmasked
    >>> unmasked("data", np.ma.masked_array([1.0, 2.0]))
    array([1., 2.])
    >>> unmasked("data", np.ma.masked_array([1.0, -9999.0], mask=[False, True]))
    Traceback (most recent call last):
    ValueError: data: must have no masked entries, got 1, the first at index (1,). Remove or ...
    """
    value = _with_mask(value)
    if not isinstance(value, np.ma.MaskedArray):
        return value
    mask = np.ma.getmaskarray(value)
    if mask.any():
        first = tuple(int(i) for i in np.argwhere(mask)[0])
        raise ValueError(
            f"{name}: must have no masked entries, got {np.count_nonzero(mask)}, the first at "
            f"index {first}. Remove or impute them. A masked model output is a missing one: "
            "return NaN."
        )
    return np.asarray(value)


def masked_as_nan(value: Any) -> Any:
    """``value``, masked entries as NaN: a masked model output is a missing one.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.core.masks import masked_as_nan
    >>> masked_as_nan(np.ma.masked_array([1, -9999], mask=[False, True]))
    array([ 1., nan])
    """
    value = _with_mask(value)
    if not isinstance(value, np.ma.MaskedArray):
        return value
    if not np.ma.getmaskarray(value).any() or value.dtype.kind not in "fiub":
        return np.asarray(value)
    dtype = value.dtype if value.dtype.kind == "f" else np.float64
    return np.where(np.ma.getmaskarray(value), np.nan, np.asarray(value, dtype=dtype)).astype(dtype)


def _with_mask(value: Any) -> Any:
    """Rows in a list, of which some are masked arrays, as one masked array."""
    if isinstance(value, list | tuple) and any(isinstance(v, np.ma.MaskedArray) for v in value):
        with warnings.catch_warnings(), contextlib.suppress(ValueError):  # of a ragged list
            warnings.simplefilter("ignore", UserWarning)  # of the constant np.ma.masked
            return np.ma.array(value)
    return value
