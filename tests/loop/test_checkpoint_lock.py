"""The lock of a checkpoint: one living process at a time, and dead ones are succeeded."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from zoo.results import same
from zoo.saturating import METHOD, OPTIONS, never, problem

import ekitools as ek
from ekitools.loop import lock

LIVING = """
import sys, time
import numpy as np
import ekitools as ek

def model(u):
    time.sleep(0.05)
    return u

problem = ek.InverseProblem(
    ek.FunctionModel(model), ek.GaussianPrior(np.zeros(2), 1.0), 0.1, np.zeros(2))
ek.run(problem, ek.EKI(ek.FixedStep(1e-3)), n_members=4, rng=0, checkpoint=sys.argv[1])
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
def test_a_second_living_process_is_refused_and_a_dead_one_is_succeeded(tmp_path):
    path = tmp_path / "run"
    prior = ek.GaussianPrior(np.zeros(2), 1.0)
    same_problem = ek.InverseProblem(ek.FunctionModel(lambda u: u), prior, 0.1, np.zeros(2))
    process = subprocess.Popen([sys.executable, "-c", LIVING, path])
    try:
        while not (path / "checkpoint.json").exists():
            assert process.poll() is None
            time.sleep(0.01)
        said = f"in use by process {process.pid} on host {socket.gethostname()}"
        loop = ek.AskTell.load(path, same_problem)  # looking is allowed
        for attempt in (
            lambda: ek.resume(path, same_problem),
            lambda: ek.run(same_problem, METHOD, checkpoint=path),
            lambda: loop.save(path),
        ):
            with pytest.raises(ek.CheckpointError, match=said):
                attempt()
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGKILL)
    time.sleep(0.2)  # killed, but not waited for: a zombie
    assert (path / "checkpoint.lock").exists()
    ek.resume(path, same_problem, n_steps=30)
    process.wait()
    assert not (path / "checkpoint.lock").exists()


def test_the_lock_is_there_during_a_run_and_gone_after_it(tmp_path):
    path, seen = tmp_path / "run", []

    def look(info):
        seen.append(json.loads((path / "checkpoint.lock").read_text()))
        if info.iteration == 3:
            raise LookupError

    def check():
        assert {entry["pid"] for entry in seen} == {os.getpid()}
        assert {entry["host"] for entry in seen} == {socket.gethostname()}
        assert not (path / "checkpoint.lock").exists()
        seen.clear()

    ek.run(problem(), METHOD, n_steps=2, checkpoint=path, on_step=look, **OPTIONS)
    check()
    with pytest.raises(LookupError):
        ek.resume(path, problem(), n_steps=5, on_step=look)
    check()
    ek.resume(path, problem())
    assert not (path / "checkpoint.lock").exists()


def test_a_second_run_of_the_same_process_is_refused(tmp_path):
    def look(info):
        if info.status is not None:
            return
        with pytest.raises(ek.CheckpointError, match=r"process \d+ \(this process\) on host"):
            ek.resume(tmp_path / "run", problem(never))

    ek.run(problem(), METHOD, n_steps=2, checkpoint=tmp_path / "run", on_step=look, **OPTIONS)


def holder(**changes):
    return lock.Holder.this()._replace(**changes)


def put(path, content):
    text = content if isinstance(content, str) else json.dumps(content._asdict())
    (path / "checkpoint.lock").write_text(text)


@pytest.fixture
def over():
    """The number of a process that is over."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_which_locks_are_stale(tmp_path, over):
    mine = lock.Holder.this()
    stale = [holder(pid=over), holder(pid=over, start="x"), holder(pid=2**40), mine]
    if mine.start:  # the number of a dead process belongs to another one now
        stale.append(holder(start="another boot/1"))
    for each in stale:
        put(tmp_path, each)
        with lock.Lock(tmp_path):
            assert (tmp_path / "checkpoint.lock").exists()
        assert not (tmp_path / "checkpoint.lock").exists()
    living = [holder(host="elsewhere"), holder(host="elsewhere", pid=over)]
    living.append(holder(namespace="another container", pid=over))
    for each in living:
        put(tmp_path, each)
        with pytest.raises(ek.CheckpointError, match="has ended, delete .*checkpoint.lock"):
            lock.Lock(tmp_path).acquire()
        assert (tmp_path / "checkpoint.lock").exists()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"host": "a"}', json.dumps(holder(pid="1")._asdict()), "[" * 4000]
)
def test_an_unreadable_lock_is_said_with_the_remedy(tmp_path, monkeypatch, text):
    monkeypatch.setattr(lock, "_PAUSE", 0)
    put(tmp_path, text)
    with pytest.raises(ek.CheckpointError, match="not a readable lock file. Delete it"):
        lock.Lock(tmp_path).acquire()


def test_one_of_many_takes_over_a_stale_lock(tmp_path, over):

    def attempt(barrier, got, refused):
        barrier.wait()
        mine = lock.Lock(tmp_path)
        try:
            mine.acquire()
            got.append(mine)
        except ek.CheckpointError as error:
            refused.append(str(error))

    for _ in range(10):
        put(tmp_path, holder(pid=over))
        barrier, got, refused = threading.Barrier(8), [], []
        threads = [threading.Thread(target=attempt, args=(barrier, got, refused)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) == 1
        assert len(refused) == 7
        got[0].release()
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_hard_links_has_locks_too(tmp_path, monkeypatch):
    def refused(*args, **kwargs):
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refused)
    with (
        lock.Lock(tmp_path),
        pytest.raises(ek.CheckpointError, match="in use by"),
        lock.Lock(tmp_path),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_is_lost_is_taken_again_unless_another_process_has_it(tmp_path):
    path = tmp_path / "run"

    def lose(info):
        if info.iteration == 1:
            (path / "checkpoint.lock").unlink()
        if info.iteration == 2:
            assert (path / "checkpoint.lock").exists()
            put(path, holder(host="elsewhere"))

    with pytest.raises(ek.CheckpointError, match="in use by process .* on host elsewhere") as info:
        ek.run(problem(), METHOD, checkpoint=path, on_step=lose, **OPTIONS)
    assert info.value.result.sizes["iteration"] == 4
    assert (path / "checkpoint.lock").exists()  # the other one's


def test_a_lock_that_cannot_be_read_for_a_moment_is_still_held(tmp_path, monkeypatch):
    read, n_reads = lock._read, []

    def failing(folder):
        n_reads.append(1)
        return None if len(n_reads) == 1 else read(folder)

    with lock.Lock(tmp_path) as held:
        monkeypatch.setattr(lock, "_read", failing)
        held.renew()
        assert len(n_reads) == 2
    assert list(tmp_path.iterdir()) == []


def test_the_lock_that_a_finished_run_has_left_is_cleared_by_the_next_look(tmp_path, over):
    result = ek.run(problem(), METHOD, checkpoint=tmp_path, **OPTIONS)
    put(tmp_path, holder(pid=over))
    assert same(ek.resume(tmp_path, problem()), result)
    assert not (tmp_path / "checkpoint.lock").exists()
    put(tmp_path, holder(host="elsewhere"))
    assert same(ek.resume(tmp_path, problem()), result)
    assert (tmp_path / "checkpoint.lock").exists()
