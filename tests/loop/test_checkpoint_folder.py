"""The folder of a checkpoint: nobody else's files are touched, and lost files are written again."""

import os

import numpy as np
import pytest
from zoo.results import same
from zoo.saturating import METHOD, OPTIONS, model, never, problem

import ekitools as ek
from ekitools.loop import disk


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
    with pytest.raises(ek.CheckpointError, match="which is not part of a checkpoint"):
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
