r"""A classifier learned from its errors alone, by the 0-1 loss.

The loss is the number of samples that are classified wrongly. It jumps where a sample changes sides
and is flat everywhere else. Hence its gradient is zero wherever it exists, in the parameters and in
the outputs of the network. Gradient descent needs another loss: "SGD" in the table minimises
cross-entropy.

`LossEKI` and `CurvatureEKI` need the gradient of the loss in the outputs of the model, which the
0-1 loss does not have. Therefore the outputs are the errors: G(u) = e, where e_i is 1 if sample i
of the batch is classified wrongly and 0 otherwise. With data y = 0, least squares is the 0-1 loss
and no surrogate, because e_i² = e_i (see `ErrorIndicators`). Then

.. math::
    D_{jk} = \tfrac1J \langle e(u^{(k)}) - \bar e, e(u^{(j)}) \rangle

depends on errors alone. Members are redrawn around their mean (`Spread`). The mean ē of their
errors is the rate at which a sample is misclassified near ū, which is a smooth function of ū. The
steps decrease ½‖ē‖², the sum of the squared rates, which gives more weight to samples that are
misclassified more often. "EKI(R)" is `LossEKI`. "CurvatureEKI" is its Kalman form, the analysis of
the mean for the same least squares.

"MNIST" has no hidden layer (784-10), and "MNIST, hidden layer" has one (784-100-10). The two moons
are points in a plane, made by `moons`, and their network is 2-100-2. Settings of the 0-1 loss were
chosen on validation data without a hidden layer. Those of cross-entropy on MNIST are the settings
of `mnist_dense`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ekitools.experiments.frame import new_figure
from ekitools.experiments.image_learning import train
from ekitools.experiments.images import MNIST, Data, Split, split_of
from ekitools.experiments.recipes import CurvatureLearning, Descent, Learning, Recipe
from ekitools.plots.style import BLUE, GREEN, ORANGE
from ekitools.results.tables import table_lines

__all__ = ["PUBLISHED", "SETTINGS", "Settings", "compute", "draw", "moons", "parts", "table"]

PUBLISHED: dict[str, Any] = {}

_NETWORKS = {"two moons": "DNN 2", "MNIST": "DNN 1", "MNIST, hidden layer": "DNN 2"}
_COLOURS = {"EKI(R)": BLUE, "CurvatureEKI": GREEN, "SGD": ORANGE}


@dataclass(frozen=True)
class Settings:
    """The problems, and the recipes by which they are learned.

    Parameters
    ----------
    recipes : dict
        Recipes by problem, and by loss and method.
    data : Data
        The images and their split.
    seed : int
        Seed of every run and of the two moons.
    """

    recipes: dict[str, dict[str, Recipe]]
    data: Data = MNIST
    seed: int = 0


_MOONS: dict[str, Recipe] = {
    "zero-one, EKI(R)": Learning(200, 40, h=10.0, redraw="step", gamma=0.3, batch=500),
    "zero-one, CurvatureEKI": CurvatureLearning(200, 40, damping=0.01, gamma=0.5, batch=1000),
    "cross-entropy, EKI(R)": Learning(200, 40, h=10.0, redraw="step", gamma=0.3, batch=500),
    "cross-entropy, SGD": Descent(40, 0.5, batch=50),
}


def _images(n_members: int, epochs: int) -> dict[str, Recipe]:
    return {
        "zero-one, EKI(R)": Learning(n_members, epochs, h=3.0, redraw="step", gamma=0.3),
        "zero-one, CurvatureEKI": CurvatureLearning(n_members, epochs, damping=0.01, gamma=1.0),
        "cross-entropy, EKI(R)": Learning(n_members, epochs, h=10.0, redraw="step", gamma=0.3),
        "cross-entropy, SGD": Descent(epochs, 0.1),
    }


SETTINGS = {
    "small": Settings({"two moons": _MOONS, "MNIST": _images(200, 3)}),
    "medium": Settings(
        {"two moons": _MOONS, "MNIST": _images(500, 10), "MNIST, hidden layer": _images(200, 3)}
    ),
    "paper": Settings(
        {"two moons": _MOONS, "MNIST": _images(2000, 50), "MNIST, hidden layer": _images(2000, 50)}
    ),
}


def moons(seed: int, *, n: int = 2000, noise: float = 0.2) -> Split:
    """Two interleaved half circles with normal noise: ``n`` points for each of three sets.

    Examples
    --------
    >>> from ekitools.experiments.zero_one_loss import moons
    >>> split = moons(0, n=10, noise=0.0)
    >>> split.x_train.shape, int(split.y_test.sum())
    ((10, 2), 5)
    """
    rng = np.random.default_rng(seed)

    def some() -> tuple[np.ndarray, np.ndarray]:
        y, angle = np.arange(n) % 2, np.pi * rng.uniform(size=n)
        x = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        x[y == 1] = np.array([1.0, 0.5]) - x[y == 1]
        x += noise * rng.standard_normal((n, 2)) - np.array([0.5, 0.25])
        return x.astype(np.float32), y

    return Split(*some(), *some(), *some(), 2)


def parts(settings: Settings) -> list[str]:
    """Labels such as "MNIST, zero-one, EKI(R)"."""
    return [f"{name}, {key}" for name, recipes in settings.recipes.items() for key in recipes]


def compute(
    settings: Settings, label: str, folder: Path, progress: bool, device: str = "cpu"
) -> dict[str, Any]:
    """Accuracies of one method, by epoch."""
    name, loss, method = label.rsplit(", ", 2)
    return train(
        settings.recipes[name][f"{loss}, {method}"],
        _NETWORKS[name],
        moons(settings.seed) if name == "two moons" else split_of(settings.data),
        seed=settings.seed,
        folder=folder,
        progress=progress,
        device=device,
        loss=loss,
    )


def table(settings: Settings, numbers: dict[str, Any]) -> str:
    """Accuracies after the last epoch."""
    header = (
        *("problem", "loss", "method", "J", "parameters"),
        *("validation", "test", "epochs", "time"),
    )
    rows = []
    for label in filter(numbers.__contains__, parts(settings)):
        name, loss, method = label.rsplit(", ", 2)
        recipe, found = settings.recipes[name][f"{loss}, {method}"], numbers[label]
        rows.append(
            (
                *(name, loss, method),
                str(getattr(recipe, "n_members", "-")),
                str(found["parameters"]),
                f"{found['validation']:.4f}",
                f"{found['test']:.4f}",
                str(found["epochs"]),
                f"{found['seconds']:.0f} s",
            )
        )
    return "\n".join(table_lines(header, rows))


def draw(settings: Settings, numbers: dict[str, Any], path: Path) -> None:
    """Test errors of the mean by epoch."""
    axes, save = new_figure(len(settings.recipes), size=(1 + 4 * len(settings.recipes), 4))
    for ax, (name, recipes) in zip(axes, settings.recipes.items(), strict=True):
        for key in recipes:
            found = numbers.get(f"{name}, {key}")
            if found is not None:
                loss, method = key.split(", ")
                errors = [100 * (1 - each["test"]) for each in found["by_epoch"]]
                style = "o-" if loss == "zero-one" else "o--"
                ax.plot(
                    range(1, len(errors) + 1),
                    errors,
                    style,
                    ms=3,
                    color=_COLOURS[method],
                    label=key,
                )
        ax.set(xlabel="epoch", title=name, ylim=(0, None))
        ax.xaxis.get_major_locator().set_params(integer=True)
    axes[0].set_ylabel("test errors, %")
    axes[-1].legend(frameon=False, fontsize="small")
    save(path)
