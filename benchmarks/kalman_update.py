"""One Kalman analysis, compared with the matrix products that every exact analysis needs.

    python benchmarks/kalman_update.py [--threads 1] [--repeats 7] [--dtype float64] [--small]

The floor of a row is the time of the products W Wᵀ and N Wᵀ of (J, d) arrays if J <= d, or of WᵀW
(d, d) and its product with (J, d) if d is smaller, into allocated memory. To this time is added the
product of the coefficients with the ensemble, into new memory, because the analysis is a pure
function. The floor is measured in the same process, alternately with each candidate alone, because
waiting threads of another BLAS library would slow down the next measurement. The columns are ratios
of medians to the floor: `kalman_update` with perturbed data, the same analysis in plain NumPy, and
ES-MDA of iterative_ensemble_smoother if it is installed (`pip install
iterative-ensemble-smoother`). Run the script on an idle machine.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any

from timing import timed

SIZES = [
    (10_000, 100, 200),
    (1_000, 10_000, 200),
    (50_000, 2_000, 500),
    (1_000, 100_000, 100),
    (100_000, 1_000, 1_000),
    (100, 1_000, 100),
]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--dtype", choices=["float64", "float32"], default="float64")
    parser.add_argument("--small", action="store_true", help="only the sizes that take < 1 s")
    return parser.parse_args()


def floor(np, u, g, draw) -> Callable[[], Any]:
    """The unavoidable products, as a function to be timed."""
    n, d = g.shape
    if n <= d:
        gram, cross = np.empty((n, n), g.dtype), np.empty((n, n), g.dtype)

        def products() -> Any:
            np.matmul(g, g.T, out=gram)
            np.matmul(draw, g.T, out=cross)
            return gram @ u

        return products
    gram, rows = np.empty((d, d), g.dtype), np.empty_like(g)
    thin, coefficients = np.empty((d, u.shape[1]), u.dtype), np.empty((n, n), u.dtype)

    def products() -> Any:
        np.matmul(g.T, g, out=gram)
        np.matmul(draw, gram, out=rows)
        if 2 * d < n:  # the cheaper of the two orders
            return rows @ np.matmul(g.T, u, out=thin)
        return np.matmul(rows, g.T, out=coefficients) @ u

    return products


def plain(np, u, g, y, variances, draw) -> Any:
    """The analysis as one writes it in NumPy, in the smaller of J and d."""
    n, d = g.shape
    scale = 1 / np.sqrt(variances)
    e, f = u - u.mean(0), (g - g.mean(0)) * scale
    innovation = (y + draw - g) * scale
    if n <= d:
        return u + innovation @ f.T @ np.linalg.solve(
            f @ f.T + (n - 1) * np.eye(n, dtype=u.dtype), e
        )
    gram = f.T @ f + (n - 1) * np.eye(d, dtype=u.dtype)
    return u + np.linalg.solve(gram, innovation.T).T @ (f.T @ e)


def smoother(np, u, g, y, variances) -> Callable[[], Any] | None:
    """One analysis of iterative_ensemble_smoother with the same inputs, or None."""
    try:
        from iterative_ensemble_smoother import ESMDA
    except ImportError:
        return None
    parameters, outputs = np.asfortranarray(u.T), np.asfortranarray(g.T)

    def update() -> Any:
        esmda = ESMDA(covariance=variances, observations=y, alpha=1, seed=0)
        esmda.prepare_assimilation(Y=outputs)
        return esmda.assimilate_batch(X=parameters)

    try:
        update()
    except Exception as error:  # another version's interface
        print(f"iterative_ensemble_smoother: not measured ({error!r})", file=sys.stderr)
        return None
    return update


def main() -> None:
    options = arguments()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(options.threads)
    import numpy as np

    import ekitools as ek

    print(f"{options.dtype}, {options.threads} thread(s), median of {options.repeats}")
    print(f"{'(p, d, J)':>24} {'floor ms':>9} {'ekitools':>9} {'NumPy':>9} {'smoother':>9}")
    for p, d, n in SIZES:
        if options.small and n * n * (p + 2 * d) > 1e10:
            continue
        rng = np.random.default_rng(0)
        u, g, draw = (rng.standard_normal((n, k), dtype=options.dtype) for k in (p, d, d))
        y = rng.standard_normal(d, dtype=options.dtype)
        variances = np.linspace(0.5, 1.5, d, dtype=options.dtype)
        noise = ek.GaussianNoise(variances)
        least = floor(np, u, g, draw)
        candidates = [
            lambda: ek.kalman_update(u, g, y, noise, noise_draw=draw),  # noqa: B023
            lambda: plain(np, u, g, y, variances, draw),  # noqa: B023
            smoother(np, u, g, y, variances),
        ]
        pairs = [timed([least, other], options.repeats) for other in candidates if other]
        ratios = [f"{b / a:9.2f}" for a, b in pairs] + ["        -"] * (3 - len(pairs))
        print(f"{(p, d, n)!s:>24} {1e3 * pairs[0][0]:9.2f} {' '.join(ratios)}", flush=True)


if __name__ == "__main__":
    main()
