"""Glorot's variances, read off a module."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import nn

from ekitools.adapters._shared import check_variances
from ekitools.adapters._torch_module import Entry

__all__ = ["glorot_variances"]

_GATES = {nn.RNNBase: {"LSTM": 4, "GRU": 3}, nn.RNNCellBase: {"LSTMCell": 4, "GRUCell": 3}}


def glorot_variances(
    module: Any, layout: Mapping[str, Entry], *, bias: float | None, other: float | None
) -> np.ndarray:
    """2 / (fan_in + fan_out) for every entry of u; see `TorchModel.glorot_variances`."""
    check_variances(bias=bias, other=other)
    shapes = {name: tuple(each.shape) for name, each in module.named_parameters()}
    variances = np.empty(sum(math.prod(entry.shape) for entry in layout.values()))
    for name, entry in layout.items():
        owner_name, _, short = name.rpartition(".")
        owner = module.get_submodule(owner_name)
        is_bias = len(entry.shape) < 2 and "bias" in short
        partner = f"{owner_name}.{short.replace('bias', 'weight')}".lstrip(".")
        shape = shapes.get(partner, ()) if is_bias else entry.shape
        if is_bias and bias is not None:
            variance = bias
        elif len(shape) >= 2:
            variance = 2 / _fans(shape, _gates(owner, short))
        elif other is not None:
            variance = other
        else:
            raise ValueError(
                f"other: must be given a variance, got None, for parameters that belong to no "
                f"weights, such as {name!r} of {type(owner).__name__}. Pass other=1.0, for example."
            )
        variances[entry.where] = variance
    return variances


def _fans(shape: tuple[int, ...], gates: int) -> int:
    """fan_in + fan_out of weights (out, in, *receptive field)."""
    return (shape[0] // gates + shape[1]) * math.prod(shape[2:])


def _gates(owner: Any, name: str) -> int:
    if "_hr" in name:  # the projection of an LSTM has none
        return 1
    for base, gates in _GATES.items():
        if isinstance(owner, base):
            return gates.get(owner.mode if base is nn.RNNBase else type(owner).__name__, 1)
    return 1
