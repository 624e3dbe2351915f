"""The device of the networks of an experiment, its name and its memory.

Networks on a CPU get members as NumPy arrays, and those on another device as tensors there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np

from ekitools.core.checks import one_of
from ekitools.experiments.names import DEVICES, Device

__all__ = [
    "DEVICES",
    "checked_device",
    "device_name",
    "peak_bytes",
    "placed",
    "require_torch",
    "reset_peak",
    "tf32_products",
]


def checked_device(device: Device) -> Device:
    """A device on which torch can compute here.

    Raises
    ------
    ValueError
        If it is not one of `DEVICES`, or torch does not find it.
    ImportError
        If torch is not installed.

    Examples
    --------
    >>> from ekitools.experiments.devices import checked_device
    >>> checked_device("tpu")
    Traceback (most recent call last):
    ValueError: device: must be "cpu", "cuda" or "mps", got 'tpu'.
    """
    device = one_of("device", device, DEVICES)
    if device == "cpu":
        return device
    if device == "mps" and "torch" not in sys.modules:  # torch reads it when it is imported
        os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    require_torch()
    import torch

    found = torch.cuda.is_available() if device == "cuda" else torch.backends.mps.is_available()
    if not found:
        raise ValueError(
            f"device: must be available, got {device!r}, which torch {torch.__version__} does not "
            "find here. Use 'cpu' (--device cpu), or install a build of torch for the device."
        )
    return device


def device_name(device: str) -> str:
    """The name of a device as a table gives it, such as "NVIDIA H100 80GB HBM3"."""
    if device == "cpu":
        loaded: Any = sys.modules.get("torch")
        threads = os.cpu_count() if loaded is None else loaded.get_num_threads()
        return f"CPU, {threads} thread{'' if threads == 1 else 's'}"
    import torch

    return str(torch.cuda.get_device_name()) if device == "cuda" else "Apple GPU (MPS)"


def reset_peak(device: str) -> None:
    """Count the peak of the device's memory from here on."""
    if device == "cuda":
        import torch

        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_bytes(device: str) -> int | None:
    """The peak of the memory that torch used on the device; None for the CPU.

    MPS does not count a peak. Its value is what torch holds, which does not shrink during a run.
    """
    if device == "cpu":
        return None
    import torch

    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    return int(torch.mps.driver_allocated_memory())


def placed(x: np.ndarray, device: str) -> Any:
    """An array as networks on the device get it: as it is for a CPU, else a tensor there."""
    if device == "cpu":
        return x
    import torch

    return torch.from_numpy(x).to(device)


@contextmanager
def tf32_products(device: str) -> Iterator[None]:
    """Within, float32 products on a CUDA device round their factors to TF32."""
    if device != "cuda":
        yield
        return
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def require_torch() -> None:
    """Raise an error that says how to install torch, if it is not installed."""
    if find_spec("torch") is None:
        raise ImportError(
            "torch: must be installed for networks, and is not. Use pip install 'ekitools[torch]'."
        )
