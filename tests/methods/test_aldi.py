"""ALDI beside dense matrices, exact posteriors, quadrature, and the flow with the same steps."""

import numpy as np
import pytest

import ekitools as ek
from ekitools.flows.right_hand_sides import Output
from ekitools.methods.langevin import langevin_step, local_fit

SIZES = [(8, 3, 5), (20, 3, 2), (6, 10, 4), (3, 1, 1)]
"""(J, p, d): fewer data than parameters, fewer members than parameters, the least."""


def ensemble(n, p, d, seed=0):
    rng = np.random.default_rng(seed)
    w, matrix = rng.normal(size=(n, p)) @ rng.normal(size=(p, p)), rng.normal(size=(d, p))
    return w, matrix, w @ matrix.T - rng.normal(size=d)


def dense(w, matrix, h):
    """P = C^{1/2} (I + h C^{1/2} H C^{1/2})⁻¹ C^{1/2}, which needs no inverse of C."""
    e = w - w.mean(axis=0)
    values, vectors = np.linalg.eigh(e.T @ e / len(w))
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    hessian = np.eye(w.shape[1]) + matrix.T @ matrix
    return root @ np.linalg.solve(np.eye(len(root)) + h * root @ hessian @ root, root)


def white_members(result, example):
    """Members in exact posterior standard deviations from the exact mean, ``(n, J, p)``."""
    off = (result.u.values - example.extra["mean"]).swapaxes(1, 2)
    return np.linalg.solve(np.linalg.cholesky(example.extra["cov"]), off).swapaxes(1, 2)


def averages(p, n, seeds, **options):
    """Covariance ratio and mean of every seed, over the ensembles from t = 5 to t = 30."""
    ratios, means = [], []
    for seed in seeds:
        example = ek.problems.linear(p=p, d=2 * p, rng=seed)
        result = ek.run(example.problem, ek.ALDI(t_end=30, **options), n_members=n, rng=seed)
        white = white_members(result, example)[result.t.values >= 5]
        mean = white.mean(axis=1, keepdims=True)
        ratios.append(((white - mean) ** 2).sum(axis=(1, 2)).mean() / ((n - 1) * p))
        means.append(mean.mean(axis=(0, 1)))
    return np.array(ratios), np.array(means)


def standard_error(x):
    return x.std(axis=0, ddof=1) / np.sqrt(len(x))


@pytest.mark.parametrize("h", [1e-3, 0.3, 5.0])
@pytest.mark.parametrize(("n", "p", "d"), SIZES)
def test_noise_and_drift_are_those_of_the_dense_mobility(n, p, d, h):
    w, matrix, r = ensemble(n, p, d)
    fit, mobility = local_fit(w, r, r), dense(w, matrix, h)
    kick = fit.kick(h, np.eye(n), correction=False)
    np.testing.assert_allclose(kick.noise.T @ kick.noise, mobility, atol=1e-9)
    np.testing.assert_allclose(kick.root.T @ kick.root, mobility, atol=1e-9)
    drift = -(r @ matrix + w) @ mobility
    np.testing.assert_allclose(fit.drift(kick, correction=False), drift, atol=1e-8)
    assert np.all(kick.divergence == 0)


@pytest.mark.parametrize("h", [1e-3, 0.3, 5.0])
@pytest.mark.parametrize(("n", "p", "d"), SIZES[:2])
def test_the_correction_is_the_divergence_by_finite_differences(n, p, d, h):
    w, matrix, r = ensemble(n, p, d)
    found = local_fit(w, r, r).kick(h, np.eye(n), correction=True).divergence
    expected, small = np.zeros((n, p)), 1e-5
    for j in range(n):
        for b in range(p):
            ends = []
            for sign in (1, -1):
                moved = w.copy()
                moved[j, b] += sign * small
                ends.append(dense(moved, matrix, h)[:, b])
            expected[j] += (ends[0] - ends[1]) / (2 * small)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)


def test_a_step_has_the_mobility_of_the_ensemble_at_which_its_noise_was_drawn():
    """x' = x + h (−P g + ∇·P) + √(2h) z with the P, ∇·P and z of the ensemble before."""
    w, matrix, r = ensemble(9, 3, 5)
    shift, h, rng = (w @ matrix.T - r)[0], 0.7, np.random.default_rng(0)
    following, kick = langevin_step(w, local_fit(w, r, r), None, h, rng)
    r = following @ matrix.T - shift
    found, new = langevin_step(following, local_fit(following, r, r), kick, h, rng)
    drift = -(r @ matrix + following) @ dense(w, matrix, h) + kick.divergence
    x = following - np.sqrt(h / 2) * kick.noise
    expected = x + h * drift + np.sqrt(2 * h) * kick.noise + np.sqrt(h / 2) * new.noise
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_small_steps_are_those_of_the_equation():
    """Beside the drift and the noise of `EKSFlow`, up to O(h)."""
    target = ek.problems.linear(p=3, d=5).problem
    u = target.prior.sample_unconstrained(9, rng=0)
    g = target.model(target.prior.to_physical(u))
    out = Output(g, target.noise.gradient(g, target.data))
    flow, h = ek.EKSFlow(), 1e-7
    w = target.prior.whiten(u)
    fit = local_fit(w, out.gradient, g)
    kick = fit.kick(h, np.eye(9), correction=True)
    moved = target.prior.unwhiten(w + h * fit.drift(kick, correction=True)) - u
    np.testing.assert_allclose(moved / h, flow.acceleration(0.0, u, out, target), rtol=1e-4)
    noise = target.prior.unwhiten(w + fit.kick(h, np.eye(9), correction=True).noise) - u
    root = flow.diffusion(u, out, np.eye(9), target)
    np.testing.assert_allclose(2 * noise.T @ noise, root.T @ root, rtol=1e-4)


def test_both_roots_of_the_noise_have_the_same_covariance():
    w, _, r = ensemble(7, 3, 4)
    fit = local_fit(w, r, r)
    by_members, by_parameters = (fit.kick(0.5, np.eye(n), correction=False) for n in (7, 3))
    expected = by_members.noise.T @ by_members.noise
    np.testing.assert_allclose(by_parameters.noise.T @ by_parameters.noise, expected, atol=1e-12)


@pytest.mark.parametrize("noise", ["members", "parameters"])
def test_the_covariance_of_one_run_is_right(noise):
    """One run of 200 members; 4 standard errors, of 0.02 each (benchmarks/aldi.py)."""
    ratios, means = averages(3, 200, [0], noise=noise)
    assert abs(ratios[0] - 1) < 0.08
    assert np.all(np.abs(means[0]) < 0.11)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("p", "n", "seeds"),
    [(1, 20, 40), (3, 20, 40), (3, 40, 20), (3, 200, 10), (10, 20, 12), (10, 60, 8)],
)
def test_the_covariance_is_within_five_percent(p, n, seeds):
    """And not by a large standard error; the mean is unbiased within 3.5 of its own."""
    ratios, means = averages(p, n, range(seeds))
    assert standard_error(ratios) < 0.02
    assert abs(ratios.mean() - 1) < 0.05
    assert np.all(np.abs(means.mean(axis=0)) < 3.5 * standard_error(means))


@pytest.mark.parametrize("tempered", [True, False])
@pytest.mark.parametrize("sd", [1e-2, 1e-6])
def test_a_start_far_from_the_posterior_does_not_overflow(sd, tempered):
    """Steps of h = 1, where the explicit scheme would need h of the order of sd²."""
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=(8, 4))
    problem = ek.InverseProblem(
        ek.LinearModel(matrix), ek.GaussianPrior(np.zeros(4), 1.0), sd**2,
        matrix @ (5 * rng.normal(size=4)),
    )  # fmt: skip
    mean, cov = ek.theory.posterior(matrix, problem.data, problem.prior, problem.noise)
    method = ek.ALDI(ek.FixedStep(1.0), tempered=tempered)
    u = ek.run(problem, method, n_members=40, rng=0).u[-1].values
    white = np.linalg.solve(np.linalg.cholesky(cov), (u - mean).T).T
    assert np.mean(white**2) == pytest.approx(1, abs=0.4)  # 160 numbers: 0.11 each way


def test_a_robust_loss_is_sampled_beside_quadrature():
    """The gradient of a linear model is exact for every loss; 12 runs, 3 standard errors."""
    loss, data = ek.Huber(0.5), [1.0, 1.2, 6.0]
    problem = ek.InverseProblem(
        ek.LinearModel([[1.0], [1.0], [1.0]]), ek.GaussianPrior(0.0, [4.0]), loss, data
    )
    grid = np.linspace(-8, 12, 4001)
    cost = loss.misfit(np.repeat(grid[:, None], 3, axis=1), np.array(data)) + grid**2 / 8
    weight = np.exp(cost.min() - cost)
    weight /= weight.sum()
    mean = weight @ grid
    sd = np.sqrt(weight @ (grid - mean) ** 2)
    found = []
    for seed in range(12):
        result = ek.run(problem, ek.ALDI(t_end=20), n_members=50, rng=seed)
        u = result.u.values[result.t.values >= 5]
        found.append(((u.mean() - mean) / sd, np.sqrt(u.var(axis=1, ddof=1).mean()) / sd))
    found = np.array(found)
    error = 3 * standard_error(found) + 0.03
    assert np.all(np.abs(found.mean(axis=0) - [0, 1]) < error)
    assert np.all(error < 0.12)


def test_the_flow_makes_the_same_step():
    problem = ek.problems.linear(p=3, d=5).problem
    u = problem.prior.sample_unconstrained(9, rng=0)
    method, flow = ek.ALDI(ek.FixedStep(0.4), tempered=False), ek.EKSFlow()
    state, carried, other = method.init(u, problem), None, u
    for seed in range(3):
        g = problem.model(problem.prior.to_physical(state.ensemble))
        out = Output(g, problem.noise.gradient(g, problem.data))
        state, _ = method.tell(state, g, problem, rng=np.random.default_rng(seed))
        rng = np.random.default_rng(seed)
        other, carried = flow.advance(other, out, carried, 0.4, 0.4, problem, rng=rng)
        np.testing.assert_allclose(other, state.ensemble, rtol=1e-12)


def test_steps_are_affine_invariant():
    """With v = B u + b, the model A B⁻¹ and the prior carried over, members are carried over."""
    example = ek.problems.linear(p=2, d=4)
    target, matrix = example.problem, example.problem.model(np.eye(2)).T
    b, shift = np.array([[2.0, 1.0], [-1.0, 3.0]]), np.array([5.0, -2.0])
    start = target.prior.sample(7, rng=3)
    cov = np.diag(np.broadcast_to(target.prior.cov, 2))
    mapped = ek.InverseProblem(
        ek.FunctionModel(lambda v: np.linalg.solve(b, (v - shift).T).T @ matrix.T, vectorized=True),
        ek.GaussianPrior(b @ target.prior.mean + shift, b @ cov @ b.T),
        target.noise,
        target.data,
    )
    plain = ek.run(target, ek.ALDI(), ensemble=start, rng=0)
    other = ek.run(mapped, ek.ALDI(), ensemble=start @ b.T + shift, rng=0)
    np.testing.assert_allclose(other.u, plain.u.values @ b.T + shift, rtol=1e-6, atol=1e-6)


def test_a_curved_model_does_not_make_the_steps_unstable():
    """A narrow banana: from step to step its linear fit changes by more than is stable."""
    model = ek.FunctionModel(
        lambda u: np.stack([u[:, 0], u[:, 1] + u[:, 0] ** 2], 1), vectorized=True
    )
    prior = ek.GaussianPrior([0.0, 0.0], 1.0)
    problem = ek.InverseProblem(model, prior, [0.25, 0.01], [0.7, 0.5])
    for seed in range(3):
        result = ek.run(problem, ek.ALDI(), n_members=100, rng=seed)
        assert result.attrs["status_code"] in ("posterior_reached", "not_stationary")
        assert np.all(np.abs(result.u[-1]) < 5)


@pytest.mark.parametrize(
    "method",
    [
        ek.ALDI(tempered=False),
        ek.ALDI(ek.FixedStep(0.3), correction=False),
        ek.ALDI(h_max=0.5, noise="parameters"),
    ],
)
def test_every_promise_of_a_method_is_kept(method):
    ek.testing.check_method(method)


def test_members_take_their_noise_along():
    """Half of the next noise is in the members, so it follows them, alone or combined."""
    problem = ek.problems.linear(p=3, d=5).problem
    method, rng = ek.ALDI(tempered=False), np.random.default_rng(0)
    state = method.init(problem.prior.sample_unconstrained(9, rng=0), problem)
    for _ in range(2):
        g = problem.model(problem.prior.to_physical(state.ensemble))
        state, _ = method.tell(state, g, problem, rng=rng)

    def without_noise(state):
        kick = state.kick
        return problem.prior.whiten(state.ensemble) - np.sqrt(kick.h / 2) * kick.noise

    index = np.array([4, 0, 0, 7, 2, 8])
    picked = method.select(state, index)
    np.testing.assert_allclose(without_noise(picked), without_noise(state)[index], atol=1e-12)
    weights = rng.dirichlet(np.ones(9), size=9)  # rows sum to one
    mixed = method.map_members(state, lambda rows: weights @ rows, np.arange(9))
    np.testing.assert_allclose(without_noise(mixed), weights @ without_noise(state), atol=1e-12)


def failing(fraction):
    """A linear model whose runs fail for the same share of the members, every time."""
    example = ek.problems.linear(p=2, d=4)
    matrix = example.problem.model(np.eye(2)).T

    def model(u):
        g = u @ matrix.T
        g[: int(fraction * len(u))] = np.nan
        return g

    given = example.problem
    return ek.InverseProblem(
        ek.FunctionModel(model, vectorized=True), given.prior, given.noise, given.data
    )


def test_failed_members_are_replaced_or_dropped():
    problem = failing(0.1)
    result = ek.run(problem, ek.ALDI(), n_members=40, rng=0, on_failure="resample")
    assert result.attrs["status_code"] == "posterior_reached"
    alive = np.isfinite(result.u).all("parameter").sum("member")
    assert np.all(alive[:-1] == 40)  # four fail at every step, and are replaced
    assert alive[-1] == 36
    result = ek.run(failing(0.06), ek.ALDI(), n_members=20, rng=0, on_failure="drop")
    alive = np.isfinite(result.u).all("parameter").sum("member")
    assert alive[0] == 20
    assert alive[-1] < 20
    assert np.all(np.isfinite(result.history_covariance_ratio))


def test_too_few_members_that_are_left_end_the_run():
    problem, method = ek.problems.linear(p=2, d=4).problem, ek.ALDI(tempered=False)
    state = method.init(problem.prior.sample_unconstrained(6, rng=0), problem)
    left = method.select(state, np.arange(3))
    g = problem.model(problem.prior.to_physical(left.ensemble))
    same, info = method.tell(left, g, problem, rng=np.random.default_rng(0))
    assert same is left
    assert info.status.code == "too_few_members"
    assert "at least p + 2 = 4" in info.status.sentence


def test_the_status_says_whether_the_run_is_long_enough():
    example = ek.problems.linear(p=4, d=12, rng=100)

    def ended(**options):
        return ek.run(example.problem, ek.ALDI(**options), n_members=30, rng=0).attrs

    attrs = ended()
    assert attrs["status_code"] == "posterior_reached"
    assert "times that of the posterior of the linear fit" in attrs["status"]
    attrs = ended(step=ek.FixedStep(0.02), t_end=0.3, tempered=False)
    assert attrs["status_code"] == "not_stationary"
    assert attrs["status_level"] == "care"
    assert "Use a larger t_end" in attrs["status"]
    few = ek.ALDI(correction=False, h_max=0.2, t_end=20)  # 0.3 of the covariance
    attrs = ek.run(example.problem, few, n_members=8, rng=0).attrs
    assert attrs["status_code"] == "not_stationary"
    assert "or correction=True with more than p + 1 members" in attrs["status"]
    attrs = ended(t_end=2)
    assert "too short for a statement" in attrs["status"]


def test_float32_and_torch_are_kept():
    torch = pytest.importorskip("torch")
    w, _, r = ensemble(20, 3, 5)
    exact, single, other = (
        langevin_step(a, local_fit(a, b, b), None, 0.5, np.random.default_rng(0))[0]
        for a, b in (
            (w, r),
            (w.astype(np.float32), r.astype(np.float32)),
            (torch.as_tensor(w), torch.as_tensor(r)),
        )
    )
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, exact, atol=1e-4)
    np.testing.assert_allclose(other.numpy(), exact, atol=1e-12)


def test_what_aldi_refuses():
    problem = ek.problems.linear(p=3, d=5).problem
    with pytest.raises(ValueError, match=r"n_members: must be at least p \+ 2 = 5 for ALDI"):
        ek.run(problem, ek.ALDI(), n_members=4)
    assert ek.run(problem, ek.ALDI(correction=False), n_members=3, rng=0).sizes["member"] == 3
    with pytest.raises(ValueError, match="t_end: must be"):
        ek.ALDI(t_end=0)
    with pytest.raises(TypeError, match="correction: must be True or False"):
        ek.ALDI(correction=1)
    from scipy import stats

    unknown = ek.InverseProblem(
        ek.LinearModel(np.eye(2)), ek.GaussianPrior([0.0, 0.0], 1.0),
        ek.UnknownNoise(stats.lognorm(1.0)), [1.0, 2.0],
    )  # fmt: skip
    with pytest.raises((TypeError, ValueError), match="noise"):
        ek.run(unknown, ek.ALDI(), n_members=10)
