"""ETKI and EKI: errors on a linear problem, and the cost of one square-root analysis.

    OMP_NUM_THREADS=1 python benchmarks/transform.py [--no-times]

The first table has means over 50 seeds for J = 40, p = 5, d = 10: the error of the mean in
posterior standard deviations (root mean square over directions) and tr(C_post^-1 C)/p, which is 1
for the exact covariance. The second table has milliseconds of one analysis and of the matrix
products that it cannot avoid (F F^T and K E in member space; F^T F, F V and L R^T E in data space),
and nanoseconds per datum.
"""

from __future__ import annotations

import argparse

import numpy as np
from kalman_update import SIZES
from timing import timed

import ekitools as ek
from ekitools.linalg.transform import transform_update

METHODS = {
    "EKI": ek.EKI(),
    "EKI(perturbed=False)": ek.EKI(perturbed=False),
    "ETKI": ek.ETKI(),
    "ETKI(rotate=True)": ek.ETKI(rotate=True),
}
MANY_DATA = (200, 1_000_000, 50)


def errors(method, seed) -> tuple[float, float]:
    """Error of the mean in posterior standard deviations, and the covariance ratio."""
    example = ek.problems.linear(p=5, d=10, rng=seed)
    mean, cov = example.extra["mean"], example.extra["cov"]
    u = ek.run(example.problem, method, n_members=40, rng=seed).u[-1].values
    off = np.linalg.solve(np.linalg.cholesky(cov), u.mean(axis=0) - mean)
    return np.sqrt(np.mean(off**2)), np.trace(np.linalg.solve(cov, np.cov(u.T))) / len(mean)


def products(u, r) -> np.ndarray:
    """The matrix products of one analysis."""
    n, d = r.shape
    if n > d:
        gram = r.T @ r
        basis = r @ gram
        return u + basis @ (basis.T @ u)
    return u + (r @ r.T) @ u


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-times", action="store_true", help="errors alone")
    options = parser.parse_args()
    print(f"{'method':<22}{'error of the mean':>19}{'covariance ratio':>18}")
    for name, method in METHODS.items():
        off, ratio = np.mean([errors(method, seed) for seed in range(50)], axis=0)
        print(f"{name:<22}{off:19.3f}{ratio:18.3f}", flush=True)
    if options.no_times:
        return
    heads = "".join(f"{head:>13}" for head in ("analysis ms", "products ms", "ratio", "ns a datum"))
    print(f"\n{'(p, d, J)':>20}{heads}")
    for p, d, n in (*SIZES, MANY_DATA):
        rng = np.random.default_rng(0)
        u, r = rng.normal(size=(n, p)), rng.normal(size=(n, d))
        ours, least = timed(
            [lambda u=u, r=r: transform_update(u, r, 1.0), lambda u=u, r=r: products(u, r)], 5
        )
        print(
            f"{(p, d, n)!s:>20}{1e3 * ours:13.2f}{1e3 * least:13.2f}{ours / least:13.2f}"
            f"{1e9 * ours / d:13.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
