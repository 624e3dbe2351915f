"""The loop that trains a network on images with one kind of members.

Inputs are centred. A dense network gets the leading principal components of the images; this is our
choice. With ``validation=0`` all training images are used. Test images are only measured.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ekitools.experiments.devices import require_torch
from ekitools.experiments.frame import progress_bar
from ekitools.experiments.images import Data, Split, accuracy, split_of
from ekitools.experiments.learning.options import Factored, Layerwise, Local, Options
from ekitools.experiments.networks import CONVOLUTIONAL, NETWORKS, build

__all__ = ["learned"]

_EVERY = {"dense": 10, "convolutional": 50}
"""Number of steps between checkpoints, which are measured."""


def learned(
    options: Options,
    network: str,
    data: Data,
    *,
    seed: int,
    folder: Path,
    progress: bool,
    device: str = "cpu",
    activation: str = "ReLU",
) -> dict[str, Any]:
    """Accuracies along a run, which starts from the checkpoint in ``folder`` if there is one.

    Parameters
    ----------
    options : Factored, Local or Layerwise
        The kind of members and its options. `Layerwise` is for convolutional networks, the others
        are for dense networks.
    network : str
        A network of `ekitools.experiments.networks`.
    data : Data
        The images.
    seed : int
        Seed of the start, of the batches and of the members.
    folder : Path
        Folder for the checkpoint ``state.pt``.
    progress : bool
        Whether to show a progress bar.
    device : str, default "cpu"
        Where the network, its members and the images are.
    activation : str, default "ReLU"
        Activation of the hidden layers of a dense network: "ReLU" or "step". With "step" the loss
        is expanded around the mean of the members' outputs.

    Returns
    -------
    dict
        Accuracies at the end, ``test`` and ``validation`` of the mean, ``average_test`` and
        ``average_validation`` of the average of the means, with ``step``, ``batch`` and ``loss``.
        The same along the run in ``trace``. Also ``parameters`` and ``n_train``.

    Raises
    ------
    ImportError
        If torch is not installed.
    """
    require_torch()
    import torch

    from ekitools.experiments.learning.network import loaded, placed, save

    if isinstance(options, Layerwise):
        learner = _convolutional(network, data)
    else:
        learner = _dense(options, network, data, activation)
    x, labels = (torch.from_numpy(part).to(device) for part in learner.images.train)
    path = folder / "state.pt"
    state, trace = loaded(path) if path.exists() else (learner.start(seed), [])
    state = placed(state, device)
    n = trace[-1]["step"] if trace else 0
    with progress_bar(options.steps, progress) as bar:
        bar.update(n)
        while n < options.steps:
            generator = torch.Generator(device).manual_seed(1_000_003 * (seed + 1) + n)
            now = options.at(n)
            size = min(now.batch, len(labels))
            rows = torch.randperm(len(labels), generator=generator, device=device)[:size]
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


class _Images(NamedTuple):
    """Inputs ``(N, ...)`` and labels ``(N,)`` of the training set and of the measured sets."""

    train: tuple[np.ndarray, np.ndarray]
    sets: dict[str, tuple[np.ndarray, np.ndarray]]


class _Learner(NamedTuple):
    """A network with a kind of members, as the loop uses it."""

    images: _Images
    start: Callable[[int], Any]
    """The first state, from a seed."""
    step: Callable[..., tuple[Any, float]]
    """The next state and the loss, from state, inputs, labels, generator and options."""
    outputs: Callable[[Any, Any], Any]
    """The logits of a network at inputs."""
    every: int
    """Steps between measurements."""


def _dense(options: Factored | Local, name: str, data: Data, activation: str) -> _Learner:
    """The learner of a dense network."""
    from ekitools.experiments.learning import network as dense
    from ekitools.experiments.learning import per_datum, rank_one

    split = split_of(data)
    images = _images(split, _components(split.x_train, options.components, options.weighting))
    sizes = (images.train[0].shape[1], *NETWORKS[name], split.n_classes)
    wide = (split.x_train.shape[1], *sizes[1:])  # the variances of the prior belong to all pixels
    sds = [float(np.sqrt(2 / (n_in + n_out))) for n_in, n_out in pairwise(wide)]
    stepped = rank_one.step if isinstance(options, Factored) else per_datum.step
    jumps = activation == "step"
    between = dense.heaviside if jumps else dense.relu

    def step(state: Any, x: Any, labels: Any, generator: Any, now: Any) -> tuple[Any, float]:
        arguments = (state, x, labels, generator, sds, now)
        return stepped(*arguments, activation=between, averaged=jumps)

    return _Learner(
        images,
        lambda seed: dense.start(sizes, sds, seed),
        step,
        lambda mean, x: dense.logits(mean, x, between),
        _EVERY["dense"],
    )


def _convolutional(name: str, data: Data) -> _Learner:
    """The learner of a convolutional network."""
    from ekitools.experiments.learning import layerwise

    split = split_of(data)
    image = CONVOLUTIONAL[name].image
    images = _images(split, lambda x: x.reshape(-1, *image))
    module = build(name, split.x_train.shape[1], split.n_classes)
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
    """The map of images to their leading principal components.

    Every component is multiplied by its standard deviation to the power ``weighting``. The prior of
    the first layer then has more spread along components with more spread.
    """
    variances, vectors = np.linalg.eigh(x.T @ x)
    scale = np.maximum(variances[-n:], 0) ** (weighting / 2)
    basis = vectors[:, -n:] * (scale / np.sqrt(np.mean(scale**2)))
    basis = np.ascontiguousarray(basis, np.float32)
    return lambda inputs: inputs @ basis


def _found(state: Any, learner: _Learner) -> dict[str, float]:
    """Accuracies of the mean and of the average of the means."""
    import torch

    def of(network: Any, x: np.ndarray, labels: np.ndarray) -> float:
        device = network[0].weights.device
        return accuracy(
            lambda part: learner.outputs(network, torch.from_numpy(part).to(device)), x, labels
        )

    return {
        f"{prefix}{name}": of(network, *images)
        for name, images in learner.images.sets.items()
        for prefix, network in (("", state.mean), ("average_", state.average))
    }
