"""Flows with noise: against posteriors, discrete EKI, mean-field recursions and themselves."""

import itertools
import math

import numpy as np
import pytest
from zoo.results import same

import ekitools as ek
from ekitools.flows.euler_maruyama import euler_maruyama_step
from ekitools.flows.right_hand_sides import Output

A = np.array([[1.0, 0.5], [0.0, 1.5], [1.0, -1.0]])
EXPLICIT = "euler-maruyama"
FLOWS = [
    ek.StochasticEKIFlow(),
    ek.EKSFlow(),
    ek.EKSFlow(correction=False),
    ek.EKSFlow(scheme=EXPLICIT),
]


def problem(variance=0.5):
    prior = ek.GaussianPrior([1.0, -1.0], [1.0, 2.0])
    return ek.InverseProblem(ek.LinearModel(A), prior, variance, [1.0, 2.0, 0.0])


def output(target, u):
    g = target.model(u)
    return Output(g, target.noise.gradient(g, target.data))


def batch_means(x, n=20):
    """Mean and standard error of a correlated series, from the means of n stretches."""
    means = x[: len(x) // n * n].reshape(n, -1, *x.shape[1:]).mean(axis=1)
    return means.mean(axis=0), means.std(axis=0, ddof=1) / math.sqrt(n)


def test_the_noise_has_the_covariance_of_its_equation():
    rng = np.random.default_rng(0)
    noise = ek.GaussianNoise(np.diag([0.5, 1.0, 2.0]) + 0.3)
    target = ek.InverseProblem(problem().model, problem().prior, noise, problem().data)
    for n in (4, 9):  # either order of the products
        u = target.prior.sample(n, rng=rng)
        out = output(target, u)
        e, f = u - u.mean(0), out.g - out.g.mean(0)
        c, cross = e.T @ e / n, e.T @ f / n
        root = ek.EKSFlow().diffusion(u, out, np.eye(n), target)
        np.testing.assert_allclose(root.T @ root, 2 * c, rtol=1e-12)
        increments = np.vstack([np.eye(3), np.zeros((n - 3, 3))])
        root = ek.StochasticEKIFlow().diffusion(u, out, increments, target)
        expected = cross @ np.linalg.solve(np.asarray(noise.cov), cross.T)
        np.testing.assert_allclose(root.T @ root, expected, rtol=1e-12)


def test_the_drifts_are_those_of_their_equations():
    target = problem()
    u = target.prior.sample(5, rng=0)
    out = output(target, u)
    e = u - u.mean(0)
    c = e.T @ e / 5
    data = -out.gradient @ A @ c  # C^{uw} = C Aᵀ for a linear model
    prior = -((u - target.prior.mean) / target.prior.cov) @ c
    np.testing.assert_allclose(
        ek.StochasticEKIFlow().acceleration(0.0, u, out, target), data, rtol=1e-12
    )
    np.testing.assert_allclose(
        ek.EKSFlow(correction=False).acceleration(0.0, u, out, target), data + prior, rtol=1e-12
    )
    np.testing.assert_allclose(
        ek.EKSFlow().acceleration(0.0, u, out, target), data + prior + 3 / 5 * e, rtol=1e-12
    )


def test_one_step_is_one_analysis_with_perturbed_data_up_to_second_order():
    """With η = Γ^{1/2} ΔW/h, and h in units in which 1/(J − 1) is 1/J."""
    target = problem()
    u = target.prior.sample(6, rng=0)
    increment = 1e-3 * np.random.default_rng(1).normal(size=(6, 3))
    differences = []
    for h in (2e-4, 1e-4, 5e-5):
        scaled = h / 2e-4 * increment  # the move itself is of first order
        draw = math.sqrt(0.5) * scaled / h
        discrete = ek.kalman_update(
            u, target.model(u), target.data, target.noise, step=h * 5 / 6, noise_draw=draw
        )
        flow = ek.StochasticEKIFlow()
        step = euler_maruyama_step(flow, 0.0, u, output(target, u), h, scaled, target)
        differences.append(np.linalg.norm(step - discrete))
    orders = np.log2(np.array(differences[:-1]) / differences[1:])
    np.testing.assert_allclose(orders, 2.0, atol=0.02)


def mean_field(target, h):
    """Mean and covariance of the Euler–Maruyama steps of the EKI flow for J → ∞, to t = 1."""
    mean, cov = target.prior.mean, np.diag(target.prior.cov)
    m = A.T @ A / float(target.noise.cov)
    for _ in range(round(1 / h)):
        shrink = np.eye(2) - h * cov @ m
        mean = mean + h * cov @ A.T @ (target.data - A @ mean) / float(target.noise.cov)
        cov = shrink @ cov @ shrink.T + h * cov @ m @ cov
    return mean, cov


def test_the_mean_field_steps_go_to_the_posterior_at_first_order_at_least():
    target = problem()
    exact = ek.theory.posterior(A, target.data, target.prior, target.noise)
    for i in range(2):
        errors = [np.linalg.norm(mean_field(target, h)[i] - exact[i]) for h in (0.005, 0.0025)]
        assert errors[0] < 0.01
        assert errors[0] / errors[1] > 1.9


def test_the_eki_flow_with_noise_is_the_posterior_at_time_one():
    """Over 20 runs of 500 members: within 4 standard errors of the mean-field steps, and of
    discrete EKI up to what the steps themselves are off (the bias 1/J is a tenth of that)."""
    target, h, repeats = problem(), 0.02, range(20)
    options = {"n_members": 500, "rng": 0}
    flow, discrete = [], []
    for seed in repeats:
        options["rng"] = seed
        result = ek.integrate(
            target,
            ek.StochasticEKIFlow(),
            t_span=(0, 1),
            step=ek.FixedStep(h),
            t_eval=[1.0],
            **options,
        )
        flow.append(result.u[-1].values)
        options["rng"] = 1000 + seed
        result = ek.run(target, ek.EKI(ek.FixedStep(h)), store="last", **options)
        discrete.append(result.u[-1].values)
    exact = ek.theory.posterior(A, target.data, target.prior, target.noise)
    steps = mean_field(target, h)
    moments = (lambda u: u.mean(0), lambda u: np.cov(u.T))
    for of, where, right in zip(moments, steps, exact, strict=True):
        found, other = (np.array([of(u) for u in us]) for us in (flow, discrete))
        error = found.std(axis=0, ddof=1) / math.sqrt(len(found))
        both = np.hypot(error, other.std(axis=0, ddof=1) / math.sqrt(len(other)))
        assert np.all(np.abs(found.mean(0) - where) < 4 * error)
        assert np.all(np.abs(found.mean(0) - other.mean(0)) < 4 * both + np.abs(where - right))
        assert np.all(error < 0.02)  # so that the above says something


def sampled(flow, t_end, h=0.04, every=0.48):
    """Whitened by the exact posterior, where the ensembles are from t = 10 on: (n, p, J)."""
    target = problem()
    mean, cov = ek.theory.posterior(A, target.data, target.prior, target.noise)
    result = ek.integrate(
        target,
        flow,
        t_span=(0, t_end),
        n_members=6,
        rng=0,
        step=ek.FixedStep(h),
        t_eval=np.arange(10, t_end, every),
    )
    return np.linalg.solve(np.linalg.cholesky(cov), (result.u.values - mean).swapaxes(1, 2))


@pytest.mark.parametrize(
    ("flow", "h", "every"),
    [(ek.EKSFlow(scheme=EXPLICIT), 0.04, 0.48), (ek.EKSFlow(), 0.3, 0.6)],
)
def test_the_sampler_with_its_correction_is_exact_for_six_members(flow, h, every):
    """The time average within 4 standard errors, which are those of 20 stretches of time;
    steps of 0.04 are off by no more than 0.04 (half a step for each of two unit rates). The
    implicit scheme may be off by no more with steps of 0.3, for which explicit steps overflow."""
    white = sampled(flow, 600, h, every)
    mean, error = batch_means(white.mean(axis=2))
    assert np.all(np.abs(mean) < 4 * error)
    moment, error = batch_means(white @ white.swapaxes(1, 2) / 6)
    assert np.all(np.abs(moment - np.eye(2)) < 4 * error + 0.04)
    assert np.all(error < 0.06)
    anomalies = white - white.mean(axis=2, keepdims=True)
    spread, error = batch_means(anomalies @ anomalies.swapaxes(1, 2) / 6)
    assert np.all(np.abs(spread - 5 / 6 * np.eye(2)) < 4 * error + 0.04)


def test_the_sampler_without_its_correction_is_too_narrow_as_predicted():
    """Its time-averaged covariance has the trace p (J − p − 2)/J, here 2/3 and not 5/3: what
    keeps the logarithm of det C from drifting. Within 4 standard errors and the steps' 0.04."""
    white = sampled(ek.EKSFlow(correction=False, scheme=EXPLICIT), 400)
    anomalies = white - white.mean(axis=2, keepdims=True)
    trace, error = batch_means((anomalies**2).sum(axis=(1, 2)) / 6)
    assert abs(trace - 2 / 3) < 4 * error + 0.04
    assert trace < 5 / 3 - 10 * error


@pytest.mark.parametrize("flow", FLOWS[:2])
def test_the_strong_order_is_one_half(flow):
    """Brownian increments summed for the coarser steps; 40 paths, the order of each fitted to
    its distances between successive step sizes. Within 3 standard errors and 0.05 for h > 0."""
    target, paths, finest = problem(2.0), 40, 256
    orders = []
    for seed in range(paths):
        rng = np.random.default_rng(seed)
        start = target.prior.sample(4, rng=rng)
        shape = flow.increment_shape(4, 3)
        brownian = math.sqrt(0.5 / finest) * rng.standard_normal((finest, *shape))
        ends = []
        for every in (1, 2, 4, 8, 16):
            h, u = 0.5 * every / finest, start
            for n, increment in enumerate(brownian.reshape(-1, every, *shape).sum(axis=1)):
                u = euler_maruyama_step(flow, n * h, u, output(target, u), h, increment, target)
            ends.append(u)
        distances = [np.linalg.norm(a - b) for a, b in itertools.pairwise(ends)]
        orders.append(np.polyfit(range(4), np.log2(distances), 1)[0])
    error = np.std(orders, ddof=1) / math.sqrt(paths)
    assert error < 0.07
    assert abs(np.mean(orders) - 0.5) < 0.05 + 3 * error


@pytest.mark.parametrize("flow", FLOWS)
def test_flows_with_noise_are_affine_invariant(flow):
    """With v = B u + b, the model A B⁻¹ and the prior carried over, paths are carried over."""
    target = problem()
    b, shift = np.array([[2.0, 1.0], [-1.0, 3.0]]), np.array([5.0, -2.0])
    mapped = ek.InverseProblem(
        ek.FunctionModel(lambda v: np.linalg.solve(b, (v - shift).T).T @ A.T, vectorized=True),
        ek.GaussianPrior(b @ target.prior.mean + shift, b @ np.diag(target.prior.cov) @ b.T),
        target.noise,
        target.data,
    )
    start = target.prior.sample(5, rng=3)
    options = {"t_span": (0, 0.5), "rng": 0, "step": ek.NormStep(0.05)}
    plain = ek.integrate(target, flow, ensemble=start, **options)
    other = ek.integrate(mapped, flow, ensemble=start @ b.T + shift, **options)
    assert plain.sizes["iteration"] > 5
    np.testing.assert_allclose(other.t, plain.t, rtol=1e-9)
    np.testing.assert_allclose(other.u, plain.u.values @ b.T + shift, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("flow", FLOWS)
def test_flows_with_noise_stay_in_the_span_of_the_first_ensemble(flow):
    matrix = np.random.default_rng(0).normal(size=(7, 20)) / 4
    target = ek.InverseProblem(
        ek.FunctionModel(lambda u: np.tanh(u @ matrix.T), vectorized=True),
        ek.GaussianPrior(np.zeros(20), 1.0),
        0.1,
        np.full(7, 0.3),
    )
    result = ek.integrate(
        target, flow, t_span=(0, 1), n_members=5, rng=0, step=ek.NormStep(0.1), t_eval=[0, 1]
    )
    first, last = result.u.values
    basis = np.linalg.svd(first - first.mean(0), full_matrices=False)[2][:4]
    move = last - first.mean(0)
    assert np.linalg.norm(last - first) > 0.1
    np.testing.assert_allclose(move @ basis.T @ basis, move, atol=1e-10)


@pytest.mark.parametrize("flow", FLOWS)
def test_the_seed_decides_to_the_last_bit(flow):
    options = {"t_span": (0, 0.3), "n_members": 5, "step": ek.FixedStep(0.05)}
    first, again = (ek.integrate(problem(), flow, rng=4, **options) for _ in range(2))
    assert same(first, again)
    assert not np.array_equal(ek.integrate(problem(), flow, rng=5, **options).u, first.u)
    start = problem().prior.sample(5, rng=4)
    given = ek.integrate(problem(), flow, rng=4, ensemble=start, **options)
    assert not np.array_equal(given.u[0], first.u[0])  # the noise is not the ensemble's draws


@pytest.mark.parametrize("given", [False, True])
def test_the_noise_is_independent_of_the_draws_of_the_ensemble(given):
    """Where both are (J, 2) numbers, also for an ensemble drawn with the same seed: their
    correlation is within 4 standard errors of nothing."""
    n, h, flow = 200, 0.01, ek.StochasticEKIFlow()
    prior = ek.GaussianPrior([1.0, -1.0], [1.0, 2.0])
    target = ek.InverseProblem(ek.LinearModel(np.eye(2)), prior, 1.0, [1.0, 2.0])
    start = {"ensemble": prior.sample(n, rng=0)} if given else {"n_members": n}
    result = ek.integrate(target, flow, t_span=(0, h), rng=0, step=ek.FixedStep(h), **start)
    u, following = result.u.values
    drift = flow.acceleration(0.0, u, output(target, u), target)
    noise = np.linalg.solve(np.cov(u.T, bias=True), (following - u - h * drift).T).T
    correlation = np.corrcoef(noise.ravel(), prior.whiten(u).ravel())[0, 1]
    assert abs(correlation) < 4 / math.sqrt(u.size)
    assert noise.std() == pytest.approx(math.sqrt(h), rel=4 / math.sqrt(2 * u.size))


def test_steps_land_on_the_times_asked_for():
    times = [0.1, 0.15, 0.4]
    options = {"t_span": (0.0, 0.5), "n_members": 4, "rng": 0, "step": ek.FixedStep(0.06)}
    result = ek.integrate(problem(), ek.EKSFlow(), t_eval=times, **options)
    np.testing.assert_array_equal(result.t, times)
    assert result.attrs["model_runs"] == 4 * (2 + 1 + 5 + 2 + 1)
    every = ek.integrate(problem(), ek.EKSFlow(), **options)
    np.testing.assert_allclose(every.t, [*np.arange(9) * 0.06, 0.5])
    assert float(every.t[-1]) == 0.5
    np.testing.assert_allclose(every.step[:-1], np.diff(every.t), rtol=1e-12)
    assert every.attrs["model_runs"] == 4 * 10


def test_a_stochastic_model_gets_its_own_seeds():
    def model(u, rng):
        return u[:1] + 0.01 * rng.standard_normal(1)

    target = ek.InverseProblem(
        ek.FunctionModel(model, stochastic=True), ek.GaussianPrior(0.0, [1.0]), 1.0, [1.0]
    )
    options = {"t_span": (0, 0.2), "n_members": 4, "rng": 0, "step": ek.FixedStep(0.1)}
    first, again = (ek.integrate(target, ek.StochasticEKIFlow(), **options) for _ in range(2))
    assert same(first, again)
    noise = (first.g - first.u.values).values.ravel()
    assert len(np.unique(noise)) == noise.size
    with pytest.raises(TypeError, match="model: must not be stochastic for EKIFlow"):
        ek.integrate(target, ek.EKIFlow(), t_span=(0, 1), n_members=4)


def test_rules_and_overflow_end_a_flow_with_noise_and_keep_the_last_good_ensemble():
    options = {"t_span": (0, 20), "n_members": 50, "rng": 0, "step": ek.FixedStep(0.02)}
    flow = ek.StochasticEKIFlow()
    result = ek.integrate(problem(), flow, discrepancy=1.5, **options)
    assert result.attrs["status_code"] == "discrepancy_reached"
    residual = (result.g.mean("member") - result.y) / math.sqrt(0.5)
    norms = np.linalg.norm(residual, axis=1) / math.sqrt(3)
    assert norms[-1] <= 1.5 < norms[-2]
    result = ek.integrate(problem(), flow, collapsed=0.5, t_eval=[20], **options)
    assert result.attrs["status_code"] == "collapsed"
    assert float(result.history_spread[-1]) <= 0.5
    assert 0 < float(result.t[-1]) < 20

    options |= {"step": ek.FixedStep(3.0)}
    result = ek.integrate(problem(1e-4), flow, **options)
    assert result.attrs["status_code"] == "diverged"
    assert np.all(np.isfinite(result.u))
    assert 1 < result.sizes["iteration"] < 7
    last = ek.integrate(problem(1e-4), flow, t_eval=[20], **options)
    np.testing.assert_array_equal(last.u[0], result.u[-1])


class Rule:
    """A step rule of a user's, with what it returns."""

    def __init__(self, *steps):
        self.steps = steps

    def step(self, seen):
        return self.steps[min(seen.n, len(self.steps) - 1)]


@pytest.mark.parametrize(("flow", "made"), [(FLOWS[0], 2), (FLOWS[1], 3)])
def test_a_rule_that_gives_no_step_leaves_what_was_computed(flow, made):
    """The sampler asks for its steps one step ahead."""
    options = {"t_span": (0, 1), "n_members": 5, "rng": 0}
    with pytest.raises(ek.RunError, match="step: must give a positive finite step, got -1") as info:
        ek.integrate(problem(), flow, step=Rule(0.1, 0.1, -1), **options)
    assert info.value.result.sizes["iteration"] == 3
    result = ek.integrate(problem(), flow, step=Rule(0.1, 1e-30), **options)
    assert result.attrs["status_code"] == "solver_failed"
    assert result.sizes["iteration"] == made
