"""Number of members of a network that are evaluated at once, by the memory of their device."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["first_chunk", "give_up_cache"]

_CACHED = 2**23
"""Bytes of a chunk that stay in a CPU's cache."""
_SHARE = 0.5
"""Share of the free memory of a CUDA device. The numbers of a member are an upper bound, since a
layer's outputs are freed once the next layer has used them."""
_ELSEWHERE = 2**30
"""Bytes of a chunk on devices that do not tell their free memory."""
_LARGEST = 2**31 - 1
"""Numbers in a tensor that kernels with indices of 32 bits can address."""


def first_chunk(numbers: int, dtype: Any, device: Any) -> int:
    """Members to be evaluated at once, at least one.

    Parameters
    ----------
    numbers : int
        Parameters of one member, and the numbers that its layers return together.
    dtype : torch.dtype
        Of these numbers.
    device : torch.device
        Where they are.
    """
    if device.type == "cpu":
        budget = _CACHED
    elif device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        budget = int(_SHARE * (free + idle))
    else:
        budget = _ELSEWHERE
    return max(1, min(budget // (dtype.itemsize * numbers), _LARGEST // numbers))


def give_up_cache() -> None:
    """Return the memory that torch holds for later tensors to the CUDA device."""
    torch.cuda.empty_cache()
