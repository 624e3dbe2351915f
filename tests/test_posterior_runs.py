"""Small version of benchmarks/posterior_runs.py, and its parts."""

import numpy as np
import posterior_runs
import pytest
from posterior_problems import CASES, importance, lynx_hare, pk
from posterior_runs import METHODS, Row, climbed, measured, rows, written

import ekitools as ek


def test_the_stored_moments_are_those_of_importance_sampling():
    """20,000 draws of which two thirds count: a standard error of 0.009 of a mean."""
    case = pk()
    found, share = importance(case, 20_000, seed=3)
    assert share > 0.5
    off = (found[:, 0] - case.reference[:, 0]) / case.reference[:, 1]
    assert np.abs(off).max() < 4 * 0.009
    np.testing.assert_allclose(found[:, 1], case.reference[:, 1], rtol=4 * 0.009)


@pytest.mark.parametrize("make", CASES.values(), ids=CASES)
def test_other_packages_see_the_same_posterior(make):
    """The log-likelihood in z is the misfit of the problem, and counts one run a member."""
    case = make()
    z = np.random.default_rng(1).standard_normal((3, case.p))
    problem = case.problem
    u = problem.prior.to_physical(problem.prior.unwhiten(z))
    expected = -problem.noise.misfit(problem.model(u), problem.data)
    case.counted.runs = 0
    np.testing.assert_allclose(case.log_likelihood(z), expected, rtol=1e-9)
    assert case.counted.runs == 3


def test_the_compiled_model_is_that_of_the_package():
    pytest.importorskip("numba")
    case = lynx_hare()  # compares them as it compiles
    assert case.counted.model is not ek.problems.lynx_hare().problem.model


def off_by(case, seed, *, share):
    """The exact moments, with one mean that is off by a share of its standard deviation."""
    found = case.reference.copy()
    found[1, 0] -= share * found[1, 1]
    return found


@pytest.mark.parametrize(
    ("shares", "chosen"),
    [((0.5, 0.11, 0.09, 0.01), 0.09), ((0.3, 0.2, 0.4), 0.2)],
    ids=["the first good one", "the best one"],
)
def test_the_setting_that_a_row_has(shares, chosen):
    row = Row(off_by, tuple({"share": share} for share in shares))
    found = climbed(pk(), row, range(2))
    assert found.rung == {"share": chosen}
    assert found.error == pytest.approx(chosen)


def test_gnki_is_right_with_enough_members():
    case = pk()
    few, many = ({"J": n} for n in (20, 400))
    assert measured(case, METHODS["GNKI()"], few, range(3)).error > posterior_runs.GOAL
    found = measured(case, METHODS["GNKI()"], many, range(3))
    assert found.error <= posterior_runs.GOAL
    result = [
        ek.run(case.problem, ek.GNKI(), n_members=400, rng=seed, evaluate_final=False)
        for seed in range(3)
    ]
    assert found.runs == np.median([each.attrs["model_runs"] for each in result])
    assert f"| GNKI() | J = 400 | {found.runs:,.0f} |" in written("GNKI()", found, 3)


def test_uki_is_right_in_less_than_150_runs():
    found = measured(pk(), METHODS["UKI()"], {}, range(2))
    assert found.error <= posterior_runs.GOAL
    assert found.runs < 150


def test_a_method_with_a_bias_does_not_reach_the_goal():
    """EKI takes its slopes from the prior's ensemble, which biases it by 0.2."""
    case = pk()
    row = METHODS["EKI()"]._replace(rungs=({"J": 50}, {"J": 800}))
    found = climbed(case, row, range(3))
    assert 0.12 < found.error < 0.3
    assert "not reached; best 3,200" in written("EKI()", found, 3)


def test_runs_that_fail_count_as_wrong():
    case = pk()

    def fails(case, seed, *, J):
        if seed == 0:
            raise np.linalg.LinAlgError("not positive definite")
        return np.full((case.p, 2), np.nan) if seed == 1 else case.reference

    found = measured(case, Row(fails, ()), {"J": 3}, range(3))
    assert found.error == np.inf
    assert found.failures == [
        "LinAlgError: not positive definite",
        "moments that are not finite",
    ]
    assert "2 of 3 failed" in written("fails", found, 3)
    assert measured(case, Row(fails, ()), {"J": 3}, range(1, 6)).error == 0.0


def test_packages_that_are_not_installed_are_left_out(monkeypatch, capsys):
    monkeypatch.setattr(posterior_runs, "find_spec", lambda name: None)
    assert [label for label, _ in rows(["emcee", "pymc"])] == []
    assert "emcee is not installed" in capsys.readouterr().out
    assert "GNKI()" in [label for label, _ in rows([])]
