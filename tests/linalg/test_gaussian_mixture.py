"""Mixtures fitted to samples of known mixtures."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from ekitools.linalg.gaussian_mixture import GaussianMixture, fit_mixture


def equal(n):
    return np.full(n, 1 / n)


def test_parts_of_a_known_mixture_are_found():
    """Three Gaussians in a plane, far apart: errors are those of the moments of each part."""
    rng = np.random.default_rng(0)
    means = np.array([[0.0, 0.0], [8.0, 0.0], [0.0, 9.0]])
    roots = [np.eye(2), np.array([[0.5, 0.0], [0.4, 0.3]]), np.diag([2.0, 0.1])]
    counts = (500, 300, 200)
    x = np.concatenate(
        [
            m + rng.standard_normal((n, 2)) @ r.T
            for m, r, n in zip(means, roots, counts, strict=True)
        ]
    )
    found = fit_mixture(x, equal(1000), rng)
    assert len(found.shares) == 3
    order = [int(np.argmin(np.sum((found.means - m) ** 2, axis=1))) for m in means]
    np.testing.assert_allclose(found.shares[order], np.array(counts) / 1000, atol=1e-3)
    for k, mean, root, n in zip(order, means, roots, counts, strict=True):
        cov = root @ root.T
        z = (found.means[k] - mean) / np.sqrt(np.diag(cov) / n)
        assert np.abs(z).max() < 4
        ratio = np.diag(found.covariances[k]) / np.diag(cov)
        assert np.abs(ratio - 1).max() < 4 * np.sqrt(2 / n)


def test_densities_are_those_of_scipy():
    rng = np.random.default_rng(1)
    root = np.array([[1.0, 0.0], [0.5, 0.3]])
    mixture = GaussianMixture(
        np.array([0.3, 0.7]),
        np.array([[0.0, 1.0], [2.0, -1.0]]),
        np.stack([root @ root.T, np.eye(2)]),
    )
    x = rng.standard_normal((50, 2))
    exact = sum(
        share * stats.multivariate_normal(mean, cov).pdf(x)
        for share, mean, cov in zip(*mixture, strict=True)
    )
    np.testing.assert_allclose(logsumexp(mixture.log_densities(x), axis=1), np.log(exact))


@pytest.mark.parametrize("p", [1, 3, 10])
def test_a_gaussian_sample_has_one_part(p):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        x = 3 + rng.standard_normal((400, p)) @ rng.standard_normal((p, p))
        found = fit_mixture(x, equal(400), rng)
        assert len(found.shares) == 1
        np.testing.assert_allclose(found.means[0], x.mean(axis=0))
        np.testing.assert_allclose(found.covariances[0], np.cov(x.T, bias=True).reshape(p, p),
                                   rtol=2e-3, atol=1e-3 * np.var(x))  # fmt: skip


def test_weights_count_as_copies():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(-4, 1, 100), rng.normal(4, 1, 200)])[:, None]
    copies = np.concatenate([x, x[:100]])
    weight = np.append(np.full(100, 2.0), np.ones(200)) / 400
    first = fit_mixture(x, weight, np.random.default_rng(1))
    second = fit_mixture(copies, equal(400), np.random.default_rng(1))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)


def test_copies_of_one_row_leave_a_density():
    """A particle that was resampled a hundred times."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.standard_normal((300, 2)), np.full((100, 2), 5.0)])
    found = fit_mixture(x, equal(400), rng)
    assert np.isfinite(found.log_densities(x)).all()
    assert np.all(np.linalg.eigvalsh(found.covariances) > 0)


def test_few_rows_have_one_part():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(-9, 1, 4), rng.normal(9, 1, 4)])[:, None]
    assert len(fit_mixture(x, equal(8), rng).shares) == 1
