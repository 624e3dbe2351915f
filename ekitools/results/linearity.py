"""Share of the variance of the outputs that is not linear in the parameters."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr

from ekitools.linalg.quadrature import linear_fit

__all__ = [
    "Rest",
    "nonlinear_share",
    "nonlinear_share_of_nodes",
    "rest_of_linear_fit",
    "rest_of_nodes",
]


class Rest(NamedTuple):
    """Variances of outputs, added up over the data."""

    left: float
    """Variance about the least-squares fit; NaN if there are no more members than parameters."""
    total: float

    @property
    def share(self) -> float:
        """Variance about the fit, divided by the total; NaN if the outputs do not vary."""
        return self.left / self.total if self.total > 0 else np.nan


def nonlinear_share(u: np.ndarray, g: np.ndarray, weight: np.ndarray) -> float:
    """Share of the variance of the outputs that is not linear in the parameters.

    1 − R² of the least-squares fit of all outputs together, adjusted for its degrees of freedom.

    Parameters
    ----------
    u, g : (J, p), (J, d)
        Members, and outputs in standard deviations of the noise.
    weight : (J,)
        Normalised.

    Returns
    -------
    float
        0 for a linear model; NaN if there are no more members than parameters, or if the outputs do
        not vary.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.results.linearity import nonlinear_share
    >>> u = np.random.default_rng(0).normal(size=(1000, 1))
    >>> w = np.full(1000, 1e-3)
    >>> share = nonlinear_share(u, np.hstack([u, u**2]), w)  # exact: 2/3, all from the square
    >>> round(share, 1)
    0.7
    """
    return rest_of_linear_fit(u, g, weight).share


def rest_of_linear_fit(u: np.ndarray, g: np.ndarray, weight: np.ndarray) -> Rest:
    """Variance about the least-squares fit of ``g`` on ``u``, adjusted for degrees of freedom.

    The arguments are those of `nonlinear_share`.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.results.linearity import rest_of_linear_fit
    >>> u, noise = np.random.default_rng(0).normal(size=(2, 4000, 1))
    >>> rest = rest_of_linear_fit(u, u + 2 * noise, np.full(4000, 1 / 4000))  # exact: 4 and 5
    >>> round(rest.left), round(rest.total)
    (4, 5)
    """
    root = np.sqrt(weight)[:, None]
    x, z = (root * (values - weight @ values) for values in (u.astype(np.float64), g))
    scale = np.linalg.norm(x, axis=0)
    basis, s, _ = np.linalg.svd(x[:, scale > 0] / scale[scale > 0], full_matrices=False)
    basis = basis[:, s > 1e-10 * s.max(initial=0.0)]
    freedom = 1 / float(weight @ weight) - 1
    n, left = freedom + 1, freedom - basis.shape[1]
    total = float(np.sum(z**2) * n / freedom) if freedom > 0 else np.nan
    if left < 1:
        return Rest(np.nan, total)
    return Rest(float(np.sum((z - basis @ (basis.T @ z)) ** 2) * n / left), total)


def nonlinear_share_of_nodes(at: xr.Dataset) -> float:
    """Share of the variance of the outputs about the linear map through the nodes."""
    return rest_of_nodes(at).share


def rest_of_nodes(at: xr.Dataset) -> Rest:
    """Variances of the outputs of nodes, divided by the degrees of freedom of the rest."""
    g = at.g.transpose("member", "data").values / at.noise_sd.values
    g = g[:, ~np.isnan(g).all(axis=0)].astype(np.float64)
    nodes = at.node.transpose("member", "score").values
    nodes, g = (rows[np.isfinite(g).all(axis=1)] for rows in (nodes, g))
    fit = linear_fit(nodes, g, through_centre=False)
    total = np.sum((g - g.mean(axis=0)) ** 2)
    rest = np.sum((g - fit.centre - nodes @ fit.slopes) ** 2)
    freedom = max(len(nodes) - 1 - fit.rank, 1)
    return Rest(float(rest / freedom), float(total / freedom))
