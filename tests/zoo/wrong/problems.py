"""Rows of the table: problems, models, priors, noises and losses."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

import ekitools as ek
from zoo.wrong import right
from zoo.wrong.kinds import (
    CHOICE,
    COUNT,
    COVARIANCE,
    FLAG,
    FUNCTION,
    KEPT,
    NAMES,
    NUMBER,
    OF_ARGUMENTS,
    POSITIVE,
    RNG,
    SD,
    SHARE,
    SIZE_OR_NAMES,
    TEXT,
    TRANSFORM,
    anything,
    array,
    elsewhere,
    integer,
    kind,
    made,
    nothing,
    optional,
)
from zoo.wrong.table import DISTRIBUTION, LABELLED, NOISE, PRIOR, swept

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
    data=array(3, sized=False)
    .but("dict", "masked array", "array with NaN")  # a block, and gaps
    .also({}, {"a": "x"}, {"a": None}, {"a": {}}, {"a": []}, {3: [1.0]}, {"": [1.0]})
    .also({"a": [math.inf]}, {"a": [math.nan]}, [math.nan, math.nan, math.nan])
    .also([1.0, math.inf, math.nan], {"a": [[1.0], [1.0, 2.0]]}, xr.Dataset({"a": ("x", ["b"])}))
    .also(xr.DataArray(["a", "b", "c"]), xr.DataArray([1.0, math.inf, 0.0]), pd.Series(["a"])),
    noise_sd=elsewhere(),
    parameter_names=optional(NAMES).but(
        # become texts such as "1.0, 2.0"
        *("list of texts", "array of texts", "ragged list", "complex array"),
    ),
    data_names=optional(NAMES),
)
swept(
    "InverseProblem(noise_sd=)",
    lambda: {
        "model": ek.FunctionModel(right.model),
        "prior": right.prior(),
        "data": right.DATA,
        "noise_sd": 1.0,
    },
    noise_sd=SD.also([1.0], {"a": 1.0}, {"y": [1.0, 1.0, 1.0]}, ek.GaussianNoise(1.0)),
)
BY_BLOCK = {"a": [1.0, 2.0], "b": [3.0]}
for each in ("noise", "noise_sd"):
    swept(
        f"InverseProblem({each}=) by block",
        lambda each=each: {
            "model": ek.FunctionModel(right.model),
            "prior": right.prior(),
            "data": BY_BLOCK,
            each: {"a": 1.0, "b": 1.0},
        },
        **{
            each: (SD if each == "noise_sd" else NOISE).also(
                *({"a": 1.0}, {"a": 1.0, "b": 1.0, "c": 1.0}, {"a": 1.0, "b": -1.0}),
                *({"a": 1.0, "b": "x"}, {"a": [1.0], "b": 1.0}, {"a": 1.0, "b": None}),
                *({"a": [1.0, math.nan], "b": 1.0}, {"a": 1.0, "b": {}}, {}),
            )
        },
    )
swept(
    "Observation",
    {"data": right.DATA, "noise": np.eye(3)},
    data=array(3, sized=False, gaps=True)
    .but("dict", "masked array", "array with NaN")  # a block, and gaps
    .also({}, {"a": "x"}, {"a": None}, {3: [1.0]}, [math.nan], [1.0, math.inf], pd.Series(["a"])),
    noise=optional(NOISE),
    noise_sd=elsewhere(),
    inputs=optional(array(3, sized=False))
    .but("zero", "minus one", "2.5", "five by five")
    .but("array of 5 dimensions"),
    name=optional(TEXT),
)
swept(
    "Observation(noise_sd=)",
    {"data": right.DATA, "noise_sd": 1.0},
    noise_sd=SD.also([1.0], {"a": 1.0}, ek.GaussianNoise(1.0)),
)
swept(
    "ObservationSeries",
    lambda: {"observations": [ek.Observation([1.0], 1.0), ek.Observation([2.0], 1.0)]},
    observations=made(
        "observations",
        lambda: ek.Observation,
        lambda: ek.Observation([1.0], 1.0),
        lambda: [ek.Observation([1.0], 1.0), 1.0],
        lambda: [ek.Observation([1.0], name="a"), ek.Observation([1.0], name="a")],
        lambda: [ek.Observation([1.0], inputs=[1.0]), ek.Observation([1.0])],
        lambda: right.DATA,
    ),
    size=integer(1, 2),
    order=CHOICE,
    remainder=CHOICE,
    passes=optional(COUNT),
)
swept(
    "UnknownNoise",
    lambda: {"prior": stats.lognorm(1.0)},
    prior=DISTRIBUTION.also(stats.norm(), {"a": stats.norm()}, {"a": 1.0}, {}),
    shape=anything("it is checked with the data, when the problem is made"),
    blocks=anything("they are checked with the data, when the problem is made"),
    variance=elsewhere(),
)
swept(
    "UnknownNoise(variance=)",
    lambda: {"variance": stats.lognorm(1.0)},
    variance=DISTRIBUTION.also(stats.norm(), {"a": stats.norm()}, {"a": 1.0}, {}),
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
    "LinearModel.rows",
    {"kept": [True, False, True]},
    _of=lambda: ek.LinearModel(right.A),
    kept=KEPT,
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

BOUND = kind("bound", *([0.5], np.ones(2), "0.5", np.array(["1"]), (0.5, 1.0)))
swept(
    "GaussianPrior",
    {"mean": [0.0, 0.0], "cov": [1.0, 1.0]},
    mean=array(2).but("zero", "minus one", "2.5"),
    cov=COVARIANCE,
)
swept(
    "Prior",
    lambda: {"marginals": {"a": stats.norm(), "b": stats.norm()}},
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
    correlation=optional(COVARIANCE.without("2.5"))
    .but("Dataset")  # an empty mapping
    .also(np.eye(3), 2 * np.eye(2), {("a", "x"): 0.5}, {("a", "b"): 2.0}, {("a", "b"): "x"})
    .also({"ab": 0.5}, {("a", "a"): 1.0}, {("a",): 1.0}, {("a", "b"): 0.5, ("b", "a"): 0.5}),
)
swept(
    "Prior.from_samples",
    {"samples": right.REPEATS},
    samples=array(50, 2, sized=False)
    .without("five by five")  # too few
    .also({}, {"a": right.REPEATS[:, 0], "b": [1.0]}, {"a": ["x"] * 50}, {"a": None})
    .also({"a": np.ones(50)}, {"a": np.full(50, math.nan)})
    .also(right.REPEATS[0], right.REPEATS[:, :0], xr.Dataset({"a": ("x", ["b"] * 50)})),
    weights=optional(array(50)).also(-np.ones(50), np.zeros(50)),
    names=optional(NAMES).but("list of texts", "array of texts"),
    bounds=optional(
        kind(
            "bounds",
            *(
                {"u0": (9.0, -9.0)},
                {"u0": 9.0},
                {"x": (-9.0, 9.0)},
                [(-9.0, 9.0)],
                "u0",
                stats.norm(),
            ),
            *(
                {"u0": (-9.0,)},
                {"u0": ("a", "b")},
                {"u0": (math.nan, 9.0)},
                {"u0": None},
                {0: (0, 1)},
            ),
            *({"u0": (None, 9.0)}, {"u0": (1j, 9.0)}, ek.GaussianPrior(0.0, np.ones(3)), ek.Prior),
        )
    ).but("Dataset"),  # an empty mapping
)
swept(
    "bounded",
    {"mean": 0.3, "sd": 0.1, "lower": -2.0, "upper": 3.0},
    mean=NUMBER.also(-2.0, 3.0, 4.0),
    sd=POSITIVE.without("2.5").also(10.0),
    lower=BOUND.but("minus infinity", "minus one", "zero").also(1.0, 3.0, 4.0),
    upper=BOUND.but("infinity", "2.5").also(-2.0, -3.0, 0.2),
)
swept(
    "balanced_ensemble",
    lambda: {"prior": right.prior(), "n_members": 5},
    prior=PRIOR,
    n_members=integer(2),
    rng=RNG,
)
swept(
    "BasePrior",
    {"parameters": 2},
    _of=lambda: SimpleNamespace(BasePrior=right.Own),
    parameters=SIZE_OR_NAMES,
)
swept(
    "JointPrior",
    lambda: {"parts": {"a": right.prior()}},
    parts=made(
        "priors by name",
        lambda: {"a": 1.0},
        lambda: {"a": stats.norm()},
        lambda: {"a": ek.GaussianPrior},
        lambda: {3: right.prior()},
        lambda: {"": right.prior()},
        lambda: {"a": None},
        lambda: [("a", right.prior())],
        right.prior,
        dict,
        lambda: (
            {"a": ek.Prior({"b": stats.norm()}), "a.b": ek.GaussianPrior(0.0, [1.0])}
            | {"c": ek.Prior({"b": stats.norm()})}
        ),
    ),
)
swept(
    "Dirichlet",
    {"alpha": [1.0, 1.0, 1.0]},
    alpha=array(3, sized=False).also([1.0], [1.0, 0.0], [1.0, -1.0], 2.5, [[1.0, 1.0]]),
    names=optional(NAMES).also(["a", "b"], {"a", "b", "c"}, {"a": 1, "b": 2, "c": 3}, "abc"),
)
swept(
    "Ordered",
    lambda: {"distribution": stats.norm(), "parameters": 2},
    distribution=DISTRIBUTION,
    parameters=SIZE_OR_NAMES,
)
swept(
    "Hierarchical",
    lambda: {"mean": stats.norm(), "sd": stats.halfnorm(), "members": 2},
    mean=DISTRIBUTION,
    sd=DISTRIBUTION.also(stats.norm(), stats.uniform(-1, 2)),
    members=SIZE_OR_NAMES.also(["mean"], ["sd", "a"]),
    transform=TRANSFORM,
)
swept(
    "MaternField",
    {"points": right.POINTS, "length": 1.0},
    points=array(6, 2, sized=False).but("five numbers"),
    length=kind("length", -0.5, [], [1.0, 1.0, 1.0], [1.0, -1.0], "0.5", [[1.0]], right=("2.5",)),
    nu=POSITIVE,
    sd=POSITIVE,
    mean=NUMBER,
    n_modes=optional(integer(1, 6)),
    transform=TRANSFORM,
    parameters=CHOICE.also("modes", "Values"),
)
swept(
    "MaternField(values)",
    {"points": right.POINTS, "length": 1.0, "parameters": "values"},
    points=array(6, 2, sized=False).but("five numbers").also([0.0, 0.0], np.arange(5001.0)),
    n_modes=optional(integer(1, 6)).also(3),
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
    transform=TRANSFORM,
    lengths=kind(
        "lengths", -0.5, [], [1.0, 1.0, 1.0], [1.0, -1.0], "0.5", [[1.0]], 1e-300, right=("2.5",)
    ),
    parameters=CHOICE.also("modes", "Values"),
)
swept(
    "GaussianRandomField(values)",
    {"shape": (3, 4), "parameters": "values"},
    alpha=POSITIVE.also(1, 0.5, 40.0),
    tau=POSITIVE,
    n_modes=optional(integer(1, 12)).also(3),
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
    transform=TRANSFORM,
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
    "BasePrior": lambda: right.Own(2),
    "JointPrior": right.joint,
    "Dirichlet": lambda: ek.Dirichlet([1.0, 1.0, 1.0]),
    "Ordered": lambda: ek.Ordered(stats.norm(), 2),
    "Hierarchical": right.hierarchy,
    "GaussianRandomField": right.field,
    "GraphField": right.graph,
    "MaternField": lambda: ek.MaternField([0.0, 1.0], length=1.0),
}
MAPS = {"to_physical": "z", "to_unconstrained": "u", "whiten": "z", "unwhiten": "w"}
for each, of in PRIORS.items():
    p = 3 if each == "Hierarchical" else 2
    rows = array(6, p, lists=False)
    rows = rows.but("array with NaN") if p == 2 else rows  # NaN rows stay NaN rows
    for name, argument in MAPS.items():
        swept(f"{each}.{name}", {argument: np.full((6, p), 0.5)}, _of=of, **{argument: rows})
    swept(f"{each}.logpdf", {"u": [0.1, 0.2, 0.3][:p]}, _of=of, u=array(p))
    for name in ("sample", "sample_unconstrained"):
        swept(f"{each}.{name}", {"n": 2}, _of=of, n=COUNT, rng=RNG)
    if hasattr(getattr(ek, each), "support"):
        position = integer(-p, p - 1).but("zero", "minus one")
        swept(f"{each}.support", {"parameter": 0}, _of=of, parameter=position)
swept(
    "JointPrior.split",
    {"u": right.MEMBERS},
    _of=right.joint,
    u=array(6, 2, lists=False).but("array with NaN"),
)
swept(
    "Dirichlet.shares",
    {"u": right.MEMBERS},
    _of=PRIORS["Dirichlet"],
    u=array(6, 2, lists=False).but("array with NaN"),
)
swept("GaussianRandomField.field", {"u": [0.1, 0.2]}, _of=right.field, u=array(2))
swept(
    "GaussianRandomField.coefficients",
    {"field": np.ones((3, 4))},
    _of=right.field,
    field=array(3, 4),
)
for each, of in (("GaussianRandomField", right.cells), ("MaternField", right.wells)):
    rows = array(6, 2, lists=False).but("array with NaN")
    for name, argument in MAPS.items():
        swept(
            f"{each}.{name}(values)", {argument: np.full((6, 2), 0.5)}, _of=of, **{argument: rows}
        )
    swept(f"{each}.logpdf(values)", {"u": [0.1, 0.2]}, _of=of, u=array(2))
    swept(f"{each}.field(values)", {"u": [0.1, 0.2]}, _of=of, u=array(2))
for each in ("GraphField", "MaternField"):
    swept(f"{each}.field", {"u": [0.1, 0.2]}, _of=PRIORS[each], u=array(2))

# Noises and losses

swept(
    "GaussianNoise",
    {"cov": [0.1]},
    cov=COVARIANCE.but("five numbers", "five by five"),
    sd=elsewhere(),
)
swept("GaussianNoise(sd=)", {"sd": 1.0}, sd=SD.but("five numbers"))
swept(
    "GaussianNoise.from_samples",
    {"samples": right.REPEATS, "diagonal": 0.1},
    samples=array(50, 2, sized=False).also(
        right.REPEATS[:1], right.REPEATS[:, :0], np.ones((9, 2))
    ),
    rank=optional(integer(1, 2)),
    diagonal=optional(array(2)).but("2.5").also([-1.0, 1.0], [0.0, 1.0], 0.0, -0.5),
    shrinkage=optional(CHOICE),
)
swept(
    "GaussianNoise.correlated",
    {"sd": 1.0, "coordinates": [0.0, 1.0, 3.0], "length": 1.0},
    sd=SD,
    coordinates=kind(
        "coordinates",
        *([0.0, 0.0, 1.0], ["2020-01-01"], np.ones((3, 2, 1)), 2.5, [[]], [0.0, 1j], [0.0, "a"]),
        *([None, 1.0], np.array([0.0, {}], dtype=object), [0.0, math.inf], np.ones(3)),
        *(np.array(["2020-01-01", "NaT"], dtype="M8[D]"), np.ma.masked_array([1.0, 2.0], [0, 1])),
        right=("five numbers", "five by five", "array of dates"),
    ),
    length=POSITIVE,
    kernel=CHOICE,
    nugget=SHARE.but("zero"),
)
swept(
    "GaussianNoise.correlated(length=)",
    {"sd": 1.0, "coordinates": right.DATES, "length": np.timedelta64(1, "D")},
    length=kind(
        "duration",
        *(-0.5, "1 day", np.timedelta64(0, "D"), np.timedelta64(-1, "D"), np.timedelta64(1, "M")),
        *(np.timedelta64("NaT"), np.timedelta64(3), [np.timedelta64(1, "D")], dt.timedelta(0)),
        right=("duration",),
    ),
)
swept(
    "BlockNoise",
    {"blocks": [0.1, [1.0, 2.0]], "sizes": [3, 2]},
    blocks=kind(
        "noises",
        *({}, {"a": "x", "b": 1.0}, {"a": None, "b": 1.0}, {"a": -1.0, "b": 1.0}, 0.1),
        *([0.1, ek.GaussianNoise], [0.1, ek.Huber(1.0)], [0.1, [1.0, -1.0]], ek.GaussianNoise(1.0)),
        *({0.1, 0.2}, ("a", "b"), np.ones((2, 2, 2)), "ab", 1j),
        right=(  # the sizes do not fit
            *("ragged list", "five numbers", "five by five", "dict"),
        ),
    ),
    sizes=kind(
        "sizes",
        *(
            [3],
            [3, 3],
            [0, 2],
            [3.0, 2],
            ["3", 2],
            {"x": 3},
            {0: -1},
            {0: 3, 5: 1},
            3,
            "32",
            {3, 2},
        ),
        *([3, 2, 1], {0: None}, [None, 2], {1: 2}, [True, 2], [[3], 2]),
    ),
)
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
    "BlockNoise": lambda: ek.BlockNoise([0.1, np.eye(2)], sizes={0: 1}),
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
for each in ("GaussianNoise", "BlockNoise"):
    of = LOSSES[each]
    swept(f"{each}.whiten", {"r": right.OUTPUTS}, _of=of, r=OUTPUTS)
    swept(f"{each}.marginal", {"kept": [True, False, True]}, _of=of, kept=KEPT)
    swept(
        f"{each}.sample",
        {"n": 2, "n_data": 3},
        _of=of,
        n=COUNT,
        rng=RNG,
        n_data=optional(integer(3, 3)),
    )
UPDATED = {"u": right.MEMBERS, "g": right.OUTPUTS, "data": right.DATA}
swept("kalman_update(noise_sd=)", {**UPDATED, "noise_sd": 1.0}, noise_sd=SD.also([1.0]))
swept(
    "kalman_update",
    {**UPDATED, "noise": np.eye(3)},
    u=array(6, 2, lists=False, sized=False),
    g=array(6, 3, lists=False),
    data=array(3),
    noise=NOISE.also(ek.Huber(1.0)),
    step=POSITIVE,
    noise_draw=optional(array(6, 3, lists=False)),
    noise_sd=elsewhere(),
)
ANALYSED = {"g": right.OUTPUTS, "data": right.DATA, "analysis": "perturbed"}
swept("kalman_coefficients(noise_sd=)", {**ANALYSED, "noise_sd": 1.0}, noise_sd=SD.also([1.0]))
swept(
    "kalman_coefficients",
    {**ANALYSED, "noise": np.eye(3)},
    g=array(6, 3, lists=False),
    data=array(3),
    noise=NOISE.also(ek.Huber(1.0)),
    step=POSITIVE,
    analysis=CHOICE,
    rng=RNG,
    noise_draw=optional(array(6, 3, lists=False)),
    noise_sd=elsewhere(),
)
swept(
    "apply_update",
    {"coefficients": np.zeros((6, 6)), "source": right.MEMBERS},
    coefficients=array(6, 6).also(np.eye(6)),
    source=array(6, 2, lists=False, sized=False),
    target=optional(array(6, 2, lists=False)).also(right.MEMBERS.astype(np.float32)),
    block=optional(COUNT),
    progress=FLAG,
)
