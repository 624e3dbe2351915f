"""A recurrent network on MNIST: an image is a sequence of 28 rows of 28 pixels.

The experiment is "Two-layer RNN on MNIST" of [1]_: two recurrent layers with tanh, and logits that
are a linear map of the last state. The figure of [1]_ has no numbers, and units, batches and rates
are not published. At the scales "small" and "medium" we chose batches and rates by the accuracy on
the validation set. At the scale "paper", EKI(R) is that of `recipes.scheme`. `CurvatureEKI` is our
own addition.

References
----------
.. [1] Kovachki & Stuart (2019), Inverse Problems 35, 095005, and a talk on it.
"""

from __future__ import annotations

from typing import Any

from ekitools.experiments.methods_by_epoch import Settings, compute, draw, parts, table
from ekitools.experiments.recipes import CurvatureLearning, Descent, Learning, Recipe, scheme

__all__ = ["PUBLISHED", "SETTINGS", "Settings", "compute", "draw", "parts", "table"]

PUBLISHED: dict[str, Any] = {}


def _methods(n_members: int, epochs: int) -> dict[str, Recipe]:
    """Recipes with small batches for EKI(R), whose steps are noisy, and larger for curvature."""
    return {
        "SGD": Descent(epochs, 0.1),
        "MSGD": Descent(epochs, 0.01, 0.9),
        "EKI(R)": Learning(n_members, epochs, h=3.0, redraw="step", gamma=0.1, batch=100),
        "CurvatureEKI": CurvatureLearning(n_members, epochs, damping=0.3, memory=20, batch=500),
    }


SETTINGS = {
    "small": Settings(_methods(100, 3), "RNN 2 x 32"),
    "medium": Settings(_methods(200, 20), "RNN 2 x 32"),
    "paper": Settings(
        _methods(2000, 50) | {"EKI(R)": scheme(2000)["EKI(R)"]}, "RNN 2 x 64", seeds=3
    ),
}
