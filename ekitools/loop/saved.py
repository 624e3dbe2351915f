"""The saved form of a run: what a checkpoint folder holds of it, and how it comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ekitools._version import __version__
from ekitools.core.checks import check_method, stopping_rules
from ekitools.core.errors import CheckpointError
from ekitools.core.options import from_json, to_json
from ekitools.loop.checkpoint import check_same, pack, read, read_arrays, unpack, write
from ekitools.problem import InverseProblem, check_problem
from ekitools.results.history import History, Record, Summary
from ekitools.typing import Array, Method, Status, StoppingRule

__all__ = ["Folder", "Saved"]


class Saved(NamedTuple):
    """Everything that a run goes on from."""

    method: Method
    stop: tuple[StoppingRule, ...]
    """The rules given to the run, without those among the method's options."""
    options: dict[str, Any]
    """``n_steps``, ``on_failure``, ``store`` and ``evaluate_final``."""
    root: list[int]
    """Of the streams of randomness."""
    start: str
    """"prior", "ensemble" (one of the user's own) or "method"."""
    state: Any
    members: np.ndarray
    history: History
    status: Status | None
    spent: bool
    """Whether the run ended because its budget was spent."""
    seconds: float


class Folder:
    """The checkpoint folder of one run: which of its files hold which iterations."""

    def __init__(self) -> None:
        self._saves = 0
        self._files: dict[int, str] = {}  # of the records on disk, by iteration

    def forget(self, iteration: int) -> None:
        """Take it that a record is not on disk: it was taken back and will change."""
        self._files.pop(iteration, None)

    def save(self, path: Path, problem: InverseProblem, run: Saved) -> None:
        """Add to the folder what is new of the run, then commit it."""
        if not self._saves and (path / "checkpoint.json").exists():
            raise CheckpointError(
                f"checkpoint: {path} already holds a run. Continue it with ek.resume, or choose "
                "another folder."
            )
        history = run.history
        packed, state_arrays = pack(run.state)
        # a name is never used twice: a file is part of one checkpoint or of the next, never both
        self._saves += 1
        state_name = f"state-{self._saves:06d}"
        kept = {record.iteration: self._files.get(record.iteration) for record in history.records}
        names = {n: name or f"record-{n:06d}-{self._saves:06d}" for n, name in kept.items()}
        new = {
            names[record.iteration]: {f: np.asarray(getattr(record, f)) for f in Record._fields}
            for record in history.records
            if record.iteration not in self._files
        }
        meta = {
            "ekitools": __version__,
            "problem": problem.fingerprint(),
            "method": to_json(run.method),
            "stop": to_json(run.stop),
            "options": run.options,
            "seed": run.root,
            "start": run.start,
            "n_members": history.n_members,
            "members": run.members.tolist(),
            "model_runs": history.model_runs,
            "seconds": run.seconds,
            "failures": history.failures,
            "summaries": history.summaries,
            "status": run.status,
            "spent": run.spent,
            "state": packed,
            "saves": self._saves,
            "state_file": state_name,
            "files": [*names.values(), state_name],
        }
        write(path, meta, {**new, state_name: state_arrays})
        self._files = names

    def load(
        self, path: Path, problem: InverseProblem, method: Any, stop: Any, reference: Array
    ) -> Saved:
        """Read the run that the folder holds.

        ``method`` and ``stop`` are None where they are to be rebuilt from the checkpoint. Arrays of
        the state come back in the namespace and on the device of ``reference``.
        """
        meta = read(path)
        check_problem(problem)
        if method is not None:
            check_method(method)
        stop = None if stop is None else stopping_rules(stop)
        given = {
            name: None if value is None else to_json(value)
            for name, value in (("method", method), ("stop", stop))
        }
        check_same(path, meta, problem.fingerprint(), given)
        method = _rebuilt(path, "method", meta) if method is None else method
        stop = _rebuilt(path, "stop", meta) if stop is None else stop
        history = History(meta["n_members"], meta["options"]["store"])
        history.summaries = [Summary.of(values) for values in meta["summaries"]]
        history.failures, history.model_runs = meta["failures"], meta["model_runs"]
        names = [name for name in meta["files"] if name != meta["state_file"]]
        history.records = [Record.of(read_arrays(path, name)) for name in names]
        self._saves = meta["saves"]
        self._files = {
            record.iteration: name for record, name in zip(history.records, names, strict=True)
        }
        arrays = read_arrays(path, meta["state_file"])
        return Saved(
            method=method,
            stop=stop,
            options=meta["options"],
            root=meta["seed"],
            start=meta["start"],
            state=unpack(method.State, meta["state"], arrays, reference),
            members=np.array(meta["members"]),
            history=history,
            status=None if meta["status"] is None else Status(*meta["status"]),
            spent=meta["spent"],
            seconds=meta["seconds"],
        )


def _rebuilt(path: Path, name: str, meta: dict[str, Any]) -> Any:
    try:
        return from_json(meta[name])
    except ValueError as error:
        raise CheckpointError(f"{name}: must be passed to resume {path}: {error}") from None
