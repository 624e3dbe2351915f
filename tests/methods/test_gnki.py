"""Gauss–Newton Kalman inversion, against exact posteriors."""

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

import ekitools as ek
from ekitools.methods.gauss_newton import regularised


def gauss_linear():
    """A problem, and its randomised maximum a posteriori solutions from whitened draws."""
    rng = np.random.default_rng(0)
    p, d = 3, 8
    matrix = rng.normal(size=(d, p))
    root = np.eye(p) + 0.3 * rng.normal(size=(p, p))
    mean, cov, gamma = rng.normal(size=p), root @ root.T, np.linspace(0.5, 1.5, d)
    problem = ek.InverseProblem(
        ek.LinearModel(matrix), ek.GaussianPrior(mean, cov), gamma, rng.normal(size=d)
    )
    gain = cov @ matrix.T @ np.linalg.inv(matrix @ cov @ matrix.T + np.diag(gamma))

    def solution(anchors, draws):
        anchors = mean + anchors @ np.linalg.cholesky(cov).T
        data = problem.data + draws * np.sqrt(gamma)
        return anchors + (data - anchors @ matrix.T) @ gain.T

    return problem, solution


def test_one_undamped_step_is_exact_for_a_linear_model():
    """The last ensemble is the RML sample of the exact slope, whatever the ensemble before."""
    problem, solution = gauss_linear()
    method = ek.GNKI(ek.FixedStep(1.0), damping=1.0, refinements=3)
    loop = ek.AskTell(problem, method, n_members=20, rng=0)
    while not loop.done:
        loop.tell(problem.model(loop.ask()))
    state = loop._state
    np.testing.assert_allclose(state.ensemble, solution(state.anchors, state.draws), atol=1e-9)
    assert loop.status.code == "posterior_reached"


@pytest.mark.parametrize("momentum", [False, True])
def test_a_member_that_replaces_a_failed_one_solves_a_problem_of_its_own(momentum):
    """Its anchor and draw are those of which it is the solution, as for those that did not fail."""
    problem, solution = gauss_linear()
    method = ek.GNKI(ek.FixedStep(1.0), damping=1.0)
    method = ek.Nesterov(method) if momentum else method
    loop = ek.AskTell(problem, method, n_members=20, rng=0, on_failure="resample")
    loop.tell(problem.model(loop.ask()))
    g = problem.model(loop.ask())  # G for the first refinement
    g[[0, 7]] = np.nan
    loop.tell(g)
    state = loop._state
    inner = state.inner if momentum else state
    solved = state.ensemble - state.momentum if momentum else state.ensemble
    np.testing.assert_allclose(solved, solution(inner.anchors, inner.draws), atol=1e-9)
    assert len(np.unique(inner.anchors[:, 0])) == 20


def test_moments_of_a_linear_posterior_within_monte_carlo_error():
    problem = ek.InverseProblem(
        ek.LinearModel([[1.0, 0.5], [0.0, 1.0], [1.0, -1.0]]),
        ek.GaussianPrior([1.0, -1.0], [[1.0, 0.3], [0.3, 2.0]]),
        0.2,
        [1.0, 0.5, -0.5],
    )
    a, c = problem.model.matrix, np.array([[1.0, 0.3], [0.3, 2.0]])
    cov = np.linalg.inv(np.linalg.inv(c) + a.T @ a / 0.2)
    mean = np.array([1.0, -1.0]) + cov @ a.T @ (problem.data - a @ [1.0, -1.0]) / 0.2
    n = 4000
    u = ek.run(problem, ek.GNKI(), n_members=n, rng=1).u[-1].values
    assert np.all(np.abs(u.mean(0) - mean) < 4 * np.sqrt(np.diag(cov) / n))
    spread = np.sqrt((cov**2 + np.outer(np.diag(cov), np.diag(cov))) / n)
    assert np.all(np.abs(np.cov(u.T) - cov) < 4 * spread)


def driven(problem, method, n_members=20, **options):
    """The run as a loop at its end, and the states on the way."""
    loop, states = ek.AskTell(problem, method, n_members=n_members, rng=0, **options), []
    while not loop.done:
        states.append(loop._state)
        loop.tell(problem.model(loop.ask()))
    return loop, states


START = ek.GaussianStart((0.5, -0.5, 0.0), ((0.6, 0.8, 0.0),), (0.4,))


@pytest.mark.parametrize(
    ("start", "times"), [("prior", [0, 0.5, 1, 1]), (START, [0, 1, 1])], ids=["prior", "Gaussian"]
)
def test_a_linear_problem_from_another_start_takes_one_full_refinement(start, times):
    """That one, one of half the length before it from the prior, and one that moves nothing."""
    problem, solution = gauss_linear()
    loop, states = driven(problem, ek.GNKI(start=start))
    assert loop.status.code == "posterior_reached"
    assert [state.t for state in states] == times
    state = loop._state
    np.testing.assert_allclose(state.ensemble, solution(state.anchors, state.draws), atol=1e-9)
    # the m_j are the draws of the prior that the first members were made of
    first = problem.prior.whiten(problem.prior.sample_unconstrained(20, rng=loop._streams.prior()))
    np.testing.assert_allclose(state.anchors, first, atol=1e-12)
    w = problem.prior.whiten(states[0].ensemble)
    moved = first if start == "prior" else START.gaussian.unwhiten(first)
    np.testing.assert_allclose(w, moved, atol=1e-12)


def test_the_result_says_where_the_first_members_are_from():
    problem, _ = gauss_linear()
    for method, said in (
        (ek.GNKI(), "prior"),
        (ek.GNKI(start="prior"), "prior"),
        (ek.GNKI(start=START), "method"),
        (ek.Nesterov(ek.GNKI(start=START, damping=1.0)), "method"),
    ):
        assert ek.run(problem, method, n_members=10, rng=0).attrs["start"] == said
    with pytest.raises(ValueError, match="^start: must have p = 3 parameters, got 1"):
        ek.run(problem, ek.GNKI(start=ek.GaussianStart((0.0,), (), ())))


@pytest.mark.parametrize("damping", [0.3, 0.6, 1.0])
def test_fresh_draws_have_the_exact_covariance_for_every_damping(damping):
    """Members are independent chains for a linear G: 4 standard errors of independent draws."""
    problem, solution = gauss_linear()
    draws = np.random.default_rng(1).standard_normal((20_000, 3 + 8))
    exact = np.cov(solution(draws[:, :3], draws[:, 3:]).T)
    n = 4000
    method = ek.GNKI(start="prior", draws="fresh", damping=damping, refinements=15)
    u = driven(problem, method, n)[0]._state.ensemble
    error = np.sqrt((exact**2 + np.outer(np.diag(exact), np.diag(exact))) / n)
    assert np.all(np.abs(np.cov(u.T) - exact) < 4 * error)


def oscillation():
    """The frequency of an oscillation under a broad prior; the exact posterior by quadrature."""

    def model(u):
        return np.sin(np.exp(u) * np.arange(1, 6) / 2)

    problem = ek.InverseProblem(
        ek.FunctionModel(model, vectorized=True),
        ek.GaussianPrior(0.0, [0.25]),
        0.05**2,
        model(np.zeros(1)),
    )
    grid = np.linspace(-2, 2, 400_001)
    log_density = stats.norm(0, 0.5).logpdf(grid) - problem.noise.misfit(
        model(grid[:, None]), problem.data
    )
    density = np.exp(log_density - log_density.max())
    density /= density.sum()
    mean = (grid * density).sum()
    return problem, mean, math.sqrt(((grid - mean) ** 2 * density).sum())


def test_the_error_of_eki_under_a_broad_prior_is_removed():
    problem, mean, sd = oscillation()
    n, found = 2000, {}
    for method in (ek.EKI(), ek.GNKI()):
        u = ek.run(problem, method, n_members=n, rng=0).u[-1].values
        found[type(method).__name__] = (u.mean() - mean) / sd, u.std(ddof=1) / sd
    assert found["EKI"][1] > 2  # the reason for the method: far too wide
    assert abs(found["GNKI"][0]) < 4 / math.sqrt(n)
    assert found["GNKI"][1] == pytest.approx(1.0, abs=4 / math.sqrt(2 * n))


def test_the_damping_is_chosen_by_the_misfit():
    """It costs less than a damping of 0.5, from either start, for the same answer."""
    problem, mean, sd = oscillation()
    n, runs = 400, {}
    for damping in ("adaptive", 0.5):
        for start in ("eki", "prior"):
            method = ek.GNKI(damping=damping, start=start)
            result = ek.run(problem, method, n_members=n, rng=0)
            u = result.u[-1].values
            assert result.attrs["status_code"] == "posterior_reached"
            assert abs(u.mean() - mean) < 4 * sd / math.sqrt(n)
            runs[damping, start] = result.attrs["model_runs"] / n
    assert runs["adaptive", "eki"] <= runs[0.5, "eki"] - 3
    assert runs["adaptive", "prior"] <= runs[0.5, "prior"] - 3
    assert runs["adaptive", "prior"] < runs["adaptive", "eki"]


def test_a_step_that_raises_the_objective_is_taken_back_by_halves():
    """From a prior so broad that full steps overshoot, the mean objective never rises for good."""
    model = ek.FunctionModel(np.exp, vectorized=True)
    problem = ek.InverseProblem(model, ek.GaussianPrior(0.0, [4.0]), 0.01, [3.0])
    loop, states = driven(problem, ek.GNKI(start="prior"), 100)
    taken = [state.refining for state in states if state.refined]
    kept = list(dict.fromkeys(each.objective for each in taken))
    back = [b.damping == a.damping / 2 for a, b in pairwise(taken)
            if b.objective == a.objective]  # fmt: skip
    assert back
    assert all(back)
    assert all(b <= (1 + 1e-6) * a + 0.1 for a, b in pairwise(kept))
    assert kept[-1] < 1e-3 * kept[0]
    assert loop.status.code == "posterior_reached"


def test_a_refinement_that_does_nothing_more_ends():
    """Both modes of y = u² = 1: the slope over them is none."""
    model = ek.FunctionModel(lambda u: u**2, vectorized=True)
    problem = ek.InverseProblem(model, ek.GaussianPrior(0.0, [1.0]), 0.3**2, [1.0])
    method = ek.GNKI(start="prior", damping=0.5)
    result = ek.run(problem, method, n_members=400, rng=0)
    assert result.attrs["status_code"] == "linear_fit_poor"
    assert result.attrs["model_runs"] < 15 * 400
    assert "TemperedSMC" in result.attrs["status"]


def test_a_limit_that_no_linear_model_explains_is_not_called_the_posterior():
    """Two modes: m_j + 0 is a fixed point where the regression has no slope."""
    model = ek.FunctionModel(lambda u: u**2, vectorized=True)
    problem = ek.InverseProblem(model, ek.GaussianPrior(0.0, [1.0]), 0.5**2, [1.5])
    for method in (ek.GNKI(), ek.GNKI(start="prior")):
        result = ek.run(problem, method, n_members=2000, rng=0, store="last")
        assert result.attrs["status_code"] == "linear_fit_poor"
        assert result.attrs["status_level"] == "care"
        assert not result.attrs["posterior"]


def test_no_more_members_than_parameters_sample_under_the_covariance_of_the_first_ones():
    """For a linear G: u_j = m_j + K (y + η_j − G m_j) with K of the sample covariance."""
    rng = np.random.default_rng(0)
    p, d, n = 30, 12, 15
    matrix, gamma = rng.normal(size=(d, p)) / 3, np.linspace(0.05, 0.1, d)
    cov = np.exp(-np.abs(np.subtract.outer(np.arange(p), np.arange(p))) / 5)
    problem = ek.InverseProblem(
        ek.LinearModel(matrix), ek.GaussianPrior(np.ones(p), cov), gamma, rng.normal(size=d)
    )
    for start in ("eki", "prior"):
        loop, states = driven(problem, ek.GNKI(start=start), n)
        first = states[0].ensemble
        c = np.cov(first.T)
        gain = c @ matrix.T @ np.linalg.inv(matrix @ c @ matrix.T + np.diag(gamma))
        data = problem.data + loop._state.draws * np.sqrt(gamma)
        expected = first + (data - first @ matrix.T) @ gain.T
        np.testing.assert_allclose(loop._state.ensemble, expected, atol=1e-8)
        assert loop.status.code == "posterior_reached"


def test_no_more_members_than_parameters_are_not_worse_than_eki():
    """Deconvolution, root mean square error of the mean in posterior standard deviations."""
    example = ek.problems.deconvolution(200)
    mean, sd = example.extra["mean"], np.sqrt(np.diag(example.extra["cov"]))
    errors = {}
    for method in (ek.EKI(), ek.GNKI()):
        runs = [ek.run(example.problem, method, n_members=100, rng=seed) for seed in range(3)]
        off = [(run.u[-1].values.mean(0) - mean) / sd for run in runs]
        errors[type(method).__name__] = np.sqrt(np.mean(np.square(off)))
    assert errors["GNKI"] <= errors["EKI"]
    assert errors["EKI"] < 0.6


@pytest.mark.parametrize("start", ["eki", START], ids=["eki", "Gaussian"])
def test_members_that_fail_may_leave_fewer_than_parameters(start):
    problem, _ = gauss_linear()
    loop = ek.AskTell(problem, ek.GNKI(start=start), n_members=5, rng=0)
    while not loop.done:
        g = problem.model(loop.ask())
        g[3:] = np.nan if loop.n == 1 else g[3:]
        loop.tell(g)
    assert np.all(np.isfinite(loop._state.ensemble))


def test_what_needs_more_members_than_parameters_says_so():
    problem, _ = gauss_linear()
    with pytest.raises(ValueError, match=r'more members than the 3 parameters.*draws="kept"'):
        ek.run(problem, ek.GNKI(draws="fresh"), n_members=3)
    data = problem.data
    unknown = ek.InverseProblem(
        problem.model, problem.prior, ek.UnknownNoise(stats.lognorm(1.0)), data
    )
    with pytest.raises(ValueError, match=r"more members than the 3 parameters.*ek\.EKI"):
        ek.run(unknown, ek.GNKI(), n_members=3)
    with pytest.raises(ValueError, match=r'^draws: must be "kept" if the scales'):
        ek.run(unknown, ek.GNKI(draws="fresh"))


def test_fewer_members_than_parameters():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(5, 40)) / 6
    problem = ek.InverseProblem(
        ek.LinearModel(matrix), ek.GaussianPrior(np.zeros(40), 1.0), 0.01, matrix @ np.ones(40)
    )
    result = ek.run(problem, ek.GNKI(), n_members=20, rng=0)
    start, end = result.misfit[0].mean(), result.misfit[-1].mean()
    assert end < 0.1 * start
    assert np.all(np.isfinite(result.u))


def test_a_parameter_without_spread_is_anchored_by_the_prior_alone():
    problem = ek.InverseProblem(
        ek.LinearModel(np.eye(2)), ek.GaussianPrior(np.zeros(2), 1.0), 0.1, [1.0, 1.0]
    )
    start = problem.prior.sample(20, rng=0)
    start[:, 1] = 0.5
    result = ek.run(problem, ek.GNKI(), ensemble=start, rng=0)
    assert np.all(np.isfinite(result.u))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"damping": 0.0}, r"damping: must be within \(0, 1\], got 0.0"),
        ({"damping": 1.5}, r"damping: must be within \(0, 1\], got 1.5"),
        ({"start": "posterior"}, r"start: must be .*ek.GaussianStart, got 'posterior'"),
        ({"draws": "new"}, r"draws: must be .* or .*got 'new'"),
        ({"refinements": 0}, "refinements: must be at least 1, got 0"),
        ({"rtol": 0.0}, "rtol: must be positive and finite"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        ek.GNKI(**options)
    with pytest.raises(TypeError, match="step: must be a step rule"):
        ek.GNKI(step=1)


def test_a_refinement_that_does_not_settle_is_said():
    problem, _, _ = oscillation()
    result = ek.run(problem, ek.GNKI(refinements=1, rtol=1e-9), n_members=50, rng=0)
    assert result.attrs["status_code"] == "refinements_spent"
    assert "Allow more refinements" in result.attrs["status"]


@pytest.mark.parametrize("sd", [1e-3, 1e-5, 1e-7, 1e-9])
def test_tiny_noise_in_one_direction_alone(sd):
    """u₀ and u₁ are known to ``sd``, u₂ not at all: the posterior is known in closed form."""
    matrix = np.array([[1.0, 0.5, 0.0], [0.3, -1.0, 0.0], [1.0, 1.0, 0.0], [0.2, 0.1, 0.0]])
    y = matrix @ [0.3, -0.4, 0.0]
    problem = ek.InverseProblem(
        ek.LinearModel(matrix), ek.GaussianPrior(np.zeros(3), 1.0), sd**2, y
    )
    n = 100
    result = ek.run(problem, ek.GNKI(), n_members=n, rng=0)
    assert result.attrs["status_code"] == "posterior_reached"
    u = result.u[-1].values
    marginal = sd * np.sqrt(np.diag(np.linalg.inv(matrix[:, :2].T @ matrix[:, :2])))
    scores = np.append((u[:, :2].mean(0) - [0.3, -0.4]) / marginal, u[:, 2].mean()) * math.sqrt(n)
    assert np.all(np.abs(scores) < 4)
    spread = u.std(0, ddof=1) / np.append(marginal, 1)
    np.testing.assert_allclose(spread, 1, atol=4 / math.sqrt(2 * n))


def test_both_ways_to_solve_agree_where_both_are_exact():
    """The SVD of B and the squares BᵀB, on either side of the size at which they change."""
    rng = np.random.default_rng(0)
    slope, rows = rng.normal(size=(6, 3)), rng.normal(size=(4, 6))
    for size in (1e-3, 1.0, 1e3, 1e5):
        b = size * slope
        expected = rows @ b @ np.linalg.inv(np.eye(3) + b.T @ b)
        np.testing.assert_allclose(regularised(rows, b), expected, rtol=1e-7)
    for size in (1e7, 1e155):  # the limit is the pseudo-inverse
        expected = rows @ np.linalg.pinv(slope).T / size
        np.testing.assert_allclose(regularised(rows, size * slope), expected, rtol=1e-7)


def test_an_overflow_ends_the_run_with_the_last_good_ensemble():
    """Members 1e-12 apart whose outputs are 1e304 apart: the slope is not finite."""
    problem = ek.InverseProblem(
        ek.LinearModel(np.eye(2)), ek.GaussianPrior(np.zeros(2), 1.0), 1.0, np.zeros(2)
    )
    rng, method = np.random.default_rng(0), ek.GNKI()
    state = method.init(0.5 + 1e-12 * rng.normal(size=(8, 2)), problem)._replace(t=1.0)
    steep = 1e152 * rng.normal(size=(8, 2))  # squares of the slope overflow, not the step
    following, info = method.tell(state, steep, problem, rng=rng)
    assert info.status is None
    assert np.all(np.isfinite(following.ensemble))
    following, info = method.tell(state, 1e152 * steep, problem, rng=rng)
    assert (info.status.code, info.status.level) == ("diverged", "bad")
    assert following is state


@pytest.mark.parametrize("size", [1e100, 1e145])
def test_huge_outputs_raise_no_warning(size):
    problem = ek.InverseProblem(
        ek.FunctionModel(lambda u: size * np.concatenate([u, u**2], axis=1), vectorized=True),
        ek.GaussianPrior(np.zeros(2), 1.0), 1.0, np.ones(4),
    )  # fmt: skip
    result = ek.run(problem, ek.GNKI(), n_members=20, n_steps=80, rng=0)
    assert np.all(np.isfinite(result.u))
