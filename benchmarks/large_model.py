"""A run whose model holds an array of 40 MB, with a process pool of two workers.

python benchmarks/large_model.py [--members 40] [--steps 2]
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np

import ekitools as ek


class Large:
    """A model with an array, of which every run reads one number."""

    vectorized = stochastic = False

    def __init__(self) -> None:
        self.forcing = np.linspace(0, 1, 5_000_000)

    def __call__(self, u) -> np.ndarray:
        return u * self.forcing[-1]


def seconds(n_members, n_steps) -> float:
    """Wall time of the run, with workers that have started before."""
    problem = ek.InverseProblem(Large(), ek.GaussianPrior(np.zeros(3), 1.0), 0.1, np.ones(3))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        list(executor.map(np.sin, range(20)))
        start = time.perf_counter()
        ek.run(
            problem,
            ek.EKI(ek.FixedStep(1 / n_steps)),
            n_members=n_members,
            rng=0,
            executor=executor,
        )
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--members", type=int, default=40)
    parser.add_argument("--steps", type=int, default=2)
    options = parser.parse_args()
    print(f"{seconds(options.members, options.steps):.1f} s")


if __name__ == "__main__":
    main()
