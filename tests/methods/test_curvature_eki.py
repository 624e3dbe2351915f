"""CurvatureEKI against Gauss–Newton steps solved by NumPy."""

import array_api_strict
import numpy as np
import pytest
from zoo.results import same

import ekitools as ek

P, D = 4, 9
A = np.random.default_rng(0).normal(size=(D, P))
ROOT = np.tril(np.random.default_rng(1).normal(size=(D, D))) * 0.3 + np.eye(D)
COV = ROOT @ ROOT.T
DATA = A @ [1.0, -1.0, 2.0, 0.5] + 0.3 * np.random.default_rng(2).normal(size=D)
SD = np.array([1.0, 2.0, 0.5, 1.0])


def problem(noise=COV, data=DATA, matrix=A):
    prior = ek.GaussianPrior(np.ones(P), SD**2)
    return ek.InverseProblem(ek.LinearModel(matrix), prior, noise, data)


def one_step(target, method, u):
    state = method.init(u, target)
    g = target.model(method.ask(state))
    new, info = method.tell(state, g, target, rng=np.random.default_rng(0))
    return state.ensemble, new, info


@pytest.mark.parametrize("n", [3, 12])
def test_a_step_is_ridge_regression_in_the_span_of_the_members(n):
    """min ‖Γ^{-1/2}(A(ū + ξᵀw) − y)‖²/m + λ‖w‖² as a stacked least-squares problem."""
    target, method = problem(), ek.CurvatureEKI(0.05, damping=0.3, radius=np.inf)
    members, new, info = one_step(target, method, target.prior.sample(n, rng=0))
    mean = members.mean(0)
    xi = (members - mean) / 0.05
    white = np.linalg.inv(np.linalg.cholesky(COV))
    left = np.vstack([white @ A @ xi.T / np.sqrt(D), np.sqrt(0.3) * np.eye(n)])
    right = np.concatenate([white @ (DATA - A @ mean) / np.sqrt(D), np.zeros(n)])
    w = np.linalg.lstsq(left, right, rcond=None)[0]
    np.testing.assert_allclose(new.ensemble.mean(0), mean + xi.T @ w, rtol=1e-8)
    assert info.extra["misfit_of_mean"].value == pytest.approx(
        0.5 * np.sum((white @ (A @ mean - DATA)) ** 2)
    )
    assert info.step == pytest.approx(1 / 0.3)


def test_the_radius_bounds_the_step_and_keeps_its_direction():
    target = problem()
    start = target.prior.sample(12, rng=0)
    steps = {}
    for radius in (np.inf, 0.01):
        method = ek.CurvatureEKI(0.05, 0.3, radius)
        members, new, _ = one_step(target, method, start)
        steps[radius] = new.ensemble.mean(0) - members.mean(0)
    xi = (members - members.mean(0)) / 0.05
    w = np.linalg.lstsq(xi.T, steps[0.01], rcond=None)[0]  # the shortest that makes this step
    assert np.linalg.norm(w) <= 0.01 * (1 + 1e-9)
    long, short = (step / np.linalg.norm(step) for step in steps.values())
    np.testing.assert_allclose(short, long, rtol=1e-7)
    assert np.linalg.norm(steps[0.01]) < 0.1 * np.linalg.norm(steps[np.inf])


LOGITS = np.random.default_rng(3).normal(size=(12, P))
CLASSES = np.eye(3)[[0, 1, 2, 1]].ravel()


@pytest.mark.parametrize(
    ("loss", "data", "m", "gradient_and_hessian"),
    [
        (
            ek.CrossEntropy(3),
            CLASSES,
            4,
            lambda z, y: _blocks([_softmax(row) for row in z.reshape(-1, 3)], y),
        ),
        (
            ek.BinaryCrossEntropy(),
            CLASSES,
            12,
            lambda z, y: (1 / (1 + np.exp(-z)) - y, np.diag(np.exp(z) / (1 + np.exp(z)) ** 2)),
        ),
        (
            ek.Huber(0.5, delta=1.0),
            CLASSES,
            12,
            lambda z, y: (
                np.clip((z - y) / 0.5, -1, 1) / 0.5,
                np.diag((np.abs(z - y) < 0.5) / 0.25),
            ),
        ),
    ],
    ids=["classes", "binary", "huber"],
)
def test_a_step_is_the_damped_gauss_newton_step_for_any_loss(loss, data, m, gradient_and_hessian):
    target, method = problem(loss, data, LOGITS), ek.CurvatureEKI(0.1, damping=0.2, radius=np.inf)
    members, new, _ = one_step(target, method, target.prior.sample(6, rng=0))
    mean = members.mean(0)
    xi = (members - mean) / 0.1
    gradient, hessian = gradient_and_hessian(LOGITS @ mean, data)
    f = xi @ LOGITS.T
    w = -np.linalg.solve(f @ hessian @ f.T / m + 0.2 * np.eye(6), f @ gradient / m)
    np.testing.assert_allclose(new.ensemble.mean(0), mean + xi.T @ w, rtol=1e-8)


def _softmax(row):
    return np.exp(row) / np.exp(row).sum()


def _blocks(rows, y):
    hessian = np.zeros((len(y), len(y)))
    for i, p in enumerate(rows):
        hessian[3 * i : 3 * i + 3, 3 * i : 3 * i + 3] = np.diag(p) - np.outer(p, p)
    return np.concatenate(rows) - y, hessian


def test_it_comes_to_the_least_squares_solution_where_members_span_everything():
    white = np.linalg.inv(np.linalg.cholesky(COV))
    exact = np.linalg.lstsq(white @ A, white @ DATA, rcond=None)[0]
    result = ek.run(problem(), ek.CurvatureEKI(damping=1e-3), n_members=12, n_steps=30, rng=0)
    np.testing.assert_allclose(result.u[-1].mean("member"), exact, rtol=1e-7)


def test_it_starts_at_the_first_member_and_keeps_its_spread():
    target = problem()
    start = target.prior.sample(400, rng=0)
    result = ek.run(target, ek.CurvatureEKI(0.1), ensemble=start, n_steps=3, rng=0)
    np.testing.assert_allclose(result.u[0].mean("member"), start[0], rtol=1e-12)
    for u in result.u.values:
        np.testing.assert_allclose(u.std(0), 0.1 * SD, rtol=4 / np.sqrt(2 * 400))


def test_latest_steps_are_members_as_long_as_draws():
    target, method = problem(), ek.CurvatureEKI(0.1, memory=2)
    result = ek.run(target, method, n_members=8, n_steps=4, rng=0)
    means = result.u.mean("member").values
    for n in (1, 2, 3, 4):
        steps = np.diff(means[: n + 1], axis=0)[-2:]
        lengths = np.linalg.norm(steps / SD, axis=1)
        expected = 0.1 * np.sqrt(P) * steps / lengths[:, None]
        found = result.u[n].values - means[n]
        k = len(steps)
        shift = found[0] - expected[0]  # of all members, so that the mean stays
        np.testing.assert_allclose(found[:k] - shift, expected, rtol=1e-8, atol=1e-12)
    few = ek.run(target, ek.CurvatureEKI(0.1, memory=9), n_members=3, n_steps=6, rng=0)
    assert float(few.misfit[-1].mean()) < float(few.misfit[0].mean())


def test_it_survives_a_checkpoint_with_what_it_remembers(tmp_path):
    method, options = ek.CurvatureEKI(memory=3), {"n_members": 6, "rng": 0}
    whole = ek.run(problem(), method, n_steps=7, **options)
    ek.run(problem(), method, n_steps=2, checkpoint=tmp_path / "run", **options)
    assert same(ek.resume(tmp_path / "run", problem(), n_steps=7), whole)


def test_other_arrays_take_the_same_step():
    target, method = problem(ek.BinaryCrossEntropy(), CLASSES, LOGITS), ek.CurvatureEKI(memory=2)
    u = target.prior.sample(6, rng=0)
    _, new, _ = one_step(target, method, u)
    _, other, _ = one_step(target, method, array_api_strict.asarray(u))
    np.testing.assert_allclose(np.asarray(other.ensemble), new.ensemble, rtol=1e-9)


@pytest.mark.parametrize("part", ["gradient", "curvature_product"])
def test_a_run_that_diverges_keeps_its_last_good_ensemble(part, monkeypatch):
    monkeypatch.setattr(ek.Huber, part, lambda self, z, *rest: np.full_like(rest[-1] + z, np.inf))
    result = ek.run(problem(ek.Huber(1.0)), ek.CurvatureEKI(), n_members=5, n_steps=4, rng=0)
    assert result.attrs["status_code"] == "diverged"
    assert np.isfinite(result.u).all()


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: ek.CurvatureEKI(gamma=0.0), ValueError, "gamma: must be positive"),
        (lambda: ek.CurvatureEKI(damping=-1.0), ValueError, "damping: must be positive"),
        (lambda: ek.CurvatureEKI(radius=0.0), ValueError, "radius: must be positive, got"),
        (lambda: ek.CurvatureEKI(memory=-1), ValueError, "memory: must be at least 0"),
        (lambda: ek.CurvatureEKI(memory=True), TypeError, "memory: must be an integer"),
        (
            lambda: ek.run(
                problem(ek.FunctionLoss(lambda z, y: z.sum(-1), lambda z, y: z)), ek.CurvatureEKI()
            ),
            TypeError,
            r"noise: must have curvature_product\(z, y, f\) .*FunctionLoss",
        ),
    ],
)
def test_mistakes_are_named(make, error, match):
    with pytest.raises(error, match=match):
        make()
