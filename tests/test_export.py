"""What ArviZ is given, and that the ArviZ that is installed can work with it."""

from importlib.metadata import version

import matplotlib as mpl

mpl.use("Agg")

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import stats

import ekitools as ek

ARVIZ = int(version("arviz").split(".")[0])


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


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
    np.testing.assert_array_equal(data.predictions["y"][0], result.g[-1])
    np.testing.assert_array_equal(data.sample_stats["misfit"][0], result.misfit[-1])
    np.testing.assert_array_equal(data.observed_data["y"], result.y)
    assert posterior.attrs["status_code"] == "posterior_reached"


def test_summaries_and_plots_of_arviz(result):
    data = ek.to_arviz(result)
    summary = az.summary(data, kind="stats")
    mean = float(result.u[-1].sel(parameter="slope").mean())
    assert float(summary.loc["slope", "mean"]) == pytest.approx(mean, abs=0.01)
    az.plot_forest(data)
    az.plot_trace(data)
    az.plot_pair(data)


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
    options = {"n_members": 40, "rng": 0, "evaluate_final": False, "on_failure": "drop"}
    result = ek.run(failing, ek.EKI(ek.FixedStep(0.5)), **options)
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


def test_a_first_ensemble_that_is_not_the_prior_is_no_group(result):
    assert not hasattr(ek.to_arviz(result.assign_attrs(start="method")), "prior")
    assert hasattr(ek.to_arviz(result.assign_attrs(start="ensemble")), "prior")
    assert not hasattr(ek.to_arviz(result.isel(iteration=[-1])), "prior")


def test_names_with_a_slash_are_labels_of_one_variable(linear):
    names = [f"w/bias {i}" for i in range(4)]
    named = ek.InverseProblem(
        linear.model, linear.prior, linear.noise, linear.data, parameter_names=names
    )
    result = ek.run(named, ek.EKI(), n_members=20, rng=0)
    tree = ek.to_arviz(result)
    assert tree.posterior["u"].parameter.values.tolist() == names
    np.testing.assert_array_equal(tree.posterior["u"][0], result.u[-1])
    assert len(ek.plot_arviz(result, "forest")) >= 1


def test_other_iterations(result):
    data = ek.to_arviz(result, iteration=1)
    np.testing.assert_array_equal(data.posterior["slope"][0], result.u[1].sel(parameter="slope"))


@pytest.mark.parametrize(
    ("given", "options", "error", "message"),
    [
        ("result", {"iteration": 99}, ValueError, "iteration: must be a stored iteration"),
        ("nothing", {}, ValueError, "result: must be at least one result"),
        ("part", {}, ValueError, "result: must be the Dataset that ek.run returns"),
    ],
)
def test_bad_arguments_are_named(result, given, options, error, message):
    made = {"result": result, "nothing": [], "part": result[["t", "step"]]}[given]
    with pytest.raises(error, match=message):
        ek.to_arviz(made, **options)


@pytest.fixture(scope="module")
def linear():
    return ek.problems.linear(p=4, d=12, rng=1).problem


@pytest.fixture(scope="module")
def drawn_from(linear):
    return ek.run(linear, ek.EKI(ek.FixedStep(0.25)), n_members=60, rng=0)


@pytest.mark.parametrize("kind", ["forest", "pair", "rank", "trace"])
def test_arviz_draws_it_whatever_its_generation(kind, linear):
    runs = [ek.run(linear, ek.EKI(), n_members=30, rng=seed) for seed in range(2)]
    axes = ek.plot_arviz(runs, kind, parameters=["u3", "u0"])
    assert len(axes) >= 1
    assert len({id(ax.figure) for ax in axes}) == 1
    figure = axes[0].figure
    figure.canvas.draw()
    texts = " ".join(text.get_text() for text in figure.findobj(mpl.text.Text))
    assert "u3" in texts
    assert "u1" not in texts


SHAPES = [("forest", 2, ()), ("rank", 2, (2,)), ("rank", 1, ()), ("trace", 2, (2, 2)),
          ("pair", 2, ()), ("pair", 3, (2, 2))]  # fmt: skip


@pytest.mark.parametrize(("kind", "k", "shape"), SHAPES)
def test_arviz_draws_where_it_is_told_to_if_it_can(kind, k, shape, drawn_from):
    axes = plt.subplots(*(shape or (1,)), squeeze=True)[1]
    before = plt.get_fignums()
    names = [f"u{i}" for i in range(k)]
    if ARVIZ >= 1:
        with pytest.raises(ValueError, match="ax: must be None with ArviZ .* ek.plot_pairs"):
            ek.plot_arviz(drawn_from, kind, ax=axes, parameters=names)
        return
    figure = np.ravel(axes)[0].figure
    drawn = ek.plot_arviz(drawn_from, kind, ax=axes, parameters=names)
    assert drawn.tolist() == figure.axes
    assert all(ax.has_data() for ax in drawn)
    assert plt.get_fignums() == before
    with pytest.raises(ValueError, match=rf'ax: must be an array of .* Axes for "{kind}" of {k} '):
        ek.plot_arviz(drawn_from, kind, ax=figure.subplots(7), parameters=names)
    with pytest.raises(ValueError, match=r"got \(7,\)\. Use plt\.subplots\([1-3].*\)\[1\]\.$"):
        ek.plot_arviz(drawn_from, kind, ax=figure.subplots(7), parameters=names)
    with pytest.raises(TypeError, match="ax: must be one matplotlib Axes, .* got Figure"):
        ek.plot_arviz(drawn_from, kind, ax=figure, parameters=names)


def test_arviz_is_asked_for_nothing_that_it_does_not_have(drawn_from):
    with pytest.raises(ValueError, match="kind: must be .forest., .pair., .rank. or .trace., got"):
        ek.plot_arviz(drawn_from, "posterior")
    with pytest.raises(ValueError, match='must be two or more for "pair", got 1. Use "trace"'):
        ek.plot_arviz(drawn_from, "pair", parameters=["u0"])
