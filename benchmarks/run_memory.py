"""Memory of whole runs: the ensemble in memory, and the ensemble on disk.

    OMP_NUM_THREADS=1 python benchmarks/run_memory.py [--parameters 1000000] [--members 200]
        [--steps 10] [--store last final disk] [--folder /tmp]

Ensembles in single precision, 100 outputs, a model of one member and `ESMDA`. Every run has its own
process. *Ensembles* and *MiB* are the largest resident memory of the process, minus the memory
before the run: Python, ekitools and the problem with its names. *Process* is the largest resident
memory itself. *disk* is ``run(..., store="final", scratch=folder)``, which needs room for two
ensembles in the folder.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import ekitools as ek

OUTPUTS = 100
METHODS = {"ETKI": ek.ETKI, "EKI": ek.EKI}


def memory(kind) -> float:
    """The resident memory of this process in MiB: "VmRSS" now or "VmHWM" at most."""
    status = Path("/proc/self/status").read_text("utf-8")
    return int(status.partition(f"{kind}:")[2].split()[0]) / 1024


def problem_of(p) -> ek.InverseProblem:
    """A problem in which some of p parameters are observed."""
    where = np.linspace(0, p - 1, OUTPUTS).astype(int)
    prior = ek.GaussianPrior(np.zeros(p, dtype=np.float32), 1.0)
    return ek.InverseProblem(lambda u: u[where], prior, 0.5, np.ones(OUTPUTS))


def one(method, store, n, p, steps, folder) -> tuple[float, float, float, float]:
    """Seconds and MiB of one run in this process, and the mean of the observed parameters."""
    small = ek.InverseProblem(lambda u: u, ek.GaussianPrior(np.zeros(3), 1.0), 1.0, np.ones(3))
    ek.run(small, METHODS[method](), n_members=5, rng=0)  # everything is imported
    problem, where = problem_of(p), {"scratch": folder} if store == "disk" else {}
    before, start = memory("VmRSS"), time.perf_counter()
    result = ek.run(
        problem,
        METHODS[method](ek.ESMDA(steps)),
        n_members=n,
        rng=0,
        store="final" if store == "disk" else store,
        **where,
    )
    seconds = time.perf_counter() - start
    return seconds, memory("VmHWM") - before, memory("VmHWM"), float(result.g.mean())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parameters", type=int, default=1_000_000)
    parser.add_argument("--members", type=int, default=200)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--store", nargs="+", default=["last", "final", "disk"])
    parser.add_argument("--method", nargs="+", default=["ETKI"], choices=METHODS)
    parser.add_argument("--folder", type=Path, help="where the files are written")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    n, p, steps = options.members, options.parameters, options.steps
    if options.child:
        (method,), (store,) = options.method, options.store
        print(*one(method, store, n, p, steps, options.folder))
        return
    size = n * p * 4 / 2**20
    print(f"J = {n}, p = {p}, {steps} steps, float32: an ensemble has {size:.0f} MiB")
    print(f"{'':<12}{'seconds':>9}{'ensembles':>11}{'MiB':>8}{'process':>9}{'mean output':>13}")
    for method in options.method:
        for store in options.store:
            with tempfile.TemporaryDirectory(dir=options.folder) as folder:
                command = [sys.executable, __file__, "--child", "--method", method]
                command += ["--store", store, "--folder", folder, "--steps", str(steps)]
                command += ["--members", str(n), "--parameters", str(p)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
            seconds, grown, process, mean = map(float, done.stdout.split())
            row = f"{seconds:9.1f}{grown / size:11.2f}{grown:8.0f}{process:9.0f}{mean:13.6f}"
            print(f"{method + ', ' + store:<12}{row}")


if __name__ == "__main__":
    main()
