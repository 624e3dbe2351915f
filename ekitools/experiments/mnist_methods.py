"""Four EKI methods on MNIST with the network DNN 2: the accuracies by epoch.

A figure of [1]_ shows the test accuracy of the mean by EKI, MEKI, EKI(R) and MEKI(R) with J = 6000.
It has no numbers, and its batches and rates are not published. Ours are those of `mnist_dense`; at
the scale "paper" they are those of `recipes.scheme`.

References
----------
.. [1] Kovachki & Stuart (2019), Inverse Problems 35, 095005, and a talk on it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ekitools.experiments.methods_by_epoch import Settings, compute, draw, parts, table
from ekitools.experiments.published import EKI_METHODS
from ekitools.experiments.recipes import Learning, Recipe, scheme

__all__ = ["PUBLISHED", "SETTINGS", "Settings", "compute", "draw", "parts", "table"]

PUBLISHED: dict[str, Any] = {}


def _often_redrawn(n_members: int, epochs: int) -> dict[str, Recipe]:
    """Recipes for few members. With redraws at every step, momentum needs far smaller steps."""
    plain = Learning(n_members, epochs)
    redrawn = replace(plain, redraw="step", gamma=0.3, h=10.0)
    momentum = replace(redrawn, h=0.1, momentum=True)
    each = (plain, replace(plain, momentum=True), redrawn, momentum)
    return dict(zip(EKI_METHODS, each, strict=True))


SETTINGS = {
    "small": Settings(_often_redrawn(100, 3)),
    "medium": Settings(_often_redrawn(500, 20)),
    "paper": Settings(scheme(6000), seeds=3),
}
