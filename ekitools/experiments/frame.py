"""The published experiments, each one command: ``ekitools reproduce NAME``.

An experiment is a module beside this one with

* ``SETTINGS``, a mapping of scale ("small", "medium", "paper") to a frozen dataclass of all that
  the experiment needs to know, so that what was chosen is readable in one place;
* ``PUBLISHED``, the values to stand beside ours, by label;
* ``parts(settings)``, labels of what is computed one after the other, in this order;
* ``compute(settings, label, folder, progress)``, the numbers of one part, as a dictionary that JSON
  can hold; long runs keep their checkpoints in ``folder``, which they make, and resume from there
  (it is removed once the numbers are written);
* ``table(settings, numbers)`` and ``draw(settings, numbers, path)``, what is shown of them.

`reproduce` computes the parts that are not done yet, and writes ``numbers.json`` after each.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import shutil
import time
from collections.abc import Callable, Collection
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ekitools._version import __version__

__all__ = ["EXPERIMENTS", "SCALES", "reproduce"]

EXPERIMENTS = {
    "mnist-dense": "mnist_dense",
    "mnist-factored": "mnist_factored",
    "mnist-local": "mnist_local",
    "mnist-ablation": "mnist_ablation",
    "mnist-methods": "mnist_methods",
    "ensemble-size": "ensemble_size",
    "cnn": "cnn",
    "cnn-local": "cnn_local",
    "rnn-mnist": "rnn_mnist",
    "step-activation": "step_activation",
    "zero-one-loss": "zero_one_loss",
    "cartpole": "cartpole",
    "online-temperatures": "online_temperatures",
    "online-sunspots": "online_sunspots",
    "graph-labels": "graph_labels",
    "uncertainty": "uncertainty",
    "lstm-online": "lstm_online",
}
SCALES = ("small", "medium", "paper")


def reproduce(
    name: str,
    *,
    scale: str = "small",
    out: str | Path | None = None,
    resume: bool = False,
    only: Collection[str] = (),
    progress: bool = False,
    show: Callable[[str], Any] = print,
) -> dict[str, Any]:
    """Run a published experiment, or what is left of it.

    Parameters
    ----------
    name : str
        One of `EXPERIMENTS`.
    scale : {"small", "medium", "paper"}
        How much: minutes, an hour, or the published sizes.
    out : str or Path, optional
        Folder for ``numbers.json``, ``figure.png`` and checkpoints; ``NAME-SCALE`` by default.
    resume : bool, default False
        Whether to go on with what the folder holds.
    only : collection of str, optional
        Labels of the parts to compute; all by default. Table and figure are made once all are done.
    progress : bool, default False
        Whether to show progress bars.
    show : callable, default print
        Takes every line of the report.

    Returns
    -------
    dict
        What is in ``numbers.json``: ``settings``, ``published`` and, by part, ``numbers``, with the
        ``seconds`` that it took, those before an interrupt included.

    Raises
    ------
    ValueError
        If there is no such experiment, scale or part, the folder holds an experiment and ``resume``
        is False, or it holds another experiment or other settings. A folder without numbers and
        checkpoints, as a first part leaves it that fails at once, holds nothing.

    Examples
    --------
    >>> from ekitools.experiments import SCALES, reproduce
    >>> SCALES
    ('small', 'medium', 'paper')
    >>> record = reproduce("online-sunspots", out="sunspots", resume=True)  # doctest: +SKIP
    >>> record["numbers"]["EKI"]["seconds"]  # doctest: +SKIP
    >>> reproduce("mnist")
    Traceback (most recent call last):
    ValueError: name: must be one of mnist-dense, ..., got 'mnist'.
    """
    if name not in EXPERIMENTS:
        raise ValueError(f"name: must be one of {', '.join(EXPERIMENTS)}, got {name!r}.")
    if scale not in SCALES:
        raise ValueError(f"scale: must be one of {', '.join(SCALES)}, got {scale!r}.")
    experiment = import_module(f"ekitools.experiments.{EXPERIMENTS[name]}")
    settings = experiment.SETTINGS[scale]
    labels = experiment.parts(settings)
    unknown = [label for label in only if label not in labels]
    if unknown:
        raise ValueError(f"only: must be among {labels}, got {unknown}.")
    folder = Path(f"{name}-{scale}" if out is None else out)
    record = _opened(folder, name, scale, settings, experiment.PUBLISHED, resume=resume)
    numbers = record["numbers"]
    for label in (label for label in labels if not only or label in only):
        if label in numbers:
            show(f"{label}: done before")
            continue
        checkpoints = folder / "checkpoints" / label
        spent = checkpoints / "seconds"
        started = time.perf_counter() - (float(spent.read_text("utf-8")) if spent.exists() else 0)
        try:
            found = experiment.compute(settings, label, checkpoints, progress)
        except BaseException:  # what is resumed later has taken this time too
            if _holds_files(checkpoints):
                spent.write_text(f"{time.perf_counter() - started}", "utf-8")
            raise
        numbers[label] = {**found, "seconds": time.perf_counter() - started}
        write_json(folder / "numbers.json", record)
        shutil.rmtree(checkpoints, ignore_errors=True)  # ensembles of networks take gigabytes
        show(f"{label}: {numbers[label]['seconds']:.0f} s")
    missing = [label for label in labels if label not in numbers]
    if missing:
        show(f"\nWrote {folder / 'numbers.json'}; still to be computed: {'; '.join(missing)}.")
        return record
    show("")
    for line in experiment.table(settings, numbers).splitlines():
        show(line)
    experiment.draw(settings, numbers, folder / "figure.png")
    show(f"\nWrote {folder / 'numbers.json'} and {folder / 'figure.png'}.")
    return record


def _opened(
    folder: Path, name: str, scale: str, settings: Any, published: Any, *, resume: bool
) -> dict[str, Any]:
    """The record of what was done, new or as the folder has it."""
    path = folder / "numbers.json"
    options = json.loads(json.dumps(dataclasses.asdict(settings)))
    record: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    if record and (record["numbers"] or _holds_files(folder / "checkpoints")):
        if not resume:
            raise ValueError(
                f"out: {folder} holds an experiment already. Go on with resume=True (--resume), or "
                "name another folder."
            )
        if (record["experiment"], record["settings"]) != (name, options):
            raise ValueError(
                f"out: {folder} holds {record['experiment']} with other settings than {name} has "
                "now. Name another folder."
            )
        return record
    record = {
        "experiment": name,
        "scale": scale,
        "settings": options,
        "published": published,
        "versions": {
            "ekitools": __version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "numbers": {},
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "numbers.json", record)
    return record


def _holds_files(folder: Path) -> bool:
    return any(path.is_file() for path in folder.rglob("*"))


def write_json(path: Path, value: Any) -> None:
    """Atomically, so that an interrupted run leaves what was there before."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(value, indent=1), "utf-8")
    new.replace(path)
