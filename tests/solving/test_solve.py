"""`solve`: verdicts against posteriors that are known, budgets, randomness, and what it refuses."""

import json
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor

import numpy as np
import pytest
import xarray as xr

import ekitools as ek
from ekitools.solving.stages import facts_of

LINEAR = ek.problems.linear(p=3, d=8)


class Breaking(ThreadPoolExecutor):
    """An executor that breaks down after some tasks."""

    tasks = 0

    def submit(self, *args, **kwargs):
        self.tasks += 1
        if self.tasks > 400:
            raise BrokenExecutor("a worker died")
        return super().submit(*args, **kwargs)


class Counted:
    """A vectorized model that counts its runs, and fails where ``fails`` says so."""

    def __init__(self, function, fails=None):
        self.function, self.fails, self.runs = function, fails, 0

    def __call__(self, u):
        self.runs += len(u)
        g = np.array(self.function(u), dtype=float)
        if self.fails is not None:
            g[self.fails(u)] = np.nan
        return g


def squared(u):
    return u**2 + 0.3 * u


def problem_of(function, data, variance, p=1, fails=None):
    counted = Counted(function, fails)
    model = ek.FunctionModel(counted, vectorized=True)
    prior = ek.GaussianPrior(np.zeros(p), 1.0)
    return ek.InverseProblem(model, prior, variance, data), counted


def path(result):
    return json.loads(result.attrs["path"])


def test_a_linear_problem_is_confirmed_after_one_check():
    result = ek.solve(LINEAR.problem, rng=0)
    assert result.attrs["verdict"] == "confirmed"
    assert result.attrs["posterior"] == 1
    assert result.attrs["n_runs"] < 3000
    assert [line.split(":")[0] for line in path(result)] == [
        "Begin at the prior. GNKI with 200 members",
        "The ensemble has to be checked. Check by importance weights of 400 draws",
        "The posterior is confirmed.",
    ]
    draws = ek.posterior(result).to_dataarray().values
    sd = np.sqrt(np.diag(LINEAR.extra["cov"]))
    error = (draws.mean(axis=1) - LINEAR.extra["mean"]) / sd
    assert np.abs(error).max() < 4 / np.sqrt(200)


def test_two_modes_are_found_by_a_sample_that_a_mixture_confirms():
    """u² + 0.3 u = 1 with the noise 0.1; the truth is by quadrature."""
    problem, _ = problem_of(squared, [1.0], 0.01)
    result = ek.solve(problem, rng=0)
    assert result.attrs["verdict"] == "confirmed"
    assert any("TemperedSMC" in line for line in path(result))
    grid = np.linspace(-4, 4, 100_001)
    log_density = -0.5 * ((squared(grid) - 1) / 0.1) ** 2 - 0.5 * grid**2
    weight = np.exp(log_density - log_density.max())
    share = weight[grid > 0].sum() / weight.sum()
    found = (ek.posterior(result).u0.values > 0).mean()
    n = ek.posterior(result).sizes["draw"]
    assert abs(found - share) < 4 * np.sqrt(share * (1 - share) / n) + 0.05
    assert "posterior was confirmed" in ek.summary(result).trust.sentence


def test_what_no_stage_can_confirm_is_not_confirmed():
    """Data that the model cannot produce."""
    problem, _ = problem_of(lambda u: np.tanh(u), [4.0], 0.01)
    result = ek.solve(problem, budget=600, rng=0)
    assert result.attrs["verdict"] == "not confirmed"
    assert result.attrs["status_level"] != "good"
    assert result.attrs["status"].startswith("Not confirmed by model runs")
    assert result.attrs["advice"].startswith("With ten times the runs, ek.solve(problem, budget=6")
    assert ek.summary(result).end == "last ensemble"


@pytest.mark.parametrize("budget", [500, 1234, 3000, 12_000])
@pytest.mark.parametrize("fails", [None, lambda u: u[:, 0] < 0.2])
def test_the_budget_is_never_exceeded_and_all_runs_are_counted(budget, fails):
    problem, counted = problem_of(squared, [1.0], 1e-4, fails=fails)
    result = ek.solve(problem, budget=budget, rng=1)
    assert counted.runs <= budget
    assert result.attrs["n_runs"] >= counted.runs  # equal draws of an emulator share a run
    assert result.attrs["n_runs"] <= budget


def test_a_model_that_hardly_runs_ends_with_the_reason():
    problem, counted = problem_of(squared, [1.0], 0.01, fails=lambda u: u[:, 0] < 1.5)
    with pytest.raises(ek.RunError, match="within the budget of 250 model runs"):
        ek.solve(problem, budget=500, rng=0)
    assert counted.runs <= 250


def test_a_model_that_breaks_down_on_the_way_ends_with_the_reason():
    """It fails everywhere once the prior was seen: no stage gives a result."""
    problem, counted = problem_of(squared, [1.0], 0.01)
    counted.fails = lambda u: np.full(len(u), counted.runs > 100)
    with pytest.raises(ek.RunError, match=r"no stage made a result\. .*Reason, 50 of 50"):
        ek.solve(problem, budget=1200, rng=0)


def test_an_executor_that_breaks_down_is_an_error_and_no_stage_that_failed():
    problem = ek.InverseProblem(
        ek.FunctionModel(squared), ek.GaussianPrior([0.0], 1.0), 0.01, [1.0]
    )
    with Breaking(2) as executor, pytest.raises(ek.RunError, match="a worker died") as error:
        ek.solve(problem, budget=3000, rng=0, executor=executor)
    assert error.value.result.sizes["iteration"] > 1


def test_the_result_depends_on_the_seed_alone():
    model = ek.FunctionModel(squared)
    problem = ek.InverseProblem(model, ek.GaussianPrior([0.0], 1.0), 0.09, [1.0])
    first = ek.solve(problem, rng=3)
    with ThreadPoolExecutor(3) as executor:
        second = ek.solve(problem, rng=3, executor=executor)
    assert first.u.equals(second.u)
    assert first.attrs["path"] == second.attrs["path"]
    assert any("TemperedSMC" in line for line in path(first))
    assert ek.solve(problem, budget=1000, rng=4).attrs["path"] != first.attrs["path"]


def test_a_loss_is_sampled_from_the_prior():
    """Softened squares; the truth is by quadrature."""
    model = ek.FunctionModel(lambda u: np.stack([u[:, 0], u[:, 0] ** 2], axis=1), vectorized=True)
    prior = ek.GaussianPrior([0.0], 1.0)
    problem = ek.InverseProblem(model, prior, ek.Huber(0.2), [1.0, 0.8])
    result = ek.solve(problem, rng=0)
    assert path(result)[0].startswith("Begin at the prior. TemperedSMC")
    assert result.attrs["verdict"] == "confirmed"
    grid = np.linspace(-5, 5, 20_001)[:, None]
    level = -problem.noise.misfit(model(grid), problem.data) - 0.5 * grid[:, 0] ** 2
    weight = np.exp(level - level.max())
    weight /= weight.sum()
    mean = weight @ grid[:, 0]
    sd = np.sqrt(weight @ (grid[:, 0] - mean) ** 2)
    draws = ek.posterior(result).u0
    assert abs(float(draws.mean()) - mean) < 4 * sd / np.sqrt(draws.size / 2)


def test_more_parameters_than_members_are_not_confirmed():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((20, 400)) / 20
    prior = ek.GaussianPrior(np.zeros(400), 1.0)
    problem = ek.InverseProblem(ek.LinearModel(A), prior, 0.01, A @ rng.standard_normal(400))
    result = ek.solve(problem, budget=2000, rng=0)
    assert path(result)[0].startswith("Begin at the prior. ETKI with 66 members and localization")
    assert result.attrs["verdict"] == "not confirmed"
    assert "starts with GNKI" in result.attrs["advice"]


def test_fields_with_places_are_localized_by_distance():
    prior = ek.GaussianRandomField((8, 8), parameters="values")
    points = prior.points[::7]
    data = xr.DataArray(
        np.zeros(len(points)),
        dims="well",
        coords={"x": ("well", points[:, 0]), "y": ("well", points[:, 1])},
    )
    model = ek.FunctionModel(lambda u: u[:, ::7], vectorized=True)
    problem = ek.InverseProblem(model, prior, 0.01, data)
    assert facts_of(problem).located
    assert not facts_of(LINEAR.problem).located


def test_all_readers_show_the_verdict_and_the_path(tmp_path):
    result = ek.solve(LINEAR.problem, budget=2000, rng=0)
    for text in (
        str(ek.summary(result)),
        ek.report(result, tmp_path / "a.html").read_text("utf-8"),
    ):
        assert "Begin at the prior. GNKI with 50 members" in text
        assert "The posterior is confirmed." in text
        assert result.attrs["advice"] in text
    assert ek.summary(result).end == "posterior"
    assert ek.posterior(result).attrs["verdict"] == "confirmed"
    result.to_netcdf(tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc") as read:
        assert str(ek.summary(read)) == str(ek.summary(result))


def test_progress_prints_a_line_for_each_stage(capsys):
    result = ek.solve(LINEAR.problem, budget=2000, rng=0, progress=True)
    err = capsys.readouterr().err
    for number, line in enumerate(path(result)):
        assert f"{number + 1}. {line}" in err


def test_a_stochastic_model_is_not_emulated():
    noisy = ek.FunctionModel(lambda u, rng: u + 0.1 * rng.standard_normal(1), stochastic=True)
    problem = ek.InverseProblem(noisy, ek.GaussianPrior([0.0], 1.0), 0.02, [1.0])
    assert not facts_of(problem).emulates
    result = ek.solve(problem, budget=1000, rng=0)
    assert result.attrs["verdict"] in ("confirmed", "corrected", "not confirmed")


def test_parts_of_the_data_are_refused():
    x = np.linspace(0, 1, 8)[:, None]
    model = ek.FunctionModel(lambda u, inputs: inputs @ u, takes_inputs=True)
    batches = ek.MiniBatches(x, x, 4)
    problem = ek.InverseProblem(model, ek.GaussianPrior([0.0], 1.0), 0.01, batches)
    with pytest.raises(TypeError, match=r"all its data at once for ek\.solve"):
        ek.solve(problem)


@pytest.mark.parametrize("budget", [499, 2.5, "many", True])
def test_a_wrong_budget_is_refused_before_any_run(budget):
    problem, counted = problem_of(squared, [1.0], 0.01)
    with pytest.raises((TypeError, ValueError), match="budget"):
        ek.solve(problem, budget=budget)
    assert counted.runs == 0
