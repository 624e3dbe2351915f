"""History to xarray: the only place where arrays get their labels."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import ekitools
from ekitools.problem import InverseProblem
from ekitools.typing import Status

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Record", "Summary", "to_dataset"]


class Record(NamedTuple):
    """One stored iteration, on the host; dropped members are NaN rows."""

    iteration: int
    u: np.ndarray
    g: np.ndarray
    misfit: np.ndarray
    failed: np.ndarray
    t: float
    step: float


class Summary(NamedTuple):
    """The few numbers kept of every iteration, whatever is stored."""

    t: float
    step: float
    misfit: float
    spread: float
    model_runs: int


_LONG_NAMES = {
    "u": "parameters, in physical coordinates",
    "g": "model outputs G(u)",
    "misfit": "half the squared distance to the data in noise standard deviations",
    "failed": "whether the model failed for this member at this iteration",
    "t": "pseudo-time, the sum of the steps",
    "step": "step h of the update that leaves this ensemble",
    "y": "observed data",
    "noise_sd": "marginal standard deviation of the noise",
    "history_t": "pseudo-time, the sum of the steps",
    "history_step": "step h of the update that leaves this ensemble",
    "history_misfit": "mean misfit of the ensemble",
    "history_spread": "root of the total ensemble variance, relative to the initial one",
    "history_model_runs": "model runs so far",
}


def to_dataset(
    problem: InverseProblem,
    records: Sequence[Record],
    summaries: Sequence[Summary],
    status: Status,
    attributes: Mapping[str, Any],
) -> xr.Dataset:
    """Label a history.

    Attributes that are not text or numbers are written as JSON, since netCDF takes neither
    None nor dictionaries.
    """
    import xarray as xr

    def stacked(name: str) -> np.ndarray:
        rows = [np.asarray(getattr(record, name)) for record in records]
        return rows[0][None] if len(rows) == 1 else np.stack(rows)

    noise_sd = np.broadcast_to(problem.noise.sd, problem.data.shape).copy()
    per_member = ("iteration", "member")
    variables: dict[str, Any] = {
        "u": ((*per_member, "parameter"), stacked("u")),
        "g": ((*per_member, "data"), stacked("g")),
        "misfit": (per_member, stacked("misfit")),
        "failed": (per_member, stacked("failed")),
        "t": ("iteration", stacked("t")),
        "step": ("iteration", stacked("step")),
        "y": ("data", problem.data),
        "noise_sd": ("data", noise_sd),
    }
    for name in Summary._fields:
        values = np.array([getattr(summary, name) for summary in summaries])
        variables[f"history_{name}"] = ("history", values)
    dataset = xr.Dataset(
        variables,
        coords={
            "iteration": [record.iteration for record in records],
            "member": np.arange(records[0].u.shape[0]),
            "parameter": list(problem.parameter_names or ()),
            "data": list(problem.data_names or ()),
            "history": np.arange(len(summaries)),
        },
    )
    for name, text in _LONG_NAMES.items():
        dataset[name].attrs["long_name"] = text
    dataset.attrs = {
        "title": "ensemble Kalman inversion",
        "status": status.sentence,
        "status_code": status.code,
        "model_runs": summaries[-1].model_runs,
        "problem": problem.fingerprint(),
        "versions": _versions(),
        **attributes,
    }
    for name, value in dataset.attrs.items():
        if not isinstance(value, str | int | float):
            dataset.attrs[name] = json.dumps(value)
    return dataset


def _versions() -> dict[str, str]:
    import scipy
    import xarray as xr

    return {
        "ekitools": ekitools.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "xarray": xr.__version__,
        "python": platform.python_version(),
    }
