"""First ensembles with the moments of the prior."""

import numpy as np
import pytest
from balanced import curved, measured
from scipy import stats

import ekitools as ek


@pytest.mark.parametrize("n", [4, 5, 50])
def test_mean_and_covariance_are_those_of_the_prior(n):
    cov = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.3], [0.0, 0.3, 3.0]])
    u = ek.balanced_ensemble(ek.GaussianPrior([1.0, 2.0, 3.0], cov), n, rng=0)
    np.testing.assert_allclose(u.mean(axis=0), [1.0, 2.0, 3.0], atol=1e-12)
    np.testing.assert_allclose(np.cov(u, rowvar=False), cov, atol=1e-12)


def test_with_few_members_the_mean_is_exact_and_the_covariance_unbiased():
    """Mean of 2,000 covariances of 3 members of N(0, I) in 5 dimensions; 4 standard errors."""
    prior, covariances = ek.GaussianPrior(np.zeros(5), 1.0), []
    for seed in range(2000):
        u = ek.balanced_ensemble(prior, 3, rng=seed)
        assert abs(u.mean(axis=0)).max() < 1e-12
        covariances.append(np.cov(u, rowvar=False))
    error = np.std(covariances, axis=0, ddof=1) / np.sqrt(len(covariances))
    assert np.all(np.abs(np.mean(covariances, axis=0) - np.eye(5)) < 4 * error)


def test_other_priors_are_exact_where_they_are_gaussian():
    prior = ek.Prior({"a": stats.lognorm(0.5), "b": stats.uniform(2, 3)})
    u = ek.balanced_ensemble(prior, 20, rng=0)
    assert np.all(u[:, 0] > 0)
    assert np.all((u[:, 1] > 2) & (u[:, 1] < 5))
    white = prior.whiten(prior.to_unconstrained(u))
    np.testing.assert_allclose(np.cov(white, rowvar=False), np.eye(2), atol=1e-10)


@pytest.mark.parametrize("method", [ek.ETKI(), ek.ETKI(ek.ESMDA(4))])
def test_the_transform_is_exact_from_there(method):
    example = ek.problems.linear(p=4, d=9)
    start = ek.balanced_ensemble(example.problem.prior, 7, rng=3)
    result = ek.run(example.problem, method, ensemble=start)
    u = result.u[-1].values
    np.testing.assert_allclose(u.mean(axis=0), example.extra["mean"], atol=1e-10)
    np.testing.assert_allclose(np.cov(u, rowvar=False), example.extra["cov"], atol=1e-10)


def test_a_curved_model_gains_too():
    """Small version of benchmarks/balanced.py."""
    problem = curved(p=8)
    before, after = (
        measured(*problem, ek.ETKI(), 20, 4, balanced=balanced)[0] for balanced in (False, True)
    )
    assert after < 0.5 * before


def test_wrong_sizes_are_refused():
    with pytest.raises(ValueError, match="n_members: must be at least 2"):
        ek.balanced_ensemble(ek.GaussianPrior(0.0, [1.0]), 1)
