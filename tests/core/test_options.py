"""Options as JSON: what is public comes back as it was."""

import json

import numpy as np
import pytest

import ekitools as ek
from ekitools.core.options import from_json, to_json

RULES = [
    ek.localization.Correlation(4.5),
    ek.localization.Distance(coordinates=("x", "y")),
    ek.localization.Distance(radius=3.0) * ek.localization.Unbiased(),
    ek.localization.Groups({("a", "b"): "flow", "c": [2, 3]}),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_rules_of_localization_are_rebuilt(rule):
    text = to_json(ek.ETKI(localization=rule))
    assert json.loads(text)["localization"]["type"].startswith("localization.")
    again = from_json(text)
    assert type(again.localization) is type(rule)
    assert to_json(again) == text


def test_only_public_names_of_a_public_module_are_rebuilt():
    for name in ("localization.Rule", "localization.rule", "core.Correlation", "Correlation"):
        with pytest.raises(ValueError, match="not a public class"):
            from_json(json.dumps({"type": name}))


def test_a_run_with_a_rule_is_resumed_without_its_method(tmp_path):
    problem = ek.problems.linear(p=4).problem
    method = ek.ETKI(ek.FixedStep(0.25), localization=ek.localization.Correlation())
    options = {"n_members": 30, "rng": 0}
    ek.run(problem, method, n_steps=2, checkpoint=tmp_path / "run", **options)
    expected = ek.run(problem, method, **options)
    resumed = ek.resume(tmp_path / "run", problem, n_steps=4)
    np.testing.assert_array_equal(resumed.u[-1], expected.u[-1])
