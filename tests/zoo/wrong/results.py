"""Rows of the table: what is read from results, and plots."""

from __future__ import annotations

import math

import numpy as np

import ekitools as ek
from zoo.wrong import right
from zoo.wrong.kinds import (
    AXES,
    CHOICE,
    COUNT,
    FUNCTION,
    NAMES,
    PATH,
    RNG,
    SHARE,
    TEXT,
    Kind,
    anything,
    array,
    elsewhere,
    integer,
    kind,
    made,
    optional,
)
from zoo.wrong.methods import DRIVEN
from zoo.wrong.table import LABELLED_MODEL, NOISE, PROBLEM, RESULT, swept

ITERATION = integer(None, 1000).also(-1000)
AFTERWARDS = {"result": RESULT, "problem": optional(PROBLEM)}
COMPARISON = made(
    "comparison",
    right.result,
    lambda: right.comparison().drop_vars("mean_error_rms"),
    lambda: [right.comparison()],
    lambda: {"a": right.comparison()},
)


def given():
    return {"result": right.result()}


swept(
    "posterior",
    given,
    result=RESULT,
    iteration=ITERATION,
    model=LABELLED_MODEL,
    rng=RNG,
)
swept(
    "prior_samples",
    lambda: {"problem": right.problem(), "n": 2},
    problem=PROBLEM,
    n=COUNT,
    model=LABELLED_MODEL,
    rng=RNG,
)
swept("intervals", given, result=RESULT, prob=SHARE, problem=optional(PROBLEM))
PREDICTED = {
    "result": RESULT,
    "model": optional(FUNCTION.without("class")).also(
        ek.LinearModel(np.eye(3)), ek.LinearModel, right.A
    ),
    "noise": NOISE.but("True", "NumPy's True").also(ek.Huber(1.0)),
    "iteration": ITERATION,
    "rng": RNG,
    **{name: DRIVEN[name] for name in ("executor", "timeout")},
}
swept(
    "predict",
    lambda: {**given(), "model": right.Declared(right.A)},
    **PREDICTED,
    inputs=elsewhere(),
    data_names=optional(NAMES),
)
swept(
    "predict(inputs=)",
    lambda: {
        **given(),
        "model": ek.FunctionModel(right.taking, takes_inputs=True),
        "inputs": np.ones(3),
    },
    inputs=array(3, sized=False).but(
        *("zero", "minus one", "2.5", "five by five", "array of 5 dimensions")
    ),
)
swept("diagnose", given, **AFTERWARDS)
swept("best_member", given, result=RESULT)
swept(
    "check_posterior",
    lambda: {**given(), "problem": right.problem(), "n": 50},
    result=RESULT,
    problem=PROBLEM,
    n=integer(50),
    rng=RNG,
    **{name: DRIVEN[name] for name in ("executor", "timeout")},
)
swept("summary", given, **AFTERWARDS)
TITLE = optional(TEXT)
swept(
    "report",
    lambda: {**given(), "path": right.scratch() / "a.html"},
    **AFTERWARDS,
    path=PATH,
    title=TITLE,
)
swept("Dataset.eki.summary", _of=lambda: right.result().eki, problem=optional(PROBLEM))
OPTIONS = anything("the options of a function of ekitools, which has a row of its own")
for each, kinds in {
    "posterior": {"iteration": ITERATION, "options": OPTIONS},
    "intervals": {"prob": SHARE, "problem": optional(PROBLEM)},
    "predict": {"model": PREDICTED["model"], "noise": PREDICTED["noise"], "options": OPTIONS},
}.items():
    swept(f"Dataset.eki.{each}", _of=lambda: right.result().eki, **kinds)
swept(
    "Dataset.eki.report",
    lambda: {"path": right.scratch() / "b.html"},
    _of=lambda: right.result().eki,
    path=PATH,
    problem=optional(PROBLEM),
    title=TITLE,
)
REFERENCE = made(
    "reference",
    lambda: (np.zeros(2),),
    lambda: (np.zeros(3), np.eye(3)),
    lambda: (np.zeros(2), -np.eye(2)),
    lambda: np.ones((4, 3)),
    lambda: {"u0": 3},
    lambda: {"u0": (0.0, -1.0)},
    lambda: {"x": (0.0, 1.0)},
    lambda: np.ones((1, 2)),
    right.prior,
)
swept(
    "compare",
    lambda: {"results": {"EKI": right.result()}, "reference": (np.zeros(2), np.eye(2))},
    results=RESULT,
    reference=REFERENCE,
    iteration=ITERATION,
)
swept(
    "compare_table", lambda: {"comparison": right.comparison()}, comparison=COMPARISON, style=CHOICE
)
swept(
    "calibration",
    {"predictions": right.PREDICTIONS, "y": right.DATA, "noise_sd": np.ones(3)},
    predictions=array(20, 3),
    y=array(3),
    noise_sd=array(3).but("2.5").also([-1.0, 1.0, 1.0]),
    weights=optional(array(20)).also(-np.ones(20), np.zeros(20)),
    levels=array(3, sized=False).also([0.0], [1.0], [1.5], [0.5, 0.5], [0.9, 0.1]),
)
swept("to_arviz", given, result=RESULT, problem=optional(PROBLEM), iteration=ITERATION, rng=RNG)

# Plots

PARAMETERS = kind(
    "labels", ["u9"], [["u0"]], [3], {"u0": 1}, {"u0"}, "u9", right=("None",)
)  # one text is one label
swept(
    "plot_arviz",
    given,
    _runs=False,
    result=RESULT,
    kind=CHOICE,
    ax=AXES,
    parameters=PARAMETERS,
    iteration=ITERATION,
    rng=RNG,
    options=anything("the options of ArviZ, which are others for every kind and version"),
)
for each in ("plot_collapse", "plot_residual"):
    swept(each, given, **AFTERWARDS, ax=AXES)
swept("plot_misfit", given, result=RESULT, ax=AXES)
swept(
    "plot_ensemble",
    given,
    **AFTERWARDS,
    ax=AXES,
    parameter=kind("label", "u9", 17, ["u0"], ("u0", "u1"), right=("None",)),
    reference=optional(REFERENCE),
    truth=optional(array(2)),
)
swept("plot_marginals", given, **AFTERWARDS, ax=AXES, parameters=PARAMETERS)
swept(
    "plot_pairs",
    given,
    **AFTERWARDS,
    ax=AXES,
    parameters=PARAMETERS,
    truth=optional(array(2)),
)
swept(
    "plot_error",
    lambda: {"results": {"EKI": right.result()}, "truth": [0.0, 0.0]},
    results=RESULT,
    truth=array(2),
    ax=AXES,
)
swept(
    "plot_predictive",
    given,
    result=RESULT,
    ax=AXES,
    iteration=ITERATION,
    x=optional(array(3, dates=True)),
    groups=kind(
        "groups", ["a", "b"], [["a"]], ["a", None, "b"], [1.0, math.nan, 2.0], right=("None",)
    ),
    block=optional(CHOICE),
)
swept(
    "plot_comparison",
    lambda: {"comparison": right.comparison()},
    comparison=COMPARISON,
    ax=AXES,
)


def calibrations(needed: str) -> Kind:
    return made(
        "calibrations",
        right.result,
        lambda: [right.calibration()],
        lambda: {"a": 3},
        lambda: right.calibration().drop_vars(needed),
    )


swept(
    "plot_calibration",
    lambda: {"calibrations": right.calibration()},
    calibrations=calibrations("coverage"),
    ax=AXES,
)
swept(
    "plot_pit",
    lambda: {"calibration": right.calibration()},
    calibration=calibrations("pit"),
    ax=AXES,
    bins=integer(2),
)
swept(
    "plot_diagnostic",
    lambda: {"measured": ek.diagnose(right.result()), "name": "collapse"},
    measured=made(
        "measured",
        lambda: [3],
        lambda: {"a": 3},
        lambda: right.result().u,
        lambda: [right.result()],
        right.problem,
    ),
    name=CHOICE,
    ax=AXES,
    problem=optional(PROBLEM),
)
swept(
    "plot_theorems",
    lambda: {"report": right.theorems()},
    report=made(
        "report",
        right.result,
        lambda: [right.theorems()],
        lambda: right.theorems().table,
        lambda: type(right.theorems()),
    ),
    ax=AXES,
)
