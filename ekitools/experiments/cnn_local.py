"""Convolutional networks by the Kalman form of EKI(R), with members of every layer.

Members as `learning.layerwise` has them: see `_learned`. CNN-MNIST is trained on MNIST, CNN-1, 2
and 3 on house numbers (SVHN). Settings were chosen by the accuracy on the last 5,000 training
images, which are not trained on then.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ekitools.experiments import _learned
from ekitools.experiments._learned import PUBLISHED, Settings, draw, parts, table
from ekitools.experiments._mnist import Data, data_for
from ekitools.experiments._networks import CONVOLUTIONAL
from ekitools.experiments.learning.options import Layerwise

__all__ = ["PUBLISHED", "SETTINGS", "Layerwise", "Settings", "compute", "draw", "parts", "table"]

_LONG = Layerwise(1000)
SETTINGS = {
    "small": Settings({"CNN-MNIST": Layerwise(100, averaging=0.9)}),
    "medium": Settings({"CNN-MNIST": _LONG}, seeds=2, data=Data(validation=0)),
    "paper": Settings(dict.fromkeys(CONVOLUTIONAL, _LONG), seeds=3, data=Data(validation=0)),
}


def compute(settings: Settings, label: str, folder: Path, progress: bool) -> dict[str, Any]:
    """Accuracies along a run, of the mean and of its average."""
    data = data_for(label.split(", ", maxsplit=1)[0], settings.data)
    return _learned.compute(replace(settings, data=data), label, folder, progress)
