r"""The Kalman analysis without Gram matrices, for noise that is small compared with the spread.

A Gram matrix squares the singular values of F. If the noise is small, the small squares are lost in
the rounding errors of the large squares. The thin SVD Fᵀ = V s Pᵀ avoids squares, and

    Δ (FᵀF + cI)⁻¹ Fᵀ = Δ Fᵀ (FFᵀ + cI)⁻¹ = Δ V diag(s / (s² + c)) Pᵀ.

Rows of Fᵀ and of Δᵀ may be rotated together: with Fᵀ = Q R only R, ``(J, J)``, and QᵀΔᵀ are needed.
The data are therefore read in blocks, and a QR factorisation reduces each block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from ekitools.linalg.whitened import Block
from ekitools.typing import Array

__all__ = ["orthogonal_coefficients", "reduced_rows"]


def orthogonal_coefficients(
    blocks: Iterable[Block], draw: Array | None, ridge: float
) -> tuple[np.ndarray, np.ndarray]:
    """L and P, ``(J, k)`` each, of the coefficients L Pᵀ of the update L Pᵀ E.

    Parameters
    ----------
    blocks : iterable of Block
        F and (Ḡ − y)Γ^{-1/2} as NumPy arrays in float64, without draws.
    draw : (J, d), optional
        ηΓ^{-1/2}.
    ridge : float
        c > 0.
    """
    rows = reduced_rows(_stacked(blocks, draw))
    n = rows.shape[1] - 1 if draw is None else rows.shape[1] // 2
    # Fᵀ = V s Pᵀ after rotation; the other columns are those of (η − 1(Ḡ − y))ᵀ
    left, s, right = np.linalg.svd(rows[:, :n], full_matrices=False)
    kept = s > 4 * np.finfo(np.float64).eps * s[0]  # the other directions are rounding errors of F
    left, s, members = left[:, kept], s[kept], right[kept].T
    members = members - np.mean(members, axis=0, keepdims=True)
    weights = 1 / (s + ridge / s)  # s / (s² + c), where s² may overflow
    # Δ = η − 1(Ḡ − y) − F, and F V = P s
    return (rows[:, n:].T @ left) * weights - members * (s * weights), members


def _stacked(blocks: Iterable[Block], draw: Array | None) -> Iterator[np.ndarray]:
    """Columns Fᵀ and (ηΓ^{-1/2} − (Ḡ − y)Γ^{-1/2})ᵀ, block by block of the data."""
    start = 0
    for block in blocks:
        stop = start + block.anomalies.shape[1]
        offset = -block.mean if draw is None else draw[:, start:stop] - block.mean
        yield np.concatenate([block.anomalies, offset]).T
        start = stop


def reduced_rows(stacked: Iterable[np.ndarray]) -> np.ndarray:
    """The rows of all blocks, rotated to as many rows as columns."""
    waiting: list[np.ndarray] = []
    for block in stacked:
        waiting.append(block)
        n_columns = block.shape[1]
        if sum(len(rows) for rows in waiting) > 4 * n_columns:
            waiting = [_triangular(np.concatenate(waiting))]
    rows = np.concatenate(waiting)
    return _triangular(rows) if len(rows) > rows.shape[1] else rows


def _triangular(rows: np.ndarray) -> np.ndarray:
    """R of the QR factorisation."""
    return np.asarray(np.linalg.qr(rows, mode="r"))
