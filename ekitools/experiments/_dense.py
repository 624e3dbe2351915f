"""Runs of the slides' DNN 1-4 on images, by members as `_factored` or `_local` has them.

ReLU between the layers and logits at the end. Inputs are centred and given by their leading
principal components, each times its standard deviation to the power ``weighting``: the first
layer's prior then is Gaussian in the span of these, with more spread where inputs have more, which
is a choice, and not the slides'. With ``validation=0`` all images are trained on. The test images
are looked at only to be reported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ekitools.demos import table_lines
from ekitools.experiments._mnist import (
    Data,
    new_figure,
    progress_bar,
    require_torch,
    split_of,
)
from ekitools.experiments._networks import NETWORKS
from ekitools.experiments.mnist_dense import PUBLISHED as _DENSE
from ekitools.plots import BLUE, GREEN, ORANGE, RED

__all__ = [
    "PUBLISHED",
    "Factored",
    "Local",
    "Settings",
    "compute",
    "draw",
    "learned",
    "parts",
    "table",
]

_METHODS = {"SGD": "SGD", "MSGD": "momentum SGD", "EKI(R)": "EKI(R), mean"}
PUBLISHED = {
    f"{network}, {text}": _DENSE[f"{network}, {name}"]["test"]
    for network in NETWORKS
    for name, text in _METHODS.items()
}
"""Test accuracies, Kovachki & Stuart's slides (2019)."""

_EVERY = 10
"""Steps between checkpoints and measurements."""


@dataclass(frozen=True)
class Factored:
    """How one network learns by one ensemble, whose members differ by matrices of rank one.

    Parameters
    ----------
    steps : int
        Of every run.
    members : int
        J.
    components : int
        Principal components of the inputs that are used.
    weighting : float
        Power of a component's standard deviation that it is multiplied with; 0 for none.
    batch, batch_growth : int, float
        Samples of the first step, and the factor from one step to the next.
    damping, damping_growth : float
        λ of the first step, and its factor.
    decay : float
        Part of the weights that a step of λ = 1 takes away: the prior's pull to zero.
    gamma : float
        Spread of the members.
    memory : int
        Latest steps that are members too.
    averaging : float
        Weight of the past in the exponential average of the mean.
    """

    steps: int
    members: int = 400
    components: int = 150
    weighting: float = 0.5
    batch: int = 2000
    batch_growth: float = 1.0015
    damping: float = 2.0
    damping_growth: float = 1.0005
    decay: float = 0.0
    gamma: float = 0.02
    memory: int = 100
    averaging: float = 0.98


@dataclass(frozen=True)
class Local:
    """How one network learns where every datum has members of its own.

    Parameters
    ----------
    steps : int
        Of every run.
    members : int
        J, of every datum and hidden layer.
    components, weighting, batch, batch_growth, gamma, averaging
        As of `Factored`.
    damping, damping_growth : float
        λ of the first step, and its factor.
    prior : float
        Precision of weights around zero for a datum, in units of 1/s² (biases have none).
    iterations : int
        Of conjugate gradients.
    momentum : float
        Part of the step before from which they start.
    """

    steps: int
    members: int = 100
    components: int = 80
    weighting: float = 0.25
    batch: int = 2000
    batch_growth: float = 1.001
    damping: float = 1e-3
    damping_growth: float = 1.0
    prior: float = 3e-6
    iterations: int = 3
    momentum: float = 0.9
    gamma: float = 0.02
    averaging: float = 0.98


@dataclass(frozen=True)
class Settings:
    """Which networks, from how many starts, on which images."""

    networks: Mapping[str, Factored | Local]
    seeds: int = 1
    data: Data = Data()


def parts(settings: Settings) -> list[str]:
    """A run for every network and seed."""
    return [
        f"{network}, seed {seed}" for network in settings.networks for seed in range(settings.seeds)
    ]


def compute(settings: Settings, label: str, folder: Path, progress: bool) -> dict[str, Any]:
    """Accuracies along a run, of the mean and of its average."""
    network, seed = label.split(", seed ")
    options = settings.networks[network]
    return learned(
        options, network, settings.data, seed=int(seed), folder=folder, progress=progress
    )


def learned(
    options: Factored | Local,
    network: str,
    data: Data,
    *,
    seed: int,
    folder: Path,
    progress: bool,
    activation: str = "ReLU",
) -> dict[str, Any]:
    """Accuracies along a run, from the checkpoint in ``folder`` where there is one.

    Parameters
    ----------
    options : Factored or Local
        How it learns.
    network : str
        One of `ekitools.experiments._networks.NETWORKS`.
    data : Data
        The images.
    seed : int
        Of the start, of the batches and of the members.
    folder : Path
        For the checkpoint.
    progress : bool
        Whether to show a bar.
    activation : str, default "ReLU"
        Of hidden layers; with "step" the loss is expanded around the mean of the outputs.
    """
    require_torch()
    import torch

    from ekitools.experiments import _factored, _local

    stepped = _factored.step if isinstance(options, Factored) else _local.step
    images = _images(data, options.components, options.weighting)
    x, labels = (torch.from_numpy(part) for part in images.train)
    sizes = (x.shape[1], *NETWORKS[network], images.n_classes)
    wide = (images.n_pixels, *sizes[1:])  # the prior's variances are those of the whole network
    sds = [float(np.sqrt(2 / (n_in + n_out))) for n_in, n_out in pairwise(wide)]
    steps = activation == "step"
    between = _factored.heaviside if steps else _factored.relu
    path = folder / "state.pt"
    if path.exists():
        state, trace = _factored.loaded(path)
    else:
        state, trace = _factored.start(sizes, sds, seed), []
    n = len(trace) * _EVERY
    with progress_bar(options.steps, progress) as bar:
        bar.update(n)
        while n < options.steps:
            generator = torch.Generator().manual_seed(1_000_003 * (seed + 1) + n)
            size = min(int(options.batch * options.batch_growth**n), len(labels))
            rows = torch.randperm(len(labels), generator=generator)[:size]
            now = replace(options, damping=options.damping * options.damping_growth**n)
            state, loss = stepped(
                *(state, x[rows], labels[rows], generator, sds, now),
                activation=between,
                averaged=steps,
            )
            n += 1
            if n % _EVERY == 0 or n == options.steps:
                found = _found(state, images, between)
                trace.append({"step": n, "batch": size, "loss": loss, **found})
                _factored.save(path, state, trace)
                bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            bar.update()
    p = sum(part.numel() for layer in state.mean for part in layer)
    return {**trace[-1], "parameters": p, "n_train": len(labels), "trace": trace}


def table(settings: Settings, numbers: dict[str, Any]) -> str:  # noqa: ARG001 - of all
    """Accuracies beside the slides'."""
    header = ("run", "p", "validation", "test", "averaged", "slides", "steps", "minutes")
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
    """Test accuracy by step, with the slides' values."""
    axes, save = new_figure(len(settings.networks), size=(1 + 4.2 * len(settings.networks), 4.2))
    for ax, network in zip(axes, settings.networks, strict=True):
        for label in (label for label in numbers if label.startswith(network)):
            trace = numbers[label]["trace"]
            steps = [found["step"] for found in trace]
            for name, style in (("test", ":"), ("average_test", "-")):
                ax.plot(steps, [found[name] for found in trace], ls=style, color=BLUE)
        for name, colour in zip(_METHODS.values(), (GREEN, RED, ORANGE), strict=True):
            value = PUBLISHED[f"{network}, {name}"]
            ax.axhline(value, color=colour, lw=1, ls="--", label=f"slides: {name}")
        ax.set(xlabel="step", title=network, ylim=(0.88, 0.99))
    axes[0].set_ylabel("MNIST test accuracy")
    axes[0].plot([], [], color=BLUE, label="averaged mean")
    axes[0].plot([], [], color=BLUE, ls=":", label="mean")
    axes[0].legend(frameon=False, loc="lower right", fontsize="small")
    save(path)


class _Images(NamedTuple):
    """Components ``(N, c)`` and labels ``(N,)``; no validation set where none is kept."""

    train: tuple[np.ndarray, np.ndarray]
    sets: dict[str, tuple[np.ndarray, np.ndarray]]
    n_pixels: int
    n_classes: int


def _images(data: Data, components: int, weighting: float) -> _Images:
    split = split_of(data)
    variances, vectors = np.linalg.eigh(split.x_train.T @ split.x_train)
    scale = np.maximum(variances[-components:], 0) ** (weighting / 2)
    basis = vectors[:, -components:] * (scale / np.sqrt(np.mean(scale**2)))
    basis = np.ascontiguousarray(basis, np.float32)
    sets = {"test": (split.x_test @ basis, split.y_test)}
    if data.validation:
        sets["validation"] = (split.x_validation @ basis, split.y_validation)
    train = split.x_train @ basis, split.y_train
    return _Images(train, sets, split.x_train.shape[1], split.n_classes)


def _found(state: Any, images: _Images, activation: Callable[[Any], Any]) -> dict[str, float]:
    """Accuracies of the mean and of its average."""
    import torch

    from ekitools.experiments._factored import accuracy

    networks = {"": state.mean, "average_": state.average}
    return {
        f"{prefix}{name}": accuracy(
            network, torch.from_numpy(x), torch.from_numpy(labels), activation
        )
        for name, (x, labels) in images.sets.items()
        for prefix, network in networks.items()
    }
