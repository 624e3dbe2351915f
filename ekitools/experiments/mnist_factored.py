"""Dense networks on MNIST by the Kalman form of EKI(R), with members that are cheap to evaluate.

The members are those of `learning.rank_one`, redrawn around their mean at every step. Γ⁻¹ is the
curvature of the loss, batches grow, and the latest steps are further members. Settings were chosen
by the accuracy on the last 5,000 training images, which were not used for training then.
"""

from __future__ import annotations

from ekitools.experiments.images import Data
from ekitools.experiments.learning.options import Factored
from ekitools.experiments.networks_by_step import PUBLISHED, Settings, compute, draw, parts, table

__all__ = [
    "PUBLISHED",
    "SETTINGS",
    "Factored",
    "Settings",
    "compute",
    "draw",
    "parts",
    "table",
]

_DNN_1 = Factored(
    *(300, 300, 400, 0.0),
    batch=20_000,
    batch_growth=1.003,
    damping=0.03,
    damping_growth=1.0,
    memory=50,
    averaging=0.95,
)
"""DNN 1 has so few parameters that the members span many of them, but it needs large batches."""
_ALL = {"DNN 1": _DNN_1, **{f"DNN {i}": Factored(1000) for i in (2, 3, 4)}}
SETTINGS = {
    "small": Settings({"DNN 2": Factored(50, members=300, batch=1500, memory=50, averaging=0.9)}),
    "medium": Settings(
        {"DNN 1": _DNN_1, "DNN 2": _ALL["DNN 2"], "DNN 3": Factored(400)},
        seeds=2,
        data=Data(validation=0),
    ),
    "paper": Settings(_ALL, seeds=3, data=Data(validation=0)),
}
