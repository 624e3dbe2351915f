"""`kalman_coefficients` against the textbook formula, `kalman_update` and the methods."""

import array_api_strict
import numpy as np
import pytest

import ekitools as ek
from ekitools.core.streams import Streams

SIZES = [(2, 1), (4, 9), (9, 9), (10, 9), (30, 6), (12, 600)]
P = 7


def case(n, d, seed=0):
    rng = np.random.default_rng(seed)
    u = 3 + rng.normal(size=(n, P))
    g = np.tanh(u @ rng.normal(size=(P, d))) + 0.1 * rng.normal(size=(n, d)) + 5
    return u, g, rng.normal(size=d) + 5, rng.normal(size=(n, d))


def noises(d):
    rng = np.random.default_rng(1)
    diag, factor = rng.uniform(0.5, 2.0, d), rng.normal(size=(d, 2))
    dense = np.diag(diag) + factor @ factor.T
    return {
        "scalar": (0.7, 0.7 * np.eye(d)),
        "diagonal": (diag, np.diag(diag)),
        "dense": (dense, dense),
        "low-rank": ((diag, factor), dense),
    }


def moved(coefficients, u):
    return u + coefficients @ (u - u.mean(axis=0))


def perturbing(draw):
    """Options for these perturbations of the data, or none."""
    return {"analysis": "unperturbed" if draw is None else "perturbed", "noise_draw": draw}


def gain(u, g, gamma):
    e, f = u - u.mean(axis=0), g - g.mean(axis=0)
    n = len(u) - 1
    return np.linalg.solve(f.T @ f / n + gamma, f.T @ e / n)


@pytest.mark.parametrize("kind", ["scalar", "diagonal", "dense", "low-rank"])
@pytest.mark.parametrize(("n", "d"), SIZES)
@pytest.mark.parametrize("drawn", [False, True])
def test_the_members_are_those_of_the_textbook_formula(n, d, kind, drawn):
    u, g, y, draw = case(n, d)
    noise, gamma = noises(d)[kind]
    options = perturbing(draw if drawn else None)
    K = ek.kalman_coefficients(g, y, noise, step=0.3, **options)
    expected = u + (y + drawn * draw - g) @ gain(u, g, gamma / 0.3)
    np.testing.assert_allclose(moved(K, u), expected, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(K.sum(axis=1), 0, atol=1e-12)


@pytest.mark.parametrize("kind", ["scalar", "diagonal", "dense", "low-rank"])
@pytest.mark.parametrize(("n", "d"), SIZES)
def test_the_square_root_has_the_mean_and_covariance_of_the_textbook_formula(n, d, kind):
    u, g, y, _ = case(n, d)
    noise, gamma = noises(d)[kind]
    new = moved(ek.kalman_coefficients(g, y, noise, step=0.3), u)
    both = gain(u, g, gamma / 0.3)
    mean = u.mean(axis=0) + (y - g.mean(axis=0)) @ both
    e, f = u - u.mean(axis=0), g - g.mean(axis=0)
    cov = (e.T @ e - (f.T @ e).T @ both) / (n - 1)
    np.testing.assert_allclose(new.mean(axis=0), mean, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(np.cov(new.T), cov, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("n", "d"), SIZES)
@pytest.mark.parametrize("drawn", [False, True])
def test_they_are_those_of_kalman_update(n, d, drawn):
    u, g, y, draw = case(n, d)
    options = perturbing(draw if drawn else None)
    K = ek.kalman_coefficients(g, y, noise_sd=0.8, step=0.3, **options)
    expected = ek.kalman_update(u, g, y, noise_sd=0.8, step=0.3, noise_draw=options["noise_draw"])
    new = ek.apply_update(K, u)
    np.testing.assert_allclose(new, expected, rtol=1e-12, atol=1e-12)
    if n <= d:
        np.testing.assert_array_equal(new, expected)


@pytest.mark.parametrize(
    ("method", "analysis"),
    [
        (ek.ETKI, "transform"),
        (ek.EKI, "perturbed"),
        (lambda step: ek.EKI(step, perturbed=False), "unperturbed"),
    ],
)
@pytest.mark.parametrize(("n", "d"), SIZES[1:])
def test_a_step_of_a_method_is_their_application(n, d, method, analysis):
    u, _, y, _ = case(n, d)
    A = np.random.default_rng(2).normal(size=(d, P))
    noise = noises(d)["low-rank"][0]
    problem = ek.InverseProblem(ek.LinearModel(A), ek.GaussianPrior(np.zeros(P), 1.0), noise, y)
    asking = ek.AskTell(problem, method(ek.FixedStep(0.25)), ensemble=u, rng=5)
    g = asking.ask() @ A.T
    asking.tell(g)
    rng = Streams(5).step(0)
    K = ek.kalman_coefficients(g, y, noise, step=0.25, analysis=analysis, rng=rng)
    new = ek.apply_update(K, u)
    np.testing.assert_allclose(new, asking.ask(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("sd", [1e-7, 1e-12])
@pytest.mark.parametrize("analysis", ["transform", "perturbed", "unperturbed"])
@pytest.mark.parametrize(("n", "d"), [(9, 4), (9, 40)])
def test_small_noise(n, d, analysis, sd):
    """Outputs are linear in two directions: the members fit the data to the noise."""
    rng = np.random.default_rng(3)
    u, A = rng.normal(size=(n, 2)), rng.normal(size=(2, d))
    truth = np.array([0.3, -0.2])
    K = ek.kalman_coefficients(u @ A, truth @ A, noise_sd=sd, analysis=analysis, rng=0)
    assert np.isfinite(K).all()
    new = moved(K, u)
    np.testing.assert_allclose(new, np.tile(truth, (n, 1)), atol=max(20 * sd, 1e-8))


@pytest.mark.parametrize("analysis", ["transform", "perturbed", "unperturbed"])
@pytest.mark.parametrize(("n", "d"), [(9, 4), (9, 40)])
def test_float32_and_other_kinds_of_arrays(n, d, analysis):
    _, g, y, _ = case(n, d)
    options = {"noise_sd": 0.5, "analysis": analysis, "rng": 3}
    K = ek.kalman_coefficients(g, y, **options)
    single = ek.kalman_coefficients(g.astype(np.float32), y, **options)
    strict = ek.kalman_coefficients(
        array_api_strict.asarray(g), array_api_strict.asarray(y), **options
    )
    torch = pytest.importorskip("torch")
    tensor = ek.kalman_coefficients(torch.tensor(g), torch.tensor(y), **options)
    for each in (K, single, strict, tensor):
        assert type(each) is np.ndarray
        assert each.dtype == np.float64
    np.testing.assert_allclose(single, K, atol=2e-5)
    np.testing.assert_allclose(strict, K, atol=1e-12)
    np.testing.assert_allclose(tensor, K, atol=1e-12)


def test_draws_of_a_seed_are_repeated_and_those_of_a_generator_go_on():
    _, g, y, _ = case(6, 9)
    rng = np.random.default_rng(4)
    first, second, third = (
        ek.kalman_coefficients(g, y, 0.5, analysis="perturbed", rng=each) for each in (4, rng, rng)
    )
    np.testing.assert_array_equal(first, second)
    assert np.abs(second - third).max() > 1e-3


def test_outputs_without_spread_move_nothing():
    y = np.ones(3)
    for analysis in ("transform", "perturbed", "unperturbed"):
        K = ek.kalman_coefficients(np.ones((5, 3)), 2 * y, 1.0, analysis=analysis, rng=0)
        np.testing.assert_allclose(K, 0, atol=1e-12)


@pytest.mark.parametrize("analysis", ["transform", "perturbed", "unperturbed"])
@pytest.mark.parametrize(("n", "d"), [(9, 4), (4, 9)])
@pytest.mark.parametrize("sd", [1.0, 1e-120])  # squares overflow, or the whitened outputs do
def test_an_overflow_is_an_error(n, d, analysis, sd):
    g = 1e200 * np.random.default_rng(0).normal(size=(n, d))
    with pytest.raises(ValueError, match="g: must be small enough"):
        ek.kalman_coefficients(g, np.zeros(d), noise_sd=sd, analysis=analysis, rng=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"analysis": "square root"}, "analysis: must be"),
        ({"noise_draw": np.ones((4, 3))}, "noise_draw: must be left out"),
        ({"noise_draw": np.ones((4, 2)), "analysis": "perturbed"}, "noise_draw: must have the sha"),
        ({"step": 0.0}, "step: must be"),
        ({"noise": np.eye(2)}, "noise: must be for the d = 3 data"),
        ({"noise": None}, "noise"),
        ({"noise_sd": 1.0}, "noise"),
        ({"data": np.ones(2)}, "g, data: must be"),
        ({"g": np.ones((1, 3))}, "g: must be"),
    ],
)
def test_wrong_arguments(options, message):
    g = np.random.default_rng(0).normal(size=(4, 3))
    right = {"g": g, "data": np.ones(3), "noise": 1.0}
    with pytest.raises((TypeError, ValueError), match=message):
        ek.kalman_coefficients(**{**right, **options})
