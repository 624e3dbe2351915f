"""Arguments that are numbers, flags or choices: one rule, and everything public that obeys it."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import ekitools as ek
from ekitools.core.arrays import as_array, as_real, as_rng, check_array
from ekitools.core.checks import (
    as_path,
    check_prior,
    flag,
    function,
    integer,
    number,
    one_of,
    put,
    sequence,
    share,
)
from ekitools.core.options import from_json, to_json
from ekitools.demos import demo, verification_figure
from ekitools.models.evaluate import check_timeout
from ekitools.problems._darcy import DarcyFlow
from ekitools.problems._lynx_hare import LotkaVolterra, UnknownScales, WithLogScales

# The helpers

INTEGERS = [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64]
NO_NUMBERS = ["2", b"2", None, [2], (2,), {}, 1j, True, False, np.True_, np.False_, object()]
NO_NUMBERS += [np.array([1, 2]), np.array(["a"]), np.array(True), np.timedelta64(2, "s")]
NO_NUMBERS += [np.timedelta64(2, "ns"), np.array(2, "m8[ns]"), np.str_("2"), np.complex128(2)]


def kind_of(value: Any) -> str:
    return type(value).__name__


@given(st.sampled_from(INTEGERS), st.integers(1, 127))
def test_integers_of_every_kind_become_an_int(kind, value):
    for given_value in (value, kind(value), np.array(value, kind), xr.DataArray(kind(value))):
        found = integer("n", given_value)
        assert type(found) is int
        assert found == value


@given(st.integers(), st.none() | st.integers(), st.none() | st.integers())
def test_integers_are_within_their_bounds(value, least, most):
    if (least is None or value >= least) and (most is None or value <= most):
        assert integer("n", value, least=least, most=most) == value
    else:
        with pytest.raises(ValueError, match=rf"^n: must be .*, got {value}\. Take another\.$"):
            integer("n", value, least=least, most=most, remedy="Take another.")


def test_the_bounds_of_an_integer_are_said():
    for bounds, rule in [
        ({}, "at least 1"),
        ({"most": 3}, "from 1 to 3"),
        ({"least": None, "most": -1}, "at most -1"),
    ]:
        with pytest.raises(ValueError, match=rf"^n: must be {rule}, got 0\.$"):
            integer("n", 0, **bounds)


@given(st.floats() | st.fractions() | st.decimals() | st.booleans() | st.text() | st.binary())
def test_nothing_else_is_an_integer(value):
    with pytest.raises(TypeError, match="^n: must be an integer, got "):
        integer("n", value)


@pytest.mark.parametrize("value", [*NO_NUMBERS, np.float64(2), np.array(2.0)], ids=kind_of)
def test_no_array_and_no_other_object_is_an_integer(value):
    with pytest.raises(TypeError, match=r"^n: must be an integer, got .*\. Take another\.$"):
        integer("n", value, remedy="Take another.")


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**9), 10**9))
def test_numbers_become_a_float(value):
    for given_value in (value, np.float64(value), np.array(float(value)), xr.DataArray(value)):
        found = number("h", given_value)
        assert type(found) is float
        assert found == value


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.longdouble, *INTEGERS, Fraction])
def test_numbers_of_every_kind_become_a_float(kind):
    assert number("h", kind(3)) == 3.0
    assert type(number("h", kind(3))) is float


@given(st.floats(), st.floats(-9, 9), st.booleans(), st.booleans())
def test_numbers_are_within_their_bounds(value, bound, closed, infinite):
    bounds = {"least" if closed else "above": bound, "infinite": infinite}
    inside = value >= bound if closed else value > bound
    if inside and (infinite or math.isfinite(value)):
        assert number("h", value, **bounds) == value
    else:
        with pytest.raises(ValueError, match=r"^h: must be .*, got [-+.\w]+\. Take another\.$"):
            number("h", value, **bounds, remedy="Take another.")


@pytest.mark.parametrize("value", NO_NUMBERS, ids=kind_of)
def test_nothing_else_is_a_number(value):
    with pytest.raises(TypeError, match=r"^h: must be a number, got .*\. Take another\.$"):
        number("h", value, remedy="Take another.")


def test_an_integer_too_large_for_a_float_is_infinite():
    assert number("h", 10**400, infinite=True) == math.inf
    with pytest.raises(ValueError, match=r"^h: must be finite, got -inf\.$"):
        number("h", -(10**400))


@given(st.floats())
def test_shares_are_within_their_bounds(value):
    if 0 < value < 1:
        assert share("ess", value) == value
    else:
        with pytest.raises(ValueError, match=r"^ess: must be within \(0, 1\), got "):
            share("ess", value)


def test_flags():
    for yes in (True, np.True_, np.array(True)):
        assert flag("logits", yes) is True
    assert flag("logits", np.False_) is False
    for no in (1, 0, 1.0, "yes", "", None, [], [True], np.int64(1), np.array([True])):
        with pytest.raises(TypeError, match="^logits: must be True or False, got "):
            flag("logits", no)


def test_choices():
    for text in ("a", np.str_("a")):
        assert type(one_of("path", text, ("a", "b"))) is str
    for no in ("c", "", None, 1, True, ["a"], np.array(["a"]), np.array("a")):
        with pytest.raises(ValueError, match='^path: must be "a" or "b", got '):
            one_of("path", no, iter(("a", "b")))
    with pytest.raises(ValueError, match='^path: must be "a", "b" or "c", got '):
        one_of("path", "d", ("a", "b", "c"))


def test_sequences():
    for several in (
        ["a", "b"],
        ("a", "b"),
        np.array(["a", "b"]),
        iter("ab"),
        {"a": 1, "b": 2}.keys(),
    ):
        assert sequence("names", several, "a sequence of names") == ("a", "b")
    assert sequence("names", xr.DataArray(["a", "b"]), "a sequence of names") == ("a", "b")
    for no in ("ab", b"ab", {"a": 1}, {"a"}, 3, None, list, np.array("a")):
        with pytest.raises(TypeError, match="^names: must be a sequence of names, got "):
            sequence("names", no, "a sequence of names")


def test_functions():
    assert function("on_step", print) is print
    with pytest.raises(TypeError, match="^on_step: must be callable, got str"):
        function("on_step", "print")


def test_paths(tmp_path):
    for path in (tmp_path, str(tmp_path)):
        assert as_path("path", path, "a file") == tmp_path
    for no in (3, None, b"a", ["a"], Path):
        with pytest.raises(TypeError, match="^path: must be the path of a file, got "):
            as_path("path", no, "a file")
    for no in ("", "a\0b"):
        with pytest.raises(ValueError, match="^path: must be the path of a file, got "):
            as_path("path", no, "a file")


def test_priors():
    check_prior(ek.GaussianPrior(0.0, 1.0))
    for no in (ek.GaussianPrior, None, (0.0, 1.0)):
        with pytest.raises(TypeError, match="^prior: must be a Prior such as"):
            check_prior(no)


@pytest.mark.parametrize("framework", ["numpy", "array_api_strict", "torch", "jax.numpy", "xarray"])
def test_arrays_of_every_kind_are_checked(framework):
    xp = pytest.importorskip(framework)
    make = xp.DataArray if framework == "xarray" else xp.asarray
    check_array("r", make([[1.0, math.nan], [2.0, 3.0]]), last=2)
    check_array("r", make([1, 2]))
    with pytest.raises(ValueError, match=r"^r: last axis must have 3 entries, got \(2,\)"):
        check_array("r", make([1.0, 2.0]), last=3)
    for scalar in (make(1.0), make([[]])):
        with pytest.raises(ValueError, match="^r: last axis must have one or more entries"):
            check_array("r", scalar)
    with pytest.raises(TypeError, match="^r: must be an array of real numbers, got .*complex"):
        check_array("r", make([1j, 2j]))


def test_what_is_no_array_is_named():
    for no in (
        [1.0],
        1.0,
        None,
        "a",
        np.array(["a"]),
        np.array([None]),
        np.array(["2020"], "M8[D]"),
    ):
        with pytest.raises(TypeError, match="^r: must be an array of real numbers, got "):
            check_array("r", no)
    for no in ([[1.0, 2.0], [3.0]], xr.Dataset()):
        with pytest.raises(TypeError, match="^r: must be an array of real numbers, got "):
            as_array("r", no)
    with pytest.raises(ValueError, match="^r: must have no masked entries"):
        check_array("r", np.ma.masked_array([1.0, 2.0], [True, False]))


def test_frozen_fields_are_put():
    loss = ek.Huber(1.0)
    put(loss, scale=2.0, delta=3.0)
    assert loss == ek.Huber(2.0, 3.0)


def test_sources_of_randomness():
    assert as_rng(np.int64(3)).integers(10**9) == np.random.default_rng(3).integers(10**9)
    own = np.random.default_rng(0)
    assert as_rng(own) is own
    for no in ([], [[1]], np.empty((0, 3)), (1, "a"), [0.5]):
        with pytest.raises(TypeError, match="^rng: must be None, an integer"):
            as_rng(no)
    assert as_rng([1, 2]).integers(10**9) == np.random.default_rng([1, 2]).integers(10**9)


@pytest.mark.parametrize(
    "call",
    [
        lambda flag: ek.GaussianPrior(flag, 1.0),
        lambda flag: ek.GaussianPrior(0.0, flag),
        lambda flag: ek.GaussianNoise(flag),
        lambda flag: ek.calibration(np.zeros((2, 1)), [0.0], flag),
        lambda flag: ek.theory.linear_flow([[0.0], [1.0]], [[1.0]], [0.0], 1.0, flag),
    ],
)
def test_a_flag_is_no_array_of_one_number(call):
    for value in (True, np.False_):
        with pytest.raises(TypeError, match="must be an array of real numbers, got bool"):
            call(value)
    np.testing.assert_array_equal(as_real("data", [True, False]), [1.0, 0.0])  # such as labels


# What is public


class Argument(NamedTuple):
    """An argument of a function or class, and values that it must refuse for their size."""

    call: Callable[..., Any]
    """Makes the call with this one argument and otherwise right ones."""
    owner: str
    name: str
    kind: str
    """One of "integer", "number", "bound", "flag", "choice" and "rng"; a bound may be infinite."""
    outside: tuple[Any, ...] = ()
    good: Any = None
    """Right, if its plain value is to be found as an attribute of what is returned."""
    optional: bool = False
    needs: str | None = None
    """A framework."""

    def refused(self) -> Iterator[tuple[Any, type[Exception]]]:
        """Values, and the errors that they must raise."""
        wrong = {
            "integer": [2.5, 2.0, "2", True, np.True_, [2], None, 2j, np.float64(2), (1, 2)],
            "number": ["0.5", True, np.False_, [0.5], None, 2j, np.timedelta64(1, "s"), np.ones(2)],
            "bound": ["0.5", True, [0.5], None, 2j],
            "flag": [1, 0, "yes", None, 1.0, np.int64(1), [True]],
            "choice": [],
            "rng": ["seed", 1.5, True, np.float64(2), object()],
        }[self.kind]
        range_ = {
            "integer": (),
            "number": (math.nan, math.inf, -math.inf, np.float32("nan")),
            "bound": (math.nan, np.float32("nan")),
            "flag": (),
            "choice": ("nonsense", "", 3, True, None, ["auto"]),
            "rng": (-1,),
        }[self.kind]
        for value in wrong:
            if not (value is None and self.optional):
                yield value, TypeError
        for value in (*range_, *self.outside):
            yield value, ValueError

    def spellings(self) -> Iterator[tuple[Any, type]]:
        """The right value as scalars of NumPy, and the plain type that they must become."""
        if self.kind == "integer":
            yield from ((make(self.good), int) for make in (int, np.int8, np.uint64, np.array))
        elif self.kind == "number":
            kinds = (float, np.float32, np.float64, np.int64, np.array)
            yield from ((make(self.good), float) for make in kinds)
        elif self.kind == "flag":
            yield from ((make(self.good), bool) for make in (bool, np.bool_))
        else:
            yield from ((make(self.good), str) for make in (str, np.str_))


ARGUMENTS: list[Argument] = []


def swept(
    call: Callable[..., Any], owner: str | None = None, needs: str | None = None, **rules: Any
) -> None:
    """Add arguments by name: their kind, and the other fields of `Argument` where needed."""
    owner = call.__qualname__ if owner is None else owner
    for name, rule in rules.items():
        kind, more = rule if isinstance(rule, tuple) else (rule, {})
        ARGUMENTS.append(Argument(call, owner, name, kind, needs=needs, **more))


def positive(kind: str = "number", *outside: Any, **more: Any) -> tuple[str, dict[str, Any]]:
    return kind, {"outside": (0, -1, *outside), **more}


POSITIVE, COUNT = positive(), positive("integer")
X = np.arange(6.0)
LAPLACIAN = [[1.0, -1.0, 0.0], [-1.0, 2.0, -1.0], [0.0, -1.0, 1.0]]


def field(shape: Any = (4, 4), **change: Any) -> Any:
    return ek.GaussianRandomField(shape, **change)


swept(
    lambda **c: ek.GaussianPrior(0.0, 1.0).sample(**({"n": 2} | c)),
    "GaussianPrior.sample",
    n=COUNT,
    rng="rng",
)
swept(
    lambda **c: ek.Prior({"a": stats.norm()}).sample(**({"n": 2} | c)),
    "Prior.sample",
    n=COUNT,
    rng="rng",
)
swept(
    field,
    "GaussianRandomField",
    alpha=("number", {"outside": (1, 0.5, -3)}),
    tau=("number", {"outside": (-1, -1e-9)}),
    sd=POSITIVE,
    mean="number",
    n_modes=positive("integer", 16, optional=True),
)
swept(
    lambda shape: field((shape, 4)),
    "GaussianRandomField",
    shape=("integer", {"outside": (1, 0, -1)}),
)
swept(
    lambda **c: ek.GraphField(LAPLACIAN, **c),
    "GraphField",
    alpha=POSITIVE,
    tau=POSITIVE,
    sd=POSITIVE,
    mean="number",
    n_modes=positive("integer", 4, optional=True),
)
swept(
    lambda **c: ek.MaternField(X, length=2.0, **c),
    "MaternField",
    nu=positive("number", 51),
    sd=POSITIVE,
    mean="number",
    n_modes=positive("integer", 7, optional=True),
)
swept(
    lambda **c: ek.bounded(**({"mean": 0.3, "sd": 0.1, "lower": 0, "upper": 1} | c)),
    "bounded",
    mean="number",
    sd=positive("number", 0.5),
    lower="bound",
    upper="bound",
)
swept(
    lambda **c: ek.JointPrior({"a": ek.GaussianPrior(0.0, 1.0)}).sample(**({"n": 2} | c)),
    "JointPrior.sample",
    n=COUNT,
    rng="rng",
)
swept(
    lambda **c: ek.Dirichlet([1.0, 2.0]).sample(**({"n": 2} | c)),
    "BasePrior.sample",
    n=COUNT,
    rng="rng",
)
swept(
    lambda **c: ek.graph_laplacian(X[:, None], **c),
    "graph_laplacian",
    n_neighbours=positive("integer", 6),
)
swept(
    lambda **c: ek.CrossEntropy(**({"n_classes": 2} | c)),
    "CrossEntropy",
    n_classes=positive("integer", 1, good=3),
    logits=("flag", {"good": False}),
)
swept(ek.BinaryCrossEntropy, logits=("flag", {"good": False}))
swept(
    lambda **c: ek.Huber(**({"scale": 1.0} | c)),
    "Huber",
    scale=positive(good=2),
    delta=positive(good=3),
)
swept(
    lambda **c: ek.GaussianNoise(1.0).sample(**({"n": 2, "n_data": 3} | c)),
    "GaussianNoise.sample",
    n=COUNT,
    n_data=positive("integer", optional=True),
    rng="rng",
)
swept(
    lambda **c: ek.MiniBatches(X, X, **({"size": 2} | c)),
    "MiniBatches",
    size=positive("integer", 7, good=3),
    shuffle=("flag", {"good": False}),
)
swept(
    lambda **c: ek.OnlineData(X, X, **c),
    "OnlineData",
    size=positive("integer", 7, good=3),
    passes=positive("integer", good=2),
    repeats=positive("integer", good=2),
)
swept(
    lambda **c: ek.kalman_update(X[:, None], X[:, None], X[:1], 1.0, **c),
    "kalman_update",
    step=POSITIVE,
)
swept(
    lambda **c: ek.FunctionModel(abs, **c),
    "FunctionModel",
    vectorized=("flag", {"good": True}),
    stochastic=("flag", {"good": True}),
    takes_inputs=("flag", {"good": True}),
)
swept(
    lambda stochastic: ek.XarrayModel(
        lambda parameters, rng=None: None,
        ["a"],
        xr.DataArray([1.0], dims="x"),
        stochastic=stochastic,
    ),
    "XarrayModel",
    stochastic=("flag", {"good": True}),
)
swept(check_timeout, timeout=positive(optional=True))
swept(ek.problems.linear, p=COUNT, d=COUNT, noise=POSITIVE, rng="rng")
swept(ek.problems.deconvolution, n=COUNT, d=COUNT, width=POSITIVE, noise=POSITIVE, rng="rng")
swept(
    lambda **c: ek.problems.darcy(**({"n": 4, "n_modes": 3, "n_wells": 4} | c)),
    "darcy",
    n=positive("integer", 1),
    n_modes=positive("integer", 16, optional=True),
    n_wells=positive("integer", 2, 50),
    noise=POSITIVE,
    rng="rng",
)
swept(ek.problems.lynx_hare, sigma=positive(optional=True))
swept(
    LotkaVolterra,
    n_years=("integer", {"outside": (-1,), "good": 3}),
    steps_per_year=positive("integer", good=3),
)
swept(UnknownScales, n_scales=positive("integer", good=3))
swept(lambda **c: WithLogScales(abs, **c), "WithLogScales", n_scales=positive("integer", good=3))
swept(DarcyFlow, n=positive("integer", good=3))
for read in (
    ek.datasets.mnist,
    ek.datasets.fashion_mnist,
    ek.datasets.svhn,
    ek.datasets.melbourne_temperatures,
    ek.datasets.zurich_sunspots,
):
    swept(read, download="flag")
swept(demo, name="choice", n_members=positive("integer", 1), rng="rng", progress="flag")
swept(
    lambda rng: verification_figure("theory.png", None, rng=rng),
    "verification_figure",
    rng=("integer", {"outside": (-1,)}),
)


def pit(bins: Any) -> Any:
    return ek.plot_pit(ek.calibration(np.zeros((2, 6)), X, 1.0), bins=bins)


def predictive(iteration: Any) -> Any:
    result = ek.run(ek.problems.linear(p=2, d=3).problem, ek.EKI(), n_members=5, rng=0)
    return ek.plot_predictive(result, iteration=iteration)


swept(pit, "plot_pit", bins=positive("integer", 1))
swept(predictive, "plot_predictive", iteration=("integer", {"outside": (1000, -1000)}))


def torch_model(glorot: dict[str, Any] | None = None, **change: Any) -> Any:
    from torch import nn

    from ekitools.adapters.torch import TorchModel

    model = TorchModel(nn.Linear(2, 1), **change)
    return model if glorot is None else model.glorot_variances(**glorot)


def jax_model(glorot: dict[str, Any] | None = None, **change: Any) -> Any:
    from ekitools.adapters.jax import JaxModel

    params = {"b": np.zeros(1, np.float32), "w": np.zeros((3, 1), np.float32)}
    model = JaxModel(lambda params, x: x @ params["w"] + params["b"], params, **change)
    return model if glorot is None else model.glorot_variances(**glorot)


VARIANCE = positive(optional=True)
CHUNK = positive("integer", optional=True, good=3)
for framework, made in (("torch", torch_model), ("jax", jax_model)):
    swept(made, f"{framework.title()}Model", framework, chunk=CHUNK)
    swept(
        lambda made=made, **c: made(c),
        f"{framework.title()}Model.glorot_variances",
        framework,
        bias=VARIANCE,
        other=VARIANCE,
    )
swept(torch_model, "TorchModel", "torch", path=("choice", {"good": "loop"}))
swept(
    lambda **c: jax_model(c),
    "JaxModel.glorot_variances",
    "jax",
    in_axis=("integer", {}),
    out_axis=("integer", {}),
)


def command(**change: Any) -> Any:
    from ekitools.adapters.command import CommandModel

    def write(folder: Any, parameters: Any) -> None:
        """Let no input file and no argument name a parameter."""

    return CommandModel([sys.executable], ["a"], "runs", "out.json", inputs=write, **change)


swept(
    command,
    "CommandModel",
    timeout=positive(good=60, optional=True),
    retries=("integer", {"outside": (-1,), "good": 3}),
    keep=("choice", {"good": "never"}),
    stochastic=("flag", {"good": True}),
)


def serve(**change: Any) -> Any:
    from ekitools.adapters import umbridge

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("umbridge.serve_models", None)  # no server starts
        return umbridge.serve(ek.FunctionModel(abs), "x", **({"shape": (1, 1)} | change))


swept(serve, "serve", "umbridge", port=positive("integer", 65536), workers=COUNT)
swept(lambda shape: serve(shape=(shape, 1)), "serve", "umbridge", shape=COUNT)


def identified(argument: Argument) -> str:
    return f"{argument.owner}-{argument.name}"


def outcome(argument: Argument, value: Any) -> str:
    """The error that a value raises, with its class."""
    try:
        argument.call(**{argument.name: value})
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "taken"


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder to write in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EKITOOLS_CACHE", str(tmp_path))


@pytest.mark.parametrize("argument", ARGUMENTS, ids=identified)
def test_what_is_wrong_is_refused_by_the_name_of_the_argument(argument, elsewhere):
    if argument.needs is not None:
        pytest.importorskip(argument.needs)
    for value, error in argument.refused():
        found = outcome(argument, value)
        sentence = rf"{error.__name__}: {argument.name}: must be .*, got "
        assert re.match(sentence, found), f"{value!r}: {found}"


@pytest.mark.parametrize("argument", [a for a in ARGUMENTS if a.good is not None], ids=identified)
def test_scalars_of_numpy_are_kept_as_plain_values(argument, elsewhere):
    if argument.needs is not None:
        pytest.importorskip(argument.needs)
    for value, kind in argument.spellings():
        kept = getattr(argument.call(**{argument.name: value}), argument.name)
        assert type(kept) is kind, value
        assert kept == argument.good


# Options as JSON


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            ek.CrossEntropy(np.int64(3), logits=np.False_),
            '{"type": "CrossEntropy", "n_classes": 3, "logits": false}',
        ),
        (ek.BinaryCrossEntropy(np.True_), '{"type": "BinaryCrossEntropy", "logits": true}'),
        (
            ek.Huber(np.float32(0.5), delta=np.int32(2)),
            '{"type": "Huber", "scale": 0.5, "delta": 2.0}',
        ),
    ],
)
def test_options_come_back_from_json(options, text):
    assert to_json(options) == text
    rebuilt = from_json(text)
    assert rebuilt == options
    assert rebuilt.fingerprint() == options.fingerprint()


def test_options_beside_arrays_and_functions_are_plain_in_json():
    batches = ek.OnlineData(X, X, np.int8(2), passes=np.int64(3), repeats=np.uint8(1))
    written = json.loads(to_json(batches))
    assert (written["size"], written["passes"], written["repeats"]) == (2, 3, 1)
    written = json.loads(to_json(ek.MiniBatches(X, X, np.int8(2), shuffle=np.False_)))
    assert (written["size"], written["shuffle"]) == (2, False)
    written = json.loads(to_json(ek.FunctionModel(abs, vectorized=np.True_)))
    assert (written["vectorized"], written["stochastic"]) == (True, False)


def test_one_value_has_one_fingerprint():
    def same(make: Callable[[Any], Any], *values: Any) -> bool:
        return len({make(value).fingerprint() for value in values}) == 1

    assert same(ek.Huber, 2, 2.0, np.float32(2))
    assert same(lambda n: ek.CrossEntropy(n), 2, np.int64(2))
    assert same(lambda alpha: field(alpha=alpha), 2, 2.0, np.float32(2))
    assert same(lambda n: field(n_modes=n), 3, np.int64(3))
    assert same(lambda sd: ek.GraphField(LAPLACIAN, sd=sd), 2, 2.0, np.float64(2))
    assert same(lambda n: ek.MiniBatches(X, X, n), 2, np.int64(2))
