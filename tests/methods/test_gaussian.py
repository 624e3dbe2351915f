"""A Gaussian fitted to an ensemble, against scipy's density and the sample's own moments."""

import numpy as np
import pytest
from scipy import stats

import ekitools as ek
from ekitools.methods.gaussian import Gaussian, fit_gaussian


def some_gaussian():
    rows = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 2)))[0].T
    return Gaussian(np.arange(5.0), rows, np.array([0.3, 2.0]))


def test_density_and_draws_are_those_of_the_dense_covariance():
    gaussian = some_gaussian()
    scale = gaussian.basis.T @ np.diag(gaussian.sd**2 - 1) @ gaussian.basis
    cov = np.eye(5) + scale
    x = np.random.default_rng(1).normal(size=(7, 5))
    exact = stats.multivariate_normal(gaussian.mean, cov).logpdf(x) + 2.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(gaussian.log_density(x), exact)
    root = gaussian.unwhiten(np.eye(5)) - gaussian.mean
    np.testing.assert_allclose(root.T @ root, cov, atol=1e-12)
    np.testing.assert_allclose(gaussian.whiten(gaussian.unwhiten(x)), x)


def test_the_fit_finds_the_few_directions_and_leaves_the_rest_at_one():
    gaussian = some_gaussian()
    n, p = 4000, 40
    x = np.random.default_rng(2).normal(size=(n, p))
    x[:, :5] = gaussian.unwhiten(x[:, :5])
    fit = fit_gaussian(x)
    np.testing.assert_allclose(np.sort(fit.sd), [0.3, 2.0], rtol=4 / np.sqrt(2 * n))
    np.testing.assert_allclose(fit.mean[:5], gaussian.mean, atol=4 * 2.0 / np.sqrt(n))
    # a sample mean would be off by √(p/n) in norm; shrinking cannot do worse
    assert np.linalg.norm(fit.mean[5:]) < np.sqrt(p / n)


def test_weights_are_as_good_as_copies():
    x = np.random.default_rng(3).normal(size=(300, 2)) * [0.2, 3.0]
    copies = np.random.default_rng(4).integers(1, 4, size=300)
    weighted, repeated = fit_gaussian(x, copies / 1.0), fit_gaussian(np.repeat(x, copies, axis=0))
    np.testing.assert_allclose(weighted.mean, repeated.mean)
    np.testing.assert_allclose(weighted.sd, repeated.sd, rtol=5e-3)  # 1/(J-1) of another J


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ((0.0, 0.0), ((1.0, 0.0),), (1.0, 2.0)),
            r"basis, sd: must have the shapes .* got \(2,\), \(1, 2\) and",
        ),
        (((0.0, np.nan), (), ()), "^mean: must be finite"),
        (((0.0, 0.0), ((1.0, 0.0),), (0.0,)), "^sd: must be positive"),
        (((0.0, 0.0), ((1.0, 1.0),), (0.5,)), "^basis: must have orthonormal rows"),
        (((0.0,), (), (), "", 1.0), r"^prior_share: must be within \[0, 1\)"),
    ],
)
def test_a_start_that_is_no_gaussian_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ek.GaussianStart(*arguments)


def test_a_start_from_an_ensemble_leaves_out_failed_members_and_needs_two():
    prior = ek.GaussianPrior([5.0, 5.0], 4.0)
    u = 5 + 0.5 * np.random.default_rng(0).normal(size=(200, 2))
    u[3] = np.nan
    start = ek.GaussianStart.from_ensemble(u, prior, inflation=1.0)
    np.testing.assert_allclose(start.sd, 0.25, rtol=0.2)
    np.testing.assert_allclose(start.mean, 0, atol=0.1)
    with pytest.raises(ValueError, match="at least two finite members"):
        ek.GaussianStart.from_ensemble(u[3:5], prior)
    with pytest.raises(ValueError, match="^inflation: must be positive"):
        ek.GaussianStart.from_ensemble(u, prior, inflation=0.0)


def test_the_density_of_a_mixture_is_that_of_its_parts():
    gaussian = some_gaussian()
    cov = np.eye(5) + gaussian.basis.T @ np.diag(gaussian.sd**2 - 1) @ gaussian.basis
    parts = (stats.multivariate_normal(gaussian.mean, cov), stats.multivariate_normal(np.zeros(5)))
    x = np.random.default_rng(1).normal(size=(7, 5))
    for share in (0.0, 0.3):
        start = ek.GaussianStart(gaussian.mean, gaussian.basis, gaussian.sd, prior_share=share)
        exact = np.log((1 - share) * parts[0].pdf(x) + share * parts[1].pdf(x))
        np.testing.assert_allclose(start.log_density(x), exact + 2.5 * np.log(2 * np.pi))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_share_of_the_draws_stays_where_the_prior_put_it(dtype):
    """Those that stay are draws of the prior, and the others of the Gaussian."""
    n, share = 20_000, 0.3
    prior = ek.GaussianPrior([5.0, -5.0], 4.0)
    start = ek.GaussianStart((9.0, 0.0), ((1.0, 0.0),), (0.1,), prior_share=share)
    draws = prior.sample_unconstrained(n, rng=0).astype(dtype)
    mixed = start.mixed(draws, prior)
    assert mixed.dtype == dtype
    stays = np.all(mixed == draws, axis=1)
    assert np.mean(stays) == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / n))
    white = np.asarray(prior.whiten(mixed.astype(np.float64)))
    for x in (white[stays], (white[~stays] - [9.0, 0.0]) / [0.1, 1.0]):
        for column in x.T:
            assert stats.kstest(column, "norm").pvalue > 1e-3
    # a row has its place whatever the others are
    np.testing.assert_array_equal(start.mixed(draws[7:50], prior), mixed[7:50])
