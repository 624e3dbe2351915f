"""Localization: which data may move which parameters, and how strongly.

With J members every covariance has rank J − 1 at most, and correlations of ± 1/√J by chance. With
many parameters and data these chance correlations spoil an analysis: means are off by standard
deviations, and spreads collapse. A rule of this module keeps every parameter to the data that it
can be seen by. Rules are multiplied by ``*``.
"""

from __future__ import annotations

from ekitools.localization.choice import choose_strength
from ekitools.localization.distance import Distance
from ekitools.localization.groups import Groups
from ekitools.localization.rule import Product
from ekitools.localization.sampling import Correlation, Fisher, Nice, Unbiased

__all__ = [
    "Correlation",
    "Distance",
    "Fisher",
    "Groups",
    "Nice",
    "Product",
    "Unbiased",
    "choose_strength",
]
