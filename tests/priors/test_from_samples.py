"""Priors fitted to samples: what they were drawn from is found again, and data can come in turn."""

import pickle

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats

import ekitools as ek
from ekitools.priors.samples import SmoothQuantiles
from ekitools.testing import check_prior

SEEDS = range(5)
MEAN, COV = np.array([1.0, -2.0]), np.array([[4.0, 1.2], [1.2, 1.0]])


def gaussian(n, seed):
    return np.random.default_rng(seed).multivariate_normal(MEAN, COV, n)


def moments(marginal):
    """Mean and standard deviation, from 4000 quantiles."""
    x = marginal.ppf((np.arange(4000) + 0.5) / 4000)
    return x.mean(), x.std()


def test_it_keeps_the_promises_of_a_prior():
    x = gaussian(400, 0)
    check_prior(ek.Prior.from_samples(x))
    bounds = {"u0": (0, np.inf), "u1": (-np.inf, 0)}
    check_prior(ek.Prior.from_samples(np.exp(x) * [1, -1], bounds=bounds))
    check_prior(ek.Prior.from_samples(stats.norm.cdf(x[:, :1] / 3), bounds={"u0": (0, 1)}))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("n", [60, 1000])
def test_a_gaussian_is_found_again(n, seed):
    """Within 4.5 standard errors of the sample moments: quantiles cost next to nothing."""
    prior = ek.Prior.from_samples(gaussian(n, seed))
    sd = np.sqrt(np.diag(COV))
    found = np.array([moments(m) for m in prior.marginals.values()])
    assert np.all(np.abs(found[:, 0] - MEAN) < 4.5 * sd / np.sqrt(n))
    assert np.all(np.abs(found[:, 1] / sd - 1) < 4.5 / np.sqrt(2 * n))
    r = COV[0, 1] / (sd[0] * sd[1])
    assert abs(prior.correlation[0, 1] - r) < 4.5 * (1 - r**2) / np.sqrt(n)


def test_the_tails_of_a_gaussian_are_gaussian():
    """Quantiles instead of draws: no Monte Carlo error, and tails far beyond the samples."""
    n = 20_000
    x = stats.norm(3, 2).ppf((np.arange(n) + 0.5) / n)[:, None]
    marginal = ek.Prior.from_samples(x).marginals["u0"]
    q = np.array([1e-12, 1e-6, 0.01, 0.3])
    np.testing.assert_allclose(marginal.ppf(q), stats.norm(3, 2).ppf(q), rtol=5e-3)
    np.testing.assert_allclose(marginal.isf(q), stats.norm(3, 2).isf(q), rtol=5e-3)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_gaussian_in_logarithms_is_found_again(seed):
    x = gaussian(2000, seed) / 2
    plain = ek.Prior.from_samples(x)
    positive = ek.Prior.from_samples(np.exp(x), bounds={"u0": (0, np.inf), "u1": (0, np.inf)})
    draws = plain.sample(50, rng=0)
    np.testing.assert_allclose(np.log(positive.sample(50, rng=0)), draws, rtol=1e-9, atol=1e-9)
    volume = draws.sum(axis=1)
    np.testing.assert_allclose(positive.logpdf(np.exp(draws)), plain.logpdf(draws) - volume)


@pytest.mark.parametrize("seed", SEEDS)
def test_other_shapes_are_kept(seed):
    rng, n = np.random.default_rng(seed), 4000
    two = np.where(rng.random(n) < 0.3, rng.normal(-2, 0.5, n), rng.normal(2, 1, n))
    x = np.stack([two, rng.gumbel(size=n), rng.uniform(3, 5, n)], axis=1)
    prior = ek.Prior.from_samples(x, names=["two", "skew", "flat"], bounds={"flat": (3, 5)})
    exact = {
        "two": lambda t: 0.3 * stats.norm.cdf(t, -2, 0.5) + 0.7 * stats.norm.cdf(t, 2, 1),
        "skew": stats.gumbel_r.cdf,
        "flat": stats.uniform(3, 2).cdf,
    }
    for name, marginal in prior.marginals.items():
        t = marginal.ppf(np.linspace(0.001, 0.999, 999))
        # the distance between the fit and the truth is about that of a sample of this size
        assert np.max(np.abs(exact[name](t) - marginal.cdf(t))) < 1.7 / np.sqrt(n) + 0.01
    assert prior.support(2) == (3.0, 5.0)


@pytest.mark.parametrize("seed", SEEDS)
def test_weights_are_respected(seed):
    """Draws of a broad Gaussian, weighted to a narrow one."""
    n, broad, narrow = 20_000, stats.norm(0, 2), stats.norm(1, 0.7)
    x = broad.rvs(size=(n, 1), random_state=seed)
    weights = np.exp(narrow.logpdf(x) - broad.logpdf(x))[:, 0]
    size = weights.sum() ** 2 / (weights**2).sum()
    mean, sd = moments(ek.Prior.from_samples(x, weights).marginals["u0"])
    assert abs(mean - 1) < 4.5 * 0.7 / np.sqrt(size)
    assert abs(sd / 0.7 - 1) < 4.5 / np.sqrt(2 * size)
    repeated = ek.Prior.from_samples(np.repeat(x[:300], 3, axis=0))
    once = ek.Prior.from_samples(x[:300], np.full(300, 7.0))
    q = np.linspace(0.1, 0.9, 9)
    close = [m.marginals["u0"].ppf(q) for m in (repeated, once)]
    np.testing.assert_allclose(*close, atol=0.15)


def test_weights_of_zero_leave_samples_out():
    x, weights = gaussian(600, 0), np.r_[np.ones(300), np.zeros(300)]
    some = ek.Prior.from_samples(x, weights)
    few = ek.Prior.from_samples(x[:300])
    np.testing.assert_allclose(some.sample(20, rng=0), few.sample(20, rng=0), rtol=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_two_batches_in_turn_are_both_at_once(seed):
    """Linear and Gaussian: the posterior of batch 1 is the prior of batch 2."""
    rng = np.random.default_rng(seed)
    A, p, n = rng.normal(size=(8, 2)), 2, 4000
    y = A @ [1.0, -1.0] + 0.5 * rng.normal(size=8)
    first, second = slice(0, 5), slice(5, 8)
    prior = ek.GaussianPrior(np.zeros(p), 4.0)
    mean, cov = ek.theory.posterior(A[first], y[first], prior, 0.25)
    after = ek.Prior.from_samples(rng.multivariate_normal(mean, cov, n))
    problem = ek.InverseProblem(ek.LinearModel(A[second]), after, 0.25, y[second])
    u = ek.run(problem, ek.EKI(), n_members=n, rng=seed).u[-1].values
    exact, exact_cov = ek.theory.posterior(A, y, prior, 0.25)
    sd = np.sqrt(np.diag(exact_cov))
    # two Monte Carlo errors, of the samples and of the run
    assert np.all(np.abs(u.mean(0) - exact) < 4.5 * sd * np.sqrt(2 / n) + 0.03 * sd)
    assert np.all(np.abs(u.std(0) / sd - 1) < 0.08)
    alone = ek.theory.posterior(A[second], y[second], prior, 0.25)[0]
    assert np.max(np.abs(alone - exact) / sd) > 0.3  # the first batch does matter


def test_samples_may_come_as_columns():
    x = gaussian(200, 0)
    weights = np.random.default_rng(0).uniform(1, 2, 200)
    same = ek.Prior.from_samples(x, weights, names=["a", "b"])
    columns = {"a": x[:, 0], "b": x[:, 1], "weight": weights}
    chains = {name: (("chain", "draw"), column.reshape(4, 50)) for name, column in columns.items()}
    for given in (columns, pd.DataFrame(columns), xr.Dataset(chains)):
        assert ek.Prior.from_samples(given).fingerprint() == same.fingerprint()
    del columns["weight"]
    assert ek.Prior.from_samples(columns, weights).fingerprint() == same.fingerprint()


def test_samples_may_be_a_result():
    def fragile(u):
        if u[1] > 4:
            raise ValueError("no")
        return u

    start = ek.Prior({"rate": stats.lognorm(0.5), "shift": stats.norm(0, 3)})
    problem = ek.InverseProblem(fragile, start, 0.1, [1.0, 2.0])
    result = ek.run(problem, ek.TemperedSMC(), n_members=300, rng=0)
    prior = ek.Prior.from_samples(result, bounds=start)
    assert prior.names == ("rate", "shift")
    assert prior.support(0) == (0.0, np.inf)
    weight = result.weight[-1].values
    keep = ~np.isnan(result.u[-1].values).any(axis=1)
    mean = weight[keep] @ result.u[-1].values[keep] / weight[keep].sum()
    for i, marginal in enumerate(prior.marginals.values()):
        assert moments(marginal)[0] == pytest.approx(mean[i], rel=0.02)
    check_prior(prior)


def test_the_distribution_function_is_the_inverse_of_the_quantile_function():
    knots = [[-2.0, -0.5, 0.1, 2.5], [-3.0, -2.9, 0.0, 0.4]]
    z = np.linspace(-8, 8, 161)
    for interval in ((-np.inf, np.inf), (1.0, np.inf), (-np.inf, 2.0), (0.0, 5.0)):
        marginal = SmoothQuantiles(knots, interval)()
        low, high = stats.norm.cdf(z), stats.norm.sf(z)
        x = np.where(z < 0, marginal.ppf(low), marginal.isf(high))
        assert np.all(np.diff(x) > 0)
        np.testing.assert_allclose(marginal.cdf(x), low, rtol=1e-8)
        np.testing.assert_allclose(marginal.sf(x), high, rtol=1e-8)
        x = x[50:110] + 1e-7  # not at a knot, where the slope has a kink
        slope = (marginal.cdf(x + 1e-8) - marginal.cdf(x - 1e-8)) / 2e-8
        np.testing.assert_allclose(marginal.pdf(x), slope, rtol=1e-4, atol=1e-6)
    line = SmoothQuantiles([[-1.0, 0.0, 1.0], [-1.0, 1.0, 3.0]], (-np.inf, np.inf))()
    x = np.linspace(-9, 11, 9)
    np.testing.assert_allclose(line.logpdf(x), stats.norm.logpdf(x, 1, 2), rtol=1e-12)


def test_fingerprints_are_those_of_the_samples():
    priors = [ek.Prior.from_samples(gaussian(100, seed)) for seed in SEEDS]
    assert len({p.fingerprint() for p in priors}) == len(priors)
    assert ek.Prior.from_samples(gaussian(100, 0)).fingerprint() == priors[0].fingerprint()
    assert pickle.loads(pickle.dumps(priors[0])).fingerprint() == priors[0].fingerprint()


@pytest.mark.parametrize(
    ("samples", "options", "error", "message"),
    [
        (
            gaussian(19, 0),
            {},
            ValueError,
            r"at least max\(20, 2 p\) = 20, got 19 \(19 samples of 2",
        ),
        (
            np.random.default_rng(0).normal(size=(50, 30)),
            {},
            ValueError,
            r"max\(20, 2 p\) = 60, got 50 .* ek.GaussianPrior",
        ),
        (gaussian(99, 0), {"weights": np.r_[1.0, np.zeros(98)]}, ValueError, "got 1 "),
        (gaussian(99, 0), {"weights": np.ones(98)}, ValueError, "weights: must be 99 numbers"),
        (gaussian(99, 0), {"weights": -np.ones(99)}, ValueError, "weights: .* smallest -1"),
        (gaussian(99, 0), {"names": ["a"]}, ValueError, "names: must be names of 2 parameters"),
        (gaussian(99, 0), {"names": ["a", "a"]}, ValueError, "names must differ, got 'a'"),
        (np.ones(99), {}, ValueError, "samples: must have 2 dimensions"),
        (np.full((99, 1), np.nan), {}, ValueError, "samples: must be finite"),
        (np.ones((99, 1)), {}, ValueError, r"samples: must vary, got 1 different value\(s\) of u0"),
        ({"a": np.ones(9), "b": np.ones(8)}, {}, ValueError, "columns of the same size, got {'a'"),
        ({"a": np.ones(9)}, {"names": ["b"]}, ValueError, "names: must not be given"),
        (gaussian(99, 0), {"bounds": {"u0": (0, 1)}}, ValueError, r"inside the bounds of u0, \(0,"),
        (gaussian(99, 0), {"bounds": {"z": (0, 1)}}, ValueError, "bounds: names must be among"),
        (gaussian(99, 0), {"bounds": {"u0": (1, 0)}}, ValueError, r"bounds\['u0'\]: must be"),
        (gaussian(99, 0), {"bounds": [0, 1]}, TypeError, "bounds: must be a mapping of names"),
        (
            gaussian(99, 0),
            {"bounds": ek.Prior({"a": stats.norm(), "b": stats.norm()})},
            ValueError,
            r"bounds: must be a prior of the parameters \('u0', 'u1'\)",
        ),
    ],
)
def test_bad_arguments_are_named(samples, options, error, message):
    with pytest.raises(error, match=message):
        ek.Prior.from_samples(samples, **options)


def test_a_prior_without_names_or_bounds_gives_none():
    prior = ek.Prior.from_samples(gaussian(99, 0), bounds=ek.GaussianPrior([0.0, 0.0], 1.0))
    assert prior.support(0) == (-np.inf, np.inf)
