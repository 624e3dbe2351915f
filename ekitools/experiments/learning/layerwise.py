r"""CurvatureEKI for convolutional networks, with members of every layer.

The weights of a convolution act at all positions of an image. Members that differ in so many sums
say little about each sum (see `per_datum`). But a network is a chain: its outputs depend on the
sums a_l of a layer only through φ(a_l), where φ is the activation and the pool after this layer.
Let ξ be deviations of weights with entries N(0, s²). If φ is close to linear over their spread, the
covariances of the outputs follow from those of neighbouring layers,

    Cov(f, a_l) / σ_l² = B_l,    B_l = B_{l+1} W_{l+1} A_l,    A_l = Cov(φ(a_l), a_l) / σ_l²,

as in a Rauch-Tung-Striebel smoother [1]_ with layers in place of times. W_{l+1} is the linear map
of the next layer, which is known, and B = I in the last layer. Members estimate only A_l, which is
local: an activation depends on one sum, and a pooled one on the sums of its window. All other
entries are zero. Members that differ at one place of every tile of k x k positions, one member for
each place, have each sum of a window once. They give A_l without sampling noise.

φ is evaluated and never differentiated, but it is the only black box here. Where φ has a
derivative, the step tends to the Gauss-Newton step by the chain rule as γ → 0. The step is
`gauss_newton.step`.

References
----------
.. [1] Rauch, Tung & Striebel (1965), Maximum likelihood estimates of linear dynamic systems, AIAA
   Journal 3, 1445-1450.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial, reduce
from math import gcd, sqrt
from typing import Any, NamedTuple

import torch
from torch.nn import functional
from torch.nn.grad import conv2d_weight

from ekitools.experiments.learning import gauss_newton
from ekitools.experiments.learning.network import Layer, Network, State, drawn, sum_of
from ekitools.experiments.learning.options import Layerwise

__all__ = ["Chain", "Chains", "Pools", "chained", "logits", "start", "step", "structure"]

Pools = Sequence[tuple[int, int] | None]
"""Size and stride of the pool after every layer but the last, or None."""
_AT_ONCE, _AT_ONCE_ELSEWHERE = 125, 2000
"""Number of data in a piece, on a CPU, whose cache they fit, and on other devices."""


class Chain(NamedTuple):
    """Outputs of a piece of a batch, linearised around ū by members of every layer."""

    network: Network
    pools: Pools
    inputs: list[Any]
    """Inputs of every layer, ``(m, in, height, width)`` or ``(m, in)``."""
    slopes: list[list[Any]]
    """A of every layer but the last: for every place of a window a tensor like the values of φ."""
    outputs: Any
    """Outputs of ū ``(m, k)``."""

    def along(self, direction: Network) -> Any:
        """The change of the outputs ``(m, k)``."""
        change = _sums(direction[0], self.inputs[0])
        for i, (slopes, pool) in enumerate(zip(self.slopes, self.pools, strict=True), start=1):
            seen = torch.zeros_like(slopes[0])
            for slope, place in zip(slopes, _places(change, pool), strict=True):
                seen.addcmul_(slope, place)
            change = _sums(direction[i], self.inputs[i])
            change += _sums(Layer(self.network[i].weights, None), seen)
        return change

    def back(self, v: Any) -> Network:
        """The transpose of `along` at v ``(m, k)``, summed over the data."""
        found = [_own(v, self.inputs[-1])]
        for i in reversed(range(len(self.slopes))):
            seen = _transposed(self.network[i + 1].weights, v, self.inputs[i + 1])
            h = self.inputs[i]
            size = h.shape[2:] if seen.ndim == 4 else ()  # a convolution keeps it
            v = _channels_last(seen.new_zeros(*seen.shape[:2], *size))
            for slope, place in zip(self.slopes[i], _places(v, self.pools[i]), strict=True):
                place.addcmul_(slope, seen)
            found.append(_own(v, h))
        return found[::-1]


class Chains(NamedTuple):
    """Linearised outputs of a batch, in pieces that fit a cache."""

    pieces: list[Chain]

    @property
    def outputs(self) -> Any:
        """Outputs of ū ``(m, k)``."""
        return torch.cat([piece.outputs for piece in self.pieces])

    def along(self, direction: Network) -> Any:
        """The change of the outputs ``(m, k)``."""
        return torch.cat([piece.along(direction) for piece in self.pieces])

    def back(self, v: Any) -> Network:
        """The transpose of `along` at v ``(m, k)``, averaged over the data."""
        pulled = map(Chain.back, self.pieces, _pieces(v / len(v)))
        return reduce(sum_of, pulled)


def structure(module: Any) -> tuple[list[tuple[int, ...]], Pools]:
    """Shapes of the weights of the layers of a module, and the pools between the layers."""
    shapes: list[tuple[int, ...]] = []
    pools: list[tuple[int, int] | None] = []
    for part in module:
        if hasattr(part, "weight"):
            shapes.append(tuple(part.weight.shape))
            pools.append(None)
        elif isinstance(part, torch.nn.MaxPool2d):
            pools[-1] = (part.kernel_size, part.stride)
    return shapes, pools[:-1]


def start(shapes: Sequence[tuple[int, ...]], sds: Sequence[float], seed: int) -> State:
    """As `network.drawn`, in the memory layout in which convolutions are fast."""
    mean = [Layer(_channels_last(weights), c) for weights, c in drawn(shapes, sds, seed).mean]
    return State(mean, mean, [])


def logits(network: Network, x: Any, pools: Pools) -> Any:
    """Outputs ``(m, k)`` at inputs ``(m, in, height, width)``."""
    return torch.cat([_outputs(network, piece, pools) for piece in _pieces(x)])


def _outputs(network: Network, x: Any, pools: Pools) -> Any:
    h = _channels_last(x)
    for layer, pool in zip(network[:-1], pools, strict=True):
        h = _activated(_sums(layer, h), pool)
    return _sums(network[-1], h)


def chained(mean: Network, x: Any, sds: Sequence[float], gamma: float, pools: Pools) -> Chains:
    """Linearise the outputs by members of every layer.

    Parameters
    ----------
    mean : list of Layer
        The mean ū.
    x : (m, in, height, width)
        The inputs of the batch.
    sds : sequence of float
        Standard deviation s of every layer.
    gamma : float
        Spread γ. σ of a layer is γ s times the norm of the inputs of a sum, as a root mean square
        over data and places.
    pools : sequence
        The pools between the layers.
    """
    return Chains([_chain(mean, piece, sds, gamma, pools) for piece in _pieces(x)])


def _chain(mean: Network, x: Any, sds: Sequence[float], gamma: float, pools: Pools) -> Chain:
    inputs, slopes = [_channels_last(x)], []
    for layer, sd, pool in zip(mean[:-1], sds[:-1], pools, strict=True):
        h = inputs[-1]
        n_in = layer.weights[0].numel()
        a = _sums(layer, h)
        sigma = gamma * sd * sqrt(n_in * float(h.square().mean()) + 1)
        phi = _activated(a, pool)
        slopes.append(_slopes(a, phi, sigma, pool))
        inputs.append(phi)
    return Chain(mean, pools, inputs, slopes, _sums(mean[-1], inputs[-1]))


def step(
    state: State, x: Any, labels: Any, sds: Sequence[float], options: Layerwise, pools: Pools
) -> tuple[State, float]:
    """One step of the mean, and the loss on the batch before the step.

    Parameters
    ----------
    state, labels, sds
        As of `ekitools.experiments.learning.gauss_newton.step`.
    x, pools
        As of `chained`.
    options : Layerwise
        The options of this step.
    """
    model = chained(state.mean, x, sds, options.gamma, pools)
    outputs = partial(logits, x=x, pools=pools)
    return gauss_newton.step(state, model, labels, sds, options, outputs)


def _slopes(a: Any, phi: Any, sigma: float, pool: tuple[int, int] | None) -> list[Any]:
    """A by two members, or by one member for every place of a tile of the size of a window."""
    if pool is None:
        return [(_activated(a + sigma, None) - _activated(a - sigma, None)).div_(2 * sigma)]
    size, stride = pool
    period = size // gcd(size, stride)  # windows at this distance lie equally on their tiles
    slopes = [torch.empty_like(phi) for _ in range(size**2)]
    for i in range(size):
        for j in range(size):
            member = a.clone()
            member[:, :, i::size, j::size] += sigma
            change = _activated(member, pool).sub_(phi).div_(sigma)
            for p in range(period):
                for q in range(period):
                    place = (i - stride * p) % size * size + (j - stride * q) % size
                    windows = (..., slice(p, None, period), slice(q, None, period))
                    slopes[place][windows] = change[windows]
    return slopes


def _places(a: Any, pool: tuple[int, int] | None) -> list[Any]:
    """For every place of a window, the values at this place of all windows."""
    if pool is None:
        return [a]
    size, stride = pool
    rows, columns = ((n - size) // stride * stride + 1 for n in a.shape[2:])
    return [
        a[:, :, i : i + rows : stride, j : j + columns : stride]
        for i in range(size)
        for j in range(size)
    ]


def _activated(a: Any, pool: tuple[int, int] | None) -> Any:
    """φ as the pool and then ReLU, which equals ReLU first and is less work."""
    return functional.relu(functional.max_pool2d(a, *pool) if pool else a)


def _sums(layer: Layer, h: Any) -> Any:
    if layer.weights.ndim == 2:
        return functional.linear(h.flatten(1), *layer)
    return functional.conv2d(h, *layer, padding=1)


def _transposed(weights: Any, v: Any, h: Any) -> Any:
    """The transpose of `_sums` as a map of the inputs h."""
    if weights.ndim == 2:
        return _channels_last((v @ weights).view(h.shape))
    return functional.conv_transpose2d(v, weights, padding=1)


def _own(v: Any, h: Any) -> Layer:
    """The transpose of `_sums` as a map of the parameters."""
    if v.ndim == 2:
        return Layer(v.T @ h.flatten(1), v.sum(dim=0))
    weights = conv2d_weight(h, (v.shape[1], h.shape[1], 3, 3), v, padding=1)
    return Layer(_channels_last(weights), v.sum(dim=(0, 2, 3)))


def _pieces(x: Any) -> Any:
    return x.split(_AT_ONCE if x.device.type == "cpu" else _AT_ONCE_ELSEWHERE)


def _channels_last(a: Any) -> Any:
    return a.contiguous(memory_format=torch.channels_last) if a.ndim == 4 else a
