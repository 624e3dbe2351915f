"""Rows of the table: problems, models, priors, noises and losses."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

import ekitools as ek
from zoo.wrong import right
from zoo.wrong.kinds import (
    COUNT,
    COVARIANCE,
    FLAG,
    FUNCTION,
    NAMES,
    NUMBER,
    OF_ARGUMENTS,
    POSITIVE,
    RNG,
    array,
    integer,
    kind,
    made,
    nothing,
    optional,
)
from zoo.wrong.table import LABELLED, NOISE, PRIOR, swept

# Problems and models

swept(
    "InverseProblem",
    lambda: {
        "model": ek.FunctionModel(right.model),
        "prior": right.prior(),
        "noise": np.eye(3),
        "data": right.DATA,
    },
    model=made(
        "model",
        lambda: ek.LinearModel,
        lambda: ek.LinearModel(np.eye(2)),
        lambda: right.A,
        lambda: [right.model],
        lambda: ek.FunctionModel(abs, takes_inputs=True),
        right=("function",),
    ),
    prior=PRIOR,
    noise=NOISE,
    data=array(3, sized=False),
    parameter_names=optional(NAMES).but(
        # become texts such as "1.0, 2.0"
        *("list of texts", "array of texts", "ragged list", "complex array"),
    ),
    data_names=optional(NAMES),
)
for each in ("MiniBatches", "OnlineData"):
    swept(
        each,
        {"inputs": np.arange(6.0), "targets": np.arange(6.0), "size": 2},
        inputs=array(6),
        targets=array(6),
        size=integer(1, 6),
        **({"shuffle": FLAG} if each == "MiniBatches" else {"passes": COUNT, "repeats": COUNT}),
    )
swept(
    "FunctionModel",
    {"fn": right.model},
    fn=FUNCTION,
    vectorized=FLAG,
    stochastic=FLAG,
    takes_inputs=FLAG,
)
swept("LinearModel", {"A": right.A}, A=array(3, 2, sized=False))
swept(
    "LinearModel.adjoint",
    {"r": right.DATA},
    _of=lambda: ek.LinearModel(right.A),
    r=array(3, lists=False),
)
swept(
    "XarrayModel",
    lambda: {
        "function": lambda parameters: None,
        "parameters": ["a"],
        "observations": xr.DataArray([1.0], dims="x"),
    },
    function=OF_ARGUMENTS.also(nothing),
    parameters=kind(
        "names",
        ["a", "a"],
        ["a", 3],
        [b"a"],
        ("a", None),
        [""],
        # one name, and the keys of a mapping
        right=("list of texts", "text", "number as text", "array of texts", "dict"),
    ),
    observations=made(
        "labelled arrays",
        lambda: np.ones(2),
        lambda: [1.0],
        lambda: xr.DataArray(["x"]),
        lambda: xr.DataArray([1j]),
        lambda: xr.DataArray([math.nan]),
        lambda: xr.DataArray([1.0, 2.0], {"x": [1, 1]}),
        lambda: xr.DataArray,
    ),
    stochastic=FLAG,
)
for name, value in {
    "flatten": xr.DataArray([1.0, 2.0], {"site": ["a", "b"]}),
    "flatten_parameters": xr.Dataset({"shift": 1.0, "slope": 2.0}),
}.items():
    swept(f"XarrayModel.{name}", {"labelled": value}, _of=right.labelled, labelled=LABELLED)
for name in ("unflatten", "unflatten_parameters"):
    swept(
        f"XarrayModel.{name}",
        {"values": [1.0, 2.0]},
        _of=right.labelled,
        values=array(2).but("array with NaN").also(xr.DataArray([1.0, 2.0], dims="site")),
    )

# Priors

swept(
    "GaussianPrior",
    {"mean": [0.0, 0.0], "cov": [1.0, 1.0]},
    mean=array(2).but("zero", "minus one", "2.5"),
    cov=COVARIANCE,
)
swept(
    "Prior",
    lambda: {"marginals": {"a": stats.norm()}},
    marginals=made(
        "marginals",
        lambda: {"a": 1.0},
        lambda: {"a": stats.norm},
        lambda: {"a": stats.poisson(1.0)},
        lambda: {"a": "normal"},
        lambda: {3: stats.norm()},
        lambda: {"": stats.norm()},
        lambda: [("a", stats.norm())],
        lambda: {"a": stats.norm([0.0, 1.0])},
        lambda: {"a": stats.norm(math.nan)},
    ),
)
swept(
    "GaussianRandomField",
    {"shape": (3, 4)},
    shape=kind(
        "shape",
        *(4, (4.0, 4), ("4", 4), (1, 4), (0,), (-4,), (True, 4), [[4, 4]], (2, 2, 2, 2), (4, None)),
    ),
    alpha=POSITIVE.also(1, 0.5),
    tau=POSITIVE.but("zero"),
    sd=POSITIVE,
    mean=NUMBER,
    n_modes=optional(integer(1, 12)),
)
swept(
    "GraphField",
    {"laplacian": right.LAPLACIAN},
    laplacian=array(3, 3)
    .but("five by five")
    .also(np.eye(3)[:2], -right.LAPLACIAN, np.triu(right.LAPLACIAN)),
    alpha=POSITIVE,
    tau=POSITIVE,
    sd=POSITIVE,
    mean=NUMBER,
    n_modes=optional(integer(1, 3)),
)
swept(
    "graph_laplacian",
    {"points": right.POINTS, "n_neighbours": 2},
    points=array(6, 2, sized=False),
    n_neighbours=integer(1, 5),
)

PRIORS: dict[str, Callable[[], Any]] = {
    "GaussianPrior": right.prior,
    "Prior": right.marginals,
    "GaussianRandomField": right.field,
    "GraphField": right.graph,
}
MAPS = {"to_physical": "z", "to_unconstrained": "u", "whiten": "z", "unwhiten": "w"}
ROWS = array(6, 2, lists=False).but("array with NaN")  # NaN rows stay NaN rows
for each, of in PRIORS.items():
    for name, argument in MAPS.items():
        swept(f"{each}.{name}", {argument: np.full((6, 2), 0.5)}, _of=of, **{argument: ROWS})
    swept(f"{each}.logpdf", {"u": [0.1, 0.2]}, _of=of, u=array(2))
    for name in ("sample", "sample_unconstrained"):
        swept(f"{each}.{name}", {"n": 2}, _of=of, n=COUNT, rng=RNG)
swept(
    "Prior.support",
    {"parameter": 0},
    _of=right.marginals,
    parameter=integer(-2, 1).but("zero", "minus one"),
)
swept("GaussianRandomField.field", {"u": [0.1, 0.2]}, _of=right.field, u=array(2))
swept(
    "GaussianRandomField.coefficients",
    {"field": np.ones((3, 4))},
    _of=right.field,
    field=array(3, 4),
)
swept("GraphField.field", {"u": [0.1, 0.2]}, _of=right.graph, u=array(2))

# Noises and losses

swept("GaussianNoise", {"cov": [0.1]}, cov=COVARIANCE.but("five numbers", "five by five"))
swept("BinaryCrossEntropy", logits=FLAG)
swept("CrossEntropy", {"n_classes": 3}, n_classes=integer(2), logits=FLAG)
swept("Huber", {"scale": 1.0}, scale=POSITIVE, delta=POSITIVE)
swept(
    "FunctionLoss",
    {"misfit": max, "gradient": max},
    misfit=OF_ARGUMENTS.also(nothing),
    gradient=OF_ARGUMENTS.also(nothing),
)
LOSSES: dict[str, Callable[[], Any]] = {
    "GaussianNoise": lambda: ek.GaussianNoise(np.eye(3)),
    "Huber": lambda: ek.Huber(1.0),
    "BinaryCrossEntropy": ek.BinaryCrossEntropy,
    "CrossEntropy": lambda: ek.CrossEntropy(3),
}
OUTPUTS = array(6, 3, lists=False).but("array with NaN")  # of failed members
for each, of in LOSSES.items():
    right_call = {"z": np.full((6, 3), 0.5), "y": np.array([1.0, 0.0, 0.0])}
    y = array(3).but() if each == "CrossEntropy" else array(3).but("zero", "minus one", "2.5")
    for name in ("misfit", "gradient"):
        swept(f"{each}.{name}", right_call, _of=of, z=OUTPUTS, y=y)
    swept(
        f"{each}.curvature_product",
        {**right_call, "f": right.OUTPUTS},
        _of=of,
        z=OUTPUTS,
        y=y,
        f=OUTPUTS,
    )
    if "Entropy" in each:
        swept(
            f"{each}.check_data",
            {"data": right_call["y"]},
            _of=of,
            data=array(3, sized=each == "CrossEntropy").also([2.0, 0.0, -1.0]),
        )
swept(
    "GaussianNoise.whiten",
    {"r": right.OUTPUTS},
    _of=LOSSES["GaussianNoise"],
    r=OUTPUTS,
)
swept(
    "GaussianNoise.sample",
    {"n": 2, "n_data": 3},
    _of=LOSSES["GaussianNoise"],
    n=COUNT,
    rng=RNG,
    n_data=optional(integer(3, 3)),
)
swept(
    "kalman_update",
    {"u": right.MEMBERS, "g": right.OUTPUTS, "data": right.DATA, "noise": np.eye(3)},
    u=array(6, 2, lists=False, sized=False),
    g=array(6, 3, lists=False),
    data=array(3),
    noise=NOISE.also(ek.Huber(1.0)),
    step=POSITIVE,
    noise_draw=optional(array(6, 3, lists=False)),
)
