"""The experiments with torch's recurrent networks, from end to end on small made-up data."""

import json
from dataclasses import replace

import numpy as np
import pytest
from zoo.images import images
from zoo.series import autoregression

import ekitools as ek
from ekitools import experiments
from ekitools.experiments import SCALES, lstm_online, networks, reproduce, rnn_mnist
from ekitools.experiments.images import Data, split_of
from ekitools.experiments.one_step_ahead import references, scaled, stretches
from ekitools.experiments.recipes import Descent

torch = pytest.importorskip("torch", reason="the networks are torch modules")


CLEAR = {"noise": 100, "light": 150, "rows": 9}


@pytest.fixture
def few_images(monkeypatch):
    monkeypatch.setattr(ek.datasets, "mnist", lambda: images(400, 150, **CLEAR))
    monkeypatch.setitem(networks.RECURRENT, "RNN 2 x 32", (2, 6))
    settings = rnn_mnist.SETTINGS["small"]

    def shorter(recipe):
        if isinstance(recipe, Descent):
            return replace(recipe, epochs=5, batch=20)
        return replace(recipe, n_members=40, epochs=8, batch=100)

    methods = {name: shorter(recipe) for name, recipe in settings.methods.items()}
    settings = replace(settings, methods=methods, data=Data(validation=100))
    monkeypatch.setitem(rnn_mnist.SETTINGS, "small", settings)
    return settings


def test_an_image_is_read_row_by_row(few_images):
    torch.manual_seed(0)
    split = split_of(few_images.data)
    network = networks.build("RNN 2 x 32", split.x_train.shape[1], split.n_classes)
    x = torch.as_tensor(split.x_test[:4])
    _, last = network.layers(x.reshape(4, 28, 28))
    np.testing.assert_allclose(network(x).detach(), network.head(last[-1]).detach(), rtol=1e-5)
    shifted = x.clone()
    shifted[:, -28:] += 1  # the last row reaches the last state, however short the memory
    assert not torch.allclose(network(shifted), network(x))
    layers = (28 + 6 + 2) * 6 + (6 + 6 + 2) * 6
    assert sum(each.numel() for each in network.parameters()) == layers + 7 * 3


def test_the_recurrent_network_learns_by_every_method(few_images, tmp_path):
    lines = []
    record = reproduce("rnn-mnist", out=tmp_path / "out", show=lines.append)
    assert list(record["numbers"]) == ["SGD", "MSGD", "EKI(R)", "CurvatureEKI"]
    assert record["published"] == {}
    for label, found in record["numbers"].items():  # chance is 1/3
        assert found["test"] > 0.6, label
        assert len(found["by_epoch"]) == few_images.methods[label].epochs
        assert any(label in line and f"{found['test']:.4f}" in line for line in lines)
    assert (tmp_path / "out" / "figure.png").read_bytes()[:4] == b"\x89PNG"


SHORT = lstm_online.Settings(
    seeds=2,
    passes=3,
    eki_passes=1,
    rates={"SGD": (0.03, 0.1), "momentum SGD": (0.03, 1e3)},
    units=4,
    window=4,
    n_members=100,
    variance=0.001,
    multiples=(4.0, 2.0, 1.0e-3),
)


@pytest.fixture(scope="module")
def online(tmp_path_factory):
    """What the experiment reports on the series above, and its lines."""
    lines, folder = [], tmp_path_factory.mktemp("lstm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lstm_online, "zurich_sunspots", lambda: autoregression(900))
        patch.setitem(lstm_online.SETTINGS, "small", SHORT)
        record = reproduce("lstm-online", out=folder / "out", show=lines.append)
    assert (folder / "out" / "figure.png").read_bytes()[:4] == b"\x89PNG"
    assert record == json.loads((folder / "out" / "numbers.json").read_text("utf-8"))
    return record["numbers"], lines


def test_eki_learns_the_series_from_few_examples(online):
    numbers, _ = online
    easy = numbers["references"]["test"]
    for seed in range(SHORT.seeds):
        found = numbers[f"EKI, seed {seed}"]
        assert found["test"][0] > 0.8 * easy["the mean"]
        assert found["test"][-1] < 1.3 * easy["linear, least squares"]
        assert found["examples"][-1] == 10 * (numbers["references"]["examples"] // 10)


def test_gradient_descent_learns_too(online):
    numbers, _ = online
    easy = numbers["references"]["test"]
    for label in ("SGD 0.1", "momentum SGD 0.03"):
        for seed in range(SHORT.seeds):
            errors = numbers[f"{label}, seed {seed}"]["test"]
            assert errors[-1] < 0.5 * errors[0]
            assert errors[-1] < 1.2 * easy["the mean"]


def test_a_rate_that_diverges_ends_its_run_and_is_not_chosen(online):
    numbers, _ = online
    found = numbers["momentum SGD 1000, seed 0"]
    assert np.all(np.isfinite(found["test"]))
    assert lstm_online._best_rate(SHORT, numbers, "momentum SGD", 2.0) == 0.03


def test_the_table_has_what_each_needs_and_the_ratio(online):
    numbers, lines = online
    target = 4 * numbers["references"]["test"]["linear, least squares"]
    runs = [numbers[f"EKI, seed {seed}"] for seed in range(2)]
    needs = [
        next(n for n, e in zip(r["examples"], r["test"], strict=True) if e <= target) for r in runs
    ]
    (row,) = (line.split() for line in lines if line.startswith("4 "))
    assert row[1] == f"{target:.2e}"
    assert row[2] == f"{np.mean(needs):,.0f}"
    (row,) = (line.split() for line in lines if line.startswith("0.001 "))  # nobody gets there
    seen = numbers["references"]["examples"]
    assert row[2:6] == [">", f"{seen:,}", ">", f"{3 * seen:,}"]
    assert row[7] == "-"
    assert any(
        "Kovachki & Stuart (2019): a ratio of the order of 100,000" in line for line in lines
    )


def test_the_rate_is_chosen_on_the_validation_part():
    """By what is needed there, whatever the errors on the test part."""
    settings = replace(SHORT, seeds=1, rates={"SGD": (1.0, 2.0)}, multiples=(2.0,))
    linear = {"linear, least squares": 1.0}
    curves = {"examples": [0, 10, 20, 30]}
    numbers = {
        "references": {"validation": linear, "test": linear, "examples": 30},
        "EKI, seed 0": {**curves, "validation": [9, 9, 9, 9], "test": [9, 1, 1, 1]},
        "SGD 1, seed 0": {**curves, "validation": [9, 9, 9, 1], "test": [9, 1, 1, 1]},
        "SGD 2, seed 0": {**curves, "validation": [9, 9, 1, 3], "test": [9, 9, 9, 2]},
    }
    assert lstm_online._best_rate(settings, numbers, "SGD", 2.0) == 2.0
    row = lstm_online.table(settings, numbers).splitlines()[2].split()
    assert row == ["2", "2.00e+00", "10", "30", "2", "3.0"]
    assert lstm_online._best_rate(settings, numbers, "SGD", 0.5) == 1.0  # the first of equals


def test_measurements_begin_and_end_with_the_run():
    steps = sorted(lstm_online._measured(1000))
    assert steps[:4] == [0, 1, 2, 3]
    assert steps[-1] == 1000
    assert np.max(np.divide(steps[11:], steps[10:-1])) < 10 ** (1.6 / 20)


def test_the_parts_of_a_series_share_no_target():
    values = np.arange(10.0) / 9
    train, validation, test = stretches(values, 2, [5, 7])
    np.testing.assert_array_equal(train[1], values[2:5])
    np.testing.assert_array_equal(validation[1], values[5:7])
    np.testing.assert_array_equal(test[1], values[7:])
    np.testing.assert_array_equal(test[0][0], values[5:7])
    np.testing.assert_allclose(scaled(3 * values - 7), values, rtol=1e-12)
    assert references(*train, *test)["linear, least squares"] == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize("module", [rnn_mnist, lstm_online])
def test_scales_grow_and_the_command_knows_them(module):
    assert module.__name__.rpartition(".")[2] in experiments.EXPERIMENTS.values()
    assert tuple(module.SETTINGS) == SCALES
    sizes = [len(module.parts(module.SETTINGS[scale])) for scale in SCALES]
    assert sizes == sorted(sizes)
