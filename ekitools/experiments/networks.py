"""Networks for images of Kovachki & Stuart (2019): dense, recurrent and convolutional."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

__all__ = ["CONVOLUTIONAL", "NETWORKS", "RECURRENT", "Convolutions", "build"]

NETWORKS = {"DNN 1": (), "DNN 2": (100,), "DNN 3": (300, 100), "DNN 4": (500, 300, 100)}
"""Hidden layers of dense networks. ReLU (or steps) follow them, and the outputs are logits."""
RECURRENT = {"RNN 2 x 32": (2, 32), "RNN 2 x 64": (2, 64)}
"""Layers and their units (tanh). The rows of an image are a sequence; its last state gives the
logits."""
_ROW = 28
"""Pixels of a row."""


class Convolutions(NamedTuple):
    """Groups of 3 x 3 convolutions, a pool after each group, and dense layers at the end.

    Kovachki & Stuart (2019) give channels, pools and units. Two choices are ours: a
    convolution keeps the size of the image (padding 1), and ReLU follows every convolution.
    """

    image: tuple[int, int, int]
    """Channels, height, width."""
    channels: tuple[tuple[int, ...], ...]
    pools: tuple[tuple[int, int], ...]
    """Size and stride, one pair for every group."""
    hidden: tuple[int, ...] = ()


_SVHN, _HALVES = (3, 32, 32), ((2, 2), (2, 2), (8, 8))
CONVOLUTIONAL = {
    "CNN-MNIST": Convolutions(
        (1, 28, 28), ((16,) * 2, (16,) * 2, (12,) * 2), ((4, 2),) * 2 + ((2, 2),)
    ),
    "CNN-1": Convolutions(_SVHN, ((16,) * 2, (16,) * 2, (32,) * 2), _HALVES, (500,)),
    "CNN-2": Convolutions(_SVHN, ((16,) * 3, (32,) * 3, (48, 48, 64)), _HALVES, (500,)),
    "CNN-3": Convolutions(
        _SVHN, ((16, 16, 32, 32, 32), (48,) * 5, (64, 64, 96, 96, 96)), _HALVES, (500,)
    ),
}


def build(name: str, n_inputs: int, n_classes: int, activation: str = "ReLU") -> Any:
    """The torch module that maps rows ``(N, n_inputs)`` to logits ``(N, n_classes)``.

    ``activation="step"`` puts Heaviside's step function between dense layers: 1 for z > 0, else 0.

    Examples
    --------
    >>> from ekitools.experiments.networks import build
    >>> sum(p.numel() for p in build("CNN-MNIST", 784, 10).parameters())
    10658
    """
    from torch import nn

    class Step(nn.Module):  # type: ignore[misc]  # here, since torch is an extra
        def forward(self, z: Any) -> Any:
            return (z > 0).to(z.dtype)

    if name in RECURRENT:
        from ekitools.experiments.last_state import LastState

        n_layers, units = RECURRENT[name]
        return LastState(nn.RNN(_ROW, units, n_layers, batch_first=True), n_classes)
    layers: list[Any] = []
    hidden = NETWORKS.get(name, ())
    if name in CONVOLUTIONAL:
        net = CONVOLUTIONAL[name]
        layers, n_inputs, hidden = [nn.Unflatten(1, net.image)], 0, net.hidden
        before, height, width = net.image
        for group, (size, stride) in zip(net.channels, net.pools, strict=True):
            for channels in group:
                layers += [nn.Conv2d(before, channels, 3, padding=1), nn.ReLU()]
                before = channels
            layers.append(nn.MaxPool2d(size, stride))
            height, width = ((n - size) // stride + 1 for n in (height, width))
        layers.append(nn.Flatten())
        n_inputs = before * height * width
    for a, b in pairwise((n_inputs, *hidden, n_classes)):
        layers += [nn.Linear(a, b), Step() if activation == "step" else nn.ReLU()]
    return nn.Sequential(*layers[:-1])
