"""Names of the policies for failed members."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

__all__ = ["POLICIES", "OnFailure"]

OnFailure: TypeAlias = Literal["retry", "drop", "resample", "raise"]
POLICIES: tuple[OnFailure, ...] = get_args(OnFailure)
"""The values of ``on_failure``."""
