"""Stochastic models y = A u + ω + η with ω ~ N(0, S), against their exact posteriors.

The exact posterior has the noise Γ + S. What each method makes of it has a closed form too, in
docs/stochastic.md. Tolerances are standard errors of means over independent seeds.
"""

import json

import numpy as np
import pytest

import ekitools as ek

P, D = 2, 8
GAMMA, S = 0.5, 0.5
A = np.random.default_rng(1).standard_normal((D, P))
Y = A @ [1.0, -0.5] + np.sqrt(GAMMA + S) * np.random.default_rng(2).standard_normal(D)
PRIOR = ek.GaussianPrior(np.zeros(P), 1.0)


class Random:
    """A u + ω, which counts its runs."""

    vectorized, stochastic, shape = False, True, (D, P)

    def __init__(self, variance=S):
        self.sd, self.runs = np.sqrt(variance), 0

    def __call__(self, u, rng):
        self.runs += 1
        return A @ u + self.sd * rng.standard_normal(D)


def problem(noise, variance=S, data=Y):
    return ek.InverseProblem(Random(variance), PRIOR, noise, data)


def posterior(*variances, data=Y):
    """Mean and covariance for independent looks at the data, each with a variance."""
    precision = np.eye(P) + sum(A.T @ A / v for v in variances)
    cov = np.linalg.inv(precision)
    return cov @ sum(A.T @ data / v for v in variances), cov


def close(runs, mean, cov, most=4.0):
    """Means and standard deviations of runs agree with a Gaussian, within standard errors."""
    sd = np.sqrt(np.diag(cov))
    means = np.array([(u.mean(axis=0) - mean) / sd for u in runs])
    ratios = np.array([u.std(axis=0, ddof=1) / sd for u in runs])
    for each, exact in ((means, 0.0), (ratios, 1.0)):
        error = each.std(axis=0, ddof=1) / np.sqrt(len(each))
        if np.any(np.abs(each.mean(axis=0) - exact) > most * error):
            return False
    return True


def ensembles(method, noise, n_seeds=10, n=500):
    return [
        ek.run(problem(noise), method, n_members=n, rng=seed, evaluate_final=False).u[-1].values
        for seed in range(n_seeds)
    ]


@pytest.mark.parametrize("make", [ek.EKI, ek.ETKI], ids=["EKI", "ETKI"])
@pytest.mark.parametrize("noise", [GAMMA + S, GAMMA], ids=["both", "observations alone"])
def test_a_step_of_eki_has_the_noise_of_the_problem_and_that_of_the_model(make, noise):
    """Γ/h + S for every step h: with Γ + S nearly the posterior, with Γ far too narrow."""
    runs = ensembles(make(ek.FixedStep(0.25)), noise)
    assert close(runs, *posterior(*[noise / 0.25 + S] * 4))
    exact = posterior(GAMMA + S)
    ratio = np.sqrt(np.diag(posterior(*[noise / 0.25 + S] * 4)[1]) / np.diag(exact[1]))
    if noise == GAMMA:
        assert ratio.max() < 0.9
        assert not close(runs, *exact)
    else:
        assert 1 < ratio.max() < 1.06


def test_gnki_with_fresh_draws_is_wider_by_the_gain_times_the_randomness():
    """Its mean forgets EKI's start by half in every refinement, so five leave 3 % of 0.07."""
    damping = 0.5
    mean, cov = posterior(GAMMA + S)
    gain = A.T @ np.linalg.inv(A @ A.T + (GAMMA + S) * np.eye(D))
    wider = cov + damping / (2 - damping) * S * gain @ gain.T
    runs = ensembles(ek.GNKI(damping=damping, draws="fresh"), GAMMA + S)
    assert close(runs, mean, wider)
    assert not close(runs, mean, cov)


def test_gnki_by_default_tells_what_a_stochastic_model_needs():
    result = ek.run(problem(GAMMA + S), ek.GNKI(), n_members=200, rng=0)
    assert result.attrs["status_code"] == "refinement_stalled"
    assert 'draws="fresh" and damping=0.2' in result.attrs["status"]


@pytest.mark.slow
def test_the_sampler_is_exact_for_the_noise_of_the_observations():
    """Pseudo-marginal: the likelihood of one run is unbiased for the noise Γ + S."""
    runs = []
    for seed in range(10):
        sample = ek.run(
            problem(GAMMA, 0.1), ek.TemperedSMC(), n_members=200, rng=seed, store="last"
        )
        runs.append(
            np.stack([ek.posterior(sample)[name].values.ravel() for name in ("u0", "u1")]).T
        )
    assert close(runs, *posterior(GAMMA + 0.1))
    assert not close(runs, *posterior(GAMMA))


def frozen(seed, data=Y):
    """The model with the same random numbers for every member."""
    offset = np.sqrt(S) * np.random.default_rng(seed).standard_normal(D)
    model = ek.FunctionModel(lambda u: u @ A.T + offset, vectorized=True)
    return ek.InverseProblem(model, PRIOR, GAMMA + S, data), offset


def test_common_random_numbers_move_the_posterior_by_one_draw_of_them():
    one, offset = frozen(3)
    fixed = ek.run(one, ek.GNKI(), n_members=200, rng=0).u[-1]
    other = ek.InverseProblem(ek.LinearModel(A), PRIOR, GAMMA + S, Y - offset)
    np.testing.assert_allclose(fixed, ek.run(other, ek.GNKI(), n_members=200, rng=0).u[-1])
    means = [posterior(GAMMA + S, data=Y - frozen(seed)[1])[0] for seed in range(2000)]
    gain = A.T @ np.linalg.inv(A @ A.T + (GAMMA + S) * np.eye(D))
    np.testing.assert_allclose(np.cov(np.transpose(means)), S * gain @ gain.T, rtol=0.15, atol=0.01)


def test_a_result_has_its_randomness_from_any_door():
    result = ek.run(problem(GAMMA + S), ek.EKI(), n_members=50, rng=0)
    assert result.attrs["stochastic"] == 1
    plain = ek.run(ek.problems.linear(p=2).problem, ek.EKI(), n_members=50, rng=0)
    assert "stochastic" not in plain.attrs
    assert "Randomness" not in [check.topic for check in ek.summary(plain).checks]


def checks_of(result):
    return {check.topic: check for check in ek.summary(result).checks}


def test_the_summary_measures_the_randomness_and_leaves_linearity_out():
    result = ek.run(problem(GAMMA + S), ek.EKI(), n_members=400, rng=0)
    checks = checks_of(result)
    assert checks["Randomness"].level == "note"
    share = float(checks["Randomness"].sentence.split(" of the stated")[0].split()[-1])
    # 8 x 397 squares of normal numbers about S/(Γ + S): a standard error of 0.013
    assert abs(share - S / (GAMMA + S)) < 4 * 0.013
    assert "Linearity" not in checks
    assert "cannot tell whether the noise is right" in ek.summary(result).trust.sentence


def test_the_summary_doubts_noise_that_cannot_contain_the_randomness():
    result = ek.run(problem(GAMMA, 3 * GAMMA), ek.EKI(), n_members=400, rng=0)
    check = checks_of(result)["Randomness"]
    assert check.level == "care"
    assert "from_samples" in check.sentence
    assert ek.summary(result).trust.level == "care"


def test_the_misfit_is_judged_without_the_scatter_of_the_model():
    """Of 200 data it is (200 + 100)/2 with the right noise. Noise alone explains 134 at most."""
    d, rng = 200, np.random.default_rng(0)
    many = np.repeat(A, d // D, axis=0)
    data = many @ [1.0, -0.5] + np.sqrt(2 * GAMMA) * rng.standard_normal(d)

    def model(u, rng):
        return many @ u + np.sqrt(GAMMA) * rng.standard_normal(d)

    def judged(noise):
        random = ek.FunctionModel(model, stochastic=True)
        result = ek.run(
            ek.InverseProblem(random, PRIOR, noise, data), ek.EKI(), n_members=100, rng=0
        )
        return float(ek.diagnose(result).misfit_mean[-1]), checks_of(result)["Misfit"].level

    misfit, level = judged(2 * GAMMA)
    assert (misfit > 134, level) == (True, "good")
    assert judged(GAMMA)[1] == "care"


def test_a_sampler_is_told_that_its_noise_is_that_of_the_observations():
    result = ek.run(problem(GAMMA, 0.05), ek.TemperedSMC(), n_members=100, rng=0, store="last")
    assert "observations alone" in checks_of(result)["Randomness"].sentence


def test_random_slopes_of_nodes_are_told_and_measured():
    """The precision of UKI is too large by the factor 1 + x with x = d S/(Γ + S)/8 (1 + x)."""
    ratios, told = [], []
    sd = np.sqrt(np.diag(posterior(GAMMA + S)[1]))
    for seed in range(12):
        result = ek.run(problem(GAMMA + S), ek.UKI(h=0.3), rng=seed)
        ratios.append(result.draws[-1].std("draw").values / sd)
        check = checks_of(result)["Randomness"]
        told.append(check.level)
    error = np.std(ratios, axis=0) / np.sqrt(12)
    predicted = np.sqrt(1 - D * S / (GAMMA + S) / 8)
    assert np.all(np.abs(np.mean(ratios, axis=0) - predicted) < 4 * error)
    assert told.count("care") >= 10
    quiet = ek.run(problem(GAMMA, 1e-4), ek.UKI(), rng=0)
    assert checks_of(quiet)["Randomness"].level == "note"


@pytest.mark.parametrize("noise", [GAMMA + S, GAMMA], ids=["both", "observations alone"])
def test_the_noise_that_moved_an_ensemble_does_not_confirm_it(noise):
    result = ek.run(problem(noise), ek.EKI(), n_members=100, rng=0)
    other = problem(noise)
    checked = ek.check_posterior(result, other, rng=0)
    assert checked.attrs["verdict"] == "not confirmed"
    assert "The model was not run" in checked.attrs["verdict_reason"]
    assert other.model.runs == 0


def test_a_check_with_the_noise_of_the_observations_is_exact():
    """The corrected moments are those of Γ + S, within four of their standard errors."""
    small = 0.05
    result = ek.run(problem(GAMMA + small, small), ek.EKI(ek.FixedStep(0.1)), n_members=400, rng=0)
    checked = ek.check_posterior(result, problem(GAMMA, small), 1000, rng=0)
    assert checked.attrs["verdict"] == "confirmed"
    mean, cov = posterior(GAMMA + small)
    assert np.all(np.abs(checked.checked_mean - mean) < 4 * checked.checked_mean_error)
    assert np.all(np.abs(checked.checked_sd - np.sqrt(np.diag(cov))) < 4 * checked.checked_sd_error)


def test_a_check_of_much_randomness_is_not_confirmed_and_names_the_emulator():
    result = ek.run(problem(GAMMA + S), ek.EKI(), n_members=200, rng=0)
    checked = ek.check_posterior(result, problem(GAMMA), rng=0)
    assert checked.attrs["verdict"] == "not confirmed"
    assert "ek.emulate(result, problem)" in checked.attrs["verdict_reason"]


@pytest.mark.slow
def test_an_emulator_learns_the_variance_of_the_model():
    """Its likelihood is that of Γ + S. The Gaussian processes are known to a few per cent."""
    pytest.importorskip("sklearn")
    mean, cov = posterior(GAMMA + S)
    sd, found = np.sqrt(np.diag(cov)), []
    for seed in range(5):
        result = ek.run(problem(GAMMA + S), ek.EKI(), n_members=200, rng=seed)
        emulator = ek.emulate(result, problem(GAMMA), rng=seed)
        assert abs(np.sum(emulator.scatter) / D * GAMMA / S - 1) < 0.15
        sampler = ek.TemperedSMC(start=emulator.start)
        sample = ek.run(emulator.as_problem(), sampler, n_members=1000, rng=seed, store="last")
        u, w = sample.u[-1].values, sample.weight[-1].values
        at = w @ u
        found.append([(at - mean) / sd, np.sqrt(w @ (u - at) ** 2) / sd - 1])
    assert np.abs(np.mean(found, axis=0)).max() < 0.1


def test_solve_samples_without_a_check_of_the_kalman_method_before():
    """A check has other noise. Single runs of much randomness cannot confirm a sample."""
    result = ek.solve(problem(GAMMA), rng=1)
    path = json.loads(result.attrs["path"])
    assert "EKI with" in path[0]
    assert "TemperedSMC with" in path[1]
    assert result.attrs["verdict"] == "not confirmed"
    assert "randomness is too large" in result.attrs["verdict_reason"]
