"""Gaussian noise in its four forms, against dense linear algebra and scipy."""

import array_api_strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

import ekitools as ek

D = 6


def forms():
    rng = np.random.default_rng(0)
    diag, factor = rng.uniform(0.5, 2.0, D), rng.normal(size=(D, 2))
    dense = np.diag(diag) + factor @ factor.T
    return {
        "scalar": (0.7, 0.7 * np.eye(D)),
        "diagonal": (diag, np.diag(diag)),
        "dense": (dense, dense),
        "low-rank": ((diag, factor), dense),
    }


KINDS = list(forms())


@pytest.mark.parametrize("kind", KINDS)
def test_misfit_is_the_gaussian_log_likelihood(kind):
    cov, gamma = forms()[kind]
    z = np.random.default_rng(1).normal(size=(4, D))
    y = np.arange(D) / D
    expected = (
        -multivariate_normal(y, gamma).logpdf(z) - 0.5 * np.linalg.slogdet(2 * np.pi * gamma)[1]
    )
    np.testing.assert_allclose(ek.GaussianNoise(cov).misfit(z, y), expected, rtol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_is_that_of_the_misfit(kind):
    cov, gamma = forms()[kind]
    z = np.random.default_rng(1).normal(size=(4, D))
    y = np.arange(D) / D
    np.testing.assert_allclose(
        ek.GaussianNoise(cov).gradient(z, y), np.linalg.solve(gamma, (z - y).T).T, rtol=1e-11
    )


@pytest.mark.parametrize("kind", KINDS)
def test_samples_have_the_covariance(kind):
    cov, gamma = forms()[kind]
    n = 40_000
    draws = ek.GaussianNoise(cov).sample(n, rng=0, n_data=D)
    standard_error = np.sqrt((gamma**2 + np.outer(np.diag(gamma), np.diag(gamma))) / n)
    assert np.all(np.abs(draws.T @ draws / n - gamma) < 4.5 * standard_error)
    assert np.all(np.abs(draws.mean(0)) < 4.5 * np.sqrt(np.diag(gamma) / n))
    np.testing.assert_allclose(
        np.broadcast_to(ek.GaussianNoise(cov).sd, D), np.sqrt(np.diag(gamma)), rtol=1e-12
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(D,), (3, D), (2, 3, D)])
def test_whitening_in_other_namespaces_and_dtypes(kind, shape):
    noise = ek.GaussianNoise(forms()[kind][0])
    r = np.random.default_rng(1).normal(size=shape)
    white = noise.whiten(r)
    assert white.shape == shape
    strict = noise.whiten(array_api_strict.asarray(r))
    np.testing.assert_allclose(np.asarray(strict), white, rtol=1e-12)
    single = noise.whiten(r.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, white, rtol=1e-4, atol=1e-5)
    strict_gradient = noise.gradient(array_api_strict.asarray(r), array_api_strict.zeros(D))
    np.testing.assert_allclose(
        np.asarray(strict_gradient), noise.gradient(r, np.zeros(D)), rtol=1e-11, atol=1e-12
    )


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**20), d=st.integers(1, 8), k=st.integers(1, 10), scale=st.floats(0, 1e6)
)
def test_the_low_rank_root_never_loses_its_diagonal(seed, d, k, scale):
    rng = np.random.default_rng(seed)
    diag, factor = rng.uniform(0.5, 2.0, d), scale * rng.normal(size=(d, k))
    r = rng.normal(size=(3, d))
    low, dense = ek.GaussianNoise((diag, factor)), np.diag(diag) + factor @ factor.T
    misfit = low.misfit(r, np.zeros(d))
    assert np.all(misfit <= 0.5 * np.sum(r**2 / diag, axis=1) * (1 + 1e-9))
    if scale < 1e3:
        expected = 0.5 * np.sum(r * np.linalg.solve(dense, r.T).T, axis=1)
        np.testing.assert_allclose(misfit, expected, rtol=1e-6)


def test_a_failed_row_stays_a_failed_row():
    r = np.ones((2, D))
    r[0] = np.nan
    for cov, _ in forms().values():
        white = ek.GaussianNoise(cov).whiten(r)
        assert np.all(np.isnan(white[0]))
        assert np.all(np.isfinite(white[1]))


def test_fingerprints_tell_covariances_apart():
    prints = {ek.GaussianNoise(cov).fingerprint() for cov, _ in forms().values()}
    prints.add(ek.GaussianNoise(0.7000001).fingerprint())
    assert len(prints) == len(KINDS) + 1
    assert ek.GaussianNoise(0.7).fingerprint() == ek.GaussianNoise(0.7).fingerprint()


@pytest.mark.parametrize(
    ("cov", "error", "message"),
    [
        (0.0, ValueError, "cov: variances must be positive, got 0"),
        ([1.0, -2.0], ValueError, "cov: variances must be positive, got -2"),
        (np.nan, ValueError, "cov: must be finite"),
        ([1.0, np.inf], ValueError, r"cov: must be finite, got 1 non-finite .* index \(1,\)"),
        ("one", TypeError, "cov: must be an array of real numbers, got str"),
        (1j, TypeError, "cov: must be an array of real numbers, got complex"),
        (None, TypeError, "cov: must be given, got None. Pass variances .* as sd="),
        ([], ValueError, "cov: must not be empty"),
        (np.ones((2, 3)), ValueError, r"cov: must be a square matrix, got shape \(2, 3\)"),
        (np.ones((2, 2, 2)), ValueError, "cov: must have 0 or 1 or 2 dimensions"),
        (
            [[1.0, 0.5], [0.4, 1.0]],
            ValueError,
            "cov: must be symmetric, got entries that differ by 0.1",
        ),
        (
            [[1.0, 2.0], [2.0, 1.0]],
            ValueError,
            "cov: must be positive definite, .* eigenvalue of -1",
        ),
        (np.zeros((2, 2)), ValueError, "cov: must be positive definite"),
        ((np.ones(2),), ValueError, r"cov: a tuple must be the pair \(diag, factor\), got 1"),
        (
            (np.ones(2), np.ones((3, 1))),
            ValueError,
            "cov: factor must have as many rows .* \\(2\\)",
        ),
        ((np.zeros(2), np.ones((2, 1))), ValueError, "diag.*: variances must be positive"),
        ([[1.0], [1.0, 2.0]], TypeError, "cov: must be an array of real numbers"),
    ],
)
def test_bad_covariances_are_named(cov, error, message):
    with pytest.raises(error, match=message):
        ek.GaussianNoise(cov)


def test_bad_calls_are_named():
    noise = ek.GaussianNoise(np.ones(3))
    with pytest.raises(ValueError, match=r"r: last axis must have 3 entries, got \(2, 4\)"):
        noise.whiten(np.ones((2, 4)))
    with pytest.raises(ValueError, match="n: must be at least 1, got 0"):
        noise.sample(0)
    with pytest.raises(ValueError, match="n_data: must be given"):
        ek.GaussianNoise(1.0).sample(2)
    with pytest.raises(ValueError, match="n_data: must be 3"):
        noise.sample(2, n_data=4)
