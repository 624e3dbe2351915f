"""A run on a dask cluster of two processes: the bits of the serial run, whatever dies."""

import importlib
import json
import os
import signal
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from operator import itemgetter
from pathlib import Path

import numpy as np
import pytest
from zoo.results import same

import ekitools as ek
from ekitools.models.evaluate import evaluate

distributed = pytest.importorskip("distributed", reason="distributed is not installed")

MEMBERS, TRUTH = 12, np.array([0.4, -0.3])


def decay(u):
    return u[0] * np.exp(u[1] * np.arange(3))


def noisy(u, *, rng):
    return decay(u) + 0.01 * rng.standard_normal(3)


class Deadly:
    """A model whose workers are killed: ``times`` of them, at one member of the first ensemble."""

    vectorized = stochastic = False

    def __init__(self, folder, at, times):
        self.folder, self.at, self.times = folder, at, times

    def __repr__(self):
        return "Deadly"

    def __call__(self, u):
        if np.array_equal(u, self.at):
            time.sleep(0.5)  # what was done before is known by then
            deaths = len(list(Path(self.folder).iterdir()))
            if deaths < self.times:
                Path(self.folder, str(deaths)).touch()
                os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.02)
        return decay(u)


def when(u):
    """The time at which a member is done, and who did it."""
    time.sleep(u[0])
    return np.array([time.time(), os.getpid()])


@pytest.fixture(scope="module")
def cluster():
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
    ) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with distributed.Client(cluster) as client:
        client.wait_for_workers(2, timeout=120)
        client.run(importlib.import_module, "ekitools.models.evaluate")  # so that none is late
        yield client


@pytest.fixture
def executor(client):
    return client.get_executor(pure=False)


def problem_of(model):
    return ek.InverseProblem(model, ek.GaussianPrior(np.zeros(2), 1.0), 0.01, decay(TRUTH))


def run(model, executor=None, n_steps=2):
    method = ek.EKI(ek.FixedStep(1 / n_steps))
    problem = problem_of(model)
    return ek.run(problem, method, n_members=MEMBERS, rng=5, executor=executor)


def unnamed(result):
    """Without the name of the model."""
    return result.assign_attrs(problem="")


@pytest.mark.parametrize("stochastic", [False, True])
def test_the_result_is_that_of_the_serial_run(executor, stochastic):
    model = ek.FunctionModel(noisy, stochastic=True) if stochastic else ek.FunctionModel(decay)
    assert same(run(model, executor), run(model))


def test_no_member_waits_for_a_slow_one(executor):
    waits = np.array([2.5, *[0.02] * 12])
    g, failures, _ = evaluate(ek.FunctionModel(when), waits[:, None], 2, executor=executor)
    assert not failures
    assert len(np.unique(g[:, 1])) == 2
    assert np.sum(g[1:, 0] < g[0, 0]) >= 11  # one may have been handed to the same worker


def test_a_worker_killed_in_mid_run_loses_nothing(executor, tmp_path):
    serial = run(ek.FunctionModel(decay))
    at = serial.u.sel(iteration=1, member=4).values
    result = run(Deadly(str(tmp_path), at, 1), executor)
    assert len(list(tmp_path.iterdir())) == 1  # it has died
    assert not result.failed.any()
    assert same(unnamed(result), unnamed(serial))


def test_a_member_that_kills_every_worker_is_the_only_one_lost(
    cluster, executor, tmp_path, monkeypatch
):
    monkeypatch.setattr(cluster.scheduler, "allowed_failures", 1)  # 3, were there more time
    u = np.random.default_rng(0).normal(size=(6, 2))
    model = Deadly(str(tmp_path), u[5], np.inf)
    g, failures, _ = evaluate(model, u, 3, executor=executor)
    assert set(failures) == {5}
    assert "KilledWorker" in failures[5].reason
    assert len(list(tmp_path.iterdir())) == 2
    np.testing.assert_array_equal(g[:5], [decay(each) for each in u[:5]])


class Killing:
    """A model that kills its worker wherever u[0] is positive, at once."""

    vectorized = stochastic = False

    def __call__(self, u):
        if u[0] > 0:
            os._exit(1)
        time.sleep(0.01)
        return decay(u)


def test_several_members_that_kill_their_workers_end_as_failed_members(
    cluster, executor, monkeypatch
):
    monkeypatch.setattr(cluster.scheduler, "allowed_failures", 1)
    u = np.random.default_rng(2).normal(size=(24, 2))
    u[:, 0] = -np.abs(u[:, 0])
    u[[1, 4, 9, 13, 18], 0] *= -1
    g, failures, _ = evaluate(Killing(), u, 3, executor=executor)  # it has to come back
    # none that waited where another one killed the worker
    assert set(failures) == {1, 4, 9, 13, 18}
    assert all("KilledWorker" in failure.reason for failure in failures.values())
    kept = np.setdiff1d(np.arange(24), list(failures))
    np.testing.assert_array_equal(g[kept], [decay(u[j]) for j in kept])


class Forced:
    """A model with an array in it, that notes when it is unpickled."""

    vectorized = stochastic = False

    def __init__(self, folder):
        self.folder, self.forcing = str(folder), np.linspace(0, 1, 50_000)

    def __repr__(self):
        return "Forced"

    def __setstate__(self, state):
        self.__dict__.update(state)
        Path(self.folder, f"{os.getpid()}-{time.time_ns()}").touch()

    def __call__(self, u):
        return decay(u) * self.forcing[-1]


def test_a_large_model_crosses_to_every_worker_once(client, executor, tmp_path):
    model = Forced(tmp_path)
    serial = run(model)
    assert same(run(model, executor), serial)
    processes = [path.name.partition("-")[0] for path in tmp_path.iterdir()]
    assert len(processes) == len(set(processes)) == 2
    client.restart()  # workers that have not seen it
    assert same(run(model, executor), serial)


def test_a_worker_that_lacks_the_model_is_sent_it(client, executor, tmp_path, monkeypatch):
    def refused(plugin):
        raise OSError("no plugins here")

    monkeypatch.setattr(client, "register_plugin", refused)
    assert same(run(Forced(tmp_path), executor), run(Forced(tmp_path)))


def test_an_executor_that_is_shut_down_is_said(client):
    executor = client.get_executor(pure=False)
    executor.shutdown()
    with pytest.raises(ValueError, match="executor: must accept tasks"):
        evaluate(ek.FunctionModel(decay), np.zeros((3, 2)), 3, executor=executor)


def test_failures_come_home_with_their_reasons(executor):
    result = run(ek.FunctionModel(failing), executor)
    reasons = {f["reason"] for f in json.loads(result.attrs["failures"])}
    assert reasons == {"ValueError('u[0] must not be negative')"}
    assert same(result, run(ek.FunctionModel(failing)))


def failing(u):
    if u[0] < 0:
        raise ValueError("u[0] must not be negative")
    return decay(u)


# --- large outputs, as docs/parallel.md keeps them ------------------------------------------

CELLS = 250_000


def field_of(u):
    return u[0] * np.exp(u[1] * np.linspace(0, 2, CELLS))


def simulate(u):
    """What was observed, and all of it with the process that made it."""
    field = field_of(u)
    return field[[0, CELLS // 2, CELLS - 1]], {"field": field, "pid": os.getpid()}


def keeping(client):
    """A model whose large outputs stay on the workers, and those of the last ensemble."""
    kept = deque(maxlen=MEMBERS)

    def model(u):
        both = client.submit(simulate, u, pure=False)
        kept.append((u, both))
        return client.submit(itemgetter(0), both, pure=False).result()

    return model, kept


def large(client, kept, function):
    """A function of every kept output, computed where the output is."""
    submit = client.submit
    return {u.tobytes(): submit(function, submit(itemgetter(1), both)) for u, both in kept}


def bytes_of(client, what):
    return sum(client.run(lambda dask_worker: what(dask_worker)).values())


def sent(worker):
    return worker.transfer_outgoing_bytes_total


def held(worker):
    return worker.data.fast.total_weight


def test_large_outputs_stay_on_the_cluster_until_they_are_needed(client):
    model, kept = keeping(client)
    before = bytes_of(client, sent)
    with ThreadPoolExecutor(MEMBERS) as threads:
        result = run(ek.FunctionModel(model), threads)
    assert same(unnamed(result), unnamed(run(ek.FunctionModel(lambda u: simulate(u)[0]))))
    assert bytes_of(client, sent) - before < 8 * CELLS  # of 36 fields not one has travelled
    assert 0.9 < bytes_of(client, held) / (MEMBERS * 8 * CELLS) < 1.5  # 12 of 36 are there
    means = large(client, kept, lambda each: each["field"].mean())
    last = result.u[-1].values
    assert [means[u.tobytes()].result() for u in last] == [field_of(u).mean() for u in last]
    fields = large(client, kept, itemgetter("field"))
    np.testing.assert_array_equal(fields[last[3].tobytes()].result(), field_of(last[3]))


def test_large_outputs_of_a_killed_worker_are_computed_again(client):
    model, kept = keeping(client)
    with ThreadPoolExecutor(MEMBERS) as threads:
        result = run(ek.FunctionModel(model), threads)
    made_by = {f.result() for f in large(client, kept, itemgetter("pid")).values()}
    assert len(made_by) == 2
    os.kill(min(made_by), signal.SIGKILL)
    fields = large(client, kept, lambda each: each["field"])
    for u in result.u[-1].values:
        np.testing.assert_array_equal(fields[u.tobytes()].result(), field_of(u))
    now = {f.result() for f in large(client, kept, itemgetter("pid")).values()}
    assert min(made_by) not in now
    client.wait_for_workers(2, timeout=120)
