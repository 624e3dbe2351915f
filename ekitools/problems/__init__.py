"""Example problems: real models with real or synthetic data, one function for each.

Every function returns an `Example`: the `InverseProblem`, known facts about its answer, and
coordinates for plots.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from ekitools.core.described import shape
from ekitools.problem import InverseProblem

__all__ = ["Example", "darcy", "darcy_field", "deconvolution", "linear", "lorenz96", "lynx_hare"]


class Example(NamedTuple):
    """An inverse problem with known facts about its answer.

    See Also
    --------
    ekitools.problems.linear : A linear problem with its exact posterior.
    ekitools.problems.lynx_hare : A nonlinear problem with a reference posterior.

    Examples
    --------
    >>> import ekitools as ek
    >>> example = ek.problems.linear(p=3, d=5, rng=0)
    >>> example.problem.n_parameters, sorted(example.reference)
    (3, ['u0', 'u1', 'u2'])
    """

    problem: InverseProblem
    reference: dict[str, tuple[float, float]] | None
    """Posterior mean and standard deviation by parameter name, from an independent source."""
    truth: np.ndarray | None
    """The parameters (or, for some examples, the field) that made the data."""
    x: np.ndarray | None
    """Coordinates of the data, for plots."""
    groups: np.ndarray | None
    """Series of each datum, for plots."""
    extra: dict[str, Any]
    """Further entries of this example."""

    def __repr__(self) -> str:
        known = {"reference": self.reference, "truth": self.truth, "x": self.x,
                 "groups": self.groups, "extra": self.extra}  # fmt: skip
        lines = [f"{name:<11}{shape(value)}" for name, value in known.items()]
        return "\n  ".join(["Example", *repr(self.problem).splitlines(), *lines])

    def _repr_html_(self) -> str:
        return self.problem._repr_html_()


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
