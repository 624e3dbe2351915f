"""Correlations of the parameters in the last ensemble, as a table of a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from ekitools.core.markup import plain, table
from ekitools.results.reading import members_at, moments, with_units

if TYPE_CHECKING:
    from ekitools.pages.summary import ResultSummary

__all__ = ["correlation_table", "correlations", "most_reduced"]

_MOST = 8
"""Parameters in the table: a wider one does not fit a page."""


def correlations(u: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Correlations of the columns of a weighted sample.

    Parameters
    ----------
    u : (J, p)
        Members.
    w : (J,)
        Weights, which add up to 1.

    Returns
    -------
    (p, p)
        NaN for a column that is constant.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.pages.correlations import correlations
    >>> u = np.array([[0.0, 0.0, 1.0], [1.0, -2.0, 1.0], [2.0, -4.0, 1.0]])
    >>> correlations(u, np.full(3, 1 / 3)).round(6)
    array([[ 1., -1., nan],
           [-1.,  1., nan],
           [nan, nan, nan]])
    """
    mean, variance = moments(u, w)
    known = variance > 0
    sd = np.where(known, np.sqrt(np.where(known, variance, 1.0)), np.nan)
    scaled = (u.astype(np.float64) - mean) / sd
    return np.asarray((scaled.T * w) @ scaled)


def most_reduced(summed: ResultSummary, most: int) -> np.ndarray:
    """Labels of the parameters whose standard deviation was reduced most, in their own order."""
    order = np.argsort(summed.table.sd_ratio.values, kind="stable")[:most]
    return np.asarray(summed.table.parameter.values[np.sort(order)])


def correlation_table(result: xr.Dataset, summed: ResultSummary) -> str:
    """The HTML table; of many parameters it shows those that were reduced most."""
    names = most_reduced(summed, _MOST)
    matrix = correlations(*members_at(result.sel(parameter=names), -1).present())
    labels = [plain(with_units(summed.table, "parameter", name)) for name in names]
    rows = [
        [label, *(f"{r:.2f}" if np.isfinite(r) else "–" for r in row)]
        for label, row in zip(labels, matrix, strict=True)
    ]
    total = result.sizes["parameter"]
    cut = f" {len(names)} of {total} parameters shown." if len(names) < total else ""
    return table(
        rows,
        header=["parameter", *labels],
        caption=f"Correlations of the parameters in the last ensemble.{cut}",
    )
