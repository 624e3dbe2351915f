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
from ekitools.experiments.recipes import Descent, FallingNormStep, Learning, scheme


@pytest.fixture
def tiny_images(monkeypatch):
    pytest.importorskip("torch", reason="the networks are torch modules")
    for name in ("mnist", "fashion_mnist"):
        monkeypatch.setattr(ek.datasets, name, images)
    monkeypatch.setitem(networks.NETWORKS, "DNN 2", (6,))
    return Data(validation=60)


def shortened(recipe, **changes):
    if isinstance(recipe, Descent):
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
    monkeypatch.setattr(image_learning, "_SECONDS_BETWEEN_SAVES", 0)
    calls = []
    accuracies = image_learning._accuracies

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 6:  # between the two measurements at the end of the third epoch
            raise KeyboardInterrupt
        return accuracies(*arguments)

    monkeypatch.setattr(image_learning, "_accuracies", interrupted)
    with pytest.raises(KeyboardInterrupt):
        mnist_dense.compute(settings, "DNN 1, EKI(R)", tmp_path / "parts", False)
    assert (tmp_path / "parts" / "run" / "checkpoint.json").exists()
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

    tell = ek.AskTell.tell

    def failing(loop, g):
        if loop.n == 4:
            raise ek.RunError("all members failed")
        tell(loop, g)

    monkeypatch.setattr(ek.AskTell, "tell", failing)
    found = mnist_dense.compute(settings, "DNN 1, EKI(R)", tmp_path / "b", False)
    assert (found["status"], found["epochs"]) == ("failed", 1)


def test_a_run_that_diverges_ends_with_its_last_good_members(tiny_images, tmp_path, monkeypatch):
    tell = ek.methods.LossEKI.tell

    def diverging(method, state, g, target, **options):
        new, info = tell(method, state, g, target, **options)
        if state.n < 4:
            return new, info
        return state, info._replace(status=ek.typing.Status("diverged", "Too far.", level="bad"))

    monkeypatch.setattr(ek.methods.LossEKI, "tell", diverging)
    found = mnist_dense.compute(small_dense(tiny_images), "DNN 1, EKI(R)", tmp_path, False)
    assert (found["status"], found["epochs"]) == ("diverged", 2)
    assert found["test"] > 0.6


def test_the_loop_makes_the_run_of_ekitools(tiny_images, tmp_path):
    """The accuracies are those of `ekitools.run` with the same budget."""
    from ekitools.adapters.torch import TorchModel

    split, recipe = split_of(tiny_images), Learning(50, 2, redraw="epoch", batch=100)
    found = image_learning.train(recipe, "DNN 1", split, seed=3, folder=tmp_path, progress=False)
    model = TorchModel(networks.build("DNN 1", 784, 3))
    problem = image_learning._problem(
        model, ek.GaussianPrior(0.0, model.glorot_variances()), split, 100, "cross-entropy"
    )
    start = image_learning._start(problem.prior, 50, model.n_parameters, 3)
    result = ek.run(problem, recipe.method(3), ensemble=start, n_steps=6, rng=3, store="last")
    right = model(result.u[-1].mean("member").values, inputs=split.x_test).reshape(-1, 3)
    assert found["test"] == np.mean(right.argmax(axis=1) == split.y_test)
    right = model(ek.best_member(result).values, inputs=split.x_test).reshape(-1, 3)
    assert found["best_test"] == np.mean(right.argmax(axis=1) == split.y_test)


@pytest.mark.parametrize("name", ["EKI(R)", "MEKI(R)", "CurvatureEKI"])
def test_tensors_learn_as_arrays_do(name, tiny_images, tmp_path, monkeypatch):
    """Members on another device are tensors. Here they are tensors on the CPU."""
    torch = pytest.importorskip("torch")
    settings = small_dense(tiny_images)
    arrays = mnist_dense.compute(settings, f"DNN 1, {name}", tmp_path / "arrays", False)
    seen = []

    def placed(x, device):
        seen.append(device)
        return torch.from_numpy(x)

    monkeypatch.setattr(image_learning, "placed", placed)
    monkeypatch.setattr(image_learning, "_SECONDS_BETWEEN_SAVES", 0)
    calls, accuracies = [], image_learning._accuracies

    def interrupted(model, u, split):
        calls.append(torch.is_tensor(u))
        if len(calls) == 6:
            raise KeyboardInterrupt
        return accuracies(model, u, split)

    monkeypatch.setattr(image_learning, "_accuracies", interrupted)
    for _ in range(2):
        try:
            tensors = mnist_dense.compute(settings, f"DNN 1, {name}", tmp_path / "tensors", False)
        except KeyboardInterrupt:
            assert len(calls) == 6
    assert all(calls)
    assert seen == ["cpu", "cpu"]
    assert len(tensors["by_epoch"]) == len(arrays["by_epoch"])
    assert min(arrays["test"], tensors["test"]) > 0.6  # from other draws


def test_the_scheme_is_that_of_the_letter():
    methods = scheme(2000)
    assert list(methods) == ["EKI", "MEKI", "EKI(R)", "MEKI(R)"]
    for name, recipe in methods.items():
        assert (recipe.n_members, recipe.epochs, recipe.batch) == (2000, 50, 600)
        assert (recipe.h, recipe.epsilon, recipe.gamma) == (2.0, 0.5, 1.0)
        assert recipe.redraw == ("epoch" if "(R)" in name else "never")
        assert recipe.momentum == name.startswith("M")


def test_a_step_that_falls():
    seen = ek.typing.Seen(0, 0.0, np.inf, np.ones(2), 3, lambda: 1.5)
    rule = FallingNormStep(2.0, 0.5, 0.25)
    steps = [rule.step(seen._replace(n=n)) for n in (0, 4, 12)]
    np.testing.assert_allclose(steps, [1.0, 0.5, 0.25])
    assert rule.step(seen) == ek.NormStep(2.0, 0.5).step(seen)
    assert Learning(9, 1, h=2.0, epsilon=0.5, decay_h=0.25).method(3).step == rule


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
    several = replace(dense, seeds=2)
    record2 = json.loads((tmp_path / "mnist-dense" / "numbers.json").read_text("utf-8"))["numbers"]
    twice = {f"{label}, seed {s}": found for label, found in record2.items() for s in (0, 1)}
    assert list(mnist_dense.parts(several)) == [
        *(label for label in twice if label.endswith("0")),
        *(label for label in twice if label.endswith("1")),
    ]
    twice["DNN 1, EKI, seed 1"] = {**twice["DNN 1, EKI, seed 1"], "test": 0.5}
    twice["DNN 1, EKI, seed 0"] = {**twice["DNN 1, EKI, seed 0"], "test": 0.75}
    assert "0.6250 (0.5000-0.7500)" in mnist_dense.table(several, twice)
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
    paper = mnist_dense.parts(mnist_dense.SETTINGS["paper"])
    assert {f"{name}, seed {seed}" for name in published for seed in range(3)} <= set(paper)
    assert published["DNN 2, EKI(R)"] == {"test": 0.9721, "best_test": 0.9695}
    assert published["DNN 4, MSGD"] == {"test": 0.9840}
    assert sum(len(values) for values in published.values()) == 32
    assert mnist_dense.SETTINGS["paper"].methods["EKI(R)"].n_members == 2000
