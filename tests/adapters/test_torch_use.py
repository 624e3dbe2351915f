"""`TorchModel` in use: the prior of a network, runs, mistakes."""

import numpy as np
import pytest

import ekitools as ek

torch = pytest.importorskip("torch", reason="torch is not installed")
from torch import nn  # noqa: E402

from ekitools.adapters.torch import TorchModel  # noqa: E402


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))


@pytest.mark.parametrize(
    "layer",
    [
        lambda: nn.Linear(7, 12),
        lambda: nn.Conv2d(3, 8, (2, 5)),
        lambda: nn.Conv2d(4, 8, 3, groups=2),
        lambda: nn.Conv1d(3, 8, 4),
        lambda: nn.Embedding(9, 11),
    ],
)
def test_variances_are_those_of_torchs_own_initialisation(layer):
    layer = layer()
    draws = torch.cat(
        [nn.init.xavier_normal_(layer.weight.detach()).flatten().clone() for _ in range(400)]
    )
    variance = TorchModel(layer).glorot_variances()[0]
    error = variance * np.sqrt(2 / draws.numel())
    assert float(draws.square().mean()) == pytest.approx(variance, abs=4 * error)


@pytest.mark.parametrize(("layer", "gates"), [(nn.RNN, 1), (nn.GRU, 3), (nn.LSTM, 4)])
def test_every_gate_is_a_layer(layer, gates):
    for model in (
        TorchModel(layer(3, 5)),
        TorchModel({1: nn.RNNCell, 3: nn.GRUCell, 4: nn.LSTMCell}[gates](3, 5)),
    ):
        variances = model.glorot_variances()
        for name, (where, _) in model.layout.items():
            expected = 2 / (3 + 5) if "ih" in name else 2 / (5 + 5)
            np.testing.assert_allclose(variances[where], expected)


def test_an_lstms_projection_has_no_gates():
    model = TorchModel(nn.LSTM(3, 5, proj_size=2))
    variances = model.glorot_variances()
    assert variances[model.layout["weight_hr_l0"].where][0] == 2 / (5 + 2)
    assert variances[model.layout["weight_hh_l0"].where][0] == 2 / (5 + 2)


def test_biases_and_what_has_no_fans():
    net = nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5))
    model = TorchModel(net)
    with pytest.raises(ValueError, match=r"other: must be given .* '1.weight' of LayerNorm"):
        model.glorot_variances()
    variances = model.glorot_variances(bias=0.5, other=0.1)
    parts = {name: set(variances[where]) for name, (where, _) in model.layout.items()}
    assert parts == {"0.weight": {0.25}, "0.bias": {0.5}, "1.weight": {0.1}, "1.bias": {0.5}}
    for options in ({"bias": 0.0}, {"other": -1.0}, {"bias": np.inf}):
        (name,) = options
        with pytest.raises(ValueError, match=f"^{name}: must be positive and finite, got"):
            model.glorot_variances(**options)


@pytest.mark.parametrize("kind", ["numpy", "float32", "torch", "torch32"])
def test_a_regression(kind):
    x = np.linspace(-1, 1, 20)[:, None]
    net = small() if "32" in kind else small().double()
    model = TorchModel(net, x)
    prior = ek.GaussianPrior(0.0, model.glorot_variances())
    problem = ek.InverseProblem(
        model, prior, 0.01, np.sin(2 * x).ravel(), parameter_names=model.names
    )
    start = prior.sample(100, rng=1).astype(np.float32 if "32" in kind else np.float64)
    ensemble = torch.as_tensor(start) if "torch" in kind else start
    result = ek.run(problem, ek.EKI(), ensemble=ensemble, rng=0)
    assert not result.failed.any()
    assert result.g.dtype == start.dtype
    assert result.parameter.values[0] == "0.weight[0,0]"
    mean = result.u.isel(iteration=-1).mean("member").values
    fits = [np.sqrt(np.mean((model(u) - problem.data) ** 2)) for u in (start.mean(0), mean)]
    assert fits[1] < 0.2
    assert fits[0] > 0.6
    model.load(mean)
    with torch.no_grad():
        np.testing.assert_allclose(net(model.inputs).ravel(), model(mean), rtol=1e-4, atol=1e-5)


def test_numpy_and_torch_ensembles_give_the_same_run():
    x = np.linspace(-1, 1, 5)[:, None]
    model = TorchModel(small().double(), x)
    prior = ek.GaussianPrior(0.0, model.glorot_variances())
    problem = ek.InverseProblem(model, prior, 0.1, x.ravel())
    start = prior.sample(20, rng=1)
    runs = [
        ek.run(problem, ek.EKI(), ensemble=u, rng=0, n_steps=2).u
        for u in (start, torch.as_tensor(start))
    ]
    np.testing.assert_allclose(runs[0], runs[1], rtol=1e-8, atol=1e-10)


class Pair(nn.Linear):
    def forward(self, x):
        return super().forward(x), x


def mixed():
    return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double())


def on_two_devices():
    return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, device="meta"))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: np.tanh, TypeError, "module: must be a torch.nn.Module, got ufunc"),
        (nn.ReLU, ValueError, "module: must have parameters, got ReLU"),
        (lambda: nn.Linear(1, 1).requires_grad_(False), ValueError, "got 2 frozen ones"),
        (lambda: nn.LazyLinear(2), ValueError, "got the lazy parameter 'weight'"),
        (lambda: nn.Linear(1, 1, dtype=torch.complex64), TypeError, "real parameters"),
        (mixed, ValueError, "one dtype and one device, .* torch.float64 on cpu for '1.weight'"),
        (on_two_devices, ValueError, "torch.float32 on meta for '1.weight'"),
        (lambda: nn.Sequential(nn.Linear(2, 2), nn.Dropout()), ValueError, r"got Dropout \(1\)"),
        (lambda: nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), ValueError, "BatchNorm1d"),
        (lambda: nn.LSTM(2, 2, 2, dropout=0.1), ValueError, r"LSTM \(the module\) in training"),
    ],
)
def test_what_is_not_a_model(make, error, message):
    with pytest.raises(error, match=message):
        TorchModel(make(), torch.ones(3, 2))


def test_training_mode_is_seen_at_every_call():
    net = nn.Sequential(nn.Linear(2, 2), nn.Dropout()).eval()
    model = TorchModel(net, torch.ones(1, 2))
    net.train()
    with pytest.raises(ValueError, match=r"training mode. Call module.eval\(\)"):
        model(torch.ones(3, 6))


@pytest.mark.parametrize(
    ("u", "error", "message"),
    [
        (np.ones((3, 4)), ValueError, r"\(J, p\) with p = 3, got \(3, 4\)"),
        (np.ones((2, 3, 3)), ValueError, r"got \(2, 3, 3\)"),
        ([[1.0, 2.0, 3.0]], ValueError, "got list"),
        (np.ones((2, 3), int), TypeError, "floating dtype, got int64"),
    ],
)
def test_what_is_not_an_ensemble(u, error, message):
    with pytest.raises(error, match=f"u: must .*{message}"):
        TorchModel(nn.Linear(2, 1), torch.ones(1, 2))(u)


def test_a_prior_over_other_parameters_is_refused_before_any_run():
    model = TorchModel(nn.Linear(2, 1), torch.ones(1, 2))
    with pytest.raises(ValueError, match=r"shape \(d, p\) = \(1, 4\) .* got \(1, 3\)"):
        ek.InverseProblem(model, ek.GaussianPrior(np.zeros(4), 1.0), 1.0, [0.0])


class Changing(nn.Linear):
    def forward(self, x):
        return super().forward(x.mul_(2))


class Cut(nn.Linear):
    def forward(self, x):
        return super().forward(x)[:0]


class Complex(nn.Linear):
    def forward(self, x):
        return super().forward(x).to(torch.complex64)


@pytest.mark.parametrize("path", ["auto", "loop"])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Changing, "module: must leave its inputs as they are"),
        (Cut, r"module: must return one or more real numbers, got shape \(0, 1\)"),
        (Complex, "module: must return one or more real numbers, got torch.complex64"),
    ],
)
def test_what_a_module_must_not_do_is_found_out_at_once(kind, message, path):
    with pytest.raises(ValueError, match=message):
        TorchModel(kind(2, 1), torch.ones(3, 2), path=path)


def test_a_batch_with_gaps_is_refused_where_they_come_out():
    x = np.array([[1.0, np.nan]])
    with pytest.raises(ValueError, match="inputs: must be finite for this module"):
        TorchModel(nn.Linear(2, 1), x)

    class Filling(nn.Linear):
        def forward(self, x):
            return super().forward(torch.nan_to_num(x))

    assert np.isfinite(TorchModel(Filling(2, 1), x)(np.ones((1, 3)))).all()


def test_a_model_without_its_inputs_is_no_model_of_whole_data():
    prior = ek.GaussianPrior(np.zeros(3), 1.0)
    with pytest.raises(TypeError, match=r"data: must be ek.MiniBatches .* for TorchModel\(Linear"):
        ek.InverseProblem(TorchModel(nn.Linear(2, 1)), prior, 1.0, [0.0])


def test_other_mistakes():
    net = nn.Linear(2, 1)
    for options, error, message in [
        ({"chunk": 0}, ValueError, "chunk: must be at least 1, got 0"),
        ({"chunk": 2.0}, TypeError, "chunk: must be an integer, got 2.0"),
        (
            {"path": "fast"},
            ValueError,
            'path: must be "auto", "stacked", "vmap" or "loop", got .fast.',
        ),
        (
            {"inputs": torch.ones(1, 2, device="meta")},
            ValueError,
            r"module's device, cpu, got a tensor on meta. Use inputs.to\('cpu'\)",
        ),
    ]:
        with pytest.raises(error, match=message):
            TorchModel(net, **options)
    with pytest.raises(ValueError, match='path: must be "auto"'):
        TorchModel(nn.LayerNorm(2), path="stacked")
    with pytest.raises(TypeError, match="bias: must be a number, got 'small'"):
        TorchModel(net).glorot_variances(bias="small")
    with pytest.raises(ValueError, match="u: must be one vector of p = 3 entries"):
        TorchModel(net).load(np.ones((2, 3)))
    with pytest.raises(TypeError, match="module: must return one tensor, got tuple"):
        TorchModel(Pair(2, 1), torch.ones(1, 2))(np.ones((2, 3)))
