"""Evaluation on dask: the model is sent to all workers, and outcomes survive dead workers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from dask import config as dask_config
from distributed import KilledWorker, LocalCluster, WorkerPlugin

from ekitools.models.outputs import Failure, failure_of
from ekitools.models.remote import keep, run_here

__all__ = ["ModelPlugin", "NoWorkersError", "as_done", "is_blamed", "run_settled", "workers_kept"]

SETTLING = 0.25
"""Seconds that a new worker waits before its first member. A process that dies before its nanny
has registered the start is not started again."""

PATIENCE = 300.0
"""Seconds to wait for a new worker after the last worker has died."""

_LOST = {"distributed.deploy.lost-worker-timeout": "1 hour"}

_settled: list[bool] = []


class NoWorkersError(RuntimeError):
    """All workers have died, and no new worker has started."""


class ModelPlugin(WorkerPlugin):
    """Plugin that unpickles a model in every worker, including workers that start later."""

    def __init__(self, digest: str, pickled: bytes) -> None:
        self.name = f"ekitools-model-{digest}"
        self.digest, self.pickled = digest, pickled

    def setup(self, worker: Any) -> None:  # noqa: ARG002 - dask's signature
        """Load the model; dask calls this once in every worker."""
        keep(self.digest, self.pickled)
        self.pickled = b""


def run_settled(*arguments: Any) -> Any:
    """`run_here` after the nanny of the worker has registered its start."""
    if not _settled:
        time.sleep(SETTLING)
        _settled.append(True)
    return run_here(*arguments)


def workers_kept(client: Any) -> AbstractContextManager[Any]:
    """Keep a `LocalCluster` from giving up workers that are being restarted.

    By default a cluster gives up a dead worker after 15 seconds if the worker is not back by then.
    Several members that kill their workers would then leave no worker.
    """
    local = isinstance(client.cluster, LocalCluster)
    return dask_config.set(_LOST) if local else nullcontext()


def is_blamed(outcome: Any) -> bool:
    """Whether dask gave up the member because its workers died."""
    return isinstance(outcome, Failure) and isinstance(outcome.error, KilledWorker)


def as_done(client: Any, futures: Sequence[Any], poll: float = 5.0) -> Iterator[tuple[Any, Any]]:
    """Futures with their outcomes, fetched as soon as they are done.

    The executor of dask waits for ever for a result that was lost with its worker and is not
    computed again. It also waits for ever if no worker is left.

    Raises
    ------
    NoWorkersError
        If all workers have died and no worker starts for `PATIENCE` seconds.
    """
    ready: SimpleQueue[Any] = SimpleQueue()
    for future in futures:
        future.add_done_callback(ready.put)
    left, watch = len(futures), _Watch(client)
    while left:
        try:
            done = [ready.get(timeout=poll)]
        except Empty:
            watch.look()
            continue
        with suppress(Empty):
            while True:
                done.append(ready.get_nowait())
        left -= len(done)
        try:
            together = partial(client.gather, done, asynchronous=True)
            outcomes = client.sync(together, callback_timeout=poll)
        except Exception:  # one failed, or one is lost and has to be computed again
            outcomes = [_outcome(future, watch, poll) for future in done]
        yield from zip(done, outcomes, strict=True)


def _outcome(future: Any, watch: _Watch, poll: float) -> Any:
    while True:
        try:
            return future.result(timeout=poll)
        except TimeoutError:  # a timeout of the model comes back as an outcome
            watch.look()
            poll *= 2  # a large output takes longer
        except Exception as error:
            return failure_of(error)


class _Watch:
    """Watch for workers that are left."""

    def __init__(self, client: Any) -> None:
        self.client, self.seen, self.gone = client, False, 0.0

    def look(self) -> None:
        if self.client.nthreads():
            self.seen, self.gone = True, 0.0
            return
        now = time.monotonic()
        self.gone = self.gone or now
        if now - self.gone > PATIENCE:
            raise NoWorkersError
