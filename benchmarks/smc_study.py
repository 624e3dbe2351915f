"""How many model runs tempered SMC needs on lynx and hare, and what EKI's Gaussian saves.

    python benchmarks/smc_study.py [--seeds 5] [--members 1000]

Every row is run with several seeds and compared with the exact posterior for σ = 0.25
(`benchmarks/lynx_hare_reference.py`): the largest error of a parameter's mean, in posterior
standard deviations, and of a standard deviation, both averaged over seeds; the range over
seeds of the log-evidence; how often the moves decorrelated the particles; and the model runs,
those of the run that found the start included. The table is Markdown. Takes about five minutes
on one core.
"""

from __future__ import annotations

import argparse

import numpy as np

import ekitools as ek

EXAMPLE = ek.problems.lynx_hare()
PROBLEM = EXAMPLE.problem
REFERENCE = np.array([EXAMPLE.extra["fixed_sigma"][n] for n in PROBLEM.parameter_names])

ROWS = [
    ("pCN, from the prior", ek.TemperedSMC(move="pcn"), None),
    ("random walk, from the prior", ek.TemperedSMC(move="random_walk"), None),
    ("ensemble, from the prior", ek.TemperedSMC(), None),
    ("ensemble, from GNKI with 100 members", ek.TemperedSMC(), 100),
    ("ensemble, from GNKI with 200 members", ek.TemperedSMC(), 200),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--members", type=int, default=1000)
    options = parser.parse_args()
    print("| moves and start | model runs | worst mean | worst sd | log-evidence | mixed |")
    print("|---|---|---|---|---|---|")
    for label, method, quick_members in ROWS:
        off, ratio, runs, evidence, mixed = [], [], [], [], []
        for seed in range(options.seeds):
            smc, spent = method, 0
            if quick_members is not None:
                quick = ek.run(
                    PROBLEM, ek.GNKI(), n_members=quick_members, rng=seed, evaluate_final=False
                )
                spent = quick.attrs["model_runs"]
                start = ek.GaussianStart.from_ensemble(quick.u[-1], PROBLEM.prior)
                smc = ek.TemperedSMC(start=start)
            result = ek.run(
                PROBLEM, smc, n_members=options.members, rng=100 + seed, store="last"
            )  # fmt: skip
            u, weight = result.u[-1].values, result.weight[-1].values
            mean = weight @ u
            sd = np.sqrt(weight @ (u - mean) ** 2)
            off.append(np.max(np.abs(mean - REFERENCE[:, 0]) / REFERENCE[:, 1]))
            ratio.append(np.max(np.abs(sd / REFERENCE[:, 1] - 1)))
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
