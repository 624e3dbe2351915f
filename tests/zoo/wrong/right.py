"""Right values for the calls of the sweep: a problem that counts its model runs, and results."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

import ekitools as ek

A = np.array([[1.0, 0.5], [0.0, 2.0], [1.0, 1.0]])
DATA = np.array([1.0, -0.5, 0.2])
MEMBERS = np.random.default_rng(0).normal(size=(6, 2))
OUTPUTS = MEMBERS @ A.T
POINTS = np.random.default_rng(1).normal(size=(6, 2))
PREDICTIONS = np.random.default_rng(2).normal(size=(20, 3))
REPEATS = np.random.default_rng(3).normal(size=(50, 2))
DATES = np.array(["2020-01-01", "2020-01-02", "2020-01-04"], dtype="M8[D]")
LAPLACIAN = np.array([[1.0, -1.0, 0.0], [-1.0, 2.0, -1.0], [0.0, -1.0, 1.0]])

RUNS: list[Any] = []
"""The parameters of every model run of `problem`."""


def model(u: Any) -> Any:
    RUNS.append(u)
    return A @ u


def taking(u: Any, inputs: Any) -> Any:
    RUNS.append(u)
    return u[0] + 0 * np.asarray(inputs)


@cache
def problem() -> Any:
    prior = ek.GaussianPrior([0.0, 0.0], 1.0)
    return ek.InverseProblem(ek.FunctionModel(model), prior, 0.1, DATA)


class Declared(ek.LinearModel):
    """A model that says how many outputs it has, and counts its runs too."""

    def __call__(self, u: Any) -> Any:
        RUNS.append(u)
        return super().__call__(u)


@cache
def linear() -> Any:
    """A problem with a matrix, which the theory needs."""
    return ek.InverseProblem(ek.LinearModel(A), ek.GaussianPrior([0.0, 0.0], 1.0), 0.1, DATA)


@cache
def result() -> Any:
    return ek.run(problem(), ek.EKI(), n_members=8, n_steps=3, rng=0)


@cache
def emulator() -> Any:
    """Of the cheapest regressor: the sweep makes an emulator of every right value."""
    return ek.emulate(result(), problem(), Linear())


class Linear:
    """Least squares, with the scatter of the residuals."""

    def fit(self, x: Any, y: Any) -> None:
        rows = np.column_stack([np.ones(len(x)), x])
        self.slopes = np.linalg.lstsq(rows, y, rcond=None)[0]
        self.sd = float(np.std(y - rows @ self.slopes)) + 1e-3

    def predict(self, x: Any, return_std: bool = False) -> Any:
        mean = np.column_stack([np.ones(len(x)), x]) @ self.slopes
        return (mean, np.full(len(x), self.sd)) if return_std else mean


@cache
def gaussian_result() -> Any:
    return ek.run(problem(), ek.UKI(), rng=0)


@cache
def flow() -> Any:
    times = [0.0, *np.geomspace(1, 1e5, 11)]
    options = {"t_eval": times, "method": "LSODA", "rtol": 1e-10, "atol": 1e-12}
    return ek.integrate(linear(), ek.EKIFlow(), t_span=(0, 1e5), n_members=8, rng=0, **options)


@cache
def comparison() -> Any:
    return ek.compare({"EKI": result()}, (np.zeros(2), np.eye(2)))


@cache
def calibration() -> Any:
    return ek.calibration(PREDICTIONS, DATA, 1.0)


@cache
def theorems() -> Any:
    return ek.theory.check_linear_theory(flow(), linear())


@cache
def scratch() -> Path:
    """A folder to write in, which is removed at the end of the process."""
    folder = tempfile.mkdtemp(prefix="ekitools-wrong-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@cache
def checkpoint() -> Path:
    path = scratch() / "checkpoint"
    ek.run(problem(), ek.EKI(), n_members=6, n_steps=2, rng=0, checkpoint=path)
    return path


def loop() -> Any:
    return ek.AskTell(problem(), ek.EKI(), n_members=6, rng=0)


@cache
def labelled() -> Any:
    observed = xr.DataArray([1.0, 2.0], {"site": ["a", "b"]}, name="y")
    return ek.XarrayModel(lambda p: p.shift + p.slope + 0 * observed, ["shift", "slope"], observed)


@cache
def prior() -> Any:
    return ek.GaussianPrior([0.0, 0.0], 1.0)


@cache
def marginals() -> Any:
    return ek.Prior({"a": stats.norm(), "b": stats.uniform(0, 1)})


class Own(ek.BasePrior):
    """A prior of a user."""

    def forward(self, z: Any) -> Any:
        return 2 * z

    def inverse(self, u: Any) -> Any:
        return u / 2

    def log_density(self, u: Any) -> Any:
        return stats.norm(0, 2).logpdf(u).sum(axis=1)


@cache
def joint() -> Any:
    return ek.JointPrior({"a": ek.GaussianPrior(0.0, [1.0]), "b": ek.Prior({"b": stats.norm()})})


@cache
def hierarchy() -> Any:
    return ek.Hierarchical(stats.norm(), stats.halfnorm(), 1)


@cache
def field() -> Any:
    return ek.GaussianRandomField((3, 4), n_modes=2)


@cache
def cells() -> Any:
    return ek.GaussianRandomField((2,), transform="exp", parameters="values")


@cache
def wells() -> Any:
    return ek.MaternField([0.0, 1.0], length=1.0, transform="exp", parameters="values")


@cache
def graph() -> Any:
    return ek.GraphField(LAPLACIAN, n_modes=2)


@cache
def net() -> Any:
    from torch import nn

    return nn.Linear(2, 1)


@cache
def torch_model() -> Any:
    return import_module("ekitools.adapters.torch").TorchModel(net())


def apply(params: Any, x: Any) -> Any:
    return x @ params["w"] + params["b"]


def params() -> Any:
    return {"b": np.zeros(1, np.float32), "w": np.zeros((2, 1), np.float32)}


@cache
def jax_model() -> Any:
    return import_module("ekitools.adapters.jax").JaxModel(apply, params())


@cache
def served() -> Any:
    adapter = import_module("ekitools.adapters.umbridge")
    return adapter.ServedModel(ek.FunctionModel(model), "x", (3, 2))


def write(folder: Any, parameters: Any) -> None:
    """Write no input file: then no argument needs to name a parameter."""
