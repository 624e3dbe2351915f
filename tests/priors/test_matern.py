"""Matérn fields against the closed form of their covariance, and fields with a transform."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.special import gamma, kv

import ekitools as ek
from ekitools.priors import matern as module
from ekitools.priors.matern import matern
from ekitools.testing import check_prior

POINTS = np.random.default_rng(0).uniform(0, 1000, size=(40, 2))


def exact(points, length, nu, sd=1.0):
    """The covariance by its definition."""
    x = np.sqrt(2 * nu) * cdist(points, points) / length
    x[x == 0] = 1e-30
    return sd**2 * 2 ** (1 - nu) / gamma(nu) * x**nu * kv(nu, x)


@pytest.mark.parametrize("nu", [0.3, 0.5, 1.0, 1.5, 2.5, 3.5, 7.2, 9.5, 30.0])
def test_the_kernel_is_its_definition(nu):
    h = np.array([0.0, 1e-9, 1e-3, 0.1, 0.5, 1.0, 3.0, 20.0, 500.0])
    x = np.sqrt(2 * nu) * h[3:]
    expected = 2 ** (1 - nu) / gamma(nu) * x**nu * kv(nu, x)
    np.testing.assert_allclose(matern(h[3:], nu), expected, rtol=1e-11, atol=1e-300)
    assert matern(h, nu)[0] == 1.0
    assert np.all(np.diff(matern(h, nu)) <= 0)


@pytest.mark.parametrize("nu", [0.5, 1.2, 1.5, 2.5])
def test_all_modes_have_the_covariance_exactly(nu):
    prior = ek.MaternField(POINTS, length=250.0, nu=nu, sd=1.5)
    np.testing.assert_allclose(
        prior.basis @ prior.basis.T, exact(POINTS, 250.0, nu, 1.5), atol=1e-11
    )
    assert prior.explained == pytest.approx(1.0, abs=1e-11)
    gram = prior.basis.T @ prior.basis  # modes are orthogonal, the largest first
    np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-10)
    assert np.all(np.diff(np.diag(gram)) <= 1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_draws_have_the_covariance_and_the_mean(seed):
    n = 20_000
    prior = ek.MaternField(POINTS[:8], length=400.0, nu=1.5, sd=2.0, mean=3.0)
    fields = prior.field(prior.sample(n, rng=seed))
    C = exact(POINTS[:8], 400.0, 1.5, 2.0)
    assert np.all(np.abs(fields.mean(0) - 3) < 4.5 * 2 / np.sqrt(n))
    error = np.sqrt((C**2 + np.outer(np.diag(C), np.diag(C))) / n)
    assert np.all(np.abs(np.cov(fields.T) - C) < 4.5 * error)


def test_the_unit_of_length_is_that_of_the_points():
    metres = ek.MaternField(POINTS, length=300.0, n_modes=10)
    kilometres = ek.MaternField(POINTS / 1000, length=0.3, n_modes=10)
    np.testing.assert_allclose(metres.basis, kilometres.basis, atol=1e-9)
    stretched = ek.MaternField(POINTS * [1, 5], length=[300.0, 1500.0], n_modes=10)
    np.testing.assert_allclose(metres.basis, stretched.basis, atol=1e-9)
    line = ek.MaternField(POINTS[:, 0], length=100.0, nu=0.5)
    C = np.exp(-np.abs(np.subtract.outer(POINTS[:, 0], POINTS[:, 0])) / 100)
    np.testing.assert_allclose(line.basis @ line.basis.T, C, atol=1e-12)


@pytest.mark.parametrize("limit", ["_SMALL", "_MOST_DENSE"])
def test_leading_modes_are_the_same_by_every_algorithm(limit, monkeypatch):
    """Lanczos, and the pivoted Cholesky factor, against all eigenvectors."""
    points = np.random.default_rng(1).uniform(0, 1000, size=(300, 2))
    known = ek.MaternField(points, length=900.0, nu=2.5, n_modes=8)
    monkeypatch.setattr(module, limit, 20)
    found = ek.MaternField(points, length=900.0, nu=2.5, n_modes=8)
    tolerance = 1e-10 if limit == "_SMALL" else 2e-3
    np.testing.assert_allclose(found.basis, known.basis, atol=tolerance)
    assert found.explained == pytest.approx(known.explained, abs=1e-6)


def test_the_pivoted_factor_of_full_rank_is_the_covariance():
    x = POINTS / 300
    factor = module._pivoted_cholesky(x, lambda h: matern(h, 1.5), len(x))
    np.testing.assert_allclose(factor.T @ factor, exact(POINTS, 300.0, 1.5), atol=1e-12)
    twice = np.vstack([x, x])  # rank 40
    assert len(module._pivoted_cholesky(twice, lambda h: matern(h, 0.5), 80)) == 40


def test_many_points_need_a_number_of_modes_and_no_matrix_of_pairs():
    points = np.linspace(0, 100, 20_000)
    with pytest.raises(ValueError, match="n_modes: must be given for more than 2000 .* got 20000"):
        ek.MaternField(points, length=20.0)
    prior = ek.MaternField(points, length=20.0, n_modes=30)
    assert prior.explained > 0.999
    some = slice(None, None, 500)
    C = exact(points[some, None], 20.0, 1.5)
    np.testing.assert_allclose(prior.basis[some] @ prior.basis[some].T, C, atol=0.01)


def test_modes_that_are_rounding_errors_are_left_out():
    prior = ek.MaternField(np.linspace(0, 1, 100), length=2.0, nu=4.5)
    assert prior.n_parameters < 40
    assert prior.explained == pytest.approx(1.0, abs=1e-9)


def test_it_keeps_the_promises_of_a_prior():
    check_prior(ek.MaternField(POINTS, length=300.0, n_modes=5, transform="exp"))


def test_a_field_is_found_from_some_of_its_points():
    """A linear model: the posterior mean is that of kriging, by the textbook's formula."""
    prior = ek.MaternField(POINTS, length=400.0, nu=1.5)
    C, seen = exact(POINTS, 400.0, 1.5), np.arange(0, 40, 4)
    y = np.sin(POINTS[seen, 0] / 200)
    mean, _ = ek.theory.posterior(prior.basis[seen], y, prior, 0.01)
    kriging = C[:, seen] @ np.linalg.solve(C[np.ix_(seen, seen)] + 0.01 * np.eye(10), y)
    np.testing.assert_allclose(prior.field(mean), kriging, atol=1e-9)


# ------------------------------------------------------------------------------- transforms


def fields(transform, **options):
    laplacian = ek.graph_laplacian(POINTS / 1000, n_neighbours=5)
    return {
        "grid": ek.GaussianRandomField((6, 5), n_modes=4, transform=transform, **options),
        "points": ek.MaternField(POINTS, length=300.0, n_modes=4, transform=transform, **options),
        "graph": ek.GraphField(laplacian, n_modes=4, transform=transform, **options),
    }


@pytest.mark.parametrize("kind", ["grid", "points", "graph"])
def test_a_transform_is_pointwise(kind):
    u = np.random.default_rng(0).normal(size=(3, 4))
    plain = fields(None, mean=0.5)[kind].field(u)
    np.testing.assert_allclose(fields("exp", mean=0.5)[kind].field(u), np.exp(plain))
    bounded = fields(("bounded", 2.0, 5.0), mean=0.5)[kind].field(u)
    np.testing.assert_allclose(bounded, 2 + 3 / (1 + np.exp(-plain)))
    far = fields(("bounded", 2.0, 5.0))[kind].field(1e4 * u)
    assert np.all((far > 2) & (far < 5))


@pytest.mark.parametrize("kind", ["grid", "points", "graph"])
def test_the_fingerprint_has_the_transform(kind):
    transforms = [None, "exp", ("bounded", 0, 1), ("bounded", 0, 2)]
    prints = {fields(t)[kind].fingerprint() for t in transforms}
    assert len(prints) == 4
    with pytest.raises(ValueError, match="transform: must be None"):
        fields("log")


def test_coefficients_are_those_before_the_transform():
    prior = ek.GaussianRandomField((6, 5), n_modes=4, transform="exp", mean=1.0)
    u = np.random.default_rng(0).normal(size=(3, 4))
    np.testing.assert_allclose(prior.coefficients(prior.field(u)), u, rtol=1e-10)
    with pytest.raises(ValueError, match="field: must lie strictly between the bounds 0 and inf"):
        prior.coefficients(np.zeros((6, 5)))


def test_fingerprints_tell_fields_apart():
    options = [
        {},
        {"nu": 2.5},
        {"sd": 2.0},
        {"mean": 1.0},
        {"n_modes": 3},
        {"length": 200.0},
    ]
    made = [ek.MaternField(POINTS, **({"length": 300.0} | o)) for o in options]
    made.append(ek.MaternField(POINTS[1:], length=300.0))
    assert len({prior.fingerprint() for prior in made}) == len(made)
    assert made[0].fingerprint() == ek.MaternField(POINTS, length=300.0).fingerprint()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"length": 0.0}, ValueError, "length: must be one positive number"),
        ({"length": [1.0, 2.0, 3.0]}, ValueError, r"one for each of the 2 direction\(s\)"),
        ({"points": np.zeros((2, 2, 2))}, ValueError, "points: must have 1 or 2 dimensions"),
        ({"points": []}, ValueError, "points: must not be empty"),
        ({"points": [0.0, np.nan]}, ValueError, "points: must be finite"),
        ({"nu": 0.0}, ValueError, r"nu: must be within \(0, 50\]"),
        ({"sd": 0.0}, ValueError, "sd: must be positive"),
        ({"mean": np.inf}, ValueError, "mean: must be finite"),
        ({"n_modes": 41}, ValueError, "n_modes: must be from 1 to 40, got 41. There are 40 points"),
    ],
)
def test_bad_arguments_are_named(options, error, message):
    options = {"points": POINTS, "length": 300.0} | options
    with pytest.raises(error, match=message):
        ek.MaternField(options.pop("points"), **options)
