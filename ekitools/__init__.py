"""Ensemble Kalman inversion: fit the parameters of a black box to noisy data, without derivatives.

Shapes: an ensemble is ``(J, p)`` and its outputs ``(J, d)``, members first.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "InverseProblem": "problem",
    "FunctionModel": "models",
    "LinearModel": "models",
    "GaussianPrior": "priors",
    "Prior": "priors",
    "GaussianRandomField": "random_fields",
    "GaussianNoise": "noise",
    "kalman_update": "linalg",
    "EKI": "methods.eki",
    "FixedStep": "schedules",
    "NormStep": "schedules",
    "MisfitController": "schedules",
    "ESMDA": "schedules",
    "Discrepancy": "schedules",
    "Collapsed": "schedules",
    "NoProgress": "schedules",
    "run": "run",
    "resume": "run",
    "AskTell": "asktell",
    "RunError": "asktell",
    "CheckpointError": "checkpoint",
    "diagnose": "diagnostics",
    "to_arviz": "export",
    "plot_collapse": "plots",
    "plot_misfit": "plots",
    "plot_residual": "plots",
    "plot_ensemble": "plots",
    "plot_predictive": "plots",
}
_MODULES = ("problems", "typing")

__all__ = ["__version__", *_PUBLIC, *_MODULES]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for (SPEC 1)."""
    if name in _PUBLIC:
        value = getattr(import_module(f"ekitools.{_PUBLIC[name]}"), name)
    elif name in _MODULES:
        value = import_module(f"ekitools.{name}")
    else:
        raise AttributeError(f"module 'ekitools' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
