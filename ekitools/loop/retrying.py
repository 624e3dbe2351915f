"""Retries of failed members: new places for them, and the state of a waiting iteration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ekitools.core.arrays import array_namespace, host, like, take_rows
from ekitools.linalg import gaussian_draws
from ekitools.methods.shared import mapped, with_ensemble
from ekitools.models.extras import Extra
from ekitools.typing import Array, Method

__all__ = ["MOST_RUNS", "Waiting", "placed_again", "why_hopeless"]

MOST_RUNS = 20
"""Largest number of model runs for each member in one iteration, failed runs included."""

_FEWEST_RUNS = 50
"""If this many model runs of the first iteration all fail, the model counts as broken."""

_FEW = 4
"""If at most one in this many members ran, the step was too long and the members go back."""

_KEPT = 0.9
"""Share of the variance that a new draw takes from the failed member's distance to the mean. Every
further try multiplies the share by this number. Larger shares stay closer to the boundary of the
failing region and take more runs. On a linear problem the mean of EKI is 0.43 sd off with 0.5, and
0.27 sd off with 0.97, which takes a quarter more runs."""

_BACK = 5
"""Rounds in which members go back: to half of the step, a quarter, ..., and at last to the members
of the iteration before."""


class Waiting(NamedTuple):
    """An iteration in which some members run again."""

    before: Any
    """The state at the beginning of the iteration. A checkpoint that is saved now contains it."""
    rows: np.ndarray
    """Rows of the members that run again."""
    tries: int
    """Completed rounds of model runs."""
    g: Array
    """Outputs received so far, ``(J, d)``, NaN in ``rows``."""
    extras: Mapping[int, Mapping[str, Extra]]
    """Side products by row."""
    failures: list[dict[str, Any]]
    """Failures in the completed rounds."""
    runs: int
    """Model runs in the completed rounds."""
    drawn: np.ndarray | None = None
    """At the first iteration: the draws of the prior that the method starts from, ``(J, p)``."""

    def completed(
        self,
        g: Array,
        failures: Mapping[int, Any],
        extras: Mapping[int, Mapping[str, Extra]],
    ) -> tuple[Array, dict[int, Any], dict[int, Mapping[str, Extra]]]:
        """The outputs, failures and side products of all members, with the new ones added."""
        outputs = np.array(host(self.g))
        outputs[self.rows] = host(g)
        rows = self.rows.tolist()
        whole = {row: each for row, each in self.extras.items() if row not in rows}
        whole |= {rows[i]: each for i, each in extras.items()}
        return like(outputs, g), {rows[i]: why for i, why in failures.items()}, whole


def why_hopeless(n: int, runs: int, n_ran: int, n_lost: int) -> str | None:
    """The reason not to retry failed members at iteration ``n``; None if they run again."""
    if n == 0 and not n_ran and runs >= _FEWEST_RUNS:
        return "none has run yet"
    if runs + n_lost > MOST_RUNS * (n_ran + n_lost):
        return f"the budget of {MOST_RUNS} model runs for each member is spent"
    return None


def placed_again(
    method: Method,
    state: Any,
    lost: np.ndarray,
    asked: Array,
    before: Array | None,
    tries: int,
    rng: np.random.Generator,
) -> Any:
    """The state with new places for the failed members; None if there is no such place.

    The new places are draws from the Gaussian of the members that ran. Each draw is near its failed
    member. If at most a quarter of the members ran, the last step was too long. The failed members
    then go back towards their places at the iteration before.

    Parameters
    ----------
    method, state
        The method and the state of the loop.
    lost : (J,)
        True for the members that failed.
    asked : (J, p)
        The members at the beginning of the iteration, unconstrained.
    before : (J, p) or None
        The members of the iteration before, unconstrained.
    tries : int
        Completed rounds of model runs.
    rng : numpy.random.Generator
        Random numbers for this round only.
    """
    n_ran = int(np.sum(~lost))
    if _FEW * n_ran <= len(lost) and before is not None and tries <= _BACK:
        share = 0.0 if tries == _BACK else 0.5**tries
        back, kept = host(before + share * (asked - before)), host(state.ensemble)
        return with_ensemble(method, state, like(np.where(lost[:, None], back, kept), asked))
    return None if n_ran < 2 else _drawn_again(method, state, lost, _KEPT**tries, rng)


def _drawn_again(
    method: Method, state: Any, lost: np.ndarray, share: float, rng: np.random.Generator
) -> Any:
    """The state with new draws in the rows ``lost``, from the Gaussian of the members that ran.

    A draw is m + √s (u − m) + √(1 − s) ξ. Here m and C are the mean and the covariance of the
    members that ran, u is the failed member, ξ ~ N(0, C), and s is ``share``. The draw leaves
    N(m, C) invariant for every s (preconditioned Crank–Nicolson, Cotter et al. 2013, Statist. Sci.
    28, 424–446), and a failure by chance causes no bias. The term with u keeps the span of a small
    ensemble.
    """
    ran, gone = np.flatnonzero(~lost), np.flatnonzero(lost)
    white = rng.standard_normal((len(gone), len(ran)))
    order = np.argsort(np.concatenate([ran, gone]))

    def rows(held: Array) -> Array:
        xp, kept = array_namespace(held), take_rows(held, ran)
        mean = xp.mean(kept, axis=0, keepdims=True)
        fresh = gaussian_draws(kept, white) - mean
        old = take_rows(held, gone) - mean
        drawn = mean + math.sqrt(share) * old + math.sqrt(1 - share) * fresh
        return take_rows(xp.concat([kept, drawn], axis=0), order)

    index = np.arange(len(lost))
    index[gone] = ran[0]
    return mapped(method, state, rows, index)
