"""The contents of a checkpoint: writing a run to its files and reading a run back."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ekitools._version import __version__
from ekitools.core.checks import check_method, stopping_rules
from ekitools.core.errors import CheckpointError, RunError
from ekitools.core.kinds import of_kind
from ekitools.core.options import from_json, to_json
from ekitools.loop.blocks import read_bundle, read_records, record_of, write_bundle, write_records
from ekitools.loop.checkpoint import check_same, pack, unpack
from ekitools.loop.disk import INDEX, File, append, create, damaged, fresh_name, verified
from ekitools.loop.ensemble import names_of_files
from ekitools.loop.index import parsed
from ekitools.loop.lines import read_lines, write_lines
from ekitools.loop.scratch import Scratch
from ekitools.problem import InverseProblem, check_problem
from ekitools.results.history import History, Store
from ekitools.typing import (
    Array,
    Method,
    Status,
    StoppingRule,
    UpdatableEnsemble,
    is_sampler,
)

__all__ = ["OPTIONS", "Commit", "Counts", "Saved", "described", "read_run", "write_parts"]

OPTIONS = ("n_steps", "on_failure", "store", "evaluate_final", "missing", "draws")
"""Options of a run that a checkpoint holds: attributes of `ekitools.AskTell`."""

_NEWEST = "newest."
"""Prefix of the arrays of the newest record, which stay in the state file while a later iteration
may still replace the record."""


class Saved(NamedTuple):
    """All data that a run needs to continue."""

    method: Method
    stop: tuple[StoppingRule, ...]
    """The stopping rules passed to the run, without the rules in the method's options."""
    options: dict[str, Any]
    """The values of `OPTIONS`."""
    root: list[int]
    """The root seed of the random streams."""
    start: str
    """Source of the initial members: "prior", "ensemble" (the user's own) or "method"."""
    state: Any
    members: np.ndarray
    history: History
    status: Status | None
    spent: bool
    """Whether the run ended because its step budget was spent."""
    seconds: float
    scratch: Scratch | None = None
    """The folder that holds the ensemble; None for an ensemble in memory."""
    kind: list[str] | None = None
    """Library, dtype and device of the ensemble; None for NumPy."""
    rng: str = ""
    """The integer that the user passed as ``rng``; "" for anything else."""


class Counts(NamedTuple):
    """Numbers of history entries in the logs of a checkpoint."""

    summaries: int = 0
    failures: int = 0
    records: int = 0


class Commit(NamedTuple):
    """The parts of a checkpoint on disk that the next checkpoint builds on."""

    sha256: str
    """The SHA-256 of ``checkpoint.json``."""
    files: dict[str, File]
    counts: Counts


def described(problem: InverseProblem, run: Saved) -> dict[str, Any]:
    """The entries of ``checkpoint.json`` that describe the run."""
    return {
        "ekitools": __version__,
        "problem": problem.fingerprint(),
        "method": to_json(run.method),
        "stop": to_json(run.stop),
        "options": run.options,
        "seed": run.root,
        "start": run.start,
        "n_members": run.history.n_members,
        "labels": run.history.labels,
        "model_runs": run.history.model_runs,
        "seconds": run.seconds,
        "status": run.status,
        "spent": run.spent,
        "scratch": None if run.scratch is None else str(run.scratch.folder),
        "kind": run.kind,
        "rng": run.rng,
    }


def write_parts(
    folder: Path, commit: Commit | None, run: Saved
) -> tuple[dict[str, Any], dict[str, File], Counts]:
    """Write the state to a new file, and append the new entries of the history to the logs.

    Returns the entries of ``checkpoint.json`` for the files, the files, and the counts.
    """
    history = run.history
    since = commit.counts if commit else Counts()
    n_kept = len(history.records)
    if n_kept and not _is_kept(history.store, history.records[-1].iteration):
        n_kept -= 1
    counts = Counts(len(history.summaries), len(history.failures), n_kept)
    packed, bundle = pack(run.state)
    bundle["members"] = run.members
    meta: dict[str, Any] = {}
    for record in history.records[n_kept:]:
        arrays = record.arrays()
        if run.scratch is not None:
            (meta["members_file"],) = names_of_files([record])
            arrays["u"] = np.empty((len(record.u), 0), dtype=record.u.dtype)
        bundle |= {_NEWEST + name: array for name, array in arrays.items()}
    if run.scratch is not None:
        run.scratch.bring_to_disk({run.state.ensemble.name, *meta.values()})
    name = fresh_name("state")
    with create(folder, name) as sink:
        write_bundle(sink, bundle)
        files = {"state": sink.finish(name)}
    for kind in ("history", "records"):
        old = commit.files[kind] if commit else None
        mine = slice(2) if kind == "history" else slice(2, 3)
        if old is not None and counts[mine] == since[mine]:
            files[kind] = old
            continue
        name = old.name if old else fresh_name(kind)
        with append(folder, old) if old else create(folder, name) as sink:
            if kind == "history":
                write_lines(sink, history.summaries, history.failures, start=since[:2])
            else:
                write_records(sink, history.records[since.records : n_kept])
            files[kind] = sink.finish(name)
    meta |= {"state": packed, "blocks": list(bundle), "counts": list(counts)}
    return meta, files, counts


def read_run(
    path: Path, data: bytes, problem: InverseProblem, given: tuple[Any, Any, Any], reference: Any
) -> tuple[Saved, Commit]:
    """The run described by a ``checkpoint.json`` with the content ``data``.

    ``given`` contains the method, the stopping rules and the scratch folder. A None among them is
    rebuilt from the checkpoint. ``reference`` is an array of the wanted kind. None keeps the kind
    of the saved ensemble.

    Raises
    ------
    CheckpointError
        If the checkpoint is damaged, or belongs to another problem, method or stopping rules.
    """
    meta = parsed(path, data)
    reference = _kind(meta) if reference is None else reference
    method, stop = _parts(path, meta, problem, *given[:2])
    scratch = _scratch(meta, given[2])
    files = {kind: verified(path, **meta["files"][kind]) for kind in meta["files"]}
    arrays = read_bundle(path, files["state"], meta["blocks"])
    history = History(meta["n_members"], meta["options"]["store"])
    history.model_runs = meta["model_runs"]
    history.labels = meta["labels"]
    counts = Counts(*meta["counts"])
    history.summaries, history.failures = read_lines(path, files["history"], counts[:2])
    history.records = read_records(path, files["records"])[: counts.records]
    if len(history.records) < counts.records:
        why = f"it holds {len(history.records)} of {counts.records} iterations"
        raise damaged(path / files["records"].name, why)
    try:
        newest = {n.removeprefix(_NEWEST): a for n, a in arrays.items() if n.startswith(_NEWEST)}
        history.records += [record_of(newest)] if newest else []
        if scratch is not None and meta["members_file"] is not None:
            members_file = scratch.opened(meta["members_file"])
            history.records[-1] = history.records[-1]._replace(u=members_file)
        state = unpack(method.State, meta["state"], arrays, reference, scratch)
        _check_place(state, scratch)
        members = arrays["members"]
        _check_fit(problem, history, state, members, sampler=is_sampler(method))
    except CheckpointError:
        raise
    except RunError as error:  # a file in the scratch folder is missing or damaged
        raise CheckpointError(f"{error} If the folder was moved, pass scratch=.") from error
    except Exception as error:  # a forged state can raise anything
        why = f"it does not describe a run that can continue: {error!r:.200}"
        raise damaged(path / INDEX, why) from error
    saved = Saved(
        method=method,
        stop=stop,
        options=meta["options"],
        root=meta["seed"],
        start=meta["start"],
        state=state,
        members=members,
        history=history,
        status=None if meta["status"] is None else Status(*meta["status"]),
        spent=meta["spent"],
        seconds=meta["seconds"],
        scratch=scratch,
        rng=meta["rng"],
    )
    return saved, Commit(hashlib.sha256(data).hexdigest(), files, counts)


def _parts(
    path: Path, meta: dict[str, Any], problem: InverseProblem, method: Any, stop: Any
) -> tuple[Method, tuple[StoppingRule, ...]]:
    """The method and the stopping rules of the run, after a check that the arguments fit."""
    check_problem(problem)
    if method is not None:
        check_method(method)
    stop = None if stop is None else stopping_rules(stop)
    given = {
        name: None if value is None else to_json(value)
        for name, value in (("method", method), ("stop", stop))
    }
    check_same(path, meta, problem.fingerprint(), given)
    if method is None:
        method = _rebuilt(path, "method", meta)
    if stop is None:
        stop = _rebuilt(path, "stop", meta)
    return method, stop


def _kind(meta: dict[str, Any]) -> Array:
    """An array of the kind of the saved ensemble."""
    if meta["kind"] is None:
        return np.ones(1)
    try:
        return of_kind(*meta["kind"])
    except ValueError as error:
        raise CheckpointError(
            f"like: must be given to resume this run: {error}. Pass an array of the library, "
            "dtype and device to continue with."
        ) from error


def _check_place(state: Any, scratch: Scratch | None) -> None:
    if isinstance(state.ensemble, UpdatableEnsemble) != (scratch is not None):
        raise TypeError("an ensemble in a file needs scratch, and no other ensemble has it")


def _scratch(meta: dict[str, Any], given: Scratch | None) -> Scratch | None:
    """The folder with the file of the ensemble; None if the checkpoint holds the ensemble."""
    if meta["scratch"] is None:
        if given is not None:
            raise ValueError(
                f"scratch: must be left out for a run with its ensemble in memory, got "
                f"{str(given.folder)!r}. Leave it out."
            )
        return None
    return given or Scratch(Path(meta["scratch"]))


def _rebuilt(path: Path, name: str, meta: dict[str, Any]) -> Any:
    try:
        found = from_json(meta[name])
    except ValueError as error:
        raise CheckpointError(f"{name}: must be passed to resume {path}: {error}") from None
    except Exception as error:  # a forged text can raise anything
        raise damaged(path / INDEX, f"its {name} cannot be rebuilt: {error!r:.200}") from error
    try:
        if name == "stop":
            return stopping_rules(found)
        check_method(found)
    except (TypeError, ValueError) as error:
        raise damaged(path / INDEX, f"its {name} is invalid: {error}") from error
    return found


def _is_kept(store: Store, iteration: int) -> bool:
    """Whether the history keeps the members of this iteration after a later iteration."""
    return store == "all" or (not isinstance(store, str) and iteration % store == 0)


def _check_fit(
    problem: InverseProblem, history: History, state: Any, members: np.ndarray, *, sampler: bool
) -> None:
    """Check that the parts of a checkpoint belong to one run.

    Raises
    ------
    ValueError, TypeError, AttributeError
        If they belong to different runs.
    """
    n, p = history.n_members, problem.n_parameters
    if members.ndim != 1 or members.dtype.kind != "i" or len(members) != len(set(members.tolist())):
        raise ValueError("members must be a list of different integers")
    if members.size and not 0 <= members.min() <= members.max() < n:
        raise ValueError(f"members has numbers beyond {n}")
    if n > history.model_runs + len(members):
        raise ValueError(f"there are fewer model runs than {n} members need")
    for record in history.records:
        d = problem.n_data_of(record.observations)
        if record.u.shape[1] != p or record.g.shape[1] != d or len(record.u) > n:
            raise ValueError(f"the arrays of iteration {record.iteration} have the wrong shape")
    if any(
        later.iteration <= r.iteration
        for r, later in zip(history.records, history.records[1:], strict=False)
    ):
        raise ValueError("the iterations must increase")
    if int(state.n) < 0 or np.isnan(float(state.t)):
        raise ValueError("the state has an invalid number of steps or an invalid time")
    if state.ensemble.ndim != 2 or (not sampler and state.ensemble.shape[0] != len(members)):
        raise ValueError("the state does not fit the members")
