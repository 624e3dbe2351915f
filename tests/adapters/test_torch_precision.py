"""`TorchModel` in numbers of fewer bits, and its chunks by the memory of a device."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
from torch import nn  # noqa: E402

from ekitools.adapters import _torch_memory, _torch_precision  # noqa: E402
from ekitools.adapters import torch as adapter  # noqa: E402
from ekitools.adapters.torch import TorchModel  # noqa: E402

BITS = {"float32": 24, "float16": 11, "bfloat16": 8}


def dense():
    return nn.Sequential(
        nn.Linear(40, 30), nn.Tanh(), nn.Linear(30, 20), nn.ReLU(), nn.Linear(20, 5)
    )


def frozen():
    net = dense()
    net[0].weight.requires_grad_(False)
    net[2].requires_grad_(False)
    return net


def normalised():
    return nn.Sequential(nn.Linear(40, 30), nn.LayerNorm(30), nn.Softplus(), nn.Linear(30, 5))


class Recurrent(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer, self.head = layer(8, 6, 2, batch_first=True), nn.Linear(6, 5)

    def forward(self, x):
        return self.head(self.layer(x.reshape(-1, 5, 8))[0][:, -1])


NETWORKS = {
    "dense": (dense, "stacked"),
    "frozen": (frozen, "stacked"),
    "convolutional": (
        lambda: nn.Sequential(
            nn.Unflatten(1, (1, 5, 8)),
            nn.Conv2d(1, 4, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(12, 5),
        ),
        "stacked",
    ),
    "softmax between": (
        lambda: nn.Sequential(nn.Linear(40, 9), nn.Softmax(1), nn.Linear(9, 5)),
        "stacked",
    ),
    "normalised": (normalised, "vmap"),
    "RNN": (lambda: Recurrent(nn.RNN), "vmap"),
    "GRU": (lambda: Recurrent(nn.GRU), "vmap"),
    "LSTM": (lambda: Recurrent(nn.LSTM), "vmap"),
}


STACKED = tuple(name for name, (_, path) in NETWORKS.items() if path == "stacked")


def outputs(make, precision, **options):
    """Outputs of 7 members in float32, and in float64 those of the same numbers."""
    torch.manual_seed(0)
    net, x = make(), torch.randn(6, 40)
    model = TorchModel(net, x, precision=precision, **options)
    u = 0.3 * torch.randn(7, model.n_parameters)
    exact = TorchModel(net.double(), x.double())(u.double())
    net.float()
    return model, model(u), exact


@pytest.mark.parametrize("precision", [None, *BITS])
@pytest.mark.parametrize("name", NETWORKS)
def test_errors_are_those_of_rounding(name, precision):
    make, path = NETWORKS[name]
    model, g, exact = outputs(make, precision)
    assert (model.path, model.precision) == (path, precision)
    assert g.dtype == torch.float32
    error = float((g - exact).norm() / exact.norm())
    unit = 2.0 ** -BITS.get(precision, 24)
    assert error < 8 * unit
    if precision in ("float16", "bfloat16"):
        assert error > 0.1 * unit  # it is used at all


@pytest.mark.parametrize("path", ["stacked", "vmap", "loop"])
def test_every_path_has_the_precision(path):
    _, g, exact = outputs(dense, "bfloat16", path=path)
    error = float((g - exact).norm() / exact.norm())
    assert 0.1 * 2.0**-8 < error < 8 * 2.0**-8


@pytest.mark.parametrize("precision", [None, "bfloat16"])
@pytest.mark.parametrize("name", NETWORKS)
def test_chunks_do_not_matter(name, precision):
    make, _ = NETWORKS[name]
    _, whole, _ = outputs(make, precision, chunk=7)
    scale, unit = float(whole.abs().max()), 2.0 ** -BITS.get(precision, 24)
    for chunk in (1, 3):
        _, parts, _ = outputs(make, precision, chunk=chunk)
        np.testing.assert_allclose(parts, whole, rtol=0, atol=4 * unit * scale)


def test_what_is_too_large_for_float16_is_no_number():
    model = TorchModel(nn.Linear(1, 1, bias=False), torch.ones(1, 1), precision="float16")
    assert torch.isinf(model(torch.tensor([[1e6]])))
    model = TorchModel(nn.Linear(1, 1, bias=False), torch.ones(1, 1), precision="bfloat16")
    assert torch.isfinite(model(torch.tensor([[1e6]])))


@pytest.mark.parametrize(
    ("net", "precision", "message"),
    [
        (nn.Linear(2, 1), "half", 'precision: must be "float32", "tf32", "bfloat16" or "float16"'),
        (nn.Linear(2, 1), 16, "precision: must be .*got 16"),
        (nn.Linear(2, 1), "tf32", 'precision: must be "float32", .* on cpu, got "tf32"'),
        (nn.Linear(2, 1).double(), "bfloat16", "precision: must be None for a module of torch.fl"),
    ],
)
def test_a_precision_that_is_not_there_is_refused(net, precision, message):
    with pytest.raises(ValueError, match=message):
        TorchModel(net, precision=precision)


@pytest.mark.parametrize(("precision", "inside"), [("tf32", "high"), ("float32", "highest")])
def test_torchs_settings_come_back(precision, inside):
    cuda = torch.device("cuda")
    for before in ("highest", "high"):
        torch.set_float32_matmul_precision(before)
        allowed = torch.backends.cudnn.allow_tf32
        try:
            with _torch_precision.products(precision, cuda):
                if hasattr(torch.backends.cudnn, "conv"):
                    number = "tf32" if inside == "high" else "ieee"
                    assert torch.backends.cuda.matmul.fp32_precision == number
                    assert torch.backends.cudnn.conv.fp32_precision == number
                else:
                    assert torch.get_float32_matmul_precision() == inside
                    assert torch.backends.cudnn.allow_tf32 == (precision == "tf32")
            assert torch.get_float32_matmul_precision() == before
            assert torch.backends.cudnn.allow_tf32 == allowed
        finally:
            torch.set_float32_matmul_precision("highest")


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="torch before 2.9")
@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_settings_of_the_new_kind_are_no_mix_of_kinds(precision):
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = "tf32"  # get_float32_matmul_precision raises after this
    try:
        with _torch_precision.products(precision, torch.device("cuda")):
            assert matmul.fp32_precision == ("tf32" if precision == "tf32" else "ieee")
        assert matmul.fp32_precision == "tf32"
    finally:
        matmul.fp32_precision = before


class Card:
    """A CUDA device by its memory alone: members beyond ``most`` do not fit."""

    def __init__(self, monkeypatch, most, free=10**9):
        self.chunks, self.most, self.emptied = [], most, 0
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 2 * free))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 10**8)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 10**7)
        monkeypatch.setattr(torch.cuda, "empty_cache", self.empty_cache)
        evaluate = adapter.Stack.evaluate

        def evaluate_if_it_fits(stack, rows, first, out, buffers):
            self.chunks.append(len(rows))
            if len(rows) > self.most:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            evaluate(stack, rows, first, out, buffers)

        monkeypatch.setattr(adapter.Stack, "evaluate", evaluate_if_it_fits)

    def empty_cache(self):
        self.emptied += 1


def test_chunks_are_halved_where_memory_is_short(monkeypatch):
    torch.manual_seed(0)
    net, x = dense(), torch.randn(6, 40)
    model = TorchModel(net, x)
    u = torch.randn(50, model.n_parameters)
    whole = model(u)
    card = Card(monkeypatch, most=13)
    monkeypatch.setattr(adapter, "first_chunk", lambda *numbers: 50)
    model = TorchModel(net, x)
    card.chunks.clear()
    np.testing.assert_allclose(model(u), whole, rtol=1e-5, atol=1e-6)
    assert card.chunks == [50, 25, 13, 13, 13, 11]
    assert card.emptied == 2
    card.chunks.clear()
    model(u)
    assert card.chunks == [13, 13, 13, 11]  # it is known now


def test_chunks_of_other_modules_are_halved_too(monkeypatch):
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(40, 8), nn.LayerNorm(8), nn.Linear(8, 2)), torch.randn(6, 40)
    model = TorchModel(net, x)
    u = torch.randn(20, model.n_parameters)
    whole = model(u)
    Card(monkeypatch, most=0)
    monkeypatch.setattr(adapter, "first_chunk", lambda *numbers: 20)
    vmap, seen = torch.vmap, []

    def vmap_if_it_fits(one):
        def evaluate(rows):
            seen.append(len(rows))
            if len(rows) > 5:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            return vmap(one)(rows)

        return evaluate

    monkeypatch.setattr(torch, "vmap", vmap_if_it_fits)
    model = TorchModel(net)
    np.testing.assert_allclose(model(u, inputs=x), whole, rtol=1e-5, atol=1e-6)
    assert seen == [20, 10, 5, 5, 5, 5]
    assert model.path == "vmap"


def test_memory_that_is_not_there_for_one_member_is_an_error(monkeypatch):
    model = TorchModel(dense(), torch.randn(6, 40))
    u = torch.randn(4, model.n_parameters)
    Card(monkeypatch, most=0)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        model(u)
    model = TorchModel(dense())
    with pytest.raises(torch.cuda.OutOfMemoryError):
        TorchModel(dense(), chunk=4)(u, inputs=torch.randn(6, 40))


def test_the_first_chunk_is_what_fits(monkeypatch):
    Card(monkeypatch, most=0, free=10**9)
    first = _torch_memory.first_chunk
    assert first(1000, torch.float32, torch.device("cpu")) == 2**23 // 4000
    assert first(1000, torch.float32, torch.device("cuda")) == (10**9 + 9 * 10**7) // 8000
    assert first(1000, torch.bfloat16, torch.device("cuda")) == (10**9 + 9 * 10**7) // 4000
    assert first(1000, torch.float32, torch.device("mps")) == 2**30 // 4000
    assert first(10**10, torch.float32, torch.device("cuda")) == 1
    Card(monkeypatch, most=0, free=10**13)
    assert first(10**6, torch.float32, torch.device("cuda")) == 2147  # numbers of 31 bits


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        *((name, None) for name in (*STACKED, "normalised")),
        *((name, "bfloat16") for name in STACKED),
    ],
)
def test_members_on_a_device_stay_there(name, precision):
    """On torch's device "meta", which computes shapes, and from which nothing can be copied."""
    make, _ = NETWORKS[name]
    net = make().to("meta")
    model = TorchModel(net, precision=precision)
    u = torch.empty(300, model.n_parameters, device="meta")
    g = model(u, inputs=torch.empty(6, 40, device="meta"))
    assert (g.device.type, g.dtype, tuple(g.shape)) == ("meta", torch.float32, (300, 30))
