"""Dense networks with step activations, whose loss has no gradient in the first layer.

The activation of the hidden units is Heaviside's step function, 1 for z > 0 and 0 otherwise. Its
derivative is zero wherever it exists. The derivative of the loss with respect to all weights before
the step is therefore zero, and `torch` returns zeros for these weights. Gradient descent ("SGD" in
the table) learns only the last layer, and the hidden units keep their initial weights. The last
layer and the loss are differentiable. The comparison has no surrogates for the derivative of the
step, such as the straight-through estimator [2]_.

EKI uses only outputs. Over members with spread γ, the mean of the outputs is a smooth function of
ū, and the covariance of outputs and parameters gives its slope. Candidates for γ were 0.1, 1 and 2
in units of the prior's spread. The best in about forty steps was γ = 1. For ReLU, γ is 0.02.

`CurvatureEKI` treats the network as a black box and expands the loss around the mean of the
members' outputs. "EKI(R)" is `LossEKI` with `Spread`. "Factored" is `CurvatureEKI` with the members
of `learning.rank_one`. "Local" has the members of `learning.per_datum`, for which γ = 0.3 was the
best of 0.1, 0.3 and 1. These two are far cheaper, but they need access to the layers.

The networks are 784-100-10. [1]_ reports about 85 % on Fashion-MNIST for the same network with
Heaviside's function, trained by EKI, and 87 % for ReLU. Its settings are not published. For the
step function, γ and the damping were chosen on the last 5,000 training images of MNIST, which are
not used for training. Fashion-MNIST has the same settings. The settings of ReLU and of "EKI(R)"
were not tuned.

References
----------
.. [1] Kovachki & Stuart (2019), Inverse Problems 35, 095005.
.. [2] Bengio, Léonard & Courville (2013), arXiv:1308.3432.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ekitools.experiments.frame import new_figure
from ekitools.experiments.image_learning import train
from ekitools.experiments.images import Data, split_of
from ekitools.experiments.learning.loop import learned
from ekitools.experiments.learning.options import Factored, Local
from ekitools.experiments.recipes import CurvatureLearning, Descent, Learning, Recipe
from ekitools.plots.style import BLUE, GREEN, GREY, ORANGE, RED
from ekitools.results.tables import table_lines

__all__ = ["PUBLISHED", "SETTINGS", "Factored", "Settings", "compute", "draw", "parts", "table"]

PUBLISHED = {"fashion_mnist, step": 0.85, "fashion_mnist, ReLU": 0.87}
"""Test accuracies, by data and activation."""

_COLOURS = {"SGD": ORANGE, "EKI(R)": GREEN, "CurvatureEKI": BLUE, "factored": RED, "local": GREY}
_NAMES = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}


_Recipes = dict[str, Recipe | Factored | Local]


@dataclass(frozen=True)
class Settings:
    """The data sets, and the recipes by which the networks learn."""

    data: tuple[str, ...]
    recipes: _Recipes
    """Recipes by activation and method."""
    validation: int = 5000
    seed: int = 0


_DESCENT = {f"{activation}, SGD": Descent(3, 0.1) for activation in ("step", "ReLU")}


def _factored(steps: int, members: int, batch: int) -> _Recipes:
    """Recipes with all components of the inputs, unweighted, and constant batches and damping."""
    options: dict[str, Any] = {"components": 784, "weighting": 0.0, "memory": 0}
    options |= {"batch_growth": 1.0, "damping_growth": 1.0, "averaging": 0.9}
    plain = Factored(steps, members=members, batch=batch, **options)
    return {
        "step, factored": replace(plain, damping=1.0, gamma=1.0),
        "ReLU, factored": replace(plain, damping=1.0, gamma=0.02),
    }


def _local(steps: int) -> _Recipes:
    """Recipes with the defaults except for γ and constant batches."""
    return {
        "step, local": Local(steps, gamma=0.3, batch_growth=1.0),
        "ReLU, local": Local(steps, batch_growth=1.0),
    }


def _black_box(epochs: int, n_members: int, batch: int) -> _Recipes:
    plain = CurvatureLearning(n_members, epochs, damping=0.3, batch=batch)
    return {
        "step, CurvatureEKI": replace(plain, gamma=1.0),
        "ReLU, CurvatureEKI": replace(plain, gamma=0.02),
    }


def _redrawn(epochs: int, n_members: int) -> _Recipes:
    return {"step, EKI(R)": Learning(n_members, epochs, h=10.0, redraw="step", gamma=1.0)}


_BOTH = ("mnist", "fashion_mnist")
_ONE_EPOCH = {"step, CurvatureEKI": CurvatureLearning(200, 1, damping=0.3, gamma=1.0)}
SETTINGS = {
    "small": Settings(_BOTH, _DESCENT | _ONE_EPOCH | _factored(100, 200, 2000) | _local(500)),
    "medium": Settings(
        _BOTH,
        _DESCENT
        | _factored(500, 400, 3000)
        | _local(1000)
        | _redrawn(2, 200)
        | _black_box(4, 200, 2000),
    ),
    "paper": Settings(
        _BOTH,
        _DESCENT
        | _factored(1000, 1500, 5000)
        | _local(1500)
        | _redrawn(20, 2000)
        | _black_box(20, 1000, 5000),
    ),
}


def parts(settings: Settings) -> list[str]:
    """Labels of the parts, such as "mnist, step, CurvatureEKI"."""
    return [f"{data}, {name}" for data in settings.data for name in settings.recipes]


def compute(
    settings: Settings, label: str, folder: Path, progress: bool, device: str = "cpu"
) -> dict[str, Any]:
    """Accuracies of one network on one data set.

    Returns
    -------
    dict
        ``validation`` and ``test`` are accuracies at the end: of the mean of the members, or, for
        "factored" and "local", of the average of these means. ``trace`` has rows of (epochs,
        validation, test) during the run. ``status`` is the code of the status.
    """
    name, activation, method = label.split(", ")
    recipe = settings.recipes[f"{activation}, {method}"]
    data = Data(name, settings.validation)  # type: ignore[arg-type]
    if isinstance(recipe, Factored | Local):
        found = learned(
            recipe,
            "DNN 2",
            data,
            seed=settings.seed,
            folder=folder,
            progress=progress,
            device=device,
            activation=activation,
        )
        epoch = found["n_train"] / recipe.batch
        trace = [
            [at["step"] / epoch, at["average_validation"], at["average_test"]]
            for at in found["trace"]
        ]
        return {**_ends(trace), "status": "budget_spent"}
    found = train(
        recipe,
        "DNN 2",
        split_of(data),
        seed=settings.seed,
        folder=folder,
        progress=progress,
        device=device,
        activation=activation,
    )
    trace = [[i + 1, e["validation"], e["test"]] for i, e in enumerate(found["by_epoch"])]
    return {**_ends(trace), "status": found["status"]}


def table(settings: Settings, numbers: dict[str, Any]) -> str:
    """Table of the final and the published accuracies."""
    header = (
        *("784-100-10", "activation", "method", "gamma", "J"),
        *("validation", "test", "published", "epochs", "time"),
    )
    rows = []
    for label in filter(numbers.__contains__, parts(settings)):
        name, activation, method = label.split(", ")
        found, recipe = numbers[label], settings.recipes[f"{activation}, {method}"]
        value = None if method == "SGD" else PUBLISHED.get(f"{name}, {activation}")
        rows.append(
            (
                *(_NAMES[name], activation, method),
                str(getattr(recipe, "gamma", "-")),
                str(getattr(recipe, "members", getattr(recipe, "n_members", "-"))),
                f"{found['validation']:.4f}",
                f"{found['test']:.4f}",
                "-" if value is None else f"{value:.2f}",
                f"{found['trace'][-1][0]:.1f}",
                f"{found['seconds']:.0f} s",
            )
        )
    return "\n".join(table_lines(header, rows))


def draw(settings: Settings, numbers: dict[str, Any], path: Path) -> None:
    """Draw the test accuracies by epoch."""
    axes, save = new_figure(len(settings.data), size=(2.2 + 4.4 * len(settings.data), 4))
    for ax, name in zip(axes, settings.data, strict=True):
        for key in settings.recipes:
            found = numbers.get(f"{name}, {key}")
            if found is not None:
                activation, method = key.split(", ")
                epochs, _, test = zip(*found["trace"], strict=True)
                style = "o-" if activation == "step" else "o--"
                ax.plot(epochs, test, style, ms=3.5, color=_COLOURS[method], label=key)
        ax.set(xlabel="epochs", title=f"{_NAMES[name]}, 784-100-10")
    axes[0].set_ylabel("test accuracy of the mean")
    axes[-1].legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    save(path)


def _ends(trace: list[list[float]]) -> dict[str, Any]:
    return {"validation": trace[-1][1], "test": trace[-1][2], "trace": trace}
