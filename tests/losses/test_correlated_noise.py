"""Noise of a densely sampled series, against Bessel functions and dense linear algebra."""

import datetime as dt
import pickle
import time
import tracemalloc

import array_api_strict
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.special import gamma, kv
from scipy.stats import multivariate_normal

import ekitools as ek
from ekitools.losses.correlated import KERNELS, MOST_DENSE
from ekitools.losses.markov import Markov
from ekitools.testing import check_noise

D = 12
RNG = np.random.default_rng(0)
UNSORTED = RNG.uniform(0, 5, D)
SD = RNG.uniform(0.5, 2.0, D)
CORRELATED = ek.GaussianNoise.correlated


def matern(h, nu):
    """The Matérn correlation by its definition."""
    scaled = np.where(h > 0, np.sqrt(2 * nu) * h, 1.0)
    return np.where(h > 0, 2 ** (1 - nu) / gamma(nu) * scaled**nu * kv(nu, scaled), 1.0)


BY_DEFINITION = {
    "exponential": lambda h: matern(h, 0.5),
    "matern-3/2": lambda h: matern(h, 1.5),
    "matern-5/2": lambda h: matern(h, 2.5),
    "squared-exponential": lambda h: np.exp(-0.5 * h**2),
}


def covariance(x, length, kernel="exponential", sd=SD, nugget=0.0):
    x = np.asarray(x, float).reshape(len(x), -1)
    h = np.sqrt(((x[:, None] - x[None]) ** 2).sum(-1)) / length
    k = (1 - nugget) * BY_DEFINITION[kernel](h) + nugget * np.eye(len(x))
    return np.outer(sd, sd) * k if np.ndim(sd) else sd**2 * k


def dense_misfit(r, cov):
    white = np.linalg.solve(np.linalg.cholesky(cov), r.T)
    return 0.5 * (white**2).sum(axis=0)


def test_every_kernel_has_a_definition_to_compare_with():
    assert set(KERNELS) == set(BY_DEFINITION)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("nugget", [0.0, 0.2])
@pytest.mark.parametrize("points", [UNSORTED, RNG.uniform(size=(D, 2))], ids=["series", "plane"])
def test_the_covariance_is_that_of_the_kernel(kernel, nugget, points):
    noise = CORRELATED(SD, points, 0.7, kernel, nugget=nugget)
    expected = covariance(points, 0.7, kernel, nugget=nugget)
    if not isinstance(noise.cov, Markov):
        np.testing.assert_allclose(noise.cov, expected, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(noise.sd, SD, rtol=1e-12)
    r = np.random.default_rng(1).normal(size=(4, D))
    np.testing.assert_allclose(noise.misfit(r, np.zeros(D)), dense_misfit(r, expected), rtol=1e-7)
    check_noise(noise, exclude=("float32",))


@pytest.mark.parametrize("x", [UNSORTED, np.sort(UNSORTED), -np.sort(UNSORTED), UNSORTED[:1]])
def test_an_exponential_series_is_a_markov_chain_and_as_exact_as_a_matrix(x):
    d = len(x)
    noise, cov = CORRELATED(SD[:d], x, 0.7), covariance(x, 0.7, sd=SD[:d])
    assert isinstance(noise.cov, Markov)
    z, y = np.random.default_rng(1).normal(size=(5, d)), np.arange(d) / d
    expected = multivariate_normal(y, cov).logpdf(y) - multivariate_normal(y, cov).logpdf(z)
    np.testing.assert_allclose(noise.misfit(z, y), expected, rtol=1e-10)
    np.testing.assert_allclose(
        noise.gradient(z, y), np.linalg.solve(cov, (z - y).T).T, rtol=1e-9, atol=1e-11
    )
    check_noise(noise)
    root = noise.whiten(np.eye(d)).T
    np.testing.assert_allclose(root @ cov @ root.T, np.eye(d), atol=1e-12)


def test_the_chain_keeps_its_digits_where_neighbours_are_close():
    x = np.arange(6) * 1e-10
    gaps = np.diff(x)
    r = np.array([[1.0, 1.0, 1.0, 1.0, 1.0, 1.0]])  # a constant: almost no news after the first
    white = CORRELATED(1.0, x, 1.0).whiten(r)
    expected = -np.expm1(-gaps) / np.sqrt(-np.expm1(-2 * gaps))
    np.testing.assert_allclose(white[0, 1:], expected, rtol=1e-12)


@pytest.mark.parametrize("x", [UNSORTED, np.sort(UNSORTED)], ids=["unsorted", "sorted"])
def test_samples_of_the_chain_have_the_covariance(x):
    n, cov = 40_000, covariance(x, 0.7)
    draws = CORRELATED(SD, x, 0.7).sample(n, rng=0)
    standard_error = np.sqrt((cov**2 + np.outer(SD**2, SD**2)) / n)
    assert np.all(np.abs(draws.T @ draws / n - cov) < 4.5 * standard_error)


@pytest.mark.parametrize("shape", [(D,), (3, D), (2, 3, D)])
def test_other_namespaces_and_dtypes(shape):
    noise = CORRELATED(SD, UNSORTED, 0.7)
    r = np.random.default_rng(1).normal(size=shape)
    for function in (noise.whiten, lambda r: noise.curvature_product(r, r, r)):
        strict = np.asarray(function(array_api_strict.asarray(r)))
        np.testing.assert_allclose(strict, function(r), rtol=1e-12, atol=1e-12)
        single = function(r.astype(np.float32))
        assert single.dtype == np.float32
        np.testing.assert_allclose(single, function(r), rtol=1e-3, atol=1e-4)


def test_torch_arrays_stay_torch_arrays():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    noise, r = CORRELATED(SD, UNSORTED, 0.7), np.random.default_rng(1).normal(size=(3, D))
    white = noise.whiten(torch.asarray(r))
    assert isinstance(white, torch.Tensor)
    np.testing.assert_allclose(white.numpy(), noise.whiten(r), rtol=1e-12)


def test_a_failed_row_stays_a_failed_row():
    r = np.ones((2, D))
    r[0] = np.nan
    white = CORRELATED(SD, UNSORTED, 0.7).whiten(r)
    assert np.all(np.isnan(white[0]))
    assert np.all(np.isfinite(white[1]))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("kept", [UNSORTED > 2, [7, 0, 3], [4]])
def test_the_marginal_is_the_gaussian_of_the_submatrix(kernel, kept):
    noise = CORRELATED(SD, UNSORTED, 0.7, kernel)
    marginal = noise.marginal(kept)
    sub = covariance(UNSORTED, 0.7, kernel)[kept][:, kept]
    r = np.random.default_rng(1).normal(size=(4, len(sub)))
    rtol = 1e-10 if isinstance(noise.cov, Markov) else 1e-6  # smooth kernels are ill-conditioned
    misfit = marginal.misfit(r, np.zeros(len(sub)))
    np.testing.assert_allclose(misfit, dense_misfit(r, sub), rtol=rtol)
    assert type(marginal.cov) is type(noise.cov)


def test_a_million_data_cost_a_million():
    d = 1_000_000
    x = np.random.default_rng(0).permutation(d) * 0.1
    noise = CORRELATED(0.5, x, 3.0)
    r = np.random.default_rng(1).normal(size=d)
    tracemalloc.start()
    started = time.process_time()
    white = noise.whiten(r)
    took = time.process_time() - started
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert took < 1
    assert peak < 6 * r.nbytes
    order = np.argsort(x)
    e, rho = r[order] / 0.5, np.exp(-0.1 / 3)
    expected = np.append(e[0], (e[1:] - rho * e[:-1]) / np.sqrt(1 - rho**2))
    np.testing.assert_allclose(white[order], expected, rtol=1e-6, atol=1e-8)


def test_pickles_fingerprints_and_kalman_updates():
    noise = CORRELATED(SD, UNSORTED, 0.7)
    again = pickle.loads(pickle.dumps(noise))
    r = np.random.default_rng(1).normal(size=(9, D))
    np.testing.assert_array_equal(again.whiten(r), noise.whiten(r))
    others = [
        *(CORRELATED(SD, UNSORTED, 0.8), CORRELATED(2 * SD, UNSORTED, 0.7), noise.marginal([0, 1])),
        *(CORRELATED(SD, np.sort(UNSORTED), 0.7), again),
    ]
    assert len({each.fingerprint() for each in [noise, *others]}) == 5
    u = np.random.default_rng(2).normal(size=(9, 2))
    expected = ek.kalman_update(u, r, SD, covariance(UNSORTED, 0.7))
    np.testing.assert_allclose(ek.kalman_update(u, r, SD, noise), expected, rtol=1e-9, atol=1e-12)


# --------------------------------------------------------------------------------------- dates


HOURS = np.array([0, 3, 4, 30])
START = np.datetime64("2024-02-28T22", "h")


@pytest.mark.parametrize(
    "coordinates",
    [
        START + HOURS,
        (START + HOURS).astype("datetime64[ns]"),
        pd.DatetimeIndex(START + HOURS),
        pd.Series(START + HOURS, index=[3, 1, 2, 0]),
        xr.DataArray((START + HOURS).astype("datetime64[ns]"), dims="time"),
        [dt.datetime(2024, 2, 28, 22) + dt.timedelta(hours=int(h)) for h in HOURS],
        [dt.timedelta(hours=int(h)) for h in HOURS],
        HOURS.astype("timedelta64[h]"),
    ],
    ids=["h", "ns", "index", "series", "xarray", "datetime", "timedelta", "timedelta64"],
)
@pytest.mark.parametrize(
    "length", [np.timedelta64(6, "h"), dt.timedelta(hours=6), pd.Timedelta("6h")], ids=str
)
def test_dates_are_measured_in_durations(coordinates, length):
    found, expected = CORRELATED(0.5, coordinates, length), CORRELATED(0.5, HOURS, 6)
    np.testing.assert_allclose(found.cov.x, expected.cov.x, rtol=1e-15)


def test_months_are_as_long_as_they_are():
    months = np.array(["2024-01", "2024-02", "2024-03"], dtype="datetime64[M]")
    found = CORRELATED(0.5, months, np.timedelta64(1, "D"))
    np.testing.assert_array_equal(found.cov.x, [0, 31, 60])


# --------------------------------------------------------------------------------------- errors

DATES = START + HOURS
ZONED = [dt.datetime(2024, 1, day, tzinfo=dt.UTC) for day in (1, 2)]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0.0, [1.0, 2.0], 1.0), ValueError, "sd: must be positive"),
        (([1.0, 1.0, 1.0], [1.0, 2.0], 1.0), ValueError, "sd: must be one number or have d = 2"),
        ((1.0, [], 1.0), ValueError, "coordinates: must not be empty"),
        ((1.0, 3.0, 1.0), ValueError, "coordinates: must have 1 or 2 dimensions"),
        ((1.0, [1.0, np.nan], 1.0), ValueError, "coordinates: must be finite"),
        ((1.0, [[1.0], [1.0, 2.0]], 1.0), TypeError, "coordinates: must be an array of real"),
        ((1.0, ["a", "b"], 1.0), TypeError, "coordinates: must be an array of real numbers"),
        (
            (1.0, np.ma.masked_less([1.0, 2.0], 1.5), 1.0),
            ValueError,
            "coordinates: must have no masked entries",
        ),
        (
            (1.0, [3.0, 1.0, 3.0], 1.0),
            ValueError,
            "coordinates: must be different, .* at index 0 and 2. Average .* nugget > 0",
        ),
        (
            (1.0, [[3.0, 1.0], [1.0, 2.0], [3.0, 2.0], [1.0, 2.0]], 1.0, "matern-3/2"),
            ValueError,
            "coordinates: must be different, .* at index 1 and 3",
        ),
        ((1.0, [1.0, 2.0], 0.0), ValueError, "length: must be positive"),
        (
            (1.0, [1.0, 2.0], np.timedelta64(1, "h")),
            TypeError,
            "length: must be a number, .* in the units of coordinates",
        ),
        ((1.0, DATES, 6.0), TypeError, "length: must be a duration .* got 6.0. Pass np.timedelta"),
        ((1.0, DATES, np.timedelta64(1, "M")), ValueError, "length: must be .* a shorter unit"),
        ((1.0, DATES, np.timedelta64(0, "h")), ValueError, "length: must be positive"),
        ((1.0, DATES, np.timedelta64("NaT", "h")), ValueError, "length: must be positive"),
        ((1.0, DATES[:, None], np.timedelta64(1, "h")), ValueError, r"dates must be \(d,\)"),
        (
            (1.0, np.array(["2024-01-01", "NaT"], "datetime64[D]"), np.timedelta64(1, "h")),
            ValueError,
            "coordinates: must have no missing date, got NaT at index 1",
        ),
        ((1.0, ZONED, np.timedelta64(1, "h")), TypeError, "coordinates: .* without a time zone"),
        ((1.0, [1.0, 2.0], 1.0, "matern"), ValueError, 'kernel: must be "exponential", "matern-3'),
        (
            (1.0, [1.0, 2.0], 1.0, "exponential", 1.0),
            ValueError,
            "nugget: must be .*, got 1.0",
        ),
        (
            (1.0, np.arange(50) * 0.01, 1.0, "squared-exponential"),
            ValueError,
            "nugget: must be larger for coordinates this close .* singular .* Pass nugget=1e-6",
        ),
        (
            (1.0, np.arange(MOST_DENSE + 1), 1.0, "matern-3/2"),
            ValueError,
            r'coordinates: must be at most 5000 .* 0.2 GB. Keep one of every 2 data.*"exponential"',
        ),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        CORRELATED(*arguments)


def test_the_same_coordinate_twice_is_fine_with_independent_noise():
    x = np.array([0.0, 1.0, 1.0])
    noise = CORRELATED(0.5, x, 1.0, nugget=0.1)
    assert noise.cov[1, 2] == pytest.approx(0.25 * 0.9)
    assert noise.cov[1, 1] == pytest.approx(0.25)


def test_noise_of_many_data_has_a_short_text():
    noise = ek.GaussianNoise.correlated(0.3, np.arange(1000.0), length=2.0)
    assert repr(noise) == "GaussianNoise(Markov(1000 data over 499.5 lengths))"
