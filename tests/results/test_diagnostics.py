"""`ek.diagnose`, `fit_rate` and predictive quantiles against formulas written out by hand."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special, stats
from zoo.results import linear_problem, result_of

import ekitools as ek
from ekitools.results import predictive
from ekitools.results.diagnostics import fit_rate
from ekitools.results.predictive import predictive_cdf, predictive_quantiles
from ekitools.results.reading import stored_index

LONG = (0.0, *np.geomspace(1e-2, 1e6, 33))


def test_every_number_of_an_iteration_is_what_its_formula_says():
    problem = linear_problem()
    result = result_of(problem)
    diagnosis = ek.diagnose(result, problem).isel(iteration=2)
    u, g, y = result.u.values[2], result.g.values[2], problem.data
    precision = np.linalg.inv(problem.noise.cov)
    anomalies, r = g - g.mean(axis=0), g.mean(axis=0) - y
    first = result.u.values[0]
    expected = {
        "mean": u.mean(axis=0),
        "spread": u.std(axis=0, ddof=1),
        "spread_total": np.sqrt(np.trace(np.cov(u.T)) / np.trace(np.cov(first.T))),
        "collapse": np.mean([np.sum((x - u.mean(axis=0)) ** 2) for x in u]),
        "output_collapse": np.mean([f @ precision @ f for f in anomalies]),
        "misfit_mean": np.mean([0.5 * (x - y) @ precision @ (x - y) for x in g]),
        "misfit_min": np.min([0.5 * (x - y) @ precision @ (x - y) for x in g]),
        "misfit_of_mean": 0.5 * r @ precision @ r,
        "residual_mean": np.sqrt(r @ precision @ r),
        "rmse": np.sqrt(np.mean(r**2)),
        "bayes_loss": (r @ precision @ r + np.sum(u.mean(axis=0) ** 2)) / (3 * 5),
        "n_effective": 20,
        "n_failed": 0,
        "model_runs": 60,
        "t": 0.3,
        "step": 0.7,
    }
    for name, value in expected.items():
        np.testing.assert_allclose(diagnosis[name], value, rtol=1e-10, err_msg=name)


def test_without_the_problem_the_noise_is_taken_to_be_diagonal_and_it_is_said():
    problem = linear_problem()
    result = result_of(problem)
    diagnosis = ek.diagnose(result)
    g = result.g.values[-1] / result.noise_sd.values
    np.testing.assert_allclose(diagnosis.output_collapse[-1], np.sum(g.var(axis=0)), rtol=1e-12)
    assert diagnosis.attrs["whitening"] == "by noise_sd alone"
    assert "residual_parallel" not in diagnosis
    # misfits are the run's own, with the noise as it is
    np.testing.assert_allclose(diagnosis.misfit_mean, result.misfit.mean("member"), rtol=1e-12)
    assert not np.allclose(
        diagnosis.output_collapse, ek.diagnose(result, problem).output_collapse, rtol=0.01
    )


def test_every_variable_says_what_it_is_and_in_which_units():
    problem = linear_problem()
    diagnosis = ek.diagnose(result_of(problem), problem)
    for name, variable in diagnosis.data_vars.items():
        assert variable.dims[0] == "iteration", name
        assert variable.attrs["long_name"], name
        dimensional = name in ("mean", "spread", "collapse", "rmse")
        assert (variable.attrs["units"] == "1") is not dimensional, name
    assert diagnosis.attrs["noise_level"] == np.sqrt(5)
    assert diagnosis.attrs["expected_misfit"] == 2.5


def test_diagnostics_go_to_netcdf_and_back(tmp_path):
    problem = linear_problem()
    diagnosis = ek.diagnose(result_of(problem), problem)
    diagnosis.to_netcdf(tmp_path / "diagnosis.nc", engine="h5netcdf")
    xr.testing.assert_identical(xr.load_dataset(tmp_path / "diagnosis.nc"), diagnosis)


def test_the_result_is_not_changed():
    problem = linear_problem()
    result = result_of(problem, dropped=[3])
    before = result.copy(deep=True)
    ek.diagnose(result, problem)
    assert result.identical(before)


# Schillings & Stuart: collapse and the two parts of A r


def test_the_collapse_of_the_outputs_has_the_exponent_minus_one():
    problem = linear_problem()
    diagnosis = ek.diagnose(result_of(problem, LONG), problem)
    rate = fit_rate(diagnosis.t, diagnosis.output_collapse, t_min=1e3)
    assert rate.exponent == pytest.approx(-1, abs=1e-3)
    assert rate.n == 13
    # p < d and A of full rank: the parameters collapse at the same rate
    collapse = fit_rate(diagnosis.t, diagnosis.collapse, t_min=1e3)
    assert collapse.exponent == pytest.approx(-1, abs=1e-3)


def test_parameters_that_the_data_do_not_see_do_not_collapse():
    problem = linear_problem(p=6, d=2)
    diagnosis = ek.diagnose(result_of(problem, LONG), problem)
    assert fit_rate(diagnosis.t, diagnosis.output_collapse, t_min=1e3).exponent < -0.999
    assert fit_rate(diagnosis.t, diagnosis.collapse, t_min=1e3).exponent > -0.001


def test_the_parallel_residual_decays_at_half_the_rate_and_the_other_part_stays():
    problem = linear_problem(p=6, d=9)
    result = result_of(problem, LONG, n_members=4)  # a span of 3 dimensions
    diagnosis = ek.diagnose(result, problem)
    rate = fit_rate(diagnosis.t, diagnosis.residual_parallel, t_min=1e3)
    assert rate.exponent == pytest.approx(-0.5, abs=1e-3)
    perpendicular = diagnosis.residual_perpendicular
    assert perpendicular[0] > 1
    np.testing.assert_allclose(perpendicular, perpendicular[0], rtol=1e-10)
    assert diagnosis.residual_perpendicular_drift.max() < 1e-10
    # Pythagoras in the Γ-norm: the mean of |A u_j - y|^2 is twice the mean misfit
    np.testing.assert_allclose(
        diagnosis.residual_parallel**2 + perpendicular**2, 2 * diagnosis.misfit_mean, rtol=1e-10
    )


def test_members_that_leave_the_span_show_as_drift():
    problem = linear_problem(p=6, d=9)
    result = result_of(problem, n_members=4)
    u = result.u.values.copy()
    away = 0.1 * np.ones(6)
    u[1:] += away
    drift = ek.diagnose(result.assign(u=(result.u.dims, u)), problem).residual_perpendicular_drift
    white = problem.noise.whiten
    span = white((u[0] - u[0].mean(axis=0)) @ problem.model.matrix.T).T
    added = white(problem.model.matrix @ away)
    distance = np.linalg.norm(added - span @ np.linalg.lstsq(span, added)[0])
    np.testing.assert_allclose(drift, [0, distance, distance, distance], atol=1e-12)
    assert distance > 0.1


def test_where_the_span_is_everything_nothing_is_orthogonal_to_it():
    problem = linear_problem(p=6, d=4)
    diagnosis = ek.diagnose(result_of(problem), problem)
    assert (diagnosis.residual_perpendicular == 0).all()
    np.testing.assert_allclose(
        diagnosis.residual_parallel**2, 2 * diagnosis.misfit_mean, rtol=1e-10
    )


def test_a_model_that_is_not_linear_has_no_parts():
    problem = linear_problem()
    other = ek.InverseProblem(
        ek.FunctionModel(problem.model, vectorized=True),
        problem.prior,
        problem.noise,
        problem.data,
    )
    result = result_of(problem)
    assert "residual_parallel" not in ek.diagnose(result, other)
    assert "residual_parallel" in ek.diagnose(result, problem)


# Missing rows, missing iterations, weights


def test_failed_and_dropped_members_are_left_out():
    problem = linear_problem()
    whole = result_of(problem)
    diagnosis = ek.diagnose(result_of(problem, failed=[(2, 5)], dropped=[0, 7]), problem)
    np.testing.assert_array_equal(diagnosis.n_failed, [2, 0, 1, 0])
    np.testing.assert_allclose(diagnosis.n_effective, [18, 18, 17, 18], rtol=1e-12)
    alive = np.delete(np.arange(20), [0, 7])
    u, g = whole.u.values[3, alive], whole.g.values[2, np.delete(np.arange(20), [0, 5, 7])]
    np.testing.assert_allclose(diagnosis["mean"][3], u.mean(axis=0))
    np.testing.assert_allclose(diagnosis.spread[3], u.std(axis=0, ddof=1))
    r = g.mean(axis=0) - problem.data
    expected = np.sqrt(r @ np.linalg.solve(problem.noise.cov, r))
    np.testing.assert_allclose(diagnosis.residual_mean[2], expected)


def test_a_last_ensemble_without_outputs_is_nan_where_outputs_are_needed():
    problem = linear_problem()
    result = result_of(problem, last_evaluated=False)
    diagnosis, whole = ek.diagnose(result, problem), ek.diagnose(result_of(problem), problem)
    for name in ("misfit_mean", "misfit_min", "residual_mean", "output_collapse", "coverage"):
        assert np.isnan(diagnosis[name][-1])
        assert not np.isnan(diagnosis[name][:-1]).any()
    for name in ("mean", "spread", "collapse", "residual_parallel"):
        np.testing.assert_array_equal(diagnosis[name], whole[name])


def test_a_result_of_the_last_iteration_alone():
    problem = linear_problem()
    diagnosis = ek.diagnose(result_of(problem, store="last"), problem)
    assert diagnosis.iteration.values.tolist() == [3]
    assert diagnosis.spread_total.values.tolist() == [1]
    assert diagnosis.model_runs.values.tolist() == [80]
    assert "residual_parallel" not in diagnosis  # the initial span is not known


def test_a_weight_of_two_is_a_member_twice():
    problem = linear_problem()
    result = result_of(problem)
    weight = np.ones((4, 20))
    weight[:, :6] = 2
    weight[:, 6] = 0
    weighted = ek.diagnose(result.assign(weight=(("iteration", "member"), weight)), problem)
    index = np.repeat(np.arange(20), weight[0].astype(int))
    repeated = ek.diagnose(result.isel(member=index), problem)
    for name in ("mean", "collapse", "output_collapse", "misfit_mean", "coverage"):
        np.testing.assert_allclose(weighted[name], repeated[name], err_msg=name)
    np.testing.assert_allclose(weighted.n_effective, 25**2 / (6 * 4 + 13))


def test_the_variance_of_weighted_draws_is_unbiased():
    rng = np.random.default_rng(0)
    problem = linear_problem(p=3200, d=1)
    u = rng.normal(0, 2, size=(1, 20, 3200))
    weight = rng.uniform(size=(1, 20)) ** 3  # independent of u, so that 4 is right
    result = result_of(problem, times=[0.0]).assign(weight=(("iteration", "member"), weight))
    result["u"] = (result.u.dims, u)
    diagnosis = ek.diagnose(result)
    variance = diagnosis.spread.values[0] ** 2
    error = variance.std() / np.sqrt(3200)
    assert variance.mean() == pytest.approx(4, abs=3 * error)
    n = float(diagnosis.n_effective[0])  # the next best normalisation would be found out
    assert 4 - 4 * (1 - 1 / n) / (1 - 1 / 20) > 4 * error


def test_more_columns_than_one_block():
    rng = np.random.default_rng(0)
    problem = linear_problem(p=5000, d=2)
    result = result_of(problem, times=[0.0], n_members=3)
    u = rng.normal(100, 1, size=(1, 3, 5000)).astype(np.float32)
    result["u"] = (result.u.dims, u)
    diagnosis = ek.diagnose(result)
    np.testing.assert_allclose(diagnosis.spread[0], u[0].std(axis=0, ddof=1, dtype=float))
    np.testing.assert_allclose(diagnosis["mean"][0], u[0].mean(axis=0, dtype=float))


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(st.permutations(range(20)))
def test_the_order_of_the_members_does_not_matter(order):
    problem = linear_problem()
    result = result_of(problem)
    a, b = ek.diagnose(result, problem), ek.diagnose(result.isel(member=order), problem)
    for name in a.data_vars:
        np.testing.assert_allclose(a[name], b[name], atol=1e-10, err_msg=name)


def test_a_run_of_the_loop_is_read_the_same():
    problem = linear_problem()
    result = ek.run(problem, ek.EKI(ek.FixedStep(0.5)), n_members=30, rng=0)
    diagnosis = ek.diagnose(result, problem)
    np.testing.assert_allclose(diagnosis.spread_total, result.history_spread, rtol=1e-10)
    np.testing.assert_allclose(diagnosis.misfit_mean, result.history_misfit, rtol=1e-10)
    assert diagnosis.model_runs.values.tolist() == [30, 60, 90]


# Coverage and predictive quantiles


def test_coverage_counts_the_data_within_the_interval():
    problem = linear_problem()
    result = result_of(problem)
    g, sd = result.g.values[-1], result.noise_sd.values
    low, high = predictive_quantiles([0.05, 0.95], g, sd)
    inside = (low + high) / 2
    for outside in range(6):
        y = np.where(np.arange(5) % 2, low - 1e-6, high + 1e-6)
        y[outside:] = inside[outside:]
        coverage = ek.diagnose(result.assign(y=("data", y))).coverage[-1]
        assert coverage == pytest.approx(1 - outside / 5)


def test_coverage_of_data_drawn_from_the_prediction_is_ninety_per_cent():
    rng = np.random.default_rng(3)
    d = 2000
    g, sd = rng.normal(size=(50, d)), np.full(d, 0.5)
    y = g[rng.integers(50, size=d), np.arange(d)] + sd * rng.normal(size=d)
    at = predictive_cdf(y, g, sd)
    share = np.mean((at >= 0.05) & (at <= 0.95))
    assert share == pytest.approx(0.9, abs=3 * np.sqrt(0.09 / d))
    assert stats.kstest(at, "uniform").pvalue > 0.01


def test_quantiles_solve_the_mixture_equation_for_one_datum_at_a_time():
    rng = np.random.default_rng(0)
    g, sd = rng.normal(size=(7, 3)) * [1, 10, 0.01], np.array([0.1, 2.0, 5.0])
    weight = rng.uniform(size=7)
    levels = [0.05, 0.25, 0.5, 0.95]
    quantiles = predictive_quantiles(levels, g, sd, weight)
    for a, level in enumerate(levels):
        for i in range(3):

            def excess(z, i=i, level=level):
                return weight @ stats.norm(g[:, i], sd[i]).cdf(z) / weight.sum() - level

            root = optimize.brentq(excess, -100, 100, xtol=1e-13)
            assert quantiles[a, i] == pytest.approx(root, abs=1e-9)


@pytest.mark.parametrize("sd", [1e-9, 1e-3, 0.1, 1.0, 300.0])
def test_quantiles_solve_the_mixture_equation_whatever_the_noise(sd):
    rng = np.random.default_rng(1)
    g, levels = rng.normal(size=(101, 4)), [0.051, 0.5, 0.952]
    for level, quantile in zip(
        levels, predictive_quantiles(levels, g, np.full(4, sd)), strict=True
    ):
        for column, value in zip(g.T, quantile, strict=True):
            ends = (stats.norm(end, sd).ppf(level) for end in (column.min(), column.max()))

            def excess(z, column=column, level=level):
                return np.mean(stats.norm(column, sd).cdf(z)) - level

            assert value == pytest.approx(optimize.brentq(excess, *ends, xtol=1e-14), abs=1e-9)


def test_quantiles_of_wide_noise_take_few_steps(monkeypatch):
    steps = []
    monkeypatch.setattr(predictive, "ndtr", lambda t: steps.append(1) or special.ndtr(t))
    g = np.random.default_rng(0).normal(size=(50, 20))
    predictive_quantiles([0.05], g, np.full(20, 3.0))
    assert len(steps) < 10  # bisection took 40


@settings(max_examples=30, deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e3), st.floats(0.001, 0.999))
def test_one_member_gives_the_normal_quantile(g, sd, level):
    quantile = predictive_quantiles([level], np.array([[g]]), np.array([sd]))
    assert quantile[0, 0] == pytest.approx(stats.norm(g, sd).ppf(level), rel=1e-9, abs=1e-9)


# Rates


def test_the_rate_is_the_slope_that_linregress_finds():
    rng = np.random.default_rng(0)
    t = np.geomspace(1, 100, 20)
    value = 3 * t**-0.7 * np.exp(0.1 * rng.normal(size=20))
    reference = stats.linregress(np.log(t), np.log(value))
    rate = fit_rate(t, value)
    assert rate.exponent == pytest.approx(reference.slope, rel=1e-10)
    assert rate.standard_error == pytest.approx(reference.stderr, rel=1e-10)
    assert rate.n == 20


def test_points_without_a_logarithm_and_early_ones_are_left_out():
    t = [-1.0, 0.0, 1.0, 2.0, 4.0, 8.0, 16.0, np.nan, np.inf]
    value = [1.0, 1.0, 99.0, 0.25, 1 / 16, np.nan, -1.0, 1.0, 1.0]
    rate = fit_rate(t, value, t_min=2.0)
    assert rate[::2] == (pytest.approx(-2), 2)
    assert np.isnan(rate.standard_error)


@pytest.mark.parametrize(
    ("t", "value", "message"),
    [
        ([1.0, 2.0], [1.0], r"value: must be a vector as long as t, got shapes \(1,\) and \(2,\)"),
        ([0.0, 1.0], [1.0, 1.0], "t: must hold at least two .*, got 1. Store more iterations"),
        ([1.0, 1.0], [1.0, 2.0], "t: must hold at least two .*, got 1."),
        ([], [], "t: must hold at least two .*, got 0."),
    ],
)
def test_a_rate_needs_two_times(t, value, message):
    with pytest.raises(ValueError, match=message):
        fit_rate(t, value)


# Bad input


def test_what_is_not_a_result_is_named():
    result = result_of(linear_problem())
    with pytest.raises(TypeError, match="result: must be the Dataset that ek.run .* got dict"):
        ek.diagnose({})
    with pytest.raises(ValueError, match="got one without u, y"):
        ek.diagnose(result.drop_vars(["u", "y"]))


def test_another_problem_is_refused():
    result = result_of(linear_problem())
    with pytest.raises(ValueError, match=r"problem: .* \(d, p\) = \(5, 3\), got \(5, 2\)"):
        ek.diagnose(result, linear_problem(p=2))
    with pytest.raises(ValueError, match="problem: .* got other data"):
        ek.diagnose(result, linear_problem(seed=2))


def test_iterations_are_found_by_their_number_and_from_the_end():
    result = result_of(linear_problem()).isel(iteration=[0, 2, 3])
    assert [stored_index(result, i) for i in (0, 2, 3, -1, -3)] == [0, 1, 2, 2, 0]
    for wrong in (1, 4, -4):
        message = rf"iteration: .* \(0 to 3, 3 in all\), .* got {wrong}\. Run with store="
        with pytest.raises(ValueError, match=message):
            stored_index(result, wrong)
