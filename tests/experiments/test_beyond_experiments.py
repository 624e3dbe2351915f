"""Learning where there is nothing to differentiate: steps, errors, and the returns of episodes."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from sklearn.datasets import load_digits, make_moons
from zoo.images import images
from zoo.networks import Network, step

import ekitools as ek
from ekitools.experiments import (
    SCALES,
    cartpole,
    image_learning,
    networks,
    reproduce,
    step_activation,
    zero_one_loss,
)
from ekitools.experiments.error_indicators import ErrorIndicators
from ekitools.experiments.images import Data, Split
from ekitools.experiments.learning.options import Factored, Local
from ekitools.experiments.recipes import CurvatureLearning, Descent, Learning


def needs_torch():
    return pytest.importorskip("torch", reason="the networks are torch modules")


@pytest.fixture
def tiny_images(monkeypatch):
    needs_torch()
    for name in ("mnist", "fashion_mnist"):
        monkeypatch.setattr(ek.datasets, name, images)
    monkeypatch.setitem(networks.NETWORKS, "DNN 2", (12,))


@pytest.mark.parametrize(
    ("method", "n_epochs"),
    [
        (ek.LossEKI(ek.NormStep(10.0, 0.5), ek.Spread(1.0)), 6),
        (ek.CurvatureEKI(gamma=1.0, damping=0.3), 5),
    ],
    ids=["EKI(R)", "curvature"],
)
def test_digits_with_step_activations(method, n_epochs):
    """64-32-10 on 1400 of scikit-learn's digits, tested on the other 397."""
    x, labels = load_digits(return_X_y=True)
    x = ((x - x.mean(axis=0)) / 12).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[:1400], order[1400:]
    network = Network((64, 32, 10), step)
    data = ek.MiniBatches(x[train], np.eye(10)[labels[train]], 200)
    problem = ek.InverseProblem(network, network.prior(), ek.CrossEntropy(10), data)
    start = network.prior().sample(200, rng=1).astype(np.float32)
    result = ek.run(problem, method, ensemble=start, n_steps=n_epochs * 7, store="final", rng=0)
    mean = result.u[-1].mean("member").values
    classes = network(mean[None], x[test])[0].reshape(-1, 10).argmax(axis=1)
    assert np.mean(classes == labels[test]) > 0.9


def test_gradient_descent_leaves_what_is_before_a_step_as_it_was():
    torch = needs_torch()
    from ekitools.adapters.torch import TorchModel

    x, labels = make_moons(100, random_state=0)
    split = Split(*(x.astype(np.float32), labels) * 3, 2)
    model = TorchModel(networks.build("DNN 2", 2, 2, "step"))
    before = model.flat()
    image_learning._descended(Descent(2, 0.1, batch=20), model, split, 0, False, "cpu")
    moved = model.flat() != before
    assert not moved[:300].any()  # (2 + 1) · 100 of the hidden layer
    assert moved[300:].mean() > 0.5  # of units that are not the same for all inputs
    hidden = model.module[1](torch.tensor([-1.0, 0.0, 0.5]))
    assert hidden.tolist() == [0.0, 0.0, 1.0]


SDS = (0.3, 0.4)


def factored_case():
    """A network 5-6-3, a batch, and the deviations that a step draws from a generator."""
    torch = needs_torch()
    from ekitools.experiments.learning import network

    mean = network.start((5, 6, 3), (1.0, 1.0), 0).mean
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(40, 5, generator=generator)
    labels = torch.randint(3, (40,), generator=generator)
    generator, draws = torch.Generator().manual_seed(3), [[] for _ in range(9)]
    for (n_in, n_out), sd in zip(((5, 6), (6, 3)), SDS, strict=True):
        a = torch.randn(9, n_in, generator=generator)
        b, e = (sd * torch.randn(9, n_out, generator=generator) for _ in range(2))
        for j, draw in enumerate(draws):
            draw.append(network.Layer(torch.outer(b[j], a[j]), e[j]))
    return network, mean, x, labels, draws


def stepped(mean, past, x, labels):
    torch = needs_torch()
    from ekitools.experiments.learning import network, rank_one

    options = Factored(1, members=9, damping=0.5, gamma=0.8, memory=len(past))
    state, _ = rank_one.step(
        *(network.State(mean, mean, past), x, labels, torch.Generator().manual_seed(3)),
        *(SDS, options),
        activation=network.heaviside,
        averaged=True,
    )
    return as_rows(state.mean)


def as_rows(network):
    """In the order of `Network` of the tests: every layer's weights (in, out), then its biases."""
    parts = [part for layer in network for part in (layer.weights.T, layer.biases)]
    return np.concatenate([np.asarray(part).ravel() for part in parts])


def test_a_factored_step_around_the_mean_output_is_that_of_curvature_eki():
    dense, mean, x, labels, draws = factored_case()
    moved = stepped(mean, [], x, labels)
    u = np.stack([as_rows(dense.sum_of(mean, draw, 0.8)) for draw in draws]).astype(float)
    x, y = x.numpy().astype(float), np.eye(3)[labels.numpy()]
    network = Network((5, 6, 3), step)
    seen = ek.InverseProblem(
        ek.FunctionModel(lambda v: network(v, x), vectorized=True),
        *(network.prior(), ek.CrossEntropy(3), y.ravel()),
    )
    method = ek.CurvatureEKI(gamma=0.8, damping=0.5, radius=np.inf)
    state = method.init(u, seen)._replace(ensemble=u)
    new, _ = method.tell(state, network(u, x), seen, rng=np.random.default_rng(0))
    expected = as_rows(mean) + (new.ensemble.mean(axis=0) - u.mean(axis=0))
    np.testing.assert_allclose(moved, expected, rtol=1e-3, atol=2e-4)
    assert np.abs(moved - as_rows(mean)).max() > 0.05


def test_a_factored_step_around_the_mean_output_with_a_past_step():
    dense, mean, x, labels, draws = factored_case()
    past = [dense.sum_of(mean, draws[0], 0.5)]
    moved = stepped(mean, past, x, labels)
    every = [*draws, *past]
    z = np.stack(
        [dense.logits(dense.sum_of(mean, d, 0.8), x, dense.heaviside).numpy() for d in every]
    )
    z = z.reshape(10, -1).astype(float)
    centre, loss, y = z[:9].mean(axis=0), ek.CrossEntropy(3), np.eye(3)[labels.numpy()].ravel()
    f = (z - centre) / 0.8
    system = f @ loss.curvature_product(centre, y, f).T / 40 + 0.5 * np.eye(10)
    weights = -np.linalg.solve(system, f @ loss.gradient(centre, y) / 40)
    deviations = np.stack([as_rows(each) for each in every])
    expected = as_rows(mean) + weights @ (deviations - deviations[:9].mean(axis=0))
    np.testing.assert_allclose(moved, expected, rtol=1e-3, atol=2e-4)
    assert abs(weights.sum()) > 1e-2  # else it would not matter where the draws' mean is


TINY_STEPS = {
    "step, SGD": Descent(4, 0.1, batch=30),
    "step, EKI(R)": Learning(60, 5, h=10.0, redraw="step", batch=100),
    "step, CurvatureEKI": CurvatureLearning(60, 5, damping=0.3, batch=100, gamma=1.0),
    "ReLU, CurvatureEKI": CurvatureLearning(60, 5, damping=0.3, batch=100, gamma=0.02),
    "step, factored": Factored(
        20, members=60, batch=100, batch_growth=1.0, damping=0.3, gamma=1.0, memory=0, averaging=0.8
    ),
    "step, local": Local(20, members=20, batch=100, gamma=0.3, averaging=0.8),
}


def test_the_experiment_with_steps(tiny_images, tmp_path, monkeypatch):
    settings = step_activation.Settings(("fashion_mnist",), TINY_STEPS, validation=60)
    monkeypatch.setitem(step_activation.SETTINGS, "small", settings)
    lines = []
    record = reproduce("step-activation", out=tmp_path / "out", show=lines.append)
    assert list(record["numbers"]) == step_activation.parts(settings)
    for found in record["numbers"].values():
        assert found["status"] == "budget_spent"
        assert found["trace"][-1][1:] == [found["validation"], found["test"]]
        assert found["test"] > 0.6  # chance is 1/3
        assert f"{found['test']:.4f}" in "\n".join(lines)
    assert sum(" 0.85 " in line for line in lines) == 4  # EKI on Fashion-MNIST, not SGD
    assert (tmp_path / "out" / "figure.png").read_bytes()[:4] == b"\x89PNG"


def test_least_squares_of_the_errors_is_their_number_and_flat():
    x, labels = make_moons(300, noise=0.3, random_state=0)
    network = Network((2, 8, 2))
    model = ErrorIndicators(network, x, labels)
    rows = np.random.default_rng(1).permutation(300)[:120]
    problem = ek.InverseProblem(model, network.prior(), 1.0, ek.MiniBatches(rows, rows * 0.0, 120))
    u = network.prior().sample(7, rng=2)
    errors = model(u, inputs=rows)
    for member, found in zip(u, errors, strict=True):
        scores = network(member[None], x[rows])[0].reshape(-1, 2)
        np.testing.assert_array_equal(found, scores.argmax(axis=1) != labels[rows])
    misfit = problem.noise.misfit(errors, np.zeros(120))
    np.testing.assert_array_equal(2 * misfit, errors.sum(axis=1))
    near = u + 1e-9 * np.random.default_rng(3).standard_normal(u.shape)
    np.testing.assert_array_equal(model(near, inputs=rows), errors)


@pytest.mark.parametrize(
    ("method", "n_steps"),
    [
        (ek.LossEKI(ek.NormStep(10.0, 0.5), ek.Spread(0.3)), 150),
        (ek.CurvatureEKI(gamma=0.5, damping=0.003), 60),
    ],
    ids=["EKI(R)", "curvature"],
)
@pytest.mark.parametrize("seed", range(2))
def test_two_moons_from_errors_alone(method, n_steps, seed):
    x, labels = make_moons(1000, noise=0.2, random_state=seed)
    x = x - np.array([0.5, 0.25])
    network = Network((2, 20, 2))
    model = ErrorIndicators(network, x[:600], labels[:600])
    data = ek.MiniBatches(np.arange(600), np.zeros(600), 600)
    problem = ek.InverseProblem(model, network.prior(), 1.0, data)
    result = ek.run(problem, method, n_members=100, n_steps=n_steps, store="last", rng=seed)
    mean = result.u[-1].mean("member").values
    wrong = ErrorIndicators(network, x[600:], labels[600:])(mean[None], inputs=np.arange(400))
    # a straight line has 0.13 at best; standard error of 0.055 with 400 samples: 0.011
    assert wrong.mean() < 0.08


def test_the_experiment_with_errors(tiny_images, tmp_path, monkeypatch):
    eki = Learning(60, 5, h=10.0, redraw="step", gamma=0.3, batch=100)
    recipes = {"zero-one, EKI(R)": eki, "cross-entropy, SGD": Descent(4, 0.1, batch=30)}
    settings = zero_one_loss.Settings(
        {"two moons": recipes, "MNIST": recipes, "MNIST, hidden layer": recipes},
        Data(validation=60),
    )
    monkeypatch.setitem(zero_one_loss.SETTINGS, "small", settings)
    lines = []
    record = reproduce("zero-one-loss", out=tmp_path / "out", show=lines.append)
    assert list(record["numbers"]) == zero_one_loss.parts(settings)
    for found in record["numbers"].values():
        assert found["status"] == "budget_spent"
        assert found["test"] > 0.6
        assert f"{found['test']:.4f}" in "\n".join(lines)
    assert (tmp_path / "out" / "figure.png").read_bytes()[:4] == b"\x89PNG"


def test_moons_are_those_of_scikit_learn():
    split = zero_one_loss.moons(0, n=400, noise=0.0)
    exact, labels = make_moons(4000, shuffle=False)
    for label in (0, 1):
        ours = split.x_train[split.y_train == label] + np.array([0.5, 0.25])
        theirs = exact[labels == label]
        distance = np.linalg.norm(ours[:, None] - theirs[None], axis=2).min(axis=1)
        assert distance.max() < 2e-3  # their points are π/2000 apart


def test_a_policy_takes_the_larger_of_two_outputs():
    rng = np.random.default_rng(0)
    linear, network = cartpole.Policy(0), cartpole.Policy(8)
    assert (linear.n_parameters, network.n_parameters) == (10, 58)
    for _ in range(20):
        o, u, v = (rng.standard_normal(n) for n in (4, 10, 58))
        z = u[:8].reshape(2, 4) @ o + u[8:]
        assert linear.action(u, o) == int(np.argmax(z))
        hidden = np.tanh(v[:32].reshape(8, 4) @ o + v[32:40])
        assert network.action(v, o) == int(np.argmax(v[40:56].reshape(2, 8) @ hidden + v[56:]))


def test_cartpole_is_solved(tmp_path, monkeypatch):
    gymnasium = pytest.importorskip("gymnasium", reason="its CartPole")
    taken, make = [0], gymnasium.make

    class Counted(gymnasium.Wrapper):
        def step(self, action):
            taken[0] += 1
            return super().step(action)

    monkeypatch.setattr(gymnasium, "make", lambda name: Counted(make(name)))
    settings = replace(
        cartpole.SETTINGS["small"],
        seeds=1,
        policies={"linear policy": cartpole.Policy(0)},
        n_members=20,
        n_steps=12,
        episodes=2,
        tested=20,
    )
    monkeypatch.setitem(cartpole.SETTINGS, "small", settings)
    lines = []
    record = reproduce("cartpole", out=tmp_path / "out", show=lines.append)
    found = record["numbers"]["linear policy, seed 0"]
    assert found == json.loads(json.dumps(found))
    assert (len(found["test"]), found["episodes"]) == (20, 20 * 12 * 2)
    assert np.mean(found["test"]) >= 475
    assert found["by_step"][0] < 60  # before anything was learned
    assert found["environment_steps"][-1] + sum(found["test"]) == taken[0]
    assert any(str(found["environment_steps"][-1]) in line for line in lines)
    assert (tmp_path / "out" / "figure.png").read_bytes()[:4] == b"\x89PNG"


def test_without_gymnasium_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(cartpole, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"gymnasium: .*pip install 'ekitools\[rl\]'"):
        reproduce("cartpole", out=tmp_path, show=lambda line: None)


@pytest.mark.parametrize("module", [step_activation, zero_one_loss, cartpole])
def test_scales_grow(module):
    assert tuple(module.SETTINGS) == SCALES
    sizes = [len(module.parts(module.SETTINGS[scale])) for scale in SCALES]
    assert all(a <= b for a, b in pairwise(sizes))
