"""The theory of ensemble Kalman inversion for a linear model: closed forms, and their checks.

`linear_flow`, `covariance_flow`, `posterior` and `spectrum` are closed forms.
`check_linear_theory` and `verify` run the loops that they check.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ekitools.exact import covariance_flow, linear_flow, posterior, spectrum

__all__ = [
    "check_linear_theory",
    "covariance_flow",
    "linear_flow",
    "posterior",
    "spectrum",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("ekitools.theory.checks"), name)
    raise AttributeError(f"module 'ekitools.theory' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
