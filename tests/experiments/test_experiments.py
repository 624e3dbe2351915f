"""The published experiments: the frame with a tiny experiment, the networks with tiny images."""

import json
import sys
from dataclasses import dataclass, replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

import ekitools as ek
from ekitools import cli, experiments
from ekitools.datasets import Images
from ekitools.experiments import (
    SCALES,
    _mnist,
    _networks,
    ensemble_size,
    mnist_dense,
    mnist_methods,
    reproduce,
)


@dataclass(frozen=True)
class Tiny:
    labels: tuple[str, ...] = ("a", "b", "c")
    factor: float = 2.0


@pytest.fixture
def tiny(monkeypatch):
    """An experiment that is done at once, and what it was asked for."""
    asked = []

    def compute(settings, label, folder, progress):
        asked.append(label)
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
        fails=None,
        late=False,  # whether it leaves a checkpoint before it fails
        clock=0.0,
    )
    monkeypatch.setattr(experiments.time, "perf_counter", lambda: made.clock)
    monkeypatch.setitem(experiments.EXPERIMENTS, "tiny", "tiny")
    monkeypatch.setattr(experiments, "import_module", lambda name: made)
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
    assert lines[0] == "a: done before"


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
    with pytest.raises(ValueError, match=r"out: .*tiny with other settings.*another folder"):
        reproduce("tiny", out=tmp_path, resume=True, show=lambda line: None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "mnist"}, "name: must be one of mnist-dense, .*got 'mnist'"),
        ({"name": "mnist-dense", "scale": "huge"}, "scale: must be one of small.*got 'huge'"),
        ({"name": "online-sunspots", "only": ["EKI, seed 0", "x"]}, r"only: .* got \['x'\]"),
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


def images(n_train=360, n_test=120, n_classes=3):
    """Random 28 x 28 images, of classes that differ in which rows are light."""
    rng = np.random.default_rng(0)

    def some(n):
        y = rng.integers(n_classes, size=n).astype(np.uint8)
        x = rng.integers(0, 120, size=(n, 28, 28))
        for label in range(n_classes):
            x[y == label, 8 * label : 8 * label + 8] += 100
        return x.astype(np.uint8), y

    return Images(*some(n_train), *some(n_test), tuple("abc"))


@pytest.fixture
def tiny_images(monkeypatch):
    pytest.importorskip("torch", reason="the networks are torch modules")
    for name in ("mnist", "fashion_mnist"):
        monkeypatch.setattr(ek.datasets, name, images)
    monkeypatch.setitem(_networks.NETWORKS, "DNN 2", (6,))
    return _mnist.Data(validation=60)


def shortened(recipe, **changes):
    if isinstance(recipe, _mnist.Descent):
        return replace(recipe, epochs=4, batch=30)
    return replace(recipe, n_members=60, epochs=5, batch=100, **changes)


def small_dense(data):
    settings = mnist_dense.SETTINGS["small"]
    methods = {name: shortened(recipe) for name, recipe in settings.methods.items()}
    return replace(settings, methods=methods, data=data)


@pytest.mark.parametrize("label", mnist_dense.parts(mnist_dense.SETTINGS["small"]))
def test_every_method_learns(label, tiny_images, tmp_path):
    settings = small_dense(tiny_images)
    found = mnist_dense.compute(settings, label, tmp_path, False)
    assert found == json.loads(json.dumps(found))
    assert found["status"] == "budget_spent"
    assert len(found["by_epoch"]) == found["epochs"] == settings.methods[label[7:]].epochs
    hidden = {"DNN 1": 785 * 3, "DNN 2": 785 * 6 + 7 * 3}
    assert found["parameters"] == hidden[label[:5]]
    assert ("best_test" in found) == ("SGD" not in label)
    for key in ("test", "validation"):  # chance is 1/3
        assert found[key] == found["by_epoch"][-1][key]
        assert found[key] > 0.6


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(tiny_images, tmp_path, monkeypatch):
    settings = small_dense(tiny_images)
    slow = replace(settings.methods["EKI(R)"], h=0.1)  # no epoch is like the one before
    settings.methods["EKI(R)"] = slow
    whole = mnist_dense.compute(settings, "DNN 1, EKI(R)", tmp_path / "whole", False)
    assert whole == mnist_dense.compute(settings, "DNN 1, EKI(R)", tmp_path / "whole", False)
    calls = []
    accuracies = _mnist._accuracies

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 6:  # between the checkpoint of the third epoch and its accuracies
            raise KeyboardInterrupt
        return accuracies(*arguments)

    monkeypatch.setattr(_mnist, "_accuracies", interrupted)
    with pytest.raises(KeyboardInterrupt):
        mnist_dense.compute(settings, "DNN 1, EKI(R)", tmp_path / "parts", False)
    monkeypatch.undo()
    monkeypatch.setattr(ek.datasets, "mnist", images)
    assert mnist_dense.compute(settings, "DNN 1, EKI(R)", tmp_path / "parts", False) == whole


def test_an_interrupted_epoch_does_not_pass_for_a_whole_one(tiny_images, tmp_path, monkeypatch):
    settings = small_dense(tiny_images)
    tell = ek.AskTell.tell

    def interrupted(loop, *arguments):
        tell(loop, *arguments)
        if loop.n == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(ek.AskTell, "tell", interrupted)
    with pytest.raises(KeyboardInterrupt):
        mnist_dense.compute(settings, "DNN 1, EKI", tmp_path, False)
    assert len(json.loads((tmp_path / "accuracies.json").read_text("utf-8"))) == 1


def test_a_run_that_fails_on_the_way_keeps_its_epochs(tiny_images, tmp_path, monkeypatch):
    settings = small_dense(tiny_images)
    settings.methods["EKI"] = replace(settings.methods["EKI"], h=1e19)
    with pytest.raises(ek.RunError):
        mnist_dense.compute(settings, "DNN 1, EKI", tmp_path / "a", False)

    def failing(*arguments, **options):
        raise ek.RunError("all members failed")

    monkeypatch.setattr(ek, "resume", failing)
    found = mnist_dense.compute(settings, "DNN 1, EKI(R)", tmp_path / "b", False)
    assert (found["status"], found["epochs"]) == ("failed", 1)


def test_without_torch_the_command_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(ek.datasets, "mnist", images)
    settings = replace(mnist_dense.SETTINGS["small"], data=_mnist.Data(validation=60))
    monkeypatch.setitem(mnist_dense.SETTINGS, "small", settings)
    assert cli.main(["reproduce", "mnist-dense", "--quiet", "--out", str(tmp_path / "a")]) == 2
    assert "pip install 'ekitools[torch]'" in capsys.readouterr().err


def test_without_data_the_command_says_where_it_looked(tmp_path, monkeypatch, capsys):
    def missing():
        raise FileNotFoundError("train-images: looked for in the cache")

    monkeypatch.setattr(ek.datasets, "mnist", missing)
    assert cli.main(["reproduce", "mnist-dense", "--quiet", "--out", str(tmp_path / "a")]) == 2
    assert "looked for in" in capsys.readouterr().err


def test_scaling_and_split_do_not_see_the_test_data(tiny_images):
    split = _mnist.split_of(tiny_images)
    given = images()
    raw = given.x_train[:300].reshape(300, -1) / 255
    np.testing.assert_allclose(split.x_train.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(
        split.x_test,
        (given.x_test.reshape(120, -1) / 255 - raw.mean(axis=0)) / (2 * raw.std()),
        atol=1e-5,
    )
    np.testing.assert_array_equal(split.y_validation, given.y_train[300:])
    plain = _mnist.split_of(replace(tiny_images, centred=False))
    np.testing.assert_allclose(plain.x_train, raw, atol=1e-6)
    assert split.x_train.dtype == np.float32
    with pytest.raises(ValueError, match="validation: must be between 0 and 359, got 360"):
        _mnist.split_of(replace(tiny_images, validation=360))


def test_tables_and_figures(tiny_images, tmp_path, monkeypatch):
    dense = small_dense(tiny_images)
    methods = mnist_methods.SETTINGS["small"]
    methods = replace(
        methods,
        methods={name: shortened(recipe) for name, recipe in methods.methods.items()},
        data=tiny_images,
    )
    sizes = ensemble_size.SETTINGS["small"]
    sizes = replace(
        sizes,
        sizes=(20, 40),
        learning=replace(sizes.learning, batch=100),
        data=dict.fromkeys(sizes.data, tiny_images),
    )
    for name, settings, module in (
        ("mnist-dense", dense, mnist_dense),
        ("mnist-methods", methods, mnist_methods),
        ("ensemble-size", sizes, ensemble_size),
    ):
        monkeypatch.setitem(module.SETTINGS, "small", settings)
        lines = []
        record = reproduce(name, out=tmp_path / name, show=lines.append)
        assert list(record["numbers"]) == module.parts(settings)
        assert (tmp_path / name / "figure.png").read_bytes()[:4] == b"\x89PNG"
        text = "\n".join(lines)
        for found in record["numbers"].values():
            assert f"{found['test']:.4f}" in text
    assert "0.9252" in module_table(dense, tmp_path)
    assert "CurvatureEKI (ours)" in module_table(dense, tmp_path)
    assert record["numbers"]["MNIST, J = 20"] != record["numbers"]["MNIST, J = 40"]


def module_table(settings, tmp_path):
    record = json.loads((tmp_path / "mnist-dense" / "numbers.json").read_text("utf-8"))
    return mnist_dense.table(settings, record["numbers"])


@pytest.mark.parametrize("module", [mnist_dense, mnist_methods, ensemble_size])
def test_scales_grow(module):
    assert tuple(module.SETTINGS) == SCALES
    sizes = [len(module.parts(module.SETTINGS[scale])) for scale in SCALES]
    assert all(a <= b for a, b in pairwise(sizes))


def test_published_values_are_the_table():
    published = mnist_dense.PUBLISHED
    assert set(published) <= set(mnist_dense.parts(mnist_dense.SETTINGS["paper"]))
    assert published["DNN 2, EKI(R)"] == {"test": 0.9721, "best_test": 0.9695}
    assert published["DNN 4, MSGD"] == {"test": 0.9840}
    assert sum(len(values) for values in published.values()) == 32
    assert mnist_dense.SETTINGS["paper"].methods["EKI(R)"].n_members == 2000
