"""Groups of the data for ArviZ: likelihoods, predictions and blocks, beside hand calculations."""

from importlib.metadata import version

import matplotlib as mpl

mpl.use("Agg")

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats

import ekitools as ek

ARVIZ = int(version("arviz").split(".")[0])
X = np.linspace(-1, 1, 16)
A = np.c_[np.ones(16), X]
Y = 1 - 0.5 * X + 0.3 * np.random.default_rng(0).normal(size=16)
PRIOR = ek.GaussianPrior([0.0, 0.0], 1.0)
AR = 0.09 * 0.6 ** np.abs(np.subtract.outer(np.arange(16), np.arange(16)))
NOISES = {"independent": np.full(16, 0.09), "correlated": AR}
COVS = {"independent": np.diag(NOISES["independent"]), "correlated": AR}


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def solved(kind, n_members=2000):
    problem = ek.InverseProblem(ek.LinearModel(A), PRIOR, NOISES[kind], Y)
    return problem, ek.run(problem, ek.EKI(), n_members=n_members, rng=1)


def given_the_others(g, cov, i):
    """Mean and variance of datum i given all others, by blocks of the covariance."""
    rest = np.arange(16) != i
    gain = np.linalg.solve(cov[np.ix_(rest, rest)], cov[rest, i])
    return g[..., i] + (Y[rest] - g[..., rest]) @ gain, cov[i, i] - cov[i, rest] @ gain


@pytest.mark.parametrize("kind", NOISES)
def test_the_log_likelihood_is_that_of_each_datum_given_the_others(kind):
    problem, result = solved(kind, n_members=50)
    tree = ek.to_arviz(result, problem=problem)
    g = tree.predictions.y.values
    for i in range(16):
        mean, variance = given_the_others(g, COVS[kind], i)
        expected = stats.norm(mean, np.sqrt(variance)).logpdf(Y[i])
        np.testing.assert_allclose(tree.log_likelihood.y[..., i], expected, rtol=1e-9)


@pytest.mark.parametrize("kind", NOISES)
def test_loo_is_the_exact_leave_one_out_density(kind):
    """A linear Gaussian problem solved anew without each datum; PSIS has its Monte-Carlo error."""
    problem, result = solved(kind)
    cov, exact = COVS[kind], 0.0
    for i in range(16):
        rest = np.arange(16) != i
        precision = np.linalg.inv(cov[np.ix_(rest, rest)])
        post = np.linalg.inv(np.eye(2) + A[rest].T @ precision @ A[rest])
        centre = post @ A[rest].T @ precision @ Y[rest]
        gain = precision @ cov[rest, i]
        slope = A[i] - gain @ A[rest]
        mean = slope @ centre + gain @ Y[rest]
        variance = cov[i, i] - cov[i, rest] @ gain + slope @ post @ slope
        exact += stats.norm(mean, np.sqrt(variance)).logpdf(Y[i])
    loo = az.loo(ek.to_arviz(result, problem=problem))
    elpd = loo.elpd if ARVIZ >= 1 else loo.elpd_loo
    # the spread of this difference over 20 seeds is 0.03 with 2000 members
    assert float(elpd) == pytest.approx(exact, abs=0.12)


@pytest.mark.parametrize("kind", NOISES)
def test_predictions_have_the_noise_and_its_correlations(kind):
    problem, result = solved(kind, n_members=4000)
    tree = ek.to_arviz(result, problem=problem, rng=3)
    noise = (tree.posterior_predictive.y - tree.predictions.y).values[0]
    error = np.abs(np.cov(noise.T) - COVS[kind]) / 0.09
    assert error.max() < 5 * np.sqrt(2 / 4000)  # standard errors of the largest variance
    prior = tree.prior_predictive.y.values[0]
    expected = A @ A.T + COVS[kind]
    ratio = np.diag(np.cov(prior.T)) / np.diag(expected)
    assert np.abs(ratio - 1).max() < 5 * np.sqrt(2 / 4000)
    np.testing.assert_allclose(tree.constant_data.y_sd, 0.3)


def test_correlated_noise_needs_the_problem():
    _, result = solved("correlated", n_members=30)
    with pytest.warns(UserWarning, match="noise is correlated and .* Pass problem="):
        tree = ek.to_arviz(result)
    assert not hasattr(tree, "log_likelihood")
    assert hasattr(tree, "predictions")
    other = ek.InverseProblem(
        ek.LinearModel(np.ones((16, 3))), ek.GaussianPrior(np.zeros(3), 1), 1, Y
    )
    with pytest.raises(ValueError, match="parameter"):
        ek.to_arviz(result, problem=other)


def test_a_loss_has_no_likelihood():
    problem = ek.InverseProblem(ek.LinearModel(A), PRIOR, ek.Huber(0.3), Y)
    tree = ek.to_arviz(ek.run(problem, ek.LossEKI(), n_members=20, n_steps=2, rng=0))
    assert not hasattr(tree, "log_likelihood")
    assert not hasattr(tree, "posterior_predictive")
    np.testing.assert_array_equal(tree.observed_data.y, Y)


@pytest.fixture(scope="module")
def by_block():
    time = pd.date_range("2001-01-01", periods=4, name="time")
    height = xr.DataArray([1.0, np.nan, 2.0, 3.0], {"time": time}, dims="time")
    data = {"height": height, "draw": [0.5, 0.6], "a/b": 1.0}

    def model(u):
        return {"height": u[0] + np.arange(4), "draw": u[:2], "a/b": u[1]}

    problem = ek.InverseProblem(model, PRIOR, data=data, noise_sd=0.3)
    return ek.run(problem, ek.EKI(), n_members=200, rng=0)


def test_each_block_is_a_variable_with_its_coordinates(by_block):
    tree = ek.to_arviz([by_block, by_block])
    assert set(tree.observed_data.data_vars) == {"height", "draw_", "a_b"}
    assert tree.log_likelihood.height.dims == ("chain", "draw", "height_id")
    assert tree.log_likelihood.height.shape == (2, 200, 3)
    np.testing.assert_array_equal(tree.observed_data.height, [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(tree.observed_data.height_time, by_block.time[:3])
    np.testing.assert_array_equal(tree.predictions.a_b[0, :, 0], by_block.g[-1, :, -1])
    expected = stats.norm(tree.predictions.draw_.values, 0.3).logpdf([0.5, 0.6])
    np.testing.assert_allclose(tree.log_likelihood.draw_, expected)


def test_the_pictures_of_arviz_draw_it():
    _, result = solved("independent", n_members=100)
    tree = ek.to_arviz(result)
    if ARVIZ >= 1:
        az.plot_ppc_dist(tree)
        az.plot_loo_pit(tree)
        assert float(az.loo_pit(tree).y.min()) >= 0
    else:
        az.plot_ppc(tree)
        az.plot_loo_pit(tree, y="y")
        assert az.loo_pit(tree, y="y").min() >= 0


def test_the_probability_integral_transform_is_that_of_the_exact_leave_one_out_posterior():
    _, result = solved("independent")
    tree = ek.to_arviz(result, rng=5)
    found = az.loo_pit(tree).y.values if ARVIZ >= 1 else az.loo_pit(tree, y="y")
    exact = []
    for i in range(16):
        rest = np.arange(16) != i
        post = np.linalg.inv(np.eye(2) + A[rest].T @ A[rest] / 0.09)
        centre = post @ A[rest].T @ Y[rest] / 0.09
        exact.append(stats.norm(A[i] @ centre, np.sqrt(0.09 + A[i] @ post @ A[i])).cdf(Y[i]))
    # a share of 2000 weighted draws: four standard errors of a share, with an efficiency of 0.5
    np.testing.assert_allclose(np.ravel(found), exact, atol=4 * np.sqrt(0.25 / 1000))
