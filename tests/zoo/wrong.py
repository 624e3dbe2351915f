"""Wrong arguments of every public callable: the table behind the sweep.

`POOL` holds values of every type. An argument has a `Kind`, which says which of them are right for it
and adds wrong values of its own: those out of range, of another size, a class in place of an object.
`TABLE` says for every public callable how to call it rightly and of which kind every argument is.
`benchmarks/attack_inputs.py` and `tests/test_wrong_arguments.py` go through it.
"""

from __future__ import annotations

import datetime
import functools
import math
import sys
import tempfile
from collections.abc import Callable, Iterator
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from scipy import stats

import ekitools as ek

# ------------------------------------------------------------------------------ wrong values


def nothing() -> None:
    """A function, in place of a value."""


POOL: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "True": lambda: True,
    "NumPy's True": lambda: np.True_,
    "zero": lambda: 0,
    "minus one": lambda: -1,
    "2.5": lambda: 2.5,
    "NaN": lambda: math.nan,
    "infinity": lambda: math.inf,
    "minus infinity": lambda: -math.inf,
    "complex": lambda: 1j,
    "decimal": lambda: Decimal("0.5"),
    "text": lambda: "nonsense",
    "empty text": lambda: "",
    "number as text": lambda: "2",
    "bytes": lambda: b"2",
    "empty list": list,
    "list of None": lambda: [None],
    "nested list": lambda: [[[]]],
    "ragged list": lambda: [[1.0, 2.0], [3.0]],
    "list of texts": lambda: ["a", "b"],
    "dict": lambda: {"a": 1.0},
    "set": lambda: {1.0},
    "object": object,
    "class": lambda: dict,
    "function": lambda: nothing,
    "module": lambda: math,
    "date": lambda: np.datetime64("2020-01-01"),
    "duration": lambda: np.timedelta64(1, "s"),
    "day": lambda: datetime.date(2020, 1, 1),
    "masked array": lambda: np.ma.masked_array([1.0, 2.0, 3.0], [False, True, False]),
    "array of texts": lambda: np.array(["a", "b"]),
    "array of objects": lambda: np.array([None, {}], dtype=object),
    "array of dates": lambda: np.array(["2020-01-01"], dtype="M8[D]"),
    "complex array": lambda: np.array([1j, 2j]),
    "array with NaN": lambda: np.array([1.0, math.nan]),
    "empty array": lambda: np.empty((0, 3)),
    "array of 5 dimensions": lambda: np.ones((2, 1, 1, 1, 2)),
    "Dataset": xr.Dataset,
    "iterator": lambda: iter(()),
}
"""Values of every type, by what they are."""

NUMBERS = ("zero", "minus one", "2.5", "NaN", "infinity", "minus infinity")


class Kind(NamedTuple):
    """What an argument has to be, and values that it must refuse."""

    name: str
    right: tuple[str, ...] = ()
    """The entries of `POOL` that are right."""
    wrong: tuple[Callable[[], Any], ...] = ()
    """Further values that are wrong."""
    errors: tuple[type[Exception], ...] = (TypeError, ValueError)
    alias: str = ""
    """Another word that the error may begin with."""
    free: str = ""
    """Why every value is right."""

    def values(self) -> Iterator[tuple[str, Any]]:
        """Wrong values with their names, made anew."""
        if self.free:
            return
        for label, make in POOL.items():
            if label not in self.right:
                yield label, make()
        for i, make in enumerate(self.wrong):
            yield f"own {i}", make()

    def but(self, *right: str, alias: str = "") -> Kind:
        """The same kind, for which some more entries of `POOL` are right."""
        return self._replace(right=(*self.right, *right), alias=alias or self.alias)

    def also(self, *wrong: Any) -> Kind:
        """The same kind with further wrong values."""
        return self._replace(wrong=self.wrong + constants(*wrong))


def constants(*values: Any) -> tuple[Callable[[], Any], ...]:
    return tuple(functools.partial(_same, value) for value in values)


def _same(value: Any) -> Any:
    return value


def anything(reason: str) -> Kind:
    """An argument for which every value is right, and why."""
    return Kind("anything", free=reason)


def integer(least: int | None = 1, most: int | None = None, *right: str) -> Kind:
    low = {1: (), 0: ("zero",), -1: ("zero", "minus one")}
    right += ("zero", "minus one") if least is None else low.get(least, ())
    wrong: list[Any] = [2.0, np.float64(3), [2], np.array([1, 2]), 1 + 0j, (3,), "1e3"]
    wrong += [] if least is None else [least - 1, -(10**6)]
    wrong += [] if most is None else [most + 1, 10**6, 10**30]
    return Kind("integer", right, constants(*wrong))


def number(*right: str, wrong: tuple[Any, ...] = ()) -> Kind:
    """A positive number, where ``right`` says no more."""
    own = (-0.5, [0.5], np.ones(2), "0.5", np.array(["1"]), 10**400, *wrong)
    allowed = set(right)
    if "minus one" in allowed:
        own = own[1:]
    return Kind("number", ("2.5", *right), constants(*own))


def share(*right: str) -> Kind:
    return Kind("share", right, constants(1, 1.5, -0.5, [0.5], np.array([0.5, 0.5]), "0.5", "half"))


REAL = number("zero", "minus one")
FLAG = Kind("flag", ("True", "NumPy's True"), constants(1, 1.0, "yes", "no", [True], np.int64(1)))
CHOICE = Kind("choice", (), constants("Drop", "auto ", b"drop", ["drop"], ("a",)))
RNG = Kind("rng", ("None", "zero"), constants("seed", [-1], 1.5, np.float64(1), (1, "a"), [0.5]))
PATH = Kind("path", ("text", "number as text"), constants(["x"], 3, b"x", ("a", "b"), Path))
FUNCTION = Kind("function", ("class", "function"), constants(3, "f", [nothing], {"f": nothing}))
PROBLEM = Kind(
    "problem",
    (),
    (
        lambda: ek.InverseProblem,
        lambda: problem().model,
        lambda: problem().prior,
        lambda: problem().data,
        lambda: result(),
        lambda: [problem()],
        lambda: ek.EKI(),
    ),
)
METHOD = Kind(
    "method",
    (),
    (
        lambda: ek.EKI,
        lambda: "EKI",
        lambda: [ek.EKI()],
        lambda: ek.EKIFlow(),
        lambda: ek.FixedStep(0.5),
        lambda: problem(),
    ),
)
RESULT = Kind(
    "result",
    (),
    (
        lambda: xr.DataArray([1.0]),
        lambda: result().u,
        lambda: result().drop_vars("misfit"),
        lambda: result().isel(iteration=0),
        lambda: result().isel(iteration=[]),
        lambda: [result(), 3],
        lambda: {"a": 3},
        lambda: str(result()),
        lambda: problem(),
    ),
)
PRIOR = Kind(
    "prior",
    (),
    (
        lambda: ek.GaussianPrior,
        lambda: (np.zeros(2), np.eye(2)),
        lambda: stats.norm(),
        lambda: {"a": stats.norm(), "b": stats.norm()},
        lambda: ek.GaussianNoise(1.0),
        lambda: np.eye(2),
    ),
)
SCHEDULE = Kind(
    "step rule",
    (),
    (
        lambda: ek.FixedStep,
        lambda: 0.5,
        lambda: ek.EKI(),
        lambda: [ek.FixedStep(0.5)],
        lambda: "auto",
    ),
)
FLOW = Kind(
    "flow",
    (),
    (lambda: ek.EKIFlow, lambda: ek.EKI(), lambda: "EKIFlow", lambda: [ek.EKIFlow()]),
)
RULES = Kind(
    "stopping rules",
    ("empty list", "iterator"),
    (
        lambda: ek.Discrepancy,
        lambda: [ek.Discrepancy(), 3],
        lambda: "discrepancy",
        lambda: (ek.Collapsed,),
        lambda: ek.EKI(),
        lambda: {"tau": 1.0},
    ),
)
AXES = Kind("Axes", ("None",), constants("ax", 3, [None], {"ax": None}, (1, 2)))
NAMES = Kind(
    "names",
    (),
    constants("ab", b"ab", ["a"], ["a", "a"], ["a", ""], ["a", None], ["a", math.nan], "a,b"),
)
TEXT = Kind("text", ("text", "number as text"), constants(["x"], 3, b"x", ("a",), str))


def array(*shape: int, lists: bool = True, wrong: tuple[Any, ...] = ()) -> Kind:
    """An array of this shape; with ``lists=False`` it has to be an array already."""
    rows = np.ones(shape)
    own: list[Any] = [
        rows[..., :-1] if shape else np.ones(7),
        np.concatenate([rows, rows, rows], axis=-1) if shape else np.ones((7, 7)),
        rows.astype(complex),
        rows.astype(str),
        rows.astype(object),
        rows.astype("M8[s]"),
        np.ma.masked_array(rows, rows > 0),
    ]
    own += [] if lists else [rows.tolist()]
    return Kind("array", (), (*constants(*own), *constants(*wrong)))


COVARIANCE = Kind(
    "covariance",
    ("2.5",),
    constants(
        [1.0, -1.0],
        [0.0, 0.0],
        [[1.0, 2.0], [2.0, 1.0]],
        [[1.0, 0.5], [0.0, 1.0]],
        np.eye(4)[:3],
        np.ones((2, 2)),
        (np.ones(2),),
        (np.ones(2), np.ones((3, 1))),
        (np.ones(2), np.ones((2, 1)), 1.0),
        "identity",
        np.zeros((0, 0)),
    ),
)
NOISE = COVARIANCE._replace(
    name="noise",
    wrong=(*COVARIANCE.wrong, lambda: ek.GaussianNoise, lambda: ek.GaussianPrior(0.0, 1.0)),
)

# ------------------------------------------------------------------------------- right values

A = np.array([[1.0, 0.5], [0.0, 2.0], [1.0, 1.0]])
DATA = np.array([1.0, -0.5, 0.2])
MEMBERS = np.random.default_rng(0).normal(size=(6, 2))
OUTPUTS = MEMBERS @ A.T
RUNS: list[int] = []
"""An entry for every model run of the problem below."""


def model(u: Any) -> Any:
    RUNS.append(1)
    return A @ u


def vectorized(u: Any, inputs: Any = None) -> Any:
    RUNS.append(len(u))
    return u @ A.T


@functools.cache
def problem() -> Any:
    prior = ek.GaussianPrior([0.0, 0.0], 1.0)
    return ek.InverseProblem(ek.FunctionModel(model), prior, 0.1, DATA)


@functools.cache
def linear() -> Any:
    """A linear problem: what the theory needs."""
    return ek.InverseProblem(ek.LinearModel(A), ek.GaussianPrior([0.0, 0.0], 1.0), 0.1, DATA)


@functools.cache
def result() -> Any:
    return ek.run(problem(), ek.EKI(), n_members=8, n_steps=3, rng=0)


@functools.cache
def flow() -> Any:
    times = [0.0, *np.geomspace(1, 1e5, 11)]
    options = {"t_eval": times, "method": "LSODA", "rtol": 1e-10, "atol": 1e-12}
    return ek.integrate(linear(), ek.EKIFlow(), t_span=(0, 1e5), n_members=8, rng=0, **options)


@functools.cache
def comparison() -> Any:
    return ek.compare({"EKI": result()}, (np.zeros(2), np.eye(2)))


@functools.cache
def calibration() -> Any:
    return ek.calibration(np.random.default_rng(0).normal(size=(20, 3)), DATA, 1.0)


@functools.cache
def theorems() -> Any:
    return ek.theory.check_linear_theory(flow(), linear())


@functools.cache
def scratch() -> Path:
    return Path(tempfile.mkdtemp(prefix="ekitools-wrong-"))


@functools.cache
def checkpoint() -> Path:
    path = scratch() / "checkpoint"
    ek.run(problem(), ek.EKI(), n_members=6, n_steps=2, rng=0, checkpoint=path)
    return path


def loop() -> Any:
    return ek.AskTell(problem(), ek.EKI(), n_members=6, rng=0)


def labelled() -> Any:
    observed = xr.DataArray([1.0, 2.0], {"site": ["a", "b"]}, name="y")
    return ek.XarrayModel(lambda p: p.shift + p.slope + 0 * observed, ["shift", "slope"], observed)


def field() -> Any:
    return ek.GaussianRandomField((3, 4), n_modes=2)


LAPLACIAN = np.array([[1.0, -1.0, 0.0], [-1.0, 2.0, -1.0], [0.0, -1.0, 1.0]])
POINTS = np.random.default_rng(0).normal(size=(6, 2))


def graph() -> Any:
    return ek.GraphField(LAPLACIAN, n_modes=2)


def marginals() -> Any:
    return ek.Prior({"a": stats.norm(), "b": stats.uniform(0, 1)})


def net() -> Any:
    from torch import nn

    return nn.Linear(2, 1)


def torch_model() -> Any:
    from ekitools.adapters.torch import TorchModel

    return TorchModel(net())


def jax_apply(params: Any, x: Any) -> Any:
    return x @ params["w"] + params["b"]


def jax_params() -> Any:
    return {"b": np.zeros(1, np.float32), "w": np.zeros((2, 1), np.float32)}


def jax_model() -> Any:
    from ekitools.adapters.jax import JaxModel

    return JaxModel(jax_apply, jax_params())


def written(folder: Any, parameters: Any) -> None:
    """Let no input file and no argument name a parameter."""


# ------------------------------------------------------------------------------------- the table


class Row(NamedTuple):
    """How a public callable is called rightly, and the kinds of its arguments."""

    kinds: dict[str, Kind]
    right: Callable[[], dict[str, Any]]
    """Values of all the arguments that have to be given."""
    of: Callable[[], Any] | None = None
    """Makes the object of a method."""
    runs: bool = True
    """Whether the right call is made in tests: not where it downloads, serves or takes long."""
    needs: str = ""
    """A framework."""


TABLE: dict[str, Row] = {}
FREE: dict[str, str] = {}
"""Public callables that are not swept, and why."""


def swept(
    _name: str,
    _right: dict[str, Any] | Callable[[], dict[str, Any]] | None = None,
    /,
    *,
    _of: Callable[[], Any] | None = None,
    _runs: bool = True,
    _needs: str = "",
    **kinds: Kind,
) -> None:
    given = _right or {}
    right = given if callable(given) else functools.partial(dict, given)
    TABLE[_name] = Row(kinds, right, _of, _runs, _needs)


def optional(kind: Kind) -> Kind:
    return kind.but("None")


COUNT = integer()
POSITIVE = number()
ROWS = array(6, 3, lists=False).but("array with NaN")

# The problem
swept(
    "InverseProblem",
    lambda: {
        "model": ek.FunctionModel(model),
        "prior": ek.GaussianPrior([0.0, 0.0], 1.0),
        "noise": 0.1,
        "data": DATA,
    },
    model=Kind(
        "model",
        ("function", "class"),
        (
            lambda: ek.LinearModel,
            lambda: ek.LinearModel(np.eye(2)),
            lambda: A,
            lambda: [model],
            lambda: ek.FunctionModel(vectorized, takes_inputs=True),
        ),
    ),
    prior=PRIOR,
    noise=NOISE.but(),
    data=array(3),
    parameter_names=optional(NAMES).but("list of texts", "array of texts", "array of objects"),
    data_names=optional(NAMES),
)
for _each in ("MiniBatches", "OnlineData"):
    swept(
        _each,
        {"inputs": np.arange(6.0), "targets": np.arange(6.0), "size": 2},
        inputs=array(6),
        targets=array(6),
        size=integer(1, 6),
        **({"shuffle": FLAG} if _each == "MiniBatches" else {"passes": COUNT, "repeats": COUNT}),
    )
swept(
    "FunctionModel",
    {"fn": model},
    fn=FUNCTION,
    vectorized=FLAG,
    stochastic=FLAG,
    takes_inputs=FLAG,
)
swept("LinearModel", {"A": A}, A=array(3, 2).but("array of 5 dimensions"))
swept("LinearModel.adjoint", {"r": DATA}, _of=lambda: ek.LinearModel(A), r=array(3, lists=False))
LABELLED = Kind(
    "labelled arrays",
    (),
    (
        lambda: np.ones(2),
        lambda: [1.0, 2.0],
        lambda: xr.DataArray([1.0, 2.0], dims="site"),
        lambda: xr.DataArray([1.0, 2.0], {"site": ["a", "c"]}),
        lambda: xr.DataArray(["x", "y"], {"site": ["a", "b"]}),
        lambda: xr.DataArray([1j, 2j], {"site": ["a", "b"]}),
        lambda: xr.DataArray,
    ),
)
swept(
    "XarrayModel",
    lambda: {
        "function": lambda parameters: None,
        "parameters": ["a"],
        "observations": xr.DataArray([1.0], dims="x"),
    },
    function=FUNCTION.but().also(nothing)._replace(right=("class",)),
    parameters=Kind(
        "names",
        ("list of texts", "text", "number as text", "array of texts", "dict"),
        constants(["a", "a"], ["a", 3], [b"a"], ("a", None), xr.DataArray(["x"])),
    ),
    observations=LABELLED._replace(
        wrong=(
            lambda: np.ones(2),
            lambda: [1.0],
            lambda: xr.DataArray(["x"]),
            lambda: xr.DataArray([1j]),
            lambda: xr.DataArray([math.nan]),
            lambda: xr.DataArray([1.0, 2.0], {"x": [1, 1]}),
            lambda: xr.DataArray,
        )
    ),
    stochastic=FLAG,
)
swept(
    "XarrayModel.flatten",
    lambda: {"labelled": xr.DataArray([1.0, 2.0], {"site": ["a", "b"]})},
    _of=labelled,
    labelled=LABELLED,
)
swept(
    "XarrayModel.flatten_parameters",
    lambda: {"labelled": xr.Dataset({"shift": 1.0, "slope": 2.0})},
    _of=labelled,
    labelled=LABELLED,
)
for _each in ("unflatten", "unflatten_parameters"):
    swept(
        f"XarrayModel.{_each}",
        {"values": [1.0, 2.0]},
        _of=labelled,
        values=array(2).but("array with NaN", "array of 5 dimensions"),
    )

# Priors
swept(
    "GaussianPrior",
    {"mean": [0.0, 0.0], "cov": 1.0},
    mean=array(2).but(*NUMBERS[:3])._replace(alias="mean"),
    cov=COVARIANCE,
)
swept(
    "Prior",
    lambda: {"marginals": {"a": stats.norm()}},
    marginals=Kind(
        "marginals",
        (),
        (
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
    ),
)
swept(
    "GaussianRandomField",
    {"shape": (3, 4)},
    shape=Kind(
        "shape",
        (),
        constants(
            4, (4.0, 4), ("4", 4), (1, 4), (0,), (-4,), (True, 4), [[4, 4]], (2, 2, 2, 2), (4, None)
        ),
    ),
    alpha=number(wrong=(1, 0.5)),
    tau=number("zero"),
    sd=POSITIVE,
    mean=REAL,
    n_modes=integer(1, 12, "None"),
)
swept(
    "GraphField",
    {"laplacian": LAPLACIAN},
    laplacian=array(3, 3, wrong=(np.eye(3)[:2], -LAPLACIAN, np.triu(LAPLACIAN), np.zeros((0, 0)))),
    alpha=POSITIVE,
    tau=POSITIVE,
    sd=POSITIVE,
    mean=REAL,
    n_modes=integer(1, 3, "None"),
)
swept(
    "graph_laplacian",
    {"points": POINTS, "n_neighbours": 2},
    points=array(6, 2).but("array with NaN")._replace(right=()),
    n_neighbours=integer(1, 5),
)
PRIORS: dict[str, Callable[[], Any]] = {
    "GaussianPrior": lambda: ek.GaussianPrior([0.0, 0.0], 1.0),
    "Prior": marginals,
    "GaussianRandomField": field,
    "GraphField": graph,
}
POINT = array(6, 2, lists=False).but("array with NaN")
for _each, _made in PRIORS.items():
    for _name, _argument in {
        "to_physical": "z",
        "to_unconstrained": "u",
        "whiten": "z",
        "unwhiten": "w",
    }.items():
        swept(
            f"{_each}.{_name}", {_argument: np.full((6, 2), 0.5)}, _of=_made, **{_argument: POINT}
        )
    swept(f"{_each}.logpdf", {"u": [0.1, 0.2]}, _of=_made, u=array(2))
    for _name in ("sample", "sample_unconstrained"):
        swept(f"{_each}.{_name}", {"n": 2}, _of=_made, n=COUNT, rng=RNG)
swept(
    "Prior.support", {"parameter": 0}, _of=marginals, parameter=integer(-2, 1, "zero", "minus one")
)
swept("GaussianRandomField.field", {"u": [0.1, 0.2]}, _of=field, u=array(2))
swept("GaussianRandomField.coefficients", {"field": np.ones((3, 4))}, _of=field, field=array(3, 4))
swept("GraphField.field", {"u": [0.1, 0.2]}, _of=graph, u=array(2))

# Noise and losses
swept("GaussianNoise", {"cov": [0.1, 0.2]}, cov=COVARIANCE)
swept(
    "GaussianNoise.sample",
    {"n": 2, "n_data": 3},
    _of=lambda: ek.GaussianNoise(np.eye(3)),
    n=COUNT,
    rng=RNG,
    n_data=integer(3, 3, "None"),
)
swept("GaussianNoise.whiten", {"r": OUTPUTS}, _of=lambda: ek.GaussianNoise(np.eye(3)), r=ROWS)
LOSSES: dict[str, Callable[[], Any]] = {
    "GaussianNoise": lambda: ek.GaussianNoise(np.eye(3)),
    "Huber": lambda: ek.Huber(1.0),
    "BinaryCrossEntropy": ek.BinaryCrossEntropy,
    "CrossEntropy": lambda: ek.CrossEntropy(3),
}
DATUM = array(3).but(*NUMBERS, "array with NaN")
for _each, _made in LOSSES.items():
    _right = {"z": np.full((6, 3), 0.5), "y": np.array([1.0, 0.0, 0.0])}
    for _name in ("misfit", "gradient"):
        swept(f"{_each}.{_name}", _right, _of=_made, z=ROWS, y=DATUM)
    swept(
        f"{_each}.curvature_product", {**_right, "f": OUTPUTS}, _of=_made, z=ROWS, y=DATUM, f=ROWS
    )
    if "Entropy" in _each:
        swept(
            f"{_each}.check_data",
            {"data": np.array([1.0, 0.0, 0.0])},
            _of=_made,
            data=array(3, wrong=([2.0, 0.0, -1.0],)),
        )
swept("BinaryCrossEntropy", logits=FLAG)
swept("CrossEntropy", {"n_classes": 3}, n_classes=integer(2), logits=FLAG)
swept("FunctionLoss", {"misfit": max, "gradient": max}, misfit=FUNCTION, gradient=FUNCTION)
swept("Huber", {"scale": 1.0}, scale=POSITIVE, delta=POSITIVE)
swept(
    "kalman_update",
    {"u": MEMBERS, "g": OUTPUTS, "data": DATA, "noise": 0.1},
    u=array(6, 2),
    g=array(6, 3),
    data=array(3),
    noise=NOISE.also(ek.Huber(1.0)),
    step=POSITIVE,
    noise_draw=optional(array(6, 3)),
)

# Methods and rules
swept(
    "EKI",
    step=SCHEDULE,
    t_end=optional(POSITIVE).but("infinity"),
    perturbed=FLAG,
    tikhonov=FLAG,
    stop=RULES,
)
swept(
    "GNKI",
    step=SCHEDULE,
    damping=number(wrong=(1.5,))._replace(right=()),
    refinements=integer(0),
    rtol=share("zero"),
)
swept(
    "LossEKI",
    lambda: {"spread": ek.Spread()},
    step=SCHEDULE,
    spread=Kind(
        "spread",
        ("None",),
        (lambda: ek.Spread, lambda: 1.0, lambda: [ek.Spread()], lambda: ek.EKI()),
    ),
    expand=Kind(
        "expand",
        ("empty list", "iterator"),
        constants((1, 2), ((1, 2.5),), ((1,),), ((-1, 10),), ((2, 10), (1, 20)), "ab", ((1, "a"),)),
    ),
    averaging=share("zero"),
)
swept(
    "CurvatureEKI",
    gamma=POSITIVE,
    damping=POSITIVE,
    radius=POSITIVE,
    memory=integer(0),
    averaging=share("zero"),
)
swept("Spread", gamma=number("zero", "function", "class"), every=COUNT, decay=number("zero"))
swept(
    "TemperedSMC",
    temperatures=Kind(
        "temperatures",
        ("None",),
        constants(
            (0.5,),
            (0.5, 0.2, 1.0),
            (-0.1, 1.0),
            ("a", 1.0),
            (0.5, 2.0),
            (True, 1.0),
            "warm",
            1.0,
            (0.5, None, 1.0),
        ),
    ),
    ess=share(),
    resampling=CHOICE,
    move=optional(CHOICE).also(("pcn", "x"), ("pcn", 3)),
    acceptance=share(),
    decorrelation=share(),
    max_moves=COUNT,
    start=Kind(
        "start",
        ("None",),
        (
            lambda: ek.GaussianStart,
            lambda: (np.zeros(2), np.eye(2)),
            lambda: ek.GaussianPrior(0.0, 1.0),
            lambda: "prior",
        ),
    ),
)
swept("Nesterov", lambda: {"method": ek.EKI()}, method=METHOD.also(ek.TemperedSMC()))
swept(
    "GaussianStart",
    {"mean": (0.0, 0.0), "basis": ((1.0, 0.0), (0.0, 1.0)), "sd": (1.0, 1.0)},
    mean=array(2),
    basis=array(2, 2),
    sd=array(2, wrong=((-1.0, 1.0), (0.0, 1.0))),
)
swept(
    "GaussianStart.from_ensemble",
    lambda: {"ensemble": MEMBERS, "prior": problem().prior},
    ensemble=array(6, 2),
    prior=PRIOR,
    weights=optional(array(6, wrong=(-np.ones(6), np.zeros(6)))),
    inflation=number(wrong=(0.5,)),
)
swept("FixedStep", {"h": 0.5}, h=POSITIVE)
swept("NormStep", h=POSITIVE, eps=number("zero"))
swept("MisfitController")
swept(
    "ESMDA",
    inflation=Kind(
        "integer or numbers",
        (),
        constants(
            0, -1, 2.5, (0.5, 0.5), ("a",), (-2.0, 2.0), (2.0, math.inf), (True, 1.0), "4", [[4]]
        ),
    ),
)
swept("Discrepancy", tau=POSITIVE)
swept("Collapsed", rtol=share())
swept("NoProgress", rtol=POSITIVE, window=COUNT)

# Continuous time
swept("EKIFlow", tikhonov=FLAG)
swept("NesterovFlow", tikhonov=FLAG)
swept("GradientFlow", jacobian=optional(FUNCTION))
swept("NaturalGradientFlow", jacobian=optional(FUNCTION))
swept("StochasticEKIFlow")
swept("EKSFlow", correction=FLAG)
SPAN = Kind(
    "t_span",
    (),
    constants(
        (1.0, 0.0),
        (0.0,),
        (0.0, 1.0, 2.0),
        (-1.0, 1.0),
        ("0", "1"),
        (0, math.inf),
        (0, math.nan),
        (None, 1),
        [[0, 1]],
    ),
)
STARTS = optional(array(6, 2))
COMMON = {
    "problem": PROBLEM,
    "n_members": integer(2),
    "ensemble": STARTS,
    "rng": RNG,
    "stop": RULES,
}
swept(
    "integrate",
    lambda: {
        "problem": problem(),
        "flow": ek.EKIFlow(),
        "t_span": (0, 0.1),
        "n_members": 4,
        "rng": 0,
    },
    **COMMON,
    flow=FLOW,
    t_span=SPAN,
    step=SCHEDULE.but("None").also(ek.FixedStep(0.5)),
    t_eval=optional(array(3)).also([0.05, 0.01], [0.0, 1.0], [-1.0, 0.05], [0.05, 0.05]),
    discrepancy=optional(POSITIVE),
    collapsed=optional(share()),
    solve_ivp_options=Kind("options", ("dict",)),
)
for _option, _kind in {
    "rtol": number("zero"),
    "atol": number("zero"),
    "method": CHOICE,
    "max_step": number("infinity"),
    "first_step": optional(POSITIVE),
    "events": optional(FUNCTION).but("empty list", "iterator"),
    "nonsense": Kind("unknown option"),
}.items():
    swept(
        f"integrate({_option}=)",
        lambda: {
            "problem": problem(),
            "flow": ek.EKIFlow(),
            "t_span": (0, 0.1),
            "n_members": 4,
            "rng": 0,
        },
        _runs=False,
        **{_option: _kind},
    )

# Running
STORE = Kind("store", (), constants(0, 2.0, "none", "All", b"all", ["all"], (1, 2)))
EXECUTOR = Kind("executor", ("None",), constants(3, "threads", [map], 4))
DRIVEN = {
    "executor": EXECUTOR,
    "timeout": optional(POSITIVE),
    "checkpoint_every": COUNT,
    "progress": FLAG,
    "on_step": optional(FUNCTION),
}
swept(
    "run",
    lambda: {"problem": problem(), "method": ek.EKI(), "n_members": 6, "rng": 0, "n_steps": 2},
    **COMMON,
    **DRIVEN,
    method=METHOD,
    n_steps=integer(1, None, "None"),
    on_failure=CHOICE._replace(wrong=constants("Drop", 0, ["drop"], b"drop")),
    store=STORE,
    evaluate_final=FLAG,
    checkpoint=optional(PATH),
)
swept(
    "resume",
    lambda: {"path": checkpoint(), "problem": problem(), "n_steps": 2},
    **DRIVEN,
    path=PATH,
    problem=PROBLEM,
    method=optional(METHOD),
    n_steps=integer(1, None, "None"),
    ensemble=optional(array(6, 2)),
    stop=RULES.but("None"),
)
swept(
    "AskTell",
    lambda: {"problem": problem(), "method": ek.EKI(), "n_members": 6, "rng": 0},
    **COMMON,
    method=METHOD,
    n_steps=integer(1, None, "None"),
    on_failure=CHOICE,
    store=STORE,
    evaluate_final=FLAG,
)
swept(
    "AskTell.load",
    lambda: {"path": checkpoint(), "problem": problem(), "n_steps": 2},
    path=PATH,
    problem=PROBLEM,
    method=optional(METHOD),
    n_steps=integer(1, None, "None"),
    ensemble=optional(array(6, 2)),
    stop=RULES.but("None"),
)
swept("AskTell.ask", _of=loop)
swept("AskTell.seeds", _of=loop)
swept("AskTell.save", lambda: {"path": scratch() / "saved"}, _of=loop, path=PATH)
swept(
    "AskTell.tell",
    {"g": OUTPUTS},
    _of=loop,
    g=array(6, 3),
    failures=Kind(
        "failures",
        ("None",),
        constants(3, "all", {9: "x"}, {-1: "x"}, {"0": "x"}, {0: 3}, {0: None}, [0]),
    ),
)
swept(
    "AskTell.stop",
    lambda: {"status": ek.typing.Status("mine", "It was stopped.")},
    _of=loop,
    status=Kind(
        "status",
        (),
        (
            lambda: ek.typing.Status,
            lambda: ("a", "b"),
            lambda: "stopped",
            lambda: ek.typing.Status(1, 2),
        ),
    ),
)

# Reading results
DATASETS = RESULT.but()
swept("diagnose", lambda: {"result": result()}, result=RESULT, problem=optional(PROBLEM))
swept("best_member", lambda: {"result": result()}, result=RESULT)
swept("summary", lambda: {"result": result()}, result=RESULT, problem=optional(PROBLEM))
swept(
    "report",
    lambda: {"result": result(), "path": scratch() / "page.html"},
    result=RESULT,
    path=PATH,
    problem=optional(PROBLEM),
)
swept("Dataset.eki.summary", _of=lambda: result().eki, problem=optional(PROBLEM))
swept(
    "Dataset.eki.report",
    lambda: {"path": scratch() / "page.html"},
    _of=lambda: result().eki,
    path=PATH,
    problem=optional(PROBLEM),
)
ITERATION = integer(None, 1000, "zero", "minus one").also(-1000)
swept(
    "compare",
    lambda: {"results": {"EKI": result()}, "reference": (np.zeros(2), np.eye(2))},
    results=RESULT,
    reference=Kind(
        "reference",
        (),
        (
            lambda: (np.zeros(2),),
            lambda: (np.zeros(3), np.eye(3)),
            lambda: (np.zeros(2), -np.eye(2)),
            lambda: np.ones((4, 3)),
            lambda: {"u0": 3},
            lambda: {"u0": (0.0, -1.0)},
            lambda: {"x": (0.0, 1.0)},
            lambda: np.ones((1, 2)),
            lambda: ek.GaussianPrior([0.0, 0.0], 1.0),
        ),
    ),
    iteration=ITERATION,
)
COMPARISON = Kind(
    "comparison",
    (),
    (
        result,
        lambda: comparison().drop_vars("sd"),
        lambda: [comparison()],
        lambda: {"a": comparison()},
    ),
)
swept("compare_table", lambda: {"comparison": comparison()}, comparison=COMPARISON, style=CHOICE)
swept(
    "calibration",
    {"predictions": np.random.default_rng(0).normal(size=(20, 3)), "y": DATA, "noise_sd": 1.0},
    predictions=array(20, 3),
    y=array(3),
    noise_sd=array(3).but("2.5", "zero").also([-1.0, 1.0, 1.0]),
    weights=optional(array(20)).also(-np.ones(20), np.zeros(20)),
    levels=array(3).but().also([0.0], [1.0], [1.5], [0.5, 0.5], [], [0.9, 0.1])._replace(right=()),
)
HAS_ARVIZ = {"iteration": ITERATION, "rng": RNG}
swept("to_arviz", lambda: {"result": result()}, result=RESULT, **HAS_ARVIZ)
swept(
    "plot_arviz",
    lambda: {"result": result()},
    _runs=False,
    result=RESULT,
    kind=CHOICE,
    ax=AXES,
    parameters=optional(NAMES),
    **HAS_ARVIZ,
    options=anything("ArviZ's own options, which each kind of plot checks itself"),
)
PLOTTED = {"result": RESULT, "ax": AXES}
for _each in ("plot_collapse", "plot_residual"):
    swept(_each, lambda: {"result": result()}, **PLOTTED, problem=optional(PROBLEM))
swept("plot_misfit", lambda: {"result": result()}, **PLOTTED)
LABEL = Kind("label", ("None",), constants("u9", 17, ["u0"], ("u0", "u1")))
LABELS = Kind("labels", ("None",), constants("u0", ["u9"], ["u0", "u0"], [["u0"]], [3], {"u0": 1}))
swept(
    "plot_ensemble",
    lambda: {"result": result()},
    **PLOTTED,
    parameter=LABEL,
    problem=optional(PROBLEM),
)
for _each in ("plot_marginals", "plot_pairs"):
    swept(
        _each, lambda: {"result": result()}, **PLOTTED, parameters=LABELS, problem=optional(PROBLEM)
    )
swept(
    "plot_error",
    lambda: {"results": {"EKI": result()}, "truth": [0.0, 0.0]},
    results=RESULT.also(),
    truth=array(2),
    ax=AXES,
)
swept(
    "plot_predictive",
    lambda: {"result": result()},
    **PLOTTED,
    iteration=ITERATION,
    x=optional(array(3)),
    groups=Kind(
        "groups",
        ("None",),
        constants(["a", "b"], [["a", "b", "c"]], ["a", None, "b"], [1.0, math.nan, 2.0]),
    ),
)
swept("plot_comparison", lambda: {"comparison": comparison()}, comparison=COMPARISON, ax=AXES)
CALIBRATIONS = Kind(
    "calibrations",
    (),
    (result, lambda: [calibration()], lambda: {"a": 3}, lambda: calibration().drop_vars("pit")),
)
swept(
    "plot_calibration", lambda: {"calibrations": calibration()}, calibrations=CALIBRATIONS, ax=AXES
)
swept(
    "plot_pit",
    lambda: {"calibration": calibration()},
    calibration=CALIBRATIONS,
    ax=AXES,
    bins=integer(2),
)
swept(
    "plot_diagnostic",
    lambda: {"measured": ek.diagnose(result()), "name": "collapse"},
    measured=RESULT._replace(
        wrong=(lambda: [3], lambda: {"a": 3}, lambda: xr.DataArray([1.0]), problem)
    ),
    name=CHOICE,
    ax=AXES,
    problem=optional(PROBLEM),
)
swept(
    "plot_theorems",
    lambda: {"report": theorems()},
    report=Kind(
        "report",
        (),
        (result, lambda: [theorems()], lambda: theorems().table, lambda: type(theorems())),
    ),
    ax=AXES,
)

# Theory
swept(
    "theory.check_linear_theory",
    lambda: {"result": flow(), "problem": linear()},
    result=RESULT,
    problem=PROBLEM,
)
MATRIX = array(3, 2, wrong=(np.ones((3, 5)),))
TIMES = array(3).but("zero", "2.5").also([-1.0, 1.0])
EXACT = {"ensemble": MEMBERS, "A": A, "noise": 0.1}
STATES = array(6, 2)
swept(
    "theory.covariance_flow",
    {**EXACT, "t": [0.0, 1.0]},
    ensemble=STATES,
    A=MATRIX,
    noise=NOISE,
    t=Kind("times", ("zero", "2.5"), constants([-1.0, 1.0], [math.nan], [[0.0, 1.0]], ["0", "1"])),
)
swept(
    "theory.linear_flow",
    {**EXACT, "data": DATA, "t": [0.0, 1.0]},
    ensemble=STATES,
    A=MATRIX,
    data=array(3),
    noise=NOISE,
    t=Kind("times", ("zero", "2.5"), constants([-1.0, 1.0], [math.nan], [[0.0, 1.0]], ["0", "1"])),
)
swept("theory.spectrum", EXACT, ensemble=STATES, A=MATRIX, noise=NOISE)
swept(
    "theory.posterior",
    lambda: {"A": A, "data": DATA, "prior": problem().prior, "noise": 0.1},
    A=MATRIX,
    data=array(3),
    prior=PRIOR.also(marginals()),
    noise=NOISE,
)
swept("theory.verify", _runs=False, rng=integer(0))

# Example problems and data sets
swept("problems.linear", p=COUNT, d=COUNT, noise=POSITIVE, rng=RNG)
swept("problems.deconvolution", n=COUNT, d=COUNT, width=POSITIVE, noise=POSITIVE, rng=RNG)
swept(
    "problems.darcy",
    {"n": 4, "n_modes": 3, "n_wells": 4},
    n=integer(2),
    n_modes=integer(1, 16),
    n_wells=Kind("number of wells", (), integer(3, 49).wrong),
    noise=POSITIVE,
    rng=RNG,
)
swept("problems.lynx_hare", sigma=optional(POSITIVE))
for _each in ek.datasets.__all__:
    if _each.islower():
        swept(f"datasets.{_each}", _runs=False, download=FLAG)

# Checks of parts that users write
EXCLUDE = Kind(
    "names of checks",
    ("empty list", "iterator"),
    constants("x", ["x"], [3], ("members", "x"), 3, [["members"]]),
)
BROKEN = (AssertionError, TypeError, ValueError)


def tried(*wrong: Callable[[], Any]) -> Kind:
    """An object under test: a broken promise is an AssertionError that names the promise."""
    return Kind("object under test", (), wrong, BROKEN, alias=".")


swept(
    "testing.check_method",
    lambda: {"method": ek.EKI(ek.ESMDA(4))},
    _runs=False,
    method=tried(lambda: ek.EKI, lambda: ek.FixedStep(0.5)),
    problem=optional(PROBLEM),
    n_members=integer(5),
    rng=RNG,
    exclude=EXCLUDE,
)
swept(
    "testing.check_model",
    lambda: {"model": ek.LinearModel(A), "prior": problem().prior},
    model=tried(lambda: ek.LinearModel, lambda: 3)._replace(right=()),
    prior=PRIOR,
    u=optional(array(6, 2)),
    inputs=anything("a model may take inputs of any kind"),
    rng=RNG,
    exclude=EXCLUDE,
)
swept(
    "testing.check_noise",
    lambda: {"noise": ek.GaussianNoise(np.eye(3))},
    noise=tried(lambda: ek.GaussianNoise),
    n_data=integer(3, 3, "None"),
    outputs=optional(array(6, 3)),
    data=optional(array(3)),
    rng=RNG,
    exclude=EXCLUDE,
)
swept(
    "testing.check_prior",
    lambda: {"prior": problem().prior},
    prior=tried(lambda: ek.GaussianPrior),
    rng=RNG,
    exclude=EXCLUDE,
)
swept(
    "testing.check_schedule",
    lambda: {"rule": ek.FixedStep(0.5)},
    rule=tried(lambda: ek.FixedStep),
    exclude=EXCLUDE,
)

# Adapters
swept(
    "adapters.command.CommandModel",
    lambda: {
        "command": [sys.executable],
        "parameter_names": ["a"],
        "folder": scratch() / "runs",
        "output": "out.json",
        "inputs": written,
    },
    command=Kind(
        "command",
        ("list of texts",),
        constants("ls", [3], [""], ["ls", None], [Path("/no/such/file")], [sys.executable, "${b}"]),
    ),
    parameter_names=NAMES.but("list of texts")._replace(
        wrong=constants("ab", b"ab", ["a", "a"], ["a", ""], ["a", None], ["a", 3], ["a b"])
    ),
    folder=PATH,
    output=Kind(
        "output",
        ("class", "function"),
        constants(
            "out.txt", "/tmp/x/../out.json", 3, ["out.json"], b"out.json", "a/../../out.json"
        ),
    ),
    key=Kind("text", ("None", "text", "number as text"), constants(3, ["a"], b"a")),
    inputs=Kind(
        "inputs",
        ("function", "class"),
        constants("a.txt", {"a": 3}, {3: "a"}, {"../a": "b"}, {"/a": "b"}, ["a"]),
    ),
    timeout=optional(POSITIVE),
    retries=integer(0),
    keep=CHOICE,
    environment=Kind(
        "environment", (), constants({"a": 3}, {3: "a"}, {"a=b": "c"}, {"a": None}, ["a=b"], "a=b")
    ),
    stochastic=FLAG,
)
swept(
    "adapters.torch.TorchModel",
    lambda: {"module": net()},
    _needs="torch",
    module=Kind("module", (), (lambda: type(net()), lambda: [net()], lambda: abs)),
    inputs=optional(array(5, 2)),
    chunk=integer(1, None, "None"),
    path=CHOICE,
)
swept(
    "adapters.torch.TorchModel.load", {"u": np.ones(3)}, _of=torch_model, _needs="torch", u=array(3)
)
swept(
    "adapters.torch.TorchModel.glorot_variances",
    _of=torch_model,
    _needs="torch",
    bias=optional(POSITIVE),
    other=optional(POSITIVE),
)
swept("adapters.torch.TorchModel.flat", _of=torch_model, _needs="torch")
swept(
    "adapters.jax.JaxModel",
    lambda: {"apply": jax_apply, "params": jax_params()},
    _needs="jax",
    apply=FUNCTION._replace(right=("class",)),
    params=Kind(
        "params",
        (),
        constants({"a": "x"}, {"a": np.array(["x"])}, {"a": np.array([1j])}, {"a": object()}),
    ),
    inputs=optional(array(5, 2)),
    chunk=integer(1, None, "None"),
)
swept("adapters.jax.JaxModel.load", {"u": np.ones(3)}, _of=jax_model, _needs="jax", u=array(3))
swept(
    "adapters.jax.JaxModel.glorot_variances",
    _of=jax_model,
    _needs="jax",
    bias=optional(POSITIVE),
    other=optional(POSITIVE),
    in_axis=integer(None, 1, "zero", "minus one"),
    out_axis=integer(None, 1, "minus one", "zero"),
)
swept("adapters.jax.JaxModel.flat", _of=jax_model, _needs="jax")
SHAPE = Kind(
    "shape", (), constants(3, (1,), (1, 2, 3), (0, 1), (1.5, 1), ("1", 1), (-1, 1), (True, 1))
)
URL = Kind("url", (), constants("localhost:1", "ftp://x", 3, "http://127.0.0.1:9", ["http://x"]))
swept(
    "adapters.umbridge.UMBridgeModel",
    {"url": "http://127.0.0.1:9", "name": "x"},
    _runs=False,
    _needs="umbridge",
    url=URL,
    name=TEXT.but()._replace(right=("text", "number as text")),
    config=Kind("config", ("None", "dict"), constants(3, {3: "a"}, {"a": object()}, [("a", 1)])),
)
swept(
    "adapters.umbridge.ServedModel",
    lambda: {"model": ek.FunctionModel(model), "name": "x", "shape": (3, 2)},
    _needs="umbridge",
    model=Kind("model", ("function", "class"), (lambda: 3, lambda: A, lambda: [model])),
    name=TEXT,
    shape=SHAPE.but("None"),
)
for _each in ("get_input_sizes", "get_output_sizes"):
    swept(
        f"adapters.umbridge.ServedModel.{_each}",
        _of=lambda: lookup_adapter("umbridge").ServedModel(ek.FunctionModel(model), "x", (3, 2)),
        _needs="umbridge",
        config=anything("the argument of the protocol, which this model does not use"),
    )
swept(
    "adapters.umbridge.ServedModel.supports_evaluate",
    _of=lambda: lookup_adapter("umbridge").ServedModel(ek.FunctionModel(model), "x", (3, 2)),
    _needs="umbridge",
)
swept(
    "adapters.umbridge.serve",
    lambda: {"model": ek.FunctionModel(model), "name": "x", "shape": (3, 2)},
    _runs=False,
    _needs="umbridge",
    model=Kind("model", ("function", "class"), (lambda: 3, lambda: A)),
    name=TEXT,
    port=integer(1, 65535),
    shape=SHAPE.but("None"),
    workers=COUNT,
    host=TEXT._replace(right=()),
)


def lookup_adapter(name: str) -> Any:
    return import_module(f"ekitools.adapters.{name}")


# ------------------------------------------------------------------------ everything public

CONTRACTS = {
    "methods": ("init", "ask", "tell", "finished", "select", "map_members", "redraws", "State"),
    "flows": ("acceleration", "diffusion", "increment_shape", "samples_posterior", "check_problem"),
    "rules": ("step", "check", "distance", "reached", "check_problem"),
    "problem": ("seen", "batch", "at", "due"),
}
"""Functions that the loop calls with what it has checked (see `ekitools.typing`)."""
