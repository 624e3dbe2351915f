"""The slides' "Recurrent network (regression)": monthly sunspot numbers of Zürich."""

from __future__ import annotations

from ekitools.datasets import zurich_sunspots
from ekitools.experiments._online import OnlineExperiment, OnlineSettings

__all__ = ["PUBLISHED", "SETTINGS", "compute", "draw", "parts", "table"]

PUBLISHED = {"OGD": (4.939e-2, 6.480e-3), "EKI": (8.671e-3, 6.006e-3)}
SETTINGS = {
    "small": OnlineSettings(seeds=3, passes=3),
    "medium": OnlineSettings(seeds=5, passes=10),
    "paper": OnlineSettings(seeds=10, passes=50),
}

_EXPERIMENT = OnlineExperiment(zurich_sunspots, PUBLISHED)
parts, compute = _EXPERIMENT.parts, _EXPERIMENT.compute
table, draw = _EXPERIMENT.table, _EXPERIMENT.draw
