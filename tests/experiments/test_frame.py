"""The frame of the experiments, with a tiny experiment."""

import json
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

import ekitools as ek
from ekitools import cli
from ekitools.experiments import SCALES, frame, reproduce


@dataclass(frozen=True)
class Tiny:
    labels: tuple[str, ...] = ("a", "b", "c")
    factor: float = 2.0


@pytest.fixture
def tiny(monkeypatch):
    """An experiment that is done at once, and the labels that it was asked for."""
    asked = []

    def compute(settings, label, folder, progress, device=None):
        asked.append(label)
        made.devices.append(device)
        made.clock += 100.0
        if label == made.fails and not made.late:
            raise KeyboardInterrupt
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "ensemble").write_text("large")
        if label == made.fails:
            raise KeyboardInterrupt
        return {"value": settings.factor * len(asked), "progress": progress}

    def table(settings, numbers):
        return f"{len(numbers)} parts"

    made = SimpleNamespace(
        SETTINGS=dict.fromkeys(SCALES, Tiny()),
        PUBLISHED={"a": 1.5},
        parts=lambda settings: list(settings.labels),
        compute=compute,
        table=table,
        draw=lambda settings, numbers, path: path.write_text(",".join(numbers)),
        asked=asked,
        devices=[],  # that it was asked for
        fails=None,
        late=False,  # whether it leaves a checkpoint before it fails
        clock=0.0,
    )
    monkeypatch.setattr(frame.time, "perf_counter", lambda: made.clock)
    monkeypatch.setitem(frame.EXPERIMENTS, "tiny", "tiny")
    monkeypatch.setattr(frame, "import_module", lambda name: made)
    return made


def test_numbers_figure_and_report(tiny, tmp_path):
    lines = []
    record = reproduce("tiny", scale="medium", out=tmp_path / "new" / "t", show=lines.append)
    assert record == json.loads((tmp_path / "new" / "t" / "numbers.json").read_text("utf-8"))
    assert (record["experiment"], record["scale"]) == ("tiny", "medium")
    assert record["settings"] == {"labels": ["a", "b", "c"], "factor": 2.0}
    assert record["published"] == {"a": 1.5}
    assert record["versions"]["ekitools"] == ek.__version__
    assert [record["numbers"][label]["value"] for label in "abc"] == [2.0, 4.0, 6.0]
    assert [part["seconds"] for part in record["numbers"].values()] == [100.0] * 3
    assert (tmp_path / "new" / "t" / "figure.png").read_text() == "a,b,c"
    assert "3 parts" in lines
    assert not any((tmp_path / "new" / "t" / "checkpoints").iterdir())


def test_a_part_says_where_it_was_computed(tiny, tmp_path):
    record = reproduce("tiny", out=tmp_path / "a", show=lambda line: None)
    for part in record["numbers"].values():
        assert part["device"].startswith("CPU, ")
        assert part["device_bytes"] is None
    assert tiny.devices == [None] * 3  # of experiments without networks
    reproduce("cnn", out=tmp_path / "b", show=lambda line: None)
    assert tiny.devices[3:] == ["cpu"] * 3


def test_the_peak_of_the_device_is_that_of_the_part(tiny, tmp_path, monkeypatch):
    used = []
    monkeypatch.setattr(frame, "checked_device", lambda device: device)
    monkeypatch.setattr(frame, "device_name", lambda device: f"the {device}")
    monkeypatch.setattr(frame, "reset_peak", lambda device: used.append(tuple(tiny.asked)))
    monkeypatch.setattr(frame, "peak_bytes", lambda device: 1000 * len(tiny.asked))
    record = reproduce("cnn", out=tmp_path, device="cuda", show=lambda line: None)
    assert tiny.devices == ["cuda"] * 3
    assert used == [(), ("a",), ("a", "b")]
    assert [part["device"] for part in record["numbers"].values()] == ["the cuda"] * 3
    assert [part["device_bytes"] for part in record["numbers"].values()] == [1000, 2000, 3000]


def test_parts_are_found_by_patterns(tiny, tmp_path):
    labels = ("DNN 1, EKI(R)", "DNN 1, MEKI(R)", "DNN 2, EKI(R)", "[x]")
    tiny.SETTINGS["small"] = Tiny(labels=labels)
    reproduce("tiny", out=tmp_path / "a", only=["DNN ?, EKI(R)*"], show=lambda line: None)
    assert tiny.asked == ["DNN 1, EKI(R)", "DNN 2, EKI(R)"]
    reproduce("tiny", out=tmp_path / "b", only=["[x]"], show=lambda line: None)
    assert tiny.asked[2:] == ["[x]"]


def test_only_what_is_missing_is_computed_on_resume(tiny, tmp_path):
    tiny.fails = "b"
    with pytest.raises(KeyboardInterrupt):
        reproduce("tiny", out=tmp_path, show=lambda line: None)
    assert list(json.loads((tmp_path / "numbers.json").read_text("utf-8"))["numbers"]) == ["a"]
    tiny.fails = None
    lines = []
    record = reproduce("tiny", out=tmp_path, resume=True, progress=True, show=lines.append)
    assert tiny.asked == ["a", "b", "b", "c"]
    assert [part["progress"] for part in record["numbers"].values()] == [False, True, True]
    assert lines[0] == "a: already computed"


def test_parts_can_be_computed_alone_and_the_rest_later(tiny, tmp_path, capsys):
    where = ["reproduce", "mnist-dense", "--quiet", "--out", str(tmp_path)]
    assert cli.main([*where, "--only", "c", "--only", "a"]) == 0
    assert tiny.asked == ["a", "c"]
    told = capsys.readouterr().out
    assert "still to be computed: b." in told
    assert "3 parts" not in told
    assert not (tmp_path / "figure.png").exists()
    assert cli.main([*where, "--resume"]) == 0
    assert tiny.asked == ["a", "c", "b"]
    assert (tmp_path / "figure.png").read_text() == "a,c,b"


def test_the_seconds_of_a_part_are_those_of_all_its_sessions(tiny, tmp_path):
    tiny.fails, tiny.late = "b", True
    for resume in (False, True):
        with pytest.raises(KeyboardInterrupt):
            reproduce("tiny", out=tmp_path, resume=resume, show=lambda line: None)
    tiny.fails, tiny.clock = None, 7.0  # in another process, whose clock has another zero
    record = reproduce("tiny", out=tmp_path, resume=True, show=lambda line: None)
    seconds = {label: part["seconds"] for label, part in record["numbers"].items()}
    assert seconds == {"a": 100.0, "b": 300.0, "c": 100.0}
    assert not any((tmp_path / "checkpoints").iterdir())


def test_a_first_part_that_fails_at_once_leaves_the_folder_free(tiny, tmp_path):
    tiny.fails = "a"
    for factor in (2.0, 3.0):
        tiny.SETTINGS["small"] = Tiny(factor=factor)
        with pytest.raises(KeyboardInterrupt):
            reproduce("tiny", out=tmp_path, show=lambda line: None)
    tiny.late = True
    with pytest.raises(KeyboardInterrupt):
        reproduce("tiny", out=tmp_path, show=lambda line: None)
    with pytest.raises(ValueError, match="holds an experiment already"):  # its checkpoint
        reproduce("tiny", out=tmp_path, show=lambda line: None)
    tiny.fails = None
    record = reproduce("tiny", out=tmp_path, resume=True, show=lambda line: None)
    assert record["settings"]["factor"] == 3.0


def test_a_used_folder_is_not_written_over(tiny, tmp_path):
    reproduce("tiny", out=tmp_path, show=lambda line: None)
    with pytest.raises(ValueError, match=r"out: .*holds an experiment already.*--resume"):
        reproduce("tiny", out=tmp_path, show=lambda line: None)


def test_other_settings_are_refused(tiny, tmp_path):
    reproduce("tiny", out=tmp_path, show=lambda line: None)
    tiny.SETTINGS["small"] = Tiny(factor=3.0)
    with pytest.raises(ValueError, match=r"out: .*tiny, which is not .* settings.*another folder"):
        reproduce("tiny", out=tmp_path, resume=True, show=lambda line: None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "mnist"}, "name: must be one of mnist-dense, .*got 'mnist'"),
        ({"name": "mnist-dense", "scale": "huge"}, "scale: must be \"small\".*got 'huge'"),
        ({"name": "online-sunspots", "only": ["EKI, seed 0", "x*"]}, r"only: .* got \['x\*'\]"),
        ({"name": "cnn", "device": "tpu"}, "device: must be .* or \"mps\", got 'tpu'"),
    ],
)
def test_unknown_names_are_refused(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        reproduce(**options, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command(tiny, tmp_path, capsys):
    assert cli.main(["reproduce", "mnist-dense", "--quiet", "--out", str(tmp_path)]) == 0
    assert "3 parts" in capsys.readouterr().out
    assert cli.main(["reproduce", "mnist-dense", "--quiet", "--out", str(tmp_path)]) == 2
    assert "--resume" in capsys.readouterr().err
