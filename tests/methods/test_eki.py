"""EKI against closed forms: the Gaussian posterior, the Tikhonov minimiser, the linear flow."""

import math

import numpy as np
import pytest

import ekitools as ek


def gaussian(p, d, noise, seed=0):
    """A linear-Gaussian problem with its exact posterior, by the information form."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(d, p)) / math.sqrt(p)
    root = np.eye(p) + 0.3 * rng.normal(size=(p, p))
    mean, cov = rng.normal(size=p), root @ root.T
    gamma = {
        "diagonal": np.linspace(0.5, 1.5, d),
        "dense": 0.3 * np.ones((d, d)) + np.diag(np.linspace(0.5, 1.5, d)),
        "low-rank": (np.linspace(0.5, 1.5, d), np.full((d, 1), math.sqrt(0.3))),
    }
    dense = np.diag(gamma["diagonal"]) if noise == "diagonal" else gamma["dense"]
    data = matrix @ (mean + root @ rng.normal(size=p)) + rng.normal(size=d)
    problem = ek.InverseProblem(
        ek.LinearModel(matrix), ek.GaussianPrior(mean, cov), gamma[noise], data
    )
    information = np.linalg.inv(cov) + matrix.T @ np.linalg.solve(dense, matrix)
    covariance = np.linalg.inv(information)
    shift = matrix.T @ np.linalg.solve(dense, data - matrix @ mean)
    return problem, mean + covariance @ shift, covariance


def errors(problem, mean, cov, n_members, seed, method):
    result = ek.run(problem, method, n_members=n_members, rng=seed, evaluate_final=False)
    u = result.u[-1].values
    found = np.cov(u.T)
    return np.linalg.norm(u.mean(0) - mean), np.linalg.norm(found - cov) / np.linalg.norm(cov)


@pytest.mark.parametrize("noise", ["diagonal", "dense", "low-rank"])
@pytest.mark.parametrize(("p", "d"), [(3, 8), (8, 3)])
def test_the_posterior_is_reached_at_the_monte_carlo_rate(p, d, noise):
    """Mean and covariance go to the exact ones like J^(-1/2), with a slope to be fitted."""
    problem, mean, cov = gaussian(p, d, noise)
    sizes, repeats = np.array([100, 316, 1000, 3162, 10000]), 12
    method = ek.EKI(ek.FixedStep(0.5))
    squares = np.array(
        [
            [errors(problem, mean, cov, n, 97 * n + seed, method) for seed in range(repeats)]
            for n in sizes
        ]
    )
    rms = np.sqrt((squares**2).mean(1))  # (sizes, 2)
    x = np.log(sizes) - np.log(sizes).mean()
    slopes = x @ np.log(rms) / (x @ x)
    # a root mean square over 12 repeats is known to about 1/sqrt(2 * 12 * 3) = 12 %
    tolerance = 3.5 * 0.12 / math.sqrt(x @ x)
    np.testing.assert_allclose(slopes, -0.5, atol=tolerance)
    assert np.all(rms[-1] < [0.06, 0.06])


def test_without_perturbation_the_spread_is_too_small():
    """The counterexample: the deterministic update is not a posterior sampler in one step."""
    problem, mean, cov = gaussian(3, 8, "diagonal")
    method = ek.EKI(ek.FixedStep(1.0), perturbed=False)
    error_mean, error_cov = errors(problem, mean, cov, 10_000, 0, method)
    assert error_mean < 0.06
    assert error_cov > 0.3


def test_noise_forms_give_the_same_run_to_1e_10():
    d, rng = 8, np.random.default_rng(0)
    matrix, data = rng.normal(size=(d, 3)), rng.normal(size=d)
    variances = np.full(d, 0.5)
    forms = [0.5, variances, np.diag(variances), (variances, np.zeros((d, 1)))]
    prior, model = ek.GaussianPrior(np.zeros(3), 1.0), ek.LinearModel(matrix)
    runs = [
        ek.run(ek.InverseProblem(model, prior, form, data), ek.EKI(), n_members=n, rng=0).u
        for n in (5, 50)
        for form in forms
    ]
    for same in (runs[:4], runs[4:]):
        for other in same[1:]:
            np.testing.assert_allclose(other, same[0], rtol=1e-10, atol=1e-10)


def test_small_steps_are_the_flow():
    """The deterministic EKI with h → 0 is an Euler scheme for u̇ = −C A'Γ⁻¹(Au − y), order 1."""
    problem, _, _ = gaussian(3, 8, "diagonal")
    start = problem.prior.sample(6, rng=0)
    matrix, gamma = problem.model.matrix, np.linspace(0.5, 1.5, 8)

    def exact(t):
        """In members' space; covariances with 1/(J - 1) as in the discrete method."""
        mean, e = start.mean(0), start - start.mean(0)
        w = e @ matrix.T / np.sqrt(gamma)
        values, vectors = np.linalg.eigh(w @ w.T / 5)
        values = np.maximum(values, 0)
        b = vectors.T @ (w @ ((matrix @ mean - problem.data) / np.sqrt(gamma))) / 5
        shrink = 1 / np.sqrt(1 + 2 * t * values)
        g = np.where(values > 1e-12, (shrink - 1) / np.maximum(values, 1e-12), -t)
        return (vectors * shrink) @ vectors.T @ e + mean + (vectors * g) @ b @ e

    found = []
    for h in (0.1, 0.05, 0.025):
        method = ek.EKI(ek.FixedStep(h), perturbed=False)
        result = ek.run(problem, method, ensemble=start, rng=0)
        found.append(np.linalg.norm(result.u[-1].values - exact(1.0)))
    orders = np.log2(np.array(found[:-1]) / found[1:])
    np.testing.assert_allclose(orders, 1.0, atol=0.12)


@pytest.mark.parametrize("perturbed", [False, True])
def test_tikhonov_goes_to_the_map_estimate(perturbed):
    problem, mean, _ = gaussian(4, 3, "dense")
    method = ek.EKI(ek.FixedStep(1e4), t_end=None, tikhonov=True, perturbed=perturbed)
    result = ek.run(problem, method, n_members=30, n_steps=8, rng=0)
    np.testing.assert_allclose(result.u[-1].mean("member"), mean, atol=0.01)


def test_without_tikhonov_the_same_run_fits_the_data_instead():
    problem, mean, _ = gaussian(4, 3, "dense")
    method = ek.EKI(ek.FixedStep(1e4), t_end=None, perturbed=False)
    result = ek.run(problem, method, n_members=30, n_steps=8, rng=0)
    np.testing.assert_allclose(result.g[-1].mean("member"), problem.data, atol=0.02)
    assert np.linalg.norm(result.u[-1].mean("member") - mean) > 0.05


def test_the_subspace_property():
    """Without added noise every member stays in the affine span of the initial ensemble."""
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(7, 20))

    def model(u):
        return np.tanh(u @ matrix.T)

    problem = ek.InverseProblem(
        ek.FunctionModel(model, vectorized=True),
        ek.GaussianPrior(np.zeros(20), 1.0),
        0.1,
        np.zeros(7),
    )
    result = ek.run(problem, ek.EKI(ek.FixedStep(0.2), perturbed=False), n_members=5, rng=0)
    first, last = result.u[0].values, result.u[-1].values
    basis = np.linalg.svd(first - first.mean(0), full_matrices=False)[2][:4]
    move = last - first.mean(0)
    np.testing.assert_allclose(move @ basis.T @ basis, move, atol=1e-10)
    assert np.linalg.norm(last - first) > 1


def test_the_seed_of_the_user_does_not_correlate_with_the_perturbations():
    """An ensemble drawn with seed s and a run with seed s must not share their randomness."""
    p, n = 10, 1000
    problem = ek.InverseProblem(
        ek.LinearModel(np.eye(p)), ek.GaussianPrior(np.zeros(p), 1.0), 1.0, np.full(p, 2.0)
    )
    ensemble = np.random.default_rng(5).standard_normal((n, p))
    result = ek.run(problem, ek.EKI(ek.FixedStep(1.0)), ensemble=ensemble, rng=5)
    variance = result.u[-1].var("member", ddof=1).mean()
    # exact 1/2; a correlation of 1 would give 0 or 1. Standard error sqrt(2/(n p)) / 2
    assert float(variance) == pytest.approx(0.5, abs=4 * 0.5 * math.sqrt(2 / (n * p)))


@pytest.mark.parametrize("kind", ["float32", "torch", "strict"])
def test_the_kind_of_the_ensemble_is_kept_through_a_run(kind):
    problem, _, _ = gaussian(3, 8, "dense")
    start = problem.prior.sample(20, rng=0)
    matrix = problem.model.matrix
    if kind == "float32":
        ensemble = start.astype(np.float32)
    elif kind == "torch":
        ensemble = pytest.importorskip("torch").as_tensor(start)
    else:
        ensemble = pytest.importorskip("array_api_strict").asarray(start)
    expected = ek.run(problem, ek.EKI(), ensemble=start, rng=0)
    loop = ek.AskTell(problem, ek.EKI(), ensemble=ensemble, rng=0)
    while not loop.done:
        asked = loop.ask()
        assert type(asked) is type(ensemble)
        assert asked.dtype == ensemble.dtype
        loop.tell(np.asarray(asked) @ matrix.T)
    tolerance = 5e-3 if kind == "float32" else 1e-10
    np.testing.assert_allclose(loop.result().u, expected.u, rtol=tolerance, atol=tolerance)


def test_a_constrained_parameter_stays_within_its_bounds():
    from scipy import stats

    prior = ek.Prior({"rate": stats.lognorm(1.0), "share": stats.uniform(0, 1)})

    def model(u):
        return np.array([u[0] * u[1], u[0]])

    problem = ek.InverseProblem(ek.FunctionModel(model), prior, 1e-4, [-1.0, -2.0])
    result = ek.run(problem, ek.EKI(), n_members=100, rng=0)
    u = result.u
    assert float(u.sel(parameter="rate").min()) > 0
    assert float(u.sel(parameter="share").min()) > 0
    assert float(u.sel(parameter="share").max()) < 1
    assert list(u.parameter.values) == ["rate", "share"]


def test_an_output_too_large_to_be_squared_is_a_failed_member():
    def model(u):
        return np.array([u[0], 1e200 if u[0] > 1 else u[0]])

    problem = ek.InverseProblem(ek.FunctionModel(model), ek.GaussianPrior(0.0, [1.0]), 1.0, [1, 1])
    result = ek.run(problem, ek.EKI(ek.FixedStep(1.0)), n_members=20, rng=0)
    np.testing.assert_array_equal(result.failed[0], result.u[0, :, 0] > 1)
    assert "too large" in result.attrs["failures"]


def test_identical_members_are_refused():
    problem, _, _ = gaussian(3, 8, "dense")
    with pytest.raises(ValueError, match="ensemble: must have some spread"):
        ek.run(problem, ek.EKI(), ensemble=np.ones((5, 3)), rng=0)


def test_a_parameter_without_spread_keeps_its_value():
    problem, _, _ = gaussian(3, 8, "dense")
    start = problem.prior.sample(20, rng=0)
    start[:, 1] = 0.1
    result = ek.run(problem, ek.EKI(), ensemble=start, rng=0)
    np.testing.assert_array_equal(result.u[:, :, 1], 0.1)
