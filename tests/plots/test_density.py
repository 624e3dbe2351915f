"""Densities and contours against formulas."""

import numpy as np
import pytest
from scipy import stats

import ekitools as ek
from ekitools.plots.density import contour_levels, density, prior_density


def equal(n):
    return np.full(n, 1 / n)


@pytest.mark.parametrize("law", [stats.norm(2, 3), stats.gamma(4), stats.uniform(0, 1)])
def test_the_estimate_is_near_the_density(law):
    x = law.rvs(20_000, random_state=0)
    grid, height = density(x, equal(20_000))
    inner = (grid > law.ppf(0.05)) & (grid < law.ppf(0.95))
    expected = law.pdf(grid)
    np.testing.assert_allclose(height[inner], expected[inner], atol=0.08 * expected.max())
    assert np.trapezoid(height, grid) == pytest.approx(1, abs=0.02)


def test_two_modes_stay_apart():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(-3, 0.5, 500), rng.normal(3, 0.5, 500)])
    grid, height = density(x, equal(1000))
    assert np.interp(0.0, grid, height) < 0.05 * height.max()


def test_weights_turn_draws_of_one_law_into_those_of_another():
    x = np.random.default_rng(0).normal(0, 2, 20_000)
    weight = stats.norm(1, 1).pdf(x) / stats.norm(0, 2).pdf(x)
    grid, height = density(x, weight / weight.sum())
    expected = stats.norm(1, 1).pdf(grid)
    np.testing.assert_allclose(height, expected, atol=0.08 * expected.max())


@pytest.mark.parametrize("x", [np.zeros(9), np.ones(1), np.array([1.0, 2.0]), np.full(50, 1e9)])
def test_draws_that_are_the_same_have_no_density(x):
    assert density(x, equal(x.size))[0].size == 0


def test_exact_priors():
    named = ek.Prior({"a": stats.lognorm(0.5), "b": stats.uniform(0, 2)})
    gaussian = ek.GaussianPrior([0.0, 1.0], [[2.0, 0.5], [0.5, 4.0]])
    joint = ek.JointPrior({"first": gaussian, "second": named})
    at = np.array([0.3, 1.1])
    for column, law in enumerate(
        (stats.norm(0, 2**0.5), stats.norm(1, 2), stats.lognorm(0.5), stats.uniform(0, 2))
    ):
        np.testing.assert_allclose(prior_density(joint, column)(at), law.pdf(at))
    np.testing.assert_allclose(prior_density(ek.GaussianPrior([0.0], 4.0), 0)(at),
                               stats.norm(0, 2).pdf(at))  # fmt: skip
    np.testing.assert_allclose(prior_density(ek.GaussianRandomField((4,)), 0)(at),
                               stats.norm(0, 1).pdf(at))  # fmt: skip
    values = ek.GaussianRandomField((4,), lengths=100.0, parameters="values")
    assert prior_density(values, 0) is None


def test_contours_of_a_gaussian_are_ellipses_of_their_probability():
    cov = [[1.0, 0.8], [0.8, 2.0]]
    u = np.random.default_rng(0).multivariate_normal([0, 0], cov, 1000)
    x, y, height, levels = contour_levels(u, equal(1000), (-5, 5), (-7, 7))
    peak = stats.multivariate_normal([0, 0], cov).pdf([0, 0])
    # The region with probability q ends at r² = -2 log(1 - q). There the Gaussian that is smoothed
    # by Scott's kernels, of variance 1000^(-1/3) = 0.1, has this density:
    expected = [peak * (1 - q) ** (1 / 1.1) / 1.1 for q in (0.9, 0.5)]
    np.testing.assert_allclose(levels, expected, rtol=0.2)
    assert height.shape == (y.size, x.size)


def test_members_on_a_line_or_too_few_have_no_contours():
    x = np.random.default_rng(0).normal(size=(50, 1))
    for u in (np.hstack([x, 2 * x]), np.hstack([x, 0 * x]), x[:5] * [1.0, 2.0]):
        assert contour_levels(u, equal(len(u)), (-1, 1), (-1, 1)) is None
