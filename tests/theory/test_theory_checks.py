"""The theorems hold where they should, and every row can fail."""

import dataclasses
import json
from functools import cache

import numpy as np
import pytest

import ekitools as ek
from ekitools.cli import main
from ekitools.theory import checks as verification
from ekitools.theory import theorems
from ekitools.theory.checks import verify


def verdicts(result, problem):
    return {
        row.statement: row.passed for row in ek.theory.check_linear_theory(result, problem).table
    }


@cache
def linear_run():
    """Fewer members than data, and fewer data than parameters."""
    problem = theorems.linear_problem(12, 8, 0)
    return verification.long_flow(problem, 0), problem


@cache
def table():
    return verify()


def changed(change):
    """The rows for a linear run whose numbers were tampered with."""
    result, problem = linear_run()
    result = result.copy(deep=True)
    change(result)
    return ek.theory.check_linear_theory(result, problem).table


def in_another_time(result):
    result["t"] = result.t**0.5  # as if everything had happened at the square root of the time


def out_of_the_span(result):
    result["u"] = result.u + 1e-3 * np.random.default_rng(0).normal(size=result.u.shape)


@cache
def bent():
    """The rows for a nonlinear model."""
    problem = theorems.linear_problem(12, 8, 0)
    nonlinear = ek.InverseProblem(
        ek.FunctionModel(lambda u: problem.model(u + 0.2 * u**2), vectorized=True),
        problem.prior,
        problem.noise,
        problem.data,
    )
    result = verification.long_flow(nonlinear, 0)
    return ek.theory.check_linear_theory(result, nonlinear).table


@dataclasses.dataclass(frozen=True)
class NoisyEKI(ek.EKI):
    """Noise added to the members, not to the data."""

    def tell(self, state, g, target, *, rng):
        new, info = super().tell(state, g, target, rng=rng)
        noise = 1e-6 * rng.standard_normal(new.ensemble.shape)
        return new._replace(ensemble=new.ensemble + noise), info


@dataclasses.dataclass(frozen=True)
class NoisyFlow(ek.EKIFlow):
    """A force that is not made of the members' differences."""

    def acceleration(self, t, u, out, problem):
        return super().acceleration(t, u, out, problem) + 1e-6 * np.sin(np.arange(u.shape[1]))


def kinked(p, d, rng):
    """|Bu| has no derivative where the ensemble is shrunk to."""
    problem, _ = theorems.smooth_problem(p, d, rng)
    matrix = np.random.default_rng(rng).normal(size=(d, p))
    model = ek.FunctionModel(lambda u: np.abs(u @ matrix.T), vectorized=True)
    kink = ek.InverseProblem(model, problem.prior, problem.noise, problem.data)
    return kink, lambda u: np.sign(u @ matrix.T)[:, :, None] * matrix


SMOOTH = theorems.smooth_problem(12, 8, 0)[0]
LINEAR = theorems.linear_problem(12, 8, 0)
BENT_MAP = (lambda u: u**3, np.cbrt)

# The same functions that make the rows, given something for which the statement is not true.
COUNTEREXAMPLES = {
    "ensemble collapse |A e|^2": lambda: changed(in_another_time),
    "|A r_par|": lambda: changed(in_another_time),
    "|A r_par|^2": lambda: changed(in_another_time),
    "A r_perp constant, equal for all members": lambda: changed(out_of_the_span),
    "|A r|^2 = |A r_par|^2 + |A r_perp|^2": bent,
    "subspace property": lambda: changed(out_of_the_span),
    "dC/dt = -2 C M C, the velocity": bent,
    "dC/dt = -2 C M C, in closed form": bent,
    "members as in the closed form": bent,
    "velocity = -C grad Phi": bent,
    "subspace property, linear G, EKI": lambda: theorems.subspace(LINEAR, NoisyEKI(), 0),
    "subspace property, linear G, flow": lambda: theorems.subspace(LINEAR, NoisyFlow(), 0),
    "subspace property, nonlinear G, EKI": lambda: theorems.subspace(SMOOTH, NoisyEKI(), 0),
    "subspace property, nonlinear G, flow": lambda: theorems.subspace(SMOOTH, NoisyFlow(), 0),
    "velocity = -C grad Phi for nonlinear G, spread eps": lambda: theorems.approximation(0, kinked),
    "C(t) >= F^-1 in the linear flow for t <= (1 - 1/mu)/2 alone": lambda: theorems.cramer_rao_time(
        0, ek.NesterovFlow()
    ),
    "covariance over data of EKI's mean at t = inf is F^-1": lambda: theorems.efficiency(0, 1.0),
    "covariance over data >= F^-1 for an unbiased estimate": lambda: theorems.bound(0, h=0.1),
    "discrete EKI to the flow as h to 0": lambda: theorems.discrete_to_flow(0, perturbed=True),
    "EKI with noise, sum h = 1: mean to the posterior's": lambda: theorems.posterior_moments(
        0, t_end=2.0
    ),
    "EKI with noise, sum h = 1: covariance to the posterior's": lambda: theorems.posterior_moments(
        0, t_end=2.0
    ),
    "affine invariance of the analysis": lambda: theorems.affine_analysis(0, BENT_MAP),
    "affine invariance of the flow": lambda: theorems.affine_flow(0, BENT_MAP),
    "Nesterov against plain EKI, steps to an error of 0.3": lambda: theorems.momentum_steps(
        0, fast=lambda method: method
    ),
    "Nesterov's flow against the plain one, time to 0.3": lambda: theorems.momentum_time(
        0, fast=ek.EKIFlow()
    ),
}


def test_every_statement_has_a_counterexample():
    assert [row.statement for row in table().table if row.statement not in COUNTEREXAMPLES] == []
    assert len(COUNTEREXAMPLES) == len(table().table)


@pytest.mark.parametrize("statement", COUNTEREXAMPLES)
def test_a_counterexample_fails(statement):
    found = COUNTEREXAMPLES[statement]()
    rows = [found] if isinstance(found, verification.Row) else found
    (row,) = (row for row in rows if row.statement == statement)
    assert not row.passed, row
    (holds,) = (row for row in table().table if row.statement == statement)
    assert holds.passed, holds


@pytest.mark.parametrize("rng", [1, 2, 3])
def test_the_table_does_not_hang_on_one_seed(rng):
    report = verify(rng=rng)
    assert report.passed, str(report)


def test_more_members_than_parameters_leave_nothing_orthogonal_and_it_holds_too():
    problem = ek.problems.linear(p=4, d=4).problem
    result = verification.long_flow(problem, 0)
    report = ek.theory.check_linear_theory(result, problem)
    assert report.passed, str(report)
    assert float(ek.diagnose(result, problem).residual_perpendicular.max()) < 1e-8


def test_the_table_is_about_a_part_that_stays_and_a_part_that_goes():
    """Its run is one in which neither the span nor its complement is everything."""
    diagnosis = ek.diagnose(*linear_run())
    assert float(diagnosis.residual_perpendicular[-1]) > 0.1
    assert float(diagnosis.residual_parallel[-1]) < 0.01 * float(diagnosis.residual_parallel[0])


def test_a_projection_in_another_inner_product_is_found_out():
    result, problem = linear_run()
    other = ek.InverseProblem(problem.model, problem.prior, 1.0, problem.data)
    found = verdicts(result, other)
    assert not found["|A r_par|"]
    assert found["subspace property"]


def test_a_nonlinear_model_keeps_the_subspace_and_nothing_else():
    found = {row.statement: row.passed for row in bent()}
    assert found.pop("subspace property")
    assert not found["members as in the closed form"]


def test_added_noise_breaks_the_closed_forms():
    times = linear_run()[0].t.values
    problem, steps = linear_run()[1], np.diff(times)

    class Long:
        def step(self, seen):
            return float(steps[min(seen.n, len(steps) - 1)])

    method = ek.EKI(Long(), t_end=None, perturbed=True)
    found = verdicts(ek.run(problem, method, n_members=6, n_steps=len(steps), rng=0), problem)
    assert not found["members as in the closed form"]
    assert not found["dC/dt = -2 C M C, in closed form"]
    assert found["subspace property"]  # noise on the data stays within the span


def test_a_run_that_is_too_short_is_said():
    problem = linear_run()[1]
    short = ek.integrate(problem, ek.EKIFlow(), t_span=(0, 0.01), n_members=6, rng=0)
    with pytest.raises(ValueError, match="result: must have at least three times t >="):
        ek.theory.check_linear_theory(short, problem)


def test_the_derivative_in_closed_form_is_that_of_the_model():
    problem, slope = theorems.smooth_problem(4, 6, 0)
    u = problem.prior.sample(3, rng=0)
    h = 1e-6 * np.eye(4)
    expected = [(problem.model(u + e) - problem.model(u - e)) / 2e-6 for e in h]
    np.testing.assert_allclose(slope(u), np.stack(expected, axis=2), atol=1e-8)


def test_the_bound_is_not_for_a_biased_estimate():
    """By hand: a mean stopped early is (I − W) u0 + W û, and its covariance W F⁻¹ Wᵀ."""
    problem = ek.InverseProblem(ek.LinearModel([[1.0]]), ek.GaussianPrior(0.0, [1.0]), 1.0, [2.0])
    start = np.array([[-1.0], [1.0]])  # C = 2 with 1/(J − 1)
    method = ek.EKI(ek.FixedStep(0.5), t_end=None, perturbed=False)
    last = ek.run(problem, method, ensemble=start, n_steps=1).u[-1].values
    assert last.mean() == pytest.approx(0.5 * 2.0)  # W = 2/(2 + 1/0.5) = 1/2: variance 1/4 < 1
    row = theorems.bound(0, h=0.1)
    assert float(row.measured.split(" to ")[0]) < 1
    assert float(row.measured.split("bias ")[1]) > 0.1


def test_the_whole_table_holds_and_prints():
    report = table()
    assert report.passed, str(report)
    assert len(report.table) == 25
    text = str(report)
    assert text.count("holds") == 25
    header, rule, *lines = text.splitlines()
    at = header.index("verdict")
    assert {line[at:] for line in lines} == {"holds"}
    assert set(rule) == {"-"}
    rows = json.loads(report.to_json())
    assert {"statement", "source", "predicted", "measured", "passed", "share"} == set(rows[0])


def test_the_share_of_what_is_allowed_decides():
    """Rates by hand: 1.03 in place of 1 with a tolerance of 0.1, and steps 30 in place of 100."""
    x = np.geomspace(1, 100, 9)
    row = verification.rate_row("s", "none", x, x**1.03, 1.0, symbol="x", tolerance=0.1)
    assert row.share == pytest.approx(0.3)
    assert row.passed
    assert not verification.rate_row("", "", x, x**1.2, 1.0, symbol="x", tolerance=0.1).passed
    assert verification.error_row("s", "none", 2e-3, 1e-2).share == pytest.approx(0.2)
    assert theorems._speed("s", "n", 100.0, 30.0).share == pytest.approx(0.3)
    never = theorems._speed("s", "n", np.inf, np.inf)
    assert not never.passed
    assert json.loads(verification.Report((never,)).to_json())[0]["share"] is None


def test_the_command(capsys, monkeypatch):
    from ekitools.theory import checks as verification

    assert main(["verify"]) == 0
    assert "ensemble collapse" in capsys.readouterr().out
    monkeypatch.setattr(
        verification,
        "verify",
        lambda rng: verification.Report((verification.Row("1 = 2", "none", "1", "2", False, 9.0),)),
    )
    assert main(["verify", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)[0]["passed"] is False
