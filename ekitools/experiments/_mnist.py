"""What the experiments with networks on images share: data, networks, training."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

import ekitools as ek
from ekitools.experiments._errors import ErrorIndicators
from ekitools.experiments._networks import CONVOLUTIONAL, build
from ekitools.experiments.frame import write_json
from ekitools.plots.style import detached
from ekitools.typing import Method

__all__ = [
    "EKI_METHODS",
    "LOSSES",
    "CurvatureLearning",
    "Data",
    "Descent",
    "Learning",
    "Recipe",
    "Split",
    "accuracy",
    "data_for",
    "new_figure",
    "progress_bar",
    "require_torch",
    "split_of",
    "train",
]

LOSSES = ("cross-entropy", "zero-one")
"""The second is ½ ‖e‖², half the number of errors, of outputs e as `ErrorIndicators` has them."""
EKI_METHODS = ("EKI", "MEKI", "EKI(R)", "MEKI(R)")
_AT_ONCE = 1000
"""Images classified at once."""


@dataclass(frozen=True)
class Data:
    """Which images, and how they are scaled."""

    name: Literal["mnist", "fashion_mnist", "svhn"] = "mnist"
    validation: int = 5000
    """How many images at the end of the training set are not trained with."""
    n_train: int | None = None
    """How many of the others are trained with; all by default."""
    centred: bool = True
    """Whether the mean image is subtracted, and divided by twice the standard deviation of all
    pixels; else grey values are between 0 and 1."""


@dataclass(frozen=True)
class Descent:
    """Stochastic gradient descent by `torch.optim`, from one draw of the prior."""

    epochs: int
    rate: float
    momentum: float = 0.0
    batch: int = 100


@dataclass(frozen=True)
class Learning:
    """`LossEKI` with h_n = h/(‖D‖ + ε), members redrawn or not, with momentum or without."""

    n_members: int
    epochs: int
    h: float = 2.0
    epsilon: float = 0.5
    redraw: Literal["never", "step", "epoch"] = "never"
    gamma: float = 1.0
    """γ of a redraw."""
    decay: float = 0.0
    """Of γ, by step."""
    momentum: bool = False
    batch: int = 600

    def method(self, steps_per_epoch: int) -> Method:
        """As an ekitools method."""
        spread = None
        if self.redraw != "never":
            every = steps_per_epoch if self.redraw == "epoch" else 1
            spread = ek.Spread(self.gamma, every=every, decay=self.decay)
        method = ek.LossEKI(ek.NormStep(self.h, self.epsilon), spread)
        return ek.Nesterov(method) if self.momentum else method


@dataclass(frozen=True)
class CurvatureLearning:
    """`CurvatureEKI`: ekitools' own, not among the published methods."""

    n_members: int
    epochs: int
    damping: float = 1.0
    memory: int = 0
    batch: int = 2000
    gamma: float = 0.02
    """Spread of the members; wide, jumps of G are smoothed."""

    def method(self, steps_per_epoch: int) -> Method:  # noqa: ARG002 - as the other has it
        """As an ekitools method."""
        return ek.CurvatureEKI(self.gamma, self.damping, memory=self.memory)


Recipe = Descent | Learning | CurvatureLearning


class Split(NamedTuple):
    """Images as rows of float32, and their labels."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_validation: np.ndarray
    y_validation: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    n_classes: int


def require_torch() -> None:
    """An error that says how to get it, where it is missing."""
    if find_spec("torch") is None:
        raise ImportError(
            "torch: must be installed for networks, and is not. Use pip install 'ekitools[torch]'."
        )


def data_for(network: str, data: Data) -> Data:
    """The images that a convolutional network is for: house numbers where it takes colours."""
    in_colour = CONVOLUTIONAL[network].image[0] == 3
    return replace(data, name="svhn" if in_colour else "mnist")


def split_of(data: Data) -> Split:
    """Train, validation and test set; the scaling is that of the training set."""
    images = getattr(ek.datasets, data.name)()
    cut = len(images.y_train) - data.validation
    if not 0 <= data.validation < len(images.y_train):
        raise ValueError(
            f"validation: must be between 0 and {len(images.y_train) - 1}, got {data.validation}."
        )
    x, x_test = (
        _channels_first(each).reshape(len(each), -1).astype(np.float32) / np.float32(255)
        for each in (images.x_train, images.x_test)
    )
    if data.centred:
        mean, scale = x[:cut].mean(axis=0), np.float32(2) * x[:cut].std()
        x, x_test = (x - mean) / scale, (x_test - mean) / scale
    y = images.y_train.astype(np.int64)
    return Split(
        *(x[:cut][: data.n_train], y[:cut][: data.n_train], x[cut:], y[cut:]),
        *(x_test, images.y_test.astype(np.int64), len(images.names)),
    )


def _channels_first(images: np.ndarray) -> np.ndarray:
    return np.moveaxis(images, 3, 1) if images.ndim == 4 else images


def train(
    recipe: Recipe,
    network: str,
    split: Split,
    *,
    seed: int,
    folder: Path,
    progress: bool,
    activation: str = "ReLU",
    loss: str = "cross-entropy",
) -> dict[str, Any]:
    """Train one network by one method; go on where ``folder`` has a checkpoint.

    Parameters
    ----------
    recipe : Recipe
        The method and its options.
    network : str
        As `ekitools.experiments._networks` has them.
    split : Split
        The images.
    seed : int
        Of the start, of the batches and of the members.
    folder : Path
        For checkpoints.
    progress : bool
        Whether to show a bar.
    activation : str, default "ReLU"
        Of every hidden layer of a dense network: "ReLU", or "step".
    loss : str, default "cross-entropy"
        One of `LOSSES`; `Descent` has cross-entropy alone.

    Returns
    -------
    dict
        Accuracies after the last epoch, ``test`` and ``validation`` of the mean, ``best_test`` and
        ``best_validation`` of the member with the lowest misfit (not of `Descent`), the same
        ``by_epoch``, and ``parameters``, ``epochs`` and ``status``.

    Raises
    ------
    ImportError
        If torch is not installed.
    RunError
        If the run fails within its first epoch.
    """
    require_torch()
    from ekitools.adapters.torch import TorchModel

    model = TorchModel(build(network, split.x_train.shape[1], split.n_classes, activation))
    prior = ek.GaussianPrior(0.0, model.glorot_variances())
    if isinstance(recipe, Descent):
        model.load(prior.sample(1, rng=seed)[0])
        by_epoch, status = _descended(recipe, model, split, seed, progress), "budget_spent"
    else:
        problem = _problem(model, prior, split, recipe.batch, loss)
        by_epoch, status = _learned(recipe, problem, model, split, seed, folder, progress)
    return {
        **by_epoch[-1],
        "parameters": model.n_parameters,
        "epochs": len(by_epoch),
        "status": status,
        "by_epoch": by_epoch,
    }


def _problem(model: Any, prior: Any, split: Split, batch: int, loss: str) -> ek.InverseProblem:
    """The training set and one of `LOSSES`."""
    if loss == "zero-one":
        rows, zeros = np.arange(len(split.y_train)), np.zeros(len(split.y_train), np.float32)
        errors = ErrorIndicators(model, split.x_train, split.y_train)
        return ek.InverseProblem(errors, prior, 1.0, ek.MiniBatches(rows, zeros, batch))
    one_hot = np.eye(split.n_classes, dtype=np.float32)[split.y_train]
    data = ek.MiniBatches(split.x_train, one_hot, batch)
    return ek.InverseProblem(model, prior, ek.CrossEntropy(split.n_classes), data)


def _learned(
    recipe: Learning | CurvatureLearning,
    problem: ek.InverseProblem,
    model: Any,
    split: Split,
    seed: int,
    folder: Path,
    progress: bool,
) -> tuple[list[dict[str, float]], str]:
    """An epoch is a segment of the run, so that its accuracies survive with its checkpoint."""
    epoch = problem.data.steps_per_epoch
    log, run = folder / "accuracies.json", folder / "run"
    by_epoch = json.loads(log.read_text("utf-8")) if log.exists() else []
    status = "budget_spent"
    with progress_bar(recipe.epochs * epoch, progress) as bar:
        bar.update(len(by_epoch) * epoch)
        options: dict[str, Any] = {
            "checkpoint_every": epoch,
            "on_step": lambda info: bar.update(info.iteration - bar.n),
        }
        while len(by_epoch) < recipe.epochs and status == "budget_spent":
            budget = (len(by_epoch) + 1) * epoch
            try:
                if (run / "checkpoint.json").exists():
                    result = ek.resume(run, problem, n_steps=budget, **options)
                else:
                    result = ek.run(
                        problem,
                        recipe.method(epoch),
                        ensemble=_start(problem.prior, recipe.n_members, model.n_parameters, seed),
                        n_steps=budget,
                        rng=seed,
                        store="last",
                        checkpoint=run,
                        **options,
                    )
            except ek.RunError:
                if not by_epoch:
                    raise
                return by_epoch, "failed"  # other parts can still be computed
            status = result.attrs["status_code"]
            if status == "interrupted":  # else half an epoch would pass for the result
                raise KeyboardInterrupt
            mean = result.u[-1].mean("member").values
            best = _accuracies(model, ek.best_member(result).values, split)
            found = _accuracies(model, mean, split)
            by_epoch.append({**found, **{f"best_{name}": value for name, value in best.items()}})
            write_json(log, by_epoch)
    return by_epoch, status


def _descended(
    recipe: Descent, model: Any, split: Split, seed: int, progress: bool
) -> list[dict[str, float]]:
    """With the gradient that torch gives; the module of ``model`` is trained."""
    import torch

    net, rng, by_epoch = model.module, np.random.default_rng(seed), []
    x, y = torch.from_numpy(split.x_train), torch.from_numpy(split.y_train)
    optimiser = torch.optim.SGD(net.parameters(), lr=recipe.rate, momentum=recipe.momentum)
    with progress_bar(recipe.epochs, progress) as bar:
        for _ in range(recipe.epochs):
            order = torch.from_numpy(rng.permutation(len(x)))
            for rows in order[: len(x) - len(x) % recipe.batch].split(recipe.batch):
                optimiser.zero_grad()
                torch.nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
                optimiser.step()
            by_epoch.append(_accuracies(model, model.flat(), split))
            bar.update()
    return by_epoch


def _start(prior: Any, n: int, p: int, seed: int) -> np.ndarray:
    """Draws of the prior in single precision, some at a time: in double they may not fit."""
    u, rng = np.empty((n, p), dtype=np.float32), np.random.default_rng(seed)
    for i in range(0, n, 50):
        u[i : i + 50] = prior.sample(len(u[i : i + 50]), rng=rng)
    return u


def _accuracies(model: Any, u: np.ndarray, split: Split) -> dict[str, float]:
    sets = {
        "validation": (split.x_validation, split.y_validation),
        "test": (split.x_test, split.y_test),
    }
    found = {}
    for name, (x, y) in sets.items():
        if not len(y):
            continue
        found[name] = accuracy(
            lambda part: model(u, inputs=part).reshape(-1, split.n_classes), x, y
        )
    return found


def accuracy(
    logits: Callable[[np.ndarray], np.ndarray], x: np.ndarray, labels: np.ndarray
) -> float:
    """The share of inputs that are classified as they are labelled, some at a time."""
    right = 0
    for i in range(0, len(labels), _AT_ONCE):
        found = logits(x[i : i + _AT_ONCE]).argmax(axis=1)
        right += int(np.sum(found == labels[i : i + _AT_ONCE]))
    return right / len(labels)


def progress_bar(total: int, progress: bool) -> Any:
    """Of tqdm, silent unless ``progress``."""
    from tqdm.auto import tqdm

    return tqdm(total=total, disable=not progress)


def new_figure(columns: int = 1, *, size: tuple[float, float]) -> Any:
    """Axes in a row, of a figure without a window, and the function that saves it."""
    figure, axes = detached(1, columns, figsize=size)
    return np.atleast_1d(axes), partial(figure.savefig, dpi=150)
