"""The published convolutional networks, and training them on images made up by the test."""

from dataclasses import replace

import numpy as np
import pytest
from zoo.images import stripes

import ekitools as ek
from ekitools.experiments import cnn, networks, reproduce
from ekitools.experiments.images import Data, split_of
from ekitools.experiments.recipes import CurvatureLearning, Descent, Learning

torch = pytest.importorskip("torch", reason="the networks are torch modules")


@pytest.mark.parametrize(
    ("name", "n_inputs", "weights"),
    [
        ("CNN-MNIST", 784, (1 * 16, 16 * 16, 16 * 16, 16 * 16, 16 * 12, 12 * 12, 48 * 10)),
        ("CNN-1", 3072, (3 * 16, 16 * 16, 16 * 16, 16 * 16, 16 * 32, 32 * 32, 32 * 500, 5000)),
    ],
)
def test_layers_are_those_of_the_table(name, n_inputs, weights):
    network = networks.build(name, n_inputs, 10)
    sizes = [
        layer.weight.numel() // (9 if layer.weight.ndim == 4 else 1)
        for layer in network
        if hasattr(layer, "weight")
    ]
    assert tuple(sizes) == weights
    assert network(torch.zeros(2, n_inputs)).shape == (2, 10)


@pytest.mark.parametrize("name", ["CNN-2", "CNN-3"])
def test_the_deeper_ones_take_house_numbers(name):
    assert networks.build(name, 3072, 10)(torch.zeros(1, 3072)).shape == (1, 10)


@pytest.mark.parametrize(
    ("name", "data", "shape"), [("CNN-MNIST", "mnist", (28, 28)), ("CNN-1", "svhn", (32, 32, 3))]
)
def test_a_tiny_network_learns(name, data, shape, monkeypatch, tmp_path):
    images = stripes(160, 60, shape)
    monkeypatch.setattr(ek.datasets, data, lambda: images)
    net = networks.CONVOLUTIONAL[name]
    tiny = net._replace(channels=((3,),) * 3, hidden=())
    monkeypatch.setitem(networks.CONVOLUTIONAL, name, tiny)
    settings = small_settings(name)
    monkeypatch.setitem(cnn.SETTINGS, "small", settings)
    lines = []
    record = reproduce("cnn", out=tmp_path, show=lines.append)
    assert list(record["numbers"]) == cnn.parts(settings)
    for label in ("SGD", "CurvatureEKI"):
        assert record["numbers"][f"{name}, {label}"]["test"] > 0.9
    assert any(
        "EKI(R)" in line and f"{cnn.PUBLISHED[f'{name}, EKI(R)']['test']}" in line for line in lines
    )
    assert (tmp_path / "figure.png").stat().st_size > 0


def small_settings(name):
    methods = {
        "SGD": Descent(30, 0.2, batch=20),
        "EKI(R)": Learning(40, 2, h=10.0, redraw="step", gamma=0.3, batch=60),
        "CurvatureEKI": CurvatureLearning(60, 15, damping=0.3, batch=60),
    }
    plan = {name: tuple(methods)}
    return replace(cnn.SETTINGS["small"], plan=plan, methods=methods, data=Data(validation=40))


def test_channels_come_first_and_stay_together():
    shape = (32, 32, 3)
    images = stripes(20, 5, shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ek.datasets, "svhn", lambda: images)
        split = split_of(Data("svhn", validation=5, centred=False))
    red = split.x_test.reshape(-1, 3, 32, 32)[:, 0]
    np.testing.assert_allclose(red, images.x_test[..., 0] / 255, rtol=1e-6)


def test_fewer_training_images():
    images = stripes(30, 5, (28, 28))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ek.datasets, "mnist", lambda: images)
        few, all_of_them = (split_of(Data(validation=10, n_train=n)) for n in (7, None))
    assert len(few.y_train) == 7
    assert len(all_of_them.y_train) == 20
    np.testing.assert_array_equal(few.y_validation, all_of_them.y_validation)
