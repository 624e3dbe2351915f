"""Lorenz-96 against another integrator, fixed points and published climate; the race in small."""

import pickle

import lorenz_race
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import ekitools as ek
from ekitools.problems._lorenz96 import Lorenz96, advance


@pytest.fixture(scope="module")
def constant():
    return ek.problems.lorenz96(dt=0.05, rng=1)


def test_statistics_are_those_of_another_integrator():
    """Over a time in which chaos multiplies errors by less than ten."""
    rng = np.random.default_rng(0)
    forcing, starts = 8 + rng.standard_normal((3, 7)), 4 * rng.standard_normal((3, 7))
    model = Lorenz96(np.zeros(7), np.eye(7), window=1.0, spin_up=0.5)
    found = model.statistics(forcing, starts)
    times = np.arange(51, 151) * 0.01
    for f, start, row in zip(forcing, starts, found, strict=True):

        def slope(t, x, f=f):
            return (np.roll(x, -1) - np.roll(x, 2)) * np.roll(x, 1) - x + f

        exact = solve_ivp(slope, (0, 1.5), start, "DOP853", times, rtol=1e-11, atol=1e-11).y
        expected = [*exact.mean(axis=1), *exact.std(axis=1, ddof=1)]
        np.testing.assert_allclose(row, expected, atol=1e-5)


def test_a_weak_constant_forcing_ends_at_its_stable_fixed_point():
    """x_i = F is stable for −1/2 < F < 8/9 (Lorenz & Emanuel 1998)."""
    starts = np.random.default_rng(0).standard_normal((2, 40))
    model = Lorenz96(np.zeros(40), np.eye(40), window=5.0, spin_up=400.0, dt=0.05)
    found = model.statistics(np.array([[0.5], [-0.3]]), starts)
    np.testing.assert_allclose(found[:, :40], np.tile([[0.5], [-0.3]], 40), atol=1e-9)
    np.testing.assert_allclose(found[:, 40:], 0, atol=1e-9)


def test_advection_conserves_the_energy():
    """Without forcing only −x is left: Σx² falls by exp(−2t)."""
    x = np.random.default_rng(0).standard_normal((11, 5))
    later, _, _ = advance(x, np.zeros((11, 5)), 0.01, 50)
    np.testing.assert_allclose((later**2).sum(0), np.exp(-1.0) * (x**2).sum(0), rtol=1e-6)


def test_the_climate_at_eight_is_the_published_one(constant):
    """Lorenz & Emanuel (1998): mean 2.3 and standard deviation 3.6 of a site."""
    mean, sd = constant.problem.data.reshape(2, 40)
    assert np.mean(mean) == pytest.approx(2.3, abs=0.2)
    assert np.sqrt(np.mean(sd**2 + mean**2) - np.mean(mean) ** 2) == pytest.approx(3.6, abs=0.2)


def test_the_noise_is_that_of_data_and_output_together(constant):
    """E r² = 1 but for Γ from N = 799 runs: its inverse is too large by (N − 1)/(N − d − 2)."""
    squares = []
    for seed in range(6):
        example = ek.problems.lorenz96(n_sites=8, window=10.0, dt=0.05, rng=seed)
        squares.append(np.mean(lorenz_race.truth_rmse(example) ** 2))
    expected = 158 / (159 - 16 - 2)  # N = 20 n − 1
    error = np.std(squares, ddof=1) / np.sqrt(len(squares))
    assert abs(np.mean(squares) - expected) < 4 * error
    assert error < 0.2


def test_priors_are_those_of_the_source(constant):
    u = constant.problem.prior.sample(100_000, rng=0)
    assert u.mean() == pytest.approx(10, abs=4 * 4 / np.sqrt(100_000))
    assert u.std() == pytest.approx(4, rel=0.03)
    site = ek.problems.lorenz96("site", n_sites=6, window=1.0, dt=0.05).problem
    cov = np.cov(site.prior.sample(100_000, rng=0).T)
    np.testing.assert_allclose(cov[0, :3], 9 * np.exp([0, -0.5, -1]), atol=0.2)


def test_one_run_is_a_row_of_all_together(constant):
    model = pickle.loads(pickle.dumps(constant.problem.model))
    u = np.array([[8.0], [5.0]])
    together = model.ensemble(u, [np.random.default_rng(j) for j in range(2)])
    alone = [model(row, rng=np.random.default_rng(j)) for j, row in enumerate(u)]
    np.testing.assert_allclose(together, alone, rtol=1e-12)


def test_a_forcing_that_overflows_is_a_failed_member(constant):
    rngs = [np.random.default_rng(0)] * 2
    found = constant.problem.model.ensemble(np.array([[8.0], [1e6]]), rngs)
    assert np.isfinite(found).all(axis=1).tolist() == [True, False]


def test_a_window_shorter_than_two_steps_is_refused():
    with pytest.raises(ValueError, match=r"window: must be at least two steps of dt = 0.05"):
        ek.problems.lorenz96(window=0.06, dt=0.05)


def test_the_race_in_small(constant):
    """Balanced ETKI arrives within a few steps; at an infinite level at once, at zero never."""
    level = np.median(lorenz_race.truth_rmse(constant))
    entry = lorenz_race.METHODS["ETKI, h = 1, balanced"]
    found = lorenz_race.arrivals(constant, entry, 10, 0, level)
    assert 0 < found[2] <= 50
    assert 0 <= found[0] <= 100
    easy = lorenz_race.arrivals(constant, entry, 10, 0, np.inf)
    assert easy[0] == 0
    never = lorenz_race.arrivals(constant, entry, 10, 0, 0.0)
    assert np.isinf(never[0])


def test_balanced_members_have_the_moments_of_the_prior():
    prior = ek.GaussianPrior([1.0, 2.0], [[2.0, 1.0], [1.0, 3.0]])
    u = lorenz_race.balanced(prior, 7, np.random.default_rng(0))
    np.testing.assert_allclose(u.mean(axis=0), [1.0, 2.0])
    np.testing.assert_allclose(np.cov(u.T), [[2.0, 1.0], [1.0, 3.0]])
