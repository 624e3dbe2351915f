"""The plot of the linear theorems."""

import pytest

import ekitools as ek
from ekitools.plots.style import BLUE, RED
from ekitools.theory.rows import Report


def test_theorems_have_a_row_each_and_those_that_fail_are_seen_to(report):
    ax = ek.plot_theorems(report)
    assert [text.get_text() for text in ax.get_yticklabels()] == [r.statement for r in report.table]
    drawn = {
        (round(float(y)), f"{x:.1e}"): (line.get_marker(), line.get_color())
        for line in ax.get_lines()
        if line.get_marker() != "None"
        for x, y in zip(*line.get_data(), strict=True)
    }
    assert drawn == {
        (0, "3.0e-01"): ("o", BLUE),
        (1, "1.0e-04"): ("<", BLUE),
        (2, "1.0e+03"): (">", RED),
        (3, "1.0e+03"): (">", RED),
    }
    (words,) = ax.child_axes
    assert words.get_yticklabels()[0].get_text() == "t^(-1);  measured t^(-0.97)"
    assert ax.get_title() == "Linear theory: 2 of 4 statements hold"
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["holds", "fails", "tolerance"]
    with pytest.raises(TypeError, match="report: must be a result of .* with its rows, got Report"):
        ek.plot_theorems(Report(()))
