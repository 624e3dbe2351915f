"""A warning for members with different parameters and identical outputs."""

from __future__ import annotations

import warnings
from hashlib import blake2b

import numpy as np

from ekitools.core.arrays import host, take_columns, take_rows
from ekitools.typing import Array

__all__ = ["first_outputs", "repeated_outputs", "warned_of_identical"]

_SHARE = 0.2
"""Share of the members above which repeated outputs are reported. The outputs of a repeated member
add no information on the dependence on the parameters, as if the member were lost. A result counts
as doubtful if more than a fifth of the members was lost (`ekitools.core.statuses.Losses`)."""

_COLUMNS = 8
"""Number of outputs that are compared first. Members that differ in them are not compared
further."""


def warned_of_identical(
    u: Array,
    g: Array,
    rows: np.ndarray,
    n: int,
    *,
    fit: bool = False,
    first: np.ndarray | None = None,
) -> bool:
    """Warn if many members repeat the outputs of another member; return whether they do.

    Identical outputs of a collapsed ensemble are due to rounding, and are not reported. An ensemble
    counts as collapsed if, after iteration 0, no output varies by more than √ε of its size.

    Parameters
    ----------
    u : (J, p)
        Parameters that the model received.
    g : (J, d)
        Outputs.
    rows : (k,) of int
        Members that did not fail.
    n : int
        The iteration.
    fit : bool, default False
        Whether the method aims at a fit. A fit needs only some different outputs, because counts of
        errors and rewards have few values.
    first : (J, k), optional
        `first_outputs` of ``g``, if they are on the host already.

    Warns
    -----
    RuntimeWarning
        If all outputs are identical; or, unless the aim is a fit, if more than a fifth of the
        members, and at least two, repeat the outputs of another member.
    """
    few = len(rows) - 1 if fit else max(2, int(_SHARE * len(rows)) + 1)
    repeated = repeated_outputs(u, g, rows, at_least=few, first=first)
    if not repeated or (n > 0 and _has_come_together(host(g)[rows])):
        return False
    everyone = repeated == len(rows) - 1
    who = f"all {len(rows)} members" if everyone else f"{repeated} of {len(rows)} members"
    what = "have identical outputs" if everyone else "repeat the outputs of another member exactly"
    warnings.warn(
        f"model: {who} {what} at iteration {n}, although their parameters differ. Such members "
        "have no information on how the outputs depend on the parameters. Usual causes are outputs "
        "that are clipped or rounded, a constant that is returned for a failed run, and a cache "
        "whose key leaves parameters out. Call the model at two different members and compare the "
        "outputs. Return NaN for a failed run.",
        RuntimeWarning,
        stacklevel=2,
    )
    return True


def first_outputs(g: Array) -> Array:
    """The outputs that are compared first, ``(J, k)``."""
    d = int(g.shape[1])
    return take_columns(g, np.unique(np.linspace(0, d - 1, min(d, _COLUMNS)).astype(int)))


def repeated_outputs(
    u: Array, g: Array, rows: np.ndarray, *, at_least: int, first: np.ndarray | None = None
) -> int:
    """Number of members with the outputs of an earlier member that has other parameters.

    Members with the same parameters count once. The cost is O(J) if the outputs differ, and O(J d)
    otherwise. There are no comparisons in pairs.

    Parameters
    ----------
    u, g, rows, first
        As in `warned_of_identical`.
    at_least : int
        Smaller numbers are returned as 0, unless all members are identical.

    Returns
    -------
    int

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.loop.identical import repeated_outputs
    >>> u, rows = np.arange(4.0)[:, None], np.arange(4)
    >>> repeated_outputs(u, np.floor(u / 2), rows, at_least=1)
    2
    >>> repeated_outputs(u, u, rows, at_least=1)
    0
    """
    least = min(at_least, len(rows) - 1)
    first = (host(first_outputs(g)) if first is None else first)[rows]
    # equal rows are equal in every column: the first one usually shows that there are too few
    if least < 1 or any(len(rows) - len(np.unique(column)) < least for column in first.T):
        return 0
    alike, counts = np.unique(first, axis=0, return_inverse=True, return_counts=True)[1:]
    if len(rows) - len(counts) < least:
        return 0
    suspects = rows[counts[alike.reshape(-1)] > 1]
    sharing: dict[bytes, set[bytes]] = {}
    for row, outputs in zip(suspects, host(take_rows(g, suspects)), strict=True):
        member = host(take_rows(u, np.array([row])))  # there may be millions of parameters
        sharing.setdefault(_digest(outputs), set()).add(_digest(member))
    repeated = sum(len(members) - 1 for members in sharing.values())
    return repeated if repeated >= least else 0


def _digest(row: np.ndarray) -> bytes:
    return blake2b(row.tobytes(), digest_size=16).digest()


def _has_come_together(g: np.ndarray) -> bool:
    tolerance = np.sqrt(np.finfo(g.dtype).eps)
    return bool(np.all(np.ptp(g, axis=0) <= tolerance * np.max(np.abs(g), axis=0)))
