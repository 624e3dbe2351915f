r"""Modes of a population of particles, and standard errors of their masses.

The particles of a mode are a connected component of the graph in which each particle is joined to
its nearest neighbours. Such a graph follows bends and tails and needs no length scale. It separates
modes of different widths if the gap between them is wider than the distances within a mode.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ekitools.methods.gaussian import fit_gaussian

__all__ = ["memory", "modes_of", "standard_errors"]

_NEIGHBOURS, _SHARE = 15, 40
"""Smallest number of neighbours of a particle, and number of particles for one more neighbour. A
mode has more particles than a particle has neighbours. With fewer neighbours, a sample of one mode
would often have a gap that is wider than the distance to the last neighbour on both sides."""

_MOST = 2000
"""Largest number of particles in the graph. Each other particle belongs to the mode of the nearest
one."""

_BLOCK = 1 << 21
"""Number of pairs of particles whose distances are in memory at a time."""


def modes_of(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The number of the mode of every particle.

    Parameters
    ----------
    x : (J, p)
        Particles. Copies of one particle count once.
    weight : (J,)
        Their weights. Particles with the weight zero are not in the graph, and belong to mode 0.

    Returns
    -------
    (J,) ndarray of int
        Numbers of the modes, from 0.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.methods.smc.modes import modes_of
    >>> x = 0.1 * np.random.default_rng(0).normal(size=(90, 2))
    >>> x[:30] += 1
    >>> np.bincount(modes_of(x, np.full(90, 1 / 90)))
    array([60, 30])
    """
    modes = np.zeros(len(x), dtype=np.int64)
    alive = weight > 0
    if np.count_nonzero(alive) < 2:
        return modes
    points, where = np.unique(x[alive], axis=0, return_inverse=True)
    every = -(-len(points) // _MOST)
    n = len(points[::every])
    n_near = max(_NEIGHBOURS, n // _SHARE) + 1  # a particle is among its own neighbours
    if n < 2 * n_near:
        return modes
    points = fit_gaussian(x[alive], weight[alive]).whiten(points)
    points = _in_local_units(points, points[::every])
    known = points[::every]  # the rows are sorted
    near = _nearest(known, known, n_near)
    rows = np.repeat(np.arange(len(known)), near.shape[1])
    graph = coo_array((np.ones(near.size), (rows, near.ravel())), shape=(len(known), len(known)))
    _, found = connected_components(graph, directed=False)
    if len(known) < len(points):
        found = found[_nearest(points, known, 1)[:, 0]]
    _, modes[alive] = np.unique(found[where.ravel()], return_inverse=True)
    return modes


def memory(x: np.ndarray, origin: np.ndarray, weight: np.ndarray, modes: np.ndarray) -> float:
    """Correlation of particles with their earlier positions, within modes.

    Parameters
    ----------
    x, origin : (J, p)
        Particles, and their earlier positions.
    weight : (J,)
        Their weights.
    modes : (J,)
        The mode of each earlier position.

    Returns
    -------
    float
        Mean over the coordinates and, by weight, over the modes. 1 if nothing moved.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.methods.smc.modes import memory
    >>> rng = np.random.default_rng(0)
    >>> modes, weight = np.arange(1000) % 2, np.full(1000, 1e-3)
    >>> x, origin = 10 * modes[:, None] + rng.normal(size=(2, 1000, 1))  # moved within modes
    >>> [round(memory(x, origin, weight, m), 1) for m in (0 * modes, modes)]
    [1.0, 0.1]
    """
    total, mass = 0.0, 0.0
    for mode in np.unique(modes):
        here = modes == mode
        share = float(weight[here].sum())
        if share > 0:
            total += share * _correlation(x[here], origin[here], weight[here] / share)
            mass += share
    return total / mass


def standard_errors(values: np.ndarray, weight: np.ndarray, eve: np.ndarray) -> np.ndarray:
    r"""Standard errors of weighted means, from the genealogy of a single run.

    .. math:: s^2 = \sum_e \Bigl( \sum_{i : \mathrm{eve}_i = e} w_i (f_i - \bar f) \Bigr)^2

    Descendants of the same first particle depend on each other; other particles do not (Lee &
    Whiteley 2018, Biometrika 105, 609-625).

    Parameters
    ----------
    values : (J, m)
        f of every particle.
    weight : (J,)
        Weights, adding up to 1.
    eve : (J,) of int
        The first particle that each descends from.

    Returns
    -------
    (m,) ndarray
        s.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.methods.smc.modes import standard_errors
    >>> f = np.array([[0.0], [0.0], [1.0], [1.0]])
    >>> standard_errors(f, np.full(4, 0.25), np.arange(4))  # four draws: sqrt(1/4 / 4)
    array([0.25])
    >>> standard_errors(f, np.full(4, 0.25), np.array([0, 0, 1, 1])).round(3)  # two draws
    array([0.354])
    """
    parts = weight[:, None] * (values - weight @ values)
    sums = np.zeros((len(values), values.shape[1]))
    np.add.at(sums, eve, parts)
    return np.sqrt(np.sum(sums * sums, axis=0))


def _in_local_units(points: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Points in coordinates in which steps to the nearest neighbour have the covariance I.

    The covariance of all points is large along a direction in which two modes are far apart. In
    coordinates whitened by it, these modes would be close.
    """
    near = _nearest(known, known, 2)  # itself, and another
    steps = np.sum(known[near] - known[:, None], axis=1)
    _, s, basis = np.linalg.svd(steps / np.sqrt(len(steps)), full_matrices=False)
    return np.asarray(points @ basis.T / np.where(s > 1e-12 * s[0], s, 1.0))


def _nearest(x: np.ndarray, known: np.ndarray, n: int) -> np.ndarray:
    """Rows of ``known`` that are nearest to those of ``x``, ``(J, n)``, unordered."""
    size = 0.5 * np.sum(known * known, axis=1)
    rows = max(1, _BLOCK // len(known))
    blocks = (size - x[i : i + rows] @ known.T for i in range(0, len(x), rows))
    return np.concatenate([np.argpartition(block, n - 1, axis=1)[:, :n] for block in blocks])


def _correlation(x: np.ndarray, origin: np.ndarray, weight: np.ndarray) -> float:
    """Mean over coordinates of the correlation of ``x`` and ``origin``."""
    a, b = x - weight @ x, origin - weight @ origin
    both = weight @ (a * b)
    size = np.sqrt((weight @ (a * a)) * (weight @ (b * b)))
    alive = size > 0
    return float(np.mean(both[alive] / size[alive])) if alive.any() else 1.0
