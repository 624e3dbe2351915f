"""Evaluation of G at every member, by any executor; failures become NaN rows with reasons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ekitools.core.arrays import host, is_large, like
from ekitools.core.checks import number
from ekitools.models.extras import Evaluation
from ekitools.models.outputs import Failure, all_failed
from ekitools.models.tasks import Wanted, run_member, run_together
from ekitools.models.workers import BrokenPoolError, Workers
from ekitools.typing import Array, LargeEnsemble

__all__ = [
    "BrokenPoolError",
    "Evaluation",
    "Failure",
    "check_executor",
    "check_timeout",
    "evaluate",
]


def evaluate(
    model: Any,
    u: Array,
    n_data: int,
    *,
    executor: Any = None,
    timeout: float | None = None,
    seeds: Sequence[np.random.SeedSequence] | None = None,
    gaps: bool = False,
) -> Evaluation:
    """Evaluate G at every member.

    Parameters
    ----------
    model : ForwardModel
        The model G, of one member or vectorized.
    u : (J, p)
        Members in physical coordinates, in memory or on disk. A vectorized model gets members on
        disk in blocks.
    n_data : int
        Length d of an output.
    executor : concurrent.futures.Executor or Workers, optional
        One task for each member is submitted (for a vectorized model: one task for all), so the
        outputs are bitwise the same with any executor and any number of workers. `Workers` keep
        the sent model for the next evaluation.
    timeout : float, optional
        Seconds for one call of the model, enforced on the worker.
    seeds : sequence of SeedSequence, optional
        One seed for every member, for a stochastic model.
    gaps : bool, default False
        Whether some of the outputs of a member may be NaN, but not all. Such outputs stay NaN.

    Returns
    -------
    Evaluation
        Outputs are copied, so a model may reuse its array. A member fails if its model run
        raises any exception except KeyboardInterrupt.

    Raises
    ------
    KeyboardInterrupt
        If it is raised here or in a model run.
    BrokenPoolError
        If a worker died and the pool cannot continue.
    ValueError
        If the executor is shut down, or the model cannot be sent to a process pool.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> from ekitools.models.evaluate import evaluate
    >>> def model(u):
    ...     return 1 / u if u[0] > 0 else np.array([np.nan])
    >>> g, failures, _ = evaluate(ek.FunctionModel(model), np.array([[2.0], [-1.0]]), 1)
    >>> g.ravel(), failures[1].reason
    (array([0.5, nan]), 'model: must return finite numbers, got nan at data index 0')
    """
    if not isinstance(executor, Workers):
        with Workers(executor) as workers:
            return evaluate(
                model, u, n_data, executor=workers, timeout=timeout, seeds=seeds, gaps=gaps
            )
    large = is_large(u)
    if large and model.vectorized:
        return _in_parts(model, u, n_data, executor, timeout, gaps=gaps)
    n, dtype = int(u.shape[0]), u.dtype if large else host(u[:1, :1]).dtype
    wanted = Wanted(n_data, n, dtype, timeout, gaps)
    if model.vectorized:
        (outcome,) = executor.run(run_together, model, [(u, wanted)])
        if isinstance(outcome, Failure):
            lost = dict.fromkeys(range(n), outcome)
            nothing = all_failed(u, n_data, lost)
            return Evaluation(nothing if isinstance(u, np.ndarray) else like(nothing, u), lost)
        found: Evaluation = outcome
        return found
    rows = [u.member(j) for j in range(n)] if large else np.ascontiguousarray(host(u))
    tasks = [(rows[j], None if seeds is None else seeds[j], wanted) for j in range(n)]
    g = np.full((n, n_data), np.nan, dtype=dtype)
    failures: dict[int, Failure] = {}
    extras = {}
    for j, outcome in enumerate(executor.run(run_member, model, tasks)):
        if isinstance(outcome, Failure):
            failures[j] = outcome
            continue
        g[j] = outcome.g
        if outcome.extras:
            extras[j] = outcome.extras
    return Evaluation(g if isinstance(u, np.ndarray) else like(g, u), failures, extras)


def _in_parts(
    model: Any,
    u: LargeEnsemble,
    n_data: int,
    executor: Workers,
    timeout: float | None,
    *,
    gaps: bool,
) -> Evaluation:
    """Evaluate a vectorized model at members that are read in blocks."""
    g = np.full((u.shape[0], n_data), np.nan, dtype=u.dtype)
    failures: dict[int, Failure] = {}
    extras: dict[int, Any] = {}
    for start in range(0, u.shape[0], u.rows_at_a_time):
        part = u[start : start + u.rows_at_a_time]
        found = evaluate(model, part, n_data, executor=executor, timeout=timeout, gaps=gaps)
        g[start : start + len(part)] = found.g
        failures |= {start + row: failure for row, failure in found.failures.items()}
        extras |= {start + row: each for row, each in found.extras.items()}
    return Evaluation(g, failures, extras)


def check_timeout(timeout: Any) -> None:
    """Check a number of seconds."""
    if timeout is not None:
        number("timeout", timeout, above=0, remedy="Pass a number of seconds.")


def check_executor(executor: Any) -> None:
    """Check that the executor accepts tasks."""
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise TypeError(
            f"executor: must be a concurrent.futures.Executor, got {type(executor).__name__}. "
            "For a multiprocessing pool use concurrent.futures.ProcessPoolExecutor."
        )
