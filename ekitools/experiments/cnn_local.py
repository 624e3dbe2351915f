"""Convolutional networks by the Kalman form of EKI(R), with members of every layer.

The members are those of `learning.layerwise`. CNN-MNIST is trained on MNIST, and CNN-1, 2 and 3 on
house numbers (SVHN), or on the digits of `rendered` where SVHN is not available. Settings were
chosen by the accuracy on the last 5,000 training images, which were not used for training then.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ekitools.experiments import networks_by_step
from ekitools.experiments.images import Data, data_for
from ekitools.experiments.learning.options import Layerwise
from ekitools.experiments.networks import CONVOLUTIONAL
from ekitools.experiments.networks_by_step import PUBLISHED, Settings, draw, parts, table

__all__ = ["PUBLISHED", "SETTINGS", "Layerwise", "Settings", "compute", "draw", "parts", "table"]

_LONG = Layerwise(1000)
SETTINGS = {
    "small": Settings({"CNN-MNIST": Layerwise(100, averaging=0.9)}),
    "medium": Settings({"CNN-MNIST": _LONG}, seeds=2, data=Data(validation=0)),
    "paper": Settings(dict.fromkeys(CONVOLUTIONAL, _LONG), seeds=3, data=Data(validation=0)),
}


def compute(
    settings: Settings, label: str, folder: Path, progress: bool, device: str = "cpu"
) -> dict[str, Any]:
    """Accuracies along a run, of the mean and of the average of the means."""
    data = data_for(label.split(", ", maxsplit=1)[0], settings.data)
    settings = replace(settings, data=data)
    return networks_by_step.compute(settings, label, folder, progress, device)
