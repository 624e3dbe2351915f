"""Factored members against dense ones, and the experiment on images made up by the test."""

import numpy as np
import pytest

import ekitools as ek
from ekitools.datasets import Images
from ekitools.experiments import _factored as factored
from ekitools.experiments import mnist_factored, reproduce

WIDTH, H, K, M = 6, 5, 3, 40


def network(seed=0):
    rng = np.random.default_rng(seed)
    shapes = (H, WIDTH), (H,), (K, H), (K,)
    return factored.Network(*(rng.normal(size=s).astype(np.float32) for s in shapes))


def flat(net):
    return np.concatenate([part.ravel() for part in net])


def dense(directions, j):
    """ξ_j as a network."""
    one = np.zeros(len(directions.a), np.float32)
    one[j] = 1
    return directions.combined(one)


def test_a_deviation_is_a_product_of_its_factors():
    directions = factored.draw(np.random.default_rng(1), 4, network(), 0.3)
    xi = dense(directions, 2)
    np.testing.assert_allclose(xi.w1, np.outer(directions.b[2], directions.a[2]), rtol=1e-6)
    np.testing.assert_array_equal(xi.w2, directions.w2[2])


def test_deviations_have_the_covariance_of_independent_entries():
    n = 40_000
    directions = factored.draw(np.random.default_rng(0), n, network(), 0.3)
    w1 = (directions.b[:, :, None] * directions.a[:, None, :]).reshape(n, -1)
    second = w1.T @ w1 / n
    # the variance of (a b)² is 8 s⁴, of a product of two entries at most 3 s⁴
    assert np.all(np.abs(np.diag(second) - 0.09) < 5 * np.sqrt(8) * 0.09 / np.sqrt(n))
    off = second - np.diag(np.diag(second))
    assert np.all(np.abs(off) < 5 * np.sqrt(3) * 0.09 / np.sqrt(n))


def test_differences_are_those_of_dense_members(monkeypatch):
    monkeypatch.setattr(factored, "_CHUNK", 3)
    mean, x = network(), np.random.default_rng(2).normal(size=(M, WIDTH)).astype(np.float32)
    directions = factored.draw(np.random.default_rng(1), 7, mean, 0.3)
    past = [network(5)]
    found, centre = factored._differences(mean, directions, 0.1, x, past)
    np.testing.assert_allclose(centre, factored.logits(mean, x), rtol=1e-6)
    for j, xi in enumerate([*(dense(directions, j) for j in range(7)), *past]):
        expected = (factored.logits(mean.plus(xi, 0.1), x) - centre) / 0.1
        np.testing.assert_allclose(found[j], expected, rtol=1e-3, atol=1e-4)


def test_a_step_is_the_damped_gauss_newton_step_of_cross_entropy():
    mean, rng = network(), np.random.default_rng(2)
    x, labels = rng.normal(size=(M, WIDTH)).astype(np.float32), rng.integers(K, size=M)
    options = mnist_factored.Settings(steps=1, members=9, damping=0.5, spread=0.3, memory=2)
    moved, past = factored.step(mean, [], (x, labels), np.random.default_rng(3), options)
    directions = factored.draw(np.random.default_rng(3), 9, mean, 0.3)
    f, z = factored._differences(mean, directions, options.gamma, x, [])
    rows = f.transpose(0, 2, 1).reshape(9, -1).astype(float)  # sample by sample, as the loss has it
    z, y = z.T.ravel().astype(float), np.eye(K)[labels].ravel()
    loss = ek.CrossEntropy(K)
    system = rows @ loss.curvature_product(z, y, rows).T / M + 0.5 * np.eye(9)
    weights = -np.linalg.solve(system, rows @ loss.gradient(z, y) / M)
    expected = mean.plus(directions.combined(weights.astype(np.float32)))
    np.testing.assert_allclose(flat(moved), flat(expected), rtol=1e-3, atol=1e-4)
    assert past[0].norm() == pytest.approx(0.3 * np.sqrt(flat(mean).size), rel=1e-5)


@pytest.fixture
def images(monkeypatch):
    """Three kinds of blurred patterns."""
    rng = np.random.default_rng(0)
    patterns = rng.uniform(0, 200, size=(3, 28, 28))

    def made(n):
        labels = rng.integers(3, size=n).astype(np.uint8)
        noisy = patterns[labels] + 25 * rng.normal(size=(n, 28, 28))
        return np.clip(noisy, 0, 255).astype(np.uint8), labels

    data = Images(*made(400), *made(100), tuple("abc"))
    monkeypatch.setattr(mnist_factored.datasets, "mnist", lambda: data)
    mnist_factored._images.cache_clear()
    yield
    mnist_factored._images.cache_clear()


def test_the_experiment_learns_and_resumes_to_the_last_bit(images, monkeypatch, tmp_path):
    settings = mnist_factored.Settings(
        steps=20, members=30, batch=200, components=20, memory=5, held_out=100
    )
    monkeypatch.setitem(mnist_factored.SETTINGS, "small", settings)
    lines = []
    record = reproduce("mnist-factored", out=tmp_path / "whole", show=lines.append)
    whole = record["numbers"]["seed 0"]
    assert whole["test"] > 0.95
    assert (tmp_path / "whole" / "figure.png").stat().st_size > 0
    assert any("slides: EKI(R), mean" in line and "0.9721" in line for line in lines)

    folder = tmp_path / "parts"
    monkeypatch.setattr(mnist_factored, "step", interrupted(mnist_factored.step, 14))
    with pytest.raises(KeyboardInterrupt):
        mnist_factored.compute(settings, "seed 0", folder, False)
    monkeypatch.undo()
    monkeypatch.setattr(mnist_factored.datasets, "mnist", lambda: None)  # not asked for again
    again = mnist_factored.compute(settings, "seed 0", folder, False)
    assert again["trace"] == whole["trace"]


def interrupted(function, n):
    calls = []

    def wrapper(*arguments, **options):
        calls.append(1)
        if len(calls) > n:
            raise KeyboardInterrupt
        return function(*arguments, **options)

    return wrapper
