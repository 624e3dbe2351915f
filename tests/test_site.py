"""The site: notebooks that equal their pages, and a built site that needs no network."""

import json
import os
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytest.importorskip("myst_nb", reason="Sphinx is not installed")
nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

DOCS = Path(__file__).parents[1] / "docs"
TUTORIALS = [path for path in sorted(DOCS.glob("tutorials/*.md")) if path.stem != "index"]
QUICK = [DOCS / "tutorials" / f"{stem}.md" for stem in ("first", "linear", "own-method")]
SITE = os.environ.get("EKITOOLS_SITE")
built = pytest.mark.skipif(SITE is None, reason="EKITOOLS_SITE names no built site")


@pytest.fixture
def notebooks(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))
    import notebooks

    yield notebooks
    sys.modules.pop("notebooks")


def code(path):
    """The code cells of a page, without their options."""
    fence = r"^```\{code-cell\} python\n(.*?)^```$"
    found = re.findall(fence, path.read_text("utf-8"), re.M | re.S)
    return [re.sub(r"\A(:.*\n)+", "", cell).strip("\n") for cell in found]


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_notebook_has_the_cells_of_its_page(path, notebooks):
    page = notebooks.notebook(path.read_text("utf-8"))
    assert nbformat.reads(nbformat.writes(page), as_version=4) == page
    assert [c.source.strip("\n") for c in page.cells if c.cell_type == "code"] == code(path)
    text = "\n\n".join(cell.source for cell in page.cells if cell.cell_type == "markdown")
    assert text.startswith("# ")
    assert re.search(r"\{(py:\w+|doc|ref|term)\}`|^(```|:::)\{", text, re.M) is None
    assert re.findall(r"\]\((?!https?:)[^)]*\)", text) == []


def test_text_of_a_notebook_has_no_roles_and_no_links_to_pages(notebooks):
    text = "`a{x}` b `c`, {py:obj}`~ekitools.GNKI`, {py:func}`ek.run <ekitools.run>`"
    assert notebooks.plain(text) == "`a{x}` b `c`, `ekitools.GNKI`, `ekitools.run`"
    assert notebooks.plain("[SMC](smc.md#a), [x](https://a.b)") == "SMC, [x](https://a.b)"


@pytest.mark.slow
@pytest.mark.parametrize("path", QUICK, ids=lambda path: path.stem)
def test_notebooks_run_in_an_empty_folder(path, notebooks, tmp_path, monkeypatch):
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    page = notebooks.notebook(path.read_text("utf-8"))
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(page, timeout=240, resources=resources).execute()
    assert all(cell.execution_count for cell in page.cells if cell.cell_type == "code")


RELATIONS = {"index", "search", "next", "prev", "canonical"}  # not loaded with the page


class Files(HTMLParser):
    """The files that a page loads: scripts, styles and pictures, not links for the reader."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag in {"script", "img", "iframe", "source"} and attributes.get("src"):
            self.found.append(attributes["src"])
        if tag == "link" and attributes.get("rel") not in RELATIONS:
            self.found.append(attributes["href"])


def outside(addresses):
    return sorted({each for each in addresses if urlsplit(each).netloc})


def test_a_script_from_another_host_is_seen():
    text = '<a href="https://a.b"><script src="https://c.d/x.js"></script><link href="e.css">'
    assert outside(Files(text).found) == ["https://c.d/x.js"]


@built
def test_pages_load_nothing_from_other_hosts():
    pages = {page: page.read_text("utf-8") for page in sorted(Path(SITE).rglob("*.html"))}
    assert len(pages) > 200
    assert {
        str(page): found for page, text in pages.items() if (found := outside(Files(text).found))
    } == {}
    for style in Path(SITE).rglob("*.css"):
        assert (
            re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//[^)]*", style.read_text("utf-8"))
            == []
        )
    assert any("tex-svg-full.js" in text for text in pages.values())


@built
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_offers_its_notebook(path):
    folder = Path(SITE) / "tutorials"
    page = nbformat.read(folder / f"{path.stem}.ipynb", as_version=4)
    nbformat.validate(page)
    assert [c.source.strip("\n") for c in page.cells if c.cell_type == "code"] == code(path)
    assert f'href="{path.stem}.ipynb" download' in (folder / f"{path.stem}.html").read_text("utf-8")


@built
@pytest.mark.parametrize(
    ("stem", "pages"),
    {
        "miss": ["howto/missing-values", "data"],
        "failur": ["howto/failing-simulator", "failures"],
        "posterior": ["howto/intervals", "tutorials/smc", "generated/ekitools.posterior"],
    }.items(),
)
def test_the_search_finds_pages_by_words_of_their_titles(stem, pages):
    text = (Path(SITE) / "searchindex.js").read_text("utf-8")
    index = json.loads(text[text.index("(") + 1 : text.rindex(")")])
    assert {*pages} <= {index["docnames"][number] for number in index["titleterms"][stem]}
