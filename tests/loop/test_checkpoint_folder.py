"""The folder of a checkpoint: nobody else's files, one process at a time, files that are lost."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from zoo.results import same

import ekitools as ek
from ekitools.loop import disk, lock

MATRIX = np.random.default_rng(0).normal(size=(6, 3))
METHOD = ek.EKI(ek.FixedStep(0.15))
OPTIONS = {"n_members": 5, "rng": 0}


def model(u):
    return np.tanh(MATRIX @ u)


def problem(fn=model):
    prior = ek.GaussianPrior(np.zeros(3), 1.0)
    return ek.InverseProblem(ek.FunctionModel(fn), prior, 0.01, model(np.ones(3)))


def never(u):
    raise AssertionError("the model was run")


def tell(loop):
    loop.tell(np.array([model(u) for u in loop.ask()]))


def contents(path):
    return {p.name: p.read_bytes() for p in path.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    "name",
    [
        "results.npz", "notes.tmp", "x.npy", "state-1.npy", "state-000001.npz", ".hidden",
        "state-0123456789abcdeg.npy", "state-0123456789abcdef.npz", "checkpoint.json.tmp",
        "records-0123456789abcdef.npy.bak", "folder/file",
    ],
)  # fmt: skip
def test_a_folder_that_holds_anything_else_is_refused_and_left_alone(tmp_path, name):
    path = tmp_path / "run"
    (path / name).parent.mkdir(parents=True)
    (path / name).write_text("mine")
    before = contents(path)
    first = name.partition("/")[0]
    with pytest.raises(ek.CheckpointError, match=f"holds '{first}', .* empty or a new folder"):
        ek.run(problem(never), METHOD, checkpoint=path, **OPTIONS)
    loop = ek.AskTell(problem(), METHOD, **OPTIONS)
    with pytest.raises(ek.CheckpointError, match=f"holds '{first}'"):
        loop.save(path)
    assert contents(path) == before


def test_files_put_into_a_checkpoint_are_left_alone(tmp_path):
    path = tmp_path / "run"
    ek.run(problem(), METHOD, n_steps=2, checkpoint=path, **OPTIONS)
    mine = {"results.npz": b"1", "state.npy": b"2", "old.tmp": b"3"}
    for name, content in mine.items():
        (path / name).write_bytes(content)
    ek.resume(path, problem(), n_steps=5)
    assert mine.items() <= contents(path).items()
    assert len(contents(path)) == 4 + len(mine)


@pytest.mark.parametrize("again", ["resume", "save", "finished"])
def test_strays_of_a_killed_save_are_cleared(tmp_path, again):
    path = tmp_path / "run"
    ek.run(problem(), METHOD, n_steps=2, checkpoint=path, **OPTIONS)
    kept = set(contents(path))
    strays = [disk.fresh_name(kind) for kind in ("state", "history", "records", "checkpoint")]
    for name in strays:
        (path / name).write_bytes(b"half")
    loop = ek.AskTell.load(path, problem(), n_steps=3)
    assert kept | set(strays) == set(contents(path))  # loading changes nothing
    if again == "finished":
        ek.resume(path, problem())
    elif again == "resume":
        ek.resume(path, problem(), n_steps=3)
    else:
        loop.save(path)
    assert not set(strays) & set(contents(path))
    assert len(contents(path)) == 4


def test_strays_of_a_first_save_do_not_keep_a_new_run_out(tmp_path):
    (tmp_path / disk.fresh_name("state")).write_bytes(b"half")
    ek.run(problem(), METHOD, n_steps=2, checkpoint=tmp_path, **OPTIONS)
    assert len(contents(tmp_path)) == 4


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_no_link_is_followed(tmp_path, monkeypatch):
    target = tmp_path / "precious"
    target.write_text("mine")
    path = tmp_path / "run"
    path.mkdir()
    (path / "checkpoint.json").symlink_to(target)
    with pytest.raises(ek.CheckpointError):
        ek.run(problem(never), METHOD, checkpoint=path, **OPTIONS)
    (path / "checkpoint.json").unlink()
    (path / disk.fresh_name("state")).symlink_to(target)
    with pytest.raises(ek.CheckpointError, match="which no checkpoint has written"):
        ek.run(problem(never), METHOD, checkpoint=path, **OPTIONS)
    other = tmp_path / "other"
    loop = ek.AskTell(problem(), METHOD, **OPTIONS)
    other.mkdir()
    guessed = "state-0123456789abcdef.npy"
    (tmp_path / guessed).symlink_to(target)
    with pytest.raises(FileExistsError), disk.create(tmp_path, guessed):
        pass
    loop.save(other)
    tell(loop)
    (log,) = other.glob("history-*")
    log.unlink()
    log.symlink_to(target)
    with pytest.warns(RuntimeWarning, match=f"{log.name} was lost .*replaced by another file"):
        loop.save(other)
    assert target.read_text() == "mine"
    assert same(ek.AskTell.load(other, problem()).result(), loop.result())


def test_temporary_names_cannot_be_guessed():
    assert len({disk.fresh_name("checkpoint") for _ in range(100)}) == 100
    assert all(disk.is_name("state", disk.fresh_name("state")) for _ in range(100))


@pytest.mark.parametrize(
    ("value", "error"), [("", ValueError), ("a\0b", ValueError), (b"a", TypeError), (3, TypeError)]
)
def test_a_path_that_is_none_is_refused_by_the_name_of_the_argument(
    tmp_path, monkeypatch, value, error
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match="checkpoint: must be the path of a folder"):
        ek.run(problem(never), METHOD, checkpoint=value, **OPTIONS)
    with pytest.raises(error, match="path: must be the path of a folder"):
        ek.resume(value, problem(never))
    with pytest.raises(error, match="path: must be the path of a folder"):
        ek.AskTell(problem(), METHOD, **OPTIONS).save(value)
    assert list(tmp_path.iterdir()) == []


def test_a_model_may_change_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()

    def wandering(u):
        os.chdir(tmp_path / "elsewhere")
        return model(u)

    ek.run(problem(wandering), METHOD, n_steps=2, checkpoint="run", **OPTIONS)
    monkeypatch.chdir(tmp_path)
    ek.resume("run", problem(wandering), n_steps=4)
    assert len(contents(tmp_path / "run")) == 4
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_run_may_be_saved_to_several_folders_in_turn(tmp_path):
    loop = ek.AskTell(problem(), METHOD, **OPTIONS)
    for n in range(4):
        tell(loop)
        loop.save(tmp_path / "ab"[n % 2])
    tell(loop)
    for name in "abc":
        loop.save(tmp_path / name)
        assert same(ek.AskTell.load(tmp_path / name, problem()).result(), loop.result())


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
        while not Path(f"/proc/{process.pid}/stat").exists() and process.poll() is None:
            time.sleep(0.01)
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
        lock.Lock(tmp_path).release()
        assert not (tmp_path / "checkpoint.lock").exists()
    living = [holder(host="elsewhere"), holder(host="elsewhere", pid=over)]
    living.append(holder(namespace="another container", pid=over))
    for each in living:
        put(tmp_path, each)
        with pytest.raises(ek.CheckpointError, match="has ended, delete .*checkpoint.lock"):
            lock.Lock(tmp_path)
        assert (tmp_path / "checkpoint.lock").exists()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"host": "a"}', json.dumps(holder(pid="1")._asdict()), "[" * 4000]
)
def test_an_unreadable_lock_is_said_with_the_remedy(tmp_path, monkeypatch, text):
    monkeypatch.setattr(lock, "_PAUSE", 0)
    put(tmp_path, text)
    with pytest.raises(ek.CheckpointError, match="not a readable lock file. Delete it"):
        lock.Lock(tmp_path)


def test_one_of_many_takes_over_a_stale_lock(tmp_path, over):

    def attempt(barrier, got, refused):
        barrier.wait()
        try:
            got.append(lock.Lock(tmp_path))
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
    held = lock.Lock(tmp_path)
    with pytest.raises(ek.CheckpointError, match="in use by"):
        lock.Lock(tmp_path)
    held.release()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["folder", "checkpoint.json", "state", "history", "records"])
@pytest.mark.parametrize("how", ["deleted", "truncated", "replaced"])
@pytest.mark.parametrize("store", ["all", "last"])
def test_what_is_lost_during_a_run_is_written_again_with_a_warning(tmp_path, what, how, store):
    import shutil

    path, whole = tmp_path / "run", ek.run(problem(), METHOD, store=store, **OPTIONS)
    if what in ("folder", "checkpoint.json") and how != "deleted":
        pytest.skip("another message")
    if (store, what, how) == ("last", "records", "truncated"):
        pytest.skip("the file is empty")

    def lose(info):
        if info.iteration != 3:
            return
        if what == "folder":
            shutil.rmtree(path)
            return
        (file,) = path.glob(what + "*")
        if how == "truncated":
            os.truncate(file, file.stat().st_size // 2)
            return
        content = file.read_bytes()
        if how == "replaced":
            file.rename(path / "kept")
            file.write_bytes(content)
        else:
            file.unlink()

    with pytest.warns(RuntimeWarning, match="was lost during the run .*written again") as warned:
        result = ek.run(problem(), METHOD, store=store, checkpoint=path, on_step=lose, **OPTIONS)
    assert len(warned) == 1
    assert same(result, whole)
    assert same(ek.resume(path, problem()), whole)
    assert len(list(path.glob("*-*"))) == 3
    assert not (path / "checkpoint.lock").exists()


def test_a_checkpoint_that_another_run_replaced_is_not_overwritten(tmp_path):
    path = tmp_path / "run"
    first = ek.AskTell(problem(), METHOD, **OPTIONS)
    tell(first)
    first.save(path)
    second = ek.AskTell.load(path, problem())
    tell(second)
    second.save(path)
    tell(first)
    with pytest.raises(ek.CheckpointError, match="checkpoint.json was changed by another program"):
        first.save(path)
    assert same(ek.AskTell.load(path, problem()).result(), second.result())


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


def test_a_checkpoint_is_read_while_another_process_saves(tmp_path, monkeypatch):
    """The state file that was listed a moment ago is gone: the new checkpoint is read."""
    from ekitools.loop import folder as folders

    path = tmp_path / "run"
    loop = ek.AskTell(problem(), METHOD, **OPTIONS)
    loop.save(path)
    read, n_reads = folders.read_index, []

    def racing(folder):
        data = read(folder)
        n_reads.append(1)
        if len(n_reads) == 1:
            tell(loop)
            with monkeypatch.context() as calm:
                calm.setattr(folders, "read_index", read)
                loop.save(path)
        return data

    monkeypatch.setattr(folders, "read_index", racing)
    assert same(ek.AskTell.load(path, problem()).result(), loop.result())


def test_a_finished_run_is_read_from_a_folder_that_cannot_be_written_to(tmp_path, monkeypatch):
    path = tmp_path / "run"
    result = ek.run(problem(), METHOD, checkpoint=path, **OPTIONS)
    (path / disk.fresh_name("state")).write_bytes(b"a stray")

    def refuse(*args, **kwargs):
        raise OSError("read-only file system")

    for name in ("link", "unlink", "write"):
        monkeypatch.setattr(os, name, refuse)
    assert same(ek.resume(path, problem()), result)
