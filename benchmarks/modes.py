"""Modes found by `TemperedSMC`, from the prior and from Gaussians that miss some modes.

    python benchmarks/modes.py [--seeds 20] [--first 0] [--members 1000] [--tuning] [--show]
    python benchmarks/modes.py --cost

The problems have one or two parameters and a prior N(0, I), shifted or scaled by the model. The
references are sums over grids. A run is *right* if every mean is within 0.25 standard deviations of
the posterior mean, every standard deviation is within 25 % of the posterior one, and the mass of
every mode is within 0.15. The starts are the prior, the Gaussians of EKI and GNKI with 200 members,
and the Gaussian of a single mode (of the whole posterior if it has one mode). Every start except
the prior has a share of 0.2 of draws from the prior.

For every problem and start the table has the share of runs that are right, the shares with the
levels "good", "note" and "care" or worse, the share that is wrong and "good", which must be 0, and
the model runs of a particle, without the runs of the start. ``--tuning`` takes the problems on
which the rules for modes were developed. ``--show`` prints the runs that were not both right and
good. The script takes two minutes on an idle core. ``--cost`` takes problems with one mode, and
divides the model runs of a start with a share of 0.2 of draws from the prior by the model runs of a
start without such draws.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

import ekitools as ek

LEVELS = ("good", "note", "care", "bad")


@dataclass(frozen=True)
class Case:
    """A problem with the prior N(0, I) and the mode that each of its members is in."""

    name: str
    model: Callable[[np.ndarray], np.ndarray]
    data: tuple[float, ...]
    sd: float
    p: int
    mode: Callable[[np.ndarray], np.ndarray] = lambda u: np.zeros(len(u), dtype=int)

    @property
    def problem(self) -> Any:
        model = ek.FunctionModel(self.model, vectorized=True)
        prior = ek.GaussianPrior(np.zeros(self.p), 1.0)
        return ek.InverseProblem(model, prior, self.sd**2, np.array(self.data))


class Reference(NamedTuple):
    mean: np.ndarray
    sd: np.ndarray
    masses: np.ndarray
    start: ek.GaussianStart
    """The Gaussian of the heaviest mode."""


def frequency(u: np.ndarray) -> np.ndarray:
    """The frequency is N(4, 2.5²); data at t = 1, 2, ... do not tell it from others by 2π."""
    return np.sin((4 + 2.5 * u) * np.arange(1.0, 9.0))


def alias(u: np.ndarray) -> np.ndarray:
    """The multiple of 2π that lies between the frequency and the true one, 2.2."""
    return np.rint((4 + 2.5 * u[:, 0] - 2.2) / (2 * np.pi)).astype(int) + 5


def funnel(u: np.ndarray) -> np.ndarray:
    """exp(-Φ) is the density of u₂ ~ N(0, e^{2v}) with v = 1.5 u₁: Neal's funnel."""
    v = 1.5 * u[:, :1]
    return np.hstack([u[:, 1:] * np.exp(-v), np.sqrt(2 * np.maximum(v + 10, 0))])


CASES = [
    Case("u² = 1", np.square, (1.0,), 0.1, 1, lambda u: (u[:, 0] > 0).astype(int)),
    Case(
        "u² + 0.3 u = 1", lambda u: u**2 + 0.3 * u, (1.0,), 0.1, 1,
        lambda u: (u[:, 0] > -0.15).astype(int),
    ),
    Case("banana", lambda u: u[:, 1:] + 2 * u[:, :1] ** 2, (1.0,), 0.15, 2),
    Case("funnel", funnel, (0.0, 0.0), 1.0, 2),
    Case(
        "sin(ωt)", frequency, tuple(np.sin(2.2 * np.arange(1.0, 9.0)).tolist()), 0.5, 1, alias,
    ),
    Case("plateau", lambda u: np.exp(-0.5 * ((u - 1.5) / 0.15) ** 2), (1.0,), 0.1, 1),
]  # fmt: skip

TUNING = [
    Case("u³ - 3u = 0.5", lambda u: u**3 - 3 * u, (0.5,), 0.3, 1,
         lambda u: np.digitize(u[:, 0], [-1.0, 1.0])),
    Case("u₁² = u₂² = 1", np.square, (1.0, 1.0), 0.2, 2,
         lambda u: 2 * (u[:, 0] > 0) + (u[:, 1] > 0)),
    Case("u² = 2, shifted", lambda u: (u - 0.4) ** 2, (2.0,), 0.05, 1,
         lambda u: (u[:, 0] > 0.4).astype(int)),
    Case("|u₁| + u₂ = 1.2", lambda u: np.abs(u[:, :1]) + 0.5 * u[:, 1:], (1.2,), 0.05, 2),
    Case("ring", lambda u: np.sqrt(np.sum(u**2, axis=1, keepdims=True)), (1.5,), 0.05, 2),
    Case("exp", lambda u: np.exp(2 * u), (0.3,), 0.1, 1),
    Case("cos(3u)", lambda u: np.cos(3 * u), (0.0,), 0.1, 1,
         lambda u: np.rint(u[:, 0] * 3 / np.pi - 0.5).astype(int) + 6),
    Case("needle", lambda u: np.exp(-0.5 * ((u + 1.0) / 0.05) ** 2) + 0.05 * u, (1.0,), 0.1, 1),
]  # fmt: skip


def posterior(case: Case) -> Reference:
    """Moments, masses of the modes, and the Gaussian of the heaviest mode, by a sum over a grid."""
    axis = np.linspace(-5.5, 5.5, 110_001 if case.p == 1 else 2201)
    u = np.stack(np.meshgrid(*[axis] * case.p, indexing="ij"), axis=-1).reshape(-1, case.p)
    with np.errstate(over="ignore"):
        misfit = 0.5 * np.sum(((case.model(u) - case.data) / case.sd) ** 2, axis=1)
    weight = np.exp(-misfit - 0.5 * np.sum(u**2, axis=1))
    weight /= weight.sum()
    mean = weight @ u
    masses = np.bincount(case.mode(u), weights=weight)
    inside = weight * (case.mode(u) == np.argmax(masses))
    heavy = inside > 0
    start = ek.GaussianStart.from_ensemble(
        u[heavy], case.problem.prior, weights=inside[heavy], inflation=1.2
    )
    return Reference(mean, np.sqrt(weight @ (u - mean) ** 2), masses, start)


def is_right(case: Case, known: Reference, result: Any) -> bool:
    u, weight = result.u[-1].values, result.weight[-1].values
    mean = weight @ u
    sd = np.sqrt(weight @ (u - mean) ** 2)
    masses = np.bincount(case.mode(u), weights=weight, minlength=len(known.masses))
    wanted = np.pad(known.masses, (0, len(masses) - len(known.masses)))
    return bool(
        np.all(np.abs(mean - known.mean) < 0.25 * known.sd)
        and np.all(np.abs(sd / known.sd - 1) < 0.25)
        and np.all(np.abs(masses - wanted) < 0.15)
    )


def starts(case: Case, known: Reference, seed: int) -> dict[str, ek.GaussianStart | None]:
    found: dict[str, ek.GaussianStart | None] = {"prior": None}
    for method in (ek.EKI(), ek.GNKI()):
        quick = ek.run(case.problem, method, n_members=200, rng=seed)
        start = ek.GaussianStart.from_result(quick, case.problem.prior)
        found[type(method).__name__] = start
    return found | {"one mode": known.start}


class Outcome(NamedTuple):
    right: bool
    level: str
    runs: float
    """Model runs of a particle."""
    status: str


def outcomes(
    case: Case, known: Reference, seed: int, n_members: int, **options: Any
) -> dict[str, Outcome]:
    """Outcome of a run from every start."""
    found = {}
    for name, start in starts(case, known, seed).items():
        method = ek.TemperedSMC(start=start, **options)
        result = ek.run(case.problem, method, n_members=n_members, rng=1000 + seed, store="last")
        attrs = result.attrs
        found[name] = Outcome(
            is_right(case, known, result), attrs["status_level"], attrs["model_runs"] / n_members,
            attrs["status"],
        )  # fmt: skip
    return found


def row(found: list[Outcome]) -> str:
    """Shares of the runs, as cells."""
    n = len(found)
    levels = [sum(each.level == level for each in found) / n for level in LEVELS]
    cells = [sum(each.right for each in found) / n, *levels[:2], sum(levels[2:])]
    false = sum(not each.right and each.level == "good" for each in found) / n
    runs = np.mean([each.runs for each in found])
    return " | ".join([*(f"{cell:.2f}" for cell in cells), f"{false:.2f}", f"{runs:.0f}"])


def cost(name: str, problem: Any, n_members: int, n_seeds: int, n_quick: int) -> None:
    """Print the model runs after GNKI, with and without the share, and their ratio."""
    runs = {0.0: 0, 0.2: 0}
    for seed in range(n_seeds):
        quick = ek.run(problem, ek.GNKI(), n_members=n_quick, rng=seed)
        for share in runs:
            start = ek.GaussianStart.from_ensemble(
                quick.u[-1].values, problem.prior, prior_share=share
            )
            smc = ek.TemperedSMC(start=start)
            result = ek.run(problem, smc, n_members=n_members, rng=seed, store="last")
            runs[share] += result.attrs["model_runs"]
    print(f"{name}: {runs[0.2]:,} / {runs[0.0]:,} = {runs[0.2] / runs[0.0]:.2f}", flush=True)


def costs() -> None:
    cost("linear, 5 parameters", ek.problems.linear(p=5, d=10).problem, 500, 5, 100)
    cost("linear, 100 parameters", ek.problems.linear(p=100, d=50).problem, 500, 3, 200)
    cost("lynx and hare", ek.problems.lynx_hare().problem, 400, 3, 200)
    cost("Darcy flow", ek.problems.darcy(n=16, n_modes=32).problem, 400, 2, 200)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--members", type=int, default=1000)
    parser.add_argument("--tuning", action="store_true", help="the problems of the choices")
    parser.add_argument("--show", action="store_true", help="statuses of other runs")
    parser.add_argument("--cost", action="store_true", help="model runs on problems with one mode")
    options = parser.parse_args()
    if options.cost:
        costs()
        return
    warnings.simplefilter("ignore")
    print("| problem | start | right | good | note | care | good, but wrong | model runs × J |")
    print("|---|---|---|---|---|---|---|---|")
    for case in TUNING if options.tuning else CASES:
        known = posterior(case)
        seeds = range(options.first, options.first + options.seeds)
        each = [outcomes(case, known, seed, options.members) for seed in seeds]
        for start in each[0]:
            found = [one[start] for one in each]
            print(f"| {case.name} | {start} | {row(found)} |", flush=True)
            for outcome in found if options.show else ():
                if not outcome.right or outcome.level != "good":
                    print(f"    {outcome}")


if __name__ == "__main__":
    main()
