"""CRPS, RMSE and Bayes loss of `ek.diagnose` against closed forms and sums over all pairs."""

import numpy as np
import pytest
from scipy import stats
from zoo.results import linear_problem, result_of

import ekitools as ek
from ekitools.results.predictive import crps_of_members


def over_pairs(y, g, w):
    """E|X − y| − ½E|X − X'|, one term for every pair of members."""
    pairs = np.abs(g[:, None] - g[None])
    return w @ np.abs(g - y) - 0.5 * np.einsum("j,k,jki->i", w, w, pairs)


@pytest.mark.parametrize("n_members", [1, 2, 7, 30])
def test_the_crps_is_the_sum_over_all_pairs_also_with_weights_and_ties(n_members):
    rng = np.random.default_rng(0)
    g = rng.normal(size=(n_members, 6)).round(1)
    y, w = rng.normal(size=6), rng.uniform(size=n_members) * (rng.uniform(size=n_members) < 0.8)
    w = w + (w.sum() == 0)
    w = w / w.sum()
    np.testing.assert_allclose(crps_of_members(y, g, w), over_pairs(y, g, w), atol=1e-14)


def test_the_crps_of_many_normal_members_is_the_closed_form():
    # Gneiting & Raftery (2007), eq. 21: σ[z(2Φ(z) − 1) + 2φ(z) − 1/√π]
    n = 20_000
    g = stats.norm.ppf((np.arange(n) + 0.5) / n)[:, None] * [1.0, 3.0, 0.1]
    y = np.array([0.5, -4.0, 0.0])
    z = y / [1.0, 3.0, 0.1]
    exact = z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi)
    found = crps_of_members(y, g, np.full(n, 1 / n))
    np.testing.assert_allclose(found, exact * [1.0, 3.0, 0.1], rtol=2e-4)


def test_one_thousand_outputs_of_size_1e9_do_not_lose_their_differences():
    rng = np.random.default_rng(0)
    g, y, w = rng.normal(size=(50, 3)), rng.normal(size=3), np.full(50, 0.02)
    shifted = crps_of_members(y + 1e9, g + 1e9, w)
    np.testing.assert_allclose(shifted, crps_of_members(y, g, w), atol=1e-6)


def test_more_data_than_are_sorted_at_once():
    rng = np.random.default_rng(0)
    g, y, w = rng.normal(size=(5, 9000)), rng.normal(size=9000), np.full(5, 0.2)
    np.testing.assert_allclose(crps_of_members(y, g, w), over_pairs(y, g, w), atol=1e-14)


def test_the_crps_agrees_with_properscoring():
    g = np.cos(np.arange(1, 9)[:, None] * [1.0, 2.0, 3.0])
    y, w = np.array([0.3, -2.0, 0.9]), np.arange(1.0, 9.0)
    # crps_ensemble(y, g.T) and crps_ensemble(y, g.T, weights=...) of properscoring 0.1
    equal, weighted = [0.22219667, 1.48357335, 0.52288909], [0.19995799, 1.45486765, 0.48983291]
    np.testing.assert_allclose(crps_of_members(y, g, np.full(8, 1 / 8)), equal, rtol=1e-7)
    np.testing.assert_allclose(crps_of_members(y, g, w / w.sum()), weighted, rtol=1e-7)


def test_the_crps_of_a_run_is_in_standard_deviations_of_the_noise():
    result = result_of(linear_problem(), failed=[(2, 5)], dropped=[0])
    kept = np.delete(np.arange(20), [0, 5])
    g, y, sd = result.g.values[2, kept], result.y.values, result.noise_sd.values
    expected = np.mean(over_pairs(y / sd, g / sd, np.full(18, 1 / 18)))
    assert ek.diagnose(result).crps[2] == pytest.approx(expected, rel=1e-12)


def test_scores_of_weighted_members_count_a_weight_of_two_twice():
    problem = linear_problem()
    result = result_of(problem)
    weight = np.ones((4, 20))
    weight[:, :6], weight[:, 6] = 2, 0
    weighted = ek.diagnose(result.assign(weight=(("iteration", "member"), weight)), problem)
    repeated = ek.diagnose(
        result.isel(member=np.repeat(np.arange(20), weight[0].astype(int))), problem
    )
    for name in ("rmse", "crps", "bayes_loss"):
        np.testing.assert_allclose(weighted[name], repeated[name], err_msg=name)


def test_the_bayes_loss_is_that_of_the_log_density_in_unconstrained_coordinates():
    """Of a log-normal prior with a correlation; the log-density is SciPy's."""
    rng = np.random.default_rng(0)
    prior = ek.Prior({"a": stats.lognorm(0.5, scale=2.0), "b": stats.norm(3.0, 2.0)})
    A, data = rng.normal(size=(4, 2)), rng.normal(size=4)
    problem = ek.InverseProblem(ek.LinearModel(A), prior, 0.3, data)
    result = ek.run(problem, ek.EKI(), n_members=30, rng=0)
    diagnosis = ek.diagnose(result, problem)
    for i in (0, -1):
        u = result.u.values[i]
        at = np.array([np.log(u[:, 0]).mean(), u[:, 1].mean()])
        normal = stats.multivariate_normal([np.log(2.0), 3.0], np.diag([0.25, 4.0]))
        likelihood = stats.multivariate_normal(result.g.values[i].mean(axis=0), 0.3 * np.eye(4))
        constant = normal.logpdf([np.log(2.0), 3.0]) + likelihood.logpdf(likelihood.mean)
        log_density = normal.logpdf(at) + likelihood.logpdf(data) - constant
        assert diagnosis.bayes_loss[i] == pytest.approx(-2 * log_density / (2 * 4), rel=1e-10)
    assert "bayes_loss" not in ek.diagnose(result)


def test_outputs_that_a_step_does_not_see_count_in_no_score():
    problem = linear_problem()
    result = result_of(problem)
    g = result.g.values.copy()
    g[1, :, 2:] = np.nan
    diagnosis = ek.diagnose(result.assign(g=(result.g.dims, g)), problem)
    r = g[1, :, :2].mean(axis=0) - problem.data[:2]
    u = result.u.values[1].mean(axis=0)
    precision = np.linalg.inv(problem.noise.cov[:2, :2])
    assert diagnosis.rmse[1] == pytest.approx(np.sqrt(np.mean(r**2)))
    assert diagnosis.bayes_loss[1] == pytest.approx((r @ precision @ r + u @ u) / (3 * 2))
    sd = result.noise_sd.values[:2]
    w = np.full(20, 0.05)
    expected = np.mean(over_pairs(problem.data[:2] / sd, g[1, :, :2] / sd, w))
    assert diagnosis.crps[1] == pytest.approx(expected)


def test_scores_without_outputs_or_without_noise_are_nan():
    problem = linear_problem()
    diagnosis = ek.diagnose(result_of(problem, last_evaluated=False), problem)
    for name in ("rmse", "crps", "bayes_loss"):
        assert np.isnan(diagnosis[name][-1])
        assert np.isfinite(diagnosis[name][:-1]).all()
    loss = ek.InverseProblem(
        ek.LinearModel(np.eye(2)), ek.GaussianPrior([0.0, 0.0], 1.0), ek.Huber(1.0), [1.0, 2.0]
    )
    result = ek.run(loss, ek.LossEKI(), n_members=10, n_steps=2, rng=0)
    diagnosis = ek.diagnose(result, loss)
    assert np.isnan(diagnosis.crps).all()
    assert np.isnan(diagnosis.bayes_loss).all()
    expected = np.sqrt(np.mean((result.g.mean("member") - [1.0, 2.0]) ** 2, axis=1))
    np.testing.assert_allclose(diagnosis.rmse, expected)


@pytest.mark.parametrize(
    ("units", "told", "known"),
    [(["m", "m"], "m", True), (["m", "s"], "as the data", False), (["", ""], "as the data", True)],
)
def test_the_rmse_has_the_unit_of_the_data_where_they_have_one(units, told, known):
    problem = ek.InverseProblem(
        ek.LinearModel(np.eye(2)), ek.GaussianPrior([0.0, 0.0], 1.0), 1.0, [1.0, 2.0]
    )
    result = ek.run(problem, ek.EKI(), n_members=10, rng=0)
    result = result.assign_coords(data_units=("data", units))
    rmse = ek.diagnose(result).rmse
    assert rmse.attrs["units"] == told
    assert np.isfinite(rmse).all() == known
