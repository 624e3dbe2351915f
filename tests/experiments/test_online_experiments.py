"""The online experiments: the network against torch's, and from end to end on a short series."""

import json
from dataclasses import replace

import numpy as np
import pytest
from zoo.series import as_series, autoregression

from ekitools.experiments import EXPERIMENTS, SCALES, series
from ekitools.experiments.elman import Elman
from ekitools.experiments.one_step_ahead import windows
from ekitools.experiments.series import OnlineExperiment, OnlineSettings


@pytest.fixture
def in_torch():
    """Elman's network in torch: the prediction at windows, with parameters to differentiate."""
    torch = pytest.importorskip("torch", reason="the network is compared with torch's")

    def build(units, u):
        rnn = torch.nn.RNN(1, units, batch_first=True, dtype=torch.float64)
        out = torch.nn.Linear(units, 1, dtype=torch.float64)
        torch.nn.init.zeros_(rnn.bias_hh_l0).requires_grad_(False)  # b is the other one
        modules = (rnn, out)
        trained = [p for module in modules for p in module.parameters() if p.requires_grad]
        torch.nn.utils.vector_to_parameters(torch.tensor(u), trained)

        def predict(x):
            return out(rnn(torch.tensor(x)[:, :, None])[1][0])[:, 0]

        return predict, trained

    return build


def test_the_network_is_torchs(in_torch):
    rng = np.random.default_rng(0)
    network, x = Elman(5), rng.normal(size=(7, 4))
    u = rng.normal(size=(3, len(network.variances())))
    ours = network(u, inputs=x)
    assert ours.shape == (3, 7)
    for member, found in zip(u, ours, strict=True):
        predict, _ = in_torch(5, member)
        np.testing.assert_allclose(found, predict(x).detach().numpy(), rtol=1e-12)


def test_the_gradient_is_torchs(in_torch):
    rng = np.random.default_rng(1)
    network, x = Elman(5), rng.normal(size=4)
    u = rng.normal(size=len(network.variances()))
    error, gradient = network.loss_gradient(u, x, 0.3)
    predict, trained = in_torch(5, u)
    loss = (predict(x[None])[0] - 0.3) ** 2
    loss.backward()
    assert error == pytest.approx(float(loss.detach()), rel=1e-12)
    exact = np.concatenate([p.grad.numpy().ravel() for p in trained])
    np.testing.assert_allclose(gradient, exact, rtol=1e-10, atol=1e-14)


def test_around_zero_the_output_is_correlated_with_its_bias_alone():
    """Why the initial spread is small: what the first gain of EKI sees is d (by symmetry)."""
    network, n = Elman(4), 40_000
    sd = np.sqrt(network.variances())
    u = np.random.default_rng(0).standard_normal((n, len(sd)))
    g = network(sd * u, inputs=np.full((1, 6), 0.4))[:, 0]
    correlation = (u.T @ (g - g.mean())) / (n * g.std())
    assert np.all(np.abs(correlation[:-1]) < 4 / np.sqrt(n))  # standard errors
    np.testing.assert_allclose(correlation[-1], sd[-1] / g.std(), atol=4 / np.sqrt(n))


def test_windows_and_what_follows_them():
    x, y = windows(np.arange(5.0), 2)
    np.testing.assert_array_equal(x, [[0, 1], [1, 2], [2, 3]])
    np.testing.assert_array_equal(y, [2, 3, 4])


SHORT = OnlineSettings(seeds=2, passes=3, units=6, window=4, n_members=100, rate=0.01)


@pytest.fixture(scope="module")
def experiment():
    return OnlineExperiment(autoregression, series.temperatures.PUBLISHED)


@pytest.fixture(scope="module")
def numbers(experiment, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    found = {
        name: experiment.compute(SHORT, name, folder, False) for name in experiment.parts(SHORT)
    }
    assert json.loads(json.dumps(found)) == found
    return found


def test_every_method_from_every_start(experiment):
    assert experiment.parts(SHORT) == [
        "OGD, seed 0", "EKI, seed 0", "OGD, seed 1", "EKI, seed 1", "references",
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(2))
def test_eki_learns_the_autoregression(numbers, seed):
    """Nearly as well as least squares, which is the model the series was made with."""
    errors, easy = numbers[f"EKI, seed {seed}"]["errors"], numbers["references"]["errors"]
    assert len(errors) == SHORT.passes
    assert errors[-1] < 0.6 * easy["the last value"]
    assert errors[-1] < 0.4 * easy["the mean"]
    assert errors[-1] < 1.1 * easy["linear, least squares"]


def test_gradient_descent_learns_too(numbers):
    errors = numbers["OGD, seed 0"]["errors"]
    assert errors[-1] < errors[0]
    assert errors[-1] < numbers["references"]["errors"]["the mean"]


def test_the_last_fifth_is_tested_on_value_by_value(numbers):
    values = autoregression().values
    scaled = (values - values.min()) / np.ptp(values)
    cut = int(0.8 * len(values))
    easy = numbers["references"]["errors"]
    naive = np.mean((scaled[cut:] - scaled[cut - 1 : -1]) ** 2)
    assert easy["the last value"] == pytest.approx(naive)
    found = numbers["EKI, seed 0"]
    error = np.mean((scaled[cut:] - found["predicted"]) ** 2)
    assert found["errors"][-1] == pytest.approx(error)


def test_errors_on_the_way_are_those_before_each_step(numbers):
    for name in ("EKI, seed 0", "OGD, seed 0"):
        first = np.array(numbers[name]["on the way"])[0]
        assert first.shape == ((int(0.8 * 702) - SHORT.window) // 50,)
        assert first[0] > 1.5 * first[-1]


def test_seeds_are_different_runs_and_one_seed_is_one(experiment, numbers, tmp_path):
    again = experiment.compute(SHORT, "EKI, seed 1", tmp_path, False)
    assert again == numbers["EKI, seed 1"]
    assert again["errors"] != numbers["EKI, seed 0"]["errors"]


def test_nothing_of_the_end_is_seen_while_settings_are_chosen(tmp_path):
    """The series up to 0.8 alone decides, but for the unit it is measured in."""
    values = autoregression().values
    other = values.copy()
    other[int(0.8 * len(values)) :] = 0.0  # within the range
    other[-2:] = values.min(), values.max()
    choosing = replace(SHORT, until=0.8, split=0.75, passes=1)
    found = []
    for each in (values, other):
        made = OnlineExperiment(lambda each=each: as_series(each), series.temperatures.PUBLISHED)
        found.append(made.compute(choosing, "EKI, seed 0", tmp_path, False))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("made", "published"),
    [
        (series.temperatures, ("26.530", "8.954", "8.086", "7.448")),
        (series.sunspots, ("49.390", "6.480", "8.671", "6.006")),
    ],
    ids=["temperatures", "sunspots"],
)
def test_the_table_has_the_published_numbers_beside_ours(numbers, made, published):
    lines = made.table(SHORT, numbers).splitlines()
    assert "pass 3" in lines[0]
    for name, (first, last), line in zip(
        ("OGD", "EKI"), (published[:2], published[2:]), lines[2:4], strict=True
    ):
        runs = [numbers[f"{name}, seed {seed}"]["errors"] for seed in range(2)]
        words = line.split()
        assert (words[0], words[1], words[4]) == (name, first, last)
        assert words[2] == f"{1e3 * (runs[0][0] + runs[1][0]) / 2:.3f}"
        assert words[5] == f"{1e3 * (runs[0][-1] + runs[1][-1]) / 2:.3f}"
    assert lines[-1].split()[-1] == (
        f"{1e3 * numbers['references']['errors']['linear, least squares']:.3f}"
    )


def test_the_picture(experiment, numbers, tmp_path):
    experiment.draw(SHORT, numbers, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes()[1:4] == b"PNG"


@pytest.mark.parametrize("name", ["online-temperatures", "online-sunspots"])
def test_the_command_knows_both_series(name):
    module, _, within = EXPERIMENTS[name].partition(":")
    assert module == "series"
    experiment = getattr(series, within)
    assert tuple(experiment.SETTINGS) == SCALES
    sizes = [len(experiment.parts(experiment.SETTINGS[scale])) for scale in SCALES]
    assert sizes == sorted(sizes)
