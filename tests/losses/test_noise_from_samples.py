"""Noise from repeated observations, against numpy and scikit-learn."""

import sys

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.covariance import OAS, LedoitWolf

import ekitools as ek
from ekitools.testing import check_noise

FROM = ek.GaussianNoise.from_samples


def repeats(n, d, seed=0):
    rng = np.random.default_rng(seed)
    return 5.0 + rng.normal(size=(n, 3)) @ rng.normal(size=(3, d)) + rng.normal(size=(n, d))


@pytest.mark.parametrize(("n", "d"), [(11, 4), (200, 4), (5, 1)])
def test_many_repeats_give_the_sample_covariance(n, d):
    samples = repeats(n, d)
    expected = np.atleast_2d(np.cov(samples, rowvar=False))
    np.testing.assert_allclose(FROM(samples).cov, expected, rtol=1e-12)
    for same in (pd.DataFrame(samples), xr.DataArray(samples), samples.tolist()):
        np.testing.assert_array_equal(FROM(same).cov, FROM(samples).cov)


@pytest.mark.parametrize(("n", "d"), [(5, 30), (20, 12)])
def test_few_repeats_give_a_factor_beside_the_diagonal(n, d):
    samples = repeats(n, d)
    noise = FROM(samples, diagonal=0.3)
    diag, factor = noise.cov
    assert factor.shape == (d, min(n - 1, d))
    np.testing.assert_array_equal(diag, np.full(d, 0.3))
    np.testing.assert_allclose(factor @ factor.T, np.cov(samples, rowvar=False), atol=1e-12)
    check_noise(noise)


def test_a_rank_keeps_the_largest_components():
    samples, diagonal = repeats(50, 6), np.arange(1.0, 7.0)
    diag, factor = FROM(samples, rank=2, diagonal=diagonal).cov
    values, vectors = np.linalg.eigh(np.cov(samples, rowvar=False))
    expected = (vectors[:, -2:] * values[-2:]) @ vectors[:, -2:].T
    np.testing.assert_allclose(factor @ factor.T, expected, atol=1e-12)
    np.testing.assert_array_equal(diag, diagonal)


@pytest.mark.parametrize(
    ("shrinkage", "estimator"), [("ledoit-wolf", LedoitWolf()), ("oas", OAS())]
)
@pytest.mark.parametrize(("n", "d"), [(5, 30), (100, 4), (4, 1)])
def test_shrinkage_is_that_of_scikit_learn(shrinkage, estimator, n, d):
    samples = repeats(n, d)
    noise = FROM(samples, shrinkage=shrinkage)
    np.testing.assert_allclose(noise.cov, estimator.fit(samples).covariance_, rtol=1e-12)


def test_shrinkage_of_few_repeats_is_nearer_to_the_truth():
    d, n = 20, 15
    for seed in range(5):
        rng = np.random.default_rng(seed)
        truth = np.diag(np.linspace(0.5, 2.0, d))
        samples = rng.normal(size=(n, d)) * np.sqrt(np.diag(truth))
        error = np.linalg.norm(np.cov(samples, rowvar=False) - truth)
        for shrinkage in ("ledoit-wolf", "oas"):
            assert np.linalg.norm(FROM(samples, shrinkage=shrinkage).cov - truth) < 0.6 * error


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.covariance", None)
    with pytest.raises(
        ImportError, match=r'scikit-learn: must be .* install "ekitools\[sklearn\]"'
    ):
        FROM(repeats(5, 3), shrinkage="oas")
    assert FROM(repeats(9, 3)).n_data == 3


def test_a_subclass_makes_its_own():
    class Own(ek.GaussianNoise):
        pass

    assert type(Own.from_samples(repeats(9, 3))) is Own
    assert type(Own.correlated(1.0, [0.0, 1.0], 1.0)) is Own


CONSTANT = np.column_stack([np.arange(5.0), np.full(5, 0.1), np.arange(5.0) ** 2])
MISSING = np.where(np.eye(5, 3) > 0, np.nan, CONSTANT)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"samples": np.arange(5.0)}, ValueError, r"samples: must have 2 dim.*Pass \(N, d\): one"),
        ({"samples": CONSTANT[:1]}, ValueError, "samples: must be .* N >= 2 .*GaussianNoise.sd="),
        ({"samples": np.ones((3, 0))}, ValueError, r"samples: must be \(N, d\)"),
        ({"samples": MISSING}, ValueError, "samples: must be finite, got 3 non-finite .* impute"),
        ({"samples": np.ma.masked_invalid(MISSING)}, ValueError, "samples: must have no masked"),
        ({"samples": CONSTANT}, ValueError, "samples: must vary in every column, .* index 1. Leav"),
        ({"samples": [["a"]]}, TypeError, "samples: must be an array of real numbers"),
        (
            {"samples": repeats(10, 4)},
            ValueError,
            "diagonal: must be given for 10 samples of 4 data,",
        ),
        ({"samples": repeats(10, 4)}, ValueError, '"ledoit-wolf" or "oas", or at least 11 samples'),
        ({"rank": 2}, ValueError, "diagonal: must be given .* and rank=2, got None"),
        ({"diagonal": 0.0}, ValueError, "diagonal: variances must be positive, got 0"),
        ({"diagonal": [1.0]}, ValueError, "diagonal: must be one number or have d = 4 entries"),
        ({"diagonal": np.nan}, ValueError, "diagonal: must be finite"),
        ({"diagonal": 1.0, "rank": 5}, ValueError, "rank: must be from 1 to 4, got 5"),
        ({"diagonal": 1.0, "rank": 0}, ValueError, "rank: must be from 1 to 4, got 0"),
        ({"diagonal": 1.0, "rank": 1.5}, TypeError, "rank: must be an integer"),
        ({"shrinkage": "lasso"}, ValueError, 'shrinkage: must be "ledoit-wolf" or "oas", got'),
        ({"shrinkage": "oas", "rank": 2}, TypeError, "rank: must not be given with shrinkage"),
        ({"shrinkage": "oas", "diagonal": 1.0}, TypeError, "diagonal: must not be given with shr"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        FROM(**{"samples": repeats(20, 4)} | arguments)
