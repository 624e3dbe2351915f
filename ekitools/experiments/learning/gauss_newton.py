"""A step of the mean, where the loss's curvature is known along outputs and outputs are linearised.

With G_i the linearisation of the outputs at datum i of a batch, S = diag(s²) the prior's covariance
of the parameters, p and y shares and labels of cross-entropy and r = p - y, the step is towards the
minimum over d of

    (1/m) Σ_i [r_iᵀ G_i d + ½ dᵀ G_iᵀ (diag p_i - p_i p_iᵀ) G_i d] + ½ λ dᵀ S⁻¹ d,

by a few iterations of conjugate gradients that start from a part of the step before [1]_.

References
----------
.. [1] Martens (2010), Deep learning via Hessian-free optimization, ICML.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

from ekitools.experiments.learning.rank_one import (
    Layer,
    Network,
    State,
    moving_average,
    residual_of,
    sum_of,
)

__all__ = ["Linear", "step"]

_HALVINGS = 10


class Linear(Protocol):
    """Outputs around ū: what parameters do to them, at every datum of a batch."""

    @property
    def outputs(self) -> Any:
        """``(m, k)``."""

    def along(self, direction: Network) -> Any:
        """The outputs' change G d ``(m, k)``."""

    def back(self, v: Any) -> Network:
        """The transpose, of v ``(m, k)``, averaged over the data."""


def step(
    state: State,
    model: Linear,
    labels: Any,
    sds: Sequence[float],
    options: Any,
    outputs: Callable[[Network], Any] | None = None,
) -> tuple[State, float]:
    """One step of the mean, and the loss on the batch around which it was taken.

    Parameters
    ----------
    state : State
        Where the run is; of the past only the last step is used.
    model : Linear
        The outputs on the batch, around the mean.
    labels : (m,)
        The batch's.
    sds : sequence of float
        s of every layer.
    options : object
        With ``damping``, ``prior``, ``iterations``, ``momentum`` and ``averaging``.
    outputs : callable, optional
        Of any parameters, on the batch: a step that raises its loss is halved until it does not.
    """
    mean, average, past = state
    share = model.outputs.softmax(dim=1)
    pulls = [options.prior / sd**2 for sd in sds]

    def curved(d: Network) -> Network:
        z = share * model.along(d)
        own = model.back(z - share * z.sum(dim=1, keepdim=True))
        return [
            Layer(
                g.weights + (options.damping / sd**2 + pull) * layer.weights,
                g.biases + options.damping / sd**2 * layer.biases,
            )
            for g, layer, sd, pull in zip(own, d, sds, pulls, strict=True)
        ]

    downhill = [
        Layer(-g.weights - pull * layer.weights, -g.biases)
        for g, layer, pull in zip(model.back(residual_of(share, labels)), mean, pulls, strict=True)
    ]
    last = past[0] if past else sum_of(mean, mean, -1.0)  # zero, at first
    start = _scaled(last, [options.momentum] * len(sds))
    move = _conjugate_gradients(curved, downhill, start, sds, options.iterations)
    loss = _loss(model.outputs, labels)
    moved = sum_of(mean, move)
    if outputs is not None:
        for _ in range(_HALVINGS):
            if _loss(outputs(moved), labels) <= loss:
                break
            move = _scaled(move, [0.5] * len(sds))
            moved = sum_of(mean, move)
    average = moving_average(average, moved, options.averaging)
    return State(moved, average, [move]), loss


def _loss(outputs: Any, labels: Any) -> float:
    return float(torch.nn.functional.cross_entropy(outputs, labels))


def _conjugate_gradients(
    product: Callable[[Network], Network],
    right: Network,
    start: Network,
    sds: Sequence[float],
    n_iterations: int,
) -> Network:
    """Towards the solution of ``product(d) = right``, preconditioned by S."""
    variances = [sd**2 for sd in sds]
    d, rest = start, sum_of(right, product(start), -1.0)
    along = lead = _scaled(rest, variances)
    first = size = _dot(rest, lead)
    for _ in range(n_iterations):
        if size <= 1e-12 * first:  # solved, to rounding
            break
        ahead = product(along)
        length = size / _dot(along, ahead)
        d, rest = sum_of(d, along, length), sum_of(rest, ahead, -length)
        lead = _scaled(rest, variances)
        before, size = size, _dot(rest, lead)
        along = sum_of(lead, along, size / before)
    return d


def _dot(a: Network, b: Network) -> float:
    return sum(
        float(torch.dot(p.flatten(), q.flatten()))
        for layers in zip(a, b, strict=True)
        for p, q in zip(*layers, strict=True)
    )


def _scaled(network: Network, factors: Sequence[float]) -> Network:
    return [
        Layer(factor * layer.weights, factor * layer.biases)
        for layer, factor in zip(network, factors, strict=True)
    ]
