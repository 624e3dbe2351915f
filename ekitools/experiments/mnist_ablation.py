"""What the parts of `mnist_factored` are good for: one changed at a time, on DNN 2.

Every variant has as many steps. Its time is a share of the base's, so that what is better by more
work can be told from what is better. Accuracies are those on the validation set, which is what
settings were chosen by.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ekitools.demos import table_lines
from ekitools.experiments._mnist import Data, new_figure
from ekitools.experiments.mnist_factored import Factored, learned
from ekitools.plots import BLUE, ORANGE

__all__ = ["PUBLISHED", "SETTINGS", "Settings", "compute", "draw", "parts", "table"]

PUBLISHED: dict[str, Any] = {}


@dataclass(frozen=True)
class Settings:
    """The base, what is changed in each variant, and how many starts each has."""

    base: Factored
    changes: dict[str, dict[str, float]]
    seeds: int = 1
    network: str = "DNN 2"
    data: Data = Data()


def _changes(base: Factored) -> dict[str, dict[str, float]]:
    """Halved, doubled, or without."""
    return {
        "base": {},
        "no past steps as members": {"memory": 0},
        "half the members": {"members": base.members // 2},
        "twice the members": {"members": 2 * base.members},
        "half the batch": {"batch": base.batch // 2},
        "twice the batch": {"batch": 2 * base.batch},
        "damping / 4": {"damping": base.damping / 4},
        "damping x 4": {"damping": base.damping * 4},
        "gamma x 10": {"gamma": 10 * base.gamma},
        "components as they are": {"weighting": 0.0},
        "40 components": {"components": 40},
        "all 784 components": {"components": 784},
    }


_BASE = Factored(100, averaging=0.9)
SETTINGS = {
    "small": Settings(_BASE, _changes(_BASE)),
    "medium": Settings(replace(_BASE, steps=300), _changes(_BASE), seeds=2),
    "paper": Settings(replace(_BASE, steps=1000), _changes(_BASE), seeds=3),
}


def parts(settings: Settings) -> list[str]:
    """Such as "base, seed 0"."""
    return [f"{name}, seed {seed}" for seed in range(settings.seeds) for name in settings.changes]


def compute(settings: Settings, label: str, folder: Path, progress: bool) -> dict[str, Any]:
    """Accuracies along the run of one variant."""
    name, seed = label.split(", seed ")
    options = replace(settings.base, **settings.changes[name])  # type: ignore[arg-type]
    return learned(
        options, settings.network, settings.data, seed=int(seed), folder=folder, progress=progress
    )


def table(settings: Settings, numbers: dict[str, Any]) -> str:
    """Means over the starts, after half of the steps and after all."""
    header = ("variant", "p", "halfway", "mean", "averaged", "test", "loss", "time")
    by_name = _by_name(settings, numbers)
    base = np.mean([found["seconds"] for found in by_name.get("base", [])] or [np.nan])
    rows = []
    for name, found in by_name.items():
        halfway = np.mean([run["trace"][len(run["trace"]) // 2 - 1]["validation"] for run in found])
        keys = ("validation", "average_validation", "average_test", "loss")
        ends = [f"{np.mean([run[key] for run in found]):.4f}" for key in keys]
        time = np.mean([run["seconds"] for run in found]) / base
        rows.append((name, str(found[0]["parameters"]), f"{halfway:.4f}", *ends, f"{time:.2f}"))
    return "\n".join(table_lines(header, rows))


def draw(settings: Settings, numbers: dict[str, Any], path: Path) -> None:
    """Validation accuracies at the end, by variant."""
    by_name = _by_name(settings, numbers)
    (ax,), save = new_figure(size=(7, 1 + 0.35 * len(settings.changes)))
    for i, found in enumerate(by_name.values()):
        for key, colour, label in (
            ("validation", ORANGE, "mean"),
            ("average_validation", BLUE, "averaged mean"),
        ):
            values = [run[key] for run in found]
            ax.plot(values, [i] * len(values), "o", color=colour, label=label if i == 0 else None)
    ax.set_yticks(range(len(by_name)), list(by_name))
    ax.invert_yaxis()
    ax.set(xlabel="validation accuracy", title=f"{settings.network}, {settings.base.steps} steps")
    ax.legend(frameon=False, loc="lower left")
    save(path)


def _by_name(settings: Settings, numbers: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Runs of every variant that has one."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for label in filter(numbers.__contains__, parts(settings)):
        runs.setdefault(label.split(", seed ")[0], []).append(numbers[label])
    return runs
