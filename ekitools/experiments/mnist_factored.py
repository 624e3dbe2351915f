"""Dense networks on MNIST by the Kalman form of EKI(R), with members that are cheap to evaluate.

Members as `learning.rank_one` has them, drawn anew around their mean at every step, the loss's own
curvature as Γ⁻¹, growing batches, and the latest steps as further members: see `_learned`. Settings
were chosen by the accuracy on the last 5,000 training images, which are not trained on then.
"""

from __future__ import annotations

from ekitools.experiments._learned import PUBLISHED, Settings, compute, draw, parts, table
from ekitools.experiments._mnist import Data
from ekitools.experiments.learning.options import Factored

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
"""So few parameters that the members span much of them: they need large batches instead."""
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
