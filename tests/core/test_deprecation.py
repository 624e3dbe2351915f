"""Former names of arguments: they work, and a warning at the user's line names the new one."""

from __future__ import annotations

import inspect
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

import ekitools as ek
from ekitools.core.deprecation import renamed

ROOT = Path(__file__).parents[2]
MESSAGE = (
    r"^ensemble: is deprecated since version 0\.2 and will be removed in version 0\.4\. "
    r"Use like= instead\.$"
)


def problem():
    return ek.InverseProblem(ek.LinearModel([[1.0]]), ek.GaussianPrior(0.0, [1.0]), 1.0, [2.0])


@pytest.fixture
def checkpoint(tmp_path):
    ek.run(problem(), ek.EKI(ek.FixedStep(0.25)), n_steps=2, rng=0, checkpoint=tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("resumed", [ek.resume, ek.AskTell.load])
def test_the_former_name_works_and_the_warning_is_at_the_line_that_uses_it(checkpoint, resumed):
    kind = np.ones((1, 1), dtype=np.float64)
    line = inspect.currentframe().f_lineno + 2
    with pytest.warns(DeprecationWarning, match=MESSAGE) as caught:
        former = resumed(checkpoint, problem(), n_steps=3, ensemble=kind)
    assert [(each.filename, each.lineno) for each in caught] == [(__file__, line)]
    assert former is not None


def test_the_former_name_gives_the_same_result(checkpoint, tmp_path):
    kind = np.ones((1, 1), dtype=np.float32)
    new = ek.resume(checkpoint, problem(), n_steps=3, like=kind)
    ek.run(problem(), ek.EKI(ek.FixedStep(0.25)), n_steps=2, rng=0, checkpoint=tmp_path / "other")
    with pytest.warns(DeprecationWarning, match=MESSAGE):
        former = ek.resume(tmp_path / "other", problem(), n_steps=3, ensemble=kind)
    np.testing.assert_array_equal(former.u, new.u)


def test_the_present_name_does_not_warn_and_both_names_are_refused(checkpoint):
    kind = np.ones((1, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ek.resume(checkpoint, problem(), n_steps=3, like=kind)
    with pytest.raises(ValueError, match="^ensemble: must be left out with like=.*got ndarray"):
        ek.resume(checkpoint, problem(), n_steps=3, like=kind, ensemble=kind)


def test_an_argument_that_was_not_passed_does_not_warn():
    assert renamed("old", None, "new", 1, since="0.2", until="0.4") == 1
    assert renamed("old", None, "new", None, since="0.2", until="0.4") is None


def test_the_changelog_lists_every_former_name_with_the_version_in_which_it_goes():
    """The policy in CONTRIBUTING.md: at least two minor versions."""
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    found = re.findall(r"^### Deprecated\n\n(.*?)(?=^##)", changelog, re.M | re.S)
    listed = " ".join(found)
    calls = [
        each
        for path in (ROOT / "ekitools").rglob("*.py")
        if path.name != "deprecation.py"
        for each in re.findall(
            r'renamed\(\s*"(\w+)",.*?"(\w+)",.*?since="0\.(\d+)", until="0\.(\d+)"',
            path.read_text("utf-8"),
            re.S,
        )
    ]
    assert calls
    for old, new, since, until in calls:
        assert int(until) >= int(since) + 2
        assert f"`{old}" in listed
        assert f"`{new}" in listed
        assert f"0.{until}" in listed
