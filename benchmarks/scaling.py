"""Weak scaling of a run: the cost of an executor for models that take 100 ms.

    python benchmarks/scaling.py [threads] [processes] [loky] [dask]

Twenty members for every worker and three iterations, so 60 runs of 100 ms for every worker, or 6 s
without any overhead. The model only sleeps, so workers do not compete for a processor. Workers are
started before the clock, and each has evaluated members before. Executors that are not installed
are left out. Run it on an idle machine, because waits for a processor appear as lost efficiency.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

import ekitools as ek

SECONDS, MEMBERS, STEPS, WORKERS = 0.1, 20, 2, (1, 2)


def sleeping(u) -> np.ndarray:
    time.sleep(SECONDS)
    return u


def threads(workers) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers)


def processes(workers) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def loky(workers) -> Any:
    from loky import ProcessPoolExecutor as LokyExecutor

    return LokyExecutor(workers)


@contextmanager
def dask(workers) -> Iterator[Any]:
    from distributed import Client, LocalCluster

    options = {"threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with LocalCluster(n_workers=workers, **options) as cluster, Client(cluster) as client:
        yield client.get_executor(pure=False)


def run(executor, n_members) -> Any:
    problem = ek.InverseProblem(
        ek.FunctionModel(sleeping), ek.GaussianPrior(np.zeros(5), 1.0), 1.0, np.ones(5)
    )
    method = ek.EKI(ek.FixedStep(1 / STEPS))
    return ek.run(problem, method, n_members=n_members, rng=0, executor=executor)


def seconds(pool, workers) -> float:
    with pool(workers) as executor:
        run(executor, 4 * workers)
        return float(run(executor, MEMBERS * workers).attrs["seconds"])


def main() -> None:
    ideal = MEMBERS * (STEPS + 1) * SECONDS
    print(f"{MEMBERS} members for every worker, {ideal:.0f} s of sleep; goal: at least 95 %")
    print(f"{'executor':<12}{'workers':>9}{'members':>9}{'seconds':>9}{'efficiency':>12}")
    chosen = sys.argv[1:]
    for pool in (threads, processes, loky, dask):
        if chosen and pool.__name__ not in chosen:
            continue
        for workers in WORKERS:
            try:
                taken = seconds(pool, workers)
            except ImportError as error:
                print(f"{pool.__name__:<12}{error}")
                break
            print(
                f"{pool.__name__:<12}{workers:>9}{MEMBERS * workers:>9}{taken:>9.2f}"
                f"{ideal / taken:>12.1%}"
            )


if __name__ == "__main__":
    main()
