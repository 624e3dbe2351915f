"""Covariance and mean of ALDI and EKSFlow on linear problems, by step, scheme and ensemble size.

    OMP_NUM_THREADS=1 python benchmarks/aldi.py [--seeds 40] [--tuning]

Each row averages over seeds (a new problem and a new run for every seed) with a standard error.

ratio         tr(C_post^-1 C)/p with C normalised by 1/(J - 1), averaged by pseudo-time over the
              ensembles from t = 5 to t = 30
largest mean  error of the mean, averaged over the same ensembles, in posterior standard deviations:
              for the component that is furthest from 0 in units of its standard error
last ratio    ratio of the ensemble at t = 10, the default end
steps         model runs of a member to t = 10
stationary    share of the runs to t = 10 with the status "posterior_reached"; nan for flows
failed        runs that overflowed

The defaults were chosen with ``--tuning``, which uses other problems (12 data in place of 2 p).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

import numpy as np

import ekitools as ek

CASES = [(1, 20), (3, 5), (3, 20), (3, 40), (3, 200), (10, 13), (10, 20), (10, 40), (10, 200)]
"""(p, J)."""
END, BURN = 30.0, 5.0
EXPLICIT = "euler-maruyama"


def methods() -> dict[str, Callable[..., Any]]:
    """Functions of the problem, J, the end and the seed that make a run, by name."""

    def method(**options) -> Callable[..., Any]:
        return lambda problem, n, end, seed: ek.run(
            problem, ek.ALDI(t_end=end, **options), n_members=n, rng=seed
        )

    def flow(step, **options) -> Callable[..., Any]:
        return lambda problem, n, end, seed: ek.integrate(
            problem, ek.EKSFlow(**options), t_span=(0, end), n_members=n, rng=seed, step=step
        )

    return {
        "ALDI()": method(),
        "ALDI(h_max=0.3)": method(h_max=0.3),
        "EKSFlow, NormStep(1)": flow(ek.NormStep(1.0)),
        "EKSFlow, NormStep(0.3)": flow(ek.NormStep(0.3)),
        "explicit, NormStep(1)": flow(ek.NormStep(1.0), scheme=EXPLICIT),
        "explicit, NormStep(0.3)": flow(ek.NormStep(0.3), scheme=EXPLICIT),
    }


def example(p, seed, tuning) -> Any:
    """A linear problem with its exact posterior."""
    return ek.problems.linear(p=p, d=12 if tuning else 2 * p, rng=100 + seed if tuning else seed)


def white_members(result, known) -> np.ndarray:
    """Members in exact posterior standard deviations from the exact mean, ``(n, J, p)``."""
    white = result.u.values - known.extra["mean"]
    return np.linalg.solve(np.linalg.cholesky(known.extra["cov"]), white.swapaxes(1, 2)).swapaxes(
        1, 2
    )


def measure(run, p, n, seed, tuning) -> tuple[Any, ...]:
    """Ratio and mean over time, ratio and steps at t = 10, and whether the run is stationary."""
    known = example(p, seed, tuning)
    result = run(known.problem, n, END, seed)
    t, white = result.t.values, white_members(result, known)
    mean = white.mean(axis=1)
    ratios = ((white - mean[:, None]) ** 2).sum(axis=(1, 2)) / ((n - 1) * p)
    if t[-1] < END:
        raise FloatingPointError(result.attrs["status"])
    late = t >= BURN
    weights = np.gradient(t[late])
    weights /= weights.sum()
    short = run(known.problem, n, 10.0, seed)
    code = short.attrs["status_code"]
    stationary = math.nan if code == "t_end_reached" else code == "posterior_reached"
    steps, last = short.sizes["iteration"], white_members(short, known)[-1]
    return (
        weights @ ratios[late],
        weights @ mean[late],
        last.var(axis=0, ddof=1).mean(),
        steps,
        stationary,
    )


def row(run, p, n, seeds, tuning) -> str:
    """The cells of one row, as text."""
    found, failed = [], 0
    for seed in range(seeds):
        try:
            found.append(measure(run, p, n, seed, tuning))
        except FloatingPointError:
            failed += 1
    if len(found) < 2:
        return f"{failed:>71}"
    ratios, means, lasts, steps, stationary = (np.array(each) for each in zip(*found, strict=True))
    root = math.sqrt(len(found))
    mean, error = means.mean(axis=0), means.std(axis=0, ddof=1) / root
    i = int(np.argmax(np.abs(mean) / error))
    pairs = [
        (ratios.mean(), ratios.std(ddof=1) / root),
        (mean[i], error[i]),
        (lasts.mean(), lasts.std(ddof=1) / root),
    ]
    text = "".join(f"{value:9.3f} ±{e:6.3f}" for value, e in pairs)
    return f"{text}{steps.mean():7.0f}{stationary.mean():11.2f}{failed:7d}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--tuning", action="store_true", help="other problems")
    parser.add_argument("--only", default="", help="names that contain this")
    options = parser.parse_args()
    heads = f"{'ratio':>17}{'largest mean':>17}{'last ratio':>17}{'steps':>7}{'stationary':>11}"
    print(f"{'method':<24}{'(p, J)':>10}{heads}{'failed':>7}")
    for name, run in methods().items():
        if options.only not in name:
            continue
        for p, n in CASES:
            text = row(run, p, n, options.seeds, options.tuning)
            print(f"{name:<24}{(p, n)!s:>10}{text}", flush=True)


if __name__ == "__main__":
    main()
