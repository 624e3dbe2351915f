"""Resampling: unbiased counts, the schemes' own bounds, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekitools.methods.smc.resampling import SCHEMES, effective_sample_size, normalised, resample

WEIGHTS = np.array([0.05, 0.0, 0.35, 0.2, 0.4])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_member_is_drawn_n_w_times_on_average(scheme):
    n, repeats = 7, 4000
    rng = np.random.default_rng(0)
    counts = np.array(
        [np.bincount(resample(WEIGHTS, n, scheme=scheme, rng=rng), minlength=5)
         for _ in range(repeats)]
    )  # fmt: skip
    error = np.abs(counts.mean(axis=0) - n * WEIGHTS)
    assert np.all(error <= 4 * np.sqrt(n * WEIGHTS * (1 - WEIGHTS) / repeats))
    variance = counts.var(axis=0)
    multinomial = n * WEIGHTS * (1 - WEIGHTS)
    if scheme == "multinomial":
        np.testing.assert_allclose(variance, multinomial, rtol=0.1)
    else:
        assert np.all(variance <= multinomial * 1.02)
        assert variance.sum() < 0.8 * multinomial.sum()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20).filter(lambda w: sum(w) > 1e-3))
def test_residual_and_systematic_give_at_least_the_whole_copies(weights):
    shares = np.array(weights) / sum(weights)
    for scheme in ("systematic", "residual"):
        drawn = resample(np.array(weights), 11, scheme=scheme, rng=np.random.default_rng(0))
        counts = np.bincount(drawn, minlength=len(shares))
        assert counts.sum() == 11
        assert np.all(counts >= np.floor(11 * shares - 1e-6))
        assert np.all(counts[shares == 0] == 0)


@pytest.mark.parametrize("weights", [[0.0, 0.0], [-1.0, 2.0], [np.nan, 1.0], [np.inf, 1.0]])
def test_weights_that_are_none_are_refused(weights):
    with pytest.raises(ValueError, match="^weights: must be finite"):
        resample(np.array(weights), 2, rng=np.random.default_rng(0))


def test_an_unknown_scheme_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match='"systematic", "stratified", "residual" or "multinomial"'):
        resample(WEIGHTS, 2, scheme="best", rng=np.random.default_rng(0))


def test_normalised_weights_of_nothing_are_zero_and_huge_logarithms_do_not_overflow():
    weights, log_sum = normalised(np.array([-np.inf, -np.inf]))
    assert (weights.tolist(), log_sum) == ([0.0, 0.0], -np.inf)
    assert effective_sample_size(weights) == 0
    weights, log_sum = normalised(np.array([1e5, 1e5 + np.log(3)]))
    np.testing.assert_allclose(weights, [0.25, 0.75])
    assert log_sum == pytest.approx(1e5 + np.log(4))
