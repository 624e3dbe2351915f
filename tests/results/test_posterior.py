"""Draws by name: closed forms, weights, lost members, layouts, and what the attributes say."""

from __future__ import annotations

import json
from importlib.metadata import version

import arviz as az
import numpy as np
import pytest
import xarray as xr
from scipy import stats
from zoo.results import linear_problem, result_of

import ekitools as ek
from ekitools.results.posterior import draws_of

SEEDS = range(5)


def scalar(**options):
    """u ~ N(0, 1), y = u + N(0, 1) = 2: the posterior is N(1, 1/2)."""
    return ek.InverseProblem(
        ek.LinearModel([[1.0]]), ek.GaussianPrior(0.0, [1.0]), 1.0, [2.0], **options
    )


@pytest.fixture(scope="module")
def result():
    return result_of(linear_problem(), failed=[(3, 4)], dropped=[7])


def weighted(result, seed=0):
    """The result with uneven weights at every iteration."""
    shape = (result.sizes["iteration"], result.sizes["member"])
    weight = np.random.default_rng(seed).dirichlet(np.full(shape[1], 0.5), size=shape[0])
    return result.assign(weight=(("iteration", "member"), weight))


# ------------------------------------------------------------------------------- closed forms


def test_quantiles_of_a_linear_gaussian_problem():
    problem, n = scalar(parameter_names=["rate"]), 4000
    exact = stats.norm(1, np.sqrt(0.5))
    levels = np.array([0.05, 0.5, 0.95])
    ends = exact.ppf(levels)
    # of a sample quantile: sqrt(q(1 − q)/n)/density
    error = np.sqrt(levels * (1 - levels) / n) / exact.pdf(ends)
    z = []
    for seed in SEEDS:
        result = ek.run(problem, ek.EKI(), n_members=n, rng=seed)
        found = ek.posterior(result).rate.quantile(levels, "draw").values
        table = ek.intervals(result).loc["rate", ["low", "median", "high"]]
        np.testing.assert_allclose(table, found, rtol=1e-12)
        z.append((found - ends) / error)
    # all members share one estimated gain: over 20 seeds z had standard deviations of 0.8 to 1.5
    assert np.abs(z).max() < 5
    assert np.all(np.abs(np.mean(z, axis=0)) < 3 * 1.5 / np.sqrt(len(z)))


def test_weights_are_resolved():
    """Plain statistics of the draws are the weighted ones of the members."""
    problem = linear_problem()
    for seed in SEEDS:
        result = weighted(ek.run(problem, ek.EKI(), n_members=2000, rng=seed), seed)
        u, w = result.u[-1].values, result.weight[-1].values
        mean = w @ u
        sd = np.sqrt(w @ (u - mean) ** 2)
        named = ek.posterior(result, rng=seed)
        assert named.sizes["draw"] == 2000
        found = named.to_array().values
        # systematic resampling: every member is drawn n w times, to within one
        counts = np.array([np.sum(found[0] == x) for x in u[:, 0]])
        assert np.all(np.abs(counts - 2000 * w) < 1)
        assert np.all(np.abs(found.mean(axis=1) - mean) < 0.02 * sd)
        for i in range(3):
            order = np.argsort(u[:, i])
            cumulative = np.cumsum(w[order])
            for level in (0.05, 0.5, 0.95):
                low, high = (
                    u[order[np.searchsorted(cumulative, level + shift)], i]
                    for shift in (-0.01, 0.01)
                )
                assert low <= np.quantile(found[i], level) <= high
        assert np.abs(found.mean(axis=1) - u.mean(axis=0)).max() > 1e-3  # they do differ


def test_a_weighted_interval_is_that_of_the_weights():
    result = weighted(result_of(linear_problem(), n_members=200))
    u, w = result.u[-1].values, result.weight[-1].values
    table = ek.intervals(result, 0.8)
    for i, name in enumerate(table.index):
        order = np.argsort(u[:, i])
        cumulative = np.cumsum(w[order])
        for column, level in (("low", 0.1), ("median", 0.5), ("high", 0.9)):
            by_hand = u[order[np.searchsorted(cumulative, level)], i]
            assert table.loc[name, column] == by_hand


def test_the_particles_of_a_sampler():
    result = ek.run(scalar(parameter_names=["rate"]), ek.TemperedSMC(), n_members=1000, rng=0)
    rate = ek.posterior(result).rate
    assert abs(float(rate.mean()) - 1) < 0.15
    assert ek.posterior(result).attrs["posterior"] == 1
    np.testing.assert_array_equal(rate, ek.posterior(result).rate)  # a seed of its own


# -------------------------------------------------------------------------- which members


def test_failed_and_dropped_members_are_left_out(result):
    named = ek.posterior(result)
    kept = [j for j in range(20) if j not in (4, 7)]
    assert (named.attrs["n_draws"], named.attrs["n_lost"]) == (18, 2)
    for name in ("u0", "u1", "u2"):
        np.testing.assert_array_equal(named[name], result.u[-1].sel(parameter=name)[kept])
    assert named.draw.values.tolist() == list(range(18))


def test_failures_of_a_run():
    calls = []

    def flaky(u):
        calls.append(1)
        if len(calls) > 40 and len(calls) % 7 == 0:
            raise ArithmeticError
        return u

    problem = ek.InverseProblem(flaky, ek.GaussianPrior(0.0, [1.0]), 1.0, [2.0])
    options = {"n_members": 40, "rng": 0, "on_failure": "drop"}
    result = ek.run(problem, ek.EKI(ek.FixedStep(0.5)), **options)
    left = int(np.isfinite(result.misfit[-1]).sum())
    assert ek.posterior(result).sizes["draw"] == left < 40
    assert np.isfinite(ek.posterior(result).u0).all()


def test_nothing_left():
    gone = result_of(linear_problem(), failed=[(3, j) for j in range(20)])
    with pytest.raises(ValueError, match="result: must have members that did not fail at iterat"):
        ek.posterior(gone)
    assert ek.posterior(gone, 2).sizes["draw"] == 20


def test_other_iterations(result):
    first = ek.posterior(result, 0)
    np.testing.assert_array_equal(first.u1, np.delete(result.u[0, :, 1].values, 7))
    with pytest.raises(ValueError, match="iteration: must be a stored iteration"):
        ek.posterior(result, 9)


def test_runs_are_joined_by_label(result):
    problem = linear_problem()
    other = result_of(problem, seed=2).isel(parameter=[2, 0, 1])
    named = ek.posterior([result, other])
    assert named.sizes["draw"] == 38
    np.testing.assert_array_equal(named.u1[18:], other.u[-1].sel(parameter="u1"))
    assert list(named.data_vars) == ["u0", "u1", "u2"]
    with pytest.raises(ValueError, match=r"result\[1\]: must have the same"):
        ek.posterior([result, result_of(linear_problem(p=2))])


@pytest.mark.parametrize("wrong", [None, 3, "result", xr.Dataset(), ["a"]])
def test_what_is_no_result(wrong):
    with pytest.raises((TypeError, ValueError), match=r"^result"):
        ek.posterior(wrong)


# ------------------------------------------------------------------------------ what it says


def test_a_posterior_says_so_and_a_fit_does_not():
    problem = scalar()
    named = ek.posterior(ek.run(problem, ek.EKI(), n_members=50, rng=0))
    assert named.attrs["posterior"] == 1
    assert "approximation of the posterior" in named.attrs["nature"]
    fit = ek.posterior(ek.run(problem, ek.LossEKI(), n_members=50, n_steps=5, rng=0))
    assert fit.attrs["posterior"] == 0
    assert "not a sample of the posterior" in fit.attrs["nature"]
    assert fit.sizes["draw"] == 50


def test_an_ensemble_on_the_way_is_no_posterior():
    result = ek.run(scalar(), ek.EKI(ek.FixedStep(0.25)), n_members=50, rng=0)
    assert ek.posterior(result, 0).attrs["posterior"] == 0
    assert "prior" in ek.posterior(result, 0).attrs["nature"]
    between = ek.posterior(result, 2)
    assert between.attrs["posterior"] == 0
    assert "iteration 2, before the run ended" in between.attrs["nature"]
    joined = ek.posterior([result, result.assign_attrs(posterior=0)])
    assert joined.attrs["posterior"] == 0


def test_units_come_with_the_variables(tmp_path):
    observed = xr.DataArray([1.0, 2.0], {"day": [1, 2]}, name="dose", attrs={"units": "mg"})
    parameters = xr.Dataset({"rate": ((), 0.0, {"units": "1/day"}), "start": 0.0})
    model = ek.XarrayModel(lambda p: p.start - p.rate * observed, parameters, observed)
    problem = ek.InverseProblem(model, ek.GaussianPrior([0.0, 0.0], 1.0), 0.1, model.data)
    result = ek.run(problem, ek.EKI(), n_members=10, rng=0)
    result.to_netcdf(tmp_path / "r.nc")
    with xr.open_dataset(tmp_path / "r.nc") as read:
        for named in (ek.posterior(read), ek.prior_samples(problem, 3, rng=0)):
            assert named.rate.attrs == {"units": "1/day"}
            assert named.start.attrs == {}
    assert ek.predict(result).data_units.values.tolist() == ["mg", "mg"]
    assert "parameter_units" not in ek.intervals(result).columns


def test_a_file_gives_the_same_back(result, tmp_path):
    named = ek.posterior(result)
    named.to_netcdf(tmp_path / "p.nc")
    with xr.open_dataset(tmp_path / "p.nc") as read:
        xr.testing.assert_identical(read.load(), named)
    result.to_netcdf(tmp_path / "r.nc")
    with xr.open_dataset(tmp_path / "r.nc") as read:
        xr.testing.assert_identical(ek.posterior(read), named)


def test_a_data_frame_has_a_column_for_each_parameter(result):
    frame = ek.posterior(result).to_dataframe()
    assert frame.columns.tolist() == ["u0", "u1", "u2"]
    assert frame.index.name == "draw"


def test_labels_that_are_numbers_are_names():
    problem = ek.InverseProblem(
        ek.LinearModel(np.eye(2)), ek.GaussianPrior([0.0, 0.0], 1.0), 1.0, [1.0, 2.0],
        parameter_names=[10, 20],
    )  # fmt: skip
    result = ek.run(problem, ek.EKI(), n_members=10, rng=0)
    assert list(ek.posterior(result).data_vars) == ["10", "20"]
    assert list(ek.prior_samples(problem, 2).data_vars) == ["10", "20"]


def test_single_precision_stays(result):
    single = result.assign(u=result.u.astype(np.float32))
    assert ek.posterior(single).u0.dtype == np.float32


def test_arviz_reads_the_draws(result):
    named = ek.posterior(result).expand_dims("chain")
    if int(version("arviz").split(".")[0]) >= 1:
        table = az.summary(xr.DataTree.from_dict({"posterior": named}), kind="stats")
    else:
        table = az.summary(named, kind="stats")
    assert float(table.loc["u0", "mean"]) == pytest.approx(float(named.u0.mean()), abs=0.01)


# ---------------------------------------------------------------------------------- layouts


@pytest.fixture(scope="module")
def field():
    """A field of six numbers on a grid and a level, observed at two sites."""
    x, depth = [0.5, 1.5, 2.5], ["top", "bottom"]
    permeability = xr.DataArray(np.zeros((3, 2)), {"x": x, "depth": depth}, name="permeability")
    parameters = xr.Dataset({"permeability": permeability, "level": 0.0})

    def flow(p):
        return (p.permeability.sum("depth") + p.level).isel(x=[0, 2]).rename("head")

    observed = xr.DataArray([1.0, 2.0], {"x": [0.5, 2.5]}, name="head")
    model = ek.XarrayModel(flow, parameters, observed)
    problem = ek.InverseProblem(model, ek.GaussianPrior(np.zeros(7), 1.0), 0.1, model.data)
    return problem, ek.run(problem, ek.EKI(), n_members=30, rng=0)


def test_a_field_has_its_own_dimensions(field):
    problem, result = field
    named = ek.posterior(result, model=problem.model)
    assert named.permeability.dims == ("draw", "x", "depth")
    assert named.level.dims == ("draw",)
    at = named.permeability.sel(x=1.5, depth="bottom")
    flat = ek.posterior(result)["permeability(x=1.5, depth=bottom)"]
    np.testing.assert_array_equal(at, flat)
    assert named.attrs == ek.posterior(result).attrs
    prior = ek.prior_samples(problem, 5, model=problem.model, rng=0)
    assert prior.permeability.sizes == {"draw": 5, "x": 3, "depth": 2}


def test_a_layout_goes_by_label(field):
    problem, result = field
    turned = result.isel(parameter=np.arange(7)[::-1])
    expected = ek.posterior(result, model=problem.model)
    xr.testing.assert_identical(ek.posterior(turned, model=problem.model), expected)


def test_one_array_is_a_variable_too(field):
    observed = xr.DataArray([1.0, 2.0], {"x": [0, 1]}, name="head")
    model = ek.XarrayModel(lambda p: p, xr.zeros_like(observed).rename(None), observed.rename("y"))
    problem = ek.InverseProblem(model, ek.GaussianPrior(np.zeros(2), 1.0), 0.1, model.data)
    named = ek.prior_samples(problem, 4, model=model)
    assert [(name, each.dims) for name, each in named.items()] == [("y", ("draw", "x"))]


def test_a_layout_of_other_parameters_is_refused(field, result):
    with pytest.raises(ValueError, match="model: must have the 3 parameters of the result"):
        ek.posterior(result, model=field[0].model)
    with pytest.raises(TypeError, match="model: must be an ek.XarrayModel"):
        ek.posterior(result, model=abs)


# ------------------------------------------------------------------------- tables and priors


def test_the_table_of_intervals(result):
    table = ek.intervals(result, 0.5)
    named = ek.posterior(result)
    assert table.index.name == "parameter"
    assert table.columns.tolist() == [
        *("mean", "sd", "low", "median", "high", "prior_mean", "prior_sd", "sd_ratio")
    ]
    for name in named:
        np.testing.assert_allclose(
            table.loc[name, ["mean", "sd", "low", "median", "high"]],
            [named[name].mean(), named[name].std(ddof=1), *named[name].quantile([0.25, 0.5, 0.75])],
        )
    assert table.prior_mean["u0"] == pytest.approx(float(result.u[0, :, 0].mean()))


def test_columns_say_what_the_start_was(result):
    last = result.isel(iteration=[-1])
    assert ek.intervals(last).columns.tolist() == ["mean", "sd", "low", "median", "high"]
    assert "prior_sd" in ek.intervals(last, problem=linear_problem()).columns
    assert "start_sd" in ek.intervals(result.assign_attrs(start="method")).columns


def test_the_summary_has_the_same_table(result):
    frame, table = ek.summary(result).to_dataframe(), ek.intervals(result, 0.9)
    assert (frame.columns.tolist(), frame.index.name) == (table.columns.tolist(), "parameter")
    np.testing.assert_allclose(frame, table.loc[frame.index], rtol=1e-12)


def test_the_summary_of_many_has_the_first_and_intervals_has_all():
    result = result_of(linear_problem(p=30, d=40), n_members=60)
    assert len(ek.summary(result).to_dataframe()) == 20
    assert len(ek.intervals(result)) == 30


@pytest.mark.parametrize("prob", [0, 1, 90, "90 %"])
def test_a_probability_is_within_0_and_1(result, prob):
    with pytest.raises((TypeError, ValueError), match="prob: must be"):
        ek.intervals(result, prob)


def test_prior_samples_are_in_physical_coordinates():
    prior = ek.Prior({"rate": stats.lognorm(0.5), "share": stats.beta(2, 3)})
    problem = ek.InverseProblem(lambda u: u, prior, 0.1, [1.0, 0.4])
    z = []
    for seed in SEEDS:
        draws = ek.prior_samples(problem, 2000, rng=seed)
        np.testing.assert_array_equal(draws.rate, prior.sample(2000, rng=seed)[:, 0])
        share = stats.beta(2, 3)
        z.append((float(draws.share.mean()) - share.mean()) / (share.std() / np.sqrt(2000)))
    assert np.max(np.abs(z)) < 4
    with pytest.raises(TypeError, match="problem: must be an ek.InverseProblem"):
        ek.prior_samples(prior, 10)
    with pytest.raises(ValueError, match="n: must be at least 1"):
        ek.prior_samples(problem, 0)


def test_old_results_have_draws_too(result):
    """Results of version 0.1.0 do not record what their ensemble is."""
    assert "posterior" not in result.attrs
    named = ek.posterior(result)
    assert named.attrs["posterior"] == 0
    assert "does not record" in named.attrs["nature"]
    json.dumps(named.attrs)


def test_equal_weights_take_nothing_from_the_generator(result):
    rng = np.random.default_rng(0)
    draws_of(result, -1, rng)
    assert rng.random() == np.random.default_rng(0).random()
