"""Step rules and stopping rules, against their formulas and in runs."""

import math

import numpy as np
import pytest

import ekitools as ek
from ekitools.typing import Progress, Seen


def seen(misfit, n=0, t=0.0, n_data=10, d_norm=math.nan):
    return Seen(n, t, 1.0 - t, np.asarray(misfit, dtype=float), n_data, lambda: d_norm)


def progress(**changes):
    return Progress(**({"residual": 5.0, "n_data": 4, "spread": 0.5, "trace": (4.0,)} | changes))


def test_misfit_controller_is_the_formula_of_iglesias_and_yang():
    misfit = np.array([100.0, 300.0])  # mean 200, variance 20000
    expected = max(10 / (2 * 200), math.sqrt(10 / (2 * 20000)))
    assert ek.MisfitController().step(seen(misfit)) == pytest.approx(expected)
    even = np.array([200.0, 200.1])  # nearly equal misfits: the variance allows more
    expected = max(10 / (2 * 200.05), math.sqrt(10 / (2 * 0.005)))
    assert ek.MisfitController().step(seen(even)) == pytest.approx(expected)


def test_misfit_controller_takes_what_remains_where_the_data_say_nothing():
    assert ek.MisfitController().step(seen([0.0, 0.0], t=0.75)) == 0.25


def test_norm_step_is_the_published_formula():
    assert ek.NormStep(2.0, 0.5).step(seen([1.0, 2.0], d_norm=3.5)) == 0.5


def test_esmda_takes_its_factors_in_turn_and_ends_at_one():
    rule = ek.ESMDA((4.0, 2.0, 4.0))
    assert [rule.step(seen([1.0, 2.0], n=n)) for n in range(3)] == [0.25, 0.5, 0.25]
    assert ek.ESMDA(3).steps == (1 / 3,) * 3
    problem = linear()
    result = ek.run(problem, ek.EKI(ek.ESMDA(3)), n_members=20, rng=0)
    assert result.sizes["iteration"] == 4
    assert float(result.t[-1]) == 1.0
    assert result.attrs["status_code"] == "posterior_reached"


def linear(noise=0.01):
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(8, 3))
    data = matrix @ np.array([1.0, -1.0, 0.5]) + math.sqrt(noise) * rng.normal(size=8)
    return ek.InverseProblem(
        ek.LinearModel(matrix), ek.GaussianPrior(np.zeros(3), 4.0), noise, data
    )


@pytest.mark.parametrize(
    ("step", "n_updates"), [(ek.FixedStep(0.25), 4), (ek.FixedStep(0.4), 3), (ek.FixedStep(7.0), 1)]
)
def test_a_run_ends_exactly_at_one_whatever_the_step(step, n_updates):
    result = ek.run(linear(), ek.EKI(step), n_members=10, rng=0)
    assert result.sizes["iteration"] == n_updates + 1
    assert float(result.t[-1]) == 1.0
    assert float(result.step.sum()) == pytest.approx(1.0, rel=1e-12)


def test_norm_step_in_a_run_is_computed_from_the_ensemble():
    problem = linear()
    method = ek.EKI(ek.NormStep(h=0.5, eps=1e-3), t_end=None, perturbed=False)
    result = ek.run(problem, method, n_members=6, n_steps=1, rng=0)
    g, r = result.g[0].values, (result.g[0] - result.y).values
    d = r @ (g - g.mean(0)).T / 0.01 / 6  # Γ = 0.01 I
    assert float(result.step[0]) == pytest.approx(0.5 / (np.linalg.norm(d) + 1e-3), rel=1e-10)


def test_discrepancy_stops_at_the_first_ensemble_within_the_noise():
    method = ek.EKI(ek.FixedStep(0.02), t_end=None, perturbed=False, stop=ek.Discrepancy(1.2))
    result = ek.run(linear(), method, n_members=30, rng=0)
    residual = np.linalg.norm((result.g.mean("member") - result.y) / 0.1, axis=1)
    level = 1.2 * math.sqrt(8)
    assert result.attrs["status_code"] == "discrepancy_reached"
    assert residual[-1] <= level < residual[-2]
    assert "tau" in result.attrs["status"]


def test_collapse_stops_a_run_that_goes_on_for_ever():
    method = ek.EKI(ek.FixedStep(1e6), t_end=None, perturbed=False, stop=(ek.Collapsed(1e-2),))
    result = ek.run(linear(), method, n_members=30, rng=0)
    assert result.attrs["status_code"] == "collapsed"
    spread = np.sqrt(result.u.var("member", ddof=1).sum("parameter"))
    assert float(spread[-1] / spread[0]) <= 1e-2 < float(spread[-2] / spread[0])
    np.testing.assert_allclose(result.history_spread, spread / spread[0], rtol=1e-10)


def test_no_progress_stops_where_the_misfit_no_longer_falls():
    method = ek.EKI(ek.FixedStep(1.0), t_end=None, perturbed=False, stop=ek.NoProgress(1e-3, 2))
    result = ek.run(linear(), method, n_members=30, rng=0)
    trace = result.history_misfit.values
    assert result.attrs["status_code"] == "no_progress"
    assert min(trace[-2:]) >= trace[-3] * (1 - 1e-3)
    falls = [
        min(trace[i - 1 : i + 1]) < trace[i - 2] * (1 - 1e-3) for i in range(2, len(trace) - 1)
    ]
    assert all(falls)


def test_a_budget_is_said_and_a_run_without_any_end_has_one(monkeypatch):
    result = ek.run(linear(), ek.EKI(ek.FixedStep(0.1)), n_members=10, n_steps=3, rng=0)
    assert result.attrs["status_code"] == "budget_spent"
    assert "3 steps" in result.attrs["status"]
    assert result.sizes["iteration"] == 4
    monkeypatch.setattr("ekitools.loop.asktell.MAX_STEPS", 5)
    result = ek.run(linear(), ek.EKI(ek.FixedStep(0.1), t_end=None), n_members=10, rng=0)
    assert (result.attrs["status_code"], result.sizes["iteration"]) == ("budget_spent", 6)


@pytest.mark.parametrize(
    ("rule", "above", "below"),
    [
        (ek.Discrepancy(1.0), {"residual": 2.001}, {"residual": 2.0}),
        (ek.Collapsed(0.1), {"spread": 0.11}, {"spread": 0.1}),
        (ek.NoProgress(0.1, 1), {"trace": (4.0, 3.5)}, {"trace": (4.0, 3.7)}),
        (ek.NoProgress(0.1, 2), {"trace": (4.0, 4.0)}, {"trace": (4.0, 4.0, 4.0)}),
    ],
)
def test_thresholds(rule, above, below):
    assert rule.check(progress(**above)) is None
    status = rule.check(progress(**below))
    assert len(status.sentence) > 40


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ek.FixedStep(0.0), "h: must be positive and finite, got 0.0"),
        (lambda: ek.FixedStep(math.nan), "h: must be positive and finite"),
        (lambda: ek.NormStep(-1.0), "h: must be positive and finite, got -1.0"),
        (lambda: ek.NormStep(1.0, 0.0), "eps: must be positive and finite, got"),
        (lambda: ek.ESMDA(0), "inflation: must be at least 1, got 0"),
        (lambda: ek.ESMDA((2.0, 3.0)), "inflation: the inverses must add up to 1, got 0.8333"),
        (lambda: ek.ESMDA((2.0, -2.0)), "inflation: must be positive"),
        (lambda: ek.Discrepancy(0.0), "tau: must be positive"),
        (lambda: ek.Collapsed(-1.0), "rtol: must be positive"),
        (lambda: ek.NoProgress(window=0), "window: must be at least 1, got"),
        (
            lambda: ek.EKI(t_end=0.0),
            "t_end: must be positive and finite, got 0.0. Use None for no end.",
        ),
        (lambda: ek.EKI(tikhonov=True), "t_end: must be None with tikhonov=True, got 1.0"),
    ],
)
def test_bad_options_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_options_of_the_wrong_kind_are_named():
    with pytest.raises(TypeError, match=r"step: must be a step rule such as ek.FixedStep\(h\)"):
        ek.EKI(step=0.1)
    with pytest.raises(TypeError, match=r"stop: must be stopping rules .* got 'soon'"):
        ek.EKI(stop=("soon",))


class Zero:
    def step(self, seen):
        return 0.0


def test_a_rule_that_gives_no_step_is_an_error():
    with pytest.raises(ValueError, match="step: must give a positive finite step, got 0.0 from"):
        ek.run(linear(), ek.EKI(step=Zero()), n_members=10, rng=0)
