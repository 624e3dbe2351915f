"""Which module may import which: the layers of docs/architecture.md, read from the sources."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import pytest

import ekitools
from ekitools._public import PUBLIC

PACKAGE = Path(ekitools.__file__).parent


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(path): path.read_text("utf-8") for path in sorted(PACKAGE.rglob("*.py"))}

# Algorithms: pure functions of arrays.
ALGORITHMS = tuple(
    f"ekitools.{name}"
    for name in (
        "linalg",
        "moves",
        "resampling",
        "gaussians",
        "analysis",
        "noise",
        "losses",
        "priors",
        "random_fields",
        "graphs",
        "schedules",
        "spread",
        "batches",
        "momentum",
        "flows",
        "methods.*",
        "losses.*",
        "priors.*",
        "flows.right_hand_sides",
    )
)
METHODS = tuple(
    f"ekitools.methods.{name}"
    for name in ("eki", "gnki", "loss_eki", "curvature_eki", "nesterov", "smc", "smc.*")
)


class Rule(NamedTuple):
    """``modules`` other than ``unless`` never import ``never`` other than ``but``; all patterns."""

    reason: str
    modules: tuple[str, ...]
    never: tuple[str, ...]
    unless: tuple[str, ...] = ()
    but: tuple[str, ...] = ()

    def broken_by(self, module: str, target: str) -> bool:
        def among(name: str, patterns: tuple[str, ...]) -> bool:
            return any(fnmatch(name, pattern) for pattern in patterns)

        return (
            target != module
            and among(module, self.modules)
            and not among(module, self.unless)
            and any(among(part, self.never) for part in prefixes(target))
            and not any(among(part, self.but) for part in prefixes(target))
        )


RULES = (
    Rule(
        "algorithms know no labels, plots or executors",
        ALGORITHMS,
        ("xarray", "arviz", "matplotlib", "concurrent.futures"),
    ),
    Rule(
        "algorithms know no models, loop, results or files",
        ALGORITHMS,
        tuple(
            f"ekitools.{name}"
            for name in (
                *("models", "problem", "evaluate", "asktell", "loop", "integrators", "continuous"),
                *("results", "checkpoint", "options"),
            )
        ),
    ),
    *(
        Rule("methods do not know each other", (method,), tuple({*METHODS} - {method}))
        for method in METHODS[:-2]
    ),
    Rule("methods do not know each other", METHODS[-2:], METHODS[:-2]),
    Rule("typing stands on nothing", ("ekitools.typing",), ("ekitools.*",)),
    Rule(
        "the array tools stand on typing alone",
        ("ekitools.core.arrays",),
        ("ekitools.*",),
        but=("ekitools.typing",),
    ),
    Rule(
        "adapters and experiments are leaves",
        ("ekitools*",),
        ("ekitools.adapters", "ekitools.experiments"),
        unless=("ekitools.cli", "ekitools.adapters*", "ekitools.experiments*"),
    ),
    Rule(
        "adapters know arrays and contracts",
        ("ekitools.adapters*",),
        ("ekitools.*",),
        but=(
            "ekitools.typing",
            "ekitools.core.arrays",
            "ekitools.core.signatures",
            "ekitools.adapters*",
        ),
    ),
    Rule("one module imports arviz", ("ekitools*",), ("arviz",), unless=("ekitools.export",)),
    Rule(
        "pictures import matplotlib",
        ("ekitools*",),
        ("matplotlib",),
        unless=("ekitools.plots.style", "ekitools.demos", "ekitools.experiments.*"),
    ),
    Rule(
        "frameworks and schedulers are the user's",
        ("ekitools*",),
        ("torch", "jax", "dask", "distributed", "loky", "mpi4py", "umbridge"),
        unless=("ekitools.adapters.*", "ekitools.experiments.*"),
    ),
)


def prefixes(name: str) -> Iterator[str]:
    """``a.b.c`` stands for ``a``, ``a.b`` and ``a.b.c``: importing it imports all three."""
    parts = name.split(".")
    return (".".join(parts[: i + 1]) for i in range(len(parts)))


def imported(module: str, source: str) -> set[str]:
    """Everything that a module imports, in functions too, with public names resolved."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = module.split(".")[: -node.level]
                base = ".".join([*parent, base] if base else parent)
            if base == "ekitools":
                found |= {f"ekitools.{PUBLIC.get(a.name, a.name)}" for a in node.names}
            else:
                found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return found


def violations(rule: Rule, module: str, source: str) -> list[str]:
    return sorted(t for t in imported(module, source) if rule.broken_by(module, t))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.reason)
def test_layers(rule: Rule) -> None:
    broken = {module: violations(rule, module, source) for module, source in SOURCES.items()}
    assert {module: targets for module, targets in broken.items() if targets} == {}


@pytest.mark.parametrize("module", [m for m in SOURCES if any(fnmatch(m, a) for a in ALGORITHMS)])
def test_algorithms_do_not_reach_round_the_rules_through_the_package(module: str) -> None:
    assert "ekitools" not in imported(module, SOURCES[module])


@pytest.mark.parametrize(
    ("reason", "module", "source"),
    [
        ("no labels", "ekitools.linalg", "import xarray as xr"),
        ("no labels", "ekitools.methods.eki", "def f():\n    from concurrent.futures import wait"),
        ("no labels", "ekitools.losses.gaussian", "from concurrent import futures"),
        ("no labels", "ekitools.methods.steps", "if True:\n    import matplotlib.pyplot as plt"),
        ("no models", "ekitools.priors.gaussian", "from ekitools import run"),
        ("no models", "ekitools.priors.gaussian", "from ekitools import FunctionModel"),
        ("no models", "ekitools.methods.eki", "from ..results import History"),
        ("no models", "ekitools.methods.eki", "from .. import evaluate"),
        ("no models", "ekitools.flows.right_hand_sides", "from ekitools import run"),
        ("methods do not", "ekitools.methods.smc.tempered", "from ekitools.methods.eki import EKI"),
        ("methods do not", "ekitools.methods.smc.tempered", "from . import eki"),
        ("methods do not", "ekitools.methods.smc.tempered", "from ekitools import EKI"),
        ("typing stands", "ekitools.typing", "from ekitools._arrays import like"),
        ("the array tools", "ekitools.core.arrays", "from ekitools.noise import as_noise"),
        ("are leaves", "ekitools.loop.driver", "import ekitools.adapters.torch"),
        ("are leaves", "ekitools.problems.darcy", "from ekitools import experiments"),
        ("adapters know", "ekitools.adapters.torch", "from ekitools import GaussianPrior"),
        ("imports arviz", "ekitools", "import arviz"),
        ("imports arviz", "ekitools.plots.style", "from arviz.stats import ess"),
        ("import matplotlib", "ekitools.export", "import matplotlib"),
        (
            "the user's",
            "ekitools.core.arrays",
            "class A:\n    def f(self):\n        import torch.nn",
        ),
    ],
)
def test_a_violation_is_caught(reason: str, module: str, source: str) -> None:
    rules = [rule for rule in RULES if reason in rule.reason]
    assert any(violations(rule, module, source) for rule in rules)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("ekitools.methods.eki", "from ekitools.linalg import kalman_update\nimport numpy as np"),
        ("ekitools.core.arrays", "from ekitools.typing import Array"),
        ("ekitools.export", "import arviz as az"),
        ("ekitools.plots.style", "import matplotlib.pyplot as plt"),
        ("ekitools.cli", "from ekitools.experiments import tables"),
        ("ekitools.adapters.torch", "import torch\nfrom ekitools.typing import Array"),
        ("ekitools.linalg", "import xarraylike, concurrent.interpreters"),
    ],
)
def test_what_is_allowed_is_not_caught(module: str, source: str) -> None:
    assert [v for rule in RULES for v in violations(rule, module, source)] == []


@pytest.mark.parametrize("module", SOURCES)
def test_no_file_is_longer_than_500_lines(module: str) -> None:
    assert len(SOURCES[module].splitlines()) <= 500


HEAVY = ("arviz", "matplotlib", "torch", "jax", "dask", "distributed", "loky")


def loaded_after(code: str, candidates: tuple[str, ...]) -> set[str]:
    """Which of ``candidates`` a fresh interpreter has imported after ``code``."""
    script = f"{code}\nimport sys\nprint(*(set({candidates!r}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert loaded_after("import ekitools", (*HEAVY, "xarray", "scipy", "tqdm")) == set()


def test_a_problem_and_a_method_need_no_labels() -> None:
    code = (
        "import ekitools as ek\n"
        "model, prior = ek.LinearModel([[1.0]]), ek.GaussianPrior(0.0, [1.0])\n"
        "ek.InverseProblem(model, prior, 1.0, [2.0])\n"
        "ek.EKI(), ek.run, ek.resume, ek.AskTell"
    )
    assert loaded_after(code, (*HEAVY, "xarray")) == set()


def test_no_public_name_imports_a_framework_or_a_plotting_library() -> None:
    code = "import ekitools as ek\nfor name in dir(ek): getattr(ek, name)"
    assert loaded_after(code, HEAVY) == set()


def test_the_check_of_loaded_modules_sees_them() -> None:
    assert loaded_after("import ekitools, json.decoder", ("json.decoder", "arviz")) == {
        "json.decoder"
    }
