"""The model on its way to workers: once, by whatever the executor offers; and what comes back."""

import concurrent.futures as cf
import multiprocessing
import os
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest

import ekitools as ek
from ekitools.models import workers
from ekitools.models.evaluate import evaluate
from ekitools.models.workers import Workers

U = np.random.default_rng(0).normal(size=(12, 3))
BIG = 20_000  # numbers: above SMALL


class Forced:
    """A model with an array in it, that notes in which process it was unpickled."""

    vectorized = stochastic = False

    def __init__(self, folder, size=BIG):
        self.folder, self.forcing = str(folder), np.linspace(0, 1, size)

    def __setstate__(self, state):
        self.__dict__.update(state)
        with tempfile.NamedTemporaryFile(dir=self.folder, prefix=f"{os.getpid()}-", delete=False):
            pass

    def __call__(self, u):
        self.forcing += 0  # as writable as it was
        return u * self.forcing[-1] + self.forcing[1]


def unpickled(folder):
    """How often, by process."""
    names = [path.name.partition("-")[0] for path in Path(folder).iterdir()]
    return {name: names.count(name) for name in names}


def spawn(n):
    return cf.ProcessPoolExecutor(n, mp_context=multiprocessing.get_context("spawn"))


def loky(n):
    return pytest.importorskip("loky").ProcessPoolExecutor(n)


@pytest.mark.parametrize("pool", [spawn, loky])
def test_a_process_unpickles_the_model_once_a_run(pool, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (tmp_path / "log").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    model = Forced(tmp_path / "log")
    serial = evaluate(model, U, 3).g
    with pool(2) as executor:
        with Workers(executor) as sent:
            for _ in range(3):
                np.testing.assert_array_equal(evaluate(model, U, 3, executor=sent).g, serial)
            assert len(list(scratch.glob("ekitools-model-*"))) == 1
        assert set(unpickled(tmp_path / "log").values()) == {1}
        assert list(scratch.iterdir()) == []
        changed = Forced(tmp_path / "log")
        with Workers(executor) as sent:  # a change between iterations is seen
            evaluate(changed, U, 3, executor=sent)
            changed.forcing[1] = 7
            after = evaluate(changed, U, 3, executor=sent).g
    np.testing.assert_array_equal(after, [changed(u) for u in U])


def test_a_run_in_processes_leaves_no_file_and_has_the_bits_of_the_serial_one(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "log").mkdir()
    problem = ek.InverseProblem(
        Forced(tmp_path / "log"), ek.GaussianPrior(np.zeros(3), 1.0), 0.1, np.ones(3)
    )
    serial = ek.run(problem, ek.EKI(), n_members=10, rng=0)
    with spawn(2) as executor:
        there = ek.run(problem, ek.EKI(), n_members=10, rng=0, executor=executor)
    np.testing.assert_array_equal(serial.u, there.u)
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
    assert set(unpickled(tmp_path / "log").values()) == {1}


class Remote(cf.ThreadPoolExecutor.__base__):
    """Workers without a common disk, as mpi4py's: what is submitted is pickled."""

    num_workers = 2

    def __init__(self):
        self.sizes = []

    def submit(self, function, /, *args, **kwargs):
        pickled = pickle.dumps((function, args, kwargs))
        self.sizes.append(len(pickled))
        function, args, kwargs = pickle.loads(pickled)
        future = cf.Future()
        future.set_result(pickle.loads(pickle.dumps(function(*args, **kwargs))))
        return future


@pytest.mark.parametrize(("size", "tasks"), [(BIG, 8), (10, 12)])
def test_where_there_is_no_common_disk_a_large_model_goes_with_a_batch(tmp_path, size, tasks):
    executor, model = Remote(), Forced(tmp_path, size)
    g, failures, _ = evaluate(model, U, 3, executor=executor)
    np.testing.assert_array_equal(g, [model(u) for u in U])
    assert not failures
    assert len(executor.sizes) == tasks


def test_an_executor_of_an_unknown_kind_is_given_the_model_itself():
    class Plain:
        def submit(self, function, /, *args):
            future = cf.Future()
            future.set_result(function(*args))
            return future

    g, failures, _ = evaluate(ek.FunctionModel(lambda u: 2 * u), U, 3, executor=Plain())
    np.testing.assert_array_equal(g, 2 * U)
    assert not failures


def test_without_room_for_a_file_the_model_goes_with_every_member(tmp_path, monkeypatch):
    def full(parts):
        raise OSError("no space left on device")

    monkeypatch.setattr(workers, "_written", full)
    model = Forced(tmp_path)
    with spawn(1) as executor:
        g = evaluate(model, U, 3, executor=executor).g
    np.testing.assert_array_equal(g, [model(u) for u in U])


class Elsewhere:
    """A model that no worker can unpickle."""

    vectorized = stochastic = False

    def __reduce__(self):
        return fail, ()


def fail():
    raise LookupError("no such mesh")


def test_a_model_that_no_worker_can_load_says_so():
    with spawn(1) as executor:
        failures = evaluate(Elsewhere(), U, 3, executor=executor).failures
    assert len(failures) == 12
    assert "could not be loaded by the worker (LookupError('no such mesh'))" in failures[0].reason


class UnpicklableError(Exception):
    def __reduce__(self):
        raise SystemExit("not me")


class UnspeakableError(Exception):
    def __repr__(self):
        raise ValueError("no words")

    __str__ = __repr__


def raises(u):
    if u[0] > 0:
        raise UnpicklableError
    raise UnspeakableError


def leaves(u):
    if u[0] > 0:
        raise SystemExit(3)
    raise GeneratorExit


@pytest.mark.parametrize("model", [raises, leaves])
@pytest.mark.parametrize("pool", [None, cf.ThreadPoolExecutor, spawn, loky])
def test_every_exception_but_an_interrupt_is_a_failed_member(model, pool):
    if pool is None:
        failures = evaluate(ek.FunctionModel(model), U, 3).failures
    else:
        with pool(1) as executor:
            failures = evaluate(ek.FunctionModel(model), U, 3, executor=executor).failures
    assert len(failures) == 12
    assert all(isinstance(failure.error, BaseException) for failure in failures.values())
    words = {f.reason for f in failures.values()}
    if model is raises:
        assert words == {
            "UnpicklableError()",
            "UnspeakableError (its text cannot be read: ValueError)",
        }
    else:
        assert words == {"SystemExit(3)", "GeneratorExit()"}


def stop(u):
    raise KeyboardInterrupt


@pytest.mark.parametrize("pool", [cf.ThreadPoolExecutor, spawn])
def test_an_interrupt_in_a_worker_ends_the_run(pool):
    with pool(1) as executor:
        with pytest.raises(KeyboardInterrupt):
            evaluate(ek.FunctionModel(stop), U, 3, executor=executor)
        assert not evaluate(ek.FunctionModel(np.sin), U, 3, executor=executor).failures
