"""Results that all tests of plots share; every figure is closed after its test."""

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest

import ekitools as ek
from ekitools.theory.rows import Report, judged


@pytest.fixture(scope="session")
def problem():
    return ek.problems.linear(p=4, d=12, rng=1).problem


@pytest.fixture(scope="session")
def result(problem):
    return ek.run(problem, ek.EKI(ek.FixedStep(0.25)), n_members=60, rng=0)


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


@pytest.fixture(scope="session")
def measured(problem, result):
    y = np.random.default_rng(0).normal(size=50)
    sampler = ek.run(problem, ek.TemperedSMC(), n_members=40, rng=0)
    return {
        "comparison": ek.compare({"EKI": result, "SMC": sampler}, sampler),
        "calibration": ek.calibration(np.zeros((1, 50)), y, 0.5),
        "sampler": sampler,
    }


@pytest.fixture(scope="session")
def report():
    return Report(
        (
            judged("rate", "a", "t^(-1)", "t^(-0.97)", 0.3),
            judged("identity", "a", "error < 1e-8", "1e-15", 1e-7),
            judged("wrong", "b", "error < 1e-8", "1", 1e8),
            judged("unknown", "b", "ratio > 1", "nan", np.nan),
        )
    )
