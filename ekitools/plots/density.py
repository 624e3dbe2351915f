"""Smooth densities of members: ArviZ's kernel density estimate, exact priors and contours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import stats

from ekitools.priors.field import FieldPrior
from ekitools.priors.gaussian import GaussianPrior
from ekitools.priors.joint import JointPrior
from ekitools.priors.marginals import Prior
from ekitools.typing import HasSupport

__all__ = ["HDR", "contour_levels", "density", "prior_density", "support_of"]

HDR = (0.9, 0.5)
"""Probabilities within the contours."""

_FEWEST = 10
"""Members below which there is no contour."""

_MOST = 1000
"""Members from which contours are estimated, so that their time does not grow."""

_GRID = 64


def density(
    x: np.ndarray, weight: np.ndarray, support: tuple[float, float] = (-np.inf, np.inf)
) -> tuple[np.ndarray, np.ndarray]:
    """ArviZ's kernel density estimate of draws with weights.

    ArviZ takes no weights. Draws of different weights are resampled at evenly spaced probabilities,
    as many as their effective number.

    Parameters
    ----------
    x : (J,)
        Finite draws.
    weight : (J,)
        Weights, which add up to 1.
    support : (lower, upper)
        Bounds of the draws. The estimate extends half a standard deviation beyond the outermost
        draws. If this would cross a bound, it ends at the outermost draws, with ArviZ's correction.

    Returns
    -------
    grid, height : (n,) ndarray
        Empty if the draws have fewer than three different values.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.plots.density import density
    >>> grid, height = density(np.random.default_rng(0).normal(size=2000), np.full(2000, 1 / 2000))
    >>> print(f"{np.interp(0.0, grid, height):.1f}")  # exact: 0.399
    0.4
    """
    x = _resampled(np.asarray(x, np.float64)[:, None], weight)[:, 0]
    if np.unique(x[:_MOST]).size < 3 or not np.ptp(x) > 1e-12 * np.abs(x).max():
        return np.zeros(0), np.zeros(0)
    import arviz

    az: Any = arviz  # of either generation
    beyond = 0.5 * x.std()
    bounded = bool(x.min() - beyond < support[0] or x.max() + beyond > support[1])
    options = {"bound_correction": bounded, "extend": not bounded, "extend_fct": 0.5}
    if int(az.__version__.split(".")[0]) >= 1:
        from arviz_stats.base import array_stats

        grid, height = array_stats.kde(x, **options)[:2]
    else:
        grid, height = az.kde(x, **options)
    return np.asarray(grid), np.asarray(height)


def prior_density(prior: Any, column: int) -> Callable[[np.ndarray], np.ndarray] | None:
    """The exact marginal density of one parameter, if the prior has it in closed form.

    Parameters
    ----------
    prior : Prior
        Any prior.
    column : int
        Position of the parameter in the prior.

    Returns
    -------
    callable or None
        ``pdf(grid)``; None if the marginal has no formula.

    Examples
    --------
    >>> import ekitools as ek
    >>> from ekitools.plots.density import prior_density
    >>> pdf = prior_density(ek.GaussianPrior([0.0, 1.0], [1.0, 4.0]), 1)
    >>> print(f"{pdf(1.0):.4f}")  # 1 / (2 sqrt(2 pi))
    0.1995
    """
    if isinstance(prior, JointPrior):
        name, part = next(each for each in prior.slices.items() if column < each[1].stop)
        return prior_density(prior.parts[name], column - part.start)
    if isinstance(prior, Prior):
        found: Callable[[np.ndarray], np.ndarray] = prior.marginals[prior.names[column]].pdf
        return found
    if isinstance(prior, FieldPrior) and prior.parameters == "values":  # may be transformed
        return None
    if isinstance(prior, GaussianPrior):
        variance = prior.cov if prior.cov.ndim == 0 else prior.cov[(column,) * prior.cov.ndim]
        gaussian: Callable[[np.ndarray], np.ndarray] = stats.norm(
            float(prior.mean[column]), float(np.sqrt(variance))
        ).pdf
        return gaussian
    return None


def support_of(prior: Any, column: int) -> tuple[float, float]:
    """Bounds of a parameter; infinite if the prior has no bounds or does not know them.

    Examples
    --------
    >>> from scipy import stats
    >>> import ekitools as ek
    >>> from ekitools.plots.density import support_of
    >>> support_of(ek.Prior({"share": stats.uniform(0, 1)}), 0)
    (0.0, 1.0)
    """
    return prior.support(column) if isinstance(prior, HasSupport) else (-np.inf, np.inf)


def contour_levels(
    u: np.ndarray, weight: np.ndarray, x: tuple[float, float], y: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
    """Density of two parameters on a grid, and its levels that hold 90 % and 50 % of the members.

    The estimate has Gaussian kernels with the bandwidth of Scott. A level is the quantile of the
    density at the members, so the region above it has the highest density.

    Parameters
    ----------
    u : (J, 2)
        Finite draws.
    weight : (J,)
        Weights, which add up to 1.
    x, y : (low, high)
        Limits of the grid.

    Returns
    -------
    x, y : (n,), density : (n, n), levels : (2,)
        Or None for fewer than ten members, or if they lie on a line.
    """
    draws = _resampled(np.asarray(u, np.float64), weight)
    draws = draws[:: -(-len(draws) // _MOST)]
    scale = draws.std(axis=0)
    if len(draws) < _FEWEST or not np.all(scale > 0):
        return None
    if np.linalg.cond(np.corrcoef(draws.T)) > 1e8:
        return None
    kernel = stats.gaussian_kde((draws / scale).T)  # scaled, for parameters of any units
    at_x, at_y = np.linspace(*x, _GRID), np.linspace(*y, _GRID)
    points = np.stack(np.meshgrid(at_x / scale[0], at_y / scale[1])).reshape(2, -1)
    levels = np.quantile(kernel((draws / scale).T), [1 - p for p in HDR])
    if not levels[0] < levels[1]:
        return None
    area = float(scale.prod())
    return at_x, at_y, kernel(points).reshape(_GRID, _GRID) / area, levels / area


def _resampled(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Rows in proportion to their weights; all as they are where the weights are equal."""
    if not np.ptp(weight) > 0:
        return x
    n = max(int(1 / (weight @ weight)), 2)
    order = np.argsort(x[:, 0], kind="stable")
    cumulative = np.cumsum(weight[order])
    chosen = np.searchsorted(cumulative, (np.arange(n) + 0.5) / n * cumulative[-1])
    return x[order[np.minimum(chosen, len(x) - 1)]]
