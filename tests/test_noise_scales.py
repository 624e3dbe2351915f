"""Scales under a linear model: closed forms with dense matrices, of which the kernel has none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import integrate, stats

from ekitools.linalg.scales import (
    LinearFit,
    linear_fit,
    pooled,
    pulled,
    quantiles,
    scale_draws,
    solved,
    transported,
)

RNG = np.random.default_rng(0)
PRIOR = stats.lognorm(1.0)
BOUNDS = np.array([[-8.0], [8.0]])
NORMAL = np.array([-3.0, -1.0, 0.0, 0.5, 2.5])


def log_prior(b: int, log_s: np.ndarray) -> np.ndarray:
    return np.asarray(PRIOR.logpdf(np.exp(log_s)) + log_s)


def case(d: int, k: int, groups: Any, n: int = 1) -> tuple[np.ndarray, np.ndarray, LinearFit]:
    """Slopes, data, and the fit of members whose residuals are linear."""
    slope, y = RNG.standard_normal((d, k)), RNG.standard_normal((n, d)) * 1.5
    x = RNG.standard_normal((n, k))
    return slope, y, linear_fit(slope, x @ slope.T - y, x, np.asarray(groups))


@pytest.mark.parametrize(
    ("distribution", "scale"), [(stats.norm(2, 1e-4), 5.0), (stats.loggamma(0.7), 30.0)]
)
def test_quantiles_are_those_of_known_densities(distribution: Any, scale: float) -> None:
    bounds = np.array([-scale, scale]) + distribution.mean()
    with np.errstate(divide="ignore"):
        found = quantiles(distribution.logpdf, bounds, NORMAL)
    exact = distribution.ppf(stats.norm.cdf(NORMAL))
    np.testing.assert_allclose(found, exact, atol=3e-3 * distribution.std())


@pytest.mark.parametrize(("d", "k"), [(12, 3), (3, 7)])
def test_one_scale_is_drawn_from_its_marginal_posterior(d: int, k: int) -> None:
    slope, y, fit = case(d, k, np.zeros(d, dtype=int))

    def density(log_s: float) -> float:
        cov = slope @ slope.T + np.exp(2 * log_s) * np.eye(d)
        prior = log_prior(0, np.array(log_s))
        return float(np.exp(stats.multivariate_normal(np.zeros(d), cov).logpdf(y[0]) + prior))

    scores = np.tile(NORMAL[:, None, None], (1, 1, 1))
    s = scale_draws(fit, log_prior, BOUNDS, scores, np.ones(1))[:, 0]
    total = integrate.quad(density, -6, 6, epsabs=0, limit=200)[0]
    found = [integrate.quad(density, -6, np.log(x), epsabs=0, limit=200)[0] / total for x in s]
    np.testing.assert_allclose(stats.norm.ppf(found), NORMAL, atol=1e-3)


def test_a_scale_given_the_others_counts_them_and_the_known_noise() -> None:
    groups = np.array([0, 1, -1] * 4)
    slope, y, fit = case(12, 3, groups)
    start = np.array([1.0, 0.3])

    def density(log_s: float) -> float:
        variance = np.array([np.exp(2 * log_s), 0.09, 1.0])[groups]
        cov = slope @ slope.T + np.diag(variance)
        prior = log_prior(0, np.array(log_s))
        return float(np.exp(stats.multivariate_normal(np.zeros(12), cov).logpdf(y[0]) + prior))

    def first_alone(b: int, log_s: np.ndarray) -> np.ndarray:
        # an improper spike holds the second scale where it is
        return log_prior(b, log_s) if b == 0 else -1e12 * (log_s - np.log(0.3)) ** 2

    scores = np.zeros((5, 1, 2))
    scores[:, 0, 0] = NORMAL
    bounds = np.tile(BOUNDS, 2)
    s = scale_draws(fit, first_alone, bounds, scores, start)
    np.testing.assert_allclose(s[:, 1], 0.3, rtol=1e-4)
    total = integrate.quad(density, -6, 6, epsabs=0, limit=200)[0]
    found = [
        integrate.quad(density, -6, np.log(x), epsabs=0, limit=200)[0] / total for x in s[:, 0]
    ]
    np.testing.assert_allclose(stats.norm.ppf(found), NORMAL, atol=1e-3)


def test_the_pooled_model_has_the_mean_of_the_squares() -> None:
    groups = np.array([0, 1] * 5)
    slope, y, fit = case(10, 3, groups, n=6)
    one, at = pooled(fit), RNG.standard_normal(3)
    for b in (0, 1):
        rows = groups == b
        expected = np.mean(np.sum((slope[rows] @ at - y[:, rows]) ** 2, axis=1))
        found = np.sum((one.slopes[b] @ at - one.offsets[b]) ** 2) + one.rest[b]
        np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("groups", [[0] * 8, [0, 1] * 4, [0, -1] * 4])
def test_a_member_is_drawn_from_the_posterior_at_its_scales(groups: list[int]) -> None:
    slope, y, fit = case(8, 3, groups, n=5)
    n_scales = max(groups) + 1
    scales = np.exp(RNG.standard_normal((5, n_scales)))
    prior, draws = RNG.standard_normal((5, 3)), RNG.standard_normal((5, 8))
    found = solved(fit, scales, prior + pulled(fit, scales, draws, np.array(groups)))
    for j in range(5):
        s = np.append(scales[j], 1.0)[groups]
        precision = np.eye(3) + slope.T @ (slope / s[:, None] ** 2)
        right = prior[j] + slope.T @ ((y[j] + s * draws[j]) / s**2)
        np.testing.assert_allclose(found[j], np.linalg.solve(precision, right), rtol=1e-9)


@pytest.mark.parametrize("groups", [[0] * 8, [0, 1] * 4, [0, -1] * 4])
def test_transport_carries_one_posterior_to_another(groups: list[int]) -> None:
    slope, y, fit = case(8, 3, groups)
    n_scales = max(groups) + 1
    used = np.array([4.0, 0.5] if len(set(groups)) > 1 else [4.0])
    scales = np.array([0.3, 1.7])[None, :n_scales]

    def posterior(precisions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        w = precisions[groups]
        cov = np.linalg.inv(np.eye(3) + slope.T @ (slope * w[:, None]))
        return cov @ slope.T @ (w * y[0]), cov

    (mean, cov), (to_mean, to_cov) = posterior(used), posterior(np.append(1 / scales[0] ** 2, 1.0))
    points = mean + np.concatenate([np.zeros((1, 3)), np.linalg.cholesky(cov).T])
    found = transported(fit, points, used, np.tile(scales, (4, 1)))
    np.testing.assert_allclose(found[0], to_mean, rtol=1e-9, atol=1e-12)
    root = (found[1:] - found[0]).T
    np.testing.assert_allclose(root @ root.T, to_cov, rtol=1e-9, atol=1e-12)
    own = 1 / np.sqrt(np.tile(used[:n_scales], (4, 1)))
    if -1 not in groups:
        np.testing.assert_allclose(transported(fit, points, used, own), points, rtol=1e-9)
