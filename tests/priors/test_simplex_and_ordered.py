"""Shares that sum to one, and ordered parameters, against their closed-form moments."""

import numpy as np
import pytest
from scipy import stats

import ekitools as ek
from ekitools.testing import check_prior

ALPHA = np.array([2.0, 0.7, 5.0, 1.0])
SEEDS = range(5)


@pytest.mark.parametrize("alpha", [ALPHA, [1.0, 1.0], [0.3, 0.3, 0.3], [50.0, 20.0, 30.0]])
def test_shares_keep_the_promises_of_a_prior(alpha):
    check_prior(ek.Dirichlet(alpha))


@pytest.mark.parametrize("seed", SEEDS)
def test_shares_have_the_moments_of_dirichlet(seed):
    n, total = 40_000, ALPHA.sum()
    prior = ek.Dirichlet(ALPHA)
    shares = prior.shares(prior.sample(n, rng=seed))
    assert shares.min() >= 0
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-14)
    mean = ALPHA / total
    cov = (np.diag(mean) - np.outer(mean, mean)) / (total + 1)
    assert np.all(np.abs(shares.mean(0) - mean) < 4.5 * np.sqrt(np.diag(cov) / n))
    products = np.einsum("ni,nj->nij", shares - mean, shares - mean)
    assert np.all(np.abs(products.mean(0) - cov) < 4.5 * products.std(0) / np.sqrt(n))
    for i, a in enumerate(ALPHA):  # the last share too
        assert stats.kstest(shares[:, i], stats.beta(a, total - a).cdf).pvalue > 1e-4


def test_the_density_of_shares_is_that_of_scipy():
    prior = ek.Dirichlet(ALPHA)
    u = prior.sample(6, rng=0)
    expected = [stats.dirichlet(ALPHA).logpdf(x) for x in prior.shares(u)]
    np.testing.assert_allclose(prior.logpdf(u), expected, rtol=1e-10)
    assert np.all(prior.logpdf([[0.5, 0.4, 0.2], [-0.1, 0.2, 0.2], [0.5, 0.5, 0.1]]) == -np.inf)


def test_the_middle_of_the_simplex_by_hand():
    """Uniform on a triangle: the first share has the median 1 - 1/sqrt(2), the next is halved."""
    u = ek.Dirichlet([1.0, 1.0, 1.0]).to_physical(np.zeros((1, 2)))[0]
    first = 1 - np.sqrt(0.5)
    np.testing.assert_allclose(u, [first, (1 - first) / 2], rtol=1e-12)


def test_shares_have_names_and_arrays_of_any_kind():
    prior = ek.Dirichlet([1.0, 2.0, 3.0], names=["a", "b", "c"])
    assert (prior.names, prior.share_names) == (("a", "b"), ("a", "b", "c"))
    assert ek.Dirichlet([1.0, 2.0]).names is None
    assert prior.support(1) == (0.0, 1.0)
    torch = pytest.importorskip("torch")
    shares = prior.shares(torch.tensor([[0.25, 0.5], [0.5, 0.5000001]]))
    assert shares.dtype == torch.float32
    np.testing.assert_allclose(shares.numpy(), [[0.25, 0.5, 0.25], [0.5, 0.5, 0]], atol=1e-6)
    assert shares.min() == 0


def test_eki_keeps_shares_on_the_simplex():
    prior = ek.Dirichlet([1.0, 1.0, 1.0])
    truth = np.array([0.98, 0.01, 0.01])
    problem = ek.InverseProblem(lambda u: prior.shares(u), prior, 0.01**2, truth)
    result = ek.run(problem, ek.EKI(), n_members=100, rng=0)
    shares = prior.shares(result.u.values)
    assert shares.min() > 0
    np.testing.assert_allclose(shares[-1].mean(0), truth, atol=0.02)


def test_a_member_off_the_simplex_is_refused():
    prior = ek.Dirichlet([1.0, 1.0, 1.0], names=["a", "b", "c"])
    problem = ek.InverseProblem(lambda u: u, prior, 0.1, [0.2, 0.2])
    ensemble = prior.sample(5, rng=0)
    ensemble[1] = [0.6, 0.6]
    with pytest.raises(ValueError, match="got b = 0.6 in member 1. Move such members inside"):
        ek.run(problem, ek.EKI(), ensemble=ensemble)


# ------------------------------------------------------------------------------------- ordered

DISTRIBUTIONS = {
    "normal": stats.norm(2, 3),
    "lognormal": stats.lognorm(0.8),
    "uniform": stats.uniform(-1, 3),
    "heavy": stats.t(4),
}


@pytest.mark.parametrize("kind", DISTRIBUTIONS)
@pytest.mark.parametrize("p", [1, 2, 7])
def test_ordered_parameters_keep_the_promises_of_a_prior(kind, p):
    check_prior(ek.Ordered(DISTRIBUTIONS[kind], p))


def test_new_distributions_can_be_ordered():
    if not hasattr(stats, "Normal"):
        pytest.skip("scipy before 1.15")
    new, old = ek.Ordered(stats.Normal(mu=2, sigma=3), 4), ek.Ordered(stats.norm(2, 3), 4)
    check_prior(new, exclude="fingerprint")  # a copy of scipy's Normal is of another class
    np.testing.assert_array_equal(new.sample(5, rng=0), old.sample(5, rng=0))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", DISTRIBUTIONS)
def test_they_are_order_statistics(kind, seed):
    """F(u_i) is Beta(i, p - i + 1), and neighbours correlate as those of uniform numbers do."""
    n, p, distribution = 10_000, 6, DISTRIBUTIONS[kind]
    u = ek.Ordered(distribution, p).sample(n, rng=seed)
    assert np.all(np.diff(u, axis=1) > 0)
    uniform = distribution.cdf(u)
    i = np.arange(1, p + 1)
    for k in i:
        assert stats.kstest(uniform[:, k - 1], stats.beta(k, p - k + 1).cdf).pvalue > 1e-4
    low, high = np.minimum.outer(i, i), np.maximum.outer(i, i)
    cov = low * (p + 1 - high) / ((p + 1) ** 2 * (p + 2))
    centred = uniform - i / (p + 1)
    products = np.einsum("ni,nj->nij", centred, centred)
    assert np.all(np.abs(products.mean(0) - cov) < 4.5 * products.std(0) / np.sqrt(n))


def test_sorted_draws_are_standard_normal_in_its_coordinates():
    """The other way round: draws that were sorted by NumPy."""
    draws = np.sort(stats.gamma(2.0).rvs(size=(5000, 3), random_state=0), axis=1)
    z = ek.Ordered(stats.gamma(2.0), 3).to_unconstrained(draws)
    for column in z.T:
        assert stats.kstest(column, stats.norm.cdf).pvalue > 1e-4
    assert np.all(np.abs(np.corrcoef(z.T) - np.eye(3)) < 4.5 / np.sqrt(5000))


def test_the_density_is_p_factorial_times_the_product():
    prior = ek.Ordered(DISTRIBUTIONS["normal"], 4)
    u = prior.sample(5, rng=0)
    expected = np.log(24) + DISTRIBUTIONS["normal"].logpdf(u).sum(axis=1)
    np.testing.assert_allclose(prior.logpdf(u), expected, rtol=1e-13)
    assert prior.logpdf(u[0, ::-1]) == -np.inf
    assert ek.Ordered(stats.uniform(), 2).logpdf([0.2, 1.2]) == -np.inf
    assert ek.Ordered(stats.uniform(), 2).logpdf([-0.2, 0.2]) == -np.inf


@pytest.mark.parametrize("z", [-30.0, -12.0, -3.0, 3.0, 12.0])
def test_far_coordinates_come_back(z):
    prior = ek.Ordered(stats.norm(), 3)
    point = np.array([[z, 0.5, -z / 6]])
    np.testing.assert_allclose(prior.to_unconstrained(prior.to_physical(point)), point, rtol=1e-6)


def test_names_and_fingerprints():
    prior = ek.Ordered(stats.uniform(0, 2), ["low", "high"])
    assert prior.names == ("low", "high")
    assert prior.support(1) == (0.0, 2.0)
    priors = [
        prior,
        ek.Ordered(stats.uniform(0, 2), 2),
        ek.Ordered(stats.uniform(0, 2), 3),
        ek.Ordered(stats.uniform(0, 3), 3),
        ek.Dirichlet([1.0, 1.0, 1.0]),
        ek.Dirichlet([1.0, 1.0, 2.0]),
        ek.Dirichlet([1.0, 1.0, 1.0], names=["a", "b", "c"]),
        ek.Dirichlet([1.0, 1.0, 1.0], names=["a", "b", "d"]),
    ]
    assert len({p.fingerprint() for p in priors}) == len(priors)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ek.Dirichlet([1.0]), ValueError, "alpha: must have at least two entries"),
        (lambda: ek.Dirichlet([1.0, 0.0]), ValueError, r"all positive, got \[1.0, 0.0\]"),
        (lambda: ek.Dirichlet(1.0), ValueError, "alpha: must have 1 dimensions"),
        (lambda: ek.Dirichlet([1, 1], names=["a"]), ValueError, "names of all 2 shares"),
        (lambda: ek.Dirichlet([1, 1], names=2), ValueError, "names of all 2 shares"),
        (lambda: ek.Dirichlet([1, 1], names=["a", "a"]), ValueError, "names must differ"),
        (lambda: ek.Ordered(stats.norm, 2), TypeError, "distribution: must be a frozen"),
        (lambda: ek.Ordered(stats.poisson(1), 2), TypeError, "distribution: must be a frozen"),
        (lambda: ek.Ordered(stats.norm(), 0), ValueError, "parameters: must be at least 1"),
        (lambda: ek.Ordered(stats.norm(), ["a", "a"]), ValueError, "names must differ"),
    ],
)
def test_bad_arguments_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("prior", "part", "function"),
    [
        (ek.Dirichlet, "forward", lambda self, z: ek.Dirichlet.forward(self, 1.05 * z)),
        (ek.Dirichlet, "log_density", lambda self, u: np.zeros(len(u))),
        (ek.Ordered, "forward", lambda self, z: np.sort(z, axis=1)),
        (ek.Ordered, "log_density", lambda self, u: stats.norm.logpdf(u).sum(axis=1)),
    ],
)
def test_broken_ones_are_found(prior, part, function):
    broken = type("Broken", (prior,), {part: function})
    made = broken(ALPHA) if prior is ek.Dirichlet else broken(stats.norm(), 3)
    with pytest.raises(AssertionError):
        check_prior(made)
