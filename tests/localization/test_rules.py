"""Rules of localization: distances, names, weights, and what they refuse."""

import numpy as np
import pytest

import ekitools as ek
from ekitools.core.options import from_json, to_json
from ekitools.localization import (
    Correlation,
    Distance,
    Fisher,
    Groups,
    Nice,
    Product,
    Unbiased,
)
from ekitools.localization.tapers import gaspari_cohn


def weights_of(rule, p, d, u=None, f=None, target=None):
    """All weights, ``(p, d)``."""
    u = np.zeros((4, p)) if u is None else u
    f = np.zeros((d, len(u))) if f is None else f
    return rule.located(p, d, target).weights(np.arange(p), u, f).toarray()


def test_the_taper_is_that_of_gaspari_and_cohn():
    """Two of its values by hand, its smoothness, and that it is a correlation."""
    half = -1 / 4 / 2**5 + 1 / 2 / 2**4 + 5 / 8 / 2**3 - 5 / 3 / 2**2 + 1
    np.testing.assert_allclose(gaspari_cohn([0, 0.5, 1, 2, 9]), [1, half, 5 / 24, 0, 0], atol=1e-15)
    z = np.array([1 - 1e-4, 1, 1 + 1e-4, 2 - 1e-4, 2, 2 + 1e-4])
    taper = gaspari_cohn(z)
    np.testing.assert_allclose(np.diff(taper[:3], 2), 0, atol=1e-7)
    np.testing.assert_allclose(np.diff(taper[3:], 2), 0, atol=1e-7)
    x = np.random.default_rng(0).uniform(0, 10, (80, 2))
    matrix = gaspari_cohn(np.linalg.norm(x[:, None] - x, axis=2) / 2)
    assert np.linalg.eigvalsh(matrix).min() > 0


def test_distances_on_the_sphere_are_those_of_the_haversine():
    rng = np.random.default_rng(0)
    cells = np.column_stack([rng.uniform(-180, 180, 200), rng.uniform(-90, 90, 200)])
    sites = np.array([[179.5, 10.0], [-20.0, 89.0], [0.0, 0.0]])  # by the date line and a pole
    (lon, lat), (lon2, lat2) = np.radians(cells).T[:, :, None], np.radians(sites).T[:, None, :]
    inner = (
        np.sin((lat - lat2) / 2) ** 2 + np.cos(lat) * np.cos(lat2) * np.sin((lon - lon2) / 2) ** 2
    )
    arc = 2 * 6371.0088 * np.arcsin(np.sqrt(inner))
    for radius in (500.0, 3000.0, 12000.0):
        rule = Distance(cells, sites, radius, metric="great-circle")
        np.testing.assert_allclose(
            weights_of(rule, 200, 3), gaspari_cohn(arc / radius), rtol=0, atol=1e-9
        )


@pytest.mark.parametrize(("metric", "scale"), [("euclidean", 1.0), ("great-circle", 222.0)])
def test_a_grid_of_analyses_is_close_to_one_for_every_parameter(metric, scale):
    side = np.arange(50.0)
    cells = np.stack(np.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2)
    rng = np.random.default_rng(0)
    at = rng.choice(2500, 60, replace=False)
    root = np.linalg.cholesky(np.exp(-np.linalg.norm(cells[:, None] - cells, axis=2) / 20))
    u = rng.normal(size=(40, 2500)) @ root.T
    r = (u[:, at] - rng.normal(size=60)) / 0.5
    options = {"radius": 8.0 * scale, "metric": metric}
    new = [
        ek.kalman_update(
            u, r, np.zeros(60), 1.0,
            localization=Distance(cells, cells[at], resolution=resolution, **options),
        )
        for resolution in (0, 0.125, 0.25)
    ]  # fmt: skip
    sd = new[0].std(axis=0)
    far, near = (np.sqrt(np.mean(((each - new[0]) / sd) ** 2)) for each in new[:0:-1])
    assert near < 0.006
    assert far < 0.02
    assert near < far / 2  # of second order in the spacing


def test_weights_of_correlations_are_those_of_their_formulas():
    rng = np.random.default_rng(0)
    n = 30
    u, f = rng.normal(size=(n, 5)), rng.normal(size=(7, n))
    f[0], f[1] = u[:, 0], -u[:, 1]
    u, f = u - u.mean(axis=0), f - f.mean(axis=1, keepdims=True)
    r = np.corrcoef(u.T, f)[:5, 5:]
    square = r**2
    unbiased = np.clip(square - (1 - square) ** 2 / (n - 1), 0, None) / square
    q = r * 2 / (np.tanh(np.arctanh(r * (1 - 1e-12)) + 27**-0.5)
                 - np.tanh(np.arctanh(r * (1 - 1e-12)) - 27**-0.5))  # fmt: skip
    for rule, expected in (
        (Correlation(1.0), np.abs(r) > 1 / np.sqrt(n)),
        (Unbiased(), unbiased),
        (Fisher(), q**2 / (1 + q**2)),
    ):
        found = weights_of(rule, 5, 7, u, f)
        np.testing.assert_allclose(found, np.where(expected < 1e-3, 0, expected), rtol=1e-6)


def test_the_power_of_nice_is_the_largest_within_the_sampling_error():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(40, 1))
    u, f = shared + 0.5 * rng.normal(size=(40, 5)), (shared + rng.normal(size=(40, 7))).T
    r = np.corrcoef(u.T, f)[:5, 5:]
    weight = weights_of(Nice(1.5), 5, 7, u, f)
    power = np.log(weight) / np.log(np.abs(r))
    np.testing.assert_allclose(power, power[:, :1] * np.ones(7), rtol=1e-9)
    for row, gamma in zip(r, power[:, 0], strict=True):
        error = [np.linalg.norm(row * (1 - np.abs(row) ** g)) for g in (gamma, gamma + 0.25)]
        assert error[0] <= 1.5 * np.linalg.norm((1 - row**2) / np.sqrt(40)) < error[1]


def test_a_product_multiplies_weights_and_is_flat():
    x, at = np.arange(6.0), np.array([1.0, 4.0])
    rng = np.random.default_rng(0)
    u, f = rng.normal(size=(9, 6)), rng.normal(size=(2, 9))
    near, groups = Distance(x, at, 2.0), Groups({(0, 1, 2): 0, (3, 4, 5): (0, 1)})
    product = near * groups * Unbiased()
    assert len(product.rules) == 3
    every = [weights_of(rule, 6, 2, u, f) for rule in (near, groups, Unbiased())]
    np.testing.assert_allclose(weights_of(product, 6, 2, u, f), np.prod(every, axis=0), rtol=1e-12)
    assert (near * groups).strength == 2.0
    assert (near.with_strength(3.0) * Correlation()).with_strength(9.0).rules[0].radius == 9.0


def test_groups_know_names_of_parameters_blocks_and_data():
    problem = ek.InverseProblem(
        lambda u: {"flow": u[:2], "heat": u[1:]},
        ek.GaussianPrior(np.zeros(3), np.ones(3)),
        {"flow": 0.1, "heat": 0.2},
        {"flow": [1.0, np.nan], "heat": [2.0, 3.0]},
        parameter_names=("k", "c", "q"),
    )
    rule = Groups({("k", 1): "flow", "q": ["heat", 0]})
    expected = [[1, 0, 0], [1, 0, 0], [1, 1, 1]]
    np.testing.assert_array_equal(weights_of(rule, 3, 3, target=problem), expected)
    by_name = Groups({("k", "c"): problem.data_names[1], "q": ()})
    expected = [[0, 1, 0], [0, 1, 0], [0, 0, 0]]
    repeated = Groups({(0, 1): (1, 1), 2: ()})  # a datum counts once
    np.testing.assert_array_equal(weights_of(repeated, 3, 3), expected)
    np.testing.assert_array_equal(weights_of(by_name, 3, 3, target=problem), expected)


def test_places_are_those_of_the_field_and_of_labelled_data():
    xr = pytest.importorskip("xarray")
    prior = ek.GaussianRandomField((4, 6), tau=1.0, lengths=(4.0, 6.0), parameters="values")
    wells = xr.DataArray(
        [1.0, np.nan, 2.0], dims="well",
        coords={"x": ("well", [0.5, 1.5, 3.5]), "y": ("well", [0.5, 2.5, 5.5]),
                "label": ("well", ["a", "b", "c"])},
    )  # fmt: skip
    problem = ek.InverseProblem(lambda u: u[[0, 8, 23]], prior, 0.1, wells)
    found = weights_of(Distance(radius=1.0), 24, 2, target=problem)
    there = weights_of(Distance(prior.points, [[0.5, 0.5], [3.5, 5.5]], 1.0), 24, 2)
    np.testing.assert_array_equal(found, there)
    assert found[0, 0] == found[23, 1] == 1
    swapped = weights_of(Distance(radius=1.0, coordinates=("y", "x")), 24, 2, target=problem)
    assert swapped[23, 1] == 0
    result = ek.run(problem, ek.ETKI(localization=Distance()), n_members=20, rng=0)
    assert np.isfinite(result.history_radius.values[:-1]).all()


@pytest.mark.parametrize("rule", [
    Correlation(5.0), Unbiased(), Fisher(), Nice(1.5),
    Groups({("a", 1): ("b", 0), "c": ()}), Unbiased() * Correlation(3.0),
])  # fmt: skip
def test_options_are_read_back(rule):
    assert to_json(from_json(to_json(ek.EKI(localization=rule))).localization) == to_json(rule)


LINE = np.arange(5.0)


@pytest.mark.parametrize(("make", "error", "words"), [
    (lambda: Distance(LINE, [0.0], -1.0), ValueError, "radius: must be"),
    (lambda: Distance(LINE, [0.0], "far"), ValueError, 'radius: must be a number or "adaptive"'),
    (lambda: Distance(LINE, [0.0], None), TypeError, "radius: must be a number"),
    (lambda: Distance(LINE, [[0.0, 1.0]], 1.0), ValueError, "number of coordinates, got 1 and 2"),
    (lambda: Distance([0.0, np.nan], [0.0], 1.0), ValueError, "parameters: must be finite"),
    (lambda: Distance(LINE, [], 1.0), ValueError, "data: must be finite"),
    (lambda: Distance("here", [0.0], 1.0), TypeError, "parameters: must be"),
    (lambda: Distance(LINE, [0.0], 1.0, taper="cosine"), ValueError, "taper: must be"),
    (lambda: Distance(LINE, [0.0], 1.0, metric="miles"), ValueError, "metric: must be"),
    (lambda: Distance(LINE, [0.0], 1.0, metric="great-circle"), ValueError, "longitude and lat"),
    (lambda: Distance([[0.0, 91.0]], [[0.0, 0.0]], 1.0, metric="great-circle"), ValueError,
     "latitude"),
    (lambda: Distance(LINE, [0.0], 1.0, resolution=2), ValueError, "resolution: must be"),
    (lambda: Correlation(0), ValueError, "threshold: must be"),
    (lambda: Correlation("auto"), TypeError, "threshold: must be a number"),
    (lambda: Nice(0), ValueError, "delta: must be"),
    (lambda: Groups({}), ValueError, "groups: must not be empty"),
    (lambda: Groups(["a"]), TypeError, "groups: must be a mapping"),
    (lambda: Product((Unbiased(),)), ValueError, "rules: must be two or more"),
    (lambda: Product((Unbiased(), 3)), TypeError, "rules: must be rules"),
    (lambda: Distance(LINE, [0.0]) * Distance(LINE, [0.0]), ValueError, "one adaptive strength"),
    (lambda: Unbiased() * 3, TypeError, "unsupported operand"),
])  # fmt: skip
def test_wrong_options_are_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize(("rule", "words"), [
    (Distance(LINE, [0.0], 1.0), "parameters must have coordinates of all 3"),
    (Distance(LINE[:3], [0.0], 1.0), "data must have coordinates of all 2"),
    (Distance(radius=1.0), "parameters: must have coordinates"),
    (Distance(LINE[:3], radius=1.0), "data: must have coordinates"),
    (Distance(LINE[:3], LINE[:2], "adaptive"), "choose_strength"),
    (Groups({0: 0, 1: 1}), "every parameter in one group, got none with 2"),
    (Groups({(0, 1): 0, (1, 2): 1}), "every parameter in one group, got 1 in two"),
    (Groups({(0, 1, 2): 2}), "indices of data from 0 to 1, got 2"),
    (Groups({(0, 1, 2): "flow"}), "known data, got 'flow'"),
    (Groups({(0, 1, "k"): 0}), "known parameters, got 'k'"),
])  # fmt: skip
def test_what_does_not_fit_an_ensemble_is_refused(rule, words):
    with pytest.raises(ValueError, match=words):
        rule.located(3, 2)


def test_fisher_needs_four_members():
    with pytest.raises(ValueError, match="J >= 4"):
        ek.kalman_update(np.eye(3), np.eye(3), np.zeros(3), 1.0, localization=Fisher())
