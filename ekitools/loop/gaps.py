"""Missing outputs of members that have other outputs: filled, counted, or left out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from ekitools.core.arrays import host, like
from ekitools.linalg.gaps import conditional_residual, filled_by_regression
from ekitools.typing import Array, NoiseModel

__all__ = ["Gaps", "no_gaps", "without_gaps"]


class Gaps(NamedTuple):
    """Outputs in which the tolerated gaps are filled."""

    g: Array
    """``(J, d)``; rows with too many gaps keep their gaps."""
    counts: np.ndarray
    """Number of members without each output, ``(d,)``; empty without gaps."""
    left_out: np.ndarray
    """Data that every member lacks. Their outputs are filled such that the data have no effect."""
    reasons: dict[int, str]
    """Rows with too many gaps, and their numbers of gaps."""


def no_gaps(g: Array) -> Gaps:
    """Outputs without gaps."""
    nothing = np.zeros(0, dtype=np.int64)
    return Gaps(g, nothing, nothing, {})


def without_gaps(
    g: Array,
    failed: Iterable[int],
    share: float,
    whitened: Callable[[], np.ndarray],
    problem: Any,
    *,
    leave_out: bool,
    nodes: bool = False,
) -> Gaps:
    """Fill the gaps of members that lack at most the ``share`` of the outputs that any member has.

    Parameters
    ----------
    g : (J, d)
        Outputs, with NaN for missing ones.
    failed : iterable of int
        Rows that failed for another reason.
    share : float
        Largest share of the outputs that a member may lack. Outputs that all members lack do not
        count.
    whitened : callable
        Function that returns the parameters ``(J, p)`` on the host, in coordinates in which the
        prior is N(0, I).
    problem : InverseProblem
        Problem with the data and the noise of this step.
    leave_out : bool
        Whether a datum that every member lacks may be left out of this step.
    nodes : bool, default False
        Whether the members are nodes of a quadrature rule.

    Warns
    -----
    RuntimeWarning
        If data are left out.
    """
    nothing = np.zeros(0, dtype=np.int64)
    values = host(g)
    missing = np.isnan(values)
    if share == 0 or not missing.any():
        return no_gaps(g)
    alive = ~np.isin(np.arange(len(values)), list(failed)) & ~missing.all(axis=1)
    # an output that all members lack is a gap of the data, and no member fails because of it
    counted = ~missing[alive].all(axis=0) if leave_out else np.ones(missing.shape[1], dtype=bool)
    names, all_counted = problem.data_names or (), int(counted.sum())
    lacking = missing[:, counted].sum(axis=1)
    usable = alive & (lacking <= share * all_counted)
    reasons = {}
    for row in np.flatnonzero(alive & ~usable).tolist():
        first = int(np.argmax(missing[row] & counted))
        reasons[row] = (
            f"output {first} ({names[first]!r}) is nan, and {lacking[row]} of {all_counted} "
            f"outputs are missing, more than missing={share:g} tolerates"
        )
    whole = missing & usable[:, None]
    unknown = np.flatnonzero(missing[usable].all(axis=0)) if usable.any() else nothing
    if not whole.any() or (unknown.size and not leave_out):
        return Gaps(g, nothing, nothing, reasons)
    if unknown.size:
        warnings.warn(
            f"model: {unknown.size} of {missing.shape[1]} outputs are missing in all members and "
            f"left out of this step. The first is the output {names[unknown[0]]!r}. Leave such "
            "data out, by NaN in the data.",
            RuntimeWarning,
            stacklevel=2,
        )
    rows, exact = np.flatnonzero(usable), np.array(values, dtype=np.float64)[usable]
    seen = np.setdiff1d(np.arange(exact.shape[1]), unknown)
    if missing[np.ix_(rows, seen)].any():
        # few members are replaced by their mean, which needs no features
        few = not nodes and len(rows) <= problem.n_parameters + 2
        features = np.empty((len(values), len(values))) if few else whitened()
        exact[:, seen] = filled_by_regression(exact[:, seen], features[rows], ridge=not nodes)
    if unknown.size:
        data = host(problem.data)
        residual = np.zeros((1, len(unknown)))
        if isinstance(problem.noise, NoiseModel):
            residual = conditional_residual(exact - data, unknown, problem.noise)
        exact[:, unknown] = data[unknown] + residual
    filled = np.array(values)
    filled[rows] = exact
    return Gaps(like(filled, g), whole.sum(axis=0), unknown, reasons)
