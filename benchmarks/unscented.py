"""UKI: its fixed points on linear problems, and its model runs and errors on nonlinear problems.

    OMP_NUM_THREADS=1 python benchmarks/unscented.py [--linear | --nonlinear]

The first table has p = 6, d = 12 and p = 12, d = 6. It shows the largest difference of mean and
covariance at the fixed point from the exact posterior, and the number of steps until both are below
1e-6. The second table has the model runs, the error of the mean in posterior standard deviations
(root mean square over parameters) and the range of the ratios of standard deviations, in
coordinates in which the prior is N(0, I). References are fine grids for up to three parameters, and
TemperedSMC with 2000 members started from GNKI for lynx and hare and for Darcy flow. The step size
and the distance of the nodes were chosen on the problems above the line. The covariance of the
residuals of the linear map is not added to the noise. This was decided on lynx and hare: with the
covariance the run ends 6 standard deviations away from the posterior.
"""

from __future__ import annotations

import argparse

import numpy as np

import ekitools as ek

METHODS = {
    "UKI()": (ek.UKI(), None),
    "UKI(h=1)": (ek.UKI(h=1.0), None),
    "UKI('simplex')": (ek.UKI("simplex"), None),
    "UKI(centre='output')": (ek.UKI(centre="output"), None),
    "EKI(), J = 100": (ek.EKI(), 100),
    "GNKI(), J = 100": (ek.GNKI(), 100),
}
DAYS = np.array([0.5, 1.0, 2.0, 4.0])


def decay(u) -> np.ndarray:
    """Amplitude and rate of a decay, both by their logarithms."""
    return np.exp(u[:, :1] - np.exp(u[:, 1:]) * DAYS)


def logistic(u) -> np.ndarray:
    """Height, rate and middle of a logistic curve, the first two by their logarithms."""
    at = np.arange(8.0) - 4 - u[:, 2:]
    return np.exp(u[:, :1]) / (1 + np.exp(-np.clip(np.exp(u[:, 1:2]) * at, -700, 700)))


def problem(model, mean, variance, noise, data) -> ek.InverseProblem:
    """A problem of a vectorized model with an independent normal prior."""
    prior = ek.GaussianPrior(mean, np.full(len(mean), variance))
    return ek.InverseProblem(ek.FunctionModel(model, vectorized=True), prior, noise, data)


def small_problems() -> dict[str, ek.InverseProblem]:
    """Problems with one to three parameters."""
    return {
        "exp, datum 3": problem(np.exp, [0.0], 4.0, 0.01, [3.0]),
        "exp, datum 100": problem(np.exp, [0.0], 4.0, 0.01, [100.0]),
        "exp, datum 0.1": problem(np.exp, [0.0], 4.0, 0.01, [0.1]),
        "u^2": problem(np.square, [1.0], 1.0, 0.1, [2.0]),
        "decay": problem(decay, [0.0, 0.0], 0.5, 0.01, decay(np.array([[0.4, -0.3]]))[0]),
        "decay, noise 0.01": problem(
            decay, [0.0, 0.0], 4.0, 1e-4, decay(np.array([[0.9, -0.9]]))[0]
        ),
        "logistic": problem(
            logistic, [0.0] * 3, 1.0, 0.01, logistic(np.array([[1, 0.5, -1.0]]))[0]
        ),
    }


def by_grid(target) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviations of the posterior by two grids, the second around the first."""
    p = target.n_parameters
    n = {1: 20001, 2: 801, 3: 161}[p]
    axes = [np.linspace(-6, 6, n)] * p
    for _ in range(2):
        white = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, p)
        u = np.asarray(target.prior.to_physical(target.prior.unwhiten(white)))
        log = -target.noise.misfit(target.model(u), target.data) - 0.5 * np.sum(white**2, axis=1)
        weight = np.exp(log - log.max())
        weight /= weight.sum()
        mean = weight @ white
        sd = np.sqrt(weight @ (white - mean) ** 2)
        half = 7 * np.maximum(sd, 2e-3)
        axes = [np.linspace(m - s, m + s, n) for m, s in zip(mean, half, strict=True)]
    return mean, sd


def white_draws(result, prior) -> np.ndarray:
    """Draws of a result in coordinates in which the prior is N(0, I)."""
    u = np.stack([np.asarray(each) for each in ek.posterior(result).values()], axis=1)
    return np.asarray(prior.whiten(prior.to_unconstrained(u)))


def by_sampling(target) -> tuple[np.ndarray, np.ndarray]:
    """The same by TemperedSMC from GNKI."""
    quick = ek.run(target, ek.GNKI(), n_members=200, rng=1)
    start = ek.GaussianStart.from_ensemble(quick.u[-1], target.prior)
    method = ek.TemperedSMC(start=start)
    x = white_draws(ek.run(target, method, n_members=2000, rng=1, store="last"), target.prior)
    return x.mean(axis=0), x.std(axis=0)


def steps_needed(example, method) -> tuple[float, int | None]:
    """The largest error at the end, and the steps until it is below 1e-6."""
    mean, cov = example.extra["mean"], example.extra["cov"]
    state, first = method.init(method.nodes(example.problem), example.problem), None
    while True:
        error = max(abs(state.mean - mean).max(), abs(state.root @ state.root.T - cov).max())
        if first is None and error < 1e-6:
            first = state.n
        if method.finished(state):
            return error, first
        g = example.problem.model(state.ensemble)
        state, _ = method.tell(state, g, example.problem, rng=np.random.default_rng(0))


def linear_table() -> None:
    """Fixed points and steps."""
    print(f"{'p':>4}{'d':>4}  {'points':<11}{'h':>6}{'largest error':>16}{'steps to 1e-6':>15}")
    for p, d in ((6, 12), (12, 6)):
        example = ek.problems.linear(p=p, d=d)
        for points in ("symmetric", "simplex"):
            for h in (0.25, 1.0, 2.0, 3.0):
                method = ek.UKI(points, h=h, rtol=1e-13, max_steps=400)
                error, steps = steps_needed(example, method)
                print(f"{p:>4}{d:>4}  {points:<11}{h:>6}{error:>16.1e}{steps:>15}")


def row(name, target, reference) -> None:
    """All methods on one problem."""
    mean, sd = reference
    for label, (method, n_members) in METHODS.items():
        try:
            result = ek.run(target, method, n_members=n_members, rng=0)
        except ek.RunError:
            print(f"{name:<20}{label:<22}  the model fails at all nodes")
            continue
        x = white_draws(result, target.prior)
        off = np.sqrt(np.mean(((x.mean(axis=0) - mean) / sd) ** 2))
        ratio = x.std(axis=0, ddof=1) / sd
        print(
            f"{name:<20}{label:<22}{result.attrs['model_runs']:>6}{off:>10.3f}"
            f"{ratio.min():>8.2f} to {ratio.max():.2f}  {result.attrs['status_code']}",
            flush=True,
        )


def nonlinear_table() -> None:
    """Runs and errors."""
    print(f"{'problem':<20}{'method':<22}{'runs':>6}{'off, sd':>10}{'sd ratios':>16}")
    for name, target in small_problems().items():
        row(name, target, by_grid(target))
    print("-" * 80)
    larger = {
        "lynx and hare": ek.problems.lynx_hare().problem,
        "Darcy, 8 modes": ek.problems.darcy(n=16, n_modes=8, n_wells=16).problem,
    }
    for name, target in larger.items():
        row(name, target, by_sampling(target))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--linear", action="store_true", help="the first table alone")
    parser.add_argument("--nonlinear", action="store_true", help="the second table alone")
    options = parser.parse_args()
    if not options.nonlinear:
        linear_table()
    if not options.linear:
        nonlinear_table()


if __name__ == "__main__":
    main()
