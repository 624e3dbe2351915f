"""Runs of the slides' networks on images, with members of one of the kinds of `learning`.

ReLU between the layers and logits at the end. Inputs are centred, and of dense networks given by
their leading principal components, each times its standard deviation to the power ``weighting``:
the first layer's prior then is Gaussian in the span of these, with more spread where inputs have
more, which is a choice, and not the slides'. With ``validation=0`` all images are trained on. The
test images are looked at only to be reported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ekitools.experiments._mnist import (
    Data,
    Split,
    accuracy,
    new_figure,
    progress_bar,
    require_torch,
    split_of,
)
from ekitools.experiments._networks import CONVOLUTIONAL, NETWORKS, build
from ekitools.experiments.cnn import PUBLISHED as _CONVOLUTIONAL
from ekitools.experiments.learning.options import Factored, Layerwise, Local, Options
from ekitools.experiments.mnist_dense import PUBLISHED as _DENSE
from ekitools.plots.style import BLUE, GREEN, ORANGE, RED
from ekitools.results.tables import table_lines

__all__ = [
    "PUBLISHED",
    "Settings",
    "compute",
    "draw",
    "learned",
    "parts",
    "table",
]

_METHODS = {"SGD": "SGD", "MSGD": "momentum SGD", "EKI(R)": "EKI(R), mean"}
PUBLISHED = {
    f"{network}, {text}": value["test"]
    for network in (*NETWORKS, *CONVOLUTIONAL)
    for name, text in _METHODS.items()
    if (value := (_DENSE | _CONVOLUTIONAL).get(f"{network}, {name}"))
}
"""Test accuracies, Kovachki & Stuart's slides (2019)."""

_EVERY = {"dense": 10, "convolutional": 50}
"""Steps between checkpoints and measurements."""


@dataclass(frozen=True)
class Settings:
    """Which networks, from how many starts, on which images."""

    networks: Mapping[str, Options]
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
    options: Options,
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
    options : Factored, Local or Layerwise
        How it learns; the last is for convolutional networks.
    network : str
        Such as `ekitools.experiments._networks` has them.
    data : Data
        The images.
    seed : int
        Of the start, of the batches and of the members.
    folder : Path
        For the checkpoint.
    progress : bool
        Whether to show a bar.
    activation : str, default "ReLU"
        Of hidden layers; with "step", for dense networks only, the loss is expanded around the mean
        of the outputs.
    """
    require_torch()
    import torch

    from ekitools.experiments.learning.rank_one import loaded, save

    if isinstance(options, Layerwise):
        learner = _convolutional(network, data)
    else:
        learner = _dense(options, network, data, activation)
    x, labels = (torch.from_numpy(part) for part in learner.images.train)
    path = folder / "state.pt"
    state, trace = loaded(path) if path.exists() else (learner.start(seed), [])
    n = trace[-1]["step"] if trace else 0
    with progress_bar(options.steps, progress) as bar:
        bar.update(n)
        while n < options.steps:
            generator = torch.Generator().manual_seed(1_000_003 * (seed + 1) + n)
            size = min(int(options.batch * options.batch_growth**n), len(labels))
            rows = torch.randperm(len(labels), generator=generator)[:size]
            now = replace(options, damping=options.damping * options.damping_growth**n)
            state, loss = learner.step(state, x[rows], labels[rows], generator, now)
            n += 1
            if n % learner.every == 0 or n == options.steps:
                found = _found(state, learner)
                trace.append({"step": n, "batch": size, "loss": loss, **found})
                save(path, state, trace)
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
        published = []
        for name, colour in zip(_METHODS.values(), (GREEN, RED, ORANGE), strict=True):
            value = PUBLISHED.get(f"{network}, {name}")
            if value is not None:
                ax.axhline(value, color=colour, lw=1, ls="--", label=f"slides: {name}")
                published.append(value)
        ax.set(xlabel="step", title=network)
        ax.set_ylim(min(published) - 0.02, min(1.0, ax.get_ylim()[1]))
    axes[0].set_ylabel("test accuracy")
    axes[0].plot([], [], color=BLUE, label="averaged mean")
    axes[0].plot([], [], color=BLUE, ls=":", label="mean")
    axes[0].legend(frameon=False, loc="lower right", fontsize="small")
    save(path)


class _Images(NamedTuple):
    """Inputs ``(N, ...)`` and labels ``(N,)``; no validation set where none is kept."""

    train: tuple[np.ndarray, np.ndarray]
    sets: dict[str, tuple[np.ndarray, np.ndarray]]


class _Learner(NamedTuple):
    """What kinds of networks and members differ in."""

    images: _Images
    start: Callable[[int], Any]
    """The state that a seed gives."""
    step: Callable[..., tuple[Any, float]]
    """Of state, inputs, labels, generator and options: the next state, and the loss."""
    outputs: Callable[[Any, Any], Any]
    """Of a network, at inputs."""
    every: int
    """Steps between measurements."""


def _dense(options: Factored | Local, network: str, data: Data, activation: str) -> _Learner:
    from ekitools.experiments.learning import per_datum, rank_one

    split = split_of(data)
    images = _images(split, _components(split.x_train, options.components, options.weighting))
    sizes = (images.train[0].shape[1], *NETWORKS[network], split.n_classes)
    wide = (split.x_train.shape[1], *sizes[1:])  # the prior's variances are those of all pixels
    sds = [float(np.sqrt(2 / (n_in + n_out))) for n_in, n_out in pairwise(wide)]
    stepped = rank_one.step if isinstance(options, Factored) else per_datum.step
    jumps = activation == "step"
    between = rank_one.heaviside if jumps else rank_one.relu

    def step(state: Any, x: Any, labels: Any, generator: Any, now: Any) -> tuple[Any, float]:
        arguments = (state, x, labels, generator, sds, now)
        return stepped(*arguments, activation=between, averaged=jumps)

    return _Learner(
        images,
        lambda seed: rank_one.start(sizes, sds, seed),
        step,
        lambda mean, x: rank_one.logits(mean, x, between),
        _EVERY["dense"],
    )


def _convolutional(network: str, data: Data) -> _Learner:
    from ekitools.experiments.learning import layerwise

    split = split_of(data)
    image = CONVOLUTIONAL[network].image
    images = _images(split, lambda x: x.reshape(-1, *image))
    module = build(network, split.x_train.shape[1], split.n_classes)
    shapes, pools = layerwise.structure(module)
    sds = [float(np.sqrt(2 / ((n_out + n_in) * np.prod(size)))) for n_out, n_in, *size in shapes]

    def step(state: Any, x: Any, labels: Any, generator: Any, now: Any) -> tuple[Any, float]:  # noqa: ARG001 - the members are not random
        return layerwise.step(state, x, labels, sds, now, pools)

    return _Learner(
        images,
        lambda seed: layerwise.start(shapes, sds, seed),
        step,
        lambda mean, x: layerwise.logits(mean, x, pools),
        _EVERY["convolutional"],
    )


def _images(split: Split, inputs: Callable[[np.ndarray], np.ndarray]) -> _Images:
    sets = {"test": (inputs(split.x_test), split.y_test)}
    if len(split.y_validation):
        sets["validation"] = (inputs(split.x_validation), split.y_validation)
    return _Images((inputs(split.x_train), split.y_train), sets)


def _components(x: np.ndarray, n: int, weighting: float) -> Callable[[np.ndarray], np.ndarray]:
    """The map of inputs to their leading principal components."""
    variances, vectors = np.linalg.eigh(x.T @ x)
    scale = np.maximum(variances[-n:], 0) ** (weighting / 2)
    basis = vectors[:, -n:] * (scale / np.sqrt(np.mean(scale**2)))
    basis = np.ascontiguousarray(basis, np.float32)
    return lambda inputs: inputs @ basis


def _found(state: Any, learner: _Learner) -> dict[str, float]:
    """Accuracies of the mean and of its average."""
    import torch

    def of(network: Any, x: np.ndarray, labels: np.ndarray) -> float:
        return accuracy(
            lambda part: learner.outputs(network, torch.from_numpy(part)).numpy(), x, labels
        )

    return {
        f"{prefix}{name}": of(network, *images)
        for name, images in learner.images.sets.items()
        for prefix, network in (("", state.mean), ("average_", state.average))
    }
