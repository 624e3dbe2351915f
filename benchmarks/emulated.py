"""Model runs to a posterior with an emulator, for comparison with `posterior_runs.py`.

    python benchmarks/emulated.py [--problem pk pk_unknown lynx_hare lynx_hare_unknown] [--seeds 5]
    python benchmarks/emulated.py --reference

The problems are those of `posterior_problems.py`, with the noise known and with unknown scales
(`ek.UnknownNoise`; one scale for each species of lynx and hare, as in posteriordb). Every run is
`ek.GNKI()` with 50 members, `ek.emulate`, and `ek.sample_emulated` with its defaults. The model
counts its runs, including the runs of GNKI. The error of a parameter's mean is in posterior
standard deviations, and the largest error of a run counts. The table has the median and the largest
value over the seeds, and the least and the largest ratio of standard deviations of the parameters
(median over the seeds). The last columns are the number of runs that the final weights confirmed,
and seconds. Every run is also written to standard error.

``--reference`` computes the moments of ``pk_unknown`` by importance sampling, and compares them
with the stored ones. The script needs scikit-learn. A run takes about a minute on one core.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from posterior_problems import NOISE, Counted, lynx_hare, moments, pk
from scipy import stats

import ekitools as ek

MEMBERS = 50
PK_SCALE = stats.lognorm(1.0, scale=NOISE)
LYNX_SCALE = stats.lognorm(1.0, scale=np.exp(-1.0))
PK_UNKNOWN = {
    "ka": (1.254, 0.16577),
    "CL": (3.1658, 0.20041),
    "V": (29.25, 1.4252),
    "lag": (0.26756, 0.038775),
    "sigma": (0.36775, 0.10156),
}
"""Means and standard deviations by importance sampling with a million draws."""


class Known(NamedTuple):
    """A problem, its counted model, and means and standard deviations ``(p, 2)``."""

    problem: Any
    counted: Counted
    reference: np.ndarray


def pk_known() -> Known:
    case = pk()
    return Known(case.problem, case.counted, case.reference)


def pk_unknown() -> Known:
    case = pk()
    given = case.problem
    noise = ek.UnknownNoise(PK_SCALE)
    problem = ek.InverseProblem(given.model, given.prior, noise, given.data)
    reference = np.array([PK_UNKNOWN[name] for name in problem.parameter_names])
    return Known(problem, case.counted, reference)


def lynx_hare_known() -> Known:
    case = lynx_hare()
    return Known(case.problem, case.counted, case.reference)


def lynx_hare_unknown() -> Known:
    case, example = lynx_hare(), ek.problems.lynx_hare()
    given = case.problem
    noise = ek.UnknownNoise(LYNX_SCALE, blocks=example.groups)
    problem = ek.InverseProblem(given.model, given.prior, noise, given.data)
    known = ek.problems.lynx_hare(sigma=None).reference
    reference = np.array([known[name] for name in problem.parameter_names])
    return Known(problem, case.counted, reference)


PROBLEMS: dict[str, Callable[[], Known]] = {
    "pk": pk_known,
    "pk_unknown": pk_unknown,
    "lynx_hare": lynx_hare_known,
    "lynx_hare_unknown": lynx_hare_unknown,
}


class Found(NamedTuple):
    """Result of one run."""

    runs: int
    error: float
    ratios: np.ndarray
    confirmed: bool
    seconds: float


def found(known: Known, seed: int, **options: Any) -> Found:
    """One run of GNKI, and the emulated sample."""
    since, known.counted.runs = time.perf_counter(), 0
    first = ek.run(known.problem, ek.GNKI(), n_members=MEMBERS, rng=seed)
    emulator = ek.emulate(first, known.problem)
    sample = ek.sample_emulated(emulator, rng=seed, **options)
    last = sample.isel(iteration=-1)
    kept = last.weight.values > 0
    weight = last.weight.values[kept]
    values = moments(last.u.values[kept], weight / weight.sum())
    mean, sd = known.reference.T
    return Found(
        known.counted.runs,
        float(np.max(np.abs(values[:, 0] - mean) / sd)),
        values[:, 1] / sd,
        bool(sample.attrs["posterior"]),
        time.perf_counter() - since,
    )


def row(name: str, each: list[Found]) -> str:
    """A row of the table."""
    runs, errors = [one.runs for one in each], [one.error for one in each]
    ratio = np.median([one.ratios for one in each], axis=0)
    return (
        f"| {name} | {np.median(runs):,.0f} | {max(runs):,} | {np.median(errors):.3f} | "
        f"{max(errors):.3f} | {ratio.min():.2f}-{ratio.max():.2f} | "
        f"{sum(one.confirmed for one in each)} of {len(each)} | "
        f"{np.median([one.seconds for one in each]):.0f} |"
    )


def reference(n: int = 1_000_000, seed: int = 0) -> None:
    """Moments of ``pk_unknown`` by a Student t about a refined ensemble."""
    known = pk_unknown()
    problem = known.problem
    near = ek.run(problem, ek.GNKI(), n_members=500, rng=seed, evaluate_final=False)
    prior = problem.prior
    z = prior.whiten(prior.to_unconstrained(near.u[-1].values))
    proposal = stats.multivariate_t(z.mean(axis=0), 1.5 * np.cov(z.T), df=5)
    draws = proposal.rvs(n, random_state=seed)
    u = prior.to_physical(prior.unwhiten(draws))
    square = np.concatenate([
        np.sum((problem.model(part) - problem.data) ** 2, axis=1) for part in np.array_split(u, 100)
    ])  # fmt: skip
    s = u[:, -1]
    log_weight = -0.5 * square / s**2 - problem.n_data * np.log(s)
    log_weight += stats.norm.logpdf(draws).sum(axis=1) - proposal.logpdf(draws)
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    print(f"effective share {1 / (weight @ weight) / n:.2f}")
    for name, (mean, sd) in zip(problem.parameter_names, moments(u, weight), strict=True):
        print(f'    "{name}": ({mean:.5g}, {sd:.5g}),  # stored: {PK_UNKNOWN.get(name)}')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problem", choices=PROBLEMS, nargs="+", default=list(PROBLEMS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--reference", action="store_true")
    options = parser.parse_args()
    if options.reference:
        reference()
        return
    print("| problem | model runs | most | worst mean | largest | sd ratios | confirmed | s |")
    print("|---|---|---|---|---|---|---|---|")
    for name in options.problem:
        known = PROBLEMS[name]()
        each = []
        for seed in range(options.seeds):
            each.append(found(known, seed))
            print(name, seed, each[-1], file=sys.stderr, flush=True)
        print(row(name, each), flush=True)


if __name__ == "__main__":
    main()
