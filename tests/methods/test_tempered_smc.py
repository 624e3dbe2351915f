"""Tempered SMC against exact posteriors: calibrated moments and evidence, and what goes wrong."""

import numpy as np
import pytest
from scipy import stats
from zoo.results import same

import ekitools as ek
from ekitools import theory
from ekitools.methods.smc.ending import _error_of_start, ended
from ekitools.methods.smc.moves import MOVES

P, D = 10, 20
FIXED = tuple(np.geomspace(5e-4, 1, 16).tolist())


def linear_problem(p=P):
    rng = np.random.default_rng(5)
    matrix = rng.normal(size=(D, p)) / 3
    prior = ek.GaussianPrior(rng.normal(size=p) * 20, np.exp(rng.normal(size=p)))  # far from 0
    data = matrix @ prior.sample(1, rng=rng)[0] + 0.5 * rng.normal(size=D)
    return ek.InverseProblem(ek.LinearModel(matrix), prior, 0.25, data), matrix


def exact(problem, matrix):
    """Mean, covariance, and log ∫exp(−Φ)dμ₀ from the joint Gaussian of u and y."""
    prior, y = problem.prior, problem.data
    c = np.diag(prior.cov)
    s = matrix @ c @ matrix.T + 0.25 * np.eye(D)
    gain = c @ matrix.T @ np.linalg.inv(s)
    mean = prior.mean + gain @ (y - matrix @ prior.mean)
    log_density = stats.multivariate_normal(matrix @ prior.mean, s).logpdf(y)
    return mean, c - gain @ matrix @ c, log_density + 0.5 * D * np.log(2 * np.pi * 0.25)


def moments(result):
    last = result.isel(iteration=-1)
    w, u = last.weight.values, last.u.values
    mean = w @ u
    return mean, w @ (u - mean) ** 2


def z_scores(method, seeds, n_members, p=P):
    """(estimate − truth)/(standard error), standard errors from the spread over seeds."""
    problem, matrix = linear_problem(p)
    mean, cov, log_evidence = exact(problem, matrix)
    runs = [
        ek.run(problem, method, n_members=n_members, rng=seed, store="last") for seed in seeds
    ]  # fmt: skip
    assert {run.attrs["status_code"] for run in runs} == {"posterior_reached"}
    found = np.array([np.concatenate(moments(run)) for run in runs])
    # exp of the estimated log-evidence is unbiased, its logarithm low by half its variance
    logs = np.array([run.attrs["log_evidence"] for run in runs])
    logs = logs + 0.5 * logs.var(ddof=1)
    found = np.column_stack([found, logs])
    truth = np.concatenate([mean, np.diag(cov), [log_evidence]])
    return (found.mean(axis=0) - truth) / (found.std(axis=0, ddof=1) / np.sqrt(len(runs))), found


@pytest.mark.parametrize(
    ("method", "p"),
    [
        (ek.TemperedSMC(), P),
        (ek.TemperedSMC(FIXED, resampling="residual"), P),
        (ek.TemperedSMC(), 5),  # with other moves
        (ek.TemperedSMC(move="kernel"), 5),
    ],
)
def test_means_variances_and_evidence_are_calibrated_over_50_seeds(method, p):
    n_members = 500
    z, found = z_scores(method, range(50), n_members, p)
    # 21 scores of about 50 degrees of freedom each: the largest of them beyond 4 in one case of
    # 250, the mean square is 1 within 4 standard errors of a χ² even where all correlate by 0.5
    assert np.max(np.abs(z)) < 4
    assert np.mean(z**2) < 2.5
    # and the Monte-Carlo error itself is that of at least a quarter as many independent draws
    sd = np.sqrt(exact(*linear_problem(p))[1].diagonal())
    assert np.all(found[:, :p].std(axis=0, ddof=1) < 2 * 1.3 * sd / np.sqrt(n_members))


def test_a_gaussian_start_gives_the_same_posterior_and_evidence():
    problem, matrix = linear_problem()
    mean, cov, _ = exact(problem, matrix)
    rng = np.random.default_rng(0)
    off = mean + 0.5 * np.sqrt(np.diag(cov))  # neither its mean nor its spread is right
    guess = rng.multivariate_normal(off, 2 * cov, size=100)
    start = ek.GaussianStart.from_ensemble(guess, problem.prior)
    z, _ = z_scores(ek.TemperedSMC(start=start), range(50), 500)
    assert np.max(np.abs(z)) < 4
    assert np.mean(z**2) < 2.5
    plain, near = (
        ek.run(problem, method, n_members=500, rng=0, store="last").attrs["model_runs"]
        for method in (ek.TemperedSMC(), ek.TemperedSMC(start=start))
    )
    assert near < plain / 2


@pytest.mark.parametrize("prior_share", [0.0, 0.5])
def test_any_share_of_the_prior_gives_the_same_posterior_and_evidence(prior_share):
    problem, matrix = linear_problem(5)
    mean, cov, _ = exact(problem, matrix)
    guess = np.random.default_rng(0).multivariate_normal(mean, cov, size=100)
    start = ek.GaussianStart.from_ensemble(guess, problem.prior, prior_share=prior_share)
    z, _ = z_scores(ek.TemperedSMC(start=start, move="ensemble"), range(30), 300, 5)
    # 11 scores of about 30 degrees of freedom each
    assert np.max(np.abs(z)) < 4
    assert np.mean(z**2) < 2.5


def one_mode(prior_share=0.2):
    """u² = 1 with two modes, and a start on the upper one."""
    model = ek.FunctionModel(np.square, vectorized=True)
    problem = ek.InverseProblem(model, ek.GaussianPrior([0.0], 1.0), 0.01, [1.0])
    return problem, ek.GaussianStart((1.0,), ((1.0,),), (0.06,), prior_share=prior_share)


def test_a_mode_that_the_start_misses_is_found_by_its_draws_of_the_prior():
    problem, start = one_mode()
    n, masses, logs = 2000, [], []
    for seed in range(10):
        method = ek.TemperedSMC(start=start)
        result = ek.run(problem, method, n_members=n, rng=seed, store="last")
        masses.append(result.weight[-1].values @ (result.u[-1].values[:, 0] > 0))
        logs.append(result.attrs["log_evidence"])
    grid = np.linspace(-6, 6, 200_001)
    density = stats.norm.pdf(grid) * np.exp(-0.5 * ((grid**2 - 1) / 0.1) ** 2)
    log_evidence = np.log(density.sum() * (grid[1] - grid[0]))
    for found, truth in ((masses, 0.5), (logs, log_evidence)):
        error = np.std(found, ddof=1) / np.sqrt(len(found))
        assert abs(np.mean(found) - truth) < 4 * error
    assert np.std(masses) < 0.1
    # without them it is lost
    problem, start = one_mode(prior_share=0)
    result = ek.run(problem, ek.TemperedSMC(start=start), n_members=n, rng=0, store="last")
    assert float(result.u[-1].min()) > 0


def test_a_start_whose_draws_of_the_prior_fail_keeps_the_evidence():
    """A model that fails for u < 0 is a prior cut there, and most of the Gaussian runs."""
    problem = ek.InverseProblem(
        ek.FunctionModel(lambda u: np.where(u < 0, np.nan, u), vectorized=True),
        ek.GaussianPrior(0.0, [1.0]), 1.0, [2.0],
    )  # fmt: skip
    start = ek.GaussianStart((1.0,), ((1.0,),), (0.3,), prior_share=0.5)
    runs = [
        ek.run(problem, ek.TemperedSMC(start=start), n_members=1000, rng=seed, store="last")
        for seed in range(20)
    ]
    truth = -1 - 0.5 * np.log(2) + stats.norm.logcdf(np.sqrt(2))  # posterior N(1, 1/2), cut
    logs = np.array([run.attrs["log_evidence"] for run in runs])
    error = logs.std(ddof=1) / np.sqrt(len(logs))
    assert abs(logs.mean() + 0.5 * logs.var(ddof=1) - truth) < 4 * error
    assert error < 0.02
    posterior = stats.truncnorm(-np.sqrt(2), np.inf, loc=1, scale=np.sqrt(0.5))
    means = np.array([moments(run)[0][0] for run in runs])
    assert abs(means.mean() - posterior.mean()) < 4 * means.std(ddof=1) / np.sqrt(len(means))
    at_start = np.mean([run.attrs["failed_at_start"] for run in runs])
    assert at_start == pytest.approx(0.25, abs=4 * 0.5 / np.sqrt(20_000))


@pytest.mark.parametrize("p", [1, 2])
def test_particles_that_cannot_change_modes_are_no_reason_to_doubt(p):
    """u_i² = 1: two and four modes. The correlation with the origins stays near 1 for ever."""
    model = ek.FunctionModel(np.square, vectorized=True)
    problem = ek.InverseProblem(model, ek.GaussianPrior(np.zeros(p), 1.0), 0.01, np.ones(p))
    method = ek.TemperedSMC(move="random_walk")
    result = ek.run(problem, method, n_members=1500, rng=0, store="last")
    assert result.attrs["status_level"] == "good"
    assert f"within each of {2**p} modes" in result.attrs["status"]
    sides = result.u[-1].values > 0
    codes = sides @ 2 ** np.arange(p)
    masses = np.bincount(codes, weights=result.weight[-1].values)
    np.testing.assert_allclose(masses, 0.5**p, atol=0.1)


def test_the_error_of_a_mass_by_the_starts_draws_is_that_of_importance_sampling():
    """Two modes, of which the start's Gaussian covers one, over 400 weighted samples of 2000."""
    rng, n, sd = np.random.default_rng(0), 2000, 0.06
    mixture = ek.GaussianStart((1.0,), ((1.0,),), (sd,))

    def log_posterior(u):
        return np.logaddexp(*(stats.norm.logpdf(u[:, 0], m, sd) for m in (-1, 1))) - np.log(2)

    def log_ratio(u):
        return log_posterior(u) - mixture.log_density(u) + 0.5 * np.log(2 * np.pi)

    masses = []
    for _ in range(400):
        of_prior = rng.random(n) < 0.2
        u = np.where(of_prior, rng.normal(size=n), 1 + sd * rng.normal(size=n))[:, None]
        weight = np.exp(log_ratio(u))
        masses.append(weight @ (u[:, 0] > 0) / weight.sum())
    exact = np.where(rng.random(n) < 0.5, -1, 1)[:, None] + sd * rng.normal(size=(n, 1))
    found = _error_of_start(exact[:, 0] > 0, np.full(n, 1 / n), log_ratio(exact))
    # a standard deviation of 400 values is known to 3.5 %, and the formula is of first order
    assert found == pytest.approx(np.std(masses), rel=4 * 0.035 + 0.05)


def test_few_first_particles_are_a_reason_to_doubt():
    """All particles of a mode from two first ones: as sure as two draws are."""
    rng = np.random.default_rng(0)
    n = 400
    equal, zeros = np.full(n, 1 / n), np.zeros(n)
    told = {"prior_share": None, "log_ratio": zeros, "log_start": zeros}
    two = rng.normal(size=(n, 1)) + 20 * (np.arange(n) % 2)[:, None]
    first = np.arange(n)
    assert ended(two, equal, first, 5, 0.1, True, **told).level == "good"
    few = ended(two, equal, first % 4, 5, 0.1, True, **told)
    assert few.level == "care"
    # each of four families has a quarter of the weight, all of it on one side
    assert "masses of the modes have standard errors up to 0.25. Use more" in few.sentence
    one = ended(two - 20 * (first % 2)[:, None], equal, first, 5, 0.1, True, **told)
    assert one.level == "good"
    # quarters of a uniform sample: means at 1/8, 3/8, ... of its width, which is √12 of its sd
    slow = ended(np.cumsum(np.ones((n, 1)), axis=0), equal, first // 100, 5, 0.1, True, **told)
    assert slow.level == "care"
    assert "means have standard errors up to 0.48 standard deviations. Use" in slow.sentence


@pytest.mark.parametrize("move", [*MOVES, ("pcn", "kernel")])
def test_a_posterior_with_two_humps_and_a_constrained_parameter(move):
    """y = u² of a log-normal-by-normal prior, against quadrature."""
    prior = ek.Prior({"a": stats.norm(0.2, 1), "b": stats.lognorm(0.5)})
    problem = ek.InverseProblem(
        ek.FunctionModel(lambda u: np.column_stack([u[:, 0] ** 2 * u[:, 1]]), vectorized=True),
        prior, 0.04, [1.0],
    )  # fmt: skip

    # the trapezoidal rule in unconstrained coordinates, of spectral accuracy
    z = np.linspace(-7, 7, 1201)
    a, b = np.meshgrid(0.2 + z, np.exp(0.5 * z), indexing="ij")
    prior_density = stats.norm.pdf(z)[:, None] * stats.norm.pdf(z) * (z[1] - z[0]) ** 2
    density = prior_density * np.exp(-0.5 * (a * a * b - 1) ** 2 / 0.04)
    evidence = density.sum()
    right, mean_b = (density * (a > 0)).sum() / evidence, (density * b).sum() / evidence
    n = 4000
    result = ek.run(problem, ek.TemperedSMC(move=move), n_members=n, rng=1, store="last")
    last = result.isel(iteration=-1)
    w, u = last.weight.values, last.u.values
    assert result.attrs["log_evidence"] == pytest.approx(np.log(evidence), abs=4 * 2 / np.sqrt(n))
    # two standard errors allow for the genealogy: copies of one particle are not independent
    assert w @ (u[:, 0] > 0) == pytest.approx(right, abs=4 * 2 * 0.5 / np.sqrt(n))
    assert w @ u[:, 1] == pytest.approx(mean_b, abs=4 * 2 * 0.5 / np.sqrt(n))
    assert np.all(u[:, 1] > 0)


def test_weights_and_what_a_sampler_reports_are_in_the_result():
    problem, _ = linear_problem()
    method = ek.TemperedSMC(FIXED, ess=0.3)
    result = ek.run(problem, method, n_members=200, rng=0)
    np.testing.assert_allclose(result.weight.sum("member"), 1)
    assert np.ptp(result.weight.values, axis=1).max() > 0  # some were not resampled
    np.testing.assert_allclose(result.history_ess, 1 / (result.weight**2).sum("member"), rtol=1e-9)
    assert tuple(sorted(set(result.t.values))) == (0.0, *FIXED)
    assert float(result.history_log_evidence[-1]) == result.attrs["log_evidence"]
    np.testing.assert_allclose(
        result.g, problem.model(result.u.values.reshape(-1, P)).reshape(result.g.shape)
    )
    np.testing.assert_allclose(result.misfit, problem.noise.misfit(result.g.values, problem.data))
    diagnosed = ek.diagnose(result)
    np.testing.assert_allclose(diagnosed.n_effective, result.history_ess)
    np.testing.assert_allclose(diagnosed["mean"][-1], moments(result)[0])


def test_failed_proposals_are_refused_and_failed_particles_get_no_weight():
    """A model that fails for u > 1 is a prior cut at 1."""

    def model(u):
        if u[0] > 1:
            raise ValueError("too large")
        return u

    problem = ek.InverseProblem(ek.FunctionModel(model), ek.GaussianPrior(0.0, [1.0]), 1.0, [2.0])
    n = 2000
    result = ek.run(problem, ek.TemperedSMC(), n_members=n, rng=0)
    last = result.isel(iteration=-1)
    w, u = last.weight.values, last.u.values[:, 0]
    posterior = stats.truncnorm(-np.inf, 0, loc=1, scale=np.sqrt(0.5))
    assert w @ u == pytest.approx(posterior.mean(), abs=4 * 1.5 * posterior.std() / np.sqrt(n))
    assert u[w > 0].max() <= 1
    share = stats.norm(1, np.sqrt(0.5)).cdf(1)
    exact_log = -1 - 0.5 * np.log(2) + np.log(share)
    assert result.attrs["log_evidence"] == pytest.approx(exact_log, abs=4 * 1.5 / np.sqrt(n))
    assert result.attrs["failed_at_start"] == pytest.approx(stats.norm.sf(1), abs=4 * 0.37 / 44)
    assert not result.failed[0].any()  # those were drawn again
    assert len(result.member) == n
    dropped = ek.run(problem, ek.TemperedSMC(), n_members=n, rng=0, on_failure="drop")
    assert int(dropped.failed[0].sum()) == pytest.approx(n * stats.norm.sf(1), abs=80)
    assert dropped.attrs["log_evidence"] == pytest.approx(exact_log, abs=4 * 1.5 / np.sqrt(n))


def test_a_likelihood_that_is_zero_for_all_is_a_status():
    class Nowhere(ek.GaussianNoise):
        def misfit(self, z, y):
            return np.full(z.shape[0], np.inf)

    problem = ek.InverseProblem(
        ek.LinearModel([[1.0]]), ek.GaussianPrior(0.0, [1.0]), Nowhere(1.0), [2.0]
    )
    result = ek.run(problem, ek.TemperedSMC(), n_members=20, rng=0)
    assert result.attrs["status_code"] == "no_likelihood"
    assert result.u.shape == (1, 20, 1)


def test_weights_that_degenerate_to_one_particle_are_a_status_and_the_last_good_stay():
    problem = ek.InverseProblem(ek.LinearModel([[1.0]]), ek.GaussianPrior(0.0, [1.0]), 1e-8, [2.0])
    result = ek.run(problem, ek.TemperedSMC((1.0,)), n_members=20, rng=0)
    assert result.attrs["status_code"] == "degenerate"
    assert "smaller steps" in result.attrs["status"]
    assert np.all(np.isfinite(result.u[-1]))


def test_moves_may_be_given_in_any_sequence():
    method = ek.TemperedSMC(move=["pcn", "kernel"])
    assert method == ek.TemperedSMC(move=("pcn", "kernel"))
    assert hash(method) == hash(ek.TemperedSMC(move=("pcn", "kernel")))
    assert ek.TemperedSMC(move="pcn") == ek.TemperedSMC(move=("pcn",))


def test_too_few_moves_are_a_status():
    problem, _ = linear_problem()
    result = ek.run(problem, ek.TemperedSMC(move="pcn", max_moves=1), n_members=50, rng=0)
    assert result.attrs["status_code"] == "moves_spent"


def test_a_prior_without_a_density_is_refused_before_any_run():
    class Draws:
        n_parameters, names = 1, None

        def sample(self, n, *, rng=None):
            return np.random.default_rng(rng).choice([0.0, 1.0], size=(n, 1))

        sample_unconstrained = sample

        def to_physical(self, z):
            return z

        to_unconstrained = to_physical

        def logpdf(self, u):
            raise NotImplementedError

        whiten = unwhiten = logpdf

        def fingerprint(self):
            return "draws"

    calls = []
    problem = ek.InverseProblem(
        ek.FunctionModel(lambda u: calls.append(u) or u), Draws(), 1.0, [1.0]
    )
    with pytest.raises(TypeError, match="^prior: must have coordinates in which it is N"):
        ek.run(problem, ek.TemperedSMC(), n_members=5)
    assert not calls


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"temperatures": (0.5, 0.2, 1.0)}, ValueError, "^temperatures: must rise"),
        ({"temperatures": (0.5,)}, ValueError, "^temperatures: must rise from above 0 to 1"),
        ({"ess": 1.0}, ValueError, "^ess: must be within"),
        ({"acceptance": 0.0}, ValueError, "^acceptance: must be within"),
        ({"decorrelation": 2.0}, ValueError, "^decorrelation: must be within"),
        ({"max_moves": 0}, ValueError, "^max_moves: must be at least 1"),
        (
            {"move": "jump"},
            ValueError,
            '^move: must be "kernel", "ensemble", "pcn" or "random_walk"',
        ),
        ({"move": ()}, ValueError, "^move: must name at least one"),
        ({"move": ("pcn", "jump")}, ValueError, "^move: must be .*, got 'jump'"),
        ({"resampling": "jump"}, ValueError, '^resampling: must be "systematic"'),
        ({"start": 3}, TypeError, "^start: must be an ek.GaussianStart"),
    ],
)
def test_options_out_of_range_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        ek.TemperedSMC(**options)


def test_a_start_of_another_size_is_refused():
    problem, _ = linear_problem()
    start = ek.GaussianStart((0.0,), (), ())
    with pytest.raises(ValueError, match="^start: must have p = 10 parameters, got 1"):
        ek.run(problem, ek.TemperedSMC(start=start), n_members=5)


def test_the_exact_posterior_of_the_package_agrees_with_the_one_used_here():
    problem, matrix = linear_problem()
    mean, cov, _ = exact(problem, matrix)
    theirs = theory.posterior(matrix, problem.data, problem.prior, problem.noise)
    np.testing.assert_allclose(theirs[0], mean)
    np.testing.assert_allclose(theirs[1], cov, atol=1e-12)


@pytest.mark.parametrize("on_failure", ["drop", "resample"])
def test_a_resumed_run_is_the_run_that_was_never_interrupted_after_failures_too(
    on_failure, tmp_path
):
    problem = ek.InverseProblem(
        ek.FunctionModel(lambda u: np.where(u > 1, np.nan, u)),
        ek.GaussianPrior(0.0, [1.0]), 0.01, [0.5],
    )  # fmt: skip
    options = {"n_members": 30, "rng": 0, "on_failure": on_failure}
    method = ek.TemperedSMC(move="pcn")
    whole = ek.run(problem, method, n_steps=9, **options)
    part = ek.run(problem, method, n_steps=4, checkpoint=tmp_path / "run", **options)
    assert part.attrs["status_code"] == "budget_spent"
    assert part.sizes["iteration"] == 5
    resumed = ek.resume(tmp_path / "run", problem, n_steps=9)
    assert same(resumed, whole)
    assert whole.failed.any()


@pytest.mark.parametrize("start", [None, ek.GaussianStart((0.0,) * P, (), ())])
def test_a_torch_ensemble_stays_one_and_gives_the_numpy_numbers(start):
    torch = pytest.importorskip("torch")
    problem, matrix = linear_problem()
    draws = problem.prior.sample(100, rng=0)
    method = ek.TemperedSMC(start=start)

    def final(ensemble, matrix):
        loop = ek.AskTell(problem, method, ensemble=ensemble, rng=0)
        while not loop.done:
            asked = loop.ask()
            assert type(asked) is type(ensemble)
            loop.tell(asked @ matrix.T)
        return loop.result()

    ours, theirs = final(draws, matrix), final(torch.asarray(draws), torch.asarray(matrix))
    np.testing.assert_allclose(theirs.u, ours.u, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(theirs.weight, ours.weight, rtol=1e-6)


def test_lynx_and_hare_with_unknown_scales_from_what_gnki_found():
    """Eight parameters against posteriordb's reference: means to 0.1 sd, spreads to 10 %."""
    example, fixed = ek.problems.lynx_hare(sigma=None), ek.problems.lynx_hare().problem
    quick = ek.run(fixed, ek.GNKI(), n_members=100, rng=2)
    residuals = (quick.g[-1].values - fixed.data).reshape(100, -1, 2)
    sigma = np.sqrt(np.mean(residuals**2, axis=1))
    sigma *= np.exp(np.random.default_rng(0).normal(size=sigma.shape) / np.sqrt(42))
    ensemble = np.hstack([quick.u[-1].values, sigma])
    start = ek.GaussianStart.from_ensemble(ensemble, example.problem.prior, inflation=1.5)
    method = ek.TemperedSMC(start=start, move="kernel")
    result = ek.run(example.problem, method, n_members=2000, rng=0, store="last")
    comparison = ek.compare({"SMC": result}, example.reference)
    # of 1000 effective particles: three and two standard errors
    assert comparison.mean_error_max.item() < 0.1
    assert comparison.sd_error_max.item() < 0.1
    assert result.attrs["model_runs"] < 50_000
    # an independent estimate, by importance sampling with a Student t of the posterior's moments
    assert result.attrs["log_evidence"] == pytest.approx(18.98, abs=0.15)
