"""The zoo: real models on real or honestly synthetic data, each behind one function.

Every function returns an `Example`: the `InverseProblem`, what is known about its answer, and
how to plot its data.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from ekitools.problem import InverseProblem

__all__ = ["Example", "darcy", "darcy_field", "deconvolution", "linear", "lorenz96", "lynx_hare"]


class Example(NamedTuple):
    """An inverse problem with what is known about its answer.

    Examples
    --------
    >>> import ekitools as ek
    >>> example = ek.problems.linear(p=3, d=5, rng=0)
    >>> example.problem.n_parameters, sorted(example.reference)
    (3, ['u0', 'u1', 'u2'])
    """

    problem: InverseProblem
    reference: dict[str, tuple[float, float]] | None
    """Posterior mean and standard deviation by parameter name, from elsewhere."""
    truth: np.ndarray | None
    """The parameters (or, where said so, the field) that made the data."""
    x: np.ndarray | None
    """Coordinate of every datum, for plots."""
    groups: np.ndarray | None
    """Series to which every datum belongs, for plots."""
    extra: dict[str, Any]
    """What only this example has."""


_WHERE = {
    "darcy": "darcy",
    "darcy_field": "darcy_field",
    "deconvolution": "deconvolution",
    "linear": "linear",
    "lorenz96": "lorenz96",
    "lynx_hare": "lynx_hare",
}


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f"ekitools.problems._{_WHERE[name]}"), name)
    raise AttributeError(f"module 'ekitools.problems' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
