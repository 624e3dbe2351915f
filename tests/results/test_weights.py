"""The shift of a posterior by the importance weights of an ensemble, against closed forms."""

import numpy as np
import pytest

import ekitools as ek
from ekitools.linalg.quadrature import exact_draws
from ekitools.results.shifts import found_by_weights, without_noise
from ekitools.results.trust import judge
from ekitools.results.weights import shift_of_ensemble

LINEAR = ek.problems.linear(p=3, d=8)


def gaussian_log_density(x, mean, cov):
    off = x - mean
    return -0.5 * np.sum(off * np.linalg.solve(cov, off.T).T, axis=1)


def some_cov(p, seed):
    root = np.random.default_rng(seed).standard_normal((p, p + 2)) / np.sqrt(p)
    return root @ root.T


def test_the_shift_of_a_gaussian_with_the_same_covariance_is_exact():
    """log w is then linear, and its slope is the shift in standard deviations."""
    p, rng = 4, np.random.default_rng(0)
    cov = some_cov(p, 1)
    x = exact_draws(200, p, rng) @ np.linalg.cholesky(cov).T + 2.0
    mean = np.full(p, 2.0) + 0.3 * np.sqrt(np.diag(cov))
    shift = shift_of_ensemble(x, x, gaussian_log_density(x, mean, cov))
    np.testing.assert_allclose(shift.mean, 0.3, atol=1e-9)
    np.testing.assert_allclose(shift.sd, 1.0, atol=1e-9)
    np.testing.assert_allclose(shift.error, 0, atol=1e-9)


@pytest.mark.parametrize("ratio", [0.85, 1.15])
def test_the_curvature_tells_the_standard_deviation(ratio):
    x = exact_draws(4000, 2, np.random.default_rng(0))
    target = gaussian_log_density(x, np.zeros(2), np.diag([ratio**2, 1.0]))
    shift = shift_of_ensemble(x, x, target)
    # to first order, and towards 1: what a few members in the tails say is cut
    np.testing.assert_allclose(shift.sd, [ratio, 1.0], atol=0.07)
    assert abs(np.log(shift.sd[0])) < abs(np.log(ratio)) + 0.03
    np.testing.assert_allclose(shift.mean, 0, atol=0.02)


def test_a_member_far_in_a_tail_counts_little():
    x = np.random.default_rng(0).standard_normal((300, 2))
    target = gaussian_log_density(x, np.array([0.4, 0.0]), np.eye(2))
    plain = shift_of_ensemble(x, x, target)
    target[np.argmax(x[:, 0])] -= 1e4
    robust = shift_of_ensemble(x, x, target)
    np.testing.assert_allclose(robust.mean, plain.mean, atol=0.05)


def test_the_noise_of_the_regression_is_taken_off():
    noise = np.random.default_rng(0).standard_normal(400) * 0.2
    assert np.abs(without_noise(noise, np.full(400, 0.2))).max() < 0.1
    np.testing.assert_allclose(without_noise(noise, np.zeros(400)), noise)


@pytest.mark.parametrize("method", [ek.EKI(), ek.ETKI(), ek.GNKI()], ids=repr)
def test_the_shift_is_the_error_of_the_run_where_the_posterior_is_known(method):
    """A linear problem: the error of the ensemble's mean is known exactly."""
    problem, mean = LINEAR.problem, LINEAR.extra["mean"]
    result = ek.run(problem, method, n_members=100, rng=3)
    u = result.u[-1].values
    off = (mean - u.mean(axis=0)) / u.std(axis=0, ddof=1)
    # to first order; the second is the product with the error of the covariance
    np.testing.assert_allclose(result.posterior_shift, off, atol=0.06)
    exact = np.sqrt(np.diag(LINEAR.extra["cov"])) / u.std(axis=0, ddof=1)
    np.testing.assert_allclose(result.posterior_sd_ratio, exact, atol=0.1)


def test_nodes_tell_the_shift_without_error():
    result = ek.run(LINEAR.problem, ek.UKI(rtol=1e-8), rng=0)
    np.testing.assert_allclose(result.posterior_shift, 0, atol=1e-5)
    np.testing.assert_allclose(result.posterior_sd_ratio, 1, atol=1e-5)
    assert found_by_weights(result).level == "good"


@pytest.mark.parametrize("points", ["symmetric", "simplex"])
def test_nodes_see_that_a_posterior_with_two_modes_is_no_gaussian(points):
    problem = ek.InverseProblem(lambda u: u**2, ek.GaussianPrior([0.0], 1.0), 0.01, [1.0])
    result = ek.run(problem, ek.UKI(points=points), rng=0)
    assert result.attrs["posterior"] == 1  # its fixed point is N(0, 1)
    assert found_by_weights(result).level == "care"


@pytest.mark.parametrize(
    ("method", "options"),
    [
        (ek.EKI(), {"n_members": 22}),  # fewer than p + 20
        (ek.EKI(), {"n_members": 50, "evaluate_final": False}),
        (ek.EKI(perturbed=False), {"n_members": 50}),
        (ek.TemperedSMC(), {"n_members": 50}),
        (ek.Sparse(ek.EKI()), {"n_members": 50}),
    ],
    ids=["few", "not evaluated", "a fit", "a sampler", "a learned prior"],
)
def test_weights_that_say_nothing_of_the_posterior_are_not_stored(method, options):
    result = ek.run(LINEAR.problem, method, rng=0, **options)
    assert "posterior_shift" not in result
    assert found_by_weights(result) is None


def test_too_few_members_are_told():
    result = ek.run(LINEAR.problem, ek.EKI(), n_members=22, rng=0)
    (check,) = [check for check in judge(result) if check.topic == "Posterior"]
    assert check.level == "note"
    assert "need p + 20" in check.sentence


def test_a_wrong_mean_is_named_with_what_to_call():
    result = ek.run(LINEAR.problem, ek.EKI(), n_members=100, rng=0)
    result["posterior_shift"][1] = -0.8
    result["posterior_sd_ratio"][2] = 1.6
    found = found_by_weights(result)
    assert found.level == "care"
    assert "mean of 'u1' is off by about 0.8 standard deviations" in found.sentence
    assert "standard deviation of 'u2' is too small by a factor of about 1.6" in found.sentence
    assert "ek.check_posterior(result, problem)" in found.sentence
    assert ek.summary(result).end == "last ensemble"
    assert ek.summary(result).trust.level == "care"


@pytest.mark.slow
def test_eki_is_doubted_on_lynx_and_hare_and_gnki_is_not():
    problem = ek.problems.lynx_hare(sigma=0.25).problem
    for method, level in ((ek.EKI(), "care"), (ek.GNKI(), "good")):
        result = ek.run(problem, method, n_members=200, rng=0)
        assert found_by_weights(result).level == level
