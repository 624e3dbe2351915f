"""The site: nothing public is missing, no link leads nowhere, and tutorials assert their claims."""

import re
from pathlib import Path

import pytest

import ekitools as ek
from ekitools import datasets, problems

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *DOCS.glob("tutorials/*.md")])
TUTORIALS = [path for path in sorted(DOCS.glob("tutorials/*.md")) if path.stem != "index"]


def name(path):
    return str(path.relative_to(DOCS))


def cells(path):
    return re.findall(r"^```\{code-cell\} python\n(.*?)^```$", path.read_text("utf-8"), re.M | re.S)


def toctree(path):
    """The pages that the toctrees of a page list."""
    blocks = re.findall(r"^```\{toctree\}\n(.*?)^```$", path.read_text("utf-8"), re.M | re.S)
    lines = [line for block in blocks for line in block.splitlines()]
    return [path.parent / f"{line}.md" for line in lines if line and not line.startswith(":")]


def listed():
    text = (DOCS / "api.md").read_text("utf-8")
    return re.findall(r"^   ([\w.]+)$", text, re.M)


def test_every_public_name_is_in_the_api_pages_once():
    expected = set(ek._PUBLIC)
    expected |= {f"problems.{each}" for each in problems.__all__}
    expected |= {f"datasets.{each}" for each in datasets.__all__}
    expected |= {"adapters.torch.TorchModel", "adapters.jax.JaxModel"}
    assert expected - set(listed()) == set()
    assert len(set(listed())) == len(listed())


def test_the_api_pages_list_what_there_is():
    for each in listed():
        if not each.startswith("adapters."):
            found = ek
            for part in each.split("."):
                found = getattr(found, part)
            assert found.__doc__


def test_every_picture_is_in_the_gallery():
    gallery = "".join(cells(DOCS / "plots.md"))
    plots = [each for each in ek._PUBLIC if each.startswith("plot_")]
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
        compile(re.sub(r"^:.*\n", "", cell), path.name, "exec")


@pytest.mark.parametrize("path", TUTORIALS, ids=name)
def test_tutorials_end_with_what_they_claim_checked(path):
    assert cells(path)[-1].count("assert ") >= 3
    assert path.read_text("utf-8").rstrip().endswith("```")
    assert f"({path.name})" in (DOCS / "tutorials" / "index.md").read_text("utf-8")
