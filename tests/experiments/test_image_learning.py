"""Experiments with networks on images, with tiny images."""

import json
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from zoo.images import images

import ekitools as ek
from ekitools import cli
from ekitools.experiments import (
    SCALES,
    ensemble_size,
    image_learning,
    mnist_dense,
    mnist_methods,
    networks,
    reproduce,
)
from ekitools.experiments.images import Data, split_of


@pytest.fixture
def tiny_images(monkeypatch):
    pytest.importorskip("torch", reason="the networks are torch modules")
    for name in ("mnist", "fashion_mnist"):
        monkeypatch.setattr(ek.datasets, name, images)
    monkeypatch.setitem(networks.NETWORKS, "DNN 2", (6,))
    return Data(validation=60)


def shortened(recipe, **changes):
    if isinstance(recipe, image_learning.Descent):
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
    accuracies = image_learning._accuracies

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 6:  # between the checkpoint of the third epoch and its accuracies
            raise KeyboardInterrupt
        return accuracies(*arguments)

    monkeypatch.setattr(image_learning, "_accuracies", interrupted)
    with pytest.raises(KeyboardInterrupt):
        mnist_dense.compute(settings, "DNN 1, EKI(R)", tmp_path / "parts", False)
    monkeypatch.undo()
    monkeypatch.setattr(ek.datasets, "mnist", images)
    assert mnist_dense.compute(settings, "DNN 1, EKI(R)", tmp_path / "parts", False) == whole


def test_an_interrupted_epoch_does_not_pass_for_a_whole_one(tiny_images, tmp_path, monkeypatch):
    settings = small_dense(tiny_images)
    take = ek.AskTell._take

    def interrupted(loop, *arguments, **options):
        take(loop, *arguments, **options)
        if loop.n == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(ek.AskTell, "_take", interrupted)
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
    settings = replace(mnist_dense.SETTINGS["small"], data=Data(validation=60))
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
    split = split_of(tiny_images)
    given = images()
    raw = given.x_train[:300].reshape(300, -1) / 255
    np.testing.assert_allclose(split.x_train.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(
        split.x_test,
        (given.x_test.reshape(120, -1) / 255 - raw.mean(axis=0)) / (2 * raw.std()),
        atol=1e-5,
    )
    np.testing.assert_array_equal(split.y_validation, given.y_train[300:])
    plain = split_of(replace(tiny_images, centred=False))
    np.testing.assert_allclose(plain.x_train, raw, atol=1e-6)
    assert split.x_train.dtype == np.float32
    with pytest.raises(ValueError, match="validation: must be between 0 and 359, got 360"):
        split_of(replace(tiny_images, validation=360))


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
