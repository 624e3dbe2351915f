"""Submission of model runs to any executor, with one transfer of the model to each worker.

A pickled model of at most `SMALL` bytes is sent with every member. A larger model is sent

* to processes on this machine (the standard library's pool, loky) by a temporary file, which each
  process reads once;
* to the workers of dask by a plugin, also to workers that start later;
* to an executor with a number ``num_workers`` (mpi4py) with every batch of members, with
  `BATCHES` batches for each worker;
* to threads not at all, and to an executor of another kind with every member.
"""

from __future__ import annotations

import concurrent.futures as cf
import hashlib
import os
import pickle
import sys
import tempfile
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import Any, Self

from ekitools.models.outputs import failure_of, safe_text
from ekitools.models.remote import LACKING, dump, received, run_here, run_packed

__all__ = ["BrokenPoolError", "Workers"]

SMALL = 2**16
"""Largest number of bytes of a pickled model that is sent with every member."""

BATCHES = 4
"""Batches for each worker if batches carry the model; more batches balance the load."""


class BrokenPoolError(RuntimeError):
    """A worker died and broke the pool."""


class Workers:
    """An executor with a record of the models sent to its workers.

    Parameters
    ----------
    executor : concurrent.futures.Executor or None
        None runs all members in this process.

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> from ekitools.models.workers import Workers
    >>> with ThreadPoolExecutor(2) as executor, Workers(executor) as workers:
    ...     workers.run(pow, 2, [(3,), (4,)])
    [8, 16]
    """

    def __init__(self, executor: Any) -> None:
        self.executor = executor
        self._run = uuid.uuid4().hex  # a later run does not reuse the copies of this run
        self._digest = ""
        self._source: bytes | Path | None = None
        self._size = 0
        self._plugin: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._forget()

    def run(
        self, function: Callable[..., Any], model: Any, arguments: Sequence[tuple[Any, ...]]
    ) -> list[Any]:
        """Results of ``function(model, *each)`` for each of ``arguments``, in order.

        Raises
        ------
        BrokenPoolError
            If a worker died and the pool cannot continue.
        KeyboardInterrupt
            If a KeyboardInterrupt ended a model run; waiting tasks are cancelled.
        ValueError
            If the executor is shut down, or the model cannot be pickled for its workers.
        """
        executor = self.executor
        if executor is None:
            return [function(model, *each) for each in arguments]
        if isinstance(executor, cf.ThreadPoolExecutor):
            return self._gathered([(function, model, *each) for each in arguments])
        if _is_of("distributed.cfexecutor", "ClientExecutor", executor) and hasattr(
            executor, "_client"
        ):
            return self._by_dask(function, model, arguments)
        if isinstance(executor, cf.ProcessPoolExecutor):
            self._send(
                model,
                pickle.dumps,
                "Define the function at the top level of a module, or "
                "use loky or dask, which pickle by value.",
            )
        elif _is_loky(executor):
            self._send(model, _by_value, "Create unpicklable objects inside the function.")
        else:
            return self._by_others(function, model, arguments)
        return self._sent(function, arguments, [1] * len(arguments))

    def _sent(
        self, function: Callable[..., Any], arguments: Sequence[Any], sizes: Sequence[int]
    ) -> list[Any]:
        """Run by `run_here`, in batches of the given sizes."""
        ends = list(accumulate(sizes))
        batches = [arguments[end - size : end] for end, size in zip(ends, sizes, strict=True)]
        calls = [(run_here, function, self._digest, self._source, batch) for batch in batches]
        outcomes: list[Any] = []
        for batch, outcome in zip(batches, self._gathered(calls, _batch), strict=True):
            lost = not isinstance(outcome, list)  # the whole batch is lost
            outcomes += [outcome] * len(batch) if lost else outcome
        return outcomes

    def _by_others(
        self, function: Callable[..., Any], model: Any, arguments: Sequence[Any]
    ) -> list[Any]:
        n_workers = getattr(self.executor, "num_workers", None)  # mpi4py, or a user executor
        if isinstance(n_workers, int) and n_workers > 0:
            with suppress(ValueError):  # a model that cannot be pickled may still work
                self._send(model, _by_value, "", in_file=False)
            if self._size > SMALL:
                n = min(len(arguments), BATCHES * n_workers)
                sizes = [len(arguments) // n + (i < len(arguments) % n) for i in range(n)]
                return self._sent(function, arguments, sizes)
        calls = [(run_packed, function, model, *each) for each in arguments]
        return self._gathered(calls, received)

    def _by_dask(
        self, function: Callable[..., Any], model: Any, arguments: Sequence[Any]
    ) -> list[Any]:
        """Run by the client of dask: see `ekitools.models.dask`."""
        from ekitools.models import dask  # noqa: PLC0415 - imports distributed

        client, options = self.executor._client, self.executor._kwargs
        if self.executor._shutdown or client.status == "closed":
            raise ValueError(
                "executor: must accept tasks, got one that is shut down. Pass a new executor."
            )
        dumps = sys.modules["distributed.protocol.pickle"].dumps
        self._send(model, dumps, "Create unpicklable objects inside the function.", in_file=False)
        if self._size > SMALL and self._plugin is None:
            assert isinstance(self._source, bytes)
            self._plugin = dask.ModelPlugin(self._digest, self._source)
            with suppress(Exception):  # workers without the model report it, and then receive it
                client.register_plugin(self._plugin)
        outcomes: list[Any] = [LACKING] * len(arguments)

        def gather(rows: Sequence[int], source: Any) -> None:
            head = (dask.run_settled, function, self._digest, source)
            futures = {client.submit(*head, [arguments[row]], **options): row for row in rows}
            try:
                with dask.workers_kept(client):
                    for future, outcome in dask.as_done(client, list(futures)):
                        found = _batch(outcome)
                        outcomes[futures[future]] = found[0] if isinstance(found, list) else found
            except BaseException as error:
                client.cancel(list(futures))
                if not isinstance(error, dask.NoWorkersError):
                    raise
                unfinished = sum(isinstance(outcome, str) for outcome in outcomes)
                raise BrokenPoolError(
                    f"executor: all workers of the cluster have died, with {unfinished} of "
                    f"{len(arguments)} members unfinished. Pass an executor of a fresh cluster."
                ) from error

        for source in (None if self._plugin else self._source, self._source):
            gather([row for row, found in enumerate(outcomes) if isinstance(found, str)], source)
            if not any(isinstance(found, str) for found in outcomes):  # LACKING
                break
        blamed = [row for row, found in enumerate(outcomes) if dask.is_blamed(found)]
        if len(blamed) > 1:  # dask also blames waiting members of a killed worker
            for row in blamed:
                gather([row], self._source)
        return outcomes

    def _gathered(
        self, calls: Sequence[tuple[Any, ...]], receive: Callable[[Any], Any] = lambda x: x
    ) -> list[Any]:
        """Return values of all calls in order, converted by ``receive``."""
        futures: list[Any] = []
        try:
            for each in calls:
                futures.append(self.executor.submit(*each))  # noqa: PERF401 - kept if one fails
            return [receive(_outcome(future, futures)) for future in futures]
        except cf.BrokenExecutor as error:
            unfinished = len(calls) - sum(f.done() and not f.exception() for f in futures)
            raise BrokenPoolError(
                f"executor: a worker died and the pool is broken, with {unfinished} of "
                f"{len(calls)} members unfinished. Pass a fresh executor, or one that survives "
                "a dying worker (dask's client.get_executor(pure=False))."
            ) from error
        except RuntimeError as error:
            if futures:
                raise
            raise ValueError(
                f"executor: must accept tasks, got one that does not ({error}). Pass a new "
                "executor."
            ) from error
        except BaseException:
            for future in futures:
                future.cancel()
            raise

    def _send(
        self, model: Any, dumps: Callable[..., bytes], remedy: str, *, in_file: bool = True
    ) -> None:
        """Prepare the model for `run_here`, unless the same model was sent before."""
        try:
            parts = dump(model, dumps)
        except Exception as error:
            raise ValueError(
                f"model: must be picklable for processes, got {safe_text(model)} ({error}). "
                f"{remedy}"
            ) from error
        sha = hashlib.sha256()
        for part in parts:
            sha.update(part)
        digest = f"{self._run}-{sha.hexdigest()}"
        if digest == self._digest:
            return
        self._forget()
        self._digest, self._size = digest, sum(memoryview(part).nbytes for part in parts)
        if in_file and self._size > SMALL:
            with suppress(OSError):  # no disk space: send the model with every member
                self._source = _written(parts)
                return
        self._source = b"".join(parts)

    def _forget(self) -> None:
        if isinstance(self._source, Path):
            with suppress(OSError):
                self._source.unlink()
        if self._plugin is not None:
            with suppress(Exception):  # the cluster may have ended
                self.executor._client.unregister_worker_plugin(self._plugin.name)
        self._digest, self._size, self._source, self._plugin = "", 0, None, None


def _written(parts: Sequence[bytes | memoryview]) -> Path:
    descriptor, name = tempfile.mkstemp(prefix="ekitools-model-", suffix=".pickle")
    path = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(parts)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return path


def _outcome(future: Any, futures: Sequence[Any]) -> Any:
    try:
        return future.result()
    except cf.BrokenExecutor:
        cf.wait([f for f in futures if isinstance(f, cf.Future)])
        raise
    except Exception as error:
        return failure_of(error)


def _batch(outcome: Any) -> Any:
    return [received(each) for each in outcome] if isinstance(outcome, list) else outcome


def _is_of(module: str, name: str, executor: Any) -> bool:
    """Whether an object is of a class, without importing the module of the class."""
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(executor, getattr(loaded, name, ()))


def _is_loky(executor: Any) -> bool:
    return any(
        _is_of(f"{package}.process_executor", "ProcessPoolExecutor", executor)
        for package in ("loky", "joblib.externals.loky")
    )


def _by_value(model: Any, **options: Any) -> bytes:
    """Pickle an object, by value if it cannot be imported elsewhere, like loky and dask."""
    for name in ("cloudpickle", "joblib.externals.cloudpickle"):
        if name in sys.modules:
            return bytes(sys.modules[name].dumps(model, **options))
    return pickle.dumps(model, **options)
