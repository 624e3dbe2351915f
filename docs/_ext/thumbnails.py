"""The directive ``{thumbnails}``: a grid with the first picture of every section of its page.

Each thumbnail leads to the section with the code that draws the picture. The pictures are those of
the page's cells, so nothing is drawn twice.
"""

from docutils import nodes
from docutils.parsers.rst import Directive


class Thumbnails(nodes.General, nodes.Element):
    """The place of the grid, until the pictures are known."""


class ThumbnailsDirective(Directive):
    """``{thumbnails}``, without arguments."""

    def run(self) -> list[Thumbnails]:
        return [Thumbnails()]


def fill(_app, doctree, _name) -> None:
    """Replace the place by the grid, after MyST-NB has chosen the pictures."""
    for place in list(doctree.findall(Thumbnails)):
        grid = nodes.container(classes=["thumbnails"])
        for section in doctree.findall(nodes.section):
            picture = next(section.findall(nodes.image), None)
            if picture is None or any(section.findall(nodes.section, include_self=False)):
                continue
            title = section.next_node(nodes.title).astext()
            small = picture.deepcopy()
            small["alt"] = f"example of {title}"
            card = nodes.reference("", "", small, refid=section["ids"][0], internal=True)
            card += nodes.inline(text=title)
            grid += nodes.paragraph("", "", card)
        place.replace_self(grid)


def setup(app) -> dict[str, bool]:
    """Register the directive."""
    app.add_node(Thumbnails)
    app.add_directive("thumbnails", ThumbnailsDirective)
    app.connect("doctree-resolved", fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
