r"""CurvatureEKI for dense networks, with members of its own for every datum.

With one ensemble for all data the covariance of parameters and outputs at datum i is an average
over its members, C_i = (1/γJ) Σ_j ξ_j ⊗ f_j(x_i), whose error is that of J draws in all p
dimensions. But of ξ, deviations of a layer's weights and biases with entries N(0, s²), datum i
sees nothing but a = ξ (h_i, 1), h_i the layer's inputs at ū. Given a, outputs do not depend on ξ,
and

    E[ξ | a] = a (h_i, 1)ᵀ / (|h_i|² + 1),    so    C_i = s² A_iᵀ ⊗ (h_i, 1),
    A_i = Cov(f_i, a) / σ_i²,    σ_i² = s² (|h_i|² + 1),

with the weights integrated out (Rao-Blackwell). What is left to members is A_i, in as many
dimensions as the layer has units; every datum draws them anew, so that the errors of A_i average
out over a batch. Layers are taken one by one, with ū in the others; in the last, A_i = I. Outputs
of members are all that is seen of what comes after a layer, and nothing is differentiated.

The step is that of `ekitools.CurvatureEKI`, in the space of parameters, with the prior's
covariance S = diag(s²) for that of an ensemble and G_i = C_iᵀ S⁻¹: see `gauss_newton`, where the
linearisation comes from members and not from backpropagation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch

from ekitools.experiments.learning import gauss_newton
from ekitools.experiments.learning.rank_one import (
    Layer,
    Network,
    State,
    logits,
    members_at_once,
    relu,
    sums,
)

__all__ = ["Linearised", "linearised", "step"]


class Linearised(NamedTuple):
    """Outputs around ū: what layer l's parameters do to them at every datum."""

    inputs: list[Any]
    """h, ``(m, in)`` of every layer."""
    slopes: list[Any]
    """A, ``(m, k, out)`` of every layer but the last."""
    outputs: Any
    """Of ū, or their mean over the members that differ in the first layer, ``(m, k)``."""

    def along(self, direction: Network) -> Any:
        """The outputs' change ``(m, k)``."""
        changes = [sums(layer, h) for layer, h in zip(direction, self.inputs, strict=True)]
        seen = [
            torch.bmm(a, change[:, :, None])[:, :, 0]
            for a, change in zip(self.slopes, changes[:-1], strict=True)
        ]
        return sum(seen, changes[-1])

    def back(self, v: Any) -> Network:
        """The transpose of `along`, of v ``(m, k)``, averaged over the data."""
        seen = [torch.bmm(v[:, None], a)[:, 0] for a in self.slopes]
        return [
            Layer(part.T @ h / len(h), part.mean(dim=0))
            for part, h in zip([*seen, v], self.inputs, strict=True)
        ]


def linearised(
    mean: Network,
    x: Any,
    generator: Any,
    sds: Sequence[float],
    options: Any,
    activation: Callable[[Any], Any] = relu,
    averaged: bool = False,
) -> Linearised:
    """Linearise the outputs by the members of every datum.

    Parameters
    ----------
    mean : list of Layer
        ū.
    x : (m, in)
        The data's inputs.
    generator : torch.Generator
        Source of the members.
    sds : sequence of float
        s of every layer.
    options : object
        With ``members``, for every datum and hidden layer, ``gamma`` and ``antithetic``.
    activation : callable, default relu
        Of hidden layers, in place.
    averaged : bool, default False
        Whether around the mean of the members' outputs, in place of the outputs of ū.

    Returns
    -------
    Linearised
        In expectation, what weights drawn with γs as their standard deviation have as covariance
        with outputs; if not ``averaged``, where outputs are linear over this spread.
    """
    inputs, hidden = [x], []
    for layer in mean[:-1]:
        hidden.append(sums(layer, inputs[-1]))
        inputs.append(activation(hidden[-1].clone()))
    centre = outputs = sums(mean[-1], inputs[-1])
    slopes = []
    for i, (h, z, sd) in enumerate(zip(inputs[:-1], hidden, sds[:-1], strict=True)):
        sigma = options.gamma * sd * (h.square().sum(dim=1) + 1).sqrt()
        pairs = 2 if options.antithetic else 1
        rows = _orthogonal(z.shape[1], options.members // pairs, generator)
        if averaged:  # lengths as Gaussian directions have them: what is not linear would see it
            rows *= torch.randn(rows.shape, generator=generator).norm(dim=1, keepdim=True)
            rows /= z.shape[1] ** 0.5
        rows = torch.cat([rows, -rows]) if options.antithetic else rows
        signs = torch.randint(2, z.shape, generator=generator, dtype=z.dtype) * 2 - 1
        f = _outputs(mean[i:], z, rows, signs * sigma[:, None], activation)
        middle = f.mean(dim=0) if averaged else outputs
        centre = middle if i == 0 else centre
        f -= middle
        f /= sigma[:, None]
        slope = (f.flatten(1).T @ rows).view(*outputs.shape, -1) / len(rows)
        slopes.append(slope.mul_(signs[:, None]))
    return Linearised(inputs, slopes, centre)


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
    state, x, labels, generator, sds, activation
        As of `ekitools.experiments.learning.rank_one.step`; of the past only the last step is used.
    options : object
        With ``members``, ``gamma`` and ``antithetic``, and as of
        `ekitools.experiments.learning.gauss_newton.step`.
    averaged : bool, default False
        Whether the loss is expanded around the mean of the members' outputs. If not, a step that
        raises the batch's loss is halved until it does not.
    """
    model = linearised(state.mean, x, generator, sds, options, activation, averaged)
    outputs = None if averaged else partial(logits, x=x, activation=activation)
    return gauss_newton.step(state, model, labels, sds, options, outputs)


def _orthogonal(n: int, n_rows: int, generator: Any) -> Any:
    """Rows ``(n_rows, n)`` of length √n, in blocks of n that are orthogonal."""
    blocks = []
    for i in range(0, n_rows, n):
        q, r = torch.linalg.qr(torch.randn(n, min(n, n_rows - i), generator=generator))
        blocks.append((q * r.diagonal().sign()).T * n**0.5)  # with R's signs Q is uniform
    return torch.cat(blocks)


def _outputs(
    layers: Network, z: Any, rows: Any, scale: Any, activation: Callable[[Any], Any]
) -> Any:
    """Outputs ``(J, m, k)`` of members with ``z + rows[j] * scale`` as sums of the first layer."""
    m = len(z)
    f = torch.empty((len(rows), m, len(layers[-1].biases)))
    size = members_at_once(layers, m)
    for i in range(0, len(rows), size):
        h = torch.addcmul(z, rows[i : i + size, None], scale)
        for layer in layers[1:]:
            h = sums(layer, activation(h).flatten(0, 1)).view(-1, m, len(layer.biases))
        f[i : i + size] = h
    return f
