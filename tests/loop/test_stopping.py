"""Stopping rules belong to the loop: every method and every flow stops by them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from zoo.results import same

import ekitools as ek
from ekitools.typing import Status

A = np.array([[1.0, 0.5], [0.0, 2.0], [1.0, 1.0]])
DATA = A @ [1.0, -0.5] + [0.05, -0.02, 0.01]


def problem(noise=0.01):
    return ek.InverseProblem(ek.LinearModel(A), ek.GaussianPrior([0.0, 0.0], 1.0), noise, DATA)


class After:
    """Stop at the iteration ``n``; every `Progress` that was seen is kept in ``seen``."""

    def __init__(self, n):
        self.n = n
        self.seen = []

    def check(self, progress):
        self.seen.append(progress)
        if len(progress.trace) > self.n:
            return Status("enough", f"{self.n} iterations are enough.", level="good")
        return None


METHODS = [
    ek.EKI(ek.FixedStep(0.1)),
    ek.EKI(ek.FixedStep(0.1), t_end=None, perturbed=False),
    ek.EKI(ek.NormStep(), t_end=None, tikhonov=True),
    ek.GNKI(ek.FixedStep(0.1)),
    ek.TemperedSMC(max_moves=1),
    ek.LossEKI(ek.NormStep(0.5)),
    ek.LossEKI(ek.NormStep(0.5), spread=ek.Spread(0.1)),
    ek.CurvatureEKI(),
    ek.Nesterov(ek.EKI(ek.FixedStep(0.1), t_end=None)),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_every_method_stops_by_a_rule_of_ones_own(method):
    rule, options = After(3), {"n_members": 12, "rng": 0}
    free = ek.run(problem(), method, n_steps=5, **options)
    result = ek.run(problem(), method, n_steps=5, stop=rule, **options)
    assert result.attrs["status_code"] == "enough"
    assert result.attrs["status_level"] == "good"
    assert result.attrs["posterior"] == 0
    assert result.iteration.values.tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(result.u, free.u[:4])
    np.testing.assert_array_equal(result.history_spread, [p.spread for p in rule.seen])
    minimised = result.get("history_objective", result.history_misfit)
    np.testing.assert_array_equal(minimised, rule.seen[-1].trace)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_the_residual_is_that_of_the_mean_output(method):
    rule = After(2)
    result = ek.run(problem(), method, n_members=12, rng=0, stop=(rule,))
    diagnosis = ek.diagnose(result, problem())
    found = [progress.residual for progress in rule.seen]
    np.testing.assert_allclose(diagnosis.residual_mean, found, rtol=1e-10)


def test_the_method_option_is_the_short_form():
    rules = (ek.Discrepancy(1.2), ek.NoProgress())
    options = {"n_members": 20, "rng": 0}
    short = ek.run(problem(), ek.EKI(t_end=None, stop=rules), **options)
    whole = ek.run(problem(), ek.EKI(t_end=None), stop=rules, **options)
    assert short.attrs["status_code"] == "discrepancy_reached"
    assert whole.attrs["status"] == short.attrs["status"]
    np.testing.assert_array_equal(whole.u, short.u)
    # `Nesterov` hands the rules of the method within on
    inner = ek.EKI(ek.FixedStep(1.0), t_end=None, perturbed=False, stop=ek.Discrepancy(1.2))
    fast = ek.run(problem(), ek.Nesterov(inner), **options)
    assert fast.attrs["status_code"] == "discrepancy_reached"


def test_rules_are_asked_in_their_order_and_after_the_methods_own_end():
    late = ek.run(problem(), ek.EKI(), stop=After(1000), n_members=20, rng=0)
    assert late.attrs["status_code"] == "posterior_reached"
    first, second = After(0), After(0)
    result = ek.run(problem(), ek.EKI(), stop=[first, second], n_members=20, rng=0)
    assert result.attrs["status_code"] == "enough"
    assert (len(first.seen), len(second.seen)) == (1, 0)


def test_a_rule_goes_before_a_step_that_overflows():
    method = ek.EKI(ek.FixedStep(1e-3), t_end=None)
    huge = ek.InverseProblem(
        ek.FunctionModel(lambda u: u * 1e150), ek.GaussianPrior(0.0, [1.0]), 1e300, [0.0]
    )
    assert ek.run(huge, method, n_steps=1, rng=0, stop=After(0)).attrs["status_code"] == "enough"


def test_an_ensemble_is_not_updated_in_place_where_a_rule_may_end_the_run_at_it():
    options = {"n_members": 12, "n_steps": 5, "rng": 0}
    method = ek.LossEKI(ek.NormStep(0.5))
    free = ek.run(problem(), method, **options)
    result = ek.run(problem(), method, store="final", stop=After(2), **options)
    np.testing.assert_array_equal(result.u[0], free.u[2])


def test_progress_is_measured_in_what_the_method_minimises():
    """With the prior as data the misfit alone may rise while the objective falls."""
    result = ek.run(
        problem(), ek.EKI(ek.NormStep(), t_end=None, tikhonov=True), n_members=30, n_steps=8, rng=0
    )
    u, misfit = result.u.values, result.misfit.values
    objective = misfit.mean(axis=1) + 0.5 * np.sum(u**2, axis=2).mean(axis=1)
    np.testing.assert_allclose(result.history_objective, objective, rtol=1e-12)


def test_a_stopped_run_resumes_as_it_was(tmp_path):
    path, options = tmp_path / "run", {"n_members": 12, "rng": 0}
    method, rule = ek.EKI(ek.FixedStep(0.1), t_end=None), ek.Discrepancy(1.5)
    whole = ek.run(problem(), method, stop=rule, **options)
    ek.run(problem(), method, stop=rule, n_steps=2, checkpoint=path, **options)
    assert same(ek.resume(path, problem(), n_steps=1000), whole)
    assert json.loads(whole.attrs["stop"]) == [{"type": "Discrepancy", "tau": 1.5}]


def test_rules_of_ones_own_are_passed_again_and_others_are_refused(tmp_path):
    path, options = tmp_path / "run", {"n_members": 12, "rng": 0}
    whole = ek.run(problem(), ek.EKI(ek.FixedStep(0.1)), stop=After(4), **options)
    ek.run(
        problem(), ek.EKI(ek.FixedStep(0.1)), stop=After(4), n_steps=2, checkpoint=path, **options
    )
    with pytest.raises(ek.CheckpointError, match="stop: must be passed to resume"):
        ek.resume(path, problem(), n_steps=9)
    with pytest.raises(ek.CheckpointError, match="stop: differs from the one of"):
        ek.resume(path, problem(), n_steps=9, stop=ek.Discrepancy())
    with pytest.raises(TypeError, match="stop: must be stopping rules"):
        ek.resume(path, problem(), n_steps=9, stop=3)
    resumed = ek.resume(path, problem(), n_steps=1000, stop=After(4))
    np.testing.assert_array_equal(resumed.u, whole.u)


@pytest.mark.parametrize("method", [ek.LossEKI(), ek.TemperedSMC()])
def test_the_discrepancy_principle_needs_gaussian_noise(method):
    with pytest.raises(TypeError, match="noise: must be Gaussian for the discrepancy principle"):
        ek.run(problem(ek.Huber(0.1)), method, stop=ek.Discrepancy())
    result = ek.run(problem(ek.Huber(0.1)), method, stop=ek.Collapsed(0.9), n_members=30, rng=0)
    assert result.attrs["status_code"] == "collapsed"


FLOWS = [
    (ek.EKIFlow(), {}),
    (ek.EKIFlow(tikhonov=True), {}),
    (ek.NesterovFlow(), {}),
    (ek.GradientFlow(), {}),
    (ek.NaturalGradientFlow(), {}),
    (ek.StochasticEKIFlow(), {"step": ek.NormStep(0.1)}),
    (ek.EKSFlow(), {"step": ek.NormStep(0.1)}),
]


@pytest.mark.parametrize(("flow", "its_own"), FLOWS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("t_eval", [None, [0.0, 0.5, 1.0]])
def test_every_flow_stops_by_a_rule_of_ones_own_at_the_end_of_a_step(flow, its_own, t_eval):
    rule, options = After(3), {"t_span": (0, 1), "n_members": 6, "rng": 0} | its_own
    free = ek.integrate(problem(), flow, **options)
    result = ek.integrate(problem(), flow, stop=rule, t_eval=t_eval, **options)
    assert result.attrs["status_code"] == "enough"
    assert result.attrs["status"] == "3 iterations are enough."
    assert float(result.t[-1]) == pytest.approx(float(free.t[3]), rel=1e-12)
    np.testing.assert_allclose(result.u[-1], free.u[3], rtol=1e-9)
    np.testing.assert_allclose(rule.seen[-1].trace, free.history_misfit[:4], rtol=1e-9)


@pytest.mark.parametrize(
    ("short", "rule"),
    [
        ({"discrepancy": 1.5}, ek.Discrepancy(1.5)),
        ({"collapsed": 0.3}, ek.Collapsed(0.3)),
    ],
)
@pytest.mark.parametrize(("flow", "its_own"), [FLOWS[0], FLOWS[2], FLOWS[5]])
def test_short_forms_of_flows_are_rules_and_located(short, rule, flow, its_own):
    options = {"t_span": (0, 20), "n_members": 6, "rng": 0} | its_own
    expected = ek.integrate(problem(), flow, **short, **options)
    result = ek.integrate(problem(), flow, stop=rule, **options)
    assert result.attrs["status"] == expected.attrs["status"]
    np.testing.assert_array_equal(result.u, expected.u)
    if not its_own:  # a solver finds the very time
        diagnosis = ek.diagnose(result, problem())
        distance = (
            float(diagnosis.residual_mean[-1]) - 1.5 * np.sqrt(3)
            if "discrepancy" in short
            else float(result.history_spread[-1]) - 0.3
        )
        assert abs(distance) < 1e-8


def test_the_earlier_of_two_rules_ends_a_flow():
    options = {"t_span": (0, 20), "n_members": 6, "rng": 0}
    alone = ek.integrate(problem(), ek.EKIFlow(), collapsed=0.5, **options)
    both = ek.integrate(problem(), ek.EKIFlow(), stop=(After(10**6), ek.Collapsed(0.5)), **options)
    assert both.attrs["status_code"] == "collapsed"
    assert float(both.t[-1]) == float(alone.t[-1])
    early = ek.integrate(problem(), ek.EKIFlow(), stop=(ek.Collapsed(1e-6), After(2)), **options)
    assert early.attrs["status_code"] == "enough"


def test_a_flow_is_over_at_once_where_a_rule_fires_at_its_start():
    result = ek.integrate(problem(), ek.EKIFlow(), stop=After(0), t_span=(0, 1), n_members=5, rng=0)
    assert result.attrs["status_code"] == "enough"
    assert result.sizes["iteration"] == 1
