"""The labelled Dataset of a history: the only place where arrays get their labels."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ekitools._version import __version__
from ekitools.problem import InverseProblem
from ekitools.results.history import History, Summary
from ekitools.typing import (
    Flow,
    Method,
    Redraws,
    Relinearizes,
    SamplingFlow,
    Status,
    is_sampler,
)

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["to_dataset", "traits"]


_LONG_NAMES = {
    "u": "parameters, in physical coordinates",
    "g": "model outputs G(u)",
    "misfit": "half the squared distance to the data in noise standard deviations, or the loss",
    "failed": "whether the model failed for this member at this iteration",
    "t": "pseudo-time, the sum of the steps",
    "step": "step h of the update that leaves this ensemble",
    "y": "observed data",
    "noise_sd": "marginal standard deviation of the noise; NaN where there is a loss instead",
    "history_t": "pseudo-time, the sum of the steps",
    "history_step": "step h of the update that leaves this ensemble",
    "history_misfit": "mean misfit of the ensemble",
    "history_spread": "root of the total ensemble variance, relative to the initial one",
    "history_model_runs": "model runs so far",
    "history_objective": "mean of what the method minimises",
    "u_average": "exponential average over the steps of the mean of the parameters",
    "weight": "weight of the member, normalised",
}


def to_dataset(
    history: History, problem: InverseProblem, status: Status, attributes: Mapping[str, Any]
) -> xr.Dataset:
    """Label a history; see `ekitools.run` for the variables."""
    import xarray as xr

    records, summaries = history.records, history.summaries
    attributes = {
        "status": status.sentence,
        "status_code": status.code,
        "status_level": status.level,
        "posterior": int(status.posterior),
        **({} if problem.has_noise else {"loss": type(problem.noise).__name__}),
        "model_runs": history.model_runs,
        "failures": history.failures,
        **attributes,
    }

    def stacked(name: str) -> np.ndarray:
        rows = [np.asarray(getattr(record, name)) for record in records]
        if len({len(row) for row in rows if row.ndim}) > 1:  # an ensemble that has grown
            rows = [_padded(row, n_members) for row in rows]
        return rows[0][None] if len(rows) == 1 else np.stack(rows)

    n_members = max(len(record.u) for record in records)
    per_member = ("iteration", "member")
    variables: dict[str, Any] = {
        "u": ((*per_member, "parameter"), stacked("u")),
        "g": ((*per_member, "data"), stacked("g")),
        "misfit": (per_member, stacked("misfit")),
        "failed": (per_member, stacked("failed")),
        "t": ("iteration", stacked("t")),
        "step": ("iteration", stacked("step")),
        "y": ("data", problem.data),
        "noise_sd": ("data", problem.noise_sd),
    }
    if records[0].weight.size:
        nothing = np.full(records[0].weight.shape, np.nan)  # of an iteration that came to grief
        weights = [record.weight if record.weight.size else nothing for record in records]
        variables["weight"] = (per_member, np.stack(weights))
    if any(record.average.size for record in records):
        unknown = np.full(records[0].u.shape[1], np.nan)
        averages = [record.average if record.average.size else unknown for record in records]
        variables["u_average"] = (("iteration", "parameter"), np.stack(averages))
    for name in Summary._fields[:-1]:
        values = np.array([getattr(summary, name) for summary in summaries])
        variables[f"history_{name}"] = ("history", values)
    minimised, misfit = (variables[f"history_{name}"][1] for name in ("objective", "misfit"))
    if np.array_equal(minimised, misfit, equal_nan=True):
        del variables["history_objective"]
    reported = summaries[0].extra
    for name in reported:
        values = np.array([s.extra[name].value if name in s.extra else np.nan for s in summaries])
        long_name = {"long_name": reported[name].long_name}
        variables[f"history_{name}"] = ("history", values, long_name)
    coords: dict[str, Any] = {
        "iteration": [record.iteration for record in records],
        "member": np.arange(n_members),
        "parameter": _names(problem.parameter_names),
        "data": _names(problem.data_names),
        "history": np.arange(len(summaries)),
    }
    for dim in ("parameter", "data"):
        units = getattr(problem.info, f"{dim}_units")
        if units is not None and any(units):
            coords[f"{dim}_units"] = (dim, _names(units))
    dataset = xr.Dataset(variables, coords=coords)
    for name, text in _LONG_NAMES.items():
        if name in dataset:
            dataset[name].attrs["long_name"] = text
    if "history_log_evidence" in dataset:
        attributes = {**attributes, "log_evidence": float(dataset.history_log_evidence[-1])}
    dataset.attrs = {
        "title": "ensemble Kalman inversion",
        "problem": problem.fingerprint(),
        "versions": _versions(),
        **attributes,
    }
    for name, value in dataset.attrs.items():  # netCDF takes neither None nor dictionaries
        if not isinstance(value, str | int | float):
            dataset.attrs[name] = json.dumps(value)
    return dataset


def traits(algorithm: Method | Flow) -> dict[str, str]:
    """Attributes that say what a method, or a flow, declares of its ensemble."""
    if isinstance(algorithm, Method):
        aim: str = algorithm.aim
    else:
        aim = "posterior" if isinstance(algorithm, SamplingFlow) else "fit"
    over = algorithm.linear_over if isinstance(algorithm, Relinearizes) else "ensembles"
    members = "redrawn" if isinstance(algorithm, Redraws) else "moved"
    return {
        "aim": aim,
        "linear_over": over,
        "members": "kept" if is_sampler(algorithm) else members,
    }


def _padded(rows: np.ndarray, n: int) -> np.ndarray:
    """``rows`` and, up to ``n`` of them, rows of NaN, or of False."""
    shape = (n - len(rows), *rows.shape[1:])
    fill = False if rows.dtype == bool else np.nan
    return np.concatenate([rows, np.full(shape, fill, dtype=rows.dtype)])


def _names(names: Sequence[Any] | None) -> np.ndarray:
    """Labels of one kind as an array; texts as objects, which zarr stores without a fixed length.

    `ekitools.core.labels.checked_labels` has made them one kind when the problem was put together.
    """
    array = np.asarray(names)
    return array.astype(object) if array.dtype.kind == "U" else array


def _versions() -> dict[str, str]:
    import scipy
    import xarray as xr

    return {
        "ekitools": __version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "xarray": xr.__version__,
        "python": platform.python_version(),
    }
