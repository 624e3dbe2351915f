"""One localized analysis: time and memory compared with other packages, with the same weights.

    python benchmarks/localization_speed.py [--threads 1] [--repeats 3] [--size P D J] [--batch N]

The parameters are the cells of a square grid, the data are values at random cells, and the
Gaspari-Cohn weights reach about 40 data from every cell. Every row has its own process. *s* is the
median time of an analysis, with the weights that it needs. *Peak* is the largest resident memory of
the process, with Python, the packages and the inputs, and *above* is the part above the memory of
the process with its inputs. All packages perturb the data and use double precision.

* ekitools: `kalman_coefficients` with `Distance`, and `apply_update` in place. The local analyses
  are computed on a grid that is coarser than the cells, and interpolated.
* iterative_ensemble_smoother: `LocalizedESMDA`, whose gain is tapered. Cells come in batches, which
  are overwritten, and the callback returns a sparse gain. The batches have the size that its
  documentation proposes, twice the data, unless ``--batch`` is given.
* pyesmda: `ESMDA` with both covariances tapered and sparse weights, in its default batches of 5000
  cells, unless ``--batch`` is given.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from timing import peak_mib, present_mib

SIZES = [(50_000, 2_000, 500), (1_000_000, 2_000, 100)]
IN_SUPPORT = 40
SD = 0.3


class Inputs:
    """An ensemble on a square grid, its outputs, and the coordinates of both."""

    def __init__(self, p, d, n) -> None:
        rng = np.random.default_rng(0)
        side = math.isqrt(p)
        cells = np.indices((side, side), dtype=float).reshape(2, -1).T
        places = rng.choice(len(cells), d, replace=False)
        self.cells, self.wells = cells, cells[places]
        self.radius = side * math.sqrt(IN_SUPPORT / (math.pi * d)) / 2
        self.u = rng.standard_normal((n, len(cells)))
        self.g = self.u[:, places].copy()
        self.data = rng.standard_normal(d)

    def weights(self, columns) -> Any:
        """Sparse Gaspari-Cohn weights of some cells."""
        from localization_peers import gaspari_cohn
        from scipy.sparse import csr_array
        from scipy.spatial import cKDTree

        cells = self.cells[columns]
        near = cKDTree(cells).sparse_distance_matrix(
            cKDTree(self.wells), 2 * self.radius, output_type="ndarray"
        )
        weights = gaspari_cohn(near["v"], self.radius)
        return csr_array((weights, (near["i"], near["j"])), shape=(len(cells), len(self.wells)))


def ekitools_analysis(inputs, batch=None) -> Callable[[], Any]:
    """A function that makes the analysis."""
    import ekitools as ek

    def analysis() -> Any:
        rule = ek.localization.Distance(inputs.cells, inputs.wells, inputs.radius)
        K = ek.kalman_coefficients(
            inputs.g, inputs.data, SD**2, analysis="perturbed", rng=0, localization=rule
        )
        return ek.apply_update(K, inputs.u, inputs.u)

    return analysis


def smoother_analysis(inputs, batch=None) -> Callable[[], Any]:
    """A function that makes the analysis of iterative_ensemble_smoother in batches."""
    from iterative_ensemble_smoother import LocalizedESMDA

    d = len(inputs.data)
    batch = batch or 2 * d
    x = np.ascontiguousarray(inputs.u.T)
    outputs = np.ascontiguousarray(inputs.g.T)
    del inputs.u
    variances = np.full(d, SD**2)

    def analysis() -> Any:
        smoother = LocalizedESMDA(covariance=variances, observations=inputs.data, alpha=1, seed=0)
        smoother.prepare_assimilation(Y=outputs)
        for i in range(0, len(x), batch):
            weights = inputs.weights(slice(i, i + batch))
            x[i : i + batch] = smoother.assimilate_batch(
                X=x[i : i + batch],
                localization_callback=lambda gain, weights=weights: weights.multiply(gain).tocsr(),
                overwrite=True,
            )
        return x

    return analysis


def pyesmda_analysis(inputs, batch=None) -> Callable[[], Any]:
    """A function that makes the analysis of pyesmda."""
    import covmats
    import pyesmda

    x = np.ascontiguousarray(inputs.u.T)
    outputs = np.ascontiguousarray(inputs.g.T)
    del inputs.u
    variances = np.full(len(inputs.data), SD**2)

    def analysis() -> Any:
        weights = inputs.weights(slice(None))
        cells, inputs.cells = inputs.cells, inputs.wells
        between = inputs.weights(slice(None))
        inputs.cells = cells
        solver = pyesmda.ESMDA(
            obs=inputs.data,
            m_init=x,
            cov_obs=covmats.CovViaDiagonal(variances),
            forward_model=lambda _: outputs,
            n_assimilations=1,
            inversion_type="cholesky",
            C_MD_localization=pyesmda.FixedLocalization(weights),
            C_DD_localization=pyesmda.FixedLocalization(between),
            random_state=0,
            is_forecast_for_last_assimilation=False,
            is_parallel_analyse_step=False,
            batch_size=batch or 5000,
        )
        solver.solve()
        return solver.m_posterior

    return analysis


PACKAGES = {
    "ekitools": ekitools_analysis,
    "iterative_ensemble_smoother": smoother_analysis,
    "pyesmda": pyesmda_analysis,
}


def measure(name, size, repeats, batch) -> None:
    """Print the median seconds of an analysis, the peak and its part above the inputs in MiB."""
    PACKAGES[name](Inputs(100, 10, 20), None)()  # imports
    analysis = PACKAGES[name](Inputs(*size), batch)
    before = present_mib()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        analysis()
        seconds.append(time.perf_counter() - start)
    peak = peak_mib()
    print(np.median(seconds), peak, peak - before)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--size", type=int, nargs=3, metavar=("P", "D", "J"))
    parser.add_argument("--batch", type=int, help="cells in a batch of the other packages")
    parser.add_argument("--only", default="", metavar="WORD")
    parser.add_argument("--child", choices=PACKAGES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        measure(options.child, options.size, options.repeats, options.batch)
        return
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = os.environ | dict.fromkeys(names, str(options.threads))
    print(f"{options.threads} thread(s), median of {options.repeats}")
    print("| (p, d, J) | package | s | peak, MiB | above, MiB |")
    print("|---|---|---|---|---|")
    for size in [tuple(options.size)] if options.size else SIZES:
        for name in PACKAGES:
            if options.only not in name:
                continue
            command = [sys.executable, __file__, "--repeats", str(options.repeats)]
            command += ["--child", name, "--size", *map(str, size)]
            command += ["--batch", str(options.batch)] if options.batch else []
            done = subprocess.run(
                command, check=False, capture_output=True, text=True, env=environment
            )
            if done.returncode:
                reason = done.stderr.strip().splitlines()[-1]
                print(f"| {size} | {name} | not measured: {reason} | | |", flush=True)
                continue
            seconds, peak, above = (float(each) for each in done.stdout.split())
            print(f"| {size} | {name} | {seconds:.2f} | {peak:.0f} | {above:.0f} |", flush=True)


if __name__ == "__main__":
    main()
