"""Parts of benchmarks/localization.py and of benchmarks/darcy_reference.py, on small problems."""

import darcy_reference
import localization
import numpy as np
import pytest
from darcy_reference import Gaussian, Posterior, chain, drawn, mode
from localization_peers import gaspari_cohn

import ekitools as ek

SMALL = {"n": 8, "n_wells": 9, "length": darcy_reference.LENGTH}


class Linear(Posterior):
    """The prior of the small problem with a linear model, so that the posterior is known."""

    def __init__(self, example, matrix):
        super().__init__(example)
        self.matrix = matrix

    def residual(self, u):
        return self.matrix @ u - 1.0

    def misfit(self, u):
        return 0.5 * np.sum(self.residual(u) ** 2), self.matrix.T @ self.residual(u)

    def jacobian(self, u):
        return self.residual(u), self.matrix


@pytest.fixture(scope="module")
def example():
    return ek.problems.darcy_field(**SMALL)


def test_the_adjoint_gradient_is_that_of_the_jacobian_and_of_differences(example):
    posterior = Posterior(example)
    u, along = posterior.prior.sample(2, rng=0)
    value, gradient = posterior.misfit(u)
    residual, jacobian = posterior.jacobian(u)
    assert value == pytest.approx(0.5 * residual @ residual, rel=1e-12)
    np.testing.assert_allclose(jacobian.T @ residual, gradient, rtol=1e-9, atol=1e-9)
    ends = [posterior.residual(u + sign * 1e-5 * along) for sign in (1, -1)]
    np.testing.assert_allclose(jacobian @ along, (ends[0] - ends[1]) / 2e-5, rtol=1e-4, atol=1e-4)


def test_products_with_the_covariance_are_those_of_the_prior(example):
    posterior = Posterior(example)
    x = np.random.default_rng(0).standard_normal((2, 64))
    np.testing.assert_allclose(posterior.times_covariance(x), x @ posterior.prior.cov, atol=1e-12)


@pytest.mark.slow
def test_the_sampler_has_the_moments_of_a_gaussian_posterior(example):
    """About a wrong Gaussian, so that kicks and acceptance matter."""
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((9, 64))
    posterior = Linear(example, matrix)
    C = posterior.prior.cov
    gain = C @ matrix.T @ np.linalg.inv(matrix @ C @ matrix.T + np.eye(9))
    mean, sd = gain @ np.ones(9), np.sqrt(np.diag(C - gain @ matrix @ C))
    u, b = mode(posterior, np.zeros(64), np.zeros(9))
    np.testing.assert_allclose(u, mean, atol=1e-8)
    wrong = Gaussian(posterior, 0.5 * b, 0.8 * matrix)
    draws, probability, _ = drawn(chain(wrong, u, rng), 3000)
    assert 0.6 < probability < 0.95
    error = (draws.mean(axis=0) - mean) / sd
    assert np.sqrt(np.mean(error**2)) < 4 / np.sqrt(1000)  # a draw in three counts
    np.testing.assert_allclose(draws.std(axis=0) / sd, 1, atol=4 / np.sqrt(2000))


def test_the_stored_reference_fits_the_truth():
    example = ek.problems.darcy_field()
    with np.load(darcy_reference.STORED) as stored:
        score = (example.truth - stored["mean"]) / stored["sd"]
    assert 0.8 < np.mean(np.abs(score) < localization.QUANTILE) < 0.96
    assert abs(score.mean()) < 0.3


def test_the_taper_is_that_of_the_package():
    from ekitools.localization.tapers import gaspari_cohn as ours

    z = np.linspace(0, 3, 301)
    np.testing.assert_allclose(gaspari_cohn(2.5 * z, 2.5), ours(z), atol=1e-14)


def test_the_exact_posterior_of_the_blocks_is_that_of_the_information_form():
    case = localization.blocks(0)
    precision = np.eye(40) + (case.matrix.T / case.variances) @ case.matrix
    mean, sd = case.exact
    np.testing.assert_allclose(
        mean, np.linalg.solve(precision, case.matrix.T @ (case.data / case.variances)), rtol=1e-9
    )
    np.testing.assert_allclose(sd**2, np.diag(np.linalg.inv(precision)), rtol=1e-9)


def test_groups_are_nearer_than_all_data():
    """Means over five seeds: 3.1 sd jointly and 0.15 sd in groups, at 60 members."""
    case = localization.blocks(0)
    errors = [
        localization.scores(localization.GROUPS[name], case, range(5), 60, {})[0]
        for name in ("ekitools EKI", "ekitools EKI, groups")
    ]
    assert errors[0] > 10 * errors[1]
