"""Draws of the Gaussian that the nodes of a quadrature rule hold, and their outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ekitools.core.arrays import host
from ekitools.linalg.quadrature import LinearFit, linear_fit
from ekitools.problem import InverseProblem
from ekitools.results.history import Record
from ekitools.typing import Drawn, NoiseModel

__all__ = ["outputs_of_draws", "variables_of_draws"]


def outputs_of_draws(scores: np.ndarray, nodes: np.ndarray, g: np.ndarray) -> np.ndarray:
    """Outputs ``(n, d)`` of draws, by the linear map through the outputs of the nodes.

    Nodes without outputs are left out. The outputs are NaN if fewer than two nodes are left.

    Parameters
    ----------
    scores, nodes : (n, p), (J, p)
        Draws and nodes, in coordinates in which the Gaussian is N(0, I).
    g : (J, d)
        Outputs of the nodes; NaN if unknown.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.results.draws import outputs_of_draws
    >>> nodes = np.array([[0.0], [1.0], [-1.0]])
    >>> outputs_of_draws(np.array([[0.5]]), nodes, 1 + 2 * nodes).round(12)
    array([[2.]])
    """
    fit = _fit(nodes, g)
    if fit is None:
        return np.full((len(scores), g.shape[1]), np.nan)
    return np.asarray(fit.centre + scores @ fit.slopes)


def variables_of_draws(
    drawn: Drawn, records: Sequence[Record], problem: InverseProblem
) -> dict[str, Any]:
    """The variables of a Dataset that hold the draws of every record.

    The last record belongs to ``drawn``. The Gaussian of an earlier record follows from its nodes,
    because the map from the scores of a node to the node is linear in the coordinates of the prior.
    """
    scores, nodes, prior = drawn.scores, drawn.nodes, problem.prior
    draws, misfits = [], []
    for record in records:
        if record is records[-1]:
            white = drawn.mean + scores @ drawn.root.T
        else:
            with np.errstate(all="ignore"):  # a node at a bound within rounding is infinite
                known = host(prior.whiten(prior.to_unconstrained(record.u.astype(np.float64))))
            white = outputs_of_draws(scores, nodes, known)
        draws.append(host(prior.to_physical(prior.unwhiten(white))))
        with np.errstate(over="ignore"):
            misfits.append(_misfits(scores, _fit(nodes, record.g), problem))
    return {
        "draws": (("iteration", "draw", "parameter"), np.stack(draws)),
        "draws_misfit": (("iteration", "draw"), np.stack(misfits)),
        "draws_score": (("draw", "score"), scores),
        "node": (("member", "score"), nodes),
        "gaussian_mean": ("direction", drawn.mean),
        "gaussian_root": (("direction", "score"), drawn.root),
    }


def _fit(nodes: np.ndarray, g: np.ndarray) -> LinearFit | None:
    """The linear map through outputs; None if fewer than two nodes have outputs."""
    if np.isfinite(g).all(axis=1).sum() < 2:
        return None
    return linear_fit(nodes, g.astype(np.float64), through_centre=False)


def _misfits(scores: np.ndarray, fit: LinearFit | None, problem: InverseProblem) -> np.ndarray:
    """Misfits of draws; for Gaussian noise without an array of all outputs."""
    if fit is None:
        return np.full(len(scores), np.nan)
    noise, data = problem.noise, problem.data
    if not isinstance(noise, NoiseModel):
        return host(noise.misfit(fit.centre + scores @ fit.slopes, data))
    white = host(noise.whiten(np.concatenate([fit.slopes, fit.centre[None] - data])))
    if not np.isfinite(white).all():
        return np.full(len(scores), np.inf)
    few = np.asarray(np.linalg.qr(white.T, mode="r")).T  # the same inner products
    return 0.5 * np.sum((few[-1] + scores @ few[:-1]) ** 2, axis=1)
