"""What ArviZ is given, and that the ArviZ that is installed can work with it."""

import matplotlib as mpl

mpl.use("Agg")

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import stats

import ekitools as ek


@pytest.fixture(scope="module")
def problem():
    prior = ek.Prior({"slope": stats.norm(0, 1), "scale": stats.lognorm(0.5)})

    def model(u):
        return np.array([u[0] + u[1], u[0] - u[1], u[1]])

    return ek.InverseProblem(ek.FunctionModel(model), prior, 0.1, [2.0, 0.0, 1.0])


@pytest.fixture(scope="module")
def result(problem):
    return ek.run(problem, ek.EKI(), n_members=40, rng=0)


def test_groups_and_variables(result):
    data = ek.to_arviz(result)
    posterior = data.posterior
    assert set(posterior.data_vars) == {"slope", "scale"}
    assert dict(posterior.sizes) == {"chain": 1, "draw": 40}
    np.testing.assert_array_equal(posterior["scale"][0], result.u[-1].sel(parameter="scale"))
    np.testing.assert_array_equal(data.prior["slope"][0], result.u[0].sel(parameter="slope"))
    np.testing.assert_array_equal(data.posterior_predictive["g"][0], result.g[-1])
    np.testing.assert_array_equal(data.sample_stats["misfit"][0], result.misfit[-1])
    np.testing.assert_array_equal(data.observed_data["g"], result.y)
    assert posterior.attrs["status_code"] == "posterior_reached"


def test_summaries_and_plots_of_arviz(result):
    data = ek.to_arviz(result)
    summary = az.summary(data, kind="stats")
    mean = float(result.u[-1].sel(parameter="slope").mean())
    assert float(summary.loc["slope", "mean"]) == pytest.approx(mean, abs=0.01)
    az.plot_forest(data)
    az.plot_trace(data)
    az.plot_pair(data)
    plt.close("all")


def test_independent_runs_become_chains_and_rhat_compares_them(problem):
    runs = [ek.run(problem, ek.GNKI(), n_members=60, rng=seed) for seed in range(4)]
    data = ek.to_arviz(runs)
    assert dict(data.posterior.sizes) == {"chain": 4, "draw": 60}
    assert float(az.rhat(data)["slope"]) < 1.1
    shifted = [run.assign(u=run.u + 3 * i) for i, run in enumerate(runs)]
    assert float(az.rhat(ek.to_arviz(shifted))["slope"]) > 1.5


def test_dropped_members_are_left_out(problem):
    calls = []

    def flaky(u):
        calls.append(1)
        return problem.model(u) if len(calls) % 7 else np.full(3, np.nan)

    failing = ek.InverseProblem(ek.FunctionModel(flaky), problem.prior, 0.1, problem.data)
    result = ek.run(failing, ek.EKI(ek.FixedStep(0.5)), n_members=40, rng=0, evaluate_final=False)
    data = ek.to_arviz(result)
    assert (
        data.posterior.sizes["draw"] == int(np.isfinite(result.u[-1]).all("parameter").sum()) < 40
    )
    assert not hasattr(data, "sample_stats")  # the last ensemble was not evaluated


def test_many_parameters_are_one_variable():
    problem = ek.problems.linear(p=60, d=5).problem
    data = ek.to_arviz(ek.run(problem, ek.EKI(), n_members=10, rng=0))
    assert data.posterior["u"].dims == ("chain", "draw", "parameter")
    assert data.posterior.sizes["parameter"] == 60


def test_weights_are_resampled_systematically(result):
    weight = np.zeros((result.sizes["iteration"], 40))
    weight[:, 3], weight[:, 8] = 0.75, 0.25
    weighted = result.assign(weight=(("iteration", "member"), weight))
    data = ek.to_arviz(weighted, rng=1)
    draws, counts = np.unique(data.posterior["slope"].values, return_counts=True)
    u = result.u[-1].sel(parameter="slope").values
    assert set(draws) == {u[3], u[8]}
    assert counts.sum() == 40
    assert counts[draws == u[3]][0] == 30
    again = ek.to_arviz(weighted, rng=1)
    np.testing.assert_array_equal(again.posterior["slope"], data.posterior["slope"])


def test_other_iterations(result):
    data = ek.to_arviz(result, iteration=1)
    np.testing.assert_array_equal(data.posterior["slope"][0], result.u[1].sel(parameter="slope"))


@pytest.mark.parametrize(
    ("given", "options", "error", "message"),
    [
        ("result", {"iteration": 99}, ValueError, "iteration: must be one of those stored"),
        ("nothing", {}, ValueError, "result: must be at least one result"),
        ("part", {}, ValueError, "result: must be the Dataset that ek.run returns"),
    ],
)
def test_bad_arguments_are_named(result, given, options, error, message):
    made = {"result": result, "nothing": [], "part": result[["t", "step"]]}[given]
    with pytest.raises(error, match=message):
        ek.to_arviz(made, **options)
