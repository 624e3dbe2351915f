"""The published experiments, each run by one command: ``ekitools reproduce NAME``."""

from __future__ import annotations

from ekitools.experiments.devices import DEVICES
from ekitools.experiments.frame import EXPERIMENTS, SCALES, reproduce

__all__ = ["DEVICES", "EXPERIMENTS", "SCALES", "reproduce"]
