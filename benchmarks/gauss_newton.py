"""Cost and accuracy of GNKI by start, draws and damping, and the bounds on its cost.

    OMP_NUM_THREADS=1 EKITOOLS_DATA=... python benchmarks/gauss_newton.py [--seeds 5] [--part NAME]

`options` has the model runs of every member until the method ends, the error of the mean (root mean
square over parameters, in posterior standard deviations) and the range of the ratios of standard
deviations, as means over seeds. It also has the number of seeds whose refinements converged. The
problems `linear` (p = 10, d = 20) and `exp` (y = exp(u) = 3 under N(0, 4), noise 0.1) have exact
posteriors. `lynx-hare` has the posterior for σ = 0.25 as reference. `darcy` has 32 parameters, and
its reference is the mean of eight runs of GNKI(damping=0.5) with 800 members.
`few` has no more members than parameters: deconvolution with p = 400 and 200 members and the exact
posterior, and Darcy flow with 64 parameters and a run with 800 members as reference.
`crawl` has the model runs of every member for y = u² = 1 under N(0, 1).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

import ekitools as ek

run = partial(ek.run, evaluate_final=False, store="last")

VARIANTS = {
    "damping 0.5": ek.GNKI(damping=0.5),
    "damping 1": ek.GNKI(damping=1.0),
    "default": ek.GNKI(),
    "fresh draws": ek.GNKI(draws="fresh"),
    "from the prior": ek.GNKI(start="prior"),
    "from the prior, damping 0.5": ek.GNKI(start="prior", damping=0.5),
}


def moments(u) -> tuple[np.ndarray, np.ndarray]:
    return u.mean(axis=0), u.std(axis=0, ddof=1)


def exponential() -> tuple[ek.InverseProblem, tuple[list[float], list[float]]]:
    """With its posterior by quadrature."""
    model = ek.FunctionModel(np.exp, vectorized=True)
    problem = ek.InverseProblem(model, ek.GaussianPrior(0.0, [4.0]), 0.01, [3.0])
    grid = np.linspace(0, 2, 200_001)
    density = np.exp(-(grid**2) / 8 - (np.exp(grid) - 3) ** 2 / 0.02)
    density /= density.sum()
    mean = grid @ density
    return problem, ([mean], [np.sqrt((grid - mean) ** 2 @ density)])


def cases() -> Iterator[tuple[Any, ...]]:
    """Problem, posterior mean and standard deviations, and ensemble sizes, by name."""
    linear = ek.problems.linear(p=10, d=20)
    sd = np.sqrt(np.diag(linear.extra["cov"]))
    yield "linear", linear.problem, (linear.extra["mean"], sd), (100,)
    yield "exp", *exponential(), (200,)
    lynx = ek.problems.lynx_hare()
    table = [lynx.extra["fixed_sigma"][name] for name in lynx.problem.parameter_names]
    yield "lynx-hare", lynx.problem, tuple(np.transpose(table)), (50, 200)
    darcy = ek.problems.darcy(n=16, n_modes=32).problem
    yield "darcy", darcy, large(darcy), (100, 400)


def large(problem) -> tuple[np.ndarray, np.ndarray]:
    """Moments over eight runs with 800 members."""
    method = ek.GNKI(damping=0.5)
    runs = [run(problem, method, n_members=800, rng=1000 + seed) for seed in range(8)]
    return moments(np.concatenate([each.u[-1].values for each in runs]))


def judged(result, exact) -> tuple[Any, ...]:
    """Runs of every member, error of the mean, least and largest ratio of sd, converged or not."""
    mean, sd = moments(result.u[-1].dropna("member").values)
    ratio, off = sd / exact[1], (mean - exact[0]) / exact[1]
    runs = result.attrs["model_runs"] / result.sizes["member"]
    end = result.attrs["status_code"] == "posterior_reached"
    return runs, np.sqrt(np.mean(off**2)), ratio.min(), ratio.max(), end


def row(label, problem, method, n, exact, seeds) -> str:
    found = [judged(run(problem, method, n_members=n, rng=s), exact) for s in range(seeds)]
    runs, off, least, most, end = np.mean(found, axis=0)
    end = round(end * seeds)
    return f"| {label} | {n} | {runs:.1f} | {off:.2f} | {least:.2f}-{most:.2f} | {end}/{seeds} |"


HEAD = "| problem | GNKI | members | runs a member | rms error | sd ratios | converged |"


def options(seeds) -> None:
    print(f"{HEAD}\n|---|---|---:|---:|---:|---|---|")
    for name, problem, exact, sizes in cases():
        for n in sizes:
            for label, method in VARIANTS.items():
                print(row(f"{name} | {label}", problem, method, n, exact, seeds), flush=True)


def few(seeds) -> None:
    print(f"{HEAD.replace('GNKI', 'method')}\n|---|---|---:|---:|---:|---|---|")
    example = ek.problems.deconvolution(400)
    exact = example.extra["mean"], np.sqrt(np.diag(example.extra["cov"]))
    darcy = ek.problems.darcy(n=16, n_modes=64).problem
    far = moments(run(darcy, ek.GNKI(), n_members=800, rng=1000).u[-1].values)
    studies = (
        ("deconvolution, p = 400", example.problem, exact, (200,)),
        ("darcy, p = 64", darcy, far, (20, 40)),
    )
    for name, problem, known, sizes in studies:
        for n in sizes:
            for method in (ek.EKI(), ek.ETKI(), ek.GNKI()):
                label = f"{name} | {type(method).__name__}"
                print(row(label, problem, method, n, known, seeds), flush=True)


def crawl(seeds) -> None:
    print("| method | noise | members | runs a member | status |\n|---|---|---:|---|---|")
    model = ek.FunctionModel(lambda u: u**2, vectorized=True)
    methods = {
        "EKI": ek.EKI(),
        "ETKI": ek.ETKI(),
        "GNKI": ek.GNKI(),
        "EKI, max_runs=None": ek.EKI(ek.MisfitController(max_runs=None)),
    }
    for sd in (0.3, 0.1, 0.01):
        problem = ek.InverseProblem(model, ek.GaussianPrior(0.0, [1.0]), sd**2, [1.0])
        for label, method in methods.items():
            if sd == 0.01 and "None" in label:
                continue  # some 40,000 steps
            found = [ek.run(problem, method, n_members=200, rng=seed) for seed in range(seeds)]
            runs = [each.attrs["model_runs"] / 200 for each in found]
            codes = ", ".join(sorted({each.attrs["status_code"] for each in found}))
            print(
                f"| {label} | {sd} | 200 | {min(runs):g} to {max(runs):g} | {codes} |", flush=True
            )


def main() -> None:
    parts = {"options": options, "few": few, "crawl": crawl}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--part", choices=parts, help="one table alone")
    chosen = parser.parse_args()
    for name, part in parts.items():
        if chosen.part in (None, name):
            print(f"\n{name}\n")
            part(chosen.seeds)


if __name__ == "__main__":
    main()
