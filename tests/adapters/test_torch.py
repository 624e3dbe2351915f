"""`TorchModel` against torch itself: the module, loaded with one member after the other."""

import copy
import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
from torch import nn  # noqa: E402

import ekitools as ek  # noqa: E402
from ekitools import typing as contracts  # noqa: E402
from ekitools.adapters.torch import TorchModel  # noqa: E402


class Recurrent(nn.Module):
    """The last output of a recurrent layer, through a linear one."""

    def __init__(self, layer, features=5, **options):
        super().__init__()
        self.layer = layer(3, 5, batch_first=True, **options)
        self.head = nn.Linear(features, 2)

    def forward(self, x):
        return self.head(self.layer(x)[0][:, -1])


class Scaled(nn.Module):
    """Parameters of its own, one of them a scalar, and a buffer."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.mix = nn.Parameter(torch.randn(4, 3))
        self.register_buffer("shift", torch.arange(3.0))

    def forward(self, x):
        return self.scale * torch.sin(x @ self.mix) + self.shift


class TwoModes(nn.Linear):
    """Another function in training mode."""

    def __init__(self):
        super().__init__(4, 2)

    def forward(self, x):
        return super().forward(x) * (2 if self.training else 1)


def tied():
    first = nn.Linear(4, 4)
    second = nn.Linear(4, 4, bias=False)
    second.weight = first.weight
    return nn.Sequential(first, nn.Tanh(), second, nn.Tanh(), first)


def partly_frozen():
    net = nn.Sequential(
        nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Linear(6, 3)
    )
    for parameter in (*net[0].parameters(), net[2].bias, net[4].weight, net[5].bias):
        parameter.requires_grad_(False)
    return net


def hooked():
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    net[0].register_forward_hook(lambda module, inputs, output: 2 * output)
    return net


def eval_mode(module):
    return module.eval()


VECTORS, IMAGES, SERIES = (5, 4), (3, 2, 8, 9), (4, 6, 3)
STACKED = {
    "linear": (lambda: nn.Linear(4, 3), VECTORS),
    "no bias": (
        lambda: nn.Sequential(nn.Linear(4, 7, bias=False), nn.ReLU(), nn.Linear(7, 2, bias=False)),
        VECTORS,
    ),
    "dense": (
        lambda: nn.Sequential(
            nn.Linear(4, 7),
            nn.ReLU(),
            nn.Linear(7, 5),
            nn.Sigmoid(),
            nn.Linear(5, 3),
            nn.LogSoftmax(dim=1),
        ),
        VECTORS,
    ),
    "activations": (
        lambda: nn.Sequential(
            nn.Linear(4, 4),
            nn.GELU(),
            nn.Identity(),
            nn.Linear(4, 4),
            nn.ELU(),
            nn.Linear(4, 4),
            nn.Softplus(),
            nn.Softmax(-1),
        ),
        VECTORS,
    ),
    "nested, flattened, dropout": (
        lambda: eval_mode(
            nn.Sequential(
                nn.Flatten(),
                nn.Dropout(0.5),
                nn.Sequential(nn.Linear(144, 6), nn.Tanh()),
                nn.Flatten(),
                nn.Linear(6, 2),
            )
        ),
        IMAGES,
    ),
    "tied": (tied, VECTORS),
    "partly frozen": (partly_frozen, VECTORS),
    "convolutional": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 6, 3, bias=False),
            nn.Tanh(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(24, 5),
            nn.ReLU(),
            nn.Linear(5, 3),
        ),
        IMAGES,
    ),
    "fully convolutional, groups": (
        lambda: nn.Sequential(
            nn.AvgPool2d(2),
            nn.Conv2d(2, 4, 3, groups=2, padding="same"),
            nn.Hardtanh(),
            nn.Conv2d(4, 2, (2, 1), stride=2, groups=2),
        ),
        IMAGES,
    ),
    "unflattened": (
        lambda: nn.Sequential(nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 3, 2), nn.Flatten()),
        VECTORS,
    ),
}
GENERAL = {
    "parameters of its own": (Scaled, VECTORS),
    "layer norm, PReLU": (
        lambda: nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.PReLU(), nn.Linear(6, 2)),
        VECTORS,
    ),
    "batch norm": (
        lambda: eval_mode(nn.Sequential(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.Flatten())),
        IMAGES,
    ),
    "a convolution of series": (
        lambda: nn.Sequential(nn.Conv1d(6, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3)),
        SERIES,
    ),
    "padded with copies": (
        lambda: nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular")),
        IMAGES,
    ),
    "flattened in part": (
        lambda: nn.Sequential(nn.Conv2d(2, 3, 2), nn.Flatten(2), nn.Linear(56, 2)),
        IMAGES,
    ),
    "softmax over channels": (lambda: nn.Sequential(nn.Conv2d(2, 3, 2), nn.Softmax(1)), IMAGES),
    "softmax over the batch": (lambda: nn.Sequential(nn.Linear(4, 3), nn.Softmax(0)), VECTORS),
    "of two modes": (TwoModes, VECTORS),
    "hooked": (hooked, VECTORS),
    "RNN": (lambda: Recurrent(nn.RNN), SERIES),
    "GRU": (lambda: Recurrent(nn.GRU, num_layers=2), SERIES),
    "LSTM": (lambda: Recurrent(nn.LSTM), SERIES),
    "parametrised": (
        lambda: nn.utils.parametrize.register_parametrization(nn.Linear(4, 3), "weight", nn.ELU()),
        VECTORS,
    ),
}
LOOPED = {
    "projected, both ways": (
        lambda: Recurrent(nn.LSTM, features=4, proj_size=2, bidirectional=True),
        SERIES,
    ),
}
CASES = [
    pytest.param(make, shape, path, id=f"{path}-{name}")
    for path, cases in (("stacked", STACKED), ("vmap", GENERAL), ("loop", LOOPED))
    for name, (make, shape) in cases.items()
]


def made(make, shape, *, dtype=torch.float64, n=7):
    """A module, an ensemble (J, p) and a batch."""
    torch.manual_seed(0)
    module = make().to(dtype)
    p = sum(each.numel() for each in module.parameters() if each.requires_grad)
    return module, torch.randn(n, p, dtype=dtype), torch.randn(shape, dtype=dtype)


def one_by_one(module, u, x):
    """What the module returns when it is loaded with every member in turn."""
    module = copy.deepcopy(module).eval()
    rows = []
    with torch.no_grad():
        for row in torch.as_tensor(u):
            parameters = [each for each in module.parameters() if each.requires_grad]
            nn.utils.vector_to_parameters(row, parameters)
            rows.append(module(x).reshape(-1))
    return torch.stack(rows).numpy()


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
@pytest.mark.parametrize(("make", "shape", "path"), CASES)
class TestEveryModule:
    @pytest.mark.parametrize("chunk", [None, 1, 3, 100])
    def test_it_computes_what_the_module_does(self, make, shape, path, chunk):
        module, u, x = made(make, shape)
        model = TorchModel(module, x, chunk=chunk)
        g = model(u)
        assert isinstance(model, contracts.ForwardModel)
        assert model.path == path
        assert isinstance(g, torch.Tensor)
        np.testing.assert_allclose(g.numpy(), one_by_one(module, u, x), rtol=1e-10, atol=1e-12)

    def test_float32_to_rounding(self, make, shape, path):
        module, u, x = made(make, shape, dtype=torch.float32)
        g = TorchModel(module, x)(u.numpy())
        assert (type(g), g.dtype) == (np.ndarray, np.float32)
        np.testing.assert_allclose(g, one_by_one(module, u, x), rtol=2e-4, atol=2e-5)

    def test_nothing_of_the_module_or_the_members_changes(self, make, shape, path):
        module, u, x = made(make, shape)
        kept = [copy.deepcopy(module.state_dict()), u.clone(), x.clone()]
        modes = [each.training for each in module.modules()]
        TorchModel(module, x)(u)
        assert all(torch.equal(kept[0][k], v) for k, v in module.state_dict().items())
        assert torch.equal(u, kept[1])
        assert torch.equal(x, kept[2])
        assert [each.training for each in module.modules()] == modes
        assert all(each.grad is None for each in module.parameters())

    def test_a_member_with_nan_leaves_the_others_alone(self, make, shape, path):
        module, u, x = made(make, shape)
        model = TorchModel(module, x)
        fine = model(u)
        u[2] = torch.nan
        g = model(u)
        assert torch.isnan(g[2]).any()
        others = [0, 1, 3, 4, 5, 6]
        np.testing.assert_allclose(g[others], fine[others], rtol=1e-10, atol=1e-12)

    def test_flat_load_layout_and_names_agree_with_torch(self, make, shape, path):
        module, u, x = made(make, shape)
        model = TorchModel(module, x)
        model.load(u[0].numpy())
        np.testing.assert_array_equal(model.flat(), u[0])
        learning = [p for p in module.parameters() if p.requires_grad]
        assert torch.equal(nn.utils.parameters_to_vector(learning), u[0])
        np.testing.assert_allclose(model(u)[0], one_by_one(module, u[:1], x)[0], rtol=1e-10)
        assert len(model.names) == len(set(model.names)) == model.n_parameters == u.shape[1]
        for name, (where, size) in model.layout.items():
            parameter = module.get_parameter(name)
            assert tuple(parameter.shape) == size
            assert torch.equal(parameter.flatten(), u[0, where])


def test_the_paths_agree():
    module, u, x = made(*STACKED["convolutional"])
    outputs = {path: TorchModel(module, x, path=path)(u) for path in ("stacked", "vmap", "loop")}
    for g in outputs.values():
        np.testing.assert_allclose(g, outputs["loop"], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", [(2, 5, 4), (4,)])
def test_inputs_of_more_dimensions_than_a_stack_has(shape):
    module, u, x = made(STACKED["dense"][0], shape)
    module = module[:-1]
    np.testing.assert_allclose(TorchModel(module, x)(u), one_by_one(module, u, x), rtol=1e-10)


def test_an_embedding_takes_integers():
    module = nn.Sequential(nn.Embedding(6, 3), nn.Flatten(), nn.Linear(6, 2)).double()
    u = np.random.default_rng(0).normal(size=(5, 18 + 14))
    x = np.array([[0, 5], [2, 2], [1, 0]])
    expected = one_by_one(module, u, torch.as_tensor(x))
    np.testing.assert_allclose(TorchModel(module, x)(u), expected, rtol=1e-12)


def test_a_float64_ensemble_of_a_float32_module_comes_back_as_float64():
    module, u, x = made(*STACKED["dense"], dtype=torch.float32)
    model = TorchModel(module, x.numpy().astype(np.float64))
    g = model(u.numpy().astype(np.float64))
    assert g.dtype == np.float64
    np.testing.assert_array_equal(g, model(u).numpy())
    assert model(u.double()).dtype == torch.float64


def test_inputs_of_another_floating_dtype_are_converted():
    module, u, x = made(*STACKED["dense"], dtype=torch.float32)
    expected, x = TorchModel(module, x)(u), x.double()
    assert torch.equal(TorchModel(module, x)(u), expected)
    assert torch.equal(TorchModel(module)(u, inputs=x), expected)
    assert x.dtype == torch.float64


@pytest.mark.parametrize("order", ["F", "reversed", "read-only"])
def test_arrays_of_any_layout(order):
    module, u, x = made(*STACKED["dense"])
    rows = u.numpy()[::-1] if order == "reversed" else np.array(u.numpy(), order="F")
    rows.flags.writeable = order != "read-only"
    np.testing.assert_allclose(TorchModel(module, x)(rows), one_by_one(module, rows.copy(), x))
    columns = u.T.contiguous().T
    np.testing.assert_allclose(TorchModel(module, x)(columns), one_by_one(module, u, x))


def test_one_member_is_a_vector():
    module, u, x = made(*STACKED["dense"])
    model = TorchModel(module, x)
    np.testing.assert_allclose(model(u[1]), model(u)[1], rtol=1e-12)
    assert model(u[1].numpy()).shape == (15,)


def test_a_batch_at_every_call():
    module, u, x = made(*STACKED["dense"])
    model = TorchModel(module)
    assert (model.takes_inputs, TorchModel(module, x).takes_inputs) == (True, False)
    for batch in (x, x[:2], x[3:]):
        np.testing.assert_allclose(model(u, inputs=batch), one_by_one(module, u, batch))
    np.testing.assert_allclose(TorchModel(module, x)(u, inputs=x[:2]), model(u, inputs=x[:2]))
    with pytest.raises(ValueError, match="inputs: must be given"):
        model(u)


def test_it_can_be_pickled():
    module, u, x = made(*STACKED["convolutional"])
    model = TorchModel(module, x)
    assert torch.equal(pickle.loads(pickle.dumps(model))(u), model(u))


def test_frozen_parameters_are_constants():
    module, u, x = made(*STACKED["partly frozen"])
    model = TorchModel(module, x)
    assert list(model.layout) == ["2.weight", "4.bias", "5.weight"]
    before = model(u)
    with torch.no_grad():
        module[0].bias += 1
    assert not torch.allclose(model(u), before)
    np.testing.assert_allclose(model(u), one_by_one(module, u, x), rtol=1e-10)


def test_shared_parameters_are_there_once():
    assert TorchModel(tied()).n_parameters == 16 + 4


class Branching(nn.Module):
    """What vmap cannot do: a branch that depends on a value."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, x):
        y = self.linear(x)
        return y if y.sum() > 0 else -y


def test_where_vmap_cannot_do_it_a_loop_does():
    module, u, x = made(Branching, VECTORS)
    model = TorchModel(module, x)
    np.testing.assert_allclose(model(u), one_by_one(module, u, x))
    assert model.path == "loop"
    with pytest.raises(ValueError, match='path: must be "loop"'):
        TorchModel(module, x, path="vmap")


class Noisy(nn.Linear):
    def forward(self, x):
        return super().forward(x) + torch.randn(1)


def test_a_random_module_is_refused():
    with pytest.raises(ValueError, match="equal outputs for equal parameters"):
        TorchModel(Noisy(4, 1), torch.ones(2, 4))


class Pair(nn.Linear):
    def forward(self, x):
        return super().forward(x), x


@pytest.mark.parametrize("path", ["auto", "vmap", "loop"])
@pytest.mark.parametrize(
    ("module", "inputs", "error", "message"),
    [
        (
            nn.Linear(3, 1),
            torch.ones(5, 2),
            ValueError,
            r"inputs: must be a batch .* \(5, 2\) .*mult",
        ),
        (
            nn.Linear(3, 1),
            np.ones((5, 3), int),
            ValueError,
            r"inputs: must be a batch .* torch.int64",
        ),
        (nn.Linear(3, 1), [["a"]], TypeError, "inputs: must be an array of numbers, got list"),
        (nn.Embedding(4, 2), [0, 7], ValueError, "inputs: must be a batch .*index out of range"),
        (Pair(3, 1), torch.ones(5, 3), TypeError, "module: must return one tensor, got tuple"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused_at_once(module, inputs, error, message, path):
    with pytest.raises(error, match=message):
        TorchModel(module, inputs, path=path)


def test_a_problem_is_checked_against_the_shape():
    model = TorchModel(nn.Linear(3, 2), torch.ones(5, 3))
    assert model.shape == (10, 8)
    assert TorchModel(nn.Linear(3, 2)).shape is None
    with pytest.raises(ValueError, match=r"must have the shape \(d, p\) = \(9, 8\) .* \(10, 8\)"):
        ek.InverseProblem(model, ek.GaussianPrior(np.zeros(8), 1.0), 1.0, np.ones(9))
