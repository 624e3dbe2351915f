"""Ablation of `mnist_factored` and `mnist_local`: variants that change one option each.

All variants train DNN 2 with the same number of steps. The table gives their time in units of that
of the first variant, because some variants are better only by more work. Accuracies are those on
the validation set, by which the settings were chosen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ekitools.experiments.frame import new_figure
from ekitools.experiments.images import MNIST, Data
from ekitools.experiments.learning.loop import learned
from ekitools.experiments.learning.options import Factored, Local
from ekitools.plots.style import BLUE, ORANGE
from ekitools.results.tables import table_lines

__all__ = ["PUBLISHED", "SETTINGS", "Settings", "compute", "draw", "parts", "table"]

PUBLISHED: dict[str, Any] = {}


@dataclass(frozen=True)
class Settings:
    """The options of every variant, the number of starts, the network and the images."""

    variants: dict[str, Factored | Local]
    seeds: int = 1
    network: str = "DNN 2"
    data: Data = MNIST


_ONE: dict[str, dict[str, Any]] = {
    "base": {},
    "no past steps as members": {"memory": 0},
    "antithetic pairs": {"antithetic": True},
    "half the members": {"members": 200},
    "twice the members": {"members": 800},
    "half the batch": {"batch": 1000},
    "twice the batch": {"batch": 4000},
    "damping / 4": {"damping": 0.5},
    "damping x 4": {"damping": 8.0},
    "gamma x 10": {"gamma": 0.2},
    "components as they are": {"weighting": 0.0},
    "40 components": {"components": 40},
    "all 784 components": {"components": 784},
}
_EACH: dict[str, dict[str, Any]] = {
    "base": {},
    "antithetic pairs": {"antithetic": True},
    "a third of the members": {"members": 33},
    "a tenth of the members": {"members": 10},
    "half the batch": {"batch": 1000},
    "twice the batch": {"batch": 4000},
    "damping / 4": {"damping": 2.5e-4},
    "damping x 4": {"damping": 4e-3},
    "no momentum": {"momentum": 0.0},
    "ten iterations, no momentum": {"momentum": 0.0, "iterations": 10},
    "no prior": {"prior": 0.0},
    "components as they are": {"weighting": 0.0},
    "40 components": {"components": 40},
    "all 784 components": {"components": 784},
}


def _variants(steps: int) -> dict[str, Factored | Local]:
    """A base of both kinds of members, and the variants of each."""
    one, each = Factored(steps, averaging=0.9), Local(steps, averaging=0.9)
    return {
        **{name: replace(one, **change) for name, change in _ONE.items()},
        **{f"local, {name}": replace(each, **change) for name, change in _EACH.items()},
    }


SETTINGS = {
    "small": Settings(_variants(100)),
    "medium": Settings(_variants(300), seeds=2),
    "paper": Settings(_variants(1000), seeds=3),
}


def parts(settings: Settings) -> list[str]:
    """Labels such as "base, seed 0"."""
    return [f"{name}, seed {seed}" for seed in range(settings.seeds) for name in settings.variants]


def compute(
    settings: Settings, label: str, folder: Path, progress: bool, device: str = "cpu"
) -> dict[str, Any]:
    """Accuracies along the run of one variant."""
    name, seed = label.split(", seed ")
    return learned(
        *(settings.variants[name], settings.network, settings.data),
        seed=int(seed),
        folder=folder,
        progress=progress,
        device=device,
    )


def table(settings: Settings, numbers: dict[str, Any]) -> str:
    """Means over the starts after half of the steps and at the end."""
    header = ("variant", "p", "halfway", "mean", "averaged", "test", "loss", "time")
    by_name = _by_name(settings, numbers)
    first = by_name.get(next(iter(settings.variants)), [])
    unit = np.mean([found["seconds"] for found in first] or [np.nan])
    rows = []
    for name, found in by_name.items():
        halfway = np.mean([run["trace"][len(run["trace"]) // 2 - 1]["validation"] for run in found])
        keys = ("validation", "average_validation", "average_test", "loss")
        ends = [f"{np.mean([run[key] for run in found]):.4f}" for key in keys]
        time = np.mean([run["seconds"] for run in found]) / unit
        rows.append((name, str(found[0]["parameters"]), f"{halfway:.4f}", *ends, f"{time:.2f}"))
    return "\n".join(table_lines(header, rows))


def draw(settings: Settings, numbers: dict[str, Any], path: Path) -> None:
    """Validation accuracies at the end by variant."""
    by_name = _by_name(settings, numbers)
    (ax,), save = new_figure(size=(7, 1 + 0.35 * len(settings.variants)))
    for i, found in enumerate(by_name.values()):
        for key, colour, label in (
            ("validation", ORANGE, "mean"),
            ("average_validation", BLUE, "averaged mean"),
        ):
            values = [run[key] for run in found]
            ax.plot(values, [i] * len(values), "o", color=colour, label=label if i == 0 else None)
    ax.set_yticks(range(len(by_name)), list(by_name))
    ax.invert_yaxis()
    ax.set(xlabel="validation accuracy", title=settings.network)
    ax.legend(frameon=False, loc="lower left")
    save(path)


def _by_name(settings: Settings, numbers: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The finished runs by variant."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for label in filter(numbers.__contains__, parts(settings)):
        runs.setdefault(label.split(", seed ")[0], []).append(numbers[label])
    return runs
