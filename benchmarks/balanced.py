"""A first ensemble with the exact moments of the prior, compared with independent draws.

    OMP_NUM_THREADS=1 python benchmarks/balanced.py [--seeds 20]

The error of the mean is in posterior standard deviations, root mean square over parameters; the sd
ratio is the geometric mean over parameters. Both are averages over the seeds. The curved problem
has G_i(u) = exp(u_i) for 20 parameters u ~ N(0, 0.3²), noise 0.1, and its posterior by quadrature.
"""

from __future__ import annotations

import argparse

import numpy as np

import ekitools as ek

METHODS = {"EKI": ek.EKI(), "ETKI": ek.ETKI(), "GNKI": ek.GNKI()}


def curved(p=20, sd=0.3, noise=0.1, seed=1) -> tuple[ek.InverseProblem, np.ndarray, np.ndarray]:
    """A problem whose parameters have separate posteriors; their means and standard deviations."""
    rng = np.random.default_rng(seed)
    y = np.exp(sd * rng.normal(size=p)) + noise * rng.normal(size=p)
    model = ek.FunctionModel(np.exp, vectorized=True)
    problem = ek.InverseProblem(model, ek.GaussianPrior(np.zeros(p), sd**2), noise**2, y)
    u = np.linspace(-6 * sd, 6 * sd, 20_001)
    logs = -0.5 * ((np.exp(u) - y[:, None]) / noise) ** 2 - 0.5 * (u / sd) ** 2
    weight = np.exp(logs - logs.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)
    mean = weight @ u
    return problem, mean, np.sqrt(weight @ u**2 - mean**2)


def linear(p=20) -> tuple[ek.InverseProblem, np.ndarray, np.ndarray]:
    """A linear problem, and the moments of its posterior."""
    example = ek.problems.linear(p=p, d=2 * p, rng=1)
    return example.problem, example.extra["mean"], np.sqrt(np.diag(example.extra["cov"]))


def measured(problem, mean, sd, method, n_members, n_seeds, *, balanced) -> np.ndarray:
    """Error of the mean, ratio of standard deviations and model runs."""
    rows = []
    for seed in range(n_seeds):
        start = ek.balanced_ensemble(problem.prior, n_members, rng=seed) if balanced else None
        result = ek.run(problem, method, n_members=n_members, ensemble=start, rng=seed)
        table = ek.intervals(result)
        off = (table["mean"].values - mean) / sd
        ratio = np.exp(np.mean(np.log(table["sd"].values / sd)))
        rows.append((np.sqrt(np.mean(off**2)), ratio, result.attrs["model_runs"]))
    return np.mean(rows, axis=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    n_seeds = parser.parse_args().seeds
    print("| problem | J | method | independent: error, sd ratio, runs | balanced |")
    print("|---|---|---|---|---|")
    for name, problem in (("linear", linear()), ("curved", curved())):
        for n_members in (30, 100):
            for label, method in METHODS.items():
                cells = [
                    "{:.3f}, {:.2f}, {:.0f}".format(
                        *measured(*problem, method, n_members, n_seeds, balanced=balanced)
                    )
                    for balanced in (False, True)
                ]
                print(f"| {name} | {n_members} | {label} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
