"""Small version of benchmarks/sampler_peers.py, and its parts."""

import json

import numpy as np
import pytest
from sampler_peers import Row, Store, climb, judged, measured, written
from sampler_problems import CASES, long_run, pk

import ekitools as ek
from ekitools.methods.unknown_noise import misfits_of_members

REFERENCE = np.array([[0.0, 1.0], [1.0, 2.0]])


@pytest.mark.parametrize("make", CASES.values(), ids=CASES)
def test_other_packages_see_the_same_posterior(make):
    """The log-likelihood in z is that of the problem, with its scales, and counts one run a row."""
    case = make()
    z = np.random.default_rng(1).standard_normal((3, case.p))
    problem = case.problem
    u = problem.prior.unwhiten(z)
    physical = problem.prior.to_physical(u)
    g = problem.model(physical[:, : case.p - problem.n_scales])
    misfit, log_scale = misfits_of_members(u, g, problem)
    case.counted.runs = 0
    np.testing.assert_allclose(case.log_likelihood(z), -misfit - log_scale, rtol=1e-9)
    assert case.counted.runs == 3


def found(error=0.0, ratio=1.0, failed=False, seconds=1.0):
    moments = REFERENCE * [1, ratio] + [[error, 0], [0, 0]]
    each = {"settings": {"n": 3}, "runs": 100, "seconds": seconds}
    return each | {"moments": None if failed else moments.tolist()}


def test_a_setting_is_judged_by_medians_of_the_worst_parameter():
    right = judged([found(0.05), found(-0.3), found(0.09, 1 / 1.08)], REFERENCE)
    assert (right.right, right.runs, right.most) == (True, 100, pytest.approx(0.3))
    assert (right.mean, right.ratio) == (pytest.approx(0.09), pytest.approx(1.0))
    wide = judged([found(0.0, 1.2), found(0.0, 1.2), found(0.0)], REFERENCE)
    assert (wide.right, wide.ratio) == (False, pytest.approx(1.2))
    lost = judged([found(failed=True), found(failed=True), found()], REFERENCE)
    assert (lost.right, lost.mean, lost.failures) == (False, np.inf, 2)
    assert "| - | - | - |" in written("A", lost, 3)


def off_by(case, seed, *, share):
    if share is None:
        raise ek.RunError("all failed")
    case.counted.runs += 7
    moments = case.reference.copy()
    moments[1, 0] -= share * moments[1, 1]
    return moments


def test_runs_are_stored_and_not_repeated(tmp_path):
    case, shares = pk(), (None, 0.3, 0.05, 0.0)
    row = Row(off_by, tuple({"share": share} for share in shares))
    first = climb(case, "A", row, Store(tmp_path, "pk"), 2, 60.0, run=True)
    assert (first.settings, first.runs) == ({"share": 0.05}, 7)
    lines = (tmp_path / "pk.jsonl").read_text().splitlines()
    assert len(lines) == 6
    assert json.loads(lines[0])["failure"] == "RunError: all failed"
    again = Store(tmp_path, "pk")
    assert climb(case, "A", row._replace(estimate=None), again, 2, 60.0, run=False) == first
    assert climb(case, "B", row, again, 2, 60.0, run=False) is None
    assert climb(case, "A", row, again, 3, 60.0, run=True).seeds == 3
    assert len((tmp_path / "pk.jsonl").read_text().splitlines()) == 9


def test_a_ladder_ends_where_a_run_is_too_long(tmp_path):
    row = Row(off_by, tuple({"share": share} for share in (0.3, 0.05)))
    best = climb(pk(), "A", row, Store(tmp_path, "pk"), 1, -1.0, run=True)
    assert best.settings == {"share": 0.3}
    assert "not reached; best 7" in written("A", best, 1)


def test_a_method_of_the_package_on_a_problem_with_unknown_noise():
    from sampler_peers import rows

    one = measured(pk(), "GNKI()", rows()["GNKI()"], {"J": 50}, 0)
    assert one["failure"] == ""
    assert one["runs"] > 100
    assert np.isfinite(one["moments"]).all()


def test_long_chains_agree_with_a_stored_reference():
    """100 chains of 400 steps: the means are known to 0.02 standard deviations or so."""
    case = CASES["darcy"]()
    if case.counted.model.__name__ == "<lambda>":
        pytest.skip("too slow without numba")
    moments, _ = long_run(case, 100, 400)
    assert np.abs((moments[:, 0] - case.reference[:, 0]) / case.reference[:, 1]).max() < 0.2
