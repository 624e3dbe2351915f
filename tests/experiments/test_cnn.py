"""The slides' convolutional networks, and training them on images made up by the test."""

from dataclasses import replace

import numpy as np
import pytest

import ekitools as ek
from ekitools.datasets import Images
from ekitools.experiments import _mnist, _networks, cnn, reproduce

torch = pytest.importorskip("torch", reason="the networks are torch modules")


@pytest.mark.parametrize(
    ("name", "n_inputs", "weights"),
    [
        ("CNN-MNIST", 784, (1 * 16, 16 * 16, 16 * 16, 16 * 16, 16 * 12, 12 * 12, 48 * 10)),
        ("CNN-1", 3072, (3 * 16, 16 * 16, 16 * 16, 16 * 16, 16 * 32, 32 * 32, 32 * 500, 5000)),
    ],
)
def test_layers_are_those_of_the_table(name, n_inputs, weights):
    network = _networks.build(name, n_inputs, 10)
    sizes = [
        layer.weight.numel() // (9 if layer.weight.ndim == 4 else 1)
        for layer in network
        if hasattr(layer, "weight")
    ]
    assert tuple(sizes) == weights
    assert network(torch.zeros(2, n_inputs)).shape == (2, 10)


@pytest.mark.parametrize("name", ["CNN-2", "CNN-3"])
def test_the_deeper_ones_take_house_numbers(name):
    assert _networks.build(name, 3072, 10)(torch.zeros(1, 3072)).shape == (1, 10)


def made(n, shape, seed):
    """Bright left, middle or right, by label; or in red, green or blue."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=n).astype(np.uint8)
    x = rng.integers(0, 40, size=(n, *shape))
    for label in range(3):
        if len(shape) == 3:
            x[labels == label, ..., label] += 180
        else:
            x[labels == label, :, 9 * label : 9 * label + 9] += 180
    return x.astype(np.uint8), labels


@pytest.mark.parametrize(
    ("name", "data", "shape"), [("CNN-MNIST", "mnist", (28, 28)), ("CNN-1", "svhn", (32, 32, 3))]
)
def test_a_tiny_network_learns(name, data, shape, monkeypatch, tmp_path):
    images = Images(*made(160, shape, 0), *made(60, shape, 1), tuple("abc"))
    monkeypatch.setattr(ek.datasets, data, lambda: images)
    net = _networks.CONVOLUTIONAL[name]
    tiny = net._replace(channels=((3,),) * 3, hidden=())
    monkeypatch.setitem(_networks.CONVOLUTIONAL, name, tiny)
    settings = _mnist_settings(name)
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


def _mnist_settings(name):
    methods = {
        "SGD": _mnist.Descent(30, 0.2, batch=20),
        "EKI(R)": _mnist.Learning(40, 2, h=10.0, redraw="step", gamma=0.3, batch=60),
        "CurvatureEKI": _mnist.CurvatureLearning(60, 15, damping=0.3, batch=60),
    }
    plan = {name: tuple(methods)}
    return replace(
        cnn.SETTINGS["small"], plan=plan, methods=methods, data=_mnist.Data(validation=40)
    )


def test_channels_come_first_and_stay_together():
    shape = (32, 32, 3)
    images = Images(*made(20, shape, 0), *made(5, shape, 1), tuple("abc"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ek.datasets, "svhn", lambda: images)
        split = _mnist.split_of(_mnist.Data("svhn", validation=5, centred=False))
    red = split.x_test.reshape(-1, 3, 32, 32)[:, 0]
    np.testing.assert_allclose(red, images.x_test[..., 0] / 255, rtol=1e-6)


def test_fewer_training_images():
    images = Images(*made(30, (28, 28), 0), *made(5, (28, 28), 1), tuple("abc"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ek.datasets, "mnist", lambda: images)
        few, all_of_them = (
            _mnist.split_of(_mnist.Data(validation=10, n_train=n)) for n in (7, None)
        )
    assert len(few.y_train) == 7
    assert len(all_of_them.y_train) == 20
    np.testing.assert_array_equal(few.y_validation, all_of_them.y_validation)
