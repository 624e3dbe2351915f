"""Properties of a torch module: parameter layout, dtype and device, modes and output sizes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.parameter import is_lazy

__all__ = ["Entry", "check_mode", "common_kind", "evaluating", "layout_of", "sizes_of_a_run"]


class Entry(NamedTuple):
    """Position of a parameter in u, and its shape."""

    where: slice
    shape: tuple[int, ...]


def layout_of(module: Any) -> dict[str, Entry]:
    """Entries of all trainable parameters by name; a shared parameter has its first name."""
    layout: dict[str, Entry] = {}
    start = frozen = 0
    for name, parameter in module.named_parameters():
        if is_lazy(parameter):
            raise ValueError(
                f"module: must have parameters with shapes, got the lazy parameter {name!r}. Call "
                "the module once on its inputs."
            )
        if not parameter.requires_grad:
            frozen += 1
            continue
        stop = start + math.prod(parameter.shape)
        layout[name] = Entry(slice(start, stop), tuple(parameter.shape))
        start = stop
    if not layout and frozen:
        raise ValueError(
            f"module: must have trainable parameters, got {frozen} frozen ones "
            "(requires_grad=False). Use module.requires_grad_(True)."
        )
    if start == 0:
        raise ValueError(
            f"module: must have parameters, got {module!r}, which has none. Add a layer with "
            "parameters, such as torch.nn.Linear."
        )
    return layout


def common_kind(module: Any) -> tuple[Any, Any]:
    """The common dtype and device of all parameters and floating-point buffers."""
    kind, first = None, ""
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if not (tensor.is_floating_point() or isinstance(tensor, nn.Parameter)):
            continue
        if not tensor.is_floating_point():
            raise TypeError(
                f"module: must have real parameters, got {tensor.dtype} for {name!r}. "
                "Replace complex parameters by their real and imaginary parts, and register "
                "constants as buffers."
            )
        kind, first = kind or (tensor.dtype, tensor.device), first or name
        if (tensor.dtype, tensor.device) != kind:
            raise ValueError(
                f"module: must have one dtype and one device, got {kind[0]} on {kind[1]} for "
                f"{first!r} and {tensor.dtype} on {tensor.device} for {name!r}. Use module.to(...)."
            )
    assert kind is not None  # layout_of refuses modules without parameters
    return kind


def check_mode(module: Any) -> None:
    """Refuse layers whose outputs are random or depend on the other samples of a batch."""
    for name, each in module.named_modules():
        if not each.training:
            continue
        if isinstance(each, _NormBase) and each.track_running_stats:
            what = "normalise by the statistics of a batch"
        elif isinstance(each, _DropoutNd):
            what = "drop units at random" if each.p else ""
        else:  # recurrent and attention layers have an attribute dropout
            dropout = getattr(each, "dropout", 0.0)
            what = "drop units at random" if isinstance(dropout, float) and dropout else ""
        if what:
            raise ValueError(
                f"module: must not {what}, got {type(each).__name__} ({name or 'the module'}) in "
                "training mode. Call module.eval() first."
            )


@contextmanager
def evaluating(module: Any) -> Iterator[None]:
    """Disable gradients and use eval mode inside the block, then restore every mode."""
    modes = [(each, each.training) for each in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for each, training in modes:
            each.training = training


def sizes_of_a_run(module: Any, x: Any) -> tuple[int, int]:
    """Count the numbers that all layers return for ``x``, and the numbers of the output."""
    count = 0

    def add(_module: Any, _inputs: Any, output: Any) -> None:
        nonlocal count
        outputs = output if isinstance(output, tuple | list) else (output,)
        count += sum(each.numel() for each in outputs if torch.is_tensor(each))

    leaves = [each for each in module.modules() if not any(each.children())]
    hooks = [leaf.register_forward_hook(add) for leaf in leaves]
    try:
        output = module(x)
    finally:
        for hook in hooks:
            hook.remove()
    if not torch.is_tensor(output):
        raise TypeError(
            f"module: must return one tensor, got {type(output).__name__}. Wrap it in a module "
            "whose forward returns only the tensor to compare with the data."
        )
    if output.is_complex() or not output.numel():
        got = f"{output.dtype}" if output.numel() else f"shape {tuple(output.shape)}"
        raise ValueError(
            f"module: must return one or more real numbers, got {got}. Wrap it in a module whose "
            "forward returns real numbers, such as torch.view_as_real(output)."
        )
    return count, output.numel()
