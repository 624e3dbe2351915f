"""Frame of the experiments that the command ``ekitools reproduce NAME`` runs.

`EXPERIMENTS` maps every name to a module of this folder, or to an object of a module
(``module:object``). The module or object is the experiment. It has

* ``SETTINGS``: all choices of the experiment in one place, as a frozen dataclass for each scale
  ("small", "medium", "paper");
* ``PUBLISHED``: the published values for comparison, by label;
* ``parts(settings)``: the labels of the parts, in the order in which they are computed;
* ``compute(settings, label, folder, progress)``: the numbers of one part, as a dictionary that JSON
  can hold. A long run makes ``folder``, keeps its checkpoints there and resumes from them. The
  frame removes the folder when the numbers are written. An experiment in `WITH_NETWORKS` has
  ``compute(settings, label, folder, progress, device)`` with the device of its networks;
* ``table(settings, numbers)``: the report as text;
* ``draw(settings, numbers, path)``: the report as a figure.

`reproduce` computes the missing parts and writes ``numbers.json`` after each part. It adds
``seconds``, ``device`` and the peak ``device_bytes`` to the numbers of a part.

The other modules of this folder are shared by several experiments. Only `reproduce` imports an
experiment, by its name.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import shutil
import time
from collections.abc import Callable, Collection
from fnmatch import fnmatchcase
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ekitools._version import __version__
from ekitools.core.checks import one_of
from ekitools.experiments.devices import checked_device, device_name, peak_bytes, reset_peak
from ekitools.experiments.names import EXPERIMENTS, SCALES, WITH_NETWORKS, Device, Scale
from ekitools.plots.style import detached

__all__ = [
    "EXPERIMENTS",
    "SCALES",
    "WITH_NETWORKS",
    "new_figure",
    "progress_bar",
    "reproduce",
    "write_json",
]


def reproduce(
    name: str,
    *,
    scale: Scale = "small",
    out: str | Path | None = None,
    resume: bool = False,
    only: Collection[str] = (),
    progress: bool = False,
    device: Device = "cpu",
    show: Callable[[str], Any] = print,
) -> dict[str, Any]:
    """Run a published experiment, or its missing parts.

    Parameters
    ----------
    name : str
        One of `EXPERIMENTS`.
    scale : {"small", "medium", "paper"}
        Size of the experiment: minutes, about an hour, or the published sizes.
    out : str or Path, optional
        Folder for ``numbers.json``, ``figure.png`` and checkpoints; ``NAME-SCALE`` by default.
    resume : bool, default False
        Whether to continue the experiment that the folder holds.
    only : collection of str, optional
        Labels of the parts to compute, or patterns such as ``"DNN ?, EKI(R)*"``; all by default.
        Table and figure follow the last part.
    progress : bool, default False
        Whether to show progress bars.
    device : {"cpu", "cuda", "mps"}, default "cpu"
        Device of the networks. A run can be resumed on another device.
    show : callable, default print
        Receives every line of the report.

    Returns
    -------
    dict
        The content of ``numbers.json``, including ``settings``, ``published`` and the ``numbers``
        of every part. The ``seconds`` of a part include the time before an interrupt. ``device`` is
        the name of the device on which the part ended. ``device_bytes`` is the peak memory that
        torch used there since the part was started or resumed; None for a CPU.

    Raises
    ------
    ValueError
        If the experiment, scale, part or device is unknown, or if a device is given for an
        experiment without networks. If the folder holds an experiment and ``resume`` is False, or
        if it holds another experiment or other settings. A folder without numbers and checkpoints
        counts as empty.

    See Also
    --------
    ekitools.demos.demo : Demonstration on a shipped problem.

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
    scale = one_of("scale", scale, SCALES)
    device = checked_device(device)
    if device != "cpu" and name not in WITH_NETWORKS:
        raise ValueError(
            f"device: must be 'cpu' for {name}, whose models use NumPy, got {device!r}."
        )
    experiment = _experiment(name)
    settings = experiment.SETTINGS[scale]
    labels = experiment.parts(settings)
    unknown = [each for each in only if not any(_matches(label, each) for label in labels)]
    if unknown:
        raise ValueError(f"only: must be among {labels}, got {unknown}.")
    folder = Path(f"{name}-{scale}" if out is None else out)
    record = _opened(folder, name, scale, settings, experiment.PUBLISHED, resume=resume)
    numbers = record["numbers"]
    where = (device,) if name in WITH_NETWORKS else ()
    for label in labels:
        if only and not any(_matches(label, each) for each in only):
            continue
        if label in numbers:
            show(f"{label}: already computed")
            continue
        checkpoints = folder / "checkpoints" / label
        spent = checkpoints / "seconds"
        started = time.perf_counter() - (float(spent.read_text("utf-8")) if spent.exists() else 0)
        reset_peak(device)
        try:
            found = experiment.compute(settings, label, checkpoints, progress, *where)
        except BaseException:  # counts this time if the part is resumed
            if _holds_files(checkpoints):
                spent.write_text(f"{time.perf_counter() - started}", "utf-8")
            raise
        numbers[label] = {
            **found,
            "seconds": time.perf_counter() - started,
            "device": device_name(device),
            "device_bytes": peak_bytes(device),
        }
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


def _experiment(name: str) -> Any:
    """Experiment of a name in `EXPERIMENTS`: a module or an object."""
    module, _, within = EXPERIMENTS[name].partition(":")
    found = import_module(f"ekitools.experiments.{module}")
    return getattr(found, within) if within else found


def _matches(label: str, wanted: str) -> bool:
    """Whether ``wanted`` is the label, or a pattern that matches it."""
    return label == wanted or fnmatchcase(label, wanted)


def _opened(
    folder: Path, name: str, scale: str, settings: Any, published: Any, *, resume: bool
) -> dict[str, Any]:
    """Record of the experiment in the folder, or a new record."""
    path = folder / "numbers.json"
    options = json.loads(json.dumps(dataclasses.asdict(settings)))
    record: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    if record and (record["numbers"] or _holds_files(folder / "checkpoints")):
        if not resume:
            raise ValueError(
                f"out: {folder} holds an experiment already. Continue it with resume=True "
                "(--resume), or name another folder."
            )
        if (record["experiment"], record["settings"]) != (name, options):
            raise ValueError(
                f"out: {folder} holds {record['experiment']}, which is not {name} with its current "
                "settings. Name another folder."
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
    """Write a file atomically: an interrupted call leaves the old file unchanged."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(value, indent=1), "utf-8")
    new.replace(path)


def progress_bar(total: int, progress: bool) -> Any:
    """Progress bar of tqdm, shown only if ``progress`` is True."""
    from tqdm.auto import tqdm

    return tqdm(total=total, disable=not progress)


def new_figure(columns: int = 1, *, size: tuple[float, float]) -> Any:
    """Row of Axes of a figure without a window, and the function that saves the figure."""
    figure, axes = detached(1, columns, figsize=size)
    return np.atleast_1d(axes), partial(figure.savefig, dpi=150)
