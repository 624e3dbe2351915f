"""Plot of the linear theorems: the error of each as a share of its tolerance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ekitools.plots.style import BLUE, GREY, RED, axes_for, legend_above, logarithmic, panels
from ekitools.theory.rows import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_theorems", "size_of"]

_ENDS = (1e-4, 1e3)
"""Shares beyond these limits are drawn at the limits."""


def plot_theorems(report: Any, ax: Any = None) -> Axes:
    """Statements of the linear theory: predicted and measured values, and the errors.

    Each statement has a row. The text on the right gives the predicted and the measured value. The
    point is the error as a share of the tolerance, or the ratio of the two sides of an inequality.
    Statements left of the line at 1 hold. Arrows stand for shares below 10⁻⁴ or above 10³.

    Parameters
    ----------
    report : Report
        A result of `ekitools.theory.check_linear_theory` or `ekitools.theory.verify`.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default, as large as the rows need.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    TypeError
        If ``report`` is something else.

    See Also
    --------
    ekitools.theory.check_linear_theory : The numbers.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> problem = ek.problems.linear(p=3, d=5).problem
    >>> times = [0.0, *np.geomspace(1, 1e5, 11)]
    >>> result = ek.integrate(problem, ek.EKIFlow(), t_span=(0, 1e5), n_members=8, rng=0,
    ...                       t_eval=times, method="LSODA", rtol=1e-10, atol=1e-12)
    >>> report = ek.theory.check_linear_theory(result, problem)
    >>> ek.plot_theorems(report).get_title()
    'Linear theory: 10 of 10 statements hold'
    """
    rows = report.table if isinstance(report, Report) else ()
    if not rows:
        raise TypeError(
            "report: must be a result of ek.theory.check_linear_theory, with its rows, got "
            f"{type(report).__name__}."
        )
    ax = panels(1, 1, size=size_of(report))[0, 0] if ax is None else axes_for(ax)
    share = np.nan_to_num([row.share for row in rows], nan=np.inf)
    at, shown = np.arange(len(rows)), np.clip(share, *_ENDS)
    holds = np.array([row.passed for row in rows])
    ax.hlines(at, _ENDS[0], shown, color=GREY, lw=0.8, alpha=0.5)
    beyond = [share < _ENDS[0], share > _ENDS[1]]
    for which, colour, inside, label in ((holds, BLUE, "o", "holds"), (~holds, RED, "X", "fails")):
        if not which.any():
            continue
        ax.plot([], [], inside, ms=6, color=colour, label=label)
        for marker, chosen in zip((inside, "<", ">"), (~np.any(beyond, 0), *beyond), strict=True):
            kept = which & chosen
            ax.plot(shown[kept], at[kept], marker, ms=6, color=colour)
    ax.plot([1, 1], [-0.5, len(rows) - 0.5], "--", color="black", lw=1, label="tolerance")
    ax.set_xlim(_ENDS[0] / 2, max(5.0, 2 * shown.max()))
    logarithmic(ax, "x")
    ax.set_yticks(at, [row.statement for row in rows], fontsize=8)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    words = ax.secondary_yaxis("right")
    words.set_yticks(at, [_measured(row) for row in rows], fontsize=8)
    words.tick_params(length=0)
    ax.set(
        xlabel="error / tolerance",
        ylabel="statement",
        title=f"Linear theory: {holds.sum()} of {len(rows)} statements hold",
    )
    legend_above(ax)
    return ax


def size_of(report: Report) -> tuple[float, float]:
    """Inches of a figure that has room for the texts on both sides."""
    left = max(len(row.statement) for row in report.table)
    right = max(len(_measured(row)) for row in report.table)
    return 3.0 + (left + right) * 8 * 0.52 / 72, 1.4 + 0.26 * len(report.table)


def _measured(row: Any) -> str:
    return f"{row.predicted};  measured {row.measured}"
