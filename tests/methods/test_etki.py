"""ETKI beside the Kalman formula, split steps, other arrays and exact posteriors."""

import numpy as np
import pytest

import ekitools as ek
from ekitools.linalg.transform import mean_preserving_rotation, transform_update

SIZES = [(20, 5, 8), (20, 5, 40), (40, 60, 8), (10, 30, 30), (2, 3, 4), (30, 4, 1)]
"""(J, p, d): more data or fewer than members, more parameters or fewer."""


def case(n, p, d, scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    u, matrix = rng.normal(size=(n, p)), rng.normal(size=(d, p))
    return u, matrix, (u @ matrix.T - matrix @ rng.normal(size=p)) / scale


def kalman(u, r, h):
    """Mean and covariance by the dense formula with the sample covariances."""
    n = len(u)
    e, f = u - u.mean(axis=0), r - r.mean(axis=0)
    cross, inner = e.T @ f / (n - 1), f.T @ f / (n - 1) + np.eye(r.shape[1]) / h
    mean = u.mean(axis=0) - cross @ np.linalg.solve(inner, r.mean(axis=0))
    return mean, e.T @ e / (n - 1) - cross @ np.linalg.solve(inner, cross.T)


@pytest.mark.parametrize("rotate", [False, True])
@pytest.mark.parametrize(("n", "p", "d"), SIZES)
def test_the_analysis_is_the_kalman_formula_with_the_sample_prior(n, p, d, rotate):
    u, _, r = case(n, p, d)
    rotation = mean_preserving_rotation(n, np.random.default_rng(1)) if rotate else None
    new = transform_update(u, r, 0.7, rotation)
    mean, cov = kalman(u, r, 0.7)
    np.testing.assert_allclose(new.mean(axis=0), mean, rtol=0, atol=1e-12)
    np.testing.assert_allclose(np.cov(new.T), cov, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("n", "p", "d"), SIZES)
def test_four_steps_are_one_step_member_by_member(n, p, d):
    u, matrix, r = case(n, p, d)
    y = (u @ matrix.T - r)[0]
    whole, split = transform_update(u, r, 1.0), u
    for h in (0.1, 0.2, 0.3, 0.4):
        split = transform_update(split, split @ matrix.T - y, h)
    np.testing.assert_allclose(split, whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("n", "p", "d"), SIZES)
@pytest.mark.parametrize("scale", [1e-4, 1e-7, 1e-9])
def test_small_noise_costs_no_digits(n, p, d, scale):
    """Beside the mean of `kalman_update`, which is exact there; the spread is that of the noise."""
    u, _, r = case(n, p, d, scale)
    new = transform_update(u, r, 1.0)
    mean = ek.kalman_update(u, r, np.zeros(d), 1.0).mean(axis=0)
    np.testing.assert_allclose(new.mean(axis=0), mean, rtol=0, atol=1e-8)
    e, f = new - new.mean(axis=0), r - r.mean(axis=0)
    rank = min(n - 1, p, d)
    direction = np.linalg.lstsq(u - u.mean(axis=0), f * scale, rcond=None)[0]
    seen = np.linalg.svd(e @ direction, compute_uv=False)[:rank]
    assert seen.max() < 10 * scale * np.sqrt(n)  # what the data see is known to the noise


def test_diagonal_dense_and_low_rank_noise_are_one():
    factor = np.random.default_rng(3).normal(size=(6, 2))
    forms = [(np.ones(6), factor), np.eye(6) + factor @ factor.T]
    u = []
    for noise in forms:
        matrix = np.random.default_rng(2).normal(size=(6, 3))
        problem = ek.InverseProblem(
            ek.LinearModel(matrix), ek.GaussianPrior(np.zeros(3), 1.0), noise, np.ones(6)
        )
        u.append(ek.run(problem, ek.ETKI(), n_members=12, rng=0).u[-1].values)
    np.testing.assert_allclose(u[0], u[1], rtol=0, atol=1e-12)


def test_the_mean_and_the_spread_are_better_than_those_of_eki():
    """J = 40, p = 5, d = 10: means over 20 seeds; benchmarks/transform.py has 50."""
    errors = {"ETKI": [], "EKI": []}
    for seed in range(20):
        example = ek.problems.linear(p=5, d=10, rng=seed)
        mean, cov = example.extra["mean"], example.extra["cov"]
        for name, method in (("ETKI", ek.ETKI()), ("EKI", ek.EKI())):
            u = ek.run(example.problem, method, n_members=40, rng=seed).u[-1].values
            off = np.linalg.solve(np.linalg.cholesky(cov), u.mean(axis=0) - mean)
            ratio = np.trace(np.linalg.solve(cov, np.cov(u.T))) / 5
            errors[name].append((np.sqrt(np.mean(off**2)), ratio))
    etki, eki = np.mean(errors["ETKI"], axis=0), np.mean(errors["EKI"], axis=0)
    assert etki[0] < 0.75 * eki[0]
    assert abs(etki[1] - 1) < 0.05


def test_tikhonov_goes_to_the_maximum_a_posteriori_estimate():
    example = ek.problems.linear(p=3, d=6)
    method = ek.ETKI(ek.FixedStep(1e3), t_end=None, tikhonov=True)
    result = ek.run(example.problem, method, n_members=20, n_steps=8, rng=0)
    found = result.u[-1].mean("member")
    np.testing.assert_allclose(found, example.extra["mean"], atol=1e-3)


def test_a_rotation_preserves_mean_and_covariance_and_is_uniform():
    rng = np.random.default_rng(0)
    draws = np.array([mean_preserving_rotation(5, rng) for _ in range(4000)])
    np.testing.assert_allclose(
        draws @ draws.transpose(0, 2, 1), np.tile(np.eye(5), (4000, 1, 1)), atol=1e-12
    )
    np.testing.assert_allclose(draws.sum(axis=2), 1, atol=1e-12)
    # E R = 11ᵀ/J under the uniform distribution; an entry has a variance of about 1/J
    np.testing.assert_allclose(draws.mean(axis=0), 0.2, atol=4.5 * np.sqrt(0.2 / 4000))


def test_members_are_rotated_by_the_stream_of_the_run():
    problem = ek.problems.linear(p=3, d=6).problem
    plain, turned, again = (
        ek.run(problem, ek.ETKI(rotate=rotate), n_members=20, rng=0).u[-1]
        for rotate in (False, True, True)
    )
    assert turned.equals(again)
    assert not np.allclose(turned, plain)
    np.testing.assert_allclose(turned.mean("member"), plain.mean("member"), atol=1e-10)


def test_float32_and_torch_are_kept():
    torch = pytest.importorskip("torch")
    u, _, r = case(20, 5, 40)
    exact = transform_update(u, r, 0.5)
    single = transform_update(u.astype(np.float32), r.astype(np.float32), 0.5)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, exact, atol=1e-4)
    other = transform_update(torch.as_tensor(u), torch.as_tensor(r), 0.5)
    np.testing.assert_allclose(other.numpy(), exact, rtol=0, atol=1e-12)


def test_what_etki_refuses():
    with pytest.raises(TypeError, match="rotate: must be True or False"):
        ek.ETKI(rotate="yes")
    with pytest.raises(ValueError, match="t_end: must be None with tikhonov"):
        ek.ETKI(tikhonov=True)
    with pytest.raises(ValueError, match="an overflow"):
        transform_update(np.eye(3), np.array([[1e200], [0.0], [1.0]]), 1.0)
    from scipy import stats

    problem = ek.InverseProblem(
        ek.LinearModel(np.eye(2)), ek.GaussianPrior([0.0, 0.0], 1.0),
        ek.UnknownNoise(stats.lognorm(1.0)), [1.0, 2.0],
    )  # fmt: skip
    with pytest.raises((TypeError, ValueError), match="noise"):
        ek.run(problem, ek.ETKI(), n_members=10)
