"""Statements with their verdicts: the rows and the table of `ekitools.verification`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ekitools.diagnostics import fit_rate

__all__ = [
    "CRAMER_RAO",
    "ITERATIVE",
    "MOMENTUM",
    "SCHILLINGS",
    "SLIDES",
    "Report",
    "Row",
    "error_row",
    "rate_row",
]

ITERATIVE = "Iglesias, Law & Stuart (2013)"
SCHILLINGS = "Schillings & Stuart (2017)"
SLIDES = "Kovachki & Stuart (2019)"
CRAMER_RAO = "Cramer (1946), Rao (1945)"
MOMENTUM = "Su, Boyd & Candes (2016)"


class Row(NamedTuple):
    """One statement and what was measured of it."""

    statement: str
    source: str
    predicted: str
    measured: str
    passed: bool


@dataclass(frozen=True)
class Report:
    """Statements with their verdicts; ``print`` shows the table.

    Parameters
    ----------
    table : tuple of Row
        One row a statement.
    """

    table: tuple[Row, ...]

    @property
    def passed(self) -> bool:
        """Whether every row passed."""
        return all(row.passed for row in self.table)

    def to_json(self) -> str:
        """The table as a JSON list of objects."""
        return json.dumps([row._asdict() for row in self.table], indent=1)

    def __str__(self) -> str:
        cells = [("statement", "source", "predicted", "measured", "verdict")]
        cells += [(*row[:4], "holds" if row.passed else "FAILS") for row in self.table]
        widths = [max(len(row[i]) for row in cells) for i in range(5)]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in cells]
        return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def rate_row(
    statement: str,
    source: str,
    x: np.ndarray,
    value: np.ndarray,
    exponent: float,
    *,
    symbol: str,
    tolerance: float,
    x_min: float | None = None,
) -> Row:
    """Value ∝ x^exponent, fitted from x_min on; the interval is of two standard errors."""
    fit = fit_rate(x, value, t_min=x_min)
    interval = 2 * fit.standard_error
    passed = abs(fit.exponent - exponent) < tolerance and interval < 2 * tolerance
    measured = f"{symbol}^({fit.exponent:.3f} ± {interval:.1g})"
    return Row(statement, source, f"{symbol}^({exponent:g})", measured, bool(passed))


def error_row(statement: str, source: str, error: float, tolerance: float) -> Row:
    """An error that has to be below the tolerance."""
    return Row(statement, source, f"error < {tolerance:g}", f"{error:.2g}", bool(error < tolerance))
