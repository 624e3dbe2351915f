"""Notebooks to download: every tutorial is written beside its page as an ``.ipynb`` file.

The cells are those of the page. Links between pages and roles of Sphinx mean nothing outside the
site, so only their text remains. Notebooks contain no outputs; the page shows them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from docutils import nodes
from myst_nb.core.read import is_myst_markdown_notebook, read_myst_markdown_notebook

FOLDER = "tutorials/"


def notebook(text) -> dict[str, Any]:
    """The notebook of a MyST page, valid in nbformat 4."""
    page = read_myst_markdown_notebook(text)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    page.metadata = {"kernelspec": kernel}
    for number, cell in enumerate(page.cells):
        cell["id"] = f"cell-{number}"  # the same in every build
        if cell.cell_type == "markdown":
            cell.source = plain(cell.source)
    nbformat.validate(page)
    return page


def plain(text) -> str:
    """Markdown for Jupyter, without Sphinx's roles and without links to files of the site."""
    role = r"\{(?:py:\w+|doc|ref|term|download)\}"
    text = re.sub(role + r"`[^`<]+ <~?([\w.]+)>`", r"`\1`", text)
    text = re.sub(role + r"`~?([^`]+)`", r"`\1`", text)
    text = re.sub(r"\[([^\]]+)\]\((?!https?:|mailto:)[^)]*\)", r"\1", text)
    return re.sub(r"^(:::|```)\{(\w+)\}.*\n(.*?)^\1$", r"\3", text, flags=re.M | re.S)


def tutorials(env) -> Iterator[tuple[str, str]]:
    """Names and sources of the pages that can be downloaded."""
    for name in sorted(env.found_docs):
        if name.startswith(FOLDER):
            text = Path(env.doc2path(name)).read_text("utf-8")
            if is_myst_markdown_notebook(text):
                yield name, text


def link(app, doctree) -> None:
    """Put the link to the notebook below the title of the page."""
    name = app.env.docname
    if app.builder.format != "html" or name not in dict(tutorials(app.env)):
        return
    file = f"{name.rpartition('/')[2]}.ipynb"
    anchor = f'<a href="{file}" download>Download as a notebook ({file})</a>'
    html = f'<p class="notebook-link">{anchor}</p>'
    title = next(doctree.findall(nodes.title))
    title.parent.insert(title.parent.index(title) + 1, nodes.raw("", html, format="html"))


def write(app, error) -> None:
    """Write the notebooks beside the pages."""
    if error is None and app.builder.format == "html":
        for name, text in tutorials(app.env):
            path = Path(app.outdir, f"{name}.ipynb")
            path.write_text(nbformat.writes(notebook(text)) + "\n", "utf-8")


def setup(app) -> dict[str, bool]:
    """Connect the two steps to Sphinx."""
    app.connect("doctree-read", link)
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
