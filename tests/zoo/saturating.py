"""A small run that takes several steps, for tests of checkpoints: model, problem and options."""

import numpy as np

import ekitools as ek

MATRIX = np.random.default_rng(0).normal(size=(6, 3))
METHOD = ek.EKI(ek.FixedStep(0.15))
OPTIONS = {"n_members": 5, "rng": 0}


def model(u):
    return np.tanh(MATRIX @ u)


def problem(fn=model):
    prior = ek.GaussianPrior(np.zeros(3), 1.0)
    return ek.InverseProblem(ek.FunctionModel(fn), prior, 0.01, model(np.ones(3)))


def never(u):
    raise AssertionError("the model was run")
