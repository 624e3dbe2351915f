"""Tables as lines of text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["table_lines"]


def table_lines(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    r"""A table with a line below its header: the first column to the left, others to the right.

    Examples
    --------
    >>> from ekitools.results.tables import table_lines
    >>> print(*table_lines(("who", "n"), [("Ann", "10")]), sep="\n")
    who   n
    -------
    Ann  10
    """
    cells = [list(header), *(list(row) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = []
    for first, *others in cells:
        padded = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *padded]))
    return [lines[0], "-" * len(lines[0]), *lines[1:]]
