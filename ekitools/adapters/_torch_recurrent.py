"""Recurrent layers evaluated for many members at once.

`torch.vmap` cannot batch torch's own recurrent layers. Within `explicit_recurrence`, the recurrent
layers of a module compute their time steps in elementary operations, for all members of a chunk
together. Hidden states have the layout (member, unit, sample), so a time step of a layer consists
of two batched matrix products and the activations. All layers compute one time step before the
next begins, which keeps the working set in a CPU's cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

__all__ = ["explicit_recurrence", "is_explicit"]

_TYPES = (nn.RNN, nn.GRU, nn.LSTM)


def is_explicit(module: Any) -> bool:
    """Whether a module is a supported recurrent layer: one direction, no projection."""
    return type(module) in _TYPES and not module.bidirectional and not module.proj_size


@contextmanager
def explicit_recurrence(module: Any) -> Iterator[None]:
    """Let `torch.vmap` batch the recurrent layers of ``module`` (eval mode) in this block."""
    layers = [each for each in module.modules() if is_explicit(each)]
    for layer in layers:
        layer.forward = partial(_forward, layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # restores the method of the class


def _forward(layer: Any, x: Any, hx: Any = None) -> Any:
    """Replacement of the layer's forward; unsupported inputs use the original method."""
    if hx is not None or not torch.is_tensor(x) or x.ndim != 3:
        return type(layer).forward(layer, x, hx)
    by_time = x.permute(1, 2, 0) if layer.batch_first else x.permute(0, 2, 1)
    names = ["weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if layer.bias else ())]
    weights = [getattr(layer, f"{name}_l{i}") for i in range(layer.num_layers) for name in names]
    out, h, c = _Recurrence.apply(layer.mode, layer.num_layers, by_time, *weights)
    out = out.permute(2, 0, 1) if layer.batch_first else out.permute(0, 2, 1)
    h, c = h.transpose(1, 2), c.transpose(1, 2)
    return out, ((h, c) if layer.mode == "LSTM" else h)


class _Layer(NamedTuple):
    """Weights of J members: ``(J, g h, in)`` and ``(J, g h, h)``, with the g gates stacked.

    Biases are ``(J, g h, 1)``. The second bias is None if it was added to the first.
    """

    w: Any
    u: Any
    bias: Any
    bias_of_u: Any


class _Recurrence(torch.autograd.Function):  # type: ignore[misc]  # torch is untyped here
    """Outputs ``(T, h, N)`` and last states ``(layers, h, N)`` of inputs ``(T, in, N)``."""

    @staticmethod
    def forward(mode: str, n_layers: int, x: Any, *weights: Any) -> Any:
        """Evaluate one member; used when all weights are constants."""
        stacked = [each[None] for each in weights]
        return tuple(each[0] for each in _run(mode, n_layers, x, stacked))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Save nothing, because no gradients are needed."""

    @staticmethod
    def vmap(info: Any, in_dims: Any, mode: str, n_layers: int, x: Any, *weights: Any) -> Any:
        """Evaluate all members; they may share inputs or some of the weights."""
        x = x if in_dims[2] is None else x.movedim(in_dims[2], 1)
        stacked = [
            each.expand(info.batch_size, *each.shape) if dim is None else each.movedim(dim, 0)
            for each, dim in zip(weights, in_dims[3:], strict=True)
        ]
        return _run(mode, n_layers, x, stacked), (0, 0, 0)


def _run(mode: str, n_layers: int, x: Any, weights: list[Any]) -> tuple[Any, Any, Any]:
    """Outputs ``(J, T, h, N)`` and states ``(J, layers, h, N)`` at x.

    x is ``(T, in, N)`` if all members share the inputs, otherwise ``(T, J, in, N)``.
    """
    if torch.is_autocast_enabled(x.device.type):  # autocast does not convert in-place operations
        half = torch.get_autocast_dtype(x.device.type)
        with torch.autocast(x.device.type, enabled=False):
            return _run(mode, n_layers, x.to(half), [each.to(half) for each in weights])
    x, each = x.contiguous(), len(weights) // n_layers
    layers = [_layer(mode, *weights[i * each : (i + 1) * each]) for i in range(n_layers)]
    zero = x.new_zeros(len(weights[1]), weights[1].shape[-1], x.shape[-1])
    h, c = [zero] * n_layers, [zero] * n_layers
    step, out = _STEPS[mode], []
    for now in x:
        for i, layer in enumerate(layers):
            h[i], c[i] = step(layer, _affine(layer, now), h[i], c[i])
            now = h[i]  # noqa: PLW2901 - the input of the next layer
        out.append(now)
    return torch.stack(out, 1), torch.stack(h, 1), torch.stack(c, 1)


def _layer(mode: str, w: Any, u: Any, *biases: Any) -> _Layer:
    if not biases:
        biases = (w.new_zeros(w.shape[:2]),) * 2
    first, second = (bias.unsqueeze(-1) for bias in biases)
    if mode == "GRU":  # the reset gate multiplies only the second bias
        return _Layer(w, u, first, second)
    return _Layer(w, u, first + second, None)


def _affine(layer: _Layer, x: Any) -> Any:
    """W x + b of every member; shared inputs ``(in, N)`` need only one matrix product."""
    if x.ndim == 3:
        return torch.baddbmm(layer.bias, layer.w, x)
    stacked, bias = layer.w.reshape(-1, len(x)), layer.bias.reshape(-1, 1)
    return torch.addmm(bias, stacked, x).view(*layer.w.shape[:2], -1)


def _rnn(activate: Any, layer: _Layer, z: Any, h: Any, c: Any) -> tuple[Any, Any]:
    return activate(z.baddbmm_(layer.u, h)), c


def _lstm(layer: _Layer, z: Any, h: Any, c: Any) -> tuple[Any, Any]:
    units = h.shape[1]
    z.baddbmm_(layer.u, h)[:, : 2 * units].sigmoid_()
    write, keep, new, show = z.chunk(4, 1)
    c = (keep * c).addcmul_(write, new.tanh_())
    return torch.tanh(c).mul_(show.sigmoid_()), c


def _gru(layer: _Layer, z: Any, h: Any, c: Any) -> tuple[Any, Any]:
    from_h = torch.baddbmm(layer.bias_of_u, layer.u, h)
    units = h.shape[1]
    reset, keep = z[:, : 2 * units].add_(from_h[:, : 2 * units]).sigmoid_().chunk(2, 1)
    new = z[:, 2 * units :].addcmul_(reset, from_h[:, 2 * units :]).tanh_()
    return torch.lerp(new, h, keep), c


_STEPS: dict[str, Any] = {
    "RNN_TANH": partial(_rnn, torch.tanh_),
    "RNN_RELU": partial(_rnn, torch.relu_),
    "LSTM": _lstm,
    "GRU": _gru,
}
