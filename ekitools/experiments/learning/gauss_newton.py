"""A Gauss-Newton step of the mean, for cross-entropy and linearised outputs.

Let G_i be the linearised outputs at datum i of a batch, and S = diag(s²) the covariance of the
prior. Let p be the softmax of the outputs, y the labels of cross-entropy, and r = p - y. The step
goes towards the minimum over d of

    (1/m) Σ_i [r_iᵀ G_i d + ½ dᵀ G_iᵀ (diag p_i - p_i p_iᵀ) G_i d] + ½ λ dᵀ S⁻¹ d.

It takes a few iterations of conjugate gradients, which start from a part of the last step [1]_.

References
----------
.. [1] Martens (2010), Deep learning via Hessian-free optimization, ICML.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

from ekitools.experiments.learning.network import Layer, Network, State, residual_of, sum_of
from ekitools.experiments.learning.options import GaussNewton

__all__ = ["Linear", "step"]

_HALVINGS = 10


class Linear(Protocol):
    """Outputs of a batch, linearised around ū."""

    @property
    def outputs(self) -> Any:
        """Outputs of ū ``(m, k)``."""

    def along(self, direction: Network) -> Any:
        """The change of the outputs, G d ``(m, k)``."""

    def back(self, v: Any) -> Network:
        """The transpose of `along` at v ``(m, k)``, averaged over the data."""


def step(
    state: State,
    model: Linear,
    labels: Any,
    sds: Sequence[float],
    options: GaussNewton,
    outputs: Callable[[Network], Any] | None = None,
) -> tuple[State, float]:
    """One step of the mean, and the loss on the batch before the step.

    Parameters
    ----------
    state : State
        The state of the run. Of its past only the last step is used.
    model : Linear
        The linearised outputs on the batch.
    labels : (m,)
        The labels of the batch.
    sds : sequence of float
        Standard deviation s of every layer.
    options : GaussNewton
        The options of this step.
    outputs : callable, optional
        Outputs of any parameters on the batch. If they are given, a step that raises the loss is
        halved until the loss is not raised, at most ten times.
    """
    mean, past = state.mean, state.past
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
    return state.moved(moved, [move], options.averaging), loss


def _loss(outputs: Any, labels: Any) -> float:
    return float(torch.nn.functional.cross_entropy(outputs, labels))


def _conjugate_gradients(
    product: Callable[[Network], Network],
    right: Network,
    start: Network,
    sds: Sequence[float],
    n_iterations: int,
) -> Network:
    """Approximate the solution of ``product(d) = right``, preconditioned by S."""
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
