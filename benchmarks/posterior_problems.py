"""Two posteriors of ordinary differential equations, with references, for `posterior_runs.py`.

``pk`` is a one-compartment model with first-order absorption and a lag: after a dose D by mouth,
A' = -ka A and C' = (ka A - CL C)/V from t = lag on. The model is its closed form (the Bateman
function). The parameters ka, CL, V and lag have log-normal priors. The data are twelve
concentrations with a noise of 0.5 mg/L. ``lynx_hare`` is `ek.problems.lynx_hare` with sigma = 0.25.

    python benchmarks/posterior_problems.py

compares the stored references with two other samplers, importance sampling and `TemperedSMC` with
20,000 particles. Importance sampling with two million draws gave the stored moments of ``pk``. The
last line has the error of as many independent draws of the posterior in the table of
`posterior_runs.py`. The script takes about two minutes, and ten times as long without numba (which
pymc installs).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats
from scipy.special import ndtr, ndtri

import ekitools as ek

try:
    from numba import njit
except ImportError:  # the NumPy model is slower for single members
    njit = None

HOURS = np.array([0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 9.0, 12.0, 24.0])
DOSE, NOISE = 320.0, 0.5
TRUTH = np.array([1.5, 2.8, 32.0, 0.3])
PRIOR = {"ka": 1.0, "CL": 3.0, "V": 30.0, "lag": 0.25}
"""Medians. The standard deviation of every logarithm is 0.5."""

PK_REFERENCE = {
    "ka": (1.2444, 0.21005),
    "CL": (3.1743, 0.26125),
    "V": (29.167, 1.8485),
    "lag": (0.26350, 0.048182),
}


class Counted:
    """A vectorized model that counts its runs."""

    def __init__(self, model: Any) -> None:
        self.model, self.runs = model, 0

    def __call__(self, u: np.ndarray) -> np.ndarray:
        self.runs += len(u)
        return self.model(u)


@dataclass(frozen=True)
class Case:
    """A problem, the number of its model runs, and the moments of its posterior.

    z are the coordinates in which the prior is N(0, I). Other packages work in them.
    """

    name: str
    problem: Any
    reference: np.ndarray
    """Means and standard deviations of the physical parameters, ``(p, 2)``."""
    counted: Counted
    physical: Callable[[np.ndarray], np.ndarray]
    """z to physical parameters, with the map of the prior, but faster for one member."""

    def __post_init__(self) -> None:
        z = np.random.default_rng(0).standard_normal((20, self.p))
        np.testing.assert_allclose(self.whitened(self.physical(z)), z, atol=1e-8)

    @property
    def p(self) -> int:
        return len(self.reference)

    def whitened(self, u: np.ndarray) -> np.ndarray:
        prior = self.problem.prior
        return prior.whiten(prior.to_unconstrained(u))

    def outputs(self, z: np.ndarray) -> np.ndarray:
        """``(n, p)`` to ``(n, d)``: one model run a row."""
        return self.counted(self.physical(z))

    def log_likelihood(self, z: np.ndarray) -> np.ndarray:
        """``(n, p)`` to ``(n,)``: one model run a row."""
        problem = self.problem
        with np.errstate(over="ignore", invalid="ignore"):
            value = -np.asarray(problem.noise.misfit(self.outputs(z), problem.data))
        return np.where(np.isfinite(value), value, -1e30)


def concentrations(u: np.ndarray) -> np.ndarray:
    """``(J, 4)`` (ka, CL, V, lag) to ``(J, 12)`` concentrations in mg/L."""
    ka, clearance, volume, lag = u.T[..., None]
    ke = clearance / volume
    t = np.maximum(HOURS - lag, 0.0)
    apart = ka - ke
    apart = np.where(np.abs(apart) < 1e-8 * ka, 1e-8 * ka, apart)
    return DOSE * ka / (volume * apart) * np.exp(-ke * t) * -np.expm1(-apart * t)


def pk() -> Case:
    rng = np.random.default_rng(0)
    data = concentrations(TRUTH[None])[0] + NOISE * rng.standard_normal(HOURS.size)
    prior = ek.Prior({name: stats.lognorm(0.5, scale=median) for name, median in PRIOR.items()})
    counted = Counted(concentrations)
    model = ek.FunctionModel(counted, vectorized=True)
    problem = ek.InverseProblem(model, prior, NOISE**2, data)
    medians = np.array(list(PRIOR.values()))
    reference = np.array([PK_REFERENCE[name] for name in PRIOR])
    return Case("pk", problem, reference, counted, lambda z: medians * np.exp(0.5 * z))


def lynx_hare() -> Case:
    example = ek.problems.lynx_hare(sigma=0.25)
    given = example.problem
    counted = Counted(given.model if njit is None else _compiled(given))
    model = ek.FunctionModel(counted, vectorized=True)
    problem = ek.InverseProblem(model, given.prior, given.noise, given.data)
    known = example.extra["fixed_sigma"]
    reference = np.array([known[name] for name in given.parameter_names])
    mean, sd = np.array([1.0, 0.05, 1.0, 0.05]), np.array([0.5, 0.05, 0.5, 0.05])
    above = ndtr(mean / sd)  # the mass that remains after truncation at 0

    def physical(z: np.ndarray) -> np.ndarray:
        rates = mean - sd * ndtri(ndtr(-z[:, :4]) * above)
        return np.hstack([rates, 10.0 * np.exp(z[:, 4:])])

    return Case("lynx_hare", problem, reference, counted, physical)


CASES = {"pk": pk, "lynx_hare": lynx_hare}


def _compiled(problem: Any) -> Any:
    """The Lotka-Volterra model of the package, compiled by numba and compared with it.

    The Runge-Kutta scheme is applied to the populations, and not to their logarithms, to save time.
    """

    @njit(error_model="numpy")
    def solve(u: np.ndarray) -> np.ndarray:
        years, steps = 20, 80
        h = 1 / steps
        out = np.empty((u.shape[0], 2 * (years + 1)))
        for j in range(u.shape[0]):
            a, b, c, d = u[j, 0], u[j, 1], u[j, 2], u[j, 3]
            x, y = u[j, 4], u[j, 5]
            out[j, 0], out[j, 1] = np.log(x), np.log(y)
            for year in range(1, years + 1):
                for _ in range(steps):
                    p1, q1 = x * (a - b * y), y * (d * x - c)
                    v, w = x + 0.5 * h * p1, y + 0.5 * h * q1
                    p2, q2 = v * (a - b * w), w * (d * v - c)
                    v, w = x + 0.5 * h * p2, y + 0.5 * h * q2
                    p3, q3 = v * (a - b * w), w * (d * v - c)
                    v, w = x + h * p3, y + h * q3
                    p4, q4 = v * (a - b * w), w * (d * v - c)
                    x += h / 6 * (p1 + 2 * (p2 + p3) + p4)
                    y += h / 6 * (q1 + 2 * (q2 + q3) + q4)
                out[j, 2 * year], out[j, 2 * year + 1] = np.log(x), np.log(y)
        return out

    u = problem.prior.sample(20, rng=0)
    np.testing.assert_allclose(solve(u), problem.model(u), atol=1e-3)  # the noise is 0.25
    return solve


def moments(u: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Means and standard deviations ``(p, 2)`` of draws ``(n, p)``."""
    weight = np.full(len(u), 1 / len(u)) if weight is None else weight
    mean = weight @ u
    return np.column_stack([mean, np.sqrt(weight @ (u - mean) ** 2)])


def importance(case: Case, n: int, seed: int = 0) -> tuple[np.ndarray, float]:
    """Moments ``(p, 2)`` by a Student t about a refined ensemble, and the effective share."""
    near = ek.run(case.problem, ek.GNKI(), n_members=500, rng=seed, evaluate_final=False)
    z = case.whitened(near.u[-1].values)
    proposal = stats.multivariate_t(z.mean(axis=0), 1.5 * np.cov(z.T), df=5)
    draws = proposal.rvs(n, random_state=seed)
    log_weight = np.concatenate([case.log_likelihood(part) for part in np.array_split(draws, 100)])
    log_weight += stats.norm.logpdf(draws).sum(axis=1) - proposal.logpdf(draws)
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    return moments(case.physical(draws), weight), float(1 / (weight @ weight) / n)


def error_of_draws(case: Case, u: np.ndarray, weight: np.ndarray, n: int) -> float:
    """Median of the largest error of a mean of n independent draws, in standard deviations."""
    drawn = np.random.default_rng(0).choice(len(u), (1000, n), p=weight)
    off = (u[drawn].mean(axis=1) - case.reference[:, 0]) / case.reference[:, 1]
    return float(np.median(np.max(np.abs(off), axis=1)))


def main() -> None:
    for make, n_draws in ((pk, 2_000_000), (lynx_hare, 500_000)):
        case = make()
        by_importance, share = importance(case, n_draws)
        smc = ek.run(case.problem, ek.TemperedSMC(), n_members=20_000, rng=0, store="last")
        by_smc = moments(smc.u[-1].values, smc.weight[-1].values)
        print(f"{case.name}: effective share of the {n_draws:,} draws {share:.2f}")
        print(f"{'':>8}{'stored mean':>13}{'sd':>10} | others: mean off in sd, ratio of sd")
        for i, name in enumerate(case.problem.parameter_names):
            mean, sd = case.reference[i]
            others = "".join(
                f"{(found[i, 0] - mean) / sd:+10.3f}{found[i, 1] / sd:8.3f}"
                for found in (by_importance, by_smc)
            )
            print(f"{name:>8}{mean:13.5g}{sd:10.5g} |{others}")
        errors = (
            f"{n}: {error_of_draws(case, smc.u[-1].values, smc.weight[-1].values, n):.3f}"
            for n in (100, 200, 400)
        )
        print(f"median error of independent draws: {', '.join(errors)}", flush=True)


if __name__ == "__main__":
    main()
