"""Pareto smoothing of importance weights, beside ArviZ and a tail of a known shape."""

from __future__ import annotations

import arviz
import numpy as np
import pytest

from ekitools.linalg.pareto import pareto_smoothed


@pytest.mark.skipif(not hasattr(arviz, "psislw"), reason="this ArviZ has no psislw")
@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
def test_weights_and_shape_are_those_of_arviz(scale: float) -> None:
    logs = scale * np.random.default_rng(0).standard_normal(500)
    weights, khat = pareto_smoothed(logs)
    theirs, their_khat = arviz.psislw(logs.copy())
    np.testing.assert_allclose(np.log(weights), theirs, atol=1e-9)
    assert khat == pytest.approx(float(their_khat), abs=1e-9)


def test_the_shape_of_a_pareto_tail_is_found() -> None:
    rng = np.random.default_rng(1)
    found = [pareto_smoothed(np.log(rng.pareto(2.0, 20_000) + 1))[1] for _ in range(20)]
    error = np.std(found, ddof=1) / np.sqrt(20)
    assert abs(np.mean(found) - 0.5) < 4 * error  # 1 over the exponent


def test_equal_weights_have_no_tail() -> None:
    weights, khat = pareto_smoothed(np.zeros(100))
    assert khat == 0
    np.testing.assert_allclose(weights, 0.01)


def test_too_few_weights_have_an_unknown_tail() -> None:
    weights, khat = pareto_smoothed(np.log([1.0, 2.0, 3.0]))
    assert khat == np.inf
    np.testing.assert_allclose(weights, [1 / 6, 1 / 3, 1 / 2])


def test_impossible_draws_have_no_weight() -> None:
    logs = np.random.default_rng(2).standard_normal(200)
    logs[::4] = -np.inf
    weights, _ = pareto_smoothed(logs)
    assert (weights[::4] == 0).all()
    assert weights.sum() == pytest.approx(1)
