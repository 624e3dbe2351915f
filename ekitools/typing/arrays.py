"""What arrays and sources of randomness are."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

__all__ = ["Array", "Rng"]

Array: TypeAlias = Any
"""An array-API array: NumPy, torch, JAX, ... Kernels keep its dtype and its device."""

Rng: TypeAlias = "int | np.random.Generator | None"
"""Anything that `numpy.random.default_rng` takes."""
