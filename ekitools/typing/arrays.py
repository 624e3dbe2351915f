"""Types of arrays and of sources of randomness."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

__all__ = ["Array", "Rng"]

Array: TypeAlias = Any
"""An array-API array: NumPy, torch, JAX, ... Kernels keep its dtype and its device."""

Rng: TypeAlias = "int | np.random.Generator | None"
"""An argument of `numpy.random.default_rng`."""
