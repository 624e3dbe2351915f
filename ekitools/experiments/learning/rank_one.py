r"""CurvatureEKI for dense networks, with members that are cheap to evaluate.

Members are ū + γξ_j, as in `ekitools.CurvatureEKI`, but the deviation of every layer's weights is
of rank one, ξ_j = s b_j a_jᵀ with independent standard normal a_j and b_j: mean zero and covariance
s²I, as if its entries were independent (fourth moments differ). A layer of member j with inputs h
then is

    W h + c + γs (a_j·h) b_j + γs e_j,

with a product that has the mean's weights for all members, and an outer product for each. In the
first layer W x is computed once. Outputs are all that is seen of the network, and nothing is
differentiated; but unlike a black box it has to know of the factors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ekitools.linalg import solve_spd

__all__ = [
    "Layer",
    "Network",
    "State",
    "drawn",
    "heaviside",
    "loaded",
    "logits",
    "members_at_once",
    "moving_average",
    "norm",
    "relu",
    "residual_of",
    "save",
    "start",
    "step",
    "sum_of",
    "sums",
]

_VALUES = 2**21
"""Hidden values in memory at once: they should stay in a CPU's cache."""


class Layer(NamedTuple):
    """Weights ``(out, in)`` and biases ``(out,)``."""

    weights: Any
    biases: Any


Network = list[Layer]


class Directions(NamedTuple):
    """Rank-one deviations of a layer: a ``(J, in)``, s b ``(J, out)`` and s e ``(J, out)``."""

    a: Any
    b: Any
    biases: Any


class State(NamedTuple):
    """What a run needs to go on."""

    mean: Network
    average: Network
    past: list[Network]
    """Latest steps of the mean, each as long as a draw."""


def start(sizes: Sequence[int], sds: Sequence[float], seed: int) -> State:
    """`drawn` for dense layers between so many units."""
    return drawn([(n_out, n_in) for n_in, n_out in pairwise(sizes)], sds, seed)


def drawn(shapes: Sequence[tuple[int, ...]], sds: Sequence[float], seed: int) -> State:
    """A draw with standard deviation ``sds`` of the weights of every layer, and biases of zero."""
    generator = torch.Generator().manual_seed(seed)
    mean = [
        Layer(sd * torch.randn(shape, generator=generator), torch.zeros(shape[0]))
        for shape, sd in zip(shapes, sds, strict=True)
    ]
    return State(mean, mean, [])


def save(path: Path, state: State, trace: list[Any]) -> None:
    """A checkpoint, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    networks = [[tuple(layer) for layer in network] for network in (*state[:2], *state.past)]
    torch.save({"networks": networks, "trace": trace}, new)
    new.replace(path)


def loaded(path: Path) -> tuple[State, list[Any]]:
    """What `save` wrote."""
    saved = torch.load(path, weights_only=True)
    networks = [[Layer(*layer) for layer in network] for network in saved["networks"]]
    return State(networks[0], networks[1], networks[2:]), saved["trace"]


def sum_of(network: Network, other: Network, factor: float = 1.0) -> Network:
    """Parameters of one plus ``factor`` times those of the other."""
    return [
        Layer(*(a.add(b, alpha=factor) for a, b in zip(*layers, strict=True)))
        for layers in zip(network, other, strict=True)
    ]


def norm(network: Network) -> float:
    """Euclidean, of all parameters."""
    return float(np.sqrt(sum(float(part.square().sum()) for layer in network for part in layer)))


def relu(z: Any) -> Any:
    """max(z, 0), in place."""
    return z.relu_()


def heaviside(z: Any) -> Any:
    """1 for z > 0, else 0, in place."""
    return z.gt_(0)


def sums(layer: Layer, x: Any) -> Any:
    """W x + c ``(m, out)`` at inputs ``(m, in)``."""
    return torch.addmm(layer.biases, x, layer.weights.T)


def logits(network: Network, x: Any, activation: Callable[[Any], Any] = relu) -> Any:
    """Outputs ``(m, k)`` at inputs ``(m, in)``."""
    for layer in network[:-1]:
        x = activation(sums(layer, x))
    return sums(network[-1], x)


def residual_of(share: Any, labels: Any) -> Any:
    """Slope p - y ``(m, k)`` of cross-entropy in the logits; ``share``, p, is their softmax."""
    return share.scatter_add(1, labels[:, None], -torch.ones_like(share[:, :1]))


def members_at_once(layers: Network, m: int) -> int:
    """How many members' hidden values for m data stay within `_VALUES`."""
    return max(1, _VALUES // (m * max(len(layer.biases) for layer in layers)))


def moving_average(average: Network, mean: Network, of_past: float) -> Network:
    """The average with a mean more, ``of_past`` being the weight of what there was."""
    return sum_of(average, sum_of(mean, average, -1.0), 1 - of_past)


def step(
    state: State,
    x: Any,
    labels: Any,
    generator: Any,
    sds: Sequence[float],
    options: Any,
    *,
    activation: Callable[[Any], Any] = relu,
    averaged: bool = False,
) -> tuple[State, float]:
    """One step of the mean, and the loss on the batch around which it was taken.

    Parameters
    ----------
    state : State
        Where the run is.
    x, labels : (m, in) and (m,)
        The batch.
    generator : torch.Generator
        Source of the members.
    sds : sequence of float
        s of every layer.
    options : object
        With ``members``, ``antithetic``, ``gamma``, ``damping``, ``decay``, ``memory`` and
        ``averaging``.
    activation : callable, default relu
        Of hidden layers, in place.
    averaged : bool, default False
        Whether the loss is expanded around the mean of the members' outputs, which is smooth in
        ū where the outputs themselves are not, in place of the outputs of ū.
    """
    mean, average, past = state
    n = options.members // 2 if options.antithetic else options.members
    directions = [
        Directions(
            torch.randn(n, layer.weights.shape[1], generator=generator),
            sd * torch.randn(n, len(layer.biases), generator=generator),
            sd * torch.randn(n, len(layer.biases), generator=generator),
        )
        for layer, sd in zip(mean, sds, strict=True)
    ]
    if options.antithetic:
        directions = [
            Directions(torch.cat([a, a]), torch.cat([b, -b]), torch.cat([e, -e]))
            for a, b, e in directions
        ]
    f = torch.empty((options.members + len(past), len(x), len(mean[-1].biases)))
    _outputs(mean, directions, options.gamma, x, f, activation)
    for i, before in enumerate(past):
        f[options.members + i] = logits(sum_of(mean, before, options.gamma), x, activation)
    centre = f[: options.members].mean(dim=0) if averaged else logits(mean, x, activation)
    f -= centre
    f /= options.gamma

    share = centre.softmax(dim=1)
    chosen = share.gather(1, labels[:, None])
    slope = f.flatten(1) @ residual_of(share, labels).flatten() / len(labels)
    root = share.sqrt()  # diag p − ppᵀ = LLᵀ with L = diag(√p)(I − √p√pᵀ)
    for part in f.split(max(1, _VALUES // centre.numel())):
        part.mul_(root)
        part.sub_(root * (part * root).sum(dim=2, keepdim=True))
    gram = (f.flatten(1) @ f.flatten(1).T).double().numpy() / len(labels)
    weights = -solve_spd(gram, options.damping, slope.double().numpy()[None])[0]
    w = torch.from_numpy(weights).float()

    w_new, w_past = w[: options.members], w[options.members :]
    if averaged:  # f_j belongs to ξ_j less the mean of the draws
        w_new = w_new - w.sum() / options.members
    move = [Layer((b * w_new[:, None]).T @ a, w_new @ e) for a, b, e in directions]
    for weight, before in zip(w_past, past, strict=True):
        move = sum_of(move, before, float(weight))
    sizes = [layer.weights.numel() + len(layer.biases) for layer in mean]
    drawn = np.sqrt(sum(sd**2 * size for sd, size in zip(sds, sizes, strict=True)))
    length = float(drawn) / max(norm(move), 1e-30)
    kept = [Layer(*(length * part for part in layer)) for layer in move]
    kept_part = 1 - options.decay / options.damping
    mean = [Layer(kept_part * layer.weights, layer.biases) for layer in sum_of(mean, move)]
    average = moving_average(average, mean, options.averaging)
    loss = -float(chosen.log().mean())
    return State(mean, average, [kept, *past][: options.memory]), loss


def _outputs(
    mean: Network,
    directions: list[Directions],
    gamma: float,
    x: Any,
    out: Any,
    activation: Callable[[Any], Any],
) -> None:
    """Logits of all members into the first rows of ``out`` (J + K, m, k)."""
    n, m = len(directions[0].a), len(x)
    shared = sums(mean[0], x)
    slopes = gamma * (directions[0].a @ x.T)
    size = members_at_once(mean, m)
    for i in range(0, n, size):
        c = slice(i, min(i + size, n))
        _, b, e = directions[0]
        h = torch.baddbmm(shared + gamma * e[c, None], slopes[c, :, None], b[c, None])
        for layer, (a, b, e) in zip(mean[1:], directions[1:], strict=True):
            h = activation(h)
            along = gamma * torch.bmm(h, a[c, :, None])
            h = (h.flatten(0, 1) @ layer.weights.T).view(len(h), m, -1)
            h += (layer.biases + gamma * e[c])[:, None]
            h.baddbmm_(along, b[c, None])
        out[c] = h
