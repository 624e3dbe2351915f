r"""CurvatureEKI for dense networks, with members whose deviations are matrices of rank one.

Members are ū + γξ_j, as in `ekitools.CurvatureEKI`, but the deviation of the weights of every layer
has rank one: ξ_j = s b_j a_jᵀ with independent standard normal a_j and b_j. Its mean is zero and
its covariance is s²I, as if its entries were independent (fourth moments differ). A layer of member
j with inputs h then is

    W h + c + γs (a_j·h) b_j + γs e_j.

The product W h has the same weights for all members, and every member adds an outer product. In the
first layer W x is computed once. The method sees only the outputs of the network and differentiates
nothing. Unlike a method for black boxes, it has to know the layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from ekitools.experiments.learning.network import (
    Layer,
    Network,
    State,
    at_once,
    logits,
    members_at_once,
    norm,
    relu,
    residual_of,
    sum_of,
    sums,
)
from ekitools.experiments.learning.options import Factored
from ekitools.linalg import solve_spd

__all__ = ["step"]


class _Deviations(NamedTuple):
    """Deviations of a layer: a ``(J, in)``, s b ``(J, out)`` and, of biases, s e ``(J, out)``."""

    a: Any
    b: Any
    biases: Any


def step(
    state: State,
    x: Any,
    labels: Any,
    generator: Any,
    sds: Sequence[float],
    options: Factored,
    *,
    activation: Callable[[Any], Any] = relu,
    averaged: bool = False,
) -> tuple[State, float]:
    """One step of the mean, and the loss on the batch before the step.

    Parameters
    ----------
    state : State
        The state of the run.
    x, labels : (m, in) and (m,)
        The batch.
    generator : torch.Generator
        Source of the members.
    sds : sequence of float
        Standard deviation s of every layer.
    options : Factored
        The options of this step.
    activation : callable, default relu
        Activation of the hidden layers, in place.
    averaged : bool, default False
        Whether the loss is expanded around the mean of the members' outputs. This mean is smooth in
        ū even if the outputs are not. By default the loss is expanded around the outputs of ū.
    """
    mean, past = state.mean, state.past
    deviations = _drawn(mean, sds, options, generator)
    f = x.new_empty((options.members + len(past), len(x), len(mean[-1].biases)))
    _outputs(mean, deviations, options.gamma, x, f, activation)
    for i, before in enumerate(past):
        f[options.members + i] = logits(sum_of(mean, before, options.gamma), x, activation)
    centre = f[: options.members].mean(dim=0) if averaged else logits(mean, x, activation)
    f -= centre
    f /= options.gamma

    share = centre.softmax(dim=1)
    loss = -float(share.gather(1, labels[:, None]).log().mean())
    w = _weights(f, share, labels, options.damping)
    w_new, w_past = w[: options.members], w[options.members :]
    if averaged:  # f_j is the change of outputs by ξ_j minus the mean of the draws
        w_new = w_new - w.sum() / options.members
    move = [Layer((b * w_new[:, None]).T @ a, w_new @ e) for a, b, e in deviations]
    for weight, before in zip(w_past, past, strict=True):
        move = sum_of(move, before, float(weight))
    kept_part = 1 - options.decay / options.damping
    mean = [Layer(kept_part * layer.weights, layer.biases) for layer in sum_of(mean, move)]
    latest = [_as_long_as_a_draw(move, sds), *past][: options.memory]
    return state.moved(mean, latest, options.averaging), loss


def _drawn(
    mean: Network, sds: Sequence[float], options: Factored, generator: Any
) -> list[_Deviations]:
    """Deviations of the members, for every layer."""
    n = options.members // 2 if options.antithetic else options.members

    def draws(size: int) -> Any:
        return torch.randn(n, size, generator=generator, device=generator.device)

    deviations = [
        _Deviations(
            draws(layer.weights.shape[1]),
            sd * draws(len(layer.biases)),
            sd * draws(len(layer.biases)),
        )
        for layer, sd in zip(mean, sds, strict=True)
    ]
    if not options.antithetic:
        return deviations
    return [
        _Deviations(torch.cat([a, a]), torch.cat([b, -b]), torch.cat([e, -e]))
        for a, b, e in deviations
    ]


def _weights(f: Any, share: Any, labels: Any, damping: float) -> Any:
    """The step as weights ``(J,)`` of the deviations, whose outputs ``f`` change by (J, m, k).

    The step minimises the damped quadratic model of cross-entropy. ``f`` is overwritten.
    """
    slope = f.flatten(1) @ residual_of(share, labels).flatten() / len(labels)
    root = share.sqrt()  # diag p − ppᵀ = LLᵀ with L = diag(√p)(I − √p√pᵀ)
    for part in f.split(at_once(share.numel(), f.device)):
        part.mul_(root)
        part.sub_(root * (part * root).sum(dim=2, keepdim=True))
    gram = (f.flatten(1) @ f.flatten(1).T).cpu().double().numpy() / len(labels)
    weights = -solve_spd(gram, damping, slope.cpu().double().numpy()[None])[0]
    return torch.from_numpy(weights).float().to(f.device)


def _as_long_as_a_draw(move: Network, sds: Sequence[float]) -> Network:
    """The direction of a step, with the length of a draw of the prior."""
    sizes = [layer.weights.numel() + len(layer.biases) for layer in move]
    drawn = np.sqrt(sum(sd**2 * size for sd, size in zip(sds, sizes, strict=True)))
    length = float(drawn) / max(norm(move), 1e-30)
    return [Layer(*(length * part for part in layer)) for layer in move]


def _outputs(
    mean: Network,
    deviations: list[_Deviations],
    gamma: float,
    x: Any,
    out: Any,
    activation: Callable[[Any], Any],
) -> None:
    """Write the logits of all members to the first J rows of ``out`` (J + K, m, k)."""
    n, m = len(deviations[0].a), len(x)
    shared = sums(mean[0], x)
    slopes = gamma * (deviations[0].a @ x.T)
    size = members_at_once(mean, m)
    for i in range(0, n, size):
        c = slice(i, min(i + size, n))
        _, b, e = deviations[0]
        h = torch.baddbmm(shared + gamma * e[c, None], slopes[c, :, None], b[c, None])
        for layer, (a, b, e) in zip(mean[1:], deviations[1:], strict=True):
            h = activation(h)
            along = gamma * torch.bmm(h, a[c, :, None])
            h = (h.flatten(0, 1) @ layer.weights.T).view(len(h), m, -1)
            h += (layer.biases + gamma * e[c])[:, None]
            h.baddbmm_(along, b[c, None])
        out[c] = h
