"""Model runs until a posterior: every method of the package, and other packages.

    python benchmarks/posterior_runs.py [--problem pk|lynx_hare] [--seeds 9] [--only WORD ...]

`posterior_problems.py` has the two problems and their exact moments. Every method has a ladder of
settings of rising cost. The table has the first setting with right means: the error of a mean is in
posterior standard deviations, the largest error of all parameters counts, and its median over the
seeds is at most 0.1. The last column has the smallest and the largest ratio of standard deviations
over the parameters, of medians over the seeds. The model counts its runs (median over the seeds). A
final evaluation that the moments do not need is left out. If no setting is good enough, the row has
the best setting and says so. `posterior_peers.py` has the other packages. The table is Markdown. A
word of ``--only`` selects the rows that contain it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
from posterior_peers import PEERS
from posterior_problems import CASES, Case, moments

import ekitools as ek

GOAL = 0.1
FIRST = 100
"""Members of the run of GNKI that finds the start of a sampler."""
DRAWS = 10_000
"""Draws of a method that has a Gaussian, which cost no model runs."""

_MEMBERS = tuple({"J": n} for n in (25, 50, 100, 200, 400, 800, 1600))
_PARTICLES = tuple({"J": n} for n in (125, 250, 500, 1000, 2000, 4000))
_STEPS = tuple({"max_steps": n} for n in (2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50))

Estimate = Callable[..., np.ndarray]
"""Moments ``(p, 2)`` of a case and a seed, with the settings of a rung."""


class Row(NamedTuple):
    """A method and its ladder."""

    estimate: Estimate
    rungs: tuple[dict[str, Any], ...]


class Found(NamedTuple):
    """Result of one setting, as medians over the seeds."""

    rung: dict[str, Any]
    runs: float
    error: float
    ratios: tuple[float, float]
    failures: list[str]
    """Why runs failed."""


def of_result(result: Any) -> np.ndarray:
    """Moments of the last ensemble, or of the draws of a method that makes its own."""
    last = result.isel(iteration=-1)
    if "draws" in result:
        return moments(last.draws.values)
    kept = np.isfinite(last.u.values).all(axis=1)
    return moments(last.u.values[kept], last.weight.values[kept] if "weight" in last else None)


def by(make: Callable[..., Any]) -> Estimate:
    """The estimate of a method, which is made from the settings other than J."""

    def estimate(case: Case, seed: int, *, J: int | None = None, **settings: Any) -> np.ndarray:
        method = make(**settings)
        keywords = {"rng": seed, "evaluate_final": False, "store": "last"}
        return of_result(ek.run(case.problem, method, n_members=J, **keywords))

    return estimate


def smc_from_gnki(case: Case, seed: int, *, J: int) -> np.ndarray:
    """`TemperedSMC` from the Gaussian of a small run of `GNKI`."""
    first = ek.run(case.problem, ek.GNKI(), n_members=FIRST, rng=seed, evaluate_final=False)
    u = first.u[-1].dropna("member").values
    start = ek.GaussianStart.from_ensemble(u, case.problem.prior, inflation=1.5)
    return by(ek.TemperedSMC)(case, 1000 + seed, J=J, start=start)


def smc_from_uki(case: Case, seed: int, *, J: int, points: str = "symmetric") -> np.ndarray:
    """`TemperedSMC` from the Gaussian of `UKI`."""
    first = ek.run(case.problem, ek.UKI(points=points), rng=seed, evaluate_final=False)
    return by(ek.TemperedSMC)(case, seed, J=J, start=ek.GaussianStart.from_result(first))


METHODS = {
    "UKI()": Row(by(partial(ek.UKI, n_draws=DRAWS)), _STEPS),
    'UKI(points="simplex")': Row(by(partial(ek.UKI, points="simplex", n_draws=DRAWS)), _STEPS),
    "EKI()": Row(by(ek.EKI), _MEMBERS),
    "ETKI()": Row(by(ek.ETKI), _MEMBERS),
    "GNKI()": Row(by(ek.GNKI), _MEMBERS),
    "ALDI()": Row(by(ek.ALDI), _MEMBERS),
    "TemperedSMC()": Row(by(ek.TemperedSMC), _PARTICLES),
    f"TemperedSMC, from GNKI with {FIRST} members": Row(smc_from_gnki, _PARTICLES),
    "TemperedSMC, from UKI": Row(smc_from_uki, _PARTICLES),
    'TemperedSMC, from UKI(points="simplex")': Row(
        partial(smc_from_uki, points="simplex"), _PARTICLES
    ),
}


def measured(case: Case, row: Row, rung: dict[str, Any], seeds: Iterable[int]) -> Found:
    """Medians over the seeds. A run that fails, or is not finite, has an infinite error."""
    errors, runs, ratios, failures = [], [], [], []
    for seed in seeds:
        case.counted.runs = 0
        try:
            found = row.estimate(case, seed, **rung)
            if not np.isfinite(found).all():
                failures.append("moments that are not finite")
        except (ek.RunError, np.linalg.LinAlgError, ValueError) as error:
            found = np.full((case.p, 2), np.nan)
            failures.append(f"{type(error).__name__}: {error}")
        worst = np.max(np.abs(found[:, 0] - case.reference[:, 0]) / case.reference[:, 1])
        errors.append(worst if np.isfinite(worst) else np.inf)
        runs.append(case.counted.runs)
        ratios.append(found[:, 1] / case.reference[:, 1])
    ratio = np.median(ratios, axis=0)
    span = float(ratio.min()), float(ratio.max())
    return Found(rung, float(np.median(runs)), float(np.median(errors)), span, failures)


def climbed(case: Case, row: Row, seeds: Iterable[int]) -> Found:
    """The first setting whose error is at most the goal, otherwise the one of least error."""
    best: Found | None = None
    for rung in row.rungs:
        found = measured(case, row, rung, seeds)
        if best is None or found.error < best.error:
            best = found
        if found.error <= GOAL:
            return found
    assert best is not None
    return best


def rows(words: list[str]) -> Iterator[tuple[str, Row]]:
    """The rows that have one of the words; packages that are not installed are left out."""
    every = {label: (None, row) for label, row in METHODS.items()}
    every |= {label: (needs, Row(*row)) for label, (needs, *row) in PEERS.items()}
    for label, (needs, row) in every.items():
        if words and not any(word in label for word in words):
            continue
        if needs is not None and find_spec(needs) is None:
            print(f"{label}: left out, because {needs} is not installed.")
            continue
        yield label if needs is None else label.replace(",", f" {version(needs)},", 1), row


def written(label: str, found: Found, n_seeds: int) -> str:
    """A row of the table."""
    settings = ", ".join(
        f"{name} = {value}" for name, value in found.rung.items() if value is not True
    )
    runs = f"{found.runs:,.0f}" if found.error <= GOAL else f"not reached; best {found.runs:,.0f}"
    if found.failures:
        runs += f"; {len(found.failures)} of {n_seeds} failed"
    low, high = found.ratios
    return f"| {label} | {settings} | {runs} | {found.error:.3f} | {low:.2f}-{high:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problem", choices=CASES, nargs="+", default=list(CASES))
    parser.add_argument("--seeds", type=int, default=9)
    parser.add_argument("--only", nargs="*", default=[])
    options = parser.parse_args()
    for name in options.problem:
        case = CASES[name]()
        print(f"\n{name}\n\n| method | settings | model runs | worst mean | sd ratios |")
        print("|---|---|---|---|---|")
        for label, row in rows(options.only):
            found = climbed(case, row, range(options.seeds))
            print(written(label, found, options.seeds), flush=True)
            for reason in dict.fromkeys(found.failures):
                print(f"{label}: {reason}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
