"""Two-level priors against their closed-form moments and densities."""

import numpy as np
import pytest
from scipy import integrate, stats

import ekitools as ek
from ekitools.priors.transforms import Interval
from ekitools.testing import check_prior

MEAN, SD = stats.norm(0.5, 0.6), stats.gamma(4.0, scale=0.2)
TRANSFORMS = {"none": None, "exp": "exp", "bounded": ("bounded", -1.0, 3.0)}


def hierarchical(transform=None, members=3):
    return ek.Hierarchical(MEAN, SD, members, transform=transform)


@pytest.mark.parametrize("kind", TRANSFORMS)
def test_it_keeps_the_promises_of_a_prior(kind):
    check_prior(hierarchical(TRANSFORMS[kind]))


@pytest.mark.parametrize("seed", range(5))
def test_members_have_the_moments_of_the_hierarchy(seed):
    """Var θ = Var m + E s², and two members share the variance of m."""
    n = 40_000
    u = hierarchical().sample(n, rng=seed)
    for i, distribution in enumerate((MEAN, SD)):
        assert stats.kstest(u[:, i], distribution.cdf).pvalue > 1e-4
    theta = u[:, 2:] - MEAN.mean()
    cov = MEAN.var() + np.eye(3) * (SD.var() + SD.mean() ** 2)
    assert np.all(np.abs(theta.mean(0)) < 4.5 * np.sqrt(np.diag(cov) / n))
    products = np.einsum("ni,nj->nij", theta, theta)
    assert np.all(np.abs(products.mean(0) - cov) < 4.5 * products.std(0) / np.sqrt(n))


@pytest.mark.parametrize("seed", range(5))
def test_the_log_of_positive_members_is_that_of_the_plain_hierarchy(seed):
    plain, positive = hierarchical().sample(50, rng=seed), hierarchical("exp").sample(50, rng=seed)
    np.testing.assert_allclose(np.log(positive[:, 2:]), plain[:, 2:], rtol=1e-12)
    np.testing.assert_array_equal(positive[:, :2], plain[:, :2])


def test_the_density_is_that_of_scipy_level_by_level():
    u = hierarchical("exp").sample(6, rng=0)
    m, s = u[:, 0], u[:, 1]
    members = [
        stats.lognorm(si, scale=np.exp(mi)).logpdf(t).sum()
        for mi, si, t in zip(m, s, u[:, 2:], strict=True)
    ]
    expected = MEAN.logpdf(m) + SD.logpdf(s) + members
    np.testing.assert_allclose(hierarchical("exp").logpdf(u), expected, rtol=1e-12)
    u[0, 2], u[1, 1] = -1.0, -0.1
    assert np.all(hierarchical("exp").logpdf(u)[:2] == -np.inf)


def test_eki_shrinks_members_towards_each_other():
    """Two members seen with large noise: the posterior by quadrature over m and s."""
    y, noise = np.array([0.0, 2.0]), 1.0
    prior = ek.Hierarchical(stats.norm(0, 1), stats.uniform(0.5, 0.1), 2)

    def moment(power):
        def weight(s, m):
            v = s**2 + noise
            w = stats.norm.pdf(m) * np.prod(stats.norm.pdf(y, m, np.sqrt(v)))
            return w * (1 if power == 0 else (m * noise + y[1] * s**2) / v)

        return integrate.dblquad(weight, -6, 6, 0.5, 0.6)[0]

    exact = moment(1) / moment(0)
    problem = ek.InverseProblem(lambda u: u[2:], prior, noise, y)
    for seed in range(5):
        result = ek.run(problem, ek.EKI(), n_members=2000, rng=seed)
        assert float(result.u[-1, :, 3].mean()) == pytest.approx(exact, abs=0.08)


def test_names_bounds_and_fingerprints():
    assert hierarchical().names == ("mean", "sd", "theta[0]", "theta[1]", "theta[2]")
    bounded = hierarchical(TRANSFORMS["bounded"], ["a", "b"])
    assert bounded.names == ("mean", "sd", "a", "b")
    assert [bounded.support(i) for i in (0, 1, 3)] == [(-np.inf, np.inf), (0, np.inf), (-1, 3)]
    assert bounded.support(-1) == (-1, 3)  # the last one
    priors = [
        hierarchical(),
        hierarchical("exp"),
        hierarchical(members=2),
        bounded,
        hierarchical(("bounded", -1.0, 4.0), ["a", "b"]),
        hierarchical(("bounded", -1.0, 3.0), ["a", "c"]),
        ek.Hierarchical(stats.norm(0, 1), SD, 3),
        ek.Hierarchical(MEAN, stats.halfnorm(), 3),
    ]
    assert len({p.fingerprint() for p in priors}) == len(priors)


@pytest.mark.parametrize("bounds", [(-np.inf, np.inf), (2.0, np.inf), (-np.inf, 2.0), (-1.0, 2.0)])
def test_intervals_are_inverted_and_their_slopes_are_derivatives(bounds):
    interval, h = Interval(*bounds), 1e-5
    x = np.linspace(-5, 5, 11)
    np.testing.assert_allclose(interval.inverse(interval.forward(x)), x, atol=1e-12)
    slope = (interval.forward(x + h) - interval.forward(x - h)) / (2 * h)
    np.testing.assert_allclose(interval.log_slope(x), np.log(slope), atol=1e-6)
    far = interval.forward(np.array([-1e4, 1e4]))
    assert np.all((bounds[0] < far) & (far < bounds[1]) & np.isfinite(far))
    outside = np.array([b for b in bounds if np.isfinite(b)])
    assert not np.isfinite(interval.inverse(outside)).any()


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((stats.norm, SD, 2), {}, TypeError, "mean: must be a frozen distribution"),
        ((MEAN, 1.0, 2), {}, TypeError, "sd: must be a frozen continuous .* got float"),
        (
            (MEAN, stats.norm(), 2),
            {},
            ValueError,
            "sd: must be .* of positive numbers, .*halfnorm",
        ),
        ((MEAN, SD, 0), {}, ValueError, "members: must be at least 1"),
        ((MEAN, SD, ["a", "a"]), {}, ValueError, "members: names must differ"),
        ((MEAN, SD, ["sd"]), {}, ValueError, "names must differ, got 'sd'"),
        ((MEAN, SD, 2), {"transform": "log"}, ValueError, "transform: must be None"),
        ((MEAN, SD, 2), {"transform": ("bounded", 1, 0)}, ValueError, "upper bound: must be"),
    ],
)
def test_bad_arguments_are_named(arguments, options, error, message):
    with pytest.raises(error, match=message):
        ek.Hierarchical(*arguments, **options)


@pytest.mark.parametrize(
    ("part", "function"),
    [
        ("forward", lambda self, z: ek.Hierarchical.forward(self, z[:, [1, 0, 2, 3, 4]])),
        ("log_density", lambda self, u: ek.Hierarchical.log_density(self, u) + np.log(u[:, 1])),
    ],
)
def test_broken_ones_are_found(part, function):
    broken = type("Broken", (ek.Hierarchical,), {part: function})
    with pytest.raises(AssertionError):
        check_prior(broken(MEAN, SD, 3, transform="exp"))
