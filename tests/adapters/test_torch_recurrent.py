"""Recurrent layers, all members at once, against torch's own forward pass."""

import copy
from itertools import product

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
from torch import nn  # noqa: E402

from ekitools.adapters._torch_recurrent import explicit_recurrence  # noqa: E402
from ekitools.adapters.torch import TorchModel  # noqa: E402

LAYERS = {
    "RNN": nn.RNN,
    "RNN, ReLU": lambda *sizes, **options: nn.RNN(*sizes, nonlinearity="relu", **options),
    "GRU": nn.GRU,
    "LSTM": nn.LSTM,
}
OPTIONS = [
    dict(zip(("num_layers", "batch_first", "bias"), values, strict=True))
    for values in product((1, 2), (False, True), (False, True))
]


class Reader(nn.Module):
    """All of what a recurrent layer returns, or its outputs alone."""

    def __init__(self, layer, states, *, unbatched=False, start=None):
        super().__init__()
        self.layer, self.states = layer, states
        self.unbatched, self.start = unbatched, start

    def forward(self, x):
        x = x[0] if self.unbatched else x
        out, last = self.layer(x) if self.start is None else self.layer(x, self.start)
        if not self.states:
            return out
        last = last if isinstance(last, tuple) else (last,)
        return torch.cat([each.reshape(-1) for each in (out, *last)])


def members(module, n=5):
    torch.manual_seed(1)
    p = sum(each.numel() for each in module.parameters() if each.requires_grad)
    return 0.5 * torch.randn(n, p, dtype=torch.float64)


def expected(module, u, x):
    """By torch's kernels, with one member after the other in the module."""
    module, rows = copy.deepcopy(module).eval(), []
    learned = [each for each in module.parameters() if each.requires_grad]
    for row in u:
        nn.utils.vector_to_parameters(row, learned)
        with torch.no_grad():
            rows.append(module(x).reshape(-1))
    return torch.stack(rows)


def agree(model, u, x, path):
    g = model(u, inputs=x)
    assert model.path == path
    np.testing.assert_allclose(g, expected(model.module, u, x), rtol=1e-12, atol=1e-14)


@pytest.fixture
def series():
    return torch.randn(4, 6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("states", [False, True], ids=["outputs", "states too"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_is_torchs(name, options, states, series):
    module = Reader(LAYERS[name](3, 5, **options).double(), states)
    agree(TorchModel(module, chunk=3), members(module), series, "vmap")


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_whose_inputs_differ_by_member(name, series):
    layer = LAYERS[name](5, 4)
    module = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), Reader(layer, True)).double()
    agree(TorchModel(module), members(module), series, "vmap")


@pytest.mark.parametrize("name", LAYERS)
def test_layers_in_a_row(name, series):
    rows = [Reader(LAYERS[name](a, 4, batch_first=True), False) for a in (3, 4)]
    module = nn.Sequential(*rows, nn.Linear(4, 2)).double()
    agree(TorchModel(module), members(module), series, "vmap")


@pytest.mark.parametrize("frozen", ["layer", "weight_hh_l0"])
@pytest.mark.parametrize("name", LAYERS)
def test_frozen_weights_are_the_same_for_all(name, frozen, series):
    layer = LAYERS[name](3, 5)
    for key, each in layer.named_parameters():
        each.requires_grad_(frozen not in (key, "layer"))
    module = nn.Sequential(Reader(layer, False), nn.Linear(5, 2)).double()
    agree(TorchModel(module), members(module), series, "vmap")


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.GRU(3, 5, batch_first=True)

    def forward(self, x):
        packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([6, 5, 2, 1]), batch_first=True)
        return self.layer(packed)[1]


class Doubled(nn.RNN):
    """A forward pass of its own."""

    def forward(self, x):
        return 2 * super().forward(x)[0]


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
@pytest.mark.parametrize(
    "make",
    [
        lambda: Reader(nn.LSTM(3, 5, proj_size=2), True),
        lambda: Reader(nn.GRU(3, 5, bidirectional=True), True),
        lambda: Reader(nn.RNN(3, 5), True, start=torch.ones(1, 6, 5, dtype=torch.float64)),
        lambda: Reader(nn.RNN(3, 5), True, unbatched=True),
        lambda: Doubled(3, 5),
        Packed,
    ],
    ids=["projected", "both ways", "a start", "unbatched", "subclass", "packed"],
)
def test_the_rest_is_done_one_by_one(make, series):
    module = make().double()
    agree(TorchModel(module), members(module), series, "loop")


@pytest.mark.parametrize("name", LAYERS)
def test_the_layer_has_its_own_forward_back(name, series):
    layer = LAYERS[name](3, 5).double()
    before = dict(vars(layer))
    with explicit_recurrence(nn.Sequential(layer)):
        assert "forward" in vars(layer)
    with pytest.raises(ZeroDivisionError), explicit_recurrence(layer):
        raise ZeroDivisionError
    assert list(vars(layer)) == list(before)
    module = Reader(layer, True)
    TorchModel(module, series)(members(module))
    out = module(series)
    out.sum().backward()  # can be trained by gradients still
    assert layer.weight_ih_l0.grad.abs().sum() > 0


def test_a_hook_sees_what_the_layer_returns(series):
    layer = nn.LSTM(3, 5).double()
    layer.register_forward_hook(lambda module, inputs, output: (2 * output[0], output[1]))
    module = Reader(layer, False)
    agree(TorchModel(module), members(module), series, "vmap")
