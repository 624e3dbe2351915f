"""Two posteriors of ordinary differential equations, with references, for `posterior_runs.py`.

``pk`` is a one-compartment model with first-order absorption and a lag: after a dose D by mouth,
A′ = −ka A and C′ = (ka A − CL C)/V from t = lag on. Its closed form (the Bateman function) is used.
The parameters ka, CL, V and the lag are log-normal, and twelve concentrations are known to ±0.5 mg/L.
``lynx_hare`` is `ek.problems.lynx_hare` with σ = 0.25.

    python benchmarks/posterior_problems.py

prints the references and checks each by two other samplers: importance sampling with two million
draws, which gave the stored numbers of ``pk``, and `TemperedSMC`. Takes about three minutes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy import stats

import ekitools as ek

try:
    from numba import njit
except ImportError:  # then the model is NumPy's, and slower for few members
    njit = None

HOURS = np.array([0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 9.0, 12.0, 24.0])
DOSE, NOISE = 320.0, 0.5
TRUTH = np.array([1.5, 2.8, 32.0, 0.3])
PRIOR = {"ka": 1.0, "CL": 3.0, "V": 30.0, "lag": 0.25}
"""Medians; the standard deviation of every logarithm is 0.5."""

PK_REFERENCE: dict[str, tuple[float, float]] = {}


class Case(NamedTuple):
    """A problem that counts its model runs, and its posterior."""

    name: str
    problem: Any
    reference: np.ndarray
    """Means and standard deviations of the posterior, ``(p, 2)``, in physical coordinates."""
    counted: Counted


class Counted:
    """A model of all members at once that counts them."""

    def __init__(self, model: Any) -> None:
        self.model, self.runs = model, 0

    def __call__(self, u: np.ndarray) -> np.ndarray:
        self.runs += len(u)
        return self.model(u)


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
    reference = np.array([PK_REFERENCE.get(name, (np.nan, np.nan)) for name in PRIOR])
    return Case("pk", problem, reference, counted)


def lynx_hare() -> Case:
    example = ek.problems.lynx_hare(sigma=0.25)
    solved = example.problem
    counted = Counted(solved.model if njit is None else _compiled(solved))
    model = ek.FunctionModel(counted, vectorized=True)
    problem = ek.InverseProblem(model, solved.prior, solved.noise, solved.data)
    known = example.extra["fixed_sigma"]
    reference = np.array([known[name] for name in solved.parameter_names or ()])
    return Case("lynx_hare", problem, reference, counted)


CASES = {"pk": pk, "lynx_hare": lynx_hare}


def _compiled(problem: Any) -> Any:
    """The Lotka–Volterra model of the package, compiled, which is checked here."""

    @njit(error_model="numpy")
    def solve(u: np.ndarray) -> np.ndarray:
        years, steps = 20, 80
        h = 1 / steps
        out = np.empty((u.shape[0], 2 * (years + 1)))
        for j in range(u.shape[0]):
            a, b, c, d = u[j, 0], u[j, 1], u[j, 2], u[j, 3]
            x, y = np.log(u[j, 4]), np.log(u[j, 5])
            out[j, 0], out[j, 1] = x, y
            for year in range(1, years + 1):
                for _ in range(steps):
                    p1, q1 = a - b * np.exp(y), d * np.exp(x) - c
                    p2 = a - b * np.exp(y + 0.5 * h * q1)
                    q2 = d * np.exp(x + 0.5 * h * p1) - c
                    p3 = a - b * np.exp(y + 0.5 * h * q2)
                    q3 = d * np.exp(x + 0.5 * h * p2) - c
                    p4, q4 = a - b * np.exp(y + h * q3), d * np.exp(x + h * p3) - c
                    x += h / 6 * (p1 + 2 * (p2 + p3) + p4)
                    y += h / 6 * (q1 + 2 * (q2 + q3) + q4)
                out[j, 2 * year], out[j, 2 * year + 1] = x, y
        return out

    u = problem.prior.sample(20, rng=0)
    np.testing.assert_allclose(solve(u), problem.model(u), rtol=1e-6)
    return solve


def importance(case: Case, n: int, seed: int = 0) -> tuple[np.ndarray, float]:
    """Moments ``(p, 2)`` by a Student t about a refined ensemble, and the share of useful draws."""
    problem, prior = case.problem, case.problem.prior
    near = ek.run(problem, ek.GNKI(), n_members=500, rng=seed, evaluate_final=False)
    z = prior.to_unconstrained(near.u[-1].values)
    proposal = stats.multivariate_t(z.mean(axis=0), 1.5 * np.cov(z.T), df=5)
    draws = proposal.rvs(n, random_state=seed)
    u = prior.to_physical(draws)
    log_weight = np.concatenate(
        [-problem.noise.misfit(problem.model(part), problem.data) for part in np.array_split(u, 100)]
    )
    log_weight += stats.norm.logpdf(prior.whiten(draws)).sum(axis=1) - proposal.logpdf(draws)
    log_weight = np.where(np.isfinite(log_weight), log_weight, -np.inf)
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    mean = weight @ u
    moments = np.column_stack([mean, np.sqrt(weight @ (u - mean) ** 2)])
    return moments, float(1 / (weight @ weight) / n)


def main() -> None:
    for make in CASES.values():
        case = make()
        by_importance, share = importance(case, 2_000_000)
        result = ek.run(case.problem, ek.TemperedSMC(), n_members=20_000, rng=0, store="last")
        u, weight = result.u[-1].values, result.weight[-1].values
        mean = weight @ u
        print(f"{case.name}: {100 * share:.0f} % of the weighted draws count")
        print("            stored mean, sd        importance sampling    TemperedSMC, mean off in sd")
        for i, name in enumerate(case.problem.parameter_names or ()):
            (m, s), (a, b) = case.reference[i], by_importance[i]
            print(
                f"{name:>8} {m:11.6g} {s:10.5g} {a:11.6g} {b:10.5g} {(mean[i] - a) / b:+10.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
