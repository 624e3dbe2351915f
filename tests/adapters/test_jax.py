"""`JaxModel` against the function itself, one member after the other."""

import numpy as np
import pytest

import ekitools as ek

jax = pytest.importorskip("jax", reason="jax is not installed")
import jax.numpy as jnp  # noqa: E402

from ekitools import typing as contracts  # noqa: E402
from ekitools.adapters.jax import JaxModel  # noqa: E402

X = np.random.default_rng(3).normal(size=(5, 3)).astype(np.float32)


def dense(params, x):
    for layer in params["hidden"]:
        x = jnp.tanh(x @ layer["w"] + layer["b"])
    return params["scale"] * (x @ params["out"])


def recurrent(params, x):
    """A scan over the columns of x."""

    def step(h, value):
        h = jnp.tanh(value[:, None] * params[0] + h @ params[1])
        return h, None

    return jax.lax.scan(step, jnp.zeros((x.shape[0], 4)), x.T)[0]


DENSE = {
    "hidden": [
        {"w": jnp.zeros((3, 4)), "b": jnp.zeros(4)},
        {"w": jnp.zeros((4, 4)), "b": jnp.zeros(4)},
    ],
    "out": jnp.zeros((4, 2)),
    "scale": jnp.ones(()),
}
CASES = {"dense": (dense, DENSE), "recurrent": (recurrent, (jnp.zeros(4), jnp.zeros((4, 4))))}


def one_by_one(apply, params, u, x):
    """Leaves cut out of every member in turn, in the order of the tree."""
    leaves, tree = jax.tree_util.tree_flatten(params)
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
    rows = []
    for row in np.asarray(u):
        parts = [a.reshape(b.shape) for a, b in zip(np.split(row, ends), leaves, strict=True)]
        rows.append(np.ravel(apply(jax.tree_util.tree_unflatten(tree, parts), x)))
    return np.stack(rows)


def members(params, n=7, dtype=np.float32):
    p = sum(leaf.size for leaf in jax.tree_util.tree_leaves(params))
    return np.random.default_rng(0).normal(size=(n, p)).astype(dtype)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("chunk", [None, 1, 3, 100])
def test_it_computes_what_the_function_does(case, chunk):
    apply, params = CASES[case]
    u = members(params)
    model = JaxModel(apply, params, X, chunk=chunk)
    assert isinstance(model, contracts.ForwardModel)
    g = model(u)
    assert (type(g), g.dtype) == (np.ndarray, np.float32)
    np.testing.assert_allclose(g, one_by_one(apply, params, u, X), rtol=1e-4, atol=1e-5)


def test_the_kind_and_the_dtype_of_the_ensemble_are_kept():
    u = members(DENSE)
    model = JaxModel(dense, DENSE, X.astype(np.float64))
    g = model(u)
    assert isinstance(model(jnp.asarray(u)), jax.Array)
    np.testing.assert_array_equal(model(jnp.asarray(u)), g)
    double = model(u.astype(np.float64))
    assert double.dtype == np.float64
    np.testing.assert_array_equal(double, g)
    np.testing.assert_allclose(model(u[2]), g[2], rtol=1e-5)


def test_float64_where_jax_has_it():
    with jax.enable_x64(True):
        params = jax.tree_util.tree_map(lambda leaf: np.zeros(leaf.shape), DENSE)
        u, x = members(DENSE, dtype=np.float64), X.astype(np.float64)
        g = JaxModel(dense, params, x)(u)
        np.testing.assert_allclose(g, one_by_one(dense, params, u, x), rtol=1e-12)


def test_a_batch_at_every_call():
    u = members(DENSE)
    model = JaxModel(dense, DENSE)
    assert (model.takes_inputs, JaxModel(dense, DENSE, X).takes_inputs) == (True, False)
    for x in (X, X[:2]):
        expected = one_by_one(dense, DENSE, u, x)
        np.testing.assert_allclose(model(u, inputs=x), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="inputs: must be given"):
        model(u)


@pytest.fixture
def traced():
    """A function, and how often it was traced: jax runs its Python code only then."""
    calls = []

    def apply(params, x):
        calls.append(x.shape)
        return dense(params, x)

    return apply, calls


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
def test_it_is_compiled_once_whatever_the_number_of_members(kind, traced):
    apply, calls = traced
    model, u = JaxModel(apply, DENSE), members(DENSE, 40)
    expected = one_by_one(dense, DENSE, u, X)
    for n in (40, 39, 7, 1, 40):
        g = model(kind(u[:n]), inputs=X)
        assert g.shape == (n, 10)
        np.testing.assert_allclose(g, expected[:n], rtol=1e-4, atol=1e-5)
    assert len(calls) == 2  # for the length of the output, and to compile
    model(kind(u[:3]), inputs=X[:4])
    assert calls[2:] == [(4, 3)] * 2  # a batch of another shape
    model(kind(u), inputs=X)
    assert len(calls) == 4


def test_more_members_than_before_are_compiled_once_more(traced):
    apply, calls = traced
    model, u = JaxModel(apply, DENSE, X, chunk=10), members(DENSE, 40)
    expected = one_by_one(dense, DENSE, u, X)
    for n, traces in ((1, 2), (1, 2), (8, 3), (40, 4), (23, 4), (11, 4), (9, 4)):
        np.testing.assert_allclose(model(u[:n]), expected[:n], rtol=1e-4, atol=1e-5)
        assert len(calls) == traces


def test_members_that_fill_up_a_chunk_change_no_other(traced):
    apply, _ = traced
    u = members(DENSE, 7)
    u[6] = np.nan
    g = JaxModel(apply, DENSE, X, chunk=5)(u)
    assert np.isnan(g[6]).all()
    np.testing.assert_allclose(g[:6], one_by_one(dense, DENSE, u[:6], X), rtol=1e-4, atol=1e-5)


def test_load_and_flat_are_inverse():
    u = members(DENSE)[0]
    params = JaxModel(dense, DENSE).load(u)
    np.testing.assert_array_equal(JaxModel(dense, params).flat(), u)
    np.testing.assert_array_equal(params["hidden"][1]["b"], u[16:20])
    expected = one_by_one(dense, DENSE, u[None], X)[0]
    np.testing.assert_allclose(np.ravel(dense(params, X)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(7, 12), (3, 2, 4, 8)])
@pytest.mark.parametrize("axes", [(-2, -1), (1, 0)])
def test_variances_are_those_of_jaxs_own_initialisation(shape, axes):
    initial = jax.nn.initializers.glorot_normal(*axes)
    draws = jax.vmap(lambda key: initial(key, shape))(jax.random.split(jax.random.key(0), 500))
    model = JaxModel(lambda params, x: params, jnp.zeros(shape))
    variance = model.glorot_variances(in_axis=axes[0], out_axis=axes[1])[0]
    error = variance * np.sqrt(2 / draws.size)
    assert float(np.mean(np.square(draws))) == pytest.approx(variance, abs=4 * error)


def test_biases_and_what_has_no_fans():
    model = JaxModel(dense, DENSE)
    with pytest.raises(ValueError, match=r"other: must be given .* params\['scale'\]"):
        model.glorot_variances()
    tree = model.load(model.glorot_variances(other=0.1))
    assert float(tree["hidden"][0]["b"][0]) == pytest.approx(2 / 7)
    assert float(tree["hidden"][1]["w"][0, 0]) == pytest.approx(2 / 8)
    assert float(tree["scale"]) == pytest.approx(0.1)
    tree = model.load(model.glorot_variances(bias=0.5, other=0.1))
    assert [float(tree["hidden"][i]["b"][0]) for i in (0, 1)] == [0.5, 0.5]
    with pytest.raises(
        ValueError, match="bias: must be positive and finite, got -1.0. It is a variance"
    ):
        model.glorot_variances(bias=-1.0)


@pytest.mark.parametrize("kind", ["numpy", "float32", "jax"])
def test_a_regression(kind):
    def apply(params, x):
        return jnp.tanh(x @ params["a"] + params["b"]) @ params["c"] + params["d"]

    shapes = {"a": (1, 8), "b": (8,), "c": (8, 1), "d": (1,)}
    x = np.linspace(-1, 1, 20)[:, None]
    model = JaxModel(apply, {name: jnp.zeros(shape) for name, shape in shapes.items()}, x)
    prior = ek.GaussianPrior(0.0, model.glorot_variances())
    problem = ek.InverseProblem(model, prior, 0.01, np.sin(2 * x).ravel())
    start = prior.sample(100, rng=1).astype(np.float64 if kind == "numpy" else np.float32)
    ensemble = jnp.asarray(start) if kind == "jax" else start
    result = ek.run(problem, ek.EKI(), ensemble=ensemble, rng=0)
    assert not result.failed.any()
    assert result.g.dtype == start.dtype
    mean = result.u.isel(iteration=-1).mean("member").values
    assert np.sqrt(np.mean((model(mean) - problem.data) ** 2)) < 0.2


def test_mistakes():
    for params, error, message in [
        ({}, ValueError, "params: must have at least one array"),
        ({"n": [jnp.arange(3)]}, TypeError, r"got int32 at params\['n'\]\[0\]"),
        (
            {"n": "text"},
            TypeError,
            r"params: must be floating arrays, got .*str.* at params\['n'\]",
        ),
    ]:
        with pytest.raises(error, match=message):
            JaxModel(dense, params)
    for options, error, message in [
        ({"chunk": 0}, ValueError, "chunk: must be at least 1, got 0"),
        ({"chunk": 2.0}, TypeError, "chunk: must be an integer, got 2.0"),
    ]:
        with pytest.raises(error, match=message):
            JaxModel(dense, DENSE, **options)
    with pytest.raises(TypeError, match="apply: must be callable, got ndarray"):
        JaxModel(X, DENSE)
    for inputs, error, message in [
        (
            X[:, :1],
            ValueError,
            r"inputs: must be the second argument of apply.* shape \(\d+, 1\).*TypeError",
        ),
        ([["a"]], TypeError, "inputs: must be arrays of numbers, got dtype <U1"),
    ]:
        with pytest.raises(error, match=message):
            JaxModel(dense, DENSE, inputs)
    with pytest.raises(ValueError, match="apply must return one array, got .* AttributeError"):
        JaxModel(lambda params, x: (x, x), DENSE, X)
    with pytest.raises(TypeError, match=r"apply: must be a function \(params, x\), got one of"):
        JaxModel(lambda params: params, DENSE)
    with pytest.raises(ValueError, match="apply: must return one or more real numbers, got none"):
        JaxModel(lambda params, x: dense(params, x)[:0], DENSE, X)
    with pytest.raises(ValueError, match="apply: must return .* real numbers, got complex64"):
        JaxModel(lambda params, x: 1j * dense(params, x), DENSE, X)
    for axes in ((5, -1), (-1, -1)):
        with pytest.raises(ValueError, match=f"in_axis, out_axis: must be two axes .* {axes[0]} "):
            JaxModel(dense, DENSE).glorot_variances(in_axis=axes[0], out_axis=axes[1])
    model = JaxModel(dense, DENSE, X)
    d = len(model(np.zeros(45)))
    assert model.shape == (d, 45)
    assert JaxModel(dense, DENSE).shape is None
    with pytest.raises(ValueError, match=r"must have the shape \(d, p\)"):
        ek.InverseProblem(model, ek.GaussianPrior(np.zeros(45), 1.0), 1.0, np.ones(d + 1))
    for u, error, message in [
        (np.ones((3, 4)), ValueError, r"\(J, p\) with p = 45, got \(3, 4\)"),
        ([[1.0]], ValueError, "got list"),
        (np.ones((2, 45), int), TypeError, "floating dtype, got int64"),
    ]:
        with pytest.raises(error, match=f"u: must .*{message}"):
            model(u)
    with pytest.raises(ValueError, match="u: must be one vector of p = 45 entries"):
        model.load(np.ones((2, 45)))
