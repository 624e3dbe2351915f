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
    width: int | None = None,
) -> list[str]:
    r"""A table with aligned columns: one line of text for the header and for every row.

    Parameters
    ----------
    header : sequence of str
        Headings of the columns.
    rows : iterable of sequences of str
        The cells.
    align : str, default "<>"
        "<" (left) or ">" (right) for every column; the last character applies to all further
        columns.
    rule : bool, default True
        Whether a line of dashes follows the header.
    width : int, optional
        Largest length of a line. Columns that do not fit are in further tables below, each of
        which repeats the first column. Cells of the first column that need more than half of the
        width are cut.

    Examples
    --------
    >>> from ekitools.results.tables import table_lines
    >>> print(*table_lines(("who", "n"), [("Ann", "10")]), sep="\n")
    who   n
    -------
    Ann  10
    """
    cells = [list(header), *(list(row) for row in rows)]
    if width is not None:
        most = max(width // 2, 8)
        for row in cells:
            row[0] = row[0] if len(row[0]) <= most else f"{row[0][: most - 3]}..."
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    sides = align.ljust(len(widths), align[-1])
    parts = _parts(widths, width)
    if len(parts) > 1:
        tables = [
            table_lines(
                [cells[0][i] for i in part],
                [[row[i] for i in part] for row in cells[1:]],
                align="".join(sides[i] for i in part),
                rule=rule,
            )
            for part in parts
        ]
        return [line for table in tables for line in [*table, ""]][:-1]
    lines = [
        "  ".join(f"{cell:{side}{n}}" for cell, side, n in zip(row, sides, widths, strict=True))
        for row in cells
    ]
    below = ["-" * len(lines[0])] if rule else []
    return [lines[0].rstrip(), *below, *(line.rstrip() for line in lines[1:])]


def _parts(widths: Sequence[int], width: int | None) -> list[list[int]]:
    """The columns of every table: the first column, and the columns that fit beside it."""
    parts, used = [[0]], widths[0]
    for i in range(1, len(widths)):
        if width is not None and len(parts[-1]) > 1 and used + 2 + widths[i] > width:
            parts.append([0])
            used = widths[0]
        parts[-1].append(i)
        used += 2 + widths[i]
    return parts
