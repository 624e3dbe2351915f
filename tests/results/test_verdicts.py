"""Verdicts of `check_posterior`, against posteriors that are known."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import ekitools as ek
from ekitools.methods.gaussian import Gaussian
from ekitools.results.proposal import coordinates, gaussians_of, mixture_of, pilot_of
from ekitools.results.trust import judge

LINEAR = ek.problems.linear(p=3, d=8)
MEAN, SD = LINEAR.extra["mean"], np.sqrt(np.diag(LINEAR.extra["cov"]))


@pytest.fixture(scope="module")
def result():
    return ek.run(LINEAR.problem, ek.EKI(), n_members=200, rng=0)


@pytest.fixture(scope="module")
def checked(result):
    return ek.check_posterior(result, LINEAR.problem, rng=1)


def numbers(checked):
    return json.loads(checked.attrs["check"])


def moved(result, shift=0.0, factor=1.0):
    """The result with other members at the end: off by ``shift`` sd, ``factor`` times as wide."""
    other = result.copy(deep=True)
    last = other.u.values[-1]
    other.u.values[-1] = last.mean(axis=0) + shift * SD + factor * (last - last.mean(axis=0))
    return other


def off(checked, mean, sd):
    """Errors of corrected moments in their own standard errors."""
    return (
        (checked.checked_mean.values - mean) / checked.checked_mean_error.values,
        (checked.checked_sd.values - sd) / checked.checked_sd_error.values,
    )


def test_the_posterior_of_a_linear_problem_is_confirmed(result, checked):
    assert checked.attrs["verdict"] == "confirmed"
    assert numbers(checked)["runs"] == 200
    assert numbers(checked)["draws"] == 400  # with the first ensemble, which the prior drew
    for error in off(checked, MEAN, SD):
        assert np.abs(error).max() < 4


@pytest.mark.parametrize(("shift", "factor"), [(0.6, 1.0), (0.0, 0.65), (0.0, 1.6), (-0.5, 1.2)])
def test_moments_that_are_off_are_corrected(result, shift, factor):
    wrong = moved(result, shift, factor)
    corrected = ek.check_posterior(wrong, LINEAR.problem, 400, rng=2)
    assert corrected.attrs["verdict"] == "corrected"
    for error in off(corrected, MEAN, SD):
        assert np.abs(error).max() < 4
    exact = stats.norm(MEAN, SD).ppf(np.array(corrected.checked_level)[:, None])
    error = (corrected.checked_quantile - exact) / corrected.checked_quantile_error
    assert float(np.abs(error).max()) < 5
    assert "Use checked_mean" in corrected.attrs["verdict_reason"]
    assert ek.summary(corrected).trust.level == "care"


def test_standard_errors_are_those_of_repeated_checks(result):
    """Forty checks: the ratio of the two standard deviations is known to 11 %, four of these."""
    wrong = moved(result, 0.3)
    each = [ek.check_posterior(wrong, LINEAR.problem, 200, rng=seed) for seed in range(40)]
    for name in ("mean", "sd"):
        found = np.stack([c[f"checked_{name}"].values for c in each]).std(axis=0, ddof=1)
        told = np.stack([c[f"checked_{name}_error"].values for c in each]).mean(axis=0)
        np.testing.assert_allclose(np.log(found / told), 0, atol=0.45)


def test_a_posterior_far_away_is_not_confirmed(result):
    lost = ek.check_posterior(moved(result, 8.0, 0.3), LINEAR.problem, 60, rng=0)
    assert lost.attrs["verdict"] == "not confirmed"
    assert "TemperedSMC" in lost.attrs["verdict_reason"]


def two_modes(tilt=0.0):
    model = ek.FunctionModel(lambda u: u**2 + tilt * u, vectorized=True)
    return ek.InverseProblem(model, ek.GaussianPrior([0.0], 1.0), 0.01, [1.0])


@pytest.mark.parametrize("tilt", [0.0, 0.3])
def test_a_mode_that_was_missed_is_never_confirmed(tilt):
    """A start that covers one mode of two: the sampler is right about that one alone."""
    problem, at = two_modes(tilt), (-tilt + np.sqrt(tilt**2 + 4)) / 2
    start = ek.GaussianStart((at,), ((1.0,),), (0.07,), prior_share=0)
    for seed in range(5):
        result = ek.run(problem, ek.TemperedSMC(start=start), n_members=100, rng=seed)
        assert float(result.u[-1].min()) > 0
        assert ek.check_posterior(result, problem, rng=seed).attrs["verdict"] != "confirmed"


@pytest.mark.parametrize("tilt", [0.0, 0.3])
def test_a_sample_of_two_modes_is_confirmed(tilt):
    """By draws of a mixture of two Gaussians that is fitted to the sample."""
    problem, at = two_modes(tilt), (-tilt + np.array([-1, 1]) * np.sqrt(tilt**2 + 4)) / 2
    result = ek.run(problem, ek.TemperedSMC(), n_members=500, rng=0)
    _, white = coordinates(result.u.values[-1], problem)
    found = gaussians_of(white, result.weight.values[-1], np.random.default_rng(0))
    assert len(found) == 2
    np.testing.assert_allclose(np.sort([part.mean[0] for part in found]), at, atol=0.02)
    checked = ek.check_posterior(result, problem, 400, rng=0)
    assert checked.attrs["verdict"] == "confirmed"
    assert numbers(checked)["ess"] > 150


def test_an_ensemble_between_two_modes_has_the_moments_and_not_the_shape():
    """u² = 1 with the noise 0.3: N(0, 1), which UKI holds, has the moments of the posterior."""
    model = ek.FunctionModel(np.square, vectorized=True)
    problem = ek.InverseProblem(model, ek.GaussianPrior([0.0], 1.0), 0.09, [1.0])
    result = ek.run(problem, ek.UKI(), rng=0)
    checked = ek.check_posterior(result, problem, 1000, rng=0)
    assert numbers(checked)["sd_bound"] < 1.25
    assert checked.attrs["verdict"] == "corrected"
    assert "another shape" in checked.attrs["verdict_reason"]
    low, high = checked.checked_quantile.sel(checked_level=[0.25, 0.75]).values[:, 0]
    assert max(abs(low + 1), abs(high - 1)) < 0.15


def test_data_that_the_model_cannot_fit_are_not_confirmed():
    problem = LINEAR.problem
    far = ek.InverseProblem(problem.model, problem.prior, problem.noise, problem.data + 3.0)
    result = ek.run(far, ek.EKI(), n_members=200, rng=0)
    checked = ek.check_posterior(result, far, rng=0)
    assert checked.attrs["verdict"] == "not confirmed"
    assert "noise explains at most" in checked.attrs["verdict_reason"]


def test_fewer_members_than_parameters_cost_no_run():
    def model(u):
        raise AssertionError("the model was run")

    problem = ek.problems.linear(p=30, d=10).problem
    result = ek.run(problem, ek.EKI(), n_members=20, rng=0)
    never = ek.InverseProblem(ek.FunctionModel(model), problem.prior, problem.noise, problem.data)
    checked = ek.check_posterior(result, never)
    assert checked.attrs["verdict"] == "not confirmed"
    assert "20 members span fewer directions than the 30 parameters" in str(ek.summary(checked))
    assert numbers(checked) == {"runs": 0, "failed": 0}
    assert "checked_mean" not in checked


def test_runs_that_fail_have_the_likelihood_zero():
    """u ~ N(0, 1) without data to speak of, and a model that fails below 0: half a normal."""

    def model(u):
        if u[0] < 0:
            raise RuntimeError("unstable")
        return 1e-3 * u

    prior = ek.GaussianPrior([0.0], 1.0)
    problem = ek.InverseProblem(lambda u: 1e-3 * u, prior, 1.0, [0.0])
    result = ek.run(problem, ek.EKI(), n_members=200, rng=0)
    failing = ek.InverseProblem(ek.FunctionModel(model), prior, 1.0, [0.0])
    corrected = ek.check_posterior(result.isel(iteration=[-1]), failing, 1000, rng=0)
    assert 400 < numbers(corrected)["failed"] < 600
    assert "of which failed" in corrected.attrs["verdict_reason"]
    half = stats.halfnorm()
    for error in off(corrected, half.mean(), half.std()):
        assert np.abs(error).max() < 4


def test_a_model_that_always_fails_is_told_with_its_reason(result):
    def model(u):
        raise RuntimeError("no licence")

    problem = LINEAR.problem
    failing = ek.InverseProblem(ek.FunctionModel(model), problem.prior, problem.noise, problem.data)
    checked = ek.check_posterior(result.isel(iteration=[-1]), failing, 50, rng=0)
    assert checked.attrs["verdict"] == "not confirmed"
    assert "no licence" in checked.attrs["verdict_reason"]


def test_moments_are_those_of_physical_coordinates():
    """A lognormal prior and a lognormal posterior: log u is normal in closed form."""
    prior = ek.Prior({"rate": stats.lognorm(0.8)})
    problem = ek.InverseProblem(
        ek.FunctionModel(np.log, vectorized=True), prior, 0.2, [0.5]
    )  # of log u: N(0, 0.64) times N(0.5, 0.2)
    variance = 1 / (1 / 0.64 + 1 / 0.2)
    exact = stats.lognorm(np.sqrt(variance), scale=np.exp(variance * 0.5 / 0.2))
    result = ek.run(problem, ek.EKI(), n_members=200, rng=0)
    checked = ek.check_posterior(result, problem, 400, rng=0)
    assert checked.attrs["verdict"] == "confirmed"
    for error in off(checked, exact.mean(), exact.std()):
        assert np.abs(error).max() < 4


def test_scales_of_the_noise_are_parameters():
    """y = u + s η with a lognormal prior of s, by quadrature in two dimensions."""
    data = np.array([0.2, 1.1, 0.4, 0.9, 1.4, 0.1, 0.8, 0.6])
    matrix = np.ones((8, 1))
    noise = ek.UnknownNoise(stats.lognorm(0.5, scale=0.5))
    problem = ek.InverseProblem(ek.LinearModel(matrix), ek.GaussianPrior([0.0], 1.0), noise, data)
    u, s = np.meshgrid(np.linspace(-2, 3, 1001), np.linspace(0.05, 3, 1000), indexing="ij")
    log = stats.norm(0, 1).logpdf(u) + stats.lognorm(0.5, scale=0.5).logpdf(s)
    log += sum(stats.norm(u, s).logpdf(y) for y in data)
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    mean = np.array([np.sum(weight * u), np.sum(weight * s)])
    sd = np.sqrt([np.sum(weight * (u - mean[0]) ** 2), np.sum(weight * (s - mean[1]) ** 2)])
    result = ek.run(problem, ek.GNKI(), n_members=200, rng=0)
    checked = ek.check_posterior(result, problem, 400, rng=0)
    assert checked.attrs["verdict"] == "confirmed"
    for error in off(checked, mean, sd):
        assert np.abs(error).max() < 4


def test_the_verdict_is_shown_by_every_reader(result, checked, tmp_path):
    assert "verdict" not in result.attrs  # a new Dataset
    assert "checked_mean" not in result
    (check,) = [each for each in judge(checked) if each.topic == "Verdict"]
    assert check.level == "good"
    assert check.sentence.startswith("Confirmed. By the importance weights of 200 model runs")
    summary = ek.summary(checked)
    assert summary.trust.level == "good"
    assert summary.facts["Verdict"] == "confirmed"
    assert "confirmed by runs of the model" in str(summary)
    page = ek.report(checked, tmp_path / "a.html").read_text()
    assert "confirmed by runs of the model" in page
    posterior = ek.posterior(checked)
    assert posterior.attrs["verdict"] == "confirmed"
    assert "verdict" not in ek.posterior(result).attrs
    assert "verdict" not in ek.posterior([checked, result]).attrs
    file = tmp_path / "checked.nc"
    checked.to_netcdf(file)
    with xr.open_dataset(file) as back:
        assert ek.summary(back).trust.level == "good"
        xr.testing.assert_equal(back.checked_sd.load(), checked.checked_sd)


def test_a_second_check_replaces_the_first(checked):
    wrong = moved(checked, 8.0, 0.3)
    again = ek.check_posterior(wrong, LINEAR.problem, 60, rng=0)
    assert again.attrs["verdict"] == "not confirmed"
    assert (ek.summary(again).trust.level, checked.attrs["verdict"]) == ("care", "confirmed")


def test_the_check_is_the_same_with_any_executor_and_from_a_seed(result):
    problem = LINEAR.problem
    one_by_one = ek.FunctionModel(lambda u: problem.model(u[None])[0])
    same = ek.InverseProblem(one_by_one, problem.prior, problem.noise, problem.data)
    first = ek.check_posterior(result, same, 60, rng=5)
    with ThreadPoolExecutor(2) as pool:
        second = ek.check_posterior(result, same, 60, executor=pool, rng=5)
    xr.testing.assert_identical(first, second)
    other = ek.check_posterior(result, same, 60, rng=6)
    assert not np.array_equal(first.checked_mean, other.checked_mean)


def test_a_stochastic_model_is_given_a_stream_for_every_draw(result):
    problem, seen = LINEAR.problem, []

    def model(u, rng):
        seen.append(rng.integers(2**60))
        return problem.model(u[None])[0]

    noisy = ek.FunctionModel(model, stochastic=True)
    random = ek.InverseProblem(noisy, problem.prior, problem.noise, problem.data)
    ek.check_posterior(result, random, 50, rng=0)
    assert len(set(seen)) == 50


def test_draws_of_a_mixture_have_its_density():
    """E_q[q₁/q] = 1 for the part q₁ of the mixture q, and so for a Gaussian that is not in it."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    first = Gaussian(np.array([1.0, 0.0, -1.0]), basis[:2], np.array([0.3, 0.6]))
    pilot = Gaussian(np.zeros(3), basis, np.array([0.8, 1.2, 0.5]))
    for others in ((pilot,), (), (pilot, first)):
        mixture = mixture_of(first, others, 40_000)
        assert sum(mixture.counts) == 40_000
        x = mixture.draws(rng)
        log_mixture, log_first = mixture.log_densities(x)
        for log_density in (log_first, -0.5 * np.sum(x * x, axis=1)):
            ratio = np.exp(log_density - log_mixture)
            assert abs(ratio.mean() - 1) < 4 * ratio.std() / np.sqrt(len(x))


def test_stored_runs_that_disagree_are_told(result):
    """Outputs of an earlier ensemble that fit the data far from the last one."""
    other = result.copy(deep=True)
    other.u.values[1] = result.u.values[-1] + 6 * SD
    other.g.values[1] = LINEAR.problem.data
    checked = ek.check_posterior(other, LINEAR.problem, rng=1)
    assert checked.attrs["verdict"] == "not confirmed"
    assert "those of the stored runs do not" in checked.attrs["verdict_reason"]


def test_stored_runs_find_a_tail_that_the_ensemble_lost(result):
    """The Gaussian of all stored runs of a linear problem is the posterior, whatever the last."""
    pilot = pilot_of(moved(result, 0.8, 0.4).isel(iteration=slice(0, -1)), LINEAR.problem)
    prior = LINEAR.problem.prior
    draws = prior.unwhiten(
        pilot.gaussian.unwhiten(np.random.default_rng(0).standard_normal((4000, 3)))
    )
    assert np.abs((draws.mean(axis=0) - MEAN) / SD).max() < 0.5
    assert np.abs(np.log(draws.std(axis=0) / SD)).max() < 0.4
    assert pilot_of(result.isel(iteration=[-1]), LINEAR.problem) is None


@pytest.mark.slow
def test_eki_is_not_confirmed_on_lynx_and_hare_and_gnki_is():
    problem = ek.problems.lynx_hare(sigma=0.25).problem
    for method, right in ((ek.EKI(), False), (ek.GNKI(), True)):
        result = ek.run(problem, method, n_members=200, rng=0)
        verdict = ek.check_posterior(result, problem, rng=0).attrs["verdict"]
        assert (verdict == "confirmed") == right


def test_what_cannot_be_checked_is_refused(result):
    problem = LINEAR.problem
    learned = ek.run(problem, ek.Sparse(ek.EKI(), outer=2), n_members=50, rng=0)
    with pytest.raises(ValueError, match="result: must be of a method that keeps the prior"):
        ek.check_posterior(learned, problem)
    with pytest.raises(ValueError, match="problem: must be the problem of the result"):
        ek.check_posterior(result, ek.problems.linear(p=2).problem)
    with pytest.raises(ValueError, match="n: must be .* got 10"):
        ek.check_posterior(result, problem, 10)


def test_a_start_carries_the_warning_of_its_run():
    problem = two_modes()
    quick = ek.run(problem, ek.GNKI(), n_members=50, n_steps=2, rng=0)
    assert quick.attrs["status_level"] == "care"
    start = ek.GaussianStart.from_result(quick, problem.prior)
    assert start.doubt == quick.attrs["status"]
    for method in (ek.TemperedSMC(start=start), ek.GNKI(start=start, refinements=2)):
        result = ek.run(problem, method, n_members=50, rng=0)
        assert result.attrs["status_level"] == "care"
        assert "The start is from a run that ended with a warning" in result.attrs["status"]
    fine = ek.run(LINEAR.problem, ek.EKI(), n_members=50, rng=0)
    start = ek.GaussianStart.from_result(fine, LINEAR.problem.prior)
    assert start.doubt == ""
    members = ek.GaussianStart.from_ensemble(fine.u[-1], LINEAR.problem.prior)
    assert start == members
    lost = ek.check_posterior(moved(fine, 8.0, 0.3), LINEAR.problem, 50, rng=0)
    doubted = ek.GaussianStart.from_result(lost, LINEAR.problem.prior)
    assert doubted.doubt == lost.attrs["verdict_reason"]
