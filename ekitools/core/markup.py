"""HTML parts: tables, figures, and the style of pages and notebooks."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

__all__ = ["STYLE", "figure", "folded", "page", "paragraph", "plain", "table"]

_LONGEST = 2000
"""Characters of a text that are shown."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters, and those that turn the direction of a text."""

# Text and ground are inherited, so that a notebook's own theme is kept; lines are a grey that
# shows on white and on black; what is coloured carries its meaning as a word, too. The verdict has
# its own text and ground, with a contrast of 7 or more (WCAG AAA) on any page.
STYLE = """
.ekitools table { border-collapse: collapse; margin: 0.8em 0; font-size: 0.9em; text-align: left; }
.ekitools caption { caption-side: top; text-align: left; padding: 0.3em 0; opacity: 0.85; }
.ekitools caption span { display: block; position: sticky; left: 0; max-width: min(100%, 88vw); }
.ekitools th, .ekitools td { padding: 0.25em 0.6em; vertical-align: top; text-align: left;
  border-top: 1px solid rgba(128, 128, 128, 0.4); background: transparent; }
.ekitools td { overflow-wrap: anywhere; }
.ekitools tbody th { max-width: min(16em, 40vw); overflow-wrap: break-word; }
.ekitools thead th { border-top: none; vertical-align: bottom; }
.ekitools .number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.ekitools thead .number { white-space: normal; min-width: 4em; }
.ekitools .wide { overflow-x: auto; max-width: 100%; }
.ekitools .good, .ekitools .note, .ekitools .care, .ekitools .bad { border-left: 0.4em solid; }
.ekitools .good { border-left-color: #009E73; }
.ekitools .note { border-left-color: #0072B2; }
.ekitools .care { border-left-color: #E69F00; }
.ekitools .bad { border-left-color: #D55E00; }
.ekitools .trust { padding: 0.5em 0.8em; background: rgba(128, 128, 128, 0.12); }
.ekitools .verdict strong { padding: 0.15em 0.6em; margin-right: 0.5em; border-radius: 0.3em;
  color: #fff; background: #454545; }
.ekitools .verdict .confirmed { background: #005c43; }
.ekitools .verdict .corrected { color: #1b1b1b; background: #f0b429; }
.ekitools .verdict .not-confirmed { background: #9c1f00; }
.ekitools details { margin: 0.8em 0; }
.ekitools summary { cursor: pointer; }
.ekitools pre { overflow-x: auto; padding: 0.6em; background: rgba(128, 128, 128, 0.12); }
"""

_PAGE_STYLE = """
:root { color-scheme: light dark; }
body { margin: 0 auto; padding: 1em; max-width: 72em; color: #1b1b1b; background: #fff;
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6em; line-height: 1.25; overflow-wrap: anywhere; }
h2 { font-size: 1.25em; margin-top: 2em; }
a { color: inherit; }
nav ul { display: flex; flex-wrap: wrap; gap: 0.2em 1.2em; padding: 0; list-style: none; }
figure { margin: 1em 0; }
figure img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
figcaption { font-size: 0.9em; opacity: 0.85; }
.pair { display: flex; flex-wrap: wrap; gap: 0 1em; }
.pair figure { flex: 1 1 26em; max-width: 100%; }
@media (prefers-color-scheme: dark) { body { color: #e6e6e6; background: #161616; } }
@media print { body { max-width: none; } nav { display: none; }
  .verdict strong { print-color-adjust: exact; } }
"""


def plain(text: Any) -> str:
    r"""The text without control characters, cut if it is very long.

    Examples
    --------
    >>> from ekitools.core.markup import plain
    >>> plain("a\x00b"), len(plain("a" * 10_000_000)) < 2100
    ('a\ufffdb', True)
    """
    text = str(text)
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}… ({len(text)} characters)"
    text = _CONTROL.sub("\ufffd", text)
    return text.encode("utf-8", "replace").decode("utf-8")  # half of a pair cannot be written


def paragraph(text: Any) -> str:
    """The text as `plain` has it, with what HTML would take for markup escaped."""
    return escape(plain(text))


def table(
    rows: Iterable[Sequence[Any]],
    *,
    caption: str,
    header: Sequence[str] = (),
    level: int | None = None,
) -> str:
    """Rows of cells, the first of each its heading.

    Parameters
    ----------
    rows : iterable of sequences
        Numbers, as texts, are put to the right.
    caption : str
        What the table shows.
    header : sequence of str, optional
        Headings of the columns.
    level : int, optional
        The column that says "good", "note", "care" or "bad".
    """
    # what can be scrolled has to be reached by the keyboard, too
    lines = [
        f'<div class="wide" tabindex="0" role="group" aria-label="{paragraph(caption)}"><table>',
        f"<caption><span>{paragraph(caption)}</span></caption>",
    ]
    body = [[str(cell) for cell in row] for row in rows]
    numeric = [
        len(header) > 0 and i > 0 and all(_is_number(row[i]) for row in body)
        for i in range(len(body[0]) if body else 0)
    ]
    if header:
        cells = "".join(
            f'<th scope="col"{_class(number)}>{paragraph(text)}</th>'
            for text, number in zip(header, numeric or [False] * len(header), strict=True)
        )
        lines.append(f"<thead><tr>{cells}</tr></thead>")
    lines.append("<tbody>")
    for first, *others in body:
        cells = f'<th scope="row">{paragraph(first)}</th>'
        for i, text in enumerate(others, start=1):
            attribute = f' class="{paragraph(text)}"' if i == level else _class(numeric[i])
            cells += f"<td{attribute}>{paragraph(text)}</td>"
        lines.append(f"<tr>{cells}</tr>")
    return "\n".join([*lines, "</tbody></table></div>"])


def figure(svg: bytes, size: tuple[float, float], *, alt: str, caption: str) -> str:
    """A picture within the page; ``size`` in inches, ``alt`` describes the picture."""
    width, height = (round(96 * inches) for inches in size)
    data = b64encode(svg).decode("ascii")
    # never so small that its text cannot be read: on a phone it is scrolled instead
    return (
        '<figure><div class="wide" tabindex="0" role="group" aria-label="Picture">'
        f'<img src="data:image/svg+xml;base64,{data}" alt="{paragraph(alt)}" '
        f'width="{width}" height="{height}" style="min-width: {round(0.62 * width)}px"></div>'
        f"<figcaption>{paragraph(caption)}</figcaption></figure>"
    )


def folded(title: str, content: str) -> str:
    """HTML that is shown after a click on ``title``.

    Examples
    --------
    >>> from ekitools.core.markup import folded
    >>> folded("a < b", "<p>more</p>")
    '<details><summary>a &lt; b</summary><p>more</p></details>'
    """
    return f"<details><summary>{paragraph(title)}</summary>{content}</details>"


def page(title: str, body: str) -> str:
    """A whole page that needs nothing but itself."""
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            '<head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{paragraph(title)}</title>",
            f"<style>{STYLE}{_PAGE_STYLE}</style></head>",
            f'<body class="ekitools">{body}</body>',
            "</html>\n",
        ]
    )


def _is_number(text: str) -> bool:
    return text[:1] in "0123456789-–+" or text in ("nan", "inf")


def _class(number: bool) -> str:
    return ' class="number"' if number else ""
