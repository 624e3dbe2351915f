"""Rows of the table: theory, example problems, data sets, checks of users' parts, and adapters."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import ekitools as ek
from zoo.wrong import right
from zoo.wrong.kinds import (
    CHOICE,
    COUNT,
    FLAG,
    OF_ARGUMENTS,
    PATH,
    POSITIVE,
    RNG,
    SD,
    TEXT,
    TIMES,
    Kind,
    anything,
    array,
    elsewhere,
    integer,
    kind,
    made,
    nothing,
    optional,
)
from zoo.wrong.table import NOISE, PRIOR, PROBLEM, RESULT, swept

# Theory

EXACT = {"ensemble": right.MEMBERS, "A": right.A, "noise": np.eye(3)}
SIZES = {"ensemble": array(6, 2), "A": array(3, 2), "noise": NOISE, "noise_sd": elsewhere()}
LATER = TIMES.but("empty list", "empty array")
swept("theory.spectrum", EXACT, **SIZES)
swept("theory.covariance_flow", {**EXACT, "t": [0.0, 1.0]}, **SIZES, t=LATER)
swept(
    "theory.linear_flow",
    {**EXACT, "data": right.DATA, "t": [0.0, 1.0]},
    **SIZES,
    data=array(3),
    t=LATER,
)
swept(
    "theory.posterior",
    lambda: {"A": right.A, "data": right.DATA, "prior": right.prior(), "noise": np.eye(3)},
    A=array(3, 2),
    data=array(3),
    prior=PRIOR.also(right.marginals()),
    noise=NOISE,
    noise_sd=elsewhere(),
)
NOISELESS = {"ensemble": right.MEMBERS, "A": right.A}
for each, rest in {
    "spectrum": NOISELESS,
    "covariance_flow": {**NOISELESS, "t": [0.0, 1.0]},
    "linear_flow": {**NOISELESS, "data": right.DATA, "t": [0.0, 1.0]},
    "posterior": {"A": right.A, "data": right.DATA, "prior": right.prior()},
}.items():
    swept(f"theory.{each}(noise_sd=)", {**rest, "noise_sd": 1.0}, noise_sd=SD.also([1.0]))
swept(
    "theory.check_linear_theory",
    lambda: {"result": right.flow(), "problem": right.linear()},
    result=RESULT,
    problem=PROBLEM,
)
swept("theory.verify", _runs=False, rng=integer(0))

# Example problems and data sets

swept("problems.linear", p=COUNT, d=COUNT, noise=POSITIVE, rng=RNG)
swept("problems.deconvolution", n=COUNT, d=COUNT, width=POSITIVE, noise=POSITIVE, rng=RNG)
swept(
    "problems.darcy",
    {"n": 4, "n_modes": 3, "n_wells": 4},
    n=integer(2),
    n_modes=optional(integer(1, 15)),
    n_wells=integer().also(2, 50),
    noise=POSITIVE,
    rng=RNG,
)
swept(
    "problems.darcy_field",
    {"n": 4, "n_wells": 4},
    n=integer(2, 70),
    length=POSITIVE,
    n_wells=integer().also(2, 50),
    noise=POSITIVE,
    rng=RNG,
)
swept("problems.lynx_hare", sigma=optional(POSITIVE))
swept(
    "problems.lorenz96",
    {"n_sites": 4, "window": 1.0, "dt": 0.05},
    forcing=CHOICE,
    n_sites=integer(4),
    window=optional(POSITIVE),
    dt=POSITIVE,
    rng=RNG,
)
for name in filter(str.islower, ek.datasets.__all__):
    swept(f"datasets.{name}", _runs=False, download=FLAG)

# Checks of parts that users write

EXCLUDE = kind(
    "names of checks",
    *("x", ["x"], [3], ("members", "x"), 3, [["members"]]),
    right=("empty list", "iterator", "empty array"),
)


def tried(cls: type) -> Kind:
    """An object under test: a broken promise is an AssertionError that names the promise."""
    wrong = made("object under test", lambda: cls)
    return wrong._replace(errors=(AssertionError, TypeError, ValueError))


TRIAL = {"rng": RNG, "exclude": EXCLUDE}
swept(
    "testing.check_method",
    lambda: {"method": ek.EKI(ek.ESMDA(4))},
    _runs=False,
    method=tried(ek.EKI),
    problem=optional(PROBLEM),
    n_members=integer(5),
    **TRIAL,
)
swept(
    "testing.check_model",
    lambda: {"model": ek.LinearModel(right.A), "prior": right.prior()},
    model=tried(ek.LinearModel),
    prior=optional(PRIOR),
    u=optional(array(6, 2, sized=False)),
    inputs=anything("a model may take inputs of any kind"),
    **TRIAL,
)
swept(
    "testing.check_noise",
    lambda: {"noise": ek.GaussianNoise(np.eye(3))},
    noise=tried(ek.GaussianNoise),
    n_data=optional(integer(3, 3)),
    outputs=optional(array(6, 3)),
    data=optional(array(3)),
    **TRIAL,
)
swept(
    "testing.check_prior", lambda: {"prior": right.prior()}, prior=tried(ek.GaussianPrior), **TRIAL
)
swept(
    "testing.check_schedule",
    lambda: {"rule": ek.FixedStep(0.5)},
    rule=tried(ek.FixedStep),
    exclude=EXCLUDE,
)

# Adapters

swept(
    "adapters.command.CommandModel",
    lambda: {
        "command": [sys.executable],
        "parameter_names": ["a"],
        "folder": right.scratch() / "runs",
        "output": "out.json",
        "inputs": right.write,
    },
    command=kind(
        "command",
        *("ls", [3], [""], ["ls", None], [Path("/no/such/file")], [sys.executable, "${b}"]),
    ),
    parameter_names=kind(
        "names",
        *("ab", b"ab", ["a", "a"], ["a", ""], ["a", None], ["a", 3], {"a"}, [["a"]]),
        right=("list of texts", "array of texts"),
    ),
    folder=PATH,
    output=kind(
        "output",
        *("out.txt", "/tmp/x/../out.json", 3, ["out.json"], b"out.json", "a/../../out.json"),
        nothing,
        right=("class",),
    ),
    key=optional(TEXT),
    inputs=kind(
        "inputs",
        *("a.txt", {"a": 3}, {3: "a"}, {"../a": "b"}, {"/a": "b"}, ["a"], nothing),
        right=("class", "Dataset"),  # an empty mapping
    ),
    timeout=optional(POSITIVE),
    retries=integer(0),
    keep=CHOICE,
    environment=kind(
        "environment",
        *({3: "a"}, {"a=b": "c"}, {"a": None}, ["a=b"], "a=b", {"a": True}),
        right=("dict", "Dataset"),
    ),
    stochastic=FLAG,
)
if find_spec("torch") is not None:
    name = "adapters.torch.TorchModel"
    swept(
        name,
        lambda: {"module": right.net()},
        module=made("module", lambda: type(right.net()), lambda: [right.net()], lambda: abs),
        inputs=optional(array(5, 2)),
        chunk=optional(COUNT),
        path=CHOICE,
        precision=optional(CHOICE),
    )
    swept(f"{name}.load", {"u": np.ones(3)}, _of=right.torch_model, u=array(3))
    swept(
        f"{name}.glorot_variances",
        _of=right.torch_model,
        bias=optional(POSITIVE),
        other=optional(POSITIVE),
    )
if find_spec("jax") is not None:
    name = "adapters.jax.JaxModel"
    swept(
        name,
        lambda: {"apply": right.apply, "params": right.params()},
        apply=OF_ARGUMENTS.also(nothing),
        params=kind(
            "tree of arrays",
            *({"a": "x"}, {"a": np.array(["x"])}, {"a": np.array([1j])}, {"a": object()}),
            *({"a": np.array([1, 2])}, {}, {"a": {}}, [np.array(True)], {"a": None}),
            right=(
                *("2.5", "NaN", "infinity", "minus infinity", "ragged list", "dict"),
                *("array with NaN", "array of 5 dimensions", "five numbers", "five by five"),
                "iterator",  # JAX has a warning of its own
            ),
        ),
        inputs=kind(
            "tree of arrays",
            *(np.ones((5, 3)), np.array(["x"]), np.array([object()]), {"x": "y"}),
            right=("None", "iterator", "complex array", "array with NaN"),
        ),
        chunk=optional(COUNT),
    )
    swept(f"{name}.load", {"u": np.ones(3)}, _of=right.jax_model, u=array(3))
    axis = integer(None, 1)
    swept(
        f"{name}.glorot_variances",
        _of=right.jax_model,
        bias=optional(POSITIVE),
        other=optional(POSITIVE),
        in_axis=axis,
        out_axis=axis,
    )
if find_spec("umbridge") is not None:
    name = "adapters.umbridge"
    shape = kind(
        "shape", 3, (1,), (1, 2, 3), (0, 1), (1.5, 1), ("1", 1), (-1, 1), (True, 1), right=("None",)
    )
    of = made("model", lambda: 3, lambda: right.A, lambda: [right.model])
    swept(
        f"{name}.UMBridgeModel",
        {"url": "http://127.0.0.1:9", "name": "x"},
        _runs=False,
        url=kind("url", "localhost:1", "ftp://x", 3, "http://127.0.0.1:9", ["http://x"]),
        name=TEXT.but(),
        config=kind(
            "config",
            *(3, {3: "a"}, {"a": object()}, [("a", 1)], {"a": np.ones(2)}, {"a": {1}}),
            right=("None", "dict", "Dataset"),
        ),
    )
    served = {"model": ek.FunctionModel(right.model), "name": "x", "shape": (3, 2)}
    swept(f"{name}.ServedModel", served, model=of, name=TEXT, shape=shape)
    for each in ("get_input_sizes", "get_output_sizes"):
        reason = "the protocol has this argument, and the model has no use for it"
        swept(f"{name}.ServedModel.{each}", _of=right.served, config=anything(reason))
    swept(
        f"{name}.serve",
        served,
        _runs=False,
        model=of,
        name=TEXT,
        port=integer(1, 65535),
        shape=shape,
        workers=COUNT,
        host=TEXT.without("text", "number as text"),
    )
