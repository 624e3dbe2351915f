"""Modes of particles, what moves left of their places, and standard errors of a single run."""

import numpy as np
import pytest

import ekitools as ek
from ekitools.methods.smc.modes import memory, modes_of, standard_errors


def equal(n):
    return np.full(n, 1 / n)


def labels(modes):
    """Modes as a partition, whatever their numbers are."""
    return {frozenset(np.flatnonzero(modes == mode)) for mode in np.unique(modes)}


@pytest.mark.parametrize("p", [1, 2, 5])
def test_modes_of_other_widths_come_apart(p):
    rng = np.random.default_rng(p)
    sizes, widths = [300, 100, 100], [1.0, 0.1, 0.01]
    x = np.concatenate([
        10 * k + width * rng.normal(size=(n, p))
        for k, (n, width) in enumerate(zip(sizes, widths, strict=True))
    ])  # fmt: skip
    truth = labels(np.repeat(np.arange(3), sizes))
    assert labels(modes_of(x, equal(500))) == truth
    scaled = x @ np.diag(np.geomspace(1, 1e6, p)) + 1e3  # another unit of each parameter
    assert labels(modes_of(scaled, equal(500))) == truth


def banana(rng, n):
    u = rng.normal(size=(n, 2))
    return np.column_stack([u[:, 0], u[:, 0] ** 2 + 0.05 * u[:, 1]])


def ring(rng, n):
    angle = rng.uniform(0, 2 * np.pi, size=n)
    radius = 1 + 0.01 * rng.normal(size=n)
    return np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])


def funnel(rng, n):
    v = 1.5 * rng.normal(size=n)
    return np.column_stack([v, np.exp(v) * rng.normal(size=n)])


@pytest.mark.parametrize(
    "draw",
    [
        banana,
        ring,
        funnel,
        lambda rng, n: rng.normal(size=(n, 1)),
        lambda rng, n: rng.standard_t(3, size=(n, 2)),
        lambda rng, n: rng.uniform(size=(n, 3)),
        lambda rng, n: rng.normal(size=(n, 50)),
    ],
    ids=["banana", "ring", "funnel", "normal", "tails", "box", "50 parameters"],
)
def test_one_bent_mode_is_one(draw):
    """In 20 samples at most one is taken apart."""
    found = [modes_of(draw(np.random.default_rng(k), 500), equal(500)).max() for k in range(20)]
    assert np.count_nonzero(found) <= 1


def test_copies_count_once_and_particles_without_weight_not_at_all():
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(size=(100, 2)), 15, axis=0)
    assert modes_of(x, equal(1500)).max() == 0
    x = rng.normal(size=(100, 2))
    x[:50] += 20
    weight = np.ones(100)
    weight[:50] = 0
    assert modes_of(x, weight / 50).max() == 0
    assert modes_of(x, equal(100)).max() == 1
    assert modes_of(x[:3], equal(3)).max() == 0
    assert modes_of(x, np.zeros(100)).max() == 0


def test_particles_beyond_the_graph_belong_to_their_neighbours_mode(monkeypatch):
    x = np.random.default_rng(0).normal(size=(700, 2))
    x[::3] += 20
    whole = modes_of(x, equal(700))
    monkeypatch.setattr("ekitools.methods.smc.modes._MOST", 100)
    monkeypatch.setattr("ekitools.methods.smc.modes._BLOCK", 1000)
    assert labels(modes_of(x, equal(700))) == labels(whole)
    assert whole.max() == 1


def test_memory_is_numpys_correlation_within_each_mode():
    rng = np.random.default_rng(0)
    n = 4000
    modes = rng.integers(3, size=n)
    origin = 10 * modes[:, None] + rng.normal(size=(n, 2))
    x = origin + [0.5, 1.0] * rng.normal(size=(n, 2))
    exact = np.mean([
        np.corrcoef(x[modes == k, i], origin[modes == k, i])[0, 1] * np.mean(modes == k)
        for k in range(3) for i in range(2)
    ]) * 3  # fmt: skip
    assert memory(x, origin, equal(n), modes) == pytest.approx(exact, rel=1e-12)
    assert memory(x, origin, equal(n), 0 * modes) > 0.98
    assert memory(origin, origin, equal(n), modes) == pytest.approx(1)
    swapped = origin[rng.permutation(n)]  # particles that change modes forget theirs
    assert abs(memory(swapped, origin, equal(n), modes)) < 4 / np.sqrt(n)


@pytest.mark.slow
def test_standard_errors_of_one_run_are_the_scatter_over_runs():
    """u² = 1: the mass of a mode over 60 seeds. A standard deviation of 60 is known to 9 %."""
    model = ek.FunctionModel(np.square, vectorized=True)
    problem = ek.InverseProblem(model, ek.GaussianPrior([0.0], 1.0), 0.01, [1.0])
    masses, squares = [], []
    for seed in range(60):
        loop = ek.AskTell(problem, ek.TemperedSMC(), n_members=300, rng=seed)
        while not loop.done:
            before = loop._state
            loop.tell(problem.model(loop.ask()))
        result = loop.result()
        weight, u = result.weight[-1].values, result.u[-1].values
        masses.append(weight @ (u[:, 0] > 0))
        squares.append(standard_errors((u > 0) * 1.0, weight, before.eve)[0] ** 2)
    scatter = np.std(masses, ddof=1)
    assert np.sqrt(np.mean(squares)) == pytest.approx(scatter, rel=4 * 0.09 + 0.1)
