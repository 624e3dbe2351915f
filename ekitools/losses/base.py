"""Tools that the losses share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import numpy as np

from ekitools.core.arrays import (
    array_namespace,
    as_real,
    check_array,
    data_like,
    digest,
    is_numpy,
)
from ekitools.typing import Array

__all__ = ["Fingerprinted", "by_members", "checked_data", "exp_of", "sigmoid"]

_BLOCK_BYTES = 1 << 18
"""Bytes of the outputs that are treated at a time."""


class Fingerprinted:
    """A loss that is known by its options."""

    def fingerprint(self) -> str:
        """A short text that changes whenever an option does."""
        values = (getattr(self, field.name) for field in fields(self))  # type: ignore[arg-type]
        return digest(type(self).__name__, *values)


def checked_data(y: Array, z: Array, *f: Array, last: int | None = None) -> Array:
    """The data in the kind of the outputs; data, outputs and ``f``, if given, are checked.

    Raises
    ------
    TypeError, ValueError
        If one of them is no array of real numbers, or has another last axis.
    """
    check_array("z", z, last=last)
    if not getattr(y, "shape", ()):  # a list, or one number for all outputs
        y = as_real("y", y)
    for name, x in (("y", y), *(("f", x) for x in f)):
        if name == "f" or x.shape:
            check_array(name, x)
            if x.shape[-1] != z.shape[-1]:
                raise ValueError(
                    f"z, {name}: must have the same last axis, got shapes {tuple(z.shape)} and "
                    f"{tuple(x.shape)}."
                )
    return data_like(y, z)


def by_members(function: Callable[..., Array], *arrays: Array) -> Array:
    """The function of some rows of the arrays after the other, where NumPy would leave the cache.

    All of it is then in the cache but what it is given and what it returns.
    """
    first = arrays[0]
    if first.ndim != 2 or not is_numpy(first) or first.nbytes <= _BLOCK_BYTES:
        return function(*arrays)
    n, rows = len(first), max(1, _BLOCK_BYTES // first[0].nbytes)
    out: Array = None
    for i in range(0, n, rows):
        found = function(*(array[i : i + rows] for array in arrays))
        out = np.empty((n, *found.shape[1:]), found.dtype) if out is None else out
        out[i : i + rows] = found
    return out


def exp_of(z: Array) -> Array:
    """exp(z), written over z where that is a NumPy array."""
    return np.exp(z, out=z) if is_numpy(z) else array_namespace(z).exp(z)


def sigmoid(z: Array) -> Array:
    """1/(1 + e^{−z}), without overflow."""
    xp = array_namespace(z)
    small = xp.exp(-xp.abs(z))
    return xp.where(z < 0, small, xp.ones_like(z)) / (1 + small)
