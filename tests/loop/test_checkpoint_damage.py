"""Damaged checkpoints: an error names every changed byte, missing file and wrong entry."""

import json
import os

import attack_checkpoints as attacks
import checkpoints
import numpy as np
import pytest
from zoo.results import same

import ekitools as ek


@pytest.fixture(scope="module")
def at_hand(tmp_path_factory):
    path = tmp_path_factory.mktemp("genuine")
    return path, *attacks.at_hand_in(path, stride=61)


def test_a_genuine_checkpoint_is_no_attack(at_hand):
    path, problem, found = at_hand
    attacks.lay(path / "attacked", found.files)
    assert attacks.outcome(path / "attacked", problem, None) is None
    assert attacks.outcome(path / "attacked", problem, "x") == "loaded"


def test_new_digests_alone_are_no_damage(at_hand):
    path, problem, found = at_hand
    again = attacks.signed(found.files, history=attacks.of_kind(found.files, "history"))
    assert again == found.files
    attacks.lay(path / "attacked", again)
    ek.AskTell.load(path / "attacked", problem)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "run"
    return path, attacks.make(path)


@pytest.mark.parametrize("kept", [0, 10, 200])
@pytest.mark.parametrize("kind", ["state", "records", "history"])
def test_truncated_files_are_said(saved, kind, kept):
    path, problem = saved
    (file,) = path.glob(f"{kind}-*")
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ek.CheckpointError, match=f"{file.name} is missing or damaged.*it ends"):
        ek.resume(path, problem)


def test_flipped_bits_are_found(saved):
    path, problem = saved
    (file,) = path.glob("state-*")
    content = bytearray(file.read_bytes())
    content[200] ^= 1  # inside the numbers
    file.write_bytes(bytes(content))
    with pytest.raises(ek.CheckpointError, match="is missing or damaged .its SHA-256"):
        ek.resume(path, problem)


def test_missing_files_are_said(saved, tmp_path):
    path, problem = saved
    with pytest.raises(
        ek.CheckpointError, match="path: must be a checkpoint folder.* start a new run"
    ):
        ek.resume(tmp_path / "nothing", problem)
    for file in path.glob("*-*"):
        content = file.read_bytes()
        file.unlink()
        with pytest.raises(ek.CheckpointError, match=f"{file.name} is missing or damaged"):
            ek.resume(path, problem)
        file.write_bytes(content)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": ', '{"format": 4}'])
def test_a_damaged_index_is_said(saved, text):
    path, problem = saved
    (path / "checkpoint.json").write_text(text)
    with pytest.raises(ek.CheckpointError, match=r"checkpoint.json is missing or damaged"):
        ek.resume(path, problem)


def test_a_changed_digit_of_the_index_is_said(saved):
    path, problem = saved
    index = path / "checkpoint.json"
    text = index.read_text()
    seed = json.loads(text)["seed"][0]
    index.write_text(text.replace(str(seed), str(seed ^ 1)))
    with pytest.raises(ek.CheckpointError, match="checkpoint.json is missing or damaged .*SHA-256"):
        ek.resume(path, problem)


def test_an_index_of_any_size_is_damage(saved):
    path, problem = saved
    os.truncate(path / "checkpoint.json", 2**40)  # takes no space
    with pytest.raises(ek.CheckpointError, match="checkpoint.json .*it has 1099511627776 bytes"):
        ek.resume(path, problem)


def test_a_damaged_checkpoint_is_left_alone(saved):
    path, problem = saved
    (file,) = path.glob("records-*")
    file.write_bytes(file.read_bytes()[:-1])
    before = attacks.contents(path)
    with pytest.raises(ek.CheckpointError):
        ek.resume(path, problem)
    assert attacks.contents(path) == before


def test_a_forged_header_allocates_nothing(at_hand):
    """10¹² entries are claimed, with the digests that belong to the forged file."""
    import tracemalloc

    path, problem, found = at_hand
    data = attacks.of_kind(found.files, "records")
    size = 10 + int.from_bytes(data[8:10], "little")
    header = data[10:size].replace(b"()", b"(1000000000000,)")
    forged = data[:8] + len(header).to_bytes(2, "little") + header + data[size:]
    attacks.lay(path / "attacked", attacks.signed(found.files, records=forged))
    tracemalloc.start()
    with pytest.raises(ek.CheckpointError, match="records-.* claims 8000000000000 bytes"):
        ek.resume(path / "attacked", problem)
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()


def test_a_state_of_python_objects_is_refused_with_its_name(tmp_path, saved):
    from ekitools.loop.blocks import write_bundle
    from ekitools.loop.disk import create

    with (
        create(tmp_path, "file") as sink,
        pytest.raises(ek.CheckpointError, match="cannot hold state.x .*pickle"),
    ):
        write_bundle(sink, {"state.x": np.array([object()])})


def test_what_was_appended_after_the_last_commit_is_cut_off(saved):
    path, problem = saved
    expected = ek.AskTell.load(path, problem).result()
    sizes = {}
    for file in path.glob("*-*"):
        sizes[file.name] = file.stat().st_size
        if not file.name.startswith("state"):
            with file.open("ab") as opened:
                opened.write(b"what a killed save has left" * 1000)
    loop = ek.AskTell.load(path, problem)
    assert same(loop.result(), expected)
    attacks.tell(loop)
    loop.save(path)
    for file in path.glob("[hr]*-*"):
        assert file.stat().st_size < sizes[file.name] + 27_000
    assert same(ek.AskTell.load(path, problem).result(), loop.result())


def test_the_cost_table_has_both_ways_of_storing(tmp_path, monkeypatch):
    """Small version of benchmarks/checkpoints.py."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    for store in ("all", "last"):
        row = checkpoints.row(tmp_path / store, store, iterations=200, window=20)
        assert row["files"] == 5  # the lock too
        assert min(*row["wall"], *row["processor"]) > 0
        assert row["index"] < 3000


@pytest.mark.parametrize("value", [1.5, 2, True, np.float32(0.1), np.int64(3), np.nan])
def test_numbers_that_a_method_reports_come_back(tmp_path, value):
    from ekitools.loop.disk import create, verified
    from ekitools.loop.lines import read_lines, write_lines
    from ekitools.results.history import Summary
    from ekitools.typing import Reported

    summary = Summary(0.1, np.nan, 2.0, 1.0, 5, 2.0, {"x": Reported(value, "a name")})
    failure = {"iteration": 0, "member": 3, "reason": "ü" * 10}
    name = "history-0123456789abcdef.jsonl"
    with create(tmp_path, name) as sink:
        write_lines(sink, [summary], [failure], start=(0, 0))
        file = sink.finish(name)
    file = verified(tmp_path, name, file.size, file.digest.hexdigest())
    (back,), failures = read_lines(tmp_path, file, (1, 1))
    np.testing.assert_equal(back.extra["x"].value, np.asarray(value).item())
    assert failures == [failure]


def test_what_is_no_number_is_not_reported(tmp_path):
    from ekitools.loop.disk import create
    from ekitools.loop.lines import write_lines

    with (
        create(tmp_path, "file") as sink,
        pytest.raises(ek.CheckpointError, match="method report numbers"),
    ):
        write_lines(sink, [object()], [], start=(0, 0))
