"""History to xarray: the only place where arrays get their labels."""

from __future__ import annotations

import copy
import json
import platform
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ekitools._version import __version__
from ekitools.core.arrays import host
from ekitools.problem import InverseProblem
from ekitools.typing import Status, StepInfo

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["History", "Record", "Summary"]


class Record(NamedTuple):
    """One stored iteration, on the host; dropped members are NaN rows."""

    iteration: int
    u: np.ndarray
    g: np.ndarray
    misfit: np.ndarray
    failed: np.ndarray
    t: float
    step: float
    weight: np.ndarray
    """Empty where members have none."""
    average: np.ndarray = np.zeros(0)
    """Of the mean over the steps, ``(p,)``; empty where the method keeps none."""

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> Record:
        """The record that was saved as ``arrays``."""
        record = cls(**arrays)  # type: ignore[arg-type]  # a file holds exactly these fields
        return record._replace(
            iteration=int(record.iteration), t=float(record.t), step=float(record.step)
        )


class Summary(NamedTuple):
    """The few numbers kept of every iteration, whatever is stored."""

    t: float
    step: float
    misfit: float
    spread: float
    model_runs: int
    extra: Mapping[str, float]
    """What this method alone reports."""


class History:
    """What was told so far: stored iterations, a summary of every one, and failures.

    Parameters
    ----------
    n_members : int
        J; dropped members stay as NaN rows, and members added later are NaN rows before.
    store : {"all", "last", "final"} or int
        Which iterations keep their members; the newest always does, but for "final", where
        only the one does at which the run ends.
    """

    def __init__(self, n_members: int, store: str | int) -> None:
        self.n_members = n_members
        self.store = store
        self.records: list[Record] = []
        self.summaries: list[Summary] = []
        self.failures: list[dict[str, Any]] = []
        self.model_runs = 0

    def added(self, n: int) -> np.ndarray:
        """The numbers of ``n`` members more."""
        self.n_members += n
        return np.arange(self.n_members - n, self.n_members)

    def add(
        self,
        iteration: int,
        t: float,
        members: np.ndarray,
        survivors: np.ndarray,
        outputs: tuple[np.ndarray, np.ndarray],
        info: StepInfo,
    ) -> None:
        """Add an iteration at which ``members`` have the rows of ``outputs`` = (u, g)."""
        step = np.nan if info.status is not None else float(info.step)
        weight = info.shown.weight if info.shown else np.zeros(0)
        mean = _mean(info.misfit, weight)
        self.summaries.append(
            Summary(t, step, mean, float(info.spread), self.model_runs, dict(info.extra))
        )
        if self.store == "final" and info.status is None:
            return
        misfit = np.full(self.n_members, np.nan)
        misfit[members if info.shown else members[survivors]] = info.misfit
        failed = np.zeros(self.n_members, dtype=bool)
        failed[np.delete(members, survivors)] = True
        u, g = (self._whole(rows, members) for rows in outputs)
        if self.records and not self._keeps(self.records[-1].iteration):
            self.records.pop()
        average = np.zeros(0) if info.average is None else host(info.average)[0]
        self.records.append(Record(iteration, u, g, misfit, failed, t, step, weight, average))

    def add_unevaluated(
        self,
        iteration: int,
        t: float,
        members: np.ndarray,
        u: np.ndarray,
        n_data: int,
        status: Status,
    ) -> None:
        """Add the iteration at which the run ends without knowing its outputs."""
        g = np.full((len(members), n_data), np.nan)
        info = StepInfo(0.0, np.full(len(members), np.nan), status, np.nan)
        self.add(iteration, t, members, np.arange(len(members)), (u, g), info)

    def with_unevaluated(self, *present: Any) -> History:
        """A history that shows the ``present`` ensemble too; this one stays as it is."""
        shown = copy.copy(self)
        shown.records, shown.summaries = [*self.records], [*self.summaries]
        shown.add_unevaluated(*present)
        return shown

    def _keeps(self, iteration: int) -> bool:
        if isinstance(self.store, int):
            return iteration % self.store == 0
        return self.store == "all"

    def _whole(self, rows: np.ndarray, members: np.ndarray) -> np.ndarray:
        if len(members) == self.n_members:
            return rows
        whole = np.full((self.n_members, rows.shape[1]), np.nan, dtype=rows.dtype)
        whole[members] = rows
        return whole

    def to_dataset(
        self, problem: InverseProblem, status: Status, attributes: Mapping[str, Any]
    ) -> xr.Dataset:
        """Label everything; see `ekitools.run` for the variables."""
        attributes = {
            "status": status.sentence,
            "status_code": status.code,
            "model_runs": self.model_runs,
            "failures": self.failures,
            **attributes,
        }
        return _label(problem, self.records, self.summaries, attributes)


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
    "u_average": "exponential average over the steps of the mean of the parameters",
    "weight": "weight of the member, normalised",
    "history_best_misfit": "misfit of the best member",
    "history_misfit_of_mean": "misfit of the mean output",
    "history_log_evidence": "log of the prior mean of exp(-t misfit)",
    "history_acceptance": "share of the proposals accepted",
    "history_scale": "step size of the moves",
    "history_ess": "effective number of members, (sum w)^2 / sum w^2",
}


def _mean(misfit: np.ndarray, weight: np.ndarray) -> float:
    if weight.size:  # a weight of zero belongs to a misfit that may be infinite
        misfit, weight = misfit[weight > 0], weight[weight > 0]
    if not len(misfit):
        return np.nan
    return float(np.average(misfit, weights=weight if weight.size else None))


def _label(
    problem: InverseProblem,
    records: Sequence[Record],
    summaries: Sequence[Summary],
    attributes: Mapping[str, Any],
) -> xr.Dataset:
    import xarray as xr

    import ekitools.summaries  # noqa: F401 - it makes `dataset.eki`

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
    for name in summaries[0].extra:
        values = np.array([summary.extra.get(name, np.nan) for summary in summaries])
        variables[f"history_{name}"] = ("history", values)
    coords: dict[str, Any] = {
        "iteration": [record.iteration for record in records],
        "member": np.arange(n_members),
        "parameter": _names(problem.parameter_names),
        "data": _names(problem.data_names),
        "history": np.arange(len(summaries)),
    }
    for dim in ("parameter", "data"):
        units = getattr(problem.model, f"{dim}_units", ())
        if any(units):
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


def _padded(rows: np.ndarray, n: int) -> np.ndarray:
    """``rows`` and, up to ``n`` of them, rows of NaN, or of False."""
    shape = (n - len(rows), *rows.shape[1:])
    fill = False if rows.dtype == bool else np.nan
    return np.concatenate([rows, np.full(shape, fill, dtype=rows.dtype)])


def _names(names: Sequence[Any] | None) -> np.ndarray:
    """Labels as an array; texts as objects, which zarr stores without a fixed length."""
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
