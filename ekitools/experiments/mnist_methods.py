"""Four EKI methods on MNIST with the network DNN 2: the accuracies by epoch.

A figure of [1]_ shows the test accuracy of the mean by EKI, MEKI, EKI(R) and MEKI(R) with J = 6000.
It has no numbers, and its batches and rates are not published. Ours are those of `mnist_dense`.

References
----------
.. [1] Kovachki & Stuart (2019), Inverse Problems 35, 095005, and slides of a talk on it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ekitools.experiments.image_learning import Learning, Recipe
from ekitools.experiments.methods_by_epoch import Settings, compute, draw, parts, table
from ekitools.experiments.published import EKI_METHODS

__all__ = ["PUBLISHED", "SETTINGS", "Settings", "compute", "draw", "parts", "table"]

PUBLISHED: dict[str, Any] = {}


def _methods(plain: Learning, redrawn: Learning, momentum: Learning) -> dict[str, Recipe]:
    """Options by name of `EKI_METHODS`. Only MEKI(R) has the step of ``momentum``."""
    each = (plain, replace(plain, momentum=True), redrawn, replace(momentum, momentum=True))
    return dict(zip(EKI_METHODS, each, strict=True))


def _often_redrawn(n_members: int, epochs: int) -> dict[str, Recipe]:
    plain = Learning(n_members, epochs)
    redrawn = replace(plain, redraw="step", gamma=0.3, h=10.0)
    return _methods(plain, redrawn, replace(redrawn, h=0.1))


_PAPER = Learning(6000, 50)
_PAPER_REDRAWN = replace(_PAPER, redraw="epoch")
SETTINGS = {
    "small": Settings(_often_redrawn(100, 3)),
    "medium": Settings(_often_redrawn(500, 20)),
    "paper": Settings(_methods(_PAPER, _PAPER_REDRAWN, _PAPER_REDRAWN)),
}
