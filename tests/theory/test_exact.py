"""The closed forms of the linear theory against integrators, limits and other formulas."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

import ekitools as ek
from ekitools.exact import covariance_flow, linear_flow, posterior


def case(n, p, d, rank=None, seed=0):
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(d, p))
    if rank is not None:
        matrix = rng.normal(size=(d, rank)) @ rng.normal(size=(rank, p))
    return 2 + rng.normal(size=(n, p)), matrix, rng.normal(size=d), rng.uniform(0.5, 2, d)


@pytest.mark.parametrize(
    ("n", "p", "d", "rank"), [(6, 4, 5, None), (4, 10, 3, None), (5, 3, 8, None), (8, 6, 5, 2)]
)
def test_the_flow_is_that_of_a_high_accuracy_integrator(n, p, d, rank):
    u0, matrix, y, gamma = case(n, p, d, rank)

    def slope(t, x):
        u = x.reshape(n, p)
        g = u @ matrix.T
        return (-((g - y) / gamma @ (g - g.mean(0)).T / n) @ (u - u.mean(0))).ravel()

    times = [0.0, 0.3, 10.0, 1000.0]
    exact = solve_ivp(slope, (0, 1000), u0.ravel(), "DOP853", times, rtol=1e-11, atol=1e-13)
    found = linear_flow(u0, matrix, y, gamma, times)
    np.testing.assert_allclose(found, exact.y.T.reshape(4, n, p), rtol=1e-8, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**16), n=st.integers(2, 8), p=st.integers(1, 8), d=st.integers(1, 8))
def test_the_flow_has_the_semigroup_property_and_starts_where_it_is_told_to(seed, n, p, d):
    u0, matrix, y, gamma = case(n, p, d, seed=seed)
    np.testing.assert_allclose(linear_flow(u0, matrix, y, gamma, 0.0)[0], u0, atol=1e-10)
    whole = linear_flow(u0, matrix, y, gamma, 5.0)[0]
    half = linear_flow(u0, matrix, y, gamma, 2.0)[0]
    np.testing.assert_allclose(linear_flow(half, matrix, y, gamma, 3.0)[0], whole, atol=1e-7)


def test_the_flow_is_stable_to_very_late_times():
    u0, matrix, y, gamma = case(6, 4, 5, rank=2)
    late = linear_flow(u0, matrix, y, gamma, [1e8, 1e12])
    assert np.all(np.isfinite(late))
    np.testing.assert_allclose(late[0], late[1], atol=1e-3)
    outputs = (late[0] - late[0].mean(0)) @ matrix.T
    assert np.max(np.abs(outputs)) < 1e-3


def test_an_ensemble_without_spread_stays():
    u0 = np.full((3, 2), 0.5)
    np.testing.assert_array_equal(linear_flow(u0, np.eye(2), np.ones(2), 1.0, [0, 10.0])[1], u0)


def test_the_covariance_solves_its_own_equation():
    u0, matrix, _, gamma = case(6, 4, 5)
    m = matrix.T @ (matrix / gamma[:, None])
    h = 1e-5
    before, at, after = covariance_flow(u0, matrix, gamma, [0.7 - h, 0.7, 0.7 + h])
    np.testing.assert_allclose((after - before) / (2 * h), -2 * at @ m @ at, rtol=1e-6, atol=1e-8)
    root = np.linalg.cholesky(covariance_flow(u0, matrix, gamma, 0.0)[0])
    closed = root @ np.linalg.inv(np.eye(4) + 2 * 0.7 * root.T @ m @ root) @ root.T
    np.testing.assert_allclose(at, closed, rtol=1e-9)


@pytest.mark.parametrize("cov", [0.5, np.array([0.5, 1.0, 2.0]), np.eye(3) + 0.5])
def test_the_posterior_is_that_of_the_information_form(cov):
    _, matrix, y, gamma = case(3, 3, 5)
    prior = ek.GaussianPrior([1.0, -1.0, 0.5], cov)
    dense = cov if np.ndim(cov) == 2 else np.diag(np.broadcast_to(cov, 3))
    information = np.linalg.inv(dense) + matrix.T @ (matrix / gamma[:, None])
    shift = matrix.T @ (y / gamma) + np.linalg.solve(dense, prior.mean)
    mean, found = posterior(matrix, y, prior, gamma)
    np.testing.assert_allclose(found, np.linalg.inv(information), rtol=1e-9)
    np.testing.assert_allclose(mean, np.linalg.solve(information, shift), rtol=1e-9)


def test_bad_arguments_are_named():
    u0, matrix, y, gamma = case(4, 3, 5)
    with pytest.raises(ValueError, match="t: must not be negative, got -1"):
        linear_flow(u0, matrix, y, gamma, [1.0, -1.0])
    with pytest.raises(ValueError, match=r"A, data, ensemble: must have .* got \(3, 5\)"):
        linear_flow(u0, matrix.T, y, gamma, 1.0)
