"""Linear-Gaussian problems of any size, with exact posteriors."""

from __future__ import annotations

from typing import Any

import numpy as np

from ekitools.core.arrays import as_rng
from ekitools.core.checks import integer, number
from ekitools.exact import posterior
from ekitools.models.plain import LinearModel
from ekitools.priors.gaussian import GaussianPrior
from ekitools.problem import InverseProblem
from ekitools.problems import Example
from ekitools.typing import Rng

__all__ = ["linear", "with_posterior"]


def linear(p: int = 10, d: int = 20, *, noise: float = 0.1, rng: Rng = 0) -> Example:
    """A random linear-Gaussian problem: y = Au† + η with u† ~ N(0, I) and A of unit scale.

    Parameters
    ----------
    p, d : int
        Numbers of parameters and data.
    noise : float, default 0.1
        Variance of η.
    rng : None, int or numpy.random.Generator
        Source of A, u† and η.

    Returns
    -------
    Example
        ``extra["mean"]`` and ``extra["cov"]`` are those of the exact posterior.

    Raises
    ------
    TypeError, ValueError
        If an option is of a wrong kind or out of range.

    See Also
    --------
    ekitools.theory.posterior : The exact posterior of a linear problem.
    ekitools.problems.deconvolution : An ill-posed linear problem.

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.problems.linear(p=2, d=3).problem.model.shape
    (3, 2)
    """
    p, d, noise = integer("p", p), integer("d", d), number("noise", noise, above=0)
    rng = as_rng(rng)
    matrix = rng.standard_normal((d, p)) / np.sqrt(p)
    truth = rng.standard_normal(p)
    data = matrix @ truth + np.sqrt(noise) * rng.standard_normal(d)
    problem = InverseProblem(LinearModel(matrix), GaussianPrior(np.zeros(p), 1.0), noise, data)
    return with_posterior(problem, truth)


def with_posterior(problem: InverseProblem, truth: np.ndarray, **known: Any) -> Example:
    """The Example of a linear-Gaussian problem, with its exact posterior."""
    mean, cov = posterior(problem.model, problem.data, problem.prior, problem.noise)
    spread = np.sqrt(np.diag(cov))
    names = problem.parameter_names or ()
    pairs = zip(mean.tolist(), spread.tolist(), strict=True)
    return Example(
        problem,
        reference=dict(zip(names, pairs, strict=True)),
        truth=truth,
        x=known.pop("x", None),
        groups=None,
        extra={"mean": mean, "cov": cov, **known},
    )
