"""Imports between modules, read from the sources: the floors of docs/architecture.md."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import ekitools
from ekitools._public import PUBLIC

PACKAGE = Path(ekitools.__file__).parent

FLOORS = (
    ("_version", "_public"),
    ("typing",),
    ("core",),
    ("losses", "priors", "models", "datasets", "adapters"),
    ("linalg", "batches", "exact", "observed"),
    ("problem", "methods", "localization"),
    ("results", "problems"),
    ("loop",),
    ("emulation", "flows"),
    ("theory", "solving"),
    ("plots",),
    ("export", "pages", "testing"),
    ("demos", "experiments"),
    ("cli",),
)
"""Folders and single files from the ground up: each imports only from floors below its own."""

DOORS = ("demos", "experiments", "cli")
"""They use ekitools as a user does, by its public names."""


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(path): path.read_text("utf-8") for path in sorted(PACKAGE.rglob("*.py"))}


def room(module: str) -> str:
    """The folder or single file below ``ekitools`` that a module belongs to; "" for the face."""
    return module.split(".")[1] if "." in module else ""


class AtRuntime(ast.NodeTransformer):
    """A module without the imports that only type checkers see."""

    def visit_If(self, node: ast.If) -> ast.AST | None:
        return None if ast.unparse(node.test) == "TYPE_CHECKING" else self.generic_visit(node)


def imported(module: str, source: str) -> set[str]:
    """Everything that a module imports, in functions too, with public names resolved."""
    found: set[str] = set()
    for node in ast.walk(AtRuntime().visit(ast.parse(source))):
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


def climbs(module: str, source: str) -> set[str]:
    """Imports that lead to the floor of the module, or above it."""
    floor = {name: i for i, names in enumerate(FLOORS) for name in names}
    here = room(module)
    ours = {t for t in imported(module, source) if t.partition(".")[0] == "ekitools"}
    if here in DOORS:
        ours.discard("ekitools")
    return {
        target
        for target in ours
        if room(target) != here and floor.get(room(target), len(FLOORS)) >= floor[here]
    }


def test_every_folder_has_a_floor() -> None:
    rooms = [name for names in FLOORS for name in names]
    assert sorted(rooms) == sorted({room(module) for module in SOURCES} - {""})


@pytest.mark.parametrize("module", [m for m in SOURCES if room(m)])
def test_a_folder_imports_only_from_floors_below(module: str) -> None:
    assert climbs(module, SOURCES[module]) == set()


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("ekitools.core.options", "import ekitools"),
        ("ekitools.results.dataset", "def f():\n    import ekitools.pages.summary"),
        ("ekitools.results.accessor", "from ekitools import summary"),
        ("ekitools.methods.eki", "from ..results import history"),
        ("ekitools.loop.driver", "from ekitools.flows.integrate import integrate"),
        ("ekitools.losses.gaussian", "from ekitools.priors import gaussian"),
        ("ekitools.pages.page", "from ekitools.demos import demo"),
    ],
)
def test_a_climb_is_caught(module: str, source: str) -> None:
    assert climbs(module, source)


def graph(sources: dict[str, str]) -> dict[str, set[str]]:
    """Every module with the modules that it imports."""
    return {
        module: {t for t in imported(module, source) if t in sources and t != module}
        for module, source in sources.items()
    }


def circle(sources: dict[str, str]) -> list[str]:
    """A circle of imports, or nothing."""
    try:
        TopologicalSorter(graph(sources)).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert circle(SOURCES) == []


def test_a_circle_is_caught() -> None:
    tied = {
        "ekitools.a": "from ekitools.b import x",
        "ekitools.b": "def f():\n    import ekitools.a",
    }
    assert set(circle(tied)) == set(tied)


def test_the_top_of_the_package_can_be_taken_in_at_a_glance() -> None:
    entries = [path for path in PACKAGE.iterdir() if path.name != "__pycache__"]
    assert len(entries) <= 33
    assert sum(path.is_file() for path in entries) <= 14


ALGORITHMS = (
    *("linalg.*", "losses.*", "priors.*", "methods.*", "localization.*"),
    *("batches", "flows.right_hand_sides"),
)
METHODS = ("eki", "gnki", "loss_eki", "curvature_eki", "nesterov", "smc")


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


def ours(*names: str) -> tuple[str, ...]:
    return tuple(f"ekitools.{name}" for name in names)


RULES = (
    Rule(
        "algorithms know no labels or plots",
        ours(*ALGORITHMS),
        ("xarray", "arviz", "matplotlib"),
    ),
    Rule(
        "algorithms know no executors, but for the threads of local analyses",
        ours(*ALGORITHMS),
        ("concurrent.futures",),
        unless=ours("linalg.threads"),
    ),
    Rule(
        "algorithms know no models, loop, results or files",
        ours(*ALGORITHMS),
        ours("models", "problem", "loop", "results", "core.options"),
    ),
    *(
        Rule(
            "methods do not know each other",
            ours(f"methods.{name}", f"methods.{name}.*"),
            ours(*(f"methods.{other}" for other in METHODS if other != name)),
        )
        for name in METHODS
    ),
    Rule("typing stands on nothing", ours("typing*"), ours("*"), but=ours("typing")),
    Rule(
        "the array tools stand on typing alone",
        ours("core.arrays", "core.devices", "core.draws", "core.masks", "core.streams"),
        ours("*"),
        but=ours("typing", "core.arrays", "core.devices", "core.draws", "core.masks"),
    ),
    Rule(
        "adapters and experiments are leaves",
        ("ekitools*",),
        ours("adapters", "experiments"),
        unless=ours("cli*", "adapters*", "experiments*"),
    ),
    Rule(
        "adapters know arrays and contracts",
        ours("adapters*"),
        ours("*"),
        but=ours("typing", "core", "adapters*"),
    ),
    Rule(
        "export and densities import arviz",
        ("ekitools*",),
        ("arviz", "arviz_stats"),
        unless=ours("export", "plots.density"),
    ),
    Rule(
        "pictures import matplotlib",
        ("ekitools*",),
        ("matplotlib",),
        unless=ours("plots.*", "demos", "experiments.*"),
    ),
    Rule(
        "frameworks and schedulers are the user's",
        ("ekitools*",),
        ("torch", "jax", "dask", "distributed", "loky", "mpi4py", "umbridge"),
        unless=ours("adapters.*", "experiments.*", "models.dask"),
    ),
)


def prefixes(name: str) -> Iterator[str]:
    """``a.b.c`` stands for ``a``, ``a.b`` and ``a.b.c``: importing it imports all three."""
    parts = name.split(".")
    return (".".join(parts[: i + 1]) for i in range(len(parts)))


def violations(rule: Rule, module: str, source: str) -> list[str]:
    return sorted(t for t in imported(module, source) if rule.broken_by(module, t))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.reason)
def test_layers(rule: Rule) -> None:
    broken = {module: violations(rule, module, source) for module, source in SOURCES.items()}
    assert {module: targets for module, targets in broken.items() if targets} == {}


@pytest.mark.parametrize(
    ("reason", "module", "source"),
    [
        ("no labels", "ekitools.linalg.kalman", "import xarray as xr"),
        (
            "no executors",
            "ekitools.methods.eki",
            "def f():\n    from concurrent.futures import wait",
        ),
        ("no executors", "ekitools.losses.gaussian", "from concurrent import futures"),
        ("no labels", "ekitools.localization.places", "import xarray"),
        ("no labels", "ekitools.methods.steps", "if True:\n    import matplotlib.pyplot as plt"),
        ("no models", "ekitools.priors.gaussian", "from ekitools import run"),
        ("no models", "ekitools.priors.gaussian", "from ekitools import FunctionModel"),
        ("no models", "ekitools.methods.eki", "from ..results import History"),
        ("no models", "ekitools.methods.smc.moves", "from ...models import evaluate"),
        ("no models", "ekitools.flows.right_hand_sides", "from ekitools import run"),
        ("methods do not", "ekitools.methods.smc.tempered", "from ekitools.methods.eki import EKI"),
        ("methods do not", "ekitools.methods.gnki", "from . import eki"),
        ("methods do not", "ekitools.methods.eki", "from ekitools import TemperedSMC"),
        ("typing stands", "ekitools.typing.rules", "from ekitools.core.arrays import like"),
        ("the array tools", "ekitools.core.arrays", "from ekitools.losses import gaussian"),
        ("are leaves", "ekitools.loop.driver", "import ekitools.adapters.torch"),
        ("are leaves", "ekitools.problems._darcy", "from ekitools import experiments"),
        ("adapters know", "ekitools.adapters.torch", "from ekitools import GaussianPrior"),
        ("import arviz", "ekitools", "import arviz"),
        ("import arviz", "ekitools.plots.style", "from arviz_stats import ess"),
        ("import matplotlib", "ekitools.export", "import matplotlib"),
        ("the user's", "ekitools.core.arrays", "class A:\n    def f(self):\n        import torch"),
    ],
)
def test_a_violation_is_caught(reason: str, module: str, source: str) -> None:
    rules = [rule for rule in RULES if reason in rule.reason]
    assert any(violations(rule, module, source) for rule in rules)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("ekitools.methods.eki", "from ekitools.linalg import kalman_update\nimport numpy as np"),
        ("ekitools.methods.eki", "from ekitools.methods.steps import FixedStep"),
        ("ekitools.core.arrays", "from ekitools.typing import Array"),
        ("ekitools.export", "import arviz as az"),
        ("ekitools.plots.style", "import matplotlib.pyplot as plt"),
        ("ekitools.cli.commands", "from ekitools.experiments import frame"),
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
    light = (*HEAVY, "xarray", "scipy", "scipy.stats", "tqdm")
    assert loaded_after("import ekitools", light) == set()


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
