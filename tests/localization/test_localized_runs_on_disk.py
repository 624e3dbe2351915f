"""Localized runs with the ensemble on disk: the bits of those in memory."""

import numpy as np
import pytest

import ekitools as ek
from ekitools.localization import Correlation, Distance, Groups

P = 300
X, AT = np.arange(float(P)), np.arange(5.0, P, 10)


@pytest.fixture
def problem(monkeypatch):
    monkeypatch.setattr("ekitools.linalg.local._TILE_BYTES", 12 * 8 * 64)
    monkeypatch.setattr("ekitools.loop.ensemble._BLOCK_BYTES", 12 * 8 * 130)
    seen = np.zeros((AT.size, P))
    seen[np.arange(AT.size), AT.astype(int)] = 1.0
    y = np.random.default_rng(9).normal(size=AT.size)
    return ek.InverseProblem(ek.LinearModel(seen), ek.GaussianPrior(0.0, np.ones(P)), 0.2, y)


@pytest.mark.parametrize("method", [ek.ETKI, ek.EKI])
@pytest.mark.parametrize("rule", [
    Distance(X, AT, 20.0), Distance(X, AT, 3.0, resolution=0), Distance(X, AT), Correlation(2.0),
    Groups({tuple(range(150)): tuple(range(15)), tuple(range(150, 300)): tuple(range(15, 30))}),
], ids=lambda rule: repr(rule)[:30])  # fmt: skip
def test_the_run_and_its_resume_have_the_bits_of_memory(problem, method, rule, tmp_path):
    plan = method(ek.ESMDA(3), localization=rule)
    memory = ek.run(problem, plan, n_members=12, rng=0, store="final")
    disk = ek.run(problem, plan, n_members=12, rng=0, store="final", scratch=tmp_path / "a")
    np.testing.assert_array_equal(disk.u.values, memory.u.values)
    ek.run(
        problem, plan, n_members=12, rng=0, store="final", n_steps=1, scratch=tmp_path / "b",
        checkpoint=tmp_path / "c",
    )  # fmt: skip
    rest = ek.resume(tmp_path / "c", problem, method=plan, n_steps=9, scratch=tmp_path / "b")
    np.testing.assert_array_equal(rest.u.values, memory.u.values)
