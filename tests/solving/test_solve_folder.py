"""Checkpoints of `solve`: a process that is killed in any stage loses nothing but a check."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ekitools as ek

CASES = ["sampled", pytest.param("emulated", marks=pytest.mark.slow)]


class Mortal:
    """u² + 0.3 u, until so many runs were made."""

    def __init__(self, last=np.inf):
        self.last, self.runs = last, 0

    def __call__(self, u):
        self.runs += len(u)
        if self.runs > self.last:
            raise KeyboardInterrupt
        return u**2 + 0.3 * u


def problem_of(model, noise=0.3):
    vectorized = ek.FunctionModel(model, vectorized=True)
    return ek.InverseProblem(vectorized, ek.GaussianPrior([0.0], 1.0), noise**2, [1.0])


def stage_runs(result):
    """Model runs of every stage."""
    lines = json.loads(result.attrs["path"])
    return [int(found[1]) for line in lines if (found := re.search(r": (\d+) model runs\.", line))]


def same(result, other):
    assert result.u.equals(other.u)
    assert result.g.equals(other.g)
    ignored = ("seconds",)
    attrs = [{k: v for k, v in each.attrs.items() if k not in ignored} for each in (result, other)]
    assert attrs[0] == attrs[1]
    for name in ("checked_mean", "checked_quantile", "checked_sd_error", "weight"):
        assert (name in result) == (name in other)
        if name in result:
            assert result[name].identical(other[name])


@pytest.fixture(scope="module")
def sampled():
    """Three stages: GNKI, a sample, and its check."""
    result = ek.solve(problem_of(Mortal()), rng=1)
    assert ["GNKI" in result.attrs["path"], "TemperedSMC" in result.attrs["path"]] == [True, True]
    assert result.attrs["verdict"] == "confirmed"
    return result


@pytest.fixture(scope="module")
def emulated():
    """A sample by way of an emulator."""
    result = ek.solve(problem_of(Mortal()), budget=2000, rng=1)
    assert "emulator" in result.attrs["path"]
    return result


@pytest.mark.parametrize("which", CASES)
def test_a_folder_changes_nothing(which, tmp_path, request):
    result = request.getfixturevalue(which)
    budget = int(result.attrs["budget"])
    same(ek.solve(problem_of(Mortal()), budget=budget, rng=1, checkpoint=tmp_path), result)
    again = ek.solve(problem_of(Mortal(0)), budget=budget, checkpoint=tmp_path)  # no model run
    same(again, result)


@pytest.mark.parametrize("stage", [0, 1, 2])
@pytest.mark.parametrize("share", [0.0, 0.6])
@pytest.mark.parametrize("which", CASES)
def test_an_interrupted_call_goes_on_bitwise(which, stage, share, tmp_path, request):
    """After an interrupt nothing is written, so the folder is that of a process that was killed."""
    whole = request.getfixturevalue(which)
    budget, runs = int(whole.attrs["budget"]), stage_runs(whole)
    assert len(runs) > stage
    dead = problem_of(Mortal(sum(runs[:stage]) + int(share * runs[stage])))
    if stage + share == 0:
        with pytest.raises(KeyboardInterrupt):
            ek.solve(dead, budget=budget, rng=1, checkpoint=tmp_path)
    else:
        result = ek.solve(dead, budget=budget, rng=1, checkpoint=tmp_path)
        assert result.attrs["status_code"] == "interrupted"
        assert result.attrs["verdict"] != "confirmed"
        assert "Interrupted" in result.attrs["status"]
    after = Mortal()
    same(ek.solve(problem_of(after), budget=budget, checkpoint=tmp_path), whole)
    if share == 0.0:  # at the beginning of a stage: nothing is run twice
        assert after.runs <= sum(runs[stage:])


@pytest.mark.slow
def test_a_process_that_is_killed_goes_on_bitwise(sampled, tmp_path):
    script = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_solve_folder as given
import ekitools as ek

class Killed(given.Mortal):
    def __call__(self, u):
        if self.runs > 6000:
            os._exit(9)
        return super().__call__(u)

ek.solve(given.problem_of(Killed()), rng=1, checkpoint={str(tmp_path)!r})
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert done.returncode == 9
    same(ek.solve(problem_of(Mortal()), checkpoint=tmp_path), sampled)


def test_ctrl_c_before_there_is_anything():
    with pytest.raises(KeyboardInterrupt):
        ek.solve(problem_of(Mortal(0)), rng=0)


def test_a_larger_budget_goes_on_where_the_smaller_one_ended(tmp_path):
    model = Mortal()
    first = ek.solve(problem_of(model, 0.1), budget=500, rng=0, checkpoint=tmp_path)
    assert first.attrs["verdict"] == "not confirmed"
    second = ek.solve(problem_of(model, 0.1), budget=30_000, checkpoint=tmp_path)
    lines = [json.loads(each.attrs["path"]) for each in (first, second)]
    assert lines[1][: len(lines[0]) - 1] == lines[0][:-1]
    assert second.attrs["verdict"] == "confirmed"
    assert model.runs == second.attrs["n_runs"]


def test_other_folders_are_refused(tmp_path, sampled):
    del sampled
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ek.CheckpointError, match="has not written"):
        ek.solve(problem_of(Mortal(0)), checkpoint=tmp_path)
    folder = tmp_path / "other"
    ek.solve(problem_of(Mortal()), budget=500, rng=0, checkpoint=folder)
    with pytest.raises(ek.CheckpointError, match="another problem: noise differ"):
        ek.solve(problem_of(Mortal(0), noise=0.2), checkpoint=folder)
    (folder / "solve.json").write_text("{")
    with pytest.raises(ek.CheckpointError, match="damaged"):
        ek.solve(problem_of(Mortal(0)), checkpoint=folder)
