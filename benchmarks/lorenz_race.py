"""Model runs until a method fits a chaotic model: the race of Gjini et al. (2025).

    OMP_NUM_THREADS=1 python benchmarks/lorenz_race.py [--problem site] [--members 100 50 20]
        [--seeds 10] [--data 6] [--dt 0.01] [--methods ETKI ...] [--quick]

The problem is `ek.problems.lorenz96`, with the settings of arXiv:2511.15853 and of its published
code (examples/EKIRace of EnsembleKalmanProcesses.jl): 40 sites, 80 data, a forcing that is constant
(p = 1) or by site (p = 40), and a random start of every model run. The step is 0.05 in place of
the source's 0.01: it is five times as fast and changes the statistics by less than their noise.

RMSE is the norm of the whitened residual of one run, over the root of d. Before every step one run
is made at the mean of the members, from a random start. The columns have the model runs of the
steps so far. The run at the mean does not count, as in the source:

* *noise level*: its RMSE is below the median RMSE of 400 runs at the truth, with the same data.
* *RMSE < 1*: its RMSE is below 1, the criterion of the source. The truth itself is below 1 in the
  share of runs that the heading names. The share depends on the data.
* *mean output*: the RMSE of the mean of the members' outputs is below 1, the second criterion of
  the source. The runs of these members count. The mean output has less noise than one run, so this
  is the easiest of the three.

A cell has the mean over the seeds that arrived within ten steps, the runs within which nine of ten
arrived, and the number that arrived. Every seed has its own data, ensemble and starts; with
``--data`` all seeds have the data of one seed, as in the source. *balanced* rows start from members
whose mean and, for J > p, covariance are exactly those of the prior, in place of independent draws.
`UKI` places its own 2p + 1 or p + 2 members, and is in the first table only.

``--quick`` has 8 sites, three seeds and 20 members. The full tables take about 15 minutes on an
idle core.
"""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

import numpy as np

import ekitools as ek

N_STEPS = 10
CRITERIA = ("noise level", "RMSE < 1", "mean output")


class Entry(NamedTuple):
    """One row of the table."""

    method: Any
    balanced: bool = False
    """Whether the first members have exactly the mean and the covariance of the prior."""
    places: bool = False
    """Whether the method places its own members."""


_FIT: dict[str, Any] = {"step": ek.FixedStep(1.0), "t_end": None}
METHODS = {
    "EKI": Entry(ek.EKI()),
    "EKI, h = 1": Entry(ek.EKI(**_FIT)),
    "Nesterov(EKI), h = 1": Entry(ek.Nesterov(ek.EKI(**_FIT, perturbed=False))),
    "ETKI": Entry(ek.ETKI()),
    "ETKI, h = 1": Entry(ek.ETKI(**_FIT)),
    "ETKI, NormStep": Entry(ek.ETKI(ek.NormStep(), t_end=None)),
    "ETKI, h = 1, balanced": Entry(ek.ETKI(**_FIT), balanced=True),
    "GNKI": Entry(ek.GNKI()),
    "GNKI, prior": Entry(ek.GNKI(start="prior")),
    "GNKI, prior, balanced": Entry(ek.GNKI(start="prior"), balanced=True),
    "GNKI, prior, α = 1, balanced": Entry(ek.GNKI(start="prior", damping=1.0), balanced=True),
    "UKI, symmetric": Entry(ek.UKI(), places=True),
    "UKI, simplex": Entry(ek.UKI(points="simplex"), places=True),
}


def rmse(problem: Any, g: np.ndarray) -> np.ndarray:
    """Norms of the whitened residuals ``(J, d)``, over the root of d."""
    return np.sqrt(np.mean(problem.noise.whiten(g - problem.data) ** 2, axis=1))


def truth_rmse(example: Any, n_runs: int = 400) -> np.ndarray:
    """RMSE of runs at the truth."""
    truth = np.tile(example.truth, (n_runs, 1))
    rngs = [np.random.default_rng([j, 2]) for j in range(n_runs)]
    return rmse(example.problem, example.problem.model.ensemble(truth, rngs))


def arrivals(example: Any, entry: Entry, n_members: int, seed: int, level: float) -> np.ndarray:
    """Model runs until each of the three criteria holds, ``(3,)``; infinite if it never holds.

    Parameters
    ----------
    example : Example
        Example from `ek.problems.lorenz96`.
    entry, n_members, seed
        The method, the ensemble size and the seed of all draws.
    level : float
        RMSE of the noise level.
    """
    problem, checks = example.problem, np.random.default_rng([seed, 1])
    start = ek.balanced_ensemble(problem.prior, n_members, rng=checks) if entry.balanced else None
    size = {} if entry.places else {"n_members": n_members, "ensemble": start}
    loop = ek.AskTell(problem, entry.method, **size, n_steps=N_STEPS, rng=seed, on_failure="drop")
    found, runs = np.full(3, np.inf), 0
    while not loop.done and np.any(np.isinf(found)):
        u = loop.ask()
        rngs = [np.random.default_rng(seed) for seed in loop.seeds()]
        g = problem.model.ensemble(np.vstack([u, u.mean(axis=0)]), [*rngs, checks])
        at_mean = rmse(problem, g[-1:])[0]
        mean_output = rmse(problem, np.nanmean(g[:-1], axis=0, keepdims=True))[0]
        before, runs = runs, runs + len(u)
        now = np.array([at_mean < level, at_mean < 1, mean_output < 1])
        found = np.where(now & np.isinf(found), [before, before, runs], found)
        loop.tell(g[:-1])
    return found


def cell(runs: np.ndarray) -> str:
    """Mean over seeds that arrived, runs that nine of ten need, and the number that arrived."""
    came, nine = runs[np.isfinite(runs)], np.sort(runs)[-(-9 * len(runs) // 10) - 1]
    mean = f"{np.mean(came):.0f}" if len(came) else "–"
    return f"{mean}, {f'{nine:.0f}' if np.isfinite(nine) else '–'} ({len(came)}/{len(runs)})"


def main() -> None:
    """Print one table for every problem and ensemble size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problem", choices=["constant", "site"], nargs="+")
    parser.add_argument("--members", type=int, nargs="+")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--data", type=int, help="seed of the data of all runs")
    parser.add_argument("--dt", type=float, default=0.05, help="step of the model")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--quick", action="store_true", help="8 sites, 3 seeds, 20 members")
    options = parser.parse_args()
    size: dict[str, Any] = {"n_sites": 8, "window": 10.0} if options.quick else {}
    seeds = range(options.first, options.first + (3 if options.quick else options.seeds))
    for name in options.problem or ("constant", "site"):
        of = [options.data] * len(seeds) if options.data is not None else seeds
        known = {s: ek.problems.lorenz96(name, rng=s, dt=options.dt, **size) for s in set(of)}
        truths = {s: truth_rmse(example) for s, example in known.items()}
        share = np.mean([np.mean(truths[s] < 1) for s in of])
        few = [2, 3, 20] if name == "constant" else [100, 50, 20]
        sizes = options.members or ([20] if options.quick else few)
        for n_members in sizes:
            print(
                f"\n{name}, J = {n_members}; the truth is below 1 in {100 * share:.0f} % of runs\n"
            )
            print("| method |" + "".join(f" {c} |" for c in CRITERIA))
            print("|---|" + "---|" * len(CRITERIA))
            for method in options.methods:
                if METHODS[method].places and n_members != sizes[0]:
                    continue
                runs = np.array(
                    [
                        arrivals(known[s], METHODS[method], n_members, seed, np.median(truths[s]))
                        for s, seed in zip(of, seeds, strict=True)
                    ]
                )
                cells = "".join(f" {cell(runs[:, i])} |" for i in range(len(CRITERIA)))
                print(f"| {method} |{cells}", flush=True)


if __name__ == "__main__":
    main()
