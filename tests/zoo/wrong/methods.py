"""Rows of the table: methods, step rules, stopping rules, flows, and what runs them."""

from __future__ import annotations

import math

import numpy as np

import ekitools as ek
from zoo.wrong import right
from zoo.wrong.kinds import (
    CHOICE,
    COUNT,
    FLAG,
    LOCALIZATION,
    OF_ARGUMENTS,
    PATH,
    POSITIVE,
    POSITIVE_OR_INFINITE,
    RNG,
    SHARE,
    STORE,
    TEXT,
    anything,
    array,
    integer,
    kind,
    made,
    nothing,
    optional,
)
from zoo.wrong.table import FLOW, METHOD, PRIOR, PROBLEM, RESULT, RULES, SCHEDULE, swept

# Methods

swept(
    "EKI",
    step=SCHEDULE,
    t_end=optional(POSITIVE),
    perturbed=FLAG,
    tikhonov=FLAG,
    stop=RULES,
    localization=optional(LOCALIZATION),
)
swept(
    "ETKI",
    step=SCHEDULE,
    t_end=optional(POSITIVE),
    tikhonov=FLAG,
    rotate=FLAG,
    stop=RULES,
    localization=optional(LOCALIZATION),
)
swept(
    "ALDI",
    step=SCHEDULE,
    t_end=POSITIVE,
    h_max=POSITIVE,
    tempered=FLAG,
    correction=FLAG,
    noise=CHOICE,
)
swept(
    "GNKI",
    step=SCHEDULE,
    damping=kind("share, or 1", 1.5, -0.5, [0.5], "half", "0.5", (0.5,)),
    refinements=integer(0).also(1.5),
    rtol=POSITIVE.but("zero"),
    start=CHOICE.also(None, 1.0),
    draws=CHOICE,
)
swept(
    "UKI",
    points=kind("one of two", "triangle", 2, None),
    h=POSITIVE.but("zero"),
    centre=kind("one of two", "median", 2, None),
    rtol=POSITIVE.but("zero"),
    max_steps=integer(0).also(1.5),
    n_draws=integer(1).also(1.5),
)
swept(
    "LossEKI",
    lambda: {"spread": ek.Spread()},
    step=SCHEDULE,
    spread=optional(made("spread", lambda: ek.Spread, lambda: 1.0, lambda: [ek.Spread()], ek.EKI)),
    expand=kind(
        "pairs",
        *((1, 2), ((1, 2.5),), ((1,),), ((-1, 10),), ((2, 10), (1, 20)), "ab", ((1, "a"),)),
        right=("empty list", "iterator", "empty array"),
    ),
    averaging=SHARE.but("zero"),
)
swept(
    "CurvatureEKI",
    gamma=POSITIVE,
    damping=POSITIVE,
    radius=POSITIVE_OR_INFINITE,
    memory=integer(0),
    averaging=SHARE.but("zero"),
)
swept(
    "Spread",
    gamma=POSITIVE.but("zero", "class", "function"),
    every=COUNT,
    decay=POSITIVE.but("zero"),
)
swept(
    "TemperedSMC",
    temperatures=kind(
        "temperatures",
        *((0.5,), (0.5, 0.2, 1.0), (-0.1, 1.0), ("a", 1.0), (0.5, 2.0), (True, 1.0), "warm"),
        *(1.0, (0.5, None, 1.0)),
        right=("None",),
    ),
    ess=SHARE,
    resampling=CHOICE,
    move=optional(CHOICE.also(("pcn", "x"), ("pcn", 3))),
    acceptance=SHARE,
    decorrelation=SHARE,
    max_moves=COUNT,
    start=made(
        "start",
        lambda: ek.GaussianStart,
        lambda: (np.zeros(2), np.eye(2)),
        right.prior,
        lambda: "prior",
        right=("None",),
    ),
)
swept(
    "Nesterov",
    lambda: {"method": ek.EKI()},
    method=METHOD.also(ek.TemperedSMC()),
    momentum=SHARE.but("zero").also("Su", "nesterov"),
    restart=FLAG,
)
swept(
    "Inflated",
    lambda: {"method": ek.EKI(), "multiplicative": 0.1, "additive": 0.1},
    method=METHOD.also(ek.TemperedSMC()),
    multiplicative=POSITIVE.but("zero"),
    additive=POSITIVE.but("zero"),
    covariance=CHOICE,
    relaxation=kind("share, or 1", 1.5, -0.5, [0.5], "half", "0.5", (0.5,), right=("zero",)),
    longest=optional(POSITIVE),
)
swept(
    "Sparse",
    lambda: {"method": ek.GNKI()},
    method=METHOD.also(ek.TemperedSMC(), ek.Nesterov(ek.EKI()), ek.EKI(t_end=None)),
    parameters=kind(
        "parameters",
        *("ab", ("a", "a"), (0, 0), (-1,), (0.5,), (True,)),
        right=("None", "list of texts", "array of texts"),
    ),
    groups=kind(
        "groups",
        *("ab", (0, 1), ((0, 1), (1, 2)), ((),), ((-1,),)),
        right=("empty list", "iterator", "empty array"),
    ),
    outer=COUNT,
    rtol=POSITIVE,
    floor=SHARE,
    keep=POSITIVE,
    warm=FLAG,
)
swept(
    "GaussianStart",
    {"mean": (0.0, 0.0), "basis": ((1.0, 0.0), (0.0, 1.0)), "sd": (1.0, 1.0)},
    mean=array(2),
    basis=array(2, 2),
    sd=array(2).also((-1.0, 1.0), (0.0, 1.0)),
    doubt=TEXT.but("empty text"),
    prior_share=SHARE.but("zero"),
)
swept(
    "GaussianStart.from_ensemble",
    lambda: {"ensemble": right.MEMBERS, "prior": right.prior()},
    ensemble=array(6, 2).also(right.MEMBERS[:1]),
    prior=PRIOR,
    weights=optional(array(6)).also(-np.ones(6), np.zeros(6)),
    inflation=POSITIVE,
    prior_share=SHARE.but("zero"),
)
swept(
    "GaussianStart.from_result",
    lambda: {"result": right.gaussian_result()},
    result=made(
        "result of a run",
        lambda: right.gaussian_result().drop_vars("u"),
        lambda: right.gaussian_result().u,
        lambda: right.MEMBERS,
        lambda: "result",
        lambda: 3,
    ),
    prior=optional(PRIOR),
    inflation=POSITIVE,
    prior_share=SHARE.but("zero"),
)

# Step rules and stopping rules

swept("FixedStep", {"h": 0.5}, h=POSITIVE)
swept("NormStep", h=POSITIVE, eps=POSITIVE)
swept("MisfitController", max_runs=optional(COUNT))
swept(
    "ESMDA",
    inflation=kind(
        "integer or numbers",
        *(0, -1, 2.5, (0.5, 0.5), ("a",), (-2.0, 2.0), (2.0, math.inf), (True, 1.0), "4", [[4]]),
    ),
)
swept("Discrepancy", tau=POSITIVE)
swept("Collapsed", rtol=POSITIVE)
swept("NoProgress", rtol=POSITIVE, window=COUNT)

# Flows

for each in ("EKIFlow", "NesterovFlow"):
    swept(each, tikhonov=FLAG)
for each in ("GradientFlow", "NaturalGradientFlow"):
    swept(each, jacobian=optional(OF_ARGUMENTS).also(nothing))
swept("EKSFlow", correction=FLAG, scheme=CHOICE)
DRAWN = {
    "problem": PROBLEM,
    "n_members": optional(integer(2)),
    "ensemble": optional(array(6, 2)),
    "rng": RNG,
    "stop": RULES,
}


LIKE = optional(array(6, lists=False, sized=False)).but(
    *("array with NaN", "array of 5 dimensions", "five by five", "empty array")  # its kind matters
)


def integrated():
    options = {"t_span": (0, 0.1), "n_members": 4, "rng": 0}
    return {"problem": right.problem(), "flow": ek.EKIFlow(), **options}


swept(
    "integrate",
    integrated,
    **DRAWN,
    flow=FLOW,
    t_span=kind(
        "t_span",
        *((1.0, 0.0), (0.0,), (0.0, 1.0, 2.0), (-1.0, 1.0), ("0", "1"), (0, math.inf)),
        *((0, math.nan), (None, 1), [[0, 1]]),
    ),
    step=optional(SCHEDULE).also(ek.FixedStep(0.5)),  # the flow has no noise
    t_eval=optional(array(3)).also([0.05, 0.01], [0.0, 1.0], [-1.0, 0.05], [0.05, 0.05]),
    discrepancy=optional(POSITIVE),
    collapsed=optional(SHARE),
    like=LIKE,
    solve_ivp_options=anything("each option has a row of its own, such as integrate(rtol=)"),
)
for option, of in {
    "rtol": POSITIVE,
    "atol": array(8).but("zero", "2.5").also(-np.ones(8)),
    "method": CHOICE,
    "max_step": POSITIVE_OR_INFINITE,
    "first_step": optional(POSITIVE),
    "events": optional(kind("events", 3, "f", [3], {"f": nothing}, nothing, [nothing])).but(
        *("class", "empty list", "iterator", "empty array")
    ),
    "args": kind("unknown option", 3, (1,)),
    "nonsense": kind("unknown option", 3, (1,)),
}.items():
    swept(f"integrate({option}=)", integrated, **{option: of})

# Running

DRIVEN = {
    "executor": kind("executor", 3, "threads", [map], 4, right=("None",)),
    "timeout": optional(POSITIVE),
    "checkpoint_every": COUNT,
    "progress": FLAG,
    "on_step": optional(OF_ARGUMENTS).also(nothing),
}
SCRATCH = optional(PATH).but("text", "number as text")
STARTED = {
    "like": LIKE,
    "draws": CHOICE,
    "scratch": SCRATCH,
    "method": METHOD,
    "n_steps": optional(COUNT),
    "on_failure": CHOICE,
    "store": STORE,
    "evaluate_final": FLAG,
    "missing": SHARE.but("zero"),
}
RESUMED = {
    "path": PATH,
    "problem": PROBLEM,
    "method": optional(METHOD),
    "n_steps": optional(COUNT),
    "ensemble": optional(array(6, 2, lists=False, sized=False)).but(
        *("array with NaN", "array of 5 dimensions", "five by five")  # its kind alone matters
    ),
    "stop": optional(RULES),
    "scratch": SCRATCH,
    "like": LIKE,
}


def begun():
    return {"problem": right.problem(), "method": ek.EKI(), "n_members": 6, "rng": 0}


def saved():
    return {"path": right.checkpoint(), "problem": right.problem(), "n_steps": 2}


swept(
    "run",
    lambda: {**begun(), "n_steps": 2},
    **DRAWN,
    **STARTED,
    **DRIVEN,
    checkpoint=optional(PATH),
)
swept(
    "solve",
    lambda: {"problem": right.problem(), "rng": 0},
    _runs=False,  # it takes long
    problem=PROBLEM,
    budget=optional(integer(500)),
    rng=RNG,
    checkpoint=optional(PATH),
    **{name: DRIVEN[name] for name in ("executor", "timeout", "progress")},
)
swept("resume", saved, **RESUMED, **DRIVEN)
swept("AskTell", begun, **DRAWN, **STARTED)
swept("AskTell.load", saved, **RESUMED)
swept("AskTell.save", lambda: {"path": right.scratch() / "saved"}, _of=right.loop, path=PATH)
swept(
    "AskTell.tell",
    {"g": right.OUTPUTS},
    _of=right.loop,
    g=array(6, 3, gaps=True),
    failures=kind(
        "failures",
        *(3, "all", {9: "x"}, {-1: "x"}, {"0": "x"}, {None: "x"}, [0], {1.5: "x"}),
        right=("None", "Dataset"),  # an empty mapping
    ),
    extras=kind(
        "arrays by name",
        *(3, "all", {3: np.ones(6)}, {"": np.ones(6)}, {"a": "x"}, {"a": None}, {"a": np.ones(5)}),
        *({"a": np.full(6, "x")}, {"a": np.full(6, 1j)}, [("a", np.ones(6))], {"u": np.ones(6)}),
        *({"a": [[1.0], [1.0, 2.0]]}, {"a": {}}),
        right=("None", "Dataset"),  # an empty mapping
    ),
)
swept(
    "AskTell.stop",
    lambda: {"status": ek.typing.Status("mine", "It was stopped.")},
    _of=right.loop,
    status=made(
        "status",
        lambda: ek.typing.Status,
        lambda: ("a", "b"),
        lambda: "stopped",
        lambda: ek.typing.Status(1, 2),
    ),
)

# Emulators

swept(
    "emulate",
    lambda: {"results": right.result(), "problem": right.problem(), "regressor": right.Linear()},
    results=RESULT,
    problem=PROBLEM,
    regressor=made(
        "regressor",
        lambda: right.Linear,
        lambda: "gp",
        lambda: 3,
        lambda: [right.Linear()],
        lambda: np.polyfit,
        right=("None",),
    ),
    n_points=optional(integer(20)),
    rng=RNG,
)
swept(
    "sample_emulated",
    lambda: {"emulator": right.emulator(), "rng": 0},
    _runs=False,  # it takes long
    emulator=made("emulator", right.result, right.problem, right.Linear, lambda: ek.emulate),
    n_draws=integer(100),
    max_runs=integer(500),
    rng=RNG,
    executor=DRIVEN["executor"],
    timeout=DRIVEN["timeout"],
)
