"""Pictures: on the Axes that were given, with the names of the data, showing the numbers."""

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from scipy import stats

import ekitools as ek
from ekitools.results.predictive import predictive_quantiles


@pytest.fixture(scope="module")
def problem():
    return ek.problems.linear(p=4, d=12, rng=1).problem


@pytest.fixture(scope="module")
def result(problem):
    return ek.run(problem, ek.EKI(), n_members=40, rng=0)


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def plot_error(result, ax=None):
    return ek.plot_error({"EKI": result}, np.ones(4), ax)


PLOTS = (
    plot_error,
    ek.plot_collapse,
    ek.plot_misfit,
    ek.plot_residual,
    ek.plot_ensemble,
    ek.plot_predictive,
)


@pytest.mark.parametrize("plot", PLOTS)
def test_it_draws_where_it_is_told_to_and_opens_nothing_else(plot, result):
    _, ax = plt.subplots()
    before = plt.get_fignums()
    assert plot(result, ax) is ax
    assert plt.get_fignums() == before
    assert ax.get_xlabel()
    assert ax.get_ylabel()
    assert ax.get_legend() is not None
    ax.figure.canvas.draw()


@pytest.mark.parametrize("plot", PLOTS)
def test_it_makes_its_own_figure_otherwise(plot, result):
    axes = np.ravel(plot(result))
    assert len(plt.get_fignums()) == 1
    assert len(axes) == (4 if plot is ek.plot_ensemble else 1)
    axes[0].figure.canvas.draw()


@pytest.mark.parametrize("plot", PLOTS)
def test_a_single_stored_iteration_and_failed_members_can_be_drawn(plot, problem):
    def flaky(u):
        return problem.model(u) if u[0] < 1 else np.full(12, np.nan)

    failing = ek.InverseProblem(ek.FunctionModel(flaky), problem.prior, 0.1, problem.data)
    last = ek.run(failing, ek.EKI(), n_members=40, rng=0, store="last")
    np.ravel(plot(last))[0].figure.canvas.draw()
    unevaluated = ek.run(failing, ek.EKI(), n_members=40, rng=0, evaluate_final=False)
    np.ravel(plot(unevaluated))[0].figure.canvas.draw()


def line(ax, label):
    (found,) = [each for each in ax.get_lines() if label in str(each.get_label())]
    return found.get_ydata()


def test_misfit_shows_the_mean_and_what_is_expected(result):
    ax = ek.plot_misfit(result)
    np.testing.assert_allclose(line(ax, "mean"), result.misfit.mean("member"))
    assert line(ax, "d/2 = 6")[0] == 6


def test_collapse_shows_both_spreads(result, problem):
    ax = ek.plot_collapse(result, problem=problem)
    u = result.u.values
    spread = ((u - u.mean(1, keepdims=True)) ** 2).sum(2).mean(1)
    np.testing.assert_allclose(line(ax, "parameters"), spread / spread[0])
    assert ax.get_yscale() == "log"


def test_error_shows_the_distance_of_every_mean_from_the_truth(result, problem):
    truth = np.arange(4.0)
    plain = ek.EKI(ek.FixedStep(0.1), t_end=None, perturbed=False)
    other = ek.run(problem, ek.Nesterov(plain), n_members=9, n_steps=7, rng=0)
    ax = ek.plot_error({"plain": result, "momentum": other}, truth)
    for label, one in (("plain", result), ("momentum", other)):
        expected = np.sqrt(((one.u.values.mean(axis=1) - truth) ** 2).sum(axis=1))
        np.testing.assert_allclose(line(ax, label), expected)
    assert len({each.get_color() for each in ax.get_lines()}) == 2
    assert (ax.get_xlabel(), ax.get_yscale(), ax.get_xscale()) == ("iteration", "log", "linear")


def test_error_of_flows_is_by_time_even_from_a_file(problem, tmp_path):
    flow = ek.integrate(problem, ek.EKIFlow(), t_span=(0, 200), n_members=9, rng=0)
    flow.to_netcdf(tmp_path / "flow.nc")
    with xr.open_dataset(tmp_path / "flow.nc") as read:
        ax = ek.plot_error({"flow": read}, np.ones(4))
    (drawn,) = ax.get_lines()
    np.testing.assert_allclose(drawn.get_xdata(), flow.t)
    assert (ax.get_xlabel(), ax.get_xscale()) == ("pseudo-time $t$", "log")


def test_error_refuses_what_cannot_be_compared(result, problem):
    flow = ek.integrate(problem, ek.EKIFlow(), t_span=(0, 1), n_members=9, rng=0)
    with pytest.raises(ValueError, match="results: must be results of ek.run alone"):
        ek.plot_error({"run": result, "flow": flow}, np.ones(4))
    with pytest.raises(ValueError, match="results: must .* got none"):
        ek.plot_error({}, np.ones(4))
    with pytest.raises(ValueError, match="truth: must have p = 4 entries, as 'run' has"):
        ek.plot_error({"run": result}, np.ones(3))


def test_a_long_flow_shows_the_rate_of_the_theory(problem):
    method = ek.EKI(ek.FixedStep(5.0), t_end=None, perturbed=False)
    ax = ek.plot_collapse(ek.run(problem, method, n_members=10, n_steps=15, rng=0))
    assert ax.get_xscale() == "log"
    rate = line(ax, "t^{-1}")
    assert rate[0] / rate[-1] == pytest.approx(15)


def test_residual_shows_the_parts_of_the_theory_for_a_linear_model(result, problem):
    ax = ek.plot_residual(result, problem=problem)
    mean = np.linalg.norm((result.g.mean("member") - result.y) / np.sqrt(0.1), axis=1)
    np.testing.assert_allclose(line(ax, "bar{g}"), mean)
    diagnosis = ek.diagnose(result, problem)
    np.testing.assert_allclose(line(ax, "parallel"), diagnosis.residual_parallel)
    np.testing.assert_allclose(line(ax, "perp"), diagnosis.residual_perpendicular)
    assert len(ek.plot_residual(result).get_lines()) == 2


def test_ensemble_panels_carry_the_names(result):
    assert [ax.get_xlabel() for ax in ek.plot_ensemble(result)] == ["u0", "u1", "u2", "u3"]
    assert ek.plot_ensemble(result, parameter="u2").get_xlabel() == "u2"
    with pytest.raises(ValueError, match="parameter: must be one of"):
        ek.plot_ensemble(result, parameter="w")


def test_ensemble_shows_the_density_of_a_named_prior():
    prior = ek.Prior({"rate": stats.lognorm(0.5)})
    problem = ek.InverseProblem(ek.FunctionModel(lambda u: u), prior, 0.01, [1.0])
    result = ek.run(problem, ek.EKI(), n_members=30, rng=0)
    ax = ek.plot_ensemble(result, parameter="rate", problem=problem)
    (curve,) = [each for each in ax.get_lines() if each.get_label() == "prior density"]
    np.testing.assert_allclose(curve.get_ydata(), stats.lognorm(0.5).pdf(curve.get_xdata()))


def test_predictive_bands_are_the_quantiles_of_the_mixture(result):
    ax = ek.plot_predictive(result)
    expected = predictive_quantiles([0.5], result.g[-1].values, result.noise_sd.values)[0]
    np.testing.assert_allclose(line(ax, "median"), expected)
    np.testing.assert_allclose(line(ax, "data"), result.y)


def test_predictive_series_are_told_apart_and_sorted_by_their_coordinate(result):
    x, groups = np.arange(12)[::-1] // 2, np.tile(["hare", "lynx"], 6)
    ax = ek.plot_predictive(result, x=x, groups=groups)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert "hare: data" in labels
    assert "lynx: median" in labels
    (hare,) = [each for each in ax.get_lines() if each.get_label() == "hare: data"]
    assert np.all(np.diff(hare.get_xdata()) > 0)
    np.testing.assert_allclose(hare.get_ydata(), result.y[groups == "hare"][::-1])
    for wrong in ({"x": [1, 2]}, {"groups": ["a"]}):
        with pytest.raises(ValueError, match="must have d = 12 entries"):
            ek.plot_predictive(result, **wrong)


def test_predictive_without_outputs_is_said(problem):
    result = ek.run(problem, ek.EKI(), n_members=9, rng=0, evaluate_final=False, store="last")
    with pytest.raises(ValueError, match="iteration: must have been evaluated"):
        ek.plot_predictive(result, iteration=int(result.iteration[-1]))
