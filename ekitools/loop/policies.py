"""Names of the policies for failed members."""

from __future__ import annotations

__all__ = ["POLICIES"]

POLICIES = ("retry", "drop", "resample", "raise")
"""The values of ``on_failure``."""
