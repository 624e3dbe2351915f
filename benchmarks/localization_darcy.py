"""A field of 4096 cells observed at 100 wells: ensembles of 100 members and a long reference.

    OMP_NUM_THREADS=1 python benchmarks/localization_darcy.py [--seeds 5] [--only WORD ...]

The problem is `ek.problems.darcy_field`, and the reference comes from `darcy_reference.py`. *Error*
is the root mean square over the cells of the error of the mean in standard deviations of the
posterior. *Variance ratio* is the mean over the cells of the sample variance divided by the
posterior's. *Inside* is the share of the cells whose true value is within 1.645 sample standard
deviations of the mean; the last row has the same share for the reference. *Runs* are the model runs
of an inversion. The numbers are means over the seeds of the first ensemble. The stated radius was
chosen on another field by ``--tune``. That field has a truth and a noise with another seed, and the
criterion is the error of the mean against that truth, in prior standard deviations.
"""

from __future__ import annotations

import argparse

import numpy as np
from darcy_reference import STORED
from localization import QUANTILE

import ekitools as ek

MEMBERS = 100
RADIUS = 0.2
RADII = (0.05, 0.1, 0.15, 0.2, 0.3, 0.5)


def distance(example, radius) -> ek.localization.Distance:
    """The rule with the coordinates of the cells and of the wells."""
    return ek.localization.Distance(example.extra["cells"], example.extra["wells"], radius)


METHODS = {
    "EKI": lambda example: ek.EKI(),
    "ETKI": lambda example: ek.ETKI(),
    "GNKI": lambda example: ek.GNKI(),
    "EKI, distance": lambda example: ek.EKI(localization=distance(example, RADIUS)),
    "ETKI, distance": lambda example: ek.ETKI(localization=distance(example, RADIUS)),
    "EKI, distance, adaptive": lambda example: ek.EKI(localization=distance(example, "adaptive")),
    "ETKI, distance, adaptive": lambda example: ek.ETKI(localization=distance(example, "adaptive")),
    "ETKI, correlation": lambda example: ek.ETKI(localization=ek.localization.Correlation()),
}


def moments(example, method, seed) -> tuple[np.ndarray, np.ndarray, int]:
    """Mean and standard deviation of every cell, and the model runs."""
    options = {"n_members": MEMBERS, "rng": seed, "evaluate_final": False, "store": "last"}
    result = ek.run(example.problem, method, **options)
    u = result.u[-1].values
    u = u[np.isfinite(u).all(axis=1)]
    runs = MEMBERS * int(result.iteration[-1])
    return u.mean(axis=0), u.std(axis=0, ddof=1), runs


def tune(seeds) -> None:
    """Errors of ETKI against another truth."""
    example = ek.problems.darcy_field(rng=1)
    for radius in RADII:
        method = ek.ETKI(localization=distance(example, radius))
        found = [moments(example, method, 1000 + seed) for seed in range(seeds)]
        error = np.mean([np.sqrt(np.mean((mean - example.truth) ** 2)) for mean, _, _ in found])
        inside = np.mean([np.abs(example.truth - m) < QUANTILE * s for m, s, _ in found])
        print(f"radius {radius}: error {error:.3f} prior sd, inside {inside:.3f}", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=[], metavar="WORD")
    parser.add_argument("--tune", action="store_true", help="choose the radius")
    options = parser.parse_args()
    if options.tune:
        tune(options.seeds)
        return
    example = ek.problems.darcy_field()
    with np.load(STORED) as stored:
        mean, sd = stored["mean"].astype(float), stored["sd"].astype(float)
    truth = example.truth
    print("| | error of the mean, sd | variance ratio | inside 90 % | runs |")
    print("|---|---|---|---|---|")
    for name, make in METHODS.items():
        if options.only and name not in options.only:
            continue
        rows = []
        for seed in range(options.seeds):
            found, spread, runs = moments(example, make(example), seed)
            error = np.sqrt(np.mean(((found - mean) / sd) ** 2))
            inside = np.mean(np.abs(truth - found) < QUANTILE * spread)
            rows.append((error, np.mean((spread / sd) ** 2), inside, runs))
        error, ratio, inside, runs = np.mean(rows, axis=0)
        print(f"| {name} | {error:.3f} | {ratio:.3f} | {inside:.3f} | {runs:.0f} |", flush=True)
    inside = np.mean(np.abs(truth - mean) < QUANTILE * sd)
    print(f"| reference | 0 | 1 | {inside:.3f} | |")


if __name__ == "__main__":
    main()
