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
    assert (advised or "if they are independent") in check.sentence
    assert ("Use " in check.sentence) == (advised is not None)


def test_the_advised_number_gets_no_further_advice():
    for p, d in ((1, 1), (3, 2), (7, 20)):
        n_members = max(10 * min(p, d), p + 2)
        assert members_check(n_members, p, d).level == "good"
        assert members_check(n_members - 1, p, d).level != "good"


def test_a_sampler_is_judged_by_its_effective_members():
    check = members_check(60, 2, 5, ek.TemperedSMC())
    assert check.level == "care"
    assert "tails hardly at all. Use more members." in check.sentence


def test_members_that_fail_count_as_missing():
    problem = ek.problems.linear(p=2, d=5).problem

    def fails_sometimes(u):
        return np.full(5, np.nan) if u[0] > 0.3 else problem.model(u)

    failing = ek.InverseProblem(fails_sometimes, problem.prior, problem.noise, problem.data)
    result = ek.run(failing, ek.EKI(), n_members=20, n_steps=1, rng=0, on_failure="drop")
    (check,) = [check for check in judge(result) if check.topic == "Members"]
    assert check.level in ("note", "care")
    assert "n_members=20 " in check.sentence
