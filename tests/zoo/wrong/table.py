"""The form of the table: a row for every public callable, and the kinds of its larger arguments."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import nan
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from scipy import stats

import ekitools as ek
from zoo.wrong import right
from zoo.wrong.kinds import COVARIANCE, Kind, made


class Row(NamedTuple):
    """How a public callable is called rightly, and the kinds of its arguments."""

    kinds: dict[str, Kind]
    right: Callable[[], dict[str, Any]]
    """Values of the arguments that have to be given."""
    of: Callable[[], Any] | None = None
    """Makes the object of a method."""
    runs: bool = True
    """Whether tests make the right call too: not where it downloads, serves or takes long."""


TABLE: dict[str, Row] = {}
"""Rows by the name of the callable, below ``ekitools``."""


def swept(
    _name: str,
    _right: dict[str, Any] | Callable[[], dict[str, Any]] | None = None,
    /,
    *,
    _of: Callable[[], Any] | None = None,
    _runs: bool = True,
    **kinds: Kind,
) -> None:
    """Add a row."""
    make = _right if callable(_right) else partial(dict, _right or {})
    TABLE[_name] = Row(kinds, make, _of, _runs)


PROBLEM = made(
    "problem",
    lambda: ek.InverseProblem,
    lambda: right.problem().model,
    lambda: right.problem().prior,
    lambda: right.problem().data,
    lambda: [right.problem()],
    right.result,
    ek.EKI,
)
METHOD = made(
    "method",
    lambda: ek.EKI,
    lambda: "EKI",
    lambda: [ek.EKI()],
    ek.EKIFlow,
    lambda: ek.FixedStep(0.5),
    right.problem,
)
RESULT = made(
    "result",
    lambda: xr.DataArray([1.0]),
    lambda: right.result().u,
    lambda: right.result().drop_vars("misfit"),
    lambda: right.result().isel(iteration=0),
    lambda: right.result().isel(iteration=[]),
    lambda: [right.result(), 3],
    lambda: {"a": 3},
    lambda: str(right.result()),
    right.problem,
)
PRIOR = made(
    "prior",
    lambda: ek.GaussianPrior,
    lambda: (np.zeros(2), np.eye(2)),
    stats.norm,
    lambda: {"a": stats.norm(), "b": stats.norm()},
    lambda: ek.GaussianNoise(1.0),
    lambda: np.eye(2),
)
DISTRIBUTION = made(
    "distribution",
    lambda: stats.norm,
    lambda: stats.poisson(1.0),
    lambda: stats.norm([0.0, 1.0]),
    lambda: stats.norm(nan),
    lambda: "norm",
    lambda: [stats.norm()],
    lambda: {"a": stats.norm()},
    lambda: ek.GaussianPrior(0.0, [1.0]),
)
SCHEDULE = made(
    "step rule",
    lambda: ek.FixedStep,
    lambda: 0.5,
    ek.EKI,
    lambda: [ek.FixedStep(0.5)],
    lambda: "auto",
)
FLOW = made("flow", lambda: ek.EKIFlow, ek.EKI, lambda: "EKIFlow", lambda: [ek.EKIFlow()])
RULES = made(
    "stopping rules",
    lambda: ek.Discrepancy,
    lambda: [ek.Discrepancy(), 3],
    lambda: "discrepancy",
    lambda: (ek.Collapsed,),
    ek.EKI,
    lambda: {"tau": 1.0},
    lambda: {ek.Discrepancy()},
    right=("empty list", "iterator", "empty array"),
)
NOISE = COVARIANCE._replace(
    name="noise",
    wrong=(*COVARIANCE.wrong, lambda: ek.GaussianNoise, lambda: ek.GaussianPrior(0.0, 1.0)),
)
LABELLED = made(
    "labelled arrays",
    lambda: np.ones(2),
    lambda: [1.0, 2.0],
    lambda: xr.DataArray([1.0, 2.0], dims="site"),
    lambda: xr.DataArray([1.0, 2.0], {"site": ["a", "c"]}),
    lambda: xr.DataArray(["x", "y"], {"site": ["a", "b"]}),
    lambda: xr.DataArray([1j, 2j], {"site": ["a", "b"]}),
    lambda: xr.DataArray,
)
LABELLED_MODEL = made(
    "labelled model",
    lambda: ek.XarrayModel,
    lambda: right.problem().model,
    lambda: right.model,
    right.labelled,  # of other parameters
    right=("None",),
)
