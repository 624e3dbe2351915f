"""Numbers of fewer bits for the matrix products of a network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias, get_args

import torch

from ekitools.core.checks import one_of

__all__ = ["Precision", "checked_precision", "converted", "products", "working_dtype"]

Precision: TypeAlias = Literal["float32", "tf32", "bfloat16", "float16"]
_PRECISIONS: tuple[Precision, ...] = get_args(Precision)
_HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def checked_precision(precision: Precision | None, dtype: Any, device: Any) -> Precision | None:
    """A precision that a module of this dtype and device has, or None for the module's own."""
    if precision is None:
        return None
    precision = one_of("precision", precision, _PRECISIONS)
    if dtype != torch.float32:
        raise ValueError(
            f'precision: must be None for a module of {dtype}, got "{precision}". Use '
            "module.float() first."
        )
    if precision == "tf32" and device.type != "cuda":
        raise ValueError(
            f'precision: must be "float32", "bfloat16" or "float16" on {device}, got "tf32", '
            "which only CUDA devices have."
        )
    return precision


def working_dtype(precision: Precision | None, dtype: Any) -> Any:
    """The dtype in which a stack of layers keeps its weights and activations."""
    return _HALVES.get(precision or "", dtype)


@contextmanager
def products(precision: Precision | None, device: Any) -> Iterator[None]:
    """Within, float32 products and convolutions on a CUDA device use TF32, or do not use it."""
    if precision not in ("float32", "tf32") or device.type != "cuda":
        yield
        return
    if hasattr(torch.backends.cudnn, "conv"):  # torch >= 2.9, which refuses a mix of both ways
        with _fp32_precision("tf32" if precision == "tf32" else "ieee"):
            yield
        return
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


@contextmanager
def _fp32_precision(value: str) -> Iterator[None]:
    """Within, ``fp32_precision`` of products, convolutions and recurrent layers is ``value``."""
    settings = [torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn]
    before = [each.fp32_precision for each in settings]
    for each in settings:
        each.fp32_precision = value
    try:
        yield
    finally:
        for each, earlier in zip(settings, before, strict=True):
            each.fp32_precision = earlier


@contextmanager
def converted(precision: Precision | None, device: Any) -> Iterator[None]:
    """Within this context a module computes products with 16 bits if the precision has 16 bits.

    `torch.autocast` does it layer by layer. Sums and normalisations stay in float32.
    """
    half = _HALVES.get(precision or "")
    if half is None:
        yield
        return
    with torch.autocast(device.type, dtype=half):
        yield
