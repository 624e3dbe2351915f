"""The advice of `ek.summary` on the number of members."""

import numpy as np
import pytest

import ekitools as ek
from ekitools.results.trust import judge


def members_check(n_members, p, d, method=None, **options):
    problem = ek.problems.linear(p=p, d=d).problem
    result = ek.run(problem, method or ek.EKI(), n_members=n_members, rng=0, **options)
    (check,) = [check for check in judge(result) if check.topic == "Members"]
    return check


@pytest.mark.parametrize(
    ("n_members", "p", "d", "level", "advised"),
    [
        (8, 1, 2, "care", "n_members=10 "),  # fewer than ten
        (9, 2, 5, "care", "n_members=20 "),
        (10, 1, 5, "good", None),
        (15, 2, 5, "note", "n_members=20 "),  # fewer than ten for each direction
        (20, 2, 5, "good", None),
        (21, 20, 30, "care", "n_members=200 "),  # no more than p + 1
        (22, 20, 30, "note", "n_members=200 "),
        (20, 30, 2, "care", "n_members=32 "),  # the data tell of two directions
        (32, 30, 2, "good", None),
        (50, 200, 300, "care", "Use more members, or fewer parameters"),
    ],
)
def test_advice_names_the_number_of_members(n_members, p, d, level, advised):
    check = members_check(n_members, p, d)
    assert check.level == level
    assert (advised or "if the members are independent") in check.sentence
    assert ("Use " in check.sentence) == (advised is not None)


def test_the_advised_number_gets_no_further_advice():
    for p, d in ((1, 1), (3, 2), (7, 20)):
        n_members = max(10 * min(p, d), p + 2)
        assert members_check(n_members, p, d).level == "good"
        assert members_check(n_members - 1, p, d).level != "good"


def test_a_sampler_is_judged_by_its_effective_members():
    check = members_check(60, 2, 5, ek.TemperedSMC())
    assert check.level == "care"
    assert "tails are not reliable. Use more members." in check.sentence


def test_members_that_fail_count_as_missing():
    problem = ek.problems.linear(p=2, d=5).problem

    def fails_sometimes(u):
        return np.full(5, np.nan) if u[0] > 0.3 else problem.model(u)

    failing = ek.InverseProblem(fails_sometimes, problem.prior, problem.noise, problem.data)
    result = ek.run(failing, ek.EKI(), n_members=20, n_steps=1, rng=0, on_failure="drop")
    (check,) = [check for check in judge(result) if check.topic == "Members"]
    assert check.level in ("note", "care")
    assert "n_members=20 " in check.sentence


LOCALIZED = {
    "distance": ek.ETKI(localization=ek.localization.Distance(np.arange(40), np.arange(50), 5.0)),
    "within": ek.Nesterov(ek.EKI(localization=ek.localization.Correlation())),
}


@pytest.mark.parametrize(
    ("n_members", "advised"), [(29, False), (30, True), (41, True), (42, False)]
)
def test_localization_is_advised_from_thirty_members_up_to_as_many_as_parameters(
    n_members, advised
):
    check = members_check(n_members, 40, 50)
    assert ("Or use localization: ek.ETKI(localization=" in check.sentence) == advised
    assert ("span fewer directions" in check.sentence) == (n_members <= 41)


def test_the_advised_call_can_be_typed():
    sentence = members_check(40, 40, 50).sentence
    call = sentence.split("localization: ")[1].split(", or")[0]
    assert eval(call) == ek.ETKI(localization=ek.localization.Correlation())


@pytest.mark.parametrize("method", LOCALIZED.values(), ids=LOCALIZED)
def test_localized_members_are_not_said_to_span_few_directions(method):
    check = members_check(36, 40, 50, method, n_steps=3)
    assert check.level == "note"
    assert check.sentence == "36 effective members for 40 parameters, with localization."


def test_too_low_a_coverage_with_few_members_points_to_localization():
    model = ek.LinearModel(np.random.default_rng(0).normal(size=(300, 200)))
    truth = np.random.default_rng(1).normal(size=200)
    problem = ek.InverseProblem(model, ek.GaussianPrior(np.zeros(200), 1.0), 1.0, model(truth))
    result = ek.run(problem, ek.ETKI(), n_members=30, rng=0)
    (check,) = [check for check in judge(result) if check.topic == "Coverage"]
    assert check.level == "care"
    assert check.sentence.endswith("may be wrong. Use localization as described under Members.")
