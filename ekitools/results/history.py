"""The history of a run: stored iterations, a summary of every iteration, and failures."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from ekitools.core.arrays import host
from ekitools.models.extras import Labels
from ekitools.typing import Array, PerParameter, Reported, Status, StepInfo

__all__ = [
    "BY_PARAMETER",
    "FIXED",
    "History",
    "Record",
    "Summary",
    "lost_members",
    "mean_misfit",
    "numbers_of",
    "objective",
]

_MOST_NUMBERS = 1000
"""Most parameters of a failed member that the list of failures holds."""

_EXTRA = "extras."
"""Prefix of the names of side products in files."""

BY_PARAMETER = "parameter."
"""Prefix of the names of numbers for each parameter in files; the long name follows the name."""


class Record(NamedTuple):
    """One stored iteration. Dropped members are NaN rows. The newest may have `Late` arrays."""

    iteration: int
    u: np.ndarray
    g: np.ndarray
    misfit: np.ndarray
    failed: np.ndarray
    t: float
    step: float
    weight: np.ndarray
    """Weights of the members; empty without weights."""
    average: np.ndarray = np.zeros(0)
    """Mean over the steps, ``(p,)``; empty if the method keeps no such mean."""
    missing: np.ndarray = np.zeros(0, dtype=np.int64)
    """Number of members without each datum, ``(d,)``; empty if no output is missing."""
    source: np.ndarray = np.zeros(0, dtype=np.int64)
    """Model run that made each member of a sampler, ``(J,)``; empty without side products."""
    observations: np.ndarray = np.zeros(0, dtype=np.int64)
    """Observations of a series that the outputs ``g`` belong to; empty for other data."""
    extras: Mapping[str, np.ndarray] = MappingProxyType({})
    """Side products, ``(J, ...)`` each."""
    by_parameter: Mapping[str, PerParameter] = MappingProxyType({})
    """Numbers that the method reports for each parameter."""

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> Record:
        """Restore the record that was saved as ``arrays``."""
        fixed = {name: arrays[name] for name in FIXED}
        extras = {
            name.removeprefix(_EXTRA): array
            for name, array in arrays.items()
            if name.startswith(_EXTRA)
        }
        reported = {}
        for key, array in arrays.items():
            if key.startswith(BY_PARAMETER):
                name, _, long_name = key.removeprefix(BY_PARAMETER).partition(".")
                reported[name] = PerParameter(array, long_name)
        record = cls(**fixed, extras=extras, by_parameter=reported)  # type: ignore[arg-type]  # these are its fields
        return record._replace(
            iteration=int(record.iteration), t=float(record.t), step=float(record.step)
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """All fields as arrays by name, for a file."""
        fixed = {name: np.asarray(getattr(self, name)) for name in FIXED}
        extras = {_EXTRA + name: array for name, array in self.extras.items()}
        reported = {
            f"{BY_PARAMETER}{name}.{each.long_name}": np.asarray(each.values)
            for name, each in self.by_parameter.items()
        }
        return fixed | extras | reported

    def on_host(self) -> Record:
        """The record with all arrays on the host; the same object if they are there already."""
        held: Any = {name: getattr(self, name) for name in ("u", "g", "average")}
        late: Any = {name: each.rows() for name, each in held.items() if isinstance(each, Late)}
        return self._replace(**late) if late else self


class Late(NamedTuple):
    """Rows of a record that stay on a device until they are read."""

    array: Any
    """Rows of the members ``members`` among ``n`` members."""
    members: np.ndarray
    n: int

    def rows(self) -> np.ndarray:
        """The rows of all members on the host; dropped members are NaN."""
        return whole_rows(host(self.array), self.members, self.n)


FIXED = Record._fields[:-2]
"""Fields of a record that are one array each."""


class Summary(NamedTuple):
    """Numbers kept for every iteration, stored or not."""

    t: float
    step: float
    misfit: float
    spread: float
    model_runs: int
    objective: float
    """Mean objective that the method minimises; the mean misfit if the method reports no other."""
    extra: Mapping[str, Reported]
    """Numbers that only this method reports."""

    @classmethod
    def of(cls, values: Sequence[Any]) -> Summary:
        """Restore the summary from the JSON list ``values``."""
        *numbers, extra = values
        reported = {}
        for name, (number, long_name, *curve) in extra.items():  # old files have no curves
            pairs = (tuple(pair) for pair in itertools.chain(*curve))
            reported[name] = Reported(number, long_name, tuple(pairs))
        return cls._make([*numbers, reported])


Kept: TypeAlias = Literal["all", "last", "final"]
KEPT: tuple[Kept, ...] = get_args(Kept)
Store: TypeAlias = Kept | int
"""The iterations that keep their members: a name, or every k-th."""


class History:
    """Stored iterations, a summary of every iteration, and failures of a run so far.

    Parameters
    ----------
    n_members : int
        Ensemble size J. Dropped members stay as NaN rows. Members added later have NaN rows in
        earlier iterations.
    store : {"all", "last", "final"} or int
        Iterations that keep their members. The newest iteration always keeps them, except with
        "final": then only the last iteration of the run does.
    """

    def __init__(self, n_members: int, store: Store) -> None:
        self.n_members = n_members
        self.store = store
        self._records: list[Record] = []
        self.summaries: list[Summary] = []
        self.failures: list[dict[str, Any]] = []
        self.labels: dict[str, Labels] = {}
        """Labels of the side products."""
        self.model_runs = 0

    @property
    def records(self) -> list[Record]:
        """The stored iterations on the host. Arrays on a device are copied at the first read."""
        if self._records:  # the iterations before the newest are on the host
            self._records[-1] = self._records[-1].on_host()
        return self._records

    @records.setter
    def records(self, records: list[Record]) -> None:
        self._records = records

    def added(self, n: int) -> np.ndarray:
        """Add ``n`` members, and return their numbers."""
        self.n_members += n
        return np.arange(self.n_members - n, self.n_members)

    def add(
        self,
        iteration: int,
        t: float,
        members: np.ndarray,
        survivors: np.ndarray,
        outputs: tuple[Array, Array],
        info: StepInfo,
        missing: np.ndarray | None = None,
        extras: Mapping[str, np.ndarray] | None = None,
        observations: np.ndarray | None = None,
    ) -> None:
        """Add an iteration at which ``members`` have the rows of ``outputs`` = (u, g).

        ``missing`` counts missing outputs by datum; ``extras`` are side products by member.
        ``observations`` are the observations of a series that the outputs belong to. Arrays on a
        device stay there while the iteration is the newest, and must not be changed.
        """
        step = np.nan if info.status is not None else float(info.step)
        weight = info.shown.weight if info.shown else np.zeros(0)
        self.summaries.append(
            Summary(
                t,
                step,
                mean_misfit(info),
                float(info.spread),
                self.model_runs,
                objective(info),
                {name: _reported(name, value) for name, value in info.extra.items()},
            )
        )
        if self.store == "final" and info.status is None:
            return
        misfit = np.full(self.n_members, np.nan)
        misfit[members if info.shown else members[survivors]] = info.misfit
        failed = np.zeros(self.n_members, dtype=bool)
        failed[np.delete(members, survivors)] = True
        u, g = (self._held(rows, members) for rows in outputs)
        source, extras = self._side_products(iteration, members, info, extras or {})
        if self._records:
            before = self._records.pop()
            if self._keeps(before.iteration):
                self._records.append(before.on_host())
        average: Any = np.zeros(0)
        if info.average is not None:
            average = self._held(info.average[0, :], np.arange(info.average.shape[1]))
        nothing = np.zeros(0, dtype=np.int64)
        gaps = nothing if missing is None else missing
        seen = nothing if observations is None else observations
        parts = (weight, average, gaps, source, seen, extras, info.by_parameter)
        self._records.append(Record(iteration, u, g, misfit, failed, t, step, *parts))

    def forget_replaced(self) -> None:
        """Drop the latest record if the next record replaces it and no other record is kept.

        The memory during an update then holds only the ensembles before and after the update.
        """
        if self.store == "last":
            self._records.clear()

    def add_unevaluated(
        self,
        iteration: int,
        t: float,
        members: np.ndarray,
        u: np.ndarray,
        n_data: int,
        status: Status,
    ) -> None:
        """Add the last iteration of a run, without outputs."""
        g = np.full((len(members), n_data), np.nan)
        info = StepInfo(0.0, np.full(len(members), np.nan), status, np.nan)
        self.add(iteration, t, members, np.arange(len(members)), (u, g), info)

    def taken_back(self) -> tuple[Record, dict[int, str]]:
        """Remove the latest iteration; return its record, and reasons of failure by member."""
        record = self.records.pop()
        self.summaries.pop()
        latest = [f for f in self.failures if _left_failed(f, record.iteration)]
        self.failures = [f for f in self.failures if not _left_failed(f, record.iteration)]
        return record, {f["member"]: f["reason"] for f in latest}

    def failed_at_start(self) -> float:
        """Share of failed model runs in the first iteration."""
        failed = sum(failure["iteration"] == 0 for failure in self.failures)
        return failed / self.summaries[0].model_runs if failed else 0.0

    def log_share_that_ran(self) -> float:
        """Correction of the log evidence for failed draws of the prior that were replaced.

        Z = P(runs) E[L | runs] for a likelihood that is zero where the model fails.
        """
        replaced = any(f["iteration"] == 0 and f.get("replaced") for f in self.failures)
        return math.log1p(-self.failed_at_start()) if replaced else 0.0

    def with_unevaluated(self, *present: Any) -> History:
        """A copy of the history that includes the ``present`` ensemble."""
        shown = copy.copy(self)
        shown.records, shown.summaries = [*self.records], [*self.summaries]
        shown.add_unevaluated(*present)
        return shown

    def shown(self) -> History:
        """A copy of the history as a result shows it.

        The parameters of failed members are NaN in the last stored record. A mean over the members
        is then a mean over the members that did not fail. The failures of this iteration hold the
        parameters as ``"u"``, for up to 1000 parameters per member.
        """
        if not self.records:
            return self
        last = self.records[-1]
        lost = lost_members(last.failed, last.misfit)
        if not lost.any() or np.isnan(last.u[lost]).all():  # the record is from such a copy
            return self
        u = last.u.copy()
        u[lost] = np.nan
        shown = copy.copy(self)
        shown.records = [*self.records[:-1], last._replace(u=u)]
        shown.failures = [
            {**failure, **numbers_of(last.u[failure["member"]])}
            if _left_failed(failure, last.iteration) and lost[failure["member"]]
            else failure
            for failure in self.failures
        ]
        return shown

    def _keeps(self, iteration: int) -> bool:
        if isinstance(self.store, int):
            return iteration % self.store == 0
        return self.store == "all"

    def _side_products(
        self, iteration: int, members: np.ndarray, info: StepInfo, told: Mapping[str, np.ndarray]
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Source and side products of the members that are shown at ``iteration``.

        A sampler also shows particles of earlier iterations. These particles keep the side
        products of their own model runs.
        """
        whole = {name: self._whole(rows, members) for name, rows in told.items()}
        shown, before = info.shown, self._records[-1] if self._records else None
        earlier = before.extras if before is not None and shown is not None else {}
        if shown is None or not (whole or earlier):
            return np.zeros(0, dtype=np.int64), whole
        n = len(members)
        if shown.source.size != n:
            raise TypeError(
                "method: must report the model run of each member in Shown.source for a model "
                "with side products (extras), got none. Use a model that returns outputs alone."
            )
        fresh = shown.source // n == iteration
        runs = {} if before is None else {int(k): i for i, k in enumerate(before.source)}
        rows = np.array([runs.get(int(run), -1) for run in shown.source])
        found = {}
        for name in (*whole, *(name for name in earlier if name not in whole)):
            like = whole[name] if name in whole else earlier[name]
            found[name] = np.full(like.shape, np.nan)
            if name in whole:
                found[name][fresh] = whole[name][shown.source[fresh] % n]
            old = ~fresh & (rows >= 0)
            if name in earlier and before is not None:
                found[name][old] = before.extras[name][rows[old]]
        return shown.source, found

    def _held(self, rows: Array, members: np.ndarray) -> Any:
        """Rows of all members on the host, or `Late` rows for arrays on a device."""
        if isinstance(rows, np.ndarray):
            return self._whole(rows, members) if rows.ndim > 1 else rows
        return Late(rows, members, self.n_members if rows.ndim > 1 else len(members))

    def _whole(self, rows: np.ndarray, members: np.ndarray) -> np.ndarray:
        return whole_rows(rows, members, self.n_members)


def whole_rows(rows: np.ndarray, members: np.ndarray, n: int) -> np.ndarray:
    """Expand rows of the members ``members`` to ``n`` members; all other rows are NaN."""
    if len(rows) == n:
        return rows
    whole = np.full((n, *rows.shape[1:]), np.nan, dtype=rows.dtype)
    whole[members] = rows
    return whole


def lost_members(failed: np.ndarray, misfit: np.ndarray) -> np.ndarray:
    """Mask of the members that failed, without members whose failed proposal was refused."""
    return np.asarray(failed & ~np.isfinite(misfit))


def mean_misfit(info: StepInfo) -> float:
    """Mean of the finite misfits, with the weights of the members; NaN if none is finite.

    The misfit of a particle that failed at the start of a sampler is infinite.
    """
    misfit, kept = info.misfit, np.isfinite(info.misfit)
    if not info.shown:
        return float(np.mean(misfit[kept])) if kept.any() else np.nan
    weight = info.shown.weight
    kept &= weight > 0
    return float(np.average(misfit[kept], weights=weight[kept])) if kept.any() else np.nan


def objective(info: StepInfo) -> float:
    """Mean objective that the method minimises."""
    return mean_misfit(info) if info.objective is None else float(info.objective)


def _left_failed(failure: Mapping[str, Any], iteration: int) -> bool:
    """Whether a member failed at that iteration and no other was run in its place."""
    return failure["iteration"] == iteration and not failure.get("replaced", False)


def numbers_of(row: np.ndarray) -> dict[str, list[float | None]]:
    """The parameters of a failed member for JSON, as ``"u"``; empty for too many parameters."""
    if row.size > _MOST_NUMBERS:
        return {}
    values = row.astype(float).tolist()
    return {"u": [value if np.isfinite(value) else None for value in values]}


def _reported(name: str, value: float | Reported) -> Reported:
    return value if isinstance(value, Reported) else Reported(float(value), name)
