"""Small versions of benchmarks/attacks.py: every attack is held, and a broken part is noticed."""

import os
from itertools import islice

import attack_checkpoints
import attack_faults
import attack_folders
import attack_models
import attacks
import pytest
from attack_tools import OPTIONS, method, polite, problem, whole

import ekitools as ek
from ekitools.loop import disk
from ekitools.models import outputs

pytestmark = pytest.mark.skipif(os.name != "posix", reason="forks, signals and links")


@pytest.mark.parametrize("part", attacks.present(attacks.PARTS, quick=True))
def test_every_attack_is_held(part):
    said = []
    rows = attacks.table([part], quick=True, report=said.append)
    assert not said
    assert rows
    assert all(tried == held > 0 for _, tried, held in rows)


@pytest.mark.parametrize("where", attack_models.NEEDS)
def test_rude_models_are_held_by_clusters(where):
    pytest.importorskip(attack_models.NEEDS[where])
    acts = tuple(attack_models.ACTS)[list(attack_models.NEEDS).index(where) :: 3]
    found = list(attack_models.outcomes(where, attack_models.Reference(), acts))
    assert len(found) > 15
    assert not not_held(found)


def test_a_table_ends_with_the_sums(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["attacks.py", "--only", "folders"])
    monkeypatch.setattr(attacks, "table", lambda names, quick: [("a link", 7, 6), ("a pipe", 5, 5)])
    attacks.main()
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[1:] == [["a", "link", "7", "6"], ["a", "pipe", "5", "5"], ["all", "12", "11"]]


def not_held(found):
    return [each for each in found if each is not None]


def test_an_index_that_is_not_replaced_at_once_is_noticed(tmp_path, monkeypatch):
    def in_place(folder, data):
        (folder / disk.INDEX).unlink(missing_ok=True)
        with disk.create(folder, disk.INDEX) as sink:
            sink.write(data)
            sink.finish(disk.INDEX)

    monkeypatch.setattr("ekitools.loop.folder.replace_index", in_place)
    fault = attack_faults.FAULTS["no space left at a system call"]
    assert not_held(islice(attack_faults.outcomes(tmp_path, fault), 20))


def test_a_checkpoint_that_has_lost_a_file_is_noticed(tmp_path):
    expected = ek.run(problem(), method(), **OPTIONS)
    path = tmp_path / "run"
    ek.run(problem(), method(), checkpoint=path, **OPTIONS)
    assert whole(path, expected, method()) is None
    (path / "kept").touch()
    assert "the folder holds" in whole(path, expected, method())
    next(path.glob("records-*")).unlink()
    assert "records-" in whole(path, expected, method())


def test_a_link_that_is_deleted_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "_is_ours", lambda entry: bool(disk._OURS.fullmatch(entry.name)))
    room, expected = attack_folders.room(tmp_path, 0), ek.run(problem(), method(), **OPTIONS)
    ours, link = attack_folders.OURS, attack_folders.link
    found = attack_folders.meddled(*room, ours, link, expected, must_go_on=True)
    assert found == "something foreign was changed"


def test_a_long_reason_and_another_result_are_noticed(monkeypatch):
    reference = attack_models.Reference()
    monkeypatch.setattr(outputs, "LONGEST_REASON", 10**8)
    found = attack_models.outcome(reference, "an exception of 10 MB", "serial", None)
    assert found.startswith("the reason is ValueError")
    monkeypatch.setattr(attack_models, "polite", lambda u: polite(u) + 1e-9)
    reference = attack_models.Reference()
    found = attack_models.outcome(reference, "prints", "serial", None)
    assert found == "u is not bitwise the expected one"


def test_a_changed_byte_that_is_read_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "ekitools.loop.saved.verified",
        lambda folder, name, size, sha256: disk.File(name, size, None, 0),
    )
    title = "a bit of every byte of every file is flipped"
    asked, at_hand = attack_checkpoints.at_hand_in(tmp_path, stride=61)
    found = attack_checkpoints.outcomes(title, at_hand, tmp_path, asked)
    assert "loaded" in not_held(found)
