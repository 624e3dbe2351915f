"""Experiments with one kind of members on several networks: the accuracies by step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ekitools.experiments import published
from ekitools.experiments.frame import new_figure
from ekitools.experiments.images import MNIST, Data
from ekitools.experiments.learning.loop import learned
from ekitools.experiments.learning.options import Options
from ekitools.experiments.networks import CONVOLUTIONAL, NETWORKS
from ekitools.plots.style import BLUE, GREEN, ORANGE, RED
from ekitools.results.tables import table_lines

__all__ = ["PUBLISHED", "Settings", "compute", "draw", "parts", "table"]

_METHODS = {"SGD": "SGD", "MSGD": "momentum SGD", "EKI(R)": "EKI(R), mean"}
PUBLISHED = {
    f"{network}, {text}": value["test"]
    for network in (*NETWORKS, *CONVOLUTIONAL)
    for name, text in _METHODS.items()
    if (value := (published.DENSE | published.CONVOLUTIONAL).get(f"{network}, {name}"))
}
"""Published test accuracies of the mean, by network and method."""


@dataclass(frozen=True)
class Settings:
    """The networks and their options, the number of starts, and the images."""

    networks: Mapping[str, Options]
    seeds: int = 1
    data: Data = MNIST


def parts(settings: Settings) -> list[str]:
    """Labels such as "DNN 2, seed 0"."""
    return [
        f"{network}, seed {seed}" for network in settings.networks for seed in range(settings.seeds)
    ]


def compute(
    settings: Settings, label: str, folder: Path, progress: bool, device: str = "cpu"
) -> dict[str, Any]:
    """Accuracies along a run, of the mean and of the average of the means."""
    network, seed = label.split(", seed ")
    options = settings.networks[network]
    return learned(
        *(options, network, settings.data),
        seed=int(seed),
        folder=folder,
        progress=progress,
        device=device,
    )


def table(settings: Settings, numbers: dict[str, Any]) -> str:  # noqa: ARG001 - of all
    """Accuracies at the end, beside the published ones."""
    header = ("run", "p", "validation", "test", "averaged", "published", "steps", "minutes")
    rows = []
    for label, found in numbers.items():
        published = PUBLISHED[f"{label.split(', ')[0]}, EKI(R), mean"]
        cells = [
            f"{found[name]:.4f}" if name in found else "-"
            for name in ("average_validation", "test", "average_test")
        ]
        minutes = f"{found['seconds'] / 60:.1f}"
        p, steps = str(found["parameters"]), str(found["step"])
        rows.append((label, p, *cells, f"{published:.4f}", steps, minutes))
    return "\n".join(table_lines(header, rows))


def draw(settings: Settings, numbers: dict[str, Any], path: Path) -> None:
    """Test accuracies by step, with the published ones."""
    axes, save = new_figure(len(settings.networks), size=(1 + 4.2 * len(settings.networks), 4.2))
    for ax, network in zip(axes, settings.networks, strict=True):
        for label in (label for label in numbers if label.startswith(network)):
            trace = numbers[label]["trace"]
            steps = [found["step"] for found in trace]
            for name, style in (("test", ":"), ("average_test", "-")):
                ax.plot(steps, [found[name] for found in trace], ls=style, color=BLUE)
        published = []
        for name, colour in zip(_METHODS.values(), (GREEN, RED, ORANGE), strict=True):
            value = PUBLISHED.get(f"{network}, {name}")
            if value is not None:
                ax.axhline(value, color=colour, lw=1, ls="--", label=f"published: {name}")
                published.append(value)
        ax.set(xlabel="step", title=network)
        ax.set_ylim(min(published) - 0.02, min(1.0, ax.get_ylim()[1]))
    axes[0].set_ylabel("test accuracy")
    axes[0].plot([], [], color=BLUE, label="averaged mean")
    axes[0].plot([], [], color=BLUE, ls=":", label="mean")
    axes[0].legend(frameon=False, loc="lower right", fontsize="small")
    save(path)
