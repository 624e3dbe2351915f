"""The published experiments, each run by one command: ``ekitools reproduce NAME``."""

from __future__ import annotations

from ekitools.experiments.frame import EXPERIMENTS, SCALES, reproduce

__all__ = ["EXPERIMENTS", "SCALES", "reproduce"]
