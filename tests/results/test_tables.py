"""Tables of text: aligned columns, with and without a rule."""

import pytest

from ekitools.results.tables import table_lines

ROWS = [("Ann", "10", "left"), ("Bartholomew", "7", "x")]


def test_the_first_column_is_to_the_left_and_others_to_the_right():
    assert table_lines(("who", "n", "side"), ROWS) == [
        "who           n  side",
        "---------------------",
        "Ann          10  left",
        "Bartholomew   7     x",
    ]


@pytest.mark.parametrize(
    ("align", "expected"),
    [
        ("<", ["who          n   side", "Ann          10  left", "Bartholomew  7   x"]),
        (">", ["        who   n  side", "        Ann  10  left", "Bartholomew   7     x"]),
        ("<><", ["who           n  side", "Ann          10  left", "Bartholomew   7  x"]),
    ],
)
def test_columns_are_aligned_as_asked_without_blanks_at_the_end(align, expected):
    assert table_lines(("who", "n", "side"), iter(ROWS), align=align, rule=False) == expected


def test_the_rule_is_as_wide_as_the_table():
    lines = table_lines(("n", "who"), [("1", "Bartholomew")], align="<")
    assert lines == ["n  who", "-" * 14, "1  Bartholomew"]


def test_a_table_without_rows_has_its_header():
    assert table_lines(("who", "n"), []) == ["who  n", "------"]


def test_rows_of_another_length_are_refused():
    with pytest.raises(ValueError, match="zip"):
        table_lines(("who", "n"), [("Ann",)])
