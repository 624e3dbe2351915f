"""Members that run again: other places for those that failed, and what waits until all have run."""

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
"""Model runs for each member that one iteration may take, those that fail included."""

_FEWEST_RUNS = 50
"""Model runs at the first iteration that all have to fail before the model counts as broken."""

_FEW = 4
"""Where at most one in so many members ran, the step was too long: members go back."""

_KEPT = 0.9
"""What a draw keeps of the distance from the mean of the member that failed, as a share of the
variance, and of this share in every further try. Larger shares stay closer to the boundary of the
failing region and take more runs. On a linear problem the mean of EKI is 0.43 sd off with 0.5, and
0.27 with 0.97 and a quarter more runs."""

_BACK = 5
"""Rounds in which members go back: to a half of the step, a quarter, ..., and at last to where they
ran."""


class Waiting(NamedTuple):
    """An iteration some of whose members run again."""

    before: Any
    """The state as the iteration began: a checkpoint that is saved now goes on from there."""
    rows: np.ndarray
    """Which members are asked for."""
    tries: int
    """Rounds of model runs behind."""
    g: Array
    """Outputs as they were told, ``(J, d)``, NaN for ``rows``."""
    extras: Mapping[int, Mapping[str, Extra]]
    """Side products by row."""
    failures: list[dict[str, Any]]
    """What failed in the rounds behind."""
    runs: int
    """Model runs in the rounds behind."""
    drawn: np.ndarray | None = None
    """At the first iteration: the draws of the prior that the method starts from, ``(J, p)``."""

    def completed(
        self,
        g: Array,
        failures: Mapping[int, Any],
        extras: Mapping[int, Mapping[str, Extra]],
    ) -> tuple[Array, dict[int, Any], dict[int, Mapping[str, Extra]]]:
        """The outputs, failures and side products of all members, with those told now."""
        outputs = np.array(host(self.g))
        outputs[self.rows] = host(g)
        rows = self.rows.tolist()
        whole = {row: each for row, each in self.extras.items() if row not in rows}
        whole |= {rows[i]: each for i, each in extras.items()}
        return like(outputs, g), {rows[i]: why for i, why in failures.items()}, whole


def why_hopeless(n: int, runs: int, n_ran: int, n_lost: int) -> str | None:
    """Why the members that failed do not run again at iteration ``n``; None where they do."""
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
    """The state with other places for the members that failed; None where there is no such place.

    They are draws near where the members failed from the Gaussian of the members that ran. Where
    at most a quarter of the members ran, the last step was too long, and the others go back towards
    where they last ran.

    Parameters
    ----------
    method, state
        Of the loop.
    lost : (J,)
        Which members failed.
    asked : (J, p)
        The members as the iteration began, unconstrained.
    before : (J, p) or None
        Where the members ran at the iteration before, unconstrained.
    tries : int
        Rounds of model runs behind.
    rng : numpy.random.Generator
        For this round alone.
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
    """The state with other draws from the Gaussian of the members that ran in the rows ``lost``.

    A draw is m + √s (u − m) + √(1 − s) ξ, with the mean m of the members that ran, the member u
    that failed, ξ ~ N(0, C) with their covariance C, and the ``share`` s. It leaves N(m, C) as it
    is for every s (preconditioned Crank–Nicolson, Cotter et al. 2013, Statist. Sci. 28, 424–446),
    so that a failure by chance biases nothing. The part of u keeps the span of the ensemble where
    there are few members.
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
