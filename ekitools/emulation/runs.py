"""Model runs that an emulator learns from: gathered from results, and selected near the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from scipy.spatial import KDTree

from ekitools.core.arrays import host
from ekitools.methods.smc.resampling import effective_sample_size, normalised
from ekitools.problem import InverseProblem, check_whole
from ekitools.results.alignment import columns_of
from ekitools.results.checks import check_result
from ekitools.typing import ScaledNoise

__all__ = [
    "Chosen",
    "Runs",
    "best_scales",
    "checked_problem",
    "gathered",
    "near_posterior",
    "nearby_means",
    "runs_of",
    "whitened",
]

_GRID = np.linspace(-4.0, 4.0, 161)
"""Logarithms of a scale relative to the root mean square of the residuals."""


_NEIGHBOURS = 10
"""Runs of a stochastic model whose outputs are averaged before runs are chosen."""

_NEAR = 10.0
"""Misfit above the least for each parameter up to which a run counts as near: 4.5 standard
deviations in every direction."""


class Runs(NamedTuple):
    """Evaluated runs of a model."""

    u: np.ndarray
    """Physical, ``(n, p)``, without the scales of the noise."""
    w: np.ndarray
    """The same, in coordinates in which the prior is N(0, I)."""
    g: np.ndarray
    """Outputs, ``(n, d)``."""
    r: np.ndarray
    """Residuals whitened by the noise, at scales of 1, ``(n, d)``."""

    def rows(self, index: np.ndarray) -> Runs:
        """Some of the runs."""
        return Runs(*(each[index] for each in self))

    def joined(self, other: Runs) -> Runs:
        """These runs, and others after them."""
        return Runs(*(np.concatenate(pair) for pair in zip(self, other, strict=True)))


def checked_problem(problem: Any) -> None:
    """Check that outputs of its model can be emulated: whole data, Gaussian noise."""
    if not isinstance(problem, InverseProblem):
        raise TypeError(f"problem: must be an ek.InverseProblem, got {type(problem).__name__}.")
    check_whole(problem, "ek.emulate")
    if not problem.has_noise:
        raise TypeError(
            "noise: must be Gaussian for ek.emulate, which measures outputs by it, got the loss "
            f"{type(problem.noise).__name__}. Use ek.GaussianNoise(cov) or ek.UnknownNoise(prior)."
        )


def gathered(results: Any, problem: InverseProblem) -> Runs:
    """The different runs of one or several results.

    Raises
    ------
    TypeError, ValueError
        If one is no result, or of other parameters or data, or there are no evaluated runs.
    """
    given = [results] if isinstance(results, xr.Dataset) else results
    if isinstance(given, str) or not isinstance(given, Sequence) or not given:
        raise TypeError(
            "results: must be a result of ek.run, or a list of such results, got "
            f"{type(results).__name__ if not isinstance(results, Sequence) else repr(results)}."
        )
    several = len(given) > 1
    parts = []
    for i, result in enumerate(given):
        name = f"results[{i}]" if several else "results"
        check_result(result, name)
        parts.append(_of_result(result, problem, name))
    u, g = (np.concatenate(each) for each in zip(*parts, strict=True))
    if not problem.info.stochastic:
        _, first = np.unique(u[:, : u.shape[1] - problem.n_scales], axis=0, return_index=True)
        first = np.sort(first)
        u, g = u[first], g[first]
    return runs_of(u, g, problem)


def whitened(u: np.ndarray, problem: InverseProblem) -> np.ndarray:
    """Parameters of the model, of all ``(n, p + B)``, in coordinates in which they are N(0, I)."""
    prior, n_model = problem.prior, u.shape[1] - problem.n_scales
    with np.errstate(all="ignore"):  # at a bound of the prior
        w = host(prior.whiten(prior.to_unconstrained(u)))
    return np.asarray(w[:, :n_model], dtype=np.float64)


def runs_of(u: np.ndarray, g: np.ndarray, problem: InverseProblem) -> Runs:
    """Runs from all parameters ``(n, p + B)`` and outputs, without those that are not finite."""
    noise, n_model = problem.noise, u.shape[1] - problem.n_scales
    shape = noise.shape if isinstance(noise, ScaledNoise) else noise
    w = whitened(u, problem)
    with np.errstate(over="ignore", invalid="ignore"):  # of outputs that are missing or wild
        r = host(shape.whiten(g - problem.data))
    known = np.isfinite(w).all(axis=1) & np.isfinite(r).all(axis=1)
    with np.errstate(over="ignore"):
        known &= np.isfinite(np.sum(r * r, axis=1))
    return Runs(u[known, :n_model], w[known], g[known], r[known])


def best_scales(r: np.ndarray, problem: InverseProblem) -> np.ndarray:
    """The scales ``(B,)`` that are most probable at the run that fits best with its own ones.

    Parameters
    ----------
    r : (n, d)
        Residuals at scales of 1.
    problem : InverseProblem
        Its noise has B scales, or none.
    """
    noise = problem.noise
    if not isinstance(noise, ScaledNoise):
        return np.ones(0)
    rows = np.arange(len(r))
    cost = 0.5 * np.sum(r[:, noise.groups < 0] ** 2, axis=1)
    scales = np.empty((len(r), noise.n_scales))
    for b in range(noise.n_scales):
        part = noise.groups == b
        d, square = int(part.sum()), np.sum(r[:, part] ** 2, axis=1)
        low, high = noise.prior.log_bounds[:, b]
        centre = 0.5 * np.log(np.maximum(square / max(d, 1), 1e-12))
        log_s = np.clip(centre[:, None] + _GRID, low, high)
        each = d * log_s + 0.5 * square[:, None] * np.exp(-2 * log_s)
        each -= noise.prior.log_density(b, log_s)
        best = np.argmin(each, axis=1)
        cost, scales[:, b] = cost + each[rows, best], np.exp(log_s[rows, best])
    return np.asarray(scales[np.argmin(cost)])


def nearby_means(r: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Means of the residuals ``(n, d)`` of every run and its nearest others.

    Runs of a stochastic model must not be chosen by their own outputs: those that are near the data
    by chance would bias a regression towards the data.

    Parameters
    ----------
    r : (n, d)
        Residuals.
    w : (n, p)
        Parameters, whitened by the prior.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.emulation.runs import nearby_means
    >>> w, noise = np.random.default_rng(0).normal(size=(2, 1000, 1))
    >>> bool(nearby_means(noise, w).std() < 0.4)
    True
    """
    _, nearest = KDTree(w).query(w, k=min(_NEIGHBOURS, len(w)))
    return np.asarray(r[nearest.reshape(len(w), -1)].mean(axis=1))


class Chosen(NamedTuple):
    """Runs that an emulator learns from."""

    rows: np.ndarray
    """Which runs, near ones and far ones."""
    near: np.ndarray
    """Which of these are near the posterior."""
    weight: np.ndarray
    """Of these, such that the weighted runs lie about where the posterior does."""


def near_posterior(
    misfit: np.ndarray, n_points: int, p: int, n_fresh: int, rng: np.random.Generator
) -> Chosen:
    """Choose the runs that an emulator learns from.

    Near runs have a misfit that exceeds the least by at most 10 p. Far runs say where the posterior
    is not: they make up to a third. The last ``n_fresh`` runs of both kinds come first. The others
    are chosen at random, so that they do not all lie in a last, collapsed ensemble.

    Parameters
    ----------
    misfit : (n,)
        Of all runs.
    n_points : int
        Most rows.
    p : int
        Number of parameters.
    n_fresh : int
        Runs at the end that are chosen first.
    rng : numpy.random.Generator
        Chooses among the others.
    """
    enough = np.sort(misfit)[min(100 + 10 * p, len(misfit)) - 1]
    near = misfit <= max(misfit.min() + _NEAR * p, enough)
    order = rng.permutation(len(misfit))
    order = order[np.argsort(order < len(misfit) - n_fresh, kind="stable")]  # fresh runs first
    far = order[~near[order]][: n_points // 3]
    rows = np.sort(np.concatenate([order[near[order]][: n_points - len(far)], far]))
    gap = misfit[rows] - misfit[rows].min()
    goal = min(20 + 5 * p, len(rows) / 2)

    def effective(t: float) -> float:
        return effective_sample_size(normalised(-t * gap)[0])

    low, high = 0.0, 1.0
    for _ in range(40):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if effective(middle) >= goal else (low, middle)
    return Chosen(rows, near[rows], normalised(-low * gap)[0])


def _of_result(
    result: xr.Dataset, problem: InverseProblem, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Parameters and outputs of all evaluated members, in the order of the problem."""
    at = np.argsort(columns_of(problem, result))
    theirs = result["data"].values.tolist()
    ours = list(problem.data_names or ())
    if len(theirs) != len(ours) or set(theirs) != set(ours):
        raise ValueError(
            f"{name}: must be of the {len(ours)} data of the problem, got {len(theirs)} or others. "
            "Use results of this problem."
        )
    order = [theirs.index(each) for each in ours]
    if not np.allclose(result.y.values[order], problem.data):
        raise ValueError(
            f"{name}: must be of the data of the problem, got other values y. Use results of this "
            "problem."
        )
    p, d = result.sizes["parameter"], result.sizes["data"]
    u = result.u.transpose("iteration", "member", "parameter").values.reshape(-1, p)[:, at]
    g = result.g.transpose("iteration", "member", "data").values.reshape(-1, d)[:, order]
    known = np.isfinite(u).all(axis=1) & np.isfinite(g).all(axis=1)
    if not known.any():
        raise ValueError(
            f"{name}: must have evaluated members, got none with parameters and outputs. Run with "
            'store="all".'
        )
    return u[known].astype(np.float64), g[known].astype(np.float64)
