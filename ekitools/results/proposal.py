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
"""Shares of draws from the Gaussian of the ensemble, from the Gaussian of all stored runs, from the
first Gaussian with doubled standard deviations, and from the prior."""

_SHARES_OF_SAMPLE = (0.2, 0.45, 0.1, 0.25)
"""The same shares for a sample that several Gaussians describe. Modes without particles are found
by draws of the prior alone."""

_MOST_DIMENSIONS = 12
"""Most parameters for which a sample is large enough to fit several Gaussians."""

_MOST_ITERATIONS = 40

_MOST_KHAT, _LEAST_ESS = 0.7, 100


class Pilot(NamedTuple):
    """All stored runs as one weighted sample that approximates the posterior."""

    white: np.ndarray
    weight: np.ndarray
    khat: float

    @property
    def gaussian(self) -> Gaussian:
        """The Gaussian of the sample."""
        return fit_gaussian(self.white, self.weight)

    @property
    def reliable(self) -> bool:
        """Whether moments of the sample are reliable."""
        return self.khat < _MOST_KHAT and 1 / float(self.weight @ self.weight) >= _LEAST_ESS


class Mixture(NamedTuple):
    """Gaussians and the number of draws from each; the first Gaussian is that of the ensemble."""

    parts: tuple[Gaussian, ...]
    counts: tuple[int, ...]

    def draws(self, rng: np.random.Generator) -> np.ndarray:
        """Draws ``(n, p)``, where n is the sum of the counts."""
        p = len(self.parts[0].mean)
        rows = [
            part.unwhiten(rng.standard_normal((count, p)))
            for part, count in zip(self.parts, self.counts, strict=True)
        ]
        return np.concatenate(rows)

    def log_densities(self, white: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log-densities of the mixture and of its first part, up to one constant, ``(n,)`` each."""
        logs = np.stack([part.log_density(white) for part in self.parts])
        shares = np.array(self.counts) / sum(self.counts)
        with np.errstate(divide="ignore"):
            return np.logaddexp.reduce(logs + np.log(shares)[:, None], axis=0), logs[0]

    def with_prior_draws(self, n: int) -> Mixture:
        """The mixture with ``n`` more draws of the prior, which is the last part."""
        return self._replace(counts=(*self.counts[:-1], self.counts[-1] + n))


def mixture_of(gaussian: Gaussian, others: tuple[Gaussian, ...], n: int) -> Mixture:
    """Proposal of n draws around the Gaussian of an ensemble.

    ``others`` holds the Gaussian of all stored runs, or several Gaussians that describe a sample
    better than one Gaussian. Each of them gets the same number of draws. ``others`` is empty if
    neither is known.

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
    # the basis omits directions with the width of the prior, but all directions are widened
    _, wide_sd, wide_basis = _twice(gaussian)
    wide = Gaussian(gaussian.mean, wide_basis, wide_sd)
    prior = Gaussian(np.zeros(p), np.zeros((0, p)), np.zeros(0))
    shares = _SHARES if len(others) < 2 else _SHARES_OF_SAMPLE
    _, of_others, of_wide, of_prior = (int(share * n) for share in shares)
    if not others:  # only the prior covers other regions
        of_prior, of_others = of_prior + of_others, 0
    each = [of_others // max(len(others), 1)] * len(others)
    counts = (n - sum(each) - of_wide - of_prior, *each, of_wide, of_prior)
    return Mixture((gaussian, *others, wide, prior), counts)


def gaussians_of(
    white: np.ndarray, weight: np.ndarray, rng: np.random.Generator
) -> tuple[Gaussian, ...]:
    """Several Gaussians that describe a weighted sample ``(n, p)``; empty if one is enough.

    Their standard deviations are increased by a tenth, because a proposal with light tails is worse
    than a proposal with heavy tails.
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
    """Mean, doubled standard deviations, and a basis of all directions."""
    p = len(gaussian.mean)
    rows = gaussian.spread(np.eye(p))
    left, sd, _ = np.linalg.svd(rows)
    return gaussian.mean, 2 * sd, left.T


def coordinates(u: np.ndarray, problem: InverseProblem) -> tuple[np.ndarray, np.ndarray]:
    """Convert physical members ``(J, p)`` to unconstrained and to whitened coordinates.

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
    """Whitened first members and their outputs, if all are draws of the prior and none failed."""
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
    """Weighted sample of all stored runs; None if only the last ensemble is stored.

    Every iteration counts as a sample of a Gaussian. The weights are the posterior divided by the
    mixture of these Gaussians [1]_. The weighted members show tails and modes that the last
    ensemble lost. The Gaussians only approximate the densities of the members. The sample therefore
    serves as a proposal and for warnings, not as a posterior.

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
    # with fewer effective draws the Gaussian is too uncertain for the proposal
    return Pilot(x, weight, khat) if 1 / (weight @ weight) > 3 else None


def _moves_its_members(result: xr.Dataset) -> bool:
    """Whether members are neither nodes nor weighted particles."""
    return result.attrs.get("members") in ("moved", "redrawn")
