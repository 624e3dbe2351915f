"""Four EKI methods on DNN 2, by epoch, on MNIST.

The figure of [1]_, without numbers there, has J = 6000: EKI, MEKI, EKI(R) and MEKI(R), by the
test accuracy of the mean. Its batches and rates are not known: see `mnist_dense`.

References
----------
.. [1] Kovachki & Stuart (2019), Inverse Problems 35, 095005, and slides of a talk on it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ekitools.experiments._mnist import (
    EKI_METHODS,
    Data,
    Learning,
    Recipe,
    new_figure,
    split_of,
    train,
)
from ekitools.plots.style import BLUE, GREEN, ORANGE, RED
from ekitools.results.tables import table_lines

__all__ = ["PUBLISHED", "SETTINGS", "Settings", "compute", "draw", "parts", "table"]

PUBLISHED: dict[str, Any] = {}


@dataclass(frozen=True)
class Settings:
    """Which methods, and how the network learns by them."""

    methods: dict[str, Recipe]
    network: str = "DNN 2"
    data: Data = Data()
    seed: int = 0


def _methods(plain: Learning, redrawn: Learning, momentum: Learning) -> dict[str, Recipe]:
    """In the order of `EKI_METHODS`; the last has its own step: see `mnist_dense`."""
    each = (plain, replace(plain, momentum=True), redrawn, replace(momentum, momentum=True))
    return dict(zip(EKI_METHODS, each, strict=True))


def _often_redrawn(n_members: int, epochs: int) -> dict[str, Recipe]:
    plain = Learning(n_members, epochs)
    redrawn = replace(plain, redraw="step", gamma=0.3, h=10.0)
    return _methods(plain, redrawn, replace(redrawn, h=0.1))


_PAPER = Learning(6000, 50)
_PAPER_REDRAWN = replace(_PAPER, redraw="epoch")
SETTINGS = {
    "small": Settings(_often_redrawn(100, 3)),
    "medium": Settings(_often_redrawn(500, 20)),
    "paper": Settings(_methods(_PAPER, _PAPER_REDRAWN, _PAPER_REDRAWN)),
}


def parts(settings: Settings) -> list[str]:
    """The methods."""
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
    """Accuracies of the mean, or of what gradients found, after the first and the last epoch."""
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
    """Test accuracy of the mean, by epoch."""
    (ax,), save = new_figure(size=(6, 4))
    for label, colour in zip(parts(settings), (BLUE, GREEN, ORANGE, RED), strict=False):
        if label in numbers:
            heights = [epoch["test"] for epoch in numbers[label]["by_epoch"]]
            ax.plot(range(1, len(heights) + 1), heights, "o-", ms=4, color=colour, label=label)
    ax.set(xlabel="epoch", ylabel="test accuracy", title=settings.network)
    ax.legend(frameon=False)
    save(path)
