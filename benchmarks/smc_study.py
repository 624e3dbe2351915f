"""Model runs of tempered SMC, and the saving by a start from EKI's Gaussian.

    python benchmarks/smc_study.py [--problem fixed|unknown|darcy] [--seeds 5] [--members 1000]
                                   [--only GNKI]

``fixed`` is lynx and hare with σ = 0.25 (six parameters; `benchmarks/lynx_hare_reference.py` made
the reference), ``unknown`` the same with both σ unknown (eight; posteriordb's reference), ``darcy``
the permeability of the ground on 16 × 16 cells with 32 parameters, whose reference is the mean of
three runs of 3000 particles with four times as many moves (their means differ by 0.02 standard
deviations, root mean square).

Every row is run with several seeds: the largest error of a parameter's mean, in posterior
standard deviations, and of a standard deviation, both averaged over seeds (for 32 parameters the
root mean squares instead); the range over seeds of the log-evidence; how often the moves
decorrelated the particles; and the model runs, including the run that found the start. The table is
Markdown. The script takes 5, 15 and 15 minutes on one core. ``--only`` selects the rows whose names
contain a text. A start contains a share of 0.2 of draws of the prior, or no draws of the prior if
the row says so.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import stats
from scipy.special import logsumexp

import ekitools as ek

PLAIN = [
    ("pCN, from the prior", {"move": "pcn"}, None),
    ("random walk, from the prior", {"move": "random_walk"}, None),
    ("ensemble, from the prior", {"move": "ensemble"}, None),
]
FEW = [
    ("default, from the prior", {}, None),
    ("ensemble, from GNKI with 100 members", {"move": "ensemble"}, (100, 1.5)),
    ("default, from GNKI with 100 members", {}, (100, 1.5)),
    ("kernel, from GNKI with 100 members", {"move": "kernel"}, (100, 1.5)),
    ("default, from GNKI with 200 members", {}, (200, 1.5)),
    ("the same (GNKI), no share of the prior", {}, (200, 1.5, 0)),
]
MANY = [
    ("ensemble, from GNKI with 200 members", {}, (200, 1.2)),
    ("the same (GNKI), no share of the prior", {}, (200, 1.2, 0)),
    ("the same (GNKI), decorrelation 0.4", {"decorrelation": 0.4, "acceptance": 0.2}, (200, 1.2)),
]


def lynx_hare(sigma: float | None) -> tuple[Any, np.ndarray]:
    example = ek.problems.lynx_hare(sigma=sigma)
    known = example.reference if sigma is None else example.extra["fixed_sigma"]
    return example.problem, np.array([known[n] for n in example.problem.parameter_names])


def quick_ensemble(name: str, problem: Any, n_members: int, seed: int) -> tuple[np.ndarray, int]:
    """Members near the posterior, and the model runs that they cost.

    If σ is unknown, these are the members for σ = 0.25, each with a draw of σ near the value that
    its residuals suggest.
    """
    solved = ek.problems.lynx_hare().problem if name == "unknown" else problem
    quick = ek.run(solved, ek.GNKI(), n_members=n_members, rng=seed)
    u = quick.u[-1].values
    if name == "unknown":
        residuals = (quick.g[-1].values - solved.data).reshape(n_members, -1, 2)
        sigma = np.sqrt(np.mean(residuals**2, axis=1))
        rng = np.random.default_rng([seed, 1])
        sigma *= np.exp(rng.standard_normal(sigma.shape) / np.sqrt(2 * residuals.shape[1]))
        u = np.hstack([u, sigma])
    return u, int(quick.attrs["model_runs"])


def moments(result: Any) -> tuple[np.ndarray, np.ndarray]:
    u, weight = result.u[-1].values, result.weight[-1].values
    mean = weight @ u
    return mean, np.sqrt(weight @ (u - mean) ** 2)


def long_runs(problem: Any) -> np.ndarray:
    """Means and standard deviations from three long runs, ``(p, 2)``."""
    found = []
    for seed in range(3):
        u, _ = quick_ensemble("darcy", problem, 400, 900 + seed)
        start = ek.GaussianStart.from_ensemble(u, problem.prior, inflation=1.5)
        smc = ek.TemperedSMC(start=start, ess=0.7, decorrelation=0.1, max_moves=60)
        found.append(moments(ek.run(problem, smc, n_members=3000, rng=seed, store="last")))
    means, sds = (np.array(part) for part in zip(*found, strict=True))
    sd = np.sqrt(np.mean(sds**2, axis=0))
    spread = np.sqrt(np.mean(((means - means.mean(axis=0)) / sd) ** 2))
    print(f"The means of the three long runs differ by {spread:.3f} standard deviations (rms).\n")
    return np.column_stack([means.mean(axis=0), sd])


def importance_evidence(problem: Any) -> list[float]:
    """Log-evidence by 20,000 draws of a Student t with the moments of a run, three seeds."""
    prior, found = problem.prior, []
    for seed in range(3):
        u, _ = quick_ensemble("unknown", problem, 100, seed)
        start = ek.GaussianStart.from_ensemble(u, prior, inflation=1.5)
        result = ek.run(problem, ek.TemperedSMC(start=start), n_members=1000, rng=seed)
        z, weight = prior.to_unconstrained(result.u[-1].values), result.weight[-1].values
        proposal = stats.multivariate_t(weight @ z, 1.2 * np.cov(z.T, aweights=weight), df=6)
        draws = proposal.rvs(20_000, random_state=seed)
        misfit = problem.noise.misfit(problem.model(prior.to_physical(draws)), problem.data)
        log_prior = stats.norm.logpdf(draws).sum(axis=1)
        log_weight = np.nan_to_num(log_prior - misfit - proposal.logpdf(draws), nan=-np.inf)
        found.append(float(logsumexp(log_weight) - np.log(len(draws))))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problem", choices=["fixed", "unknown", "darcy"], default="fixed")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--members", type=int, default=1000)
    parser.add_argument("--only", default="", help="text in the name of a row")
    options = parser.parse_args()
    if options.problem == "darcy":
        problem = ek.problems.darcy(n=16, n_modes=32).problem
        reference, rows, size = long_runs(problem), PLAIN + MANY, "rms"
    else:
        problem, reference = lynx_hare(0.25 if options.problem == "fixed" else None)
        rows, size = PLAIN + FEW, "worst"
    if options.problem == "unknown":
        evidence = importance_evidence(problem)
        print(f"Log-evidence by importance sampling: {np.round(evidence, 3).tolist()}\n")

    def error(values: np.ndarray) -> float:
        return float(np.max(np.abs(values)) if size == "worst" else np.sqrt(np.mean(values**2)))

    print(f"| moves and start | model runs | {size} mean | {size} sd | log-evidence | mixed |")
    print("|---|---|---|---|---|---|")
    for label, keywords, quick in (row for row in rows if options.only in row[0]):
        off, ratio, runs, evidence, mixed = [], [], [], [], []
        for seed in range(options.seeds):
            start, spent = None, 0
            if quick is not None:
                n_quick, inflation, *share = quick
                u, spent = quick_ensemble(options.problem, problem, n_quick, seed)
                start = ek.GaussianStart.from_ensemble(u, problem.prior, inflation=inflation)
                if share:
                    start = replace(start, prior_share=share[0])
            smc = ek.TemperedSMC(start=start, **keywords)
            result = ek.run(problem, smc, n_members=options.members, rng=100 + seed, store="last")
            mean, sd = moments(result)
            off.append(error((mean - reference[:, 0]) / reference[:, 1]))
            ratio.append(error(sd / reference[:, 1] - 1))
            runs.append(result.attrs["model_runs"] + spent)
            evidence.append(result.attrs["log_evidence"])
            mixed.append(result.attrs["status_code"] == "posterior_reached")
        print(
            f"| {label} | {np.mean(runs):,.0f} | {np.mean(off):.3f} | {np.mean(ratio):.3f} "
            f"| {min(evidence):.2f} to {max(evidence):.2f} | {sum(mixed)}/{len(mixed)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
