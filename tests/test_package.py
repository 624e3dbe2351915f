"""What a user meets first: the public names, the version, the README."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import importlib.metadata
import importlib.resources
import inspect
import json
import os
import pickle
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import ekitools as ek
from ekitools._public import MODULES, PUBLIC

ROOT = Path(__file__).parents[1]
PACKAGE = Path(ek.__file__).parent
README = (ROOT / "README.md").read_text("utf-8")
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
WITH_CODE = [path for path in DOCUMENTS if "```python" in path.read_text("utf-8")]


def section(docstring: str, title: str) -> str:
    """One section of a numpydoc docstring, or nothing."""
    found = re.search(rf"^{title}\n-+\n(.*?)(?=^\S[^\n]*\n---|\Z)", docstring, re.M | re.S)
    return found[1] if found else ""


def code_blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


@pytest.mark.parametrize("name", PUBLIC)
def test_public_name_is_documented_with_an_example(name: str) -> None:
    docstring = inspect.getdoc(getattr(ek, name))
    assert docstring
    assert docstring.splitlines()[0].endswith(".")
    assert ">>> " in section(docstring, "Examples")


@pytest.mark.parametrize("name", PUBLIC)
def test_every_parameter_is_documented(name: str) -> None:
    public = getattr(ek, name)
    if inspect.isclass(public) and issubclass(public, Exception):
        documented = section(inspect.getdoc(public) or "", "Attributes")
        assert all(attribute in documented for attribute in public.__annotations__)
        return
    documented = section(inspect.getdoc(public) or "", "Parameters")
    missing = [
        parameter
        for parameter in inspect.signature(public).parameters
        if not re.search(rf"^[\w*, ]*\b{parameter}\b[\w, ]*(:|$)", documented, re.M)
    ]
    assert missing == []


@pytest.mark.parametrize("name", MODULES)
def test_public_module(name: str) -> None:
    assert inspect.ismodule(getattr(ek, name))
    assert inspect.getdoc(getattr(ek, name))


def test_dir_lists_the_public_names() -> None:
    assert set(dir(ek)) == {"__version__", *PUBLIC, *MODULES}


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'EKKI'"):
        ek.EKKI  # noqa: B018 - asking is the test


def test_no_public_name_is_hidden_by_a_module() -> None:
    # Importing ekitools.x binds the module to the name x of the package, over a function x.
    modules = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert modules & set(PUBLIC) == set()


def test_type_checkers_see_every_public_name() -> None:
    tree = ast.parse((PACKAGE / "__init__.pyi").read_text("utf-8"))
    seen = {
        alias.asname: node.module
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }
    lazily = {name: f"ekitools.{module}" for name, module in PUBLIC.items()}
    faces = {"__version__": "ekitools._version", **dict.fromkeys(MODULES, "ekitools")}
    assert seen == lazily | faces


PICKLED = [
    *("batches.MiniBatches", "batches.OnlineData", "checkpoint.CheckpointError"),
    *("flows.EKIFlow", "flows.EKSFlow", "flows.GradientFlow", "flows.NaturalGradientFlow"),
    *("flows.NesterovFlow", "flows.StochasticEKIFlow", "gaussians.GaussianStart"),
    *("graphs.GraphField", "labels.XarrayModel", "losses.BinaryCrossEntropy"),
    *("losses.CrossEntropy", "losses.FunctionLoss", "losses.Huber"),
    *("methods.curvature_eki.CurvatureEKI", "methods.eki.EKI", "methods.gnki.GNKI"),
    *("methods.loss_eki.LossEKI", "methods.smc.TemperedSMC", "models.FunctionModel"),
    *("models.LinearModel", "momentum.Nesterov", "noise.GaussianNoise", "priors.GaussianPrior"),
    *("priors.Prior", "problem.InverseProblem", "random_fields.GaussianRandomField"),
    *("schedules.Collapsed", "schedules.Discrepancy", "schedules.ESMDA", "schedules.FixedStep"),
    *("schedules.MisfitController", "schedules.NoProgress", "schedules.NormStep"),
    "spread.Spread",
]


@pytest.mark.parametrize("path", PICKLED)
def test_pickles_of_version_0_1_0_find_their_classes(path: str) -> None:
    module, name = path.rsplit(".", 1)
    assert pickle.loads(f"cekitools.{module}\n{name}\n.".encode()) is getattr(ek, name)


def test_types_are_shipped() -> None:
    assert (importlib.resources.files("ekitools") / "py.typed").is_file()


def test_version_is_that_of_the_installed_package() -> None:
    try:
        installed = importlib.metadata.version("ekitools")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("ekitools is imported from its folder and not installed")
    assert ek.__version__ == installed


@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        ("CITATION.cff", r"^version: (\S+)$"),
        ("CHANGELOG.md", r"^## \[(\d\S*)\] - \d{4}-\d\d-\d\d$"),
    ],
)
def test_version_is_the_newest_one_written_down(file: str, pattern: str) -> None:
    found = re.search(pattern, (ROOT / file).read_text("utf-8"), re.M)
    assert found
    assert found[1] == ek.__version__


def test_readme_begins_with_the_two_commands() -> None:
    assert "".join(code_blocks(README, "bash")[:2]).splitlines() == [
        "python -m pip install . && ekitools demo",
        'python -m pip install -e ".[test]" && pytest',
    ]
    assert README.index("```bash") < README.index("\n## ")
    assert code_blocks(README, "python")


def test_readme_shows_the_output_of_its_first_example(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(code_blocks(README, "python")[0], "README.md", "exec"), {})
    printed, shown = capsys.readouterr().out.split(), code_blocks(README, "text")[0].split()
    assert len(printed) == len(shown)
    for found, expected in zip(printed, shown, strict=True):
        if found != expected:  # a processor can round otherwise
            assert float(found) == pytest.approx(float(expected), rel=0.01)


@pytest.mark.parametrize("path", WITH_CODE, ids=lambda path: path.name)
def test_code_blocks_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": path.stem}  # one for all blocks: they are read one after the other
    for block in code_blocks(
        path.read_text("utf-8"), "python"
    ):  # one after the other, as they are read
        exec(compile(block, path.name, "exec"), namespace)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", path.read_text("utf-8"))
    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_the_examples_of_experiments_run_without_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import pytest; sys.exit(pytest.main())"
    command = [sys.executable, "-c", code, "-q", "-p", "no:cacheprovider", "ekitools/experiments"]
    plain = {**os.environ, "PYTEST_ADDOPTS": ""}  # which may ask for the coverage of all
    done = subprocess.run(command, cwd=ROOT, env=plain, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode()


NAMES_0_1_0 = json.loads((ROOT / "tests" / "zoo" / "names_0_1_0.json").read_text("utf-8"))


@pytest.mark.parametrize("name", NAMES_0_1_0)
def test_public_names_and_arguments_of_version_0_1_0_still_work(name):
    """A name or an argument may go only by the policy in docs/project.md."""
    found = ek
    for part in name.split("."):
        if dataclasses.is_dataclass(found) and part in {f.name for f in dataclasses.fields(found)}:
            return
        found = getattr(found, part)
    if NAMES_0_1_0[name] is not None:
        known = inspect.signature(found).parameters
        assert set(NAMES_0_1_0[name]) <= set(known)


def test_the_extra_all_has_every_extra_for_users():
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    (listed,) = extras["all"]
    named = re.fullmatch(r"ekitools\[([a-z,]+)\]", listed)
    assert named is not None
    assert set(named[1].split(",")) == set(extras) - {"all", "test", "docs"}


def test_every_extra_that_a_page_or_an_error_names_exists():
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = set(tomllib.load(file)["project"]["optional-dependencies"])
    pages = [*(ROOT / "docs").rglob("*.md"), *PACKAGE.rglob("*.py"), ROOT / "README.md"]
    named = {
        extra
        for page in pages
        for found in re.findall(r"(?:ekitools|\"\.)\[([a-z,]+)\]", page.read_text("utf-8"))
        for extra in found.split(",")
    }
    assert {"torch", "sklearn", "mpi", "all"} <= named <= extras
