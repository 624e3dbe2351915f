"""Distributions by mean, standard deviation and bounds, against adaptive quadrature."""

import itertools
import pickle

import numpy as np
import pytest
from scipy import integrate, stats

import ekitools as ek
from ekitools.testing import check_prior

TOLERANCE = 1e-11
"""The measured error against 30 digits of mpmath is below 1e-14."""


def moments(share):
    """Mean and standard deviation of a Johnson SB variable on (0, 1), by QUADPACK over z."""
    a, b = share.args
    mu, sigma = -a / b, 1 / b
    middle = -mu / sigma
    reach = 10 + 2 * min(sigma, 10)  # where the second moment of a long tail comes from
    points = {-reach, -3.0, 0.0, 3.0, reach, 2 * min(sigma, 10)}
    points |= {middle + k / sigma for k in (-30, -10, -3, 0, 3, 10, 30)}
    points = sorted(p for p in points if -reach <= p <= reach)

    def mean(function):
        def integrand(z):
            return function(1 / (1 + np.exp(-mu - sigma * z))) * stats.norm.pdf(z)

        pieces = itertools.pairwise(points)
        return sum(integrate.quad(integrand, *ab, epsabs=0, epsrel=1e-13)[0] for ab in pieces)

    m = mean(lambda x: x)
    return m, np.sqrt(mean(lambda x: (x - m) ** 2))


@pytest.mark.filterwarnings("ignore::scipy.integrate.IntegrationWarning")  # 1e-13 is not reached
@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("mean", [0.5, 0.03, 1e-6, 0.9])
@pytest.mark.parametrize("share", [1e-5, 0.1, 0.5, 0.9, 0.99, 1 - 1e-8])
def test_mean_and_sd_are_exact_between_two_bounds(mean, share):
    """``share`` is that of the largest standard deviation there is."""
    sd = share * np.sqrt(mean * (1 - mean))
    found = moments(ek.bounded(mean, sd, 0, 1))
    assert found[0] == pytest.approx(mean, rel=TOLERANCE)
    # the quadrature subtracts numbers of the size of the mean
    assert found[1] == pytest.approx(sd, rel=TOLERANCE + 1e-15 * mean / sd)


def test_bounds_of_any_place_and_width():
    wide = ek.bounded(12.0, 3.0, 10.0, 40.0)
    assert wide.support() == (10.0, 40.0)
    assert wide.mean() == pytest.approx(12.0, rel=1e-10)  # by scipy's own quadrature
    assert wide.std() == pytest.approx(3.0, rel=1e-7)
    mirrored = ek.bounded(-12.0, 3.0, -40.0, -10.0)
    x = np.linspace(-39, -11, 9)
    np.testing.assert_allclose(mirrored.pdf(x), wide.pdf(-x), rtol=1e-10)


@pytest.mark.parametrize("sd", [1e-3, 0.5, 10.0])
@pytest.mark.parametrize("upper", [1e12, 1e100, 1e200])
def test_a_far_bound_is_none(sd, upper):
    near, none = ek.bounded(1.0, sd, 0.0, upper), ek.bounded(1.0, sd, 0.0)
    q = [0.01, 0.5, 0.99]
    np.testing.assert_allclose(near.ppf(q), none.ppf(q), rtol=1e-7)


def test_one_bound_or_none():
    x = ek.bounded(3.0, 0.7, lower=1.0)
    assert (x.mean(), x.std()) == pytest.approx((3.0, 0.7), rel=1e-13)
    assert x.support() == (1.0, np.inf)
    y = ek.bounded(-3.0, 0.7, upper=-1.0)
    assert (y.mean(), y.std()) == pytest.approx((-3.0, 0.7), rel=1e-13)
    assert y.support() == (-np.inf, -1.0)
    assert float(y.stats("s")) == pytest.approx(-float(x.stats("s")))
    q = np.array([1e-30, 0.1, 0.5, 0.9])
    np.testing.assert_allclose(y.ppf(q), -x.isf(q), rtol=1e-13)
    np.testing.assert_allclose(y.isf(q), -x.ppf(q), rtol=1e-13)
    points = np.array([1.1, 2.0, 5.0])
    np.testing.assert_allclose(y.pdf(-points), x.pdf(points), rtol=1e-13)
    np.testing.assert_allclose(y.logpdf(-points), x.logpdf(points), rtol=1e-13)
    np.testing.assert_allclose(y.cdf(-points), x.sf(points), rtol=1e-13)
    np.testing.assert_allclose(y.sf(-points), x.cdf(points), rtol=1e-13)
    z = ek.bounded(3.0, 0.7)
    assert (z.mean(), z.std(), z.dist.name) == (3.0, 0.7, "norm")


def prior():
    return ek.Prior(
        {
            "both": ek.bounded(0.3, 0.1, 0, 1),
            "lower": ek.bounded(2.0, 1.0, lower=0.5),
            "upper": ek.bounded(2.0, 1.0, upper=2.5),
            "none": ek.bounded(2.0, 1.0),
        }
    )


def test_they_are_marginals_of_a_prior():
    check_prior(prior())
    again = pickle.loads(pickle.dumps(prior()))
    assert again.fingerprint() == prior().fingerprint()
    other = ek.Prior({"upper": ek.bounded(2.0, 1.1, upper=2.5)})
    same = ek.Prior({"upper": ek.bounded(2.0, 1.0, upper=2.5)})
    assert other.fingerprint() != same.fingerprint()


@pytest.mark.parametrize("seed", range(5))
def test_draws_have_the_moments(seed):
    n = 20_000
    u = prior().sample(n, rng=seed)
    mean, sd = np.array([0.3, 2, 2, 2]), np.array([0.1, 1, 1, 1])
    assert np.all(np.abs(u.mean(0) - mean) < 4.5 * sd / np.sqrt(n))
    fourth = np.mean((u - mean) ** 4, axis=0)
    assert np.all(np.abs(u.var(0) - sd**2) < 5 * np.sqrt((fourth - sd**4) / n))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0.3, 0.5, 0, 1), ValueError, r"within \(0, 0.458258\) for a mean of 0.3 .* has 0.2887"),
        ((0.3, np.sqrt(0.3 * 0.7), 0, 1), ValueError, "sd: must be within"),
        ((12, 8, 10, 40), ValueError, r"sd: must be within \(0, 7.48331\) .* between 10 and 40"),
        (
            (1.0, 0.1, 0, 1),
            ValueError,
            "lower, mean, upper: must increase strictly, got 0, 1 and 1",
        ),
        ((0.0, 0.1, 0), ValueError, "lower, mean, upper: must increase strictly, got 0, 0 and inf"),
        (
            (0.5, 0.1, 1, 0),
            ValueError,
            "lower, mean, upper: must increase strictly, got 1, 0.5 and 0",
        ),
        ((0.5, 0.0, 0, 1), ValueError, "sd: must be positive and finite, got 0.0"),
        ((0.5, -1, 0), ValueError, "sd: must be positive and finite, got -1"),
        ((np.nan, 1.0), ValueError, "mean: must be finite, got nan"),
        ((5e-324, 1e-200, 0, 1), ValueError, "mean: must not be so close to a bound"),
        ((0.0, 1e308, -1.5e308, 1e308), ValueError, "mean: must not be so close to a bound"),
        ((0.5, "a"), TypeError, "sd: must be a number, got 'a'"),
        ((0.5, 0.1, np.nan, 1), ValueError, "lower: must be a number, got nan"),
    ],
)
def test_what_cannot_be_is_refused_with_the_feasible_range(arguments, error, message):
    with pytest.raises(error, match=message):
        ek.bounded(*arguments)
