"""The slides' "Recurrent network (regression)": daily minimum temperatures in Melbourne."""

from __future__ import annotations

from ekitools.datasets import melbourne_temperatures
from ekitools.experiments._online import OnlineExperiment, OnlineSettings

__all__ = ["PUBLISHED", "SETTINGS", "compute", "draw", "parts", "table"]

PUBLISHED = {"OGD": (2.653e-2, 8.954e-3), "EKI": (8.086e-3, 7.448e-3)}
SETTINGS = {
    "small": OnlineSettings(seeds=3, passes=3),
    "medium": OnlineSettings(seeds=5, passes=10),
    "paper": OnlineSettings(seeds=10, passes=50),
}

_EXPERIMENT = OnlineExperiment(melbourne_temperatures, PUBLISHED)
parts, compute = _EXPERIMENT.parts, _EXPERIMENT.compute
table, draw = _EXPERIMENT.table, _EXPERIMENT.draw
