"""Simulation-based calibration of `ek.solve` (Talts et al. 2018, arXiv:1804.06788).

    python benchmarks/solving_calibration.py [--problem decay bend] [-n 200] [--out file]

In every replication the parameters are a draw of the prior and the data are simulated from them.
If the posterior is right, the rank of the true parameter among draws of the posterior is uniform.
``decay`` is a e^{-kt} + c at eight times with log-normal a and k; ``bend`` has two outputs that are
quadratic in two parameters, and often two modes. The table has, for every parameter, the p-value of
a chi-squared test of ten bins, the share of the truths within the 90 % intervals, the same share of
the exact posterior, the mean of the ranks (0.5 if right), and at the end the verdicts and the model
runs. The exact posterior consists of 400,000 weighted draws of the prior. All replications count,
with any verdict. ``--first`` is the number of the first replication; the limits of `solve` were
chosen on the replications with numbers of at least 10,000.
"""

from __future__ import annotations

import argparse
import warnings
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats
from solving import Kept

import ekitools as ek

TIMES = np.linspace(0.5, 6.0, 8)
RANKS, BINS = 99, 10
"""Number of draws among which a truth is ranked, and number of bins of the ranks 0 to 99."""


class Case(NamedTuple):
    prior: Any
    outputs: Callable[[np.ndarray], np.ndarray]
    noise: float


def decay(u: np.ndarray) -> np.ndarray:
    a, k, c = u.T[..., None]
    return a * np.exp(-k * TIMES) + c


def bend(u: np.ndarray) -> np.ndarray:
    x, y = u.T
    return np.stack([y + x**2, y - 0.3 * x], axis=1)


CASES = {
    "decay": Case(
        ek.Prior(
            {
                "a": stats.lognorm(0.5, scale=2.0),
                "k": stats.lognorm(0.7, scale=0.6),
                "c": stats.norm(0.0, 0.5),
            }
        ),
        decay,
        0.2,
    ),
    "bend": Case(ek.GaussianPrior([0.0, 0.0], 1.0), bend, 0.5),
}


@cache
def draws_of(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Draws of the prior, and their outputs."""
    case = CASES[name]
    u = np.asarray(case.prior.sample(400_000, rng=5))
    return u, case.outputs(u)


def exactly_inside(name: str, truth: np.ndarray, data: np.ndarray) -> list[bool]:
    """Whether the central 90 % of the exact posterior contain the true parameters."""
    u, outputs = draws_of(name)
    log_weight = -np.sum((outputs - data) ** 2, axis=1) / (2 * CASES[name].noise ** 2)
    weight = np.exp(log_weight - log_weight.max())
    below = [np.sum(weight[u[:, i] < each]) for i, each in enumerate(truth)]
    return [bool(0.05 <= each <= 0.95) for each in below / np.sum(weight)]


def replication(name: str, number: int) -> dict[str, Any]:
    """The rank of every parameter, whether its interval contains it, and the verdict."""
    case, rng = CASES[name], np.random.default_rng([number, 77])
    truth = np.asarray(case.prior.sample(1, rng=rng))
    exact = case.outputs(truth)[0]
    data = exact + case.noise * rng.standard_normal(exact.size)
    model = ek.FunctionModel(case.outputs, vectorized=True)
    problem = ek.InverseProblem(model, case.prior, case.noise**2, data)
    result = ek.solve(problem, rng=rng)
    draws = ek.posterior(result).to_dataarray().values
    low, high = np.quantile(draws, [0.05, 0.95], axis=1)
    some = draws[:, rng.permutation(draws.shape[1])[:RANKS]]
    return {
        "ranks": np.sum(some < truth.T, axis=1).tolist(),
        "inside": ((low <= truth[0]) & (truth[0] <= high)).tolist(),
        "exact": exactly_inside(name, truth[0], data),
        "said": result.attrs["verdict"],
        "runs": int(result.attrs["n_runs"]),
    }


def main() -> None:
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description="Calibration of ek.solve.")
    parser.add_argument("--problem", nargs="+", choices=tuple(CASES), default=list(CASES))
    parser.add_argument("-n", type=int, default=200)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    kept = Kept(given.out)
    for name in given.problem:
        rows = [
            kept.get((name, number), lambda n=name, k=number: replication(n, k))
            for number in range(given.first, given.first + given.n)
        ]
        ranks = np.array([row["ranks"] for row in rows])
        inside, exact = (np.array([row[key] for row in rows]) for key in ("inside", "exact"))
        print(f"\n{name}, {given.n} replications")
        print(
            f"{'parameter':>10}{'p of chi-squared':>18}{'in 90 %':>9}{'exact':>9}{'mean rank':>11}"
        )
        for i in range(ranks.shape[1]):
            counts = np.histogram(ranks[:, i], BINS, range=(-0.5, RANKS + 0.5))[0]
            p = stats.chisquare(counts).pvalue
            mean = (ranks[:, i].mean() + 0.5) / (RANKS + 1)
            shares = (f"{100 * each[:, i].mean():>8.1f}%" for each in (inside, exact))
            print(f"{i:>10}{p:>18.3f}{''.join(shares)}{mean:>11.3f}")
        print(
            f"all parameters: {100 * inside.mean():.1f} % in 90 % intervals, and "
            f"{100 * exact.mean():.1f} % in those of the exact posterior"
        )
        said = dict(Counter(row["said"] for row in rows))
        runs = [row["runs"] for row in rows]
        print(f"{said}; runs {np.median(runs):.0f}, at most {max(runs)}", flush=True)


if __name__ == "__main__":
    main()
