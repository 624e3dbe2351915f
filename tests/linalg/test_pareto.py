"""Pareto-smoothed weights, against those of the installed ArviZ, of either generation."""

import arviz as az
import numpy as np
import pytest
import xarray as xr

from ekitools.linalg.pareto import pareto_smoothed


def of_arviz(log_weights):
    """Smoothed weights and k̂ of ArviZ 0.23 (a function) or 1.x (an accessor)."""
    array = xr.DataArray(log_weights[None], dims=("which", "__sample__"))
    if int(az.__version__.split(".")[0]) >= 1:
        logs, khat = array.azstats.psislw(dim="__sample__")
    else:
        logs, khat = az.psislw(array)
    weights = np.exp(np.ravel(logs))
    return weights / weights.sum(), float(np.ravel(khat)[0])


@pytest.mark.parametrize(("n", "slope"), [(100, 0.05), (1000, 0.2), (5000, 0.45), (1000, -0.3)])
def test_weights_and_shape_are_those_of_arviz(n, slope):
    log_weights = slope * np.random.default_rng(n).standard_normal(n) ** 2
    weights, khat = pareto_smoothed(log_weights)
    expected, shape = of_arviz(log_weights)
    np.testing.assert_allclose(weights, expected, rtol=1e-8)
    assert khat == pytest.approx(shape, abs=1e-8)


def test_the_shape_of_an_exact_tail():
    """Weights U^(-k) have a Pareto tail of the shape k."""
    u = np.random.default_rng(0).uniform(size=100_000)
    for k in (0.2, 0.5, 0.9):
        _, khat = pareto_smoothed(-k * np.log(u))
        assert khat == pytest.approx(k, abs=4 * (1 + k) / np.sqrt(3 * np.sqrt(100_000)))


def test_weights_of_zero_stay_zero_and_few_weights_are_not_judged():
    weights, _ = pareto_smoothed(np.concatenate([np.full(50, -np.inf), np.arange(100.0) / 100]))
    assert np.all(weights[:50] == 0)
    assert weights.sum() == pytest.approx(1)
    assert pareto_smoothed(np.arange(10.0))[1] == np.inf


def test_equal_weights_have_no_tail():
    weights, khat = pareto_smoothed(np.zeros(100))
    assert khat == 0
    np.testing.assert_allclose(weights, 0.01)


def test_too_few_weights_have_an_unknown_tail():
    weights, khat = pareto_smoothed(np.log([1.0, 2.0, 3.0]))
    assert khat == np.inf
    np.testing.assert_allclose(weights, [1 / 6, 1 / 3, 1 / 2])


def test_impossible_draws_have_no_weight():
    logs = np.random.default_rng(2).standard_normal(200)
    logs[::4] = -np.inf
    weights, _ = pareto_smoothed(logs)
    assert (weights[::4] == 0).all()
    assert weights.sum() == pytest.approx(1)
