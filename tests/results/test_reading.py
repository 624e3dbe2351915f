"""Readers of a result's attributes, with those that are missing, broken or of an old version."""

import json

import numpy as np
import pytest
import xarray as xr
from zoo.results import linear_problem, result_of

import ekitools as ek
from ekitools.results.marginals import first_members, start_of
from ekitools.results.reading import (
    attribute,
    has_noise,
    is_flow,
    method_of,
    model_runs,
    starts_at_prior,
)


@pytest.fixture
def result():
    return result_of(linear_problem())


def test_attributes_are_read_as_json(result, tmp_path):
    failures = [{"iteration": 0, "member": 3, "reason": "too hot"}]
    result.attrs["failures"] = json.dumps(failures)
    result.to_netcdf(tmp_path / "r.nc")
    with xr.open_dataset(tmp_path / "r.nc") as read:
        assert attribute(read, "failures", []) == failures
        assert attribute(read, "seed") == [1]
        assert method_of(read) == {"type": "EKIFlow"}


@pytest.mark.parametrize("text", [None, "null", "[]", '"EKI"', "3"])
def test_what_is_missing_or_of_another_type_is_the_default(result, text):
    del result.attrs["method"]
    if text is not None:
        result.attrs["method"] = text
    assert method_of(result) == {}
    assert attribute(result, "method", {"type": "EKI"}) == {"type": "EKI"}
    assert ek.compare([result], result).label.values.tolist() == ["result"]


@pytest.mark.parametrize("name", ["method", "versions", "problem", "failures"])
def test_an_attribute_that_is_not_json_is_named(result, name):
    result.attrs[name] = "EKI("
    with pytest.raises(ValueError, match=rf"JSON in its attribute \"{name}\", got 'EKI\('. Delete"):
        attribute(result, name)


def test_a_report_of_a_broken_attribute_names_it(result, tmp_path):
    result.attrs["versions"] = "EKI("
    with pytest.raises(ValueError, match='result: must have JSON in its attribute "versions"'):
        ek.report(result, tmp_path / "page.html")


def test_model_runs_are_those_of_the_whole_run_where_they_are_recorded(result):
    assert model_runs(result.assign_attrs(model_runs=np.int64(99))) == 99
    del result.attrs["model_runs"]
    assert model_runs(result) == int(result.history_model_runs[-1])


def test_flows_are_told_from_runs():
    problem = ek.problems.linear(p=2, d=3).problem
    assert is_flow(ek.integrate(problem, ek.EKIFlow(), t_span=(0, 1), n_members=5, rng=0))
    assert not is_flow(ek.run(problem, ek.EKI(), n_members=5, rng=0))


def test_a_loss_is_no_noise_by_its_name_or_in_old_files_by_its_nan(result):
    nan = result.assign(noise_sd=result.noise_sd * np.nan)
    assert has_noise(result)
    assert not has_noise(nan)  # as version 0.1.0 wrote it
    assert has_noise(nan.assign_attrs(aim="fit"))  # noise whose standard deviations are not known
    assert not has_noise(nan.assign_attrs(aim="fit", loss="Huber"))
    assert not has_noise(result.assign_attrs(aim="fit", loss="Huber"))


@pytest.mark.parametrize("loss", [ek.Huber(1.0), 0.1])
def test_a_run_says_whether_it_has_noise(loss):
    linear = ek.problems.linear(p=2, d=3).problem
    problem = ek.InverseProblem(linear.model, linear.prior, loss, linear.data)
    result = ek.run(problem, ek.LossEKI(), n_members=10, n_steps=2, rng=0)
    assert has_noise(result) == (loss == 0.1)
    assert has_noise(result.isel(data=[0], iteration=[-1])) == (loss == 0.1)
    for name in ("coverage", "output_collapse"):
        assert np.isfinite(ek.diagnose(result)[name]).all() == (loss == 0.1)
    expected = ek.diagnose(result).attrs["expected_misfit"]
    assert np.isnan(expected) if loss != 0.1 else expected == 1.5


def test_noise_without_standard_deviations_has_an_expected_misfit_and_no_coverage(result):
    unknown = result.assign(noise_sd=result.noise_sd * np.nan).assign_attrs(aim="fit")
    diagnosis = ek.diagnose(unknown)
    assert diagnosis.attrs["expected_misfit"] == 2.5
    assert diagnosis.coverage.isnull().all()


def test_the_first_ensemble_is_the_prior_unless_the_method_brought_it(result):
    problem = linear_problem()
    last = result.isel(iteration=[-1])
    for start, expected in (("prior", "prior"), ("ensemble", "prior"), ("method", "start")):
        started = result.assign_attrs(start=start)
        assert starts_at_prior(started) == (expected == "prior")
        assert start_of(started) == expected
        assert start_of(started, problem) == "prior"
        assert not starts_at_prior(last.assign_attrs(start=start))
    assert (start_of(result), start_of(last), start_of(last, problem)) == ("prior", "", "prior")
    u, _ = first_members(result.assign_attrs(start="method"), problem)
    np.testing.assert_array_equal(u, problem.prior.sample(len(u), rng=0))
    u, _ = first_members(result.assign_attrs(start="method"))
    np.testing.assert_array_equal(u, result.u[0])
