"""Model runs on a worker: of one member, or of a whole ensemble by a vectorized model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ekitools.core.arrays import host, like
from ekitools.models.extras import Evaluation, Extra, Output, checked_extras, split_extras
from ekitools.models.outputs import (
    Failure,
    all_failed,
    cut,
    failure_of,
    parted,
    row_of,
    rows_of,
)
from ekitools.models.timeouts import within
from ekitools.typing import Array

__all__ = ["FirstOutputs", "Wanted", "first_outputs", "run_member", "run_together"]


class Wanted(NamedTuple):
    """Options of every model run of an evaluation."""

    n_data: int
    n_members: int
    dtype: np.dtype[Any]
    timeout: float | None
    gaps: bool = False
    """Whether some of the outputs of a member may be NaN."""


def run_member(
    model: Any, u: np.ndarray, seed: np.random.SeedSequence | None, wanted: Wanted
) -> Output | Failure:
    """Copied output ``(d,)`` and side products of one member, or the `Failure`.

    The model gets a copy of the member. The copy is made here, because copies of all members at
    once would take the memory of a second ensemble. Every exception of the model is a failure,
    except KeyboardInterrupt. Settings of `numpy.seterr` are reset after the run.
    """
    member = np.array(u)

    def call() -> Any:
        return model(member) if seed is None else model(member, rng=np.random.default_rng(seed))

    try:
        with np.errstate():
            value, extras = parted(within(wanted.timeout, call))
        row = row_of(value, wanted.n_data, wanted.n_members, wanted.dtype, gaps=wanted.gaps)
        return Output(row, checked_extras(extras))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return failure_of(error)


class FirstOutputs(NamedTuple):
    """The return value of the model for one member."""

    value: Any


def first_outputs(
    model: Any, u: np.ndarray, seed: np.random.SeedSequence | None, timeout: float | None
) -> FirstOutputs | Failure:
    """The outputs of a member, used to determine their form.

    Parameters
    ----------
    model : ForwardModel
        The model, which runs once.
    u : (p,)
        The member; a vectorized model gets it as an ensemble of one.
    seed : SeedSequence or None
        Seed for a stochastic model.
    timeout : float or None
        Seconds for the run.
    """
    options = {} if seed is None else {"rng": np.random.default_rng(seed)}

    def call() -> Any:
        return model(u[None] if model.vectorized else u, **options)

    try:
        return FirstOutputs(parted(within(timeout, call))[0])
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return failure_of(error)


def run_together(model: Any, u: Array, wanted: Wanted) -> Evaluation:
    """Copied outputs ``(J, d)`` of a vectorized model, the failed rows and side products.

    If the model raises, it is called again with halves of the ensemble, and so on, to find the
    failing members.
    """
    outcome = _part(model, u, wanted)
    if not isinstance(outcome, Failure):
        return outcome
    n = int(u.shape[0])
    late = isinstance(outcome.error, TimeoutError) and not outcome.where
    if n > 1 and outcome.error is not None and not late:
        return _bisected(model, u, wanted, outcome)
    failures = dict.fromkeys(range(n), outcome)
    nothing = all_failed(u, wanted.n_data, failures)
    return Evaluation(nothing if isinstance(u, np.ndarray) else like(nothing, u), failures)


def _part(model: Any, u: Array, wanted: Wanted) -> Evaluation | Failure:
    try:
        with np.errstate():
            value, extras = parted(within(wanted.timeout, lambda: model(u)))
        g, failures = rows_of(value, u, wanted.n_data, gaps=wanted.gaps)
        rows = split_extras(extras, int(u.shape[0])) if extras else []
        good = {j: row for j, row in enumerate(rows) if j not in failures}
        return Evaluation(g, failures, good)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return failure_of(error)


def _bisected(model: Any, u: Array, wanted: Wanted, whole: Failure) -> Evaluation:
    """Find the failing members of a model that fails for all of ``u`` at once, level by level.

    At most 8 + 6 log2(J) further calls are made. Members that cannot be separated by then
    count as failed. If none of sixteen parts of the ensemble can be evaluated, all members fail.
    """
    n = int(u.shape[0])
    calls = 8 + 6 * math.ceil(math.log2(n))
    g = np.full((n, wanted.n_data), np.nan, dtype=host(u[:1, :1]).dtype)
    failures: dict[int, Failure] = {}
    extras: dict[int, Mapping[str, Extra]] = {}
    pending, found = [((0, n), whole)], False
    while pending:
        failing = []
        for start, stop in [half for span, _ in pending for half in _halves(*span)]:
            outcome = _part(model, u[start:stop], wanted) if calls > 0 else whole
            calls -= 1
            if isinstance(outcome, Failure):
                failing.append(((start, stop), outcome))
                continue
            found = True
            g[start:stop] = host(outcome.g)
            failures |= {start + row: failure for row, failure in outcome.failures.items()}
            extras |= {start + row: each for row, each in outcome.extras.items()}
        alone = [each for each in failing if each[0][1] - each[0][0] == 1]
        pending = [each for each in failing if each[0][1] - each[0][0] > 1]
        if calls <= 0 or (not found and len(failing) >= 16):
            note = "the model failed for these members together, and no further calls are allowed"
            alone += [(span, _noted(why, note)) for span, why in pending]
            pending = []
        for span, why in alone:
            failures |= dict.fromkeys(range(*span), why)
    if not found:
        note = "the model also failed for parts of the ensemble, so no member could be separated"
        failures = dict.fromkeys(range(n), _noted(whole, note))
    told = g if isinstance(u, np.ndarray) else like(g, u)
    return Evaluation(told, dict(sorted(failures.items())), extras)


def _halves(start: int, stop: int) -> list[tuple[int, int]]:
    middle = (start + stop) // 2
    return [(start, middle), (middle, stop)]


def _noted(failure: Failure, note: str) -> Failure:
    return failure._replace(reason=cut(f"{failure.reason} ({note})"))
