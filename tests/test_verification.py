"""The theorems hold where they should, and every row can fail."""

import json

import numpy as np
import pytest

import ekitools as ek
from ekitools.cli import main
from ekitools.verification import verify

TIMES = [0.0, *np.geomspace(0.1, 1e5, 25)]


@pytest.fixture(scope="module")
def problem():
    return ek.problems.linear(p=4, d=6).problem


def flow_of(problem, flow=None, n=10):
    options = {"t_eval": TIMES, "method": "LSODA", "rtol": 1e-10, "atol": 1e-12}
    return ek.integrate(
        problem, flow or ek.EKIFlow(), t_span=(0, 1e5), n_members=n, rng=0, **options
    )


def verdicts(result, problem):
    return {
        row.statement: row.passed for row in ek.theory.check_linear_theory(result, problem).table
    }


def test_all_hold_for_a_linear_model(problem):
    report = ek.theory.check_linear_theory(flow_of(problem), problem)
    assert report.passed, str(report)
    assert len(report.table) == 9


def test_fewer_members_than_data_leave_an_orthogonal_part(problem):
    result = flow_of(problem, n=4)
    report = ek.theory.check_linear_theory(result, problem)
    assert report.passed, str(report)
    assert float(ek.diagnose(result, problem).residual_perpendicular[-1]) > 0.1


def test_a_nonlinear_model_fails_where_linearity_matters(problem):
    def bent(u):
        return problem.model(u + 0.2 * u**2)

    nonlinear = ek.InverseProblem(
        ek.FunctionModel(bent, vectorized=True), problem.prior, problem.noise, problem.data
    )
    found = verdicts(flow_of(nonlinear), nonlinear)
    for statement in (
        "velocity = -C grad Phi",
        "members as in the closed form",
        "dC/dt = -2 C M C, in closed form",
        "|A r|^2 = |A r_par|^2 + |A r_perp|^2",
    ):
        assert not found[statement]
    assert found["subspace property"]  # which needs no linearity


def test_added_noise_breaks_the_closed_forms_and_the_rates(problem):
    steps = np.diff(TIMES)

    class Long:
        def step(self, seen):
            return float(steps[min(seen.n, len(steps) - 1)])

    method = ek.EKI(Long(), t_end=None, perturbed=True)
    result = ek.run(problem, method, n_members=10, n_steps=len(steps), rng=0)
    found = verdicts(result, problem)
    assert not found["members as in the closed form"]
    assert not found["dC/dt = -2 C M C, in closed form"]


def test_another_rate_is_found_out(problem):
    result = flow_of(problem)
    half = result.assign_coords().copy(deep=True)
    half["t"] = half.t**0.5  # as if everything had happened at the square root of the time
    found = verdicts(half, problem)
    for statement in ("ensemble collapse |A e|^2", "|A r_par|", "|A r_par|^2"):
        assert not found[statement]


def test_members_that_leave_the_span_are_found_out():
    problem = ek.problems.linear(p=12, d=6).problem
    result = flow_of(problem, n=5)
    kicked = result.copy(deep=True)
    kicked["u"] = kicked.u + 1e-3 * np.random.default_rng(0).normal(size=kicked.u.shape)
    assert verdicts(result, problem)["subspace property"]
    found = verdicts(kicked, problem)
    assert not found["subspace property"]
    assert not found["A r_perp constant, equal for all members"]


def test_a_run_that_is_too_short_is_said(problem):
    short = ek.integrate(problem, ek.EKIFlow(), t_span=(0, 1), n_members=10, rng=0)
    with pytest.raises(ValueError, match="result: must have at least three times t >="):
        ek.theory.check_linear_theory(short, problem)


def test_the_whole_table_holds_and_prints():
    report = verify()
    assert report.passed, str(report)
    assert len(report.table) == 14
    text = str(report)
    assert text.count("holds") == 14
    rows = json.loads(report.to_json())
    assert {"statement", "source", "predicted", "measured", "passed"} == set(rows[0])


def test_the_command(capsys, monkeypatch):
    from ekitools import verification

    assert main(["verify"]) == 0
    assert "ensemble collapse" in capsys.readouterr().out
    monkeypatch.setattr(
        verification,
        "verify",
        lambda rng: verification.Report((verification.Row("1 = 2", "none", "1", "2", False),)),
    )
    assert main(["verify", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)[0]["passed"] is False
