"""Deconvolution: a linear problem with a blurred and noisy signal and an exact posterior."""

from __future__ import annotations

import numpy as np

from ekitools.core.arrays import as_rng
from ekitools.core.checks import integer, number
from ekitools.core.labels import distinct_decimals
from ekitools.models.plain import LinearModel
from ekitools.priors.gaussian import GaussianPrior
from ekitools.problem import InverseProblem
from ekitools.problems import Example
from ekitools.problems._linear import with_posterior
from ekitools.typing import Rng

__all__ = ["deconvolution"]


def deconvolution(
    n: int = 100, d: int = 50, *, width: float = 0.04, noise: float = 0.02, rng: Rng = 0
) -> Example:
    """Recover a signal on [0, 1] from samples of its blurred image.

    The data are y_i = ∫ k(s_i − x) u(x) dx + η_i with a Gaussian kernel. The truth is piecewise
    smooth (a bump, a box and a ramp), and the prior is Gaussian with a Matérn-3/2 covariance.

    Parameters
    ----------
    n, d : int
        Numbers of grid points of the signal and of samples.
    width : float, default 0.04
        Standard deviation of the kernel.
    noise : float, default 0.02
        Standard deviation of η.
    rng : None, int or numpy.random.Generator
        Source of the noise.

    Returns
    -------
    Example
        ``extra["mean"]`` and ``extra["cov"]`` are those of the exact posterior, and
        ``extra["grid"]`` has the grid points of the signal.

    Raises
    ------
    TypeError, ValueError
        If an option is of a wrong kind or out of range.

    See Also
    --------
    ekitools.problems.linear : A random linear problem of any size.

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.problems.deconvolution().problem.model.shape
    (50, 100)
    """
    n, d, rng = integer("n", n), integer("d", d), as_rng(rng)
    width, noise = number("width", width, above=0), number("noise", noise, above=0)
    grid = (np.arange(n) + 0.5) / n
    samples = (np.arange(d) + 0.5) / d
    gap = (samples[:, None] - grid) / width
    matrix = np.exp(-0.5 * gap**2) / (width * np.sqrt(2 * np.pi) * n)
    truth = (
        np.exp(-0.5 * ((grid - 0.2) / 0.05) ** 2)
        + 0.8 * ((grid > 0.4) & (grid < 0.6))
        + np.where(grid > 0.7, np.minimum(5 * (grid - 0.7), 0.75), 0)
    )
    distance = np.sqrt(3) * np.abs(grid[:, None] - grid) / 0.1
    cov = 0.25 * (1 + distance) * np.exp(-distance) + 1e-10 * np.eye(n)
    mean = np.full(n, 0.4)
    data = matrix @ truth + noise * rng.standard_normal(d)
    decimals = distinct_decimals(grid, least=3)
    problem = InverseProblem(
        LinearModel(matrix),
        GaussianPrior(mean, cov),
        noise**2,
        data,
        parameter_names=[f"u({x:.{decimals}f})" for x in grid],
        data_names=samples.round(distinct_decimals(samples, least=6)).tolist(),
    )
    return with_posterior(problem, truth, x=samples, grid=grid)
