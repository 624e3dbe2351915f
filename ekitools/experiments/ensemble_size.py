"""Accuracy against the size of the ensemble, on MNIST and on Fashion-MNIST.

The figures of [1]_ show EKI(R) on a dense network. They have no numbers, and the network, rates and
batches are not published. Our network is DNN 2. At the scale "paper" it learns by `recipes.scheme`.

References
----------
.. [1] Kovachki & Stuart (2019), Inverse Problems 35, 095005, and a talk on it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ekitools.experiments.frame import new_figure
from ekitools.experiments.image_learning import train
from ekitools.experiments.images import MNIST, Data, split_of
from ekitools.experiments.recipes import Learning, scheme
from ekitools.experiments.seeds import mean_of, runs_by_label, seed_of, spread_of, with_seeds
from ekitools.plots.style import BLUE, ORANGE
from ekitools.results.tables import table_lines

__all__ = ["PUBLISHED", "SETTINGS", "Settings", "compute", "draw", "parts", "table"]

PUBLISHED: dict[str, Any] = {}


@dataclass(frozen=True)
class Settings:
    """The sizes of the ensemble, and the network with its recipe and its images."""

    sizes: tuple[int, ...]
    learning: Learning
    """The recipe, whose number of members is replaced by each of ``sizes``."""
    network: str = "DNN 2"
    data: dict[str, Data] = field(
        default_factory=lambda: {"MNIST": MNIST, "Fashion-MNIST": Data("fashion_mnist")}
    )
    seeds: int = 1


_OFTEN_REDRAWN = Learning(0, 3, redraw="step", gamma=0.3, h=10.0)
SETTINGS = {
    "small": Settings((50, 100, 200, 400), _OFTEN_REDRAWN, network="DNN 1"),
    "medium": Settings((100, 200, 400, 800), replace(_OFTEN_REDRAWN, epochs=10)),
    "paper": Settings((100, 200, 500, 1000, 2000, 4000, 6000), scheme(0)["EKI(R)"], seeds=3),
}


def parts(settings: Settings) -> list[str]:
    """Labels such as "MNIST, J = 500", or "MNIST, J = 500, seed 0" for several seeds."""
    pairs = [f"{name}, J = {size}" for name in settings.data for size in settings.sizes]
    return with_seeds(pairs, settings.seeds)


def compute(
    settings: Settings, label: str, folder: Path, progress: bool, device: str = "cpu"
) -> dict[str, Any]:
    """Accuracies by epoch with one size of the ensemble."""
    pair, seed = seed_of(label)
    name, size = pair.split(", J = ")
    return train(
        replace(settings.learning, n_members=int(size)),
        settings.network,
        split_of(settings.data[name]),
        seed=seed,
        folder=folder,
        progress=progress,
        device=device,
    )


def table(settings: Settings, numbers: dict[str, Any]) -> str:
    """Final accuracies of the mean and of the best member, as means over the seeds."""
    header = ("data, size", "validation", "test", "best member's", "epochs", "time")
    rows = []
    for label, runs in runs_by_label(parts(settings), numbers).items():
        accuracies = (
            f"{mean_of(runs, 'validation'):.4f}",
            *(spread_of(runs, key) for key in ("test", "best_test")),
        )
        cost = (f"{mean_of(runs, 'epochs'):.0f}", f"{mean_of(runs, 'seconds'):.0f} s")
        rows.append((label, *accuracies, *cost))
    return "\n".join(table_lines(header, rows))


def draw(settings: Settings, numbers: dict[str, Any], path: Path) -> None:
    """Final test accuracies against J, with a panel for each data set."""
    axes, save = new_figure(len(settings.data), size=(1 + 3.5 * len(settings.data), 3.5))
    kinds = (("test", "mean", "o-", BLUE), ("best_test", "best member", "^--", ORANGE))
    runs = runs_by_label(parts(settings), numbers)
    for ax, name in zip(axes, settings.data, strict=True):
        sizes = [size for size in settings.sizes if f"{name}, J = {size}" in runs]
        for key, text, style, colour in kinds:
            heights = [mean_of(runs[f"{name}, J = {size}"], key) for size in sizes]
            ax.plot(sizes, heights, style, color=colour, label=text)
        ax.set(title=f"{name}, {settings.network}", xlabel="ensemble size J", xscale="log")
        ax.set_xticks(settings.sizes, [str(size) for size in settings.sizes], minor=False)
        ax.minorticks_off()
    axes[0].set_ylabel("test accuracy")
    axes[0].legend(frameon=False)
    save(path)
