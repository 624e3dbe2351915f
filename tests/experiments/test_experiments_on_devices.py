"""Experiments on devices: their names, networks that stay there, and images in place of SVHN."""

import os
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from zoo.images import noisy_patterns
from zoo.series import autoregression

import ekitools as ek
from ekitools import cli
from ekitools.experiments import (
    EXPERIMENTS,
    cnn,
    devices,
    frame,
    image_learning,
    images,
    lstm_online,
    networks,
    reproduce,
)
from ekitools.experiments.images import RENDERED, Data, data_for, split_of
from ekitools.experiments.learning.loop import learned
from ekitools.experiments.learning.options import Factored, Layerwise, Local
from ekitools.experiments.recipes import CurvatureLearning, Descent, Learning
from ekitools.experiments.rendered import coloured_digits

torch = pytest.importorskip("torch", reason="the networks are torch modules")
GPU = torch.cuda.is_available()


@pytest.mark.skipif(GPU, reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused_before_anything_is_written(tmp_path, capsys):
    out = tmp_path / "out"
    command = ["reproduce", "cnn", "--device", "cuda", "--quiet", "--out", str(out)]
    assert cli.main(command) == 2
    message = capsys.readouterr().err
    assert "device: must be available, got 'cuda', which torch" in message
    assert "--device cpu" in message
    assert not out.exists()


def test_experiments_without_networks_have_no_device(monkeypatch, tmp_path):
    monkeypatch.setattr(frame, "checked_device", lambda device: device)
    assert set(frame.WITH_NETWORKS) < set(EXPERIMENTS)
    for name in set(EXPERIMENTS) - set(frame.WITH_NETWORKS):
        with pytest.raises(ValueError, match=f"device: must be 'cpu' for {name}, .* got 'mps'"):
            reproduce(name, device="mps", out=tmp_path / "out")


def test_without_torch_there_is_no_device(monkeypatch):
    monkeypatch.setattr(devices, "find_spec", lambda name: None)
    assert devices.checked_device("cpu") == "cpu"
    with pytest.raises(ImportError, match=r"pip install 'ekitools\[torch\]'"):
        devices.checked_device("cuda")


def test_operations_that_mps_lacks_are_allowed_on_the_cpu_before_torch_is_imported(monkeypatch):
    monkeypatch.delenv("PYTORCH_ENABLE_MPS_FALLBACK", raising=False)
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(devices, "find_spec", lambda name: None)
    with pytest.raises(ImportError):
        devices.checked_device("mps")
    assert os.environ["PYTORCH_ENABLE_MPS_FALLBACK"] == "1"
    monkeypatch.delenv("PYTORCH_ENABLE_MPS_FALLBACK")


def test_names_and_peaks(monkeypatch):
    cuda = torch.cuda
    monkeypatch.setattr(cuda, "get_device_name", lambda: "A card")
    monkeypatch.setattr(cuda, "max_memory_allocated", lambda: 7)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 8)
    cleared = []
    monkeypatch.setattr(cuda, "empty_cache", lambda: cleared.append("cache"))
    monkeypatch.setattr(cuda, "reset_peak_memory_stats", lambda: cleared.append("peak"))
    threads = torch.get_num_threads()
    assert devices.device_name("cpu") == f"CPU, {threads} thread{'s' if threads > 1 else ''}"
    assert (devices.device_name("cuda"), devices.peak_bytes("cuda")) == ("A card", 7)
    assert (devices.device_name("mps"), devices.peak_bytes("mps")) == ("Apple GPU (MPS)", 8)
    assert devices.peak_bytes("cpu") is None
    devices.reset_peak("cpu")
    assert not cleared
    devices.reset_peak("cuda")
    assert cleared == ["cache", "peak"]


def test_tf32_is_for_the_time_of_a_training():
    with devices.tf32_products("cpu"):
        assert torch.get_float32_matmul_precision() == "highest"
    with devices.tf32_products("cuda"):
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == "highest"


def test_fewer_bits_are_for_the_published_scheme_on_a_cuda_device():
    scheme, precision = Learning(9, 1), image_learning._precision
    assert precision(scheme, "DNN 2", "cuda") == "tf32"
    assert precision(scheme, "CNN-1", "cuda") == "bfloat16"
    assert precision(scheme, "CNN-1", "cpu") is None
    assert precision(scheme, "DNN 2", "mps") is None
    for other in (Descent(1, 0.1), CurvatureLearning(9, 1)):
        assert precision(other, "CNN-1", "cuda") is None


@pytest.mark.parametrize(
    ("network", "options", "activation"),
    [
        ("DNN 2", Factored(2, members=8, components=20, batch=40, memory=1), "ReLU"),
        ("DNN 2", Factored(1, members=8, components=20, batch=40, antithetic=True), "step"),
        ("DNN 2", Local(2, members=8, components=20, batch=40), "ReLU"),
        ("DNN 2", Local(1, members=8, components=20, batch=40), "step"),
        ("CNN-MNIST", Layerwise(2, batch=20), "ReLU"),
    ],
)
def test_everything_is_made_on_the_device_that_was_asked_for(
    network, options, activation, monkeypatch, tmp_path
):
    """What names no device is made on "meta", and torch refuses to compute with two devices."""
    monkeypatch.setattr(ek.datasets, "mnist", noisy_patterns)
    monkeypatch.setitem(networks.NETWORKS, "DNN 2", (6,))
    tiny = networks.CONVOLUTIONAL["CNN-MNIST"]._replace(channels=((2,),) * 3)
    monkeypatch.setitem(networks.CONVOLUTIONAL, "CNN-MNIST", tiny)
    runs = {}
    for where in ("cpu", "meta"):
        with torch.device(where):
            runs[where] = learned(
                *(options, network, Data(validation=100)),
                seed=0,
                folder=tmp_path / where,
                progress=False,
                device="cpu",
                activation=activation,
            )
    assert runs["cpu"] == runs["meta"]


def test_the_lstm_counts_its_examples_with_tensors_too(monkeypatch, tmp_path):
    monkeypatch.setattr(lstm_online, "zurich_sunspots", lambda: autoregression(600))
    monkeypatch.setattr(lstm_online, "placed", lambda x, device: torch.from_numpy(x))
    made = lstm_online._model
    monkeypatch.setattr(lstm_online, "_model", lambda settings, device: made(settings, "cpu"))
    settings = lstm_online.Settings(
        seeds=1, passes=1, eki_passes=1, units=3, window=4, n_members=60
    )
    found = lstm_online.compute(settings, "EKI, seed 0", tmp_path, False, "cuda")
    assert found["examples"][-1] == 380  # of 390 - 4 in whole batches of ten
    assert found["test"][-1] < 0.5 * found["test"][0]


@cache
def digits():
    return coloured_digits(3000, 1000)


def test_rendered_digits_have_the_form_of_svhn():
    found = digits()
    assert (found.x_train.shape, found.x_train.dtype) == ((3000, 32, 32, 3), np.uint8)
    assert np.bincount(found.y_train).tolist() == [300] * 10
    assert found.names == tuple("0123456789")


def test_a_seed_gives_the_same_rendered_digits():
    again = coloured_digits(3000, 1000)
    assert all(np.array_equal(*pair) for pair in zip(digits(), again, strict=True))
    assert not np.array_equal(coloured_digits(20, 10, seed=1).x_train, again.x_train[:20])


def test_the_class_is_in_the_image_and_in_no_single_pixel():
    """Nearest neighbours of grey centres are right far beyond chance, but not always."""
    found = digits()

    def features(x):
        grey = x[:, 4:28, 8:24].astype(float)
        contrast = grey.reshape(len(x), -1, 3).std(axis=1)[:, None, None, :]
        grey = (grey * contrast).sum(axis=-1).reshape(len(x), -1)
        grey -= grey.mean(axis=1, keepdims=True)
        return grey / np.linalg.norm(grey, axis=1, keepdims=True)

    near = np.abs(features(found.x_test) @ features(found.x_train).T)  # ink is light or dark
    right = np.mean(found.y_train[near.argmax(axis=1)] == found.y_test)
    assert 0.7 < right < 0.98
    pixels = found.x_train.reshape(3000, -1).astype(float)
    by_class = np.array([pixels[found.y_train == c].mean(axis=0) for c in range(10)])
    assert by_class.std(axis=0).max() < 0.2 * pixels.std()


def test_rendered_digits_stand_in_for_svhn_alone(monkeypatch, tmp_path):
    def missing():
        raise FileNotFoundError("not here")

    for name in ("svhn", "mnist"):
        monkeypatch.setattr(ek.datasets, name, missing)
    monkeypatch.setattr(images, "coloured_digits", lambda: coloured_digits(400, 100))
    split = split_of(data_for("CNN-1", Data(validation=50)))
    assert (split.name, split.x_train.shape, split.n_classes) == (RENDERED, (350, 3072), 10)
    with pytest.raises(FileNotFoundError):
        split_of(Data())
    net = networks.CONVOLUTIONAL["CNN-1"]
    monkeypatch.setitem(
        networks.CONVOLUTIONAL, "CNN-1", net._replace(channels=((2,),) * 3, hidden=())
    )
    methods = {"MSGD": Descent(1, 0.1), "EKI(R)": Learning(10, 1, redraw="epoch", batch=100)}
    settings = replace(
        cnn.SETTINGS["small"],
        plan={"CNN-1": tuple(methods)},
        methods=methods,
        data=Data(validation=50),
    )
    monkeypatch.setitem(cnn.SETTINGS, "small", settings)
    lines = []
    record = reproduce("cnn", out=tmp_path / "out", show=lines.append)
    assert {part["data"] for part in record["numbers"].values()} == {RENDERED}
    assert not any("0.9249" in line for line in lines)  # published for other images
    shown = dict(record["numbers"])
    real = {label: {**part, "data": "svhn"} for label, part in shown.items()}
    assert "0.9249" in cnn.table(settings, real)
