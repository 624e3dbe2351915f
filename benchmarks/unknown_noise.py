"""Unknown scales of the noise: means and standard deviations compared with exact references.

``python benchmarks/unknown_noise.py`` prints the tables of docs/measurements.md:

* linear regressions with one and with two unknown σ, compared with quadrature over the scales of
  exact Gaussian posteriors, over 30 seeds;
* lynx and hare with both σ unknown, compared with the reference of posteriordb, over 5 seeds, with
  the number of model runs.

``--only regression`` or ``--only lynx-hare`` prints a part; ``--seeds`` changes their number.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from scipy import stats
from scipy.special import logsumexp

import ekitools as ek

PRIOR = stats.lognorm(1.0, scale=np.exp(-1.0))
X = np.stack([np.ones(20), np.linspace(-1, 1, 20), np.linspace(-1, 1, 20) ** 2], axis=1)
VARIANCE = 4.0
BETA = np.array([1.0, -0.5, 0.8])


def quadrature(y: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations of β and the scales, on a grid of logarithms of the scales."""
    n_scales, p = int(groups.max()) + 1, X.shape[1]
    axis = np.linspace(-4, 3, 2001 if n_scales == 1 else 161)
    rows = []
    for log_s in product(axis, repeat=n_scales):
        s = np.exp(log_s)
        cov = VARIANCE * X @ X.T + np.diag(s[groups] ** 2)
        log_weight = -0.5 * (np.linalg.slogdet(cov)[1] + y @ np.linalg.solve(cov, y))
        log_weight += np.sum(PRIOR.logpdf(s) + log_s)
        gain = VARIANCE * X.T @ np.linalg.inv(cov)
        second = np.diag(VARIANCE * (np.eye(p) - gain @ X))
        rows.append((log_weight, *gain @ y, *s, *second, *np.zeros(n_scales)))
    table = np.array(rows)
    weight = np.exp(table[:, 0] - logsumexp(table[:, 0]))
    values, variances = np.split(table[:, 1:], 2, axis=1)
    mean = weight @ values
    return mean, np.sqrt(weight @ ((values - mean) ** 2 + variances))


def moments(result: Any) -> tuple[np.ndarray, np.ndarray]:
    """Weighted means and standard deviations of the last ensemble."""
    u = result.u[-1].values
    kept = np.isfinite(u).all(axis=1)
    u = u[kept]
    w = result.weight[-1].values[kept] if "weight" in result else np.full(len(u), 1.0)
    w = w / w.sum()
    mean = w @ u
    return mean, np.sqrt(w @ (u - mean) ** 2 / (1 - w @ w))


def regression(seeds: int, n: int = 500) -> Iterator[str]:
    """Rows of the table of regressions."""
    yield f"Linear regression, {seeds} seeds of {n} members. Largest deviation over the parameters,"
    yield "in standard errors of the mean over the seeds; and the ratio of standard deviations."
    yield "| scales | method | mean | sd ratio | sd ratio of sigma | model runs |"
    yield "|---|---|---|---|---|---|"
    two = np.arange(20) % 2
    for blocks in (None, two):
        groups = np.zeros(20, dtype=int) if blocks is None else two
        sd = np.array([0.4, 0.4] if blocks is None else [0.2, 0.8])[groups]
        y = X @ BETA + sd * np.random.default_rng(3).standard_normal(20)
        mean, exact_sd = quadrature(y, groups)
        problem = ek.InverseProblem(
            ek.LinearModel(X),
            ek.GaussianPrior(np.zeros(3), VARIANCE),
            ek.UnknownNoise(PRIOR, blocks=blocks),
            y,
        )
        for method in (ek.GNKI(), ek.EKI(), ek.TemperedSMC()):
            found = [
                ek.run(problem, method, n_members=n, rng=seed, store="last")
                for seed in range(seeds)
            ]
            means, sds = (np.array(each) for each in zip(*map(moments, found), strict=True))
            error = (means.mean(axis=0) - mean) / (exact_sd / np.sqrt(n * seeds))
            ratio = (sds / exact_sd).mean(axis=0)
            low, high, runs = ratio.min(), ratio.max(), found[0].attrs["model_runs"]
            yield (
                f"| {groups.max() + 1} | {type(method).__name__} | {np.abs(error).max():.1f} | "
                f"{low:.3f} to {high:.3f} | {ratio[3:].round(3).tolist()} | {runs} |"
            )


def lynx_hare(seeds: int) -> Iterator[str]:
    """Rows of the table of lynx and hare."""
    example = ek.problems.lynx_hare()
    reference = ek.problems.lynx_hare(sigma=None).reference
    problem = ek.InverseProblem(
        example.problem.model,
        example.problem.prior,
        ek.UnknownNoise(PRIOR, blocks=example.groups),
        example.problem.data,
        data_names=example.problem.data_names,
    )
    mean, sd = np.array([reference[name] for name in problem.parameter_names]).T
    yield f"Lynx and hare, both sigma unknown: {', '.join(problem.parameter_names)}."
    yield "| method | members | seed | model runs | status | means, in reference sd | sd ratios |"
    yield "|---|---|---|---|---|---|---|"
    for name, n in (("GNKI", 200), ("EKI", 200), ("TemperedSMC from GNKI", 200)):
        for seed in range(seeds):
            method: Any = ek.EKI() if name == "EKI" else ek.GNKI()
            result = ek.run(problem, method, n_members=n, rng=seed, store="last")
            runs = result.attrs["model_runs"]
            if name.startswith("TemperedSMC"):
                start = ek.GaussianStart.from_ensemble(result.u[-1], problem.prior)
                sampler = ek.TemperedSMC(start=start)
                result = ek.run(problem, sampler, n_members=n, rng=seed, store="last")
                runs += result.attrs["model_runs"]
            found, spread = moments(result)
            z, ratio = (found - mean) / sd, spread / sd
            yield (
                f"| {name} | {n} | {seed} | {runs} | {result.attrs['status_code']} | "
                f"{' '.join(f'{x:+.2f}' for x in z)} | {' '.join(f'{x:.2f}' for x in ratio)} |"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=["regression", "lynx-hare"])
    parser.add_argument("--seeds", type=int)
    options = parser.parse_args()
    if options.only != "lynx-hare":
        for row in regression(options.seeds or 30):
            print(row, flush=True)
    if options.only != "regression":
        for row in lynx_hare(options.seeds or 5):
            print(row, flush=True)
