"""The status at the end of a run never claims more than the ensemble holds."""

import json

import numpy as np
import pytest
from scipy import stats
from zoo.results import same

import ekitools as ek
from ekitools.core.statuses import Losses, doubted
from ekitools.loop.ending import concluded
from ekitools.results.reading import losses, members_at
from ekitools.typing import Status

A = np.array([[1.0, 1.0], [1.0, -1.0]])
REACHED = Status("posterior_reached", "The ensemble is the posterior.", "good", posterior=True)


def flaky(failing):
    """A linear problem whose model fails where ``failing(u)``."""

    def model(u):
        if failing(u):
            raise RuntimeError("solver")
        return A @ u

    return ek.InverseProblem(model, ek.GaussianPrior([0.0, 0.0], 1.0), 0.1, [1.0, 2.0])


def told(loop, lost=None):
    """Drive the loop; ``lost`` maps an iteration to rows that fail there."""
    while not loop.done:
        g = loop.ask() @ A.T
        g[(lost or {}).get(loop.n, [])] = np.nan
        loop.tell(g)
    return loop.result()


def a_loop(n_members=20, **options):
    problem, options = flaky(lambda u: False), {"on_failure": "drop", **options}
    return ek.AskTell(problem, ek.EKI(ek.ESMDA(3)), n_members=n_members, rng=0, **options)


def level(result, topic):
    (found,) = [check for check in ek.summary(result).checks if check.topic == topic]
    return found.level


# Lost members


@pytest.mark.parametrize(
    ("lost", "code", "expected", "posterior"),
    [
        ({}, "posterior_reached", "good", 1),
        ({0: range(4)}, "posterior_reached", "good", 1),  # a fifth, and no more
        ({0: range(5)}, "posterior_reached", "care", 1),
        ({3: range(5)}, "posterior_reached", "care", 1),
        ({0: range(3), 3: range(2)}, "posterior_reached", "care", 1),
        ({0: range(10)}, "posterior_reached", "care", 1),
        ({0: range(11)}, "members_lost", "bad", 0),
        ({1: range(6), 3: range(6)}, "members_lost", "bad", 0),
    ],
)
def test_the_status_follows_the_share_of_members_that_was_lost(lost, code, expected, posterior):
    result = told(a_loop(), lost)
    attrs = result.attrs
    assert (attrs["status_code"], attrs["status_level"]) == (code, expected)
    assert attrs["posterior"] == posterior
    assert level(result, "Status") == expected
    n_lost = sum(map(len, lost.values()))
    if expected != "good":
        sentence = f"Only {20 - n_lost} of 20 members are left"
        assert sentence in attrs["status"]
        assert "approximates the posterior" not in attrs["status"]
        text = str(ek.summary(result))
        assert text.count(sentence) == 2  # by the status and by the check of failures
        assert f"20, {20 - n_lost} left" in text
        assert ek.summary(result).trust.level == expected


def test_the_loop_and_its_result_say_the_same():
    loop = a_loop()
    result = told(loop, {0: range(11)})
    assert loop.status.code == result.attrs["status_code"] == "members_lost"
    assert not loop.status.posterior


def test_members_that_were_replaced_are_not_lost():
    result = told(a_loop(on_failure="resample"), {0: range(8)})
    assert losses(result) == Losses(20, 0, 0)
    assert result.attrs["status_level"] == "good"
    result = told(a_loop(on_failure="resample"), {0: range(8), 3: range(6)})
    assert losses(result) == Losses(20, 0, 6)
    assert "6 failed at the last evaluation" in result.attrs["status"]


def test_a_last_ensemble_that_is_not_evaluated_counts_those_that_were_dropped():
    result = told(a_loop(evaluate_final=False), {1: range(9)})
    assert losses(result) == Losses(20, 9, 0)
    assert "Only 11 of 20 members are left: 9 were dropped." in result.attrs["status"]


def test_refused_proposals_of_a_sampler_are_no_losses():
    problem = flaky(lambda u: u[0] > 0.5)
    result = ek.run(problem, ek.TemperedSMC(), n_members=60, rng=0)
    assert not result.failed[0].any()  # the first members were drawn until all ran
    assert result.failed[1:].any("member").all()
    assert losses(result) == Losses(60, 0, 0)
    assert result.attrs["status_level"] == level(result, "Status")
    assert level(result, "Failures") == "note"


@pytest.mark.parametrize("end", [REACHED, Status("stopped", "A rule fired.", "good")])
def test_a_doubt_lowers_the_level_and_never_raises_it(end):
    few, most = Losses(10, 3, 0), Losses(10, 6, 0)
    assert doubted(end, Losses(10, 2, 0)) is end
    assert doubted(end, few).level == "care"
    assert doubted(end, most).level == "bad"
    assert not doubted(end, most).posterior
    assert doubted(end._replace(level="care"), few).level == "care"
    assert doubted(end, Losses(10, 0, 0), ["A bound is reached."]).level == "care"


def test_a_status_that_claims_no_posterior_keeps_its_code_and_sentence():
    end = doubted(Status("stopped", "A rule fired.", "good"), Losses(10, 6, 0))
    assert end.code == "stopped"
    assert end.sentence.startswith("A rule fired. Only 4 of 10 members")


# Failed members at the end


def test_members_that_fail_at_the_end_are_not_in_the_mean_and_nothing_is_lost():
    loop, clean = a_loop(), told(a_loop())
    result = told(loop, {3: [2, 5]})
    left = np.delete(np.arange(20), [2, 5])
    assert np.isnan(result.u[-1, [2, 5]]).all()
    np.testing.assert_array_equal(result.u[-1, left], clean.u[-1, left])
    mean = clean.u[-1, left].mean("member")
    np.testing.assert_array_equal(result.u[-1].mean("member"), mean)
    failures = json.loads(result.attrs["failures"])
    assert {f["member"]: f["u"] for f in failures} == {
        j: clean.u[-1, j].values.tolist() for j in (2, 5)
    }
    assert result.failed[-1].values.nonzero()[0].tolist() == [2, 5]


def test_failures_before_the_end_keep_their_parameters_in_the_result():
    result = told(a_loop(on_failure="resample"), {1: [4]})
    assert np.isfinite(result.u).all()
    assert "u" not in json.loads(result.attrs["failures"])[0]
    u, _ = members_at(result, 1).present()
    assert len(u) == 19


@pytest.mark.parametrize("policy", ["drop", "resample"])
def test_a_run_that_ends_with_failures_resumes_as_if_it_had_not(policy, tmp_path):
    problem = flaky(lambda u: u[0] > 1.5)
    method, options = ek.EKI(ek.FixedStep(0.2)), {"n_members": 30, "rng": 1, "on_failure": policy}
    whole = ek.run(problem, method, n_steps=4, **options)
    first = ek.run(problem, method, n_steps=1, checkpoint=tmp_path / "run", **options)
    assert np.isnan(first.u[-1]).any()
    assert same(ek.resume(tmp_path / "run", problem, n_steps=4), whole)


def test_the_result_of_an_error_keeps_the_members_that_failed():
    with pytest.raises(ek.RunError) as caught:
        told(a_loop(on_failure="raise"), {1: [3]})
    assert np.isfinite(caught.value.result.u).all()


def test_thousands_of_parameters_are_not_copied_into_the_list_of_failures():
    p = 1001
    problem = ek.InverseProblem(
        ek.FunctionModel(lambda u: u[:, :1], vectorized=True),
        ek.GaussianPrior(np.zeros(p), 1.0), 1.0, [0.0],
    )  # fmt: skip
    loop = ek.AskTell(problem, ek.EKI(), n_members=10, rng=0, on_failure="drop")
    loop.tell(np.where(np.arange(10)[:, None] == 3, np.nan, np.arange(10.0)[:, None]))
    assert "u" not in json.loads(loop.result().attrs["failures"])[0]


# Bounds


PRIOR = ek.Prior({"share": stats.uniform(2, 3), "level": stats.norm(0, 1)})
NOTHING = Losses(50, 0, 0)


def bounded(y, method):
    problem = ek.InverseProblem(lambda u: u, PRIOR, 1e-6, [y, 0.0])
    return ek.run(problem, method, n_members=60, rng=0)


@pytest.mark.parametrize(
    ("y", "method"),  # both overshoot
    [(7.0, ek.EKI(ek.ESMDA(4))), (9.0, ek.GNKI(damping=0.5))],
    ids=["EKI", "GNKI"],
)
def test_members_at_a_bound_are_named(y, method):
    bound, result = 5, bounded(y, method)
    assert f'have parameter "share" at the bound {bound} of its prior' in result.attrs["status"]
    assert '"level"' not in result.attrs["status"]
    assert "at the bound" in str(ek.summary(result))
    assert ek.summary(result).trust.level == "care"


@pytest.mark.parametrize(("z", "bound"), [(8.3, "5"), (-8.3, "2"), (20.0, "5"), (-37.5, "2")])
def test_a_status_that_was_good_is_not_where_members_are_at_a_bound(z, bound):
    ensemble = np.random.default_rng(0).normal(size=(50, 2))
    assert concluded(REACHED, PRIOR, PRIOR.names, ensemble, NOTHING) is REACHED
    ensemble[:3, 0] = z
    status = concluded(REACHED, PRIOR, PRIOR.names, ensemble, NOTHING)
    assert status.level == "care"
    assert status.posterior
    assert f'3 of 50 members have parameter "share" at the bound {bound} of' in status.sentence


def test_many_bounds_are_counted():
    prior = ek.Prior({f"u{i}": stats.uniform(0, 1) for i in range(9)})
    status = concluded(REACHED, prior, prior.names, np.full((50, 9), -9.0), NOTHING)
    assert status.sentence.count("have parameter") == 5
    assert "4 further bounds are reached too." in status.sentence


def test_a_prior_without_bounds_or_without_whitened_coordinates_has_none_to_reach():
    far = np.full((50, 2), 99.0)
    gaussian = ek.GaussianPrior([0.0, 0.0], 1.0)
    assert concluded(REACHED, gaussian, None, far, NOTHING) is REACHED

    class Own:
        def to_physical(self, z):
            return np.tanh(z)

    assert concluded(REACHED, Own(), None, far, NOTHING) is REACHED


def test_members_within_the_bounds_are_not_named():
    assert bounded(3.0, ek.EKI()).attrs["status_level"] == "good"
    assert bounded(4.999, ek.EKI()).attrs["status_level"] == "good"


def test_a_far_tail_is_no_bound():
    prior = ek.Prior({"rate": stats.lognorm(0.1), "level": stats.norm(0, 1)})
    problem = ek.InverseProblem(lambda u: u, prior, 1e-4, [5.0, 12.0])
    result = ek.run(problem, ek.EKI(), n_members=60, rng=0)
    assert float(result.u[-1].sel(parameter="level").mean()) > 8
    assert result.attrs["status_level"] == "good"


# Starts of a sampler


def two_modes(n, prior_share):
    """A posterior with modes at -1 and 1, and a Gaussian that covers the second one only."""
    problem = ek.InverseProblem(lambda u: u**2, ek.GaussianPrior(0.0, [1.0]), 0.01, [1.0])
    start = ek.GaussianStart((1.0,), ((1.0,),), (0.07,), prior_share=prior_share)
    return ek.run(problem, ek.TemperedSMC(start=start), n_members=n, rng=0)


def test_a_sampler_with_a_start_claims_only_what_the_start_covers():
    result = two_modes(200, prior_share=0)
    assert float(result.u[-1].min()) > 0  # the other mode was missed
    assert result.attrs["status_level"] == "note"
    assert "a mode outside the start is not found" in result.attrs["status"]
    assert "they sample the posterior." not in result.attrs["status"]
    assert ek.summary(result).trust.level == "note"


def test_a_start_with_draws_of_the_prior_claims_what_they_reach():
    """Of n draws of N(0, 1), 0.086 n are in the two modes, effectively (their r is 1/0.086)."""
    few, many = two_modes(400, prior_share=0.2), two_modes(4000, prior_share=0.2)
    assert few.attrs["status_level"] in ("note", "care")
    assert "they sample the posterior" not in few.attrs["status"]
    assert many.attrs["status_level"] == "good"
    assert "within each of 2 modes" in many.attrs["status"]
    assert "would show another mode" in many.attrs["status"]
    assert ek.summary(many).trust.level == "good"


def test_a_narrow_posterior_is_beyond_the_reach_of_the_prior():
    problem = ek.InverseProblem(
        ek.LinearModel([[1.0]]), ek.GaussianPrior(0.0, [1.0]), 1e-6, [1.0]
    )  # 0.003 of n draws of the prior
    start = ek.GaussianStart((1.0,), ((1.0,),), (0.001,))
    result = ek.run(problem, ek.TemperedSMC(start=start), n_members=200, rng=0)
    assert result.attrs["status_level"] == "note"
    assert "A mode outside the Gaussian of the start can be missed" in result.attrs["status"]
    assert ek.summary(result).trust.level == "note"


@pytest.mark.parametrize(("mean", "sd", "text"), [(0.0, 0.1, "too narrow"), (9.0, 1.0, "away")])
def test_a_start_far_from_the_particles_is_doubted(mean, sd, text):
    problem = ek.InverseProblem(
        ek.LinearModel([[1.0]]), ek.GaussianPrior(0.0, [1.0]), 1.0, [0.0]
    )  # posterior N(0, 1/2)
    method = ek.TemperedSMC(start=ek.GaussianStart((mean,), ((1.0,),), (sd,), prior_share=0))
    result = ek.run(problem, method, n_members=200, rng=0)
    if result.attrs["status_code"] == "posterior_reached":
        assert text in result.attrs["status"]
    assert result.attrs["status_level"] == "care"


def test_a_sampler_from_the_prior_is_not_qualified():
    problem = flaky(lambda u: False)
    result = ek.run(problem, ek.TemperedSMC(), n_members=200, rng=0)
    assert result.attrs["status_level"] == "good"
    assert "they sample the posterior." in result.attrs["status"]
