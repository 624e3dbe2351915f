"""Digests of fixed-seed results, to compare two versions of ekitools bit by bit.

Run it with each version on the same machine, then compare the two outputs::

    python benchmarks/bitwise.py > before.txt
    python benchmarks/bitwise.py > after.txt
    diff before.txt after.txt

Each line is a name and sixteen digits of SHA-256 over all numeric variables of one result. It
covers every public method, flow, step rule, prior, noise and loss, and `ekitools.kalman_update`.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import stats

import ekitools as ek

SEED = 7


def digest(*arrays: Any) -> str:
    """Sixteen digits of SHA-256 over dtype, shape and bytes."""
    sha = hashlib.sha256()
    for array in map(np.asarray, arrays):
        sha.update(f"{array.dtype.str}{array.shape}".encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()[:16]


def of_result(result: Any) -> str:
    """The digest of the numeric variables of a result, and of its status code."""
    numeric = {n for n in result.data_vars if result[n].dtype.kind in "fiub"}
    names = sorted(numeric - {"history_objective"})  # version 0.1.0 did not report it
    code = np.frombuffer(result.attrs["status_code"].encode(), dtype=np.uint8)
    return digest(code, *(result[name].values for name in names))


def problems() -> dict[str, Any]:
    """Small problems: linear and nonlinear, several priors and noises, losses, batches."""
    matrix = np.random.default_rng(0).normal(size=(8, 3))
    truth = np.array([0.5, -1.0, 1.0])
    dense = 0.1 * np.eye(8) + 0.05
    named = ek.Prior({"a": stats.norm(0, 1), "b": stats.lognorm(0.5), "c": stats.uniform(-2, 4)})
    bent = ek.FunctionModel(lambda u: np.tanh(matrix @ u) + 0.1 * u[0] ** 2)
    x = np.linspace(-2, 2, 40)
    labels = (x > 0.3).astype(float)
    logistic = ek.LinearModel(np.stack([np.ones(40), x], axis=1))
    line = ek.FunctionModel(
        lambda u, inputs: u[:, :1] + u[:, 1:2] * inputs, vectorized=True, takes_inputs=True
    )
    field = ek.GaussianRandomField((8, 8), n_modes=3)
    one = ek.GaussianPrior(np.zeros(3), 1.0)
    two = ek.GaussianPrior([0.0, 0.0], 1.0)
    classes = np.eye(2)[(x > 0).astype(int)].ravel()
    soft = ek.FunctionModel(lambda u: np.stack([u[0] + u[1] * x, u[1] - u[0] * x], axis=1).ravel())
    return {
        "linear": ek.InverseProblem(ek.LinearModel(matrix), one, 0.1, matrix @ truth),
        "bent": ek.InverseProblem(bent, named, 0.05, np.tanh(matrix @ truth)),
        "dense": ek.InverseProblem(
            ek.LinearModel(matrix), ek.GaussianPrior(0.5, np.eye(3) + 0.3), dense, matrix @ truth
        ),
        "low-rank": ek.InverseProblem(
            ek.LinearModel(matrix), field, (np.full(8, 0.1), np.full((8, 1), 0.2)), matrix @ truth
        ),
        "huber": ek.InverseProblem(ek.LinearModel(matrix), one, ek.Huber(0.3), matrix @ truth),
        "binary": ek.InverseProblem(logistic, two, ek.BinaryCrossEntropy(), labels),
        "softmax": ek.InverseProblem(soft, two, ek.CrossEntropy(2), classes),
        "batches": ek.InverseProblem(line, two, 0.1, ek.MiniBatches(x, 1 + 2 * x, 10)),
        "online": ek.InverseProblem(line, two, 0.1, ek.OnlineData(x, 1 + 2 * x, 4)),
    }


def methods() -> dict[str, Any]:
    """Every public method, with the options that change its path."""
    return {
        "EKI": ek.EKI(),
        "EKI fixed": ek.EKI(ek.FixedStep(0.3), perturbed=False),
        "EKI ESMDA": ek.EKI(ek.ESMDA(4)),
        "EKI norm": ek.EKI(ek.NormStep(2.0, 0.5), t_end=None, perturbed=False),
        "EKI tikhonov": ek.EKI(ek.NormStep(), t_end=None, tikhonov=True),
        "EKI stop": ek.EKI(
            ek.FixedStep(1.0),
            t_end=None,
            stop=(ek.Discrepancy(1.2), ek.Collapsed(), ek.NoProgress()),
        ),
        "GNKI": ek.GNKI(),
        "TemperedSMC": ek.TemperedSMC(),
        "TemperedSMC pcn": ek.TemperedSMC((0.2, 1.0), resampling="residual", move="pcn"),
        "Nesterov EKI": ek.Nesterov(ek.EKI(ek.FixedStep(0.5), t_end=None, perturbed=False)),
    }


def learners() -> dict[str, Any]:
    """Methods for any loss."""
    return {
        "LossEKI": ek.LossEKI(),
        "LossEKI spread": ek.LossEKI(ek.NormStep(0.5), spread=ek.Spread(0.1), averaging=0.5),
        "LossEKI expand": ek.LossEKI(ek.NormStep(0.5), spread=ek.Spread(0.1), expand=((3, 30),)),
        "CurvatureEKI": ek.CurvatureEKI(memory=2, averaging=0.5),
        "Nesterov LossEKI": ek.Nesterov(ek.LossEKI(ek.NormStep(0.5), spread=ek.Spread(0.1))),
        "TemperedSMC": ek.TemperedSMC(),
    }


def cases() -> Iterator[tuple[str, str]]:
    """Names and digests."""
    known = problems()
    budget: dict[str, Any] = {"n_members": 24, "n_steps": 12, "rng": SEED}
    for name in ("linear", "bent", "dense", "low-rank"):
        for label, method in methods().items():
            yield f"run {name} {label}", of_result(ek.run(known[name], method, **budget))
    for name in ("linear", "huber", "binary", "softmax", "batches"):
        for label, method in learners().items():
            if (name, label) == ("batches", "TemperedSMC"):
                continue
            yield f"run {name} {label}", of_result(ek.run(known[name], method, **budget))
    online = ek.EKI(ek.FixedStep(1.0), t_end=None)
    yield "run online EKI", of_result(ek.run(known["online"], online, n_members=24, rng=SEED))
    lost = ek.InverseProblem(
        ek.FunctionModel(lambda u: np.full(2, np.nan) if u[0] > 1 else u[:2] ** 2),
        ek.GaussianPrior(np.zeros(3), 1.0), 0.1, [0.2, 0.4],
    )  # fmt: skip
    for policy in ("drop", "resample"):
        for label in ("EKI", "GNKI", "TemperedSMC"):
            result = ek.run(lost, methods()[label], on_failure=policy, **budget)
            yield f"failures {policy} {label}", of_result(result)
    flows: dict[str, Any] = {
        "EKIFlow": ek.EKIFlow(),
        "EKIFlow tikhonov": ek.EKIFlow(tikhonov=True),
        "NesterovFlow": ek.NesterovFlow(),
        "GradientFlow": ek.GradientFlow(),
        "NaturalGradientFlow": ek.NaturalGradientFlow(),
        "StochasticEKIFlow": ek.StochasticEKIFlow(),
        "EKSFlow": ek.EKSFlow(scheme="euler-maruyama"),
        "EKSFlow leimkuhler-matthews": ek.EKSFlow(),
    }
    for label, flow in flows.items():
        step = ek.FixedStep(0.1) if "Stochastic" in label or "EKS" in label else None
        result = ek.integrate(
            known["linear"], flow, t_span=(0, 1), n_members=12, rng=SEED, step=step
        )
        yield f"integrate {label}", of_result(result)
    result = ek.integrate(
        known["linear"], ek.EKIFlow(), t_span=(0, 100), n_members=12, rng=SEED, discrepancy=2.0
    )
    yield "integrate EKIFlow discrepancy", of_result(result)
    rng = np.random.default_rng(SEED)
    for shape in ((20, 5, 40), (40, 6, 5), (30, 8, 12)):
        j, p, d = shape
        u, g, y = rng.normal(size=(j, p)), rng.normal(size=(j, d)), rng.normal(size=d)
        for noise in (0.3, np.full(d, 0.2), 0.1 * np.eye(d) + 0.1):
            for dtype in (np.float64, np.float32):
                new = ek.kalman_update(
                    u.astype(dtype), g.astype(dtype), y.astype(dtype), noise, step=0.5,
                    noise_draw=rng.normal(size=(j, d)).astype(dtype),
                )  # fmt: skip
                yield f"kalman_update {shape} {np.ndim(noise)} {dtype.__name__}", digest(new)


def main() -> None:
    """Print all."""
    warnings.simplefilter("ignore")
    with np.errstate(all="ignore"):
        for name, value in cases():
            print(f"{value}  {name}", flush=True)


if __name__ == "__main__":
    main()
