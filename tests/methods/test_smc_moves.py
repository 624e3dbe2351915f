"""Proposals: their densities written out, and what they learn of the population."""

import numpy as np
import pytest
from scipy import stats

from ekitools.methods.gaussian import fit_gaussian
from ekitools.methods.smc.moves import MOVES, propose

N, P = 60, 3


def population(seed=0):
    """Spread out by different amounts, with uneven weights, some of them zero."""
    rng = np.random.default_rng(seed)
    x = 1.0 + rng.normal(size=(N, P)) * [0.1, 0.2, 3.0]
    weight = rng.uniform(size=N)
    weight[::7] = 0
    return x, weight / weight.sum()


def covariance(gaussian):
    root = gaussian.spread(np.eye(P))
    return root @ root.T


def halves(x, weight):
    half = N // 2
    for here, other in ((slice(half), slice(half, None)), (slice(half, None), slice(half))):
        yield here, x[other], weight[other] / weight[other].sum()


@pytest.mark.parametrize("move", MOVES)
def test_inputs_stay_and_the_seed_decides(move):
    x, weight = population()
    before = x.copy()
    first, again = (propose(move, x, weight, 0.5, np.random.default_rng(1)) for _ in range(2))
    np.testing.assert_array_equal(x, before)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert first[0].shape == (N, P)
    assert first[1].shape == (N,)


def test_a_random_walk_is_symmetric_and_as_wide_as_it_says():
    x, weight = population()
    after, log_ratio, scaled = propose("random_walk", x, weight, 0.5, np.random.default_rng(1))
    np.testing.assert_array_equal(log_ratio, 0)
    assert scaled.all()
    for here, others, share in halves(x, weight):
        root = np.linalg.cholesky(covariance(fit_gaussian(others, share)))
        draws = np.linalg.solve(root, (after - x)[here].T) / (0.5 * 2.38 / np.sqrt(P))
        # a mean square of 90 standard normals: 4 standard errors
        assert np.mean(draws**2) == pytest.approx(1, abs=4 * np.sqrt(2 / draws.size))


@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_pcn_and_the_ensemble_move_have_the_densities_they_say(scale):
    x, weight = population()
    keep = np.sqrt(1 - scale**2)

    def log_kernel(a, b, mean, cov):  # of proposing b at a
        return stats.multivariate_normal(mean + keep * (a - mean), scale**2 * cov).logpdf(b)

    after, log_ratio, _ = propose("pcn", x, weight, scale, np.random.default_rng(1))
    for a, b, found in zip(x, after, log_ratio, strict=True):
        there, back = (log_kernel(*pair, np.zeros(P), np.eye(P)) for pair in ((a, b), (b, a)))
        assert found == pytest.approx(back - there, rel=1e-9, abs=1e-9)
    after, log_ratio, _ = propose("ensemble", x, weight, scale, np.random.default_rng(1))
    for here, others, share in halves(x, weight):
        near = fit_gaussian(others, share)
        for a, b, found in zip(x[here], after[here], log_ratio[here], strict=True):
            there, back = (
                log_kernel(*pair, near.mean, covariance(near)) for pair in ((a, b), (b, a))
            )
            assert found == pytest.approx(back - there, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("turn", [0, 1])
def test_one_half_draws_from_the_kernel_estimate_of_the_other(turn, monkeypatch):
    monkeypatch.setattr("ekitools.methods.smc.moves._BLOCK", 100)  # several blocks of rows
    x, weight = population()
    after, log_ratio, scaled = propose(
        "kernel", x, weight, 0.5, np.random.default_rng(1), turn=turn
    )  # fmt: skip
    here, others, share = list(halves(x, weight))[turn]
    near = fit_gaussian(others, share)
    width = (4 / (P + 2) * np.sum(share**2)) ** (1 / (P + 4))
    centres = near.mean + np.sqrt(1 - width**2) * (others - near.mean)
    parts = [
        (w, stats.multivariate_normal(c, width**2 * covariance(near)))
        for w, c in zip(share, centres, strict=True)
    ]
    density = [sum(w * part.pdf(y) for w, part in parts) for y in (x[here], after[here])]
    np.testing.assert_allclose(log_ratio[here], np.log(density[0] / density[1]), rtol=1e-7)
    assert not scaled[here].any()
    resting = np.ones(N, dtype=bool)
    resting[here] = False  # makes a random walk
    assert scaled[resting].all()
    np.testing.assert_array_equal(log_ratio[resting], 0)


def test_kernel_proposals_have_the_moments_of_the_others():
    rng = np.random.default_rng(0)
    n = 40_000
    few = rng.normal(size=(40, P)) * [0.1, 0.2, 3.0]
    x = np.concatenate([np.zeros((n, P)), np.tile(few, (n // 40, 1))])
    after, _, _ = propose("kernel", x, np.full(2 * n, 0.5 / n), 1.0, rng)
    sd = few.std(axis=0)
    assert np.all(np.abs(after[:n].mean(axis=0) - few.mean(axis=0)) < 4 * sd / np.sqrt(n))
    # with fewer points the kurtosis is below 3: four standard errors of a Gaussian are enough
    np.testing.assert_allclose(after[:n].std(axis=0), sd, rtol=4 / np.sqrt(2 * n))


def test_particles_without_weight_are_not_looked_at():
    x, weight = population()
    x[::7] = 1e3
    after, _, _ = propose("kernel", x, weight, 1.0, np.random.default_rng(1))
    assert np.all(np.abs(after[weight > 0]) < 100)


@pytest.mark.parametrize("move", MOVES)
def test_a_half_without_weight_is_no_obstacle(move):
    x, weight = population()
    weight[: N // 2] = 0
    after, log_ratio, _ = propose(move, x, weight / weight.sum(), 0.5, np.random.default_rng(1))
    assert np.isfinite(after).all()
    assert np.isfinite(log_ratio).all()
