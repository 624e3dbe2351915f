"""Networks as lists of layers: their parameters, the state of a run, and dense layers.

The three kinds of members share this module. A network is a list of `Layer`, and a `State` has the
mean, its average and the latest steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

__all__ = [
    "Layer",
    "Network",
    "State",
    "at_once",
    "drawn",
    "heaviside",
    "loaded",
    "logits",
    "members_at_once",
    "norm",
    "placed",
    "relu",
    "residual_of",
    "save",
    "start",
    "sum_of",
    "sums",
]

_VALUES = 2**21
"""Number of hidden values that are in memory together. They should fit the cache of a CPU."""
_VALUES_ELSEWHERE = 2**28


class Layer(NamedTuple):
    """Weights ``(out, in)``, or of a convolution ``(out, in, 3, 3)``, and biases ``(out,)``."""

    weights: Any
    biases: Any


Network = list[Layer]


class State(NamedTuple):
    """The state of a run."""

    mean: Network
    average: Network
    """Exponential average of the means."""
    past: list[Network]
    """Latest steps of the mean, the newest first."""

    def moved(self, mean: Network, past: list[Network], averaging: float) -> State:
        """The state after a step to ``mean``. ``averaging`` is the weight of the average before."""
        change = sum_of(mean, self.average, -1.0)
        return State(mean, sum_of(self.average, change, 1 - averaging), past)


def start(sizes: Sequence[int], sds: Sequence[float], seed: int) -> State:
    """`drawn` for dense layers between the given numbers of units."""
    return drawn([(n_out, n_in) for n_in, n_out in pairwise(sizes)], sds, seed)


def drawn(shapes: Sequence[tuple[int, ...]], sds: Sequence[float], seed: int) -> State:
    """The start of a run: weights of standard deviation ``sds`` by layer, and biases of zero.

    It is drawn on the CPU, and is the same for every device.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    mean = [
        Layer(
            sd * torch.randn(shape, generator=generator, device="cpu"),
            torch.zeros(shape[0], device="cpu"),
        )
        for shape, sd in zip(shapes, sds, strict=True)
    ]
    return State(mean, mean, [])


def save(path: Path, state: State, trace: list[Any]) -> None:
    """Write a checkpoint atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    networks = [[tuple(layer) for layer in network] for network in (*state[:2], *state.past)]
    torch.save({"networks": networks, "trace": trace}, new)
    new.replace(path)


def loaded(path: Path) -> tuple[State, list[Any]]:
    """The state, on the CPU, and the trace that `save` wrote."""
    saved = torch.load(path, map_location="cpu", weights_only=True)
    networks = [[Layer(*layer) for layer in network] for network in saved["networks"]]
    return State(networks[0], networks[1], networks[2:]), saved["trace"]


def placed(state: State, device: str) -> State:
    """The state on a device."""

    def there(network: Network) -> Network:
        return [Layer(*(part.to(device) for part in layer)) for layer in network]

    return State(there(state.mean), there(state.average), [there(past) for past in state.past])


def sum_of(network: Network, other: Network, factor: float = 1.0) -> Network:
    """The parameters of ``network`` plus ``factor`` times those of ``other``."""
    return [
        Layer(*(a.add(b, alpha=factor) for a, b in zip(*layers, strict=True)))
        for layers in zip(network, other, strict=True)
    ]


def norm(network: Network) -> float:
    """The Euclidean norm of all parameters."""
    return float(np.sqrt(sum(float(part.square().sum()) for layer in network for part in layer)))


def relu(z: Any) -> Any:
    """max(z, 0), in place."""
    return z.relu_()


def heaviside(z: Any) -> Any:
    """1 for z > 0, else 0, in place."""
    return z.gt_(0)


def sums(layer: Layer, x: Any) -> Any:
    """W x + c ``(m, out)`` of a dense layer at inputs ``(m, in)``."""
    return torch.addmm(layer.biases, x, layer.weights.T)


def logits(network: Network, x: Any, activation: Callable[[Any], Any] = relu) -> Any:
    """Outputs ``(m, k)`` of dense layers at inputs ``(m, in)``."""
    for layer in network[:-1]:
        x = activation(sums(layer, x))
    return sums(network[-1], x)


def residual_of(share: Any, labels: Any) -> Any:
    """Slope p - y ``(m, k)`` of cross-entropy in the logits; ``share``, p, is their softmax."""
    return share.scatter_add(1, labels[:, None], -torch.ones_like(share[:, :1]))


def members_at_once(layers: Network, m: int) -> int:
    """Number of members whose hidden values for m data are in memory together."""
    widest = max(len(layer.biases) for layer in layers)
    return at_once(m * widest, layers[0].weights.device)


def at_once(n_values: int, device: Any) -> int:
    """Number of pieces of ``n_values`` values each that are in memory together, at least one."""
    return max(1, (_VALUES if device.type == "cpu" else _VALUES_ELSEWHERE) // n_values)
