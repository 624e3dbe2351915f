"""Predictions: closed forms, noise of every kind, other models, and runs that fail."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats
from zoo.results import linear_problem, result_of

import ekitools as ek

SEEDS = range(5)
TIMES = np.array([0.5, 1.0, 2.0])


def line(u):
    return u[0] + u[1] * TIMES


def lines(u, inputs):
    return (u[..., :1] + u[..., 1:] * inputs[:, 0]).reshape(*u.shape[:-1], -1)


class OnlyElsewhere:
    """A model that fails in the process that made it, so that runs are seen to be elsewhere."""

    vectorized = stochastic = False

    def __init__(self):
        self.home = os.getpid()

    def __call__(self, u):
        assert os.getpid() != self.home
        return np.array([u.sum()])


@pytest.fixture(scope="module")
def problem():
    return ek.InverseProblem(
        line, ek.GaussianPrior([0.0, 0.0], 1.0), 0.04, [1.0, 1.6, 3.1], data_names=TIMES
    )


@pytest.fixture(scope="module")
def result(problem):
    return ek.run(problem, ek.EKI(), n_members=100, rng=0)


@pytest.fixture(scope="module")
def uneven():
    """Data with different standard deviations, correlated."""
    return result_of(linear_problem())


def repeated(result, n):
    """The last ensemble, its members repeated until there are n."""
    members = np.arange(n)
    last = result.isel(iteration=[-1], member=members % result.sizes["member"])
    return last.assign_coords(member=members)


# --------------------------------------------------------------------------- stored outputs


def test_without_noise_they_are_the_stored_outputs(result):
    predicted = ek.predict(result, noise=False)
    np.testing.assert_array_equal(predicted, result.g[-1])
    assert predicted.dims == ("draw", "data")
    assert predicted["data"].values.tolist() == TIMES.tolist()
    assert predicted.attrs["noise"] == "none"
    assert (predicted.attrs["n_draws"], predicted.attrs["n_failed"]) == (100, 0)
    assert predicted.attrs["posterior"] == 1


def test_the_predictive_distribution_of_a_linear_gaussian_problem():
    """u ~ N(0, 1), y = u + N(0, 1) = 2: what is measured next is N(1, 3/2)."""
    problem = ek.InverseProblem(ek.LinearModel([[1.0]]), ek.GaussianPrior(0.0, [1.0]), 1.0, [2.0])
    n, exact = 4000, stats.norm(1, np.sqrt(1.5))
    z = []
    for seed in SEEDS:
        result = ek.run(problem, ek.EKI(), n_members=n, rng=seed)
        y = ek.predict(result, rng=seed).values[:, 0]
        z.append([(y.mean() - 1) / np.sqrt(1.5 / n), (y.var() - 1.5) / (1.5 * np.sqrt(2 / n)),
                  (np.mean(y < exact.ppf(0.05)) - 0.05) / np.sqrt(0.05 * 0.95 / n)])  # fmt: skip
    assert np.abs(z).max() < 5


def test_noise_is_independent_unless_it_is_given(uneven):
    """Stored standard deviations give the right marginals; the noise itself the covariance too."""
    problem = linear_problem()
    cov = problem.noise.cov
    many = repeated(uneven, 6000)
    g = ek.predict(many, noise=False).values
    n = len(g)
    for noise, expected in ((True, np.diag(np.diag(cov))), (problem.noise, cov), (cov, cov)):
        eta = ek.predict(many, noise=noise, rng=3).values - g
        found = eta.T @ eta / n
        error = np.sqrt((expected**2 + np.outer(np.diag(cov), np.diag(cov))) / n)
        assert np.abs((found - expected) / error).max() < 5
    off = np.abs(cov - np.diag(np.diag(cov)))
    assert (off / error).max() > 10  # the correlation would be seen


def test_draws_belong_to_those_of_the_posterior():
    result = result_of(linear_problem(), failed=[(3, 2)], dropped=[5])
    weight = np.random.default_rng(0).dirichlet(np.ones(20), size=4)
    for each in (result, result.assign(weight=(("iteration", "member"), weight))):
        u = ek.posterior(each, rng=8).to_array().values.T
        g = ek.predict(each, noise=False, rng=8)
        np.testing.assert_allclose(g, u @ linear_problem().model.matrix.T)
    joined = ek.predict([result, result_of(linear_problem(), seed=2)], noise=False)
    assert joined.sizes["draw"] == 38


def test_outputs_that_are_not_known():
    result = result_of(linear_problem(), last_evaluated=False)
    with pytest.raises(ValueError, match="iteration: must be an evaluated iteration, got 3"):
        ek.predict(result)
    assert ek.predict(result, linear_problem().model, noise=False).sizes["draw"] == 20
    assert ek.predict(result, iteration=2).sizes["draw"] == 20


# ------------------------------------------------------------------------------ other models


def test_a_model_is_run_at_every_draw(problem, result):
    predicted = ek.predict(result, problem.model, noise=False)
    np.testing.assert_allclose(predicted, result.g[-1], rtol=1e-12)
    assert predicted["data"].values.tolist() == ["y0", "y1", "y2"]


def test_new_times(result):
    later = np.arange(5.0)
    predicted = ek.predict(result, lambda u: u[0] + u[1] * later, noise=False, data_names=later)
    u = ek.posterior(result)
    np.testing.assert_allclose(predicted.sel(data=3.0), u.u0 + 3 * u.u1)
    unnamed = ek.predict(result, lambda u: u[0] + u[1] * later)
    assert unnamed["data"].values.tolist() == [f"y{i}" for i in range(5)]
    spread = (unnamed.values - predicted.values).std(axis=0)
    np.testing.assert_allclose(spread, 0.2, rtol=5 / np.sqrt(2 * 100))


def test_inputs(result):
    inputs = np.array([[0.0], [4.0]])
    model = ek.FunctionModel(lines, takes_inputs=True)
    vectorized = ek.FunctionModel(lines, takes_inputs=True, vectorized=True)
    u = ek.posterior(result)
    for each in (model, vectorized):
        predicted = ek.predict(result, each, noise=False, inputs=inputs)
        np.testing.assert_allclose(predicted[:, 1], u.u0 + 4 * u.u1)
    with pytest.raises(TypeError, match="inputs: must be given"):
        ek.predict(result, model)
    with pytest.raises(TypeError, match="inputs: must be None for FunctionModel"):
        ek.predict(result, line, inputs=inputs)
    with pytest.raises(ValueError, match="inputs: must be None without a model"):
        ek.predict(result, inputs=inputs)
    with pytest.raises(ValueError, match="data_names: must be None without a model"):
        ek.predict(result, data_names=TIMES)


def test_a_deterministic_model_is_run_once_for_equal_draws(result):
    weight = np.zeros((result.sizes["iteration"], 100))
    weight[:, :4] = 0.25, 0.5, 0.125, 0.125
    calls = []

    def counted(u):
        calls.append(1)
        return line(u)

    model = ek.FunctionModel(counted)
    few = result.assign(weight=(("iteration", "member"), weight))
    predicted = ek.predict(few, model, noise=False, data_names=TIMES)
    assert (len(calls), predicted.sizes["draw"]) == (4, 100)
    u = ek.posterior(few)
    np.testing.assert_allclose(predicted[:, 2], u.u0 + 2 * u.u1)


def test_a_stochastic_model_has_a_stream_for_each_draw(result):
    model = ek.FunctionModel(lambda u, rng: u[:1] + rng.normal(size=1), stochastic=True)
    some = result.isel(member=slice(20))
    predicted = ek.predict(some, model, noise=False, rng=1)
    assert len(np.unique(predicted.values - ek.posterior(some).u0.values[:, None])) == 20
    with ThreadPoolExecutor(3) as pool:
        again = ek.predict(some, model, noise=False, rng=1, executor=pool)
    xr.testing.assert_identical(again, predicted)


def test_every_run_is_made_by_the_executor(result):
    some = result.isel(member=slice(8))
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        predicted = ek.predict(some, OnlyElsewhere(), noise=False, executor=pool)
    np.testing.assert_allclose(predicted[:, 0], some.u[-1].sum("parameter"))
    with pytest.raises(ek.RunError, match="AssertionError"):
        ek.predict(some, OnlyElsewhere(), noise=False)


def test_draws_whose_run_fails_are_left_out_and_counted(result):
    u = ek.posterior(result)
    middle = float(u.u0.median())

    def fragile(each):
        if each[0] > middle:
            raise ArithmeticError("too large")
        return line(each)

    predicted = ek.predict(result, fragile, noise=False)
    kept = u.isel(draw=u.u0.values <= middle)
    np.testing.assert_allclose(predicted[:, 0], kept.u0 + 0.5 * kept.u1)
    assert (predicted.attrs["n_draws"], predicted.attrs["n_failed"]) == (50, 50)
    assert predicted.draw.values.tolist() == list(range(50))


def test_a_model_that_always_fails(result):
    def broken(u):
        raise ArithmeticError("no flow")

    with pytest.raises(ek.RunError, match=r"got 10 failures in 10 runs.*no flow.*test_predict"):
        ek.predict(result, broken)
    with pytest.raises(ek.RunError, match="got 100 failures in 100 runs"):
        ek.predict(result, broken, data_names=["a"])
    with pytest.raises(ek.RunError, match="must return d = 2 numbers"):
        ek.predict(result, line, data_names=["a", "b"])


def test_a_model_of_other_parameters(result):
    with pytest.raises(ValueError, match="model: must have the 2 parameters"):
        ek.predict(result, ek.LinearModel(np.eye(3)))


def test_parameters_are_given_by_name():
    observed = xr.DataArray([1.0, 2.0, 0.5], {"day": [1, 2, 4]}, name="dose", attrs={"units": "mg"})

    def decay(p, days=(1, 2, 4)):
        days = xr.DataArray(list(days), {"day": list(days)}, dims="day")
        return p.start - p.rate * days

    model = ek.XarrayModel(decay, ["start", "rate"], observed)
    problem = ek.InverseProblem(model, ek.GaussianPrior([1.0, 0.2], 0.1), 0.01, model.data)
    result = ek.run(problem, ek.EKI(), n_members=30, rng=0)
    turned = result.isel(parameter=[1, 0])
    predicted = ek.predict(turned, model, noise=False)
    u = ek.posterior(result)
    assert (predicted.name, predicted.dims, predicted.attrs["units"]) == (
        "dose", ("draw", "day"), "mg"
    )  # fmt: skip
    np.testing.assert_allclose(predicted.sel(day=4), u.start - 4 * u.rate)
    new = xr.DataArray([np.nan, 0.0], {"day": [8, 16]}, name="dose")
    later = ek.XarrayModel(lambda p: decay(p, (8, 16)), ["rate", "start"], new)
    predicted = ek.predict(result, later, noise=False)
    np.testing.assert_allclose(predicted.sel(day=16), u.start - 16 * u.rate)
    assert predicted.sel(day=8).isnull().all()
    xr.testing.assert_allclose(
        model.unflatten(ek.predict(result, noise=False)), ek.predict(result, model, noise=False)
    )


# -------------------------------------------------------------------------- noise at new data


def test_noise_that_differs_goes_by_label_or_number(uneven):
    A = linear_problem().model.matrix
    sd = uneven.noise_sd.values
    names = ["y3", "y0", "y4", "y2", "y1"]
    order = [3, 0, 4, 2, 1]
    many = repeated(uneven, 4000)
    model = ek.FunctionModel(lambda u: u @ A[order].T, vectorized=True)
    for options, expected in (({"data_names": names}, sd[order]), ({}, sd)):
        g = ek.predict(many, model, False, **options)
        eta = ek.predict(many, model, **options) - g
        np.testing.assert_allclose(eta.std("draw"), expected, rtol=5 / np.sqrt(2 * 4000))


@pytest.mark.parametrize(
    ("rows", "options"),
    [([0, 1], {}), ([0, 1, 2, 3, 4], {"data_names": list("abcde")}), ([0], {"data_names": ["y0"]})],
)
def test_noise_at_other_data_is_not_guessed(uneven, rows, options):
    A = linear_problem().model.matrix[rows]
    calls = []

    def model(u):
        calls.append(1)
        return A @ u

    with pytest.raises(ValueError, match="noise: must be given for . outputs that are not the 5"):
        ek.predict(uneven, model, **options)
    assert len(calls) <= 1  # the one that counts the outputs
    for noise in (False, ek.GaussianNoise(0.1), np.full(len(rows), 0.1)):
        assert ek.predict(uneven, model, noise, **options).shape == (20, len(rows))
    with pytest.raises(ValueError, match=f"noise: must be for the {len(rows)} outputs"):
        ek.predict(uneven, model, np.full(7, 0.1), **options)


def test_noise_that_differs_is_not_for_new_inputs():
    result = result_of(linear_problem())
    model = ek.FunctionModel(lambda u, inputs: u.sum() + inputs, takes_inputs=True)
    with pytest.raises(ValueError, match="noise: must be given for 5 outputs"):
        ek.predict(result, model, inputs=np.arange(5.0))


def test_a_loss_is_no_noise(problem):
    robust = ek.InverseProblem(line, problem.prior, ek.Huber(0.2), problem.data)
    result = ek.run(robust, ek.LossEKI(), n_members=20, n_steps=3, rng=0)
    with pytest.raises(ValueError, match=r"noise: must be False for a result of a loss \(Huber\)"):
        ek.predict(result)
    predicted = ek.predict(result, noise=False)
    assert predicted.attrs["posterior"] == 0
    assert ek.predict(result, noise=0.04).attrs["noise"] == "of the GaussianNoise given"


@pytest.mark.parametrize("noise", ["yes", None, 0, -1.0])
def test_what_is_no_noise(result, noise):
    with pytest.raises((TypeError, ValueError), match="^noise: "):
        ek.predict(result, noise=noise)


def test_single_precision_stays(result):
    single = result.assign(u=result.u.astype(np.float32), g=result.g.astype(np.float32))
    assert ek.predict(single).dtype == np.float32
    assert ek.predict(single, line).dtype == np.float32


def test_a_prediction_can_be_saved(result, tmp_path):
    predicted = ek.predict(result)
    predicted.to_netcdf(tmp_path / "p.nc")
    with xr.open_dataarray(tmp_path / "p.nc") as read:
        xr.testing.assert_identical(read.load(), predicted)


@pytest.mark.parametrize("vectorized", [False, True])
def test_a_model_of_blocks_predicts_blocks(vectorized):
    """New outputs by block, with their coordinates; noise is that of all data or none."""
    later = pd.date_range("2001-01-01", periods=3, name="time")

    def one(u):
        path = u[0] + u[1] * np.arange(3.0)
        return {"path": path if vectorized else pd.Series(path, later), "end": u[1]}

    def together(u):
        return {"path": u[:, :1] + u[:, 1:] * np.arange(3.0), "end": u[:, 1]}

    problem = ek.InverseProblem(
        one, ek.GaussianPrior([0.0, 0.0], 1.0), 0.1, one(np.array([1.0, 2.0]))
    )
    result = ek.run(problem, ek.EKI(), n_members=20, rng=0)
    model = ek.FunctionModel(together, vectorized=True) if vectorized else one
    predicted = ek.predict(result, model, noise=False)
    np.testing.assert_allclose(predicted, result.g[-1])
    assert predicted.block.values.tolist() == ["path"] * 3 + ["end"]
    assert ("time" in predicted.coords) is not vectorized
    assert predicted["data"].values.tolist() == result["data"].values.tolist()
    assert ek.predict(result, model).shape == (20, 4)
