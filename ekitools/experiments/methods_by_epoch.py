"""Experiments with several methods on one network: the accuracies by epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ekitools.experiments.frame import new_figure
from ekitools.experiments.image_learning import train
from ekitools.experiments.images import MNIST, Data, split_of
from ekitools.experiments.recipes import Recipe
from ekitools.experiments.seeds import mean_of, runs_by_label, seed_of, with_seeds
from ekitools.plots.style import BLUE, GREEN, ORANGE, RED
from ekitools.results.tables import table_lines

__all__ = ["Settings", "compute", "draw", "parts", "table"]


@dataclass(frozen=True)
class Settings:
    """The methods and their options, and the network that learns by them."""

    methods: Mapping[str, Recipe]
    network: str = "DNN 2"
    data: Data = MNIST
    seeds: int = 1


def parts(settings: Settings) -> list[str]:
    """The names of the methods, or labels such as "EKI(R), seed 0" for several seeds."""
    return with_seeds(settings.methods, settings.seeds)


def compute(
    settings: Settings, label: str, folder: Path, progress: bool, device: str = "cpu"
) -> dict[str, Any]:
    """Accuracies of one method, by epoch."""
    name, seed = seed_of(label)
    return train(
        settings.methods[name],
        settings.network,
        split_of(settings.data),
        seed=seed,
        folder=folder,
        progress=progress,
        device=device,
    )


def table(settings: Settings, numbers: dict[str, Any]) -> str:
    """Accuracies of the mean (or of gradient descent) after the first and the last epoch.

    With several seeds they are means over the seeds.
    """
    header = ("method", "J", "validation, first", "last", "test, first", "last", "epochs", "time")
    rows = []
    for name, runs in runs_by_label(parts(settings), numbers).items():
        first, last = ([run["by_epoch"][i] for run in runs] for i in (0, -1))
        accuracies = [
            f"{mean_of(at, key):.4f}" for key in ("validation", "test") for at in (first, last)
        ]
        n_members = str(getattr(settings.methods[name], "n_members", ""))
        cost = (f"{mean_of(runs, 'epochs'):.0f}", f"{mean_of(runs, 'seconds'):.0f} s")
        rows.append((name, n_members, *accuracies, *cost))
    return "\n".join(table_lines(header, rows))


def draw(settings: Settings, numbers: dict[str, Any], path: Path) -> None:
    """Test accuracies of the mean by epoch, with a line for every seed."""
    (ax,), save = new_figure(size=(6, 4))
    runs = runs_by_label(parts(settings), numbers)
    for name, colour in zip(settings.methods, (BLUE, GREEN, ORANGE, RED), strict=True):
        for i, run in enumerate(runs.get(name, [])):
            heights = [epoch["test"] for epoch in run["by_epoch"]]
            label = None if i else name
            ax.plot(range(1, len(heights) + 1), heights, "o-", ms=4, color=colour, label=label)
    ax.set(xlabel="epoch", ylabel="test accuracy", title=settings.network)
    ax.legend(frameon=False)
    save(path)
