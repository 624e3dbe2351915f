"""Priors against scipy, far into their tails and at their bounds."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.stats import multivariate_normal

import ekitools as ek

MEAN = np.array([1.0, -2.0, 0.5])
DENSE = np.array([[2.0, 0.5, 0.1], [0.5, 1.0, 0.0], [0.1, 0.0, 0.5]])
FORMS = {"scalar": 0.7, "diagonal": np.array([0.5, 1.0, 2.0]), "dense": DENSE}


def matrix(cov):
    cov = np.asarray(cov)
    return cov if cov.ndim == 2 else np.diag(np.broadcast_to(cov, 3))


@pytest.mark.parametrize("kind", FORMS)
def test_gaussian_density_is_that_of_scipy(kind):
    prior = ek.GaussianPrior(MEAN, FORMS[kind])
    u = np.random.default_rng(0).normal(size=(5, 3))
    exact = multivariate_normal(MEAN, matrix(FORMS[kind]))
    np.testing.assert_allclose(prior.logpdf(u), exact.logpdf(u), rtol=1e-12)
    assert float(prior.logpdf(u[0])) == pytest.approx(exact.logpdf(u[0]))


@pytest.mark.parametrize("kind", FORMS)
def test_gaussian_draws_have_mean_and_covariance(kind):
    n, cov = 40_000, matrix(FORMS[kind])
    draws = ek.GaussianPrior(MEAN, FORMS[kind]).sample(n, rng=0)
    assert np.all(np.abs(draws.mean(0) - MEAN) < 4 * np.sqrt(np.diag(cov) / n))
    error = np.sqrt((cov**2 + np.outer(np.diag(cov), np.diag(cov))) / n)
    assert np.all(np.abs(np.cov(draws.T) - cov) < 4.5 * error)


@pytest.mark.parametrize("kind", FORMS)
def test_draws_do_not_depend_on_how_many_are_made_at_a_time(kind, monkeypatch):
    prior = ek.GaussianPrior(MEAN, FORMS[kind])
    at_once = prior.sample(9, rng=0)
    monkeypatch.setattr("ekitools.priors.gaussian._BLOCK_BYTES", 48)
    np.testing.assert_allclose(prior.sample(9, rng=0), at_once, rtol=1e-14, atol=1e-15)
    white = np.random.default_rng(0).standard_normal((9, 3))
    root = np.linalg.cholesky(matrix(FORMS[kind]))
    np.testing.assert_allclose(at_once, MEAN + white @ root.T, rtol=1e-12)


def test_draws_in_single_precision_need_no_second_ensemble():
    prior = ek.GaussianPrior(np.float32(0), np.ones(50_000))
    tracemalloc.start()
    u = prior.sample(200, rng=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert u.dtype == np.float32
    assert peak < 1.5 * u.nbytes


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("namespace", ["numpy", "float32", "strict", "torch"])
def test_whitening_and_back_in_every_namespace(kind, namespace):
    prior = ek.GaussianPrior(MEAN, FORMS[kind])
    z = np.random.default_rng(0).normal(size=(4, 3))
    make = {
        "numpy": np.asarray,
        "float32": lambda x: x.astype(np.float32),
        "strict": lambda x: pytest.importorskip("array_api_strict").asarray(x),
        "torch": lambda x: pytest.importorskip("torch").as_tensor(x),
    }[namespace]
    white = prior.whiten(make(z))
    back = prior.unwhiten(white)
    assert type(white) is type(make(z))
    assert white.dtype == back.dtype == make(z).dtype
    expected = np.linalg.solve(np.linalg.cholesky(matrix(FORMS[kind])), (z - MEAN).T).T
    np.testing.assert_allclose(np.asarray(white), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.asarray(back), z, rtol=1e-4, atol=1e-5)


def test_gaussian_sizes_broadcast():
    assert ek.GaussianPrior(0.0, [1.0, 2.0]).n_parameters == 2
    assert ek.GaussianPrior([0.0, 1.0], 1.0).n_parameters == 2
    assert ek.GaussianPrior(0.0, 1.0).n_parameters == 1
    assert ek.GaussianPrior(0.0, DENSE).n_parameters == 3


FAMILIES = {
    "norm": stats.norm(2, 3),
    "lognorm": stats.lognorm(0.8, scale=2),
    "truncnorm": stats.truncnorm(-2, np.inf, loc=1, scale=0.5),
    "gamma": stats.gamma(2.5),
    "beta": stats.beta(2, 5),
    "uniform": stats.uniform(-1, 3),
    "expon": stats.expon(scale=0.1),
    "t": stats.t(4, loc=1),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_draws_follow_their_distribution(family):
    draws = ek.Prior({"x": FAMILIES[family]}).sample(5000, rng=3)[:, 0]
    assert stats.kstest(draws, FAMILIES[family].cdf).pvalue > 1e-3


@settings(max_examples=60, deadline=None)
@given(z=st.floats(-30, 30), family=st.sampled_from(["norm", "lognorm", "expon", "t"]))
def test_the_map_can_be_inverted_far_into_both_tails(z, family):
    """Where double precision can hold it: 30 standard deviations are a probability of 1e-197."""
    prior = ek.Prior({"x": FAMILIES[family]})
    u = prior.to_physical(np.array([[z]]))
    # scipy's quantiles of t keep half of the digits next to the median
    tolerance = 1e-6 if family == "t" else 1e-9
    assert float(prior.to_unconstrained(u)[0, 0]) == pytest.approx(z, rel=tolerance, abs=tolerance)


@pytest.mark.parametrize("z", [-10.0, -20.0, -30.0])
def test_a_lower_bound_at_zero_is_approached_with_all_digits(z):
    for family in ("expon", "gamma", "beta")[: 3 if z > -25 else 2]:  # scipy's beta ends there
        prior = ek.Prior({"x": FAMILIES[family]})
        back = prior.to_unconstrained(prior.to_physical(np.array([[z]])))
        assert float(back[0, 0]) == pytest.approx(z, rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(z=st.floats(-1e200, 1e200), family=st.sampled_from(sorted(FAMILIES)))
def test_bounds_hold_for_every_finite_z(z, family):
    prior = ek.Prior({"x": FAMILIES[family]})
    u = float(prior.to_physical(np.array([[z]]))[0, 0])
    low, high = FAMILIES[family].support()
    assert low < u < high


@settings(max_examples=30, deadline=None)
@given(a=st.floats(-8, 8), b=st.floats(-8, 8), family=st.sampled_from(sorted(FAMILIES)))
def test_the_map_is_monotone(a, b, family):
    prior = ek.Prior({"x": FAMILIES[family]})
    low, high = prior.to_physical(np.sort([[a], [b]], axis=0))[:, 0]
    assert low <= high


def test_marginals_of_a_family_are_evaluated_together(monkeypatch):
    """A hundred log-normals cost one call of scipy, and the result is that of each alone."""
    marginals = {f"x{i}": stats.lognorm(0.1 + i / 50, scale=1 + i) for i in range(100)}
    prior = ek.Prior(marginals)
    z = np.random.default_rng(0).normal(size=(4, 100))
    together = prior.to_physical(z)
    for i, (name, marginal) in enumerate(marginals.items()):
        alone = ek.Prior({name: marginal}).to_physical(z[:, [i]])
        np.testing.assert_allclose(together[:, i], alone[:, 0], rtol=1e-14)
    assert len(prior._groups) == 1


def test_density_of_named_marginals():
    prior = ek.Prior(FAMILIES)
    u = prior.sample(5, rng=0)
    expected = sum(m.logpdf(u[:, i]) for i, m in enumerate(FAMILIES.values()))
    np.testing.assert_allclose(prior.logpdf(u), expected)
    u[0, list(FAMILIES).index("beta")] = 2.0
    assert prior.logpdf(u)[0] == -np.inf


def test_fingerprints_tell_distributions_apart():
    priors = [
        ek.Prior({"a": stats.norm(0, 1)}),
        ek.Prior({"b": stats.norm(0, 1)}),
        ek.Prior({"a": stats.norm(0, 2)}),
        ek.Prior({"a": stats.uniform(0, 1)}),
        ek.Prior({"a": stats.norm(0, 1), "b": stats.norm(0, 1)}),
        ek.GaussianPrior(0.0, 1.0),
        ek.GaussianPrior(0.0, 2.0),
        ek.GaussianPrior(1.0, 1.0),
        ek.GaussianRandomField((8,), n_modes=2),
        ek.GaussianRandomField((8,), n_modes=2, tau=1.0),
        ek.GraphField(2 * np.eye(4) - 0.5, n_modes=2),
    ]
    assert len({prior.fingerprint() for prior in priors}) == len(priors)
    assert priors[0].fingerprint() == ek.Prior({"a": stats.norm(0, 1)}).fingerprint()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: ek.GaussianPrior([0, 1], [1.0] * 3),
            ValueError,
            "mean, cov: must have as many entries",
        ),
        (lambda: ek.GaussianPrior([0.0, np.nan], 1.0), ValueError, "mean: must be finite"),
        (lambda: ek.GaussianPrior(np.zeros((2, 2)), 1.0), ValueError, "mean: must have 0 or 1 dim"),
        (lambda: ek.GaussianPrior([], 1.0), ValueError, "mean: must not be empty"),
        (lambda: ek.GaussianPrior(0.0, 0.0), ValueError, "cov: variances must be positive, got 0"),
        (lambda: ek.GaussianPrior(0.0, [1.0, -1]), ValueError, "cov: variances must be positive"),
        (lambda: ek.GaussianPrior(0.0, -np.eye(2)), ValueError, "cov: must be positive definite"),
        (lambda: ek.GaussianPrior(0.0, np.triu(np.ones((2, 2)))), ValueError, "must be symmetric"),
        (lambda: ek.GaussianPrior("0", 1.0), TypeError, "mean: must be an array of real numbers"),
        (lambda: ek.Prior([]), TypeError, "marginals: must be a mapping"),
        (lambda: ek.Prior({}), ValueError, "marginals: must not be empty"),
        (lambda: ek.Prior({1: stats.norm()}), TypeError, "names must be texts, got 1"),
        (lambda: ek.Prior({"a": stats.norm}), TypeError, r"frozen .* scipy.stats.norm\(...\)"),
        (lambda: ek.Prior({"a": stats.poisson(3)}), TypeError, "frozen continuous"),
        (lambda: ek.Prior({"a": 1.0}), TypeError, "frozen continuous .* got float"),
        (lambda: ek.Prior({"a": stats.norm([0, 1])}), TypeError, "scalar parameters, got arrays"),
        (lambda: ek.Prior({"a": stats.norm(0, -1)}), ValueError, "valid parameters"),
        (
            lambda: ek.Prior({"a": stats.norm()}).sample(0),
            ValueError,
            "n: must be at least 1, got 0",
        ),
        (lambda: ek.GaussianPrior(0.0, 1.0).sample(1.5), TypeError, "n: must be an integer"),
        (lambda: ek.GaussianPrior(0.0, 1.0).logpdf([1, 2]), ValueError, r"u: .* p = 1 entries"),
        (
            lambda: ek.Prior({"a": stats.norm()}).to_physical(np.zeros((3, 2))),
            ValueError,
            r"z: last axis must have 1 entries, got \(3, 2\)",
        ),
    ],
)
def test_bad_arguments_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()
