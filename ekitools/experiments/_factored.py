r"""CurvatureEKI for a network with one hidden layer, with members that are cheap to evaluate.

Members are ū + γξ_j, as in `ekitools.CurvatureEKI`, but for the first layer ξ_j = s a_j b_jᵀ with
independent standard normal a_j and b_j: mean zero and covariance s²I, as if its entries were
independent (fourth moments differ). On a batch x the hidden layer of member j is then

    W₁x + b₁ + γs (a_j·x) b_j + γ (its bias's draw),

one matrix product shared by all members and an outer product for each, in place of a matrix product
for each. Outputs are all that is seen of the network, and nothing is differentiated; but unlike a
black box it has to know of the factors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ekitools.linalg import solve_spd

__all__ = ["Directions", "Network", "draw", "heaviside", "logits", "relu", "step"]

_CHUNK = 20
"""Members whose hidden layers are in memory at once."""


class Network(NamedTuple):
    """Parameters of in-h-k: weights ``(h, in)``, ``(h,)``, ``(k, h)``, ``(k,)``."""

    w1: np.ndarray
    b1: np.ndarray
    w2: np.ndarray
    b2: np.ndarray

    def plus(self, other: Network, factor: float = 1.0) -> Network:
        """Entry by entry."""
        f = np.float32(factor)
        return Network(*(a + f * b for a, b in zip(self, other, strict=True)))

    def norm(self) -> float:
        """Euclidean, of all parameters."""
        return float(np.sqrt(sum(np.vdot(part, part) for part in self)))


class Directions(NamedTuple):
    """J random deviations: first-layer factors ``(J, in)`` and ``(J, h)``, and the rest, dense."""

    a: np.ndarray
    b: np.ndarray
    b1: np.ndarray
    w2: np.ndarray
    b2: np.ndarray

    def combined(self, weights: np.ndarray) -> Network:
        """Σ_j w_j ξ_j."""
        w1 = (self.b * weights[:, None]).T @ self.a
        return Network(w1, weights @ self.b1, np.tensordot(weights, self.w2, 1), weights @ self.b2)


def draw(rng: np.random.Generator, n: int, mean: Network, sd: float) -> Directions:
    """``n`` deviations of standard deviation ``sd`` in every parameter."""
    (h, width), k = mean.w1.shape, len(mean.b2)

    def normal(*shape: int, scale: float = sd) -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32) * np.float32(scale)

    return Directions(
        normal(n, width, scale=1.0), normal(n, h), normal(n, h), normal(n, k, h), normal(n, k)
    )


def relu(hidden: np.ndarray) -> np.ndarray:
    """max(z, 0), in place."""
    return np.maximum(hidden, 0, out=hidden)


def heaviside(hidden: np.ndarray) -> np.ndarray:
    """1 for z > 0, else 0, in place."""
    return np.greater(hidden, 0, out=hidden)


def logits(
    network: Network, x: np.ndarray, activation: Callable[[np.ndarray], np.ndarray] = relu
) -> np.ndarray:
    """Outputs ``(k, m)`` at inputs ``(m, in)``."""
    hidden = activation(network.w1 @ x.T + network.b1[:, None])
    return np.asarray(network.w2 @ hidden + network.b2[:, None])


def _differences(
    mean: Network,
    directions: Directions,
    gamma: float,
    x: np.ndarray,
    past: list[Network],
    activation: Callable[[np.ndarray], np.ndarray] = relu,
    *,
    averaged: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """(z_j − z)/γ ``(J + K, k, m)``, and z ``(k, m)``: z(ū), or the mean of the draws' z_j."""
    g, n = np.float32(gamma), len(directions.a)
    shared = mean.w1 @ x.T + mean.b1[:, None]
    slopes = directions.a @ x.T
    out = np.empty((n + len(past), len(mean.b2), len(x)), np.float32)
    hidden = np.empty((_CHUNK, *shared.shape), np.float32)
    for i in range(0, n, _CHUNK):
        c = slice(i, min(i + _CHUNK, n))
        h = hidden[: c.stop - c.start]
        np.multiply((g * directions.b[c])[:, :, None], slopes[c, None, :], out=h)
        h += shared
        h += (g * directions.b1[c])[:, :, None]
        activation(h)
        np.matmul(mean.w2 + g * directions.w2[c], h, out=out[c])
        out[c] += (mean.b2 + g * directions.b2[c])[:, :, None]
    for i, before in enumerate(past):
        out[n + i] = logits(mean.plus(before, gamma), x, activation)
    centre = out[:n].mean(axis=0) if averaged else logits(mean, x, activation)
    out -= centre
    out /= g
    return out, centre


def step(
    mean: Network,
    past: list[Network],
    batch: tuple[np.ndarray, np.ndarray],
    rng: np.random.Generator,
    options: Any,
    *,
    activation: Callable[[np.ndarray], np.ndarray] = relu,
    averaged: bool = False,
) -> tuple[Network, list[Network]]:
    """One step of the mean; also the latest steps, each as long as a draw.

    Parameters
    ----------
    mean : Network
        ū.
    past : list of Network
        Latest steps, which are members too.
    batch : (m, in) and (m,)
        Inputs and labels.
    rng : numpy.random.Generator
        Source of the members.
    options : object
        With ``members``, ``gamma``, ``spread`` (the standard deviation of a draw), ``damping``
        and ``memory``.
    activation : callable, default relu
        Of the hidden layer, in place.
    averaged : bool, default False
        Whether the loss is expanded around the mean of the members' outputs, which is smooth in
        ū where the outputs themselves are not, in place of the outputs of ū.
    """
    x, labels = batch
    directions = draw(rng, options.members, mean, options.spread)
    f, centre = _differences(
        mean, directions, options.gamma, x, past, activation, averaged=averaged
    )
    share = np.exp(centre - centre.max(axis=0))
    share /= share.sum(axis=0)
    residual = share.copy()
    residual[labels, np.arange(len(labels))] -= 1
    slope = f.reshape(len(f), -1) @ residual.ravel() / len(labels)
    root = np.sqrt(share)  # diag p − ppᵀ = LLᵀ with L = diag(√p)(I − √p√pᵀ)
    for i in range(0, len(f), _CHUNK):
        part = f[i : i + _CHUNK]
        part *= root
        part -= root * np.sum(part * root, axis=1, keepdims=True)
    flat = f.reshape(len(f), -1)
    gram = (flat @ flat.T).astype(np.float64) / len(labels)
    weights = -solve_spd(gram, options.damping, slope[None].astype(np.float64))[0]
    weights = weights.astype(np.float32)
    if averaged:  # f_j belongs to ξ_j less the mean of the draws
        weights[: options.members] -= weights.sum() / np.float32(options.members)
    move = directions.combined(weights[: options.members])
    for weight, before in zip(weights[options.members :], past, strict=True):
        move = move.plus(before, float(weight))
    length = options.spread * np.sqrt(sum(part.size for part in move)) / max(move.norm(), 1e-30)
    zero = Network(*(np.zeros_like(part) for part in move))
    return mean.plus(move), [zero.plus(move, length), *past][: options.memory]
