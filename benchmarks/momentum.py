"""Momentum compared with plain EKI: steps to a given misfit, on a linear and a nonlinear problem.

    OMP_NUM_THREADS=1 python benchmarks/momentum.py [--seeds 10]

The linear model z = A u has 20 data and 10 parameters, and singular values from 1 to 0.01. The
nonlinear one is z + z^3/20. J = 30. A cell has the median over the seeds of the number of steps
until the misfit of the ensemble mean is at most 10, 1 and 0.1 above the smallest misfit (by scipy's
least_squares), and in brackets the number of seeds for which 300 steps were not enough.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from scipy.optimize import least_squares

import ekitools as ek

P, D, J, MOST = 10, 20, 30, 300
GAPS = (10.0, 1.0, 0.1)
STEPS = {"FixedStep(0.01)": ek.FixedStep(0.01), "NormStep(1)": ek.NormStep(1.0)}
MOMENTA = {
    "plain": None,
    "su": {},
    "su, restart": {"restart": True},
    "theta": {"momentum": "theta"},
    "theta, restart": {"momentum": "theta", "restart": True},
    "0.9": {"momentum": 0.9},
    "0.9, restart": {"momentum": 0.9, "restart": True},
}


def case(seed, nonlinear) -> tuple[Any, ...]:
    """A problem, and the smallest misfit."""
    rng = np.random.default_rng(seed)
    left, right = (np.linalg.qr(rng.normal(size=(n, P)))[0] for n in (D, P))
    matrix = left * np.logspace(0, -2, P) @ right.T

    def model(u) -> np.ndarray:
        z = u @ matrix.T
        return z + z**3 / 20 if nonlinear else z

    truth = rng.normal(size=P)
    y = model(truth) + 0.01 * rng.normal(size=D)
    problem = ek.InverseProblem(
        ek.FunctionModel(model, vectorized=True), ek.GaussianPrior(np.zeros(P), 1.0), 0.01**2, y
    )
    least = least_squares(lambda u: (model(u) - y) / 0.01, truth, xtol=1e-14, ftol=1e-14).cost
    return problem, model, least


def steps_taken(momentum, rule, seed, nonlinear) -> list[float]:
    """Steps to each misfit, by the ensemble mean; infinite if it is not reached."""
    problem, model, least = case(seed, nonlinear)
    method = ek.EKI(rule, t_end=None, perturbed=False)
    if momentum is not None:
        method = ek.Nesterov(method, **momentum)
    result = ek.run(problem, method, n_members=J, n_steps=MOST, rng=seed)
    means = result.u.mean("member").values
    gap = 0.5 * np.sum(((model(means) - problem.data) / 0.01) ** 2, axis=1) - least
    reached = [np.flatnonzero(gap <= each) for each in GAPS]
    return [float(each[0]) if each.size else np.inf for each in reached]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    for nonlinear in (False, True):
        print("\nnonlinear model" if nonlinear else "linear model")
        print(f"{'':<16}" + "".join(f"{name:^36}" for name in STEPS))
        print(f"{'momentum':<16}" + "".join(f"{gap:>12g}" for gap in GAPS) * len(STEPS))
        for name, momentum in MOMENTA.items():
            line = f"{name:<16}"
            for rule in STEPS.values():
                found = [steps_taken(momentum, rule, i, nonlinear) for i in range(options.seeds)]
                for each in np.array(found).T:
                    median, never = np.median(each), int(np.isinf(each).sum())
                    line += f"{median:8.0f}" + (f" ({never})" if never else "    ")
            print(line, flush=True)


if __name__ == "__main__":
    main()
