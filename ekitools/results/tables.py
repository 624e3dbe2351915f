"""Tables as lines of text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["table_lines"]


def table_lines(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    align: str = "<>",
    rule: bool = True,
) -> list[str]:
    r"""A table with aligned columns: a line of text for its header and for every row.

    Parameters
    ----------
    header : sequence of str
        Headings of the columns.
    rows : iterable of sequences of str
        The cells.
    align : str, default "<>"
        "<" (left) or ">" (right) for every column; the last one serves all columns that follow.
    rule : bool, default True
        Whether a line of dashes follows the header.

    Examples
    --------
    >>> from ekitools.results.tables import table_lines
    >>> print(*table_lines(("who", "n"), [("Ann", "10")]), sep="\n")
    who   n
    -------
    Ann  10
    """
    cells = [list(header), *(list(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    sides = align.ljust(len(widths), align[-1])
    lines = [
        "  ".join(f"{cell:{side}{n}}" for cell, side, n in zip(row, sides, widths, strict=True))
        for row in cells
    ]
    below = ["-" * len(lines[0])] if rule else []
    return [lines[0].rstrip(), *below, *(line.rstrip() for line in lines[1:])]
