"""Models that fail in a part of the prior: the error of the posterior for each failure policy.

    OMP_NUM_THREADS=1 python benchmarks/failures.py [--seeds 5] [--members 200] [--only PROBLEM]
        [--policies drop retry] [--methods EKI GNKI]

"hidden region" has three parameters and four data. Its model fails beyond a plane, in 62 % of the
prior and one posterior standard deviation from the posterior mean. "edge" is a linear model of two
parameters that fails if the first one is larger than its posterior mean by one standard deviation.
"chance" is the model of the hidden region without the plane, but each run fails with a probability
of 0.3. "thermal explosion" is Semenov's equation x' = a exp(x) - b x with an unknown start. SciPy's
solver fails if x becomes infinite in finite time. "battery" is a discharge of pybamm with four
unknown parameters, which ends early in a part of the prior. It needs `pip install pybamm` and
``--only battery``.

The reference is self-normalised importance sampling from a Student t with 5 degrees of freedom.
Points at which the model fails have weight zero, so the reference is the posterior of the prior
restricted to the region where the model runs. Errors are in standard deviations of the reference.
Every cell has the median and the worst value over seeds and parameters.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.integrate import solve_ivp
from scipy.stats import norm

import ekitools as ek

METHODS = {"EKI": ek.EKI(), "ETKI": ek.ETKI(), "GNKI": ek.GNKI(), "TemperedSMC": ek.TemperedSMC()}
POLICIES = ("drop", "resample", "retry")


class Case(NamedTuple):
    """A problem, and the model that the reference uses: rows of NaN where it fails."""

    problem: ek.InverseProblem
    outputs: Callable[[np.ndarray], np.ndarray]
    centre: np.ndarray
    """Where importance sampling starts, whitened."""
    n_reference: int


MATRIX = np.array([[1, 0.5, 0.0], [0, 1, 0.3], [0.2, 0, 1], [1, 1, 0]])
ACROSS = np.array([1.0, 1.0, 0.0]) / np.sqrt(2)
LIMIT = norm.ppf(0.38)


def bent(u: np.ndarray) -> np.ndarray:
    """A slightly nonlinear map of three parameters to four data."""
    z = u @ MATRIX.T
    return z + z**3 / 20


def hidden_region() -> Case:
    """The model fails in 62 % of the prior, up to one standard deviation from the posterior."""

    def model(u: np.ndarray) -> np.ndarray:
        if ACROSS @ u > LIMIT:
            raise RuntimeError("the solver did not converge")
        return bent(u)

    def outputs(u: np.ndarray) -> np.ndarray:
        return np.where((u @ ACROSS > LIMIT)[:, None], np.nan, bent(u))

    truth = ACROSS * (LIMIT - 0.09) + [0.0, 0.0, 0.5]
    prior = ek.GaussianPrior(np.zeros(3), 1.0)
    return Case(ek.InverseProblem(model, prior, 0.15**2, bent(truth)), outputs, truth, 400_000)


def edge() -> Case:
    """A linear model of two parameters, whose posterior meets the failing region in one of them."""
    matrix = np.array([[1.0, 0.5], [0.2, 1.0], [1.0, -1.0]])

    def outputs(u: np.ndarray) -> np.ndarray:
        return np.where((u[:, 0] > 0.3)[:, None], np.nan, u @ matrix.T)

    truth, prior = np.array([0.23, 0.3]), ek.GaussianPrior(np.zeros(2), 1.0)
    model = ek.FunctionModel(outputs, vectorized=True)
    return Case(ek.InverseProblem(model, prior, 0.1**2, matrix @ truth), outputs, truth, 200_000)


def chance() -> Case:
    """Each model run fails with a probability of 0.3."""
    dice = np.random.default_rng(99)

    def model(u: np.ndarray) -> np.ndarray:
        if dice.random() < 0.3:
            raise RuntimeError("the node died")
        return bent(u)

    case = hidden_region()
    known = case.problem
    problem = ek.InverseProblem(model, known.prior, known.noise, known.data)
    return case._replace(problem=problem, outputs=bent)


TIMES = np.linspace(0.5, 5.0, 10)


def heated(u: np.ndarray) -> np.ndarray:
    """Dimensionless temperature at ten times, with u = (a, b, x(0))."""
    a, b, start = u
    with np.errstate(over="ignore", invalid="ignore"):
        run = solve_ivp(
            lambda t, x: a * np.exp(x) - b * x, (0, TIMES[-1]), [start], "RK45", TIMES, rtol=1e-5
        )
    if not run.success or run.y.shape[1] < len(TIMES) or not np.all(run.y < 100):
        raise RuntimeError(f"the solver failed: {run.message}")
    return run.y[0]


def thermal_explosion() -> Case:
    """Semenov's equation: x blows up where the reaction outruns the cooling."""
    from scipy import stats

    prior = ek.Prior(
        {
            "a": stats.lognorm(0.3, scale=0.45),
            "b": stats.lognorm(0.3, scale=1.0),
            "start": stats.norm(0.7, 0.3),
        }
    )
    truth = np.array([0.34, 1.05, 0.9])
    noise = np.random.default_rng(2).normal(0, 0.1, len(TIMES))
    problem = ek.InverseProblem(heated, prior, 0.1**2, heated(truth) + noise)

    def outputs(u: np.ndarray) -> np.ndarray:
        g = np.full((len(u), len(TIMES)), np.nan)
        for i, row in enumerate(u):
            try:
                g[i] = heated(row)
            except RuntimeError:
                continue
        return g

    centre = prior.whiten(prior.to_unconstrained(truth[None]))[0]
    return Case(problem, outputs, centre, 6_000)


def battery() -> Case:
    """The single-particle model of pybamm: a discharge that ends early has failed."""
    import pybamm
    from scipy import stats

    pybamm.set_logging_level("ERROR")
    names = {
        "negative diffusivity": "Negative particle diffusivity [m2.s-1]",
        "positive diffusivity": "Positive particle diffusivity [m2.s-1]",
        "negative fraction": "Negative electrode active material volume fraction",
        "positive fraction": "Positive electrode active material volume fraction",
    }
    values = pybamm.ParameterValues("Chen2020")
    truth = np.array([values[name] for name in names.values()])
    values.update(dict.fromkeys(names.values(), "[input]"))
    simulation = pybamm.Simulation(pybamm.lithium_ion.SPM(), parameter_values=values)
    times = np.linspace(0, 3400, 21)[1:]

    def model(u: np.ndarray) -> np.ndarray:
        solution = simulation.solve(
            [0, times[-1]], inputs=dict(zip(names.values(), u, strict=True))
        )
        if solution.t[-1] < times[-1]:
            raise RuntimeError(f"the discharge ended after {solution.t[-1]:.0f} s")
        return np.asarray(solution["Voltage [V]"](times))

    def outputs(u: np.ndarray) -> np.ndarray:
        g = np.full((len(u), len(times)), np.nan)
        for i, row in enumerate(u):
            try:
                g[i] = model(row)
            except (RuntimeError, pybamm.SolverError):
                continue
        return g

    widths, shifts = (0.7, 0.7, 0.15, 0.15), (1.3, 0.7, 0.97, 1.0)
    prior = ek.Prior(
        {
            name: stats.lognorm(width, scale=value * shift)
            for name, width, value, shift in zip(names, widths, truth, shifts, strict=True)
        }
    )
    noise = np.random.default_rng(2).normal(0, 0.01, len(times))
    problem = ek.InverseProblem(model, prior, 0.01**2, model(truth) + noise)
    centre = prior.whiten(prior.to_unconstrained(truth[None]))[0]
    return Case(problem, outputs, centre, 6_000)


CASES: dict[str, Callable[[], Case]] = {
    "hidden region": hidden_region,
    "edge": edge,
    "chance": chance,
    "thermal explosion": thermal_explosion,
    "battery": battery,
}


def reference(case: Case, rng: int = 1) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Means, standard deviations, effective number, and the share of the prior that fails."""
    stream, prior, problem = np.random.default_rng(rng), case.problem.prior, case.problem
    mean, root, freedom = case.centre, 0.3 * np.eye(len(case.centre)), 5
    for n in (case.n_reference // 4, case.n_reference // 4, case.n_reference):
        z = stream.standard_normal((n, len(mean)))
        z *= np.sqrt(freedom / stream.chisquare(freedom, n))[:, None]
        x = mean + z @ root.T
        u = prior.to_physical(prior.unwhiten(x))
        misfit = problem.noise.misfit(case.outputs(u), problem.data)
        log_weight = -misfit - 0.5 * np.sum(x * x, axis=1)
        log_weight += 0.5 * (freedom + len(mean)) * np.log1p(np.sum(z * z, axis=1) / freedom)
        log_weight[~np.isfinite(misfit)] = -np.inf
        weight = np.exp(log_weight - log_weight.max())
        weight /= weight.sum()
        mean = weight @ x
        root = 1.1 * np.linalg.cholesky((x - mean).T @ ((x - mean) * weight[:, None]))
    m = weight @ u
    sd = np.sqrt(weight @ (u - m) ** 2)
    share = np.isnan(case.outputs(prior.sample(2000, rng=3))).any(axis=1).mean()
    return m, sd, 1 / (weight @ weight), share


def errors(
    case: Case, method: Any, policy: str, seed: int, n: int, mean: np.ndarray, sd: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int, int, int]:
    """Errors of means and standard deviations, members left, model runs and those that failed."""
    result = ek.run(case.problem, method, n_members=n, rng=seed, on_failure=policy, store="last")
    table = ek.intervals(result)
    off = (table["mean"].values - mean) / sd
    n_left = int(np.isfinite(result.misfit[-1]).sum())
    failures = len(json.loads(result.attrs["failures"]))
    return off, table["sd"].values / sd - 1, n_left, result.attrs["model_runs"], failures


def main() -> None:
    """Print a table for each problem."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--members", type=int, default=200)
    parser.add_argument("--only", choices=CASES, help="one problem alone")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=POLICIES)
    options = parser.parse_args()
    head = f"{'method':<13}{'policy':<10}{'mean off':>14}{'sd off':>14}{'members':>9}{'runs':>7}"
    for name in [options.only] if options.only else list(CASES)[:4]:
        mean, sd, size, share = reference(CASES[name]())
        print(
            f"\n{name}: the model fails in {100 * share:.0f} % of the prior; reference with an "
            f"effective number of {size:.0f}\n{head}{'failed':>8}",
            flush=True,
        )
        for label in options.methods:
            method = METHODS[label]
            n = options.members * (3 if label == "TemperedSMC" else 1)
            for policy in options.policies:
                case, rows = CASES[name](), []
                for seed in range(options.seeds):
                    try:
                        rows.append(errors(case, method, policy, seed, n, mean, sd))
                    except ek.RunError as error:
                        print(f"{label} {policy} {seed}: {error}")
                if not rows:
                    continue
                off, ratio = (np.abs([row[i] for row in rows]).max(axis=1) for i in (0, 1))
                left, runs, failed = (int(np.median([row[i] for row in rows])) for i in (2, 3, 4))
                print(
                    f"{label:<13}{policy:<10}{np.median(off):7.2f} {off.max():6.2f}"
                    f"{np.median(ratio):7.2f} {ratio.max():6.2f}{left:5d}/{n}{runs:7d}{failed:8d}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
