"""The zoo against what did not come from it: other integrators, series, other formulas."""

import csv
import math
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import ekitools as ek
from ekitools.problems._darcy import DarcyFlow, bilinear
from ekitools.problems._lynx_hare import LotkaVolterra

ALL = {
    "lynx_hare": {},
    "darcy": {"n": 16, "n_modes": 8, "n_wells": 9},
    "darcy_field": {"n": 8, "n_wells": 9},
    "deconvolution": {},
    "linear": {},
    "lorenz96": {"n_sites": 8, "window": 2.0, "dt": 0.05},
}


@pytest.mark.parametrize("name", ALL)
def test_every_example_is_complete_and_repeatable(name):
    first, again = (getattr(ek.problems, name)(**ALL[name]) for _ in range(2))
    problem = first.problem
    np.testing.assert_array_equal(problem.data, again.problem.data)
    assert problem.fingerprint() == again.problem.fingerprint()
    u = problem.prior.sample(2, rng=0)
    model = pickle.loads(pickle.dumps(problem.model))
    rng = {"rng": np.random.default_rng(0)} if getattr(model, "stochastic", False) else {}
    g = model(u) if model.vectorized else np.array([model(row, **rng) for row in u])
    assert g.shape == (2, problem.n_data)
    assert np.all(np.isfinite(g))
    assert first.x is None or first.x.shape == (problem.n_data,)
    if first.reference is not None:
        assert set(first.reference) == set(problem.parameter_names)


def test_dir_lists_the_functions():
    assert set(ALL) < set(dir(ek.problems))
    with pytest.raises(AttributeError, match="has no attribute 'mars'"):
        _ = ek.problems.mars


def test_lotka_volterra_against_another_integrator():
    prior = ek.problems.lynx_hare().problem.prior
    members = prior.sample(60, rng=0)
    found = LotkaVolterra()(members)
    errors = []
    for u, g in zip(members, found, strict=True):

        def slope(t, x, u=u):
            return [u[0] - u[1] * math.exp(x[1]), u[3] * math.exp(x[0]) - u[2]]

        exact = solve_ivp(
            slope, (0, 20), np.log(u[4:]), "DOP853", np.arange(21.0), rtol=1e-11, atol=1e-11
        )
        errors.append(np.max(np.abs(exact.y.T.ravel() - g)))
    assert np.quantile(errors, 0.9) < 1e-6
    assert np.max(errors) < 1e-3


def test_the_pelts_are_the_published_ones():
    example = ek.problems.lynx_hare()
    pelts = np.exp(example.problem.data).reshape(-1, 2)
    np.testing.assert_allclose(pelts[[0, -1]], [[30, 4], [24.7, 8.6]])
    assert pelts.shape == (21, 2)
    folder = os.environ.get("EKITOOLS_DATA")
    if folder is None:
        pytest.skip("EKITOOLS_DATA is not set: not compared with the original file")
    with (Path(folder) / "timeseries" / "lynx-hare.csv").open() as file:
        rows = [[float(row["hare"]), float(row["lynx"])] for row in csv.DictReader(file)]
    np.testing.assert_allclose(pelts, rows)


def test_the_reference_fits_the_data_and_the_two_references_agree():
    example = ek.problems.lynx_hare()
    means = np.array([[mean for mean, _ in example.reference.values()]])
    misfit = example.problem.noise.misfit(example.problem.model(means), example.problem.data)
    assert 10 < misfit[0] < 30  # half of 42 data
    for name, (mean, sd) in example.extra["fixed_sigma"].items():
        published_mean, published_sd = example.reference[name]
        assert abs(mean - published_mean) < 0.3 * published_sd
        assert sd == pytest.approx(published_sd, rel=0.2)


def test_darcy_converges_at_second_order():
    """A manufactured pressure with a smooth permeability that varies by a factor of seven."""

    def error(n):
        x = (np.arange(n) + 0.5) / n
        x, y = np.meshgrid(x, x, indexing="ij")
        sx, sy, cx, cy = (f(np.pi * z) for f in (np.sin, np.cos) for z in (x, y))
        kappa = np.exp(np.sin(np.pi * x) * y)
        pressure = sx * sy
        # −∇κ·∇p − κ Δp
        kx, ky = kappa * np.pi * cx * y, kappa * np.sin(np.pi * x)
        source = 2 * np.pi**2 * kappa * pressure - np.pi * (kx * cx * sy + ky * sx * cy)
        return np.max(np.abs(DarcyFlow(n, source)(kappa) - pressure))

    errors = np.array([error(n) for n in (32, 64, 128)])
    np.testing.assert_allclose(np.log2(errors[:-1] / errors[1:]), 2.0, atol=0.1)


def test_darcy_with_constant_permeability_is_the_series():
    n, terms = 64, np.arange(1, 200, 2)
    x = 31.5 / n  # the cell centre next to the middle
    i, j = np.meshgrid(terms, terms)
    series = (
        16
        / np.pi**4
        * np.sum(np.sin(i * np.pi * x) * np.sin(j * np.pi * x) / (i * j * (i**2 + j**2)))
    )
    found = DarcyFlow(n)(np.full((n, n), 2.0))
    assert found[31, 31] == pytest.approx(series / 2, rel=1e-3)
    np.testing.assert_allclose(found, found.T, rtol=1e-10)


def test_darcy_obeys_the_maximum_principle():
    kappa = np.exp(3 * np.random.default_rng(0).standard_normal((24, 24)))
    assert np.all(DarcyFlow(24)(kappa) > 0)


def test_wells_are_interpolated_to_second_order():
    rng = np.random.default_rng(0)
    points = 0.1 + 0.8 * rng.random((20, 2))
    centres = (np.arange(16) + 0.5) / 16
    x, y = np.meshgrid(centres, centres, indexing="ij")
    plane = 1 + 2 * x - 3 * y + 4 * x * y
    expected = 1 + 2 * points[:, 0] - 3 * points[:, 1] + 4 * points[:, 0] * points[:, 1]
    np.testing.assert_allclose(bilinear(16, points) @ plane.ravel(), expected, rtol=1e-12)


def test_the_gaussian_posterior_is_that_of_the_information_form():
    rng = np.random.default_rng(0)
    matrix, root = rng.normal(size=(5, 3)), rng.normal(size=(3, 3)) + 2 * np.eye(3)
    mean, cov, noise = rng.normal(size=3), root @ root.T, np.diag(rng.uniform(0.5, 2, 5))
    data = rng.normal(size=5)
    information = np.linalg.inv(cov) + matrix.T @ np.linalg.solve(noise, matrix)
    shift = matrix.T @ np.linalg.solve(noise, data) + np.linalg.solve(cov, mean)
    found_mean, found_cov = ek.theory.posterior(matrix, data, ek.GaussianPrior(mean, cov), noise)
    np.testing.assert_allclose(found_cov, np.linalg.inv(information), rtol=1e-9)
    np.testing.assert_allclose(found_mean, np.linalg.solve(information, shift), rtol=1e-9)


def test_deconvolution_keeps_the_mass_of_the_signal_and_its_posterior_covers_the_truth():
    example = ek.problems.deconvolution()
    inner = example.problem.model.matrix[10:-10]
    np.testing.assert_allclose(inner.sum(1), 1.0, atol=1e-4)
    score = (example.truth - example.extra["mean"]) / np.sqrt(np.diag(example.extra["cov"]))
    assert np.mean(np.abs(score) < 2) > 0.85


@pytest.mark.parametrize("name", ["darcy", "darcy_field"])
def test_a_number_of_wells_that_is_no_square_is_refused(name):
    with pytest.raises(ValueError, match="n_wells: must be a square number, got 50"):
        getattr(ek.problems, name)(n_wells=50)


def test_the_cells_of_a_darcy_field_have_the_matern_covariance_of_their_distance():
    example = ek.problems.darcy_field(n=8, length=0.3, n_wells=4)
    cells, cov = example.extra["cells"], example.problem.prior.cov
    apart = np.sqrt(3) * np.linalg.norm(cells[0] - cells[-1]) / 0.3
    assert cov[0, -1] == pytest.approx((1 + apart) * np.exp(-apart), rel=1e-12)
    np.testing.assert_allclose(np.diag(cov), 1.0)


def test_the_cells_of_a_darcy_field_lie_where_their_coordinates_say():
    example = ek.problems.darcy_field(n=16, n_wells=4)
    model, cells, wells = example.problem.model, example.extra["cells"], example.extra["wells"]
    assert model(np.zeros(256)) == pytest.approx(model(np.ones(256)) * np.e, rel=1e-12)
    for axis in (0, 1):
        pressure = model(np.where(cells[:, axis] < 0.5, -1.0, 0.0))
        low = wells[:, axis] < 0.5
        assert pressure[low].min() > 1.2 * pressure[~low].max()


def test_a_darcy_field_is_worth_its_data():
    """The truth explains the data up to their noise, with chi-square of 9 degrees of freedom."""
    example = ek.problems.darcy_field(n=16, n_wells=9)
    residual = (example.problem.model(example.truth) - example.problem.data) / 1e-3
    assert 2.1 < residual @ residual < 21.7  # 99 %: 1.73 to 23.6
