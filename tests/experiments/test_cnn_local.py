"""Members of every layer against derivatives, and the experiment on images made up by the test."""

from dataclasses import replace

import pytest
from zoo.images import noisy_patterns
from zoo.networks import interrupted

import ekitools as ek
from ekitools.experiments import cnn_local, networks, reproduce
from ekitools.experiments.images import Data
from ekitools.experiments.learning import loop

torch = pytest.importorskip("torch", reason="the networks are torch tensors")
layerwise = pytest.importorskip("ekitools.experiments.learning.layerwise")
network = pytest.importorskip("ekitools.experiments.learning.network")

TINY = networks.Convolutions((1, 28, 28), ((3,), (4, 2)), ((4, 2), (2, 2)), (5,))
STACKS = {
    "windows that overlap": TINY,
    "windows of three": TINY._replace(pools=((3, 2), (3, 3))),
    "no dense layer between": TINY._replace(hidden=()),
    "colours, a pool to one pixel": networks.Convolutions(
        (3, 16, 16), ((4,), (3,)), ((2, 2), (8, 8)), (6,)
    ),
}
M, K = 5, 3


@pytest.fixture(autouse=True)
def double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(autouse=True, params=[2, 125])
def at_once(request, monkeypatch):
    """Batches in three pieces, the last one smaller, or as a whole."""
    monkeypatch.setattr(layerwise, "_AT_ONCE", request.param)


@pytest.fixture(params=STACKS)
def stack(request, monkeypatch):
    """The torch module, its parameters as layers, its pools, and inputs."""
    net = STACKS[request.param]
    monkeypatch.setitem(networks.CONVOLUTIONAL, "tiny", net)
    torch.manual_seed(0)
    module = networks.build("tiny", 0, K)
    parameters = [part.detach() for part in module.parameters()]
    mean = [network.Layer(*pair) for pair in zip(parameters[::2], parameters[1::2], strict=True)]
    shapes, pools = layerwise.structure(module)
    assert shapes == [tuple(layer.weights.shape) for layer in mean]
    return module, mean, pools, torch.randn(M, *net.image)


def flat(net):
    return [part for layer in net for part in layer]


def test_outputs_are_those_of_the_module(stack):
    module, mean, pools, x = stack
    torch.testing.assert_close(layerwise.logits(mean, x, pools), module(x.flatten(1)).detach())


def test_products_are_those_with_the_derivative_where_members_are_close(stack):
    module, mean, pools, x = stack
    model = layerwise.chained(mean, x, [1.0] * len(mean), 1e-8, pools)
    names = [name for name, _ in module.named_parameters()]

    def outputs(*parameters):
        at = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(module, at, (x.flatten(1),))

    jacobian = torch.autograd.functional.jacobian(outputs, tuple(flat(mean)))  # each (m, k, ...)
    d = [network.Layer(torch.randn_like(w), torch.randn_like(b)) for w, b in mean]
    along = sum(j.flatten(2) @ part.flatten() for j, part in zip(jacobian, flat(d), strict=True))
    torch.testing.assert_close(model.along(d), along, rtol=1e-6, atol=1e-6)
    v = torch.randn(M, K)
    back = [torch.tensordot(v, j, dims=2) / M for j in jacobian]
    torch.testing.assert_close(flat(model.back(v)), back, rtol=1e-6, atol=1e-6)


def test_members_smooth_what_jumps_or_bends():
    """A is the covariance with two-point deviations, over their variance, in every window."""
    torch.manual_seed(1)
    a, sigma = torch.randn(2, 3, 9, 9), 0.7
    (slope,) = layerwise._slopes(a, None, sigma, None)
    signs = torch.randint(2, (4000, *a.shape)) * 2.0 - 1
    products = torch.relu(a + sigma * signs) * signs / sigma
    covariance, error = products.mean(dim=0), products.std(dim=0) / 4000**0.5
    assert torch.all((covariance - slope).abs() < 5 * error + 1e-12)
    assert torch.any((slope > 0.1) & (slope < 0.9))  # members on both sides of a bend
    phi = torch.relu(torch.nn.functional.max_pool2d(a, 4, 2))
    slopes = layerwise._slopes(a, phi, sigma, (4, 2))
    raised = a.clone()
    raised[1, 2, 2 + 3, 4 + 1] += sigma  # place (3, 1) of the window at (2, 4)
    change = torch.relu(torch.nn.functional.max_pool2d(raised, 4, 2)) - phi
    torch.testing.assert_close(slopes[3 * 4 + 1][1, 2, 1, 2], change[1, 2, 1, 2] / sigma)


def test_a_step_is_towards_the_minimum_of_the_quadratic_model(stack):
    """Solved to the end, the quadratic's gradient by finite differences is zero."""
    _, mean, pools, x = stack
    sds = [0.5] * len(mean)
    labels = torch.randint(K, (M,))
    options = cnn_local.Layerwise(
        1, damping=0.3, prior=0.02, iterations=300, momentum=0.0, averaging=0.5
    )
    state = network.State(mean, mean, [])
    model = layerwise.chained(mean, x, sds, options.gamma, pools)
    moved, loss = layerwise.gauss_newton.step(state, model, labels, sds, options)
    p, y = model.outputs.softmax(dim=1), torch.eye(K)[labels]

    def quadratic(move):
        change = model.along(move)
        weights = [w + mean_w for (w, _), (mean_w, _) in zip(move, mean, strict=True)]
        bend = (p * change**2).sum(dim=1) - (p * change).sum(dim=1) ** 2
        damped = sum(float(part.square().sum()) for part in flat(move)) / 0.25
        pulled = sum(float(w.square().sum()) for w in weights) / 0.25
        fit = ((p - y) * change).sum(dim=1) + bend / 2
        return float(fit.mean()) + 0.3 * damped / 2 + 0.02 * pulled / 2

    move = network.sum_of(moved.mean, mean, -1.0)
    torch.manual_seed(3)
    for _ in range(5):
        d = [network.Layer(torch.randn_like(w), torch.randn_like(b)) for w, b in mean]
        up, down = (quadratic(network.sum_of(move, d, h)) for h in (1e-4, -1e-4))
        assert abs(up - down) / 2e-4 < 1e-6 * (up + down - 2 * quadratic(move)) / 1e-8
    assert quadratic(move) < quadratic(network.sum_of(mean, mean, -1.0))
    reference = ek.CrossEntropy(K).misfit(model.outputs.ravel().numpy()[None], y.ravel().numpy())
    assert loss == pytest.approx(float(reference[0]) / M)
    short = replace(options, iterations=0, momentum=1.0)
    started, _ = layerwise.step(state._replace(past=[move]), x, labels, sds, short, pools)
    torch.testing.assert_close(flat(started.past[0]), flat(move))  # it lowers the loss


def test_the_experiment_learns_and_resumes_to_the_last_bit(monkeypatch, tmp_path):
    torch.set_default_dtype(torch.float32)
    monkeypatch.setattr(ek.datasets, "mnist", noisy_patterns)
    monkeypatch.setitem(networks.CONVOLUTIONAL, "CNN-MNIST", TINY)
    monkeypatch.setitem(loop._EVERY, "convolutional", 10)
    options = cnn_local.Layerwise(20, batch=50, damping=0.03, momentum=0.5, averaging=0.8)
    settings = cnn_local.Settings({"CNN-MNIST": options}, data=Data(validation=100))
    monkeypatch.setitem(cnn_local.SETTINGS, "small", settings)
    lines = []
    record = reproduce("cnn-local", out=tmp_path / "whole", show=lines.append)
    whole = record["numbers"]["CNN-MNIST, seed 0"]
    assert whole["test"] > 0.95
    assert any("0.9912" in line for line in lines)
    assert (tmp_path / "whole" / "figure.png").stat().st_size > 0

    monkeypatch.setattr(layerwise, "step", interrupted(layerwise.step, 14))
    with pytest.raises(KeyboardInterrupt):
        cnn_local.compute(settings, "CNN-MNIST, seed 0", tmp_path / "parts", False)
    monkeypatch.setattr(layerwise, "start", None)  # not asked for again
    monkeypatch.setattr(layerwise, "step", layerwise.step.whole)
    again = cnn_local.compute(settings, "CNN-MNIST, seed 0", tmp_path / "parts", False)
    assert again["trace"] == whole["trace"]
