"""Rows and table of statements with verdicts, for `ekitools.theory`."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ekitools.results.diagnostics import fit_rate
from ekitools.results.tables import table_lines

__all__ = [
    "CRAMER_RAO",
    "ITERATIVE",
    "KOVACHKI_STUART",
    "MOMENTUM",
    "SCHILLINGS",
    "Report",
    "Row",
    "error_row",
    "judged",
    "rate_row",
]

ITERATIVE = "Iglesias, Law & Stuart (2013)"
SCHILLINGS = "Schillings & Stuart (2017)"
KOVACHKI_STUART = "Kovachki & Stuart (2019)"
CRAMER_RAO = "Cramer (1946), Rao (1945)"
MOMENTUM = "Su, Boyd & Candes (2016)"


class Row(NamedTuple):
    """A statement with its measurement and verdict.

    ``share`` is the error divided by the tolerance, or the ratio of two compared values. The
    statement holds if ``share`` is below 1.
    """

    statement: str
    source: str
    predicted: str
    measured: str
    passed: bool
    share: float


@dataclass(frozen=True)
class Report:
    """Statements with their verdicts; ``print`` shows the table.

    Parameters
    ----------
    table : tuple of Row
        One row for each statement.
    """

    table: tuple[Row, ...]

    @property
    def passed(self) -> bool:
        """Whether every row passed."""
        return all(row.passed for row in self.table)

    def to_json(self) -> str:
        """The table as a JSON list of objects; a share that is not finite is null."""
        rows = [
            {**row._asdict(), "share": row.share if math.isfinite(row.share) else None}
            for row in self.table
        ]
        return json.dumps(rows, indent=1)

    def __str__(self) -> str:
        rows = [(*row[:4], "holds" if row.passed else "FAILS") for row in self.table]
        header = ("statement", "source", "predicted", "measured", "verdict")
        return "\n".join(table_lines(header, rows, align="<"))


def judged(statement: str, source: str, predicted: str, measured: str, share: float) -> Row:
    """The row with its verdict from ``share``; NaN fails."""
    return Row(statement, source, predicted, measured, bool(share < 1), float(share))


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
    """Row for value ∝ x^exponent, fitted from x_min on, with two standard errors."""
    fit = fit_rate(x, value, t_min=x_min)
    interval = 2 * fit.standard_error
    share = np.maximum(abs(fit.exponent - exponent), interval / 2) / tolerance
    measured = f"{symbol}^({fit.exponent:.3f} ± {interval:.1g})"
    return judged(statement, source, f"{symbol}^({exponent:g})", measured, share)


def error_row(statement: str, source: str, error: float, tolerance: float) -> Row:
    """Row for an error that has to be below the tolerance."""
    return judged(statement, source, f"error < {tolerance:g}", f"{error:.2g}", error / tolerance)
