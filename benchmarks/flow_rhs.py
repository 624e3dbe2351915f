"""The right-hand side of the ensemble Kalman flow, compared with unavoidable matrix products.

    python benchmarks/flow_rhs.py [--threads 1] [--repeats 15]

The floor of a row is timed in the same process, alternating with each candidate. It is the product
of gradients and outputs, (J, d) with (d, J), into an existing array, and the product of the (J, J)
weights with the ensemble, into a new array. The columns are ratios of medians to that floor. The
first column is `EKIFlow().acceleration` with given outputs and gradients. The second column is the
function that solve_ivp calls, with a model without cost (its outputs were computed before), and
with the checks of the outputs, the gradient of the misfit and the memory of the last ensemble. The
third column is a direct implementation in NumPy. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable
from typing import Any

from timing import timed

SIZES = [(10_000, 1_000, 200), (1_000, 10_000, 200), (100_000, 100, 100), (100, 1_000, 100)]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=15)
    return parser.parse_args()


def slope_of(ek, problem, u) -> Callable[[], Any]:
    """The function that solve_ivp calls, with another ensemble each time."""
    from scipy.integrate import RK45

    taken = []

    class Taker(RK45):
        def __init__(self, fun, *args, **options) -> None:
            taken.append(fun)
            raise ek.RunError

    with contextlib.suppress(ek.RunError):
        ek.integrate(problem, ek.EKIFlow(), t_span=(0, 1), ensemble=u, method=Taker)
    states = [u.ravel(), (1.5 * u).ravel()]

    def call() -> Any:
        states.reverse()
        return taken[0](0.5, states[0])

    return call


def main() -> None:
    options = arguments()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(options.threads)
    import numpy as np

    import ekitools as ek
    from ekitools.flows.right_hand_sides import Output

    print(f"float64, {options.threads} thread(s), median of {options.repeats}")
    print(f"{'(p, d, J)':>24} {'floor ms':>9} {'ekitools':>9} {'slope':>9} {'NumPy':>9}")
    for p, d, n in SIZES:
        rng = np.random.default_rng(0)
        u, g = rng.standard_normal((n, p)), rng.standard_normal((n, d))
        y = rng.standard_normal(d)
        model = ek.FunctionModel(lambda u: g, vectorized=True)  # noqa: B023
        problem = ek.InverseProblem(model, ek.GaussianPrior(np.zeros(p), 1.0), 0.5, y)
        out = Output(g, problem.noise.gradient(g, y))
        gram = np.empty((n, n))

        def floor() -> Any:
            np.matmul(out.gradient, g.T, out=gram)  # noqa: B023
            return gram @ u  # noqa: B023

        def plain() -> Any:
            weights = out.gradient @ (g - g.mean(0)).T  # noqa: B023
            return -(weights / n) @ (u - u.mean(0))  # noqa: B023

        candidates = [
            lambda: ek.EKIFlow().acceleration(0.0, u, out, problem),  # noqa: B023
            slope_of(ek, problem, u),
            plain,
        ]
        pairs = [timed([floor, other], options.repeats) for other in candidates]
        ratios = " ".join(f"{b / a:9.2f}" for a, b in pairs)
        print(f"{(p, d, n)!s:>24} {1e3 * pairs[0][0]:9.2f} {ratios}", flush=True)


if __name__ == "__main__":
    main()
