"""Convolutional networks: CNN-MNIST on MNIST, and CNN-1, 2 and 3 on house numbers (SVHN).

The table of [1]_ has the final test accuracies of SGD, momentum SGD and EKI(R). Batches, rates,
numbers of epochs and paddings are not published; `networks` describes our choice of the paddings.
`CurvatureEKI` is our own addition. Settings were chosen on the validation set.

References
----------
.. [1] Kovachki & Stuart (2019), Inverse Problems 35, 095005, and slides of a talk on it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ekitools.experiments import methods_by_network
from ekitools.experiments.image_learning import CurvatureLearning, Descent, Learning, Recipe
from ekitools.experiments.images import Data, data_for
from ekitools.experiments.methods_by_network import Settings, draw, parts, table
from ekitools.experiments.networks import CONVOLUTIONAL
from ekitools.experiments.published import CONVOLUTIONAL as PUBLISHED

__all__ = ["PUBLISHED", "SETTINGS", "Settings", "compute", "draw", "parts", "table"]


def _methods(n_members: int, epochs: int, batch: int) -> dict[str, Recipe]:
    return {
        "SGD": Descent(epochs, 0.05),
        "MSGD": Descent(epochs, 0.01, 0.9),
        "EKI(R)": Learning(n_members, epochs, h=3.0, redraw="step", gamma=0.1, batch=batch),
        "CurvatureEKI": CurvatureLearning(
            n_members, epochs, damping=1.0, memory=n_members // 2, batch=batch
        ),
    }


_ALL = ("SGD", "MSGD", "EKI(R)", "CurvatureEKI")
SETTINGS = {
    "small": Settings({"CNN-MNIST": _ALL}, _methods(60, 1, 300), Data(n_train=20_000)),
    "medium": Settings({"CNN-MNIST": _ALL}, _methods(200, 5, 500)),
    "paper": Settings(dict.fromkeys(CONVOLUTIONAL, _ALL), _methods(2000, 50, 600)),
}


def compute(settings: Settings, label: str, folder: Path, progress: bool) -> dict[str, Any]:
    """Accuracies of one method on one network, on the images of this network."""
    data = data_for(label.split(", ", maxsplit=1)[0], settings.data)
    return methods_by_network.compute(replace(settings, data=data), label, folder, progress)
