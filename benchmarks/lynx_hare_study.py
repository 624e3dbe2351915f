"""Remedies for EKI on lynx and hare, with a broad prior and a strongly nonlinear model.

    python benchmarks/lynx_hare_study.py [--seeds 5]

Every row is run with several seeds and compared with the exact posterior for σ = 0.25
(`benchmarks/lynx_hare_reference.py`): the root mean square over parameters and seeds of the
error of the mean, in posterior standard deviations; the largest error of a parameter's mean,
averaged over seeds; the range of the ratios of standard deviations over parameters (mean over
seeds); the coverage of the 42 data by the 90 % posterior predictive interval; and the model
runs. The table is Markdown. The script takes about ten minutes on one core.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy import stats

import ekitools as ek

EXAMPLE = ek.problems.lynx_hare()
PROBLEM = EXAMPLE.problem
REFERENCE = np.array([EXAMPLE.extra["fixed_sigma"][n] for n in PROBLEM.parameter_names])


def logarithmic() -> ek.InverseProblem:
    """The same problem with log-normal priors of the same means and standard deviations."""
    marginals = dict(PROBLEM.prior.marginals)
    for name in ("alpha", "beta", "gamma", "delta"):
        mean, sd = marginals[name].mean(), marginals[name].std()
        s = np.sqrt(np.log1p((sd / mean) ** 2))
        marginals[name] = stats.lognorm(s, scale=mean * np.exp(-(s**2) / 2))
    return ek.InverseProblem(PROBLEM.model, ek.Prior(marginals), 0.25**2, PROBLEM.data)


ROWS = [
    ("EKI, misfit controller", PROBLEM, ek.EKI(), (100, 400, 2000)),
    ("EKI, 16 equal steps (ES-MDA)", PROBLEM, ek.EKI(ek.ESMDA(16)), (100, 400, 2000)),
    ("EKI, 100 equal steps", PROBLEM, ek.EKI(ek.FixedStep(0.01)), (100, 400)),
    ("EKI without perturbation", PROBLEM, ek.EKI(perturbed=False), (400,)),
    ("EKI, log-normal priors", logarithmic(), ek.EKI(), (400,)),
    ("GNKI", PROBLEM, ek.GNKI(), (50, 100, 200, 400, 1000)),
    ("GNKI, log-normal priors", logarithmic(), ek.GNKI(), (200,)),
    ("GNKI, undamped", PROBLEM, ek.GNKI(damping=1.0), (200,)),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    seeds = parser.parse_args().seeds
    print("| method | members | model runs | rms error | worst | sd ratios | coverage |")
    print("|---|---|---|---|---|---|---|")
    for label, problem, method, sizes in ROWS:
        for n in sizes:
            off, ratio, runs, covered = [], [], [], []
            for seed in range(seeds):
                result = ek.run(problem, method, n_members=n, rng=seed)
                u = result.u[-1].dropna("member").values
                off.append((u.mean(0) - REFERENCE[:, 0]) / REFERENCE[:, 1])
                ratio.append(u.std(0, ddof=1) / REFERENCE[:, 1])
                runs.append(result.attrs["model_runs"] - n)  # without the final evaluation
                covered.append(float(ek.diagnose(result).coverage[-1]))
            ratios = np.mean(ratio, axis=0)
            print(
                f"| {label} | {n} | {np.mean(runs):,.0f} | {np.sqrt(np.mean(np.square(off))):.2f} "
                f"| {np.mean(np.max(np.abs(off), axis=1)):.2f} "
                f"| {ratios.min():.2f}-{ratios.max():.2f} | {np.mean(covered):.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
