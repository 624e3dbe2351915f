"""Stacks of plain layers, evaluated for all members of a chunk at once.

If all members share the inputs of a `Linear` layer, the layer is one matrix product with the
stacked weights, (k·units, in) @ (in, samples). Hidden values have the layout
(member, unit, sample), so later layers are batched products of contiguous blocks. In convolutions
the members are groups of channels, (sample, member·channel, height, width).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from ekitools.adapters._torch_module import Entry

__all__ = ["Stack"]

_IN_PLACE = {nn.ReLU: torch.relu_, nn.Tanh: torch.tanh_, nn.Sigmoid: torch.sigmoid_}
_IDLE = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d)  # in eval mode
_ELEMENTWISE = (
    *(nn.CELU, nn.ELU, nn.GELU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh),
    *(nn.LeakyReLU, nn.LogSigmoid, nn.Mish, nn.ReLU6, nn.SELU, nn.SiLU, nn.Softplus),
    *(nn.Softshrink, nn.Softsign, nn.Tanhshrink, nn.Threshold),
)
_POOLS = (nn.AvgPool2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
_OVER_UNITS = (nn.Softmax, nn.LogSoftmax)
_FREE = (*_IN_PLACE, *_IDLE, *_ELEMENTWISE, *_POOLS, nn.Flatten, nn.Unflatten)


class Layer(NamedTuple):
    """A layer, and the positions of its weights and biases in u; None for constants."""

    module: Any
    weight: Entry | None
    bias: Entry | None


class Stack:
    """The layers before the first parameters (``prefix``, shared by all members) and the rest."""

    def __init__(self, prefix: list[Any], layers: list[Layer]) -> None:
        self.prefix, self.layers = prefix, layers

    @classmethod
    def of(cls, module: Any, layout: Mapping[str, Entry]) -> Stack | None:
        """The module as a stack, or None if it is not a stack of plain layers."""
        flat = list(_flattened(module))
        names = {id(each): name for name, each in module.named_parameters()}

        def entry(parameter: Any) -> Entry | None:
            return None if parameter is None else layout.get(names.get(id(parameter), ""))

        layers = [
            Layer(each, entry(each.weight), entry(each.bias))
            if isinstance(each, nn.Linear | nn.Conv2d)
            else Layer(each, None, None)
            for each in flat
        ]
        learning = [i for i, layer in enumerate(layers) if layer.weight or layer.bias]
        if not learning or not all(type(layer.module) in _PLAIN for layer in layers):
            return None
        prefix, rest = [each.module for each in layers[: learning[0]]], layers[learning[0] :]
        return cls(prefix, rest) if _fits(rest) else None

    def prepare(self, x: Any) -> Any:
        """Inputs of the first layer with parameters, for all members; None if not supported."""
        for layer in self.prefix:
            x = layer(x)
        if isinstance(self.layers[0].module, nn.Linear):
            return x.T.contiguous() if x.ndim == 2 else None
        return x.contiguous(memory_format=_layout(x)) if x.ndim == 4 else None

    def evaluate(self, rows: Any, first: Any, out: Any, buffers: dict[Any, Any]) -> None:
        """Write the outputs of the members ``rows`` into ``out`` (k, d).

        All layers compute in the dtype of ``rows`` and ``first``. The outputs are converted to the
        dtype of ``out``.
        """
        k, h = len(rows), first
        for i, layer in enumerate(self.layers):
            if isinstance(layer.module, nn.Linear):
                h = _linear(layer, rows, h, buffers, i)
            elif isinstance(layer.module, nn.Conv2d):
                h = _convolution(layer, rows, h, shared=i == 0)
            elif isinstance(layer.module, nn.Flatten):
                h = h.reshape(len(h), k, -1).permute(1, 2, 0) if h.ndim == 4 else h
            elif isinstance(layer.module, _OVER_UNITS):
                log = isinstance(layer.module, nn.LogSoftmax)
                h = torch.log_softmax(h, 1) if log else torch.softmax(h, 1)
            elif type(layer.module) in _IN_PLACE:
                h = _IN_PLACE[type(layer.module)](h)
            elif not isinstance(layer.module, _IDLE):
                h = layer.module(h)
        if h.ndim == 4:
            out.view(k, len(h), -1).copy_(h.reshape(len(h), k, -1).transpose(0, 1))
        else:
            out.view(k, h.shape[2], -1).copy_(h.transpose(1, 2))


_PLAIN = {nn.Linear, nn.Conv2d, *_FREE, *_OVER_UNITS}


def _flattened(module: Any) -> Iterator[Any]:
    hooked = module._forward_hooks or module._forward_pre_hooks
    if type(module) is nn.Sequential and not hooked:
        for each in module:
            yield from _flattened(each)
    elif hooked:
        yield None  # a hook may change the outputs, so the layer is not plain
    else:
        yield module


def _fits(layers: list[Layer]) -> bool:
    """Whether every layer supports the layout of its inputs."""
    images = isinstance(layers[0].module, nn.Conv2d)
    for layer, _, _ in layers:
        if isinstance(layer, nn.Conv2d):
            fits = images and layer.padding_mode == "zeros"
        elif isinstance(layer, nn.Flatten):
            fits = (layer.start_dim, layer.end_dim) == (1, -1)
            images = False
        elif isinstance(layer, _POOLS):
            fits = images and not getattr(layer, "return_indices", False)
        elif isinstance(layer, _OVER_UNITS):
            fits = not images and layer.dim in (1, -1)
        elif isinstance(layer, nn.Linear):
            fits = not images
        else:
            fits = not isinstance(layer, nn.Unflatten)
        if not fits:
            return False
    return True


def _layout(x: Any) -> Any:
    """The memory layout in which convolutions with many groups are fast."""
    return torch.channels_last if x.device.type == "cpu" else torch.contiguous_format


def _of_members(rows: Any, entry: Entry | None, constant: Any) -> Any:
    """A parameter for every member, ``(k, *shape)``; a constant is expanded without a copy."""
    if entry is None:
        return constant.detach().to(rows.dtype).expand(len(rows), *constant.shape)
    return rows[:, entry.where].view(len(rows), *entry.shape)


def _buffer(buffers: dict[Any, Any], key: Any, like: Any, *shape: int) -> Any:
    """Memory that later chunks reuse; the first chunk is the largest."""
    if key not in buffers:
        buffers[key] = like.new_empty(shape)
    return buffers[key][: shape[0]]


def _linear(layer: Layer, rows: Any, h: Any, buffers: dict[Any, Any], i: int) -> Any:
    k, m = len(rows), h.shape[-1]
    units, width = layer.module.weight.shape
    weight = _of_members(rows, layer.weight, layer.module.weight)
    bias = layer.module.bias
    if bias is not None:
        bias = _of_members(rows, layer.bias, bias).unsqueeze(-1)
    if h.ndim == 2:  # shared by all members
        stacked = _buffer(buffers, (i, "weight"), rows, k, units, width).copy_(weight)
        stacked, out = stacked.view(-1, width), _buffer(buffers, i, rows, k * units, m)
        if bias is not None:
            return torch.addmm(bias.reshape(-1, 1), stacked, h, out=out).view(k, units, m)
        return torch.mm(stacked, h, out=out).view(k, units, m)
    out = _buffer(buffers, i, rows, k, units, m)
    if bias is not None:
        return torch.baddbmm(bias, weight, h, out=out)
    return torch.bmm(weight, h, out=out)


def _convolution(layer: Layer, rows: Any, h: Any, *, shared: bool) -> Any:
    conv = layer.module
    weight = _of_members(rows, layer.weight, conv.weight)
    bias = None if conv.bias is None else _of_members(rows, layer.bias, conv.bias).reshape(-1)
    groups = conv.groups
    if shared and groups > 1:  # groups are split in order, so every member needs its own copy
        h = h.repeat(1, len(rows), 1, 1)
    members = 1 if shared and groups == 1 else len(rows)
    return functional.conv2d(
        h,
        weight.reshape(-1, *weight.shape[2:]).contiguous(memory_format=_layout(weight)),
        bias,
        conv.stride,
        conv.padding,
        conv.dilation,
        groups * members,
    )
