"""Covariance inflation beside its formulas, and where an inflated ensemble settles."""

import math

import numpy as np
import pytest
from scipy import stats

import ekitools as ek
from ekitools.testing import check_method

PLAIN = ek.EKI(ek.FixedStep(0.3), t_end=None)
COV = np.array([[2.0, 0.6, 0.0], [0.6, 1.0, -0.3], [0.0, -0.3, 0.5]])


def problem(prior=None):
    matrix = np.random.default_rng(0).normal(size=(5, 3))
    prior = ek.GaussianPrior([1.0, -1.0, 0.0], COV) if prior is None else prior
    return ek.InverseProblem(ek.LinearModel(matrix), prior, 0.1, matrix.sum(axis=1))


def step(method, n=9, target=None):
    """Members before and after one step, the same random numbers for every method."""
    target = problem() if target is None else target
    u = target.prior.sample_unconstrained(n, rng=0)
    state = method.init(u, target)
    state, info = method.tell(state, target.model(u), target, rng=np.random.default_rng(1))
    return u, state.ensemble, info


def deviations(u):
    return u - u.mean(axis=0)


def test_the_spread_is_multiplied_and_the_mean_stays():
    _, plain, _ = step(PLAIN)
    _, inflated, info = step(ek.Inflated(PLAIN, multiplicative=0.5))
    assert info.step == 0.3
    np.testing.assert_allclose(inflated.mean(axis=0), plain.mean(axis=0), rtol=0, atol=1e-14)
    ratio = deviations(inflated) / deviations(plain)
    np.testing.assert_allclose(ratio, 1 / math.sqrt(1 - 0.5 * 0.3), rtol=1e-12)


def test_a_longest_step_bounds_what_a_step_counts():
    _, plain, _ = step(PLAIN)
    _, inflated, _ = step(ek.Inflated(PLAIN, multiplicative=9.0, longest=0.1))
    ratio = deviations(inflated) / deviations(plain)
    np.testing.assert_allclose(ratio, 1 / math.sqrt(1 - 9.0 * 0.1), rtol=1e-12)


@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_relaxation_goes_back_to_the_spread_before_the_step(alpha):
    before, plain, _ = step(PLAIN)
    _, relaxed, _ = step(ek.Inflated(PLAIN, relaxation=alpha))
    expected = (1 - alpha) * plain.std(axis=0) + alpha * before.std(axis=0)
    np.testing.assert_allclose(relaxed.std(axis=0), expected, rtol=1e-12)
    np.testing.assert_allclose(relaxed.mean(axis=0), plain.mean(axis=0), rtol=0, atol=1e-14)
    corr = np.corrcoef(plain.T)
    np.testing.assert_allclose(np.corrcoef(relaxed.T), corr, rtol=0, atol=1e-12)


@pytest.mark.parametrize("covariance", ["prior", "ensemble"])
def test_additive_inflation_adds_its_covariance(covariance):
    """The noise, as the difference to the plain step, has a h/(1 - a h) Σ to four sigma."""
    n, a, h = 4000, 0.8, 0.3
    _, plain, _ = step(PLAIN, n)
    _, inflated, _ = step(ek.Inflated(PLAIN, additive=a, covariance=covariance), n)
    noise = inflated - plain
    np.testing.assert_allclose(noise.mean(axis=0), 0, rtol=0, atol=1e-14)
    expected = a * h / (1 - a * h) * (COV if covariance == "prior" else np.cov(plain.T))
    error = np.cov(noise.T) - expected
    sd = np.sqrt((np.outer(np.diag(expected), np.diag(expected)) + expected**2) / (n - 1))
    assert np.abs(error / sd).max() < 4


def test_noise_of_the_prior_leaves_the_span_of_the_ensemble_and_that_of_the_ensemble_does_not():
    start = np.array([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [0.5, 0.0, 0.0]])
    for covariance, rank in (("prior", 2), ("ensemble", 1)):
        method = ek.Inflated(PLAIN, additive=0.5, covariance=covariance)
        result = ek.run(problem(), method, ensemble=start, n_steps=1, rng=0)
        assert np.linalg.matrix_rank(deviations(result.u[-1].values), tol=1e-9) == rank


def test_a_bounded_parameter_is_inflated_in_unconstrained_coordinates():
    prior = ek.Prior({name: stats.lognorm(0.5) for name in "abc"})
    target = problem(prior)
    method = ek.Inflated(PLAIN, additive=1.0, multiplicative=1.0, relaxation=0.5)
    result = ek.run(target, method, n_members=20, n_steps=5, rng=0)
    assert float(result.u.min()) > 0


def test_the_parts_are_applied_in_the_order_of_the_formula():
    before, plain, _ = step(PLAIN)
    _, noisy, _ = step(ek.Inflated(PLAIN, additive=0.4))
    method = ek.Inflated(PLAIN, multiplicative=0.5, additive=0.4, relaxation=1.0)
    _, inflated, _ = step(method)
    scale = before.std(axis=0) / plain.std(axis=0) / math.sqrt(1 - 0.5 * 0.3)
    expected = plain.mean(axis=0) + scale * deviations(plain) + (noisy - plain)
    np.testing.assert_allclose(inflated, expected, rtol=0, atol=1e-12)


def test_a_step_that_sees_a_part_of_the_data_counts_by_its_share():
    inputs = np.random.default_rng(0).normal(size=(8, 3))
    data = ek.MiniBatches(inputs, inputs.sum(axis=1), 2)
    model = ek.FunctionModel(lambda u, inputs: inputs @ u, takes_inputs=True)
    target = ek.InverseProblem(model, ek.GaussianPrior(np.zeros(3), 1.0), 0.1, data)
    plain, inflated = (
        ek.run(target, method, n_members=9, n_steps=1, rng=0).u[-1].values
        for method in (PLAIN, ek.Inflated(PLAIN, multiplicative=2.0))
    )
    ratio = deviations(inflated) / deviations(plain)
    np.testing.assert_allclose(ratio, 1 / math.sqrt(1 - 2.0 * 0.3 * 2 / 8), rtol=1e-9)


@pytest.mark.parametrize("s", [0.05, 0.5])
def test_a_regularised_ensemble_settles_at_a_share_of_the_posterior_covariance(s):
    """C⁻¹ = (1 - s h)(C⁻¹ + h C_post⁻¹), so C = s/(1 - s h) C_post; the mean is the MAP."""
    example = ek.problems.linear(p=3, d=6)
    h = 0.7
    plain = ek.ETKI(ek.FixedStep(h), t_end=None, tikhonov=True)
    options = {"n_members": 12, "n_steps": 1500, "rng": 0, "store": "final"}
    result = ek.run(example.problem, ek.Inflated(plain, multiplicative=s), **options)
    u = result.u[-1].values
    expected = s / (1 - s * h) * example.extra["cov"]
    np.testing.assert_allclose(np.cov(u.T), expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(u.mean(axis=0), example.extra["mean"], rtol=0, atol=1e-6)


@pytest.mark.slow
def test_a_little_inflation_keeps_a_regularised_ensemble_from_collapsing():
    """Perturbed data, s h = 0.01: the plain spread falls as 1/sqrt(n), this one stays at 0.1."""
    example = ek.problems.linear(p=3, d=6)
    plain = ek.EKI(ek.FixedStep(1.0), t_end=None, tikhonov=True)
    sd = np.sqrt(np.diag(example.extra["cov"]))
    spreads = {}
    for name, method in (("plain", plain), ("inflated", ek.Inflated(plain, multiplicative=0.01))):
        options = {"n_members": 60, "n_steps": 1500, "rng": 0, "store": "final"}
        u = ek.run(example.problem, method, **options).u[-1].values
        spreads[name] = u.std(axis=0, ddof=1) / sd
        assert np.abs((u.mean(axis=0) - example.extra["mean"]) / sd).max() < 0.05
    assert spreads["plain"].max() < 1.5 / math.sqrt(1500)
    assert spreads["inflated"].min() > 0.6 * math.sqrt(0.01)


def test_an_inflated_ensemble_is_no_sample_of_the_posterior():
    method = ek.Inflated(ek.EKI(), multiplicative=0.1)
    result = ek.run(problem(), method, n_members=30, rng=0)
    assert method.aim == "fit"
    assert result.attrs["status_code"] == "method_finished"
    assert result.attrs["posterior"] == 0
    assert "Use the method without inflation" in result.attrs["status"]
    stopped = ek.Inflated(ek.EKI(ek.FixedStep(0.3), t_end=2.0), multiplicative=0.1)
    assert ek.run(problem(), stopped, n_members=9, rng=0).attrs["status_code"] == "t_end_reached"


def test_inflation_that_overflows_ends_the_run_with_the_last_good_ensemble():
    method = ek.Inflated(PLAIN, multiplicative=(1 - 2**-53) / 0.3)
    target = problem()
    state = method.init(1e150 * target.prior.sample(9, rng=0), target)
    with np.errstate(over="ignore"):
        kept, info = method.tell(state, np.zeros((9, 5)), target, rng=np.random.default_rng(0))
    assert kept is state
    assert (info.status.code, info.step) == ("diverged", 0.0)


@pytest.mark.parametrize("name", ["multiplicative", "additive"])
def test_too_much_names_the_largest_there_is(name):
    method = ek.Inflated(ek.EKI(ek.FixedStep(0.5), t_end=None), **{name: 2.0})
    with pytest.raises(ValueError, match=rf"{name}: must be below 1/h = 2 at a step h = 0.5, got"):
        ek.run(problem(), method, n_members=9, n_steps=1, rng=0)


def test_inflation_that_inflates_nothing_is_refused():
    for options in ({}, {"covariance": "ensemble"}, {"longest": 1.0}):
        with pytest.raises(ValueError, match="must not all be 0, which inflates nothing"):
            ek.Inflated(ek.EKI(), **options)


@pytest.mark.parametrize("method", [ek.TemperedSMC(), ek.EKI, 3])
def test_what_does_not_move_its_members_is_refused(method):
    with pytest.raises(TypeError, match="^method: must "):
        ek.Inflated(method, multiplicative=0.1)


def test_members_that_the_method_draws_anew_are_inflated_too():
    spread = ek.LossEKI(ek.NormStep(0.5), spread=ek.Spread(0.1, every=2))
    method = ek.Inflated(spread, multiplicative=0.01)
    assert [method.redraws(n) for n in range(4)] == [spread.redraws(n) for n in range(4)]
    check_method(method)


@pytest.mark.parametrize(
    "options", [{"multiplicative": 0.1}, {"additive": 0.1}, {"relaxation": 0.5},
                {"additive": 0.1, "covariance": "ensemble", "longest": 0.2}]
)  # fmt: skip
@pytest.mark.parametrize("method", [ek.EKI(), ek.ETKI(), ek.GNKI(damping=0.5)])
def test_it_keeps_the_contract(method, options):
    check_method(ek.Inflated(method, **options))
