"""Training of networks on images, by ensemble Kalman inversion and by gradient descent."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np

import ekitools as ek
from ekitools.core.arrays import host
from ekitools.experiments.devices import placed, require_torch, tf32_products
from ekitools.experiments.error_indicators import ErrorIndicators
from ekitools.experiments.frame import progress_bar, write_json
from ekitools.experiments.images import Split, accuracy
from ekitools.experiments.networks import CONVOLUTIONAL, build
from ekitools.experiments.recipes import CurvatureLearning, Descent, Learning, Recipe

__all__ = ["LOSSES", "train"]

LOSSES = ("cross-entropy", "zero-one")
"""The second is ½ ‖e‖², half the number of errors e, which are outputs of `ErrorIndicators`."""

_SECONDS_BETWEEN_SAVES = 300
"""A checkpoint has a whole ensemble, which for large networks takes longer to write than an epoch
to compute."""


def train(
    recipe: Recipe,
    network: str,
    split: Split,
    *,
    seed: int,
    folder: Path,
    progress: bool,
    device: str = "cpu",
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
    device : str, default "cpu"
        Where the network and its members are. On a CUDA device `Learning` computes products in
        TF32, and convolutional networks in bfloat16.
    activation : str, default "ReLU"
        Activation of the hidden layers of a dense network: "ReLU" or "step".
    loss : str, default "cross-entropy"
        One of `LOSSES`. `Descent` has cross-entropy alone.

    Returns
    -------
    dict
        Accuracies after the last epoch: ``test`` and ``validation`` of the mean, and, except for
        `Descent`, ``best_test`` and ``best_validation`` of the member with the lowest misfit. The
        same for every epoch in ``by_epoch``. Also ``parameters``, ``epochs``, ``status``, the name
        of the ``data`` and the ``precision`` of the network's products.

    Raises
    ------
    ImportError
        If torch is not installed.
    RunError
        If the run fails within its first epoch.
    """
    require_torch()
    from ekitools.adapters.torch import TorchModel

    net = build(network, split.x_train.shape[1], split.n_classes, activation)
    precision = _precision(recipe, network, device)
    model = TorchModel(net.to(device), precision=precision)
    prior = ek.GaussianPrior(0.0, model.glorot_variances())
    if isinstance(recipe, Descent):
        model.load(prior.sample(1, rng=seed)[0])
        by_epoch, status = _descended(recipe, model, split, seed, progress, device), "budget_spent"
    else:
        problem = _problem(model, prior, split, recipe.batch, loss)
        with tf32_products("cpu" if precision is None else device):
            by_epoch, status = _learned(
                recipe, problem, model, split, seed, folder, progress, device
            )
    return {
        **by_epoch[-1],
        "parameters": model.n_parameters,
        "epochs": len(by_epoch),
        "status": status,
        "data": split.name,
        "precision": precision or "float32",
        "by_epoch": by_epoch,
    }


def _precision(recipe: Recipe, network: str, device: str) -> Literal["bfloat16", "tf32"] | None:
    """The precision of the network. `CurvatureEKI` solves systems that need all digits."""
    if device != "cuda" or not isinstance(recipe, Learning):
        return None
    return "bfloat16" if network in CONVOLUTIONAL else "tf32"


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
    device: str,
) -> tuple[list[dict[str, float]], str]:
    """Accuracies by epoch, and the status. Checkpoints of the run are made at ends of epochs."""
    epoch = problem.data.steps_per_epoch
    method, n_steps = recipe.method(epoch), recipe.epochs * epoch
    log, run = folder / "accuracies.json", folder / "run"
    folder.mkdir(parents=True, exist_ok=True)
    kind = placed(np.ones(1, np.float32), device)
    if (run / "checkpoint.json").exists():
        loop = ek.AskTell.load(run, problem, method, like=kind)
        by_epoch = json.loads(log.read_text("utf-8"))
    else:
        start: dict[str, Any] = (
            {"ensemble": _start(problem.prior, recipe.n_members, model.n_parameters, seed)}
            if isinstance(kind, np.ndarray)
            else {"n_members": recipe.n_members, "like": kind, "draws": "device"}
        )
        loop = ek.AskTell(
            problem,
            method,
            **start,
            n_steps=n_steps,
            rng=seed,
            store="final",
            on_failure="drop",  # a scheme that diverges is to be seen
        )
        del start
        by_epoch = []
    saved = time.monotonic()
    with progress_bar(n_steps, progress) as bar:
        while not loop.done:
            bar.update(loop.n - bar.n)
            u = loop.ask()
            g = problem.model(u, inputs=loop.inputs)
            if len(by_epoch) < loop.n // epoch:  # the log may be ahead of the checkpoint
                by_epoch.append(_found(model, problem, loop.data, u, g, split))
                write_json(log, by_epoch)
                if time.monotonic() - saved >= _SECONDS_BETWEEN_SAVES:
                    loop.save(run)
                    saved = time.monotonic()
            try:
                loop.tell(g)
            except ek.RunError:
                if not by_epoch:
                    raise
                return by_epoch, "failed"  # other parts can still be computed
    status = loop.status.code if loop.status is not None else ""
    if status != "budget_spent" and len(by_epoch) <= loop.n // epoch:
        by_epoch.append(_found(model, problem, loop.data, u, g, split))  # of the finite members
    return by_epoch, status


def _found(
    model: Any, problem: ek.InverseProblem, data: np.ndarray, u: Any, g: Any, split: Split
) -> dict[str, float]:
    """Accuracies of the mean, and of the member with the lowest misfit on the batch."""
    misfit = host(problem.noise.misfit(g, data))
    best = int(np.argmin(np.where(np.isfinite(misfit), misfit, np.inf)))
    of_best = _accuracies(model, u[best], split)
    return {
        **_accuracies(model, u.mean(0), split),
        **{f"best_{name}": value for name, value in of_best.items()},
    }


def _descended(
    recipe: Descent, model: Any, split: Split, seed: int, progress: bool, device: str
) -> list[dict[str, float]]:
    """Accuracies by epoch of gradient descent, which trains the module of ``model``."""
    import torch

    net, rng, by_epoch = model.module, np.random.default_rng(seed), []
    x, y = (torch.from_numpy(part).to(device) for part in (split.x_train, split.y_train))
    optimiser = torch.optim.SGD(net.parameters(), lr=recipe.rate, momentum=recipe.momentum)
    with progress_bar(recipe.epochs, progress) as bar:
        for _ in range(recipe.epochs):
            order = torch.from_numpy(rng.permutation(len(x))).to(device)
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


def _accuracies(model: Any, u: Any, split: Split) -> dict[str, float]:
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
