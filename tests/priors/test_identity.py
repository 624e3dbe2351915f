"""What a distribution is: its class, its parameters and its own state."""

import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

import ekitools as ek
from ekitools.priors.identity import describe

NEW = hasattr(stats, "make_distribution")
new_only = pytest.mark.skipif(not NEW, reason="scipy before 1.15")


class Ramp(stats.rv_continuous):
    """Density 2 x / top^2 on (0, top), with the bound as its own state."""

    def __init__(self, top=1.0, **options):
        super().__init__(a=0.0, b=top, **{k: v for k, v in options.items() if k not in "ab"})
        self.top = top

    def _updated_ctor_param(self):
        return {**super()._updated_ctor_param(), "top": self.top}

    def _pdf(self, x):
        return 2 * x / self.top**2

    def _cdf(self, x):
        return (x / self.top) ** 2

    def _ppf(self, q):
        return self.top * np.sqrt(q)


class Hidden(Ramp):
    """The bound lies in the frozen instance alone: freezing does not hand it on."""

    def _updated_ctor_param(self):
        return stats.rv_continuous._updated_ctor_param(self)

    def _get_support(self):
        return 0.0, self.top


def hidden(top):
    frozen = Hidden()()
    frozen.dist.top = top
    return frozen


def closed_over(shift):
    class Shifted(stats.rv_continuous):
        def _cdf(self, x):
            return stats.norm.cdf(x - shift)

        def _pdf(self, x):
            return stats.norm.pdf(x - shift)

        def _ppf(self, q):
            return shift + stats.norm.ppf(q)

    return Shifted(name="shifted")()


def histogram(low):
    return stats.rv_histogram(np.histogram(np.linspace(low, low + 1, 50), bins=5))()


OWN_STATE = {
    "bins": (histogram(0.0), histogram(10.0)),
    "bounds": (Ramp(1.0, name="r")(), Ramp(5.0, name="r")()),
    "set later": (hidden(1.0), hidden(5.0)),
    "closed over": (closed_over(0.0), closed_over(9.0)),
    "as norm": (stats.norm(0, 1), type("norm_gen", (type(stats.laplace),), {})(name="norm")(0, 1)),
}
if NEW:
    OWN_STATE["new"] = stats.Normal(mu=0.0, sigma=1.0), stats.Normal(mu=9.0, sigma=1.0)
    OWN_STATE["mixture"] = tuple(
        stats.Mixture(
            [stats.Normal(mu=0, sigma=1), stats.Normal(mu=5, sigma=1)], weights=[w, 1 - w]
        )
        for w in (0.2, 0.8)
    )
    OWN_STATE["made"] = tuple(
        stats.make_distribution(f)(a=2.0) for f in (stats.gamma, stats.invgamma)
    )


def quantile(marginal, p):
    return (marginal.icdf if hasattr(marginal, "icdf") else marginal.ppf)(p)


@pytest.mark.parametrize("kind", list(OWN_STATE))
def test_each_parameter_is_drawn_from_its_own_distribution(kind):
    first, second = OWN_STATE[kind]
    prior = ek.Prior({"a": first, "b": second})
    z = np.linspace(-2, 2, 9)
    u = prior.to_physical(np.stack([z, z], axis=1))
    for i, marginal in enumerate((first, second)):
        np.testing.assert_allclose(u[:, i], quantile(marginal, stats.norm.cdf(z)), rtol=1e-6)
        np.testing.assert_allclose(prior.to_unconstrained(u)[:, i], z, rtol=1e-5, atol=1e-7)
    assert np.all(np.isfinite(prior.logpdf(prior.sample(50, rng=0))))


@pytest.mark.parametrize("kind", OWN_STATE)
def test_fingerprints_tell_them_apart(kind):
    first, second = (ek.Prior({"a": marginal}) for marginal in OWN_STATE[kind])
    assert first.fingerprint() != second.fingerprint()
    again = ek.Prior({"a": OWN_STATE[kind][0]})
    again.sample(3, rng=0)
    assert first.fingerprint() == again.fingerprint()


def test_resume_refuses_a_prior_with_other_bins(tmp_path):
    def problem(low):
        return ek.InverseProblem(lambda u: u, ek.Prior({"a": histogram(low)}), 0.1, [0.5])

    ek.run(problem(0.0), ek.EKI(), n_members=10, n_steps=1, rng=0, checkpoint=tmp_path / "c")
    with pytest.raises(ek.CheckpointError, match="differs .* in its prior"):
        ek.resume(tmp_path / "c", problem(0.1))


def test_scipys_own_families_keep_their_fingerprints():
    """Those that checkpoints of earlier versions hold."""
    from ekitools.core.arrays import digest

    known = digest(("a", "norm", (0.0, 2.0), ()), ("b", "lognorm", (0.5,), (("scale", 2.0),)))
    prior = ek.Prior({"a": stats.norm(0, 2), "b": stats.lognorm(0.5, scale=2)})
    assert prior.fingerprint() == known


PROGRAM = """
import sys; sys.path.insert(0, "tests/priors")
from test_identity import OWN_STATE
import ekitools as ek
print([ek.Prior({"a": m}).fingerprint() for pair in OWN_STATE.values() for m in pair])
"""


def test_fingerprints_are_the_same_in_every_process(request):
    def run(seed):
        return subprocess.run(
            [sys.executable, "-c", PROGRAM],
            capture_output=True, text=True, check=True, cwd=request.config.rootpath,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(filter(None, sys.path))},
        ).stdout  # fmt: skip

    assert run("1") == run("2")


def test_descriptions_do_not_depend_on_what_was_computed():
    marginals = [marginal for pair in OWN_STATE.values() for marginal in pair]
    before = [describe(marginal) for marginal in marginals]
    for marginal in marginals:
        marginal.mean()
        marginal.median()
    assert [describe(marginal) for marginal in marginals] == before


def test_a_density_that_does_not_fit_its_support_is_refused():
    cut = type(stats.norm)(a=0.0, name="norm")(0, 1)
    with pytest.raises(ValueError, match=r"marginals\['a'\]: .* rises from 0 to 1 .*Normalise"):
        ek.Prior({"a": cut})


@new_only
@pytest.mark.parametrize("kind", ["Normal", "standard", "truncate", "exp", "Mixture", "gamma"])
def test_new_distributions_are_priors_like_the_old_ones(kind):
    one = {
        "Normal": lambda: stats.Normal(mu=1.0, sigma=2.0),
        "standard": lambda: stats.Normal(),
        "truncate": lambda: stats.truncate(stats.Normal(mu=1.0, sigma=2.0), lb=0.0),
        "exp": lambda: stats.exp(stats.Normal(mu=0.0, sigma=1.0)),
        "Mixture": lambda: stats.Mixture(
            [stats.Normal(mu=0, sigma=1), stats.Normal(mu=5, sigma=1)], weights=[0.3, 0.7]
        ),
        "gamma": lambda: stats.make_distribution(stats.gamma)(a=2.0),
    }[kind]()
    prior = ek.Prior({"k": one, "l": stats.lognorm(1.0)})
    draws = prior.sample(2000, rng=3)[:, 0]
    assert stats.kstest(draws, one.cdf).pvalue > 1e-3
    low, high = one.support()
    far = prior.to_physical(np.outer([-1e100, -37, 37, 1e100], np.ones(2)))[:, 0]
    assert np.all(np.isfinite(far))
    assert np.all((low < far) & (far < high))
    z = np.linspace(-4, 4, 9)[:, None] * np.ones(2)
    np.testing.assert_allclose(prior.to_unconstrained(prior.to_physical(z)), z, atol=1e-6)
    assert np.isnan(prior.to_physical(np.full((1, 2), np.nan))).all()
    expected = one.logpdf(draws[:5]) + stats.lognorm(1.0).logpdf(2.0)
    points = np.stack([draws[:5], np.full(5, 2.0)], axis=1)
    np.testing.assert_allclose(prior.logpdf(points), expected)
    assert "k: " in repr(prior)


@new_only
def test_an_old_and_a_new_normal_give_the_same_run():
    def end(marginal):
        prior = ek.Prior({"a": marginal})
        problem = ek.InverseProblem(lambda u: u, prior, 0.1, [0.5])
        return ek.run(problem, ek.EKI(), n_members=20, rng=0).u[-1]

    np.testing.assert_allclose(end(stats.norm(1, 2)), end(stats.Normal(mu=1, sigma=2)), rtol=1e-12)


@new_only
def test_a_tail_that_scipy_loses_is_finite():
    prior = ek.Prior({"a": stats.order_statistic(stats.Normal(), r=2, n=5)})
    far = prior.to_physical(np.array([[-37.0], [-20.0], [20.0], [37.0]]))
    assert np.all(np.isfinite(far))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: stats.poisson(3), TypeError, "frozen continuous .*relaxation.*round in the model"),
        (lambda: stats.poisson, TypeError, "relaxation.*round in the model"),
        (lambda: stats.gaussian_kde([0.0, 1.0, 3.0]), TypeError, "from_samples.*rv_histogram"),
        (lambda: stats.multivariate_normal([0, 0]), TypeError, r"ek.GaussianPrior\(mean, cov\)"),
        (lambda: stats.multivariate_normal, TypeError, r"ek.GaussianPrior\(mean, cov\)"),
        (lambda: stats.dirichlet([1, 1]), TypeError, r"ek.GaussianPrior\(mean, cov\)"),
        (lambda: histogram(0).dist, TypeError, r"family itself. Call it .* by dist\(...\)"),
        (lambda: 1.0, TypeError, r"frozen continuous .* got float.* scipy.stats.norm\(0, 1\)"),
    ],
)
def test_other_distributions_are_refused_with_the_remedy(make, error, message):
    with pytest.raises(error, match=message):
        ek.Prior({"a": make()})


@new_only
@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: stats.Normal, TypeError, "got the class Normal. Make an instance"),
        (lambda: stats.Normal(mu=[0, 1], sigma=1), TypeError, "scalar parameters, got arrays"),
        (lambda: stats.Normal(mu=0, sigma=-1), ValueError, "valid parameters"),
        (lambda: stats.Binomial(n=5, p=0.3), TypeError, "must be continuous.*round in the model"),
    ],
)
def test_new_distributions_that_are_no_marginals_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        ek.Prior({"a": make()})
