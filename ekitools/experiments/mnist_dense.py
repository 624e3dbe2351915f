"""Dense networks on MNIST: four networks, gradient descent and ensemble Kalman inversion.

The table of [1]_ has the final test accuracies of six methods, at J = 2000; `CurvatureEKI` is a
row of our own. Batches, rates and numbers of epochs are not published with it. At the scale
"paper" members are redrawn once an epoch with γ = 1, h = 2 and ε = 0.5; at the smaller ones at
every step, with less spread and other h, which learns far more from few members. Those were
chosen on the validation set, never on test data.

References
----------
.. [1] Kovachki & Stuart (2019), Inverse Problems 35, 095005, and slides of a talk on it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ekitools.experiments._mnist import (
    EKI_METHODS,
    CurvatureLearning,
    Data,
    Descent,
    Learning,
    Recipe,
    new_figure,
    split_of,
    train,
)
from ekitools.plots.style import BLUE, GREEN, ORANGE, RED
from ekitools.results.tables import table_lines

__all__ = ["PUBLISHED", "SETTINGS", "Settings", "compute", "draw", "parts", "table"]

_OURS = "CurvatureEKI"


@dataclass(frozen=True)
class Settings:
    """Which methods train which networks, and how."""

    plan: dict[str, tuple[str, ...]]
    """Network to its methods."""
    methods: dict[str, Recipe]
    data: Data = Data()
    seed: int = 0


def _published() -> dict[str, dict[str, float]]:
    """By part, as the table has it, column by column."""
    table = {
        "DNN 1": (0.9199, 0.9257, 0.9092, 0.9114, 0.9094, 0.9107, 0.9252, 0.9260, 0.9142, 0.9162),
        "DNN 2": (0.9735, 0.9807, 0.9398, 0.9416, 0.9320, 0.9332, 0.9721, 0.9695, 0.9509, 0.9511),
        "DNN 3": (0.9798, 0.9830, 0.9424, 0.9432, None, None, 0.9738, 0.9716, None, None),
        "DNN 4": (0.9818, 0.9840, 0.9404, 0.9418, None, None, 0.9741, 0.9691, None, None),
    }
    rows: dict[str, dict[str, float]] = {}
    keys = [("SGD", "test"), ("MSGD", "test")]
    keys += [(method, key) for method in EKI_METHODS for key in ("test", "best_test")]
    for network, column in table.items():
        for (method, key), value in zip(keys, column, strict=True):
            if value is not None:
                rows.setdefault(f"{network}, {method}", {})[key] = value
    return rows


PUBLISHED = _published()

_ALL = ("SGD", "MSGD", *EKI_METHODS, _OURS)
_SMALL: dict[str, Recipe] = {
    "SGD": Descent(5, 0.1),
    "MSGD": Descent(5, 0.05, 0.9),
    "EKI": Learning(200, 3),  # its accuracy stays what it is after the first
    "MEKI": Learning(200, 3, momentum=True),
    "EKI(R)": Learning(200, 5, h=10.0, redraw="step", gamma=0.3),
    # momentum is n/(n + 3), so the noise of batches adds up: of h = 2, 0.5, 0.1 only the last keeps
    # its accuracy for five epochs
    "MEKI(R)": Learning(200, 5, h=0.1, redraw="step", gamma=0.3, momentum=True),
    _OURS: CurvatureLearning(200, 5, damping=0.3, batch=3000),
}


def _longer(epochs: int, n_members: int) -> dict[str, Recipe]:
    return {
        name: replace(recipe, epochs=epochs)
        if isinstance(recipe, Descent)
        else replace(recipe, epochs=epochs, n_members=n_members)
        for name, recipe in _SMALL.items()
    }


_LETTER: dict[str, Recipe] = {
    "EKI(R)": Learning(2000, 50, redraw="epoch"),
    "MEKI(R)": Learning(2000, 50, redraw="epoch", momentum=True),
}
_SHORT_PLAN = tuple(name for name in _ALL if name not in ("MEKI", "MEKI(R)"))
SETTINGS = {
    "small": Settings({"DNN 1": _ALL, "DNN 2": ("SGD", "MSGD", _OURS)}, _SMALL),
    "medium": Settings({"DNN 1": _ALL, "DNN 2": _ALL}, _longer(20, 500)),
    "paper": Settings(
        {"DNN 1": _ALL, "DNN 2": _ALL, "DNN 3": _SHORT_PLAN, "DNN 4": _SHORT_PLAN},
        _longer(50, 2000) | _LETTER,
    ),
}


def parts(settings: Settings) -> list[str]:
    """Such as "DNN 1, EKI(R)"."""
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


def table(settings: Settings, numbers: dict[str, Any], published: Any = PUBLISHED) -> str:
    """Accuracies of the mean and of the best member, beside the published ones."""
    header = ("part", "predicts with", "validation", "test", "published", "epochs", "time")
    rows = []
    for label in filter(numbers.__contains__, parts(settings)):
        found = numbers[label]
        for key, text in (("", "mean"), ("best_", "best member")):
            if f"{key}test" not in found:
                continue
            value = published.get(label, {}).get(f"{key}test")
            rows.append(
                (
                    f"{label} (ours)" if label.endswith(_OURS) else label,
                    text if "best_test" in found else "its only u",
                    f"{found.get(f'{key}validation', float('nan')):.4f}",
                    f"{found[f'{key}test']:.4f}",
                    "-" if value is None else f"{value:.4f}",
                    str(found["epochs"]),
                    f"{found['seconds']:.0f} s",
                )
            )
    return "\n".join(table_lines(header, rows))


def draw(
    settings: Settings, numbers: dict[str, Any], path: Path, published: Any = PUBLISHED
) -> None:
    """Test accuracies by network and method, ours and the published."""
    axes, save = new_figure(len(settings.plan), size=(1 + 3.5 * len(settings.plan), 4))
    kinds = (
        (numbers, "test", "ours: mean", {"marker": "o", "color": BLUE}),
        (numbers, "best_test", "ours: best member", {"marker": "^", "color": GREEN}),
        (published, "test", "published: mean", {"marker": "_", "ms": 14, "color": ORANGE}),
        (published, "best_test", "published: best", {"marker": "x", "color": RED}),
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
