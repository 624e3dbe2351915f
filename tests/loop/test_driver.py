"""`ek.run` at its borders: executors, faults of models and workers, files, reports."""

import concurrent.futures as cf
import json
import multiprocessing
import os
import time
from contextlib import nullcontext

import numpy as np
import pytest
import xarray as xr
from zoo.results import same

import ekitools as ek

MATRIX = np.random.default_rng(0).normal(size=(6, 3))


def model(u):
    return np.tanh(MATRIX @ u)


def sleepy(u):
    if u[0] > 1:
        time.sleep(30)
    return model(u)


def deadly(u):
    if u[0] > 1:
        os._exit(1)
    return model(u)


def problem(fn=model, **changes):
    arguments = {
        "model": ek.FunctionModel(fn),
        "prior": ek.GaussianPrior(np.zeros(3), 1.0),
        "noise": 0.01,
        "data": model(np.ones(3)),
    }
    return ek.InverseProblem(**(arguments | changes))


def spawn(workers):
    return cf.ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("pool", [cf.ThreadPoolExecutor, spawn])
def test_any_executor_and_any_number_of_workers_give_the_same_bits(pool, workers):
    options = {"n_members": 12, "rng": 0, "n_steps": 2}
    serial = ek.run(problem(), ek.EKI(), **options)
    with pool(workers) as executor:
        assert same(ek.run(problem(), ek.EKI(), executor=executor, **options), serial)


def test_the_same_seed_gives_the_same_result_and_another_one_does_not():
    first, again, other = (ek.run(problem(), ek.EKI(), n_members=9, rng=s) for s in (1, 1, 2))
    assert same(first, again)
    assert not np.array_equal(first.u[0], other.u[0])


def test_a_generator_is_advanced_so_that_two_runs_differ():
    rng = np.random.default_rng(0)
    first, second = (ek.run(problem(), ek.EKI(), n_members=9, rng=rng) for _ in range(2))
    assert not np.array_equal(first.u[0], second.u[0])


def test_a_model_that_hangs_for_some_members_loses_only_those():
    start = time.perf_counter()
    options = {"n_members": 8, "n_steps": 1, "rng": 1, "timeout": 0.2, "on_failure": "drop"}
    result = ek.run(problem(sleepy), ek.EKI(), **options)
    assert time.perf_counter() - start < 10
    np.testing.assert_array_equal(result.failed[0], result.u[0, :, 0] > 1)
    assert result.failed[0].any()
    assert "timed out after 0.2 s" in result.attrs["failures"]


def test_a_worker_that_dies_ends_the_run_with_what_was_computed(tmp_path):
    start = np.random.default_rng(0).normal(size=(6, 3)) * 0.1
    rng, late = 3, 1.0 + np.zeros((6, 3))
    late[0, 0] = 2.0
    with spawn(1) as executor:
        safe = ek.run(problem(), ek.EKI(), ensemble=start, rng=rng, n_steps=1)
        assert np.all(safe.u[0, :, 0] < 1)
        with pytest.raises(ek.RunError, match=r"a worker died .* Pass a fresh executor, or one"):
            ek.run(problem(deadly), ek.EKI(), ensemble=late, rng=rng, executor=executor)


def test_a_lambda_and_a_process_pool_are_told_apart_before_any_run():
    unpicklable = problem(lambda u: model(u))
    with spawn(1) as executor, pytest.raises(ValueError, match="model: must be picklable .* loky"):
        ek.run(unpicklable, ek.EKI(), rng=0, executor=executor)
    with cf.ThreadPoolExecutor(1) as executor:
        ek.run(unpicklable, ek.EKI(), n_members=5, n_steps=1, rng=0, executor=executor)


def test_an_executor_that_is_shut_down_is_said():
    executor = cf.ThreadPoolExecutor(1)
    executor.shutdown()
    with pytest.raises(ValueError, match="executor: must accept tasks"):
        ek.run(problem(), ek.EKI(), rng=0, executor=executor)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"executor": 4}, TypeError, "executor: must be a concurrent.futures.Executor, got int"),
        ({"timeout": 0}, ValueError, "timeout: must be positive and finite, got 0"),
        ({"timeout": "1"}, TypeError, "timeout: must be a number, got"),
        ({"checkpoint_every": 0}, ValueError, "checkpoint_every: must be at least 1, got 0"),
        ({"checkpoint_every": 1.5}, TypeError, "checkpoint_every: must be an integer, got 1.5"),
    ],
)
def test_bad_arguments_are_named_before_any_model_run(options, error, message):
    def never(u):
        raise AssertionError

    with pytest.raises(error, match=message):
        ek.run(problem(never), ek.EKI(), rng=0, **options)


BROKEN = {
    "wrong length": (
        lambda u: np.zeros(5),
        r"model: must return d = 6 numbers .* got shape \(5,\)",
    ),
    "two dimensions": (lambda u: np.zeros((2, 3)), r"got shape \(2, 3\)"),
    "a number": (lambda u: 1.0, r"got shape \(\)"),
    "None": (lambda u: None, "model: must return real numbers, got NoneType"),
    "text": (lambda u: "six", "model: must return real numbers, got str"),
    "texts": (lambda u: ["a"] * 6, "model: must return real numbers"),
    "complex": (lambda u: np.zeros(6, complex), "got ndarray of dtype complex128"),
    "ragged": (lambda u: [[1], [1, 2]], "model: must return an array of numbers"),
    "NaN": (lambda u: np.full(6, np.nan), "got nan at data index 0"),
    "infinite": (lambda u: np.array([0, 0, np.inf, 0, 0, 0]), "got inf at data index 2"),
    "an exception": (lambda u: 1 / 0, r"ZeroDivisionError"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_model_that_is_broken_for_all_members_ends_the_run_at_once(name):
    fn, reason = BROKEN[name]
    with pytest.raises(ek.RunError, match="4 of 4 members failed at iteration 0") as info:
        ek.run(problem(fn), ek.EKI(), n_members=4, rng=0)
    failures = json.loads(info.value.result.attrs["failures"])
    assert len(failures) == 52  # no run of the first 50 had an output
    with pytest.raises(ek.RunError, match="4 of 4 members failed at iteration 0") as info:
        ek.run(problem(fn), ek.EKI(), n_members=4, rng=0, on_failure="drop")
    failures = json.loads(info.value.result.attrs["failures"])
    assert len(failures) == 4
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(failures[0]["reason"])
    if name == "an exception":
        assert isinstance(info.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("name", BROKEN)
def test_a_model_that_is_broken_for_one_member_loses_that_one(name):
    broken, _ = BROKEN[name]
    calls = []

    def sometimes(u):
        calls.append(1)
        return broken(u) if len(calls) == 3 else model(u)

    plan = ek.EKI(ek.FixedStep(1.0))
    result = ek.run(problem(sometimes), plan, n_members=6, rng=0, on_failure="drop")
    np.testing.assert_array_equal(np.flatnonzero(result.failed[0]), [2])
    assert result.attrs["status_code"] == "posterior_reached"
    assert np.isfinite(result.u[1]).all("parameter").sum() == 5


@pytest.mark.parametrize(
    ("fn", "reason"),
    [
        (
            lambda u: np.zeros((3, 6)),
            r"model: must return \(J, d\) = \(5, 6\) .* got shape \(3, 6\)",
        ),
        (lambda u: np.zeros(6), r"got shape \(6,\)"),
        (lambda u: None, "model: must return real numbers, got NoneType"),
        (lambda u: [["a"] * 6] * 5, "model: must return real numbers"),
        (lambda u: u.append(1), "AttributeError"),
        (lambda u: u.fill(0), "read-only"),
    ],
)
def test_a_broken_vectorized_model_ends_the_run_at_once(fn, reason):
    broken = problem(model=ek.FunctionModel(fn, vectorized=True))
    with pytest.raises(ek.RunError, match="5 of 5 members failed") as info:
        ek.run(broken, ek.EKI(), n_members=5, rng=0)
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(info.value.result.attrs["failures"])


@pytest.mark.parametrize("bad", [np.nan, -np.inf, 1e200])
def test_a_failed_member_has_a_row_of_nan_however_the_model_is_called(bad):
    def one(u):
        return model(u) + (np.array([0, bad, 0, 0, 0, 0]) if u[0] > 0.5 else 0)

    def together(u):
        return np.array([one(row) for row in u])

    options = {"n_members": 10, "rng": 0, "on_failure": "drop"}
    alone = ek.run(problem(one), ek.EKI(), **options)
    vectorized = problem(model=ek.FunctionModel(together, vectorized=True))
    both = ek.run(vectorized, ek.EKI(), **options)
    assert alone.failed.any()
    assert np.isnan(alone.g.values[alone.failed.values]).all()
    for name in ("u", "g", "misfit", "failed"):
        np.testing.assert_array_equal(alone[name], both[name])


def test_a_vectorized_model_may_fail_for_some_members():
    def some(u):
        g = np.tanh(u @ MATRIX.T)
        g[u[:, 0] > 1] = np.nan
        return g

    vectorized = problem(model=ek.FunctionModel(some, vectorized=True))
    result = ek.run(vectorized, ek.EKI(), n_members=20, rng=0, on_failure="drop")
    np.testing.assert_array_equal(result.failed[0], result.u[0, :, 0] > 1)
    assert result.failed[0].any()


def test_a_model_cannot_change_the_ensemble():
    def greedy(u):
        g = model(u)
        u[:] = 0
        return g

    result = ek.run(problem(greedy), ek.EKI(), n_members=5, n_steps=1, rng=0)
    assert np.all(result.u[0] != 0)


def test_on_step_sees_every_iteration():
    seen = []
    result = ek.run(problem(), ek.EKI(), n_members=10, rng=0, on_step=seen.append)
    assert [info.iteration for info in seen] == result.iteration.values.tolist()
    np.testing.assert_array_equal([info.misfit for info in seen], result.history_misfit)
    np.testing.assert_array_equal([info.t for info in seen], result.t)
    assert [info.status is None for info in seen] == [True] * (len(seen) - 1) + [False]
    assert seen[-1].model_runs == result.attrs["model_runs"]


def test_an_error_of_on_step_is_the_users_own(tmp_path):
    def stop(info):
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        ek.run(problem(), ek.EKI(), n_members=5, rng=0, on_step=stop, checkpoint=tmp_path / "c")
    expected = ek.run(problem(), ek.EKI(), n_members=5, rng=0)
    np.testing.assert_array_equal(ek.resume(tmp_path / "c", problem()).u, expected.u)


def test_progress_shows_a_bar_on_standard_error_and_none_by_default(capsys):
    ek.run(problem(), ek.EKI(), n_members=5, rng=0)
    assert capsys.readouterr() == ("", "")
    ek.run(problem(), ek.EKI(), n_members=5, rng=0, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "EKI" in err
    assert "misfit" in err


@pytest.mark.parametrize("names", [None, ("α", "β", "γ")])
def test_netcdf_and_zarr_give_back_what_they_were_given(tmp_path, names):
    result = ek.run(problem(parameter_names=names), ek.EKI(), n_members=5, rng=0)
    result.to_netcdf(tmp_path / "result.nc")
    with xr.open_dataset(tmp_path / "result.nc") as back:
        xr.testing.assert_equal(back.load(), result)
        assert dict(back.attrs) == result.attrs
    pytest.importorskip("zarr")
    result.to_zarr(tmp_path / "result.zarr", consolidated=False)
    with xr.open_zarr(tmp_path / "result.zarr", consolidated=False) as back:
        xr.testing.assert_equal(back.load(), result)


def test_a_large_float32_ensemble_stays_float32_and_is_not_hoarded():
    """Small version of benchmarks/memory.py: no iteration but the last is kept alive."""
    import tracemalloc

    n, p = 50, 40_000
    start = np.random.default_rng(0).standard_normal((n, p), dtype=np.float32)
    wide = ek.InverseProblem(
        ek.FunctionModel(lambda u: u[:, :5], vectorized=True),
        ek.GaussianPrior(np.zeros(p), 1.0),
        0.1,
        np.ones(5),
    )
    tracemalloc.start()
    method = ek.EKI(ek.FixedStep(0.1))
    result = ek.run(wide, method, ensemble=start, rng=0, store="last", evaluate_final=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert result.u.dtype == np.float32
    assert result.sizes == {"iteration": 1, "member": n, "parameter": p, "data": 5, "history": 11}
    assert peak < 5 * start.nbytes


# --- the first reason --------------------------------------------------------------------------


def test_the_error_of_a_run_has_the_most_frequent_reason_and_where_it_arose():
    def diverging(u):
        if u[0] > 0.7:
            raise LookupError("rare")
        raise ArithmeticError(f"residual {u[1]:.3e} after {int(abs(u[2]) * 100)} steps")

    with pytest.raises(ek.RunError) as info:
        ek.run(problem(diverging), ek.EKI(), n_members=20, rng=0)
    start = info.value.result.u[0].values
    frequent = int((start[:, 0] <= 0.7).sum())
    assert 10 < frequent < 20
    message = str(info.value)
    assert f"Most frequent reason, {frequent} of 20: ArithmeticError('residual " in message
    assert "test_driver.py, line " in message


@pytest.mark.parametrize("pool", [None, spawn])
def test_the_error_says_which_datum_and_which_file(pool):
    named = problem(gap, data_names=tuple(f"height {i}" for i in range(6)))
    with pool(1) if pool else nullcontext() as executor:
        with pytest.raises(ek.RunError, match=r"Reason, 4 of 4: .* got nan .*output 'height 2'"):
            ek.run(named, ek.EKI(), n_members=4, rng=0, executor=executor, missing=0)
        with pytest.raises(ek.RunError, match=r"Reason, 4 of 4: OSError.*test_driver.py, line"):
            ek.run(problem(lost), ek.EKI(), n_members=4, rng=0, executor=executor)
        with pytest.raises(ek.RunError, match=r"Reason, 4 of 4: .* d = 6 numbers .* \(5,\)"):
            ek.run(problem(short), ek.EKI(), n_members=4, rng=0, executor=executor)


def gap(u):
    g = model(u)
    g[2] = np.nan
    return g


def lost(u):
    raise OSError("no such mesh")


def short(u):
    return model(u)[:5]


@pytest.mark.parametrize("at", [0, 1])
def test_an_interrupt_ends_the_run_with_what_there_is(at):
    calls = []

    def interrupted(u):
        calls.append(1)
        if len(calls) > 8 * at:
            raise KeyboardInterrupt
        return model(u)

    if at == 0:
        with pytest.raises(KeyboardInterrupt):
            ek.run(problem(interrupted), ek.EKI(), n_members=8, rng=0)
        return
    result = ek.run(problem(interrupted), ek.EKI(), n_members=8, rng=0)
    assert result.attrs["status_code"] == "interrupted"
    assert result.sizes["iteration"] == 1


def test_a_model_that_exits_loses_the_member():
    def leaving(u):
        if u[0] > 1:
            raise SystemExit("bye")
        return model(u)

    options = {"n_members": 20, "n_steps": 1, "rng": 0, "on_failure": "drop"}
    result = ek.run(problem(leaving), ek.EKI(), **options)
    np.testing.assert_array_equal(result.failed[0], result.u[0, :, 0] > 1)
    assert result.failed[0].any()
    assert "SystemExit('bye')" in result.attrs["failures"]


@pytest.mark.parametrize("vectorized", [False, True])
def test_a_model_with_one_buffer_gives_the_bits_of_one_without(vectorized):
    buffer = np.empty((10, 6)) if vectorized else np.empty(6)

    def fresh(u):
        return np.tanh(u @ MATRIX.T)

    def buffered(u):
        buffer[...] = fresh(u)
        return buffer

    first, second = (
        ek.run(
            problem(model=ek.FunctionModel(fn, vectorized=vectorized)),
            ek.EKI(),
            n_members=10,
            rng=0,
        )
        for fn in (fresh, buffered)
    )
    np.testing.assert_array_equal(first.g, second.g)
    np.testing.assert_array_equal(first.u, second.u)
