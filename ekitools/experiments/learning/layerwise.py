r"""CurvatureEKI for convolutional networks, with members of every layer.

A convolution's weights act at all positions of an image, and outputs of members that differ in so
many sums say little of each (see `per_datum`). But a network is a chain: its outputs depend on the
sums a_l of a layer by nothing but φ(a_l), what the activation and the pool after it make of them.
Where φ is close to linear over the spread of deviations ξ of weights with entries N(0, s²), the
covariances of outputs follow from those of neighbours,

    Cov(f, a_l) / σ_l² = B_l,    B_l = B_{l+1} W_{l+1} A_l,    A_l = Cov(φ(a_l), a_l) / σ_l²,

as in a Rauch-Tung-Striebel smoother [1]_ with layers in the place of times. W_{l+1}, the linear map
of the next layer, is known, and B = I in the last. Left to members is A_l, and there they are
localised: an activation sees one sum, and a pooled one those of its window, so that all other
entries are zero. Members that differ at one place of every tile of k x k positions, one member for
each place, have in every window each sum once, and give A_l without any noise of sampling.

φ is evaluated and never differentiated, but it is all that is a black box here; where it has a
derivative, this is the Gauss-Newton step by the chain rule as γ → 0. The step is that of
`learning.gauss_newton`.

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
from ekitools.experiments.learning.rank_one import Layer, Network, State, drawn, sum_of

__all__ = ["Chain", "Chains", "Pools", "chained", "logits", "start", "step", "structure"]

Pools = Sequence[tuple[int, int] | None]
"""Size and stride of the pool after every layer but the last, where there is one."""
_AT_ONCE = 125
"""Data in a piece."""


class Chain(NamedTuple):
    """Outputs around ū: what parameters do to them at every datum."""

    network: Network
    pools: Pools
    inputs: list[Any]
    """Of every layer, ``(m, in, height, width)`` or ``(m, in)``."""
    slopes: list[list[Any]]
    """A of every layer but the last: for every place of a window a tensor as φ's values are."""
    outputs: Any
    """Of ū, ``(m, k)``."""

    def along(self, direction: Network) -> Any:
        """The outputs' change ``(m, k)``."""
        change = _sums(direction[0], self.inputs[0])
        for i, (slopes, pool) in enumerate(zip(self.slopes, self.pools, strict=True), start=1):
            seen = torch.zeros_like(slopes[0])
            for slope, place in zip(slopes, _places(change, pool), strict=True):
                seen.addcmul_(slope, place)
            change = _sums(direction[i], self.inputs[i])
            change += _sums(Layer(self.network[i].weights, None), seen)
        return change

    def back(self, v: Any) -> Network:
        """The transpose of `along`, of v ``(m, k)``, summed over the data."""
        found = [_own(v, self.inputs[-1])]
        for i in reversed(range(len(self.slopes))):
            seen = _transposed(self.network[i + 1].weights, v, self.inputs[i + 1])
            h = self.inputs[i]
            size = h.shape[2:] if seen.ndim == 4 else ()  # a convolution keeps it
            v = _channels_last(torch.zeros(*seen.shape[:2], *size))
            for slope, place in zip(self.slopes[i], _places(v, self.pools[i]), strict=True):
                place.addcmul_(slope, seen)
            found.append(_own(v, h))
        return found[::-1]


class Chains(NamedTuple):
    """The same of a batch, in pieces that fit a cache, and the memory of one another."""

    pieces: list[Chain]

    @property
    def outputs(self) -> Any:
        """Of ū, ``(m, k)``."""
        return torch.cat([piece.outputs for piece in self.pieces])

    def along(self, direction: Network) -> Any:
        """The outputs' change ``(m, k)``."""
        return torch.cat([piece.along(direction) for piece in self.pieces])

    def back(self, v: Any) -> Network:
        """The transpose of `along`, of v ``(m, k)``, averaged over the data."""
        pulled = map(Chain.back, self.pieces, (v / len(v)).split(_AT_ONCE))
        return reduce(sum_of, pulled)


def structure(module: Any) -> tuple[list[tuple[int, ...]], Pools]:
    """Shapes of the weights of a stack's layers, and the pools between them."""
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
    """As `rank_one.drawn`, in the layout in which convolutions are fast."""
    mean = [Layer(_channels_last(weights), c) for weights, c in drawn(shapes, sds, seed).mean]
    return State(mean, mean, [])


def logits(network: Network, x: Any, pools: Pools) -> Any:
    """Outputs ``(m, k)`` at inputs ``(m, in, height, width)``."""
    return torch.cat([_outputs(network, piece, pools) for piece in x.split(_AT_ONCE)])


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
        ū.
    x : (m, in, height, width)
        The data's inputs.
    sds : sequence of float
        s of every layer.
    gamma : float
        γ: σ of a layer is γ s times the root mean square, over data and places, of its inputs.
    pools : sequence
        Between the layers.
    """
    return Chains([_chain(mean, piece, sds, gamma, pools) for piece in x.split(_AT_ONCE)])


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
    state: State, x: Any, labels: Any, sds: Sequence[float], options: Any, pools: Pools
) -> tuple[State, float]:
    """One step of the mean, and the loss on the batch around which it was taken.

    Parameters
    ----------
    state, labels, sds
        As of `ekitools.experiments.learning.gauss_newton.step`.
    x, pools
        As of `chained`.
    options : object
        With ``gamma``, and as of `ekitools.experiments.learning.gauss_newton.step`.
    """
    model = chained(state.mean, x, sds, options.gamma, pools)
    outputs = partial(logits, x=x, pools=pools)
    return gauss_newton.step(state, model, labels, sds, options, outputs)


def _slopes(a: Any, phi: Any, sigma: float, pool: tuple[int, int] | None) -> list[Any]:
    """A by members: two, or one for every place of a tile as large as a window."""
    if pool is None:
        return [(_activated(a + sigma, None) - _activated(a - sigma, None)).div_(2 * sigma)]
    size, stride = pool
    period = size // gcd(size, stride)  # windows at these distances lie on their tiles alike
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
    """For every place of a window, the values there, of all windows."""
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
    """φ: the pool, then ReLU, which is the same as ReLU first, and less work."""
    return functional.relu(functional.max_pool2d(a, *pool) if pool else a)


def _sums(layer: Layer, h: Any) -> Any:
    if layer.weights.ndim == 2:
        return functional.linear(h.flatten(1), *layer)
    return functional.conv2d(h, *layer, padding=1)


def _transposed(weights: Any, v: Any, h: Any) -> Any:
    """The transpose of `_sums` in the inputs h."""
    if weights.ndim == 2:
        return _channels_last((v @ weights).view(h.shape))
    return functional.conv_transpose2d(v, weights, padding=1)


def _own(v: Any, h: Any) -> Layer:
    """The transpose of `_sums` in the parameters."""
    if v.ndim == 2:
        return Layer(v.T @ h.flatten(1), v.sum(dim=0))
    weights = conv2d_weight(h, (v.shape[1], h.shape[1], 3, 3), v, padding=1)
    return Layer(_channels_last(weights), v.sum(dim=(0, 2, 3)))


def _channels_last(a: Any) -> Any:
    return a.contiguous(memory_format=torch.channels_last) if a.ndim == 4 else a
