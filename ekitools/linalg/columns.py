"""Ensembles in blocks of columns that fit the cache, and the products with their anomalies."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from array_api_compat import is_torch_namespace

from ekitools.core.arrays import array_namespace, in_host_memory, is_numpy, is_updatable
from ekitools.typing import Array

__all__ = [
    "Scratch",
    "centred",
    "columns_of",
    "combine",
    "combine_part",
    "part_width",
    "shifted_blocks",
    "times_anomalies",
]

_BLOCK_BYTES = 1 << 22
"""Bytes of one column block: small compared with the ensemble, large for a matrix product."""


class Scratch:
    """Two reusable buffers for blocks of columns; new arrays for other libraries than NumPy."""

    def __init__(self, a: Array, columns: slice) -> None:
        self._like = a[:, columns] if is_numpy(a) else None
        self._buffers: dict[str, np.ndarray] = {}

    def subtract(self, x: Array, y: Array) -> Array:
        """X − y, valid until the next difference is made."""
        return x - y if self._like is None else np.subtract(x, y, out=self._buffer("-", x))

    def multiply(self, x: Array, y: Array) -> Array:
        """Entrywise x y, valid until the next product is made."""
        return x * y if self._like is None else np.multiply(x, y, out=self._buffer("*", x))

    def _buffer(self, use: str, x: np.ndarray) -> np.ndarray:
        if use not in self._buffers:
            self._buffers[use] = np.empty_like(self._like, order="C")
        return self._buffers[use][:, : x.shape[1]]


def centred(coefficients: Array) -> Array:
    """Coefficients minus the mean of each row."""
    xp = array_namespace(coefficients)
    return coefficients - xp.mean(coefficients, axis=1, keepdims=True)


def combine(
    u: Array, left: Array, right: Array | None = None, out: np.ndarray | None = None
) -> Array:
    """U + left E, or U + left (rightᵀ E), with E = U − u_J in column blocks."""
    if is_updatable(u):
        return u.combined(left, right)
    if not is_numpy(u):
        xp = array_namespace(u)
        if is_torch_namespace(xp) and not in_host_memory(u):
            # the product adds U at its end: two passes less over the memory of a device. Products
            # on a CPU add U at their beginning, which costs digits of the sum.
            shifted = u - u[-1:, :]
            return xp.addmm(u, left, shifted if right is None else right.T @ shifted)
        moved = times_anomalies(u, left, right)
        moved += u
        return moved
    out = np.empty_like(u) if out is None else out
    if right is None:
        return combine_part(u, left, out)
    for c, shifted in shifted_blocks(u):
        np.matmul(left, right.T @ shifted, out=out[:, c])
        out[:, c] += u[:, c]
    return out


def combine_part(
    u: np.ndarray,
    left: np.ndarray,
    out: np.ndarray,
    start: int = 0,
    n_columns: int | None = None,
) -> np.ndarray:
    """Columns of U + left E from ``start`` on, of an ensemble with ``n_columns`` columns.

    The matrix products have the shapes that `combine` takes for the whole ensemble, for every part.
    A column of ``u`` keeps its position in a block, and the columns of the block that are not in
    ``u`` are zero. The results are therefore bitwise equal.

    Parameters
    ----------
    u : (J, m) ndarray
        The columns ``start`` to ``start + m``.
    left : (J, J) ndarray
        Rows sum to 0; of the dtype of ``out``.
    out : (J, m) ndarray
        Array for the result; ``u`` itself is allowed.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.linalg.columns import combine_part
    >>> u, left = np.array([[1.0], [3.0]]), np.array([[0.5, -0.5], [0.0, 0.0]])
    >>> combine_part(u, left, np.empty_like(u)).ravel()
    array([0., 3.])
    """
    (n, m), p = out.shape, out.shape[1] if n_columns is None else n_columns
    # U + left E = u_J + (I + left) E, whose last row is zero: u_J goes there
    left = left + np.eye(n, dtype=left.dtype)
    left[:, -1] = 1
    width = part_width(n, out.itemsize)
    buffer = np.empty((n, min(width, p)), dtype=left.dtype)
    for first in range(start - start % width, start + m, width):
        end = min(first + width, p)
        low, high = max(first, start), min(end, start + m)
        c = slice(low - start, high - start)
        shifted = buffer[:, : end - first]
        if high - low < end - first:
            shifted[...] = 0
        part = shifted[:, low - first : high - first]
        np.subtract(u[:, c], u[-1:, c], out=part)
        part[-1] = u[-1, c]
        if high - low < end - first:
            out[:, c] = np.matmul(left, shifted)[:, low - first : high - first]
        else:
            np.matmul(left, shifted, out=out[:, c])
    return out


def times_anomalies(u: Array, left: Array, right: Array | None = None) -> Array:
    """Left E, or left (rightᵀ E), with E = U − u_J; rows of left, or columns of right, sum to 0."""
    if not is_numpy(u):
        shifted = u - u[-1:, :]
        return left @ shifted if right is None else left @ (right.T @ shifted)
    out = np.empty((left.shape[0], u.shape[1]), dtype=u.dtype)
    for c, shifted in shifted_blocks(u):
        np.matmul(left, shifted if right is None else right.T @ shifted, out=out[:, c])
    return out


def shifted_blocks(a: Array) -> Iterator[tuple[slice, Array]]:
    """A − a_J in blocks of columns, which share one buffer."""
    columns = columns_of(a, 2 * _BLOCK_BYTES)  # there is one buffer here
    scratch = Scratch(a, columns[0])
    for c in columns:
        yield c, scratch.subtract(a[:, c], a[-1:, c])


def columns_of(a: Array, block_bytes: int | None = None) -> list[slice]:
    """Blocks of columns that fit the cache; one block for arrays of other libraries."""
    width = a.shape[1]
    if is_numpy(a):
        width = _width(a.shape[0], a.dtype.itemsize, block_bytes or _BLOCK_BYTES)
    return [slice(i, i + width) for i in range(0, a.shape[1], width)]


def part_width(n: int, itemsize: int) -> int:
    """Number of columns in a block of `combine_part`, which has one buffer."""
    return _width(n, itemsize, 2 * _BLOCK_BYTES)


def _width(n: int, itemsize: int, block_bytes: int) -> int:
    return max(64, block_bytes // (n * itemsize))
