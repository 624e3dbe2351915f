"""Proposals of a posterior from a result: a mixture of Gaussians, whitened by the prior."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr

from ekitools.core.arrays import host
from ekitools.linalg.gaussian_mixture import fit_mixture
from ekitools.linalg.pareto import pareto_smoothed
from ekitools.methods.gaussian import Gaussian, fit_gaussian
from ekitools.problem import InverseProblem
from ekitools.results.checks import attribute
from ekitools.results.reading import members_at
from ekitools.results.weights import log_target

__all__ = [
    "Mixture",
    "Pilot",
    "coordinates",
    "draws_of_prior",
    "gaussians_of",
    "mixture_of",
    "pilot_of",
]

_SHARES = (0.55, 0.2, 0.15, 0.1)
"""Of draws from the Gaussian of the ensemble, from that of all stored runs, from the first with
twice its standard deviations, and from the prior."""

_SHARES_OF_SAMPLE = (0.2, 0.45, 0.1, 0.25)
"""Likewise for a sample that several Gaussians describe. Modes that no particle is in are found by
draws of the prior alone."""

_MOST_DIMENSIONS = 12
"""Parameters above which a sample is too small for several Gaussians."""

_MOST_ITERATIONS = 40


_MOST_KHAT, _LEAST_ESS = 0.7, 100


class Pilot(NamedTuple):
    """All stored runs as one weighted sample of the posterior, about."""

    white: np.ndarray
    weight: np.ndarray
    khat: float

    @property
    def gaussian(self) -> Gaussian:
        """The Gaussian of the sample."""
        return fit_gaussian(self.white, self.weight)

    @property
    def reliable(self) -> bool:
        """Whether moments of the sample may be believed."""
        return self.khat < _MOST_KHAT and 1 / float(self.weight @ self.weight) >= _LEAST_ESS


class Mixture(NamedTuple):
    """Numbers of draws of each Gaussian; the first is that of the ensemble."""

    parts: tuple[Gaussian, ...]
    counts: tuple[int, ...]

    def draws(self, rng: np.random.Generator) -> np.ndarray:
        """As many draws as there are counts, ``(n, p)``."""
        p = len(self.parts[0].mean)
        rows = [
            part.unwhiten(rng.standard_normal((count, p)))
            for part, count in zip(self.parts, self.counts, strict=True)
        ]
        return np.concatenate(rows)

    def log_densities(self, white: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of the mixture and of its first part, but for the same constant, ``(n,)`` each."""
        logs = np.stack([part.log_density(white) for part in self.parts])
        shares = np.array(self.counts) / sum(self.counts)
        with np.errstate(divide="ignore"):
            return np.logaddexp.reduce(logs + np.log(shares)[:, None], axis=0), logs[0]

    def with_prior_draws(self, n: int) -> Mixture:
        """The mixture that ``n`` more draws of the prior make of it, which is its last part."""
        return self._replace(counts=(*self.counts[:-1], self.counts[-1] + n))


def mixture_of(gaussian: Gaussian, others: tuple[Gaussian, ...], n: int) -> Mixture:
    """The proposal of n draws for the Gaussian of an ensemble.

    ``others`` is the Gaussian of all stored runs, or several Gaussians that describe a sample
    better than one does; they are drawn from equally. They are empty where nothing is known.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.methods.gaussian import Gaussian
    >>> from ekitools.results.proposal import mixture_of
    >>> mixture = mixture_of(Gaussian(np.zeros(1), np.eye(1), np.array([0.1])), (), 100)
    >>> mixture.counts, mixture.draws(np.random.default_rng(0)).shape
    ((55, 15, 30), (100, 1))
    """
    p = len(gaussian.mean)
    # directions of the prior's own width are not among the basis: all of them are widened
    _, wide_sd, wide_basis = _twice(gaussian)
    wide = Gaussian(gaussian.mean, wide_basis, wide_sd)
    prior = Gaussian(np.zeros(p), np.zeros((0, p)), np.zeros(0))
    shares = _SHARES if len(others) < 2 else _SHARES_OF_SAMPLE
    _, of_others, of_wide, of_prior = (int(share * n) for share in shares)
    if not others:  # nothing else is known of other places
        of_prior, of_others = of_prior + of_others, 0
    each = [of_others // max(len(others), 1)] * len(others)
    counts = (n - sum(each) - of_wide - of_prior, *each, of_wide, of_prior)
    return Mixture((gaussian, *others, wide, prior), counts)


def gaussians_of(
    white: np.ndarray, weight: np.ndarray, rng: np.random.Generator
) -> tuple[Gaussian, ...]:
    """Gaussians that describe a weighted sample ``(n, p)`` better than one; empty if one is enough.

    Their standard deviations are wider by a tenth, because tails are worse to miss than to exceed.
    """
    p = white.shape[1]
    if p > _MOST_DIMENSIONS or np.linalg.matrix_rank(white - weight @ white) < p:
        return ()
    mixture = fit_mixture(white, weight, rng)
    if len(mixture.shares) < 2:
        return ()
    parts = []
    for mean, cov in zip(mixture.means, mixture.covariances, strict=True):
        variance, basis = np.linalg.eigh(cov)
        parts.append(Gaussian(mean, basis.T, 1.1 * np.sqrt(np.maximum(variance, 1e-16))))
    return tuple(parts)


def _twice(gaussian: Gaussian) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, standard deviations and basis of all directions, twice as wide."""
    p = len(gaussian.mean)
    rows = gaussian.spread(np.eye(p))
    left, sd, _ = np.linalg.svd(rows)
    return gaussian.mean, 2 * sd, left.T


def coordinates(u: np.ndarray, problem: InverseProblem) -> tuple[np.ndarray, np.ndarray]:
    """Physical members ``(J, p)`` in unconstrained coordinates, and in those of N(0, I).

    Raises
    ------
    TypeError
        If the prior has no coordinates in which it is N(0, I).
    """
    prior = problem.prior
    unconstrained = host(prior.to_unconstrained(u.astype(np.float64)))
    try:
        return unconstrained, host(prior.whiten(unconstrained))
    except (AttributeError, NotImplementedError) as error:
        raise TypeError(
            "problem: must have a prior with coordinates in which it is N(0, I) (whiten and "
            f"unwhiten), got {type(prior).__name__}. Use a prior of ekitools, or compare with "
            "another method by ek.compare."
        ) from error


def draws_of_prior(
    result: xr.Dataset, problem: InverseProblem
) -> tuple[np.ndarray, np.ndarray] | None:
    """First members, whitened, and outputs, where all are draws of the prior that did not fail."""
    if result.attrs.get("start") != "prior" or int(result.iteration[0]) != 0:
        return None
    failed_first = any(f.get("iteration") == 0 for f in attribute(result, "failures", []))
    if not _moves_its_members(result) or failed_first:
        return None
    first = members_at(result, 0)
    if not (np.isfinite(first.misfit).all() and np.isfinite(first.g).all()):
        return None
    _, white = coordinates(first.u, problem)
    return (white, first.g.astype(np.float64)) if np.isfinite(white).all() else None


def pilot_of(result: xr.Dataset, problem: InverseProblem) -> Pilot | None:
    """All stored runs, weighted; None where only the last ensemble is stored.

    Every iteration counts as a sample of its own Gaussian. Weighted by the posterior over the
    mixture of these Gaussians [1]_, the members show tails and modes that the last ensemble left
    behind. The densities are only about those of the members, so this is a proposal and a warning,
    and no answer.

    References
    ----------
    .. [1] Cornuet, Marin, Mira & Robert (2012), Scand. J. Stat. 39, 798-812 (AMIS).
    """
    if not _moves_its_members(result):
        return None
    white, target, gaussians, counts = [], [], [], []
    stored = result.sizes["iteration"]
    for index in np.unique(np.linspace(0, stored - 1, min(stored, _MOST_ITERATIONS)).astype(int)):
        members = members_at(result, int(index))
        known = np.isfinite(members.misfit) & members.kept
        if known.sum() < 2:
            continue
        unconstrained, x = coordinates(members.u[known], problem)
        inside = np.isfinite(x).all(axis=1)
        if inside.sum() < 2:
            continue
        g = members.g[known][inside].astype(np.float64)
        white.append(x[inside])
        target.append(log_target(x[inside], unconstrained[inside], g, problem))
        gaussians.append(fit_gaussian(x[inside]))
        counts.append(int(inside.sum()))
    if len(counts) < 2:
        return None
    x, level = np.concatenate(white), np.concatenate(target)
    if not np.isfinite(level).any():
        return None
    log_mixture, _ = Mixture(tuple(gaussians), tuple(counts)).log_densities(x)
    weight, khat = pareto_smoothed(level - log_mixture)
    # a mean over fewer draws than these is not worth a part of the proposal
    return Pilot(x, weight, khat) if 1 / (weight @ weight) > 3 else None


def _moves_its_members(result: xr.Dataset) -> bool:
    """Whether members are neither nodes nor particles with weights of their own."""
    return result.attrs.get("members") in ("moved", "redrawn")
