"""Checkpoints that are interrupted: kills, failing writes and Ctrl-C at every moment of a save."""

import errno
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from attack_faults import FaultySystem
from zoo.results import same

import ekitools as ek
from ekitools.loop import blocks, checkpoint, disk, folder, index, lines, lock, saved

MATRIX = np.random.default_rng(0).normal(size=(6, 3))
METHOD = ek.EKI(ek.FixedStep(0.15))
OPTIONS = {"n_members": 5, "rng": 0}


def model(u):
    return np.tanh(MATRIX @ u)


def problem():
    prior = ek.GaussianPrior(np.zeros(3), 1.0)
    return ek.InverseProblem(ek.FunctionModel(model), prior, 0.01, model(np.ones(3)))


def tell(loop):
    loop.tell(np.array([model(u) for u in loop.ask()]))


def use(monkeypatch, system):
    for module in (disk, lock):
        monkeypatch.setattr(module, "os", system)


def started(path):
    """A run with one checkpoint, that has computed more."""
    loop = ek.AskTell(problem(), METHOD, **OPTIONS)
    for _ in range(2):
        tell(loop)
    loop.save(path)
    before = loop.result()
    tell(loop)
    return loop, before


def check_whole(path, loop, before):
    """The folder holds the previous checkpoint or the new one, and the run can go on saving."""
    after = loop.result()
    found = ek.AskTell.load(path, problem()).result()
    assert same(found, before) or same(found, after)
    loop.save(path)
    assert same(ek.AskTell.load(path, problem()).result(), after)
    expected = ek.run(problem(), METHOD, **OPTIONS)
    assert same(ek.resume(path, problem()), expected)
    names = sorted(p.name.split("-")[0] for p in path.iterdir())
    assert names == ["checkpoint.json", "history", "records", "state"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_every_system_call_of_a_save_may_fail(tmp_path, monkeypatch, error):
    counting = FaultySystem()
    with monkeypatch.context() as patched:
        loop, _ = started(tmp_path / "counted")
        use(patched, counting)
        loop.save(tmp_path / "counted")
    assert counting.calls > 15
    raised = 0
    for at in range(1, counting.calls + 1):
        loop, before = started(tmp_path / str(at))
        with monkeypatch.context() as patched:
            use(patched, FaultySystem(at, error))
            try:
                loop.save(tmp_path / str(at))
            except (ek.CheckpointError, KeyboardInterrupt):
                raised += 1
        check_whole(tmp_path / str(at), loop, before)
    assert raised > 10


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_every_system_call_of_the_first_save_may_fail(tmp_path, monkeypatch, error):
    for at in range(1, 40):
        path = tmp_path / str(at)
        loop = ek.AskTell(problem(), METHOD, **OPTIONS)
        tell(loop)
        system = FaultySystem(at, error)
        with monkeypatch.context() as patched:
            use(patched, system)
            with suppress(ek.CheckpointError, KeyboardInterrupt):
                loop.save(path)
        if system.calls < at:
            break
        again = ek.AskTell(problem(), METHOD, **OPTIONS)
        if not (path / "checkpoint.json").exists():
            again.save(path)  # another run may take the folder
            assert not list(path.glob("*.tmp"))
        else:
            check_whole(path, loop, loop.result())
    assert at > 15


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # unclosed files
def test_ctrl_c_at_every_line_of_a_save_leaves_a_valid_checkpoint(tmp_path):
    files = {m.__file__ for m in (blocks, checkpoint, disk, folder, index, lines, lock, saved)}

    def interrupted(at, path):
        """Whether line ``at`` of the save was reached, where a KeyboardInterrupt came."""
        loop, before = started(path)
        seen = 0

        def trace(frame, event, arg):
            nonlocal seen
            if frame.f_code.co_filename not in files:
                return None
            if event == "line":
                seen += 1
                if seen == at:
                    raise KeyboardInterrupt
            return trace

        tracer = sys.gettrace()
        sys.settrace(trace)
        try:
            loop.save(path)
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(tracer)
        check_whole(path, loop, before)
        return seen >= at

    moments = range(1, 5000, int(os.environ.get("EKITOOLS_TEST_STRIDE", "41")))
    n_reached = 0
    for at in moments:
        if not interrupted(at, tmp_path / str(at)):
            break
        n_reached += 1
    assert n_reached > 5


DEATHS = """
import os, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from attack_faults import FaultySystem
from loop.test_checkpoint_faults import check_whole, disk, lock, started

class Dying(FaultySystem):
    def __getattr__(self, name):
        value = super().__getattr__(name)
        if self.calls + 1 == self.at and name in ("open", "write", "replace", "link", "unlink"):
            def die(*args, **kwargs):
                if name == "write":
                    os.write(args[0], bytes(args[1])[: len(args[1]) // 2])
                os._exit(9)
            return die
        return value

deaths = 0
for at in range(1, 60):
    path = Path(sys.argv[1]) / str(at)
    loop, before = started(path)
    child = os.fork()
    if not child:
        disk.os = lock.os = Dying(at)
        try:
            loop.save(path)
        finally:
            os._exit(0)
    died = os.WEXITSTATUS(os.waitpid(child, 0)[1]) == 9
    deaths += died
    if died:
        found = __import__("ekitools").resume(path, loop.problem, n_steps=loop.n_steps)
        assert len(list(path.iterdir())) == 4, list(path.iterdir())
print(deaths)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is POSIX")
def test_a_process_that_dies_at_any_system_call_leaves_a_checkpoint_to_resume(tmp_path):
    tests = Path(__file__).parent.parent
    paths = [tests, tests.parent / "benchmarks"]
    found = subprocess.run(
        [sys.executable, "-c", DEATHS, tmp_path, *paths],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert int(found.stdout) > 10


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("moment", range(1, 90, 8))
def test_dying_in_a_run_leaves_a_good_checkpoint(tmp_path, monkeypatch, moment, extended):
    """An exception that nobody handles stands for the death of the process.

    Extending a spent budget takes its last outputs up again, and so replaces what is on disk.
    """
    expected = ek.run(problem(), METHOD, **OPTIONS)
    path = tmp_path / "run"
    n_steps = 2 if extended else 50
    ek.run(problem(), METHOD, n_steps=n_steps if extended else 1, checkpoint=path, **OPTIONS)
    with monkeypatch.context() as patched:
        use(patched, FaultySystem(moment, SystemExit()))
        with pytest.raises(SystemExit):
            ek.resume(path, problem(), n_steps=50)
    np.testing.assert_array_equal(ek.resume(path, problem(), n_steps=50).u, expected.u)


def test_a_full_disk_keeps_the_last_checkpoint_and_what_was_computed(tmp_path, monkeypatch):
    path = tmp_path / "run"
    with monkeypatch.context() as patched:
        use(patched, FaultySystem(60, OSError(errno.ENOSPC, "No space left on device")))
        with pytest.raises(ek.CheckpointError, match="No space left on device.*Free space") as info:
            ek.run(problem(), METHOD, checkpoint=path, **OPTIONS)
    assert info.value.result.sizes["iteration"] >= 2
    assert not list(path.glob("*.tmp"))
    assert not (path / "checkpoint.lock").exists()
    expected = ek.run(problem(), METHOD, **OPTIONS)
    np.testing.assert_array_equal(ek.resume(path, problem()).u, expected.u)


def test_a_read_only_folder_is_said(tmp_path, monkeypatch):
    use(monkeypatch, FaultySystem(1, PermissionError(errno.EACCES, "Permission denied")))
    with pytest.raises(ek.CheckpointError, match="Permission denied"):
        ek.run(problem(), METHOD, checkpoint=tmp_path / "run", **OPTIONS)


@pytest.mark.parametrize("store", ["all", "last", 7])
def test_a_checkpoint_costs_the_same_at_every_iteration(tmp_path, monkeypatch, store):
    """System calls and bytes written, which do not depend on the machine."""
    method = ek.EKI(ek.FixedStep(1e-5), t_end=None)
    loop = ek.AskTell(problem(), method, n_steps=250, store=store, **OPTIONS)
    costs, sizes = [], []
    path = tmp_path / "run"
    while not loop.done:
        tell(loop)
        system = FaultySystem()
        with monkeypatch.context() as patched:
            use(patched, system)
            loop.save(path)
        costs.append((system.calls, system.written))
        sizes.append((path / "checkpoint.json").stat().st_size)
        assert len(list(path.iterdir())) == 4
    early, late = np.array(costs[7:63]), np.array(costs[-57:-1])
    assert late[:, 0].sum() <= early[:, 0].sum()
    assert late[:, 1].sum() <= 1.02 * early[:, 1].sum()
    assert max(sizes[63:-1]) <= max(sizes[:63]) + 30  # longer numbers; the last one has a status
    assert same(ek.resume(path, problem()), loop.result())
