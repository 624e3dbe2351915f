"""A prior with other variances beside the closed form, and the contract."""

import numpy as np
import pytest
from scipy import stats

import ekitools as ek
from ekitools.priors.rescaled import RescaledPrior
from ekitools.testing import check_prior

BOUNDED = {"a": stats.norm(1, 2), "b": stats.lognorm(0.5), "c": stats.uniform(-1, 3)}
SCALE = [0.5, 2.0, 1.0]


@pytest.mark.parametrize(
    "prior",
    [
        ek.GaussianPrior([1.0, -1.0, 0.5], [1.0, 2.0, 0.1]),
        ek.GaussianPrior(0.0, np.eye(3) + 0.5),
        ek.Prior(BOUNDED),
    ],
)
def test_it_keeps_the_contract(prior):
    check_prior(RescaledPrior(prior, SCALE))


def test_it_is_the_normal_distribution_with_these_variances():
    mean, sd = np.array([1.0, -1.0, 0.5]), np.array([1.0, 2.0, 0.1])
    prior = RescaledPrior(ek.GaussianPrior(mean, sd**2), SCALE)
    expected = stats.norm(mean, sd * SCALE)
    u = prior.sample(2000, rng=0)
    np.testing.assert_allclose(prior.logpdf(u), expected.logpdf(u).sum(axis=1), rtol=1e-10)
    assert prior.logpdf(u[0]) == pytest.approx(expected.logpdf(u[0]).sum())
    z = (u.mean(axis=0) - mean) / (sd * SCALE) * np.sqrt(2000)
    assert np.abs(z).max() < 4
    ratio = u.var(axis=0) / (sd * SCALE) ** 2
    assert np.abs(ratio - 1).max() < 4 * np.sqrt(2 / 2000)


def test_bounds_stay_and_the_density_beyond_them_is_zero():
    prior = RescaledPrior(ek.Prior(BOUNDED), SCALE)
    u = prior.sample(500, rng=0)
    assert u[:, 1].min() > 0
    assert (np.abs(u[:, 2] - 0.5) < 1.5).all()
    assert prior.logpdf(np.array([1.0, -1.0, 0.0])) == -np.inf


@pytest.mark.parametrize("scale", [[1.0, 1.0], [1.0, 0.0, 1.0], [1.0, -1.0, 1.0]])
def test_scales_are_positive_and_as_many_as_parameters(scale):
    with pytest.raises(ValueError, match="scale: must be p = 3 positive numbers"):
        RescaledPrior(ek.GaussianPrior(np.zeros(3), 1.0), scale)
