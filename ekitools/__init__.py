"""Ensemble Kalman inversion: fit the parameters of a black box to noisy data, without derivatives.

Shapes: an ensemble is ``(J, p)`` and its outputs ``(J, d)``, members first.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ekitools._public import (
    MODULES,
    PUBLIC,
    accessor_with_xarray,
    find_moved_modules,
    lookup,
)
from ekitools._version import __version__

__all__ = ["__version__", *PUBLIC, *MODULES]  # noqa: PLE0604

find_moved_modules()
accessor_with_xarray()


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for (SPEC 1)."""
    value = lookup(name)
    if value is None:
        raise AttributeError(f"module 'ekitools' has no attribute {name!r}")
    globals()[name] = value
    return value


def load_ipython_extension(ipython: Any) -> None:
    """``%load_ext ekitools``: results are shown with their summary."""
    import_module("ekitools.pages.notebook").load(ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """``%unload_ext ekitools``."""
    import_module("ekitools.pages.notebook").unload(ipython)


def __dir__() -> list[str]:
    return sorted(__all__)
