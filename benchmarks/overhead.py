"""Overhead of ekitools, compared with the cost of models and updates.

    python benchmarks/overhead.py

Four numbers, each with its reference: the import; an iteration of `run` with a vectorized model
without cost (J = 1000, p = 100, d = 100, store="all"), minus its Kalman update with the draw of its
perturbations; a member through a process pool of two workers with a model without cost; and the
peak memory of ten iterations with J = 200, p = 1,000,000 in float32 and store="last". Run it on an
idle machine.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np

import ekitools as ek


def free(u) -> np.ndarray:
    return u


def seconds(function, repeats) -> float:
    samples = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        samples.append(time.perf_counter() - start)
    return statistics.median(samples)


def import_time() -> None:
    code = "import time; t = time.perf_counter(); import ekitools; print(time.perf_counter() - t)"
    runs = [subprocess.check_output([sys.executable, "-c", code]) for _ in range(5)]
    names = "ek.run, ek.EKI, ek.GaussianPrior"
    use = f"import time; t = time.perf_counter(); import ekitools as ek; {names}; "
    used = [
        subprocess.check_output([sys.executable, "-c", use + "print(time.perf_counter() - t)"])
        for _ in range(5)
    ]
    print(f"import ekitools: {statistics.median(map(float, runs)):.3f} s (goal < 0.5)")
    print(f"  and the first use of {names}: {statistics.median(map(float, used)):.3f} s")


def iteration() -> None:
    n, p = 1000, 100
    problem = ek.InverseProblem(
        ek.FunctionModel(free, vectorized=True), ek.GaussianPrior(np.zeros(p), 1.0), 1.0, np.ones(p)
    )
    steps = 20
    method = ek.EKI(ek.FixedStep(1 / steps))

    def whole() -> None:
        ek.run(problem, method, n_members=n, rng=0, evaluate_final=False)

    rng = np.random.default_rng(0)
    u, noise = rng.standard_normal((n, p)), problem.noise

    def analysis() -> None:  # with the draw of the perturbations that it needs
        ek.kalman_update(u, u, problem.data, noise, noise_draw=rng.standard_normal((n, p)))

    whole()
    run = seconds(whole, 7) / steps
    update = seconds(analysis, 50)
    print(
        f"one iteration, J = {n}, p = d = {p}: {1e3 * run:.2f} ms, of which the update "
        f"{1e3 * update:.2f} ms; overhead {1e3 * (run - update):.2f} ms (goal <= 2)"
    )


def pool() -> None:
    n = 1000
    problem = ek.InverseProblem(
        ek.FunctionModel(free), ek.GaussianPrior(np.zeros(10), 1.0), 1.0, np.ones(10)
    )
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as executor:

        def whole() -> None:
            method = ek.EKI(ek.FixedStep(1.0))
            ek.run(problem, method, n_members=n, rng=0, executor=executor, evaluate_final=False)

        whole()
        print(
            f"one member through a process pool: {1e3 * seconds(whole, 5) / n:.3f} ms (goal <= 1)"
        )


def memory() -> None:
    n, p = 200, 1_000_000
    ensemble = np.random.default_rng(0).standard_normal((n, p), dtype=np.float32)
    problem = ek.InverseProblem(
        ek.FunctionModel(lambda u: u[:, :100], vectorized=True),
        ek.GaussianPrior(np.zeros(p, dtype=np.float32), 1.0),
        0.1,
        np.ones(100),
    )
    start = time.perf_counter()
    method = ek.EKI(ek.FixedStep(0.1))
    result = ek.run(problem, method, ensemble=ensemble, rng=0, store="last")
    elapsed = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    assert result.sizes["history"] == 11
    print(
        f"10 iterations, J = {n}, p = {p:,}, float32: {elapsed:.1f} s, peak {peak:.2f} GiB for an "
        f"ensemble of {ensemble.nbytes / 2**30:.2f} GiB (goal <= 6)"
    )


if __name__ == "__main__":
    import_time()
    iteration()
    pool()
    memory()
