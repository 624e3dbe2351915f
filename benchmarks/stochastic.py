"""Stochastic models: methods and exact posteriors, with and without the noise of the model.

    python benchmarks/stochastic.py [--problem linear epidemic] [--seeds 5]

``linear`` is y = A u + omega + eta with two parameters, eight data, and equal variances of omega
and eta. Its posterior is known. ``epidemic`` is a chain-binomial SIR model of 5,000 people, 50 of
whom are infected at first. The parameters are the rates of infection and recovery per day. The data
are the square roots of the new cases of ten weeks, with a noise of 1. The reference is the
likelihood on a grid of both rates, by particle filters. Two independent filters give the error of
the reference, which is printed.

The noise of the model is estimated by 200 repeats at the mean of a run of `EKI` with the noise of
the observations. These runs are counted. *Worst mean* is the largest error of a mean in
posterior standard deviations, *sd ratios* is the range over the parameters. Both use averages over
the seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from posterior_problems import moments
from scipy import stats

import ekitools as ek

PEOPLE, FIRST, WEEKS, SD = 5000, 50, 10, 1.0
REPEATS, MEMBERS = 200, 300


class Case(NamedTuple):
    """A stochastic model, its data, and the moments of the exact posterior, ``(p, 2)``."""

    model: Any
    prior: Any
    gamma: float
    data: np.ndarray
    reference: np.ndarray

    def problem(self, noise: Any) -> Any:
        model = ek.FunctionModel(self.model, stochastic=True)
        return ek.InverseProblem(model, self.prior, noise, self.data)


def linear() -> Case:
    matrix, gamma = np.random.default_rng(1).standard_normal((8, 2)), 0.5
    noise = np.random.default_rng(2).standard_normal(8)
    data = matrix @ [1.0, -0.5] + np.sqrt(2 * gamma) * noise

    def model(u: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return matrix @ u + np.sqrt(gamma) * rng.standard_normal(8)

    cov = np.linalg.inv(np.eye(2) + matrix.T @ matrix / (2 * gamma))
    mean = cov @ matrix.T @ data / (2 * gamma)
    reference = np.column_stack([mean, np.sqrt(np.diag(cov))])
    return Case(model, ek.GaussianPrior(np.zeros(2), 1.0), gamma, data, reference)


class State(NamedTuple):
    """Rates and people, of any shape."""

    beta: Any
    gamma: Any
    susceptible: Any
    infected: Any


def start_of(beta: Any, gamma: Any) -> State:
    shape = np.shape(beta)
    return State(beta, gamma, np.full(shape, PEOPLE - FIRST), np.full(shape, FIRST))


def week_of(state: State, rng: np.random.Generator) -> tuple[State, np.ndarray]:
    """The state a week later, and the new cases."""
    beta, gamma, susceptible, infected = state
    recovers, cases = -np.expm1(-gamma), np.zeros(np.shape(beta))
    for _ in range(7):
        new = rng.binomial(susceptible, -np.expm1(-beta * infected / PEOPLE))
        infected = infected + new - rng.binomial(infected, recovers)
        susceptible = susceptible - new
        cases = cases + new
    return State(beta, gamma, susceptible, infected), cases


def cases_by_week(beta: Any, gamma: Any, rng: np.random.Generator) -> np.ndarray:
    """Square roots of the new cases of every week, ``(..., 10)``, for rates of any shape."""
    state, weeks = start_of(beta, gamma), []
    for _ in range(WEEKS):
        state, cases = week_of(state, rng)
        weeks.append(cases)
    return np.sqrt(np.stack(weeks, axis=-1))


def epidemic() -> Case:
    rng = np.random.default_rng(4)
    truth = np.array([0.35, 0.2])
    data = cases_by_week(*truth, rng) + SD * rng.standard_normal(WEEKS)
    prior = ek.Prior(
        {"beta": stats.lognorm(0.5, scale=0.3), "gamma": stats.lognorm(0.5, scale=0.2)}
    )
    reference = on_grid(data, truth)

    def model(u: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return cases_by_week(u[0], u[1], rng)

    return Case(model, prior, SD**2, data, reference)


def on_grid(data: np.ndarray, near: np.ndarray, n: int = 600) -> np.ndarray:
    """Moments by the likelihood at every point of a grid, from two filters of n particles."""
    beta = np.linspace(0.7, 1.4, 24) * near[0]
    gamma = np.linspace(0.5, 1.7, 24) * near[1]
    points = np.stack(np.meshgrid(beta, gamma, indexing="ij"), axis=-1).reshape(-1, 2)
    log_prior = np.sum(stats.lognorm(0.5, scale=[0.3, 0.2]).logpdf(points), axis=1)
    rng, both = np.random.default_rng(0), []
    for _ in range(2):
        log_weight = log_prior + [filtered(each, data, n, rng) for each in points]
        both.append(np.exp(log_weight - log_weight.max()))
    first, second, all_of_it = (moments(points, w / w.sum()) for w in (*both, sum(both)))
    apart = np.abs(first[:, 0] - second[:, 0]) / all_of_it[:, 1]
    ratio = first[:, 1] / second[:, 1]
    edge = sum(both).reshape(24, 24)
    outside = max(edge[0].sum(), edge[-1].sum(), edge[:, 0].sum(), edge[:, -1].sum()) / edge.sum()
    print(
        f"reference: filters {apart.max():.3f} sd apart, ratios of sd {ratio.min():.3f} to "
        f"{ratio.max():.3f}, {outside:.1e} of the posterior at an edge of the grid\n"
    )
    return all_of_it


def filtered(rates: np.ndarray, data: np.ndarray, n: int, rng: np.random.Generator) -> float:
    """Log-likelihood of the rates by a bootstrap particle filter (Gordon et al. 1993)."""
    state, total = start_of(np.full(n, rates[0]), np.full(n, rates[1])), 0.0
    for observed in data:
        state, cases = week_of(state, rng)
        log_weight = -0.5 * (np.sqrt(cases) - observed) ** 2 / SD**2
        weight = np.exp(log_weight - log_weight.max())
        total += log_weight.max() + np.log(weight.mean())
        chosen = rng.choice(n, n, p=weight / weight.sum())
        state = State(*(each[chosen] for each in state))
    return float(total)


def both_variances(case: Case, seed: int) -> tuple[Any, int]:
    """Noise of the observations and of the model at the mean of a first run, and its runs."""
    first = ek.run(case.problem(case.gamma), ek.EKI(), n_members=100, rng=seed)
    at = first.u[-1].mean("member").values
    rng = np.random.default_rng(seed)
    repeats = np.array([case.model(at, rng) for _ in range(REPEATS)])
    noise = ek.GaussianNoise.from_samples(repeats, diagonal=case.gamma)
    return noise, first.attrs["model_runs"] + REPEATS


def kalman(method: Any, case: Case, seed: int, *, both: bool) -> tuple[np.ndarray, int]:
    noise, runs = both_variances(case, seed) if both else (case.gamma, 0)
    found = ek.run(case.problem(noise), method, n_members=MEMBERS, rng=seed, evaluate_final=False)
    return moments(found.u[-1].values), runs + found.attrs["model_runs"]


def sampler(case: Case, seed: int, *, both: bool) -> tuple[np.ndarray, int]:
    noise, runs = both_variances(case, seed) if both else (case.gamma, 0)
    found = ek.run(
        case.problem(noise), ek.TemperedSMC(), n_members=1000, rng=seed, store="last"
    )  # fmt: skip
    weight = found.weight[-1].values
    return moments(found.u[-1].values, weight), runs + found.attrs["model_runs"]


def emulated(case: Case, seed: int, *, both: bool) -> tuple[np.ndarray, int]:
    """`EKI` with both variances, and an emulator with the noise of the row."""
    noise, runs = both_variances(case, seed)
    first = ek.run(case.problem(noise), ek.EKI(), n_members=MEMBERS, rng=seed)
    emulator = ek.emulate(first, case.problem(noise if both else case.gamma))
    start = ek.TemperedSMC(start=emulator.start)
    found = ek.run(emulator.as_problem(), start, n_members=2000, rng=seed, store="last")
    weight = found.weight[-1].values
    return moments(found.u[-1].values, weight), runs + first.attrs["model_runs"]


METHODS: dict[str, Callable[..., tuple[np.ndarray, int]]] = {
    "EKI(FixedStep(0.1))": partial(kalman, ek.EKI(ek.FixedStep(0.1))),
    "EKI()": partial(kalman, ek.EKI()),
    "ETKI(FixedStep(0.1))": partial(kalman, ek.ETKI(ek.FixedStep(0.1))),
    'GNKI(damping=0.2, draws="fresh")': partial(kalman, ek.GNKI(damping=0.2, draws="fresh")),
    "TemperedSMC()": sampler,
    "emulate, TemperedSMC": emulated,
}


def rows(case: Case, seeds: int) -> Iterator[str]:
    """Rows of a table."""
    yield "| method | noise | model runs | worst mean | sd ratios |"
    yield "|---|---|---|---|---|"
    mean, sd = case.reference.T
    for name, method in METHODS.items():
        for both in (True, False):
            found = [method(case, seed, both=both) for seed in range(seeds)]
            average = np.mean([each for each, _ in found], axis=0)
            worst = np.max(np.abs(average[:, 0] - mean) / sd)
            ratio = average[:, 1] / sd
            noise = "both" if both else "observations"
            yield (
                f"| `{name}` | {noise} | {np.median([runs for _, runs in found]):,.0f} | "
                f"{worst:.2f} | {ratio.min():.2f}-{ratio.max():.2f} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problem", choices=["linear", "epidemic"], nargs="+")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    for name in options.problem or ["linear", "epidemic"]:
        print(f"\n{name}\n")
        case = linear() if name == "linear" else epidemic()
        for row in rows(case, options.seeds):
            print(row, flush=True)


if __name__ == "__main__":
    main()
