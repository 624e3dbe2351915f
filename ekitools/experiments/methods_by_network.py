"""Experiments with several methods on several networks: the final accuracies of every pair."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ekitools.experiments import published
from ekitools.experiments.frame import new_figure
from ekitools.experiments.image_learning import Recipe, train
from ekitools.experiments.images import MNIST, Data, split_of
from ekitools.plots.style import BLUE, GREEN, ORANGE, RED
from ekitools.results.tables import table_lines

__all__ = ["OURS", "Settings", "compute", "draw", "parts", "table"]

OURS = "CurvatureEKI"
"""The method that is not published."""
_PUBLISHED = published.DENSE | published.CONVOLUTIONAL


@dataclass(frozen=True)
class Settings:
    """The methods that train every network, and the options of every method."""

    plan: dict[str, tuple[str, ...]]
    """The methods of every network."""
    methods: dict[str, Recipe]
    data: Data = MNIST
    seed: int = 0


def parts(settings: Settings) -> list[str]:
    """Labels such as "DNN 1, EKI(R)"."""
    return [f"{network}, {name}" for network, names in settings.plan.items() for name in names]


def compute(settings: Settings, label: str, folder: Path, progress: bool) -> dict[str, Any]:
    """Accuracies of one method on one network."""
    network, name = label.split(", ")
    return train(
        settings.methods[name],
        network,
        split_of(settings.data),
        seed=settings.seed,
        folder=folder,
        progress=progress,
    )


def table(settings: Settings, numbers: dict[str, Any]) -> str:
    """Accuracies of the mean and of the best member, beside the published ones."""
    header = ("part", "predicts with", "validation", "test", "published", "epochs", "time")
    rows = []
    for label in filter(numbers.__contains__, parts(settings)):
        found = numbers[label]
        for key, text in (("", "mean"), ("best_", "best member")):
            if f"{key}test" not in found:
                continue
            value = _PUBLISHED.get(label, {}).get(f"{key}test")
            rows.append(
                (
                    f"{label} (ours)" if label.endswith(OURS) else label,
                    text if "best_test" in found else "its only u",
                    f"{found.get(f'{key}validation', float('nan')):.4f}",
                    f"{found[f'{key}test']:.4f}",
                    "-" if value is None else f"{value:.4f}",
                    str(found["epochs"]),
                    f"{found['seconds']:.0f} s",
                )
            )
    return "\n".join(table_lines(header, rows))


def draw(settings: Settings, numbers: dict[str, Any], path: Path) -> None:
    """Test accuracies by network and method: ours and the published ones."""
    axes, save = new_figure(len(settings.plan), size=(1 + 3.5 * len(settings.plan), 4))
    kinds = (
        (numbers, "test", "ours: mean", {"marker": "o", "color": BLUE}),
        (numbers, "best_test", "ours: best member", {"marker": "^", "color": GREEN}),
        (_PUBLISHED, "test", "published: mean", {"marker": "_", "ms": 14, "color": ORANGE}),
        (_PUBLISHED, "best_test", "published: best", {"marker": "x", "color": RED}),
    )
    for ax, (network, names) in zip(axes, settings.plan.items(), strict=True):
        for source, key, text, style in kinds:
            heights = [source.get(f"{network}, {name}", {}).get(key, np.nan) for name in names]
            ax.plot(range(len(names)), heights, ls="none", label=text, **style)
        ax.set_xticks(range(len(names)), names, rotation=45, ha="right")
        ax.set(title=network, xlim=(-0.5, len(names) - 0.5))
    axes[0].set_ylabel("test accuracy")
    axes[0].legend(frameon=False, fontsize="small")
    save(path)
