"""The plan of `solve`: which stage follows on which, without any model."""

from itertools import product

import pytest

from ekitools.solving.plan import (
    Approximate,
    Check,
    Emulate,
    Facts,
    Sample,
    Seen,
    advice,
    following,
)


def ended(stage, runs=1000, **seen):
    return Seen(stage, runs, **{"reached": True, **seen})


def refused(n, few=False):
    return Seen(Check(n), n, reached=True, made=False, verdict="not confirmed", few=few)


GNKI = Approximate("GNKI", "", 200, 10_000)
GOOD = ended(GNKI, 2000, shift=0.1)


@pytest.mark.parametrize(
    ("facts", "budget", "first"),
    [
        (Facts(3), 20_000, "GNKI with 200 members"),
        (Facts(3), 5_000, "GNKI with 100 members"),
        (Facts(3), 500, "GNKI with 50 members"),
        (Facts(100), 20_000, "GNKI with 300 members"),
        (Facts(1000), 20_000, "ETKI with 666 members and localization by correlation"),
        (Facts(1000, located=True), 5_000, "ETKI with 166 members and localization by distance"),
        (Facts(1000, unknown_noise=True), 5_000, "EKI with 166 members and localization by cor"),
        (Facts(3, stochastic=True), 20_000, "EKI with 200 members"),
        (Facts(3, noise=False), 20_000, "TemperedSMC with 653 particles from the prior"),
    ],
)
def test_the_first_stage_is_cheap_and_fits_the_problem(facts, budget, first):
    stage, _ = following(facts, [], budget)
    assert str(stage).startswith(first)


def test_a_good_ensemble_is_checked_and_a_confirmed_one_ends():
    assert following(Facts(3), [GOOD], 20_000).stage == Check(400)
    confirmed = Seen(Check(400), 400, reached=True, made=False, verdict="confirmed")
    assert following(Facts(3), [GOOD, confirmed], 20_000).stage is None


def test_an_ensemble_that_is_clearly_wrong_is_not_checked():
    wrong = GOOD._replace(shift=4.0)
    assert following(Facts(3), [wrong], 20_000).stage == Sample(586, 17_600, "result")
    spent = GOOD._replace(reached=False, shift=None)
    assert isinstance(following(Facts(3), [spent], 20_000).stage, Sample)


@pytest.mark.parametrize("said", ["corrected", "not confirmed"])
def test_without_confirmation_a_sampler_follows(said):
    check = refused(400)._replace(verdict=said)
    assert following(Facts(3), [GOOD, check], 20_000).stage == Sample(573, 17_200, "result")


def test_a_check_that_was_too_small_is_made_larger_once_or_twice():
    seen = [GOOD, refused(400, few=True)]
    assert following(Facts(3), seen, 20_000).stage == Check(1600)
    seen.append(refused(1600, few=True))
    assert isinstance(following(Facts(3), seen, 20_000).stage, Sample)


def test_the_check_of_a_sample_is_made_larger_with_the_runs_that_are_left():
    """A sample has no bias, so more draws can confirm it."""
    emulated = ended(Emulate(200, 900), 500)
    seen = [GOOD._replace(runs=700), refused(200), emulated, refused(200, few=True)]
    assert following(Facts(3), seen, 2200).stage == Check(600)
    assert following(Facts(3), seen, 1900).stage is None
    assert following(Facts(3), seen, 9000).stage == Check(800)
    assert following(Facts(3), [*seen[:1], refused(200, few=True)], 1600).stage is None


def test_an_emulator_follows_a_doubtful_ensemble():
    spent = GOOD._replace(runs=1500, finished=False)
    assert following(Facts(3, emulates=True), [spent], 3000).stage == Emulate(400, 1300)
    assert following(Facts(3), [spent], 3000).stage == Check(200)
    assert following(Facts(3, emulates=True), [spent], 9000).stage == Emulate(400, 2000)
    assert following(Facts(3, emulates=True), [GOOD._replace(shift=0.3)], 5000).stage == Emulate(
        400, 2000
    )
    assert following(Facts(3, emulates=True), [GOOD], 5000).stage == Check(200)
    many = Facts(30, emulates=True)  # the runs of the check also teach the emulator
    assert following(many, [GOOD._replace(shift=0.3)], 20_000).stage == Check(400)


def test_the_last_check_of_a_sample_uses_all_runs():
    seen = [GOOD._replace(runs=700), ended(Emulate(200, 900), 300)]
    assert following(Facts(3), seen, 1500).stage == Check(500)
    assert following(Facts(3), seen, 1700).stage == Check(200)
    assert following(Facts(3), [GOOD], 2500).stage == Check(200)


def test_a_sample_that_is_not_confirmed_is_followed_by_one_from_the_prior():
    sample = ended(Sample(573, 17_200, "result"), 5000)
    seen = [GOOD, refused(400), sample, refused(400)]
    assert following(Facts(3), seen, 20_000).stage == Sample(500, 11_800, "prior")


def test_an_emulator_comes_first_where_runs_are_few():
    facts = Facts(3, emulates=True)
    seen = [GOOD._replace(runs=700), refused(200)]
    assert following(facts, seen, 2000).stage == Emulate(200, 900)
    assert following(facts, seen, 20_000).stage == Sample(623, 18_700, "result")
    assert following(Facts(3), seen, 2000).stage is None


def test_many_parameters_are_not_sampled():
    decision = following(Facts(50), [GOOD, refused(400)], 20_000)
    assert decision.stage is None
    assert "50 parameters cannot be checked" in decision.why


def test_signs_of_several_modes_lead_to_the_prior():
    """Draws near one mode confirm what starts near it, so the sampler begins at the prior."""
    facts = Facts(3, emulates=True)
    torn = GOOD._replace(torn=True, shift=None)
    contradicted = refused(400)._replace(torn=True)
    for seen in ([torn], [GOOD, contradicted]):
        stage, _ = following(facts, seen, 20_000)
        assert isinstance(stage, Sample)
        assert stage.start == "prior"
        assert following(facts, seen, 3500).stage is None
    whole = [torn, ended(Sample(500, 9000, "prior"), 9000), refused(400)]
    assert isinstance(following(facts, whole, 20_000).stage, Emulate)


def test_an_ensemble_that_was_lost_is_no_start():
    lost = ended(GNKI, reached=False, made=False)
    assert following(Facts(3), [lost], 20_000).stage == Sample(620, 18_600, "prior")
    assert following(Facts(3, emulates=True), [lost], 3000).stage is None


def test_no_plan_exceeds_its_budget_or_goes_on_for_ever():
    """Every stage takes all that it may, and nothing is confirmed."""
    cases = product((1, 12, 40, 500), (500, 999, 2500, 8000, 20_000, 1_000_000), (False, True))
    for p, budget, emulates in cases:
        for few, reached, noise in product((False, True), repeat=3):
            facts, seen = Facts(p, emulates=emulates, noise=noise), []
            for _ in range(20):
                stage, why = following(facts, seen, budget)
                assert why
                if stage is None:
                    break
                if isinstance(stage, Check):
                    seen.append(refused(stage.n, few))
                else:
                    # a sampler may also end early
                    runs = stage.most_runs if few else stage.most_runs // 2
                    seen.append(ended(stage, runs, reached=reached))
                assert sum(each.runs for each in seen) <= budget
            else:
                pytest.fail(f"no end: {facts}, {budget}")


def test_the_advice_names_what_more_runs_are_for():
    facts = Facts(3)
    assert "only reduce the sampling error" in advice(
        facts, [GOOD, refused(400)._replace(verdict="confirmed")], 20_000
    )
    small = [ended(Approximate("GNKI", "", 50, 400), 400), refused(100)]
    assert "budget=5000) continues with: TemperedSMC" in advice(facts, small, 500)
    many = [ended(Approximate("ETKI", "Correlation", 100, 2000), 1000), refused(200)]
    assert "starts with GNKI with 300 members" in advice(Facts(100), many, 2000)
    large = [ended(Approximate("GNKI", "", 300, 20_000), 3000), refused(400)]
    assert "would not change the verdict" in advice(Facts(100), large, 20_000)


def test_lines_of_the_path_say_what_was_done_and_seen():
    seen = GOOD._replace(why="Begin at the prior", saw="Done.")
    assert seen.line == "Begin at the prior. GNKI with 200 members: 2000 model runs. Done."
