"""Dask: a model on its way to all workers, and outcomes fetched while workers may die."""

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
knows that it has started is not started again."""

PATIENCE = 300.0
"""Seconds to wait for a worker after the last one has died."""

_LOST = {"distributed.deploy.lost-worker-timeout": "1 hour"}

_settled: list[bool] = []


class NoWorkersError(RuntimeError):
    """All workers have died, and none has come in their place."""


class ModelPlugin(WorkerPlugin):
    """Unpickles a model in every worker, those that start later included."""

    def __init__(self, digest: str, pickled: bytes) -> None:
        self.name = f"ekitools-model-{digest}"
        self.digest, self.pickled = digest, pickled

    def setup(self, worker: Any) -> None:  # noqa: ARG002 - dask's signature
        """Called once in every worker."""
        keep(self.digest, self.pickled)
        self.pickled = b""


def run_settled(*arguments: Any) -> Any:
    """`run_here`, once the worker is known to its nanny."""
    if not _settled:
        time.sleep(SETTLING)
        _settled.append(True)
    return run_here(*arguments)


def workers_kept(client: Any) -> AbstractContextManager[Any]:
    """While a `LocalCluster` evaluates, it does not give up a worker that is started again.

    It would do so 15 seconds after a death, where the worker is not there at that moment: with
    several members that kill their workers none is left in the end.
    """
    local = isinstance(client.cluster, LocalCluster)
    return dask_config.set(_LOST) if local else nullcontext()


def is_blamed(outcome: Any) -> bool:
    """Whether dask gave up the member, since workers died while it was with them."""
    return isinstance(outcome, Failure) and isinstance(outcome.error, KilledWorker)


def as_done(client: Any, futures: Sequence[Any], poll: float = 5.0) -> Iterator[tuple[Any, Any]]:
    """Futures with their outcomes, fetched as soon as they are there.

    dask's own executor waits for ever for a result that is lost with its worker and then not
    computed again; so does any wait where no worker is left.

    Raises
    ------
    NoWorkersError
        If there were workers, and none is left for `PATIENCE` seconds.
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
        except Exception:  # of one of them, or one is lost and has to be computed again
            outcomes = [_outcome(future, watch, poll) for future in done]
        yield from zip(done, outcomes, strict=True)


def _outcome(future: Any, watch: _Watch, poll: float) -> Any:
    while True:
        try:
            return future.result(timeout=poll)
        except TimeoutError:  # a model's own comes back as an outcome
            watch.look()
            poll *= 2  # a large output takes its time
        except Exception as error:
            return failure_of(error)


class _Watch:
    """Looks whether there are workers."""

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
