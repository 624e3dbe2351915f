"""Tapers: weights that fall with distance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np

__all__ = ["TAPERS", "Taper", "gaspari_cohn"]

Taper: TypeAlias = Literal["gaspari-cohn", "box"]


def gaspari_cohn(z: np.ndarray) -> np.ndarray:
    r"""The taper of Gaspari & Cohn [1]_ at distances z ≥ 0 in radii: 1 at 0, and 0 from 2 on.

    It is a piecewise rational function of fifth order with a shape like that of a Gaussian.

    References
    ----------
    .. [1] Gaspari & Cohn (1999), Q. J. R. Meteorol. Soc. 125, 723-757, equation 4.10.

    Examples
    --------
    >>> from ekitools.localization.tapers import gaspari_cohn
    >>> gaspari_cohn(np.array([0.0, 1.0, 2.0])).round(4)
    array([1.    , 0.2083, 0.    ])
    """
    z = np.asarray(z, dtype=np.float64)
    near = (((-z / 4 + 1 / 2) * z + 5 / 8) * z - 5 / 3) * z**2 + 1
    safe = np.maximum(z, 1.0)
    far = ((((safe / 12 - 1 / 2) * safe + 5 / 8) * safe + 5 / 3) * safe - 5) * safe + 4
    far -= 2 / (3 * safe)
    return np.where(z < 1, near, np.where(z < 2, np.maximum(far, 0), 0.0))


def _box(z: np.ndarray) -> np.ndarray:
    return (np.asarray(z) <= 1).astype(np.float64)


TAPERS: dict[Taper, tuple[Callable[[np.ndarray], np.ndarray], float]] = {
    "gaspari-cohn": (gaspari_cohn, 2.0),
    "box": (_box, 1.0),
}
"""Tapers, and the distance in radii at which they end."""
