"""Correlated parameters: the Gaussian copula against scipy, and its closed-form moments."""

import numpy as np
import pytest
from scipy import stats

import ekitools as ek
from ekitools.testing import check_prior

MARGINALS = {"a": stats.lognorm(0.4), "b": stats.norm(1, 2), "c": stats.beta(2, 5)}
R = np.array([[1.0, 0.6, -0.3], [0.6, 1.0, 0.2], [-0.3, 0.2, 1.0]])


def correlated(correlation=R):
    return ek.Prior(MARGINALS, correlation=correlation)


def test_it_keeps_the_promises_of_a_prior():
    check_prior(correlated())


@pytest.mark.parametrize("seed", range(5))
def test_marginals_and_rank_correlation_are_as_given(seed):
    n = 20_000
    u = correlated().sample(n, rng=seed)
    for i, marginal in enumerate(MARGINALS.values()):
        assert stats.kstest(u[:, i], marginal.cdf).pvalue > 1e-4
    exact = 6 / np.pi * np.arcsin(R / 2)
    # the standard error of a rank correlation is at most about 1/sqrt(n)
    assert np.all(np.abs(stats.spearmanr(u).statistic - exact) < 4.5 / np.sqrt(n))


@pytest.mark.parametrize("seed", range(5))
def test_lognormal_parameters_have_the_moments_of_a_bivariate_lognormal(seed):
    s, t, r, n = 0.4, 0.7, 0.5, 40_000
    prior = ek.Prior({"a": stats.lognorm(s), "b": stats.lognorm(t)}, correlation={("b", "a"): r})
    a, b = prior.sample(n, rng=seed).T
    product = (a - a.mean()) * (b - b.mean())
    exact = np.exp((s**2 + t**2) / 2) * np.expm1(r * s * t)
    assert abs(product.mean() - exact) < 4 * product.std() / np.sqrt(n)


def test_the_density_is_that_of_scipy_in_coordinates_of_the_copula():
    prior = correlated()
    u = prior.sample(6, rng=0)
    z = np.stack([stats.norm.ppf(m.cdf(u[:, i])) for i, m in enumerate(MARGINALS.values())], 1)
    copula = stats.multivariate_normal(np.zeros(3), R).logpdf(z) - stats.norm.logpdf(z).sum(1)
    marginal = sum(m.logpdf(u[:, i]) for i, m in enumerate(MARGINALS.values()))
    np.testing.assert_allclose(prior.logpdf(u), marginal + copula, rtol=1e-9)
    assert prior.logpdf([1.0, 0.0, 1.5]) == -np.inf


def test_pairs_of_names_are_the_matrix():
    pairs = {("a", "b"): 0.6, ("c", "a"): -0.3, ("b", "c"): 0.2}
    np.testing.assert_array_equal(correlated(pairs).correlation, R)
    assert correlated(pairs).fingerprint() == correlated().fingerprint()
    assert correlated(np.eye(3)).fingerprint() != correlated().fingerprint()
    assert correlated(None).correlation is None
    assert repr(correlated()) == "Prior(a: lognorm, b: norm, c: beta; correlated)"


def test_unconstrained_coordinates_stay_one_for_each_parameter():
    z = np.random.default_rng(0).normal(size=(4, 3))
    np.testing.assert_array_equal(correlated().to_physical(z), correlated(None).to_physical(z))
    root = np.linalg.cholesky(R)
    np.testing.assert_allclose(correlated().unwhiten(z), z @ root.T, rtol=1e-12)


def test_eki_finds_the_posterior_of_correlated_normal_parameters():
    marginals = {"a": stats.norm(1, 2), "b": stats.norm(-1, 0.5)}
    prior = ek.Prior(marginals, correlation={("a", "b"): 0.8})
    sd = np.array([2.0, 0.5])
    dense = ek.GaussianPrior([1.0, -1.0], np.outer(sd, sd) * [[1, 0.8], [0.8, 1]])
    A, y = np.array([[1.0, 0.0]]), [3.0]
    mean, cov = ek.theory.posterior(A, y, dense, 0.25)
    n = 4000
    for seed in range(5):
        result = ek.run(
            ek.InverseProblem(ek.LinearModel(A), prior, 0.25, y), ek.EKI(), n_members=n, rng=seed
        )
        u = result.u[-1].values
        # perturbed steps: the mean has about twice the error of independent draws
        assert np.all(np.abs(u.mean(0) - mean) < 8 * np.sqrt(np.diag(cov) / n))
        assert np.all(np.abs(np.var(u, axis=0) / np.diag(cov) - 1) < 8 * np.sqrt(2 / n))


SINGULAR = np.array([[1.0, 0.9, 0.9], [0.9, 1.0, -0.9], [0.9, -0.9, 1.0]])


@pytest.mark.parametrize(
    ("correlation", "error", "message"),
    [
        (SINGULAR, ValueError, "smallest eigenvalue of -0.8. Multiply all .* below 0.5556, or"),
        (np.ones((3, 3)), ValueError, "correlation: must be positive definite"),
        (np.eye(2), ValueError, r"correlation: must be a \(3, 3\) matrix .* got shape \(2, 2\)"),
        (2 * np.eye(3), ValueError, "ones on its diagonal, got .* cov / np.outer"),
        (np.eye(3) + np.triu(R, 1), ValueError, "correlation: must be symmetric, .* differ by 0.6"),
        (0.5, ValueError, "correlation: must have 2 dimensions"),
        ({("a", "z"): 0.5}, ValueError, "names must be among .* got 'z' in"),
        ({"ab": 0.5}, TypeError, "keys must be pairs of names"),
        ({("a", "a"): 0.5}, ValueError, "each pair of two names once"),
        ({("a", "b"): 0.5, ("b", "a"): 0.5}, ValueError, "each pair of two names once"),
        ({("a", "b"): 1.5}, ValueError, r"correlation\[\('a', 'b'\)\]: must be within \[-1, 1\]"),
        ({("a", "b"): 1.0}, ValueError, "correlation: must be positive definite"),
    ],
)
def test_bad_correlations_are_named(correlation, error, message):
    with pytest.raises(error, match=message):
        correlated(correlation)


def test_the_remedy_for_an_indefinite_matrix_works():
    shrunk = 0.555 * SINGULAR
    np.fill_diagonal(shrunk, 1)
    check_prior(correlated(shrunk))
    np.fill_diagonal(shrunk := 0.556 * SINGULAR, 1)
    with pytest.raises(ValueError, match="positive definite"):
        correlated(shrunk)
