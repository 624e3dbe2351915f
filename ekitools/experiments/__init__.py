"""The published experiments, each run by one command: ``ekitools reproduce NAME``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ekitools.experiments.names import DEVICES, EXPERIMENTS, SCALES

if TYPE_CHECKING:
    from ekitools.experiments.frame import reproduce

__all__ = ["DEVICES", "EXPERIMENTS", "SCALES", "reproduce"]


def __getattr__(name: str) -> Any:
    """Import `reproduce` at its first use. Help at the command line needs only the names."""
    if name != "reproduce":
        raise AttributeError(f"module 'ekitools.experiments' has no attribute {name!r}")
    from ekitools.experiments.frame import reproduce

    return reproduce
