"""Side products: stored by member and iteration, never in the misfit."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import ekitools as ek

PRIOR = ek.GaussianPrior([0.0, 0.0], 1.0)
DATES = pd.date_range("2001-01-01", periods=3, name="date")


def spawned(n):
    return ProcessPoolExecutor(n, mp_context=multiprocessing.get_context("spawn"))


METHODS = [ek.EKI(), ek.GNKI(refinements=1), ek.TemperedSMC()]


def outputs(u):
    return u[0] + u[1] * np.arange(3.0)


def model(u):
    path = xr.DataArray(u[1] * np.arange(3.0), {"date": DATES}, dims="date")
    return outputs(u), {"cost": u[0] ** 2, "path": path, "field": np.outer(u, u)}


def problem(fn=model, **options):
    return ek.InverseProblem(ek.FunctionModel(fn, **options), PRIOR, 0.1, [1.0, 2.0, 3.0])


def run(method=METHODS[0], fn=model, **options):
    return ek.run(problem(fn), method, **({"n_members": 20, "rng": 0} | options))


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_every_member_has_the_side_products_of_its_own_run(method):
    """Also a particle of a sampler that kept its place, or was drawn several times."""
    result = run(method)
    u = result.u.values
    np.testing.assert_allclose(result.cost, u[..., 0] ** 2)
    np.testing.assert_allclose(result["field"], u[..., :, None] * u[..., None, :])
    np.testing.assert_allclose(result.path, u[..., 1:] * np.arange(3.0))
    assert result.path.dims == ("iteration", "member", "date")
    np.testing.assert_array_equal(result.date, DATES)
    plain = run(method, outputs)
    assert result.u.equals(plain.u)
    assert result.misfit.equals(plain.misfit)


@pytest.mark.parametrize("method", METHODS, ids=repr)
@pytest.mark.parametrize("store", ["all", "last"])
def test_they_are_in_checkpoints_and_files(tmp_path, method, store):
    whole = run(method, store=store)
    run(method, store=store, n_steps=2, checkpoint=tmp_path / "run")
    again = ek.resume(tmp_path / "run", problem(), n_steps=1000)
    for name in ("cost", "path", "field", "date"):
        assert again[name].equals(whole[name])
    whole.to_netcdf(tmp_path / "result.nc")
    with xr.open_dataset(tmp_path / "result.nc") as read:
        assert read.path.equals(whole.path)


@pytest.mark.parametrize("pool", [ThreadPoolExecutor, spawned])
def test_they_come_from_every_executor(pool):
    with pool(2) as executor:
        result = run(executor=executor)
    assert result.path.equals(run().path)


def test_a_vectorized_model_gives_arrays_with_the_members_first():
    def together(u):
        return u[:, :1] + u[:, 1:] * np.arange(3.0), {
            "cost": u[:, 0] ** 2,
            "field": u[:, :, None] * u[:, None, :],
            "path": xr.DataArray(
                u[:, 1:] * np.arange(3.0), {"date": DATES}, dims=("member", "date")
            ),
            "label": xr.DataArray(u[:, 0], {"member": np.arange(len(u))}, dims="member"),
        }

    result = ek.run(problem(together, vectorized=True), ek.EKI(), n_members=20, rng=0)
    np.testing.assert_allclose(result.cost, result.u[..., 0] ** 2)
    np.testing.assert_allclose(result.label, result.u[..., 0])
    np.testing.assert_allclose(result.path, result.u[..., 1:] * np.arange(3.0))
    assert result.path.dims == ("iteration", "member", "date")
    np.testing.assert_array_equal(result.date, DATES)
    loop = ek.AskTell(problem(), ek.EKI(), n_members=20, rng=0)
    while not loop.done:
        loop.tell(*together(loop.ask())[:1], extras=together(loop.ask())[1])
    assert loop.result().cost.equals(result.cost)
    assert loop.result()["field"].equals(result["field"])
    assert loop.result().path.equals(result.path)


def test_members_that_failed_or_have_none_are_nan():
    def some(u):
        if u[0] > 1:
            raise RuntimeError("no")
        return (outputs(u), {"cost": u[0]}) if u[1] > 0 else outputs(u)

    result = run(fn=some, n_steps=1, on_failure="resample")
    first = result.isel(iteration=0)
    expected = np.where(~first.failed & (first.u[:, 1] > 0), first.u[:, 0], np.nan)
    np.testing.assert_array_equal(first.cost, expected)


def test_two_dimensions_of_one_name_with_other_labels_are_kept_apart():
    def fn(u):
        a = xr.DataArray(np.ones(2), {"x": [1, 2]}, dims="x")
        b = xr.DataArray(np.ones(2), {"x": [3, 4]}, dims="x")
        return outputs(u), {"a": a, "b": b, "c": xr.DataArray(np.ones(2), dims="data")}

    result = run(fn=fn, n_steps=1)
    assert result.a.dims[-1] == "x"
    assert result.b.dims[-1] == "b_x"
    assert result.c.dims[-1] == "c_data"
    np.testing.assert_array_equal(result.b_x, [3, 4])


@pytest.mark.parametrize(
    ("extras", "message"),
    [
        ({"u": 1.0}, "must not have the name 'u', which results use"),
        ({"block": 1.0}, "must not have the name 'block'"),
        ({"": 1.0}, "extras: names must be texts"),
        ({3: 1.0}, "extras: names must be texts, got 3"),
        ({"a": "text"}, r"extras\['a'\]: must be real numbers, got str"),
        ({"a": object()}, r"extras\['a'\]: must be real numbers"),
        ({"a": [[1.0], [1.0, 2.0]]}, r"extras\['a'\]: must be real numbers"),
        ({"a": 1j}, r"extras\['a'\]: must be real numbers, got complex"),
    ],
)
def test_bad_side_products_are_failures_with_the_reason(extras, message):
    with pytest.raises(ek.RunError, match=message):
        run(fn=lambda u: (outputs(u), extras))


def test_a_side_product_that_changes_its_shape_or_labels_fails_the_member():
    def fn(u):
        n = 2 if u[0] < 0 else 3
        return outputs(u), {"a": np.ones(n)}

    result = run(fn=fn, n_steps=1, on_failure="resample")
    assert 0 < result.failed[0].sum() < 20
    assert "same shape for every member" in result.attrs["failures"]

    def labelled(u):
        return outputs(u), {"a": xr.DataArray(np.ones(2), {"x": [0, int(u[0] < 0) + 1]}, dims="x")}

    assert "same dimensions and labels" in run(fn=labelled, n_steps=1).attrs["failures"]


def test_extras_told_to_a_loop_are_checked():
    loop = ek.AskTell(problem(), ek.EKI(), n_members=4, rng=0)
    g = np.random.default_rng(0).normal(size=(4, 3))
    with pytest.raises(TypeError, match="extras: must be a mapping"):
        loop.tell(g, extras=[1])
    with pytest.raises(ValueError, match=r"extras\['a'\]: must have the 4 members first"):
        loop.tell(g, extras={"a": np.ones(3)})
    assert loop.n == 0
