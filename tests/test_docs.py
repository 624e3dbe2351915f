"""The site: nothing public is missing, no link leads nowhere, and tutorials assert their claims."""

import ast
import importlib.util
import inspect
import os
import pkgutil
import re
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import ekitools as ek
from ekitools import datasets, experiments, localization, problems, testing, theory, typing
from ekitools._public import PUBLIC

PACKAGE = Path(ek.__file__).parent
DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *DOCS.glob("howto/*.md"), *DOCS.glob("tutorials/*.md")])
TUTORIALS = [path for path in sorted(DOCS.glob("tutorials/*.md")) if path.stem != "index"]


def name(path):
    return str(path.relative_to(DOCS))


def cells(path):
    return re.findall(r"^```\{code-cell\} python\n(.*?)^```$", path.read_text("utf-8"), re.M | re.S)


def toctree(path):
    """The pages that the toctrees of a page list."""
    blocks = re.findall(r"^```\{toctree\}\n(.*?)^```$", path.read_text("utf-8"), re.M | re.S)
    lines = [line for block in blocks for line in block.splitlines()]
    entries = [line for line in lines if line and not line.startswith(":")]
    pages = [re.sub(r".*<(.*)>", r"\1", entry) for entry in entries]
    return [path.parent / f"{page}.md" for page in pages]


def listed():
    text = (DOCS / "api.md").read_text("utf-8")
    return re.findall(r"^   ([\w.]+)$", text, re.M)


def adapters():
    """The public names of the adapters, from the sources: their frameworks may not be here."""
    for path in sorted((PACKAGE / "adapters").glob("[!_]*.py")):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                yield from (f"adapters.{path.stem}.{each}" for each in ast.literal_eval(node.value))


def docstring(each):
    module, _, found = each.rpartition(".")
    if not module.startswith("adapters."):
        return inspect.getdoc(pkgutil.resolve_name(f"ekitools.{each}"))
    tree = ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text("utf-8"))
    (node,) = (node for node in tree.body if getattr(node, "name", None) == found)
    return ast.get_docstring(node)


def test_every_public_name_is_in_the_api_pages_once():
    contracts = {
        each
        for each, value in vars(typing).items()
        if getattr(value, "__module__", "").startswith(typing.__name__)
    }
    expected = {
        *PUBLIC,
        *(f"problems.{each}" for each in problems.__all__),
        *(f"datasets.{each}" for each in datasets.__all__),
        *(f"theory.{each}" for each in theory.__all__),
        *(f"localization.{each}" for each in localization.__all__),
        *(f"testing.{each}" for each in testing.__all__),
        *(f"experiments.{each}" for each in experiments.__all__ if each.islower()),
        *(f"typing.{each}" for each in contracts),
        *adapters(),
    }
    assert expected == set(listed())
    assert len(set(listed())) == len(listed())


@pytest.mark.parametrize("each", listed())
def test_every_name_in_the_api_pages_has_an_example(each):
    example = re.search(r"^Examples\n-{8}\n(.*)", docstring(each) or "", re.M | re.S)
    assert example
    assert ">>> " in example[1]


REFERENCE = {"api.md", "architecture.md", "changelog.md", "measurements.md"}
"""Pages that list names and do not say when to use them."""


def code_of(text):
    """The code of a page: its blocks, and the words in backticks."""
    fence = r"^```[^\n]*\n(.*?)^```"
    blocks = re.findall(fence, text, re.M | re.S)
    return blocks, re.findall(r"`([^`]+)`", re.sub(fence, "", text, flags=re.M | re.S))


def mentions(each, blocks, words):
    """Whether code uses a public name: "ek.run" or `run`, EKI, "problems.linear"."""
    module, _, last = each.rpartition(".")
    if module:
        used = rf"\b{re.escape(each)}\b|from ekitools\.{re.escape(module)} import .*\b{last}\b"
    elif last[0].isupper():
        used = rf"(?<!typing\.)\b{last}\b"
    else:
        used = rf"\b(ek|ekitools)\.{last}\b"
        if any(re.fullmatch(rf"{last}(\(.*)?", word, re.S) for word in words):
            return True
    return any(re.search(used, text) for text in (*blocks, *words))


def test_mentions_are_of_the_name_itself():
    def found(each, text):
        return mentions(each, *code_of(text))

    assert found("run", "`run(problem)` and `EKI`")
    assert found("EKI", "{py:obj}`~ekitools.EKI`")
    assert found("run", "```{code-cell} python\nek.run(problem)\n```\n")
    assert found("typing.Prior", "```py\nfrom ekitools.typing import Loss, Prior\n```\n")
    assert not found("Prior", "`ek.typing.Prior`")
    assert not found("typing.Prior", "`ek.Prior`")
    assert not found("run", "run it, `ekitools run`, `runs`")
    assert not found("EKI", "`ETKI`, EKI")
    assert not found("problems.linear", "`linear`, `ek.problems.linear2`")


def test_every_public_name_is_on_a_page_that_says_when_to_use_it():
    pages = [path for path in PAGES if path.name not in REFERENCE]
    texts = [code_of(path.read_text("utf-8")) for path in pages]
    assert [each for each in listed() if not any(mentions(each, *text) for text in texts)] == []


def test_every_picture_is_in_the_gallery():
    gallery = "".join(cells(DOCS / "plots.md"))
    plots = [each for each in PUBLIC if each.startswith("plot_")]
    assert [each for each in plots if f"ek.{each}(" not in gallery] == []


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_links_lead_to_files(path):
    text = path.read_text("utf-8")
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", text)
    targets += re.findall(r"^```\{include\} (\S+)$", text, re.M)
    assert [target for target in targets if not (path.parent / target).is_file()] == []
    assert [page.name for page in toctree(path) if not page.is_file()] == []


def test_every_page_can_be_reached():
    reached, new = set(), {DOCS / "index.md"}
    while new:
        reached |= new
        new = {page for path in new for page in toctree(path)} - reached
    assert set(PAGES) == reached


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_pages_with_code_are_notebooks(path):
    # Without the front matter the code would be shown, and not run.
    if cells(path):
        assert path.read_text("utf-8").startswith("---\nfile_format: mystnb\n")


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_code_compiles(path):
    for cell in cells(path):
        compile(re.sub(r"^[:%].*\n", "", cell, flags=re.M), path.name, "exec")


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_code_fits_the_page(path):
    blocks = re.findall(
        r"^```(?:\{code-cell\} python|py)\n(.*?)^```$", path.read_text("utf-8"), re.M | re.S
    )
    assert [line for block in blocks for line in block.splitlines() if len(line) > 100] == []


# What is shown and not run by the site: it needs a cluster, a server or a package of its own.
SHOWN = {
    DOCS / "parallel.md": 4,
    DOCS / "howto" / "cluster.md": 1,
    DOCS / "tutorials" / "cluster.md": 1,
}


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_all_other_code_runs(path):
    text = path.read_text("utf-8")
    assert len(re.findall(r"^```py$", text, re.M)) == SHOWN.get(path, 0)
    assert not re.search(r"^```(python|python3|pycon|ipython3?)$", text, re.M)
    assert "skip-execution" not in text
    assert "raises-exception" not in text


def stand_ins():
    """Modules of other packages, each with what the pages take from them, made of threads."""
    client = SimpleNamespace(get_executor=lambda pure: ThreadPoolExecutor(2))

    class SLURMCluster:
        def __init__(self, *, queue, account, cores, memory, walltime):
            pass

        def scale(self, jobs):
            assert jobs > 1

        def get_client(self):
            return client

    return {
        "loky": SimpleNamespace(get_reusable_executor=ThreadPoolExecutor),
        "dask_jobqueue": SimpleNamespace(SLURMCluster=SLURMCluster),
        "mpi4py": SimpleNamespace(),
        "mpi4py.futures": SimpleNamespace(MPIPoolExecutor=ThreadPoolExecutor),
    }


@pytest.mark.parametrize("path", SHOWN, ids=name)
def test_code_that_is_only_shown_runs_with_threads(path, monkeypatch):
    for module, stand_in in stand_ins().items():
        monkeypatch.setitem(sys.modules, module, stand_in)
    problem = ek.InverseProblem(np.cumsum, ek.GaussianPrior([0.0, 0.0], 1.0), 0.1, [1.0, 0.5])
    expected = ek.run(problem, ek.EKI(), n_members=100, rng=0)
    for block in re.findall(r"^```py\n(.*?)^```$", path.read_text("utf-8"), re.M | re.S):
        code = compile(block, path.name, "exec")
        if "UMBridgeModel" in block:  # tests/adapters/test_umbridge.py has servers
            assert "adapters.umbridge.UMBridgeModel" in adapters()
            continue
        namespace = {"__name__": "__main__", "ek": ek, "problem": problem}
        exec(code, namespace)
        if "result" in namespace:
            assert namespace["result"].u.equals(expected.u)


def inventory(path, *names):
    """A file as Sphinx writes it, of classes that have a page each."""
    lines = "".join(f"{each} py:class 1 {each}.html#$ -\n" for each in names)
    head = f"# Sphinx inventory version 2\n# Project: {path.stem}\n# Version: 1\n# zlib\n"
    path.write_bytes(head.encode() + zlib.compress(lines.encode()))


@pytest.mark.skipif(
    any(importlib.util.find_spec(each) is None for each in ("myst_nb", "numpydoc", "sphinx")),
    reason="Sphinx is not installed",
)
@pytest.mark.parametrize("linked", [True, False])
def test_links_to_other_manuals(linked, tmp_path):
    source, folder = tmp_path / "source", tmp_path / "inventories"
    source.mkdir()
    folder.mkdir()
    (source / "index.md").write_text(
        "# Links\n\n{py:class}`numpy.ndarray`, {py:class}`list`\n", "utf-8"
    )
    for each, names in {"python": ["list"], "numpy": ["numpy.ndarray"]}.items():
        inventory(folder / f"{each}.inv", *names)
    for each in ("scipy", "xarray", "arviz"):
        inventory(folder / f"{each}.inv")
    environment = os.environ | {"EKITOOLS_DOCS_INTERSPHINX": str(folder) if linked else ""}
    command = [sys.executable, "-m", "sphinx", "-qW", "-c", DOCS, source, tmp_path / "html"]
    subprocess.run(command, env=environment, check=True, timeout=120)
    page = (tmp_path / "html" / "index.html").read_text("utf-8")
    assert ("https://numpy.org/doc/stable/numpy.ndarray.html#numpy.ndarray" in page) == linked
    assert ("https://docs.python.org/3/list.html#list" in page) == linked


@pytest.mark.parametrize("path", TUTORIALS, ids=name)
def test_tutorials_end_with_what_they_claim_checked(path):
    assert cells(path)[-1].count("assert ") >= 3
    assert path.read_text("utf-8").rstrip().endswith("```")
    assert f"({path.name})" in (DOCS / "tutorials" / "index.md").read_text("utf-8")
