"""The Kalman analysis against the textbook formula, and what must hold whatever the numbers."""

import tracemalloc
from fractions import Fraction

import array_api_strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ekitools as ek
from ekitools.linalg import (
    combine_anomalies,
    covariance_product,
    kalman_update,
    total_variance,
)


def textbook(u, g, y, gamma, step, draw):
    """The formula as it is written, with the d x d inverse it is written with."""
    n = u.shape[0]
    e, f = u - u.mean(0), g - g.mean(0)
    cuw, cww = e.T @ f / (n - 1), f.T @ f / (n - 1)
    innovation = y - g if draw is None else y + draw - g
    return u + (cuw @ np.linalg.inv(cww + gamma / step) @ innovation.T).T


def noises(d, rng):
    diag, factor = rng.uniform(0.5, 2.0, d), rng.normal(size=(d, 3))
    dense = np.diag(diag) + factor @ factor.T
    return {
        "scalar": (0.7, 0.7 * np.eye(d)),
        "diagonal": (diag, np.diag(diag)),
        "dense": (dense, dense),
        "low-rank": ((diag, factor), dense),
    }


def case(n, p, d, seed=0):
    rng = np.random.default_rng(seed)
    u = 3 + rng.normal(size=(n, p))
    g = np.tanh(u @ rng.normal(size=(p, d))) + 0.1 * rng.normal(size=(n, d)) + 5
    return u, g, rng.normal(size=d) + 5, rng.normal(size=(n, d))


SIZES = [(2, 1, 1), (4, 3, 9), (9, 3, 9), (10, 3, 9), (30, 6, 9), (12, 5, 600)]


@pytest.mark.parametrize("drawn", [False, True])
@pytest.mark.parametrize("kind", ["scalar", "diagonal", "dense", "low-rank"])
@pytest.mark.parametrize(("n", "p", "d"), SIZES)
def test_equals_the_textbook_formula(n, p, d, kind, drawn):
    u, g, y, draw = case(n, p, d)
    cov, gamma = noises(d, np.random.default_rng(1))[kind]
    draw = draw if drawn else None
    new = kalman_update(u, g, y, ek.GaussianNoise(cov), step=0.3, noise_draw=draw)
    np.testing.assert_allclose(new, textbook(u, g, y, gamma, 0.3, draw), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("n", "p", "d"), [(20, 4, 60), (60, 4, 20)])
def test_the_forms_of_the_same_noise_agree(n, p, d):
    u, g, y, draw = case(n, p, d)
    variances = np.full(d, 0.7)
    forms = [0.7, variances, np.diag(variances), (variances, np.zeros((d, 2)))]
    updates = [kalman_update(u, g, y, form, noise_draw=draw) for form in forms]
    for other in updates[1:]:
        np.testing.assert_allclose(other, updates[0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("d", [3, 40])
def test_float32_is_kept_and_agrees_with_float64(d):
    u, g, y, draw = case(20, 5, d)
    exact = kalman_update(u, g, y, 0.5, noise_draw=draw)
    single = [a.astype(np.float32) for a in (u, g, y, draw)]
    new = kalman_update(*single[:3], 0.5, noise_draw=single[3])
    assert new.dtype == np.float32
    np.testing.assert_allclose(new, exact, rtol=2e-4)


@pytest.mark.parametrize("kind", ["scalar", "diagonal", "dense", "low-rank"])
@pytest.mark.parametrize(("n", "d"), [(6, 9), (9, 6), (40, 6)])
def test_array_api_strict_agrees_with_numpy(n, d, kind):
    u, g, y, draw = case(n, 3, d)
    cov, _ = noises(d, np.random.default_rng(1))[kind]
    expected = kalman_update(u, g, y, cov, noise_draw=draw)
    strict = [array_api_strict.asarray(a) for a in (u, g, y, draw)]
    new = kalman_update(*strict[:3], cov, noise_draw=strict[3])
    assert type(new) is type(strict[0])
    np.testing.assert_allclose(np.asarray(new), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["scalar", "diagonal", "dense", "low-rank"])
@pytest.mark.parametrize(("n", "d"), [(6, 9), (9, 6), (40, 6)])
def test_torch_agrees_with_numpy(n, d, kind):
    torch = pytest.importorskip("torch")
    u, g, y, draw = case(n, 3, d)
    cov, _ = noises(d, np.random.default_rng(1))[kind]
    expected = kalman_update(u, g, y, cov, noise_draw=draw)
    tensors = [torch.as_tensor(a) for a in (u, g, y, draw)]
    new = kalman_update(*tensors[:3], cov, noise_draw=tensors[3])
    assert isinstance(new, torch.Tensor)
    np.testing.assert_allclose(new.numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("d", [5, 50])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_torch_on_a_device_adds_the_ensemble_within_the_product(d, dtype, monkeypatch):
    torch = pytest.importorskip("torch")
    u, g, y, draw = case(20, 7, d)
    expected = kalman_update(u, g, y, 0.3, noise_draw=draw)
    asked = []
    monkeypatch.setattr("ekitools.linalg.columns.in_host_memory", lambda x: bool(asked.append(x)))
    *given, draw = (torch.as_tensor(a, dtype=getattr(torch, dtype)) for a in (u, g, y, draw))
    found = kalman_update(*given, 0.3, noise_draw=draw)
    assert len(asked) == 1
    tolerance = 1e-12 if dtype == "float64" else 1e-4
    np.testing.assert_allclose(found.numpy(), expected, rtol=tolerance, atol=tolerance)


def test_inputs_are_not_mutated():
    for d in (5, 50):
        inputs = case(20, 3, d)
        copies = [a.copy() for a in inputs]
        for cov in noises(d, np.random.default_rng(0)).values():
            kalman_update(*inputs[:3], cov[0], noise_draw=inputs[3])
        for array, copy in zip(inputs, copies, strict=True):
            np.testing.assert_array_equal(array, copy)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**20), n=st.integers(2, 12), d=st.integers(1, 12))
def test_permuting_the_members_permutes_the_result(seed, n, d):
    u, g, y, draw = case(n, 3, d, seed)
    order = np.random.default_rng(seed).permutation(n)
    new = kalman_update(u, g, y, 0.5, noise_draw=draw)
    permuted = kalman_update(u[order], g[order], y, 0.5, noise_draw=draw[order])
    np.testing.assert_allclose(permuted, new[order], rtol=1e-9, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**20), n=st.integers(2, 12), d=st.integers(1, 12))
def test_an_affine_change_of_parameters_commutes_with_the_update(seed, n, d):
    u, g, y, draw = case(n, 3, d, seed)
    rng = np.random.default_rng(seed + 1)
    matrix, shift = rng.normal(size=(3, 3)) + 3 * np.eye(3), 10 * rng.normal(size=3)
    new = kalman_update(u, g, y, 0.5, noise_draw=draw) @ matrix + shift
    mapped = kalman_update(u @ matrix + shift, g, y, 0.5, noise_draw=draw)
    np.testing.assert_allclose(mapped, new, rtol=1e-9, atol=1e-8)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**20), d=st.integers(1, 20))
def test_the_update_stays_in_the_affine_span(seed, d):
    u, g, y, draw = case(5, 12, d, seed)
    move = kalman_update(u, g, y, 0.5, noise_draw=draw) - u.mean(0)
    basis = np.linalg.svd(u - u.mean(0), full_matrices=False)[2][:4]
    np.testing.assert_allclose(move @ basis.T @ basis, move, atol=1e-9)


@pytest.mark.parametrize("d", [2, 30])
def test_a_parameter_without_spread_keeps_its_value_to_the_last_bit(d):
    u, g, y, draw = case(10, 3, d)
    u[:, 1] = 0.1  # not a binary fraction: its mean over ten members is not itself
    new = kalman_update(u, g, y, 1e-6, step=50.0, noise_draw=draw)
    np.testing.assert_array_equal(new[:, 1], 0.1)
    assert np.all(new[:, 0] != u[:, 0])


def test_identical_members_stay_where_they_are():
    u, g = np.full((5, 2), 0.1), np.full((5, 30), 0.3)
    np.testing.assert_array_equal(kalman_update(u, g, np.ones(30), 1.0), u)


@pytest.mark.parametrize("d", [6, 40])
def test_noise_far_smaller_than_the_spread_in_float32(d):
    """The Gram matrix is then singular to rounding; the mean must still fit and stay finite."""
    rng = np.random.default_rng(0)
    u = rng.normal(size=(20, 4)).astype(np.float32)
    matrix = rng.normal(size=(4, d)).astype(np.float32)
    truth = np.array([0.5, -0.2, 0.1, 0.3], dtype=np.float32)
    new = kalman_update(u, u @ matrix, truth @ matrix, 1e-10)
    np.testing.assert_allclose(new.mean(0), truth, atol=2e-3)


def rational(a):
    return np.vectorize(Fraction, otypes=[object])(np.asarray(a, dtype=np.float64))


def exact(u, g, y, sd, draw, step=1):
    """The formula in rational numbers, in data space."""
    n, d = g.shape
    u, g, y, draw = (rational(a) for a in (u, g, y, draw))
    e, f, sd = u - u.sum(0) / n, (g - g.sum(0) / n) / Fraction(sd), Fraction(sd)
    a, b = f.T @ f + Fraction(n - 1) / step * np.eye(d, dtype=int), ((y + draw - g) / sd).T.copy()
    for k in range(d):
        factors = a[k + 1 :, k] / a[k, k]
        a[k + 1 :, k:] -= factors[:, None] * a[k, k:]
        b[k + 1 :] -= factors[:, None] * b[k]
    for k in reversed(range(d)):
        b[k] = (b[k] - a[k, k + 1 :] @ b[k + 1 :]) / a[k, k]
    return u + b.T @ (f.T @ e)


def precise(kind, ratio, n, d):
    """A linear model with noise of sd ``ratio``: members, outputs, data and draws."""
    rng = np.random.default_rng(0)
    u, matrix = rng.normal(size=(n, 4)), rng.normal(size=(4, d))
    if kind == "unobserved":
        matrix[2:] = 0
    if kind == "twins":
        u[1] = u[0]
    y = rng.normal(size=4) / 2 @ matrix + ratio * rng.normal(size=d)
    if kind == "offset":
        y += rng.normal(size=d)
    return u, u @ matrix, y, ratio * rng.normal(size=(n, d))


def furthest(new, expected):
    return float(np.abs(rational(new) - expected).max())


@pytest.mark.parametrize("kind", ["observed", "offset", "unobserved", "twins"])
@pytest.mark.parametrize("exponent", [7, 13, 20, 27, 33, 40])
@pytest.mark.parametrize("d", [7, 15])
def test_small_noise_costs_no_digits(d, exponent, kind):
    """Against rational numbers, for noise sd / spread from 1e-2 to 1e-12.

    Rounding in the outputs moves parameters that they do not depend on by eps / ratio; tolerances
    are those of benchmarks/kalman_accuracy.py times four.
    """
    ratio = 2.0**-exponent
    u, g, y, draw = precise(kind, ratio, 10, d)
    new = kalman_update(u, g, y, ratio**2, noise_draw=draw)
    tolerance = 1e-10 + (1e-15 / ratio if kind == "unobserved" else 0)
    tolerance = 4e-8 if kind == "offset" and exponent == 40 else tolerance
    assert furthest(new, exact(u, g, y, ratio, draw)) < tolerance


@pytest.mark.parametrize("kind", ["observed", "unobserved"])
@pytest.mark.parametrize("exponent", [3, 7, 13, 20])
@pytest.mark.parametrize("d", [7, 15])
def test_small_noise_costs_no_digits_in_float32(d, exponent, kind):
    ratio = 2.0**-exponent
    u, g, y, draw = (a.astype(np.float32) for a in precise(kind, ratio, 10, d))
    new = kalman_update(u, g, y, ratio**2, noise_draw=draw)
    assert new.dtype == np.float32
    # rounding of the result, and in the worst case 50 eps from the Gram matrix
    assert furthest(new, exact(u, g, y, ratio, draw)) < 1.5e-5


@pytest.mark.parametrize("namespace", ["strict", "torch"])
@pytest.mark.parametrize("d", [2, 7, 15])
def test_small_noise_in_other_namespaces(d, namespace):
    u, g, y, draw = precise("observed", 2.0**-27, 10, d)
    expected = kalman_update(u, g, y, 2.0**-54, noise_draw=draw)
    if namespace == "torch":
        convert = pytest.importorskip("torch").as_tensor
    else:
        convert = array_api_strict.asarray
    arrays = [convert(a) for a in (u, g, y, draw)]
    new = kalman_update(*arrays[:3], 2.0**-54, noise_draw=arrays[3])
    assert type(new) is type(arrays[0])
    np.testing.assert_allclose(np.asarray(new), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("kind", ["scalar", "diagonal", "dense", "low-rank"])
@pytest.mark.parametrize(("n", "d"), [(10, 15), (10, 7), (20, 7), (10, 400)])
def test_small_noise_of_any_form(n, d, kind):
    """The whitened analysis with unit noise is the reference; it does not know Γ."""
    cov, _ = noises(d, np.random.default_rng(1))[kind]
    scale = 2.0**-50
    cov = (cov[0] * scale, cov[1] * 2.0**-25) if isinstance(cov, tuple) else cov * scale
    noise = ek.GaussianNoise(cov)
    u, g, y, draw = precise("observed", 2.0**-25, n, d)
    new = kalman_update(u, g, y, noise, noise_draw=draw)
    white = [noise.whiten(a) for a in (g, y, draw)]
    expected = kalman_update(u, *white[:2], 1.0, noise_draw=white[2])
    np.testing.assert_allclose(new, expected, rtol=0, atol=1e-12)


def test_small_noise_in_blocks(monkeypatch):
    u, g, y, draw = precise("observed", 2.0**-27, 8, 3000)
    whole = kalman_update(u, g, y, 2.0**-54, noise_draw=draw)
    monkeypatch.setattr("ekitools.linalg.columns._BLOCK_BYTES", 1)
    blocked = kalman_update(u, g, y, 2.0**-54, noise_draw=draw)
    np.testing.assert_allclose(blocked, whole, rtol=0, atol=1e-13)


@pytest.mark.parametrize("d", [2, 7, 15])
def test_small_noise_leaves_a_parameter_without_spread_to_the_last_bit(d):
    u, g, y, draw = precise("unobserved", 2.0**-27, 10, d)
    u[:, 3] = 0.1
    new = kalman_update(u, g, y, 2.0**-54, noise_draw=draw)
    np.testing.assert_array_equal(new[:, 3], 0.1)
    assert np.all(new[:, 0] != u[:, 0])


@pytest.mark.parametrize("d", [7, 60])
def test_four_analyses_with_tiny_noise_reach_the_posterior(d):
    """Noise of 1e-9 of the prior's spread, and a linear model: the closed form is least squares."""
    rng, sd, n = np.random.default_rng(0), 1e-9, 50
    matrix = rng.normal(size=(d, 3))
    y = matrix @ [0.5, -0.2, 0.1] + sd * rng.normal(size=d)
    problem = ek.InverseProblem(
        ek.LinearModel(matrix), ek.GaussianPrior(np.zeros(3), 1.0), sd**2, y
    )
    u = ek.run(problem, ek.EKI(ek.ESMDA(4)), n_members=n, rng=0).u[-1].values
    inverse = np.linalg.pinv(matrix)
    marginal = sd * np.sqrt(np.sum(inverse**2, axis=1))
    assert np.all(np.abs(u.mean(0) - inverse @ y) < 4 * marginal / np.sqrt(n))
    np.testing.assert_allclose(u.std(0, ddof=1) / marginal, 1, atol=4 / np.sqrt(2 * n))


def test_the_spread_survives_a_large_offset():
    """Anomalies are taken before anything is squared: a far-away mean costs no digits."""
    u, g, y, draw = case(20, 3, 50)
    near = kalman_update(u, g, y, 0.5, noise_draw=draw)
    far = kalman_update(u + 1e6, g + 1e6, y + 1e6, 0.5, noise_draw=draw) - 1e6
    np.testing.assert_allclose(far, near, atol=1e-7)


@pytest.mark.parametrize("drawn", [False, True])
@pytest.mark.parametrize("kind", ["scalar", "diagonal", "dense", "low-rank"])
@pytest.mark.parametrize(("n", "d"), [(20, 3), (20, 14), (20, 20), (20, 50)])
def test_an_offset_of_all_outputs_costs_no_digits(n, d, kind, drawn):
    """On a grid of 2⁻²⁰ the offset is added and taken off without rounding."""
    u, g, y, draw = (np.round(a * 2**20) / 2**20 for a in case(n, 4, d))
    draw = draw if drawn else None
    cov, gamma = noises(d, np.random.default_rng(1))[kind]
    exact = textbook(u, g, y, gamma, 1.0, draw)
    offset = 2.0**30
    far = kalman_update(u, g + offset, y + offset, ek.GaussianNoise(cov), noise_draw=draw)
    np.testing.assert_allclose(far, exact, rtol=1e-11, atol=1e-11)


def test_column_blocks_do_not_change_the_result(monkeypatch):
    u, g, y, draw = case(20, 700, 900)
    whole = kalman_update(u, g, y, np.linspace(0.5, 1, 900), noise_draw=draw)
    monkeypatch.setattr("ekitools.linalg.columns._BLOCK_BYTES", 1)
    blocked = kalman_update(u, g, y, np.linspace(0.5, 1, 900), noise_draw=draw)
    np.testing.assert_allclose(blocked, whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("n", "p", "d"), [(50, 40000, 50), (50, 50, 40000), (50, 20000, 20000), (200, 10000, 100)]
)
def test_extra_memory_is_below_that_of_the_inputs(n, p, d):
    rng = np.random.default_rng(0)
    u, g, draw = (rng.normal(size=(n, k)) for k in (p, d, d))
    y = rng.normal(size=d)
    noise = ek.GaussianNoise(np.full(d, 0.5))
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    new = kalman_update(u, g, y, noise, noise_draw=draw)
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert peak - new.nbytes <= u.nbytes + g.nbytes + draw.nbytes


@pytest.mark.parametrize(("n", "p", "d"), SIZES)
def test_covariance_products_are_those_of_the_covariances(n, p, d, monkeypatch):
    u, g, _, rows = case(n, p, d)
    v, more = np.random.default_rng(1).normal(size=(2, n, 2))
    e, f, k = u - u.mean(0), g - g.mean(0), v - v.mean(0)
    plain = rows @ (f.T @ e) / n
    both = plain + more @ (k.T @ e) / n
    np.testing.assert_allclose(covariance_product(u, (rows, g)), plain, rtol=1e-9, atol=1e-12)
    found = covariance_product(u, (rows, g), (more, v), factor=-2.0)
    np.testing.assert_allclose(found, -2 * both, rtol=1e-9, atol=1e-12)
    weights = rows[:, :1] + np.arange(n)
    np.testing.assert_allclose(combine_anomalies(weights, u), weights @ e, rtol=1e-9, atol=1e-12)
    strict = [array_api_strict.asarray(a) for a in (u, rows, g, more, v)]
    other = covariance_product(strict[0], tuple(strict[1:3]), tuple(strict[3:]), factor=-2.0)
    np.testing.assert_allclose(np.asarray(other), found, rtol=1e-9, atol=1e-12)
    monkeypatch.setattr("ekitools.linalg.columns._BLOCK_BYTES", 1)
    other = covariance_product(u, (rows, g), (more, v), factor=-2.0)
    np.testing.assert_allclose(other, found, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("d", [3, 40])
def test_covariance_products_of_a_collapsed_ensemble_keep_their_digits(d):
    """Anomalies of 2⁻²⁰ at an offset are exact; products must not see the offset."""
    rng = np.random.default_rng(0)
    e, f = rng.integers(-99, 99, (20, 5)) / 2.0**20, rng.integers(-99, 99, (20, d)) / 2.0**20
    rows = rng.normal(size=(20, d))
    plain = covariance_product(e, (rows, f))
    moved = covariance_product(e + 1000, (rows, f + 1000))
    np.testing.assert_allclose(moved, plain, rtol=1e-9, atol=1e-12 * np.abs(plain).max())


@pytest.mark.parametrize("p", [1, 7, 3000])
def test_total_variance_is_the_trace_of_the_covariance(p):
    u = 100 + np.random.default_rng(0).normal(size=(50, p))
    assert total_variance(u) == pytest.approx(np.var(u, axis=0, ddof=1).sum(), rel=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"u": np.zeros(3)}, r"u: must be \(J, p\) with J >= 2 members, got shape \(3,\)"),
        ({"u": np.zeros((1, 3))}, "J >= 2"),
        (
            {"g": np.zeros((3, 4))},
            r"g: must be \(J, d\) with the J = 5 rows of u, got shape \(3, 4\)",
        ),
        ({"g": np.zeros((5, 0))}, "g: last axis must have one or more"),
        (
            {"data": np.zeros(3)},
            r"g, data: must be \(J, d\) and \(d,\), got shapes \(5, 4\) and \(3,\)",
        ),
        ({"noise": np.ones(3)}, "noise: must be for the d = 4 data of g, got noise for 3"),
        ({"noise_draw": np.zeros((5, 3))}, r"noise_draw: must have the shape \(5, 4\) of g"),
        ({"step": 0.0}, "step: must be positive and finite, got 0.0"),
        ({"step": -1.0}, "step: must be positive"),
        ({"step": np.inf}, "step: must be positive and finite"),
        ({"step": np.nan}, "step: must be positive and finite"),
    ],
)
def test_bad_arguments_are_named(change, message):
    rng = np.random.default_rng(0)
    arguments = {"u": rng.normal(size=(5, 3)), "g": rng.normal(size=(5, 4)), "data": np.zeros(4)}
    arguments |= {"noise": 1.0} | change
    with pytest.raises(ValueError, match=message):
        kalman_update(**arguments)


@pytest.mark.parametrize("d", [2, 9])
def test_an_overflow_is_said(d):
    g = np.random.default_rng(0).normal(size=(5, d)).astype(np.float32) * np.float32(1e30)
    with pytest.raises(ValueError, match="g: must be small enough"):
        kalman_update(g, g, np.zeros(d, dtype=np.float32), 1.0)
