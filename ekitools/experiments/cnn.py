"""Convolutional networks: CNN-MNIST on MNIST, and CNN-1, 2 and 3 on house numbers (SVHN).

The table of [1]_ has their final test accuracies by SGD, momentum SGD and EKI(R). Batches, rates
and numbers of epochs are not published with it, nor paddings: see `_networks`. `CurvatureEKI` is a
method of our own. Settings were chosen on the validation set.

References
----------
.. [1] Kovachki & Stuart (2019), Inverse Problems 35, 095005, and slides of a talk on it.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ekitools.experiments import mnist_dense
from ekitools.experiments._mnist import (
    CurvatureLearning,
    Data,
    Descent,
    Learning,
    Recipe,
    data_for,
)
from ekitools.experiments._networks import CONVOLUTIONAL
from ekitools.experiments.mnist_dense import Settings, parts

__all__ = ["PUBLISHED", "SETTINGS", "Settings", "compute", "draw", "parts", "table"]

PUBLISHED = {
    "CNN-MNIST, SGD": {"test": 0.9878},
    "CNN-MNIST, MSGD": {"test": 0.9880},
    "CNN-MNIST, EKI(R)": {"test": 0.9912},
    "CNN-1, MSGD": {"test": 0.9150},
    "CNN-1, EKI(R)": {"test": 0.9249},
    "CNN-2, MSGD": {"test": 0.9324},
    "CNN-2, EKI(R)": {"test": 0.9353},
    "CNN-3, MSGD": {"test": 0.9414},
    "CNN-3, EKI(R)": {"test": 0.9299},
}
"""Test accuracies, of EKI(R) that of the mean as of all its rows in the table of networks."""


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

table = partial(mnist_dense.table, published=PUBLISHED)
draw = partial(mnist_dense.draw, published=PUBLISHED)


def compute(settings: Settings, label: str, folder: Path, progress: bool) -> dict[str, Any]:
    """Accuracies of one method on one network, on the images that it is for."""
    data = data_for(label.split(", ", maxsplit=1)[0], settings.data)
    return mnist_dense.compute(replace(settings, data=data), label, folder, progress)
