"""DNN 2 on MNIST by the Kalman form of EKI(R), with members that are cheap to evaluate.

784-100-10, ReLU and logits, as the slides' DNN 2; members as `_factored` has them, drawn anew
around their mean at every step, the loss's own curvature as Γ⁻¹, growing batches, the latest steps
as further members. Inputs are centred and given by their leading principal components: the first
layer's prior then is Gaussian in the span of these, which is a choice, and not the slides'.
Settings were chosen on the last 5,000 training images, which are not trained on; the test images
are looked at only to be reported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ekitools import datasets
from ekitools.demos import table_lines
from ekitools.experiments._factored import Network, logits, relu, step
from ekitools.experiments._mnist import new_figure, progress_bar

__all__ = ["PUBLISHED", "SETTINGS", "Settings", "compute", "draw", "learned", "parts", "table"]

PUBLISHED = {"SGD": 0.9735, "momentum SGD": 0.9807, "EKI(R), mean": 0.9721}
"""Test accuracies of DNN 2, Kovachki & Stuart's slides (2019)."""

_EVERY = 10
"""Steps between checkpoints and measurements."""


@dataclass(frozen=True)
class Settings:
    """All that is chosen.

    Parameters
    ----------
    steps : int
        Of every run.
    seeds : int
        Runs.
    hidden : int
        Units of the hidden layer.
    components : int
        Principal components of the inputs that are used.
    members : int
        J.
    batch, batch_growth : int, float
        Samples of the first step, and the factor from one step to the next.
    damping, damping_growth : float
        λ of the first step, and its factor.
    gamma : float
        Spread of the members.
    spread : float
        Standard deviation of a draw: √(2/(784 + 100)), Glorot's for the first layer, in all.
    memory : int
        Latest steps that are members too.
    averaging : float
        Weight of the past in the exponential average of the mean.
    held_out : int
        Training images that are kept for validation.
    """

    steps: int
    seeds: int = 1
    hidden: int = 100
    components: int = 150
    members: int = 800
    batch: int = 3000
    batch_growth: float = 1.002
    damping: float = 3.0
    damping_growth: float = 1.002
    gamma: float = 0.02
    spread: float = 0.0475
    memory: int = 100
    averaging: float = 0.9
    held_out: int = 5000


SETTINGS = {
    "small": Settings(steps=30, members=300, batch=1500, memory=50),
    "medium": Settings(steps=500),
    "paper": Settings(steps=800, seeds=3, members=1500, batch=5000),
}


def parts(settings: Settings) -> list[str]:
    """A run for every seed."""
    return [f"seed {seed}" for seed in range(settings.seeds)]


def compute(settings: Settings, label: str, folder: Path, progress: bool) -> dict[str, Any]:
    """Accuracies along a run, of the mean and of its average."""
    images = _images(settings.components, settings.held_out)
    return learned(settings, images, seed=int(label.split()[1]), folder=folder, progress=progress)


def learned(
    settings: Settings,
    images: tuple[tuple[np.ndarray, np.ndarray], ...],
    *,
    seed: int,
    folder: Path,
    progress: bool,
    activation: Callable[[np.ndarray], np.ndarray] = relu,
    averaged: bool = False,
) -> dict[str, Any]:
    """Accuracies along a run on any images, from the checkpoint in ``folder`` where there is one.

    Parameters
    ----------
    settings : Settings
        Of the run; ``components`` is the width of the inputs.
    images : tuple of ((N, c), (N,)) pairs
        Inputs and labels for training, held out and for the test.
    seed : int
        Of the start, of the batches and of the members.
    folder : Path
        For the checkpoint.
    progress : bool
        Whether to show a bar.
    activation, averaged
        As `ekitools.experiments._factored.step` has them.
    """
    train, held_out, test = images
    mean, average, past, trace = _start(settings, seed, folder)
    n = len(trace) * _EVERY
    with progress_bar(settings.steps, progress) as bar:
        bar.update(n)
        while n < settings.steps:
            rng = np.random.default_rng([seed, n])
            size = min(int(settings.batch * settings.batch_growth**n), len(train[1]))
            rows = rng.choice(len(train[1]), size, replace=False)
            now = replace(settings, damping=settings.damping * settings.damping_growth**n)
            batch = (train[0][rows], train[1][rows])
            mean, past = step(mean, past, batch, rng, now, activation=activation, averaged=averaged)
            average = average.plus(mean.plus(average, -1.0), 1 - settings.averaging)
            n += 1
            if n % _EVERY == 0 or n == settings.steps:
                found = [
                    _accuracy(u, *part, activation)
                    for part in (held_out, test)
                    for u in (mean, average)
                ]
                trace.append([n, size, *found])
                _save(folder, mean, average, past, trace)
                bar.set_postfix(held_out=f"{found[0]:.4f}", refresh=False)
            bar.update()
    names = ("held_out", "held_out_average", "test", "test_average")
    return dict(zip(names, trace[-1][2:], strict=True)) | {"trace": trace}


def table(settings: Settings, numbers: dict[str, Any]) -> str:
    """Test accuracies beside the slides'."""
    header = (f"784-{settings.hidden}-10", "held out", "test", "test, averaged", "minutes")
    rows = []
    for label, found in numbers.items():
        cells = [f"{found[name]:.4f}" for name in ("held_out", "test", "test_average")]
        rows.append((label, *cells, f"{found['seconds'] / 60:.1f}"))
    rows += [(f"slides: {name}", "", f"{value:.4f}", "", "") for name, value in PUBLISHED.items()]
    return "\n".join(table_lines(header, rows))


def draw(settings: Settings, numbers: dict[str, Any], path: Path) -> None:
    """Test accuracy by step, with the slides' values."""
    (ax,), save = new_figure(size=(6.4, 4.8))
    for label, found in numbers.items():
        trace = np.array(found["trace"])
        ax.plot(trace[:, 0], trace[:, 4], label=f"{label}, mean")
        ax.plot(trace[:, 0], trace[:, 5], ls="--", label=f"{label}, averaged mean")
    for name, value in PUBLISHED.items():
        ax.axhline(value, color="grey", lw=1, ls=":")
        side = "top" if name.startswith("EKI") else "bottom"
        ax.text(0.01, value, f"slides: {name}", transform=ax.get_yaxis_transform(), va=side)
    ax.set(
        xlabel="step", ylabel="test accuracy", title=f"784-{settings.hidden}-10", ylim=(0.9, 0.985)
    )
    ax.legend(frameon=False, loc="lower right")
    save(path)


@cache
def _images(components: int, held_out: int) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Training, held-out and test images as (components ``(N, c)``, labels ``(N,)``)."""
    data = datasets.mnist()
    train, test = (
        images.reshape(len(images), -1).astype(np.float32) / 255
        for images in (data.x_train, data.x_test)
    )
    mean, scale = train.mean(axis=0), 2 * train.std()
    train, test = (train - mean) / scale, (test - mean) / scale
    basis = np.linalg.eigh(train.T @ train)[1][:, ::-1][:, :components].astype(np.float32)
    train, test = train @ basis, test @ basis
    labels = data.y_train.astype(np.int64)
    cut = len(train) - held_out
    return (
        (train[:cut], labels[:cut]),
        (train[cut:], labels[cut:]),
        (test, data.y_test.astype(np.int64)),
    )


def _start(
    settings: Settings, seed: int, folder: Path
) -> tuple[Network, Network, list[Network], list[list[float]]]:
    """From the checkpoint, or a draw of Glorot's prior with biases of zero."""
    path = folder / "state.npz"
    if path.exists():
        with np.load(path) as saved:
            networks = [
                Network(*(saved[f"{i}-{name}"] for name in Network._fields))
                for i in range(int(saved["networks"]))
            ]
            return networks[0], networks[1], networks[2:], saved["trace"].tolist()
    rng = np.random.default_rng(seed)
    h, k = settings.hidden, 10

    def glorot(rows: int, columns: int, fans: int) -> np.ndarray:
        return (rng.standard_normal((rows, columns)) * np.sqrt(2 / fans)).astype(np.float32)

    w1, w2 = glorot(h, settings.components, 784 + h), glorot(k, h, h + k)
    mean = Network(w1, np.zeros(h, np.float32), w2, np.zeros(k, np.float32))
    return mean, mean, [], []


def _save(
    folder: Path, mean: Network, average: Network, past: list[Network], trace: list[list[float]]
) -> None:
    arrays = {
        f"{i}-{name}": part
        for i, network in enumerate((mean, average, *past))
        for name, part in network._asdict().items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    new = folder / "new.npz"
    np.savez(new, networks=2 + len(past), trace=np.array(trace), **arrays)
    new.replace(folder / "state.npz")


def _accuracy(
    network: Network,
    x: np.ndarray,
    labels: np.ndarray,
    activation: Callable[[np.ndarray], np.ndarray],
) -> float:
    return float(np.mean(logits(network, x, activation).argmax(axis=0) == labels))
