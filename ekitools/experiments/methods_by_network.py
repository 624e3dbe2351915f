"""Experiments with several methods on several networks: the final accuracies of every pair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ekitools.experiments import published
from ekitools.experiments.frame import new_figure
from ekitools.experiments.image_learning import train
from ekitools.experiments.images import MNIST, RENDERED, Data, split_of
from ekitools.experiments.recipes import Recipe
from ekitools.experiments.seeds import mean_of, runs_by_label, seed_of, spread_of, with_seeds
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
    methods: Mapping[str, Recipe]
    data: Data = MNIST
    seeds: int = 1


def parts(settings: Settings) -> list[str]:
    """Labels such as "DNN 1, EKI(R)", or "DNN 1, EKI(R), seed 0" for several seeds."""
    pairs = [f"{network}, {name}" for network, names in settings.plan.items() for name in names]
    return with_seeds(pairs, settings.seeds)


def compute(
    settings: Settings, label: str, folder: Path, progress: bool, device: str = "cpu"
) -> dict[str, Any]:
    """Accuracies of one method on one network."""
    pair, seed = seed_of(label)
    network, name = pair.split(", ")
    return train(
        settings.methods[name],
        network,
        split_of(settings.data),
        seed=seed,
        folder=folder,
        progress=progress,
        device=device,
    )


def table(settings: Settings, numbers: dict[str, Any]) -> str:
    """Accuracies of the mean and of the best member, beside the published ones.

    With several seeds they are means over the seeds, with the lowest and the highest in brackets.
    """
    header = ("part", "predicts with", "validation", "test", "published", "epochs", "time")
    rows = []
    for label, runs in runs_by_label(parts(settings), numbers).items():
        for key, text in (("", "mean"), ("best_", "best member")):
            if f"{key}test" not in runs[0]:
                continue
            value = _published(label, f"{key}test", runs)
            rows.append(
                (
                    f"{label} (ours)" if label.endswith(OURS) else label,
                    text if "best_test" in runs[0] else "its only u",
                    f"{mean_of(runs, f'{key}validation'):.4f}",
                    spread_of(runs, f"{key}test"),
                    "-" if np.isnan(value) else f"{value:.4f}",
                    f"{mean_of(runs, 'epochs'):.0f}",
                    f"{mean_of(runs, 'seconds'):.0f} s",
                )
            )
    return "\n".join(table_lines(header, rows))


def draw(settings: Settings, numbers: dict[str, Any], path: Path) -> None:
    """Test accuracies by network and method: ours and the published ones."""
    axes, save = new_figure(len(settings.plan), size=(1 + 3.5 * len(settings.plan), 4))
    runs = runs_by_label(parts(settings), numbers)
    kinds = (
        (False, "test", "ours: mean", {"marker": "o", "color": BLUE}),
        (False, "best_test", "ours: best member", {"marker": "^", "color": GREEN}),
        (True, "test", "published: mean", {"marker": "_", "ms": 14, "color": ORANGE}),
        (True, "best_test", "published: best", {"marker": "x", "color": RED}),
    )
    for ax, (network, names) in zip(axes, settings.plan.items(), strict=True):
        labels = [f"{network}, {name}" for name in names]
        for published_ones, key, text, style in kinds:
            heights = [
                _published(label, key, runs.get(label, []))
                if published_ones
                else mean_of(runs.get(label, []), key)
                for label in labels
            ]
            ax.plot(range(len(names)), heights, ls="none", label=text, **style)
        ax.set_xticks(range(len(names)), names, rotation=45, ha="right")
        ax.set(title=network, xlim=(-0.5, len(names) - 0.5))
    axes[0].set_ylabel("test accuracy")
    axes[0].legend(frameon=False, fontsize="small")
    save(path)


def _published(label: str, key: str, runs: list[dict[str, Any]]) -> float:
    """A published accuracy; NaN where there is none, or where the runs had other images."""
    other_images = any(run["data"] == RENDERED for run in runs)
    return float("nan") if other_images else _PUBLISHED.get(label, {}).get(key, float("nan"))
