"""Experiments with several methods on one network: the accuracies by epoch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ekitools.experiments.frame import new_figure
from ekitools.experiments.image_learning import Recipe, train
from ekitools.experiments.images import MNIST, Data, split_of
from ekitools.plots.style import BLUE, GREEN, ORANGE, RED
from ekitools.results.tables import table_lines

__all__ = ["Settings", "compute", "draw", "parts", "table"]


@dataclass(frozen=True)
class Settings:
    """The methods and their options, and the network that learns by them."""

    methods: dict[str, Recipe]
    network: str = "DNN 2"
    data: Data = MNIST
    seed: int = 0


def parts(settings: Settings) -> list[str]:
    """The names of the methods."""
    return list(settings.methods)


def compute(settings: Settings, label: str, folder: Path, progress: bool) -> dict[str, Any]:
    """Accuracies of one method, by epoch."""
    return train(
        settings.methods[label],
        settings.network,
        split_of(settings.data),
        seed=settings.seed,
        folder=folder,
        progress=progress,
    )


def table(settings: Settings, numbers: dict[str, Any]) -> str:
    """Accuracies of the mean (or of gradient descent) after the first and the last epoch."""
    header = ("method", "J", "validation, first", "last", "test, first", "last", "epochs", "time")
    rows = []
    for label in filter(numbers.__contains__, parts(settings)):
        found = numbers[label]
        first, last = found["by_epoch"][0], found["by_epoch"][-1]
        accuracies = [f"{e[key]:.4f}" for key in ("validation", "test") for e in (first, last)]
        n_members = str(getattr(settings.methods[label], "n_members", ""))
        cost = (str(found["epochs"]), f"{found['seconds']:.0f} s")
        rows.append((label, n_members, *accuracies, *cost))
    return "\n".join(table_lines(header, rows))


def draw(settings: Settings, numbers: dict[str, Any], path: Path) -> None:
    """Test accuracies of the mean by epoch."""
    (ax,), save = new_figure(size=(6, 4))
    for label, colour in zip(parts(settings), (BLUE, GREEN, ORANGE, RED), strict=False):
        if label in numbers:
            heights = [epoch["test"] for epoch in numbers[label]["by_epoch"]]
            ax.plot(range(1, len(heights) + 1), heights, "o-", ms=4, color=colour, label=label)
    ax.set(xlabel="epoch", ylabel="test accuracy", title=settings.network)
    ax.legend(frameon=False)
    save(path)
