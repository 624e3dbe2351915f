"""Localization on linear problems with known posteriors, compared with other packages.

    OMP_NUM_THREADS=1 python benchmarks/localization.py table [--seeds 10] [--only WORD ...]
    OMP_NUM_THREADS=1 python benchmarks/localization.py groups [--seeds 20]

*table*: 2000 cells with the covariance exp(-|i - j|/30), 200 data, each the average of the nine
cells about cell 5, 15, 25, ..., noise with a standard deviation of 0.1, and 100 members. The rows
are means over ten seeds for each of three truths. *Error* is the root mean square over the cells of
the error of the mean in standard deviations of the exact posterior. *Variance ratio* is the mean
over the cells of the sample variance divided by the exact one. *Inside* is the share of the cells
whose true value is within 1.645 sample standard deviations of the mean; the last row has the same
share for the exact posterior. If a row has settings, they have the smallest error on a grid, for
another truth and other seeds. The row names them. Analyses with *steps* steps use all data in each
step, with the noise variances times the number of steps.

*groups*: 40 parameters in 8 blocks of 5 with independent priors N(0, 1). Each block has its own ten
data, which depend on the block by a random matrix. The ensembles have 60 members and use all data.

Tables are Markdown. A word of ``--only`` selects the rows that contain it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from itertools import product
from typing import Any

import numpy as np
from localization_peers import pyesmda_distance, smoother_adaptive, smoother_distance

import ekitools as ek

CELLS, LENGTH, SPACING, WIDTH, SD = 2000, 30.0, 10, 9, 0.1
MEMBERS = 100
QUANTILE = 1.645
"""Half the width of the central 90 % of a normal distribution."""

TUNING_TRUTH, TUNING_SEEDS = 10, (1000, 1001, 1002)


@dataclass(frozen=True)
class Case:
    """A linear problem with independent noise, and its exact posterior."""

    prior: ek.GaussianPrior
    matrix: np.ndarray
    data: np.ndarray
    variances: np.ndarray
    truth: np.ndarray
    positions: np.ndarray
    """Coordinates of the parameters, ``(p, 1)``."""
    stations: np.ndarray
    """Coordinates of the data, ``(d, 1)``."""

    @cached_property
    def problem(self) -> ek.InverseProblem:
        return ek.InverseProblem(ek.LinearModel(self.matrix), self.prior, self.variances, self.data)

    @cached_property
    def exact(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviations of the posterior by the Kalman formula."""
        C, A = self.prior.cov, self.matrix
        cross = C @ A.T if C.ndim == 2 else C * A.T
        gain = np.linalg.solve(A @ cross + np.diag(self.variances), cross.T).T
        mean = self.prior.mean + gain @ (self.data - A @ self.prior.mean)
        prior = np.diag(C) if C.ndim == 2 else np.broadcast_to(C, mean.shape)
        return mean, np.sqrt(prior - np.sum(gain * cross, axis=1))

    @cached_property
    def from_data(self) -> np.ndarray:
        """Distances of parameters from data, ``(p, d)``."""
        return np.abs(self.positions - self.stations.T)

    @cached_property
    def between_data(self) -> np.ndarray:
        """Distances of data from data, ``(d, d)``."""
        return np.abs(self.stations - self.stations.T)

    def inside(self, mean, sd) -> float:
        """Share of the parameters whose true value is in the central 90 %."""
        return np.mean(np.abs(self.truth - mean) < QUANTILE * sd)

    def scores(self, u) -> tuple[float, float, float]:
        """Error of the mean, variance ratio and share inside of an ensemble ``(J, p)``."""
        mean, sd = self.exact
        found, spread = u.mean(axis=0), u.std(axis=0, ddof=1)
        error = np.sqrt(np.mean(((found - mean) / sd) ** 2))
        return error, np.mean((spread / sd) ** 2), self.inside(found, spread)


def cells(truth) -> Case:
    """The problem of the table, with the truth and the noise of a seed."""
    i = np.arange(CELLS)
    prior = ek.GaussianPrior(0.0, np.exp(-np.abs(i[:, None] - i) / LENGTH))
    centres = np.arange(SPACING // 2, CELLS, SPACING)
    matrix = (np.abs(centres[:, None] - i) <= WIDTH // 2).astype(float)
    matrix /= matrix.sum(axis=1, keepdims=True)
    rng = np.random.default_rng([2000, truth])
    true = prior.sample(1, rng=rng)[0]
    data = matrix @ true + SD * rng.standard_normal(len(matrix))
    return Case(
        prior,
        matrix,
        data,
        np.full(len(matrix), SD**2),
        true,
        i[:, None].astype(float),
        centres[:, None].astype(float),
    )


def blocks(truth, n_blocks=8, size=5, n_data=10, sd=0.1) -> Case:
    """The problem of the groups, with the matrices, the truth and the noise of a seed."""
    rng = np.random.default_rng([8, truth])
    p, d = n_blocks * size, n_blocks * n_data
    group, owner = np.repeat(np.arange(n_blocks), size), np.repeat(np.arange(n_blocks), n_data)
    matrix = rng.standard_normal((d, p)) * (owner[:, None] == group)
    true = rng.standard_normal(p)
    data = matrix @ true + sd * rng.standard_normal(d)
    positions, stations = group[:, None].astype(float), owner[:, None].astype(float)
    prior = ek.GaussianPrior(np.zeros(p), 1.0)
    return Case(prior, matrix, data, np.full(d, sd**2), true, positions, stations)


def by(make: Callable[..., Any]) -> Callable[..., np.ndarray]:
    """The last ensemble of a method of ekitools, made from the case and the settings."""

    def estimate(case, u, seed, **settings) -> np.ndarray:
        method = make(case, **settings)
        keywords = {"evaluate_final": False, "store": "last"}
        return ek.run(case.problem, method, ensemble=u, rng=seed, **keywords).u[-1].values

    return estimate


@dataclass(frozen=True)
class Row:
    """Function for the ensemble of a row, and the values of its settings."""

    estimate: Callable[..., np.ndarray]
    grid: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    package: str = "ekitools"


def distance(case, radius) -> ek.localization.Distance:
    """The rule with the coordinates of a case."""
    return ek.localization.Distance(case.positions, case.stations, radius)


def grouped(case) -> ek.localization.Groups:
    """The rule of the blocks."""
    own, theirs = case.positions[:, 0], case.stations[:, 0]
    pairs = {
        tuple(np.flatnonzero(own == k)): tuple(np.flatnonzero(theirs == k)) for k in np.unique(own)
    }
    return ek.localization.Groups(pairs)


def etki(rule) -> Callable[..., np.ndarray]:
    """The estimate of ETKI with a rule. The rule is made from the case and the settings."""
    return by(lambda case, **settings: ek.ETKI(localization=rule(case, **settings)))


def eki(rule) -> Callable[..., np.ndarray]:
    """The estimate of EKI with a rule."""
    return by(lambda case, **settings: ek.EKI(localization=rule(case, **settings)))


RADII = {"radius": (5.0, 7.0, 10.0, 15.0, 20.0, 30.0, 45.0)}
ADAPTIVE_RADIUS = {"radius": ("adaptive",)}
STEPS = {"steps": (1, 4)}
TRUNCATION = {"truncation": (0.99, 1.0)}

TABLE = {
    "ekitools EKI": Row(by(lambda case: ek.EKI())),
    "ekitools ETKI": Row(by(lambda case: ek.ETKI())),
    "ekitools GNKI": Row(by(lambda case: ek.GNKI())),
    "ekitools ETKI, distance": Row(etki(distance), RADII),
    "ekitools ETKI, distance, adaptive": Row(etki(distance), ADAPTIVE_RADIUS),
    "ekitools EKI, distance": Row(eki(distance), RADII),
    "ekitools ETKI, correlation": Row(etki(lambda case: ek.localization.Correlation())),
    "iterative_ensemble_smoother, adaptive": Row(
        smoother_adaptive, {**STEPS, **TRUNCATION}, "iterative_ensemble_smoother"
    ),
    "iterative_ensemble_smoother, distance": Row(
        smoother_distance, {**RADII, **STEPS, **TRUNCATION}, "iterative_ensemble_smoother"
    ),
    "pyesmda, distance on both covariances": Row(pyesmda_distance, {**RADII, **STEPS}, "pyesmda"),
}

GROUPS = {
    "ekitools EKI": Row(by(lambda case: ek.EKI())),
    "ekitools ETKI": Row(by(lambda case: ek.ETKI())),
    "ekitools EKI, groups": Row(eki(grouped)),
    "ekitools ETKI, groups": Row(etki(grouped)),
}


def settings_of(row: Row) -> Iterator[dict[str, Any]]:
    """All combinations of the settings of a row."""
    for values in product(*row.grid.values()):
        yield dict(zip(row.grid, values, strict=True))


def scores(row, case, seeds, n_members, settings) -> np.ndarray:
    """Mean scores of the seeds."""
    found = []
    for seed in seeds:
        u = case.prior.sample(n_members, rng=seed)
        found.append(case.scores(row.estimate(case, u, seed, **settings)))
    return np.mean(found, axis=0)


def tuned(row, case, n_members) -> dict[str, Any]:
    """The settings with the least error on the seeds that are not reported."""
    choices = list(settings_of(row))
    if len(choices) == 1:
        return choices[0]
    errors = [scores(row, case, TUNING_SEEDS, n_members, each)[0] for each in choices]
    return choices[int(np.nanargmin(errors))]


def print_table(rows, make, truths, n_seeds, n_members) -> None:
    """Tune and measure the rows, and print them."""
    cases = [make(truth) for truth in truths]
    tuning = make(TUNING_TRUTH)
    print("| | settings | error of the mean, sd | variance ratio | inside 90 % |")
    print("|---|---|---|---|---|")
    for name, row in rows.items():
        settings = tuned(row, tuning, n_members)
        found = [
            scores(row, case, range(100 * k, 100 * k + n_seeds), n_members, settings)
            for k, case in enumerate(cases)
        ]
        error, ratio, inside = np.mean(found, axis=0)
        words = ", ".join(f"{key} {value}" for key, value in settings.items())
        print(f"| {name} | {words} | {error:.3f} | {ratio:.3f} | {inside:.3f} |", flush=True)
    exact = np.mean([case.inside(*case.exact) for case in cases])
    print(f"| exact posterior | | 0 | 1 | {exact:.3f} |")


def chosen(rows, words) -> dict[str, Any]:
    """The rows whose packages are installed and whose names have one of the words."""
    found = {}
    for name, row in rows.items():
        if find_spec(row.package) is None:
            print(f"{name}: {row.package} is not installed")
        elif not words or any(word in name for word in words):
            found[name] = row
    return found


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["table", "groups"])
    parser.add_argument("--seeds", type=int, default=10, help="of each truth")
    parser.add_argument("--only", nargs="*", default=[], metavar="WORD")
    options = parser.parse_args()
    rows, make, n_members = {
        "table": (TABLE, cells, MEMBERS),
        "groups": (GROUPS, blocks, 60),
    }[options.what]
    print_table(chosen(rows, options.only), make, range(3), options.seeds, n_members)


if __name__ == "__main__":
    main()
