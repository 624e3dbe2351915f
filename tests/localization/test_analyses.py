"""Local analyses beside the dense formula, one parameter at a time."""

import numpy as np
import pytest
from scipy.linalg import sqrtm
from threadpoolctl import threadpool_limits

import ekitools as ek
from ekitools.linalg.local import LocalAnalysis
from ekitools.linalg.local_coefficients import local_coefficients
from ekitools.localization import Correlation, Distance, Groups, Unbiased
from ekitools.localization.tapers import gaspari_cohn

UNIT = ek.GaussianNoise(1.0)
SIZES = [(20, 30, 12, 2.0), (8, 30, 30, 4.0), (3, 10, 10, 3.0), (2, 5, 5, 2.0), (30, 12, 4, 9.0)]
"""(J, p, d, radius): few local data beside the members, about as many, and more."""


def case(n, p, d, seed=0):
    """Members on a line, and the residuals of neighbouring sums."""
    rng = np.random.default_rng(seed)
    u = rng.normal(size=(n, p))
    at = np.sort(rng.choice(p, d, replace=False))
    r = 2 * (u[:, at] + 0.5 * u[:, (at + 1) % p]) - rng.normal(size=d)
    return u, r, np.arange(float(p)), at.astype(float)


def dense(u, r, weights, h, draw=None):
    """One analysis with the noise I/(h ρ) for every parameter, by the textbook."""
    new = np.empty_like(u)
    for i, rho in enumerate(weights):
        kept = rho > 0
        if not kept.any():
            new[:, i] = u[:, i]
            continue
        e, f = u[:, i] - u[:, i].mean(), r[:, kept] - r[:, kept].mean(axis=0)
        noise = np.diag(1 / (h * rho[kept]))
        gain = (e @ f) @ np.linalg.inv(f.T @ f + (len(u) - 1) * noise)
        if draw is None:
            inner = np.eye(len(u)) + f @ np.linalg.inv((len(u) - 1) * noise) @ f.T
            new[:, i] = u[:, i].mean() - gain @ r[:, kept].mean(axis=0)
            new[:, i] += sqrtm(np.linalg.inv(inner)).real @ e
        else:
            perturbed = draw[:, kept] / np.sqrt(rho[kept]) - r[:, kept]
            new[:, i] = u[:, i] + perturbed @ gain
    return new


def analysis_of(rule, r, h=0.7, kind="transform", draw=None):
    return local_coefficients(rule, r, UNIT, h, kind, noise_draw=draw)


@pytest.mark.parametrize("perturbed", [False, True])
@pytest.mark.parametrize(("n", "p", "d", "radius"), SIZES)
def test_every_parameter_has_the_analysis_of_its_weighted_data(n, p, d, radius, perturbed):
    u, r, x, at = case(n, p, d)
    draw = np.random.default_rng(1).normal(size=r.shape) if perturbed else None
    rule = Distance(x, at, radius, resolution=0)
    new = analysis_of(rule, r, draw=draw).located(p).update(u)
    weights = gaspari_cohn(np.abs(x[:, None] - at) / radius)
    np.testing.assert_allclose(new, dense(u, r, weights, 0.7, draw), rtol=0, atol=1e-11)


@pytest.mark.parametrize("perturbed", [False, True])
@pytest.mark.parametrize(("n", "p", "d", "radius"), SIZES)
def test_a_group_has_one_analysis_for_all_of_its_parameters(n, p, d, radius, perturbed):
    u, r, _, _ = case(n, p, d)
    draw = np.random.default_rng(1).normal(size=r.shape) if perturbed else None
    half, few = p // 2, tuple(range(d // 2))
    rule = Groups({tuple(range(half)): few, tuple(range(half, p)): tuple(range(d))})
    new = analysis_of(rule, r, draw=draw).located(p).update(u)
    weights = np.ones((p, d))
    weights[:half, d // 2 :] = 0
    np.testing.assert_allclose(new, dense(u, r, weights, 0.7, draw), rtol=0, atol=1e-11)


@pytest.mark.parametrize("perturbed", [False, True])
@pytest.mark.parametrize("n", [10, 60])
def test_analyses_between_grid_points_are_mixtures_of_those_there(n, perturbed):
    u, r, x, at = case(n, 200, 20)
    draw = np.random.default_rng(1).normal(size=r.shape) if perturbed else None
    rule = Distance(x, at, 20.0, resolution=0.25)
    new = analysis_of(rule, r, draw=draw).located(200).update(u)
    grid = np.arange(0, 205, 5.0)
    weights = gaspari_cohn(np.abs(grid[:, None] - at) / 20.0)
    low = np.arange(200) // 5
    share = np.arange(200) % 5 / 5
    at_low, at_high = (dense(u, r, weights[low + k], 0.7, draw) for k in (0, 1))
    expected = (1 - share) * at_low + share * at_high
    np.testing.assert_allclose(new, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("kind", ["transform", "perturbed", "unperturbed"])
@pytest.mark.parametrize(("n", "p", "d", "radius"), SIZES)
def test_an_infinite_radius_is_no_localization(n, p, d, radius, kind):
    u, r, x, at = case(n, p, d)
    everything = (Distance(x, at, np.inf), Groups({tuple(range(p)): tuple(range(d))}))
    plain = ek.kalman_coefficients(r, np.zeros(d), 1.0, step=0.7, analysis=kind, rng=3)
    expected = ek.apply_update(plain, u)
    for rule in everything:
        local = ek.kalman_coefficients(
            r, np.zeros(d), 1.0, step=0.7, analysis=kind, rng=3, localization=rule
        )
        np.testing.assert_allclose(ek.apply_update(local, u), expected, rtol=0, atol=1e-12)


def test_data_without_noise_are_met_by_a_linear_fit():
    """With h = 1e28 the update is a regression; squares would lose data that nearly agree."""
    u, r, x, at = case(20, 30, 12)
    at[1] = at[0]
    r[:, 1] = r[:, 0] + 1e-7 * np.random.default_rng(1).normal(size=20)
    new = analysis_of(Distance(x, at, 3.0, resolution=0), r, h=1e28).located(30).update(u)
    near = np.abs(x[:, None] - at) < 6
    for i, kept in enumerate(near):
        f = r[:, kept] - r[:, kept].mean(axis=0)
        slope, *_ = np.linalg.lstsq(f, u[:, i] - u[:, i].mean(), rcond=None)
        rest = u[:, i] - u[:, i].mean() - f @ slope
        expected = u[:, i].mean() - r[:, kept].mean(axis=0) @ slope + rest
        np.testing.assert_allclose(new[:, i], expected, rtol=0, atol=1e-5)


def test_parameters_without_a_near_datum_keep_their_prior_to_the_last_bit():
    u, _, x, _ = case(20, 30, 12)
    r = u[:, :2] - 1.0
    for rule in (Distance(x, [0.0, 1.0], 2.0), Distance(x, [0.0, 1.0], 0.0)):
        new = analysis_of(rule, r).located(30).update(u)
        reach = int(2 * rule.radius) + 1
        np.testing.assert_array_equal(new[:, reach + 1 :], u[:, reach + 1 :])
        assert (new[:, :2] != u[:, :2]).all()
    nothing = Groups({tuple(range(30)): ()})
    np.testing.assert_array_equal(analysis_of(nothing, r).located(30).update(u), u)


def test_a_radius_of_zero_is_the_datum_at_the_very_place():
    u, r, x, at = case(20, 10, 10)
    new = analysis_of(Distance(x, at, 0.0), r).located(10).update(u)
    expected = analysis_of(Groups({i: i for i in range(10)}), r).located(10).update(u)
    np.testing.assert_allclose(new, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rule", [Correlation(0.5), Unbiased(), Correlation(1.0) * Unbiased()])
def test_parameters_and_outputs_without_spread_stay_and_move_nothing(rule):
    u, r, _, _ = case(20, 30, 12)
    u[:, 3], r[:, 5] = 0.7, -2.1
    assert u.mean(axis=0)[3] != 0.7  # or rounding would not show
    new = analysis_of(rule, r).located(30).update(u)
    assert np.isfinite(new).all()
    np.testing.assert_array_equal(new[:, 3], 0.7)
    without = np.delete(np.arange(12), 5)
    again = analysis_of(rule, r[:, without]).located(30).update(u)
    np.testing.assert_allclose(new, again, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n", [2, 3])
def test_two_or_three_members_do(n):
    u, r, x, at = case(n, 10, 5)
    for rule in (Distance(x, at, 2.0), Correlation(), Correlation(1.0), Unbiased()):
        assert np.isfinite(analysis_of(rule, r).located(10).update(u)).all()


def test_an_output_that_is_the_parameter_itself():
    u, _, x, _ = case(20, 6, 6)
    for rule in (Correlation(), Unbiased(), Distance(x, x, 0.0)):
        new = analysis_of(rule, u, h=1.0).located(6).update(u)
        assert np.isfinite(new).all()
        before = u.var(axis=0, ddof=1)
        assert (new.var(axis=0, ddof=1) <= before / (1 + before) * (1 + 1e-12)).all()


@pytest.mark.parametrize("rule", [Correlation(1.5), Unbiased(), Correlation(1.0) * Unbiased()])
def test_the_order_of_parameters_and_data_does_not_matter(rule):
    u, r, _, _ = case(20, 30, 12)
    order, of_data = (
        np.random.default_rng(0).permutation(30),
        np.random.default_rng(1).permutation(12),
    )
    new = analysis_of(rule, r).located(30).update(u)
    again = analysis_of(rule, r[:, of_data]).located(30).update(u[:, order])
    np.testing.assert_allclose(again, new[:, order], rtol=0, atol=1e-11)


@pytest.mark.parametrize("make", [
    lambda x, at: Distance(x, at, 30.0),
    lambda x, at: Distance(x, at, 3.0, resolution=0),
    lambda x, at: Groups({tuple(range(500)): (0, 1), tuple(range(500, 2000)): (2, 3, 4)}),
    lambda x, at: Correlation(2.0),
])  # fmt: skip
def test_neither_threads_nor_blocks_change_a_bit(make, monkeypatch, tmp_path):
    monkeypatch.setattr("ekitools.linalg.local._TILE_BYTES", 20 * 8 * 300)
    u, r, x, at = case(20, 2000, 40)
    local = analysis_of(make(x, at), r)
    results = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            results.append(local.located(2000).update(u))
    source = np.memmap(tmp_path / "u", dtype=float, mode="w+", shape=u.shape)
    source[:] = u
    for block in (None, 300, 900, 2000):
        target = np.empty_like(u)
        ek.apply_update(local, source, target, block=block)
        results.append(target)
    ek.apply_update(local, source, source, block=300)
    results.append(np.asarray(source))
    for each in results[1:]:
        np.testing.assert_array_equal(each, results[0])


def test_single_precision_stays_and_is_close():
    u, r, x, at = case(20, 400, 40)
    for rule in (Distance(x, at, 10.0), Distance(x, at, 3.0, resolution=0), Correlation(1.0)):
        local = analysis_of(rule, r).located(400)
        single = local.update(u.astype(np.float32))
        assert single.dtype == np.float32
        np.testing.assert_allclose(single, local.update(u), rtol=0, atol=2e-5)


def test_dask_and_zarr_have_the_bits_of_memory(tmp_path, monkeypatch):
    dask_array = pytest.importorskip("dask.array")
    zarr = pytest.importorskip("zarr")
    monkeypatch.setattr("ekitools.linalg.local._TILE_BYTES", 20 * 8 * 128)
    u, r, x, at = case(20, 1000, 40)
    local = analysis_of(Distance(x, at, 10.0), r)
    expected = local.located(1000).update(u)
    lazy = ek.apply_update(local, dask_array.from_array(u, chunks=(7, 90)))
    np.testing.assert_array_equal(lazy.compute(scheduler="synchronous"), expected)
    stored = zarr.create_array(tmp_path / "u.zarr", shape=u.shape, chunks=(20, 64), dtype="f8")
    stored[:] = u
    ek.apply_update(local, stored, stored)
    np.testing.assert_array_equal(stored[:], expected)


def test_torch_ensembles_stay_in_their_kind():
    torch = pytest.importorskip("torch")
    u, r, x, at = case(20, 30, 12)
    rule = Distance(x, at, 3.0)
    expected = ek.kalman_update(u, r, np.zeros(12), 1.0, localization=rule)
    new = ek.kalman_update(
        torch.tensor(u), torch.tensor(r), torch.zeros(12), 1.0, localization=rule
    )
    assert isinstance(new, torch.Tensor)
    np.testing.assert_allclose(new.numpy(), expected, rtol=0, atol=1e-12)


def test_correlated_noise_is_the_marginal_one_of_a_group():
    u, r, _, _ = case(20, 6, 5)
    cov = 0.5 * np.eye(5) + 0.3
    rule = Groups({(0, 1, 2): (0, 1), (3, 4, 5): (1, 2, 3, 4)})
    draw = np.random.default_rng(2).normal(size=r.shape)
    new = ek.kalman_update(u, r, np.zeros(5), cov, noise_draw=draw, localization=rule)
    for columns, data in (([0, 1, 2], [0, 1]), ([3, 4, 5], [1, 2, 3, 4])):
        alone = ek.kalman_update(
            u[:, columns], r[:, data], np.zeros(len(data)), cov[np.ix_(data, data)],
            noise_draw=draw[:, data],
        )  # fmt: skip
        np.testing.assert_allclose(new[:, columns], alone, rtol=0, atol=1e-11)
    with pytest.raises(TypeError, match=r"independent between data for weights.*Groups"):
        ek.kalman_update(
            u, r, np.zeros(5), cov, localization=Distance(np.arange(6.0), np.arange(5.0), 1.0)
        )


def test_an_analysis_is_made_for_an_ensemble_that_is_not_changed():
    u, r, x, at = case(20, 30, 12)
    before = u.copy()
    local = analysis_of(Distance(x, at, 3.0), r).located(30)
    assert isinstance(local, LocalAnalysis)
    local.update(u)
    np.testing.assert_array_equal(u, before)
