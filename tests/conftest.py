"""Settings for all tests: repeatable property tests, and which tests the short gate leaves out.

Property tests look at the same examples every time, so that a red run can be repeated.
``pytest --hypothesis-profile=explore`` looks at new ones. ``pytest -m "not slow"`` leaves out the
folders and files of `SLOW` and every test that is marked slow itself.
"""

from __future__ import annotations

import pytest
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", max_examples=500, deadline=None)
settings.load_profile("repeatable")

SLOW = (
    *("adapters", "datasets", "experiments", "pages", "plots", "problems", "theory"),
    *("test_alignment", "test_attacks", "test_calibration"),
    *(
        "test_checkpoint_damage",
        "test_checkpoint_faults",
        "test_checkpoint_folder",
        "test_checkpoint_lock",
        "test_cli",
        "test_comparison",
        "test_distributed",
        "test_docs",
    ),
    *("test_docstrings", "test_driver", "test_evaluate", "test_export", "test_failed_members"),
    *("test_graph_field", "test_identity", "test_labels", "test_learning", "test_package"),
    *("test_smc_moves", "test_solvers", "test_tempered_smc", "test_testing", "test_workers"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name in SLOW or item.path.stem in SLOW:
            item.add_marker(pytest.mark.slow)
