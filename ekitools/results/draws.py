"""Draws of the Gaussian that the nodes of a quadrature rule hold, and their outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ekitools.core.arrays import host
from ekitools.linalg.quadrature import linear_fit
from ekitools.problem import InverseProblem
from ekitools.results.history import Record
from ekitools.typing import Drawn

__all__ = ["outputs_of_draws", "variables_of_draws"]


def outputs_of_draws(scores: np.ndarray, nodes: np.ndarray, g: np.ndarray) -> np.ndarray:
    """Outputs ``(n, d)`` of draws, by the linear map through the outputs of the nodes.

    Nodes without outputs are left out. The outputs are NaN where fewer than two nodes are left.

    Parameters
    ----------
    scores, nodes : (n, p), (J, p)
        Draws and nodes, in coordinates in which the Gaussian is N(0, I).
    g : (J, d)
        Outputs of the nodes, NaN where they are not known.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.results.draws import outputs_of_draws
    >>> nodes = np.array([[0.0], [1.0], [-1.0]])
    >>> outputs_of_draws(np.array([[0.5]]), nodes, 1 + 2 * nodes).round(12)
    array([[2.]])
    """
    g = g.astype(np.float64)
    missing = np.isnan(g).all(axis=0)  # what every node lacks
    found = np.full((len(scores), g.shape[1]), np.nan)
    if np.isfinite(g[:, ~missing]).all(axis=1).sum() >= 2 and not missing.all():
        fit = linear_fit(nodes, g[:, ~missing], through_centre=False)
        found[:, ~missing] = fit.centre + scores @ fit.slopes
    return found


def variables_of_draws(
    drawn: Drawn, records: Sequence[Record], problem: InverseProblem
) -> dict[str, Any]:
    """The variables of a Dataset that hold the draws of every record.

    The last record is that of ``drawn``. The Gaussian of an earlier one is known from its nodes:
    the map from the scores of a node to the node itself is linear in the coordinates of the prior.
    """
    scores, nodes = drawn.scores, drawn.nodes
    draws, misfits = [], []
    for record in records:
        if record is records[-1]:
            white = drawn.mean + scores @ drawn.root.T
        else:
            with np.errstate(all="ignore"):  # a node at a bound within rounding is infinite
                u = problem.prior.to_unconstrained(record.u.astype(np.float64))
                known = host(problem.prior.whiten(u))
            white = outputs_of_draws(scores, nodes, np.where(np.isfinite(known), known, np.nan))
        draws.append(host(problem.prior.to_physical(problem.prior.unwhiten(white))))
        g = outputs_of_draws(scores, nodes, record.g)
        known = np.isfinite(g).all(axis=1)
        misfit = np.full(len(scores), np.nan)
        if known.any():
            with np.errstate(over="ignore"):
                misfit[known] = host(problem.noise.misfit(g[known], problem.data))
        misfits.append(misfit)
    return {
        "draws": (("iteration", "draw", "parameter"), np.stack(draws)),
        "draws_misfit": (("iteration", "draw"), np.stack(misfits)),
        "draws_score": (("draw", "score"), scores),
        "node": (("member", "score"), nodes),
        "gaussian_mean": ("direction", drawn.mean),
        "gaussian_root": (("direction", "score"), drawn.root),
    }
