"""The cost of a checkpoint along a run of 5,000 iterations.

    python benchmarks/checkpoints.py [--iterations 5000] [--folder FOLDER]

A linear problem with p = 3, d = 5, J = 10 saves a checkpoint at every iteration, with store="all"
and with store="last". The table has the milliseconds of a checkpoint at the first 100 and at the
last 100 iterations (medians of wall time and of processor time), the most files that were in the
folder, and the size of checkpoint.json. Compare processor times on a shared machine.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import ekitools as ek

WINDOW = 100


def problem() -> ek.InverseProblem:
    A = np.random.default_rng(0).normal(size=(5, 3))
    prior = ek.GaussianPrior(np.zeros(3), 1.0)
    return ek.InverseProblem(ek.LinearModel(A), prior, 0.1, A @ np.ones(3))


def measured(folder, store, iterations) -> tuple[Any, ...]:
    """Milliseconds of every checkpoint, wall and processor, and the most files in the folder."""
    method = ek.EKI(ek.FixedStep(1e-5), t_end=None)
    loop = ek.AskTell(problem(), method, n_members=10, n_steps=iterations, rng=0, store=store)
    wall, processor, n_files = [], [], 0
    with loop._folder.holding(folder):  # as ek.run does
        while not loop.done:
            loop.tell(loop.problem.model(loop.ask()))
            start = time.perf_counter(), time.process_time()
            loop.save(folder)
            wall.append(1e3 * (time.perf_counter() - start[0]))
            processor.append(1e3 * (time.process_time() - start[1]))
            if loop.n % WINDOW == 0:
                n_files = max(n_files, len(list(folder.iterdir())))
    return wall, processor, n_files


def row(folder, store, iterations, window=WINDOW) -> dict[str, Any]:
    """One row of the table."""
    wall, processor, n_files = measured(folder, store, iterations)
    ends = [
        statistics.median(values)
        for each in (wall, processor)
        for values in (each[10 : 10 + window], each[-window:])  # the first ones fill caches
    ]
    return {
        "store": store,
        "wall": tuple(ends[:2]),
        "processor": tuple(ends[2:]),
        "files": n_files,
        "index": (folder / "checkpoint.json").stat().st_size,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--iterations", type=int, default=5000)
    parser.add_argument("--folder", type=Path, help="where checkpoints go; a temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        print(f"ms per checkpoint at the first and the last {WINDOW} of {options.iterations}")
        print("store  wall first  wall last  processor first  processor last  files  index bytes")
        for store in ("all", "last"):
            found = row(Path(scratch) / store, store, options.iterations)
            print(
                f"{store:<5}  {found['wall'][0]:10.2f}  {found['wall'][1]:9.2f}  "
                f"{found['processor'][0]:15.2f}  {found['processor'][1]:14.2f}  "
                f"{found['files']:5d}  {found['index']:11d}"
            )


if __name__ == "__main__":
    main()
