"""Random fields against finite differences, quadrature and the series of their covariance."""

import math

import numpy as np
import pytest

import ekitools as ek


def test_modes_are_eigenfunctions_of_the_neumann_laplacian():
    """Against the second differences with mirrored ends on a fine grid: error O(n^-2)."""
    n = 400
    prior = ek.GaussianRandomField((n,), alpha=1.5, tau=2.0, n_modes=4)
    for i in range(4):
        values = prior.field(np.eye(4)[i]) / prior.scales[i]
        padded = np.pad(values, 1, mode="edge")
        second = (padded[2:] - 2 * values + padded[:-2]) * n**2
        k = int(prior.modes[i, 0])
        np.testing.assert_allclose(-second, (np.pi * k) ** 2 * values, atol=2e-2 * k**4)
        assert np.mean(values**2) == pytest.approx(1.0)
    ratios = prior.scales**2 * (np.pi**2 * prior.modes[:, 0] ** 2 + 4) ** 1.5
    np.testing.assert_allclose(ratios, ratios[0])


@pytest.mark.parametrize("shape", [(16,), (9, 12), (5, 6, 7)])
def test_modes_are_orthonormal_and_invertible(shape):
    p = min(math.prod(shape) - 1, 20)
    prior = ek.GaussianRandomField(shape, n_modes=p, mean=0.3)
    modes = (prior.field(np.eye(p)) - 0.3).reshape(p, -1) / prior.scales[:, None]
    np.testing.assert_allclose(modes @ modes.T / math.prod(shape), np.eye(p), atol=1e-12)
    u = np.random.default_rng(0).normal(size=(3, p))
    np.testing.assert_allclose(prior.coefficients(prior.field(u)), u, rtol=1e-10, atol=1e-12)


def test_the_covariance_of_draws_is_the_series():
    n = 20_000
    prior = ek.GaussianRandomField((8, 8), sd=1.5)
    fields = prior.field(prior.sample(n, rng=0)).reshape(n, -1)
    x = (np.arange(8) + 0.5) / 8

    def phi(k):
        one = [np.cos(np.pi * ki * x) * (math.sqrt(2) if ki else 1) for ki in k]
        return np.outer(*one).ravel()

    modes = np.array([phi(k) for k in prior.modes])
    series = (modes.T * prior.scales**2) @ modes
    error = np.sqrt((series**2 + np.outer(np.diag(series), np.diag(series))) / n)
    assert np.all(np.abs(np.cov(fields.T) - series) < 5 * error)
    assert np.mean(np.diag(series)) == pytest.approx(1.5**2)


def test_the_same_coefficients_are_the_same_field_on_a_finer_grid():
    u = np.random.default_rng(0).normal(size=10)
    coarse, fine = (ek.GaussianRandomField((n, n), n_modes=10) for n in (15, 45))
    at_centres = fine.field(u)[1::3, 1::3]  # cell centres of the coarse grid
    np.testing.assert_allclose(coarse.field(u), at_centres, rtol=2e-3, atol=2e-3)


def test_modes_come_by_decreasing_variance():
    prior = ek.GaussianRandomField((12, 12), n_modes=60)
    assert np.all(np.diff(prior.scales) <= 0)
    assert len({tuple(k) for k in prior.modes.tolist()}) == 60
    assert "mode 0 0" not in prior.names


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": (8, 8, 8, 8)}, r"shape: must have one to three integers, got \(8, 8, 8, 8\)"),
        ({"shape": ()}, r"shape: must have one to three integers, got \(\)"),
        ({"shape": (1,)}, "shape: must be at least 2, got 1"),
        (
            {"alpha": 1.0},
            "alpha: must be greater than 1.0 and finite, got 1.0. The bound is dim/2, dim = 2",
        ),
        ({"tau": -1.0}, "tau: must be at least 0 and finite, got -1.0"),
        ({"sd": 0.0}, "sd: must be positive"),
        ({"mean": np.nan}, "mean: must be finite"),
        ({"n_modes": 0}, "n_modes: must be from 1 to 63, got 0. The grid resolves 63 modes"),
        ({"n_modes": 64}, "n_modes: must be from 1 to 63, got 64"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        ek.GaussianRandomField(**({"shape": (8, 8)} | options))


def test_bad_calls_are_named():
    prior = ek.GaussianRandomField((8, 8), n_modes=3)
    with pytest.raises(ValueError, match="u: last axis must have p = 3 entries"):
        prior.field(np.zeros(4))
    with pytest.raises(ValueError, match=r"field: must have the shape \(8, 8\)"):
        prior.coefficients(np.zeros((8, 7)))
