"""Structure of `ekitools.experiments`, read from its sources: no module imports an experiment."""

import ast
from dataclasses import asdict
from pathlib import Path

import pytest

from ekitools import experiments
from ekitools.experiments import EXPERIMENTS
from ekitools.experiments.learning.options import Factored, Layerwise, Local

NAME = "ekitools.experiments"
FOLDER = Path(experiments.__file__).parent


def module_name(path):
    parts = path.relative_to(FOLDER).with_suffix("").parts
    return ".".join([NAME, *(part for part in parts if part != "__init__")])


SOURCES = {module_name(path): path.read_text("utf-8") for path in sorted(FOLDER.rglob("*.py"))}
PACKAGES = {module_name(path) for path in FOLDER.rglob("__init__.py")}
MODULES = {f"{NAME}.{target.partition(':')[0]}" for target in EXPERIMENTS.values()}


def within(name):
    return name == NAME or name.startswith(f"{NAME}.")


def imports(module, source):
    """Pairs of the bound name and the full name of every import, in functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (alias.asname or alias.name), alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module if module in PACKAGES else module.rpartition(".")[0]
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            for alias in node.names:
                yield (alias.asname or alias.name), f"{base}.{alias.name}"


def experiments_imported(module, source):
    """The experiments that a module imports."""
    found = [f"{name}." for _, name in imports(module, source)]
    return sorted(e for e in MODULES if any(name.startswith(f"{e}.") for name in found))


def private_names(module, source):
    """Private modules and members of other modules of the folder that a module uses."""
    bound = {alias: name for alias, name in imports(module, source) if within(name)}
    used = set(bound.values())
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            text = ast.unparse(node)
            alias = next((a for a in bound if text.startswith(f"{a}.")), None)
            if alias:
                used.add(bound[alias] + text[len(alias) :])
    inner = {name: name.removeprefix(NAME).split(".") for name in used}
    return sorted(
        name
        for name, parts in inner.items()
        if any(part.startswith("_") and not part.startswith("__") for part in parts)
    )


def dynamic_imports(source):
    """Calls of `import_module` with a name of this package."""
    return [
        ast.unparse(node)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).rpartition(".")[2] in ("import_module", "__import__")
        and "ekitools" in ast.unparse(node)
    ]


def test_every_experiment_is_a_module_or_an_object_of_one():
    assert set(SOURCES) >= MODULES
    for target in EXPERIMENTS.values():
        module, _, name = target.partition(":")
        assigned = {
            part.id
            for node in ast.parse(SOURCES[f"{NAME}.{module}"]).body
            if isinstance(node, ast.Assign)
            for part in node.targets
            if isinstance(part, ast.Name)
        }
        assert (name or "SETTINGS") in assigned


@pytest.mark.parametrize("module", SOURCES)
def test_no_module_imports_an_experiment(module):
    assert experiments_imported(module, SOURCES[module]) == []


@pytest.mark.parametrize("module", SOURCES)
def test_no_private_name_crosses_modules(module):
    assert private_names(module, SOURCES[module]) == []


def test_only_the_frame_imports_experiments_by_their_names():
    found = {module: dynamic_imports(source) for module, source in SOURCES.items()}
    assert [module for module, calls in found.items() if calls] == [f"{NAME}.frame"]


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("cnn", f"from {NAME} import mnist_dense", ["mnist_dense"]),
        ("cnn", f"from {NAME}.mnist_dense import parts", ["mnist_dense"]),
        ("cnn", "def f():\n    from .series import sunspots", ["series"]),
        ("learning.loop", "from .. import cartpole", ["cartpole"]),
        ("learning", "from ..cnn import parts", ["cnn"]),
        ("frame", f"import {NAME}.cnn as other", ["cnn"]),
        ("cnn", f"from {NAME} import networks\nfrom {NAME}.learning.loop import learned", []),
    ],
)
def test_an_imported_experiment_is_found(module, source, expected):
    found = experiments_imported(f"{NAME}.{module}", source)
    assert found == [f"{NAME}.{each}" for each in expected]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (f"from {NAME}.images import _AT_ONCE", ["images._AT_ONCE"]),
        (f"from {NAME}._online import scaled", ["_online.scaled"]),
        (f"from {NAME} import images as i\ni._channels_first(0)", ["images._channels_first"]),
        (f"import {NAME}.images\n{NAME}.images._AT_ONCE", ["images._AT_ONCE"]),
        (f"from {NAME} import images\nimages.accuracy.__doc__", []),
        ("from ekitools._version import __version__\nimport numpy as np\nnp._core", []),
    ],
)
def test_a_private_name_is_found(source, expected):
    assert private_names(f"{NAME}.cnn", source) == [f"{NAME}.{each}" for each in expected]


def test_options_keep_the_order_of_their_fields():
    """Positional arguments and old files ``numbers.json`` depend on names and order."""
    dense = "steps members components weighting"
    growing = "batch batch_growth damping damping_growth"
    solved = "prior iterations momentum gamma averaging"
    for kind, names in (
        (Factored, f"{dense} {growing} decay gamma memory averaging antithetic"),
        (Local, f"{dense} {growing} {solved} antithetic"),
        (Layerwise, f"steps {growing} {solved}"),
    ):
        assert list(asdict(kind(1))) == names.split()


def test_options_of_a_step_grow():
    options = Factored(9, batch=100, batch_growth=1.5, damping=2.0, damping_growth=0.5)
    assert options.at(0) == options
    now = options.at(3)
    assert (now.batch, now.damping) == (337, 0.25)
    assert type(now) is Factored
