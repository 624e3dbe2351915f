"""Small version of benchmarks/modes.py, and its references."""

import itertools

import modes
import numpy as np
import pytest
from scipy import integrate, stats

import ekitools as ek


@pytest.mark.parametrize("case", [case for case in modes.CASES if case.p == 1], ids=str)
def test_the_references_are_those_of_another_quadrature(case):
    known = modes.posterior(case)

    def density(u):
        misfit = 0.5 * np.sum(((case.model(np.array([[u]])) - case.data) / case.sd) ** 2)
        return float(stats.norm.pdf(u) * np.exp(-misfit))

    def integral(f):
        edges = np.linspace(-5, 5, 201)
        pairs = itertools.pairwise(edges)
        return sum(integrate.fixed_quad(np.vectorize(f), a, b, n=15)[0] for a, b in pairs)

    total = integral(density)
    mean = integral(lambda u: u * density(u)) / total
    square = integral(lambda u: u * u * density(u)) / total
    assert known.mean[0] == pytest.approx(mean, abs=1e-3)
    assert known.sd[0] == pytest.approx(np.sqrt(square - mean**2), rel=1e-3)
    assert known.masses.sum() == pytest.approx(1)


def test_the_funnel_is_neals():
    """Given v, u₂ is normal; the prior N(0, 1) of u₂ only cuts it."""
    v = np.linspace(-7, 7, 4001)
    weight = stats.norm.pdf(v / 1.5) / np.sqrt(1 + np.exp(2 * v))
    weight /= weight.sum()
    known = modes.posterior(next(case for case in modes.CASES if case.name == "funnel"))
    assert known.mean[0] * 1.5 == pytest.approx(weight @ v, abs=5e-3)
    assert known.sd[1] ** 2 == pytest.approx(weight @ (1 / (1 + np.exp(-2 * v))), rel=5e-3)


@pytest.mark.slow
def test_a_sample_that_is_wrong_is_never_good():
    for case in modes.CASES:
        known = modes.posterior(case)
        for seed in range(2):
            for start, found in modes.outcomes(case, known, seed, 1000).items():
                assert found.right or found.level != "good", (case.name, start, found)
                if start == "prior" and case.name.startswith("u²"):
                    assert found.right
                    assert found.level == "good"


def test_what_is_called_right():
    case = modes.CASES[0]
    known = modes.posterior(case)
    result = ek.run(case.problem, ek.TemperedSMC(), n_members=300, rng=0, store="last")
    assert modes.is_right(case, known, result)
    one_sided = result.assign(u=abs(result.u))
    assert not modes.is_right(case, known, one_sided)
