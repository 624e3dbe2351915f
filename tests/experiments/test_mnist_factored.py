"""Factored members against dense ones, and the experiment on images made up by the test."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from zoo.images import noisy_patterns
from zoo.networks import interrupted

import ekitools as ek
from ekitools.experiments import mnist_ablation, mnist_factored, mnist_local, reproduce
from ekitools.experiments.images import Data

torch = pytest.importorskip("torch", reason="the networks are torch tensors")
dense = pytest.importorskip("ekitools.experiments.learning.network")
factored = pytest.importorskip("ekitools.experiments.learning.rank_one")

SIZES, M = (6, 5, 4, 3), 40
SDS = (0.3, 0.4, 0.5)


def network(seed=0):
    return dense.start(SIZES, SDS, seed).mean


def batch():
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(M, SIZES[0], generator=generator)
    return x, torch.randint(SIZES[-1], (M,), generator=generator)


def flat(net):
    return np.concatenate([part.ravel() for layer in net for part in layer])


def of_flat(u):
    net, start = [], 0
    for n_in, n_out in pairwise(SIZES):
        weights, start = u[start : start + n_in * n_out].reshape(n_out, n_in), start + n_in * n_out
        net.append(dense.Layer(torch.from_numpy(weights), torch.from_numpy(u[start:][:n_out])))
        start += n_out
    return net


def drawn(n, seed):
    """The deviations that `step` draws, flat ``(n, p)``: every layer's weights, then its biases."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for (n_in, n_out), sd in zip(pairwise(SIZES), SDS, strict=True):
        a = torch.randn(n, n_in, generator=generator)
        b, e = (sd * torch.randn(n, n_out, generator=generator) for _ in range(2))
        parts += [(b[:, :, None] * a[:, None, :]).flatten(1), e]
    return torch.cat(parts, dim=1).numpy()


def test_deviations_have_the_covariance_of_independent_entries():
    n = 40_000
    xi = drawn(n, 0)[:, : SIZES[0] * SIZES[1]]
    second = xi.T @ xi / n
    # the variance of (a b)² is 8 s⁴, of a product of two entries at most 3 s⁴
    assert np.all(np.abs(np.diag(second) - 0.09) < 5 * np.sqrt(8) * 0.09 / np.sqrt(n))
    off = second - np.diag(np.diag(second))
    assert np.all(np.abs(off) < 5 * np.sqrt(3) * 0.09 / np.sqrt(n))


@pytest.mark.parametrize(("memory", "antithetic"), [(0, False), (2, False), (2, True)])
def test_a_step_is_the_damped_gauss_newton_step_of_cross_entropy(memory, antithetic, monkeypatch):
    """Against dense members, evaluated one by one, and the package's own loss."""
    monkeypatch.setattr(dense, "_VALUES", 3 * M * SIZES[1])  # three members at a time
    mean, (x, labels) = network(), batch()
    past = [network(5), network(6)][:memory]
    options = mnist_factored.Factored(
        1, members=10, damping=0.5, gamma=0.1, memory=memory, antithetic=antithetic
    )
    state = dense.State(mean, mean, past)
    generator = torch.Generator().manual_seed(3)
    moved, loss = factored.step(state, x, labels, generator, SDS, options)

    xi = drawn(5 if antithetic else 10, 3)
    xi = np.concatenate([xi, -xi]) if antithetic else xi
    xi = np.concatenate([xi, *(flat(net)[None] for net in past)])
    z = dense.logits(mean, x).numpy()
    f = [dense.logits(of_flat(flat(mean) + np.float32(0.1) * each), x).numpy() for each in xi]
    rows = ((np.array(f) - z) / 0.1).reshape(len(xi), -1).astype(float)
    y = np.eye(SIZES[-1])[labels.numpy()].ravel()
    z = z.ravel().astype(float)
    reference = ek.CrossEntropy(SIZES[-1])
    system = rows @ reference.curvature_product(z, y, rows).T / M + 0.5 * np.eye(len(xi))
    weights = -np.linalg.solve(system, rows @ reference.gradient(z, y) / M)
    np.testing.assert_allclose(flat(moved.mean), flat(mean) + weights @ xi, rtol=1e-3, atol=1e-4)
    assert loss == pytest.approx(float(reference.misfit(z[None], y)[0]) / M, rel=1e-5)
    for kept in moved.past[:1]:
        expected = sum(
            sd**2 * (n_in + 1) * n_out
            for (n_in, n_out), sd in zip(pairwise(SIZES), SDS, strict=True)
        )
        assert dense.norm(kept) == pytest.approx(np.sqrt(expected), rel=1e-5)
    assert len(moved.past) == min(memory, 1 + len(past))


def test_decay_takes_weights_to_zero_and_leaves_biases():
    mean, (x, labels) = network(), batch()
    mean[-1] = mean[-1]._replace(biases=torch.ones(SIZES[-1]))
    state = dense.State(mean, mean, [])
    steps = [
        factored.step(
            state,
            x,
            labels,
            torch.Generator().manual_seed(3),
            SDS,
            mnist_factored.Factored(1, members=9, damping=2.0, decay=decay),
        )[0].mean
        for decay in (0.0, 0.2)
    ]
    for plain, decayed in zip(*steps, strict=True):
        torch.testing.assert_close(decayed.weights, 0.9 * plain.weights)
        torch.testing.assert_close(decayed.biases, plain.biases)


@pytest.fixture
def images(monkeypatch):
    monkeypatch.setattr(ek.datasets, "mnist", noisy_patterns)


@pytest.mark.parametrize("validation", [0, 100])
def test_the_experiment_learns_and_resumes_to_the_last_bit(
    images, validation, monkeypatch, tmp_path
):
    options = mnist_factored.Factored(20, members=30, components=20, batch=200, memory=5)
    settings = mnist_factored.Settings(
        {"DNN 1": options, "DNN 3": options}, data=Data(validation=validation)
    )
    monkeypatch.setitem(mnist_factored.SETTINGS, "small", settings)
    lines = []
    record = reproduce("mnist-factored", out=tmp_path / "whole", show=lines.append)
    assert list(record["numbers"]) == ["DNN 1, seed 0", "DNN 3, seed 0"]
    whole = record["numbers"]["DNN 3, seed 0"]
    assert whole["test"] > 0.95
    assert ("validation" in whole) == (validation > 0)
    assert (tmp_path / "whole" / "figure.png").stat().st_size > 0
    assert any("DNN 3, seed 0" in line and "0.9738" in line for line in lines)

    folder = tmp_path / "parts"
    monkeypatch.setattr(factored, "step", interrupted(factored.step, 14))
    with pytest.raises(KeyboardInterrupt):
        mnist_factored.compute(settings, "DNN 3, seed 0", folder, False)
    monkeypatch.setattr(dense, "start", None)  # not asked for again
    monkeypatch.setattr(factored, "step", factored.step.whole)
    again = mnist_factored.compute(settings, "DNN 3, seed 0", folder, False)
    assert again["trace"] == whole["trace"]


def test_the_ablation_changes_one_thing_at_a_time(images, monkeypatch, tmp_path):
    base = mnist_factored.Factored(20, members=20, components=20, batch=100, memory=5)
    variants = {
        "base": base,
        "local, base": mnist_local.Local(20, members=10, components=20, batch=100),
        "damping": replace(base, damping=50.0),
    }
    settings = mnist_ablation.Settings(variants, seeds=2, data=Data(validation=100))
    monkeypatch.setitem(mnist_ablation.SETTINGS, "small", settings)
    lines = []
    numbers = reproduce("mnist-ablation", out=tmp_path, show=lines.append)["numbers"]
    assert list(numbers) == [f"{name}, seed {seed}" for seed in (0, 1) for name in variants]
    base_loss, damped_loss = (numbers[f"{name}, seed 0"]["loss"] for name in ("base", "damping"))
    assert base_loss < damped_loss  # steps of 1/25 the size
    report = "\n".join(lines)
    assert report.count("local, base  ") == 1  # a row of the table, of two runs
    assert (tmp_path / "figure.png").stat().st_size > 0
