"""Sparse inversion: which of 20 coefficients are found from 15 data, with which error and cost.

    python benchmarks/sparsity.py [--seeds 10]

Three coefficients are not zero: 2, -1.5 and 1. The seed draws their places, the matrix and the
data. The noise is 0.05. The error is the distance of the ensemble mean from the truth. "exact" is
the share of seeds that keep exactly the right three. The last rows of the linear model are the same
rounds by Kalman algebra without an ensemble (runs/J are then rounds), and the posterior mean with
known places of the right three. The last table has the nonlinear model G(u) = A u + (A u)^3/20 of
the same sizes.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import numpy as np

import ekitools as ek

P, D, NOISE, J = 20, 15, 0.05, 100
METHODS = {
    "GNKI": ek.GNKI(),
    "Sparse(GNKI)": ek.Sparse(ek.GNKI()),
    "  all 40 rounds": ek.Sparse(ek.GNKI(), rtol=1e-9),
    "  warm=False": ek.Sparse(ek.GNKI(), warm=False),
    "Sparse(ETKI)": ek.Sparse(ek.ETKI()),
    "Sparse(EKI)": ek.Sparse(ek.EKI()),
}


def case(seed, nonlinear=False) -> tuple[Any, ...]:
    """A problem, and its truth."""
    rng = np.random.default_rng(seed)
    matrix, truth = rng.normal(size=(D, P)), np.zeros(P)
    truth[rng.choice(P, 3, replace=False)] = 2.0, -1.5, 1.0

    def model(u) -> np.ndarray:
        linear = u @ matrix.T
        return linear + linear**3 / 20 if nonlinear else linear

    y = model(truth) + NOISE * rng.normal(size=D)
    problem = ek.InverseProblem(
        ek.FunctionModel(model, vectorized=True), ek.GaussianPrior(np.zeros(P), 1.0), NOISE**2, y
    )
    return problem, truth, matrix


def posterior(matrix, y, variances) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variances of the posterior of a linear model, by the Kalman formula."""
    scaled = variances[:, None] * matrix.T
    gain = scaled @ np.linalg.inv(matrix @ scaled + NOISE**2 * np.eye(D))
    return gain @ y, variances - np.sum(gain * scaled, axis=1)


def of_three(seed) -> tuple[Any, ...]:
    """As `by_algebra`, with the right three known."""
    problem, truth, matrix = case(seed)
    mean, _ = posterior(matrix, problem.data, (truth != 0).astype(float))
    return np.linalg.norm(mean - truth), 3, True, 0, True


def by_algebra(seed, rtol) -> tuple[Any, ...]:
    """Error, number kept, whether these are right, rounds, and whether the variances settled."""
    problem, truth, matrix = case(seed)
    y, variances = problem.data, np.ones(P)
    for rounds in range(1, 16):  # noqa: B007 - their number is returned
        mean, variance = posterior(matrix, y, variances)
        new, kept = mean**2 + variance, np.abs(mean) > 0.1
        change, variances = np.max(np.abs(np.log(new / variances))[kept]), new
        if change <= rtol:
            break
    right = np.array_equal(kept, truth != 0)
    return np.linalg.norm(mean - truth), kept.sum(), right, rounds, change <= rtol


def measured(method, seed, nonlinear) -> tuple[Any, ...]:
    """Error, number kept, whether these are right, model runs a member, whether settled."""
    problem, truth, _ = case(seed, nonlinear)
    result = ek.run(problem, method, n_members=J, rng=seed)
    mean = result.u[-1].mean("member").values
    kept = np.abs(mean) > 0.1
    if "parameter_kept" in result:
        kept = result.parameter_kept[-1].values.astype(bool)
    right = np.array_equal(kept, truth != 0)
    evaluations = result.attrs["model_runs"] / J
    settled = result.attrs["status_code"] == "prior_settled"
    return np.linalg.norm(mean - truth), kept.sum(), right, evaluations, settled


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    for nonlinear in (False, True):
        print("\nnonlinear model" if nonlinear else "linear model")
        heads = ("error", "largest", "kept", "exact", "runs/J", "settled")
        print(f"{'method':<22}" + "".join(f"{head:>9}" for head in heads))
        calls = {
            name: partial(measured, each, nonlinear=nonlinear) for name, each in METHODS.items()
        }
        if not nonlinear:
            calls |= {"Kalman algebra": partial(by_algebra, rtol=ek.Sparse(ek.GNKI()).rtol)}
            calls |= {"  15 rounds of it": partial(by_algebra, rtol=1e-9)}
            calls |= {"the right three known": of_three}
        for name, call in calls.items():
            rows = [call(seed=seed) for seed in range(options.seeds)]
            error, kept, right, runs, settled = np.array(rows, dtype=float).T
            print(
                f"{name:<22}{np.median(error):9.3f}{error.max():9.3f}{kept.mean():9.1f}"
                f"{right.mean():9.2f}{runs.mean():9.1f}{settled.mean():9.2f}",
                flush=True,
            )
            print("    errors: " + " ".join(f"{each:.3f}" for each in error), flush=True)


if __name__ == "__main__":
    main()
