"""Independent jobs on threads, each with a single-threaded BLAS."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from threadpoolctl import ThreadpoolController

__all__ = ["at_once"]


def at_once(jobs: Iterable[Callable[[], None]], *, short: bool = False) -> None:
    """Run independent jobs on as many threads as the BLAS would use.

    The products of a job are small, so the BLAS uses one thread for them. If the jobs are
    ``short``, threads would mostly wait for the interpreter, and the jobs run one after the other.

    Examples
    --------
    >>> from ekitools.linalg.threads import at_once
    >>> done = []
    >>> at_once([lambda: done.append(1), lambda: done.append(2)])
    >>> sorted(done)
    [1, 2]
    """
    pools = _pools()
    threads = 1 if short else max((pool["num_threads"] for pool in pools.info()), default=1)
    with pools.limit(limits=1), ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(_call, jobs) if threads > 1 else map(_call, jobs):
            pass


@cache
def _pools() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")


def _call(job: Callable[[], None]) -> None:
    job()
