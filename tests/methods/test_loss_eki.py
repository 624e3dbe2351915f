"""LossEKI and Spread: the published scheme against loops over members, and what large runs need."""

import tracemalloc

import array_api_strict
import numpy as np
import pytest
from scipy import stats
from zoo.networks import Network
from zoo.results import same

import ekitools as ek
from ekitools import typing as contracts
from ekitools.flows.right_hand_sides import Output
from ekitools.linalg import moved
from ekitools.methods.spread import drawn_around

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 2))
LABELS = (X[:, 0] * X[:, 1] > 0).astype(int)
NETWORK = Network((2, 4, 2))


def classification(data=None):
    if data is None:
        data = ek.MiniBatches(X, np.eye(2)[LABELS], 8)
    return ek.InverseProblem(NETWORK, NETWORK.prior(), ek.CrossEntropy(2), data)


def linear(noise=0.5):
    A = np.random.default_rng(1).normal(size=(5, 3))
    return ek.InverseProblem(
        ek.LinearModel(A), ek.GaussianPrior([1.0, -2.0, 0.5], [1.0, 4.0, 0.25]), noise, A.sum(1)
    )


def published_step(u, g, y, gradient, rule):
    """One step, as it is written: D entry by entry."""
    n = len(u)
    D = np.array([[(g[k] - g.mean(0)) @ gradient(g[j], y) / n for k in range(n)] for j in range(n)])
    h = rule(np.sqrt((D**2).sum()))
    return u - h * D @ u, h, D


def softmax_minus_y(z, y):
    z = np.exp(z.reshape(-1, 2))
    return (z / z.sum(1, keepdims=True)).ravel() - y


def steps_of(method, problem, u, n, **options):
    loop = ek.AskTell(problem, method, ensemble=u, n_steps=n, rng=0, **options)
    while not loop.done:
        bound = loop.seen
        loop.tell(bound.model(loop.ask()))
        yield bound, loop.result()


def test_steps_are_the_published_ones_on_the_batches_that_were_seen():
    u = NETWORK.prior().sample(6, rng=1)
    method = ek.LossEKI(ek.NormStep(2.0, 0.5))
    for n, (bound, result) in enumerate(steps_of(method, classification(), u, 4)):
        np.testing.assert_allclose(result.u[n], u, rtol=1e-9, atol=1e-12)
        g = bound.model(u)
        u, h, _ = published_step(u, g, bound.data, softmax_minus_y, lambda norm: 2 / (norm + 0.5))
        if n < 4:
            assert float(result.step[n]) == pytest.approx(h)
            assert float(result.history_best_misfit[n]) == pytest.approx(result.misfit[n].min())


@pytest.mark.parametrize(
    "noise", [0.5, np.diag([1.0, 2, 3, 4, 5]) + 0.3, ek.Huber(1.0)], ids=["scalar", "dense", "loss"]
)
def test_a_step_is_eulers_for_the_flow(noise):
    problem = linear(noise)
    u = problem.prior.sample(7, rng=0)
    g = problem.model(u)
    out = Output(g, problem.noise.gradient(g, problem.data))
    expected = u + 0.03 * ek.EKIFlow().acceleration(0.0, u, out, problem)
    result = ek.run(problem, ek.LossEKI(ek.FixedStep(0.03)), ensemble=u, n_steps=1, rng=0)
    np.testing.assert_allclose(result.u[1], expected, rtol=1e-11, atol=1e-13)
    assert result.attrs["covariance_normalisation"] == "1/J"


def test_the_rule_sees_the_frobenius_norm_of_this_d():
    problem, found = linear(ek.Huber(1.0)), []

    class Look:
        def step(self, seen):
            found.append(seen.d_norm())
            return 0.1

    u = problem.prior.sample(6, rng=0)
    for spread in (None, ek.Spread(0.3)):
        ek.run(problem, ek.LossEKI(Look(), spread), ensemble=u, n_steps=1, rng=0)
    _, _, D = published_step(
        u, problem.model(u), problem.data, problem.noise.gradient, lambda norm: 1.0
    )
    np.testing.assert_allclose(found[::2], np.linalg.norm(D), rtol=1e-12)  # of the first steps


def test_members_are_drawn_around_the_published_mean():
    problem = linear()
    u = problem.prior.sample(2000, rng=0)
    method = ek.LossEKI(ek.FixedStep(0.01), spread=ek.Spread(0.3, every=2, decay=0.5))
    result = ek.run(problem, method, ensemble=u, n_steps=4, rng=0)
    gradient = problem.noise.gradient
    for n in range(4):
        u, g = result.u[n].values, result.g[n].values
        D = gradient(g, problem.data) @ (g - g.mean(0)).T / 2000
        after = result.u[n + 1].values
        np.testing.assert_allclose(after.mean(0), (u - 0.01 * D @ u).mean(0), rtol=1e-9)
        if n % 2 == 0:
            np.testing.assert_allclose(after, u - 0.01 * D @ u, rtol=1e-9)
            continue
        white = (after - after.mean(0)) / (0.3 / (1 + 0.5 * n)) / [1.0, 2.0, 0.5]
        # a sample covariance of 2000 normal numbers, with a mean that was taken out
        assert np.all(np.abs(white.T @ white / 2000 - np.eye(3)) < 4 * np.sqrt(2 / 2000))
        assert stats.kstest(white[:, 1], "norm").pvalue > 0.001
    assert [method.redraws(n) for n in range(4)] == [False, True, False, True]


def test_draws_are_deviations_of_the_prior_where_it_is_not_centred_or_bounded():
    prior = ek.Prior({"a": stats.norm(50, 2), "b": stats.lognorm(0.5, scale=100)})
    u = drawn_around(np.array([[1.0, 2.0]]), prior, 0.1, 4000, np.random.default_rng(0))
    np.testing.assert_allclose(u.mean(0), [1.0, 2.0], rtol=1e-12)
    sd = np.sqrt(np.var(prior.sample_unconstrained(100_000, rng=1), axis=0))
    np.testing.assert_allclose(u.std(0), 0.1 * sd, rtol=4 / np.sqrt(2 * 4000))


def test_members_with_given_deviations_have_them_beside_those_drawn():
    prior, given = ek.GaussianPrior([1000.0], 1.0), np.array([[3.0], [-3.0]])
    u = drawn_around(np.array([[1.0]]), prior, 0.1, 6, np.random.default_rng(0), given=given)
    assert u.mean() == pytest.approx(1.0)
    assert u[0, 0] - u[1, 0] == pytest.approx(0.6)
    assert np.all(np.abs(u - 1) < 1)


def test_draws_do_not_depend_on_how_many_are_made_at_a_time(monkeypatch):
    prior, mean = ek.GaussianPrior(np.zeros(3), np.eye(3) + 0.5), np.ones((1, 3))
    at_once = drawn_around(mean, prior, 0.5, 9, np.random.default_rng(0))
    monkeypatch.setattr("ekitools.methods.spread._BLOCK_BYTES", 48)
    by_two = drawn_around(mean, prior, 0.5, 9, np.random.default_rng(0))
    np.testing.assert_allclose(by_two, at_once, rtol=1e-13)


def test_a_schedule_of_ones_own_for_the_spread():
    spread = ek.Spread(lambda n: 2.0 ** -(n + 1))
    assert [spread.at(n) for n in range(3)] == [0.5, 0.25, 0.125]
    result = ek.run(linear(), ek.LossEKI(ek.NormStep(0.1), spread), n_members=50, n_steps=3, rng=0)
    drawn = result.history_spread.values[1:] * np.sqrt(result.u[0].var("member").sum().item())
    np.testing.assert_allclose(drawn[:-1] / drawn[1:], 2.0, rtol=0.4)


GROWING = ek.LossEKI(ek.NormStep(1.0), ek.Spread(0.2, every=2), expand=((3, 9), (6, 12)))


@pytest.mark.parametrize("method", [GROWING, ek.Nesterov(GROWING)], ids=["plain", "momentum"])
def test_an_ensemble_grows_at_redraws(method, tmp_path):
    problem, options = linear(), {"n_members": 5, "rng": 0}
    whole = ek.run(problem, method, n_steps=8, **options)
    present = np.isfinite(whole.u).all("parameter")
    np.testing.assert_array_equal(present.sum("member"), [5, 5, 5, 5, 9, 9, 12, 12, 12])
    assert all(np.all(np.diff(row.astype(int)) <= 0) for row in present.values)
    np.testing.assert_array_equal(np.isfinite(whole.misfit), present)
    assert not whole.failed.any()
    assert whole.attrs["model_runs"] == 4 * 5 + 2 * 9 + 3 * 12
    ek.run(problem, method, n_steps=5, checkpoint=tmp_path / "run", **options)
    assert same(ek.resume(tmp_path / "run", problem, n_steps=8), whole)
    if method is GROWING:
        u, g = whole.u[3, :5].values, whole.g[3, :5].values
        D = problem.noise.gradient(g, problem.data) @ (g - g.mean(0)).T / 5
        mean = (u - whole.step[3].item() * D @ u).mean(0)
        np.testing.assert_allclose(whole.u[4, :9].mean("member"), mean, rtol=1e-9)


@pytest.mark.parametrize("policy", ["drop", "resample"])
@pytest.mark.parametrize("store", ["all", "final"])
def test_an_ensemble_that_grows_may_lose_members_too(policy, store):
    problem, runs = linear(), []

    def model(u):
        runs.append(u)
        return problem.model(u) if len(runs) not in (8, 18) else np.full(5, np.nan)

    fragile = ek.InverseProblem(ek.FunctionModel(model), problem.prior, problem.noise, problem.data)
    result = ek.run(fragile, GROWING, n_members=5, n_steps=6, rng=0, on_failure=policy, store=store)
    # the eighth run fails in the second step, the eighteenth in the fourth, before a redraw
    present = np.isfinite(result.u[-1]).all("parameter").values
    assert present.sum() == 12
    assert len(result.failures.split("iteration")) == 3
    np.testing.assert_array_equal(np.isfinite(result.misfit[-1]), present)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: ek.Spread(0.0), ValueError, "gamma: must be positive and finite, got 0.0"),
        (lambda: ek.Spread(every=0), ValueError, "every: must be at least 1, got 0"),
        (lambda: ek.Spread(every=1.5), TypeError, "every: must be an integer, got 1.5"),
        (lambda: ek.Spread(decay=-1.0), ValueError, "decay: must be at least 0"),
        (lambda: ek.Spread(lambda n: 1.0, decay=1.0), ValueError, "decay: must be 0 if gamma"),
        (lambda: ek.Spread(lambda n: -1.0).at(0), ValueError, "gamma: must be positive"),
        (lambda: ek.LossEKI(averaging=1.0), ValueError, r"averaging: must be within \[0, 1\)"),
        (lambda: ek.LossEKI(0.1), TypeError, "step: must be a step rule"),
        (lambda: ek.LossEKI(expand=((2, 5),)), ValueError, "spread: must be given with expand"),
        (
            lambda: ek.LossEKI(spread=ek.Spread(), expand=((2, 5), (2, 9))),
            ValueError,
            "expand: must be pairs",
        ),
        (lambda: ek.LossEKI(spread=0.1), TypeError, r"spread: must be an ek.Spread.*ek.Spread\(ga"),
        (
            lambda: ek.run(linear(), ek.LossEKI(), ensemble=np.ones((4, 3)), rng=0),
            ValueError,
            "ensemble: must have some spread",
        ),
    ],
)
def test_mistakes_are_named(make, error, match):
    with pytest.raises(error, match=match):
        make()


def test_momentum_on_batches_is_nesterovs():
    v = u = NETWORK.prior().sample(6, rng=1)
    method = ek.Nesterov(ek.LossEKI(ek.NormStep(2.0, 0.5)))
    for n, (bound, result) in enumerate(steps_of(method, classification(), v, 5)):
        np.testing.assert_allclose(result.u[n], v, rtol=1e-9, atol=1e-12)
        g = bound.model(v)
        new, _, _ = published_step(v, g, bound.data, softmax_minus_y, lambda norm: 2 / (norm + 0.5))
        v, u = new + n / (n + 3) * (new - u), new


def test_over_a_redraw_the_momentum_is_that_of_the_mean():
    problem = linear()
    v = problem.prior.sample(8, rng=1)
    plain = ek.LossEKI(ek.FixedStep(0.05), spread=ek.Spread(0.3, every=2))
    result = ek.run(problem, ek.Nesterov(plain), ensemble=v, n_steps=6, rng=0)
    mean = v.mean(0)
    for n in range(6):
        v, g = result.u[n].values, result.g[n].values
        D = problem.noise.gradient(g, problem.data) @ (g - g.mean(0)).T / 8
        new = (v - 0.05 * D @ v).mean(0)
        expected, mean = new + n / (n + 3) * (new - mean), new
        np.testing.assert_allclose(result.u[n + 1].mean("member"), expected, rtol=1e-9)
        if n % 2:  # drawn anew: nothing of the old members' differences is carried on
            scaled = (result.u[n + 1] - result.u[n + 1].mean("member")) / [0.3, 0.6, 0.15]
            assert 0.4 < float((scaled**2).mean()) < 2.0


def test_momentum_with_a_redraw_learns_what_it_learns_without():
    problem = linear(0.01)
    spread = ek.Spread(0.1)
    for method in (ek.LossEKI(ek.FixedStep(0.1), spread), ek.LossEKI(ek.FixedStep(0.03), spread)):
        start = problem.prior.sample(50, rng=1) * 0.1
        result = ek.run(problem, ek.Nesterov(method), ensemble=start, n_steps=200, rng=0)
        np.testing.assert_allclose(result.u[-1].mean("member"), 1.0, atol=0.02)


class Late:
    """A rule that asks for too much at the third step."""

    def __init__(self, h):
        self.h = h

    def step(self, seen):
        return self.h if seen.n == 2 else 1e-3


@pytest.mark.parametrize("store", ["all", "final"])
@pytest.mark.parametrize("spread", [None, ek.Spread(0.1)])
def test_a_run_that_diverges_keeps_its_last_good_ensemble(spread, store):
    problem = linear()
    method = ek.LossEKI(Late(1e308), spread)
    result = ek.run(problem, method, n_members=6, n_steps=5, store=store, rng=0)
    assert result.attrs["status_code"] == "diverged"
    assert "Step 2 has an update that is not finite" in result.attrs["status"]
    assert "Use smaller steps or less spread" in result.attrs["status"]
    assert result.iteration.values[-1] == 2
    good = ek.run(problem, ek.LossEKI(ek.FixedStep(1e-3), spread), n_members=6, n_steps=2, rng=0)
    np.testing.assert_array_equal(result.u[-1], good.u[-1])


@pytest.mark.parametrize("spread", [None, ek.Spread(0.1)])
def test_a_gradient_that_overflows_ends_the_run(spread):
    steep = ek.FunctionLoss(
        lambda z, y: np.abs(z - y).sum(-1),
        lambda z, y: np.where(np.abs(z) > 3, np.inf, np.sign(z - y)),
    )
    result = ek.run(linear(steep), ek.LossEKI(ek.NormStep(), spread), n_members=20, rng=0)
    assert result.attrs["status_code"] == "diverged"
    assert np.isfinite(result.u).all()


@pytest.mark.parametrize("spread", [None, ek.Spread(0.3)])
def test_other_arrays_take_the_same_step_and_are_left_alone(spread):
    problem = linear(ek.Huber(1.0))
    method = ek.LossEKI(ek.NormStep(), spread)
    u = problem.prior.sample(6, rng=0)
    strict = array_api_strict.asarray(u)
    found = []
    for start in (u.copy(), strict):
        state, g = method.init(start, problem), problem.model(start)
        new, _ = method.tell(state, g, problem, rng=np.random.default_rng(0), in_place=True)
        found.append(np.asarray(new.ensemble))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-12)
    np.testing.assert_array_equal(np.asarray(strict), u)


@pytest.mark.parametrize("spread", [None, ek.Spread(0.3)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_update_in_place_is_the_same_and_needs_no_second_ensemble(spread, dtype):
    p, n, d = 200_000, 40, 30
    rng = np.random.default_rng(0)
    problem = ek.InverseProblem(
        ek.FunctionModel(lambda u: u[:, :d], vectorized=True),
        ek.GaussianPrior(0.0, np.ones(p)),
        1.0,
        np.ones(d),
    )
    u = rng.standard_normal((n, p)).astype(dtype)
    g = u[:, :d] ** 2
    method = ek.LossEKI(spread=spread)
    expected, _ = method.tell(method.init(u, problem), g, problem, rng=np.random.default_rng(1))
    state = method.init(u, problem)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    new, _ = method.tell(state, g, problem, rng=np.random.default_rng(1), in_place=True)
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert new.ensemble is u
    np.testing.assert_array_equal(new.ensemble, expected.ensemble)
    assert peak < 24e6 < u.nbytes  # draws, one block of columns and rows of length p


def test_moved_is_the_product_with_the_anomalies(monkeypatch):
    monkeypatch.setattr("ekitools.linalg.columns._BLOCK_BYTES", 1)
    rng = np.random.default_rng(0)
    u, w = rng.normal(size=(7, 150)), rng.normal(size=(7, 7))
    expected = u + w @ (u - u.mean(0))
    np.testing.assert_allclose(moved(u, w), expected, rtol=1e-10, atol=1e-12)
    assert moved(u, w, in_place=True) is u
    np.testing.assert_allclose(u, expected, rtol=1e-10, atol=1e-12)


def test_a_redraw_survives_a_checkpoint_with_momentum(tmp_path):
    method = ek.Nesterov(ek.LossEKI(ek.NormStep(2.0, 0.5), spread=ek.Spread(0.3, every=3)))
    options = {"n_members": 6, "rng": 0}
    whole = ek.run(classification(), method, n_steps=9, **options)
    ek.run(classification(), method, n_steps=4, checkpoint=tmp_path / "run", **options)
    assert same(ek.resume(tmp_path / "run", classification(), n_steps=9), whole)


def test_it_offers_what_the_contracts_ask_for():
    assert isinstance(ek.MiniBatches(X, LABELS, 8), contracts.Batches)
    assert isinstance(ek.OnlineData(X, LABELS), contracts.Batches)
    assert not isinstance(np.ones(3), contracts.Batches)


@pytest.mark.parametrize(
    "method",
    [
        ek.LossEKI(ek.NormStep(0.5), averaging=0.7),
        ek.LossEKI(ek.NormStep(0.5), ek.Spread(0.1), averaging=0.7),
        ek.CurvatureEKI(averaging=0.7),
        ek.Nesterov(ek.CurvatureEKI(averaging=0.7)),
    ],
    ids=["plain", "redrawn", "curvature", "momentum"],
)
def test_the_average_is_exponential_with_weights_that_add_up_to_one(method, tmp_path):
    problem, options = linear(), {"n_members": 5, "rng": 0}
    result = ek.run(problem, method, n_steps=6, **options)
    means = result.u.mean("member").values
    for n in range(7):
        weights = 0.7 ** np.arange(n, -1, -1)
        expected = weights @ means[: n + 1] / weights.sum()
        np.testing.assert_allclose(result.u_average[n], expected, rtol=1e-9)
    ek.run(problem, method, n_steps=3, checkpoint=tmp_path / "run", **options)
    assert same(ek.resume(tmp_path / "run", problem, n_steps=6), result)
    ended = ek.run(problem, method, n_steps=6, evaluate_final=False, **options)
    assert np.isnan(ended.u_average[-1]).all()
    np.testing.assert_array_equal(ended.u_average[:-1], result.u_average[:-1])
    assert "u_average" not in ek.run(problem, ek.LossEKI(), n_steps=1, **options)


def test_a_run_that_keeps_its_final_ensemble_only_holds_one():
    p, n = 200_000, 40
    problem = ek.InverseProblem(
        ek.FunctionModel(lambda u: u[:, :30] ** 2, vectorized=True),
        ek.GaussianPrior(0.0, np.ones(p)),
        1.0,
        np.ones(30),
    )
    start = np.random.default_rng(0).standard_normal((n, p))
    method = ek.LossEKI(spread=ek.Spread(every=2))
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    options = {"n_steps": 3, "rng": 0, "store": "final", "evaluate_final": False}
    ek.run(problem, method, ensemble=start, **options)
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert peak < 1.7 * start.nbytes  # the run's own, and columns at a time
