"""Distance of EKI and its relatives from the posterior, and their cost.

    python benchmarks/compare_study.py linear    [--seeds 5] [--members 400]
    python benchmarks/compare_study.py lynx-hare [--seeds 5] [--members 400]
    python benchmarks/compare_study.py darcy     [--seeds 3] [--reference darcy.nc]

`linear` has 10 parameters, 20 data and an exact posterior. `lynx-hare` has the posterior for
σ = 0.25 as reference (`benchmarks/lynx_hare_reference.py`). `darcy` is the problem of Iglesias, Law
& Stuart (2013). Its reference is a large run of tempered SMC, which is written to the file
`--reference`, or read from this file. Its second table has the errors of the fields of posterior
mean and standard deviation of log κ, relative in L².

The tables are Markdown, averages over seeds of `ek.compare`. The cost of a run that starts from
another run includes the other run. `--small` makes darcy smaller, for a test of the script.
`--picture FILE` also draws the first table. On one core `linear` takes seconds, `lynx-hare` two
minutes, `darcy` one minute, and its reference seven minutes.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import ekitools as ek
from ekitools.results.reading import members_at

run = partial(ek.run, evaluate_final=False, store="last")


def smc_from_gnki(problem, n_quick, n_members, seed, **options) -> xr.Dataset:
    """Tempered SMC started from the Gaussian of GNKI, with the cost of both."""
    quick = run(problem, ek.GNKI(), n_members=n_quick, rng=1000 + seed)
    start = ek.GaussianStart.from_ensemble(quick.u[-1], problem.prior)
    method = ek.TemperedSMC(start=start, **options)
    result = run(problem, method, n_members=n_members, rng=seed)
    for cost in ("model_runs", "seconds"):
        result.attrs[cost] += quick.attrs[cost]
    return result


def linear(options) -> tuple[Any, ...]:
    example = ek.problems.linear(p=10, d=20)
    problem, n = example.problem, options.members

    def noisy(flow, end, seed) -> xr.Dataset:
        step, times = ek.NormStep(1.0), [end]
        return ek.integrate(
            problem, flow, t_span=(0, end), n_members=n, rng=seed, step=step, t_eval=times
        )

    def results(seed) -> dict[str, xr.Dataset]:
        return {
            "EKI": run(problem, ek.EKI(), n_members=n, rng=seed),
            "EKI, deterministic": run(problem, ek.EKI(perturbed=False), n_members=n, rng=seed),
            "EKI flow to t = 1": ek.integrate(
                problem, ek.EKIFlow(), t_span=(0, 1), n_members=n, rng=seed, rtol=1e-4, atol=1e-6
            ),
            "EKI flow with noise to t = 1": noisy(ek.StochasticEKIFlow(), 1.0, seed),
            "ensemble Kalman sampler to t = 5": noisy(
                ek.EKSFlow(scheme="euler-maruyama"), 5.0, seed
            ),
            "GNKI": run(problem, ek.GNKI(), n_members=n, rng=seed),
            "SMC": run(problem, ek.TemperedSMC(), n_members=n, rng=seed),
        }

    return results, (example.extra["mean"], example.extra["cov"]), None


def lynx_hare(options) -> tuple[Any, ...]:
    example = ek.problems.lynx_hare()
    problem, n = example.problem, options.members
    quick = max(n // 4, 100)

    def results(seed) -> dict[str, xr.Dataset]:
        return {
            "EKI": run(problem, ek.EKI(), n_members=n, rng=seed),
            "GNKI": run(problem, ek.GNKI(), n_members=n, rng=seed),
            "SMC": run(problem, ek.TemperedSMC(), n_members=n, rng=seed),
            f"SMC from GNKI with {quick}": smc_from_gnki(problem, quick, n, seed),
        }

    return results, example.extra["fixed_sigma"], None


def darcy(options) -> tuple[Any, ...]:
    cells, modes = (12, 16) if options.small else (16, 32)
    example = ek.problems.darcy(n=cells, n_modes=modes)
    problem = example.problem
    sizes = (options.members // 2, options.members) if options.small else (100, 400, 1600)
    middle = sizes[1]
    reference = darcy_reference(problem, options)

    def results(seed) -> dict[str, xr.Dataset]:
        eki = {f"EKI, {n}": run(problem, ek.EKI(), n_members=n, rng=seed) for n in sizes}
        plain = ek.EKI(perturbed=False)
        return eki | {
            f"EKI, deterministic, {middle}": run(problem, plain, n_members=middle, rng=seed),
            f"GNKI, {middle}": run(problem, ek.GNKI(), n_members=middle, rng=seed),
            f"SMC from GNKI, {middle}": smc_from_gnki(
                problem, middle, middle, seed, max_moves=options.moves
            ),
        }

    return results, reference, problem.prior


def darcy_reference(problem, options) -> Any:
    """The large run, from its file if it is there."""
    path = options.reference
    if path is not None and path.exists():
        reference = xr.load_dataset(path)
        if json.loads(reference.attrs["problem"]) != problem.fingerprint():
            raise SystemExit(f"--reference: {path} belongs to another problem. Name another file.")
    else:
        n = options.members if options.small else options.reference_members
        quick = run(problem, ek.GNKI(), n_members=max(n // 4, 100), rng=12345)
        start = ek.GaussianStart.from_ensemble(quick.u[-1], problem.prior, inflation=1.5)
        method = ek.TemperedSMC(
            start=start, ess=0.8, decorrelation=0.05, max_moves=options.reference_moves
        )
        reference = run(problem, method, n_members=n, rng=54321, progress=True)
        if path is not None:
            reference.to_netcdf(path)
    runs, seconds = reference.attrs["model_runs"], reference.attrs["seconds"]
    print(f"Reference: {runs:,} model runs, {seconds:,.0f} s. {reference.attrs['status']}\n")
    return reference


def field_table(comparisons) -> str:
    """Errors of the mean and the sd of a field, relative in L², a line for every label."""
    lines = ["| method | mean field | sd field |", "|---|---:|---:|"]
    for label in comparisons[0]:
        mean, sd = np.mean([each[label] for each in comparisons], axis=0)
        lines.append(f"| {label} | {mean:.3f} | {sd:.3f} |")
    return "\n".join(lines)


def field_errors(field, results, reference) -> dict[str, list[Any]]:
    """Relative L² errors of mean and sd of ``field.field(u)``, by label."""

    def moments(result) -> tuple[np.ndarray, np.ndarray]:
        u, weight = members_at(result, -1).present()
        values = field.field(u)
        mean = np.tensordot(weight, values, 1)
        return mean, np.sqrt(np.tensordot(weight, (values - mean) ** 2, 1))

    exact = moments(reference)
    return {
        label: [
            np.linalg.norm(a - b) / np.linalg.norm(b)
            for a, b in zip(moments(result), exact, strict=True)
        ]
        for label, result in results.items()
    }


def main() -> None:
    studies = {"linear": linear, "lynx-hare": lynx_hare, "darcy": darcy}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("problem", choices=studies)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--members", type=int, default=400)
    parser.add_argument("--moves", type=int, default=50, help="most, of SMC in darcy")
    parser.add_argument("--reference", type=Path, help="file of the large run of darcy")
    parser.add_argument("--reference-members", type=int, default=10_000)
    parser.add_argument("--reference-moves", type=int, default=200)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--small", action="store_true", help="a small darcy")
    options = parser.parse_args()
    results, reference, field = studies[options.problem](options)
    comparisons, fields = [], []
    for seed in range(options.seeds):
        found = results(seed)
        comparisons.append(ek.compare(found, reference))
        if field is not None:
            fields.append(field_errors(field, found, reference))
    mean = xr.concat(comparisons, "seed").mean("seed", keep_attrs=True)
    print(f"{options.problem}, {mean.attrs['reference']}, mean of {options.seeds} seeds\n")
    print(ek.compare_table(mean, style="markdown"))
    if fields:
        print(f"\n{field_table(fields)}")
    if options.picture is not None:
        ek.plot_comparison(mean).figure.savefig(options.picture, dpi=150)


if __name__ == "__main__":
    main()
