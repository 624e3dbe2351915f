"""The folder of `solve`: finished stages, their findings and their results.

``solve.json`` lists the stages and is replaced atomically. A stage with iterations has its own
checkpoint in the format of `run`, such as ``stage-1``. A check or an emulated sample is one netCDF
file, such as ``stage-2.nc``. This file is written at the end of the stage, so an interrupted check
or emulated sample is repeated.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import xarray as xr

from ekitools.core.errors import CheckpointError
from ekitools.core.statuses import CONFIRMED
from ekitools.loop.lock import Lock
from ekitools.problem import InverseProblem
from ekitools.solving.plan import Approximate, Check, Emulate, Sample, Seen, Stage
from ekitools.solving.stages import Done

__all__ = ["Store"]

_INDEX, _FORMAT = "solve.json", 1
_STAGES: dict[str, type] = {each.__name__: each for each in (Approximate, Check, Emulate, Sample)}


class Store:
    """The files of one `solve`.

    Parameters
    ----------
    folder : Path
        A new or empty folder, or the folder of an earlier call.
    problem : InverseProblem
        The problem that is solved.
    """

    def __init__(self, folder: Path, problem: InverseProblem) -> None:
        self.folder = folder
        self.root: list[int] | None = None
        """Root of all random numbers; None for a new folder."""
        self.seen: list[Seen] = []
        """Finished stages."""
        self.begun: tuple[Stage, str] | None = None
        """A stage that an earlier call began but did not finish, with the reason for the stage."""
        self._problem = {k: v for k, v in problem.fingerprint().items() if k != "model"}
        index = folder / _INDEX
        if index.exists():
            self._read(index)
        elif folder.exists() and any(folder.iterdir()):
            raise CheckpointError(
                f"checkpoint: {folder} contains files that ek.solve has not written. Choose "
                "another folder."
            )

    @contextmanager
    def holding(self, root: list[int]) -> Iterator[None]:
        """Lock the folder against other processes, and write the index of a new folder."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(
                f"checkpoint: {self.folder} cannot be written ({error.strerror}). Choose another "
                "folder."
            ) from error
        self.root = self.root or root
        with Lock(self.folder):
            self._write()
            yield

    def path(self, number: int) -> Path:
        """Path of a stage's checkpoint; ``number`` counts from 0."""
        return self.folder / f"stage-{number + 1}"

    def begin(self, stage: Stage, why: str) -> None:
        """Record the start of a stage."""
        self.begun = (stage, why)
        self._write()

    def end(self, done: Done) -> None:
        """Save the findings and the result of a finished stage."""
        self._save(done)
        self.seen.append(done.seen)
        self.begun = None
        self._write()

    def result(self, number: int, made: Sequence[xr.Dataset]) -> xr.Dataset:
        """Load an emulated sample, or a check together with the last ensemble."""
        with xr.open_dataset(self._file(number)) as file:
            stored = file.load()
        if "u" in stored:
            return stored
        checked = made[-1].assign_coords(stored.coords).assign(stored.data_vars)
        checked.attrs = dict(stored.attrs)
        return checked

    def _file(self, number: int) -> Path:
        return self.folder / f"stage-{number + 1}.nc"

    def _save(self, done: Done) -> None:
        stage, result = done.seen.stage, done.result
        if result is None or not isinstance(stage, Check | Emulate):
            return
        if isinstance(stage, Check) and done.seen.verdict != CONFIRMED:
            corrected = [name for name in result.data_vars if str(name).startswith("checked_")]
            kept = xr.Dataset({name: result[name].variable for name in corrected})
            if corrected:
                kept = kept.assign_coords(checked_level=result.checked_level.variable)
            kept.attrs = result.attrs
            result = kept
        file = self._file(len(self.seen))
        partial = file.with_suffix(".partial")
        result.to_netcdf(partial)
        partial.replace(file)

    def _write(self) -> None:
        entries = [{**each._asdict(), "stage": _encoded(each.stage)} for each in self.seen]
        begun = None
        if self.begun is not None:
            begun = {"stage": _encoded(self.begun[0]), "why": self.begun[1]}
        content = {
            "format": _FORMAT,
            "problem": self._problem,
            "root": self.root,
            "stages": entries,
            "begun": begun,
        }
        partial = self.folder / f"{_INDEX}.partial"
        partial.write_text(json.dumps(content, indent=1), "utf-8")
        partial.replace(self.folder / _INDEX)

    def _read(self, index: Path) -> None:
        try:
            content = json.loads(index.read_text("utf-8"))
            problem, known = content["problem"], content["format"] == _FORMAT
            self.root = [int(each) for each in content["root"]]
            self.seen = [
                Seen(**{**each, "stage": _decoded(each["stage"])}) for each in content["stages"]
            ]
            if (begun := content["begun"]) is not None:
                self.begun = (_decoded(begun["stage"]), begun["why"])
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"checkpoint: {index} is damaged ({error}). Choose another folder."
            ) from error
        if not known:
            raise CheckpointError(
                f"checkpoint: {index} belongs to another version of ekitools. Choose another "
                "folder."
            )
        if different := [
            name for name in self._problem if problem.get(name) != self._problem[name]
        ]:
            raise CheckpointError(
                f"checkpoint: {self.folder} belongs to another problem: {', '.join(different)} "
                "differ. Choose another folder."
            )


def _encoded(stage: Stage) -> dict[str, Any]:
    return {"type": type(stage).__name__, **asdict(stage)}


def _decoded(options: dict[str, Any]) -> Stage:
    given = dict(options)
    stage: Stage = _STAGES[given.pop("type")](**given)
    return stage
