"""Members through any executor; whatever goes wrong becomes a NaN row and a reason."""

from __future__ import annotations

import concurrent.futures as cf
import pickle
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ekitools.core.arrays import array_namespace, host, like
from ekitools.core.checks import number
from ekitools.typing import Array

__all__ = [
    "BrokenPoolError",
    "Evaluation",
    "Failure",
    "check_executor",
    "check_timeout",
    "evaluate",
]


class Failure(NamedTuple):
    """Why a member has no output."""

    reason: str
    error: BaseException | None


class Evaluation(NamedTuple):
    """Outputs ``(J, d)``, NaN where failed, and the reason of every failed row."""

    g: Array
    failures: dict[int, Failure]


class BrokenPoolError(RuntimeError):
    """A worker died and took the pool with it."""


class _TimedOutError(BaseException):
    """Not an Exception, so that a model's own ``except Exception`` lets it through."""


def evaluate(
    model: Any,
    u: Array,
    n_data: int,
    *,
    executor: Any = None,
    timeout: float | None = None,
    seeds: Sequence[np.random.SeedSequence] | None = None,
) -> Evaluation:
    """G at every member.

    Parameters
    ----------
    model : ForwardModel
        G, of one member or vectorized.
    u : (J, p)
        Members in physical coordinates.
    n_data : int
        d, the length of an output.
    executor : concurrent.futures.Executor, optional
        One task a member is submitted (a vectorized model: one task for all), so the outputs
        are bitwise the same with any executor and any number of workers.
    timeout : float, optional
        Seconds for one task, enforced where it runs.
    seeds : sequence of SeedSequence, optional
        One for every member, for a stochastic model.

    Raises
    ------
    BrokenPoolError
        If a worker died and the pool cannot go on.
    ValueError
        If the executor is shut down, or a process pool cannot be sent the model.

    Examples
    --------
    >>> import numpy as np
    >>> import ekitools as ek
    >>> from ekitools.models.evaluate import evaluate
    >>> def model(u):
    ...     return 1 / u if u[0] > 0 else np.array([np.nan])
    >>> g, failures = evaluate(ek.FunctionModel(model), np.array([[2.0], [-1.0]]), 1)
    >>> g.ravel(), failures[1].reason
    (array([0.5, nan]), 'model: must return finite numbers, got nan at data index 0')
    """
    if executor is not None:
        _check_picklable(executor, model)
    if model.vectorized:
        return _evaluate_together(model, u, n_data, executor, timeout)
    rows = np.ascontiguousarray(host(u))
    tasks = [
        (model, rows[j].copy(), None if seeds is None else seeds[j], timeout)
        for j in range(rows.shape[0])
    ]
    g = np.full((rows.shape[0], n_data), np.nan, dtype=rows.dtype)
    failures: dict[int, Failure] = {}
    for j, outcome in enumerate(_outcomes(_run_member, tasks, executor)):
        row = outcome if isinstance(outcome, Failure) else _checked_row(outcome, n_data)
        if isinstance(row, Failure):
            failures[j] = row
        else:
            g[j] = row
            if not np.all(np.isfinite(g[j])):  # finite, but not in float32
                failures[j] = Failure(f"model: must return numbers that fit {g.dtype}", None)
                g[j] = np.nan
    return Evaluation(g if isinstance(u, np.ndarray) else like(g, u), failures)


def check_timeout(timeout: Any) -> None:
    """Check a number of seconds."""
    if timeout is not None:
        number("timeout", timeout, above=0, remedy="Give seconds.")


def check_executor(executor: Any) -> None:
    """Check that tasks can be submitted."""
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise TypeError(
            f"executor: must be a concurrent.futures.Executor, got {type(executor).__name__}. "
            "For a multiprocessing pool use concurrent.futures.ProcessPoolExecutor."
        )


def _evaluate_together(
    model: Any, u: Array, n_data: int, executor: Any, timeout: float | None
) -> Evaluation:
    n = u.shape[0]
    (g,) = _outcomes(_run_member, [(model, u, None, timeout)], executor)
    if not isinstance(g, Failure):
        if not hasattr(g, "shape"):
            g = _numbers(g)
        if not isinstance(g, Failure) and isinstance(g, np.ndarray):
            g = _numbers(g)
    if not isinstance(g, Failure) and tuple(g.shape) != (n, n_data):
        g = Failure(
            f"model: must return (J, d) = {(n, n_data)} numbers for J members, got shape "
            f"{tuple(g.shape)}. A model of one member needs vectorized=False",
            None,
        )
    if isinstance(g, Failure):
        nothing = np.full((n, n_data), np.nan, dtype=host(u[:1, :1]).dtype)
        return Evaluation(
            nothing if isinstance(u, np.ndarray) else like(nothing, u), dict.fromkeys(range(n), g)
        )
    g = g if type(g) is type(u) and g.dtype == u.dtype else like(g, u)
    xp = array_namespace(g)
    failed = np.flatnonzero(~host(xp.all(xp.isfinite(g), axis=1)))
    failures = {int(j): _not_finite(host(g[int(j), :])) for j in failed}
    return Evaluation(g, failures)


def _run_member(
    model: Any, u: Array, seed: np.random.SeedSequence | None, timeout: float | None
) -> Any:
    """Run one task where it is to run; exceptions come back as a `Failure`."""

    def call() -> Any:
        return model(u) if seed is None else model(u, rng=np.random.default_rng(seed))

    try:
        return call() if timeout is None else _within(timeout, call)
    except _TimedOutError:
        return Failure(f"timed out after {timeout:g} s", TimeoutError(f"{timeout:g} s"))
    except Exception as error:
        return Failure(repr(error), _portable(error))


def _within(timeout: float, call: Callable[[], Any]) -> Any:
    """``call()`` within ``timeout`` seconds: by a signal where one can be had, else a thread."""
    if hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread():
        return _within_by_signal(timeout, call)
    box: list[Any] = []

    def work() -> None:
        try:
            box.append((True, call()))
        except BaseException as error:
            box.append((False, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(timeout)
    if not box:  # the thread is abandoned: Python cannot stop it
        raise _TimedOutError
    fine, value = box[0]
    if not fine:
        raise value
    return value


def _within_by_signal(timeout: float, call: Callable[[], Any]) -> Any:
    def expire(signum: int, frame: Any) -> None:  # noqa: ARG001 - a handler's signature
        raise _TimedOutError

    previous = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, timeout)
    try:
        return call()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _outcomes(
    task: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], executor: Any
) -> list[Any]:
    """What every task returned, in order, run here or by the executor."""
    if executor is None:
        return [task(*each) for each in arguments]
    futures: list[Any] = []
    try:
        for each in arguments:
            futures.append(executor.submit(task, *each))  # noqa: PERF401 - kept if one fails
        return [_outcome(future, futures) for future in futures]
    except cf.BrokenExecutor as error:
        unfinished = len(arguments) - sum(f.done() and not f.exception() for f in futures)
        raise BrokenPoolError(
            f"executor: a worker died and the pool is broken, with {unfinished} of "
            f"{len(arguments)} members unfinished. Pass a fresh executor, or one that survives "
            "a dying worker (loky's get_reusable_executor(), dask's client.get_executor())."
        ) from error
    except RuntimeError as error:
        if futures:
            raise
        raise ValueError(
            f"executor: must accept tasks, got one that does not ({error})."
        ) from error
    except BaseException:
        for future in futures:
            future.cancel()
        raise


def _outcome(future: Any, futures: Sequence[Any]) -> Any:
    try:
        return future.result()
    except cf.BrokenExecutor:
        cf.wait([f for f in futures if isinstance(f, cf.Future)])
        raise
    except Exception as error:
        return Failure(repr(error), error)


def _check_picklable(executor: Any, model: Any) -> None:
    if not isinstance(executor, cf.ProcessPoolExecutor):
        return
    try:
        pickle.dumps(model)
    except Exception as error:
        raise ValueError(
            f"model: must be picklable for a process pool, got {model!r} ({error}). Define the "
            "function at the top level of a module, or use loky or dask, which pickle by value."
        ) from error


def _portable(error: Exception) -> Exception:
    """The error itself if it survives the way back from a worker, else its text."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(repr(error))
    return error


def _numbers(value: Any) -> Any:
    """``value`` as a real array, or the `Failure` that says why it is none."""
    try:
        array = host(value) if hasattr(value, "shape") else np.asarray(value)
    except (ValueError, TypeError) as error:
        return Failure(f"model: must return an array of numbers, got {value!r:.60} ({error})", None)
    if array.dtype.kind not in "fiub":
        return Failure(
            f"model: must return real numbers, got {type(value).__name__} of dtype {array.dtype}",
            None,
        )
    return array


def _checked_row(value: Any, n_data: int) -> Any:
    array = _numbers(value)
    if isinstance(array, Failure):
        return array
    if array.ndim == 0 and n_data == 1:
        array = array.reshape(1)
    if array.shape != (n_data,):
        return Failure(
            f"model: must return d = {n_data} numbers for one member, got shape {array.shape}. "
            "A model of a whole ensemble needs vectorized=True",
            None,
        )
    return array if np.all(np.isfinite(array)) else _not_finite(array)


def _not_finite(row: np.ndarray) -> Failure:
    first = int(np.flatnonzero(~np.isfinite(row))[0])
    return Failure(
        f"model: must return finite numbers, got {row[first]} at data index {first}", None
    )
