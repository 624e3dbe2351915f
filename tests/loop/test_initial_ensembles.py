"""An ensemble of one's own, checked before any model run."""

import numpy as np
import pytest
from scipy import stats

import ekitools as ek

PRIOR = ek.Prior({"share": stats.uniform(0, 1), "rate": stats.lognorm(1.0)})
PROBLEM = ek.InverseProblem(lambda u: u[:1] + u[1:], PRIOR, 0.1, [1.5])


def with_member(value, parameter=0, dtype=np.float64):
    ensemble = PRIOR.sample(40, rng=0).astype(dtype)
    ensemble[3, parameter] = value
    return ensemble


STARTS = {
    "run": lambda u: ek.run(PROBLEM, ek.EKI(), ensemble=u, rng=0),
    "sampler": lambda u: ek.run(PROBLEM, ek.TemperedSMC(), ensemble=u, rng=0),
    "AskTell": lambda u: ek.AskTell(PROBLEM, ek.GNKI(), ensemble=u, rng=0),
    "integrate": lambda u: ek.integrate(PROBLEM, ek.EKIFlow(), t_span=(0, 1), ensemble=u, rng=0),
}


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize(
    ("value", "parameter", "message"),
    [
        (0.0, 0, r"share = 0.0 in member 3, which lies on the lower bound 0\..*inside.*sample"),
        (1.0, 0, "share = 1.0 in member 3, which lies on the upper bound 1"),
        (-0.01, 0, r"share = -0.01 in member 3, which lies outside \(0, 1\)"),
        (1.2, 0, r"share = 1.2 in member 3, which lies outside \(0, 1\)"),
        (0.0, 1, "rate = 0.0 in member 3, which lies on the lower bound 0"),
        (-1.0, 1, r"rate = -1.0 in member 3, which lies outside \(0, inf\)"),
    ],
)
def test_a_member_on_or_outside_a_bound_is_named(start, value, parameter, message):
    with pytest.raises(ValueError, match=message):
        STARTS[start](with_member(value, parameter))


def test_several_members_are_counted():
    ensemble = with_member(1.0, dtype=np.float32)
    ensemble[7, 1] = 0
    with pytest.raises(ValueError, match=r"upper bound 1\. 2 members are affected"):
        STARTS["run"](ensemble)


def test_members_next_to_a_bound_are_welcome():
    result = STARTS["run"](with_member(np.nextafter(0.0, 1.0)))
    assert result.sizes["member"] == 40


def test_a_prior_of_a_users_own_is_asked_by_its_map():
    class Half(ek.GaussianPrior):
        def to_unconstrained(self, u):
            with np.errstate(divide="ignore", invalid="ignore"):
                return np.log(u)

        def to_physical(self, z):
            return np.exp(z)

    problem = ek.InverseProblem(lambda u: u, Half([0.0, 0.0], 1.0), 0.1, [1.0, 1.0])
    ensemble = np.abs(np.random.default_rng(0).normal(size=(9, 2)))
    ensemble[2, 1] = -1
    with pytest.raises(ValueError, match=r"u1 = -1.0 in member 2\. Move"):
        ek.run(problem, ek.EKI(), ensemble=ensemble, rng=0)


def test_the_sampler_refuses_members_that_are_not_finite():
    z = np.random.default_rng(0).normal(size=(9, 2))
    z[4, 1] = np.inf
    with pytest.raises(ValueError, match="unconstrained coordinates, got member 4"):
        ek.TemperedSMC().init(z, PROBLEM)


def test_outputs_of_more_dimensions_are_refused_with_the_remedy():
    loop = ek.AskTell(PROBLEM, ek.EKI(), n_members=4, rng=0)
    with pytest.raises(ValueError, match=r"\(4, 1\), got \(4, 1, 1\).*reshape\(len\(g\), -1\)"):
        loop.tell(np.ones((4, 1, 1)))
