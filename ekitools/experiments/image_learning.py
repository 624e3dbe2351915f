"""Training of networks on images, by ensemble Kalman inversion and by gradient descent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

import ekitools as ek
from ekitools.experiments.error_indicators import ErrorIndicators
from ekitools.experiments.frame import progress_bar, require_torch, write_json
from ekitools.experiments.images import Split, accuracy
from ekitools.experiments.networks import build
from ekitools.typing import Method

__all__ = ["LOSSES", "CurvatureLearning", "Descent", "Learning", "Recipe", "train"]

LOSSES = ("cross-entropy", "zero-one")
"""The second is ½ ‖e‖², half the number of errors e, which are outputs of `ErrorIndicators`."""


@dataclass(frozen=True)
class Descent:
    """Stochastic gradient descent by `torch.optim`, from one draw of the prior."""

    epochs: int
    rate: float
    momentum: float = 0.0
    batch: int = 100


@dataclass(frozen=True)
class Learning:
    """`LossEKI` with h_n = h/(‖D‖ + ε), with or without redraws and momentum."""

    n_members: int
    epochs: int
    h: float = 2.0
    epsilon: float = 0.5
    redraw: Literal["never", "step", "epoch"] = "never"
    gamma: float = 1.0
    """Spread γ of the redrawn members."""
    decay: float = 0.0
    """Decay of γ by step."""
    momentum: bool = False
    batch: int = 600

    def method(self, steps_per_epoch: int) -> Method:
        """The method of ekitools with these options."""
        spread = None
        if self.redraw != "never":
            every = steps_per_epoch if self.redraw == "epoch" else 1
            spread = ek.Spread(self.gamma, every=every, decay=self.decay)
        method = ek.LossEKI(ek.NormStep(self.h, self.epsilon), spread)
        return ek.Nesterov(method) if self.momentum else method


@dataclass(frozen=True)
class CurvatureLearning:
    """`CurvatureEKI`, a method of ekitools that is not among the published methods."""

    n_members: int
    epochs: int
    damping: float = 1.0
    memory: int = 0
    batch: int = 2000
    gamma: float = 0.02
    """Spread of the members. A wide spread smooths the jumps of G."""

    def method(self, steps_per_epoch: int) -> Method:  # noqa: ARG002 - the signature of `Learning.method`
        """The method of ekitools with these options."""
        return ek.CurvatureEKI(self.gamma, self.damping, memory=self.memory)


Recipe = Descent | Learning | CurvatureLearning


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
    """Train one network by one method, from the checkpoint in ``folder`` if there is one.

    Parameters
    ----------
    recipe : Recipe
        The method and its options.
    network : str
        A network of `ekitools.experiments.networks`.
    split : Split
        The images.
    seed : int
        Seed of the start, of the batches and of the members.
    folder : Path
        Folder for checkpoints.
    progress : bool
        Whether to show a progress bar.
    activation : str, default "ReLU"
        Activation of the hidden layers of a dense network: "ReLU" or "step".
    loss : str, default "cross-entropy"
        One of `LOSSES`. `Descent` has cross-entropy alone.

    Returns
    -------
    dict
        Accuracies after the last epoch: ``test`` and ``validation`` of the mean, and, except for
        `Descent`, ``best_test`` and ``best_validation`` of the member with the lowest misfit. The
        same for every epoch in ``by_epoch``. Also ``parameters``, ``epochs`` and ``status``.

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
    """The problem with the training set and one of `LOSSES`."""
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
    """Accuracies by epoch, and the status. Every epoch ends with a checkpoint of the run."""
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
                        on_failure="drop",  # a scheme that diverges is to be seen
                        checkpoint=run,
                        **options,
                    )
            except ek.RunError:
                if not by_epoch:
                    raise
                return by_epoch, "failed"  # other parts can still be computed
            status = result.attrs["status_code"]
            if status == "interrupted":  # otherwise half an epoch would count as a whole one
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
    """Accuracies by epoch of gradient descent, which trains the module of ``model``."""
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
    """Draws of the prior in single precision, in pieces, because all in double may not fit."""
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
