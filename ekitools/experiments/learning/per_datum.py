r"""CurvatureEKI for dense networks, with members of its own for every datum.

With one ensemble for all data, the covariance of parameters and outputs at datum i is an average
over the members, C_i = (1/γJ) Σ_j ξ_j ⊗ f_j(x_i). Its error is that of J draws in all p dimensions.
Let ξ be the deviations of the weights and biases of a layer, with entries N(0, s²), and let h_i be
the inputs of this layer at ū. Datum i depends on ξ only through a = ξ (h_i, 1). Hence

    E[ξ | a] = a (h_i, 1)ᵀ / (|h_i|² + 1),    so    C_i = s² A_iᵀ ⊗ (h_i, 1),
    A_i = Cov(f_i, a) / σ_i²,    σ_i² = s² (|h_i|² + 1),

which integrates the weights out (Rao-Blackwell). Members estimate only A_i, in as many dimensions
as the layer has units. Every datum draws its own members, so the errors of A_i average out over a
batch. Layers are taken one by one, with ū in the other layers. In the last layer A_i = I. The
method sees only outputs of members and differentiates nothing.

The step is that of `ekitools.CurvatureEKI` in the space of parameters, with the covariance
S = diag(s²) of the prior in place of that of an ensemble, and with G_i = C_iᵀ S⁻¹. It is
`gauss_newton.step`, where the linearisation comes from members and not from backpropagation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch

from ekitools.experiments.learning import gauss_newton
from ekitools.experiments.learning.network import (
    Layer,
    Network,
    State,
    logits,
    members_at_once,
    relu,
    sums,
)
from ekitools.experiments.learning.options import Local

__all__ = ["Linearised", "linearised", "step"]


class Linearised(NamedTuple):
    """Outputs of a batch, linearised around ū by members of every datum."""

    inputs: list[Any]
    """Inputs h ``(m, in)`` of every layer."""
    slopes: list[Any]
    """A ``(m, k, out)`` of every layer but the last."""
    outputs: Any
    """Outputs of ū ``(m, k)``, or the mean over the members that differ in the first layer."""

    def along(self, direction: Network) -> Any:
        """The change of the outputs ``(m, k)``."""
        changes = [sums(layer, h) for layer, h in zip(direction, self.inputs, strict=True)]
        seen = [
            torch.bmm(a, change[:, :, None])[:, :, 0]
            for a, change in zip(self.slopes, changes[:-1], strict=True)
        ]
        return sum(seen, changes[-1])

    def back(self, v: Any) -> Network:
        """The transpose of `along` at v ``(m, k)``, averaged over the data."""
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
    options: Local,
    activation: Callable[[Any], Any] = relu,
    averaged: bool = False,
) -> Linearised:
    """Linearise the outputs by the members of every datum.

    Parameters
    ----------
    mean : list of Layer
        The mean ū.
    x : (m, in)
        The inputs of the batch.
    generator : torch.Generator
        Source of the members.
    sds : sequence of float
        Standard deviation s of every layer.
    options : Local
        Its ``members``, for every datum and hidden layer, ``gamma`` and ``antithetic``.
    activation : callable, default relu
        Activation of the hidden layers, in place.
    averaged : bool, default False
        Whether to linearise around the mean of the members' outputs. By default the outputs are
        linearised around those of ū.

    Returns
    -------
    Linearised
        Its expectation has the covariance of outputs with weights drawn with standard deviation γs.
        By default this is exact only where outputs are linear over this spread.
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
        if averaged:  # lengths of Gaussian directions: they matter if outputs are not linear
            lengths = torch.randn(rows.shape, generator=generator, device=rows.device)
            rows *= lengths.norm(dim=1, keepdim=True)
            rows /= z.shape[1] ** 0.5
        rows = torch.cat([rows, -rows]) if options.antithetic else rows
        like_z = {"dtype": z.dtype, "device": z.device}
        signs = torch.randint(2, z.shape, generator=generator, **like_z) * 2 - 1
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
    options: Local,
    *,
    activation: Callable[[Any], Any] = relu,
    averaged: bool = False,
) -> tuple[State, float]:
    """One step of the mean, and the loss on the batch before the step.

    Parameters
    ----------
    state, x, labels, generator, sds, activation
        As of `ekitools.experiments.learning.rank_one.step`. Of the past only the last step is used.
    options : Local
        The options of this step.
    averaged : bool, default False
        Whether the loss is expanded around the mean of the members' outputs. By default a step that
        raises the loss on the batch is halved until the loss is not raised.
    """
    model = linearised(state.mean, x, generator, sds, options, activation, averaged)
    outputs = None if averaged else partial(logits, x=x, activation=activation)
    return gauss_newton.step(state, model, labels, sds, options, outputs)


def _orthogonal(n: int, n_rows: int, generator: Any) -> Any:
    """Rows ``(n_rows, n)`` of length √n. Blocks of n rows are orthogonal."""
    blocks = []
    for i in range(0, n_rows, n):
        size = (n, min(n, n_rows - i))
        q, r = torch.linalg.qr(torch.randn(size, generator=generator, device=generator.device))
        blocks.append((q * r.diagonal().sign()).T * n**0.5)  # with the signs of R, Q is uniform
    return torch.cat(blocks)


def _outputs(
    layers: Network, z: Any, rows: Any, scale: Any, activation: Callable[[Any], Any]
) -> Any:
    """Outputs ``(J, m, k)`` of members whose first layer has the sums ``z + rows[j] * scale``."""
    m = len(z)
    f = z.new_empty((len(rows), m, len(layers[-1].biases)))
    size = members_at_once(layers, m)
    for i in range(0, len(rows), size):
        h = torch.addcmul(z, rows[i : i + size, None], scale)
        for layer in layers[1:]:
            h = sums(layer, activation(h).flatten(0, 1)).view(-1, m, len(layer.biases))
        f[i : i + size] = h
    return f
