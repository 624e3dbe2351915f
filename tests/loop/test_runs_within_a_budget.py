"""`run_within`: a run that ends before it exceeds a number of model runs."""

import numpy as np
import pytest

import ekitools as ek
from ekitools.loop.driver import run_within

PROBLEM = ek.problems.linear(p=2, d=4).problem
BORDER = {"executor": None, "timeout": None, "progress": False}


def within(most, problem=PROBLEM, checkpoint=None, method=None, **border):
    method = ek.EKI(ek.FixedStep(0.25)) if method is None else method
    rng = np.random.default_rng(0)
    given = {**BORDER, **border}
    return run_within(most, problem, method, 20, rng=rng, checkpoint=checkpoint, **given)


@pytest.mark.parametrize(("most", "iterations"), [(20, 1), (39, 1), (40, 2), (99, 4), (100, 5)])
def test_it_ends_at_the_last_ensemble_that_the_budget_allows(most, iterations):
    result = within(most)
    whole = ek.run(PROBLEM, ek.EKI(ek.FixedStep(0.25)), n_members=20, rng=np.random.default_rng(0))
    assert result.attrs["model_runs"] == 20 * iterations
    assert result.u.equals(whole.u[:iterations])
    reached = iterations == 5
    assert result.attrs["status_code"] == ("posterior_reached" if reached else "runs_spent")
    assert result.attrs["posterior"] == int(reached)


def test_a_sampler_ends_within_the_budget():
    result = within(99, method=ek.TemperedSMC())
    assert result.attrs["model_runs"] == 80
    assert result.attrs["status_code"] == "runs_spent"
    assert "weight" in result


def test_members_that_run_again_count():
    calls = []

    def model(u):
        calls.append(len(u))
        g = u @ np.ones((2, 1))
        g[u[:, 0] < 0] = np.nan
        return g

    prior = ek.GaussianPrior(np.zeros(2), 1.0)
    problem = ek.InverseProblem(ek.FunctionModel(model, vectorized=True), prior, 0.01, [1.0])
    with pytest.raises(ek.RunError, match="20 draws of the prior within the budget of 25"):
        within(25, problem)
    assert sum(calls) <= 25
    calls.clear()
    result = within(70, problem)
    assert sum(calls) == result.attrs["model_runs"] <= 70


def test_a_checkpoint_goes_on_with_a_larger_budget(tmp_path):
    within(50, checkpoint=tmp_path)
    again = within(50, checkpoint=tmp_path)
    assert again.attrs["model_runs"] == 40
    assert within(100, checkpoint=tmp_path).u.equals(within(100).u)
