"""Momentum against the recursion written by hand, and what the loop may do to its state."""

import dataclasses
import json
import math
from typing import NamedTuple

import numpy as np
import pytest
from zoo.results import same

import ekitools as ek
from ekitools.loop.failures import replaced
from ekitools.typing import StepInfo

PLAIN = ek.EKI(ek.FixedStep(0.3), t_end=None, perturbed=False)


def problem(p=4, d=6):
    return ek.problems.linear(p=p, d=d).problem


def analysis(u, g, y, gamma, h):
    """u + C^{uw}(C^{ww} + Γ/h)⁻¹(y − g), with the matrices of the formula."""
    e, f = u - u.mean(0), g - g.mean(0)
    n = len(u) - 1
    gain = (e.T @ f / n) @ np.linalg.inv(f.T @ f / n + gamma / h * np.eye(len(y)))
    return u + (y - g) @ gain.T


def test_it_is_the_recursion_written_by_hand():
    target = problem()
    matrix, y = target.model.matrix, target.data
    start = target.prior.sample(9, rng=0)
    result = ek.run(target, ek.Nesterov(PLAIN), ensemble=start, n_steps=12, rng=0)
    u = v = start
    for n in range(12):
        np.testing.assert_allclose(result.u[n], v, rtol=1e-9, atol=1e-11)
        new = analysis(v, v @ matrix.T, y, 0.1, 0.3)
        u, v = new, new + n / (n + 3) * (new - u)
    np.testing.assert_allclose(result.u[12], v, rtol=1e-9, atol=1e-11)


def test_the_first_step_is_the_plain_one_and_the_second_is_not():
    fast, plain = (
        ek.run(problem(), method, n_members=9, n_steps=2, rng=0)
        for method in (ek.Nesterov(PLAIN), PLAIN)
    )
    np.testing.assert_array_equal(fast.u[1], plain.u[1])
    assert np.abs(fast.u[2] - plain.u[2]).max() > 1e-3


class Descent(NamedTuple):
    ensemble: np.ndarray
    n: int
    t: float


@dataclasses.dataclass(frozen=True)
class GradientDescent:
    """A method of a user's own: u ← u − h (G(u) − y) for G the identity times a diagonal."""

    h: float
    scale: tuple[float, ...]

    State = Descent
    aim = "fit"
    normalisation = "1/J"

    def init(self, ensemble, target):
        return Descent(ensemble, 0, 0.0)

    def ask(self, state):
        return state.ensemble

    def finished(self, state):
        return None

    def select(self, state, index):
        return state._replace(ensemble=state.ensemble[index, :])

    def tell(self, state, g, target, *, rng):
        residual = g - target.data
        moved = state.ensemble - self.h * residual * np.array(self.scale)
        info = StepInfo(self.h, 0.5 * np.sum(residual**2, axis=1), None, 1.0)
        return Descent(moved, state.n + 1, state.t + self.h), info


def test_a_users_own_method_gets_it_and_resumes(tmp_path):
    """Gradient descent with it is Nesterov's accelerated gradient."""
    scale = (1.0, 0.1)
    target = ek.InverseProblem(
        ek.LinearModel(np.diag(scale)), ek.GaussianPrior(np.zeros(2), 1.0), 1.0, [1.0, 0.1]
    )
    method = ek.Nesterov(GradientDescent(1.0, scale))
    path, options = tmp_path / "run", {"n_members": 3, "rng": 0}
    result = ek.run(target, method, n_steps=30, **options)
    x = previous = result.u[0].values
    for n in range(30):
        new = x - (x * scale - target.data) * scale
        x, previous = new + n / (n + 3) * (new - previous), new
    np.testing.assert_allclose(result.u[-1], x, rtol=1e-9)
    ek.run(target, method, n_steps=10, checkpoint=path, **options)
    with pytest.raises(ek.CheckpointError, match="method: must be passed"):
        ek.resume(path, target, n_steps=30)
    assert same(ek.resume(path, target, method, n_steps=30), result)


def factors(momentum, n):
    """The factors of the momentum of the first n steps, by the formulas."""
    if momentum == "su":
        return [k / (k + 3) for k in range(n)]
    if momentum != "theta":
        return [momentum] * n
    theta, found = 1.0, []
    for _ in range(n):
        following = (-(theta**2) + math.sqrt(theta**4 + 4 * theta**2)) / 2
        found.append(following * (1 / theta - 1))
        theta = following
    return found


def test_the_first_factors_of_the_recurrence_are_those_that_are_known():
    np.testing.assert_allclose(factors("theta", 4), [0, 0.282, 0.434, 0.531], atol=5e-4)


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("momentum", ["su", "theta", 0.9, 0.0])
def test_every_momentum_is_the_recursion_written_by_hand(momentum, restart):
    """Gradient descent; a restart is at the first step after which the misfit has risen."""
    scale = np.array([1.0, 0.2])
    target = ek.InverseProblem(
        ek.LinearModel(np.diag(scale)), ek.GaussianPrior(np.zeros(2), 1.0), 1.0, [1.0, 0.1]
    )
    method = ek.Nesterov(GradientDescent(0.5, tuple(scale)), momentum, restart)
    result = ek.run(target, method, n_members=3, n_steps=60, rng=0)
    v = u = result.u[0].values
    since, before, restarts = 0, np.inf, 0
    for n in range(60):
        np.testing.assert_allclose(result.u[n], v, rtol=1e-9, atol=1e-12)
        misfit = 0.5 * np.sum((v * scale - target.data) ** 2, axis=1).mean()
        if restart and misfit > before:
            since, restarts = 0, restarts + 1
        known = factors(momentum, since + 1)
        factor = 0.0 if restart and since == 0 and n else known[since]
        new = v - 0.5 * (v * scale - target.data) * scale
        u, v = new, new + factor * (new - u)
        since, before = since + 1, misfit
    assert (restarts > 0) == (restart and momentum != 0.0)


def test_without_a_factor_it_is_the_method():
    plain, other = (
        ek.run(problem(), method, n_members=9, n_steps=5, rng=0)
        for method in (PLAIN, ek.Nesterov(PLAIN, 0.0))
    )
    np.testing.assert_array_equal(other.u, plain.u)


def test_a_restart_needs_the_misfit_of_all_data():
    data = ek.MiniBatches(np.eye(4), np.ones(4), 2)
    model = ek.FunctionModel(lambda u, inputs: inputs @ u, takes_inputs=True)
    target = ek.InverseProblem(model, ek.GaussianPrior(np.zeros(4), 1.0), 0.1, data)
    ek.run(target, ek.Nesterov(PLAIN, "theta"), n_members=9, n_steps=2, rng=0)
    with pytest.raises(TypeError, match=r"all its data at once for Nesterov\(restart=True\)"):
        ek.run(target, ek.Nesterov(PLAIN, restart=True), n_members=9, n_steps=2, rng=0)


@pytest.mark.parametrize("momentum", ["fast", 1.0, -0.1, None, True])
def test_another_momentum_is_refused(momentum):
    with pytest.raises((TypeError, ValueError), match="^momentum: must be"):
        ek.Nesterov(PLAIN, momentum)


@pytest.mark.parametrize("kind", ["float32", "torch", "strict"])
def test_the_kind_of_the_ensemble_is_kept_through_a_checkpoint(kind, tmp_path):
    target, method = problem(), ek.Nesterov(PLAIN)
    start, matrix = target.prior.sample(9, rng=0), target.model.matrix
    if kind == "float32":
        ensemble = start.astype(np.float32)
    elif kind == "torch":
        ensemble = pytest.importorskip("torch").as_tensor(start)
    else:
        ensemble = pytest.importorskip("array_api_strict").asarray(start)
    expected = ek.run(target, method, ensemble=start, n_steps=6, rng=0)
    loop = ek.AskTell(target, method, ensemble=ensemble, n_steps=6, rng=0)
    while not loop.done:
        asked = loop.ask()
        assert type(asked) is type(ensemble)
        assert asked.dtype == ensemble.dtype
        loop.tell(np.asarray(asked) @ matrix.T)
        loop.save(tmp_path / "run")
        loop = ek.AskTell.load(tmp_path / "run", target, like=ensemble)
    tolerance = 5e-3 if kind == "float32" else 1e-10
    np.testing.assert_allclose(loop.result().u, expected.u, rtol=tolerance, atol=tolerance)


def told(method, n_steps, n=9):
    target = problem()
    state = method.init(target.prior.sample(n, rng=0), target)
    rng = np.random.default_rng(0)
    for _ in range(n_steps):
        state, info = method.tell(state, target.model(method.ask(state)), target, rng=rng)
    return target, state, info


def test_the_spread_told_is_that_of_the_members_with_momentum():
    method = ek.Nesterov(PLAIN)
    target, state, _ = told(method, 5)
    _, info = method.tell(state, target.model(state.ensemble), target, rng=None)
    start = target.prior.sample(9, rng=0)
    spread = math.sqrt(state.ensemble.var(0).sum() / start.var(0).sum())
    assert info.spread == pytest.approx(spread)


def test_a_dropped_member_takes_its_momentum_along_and_the_others_keep_theirs():
    method = ek.Nesterov(PLAIN)
    _, state, _ = told(method, 5)
    kept = method.select(state, np.array([0, 2, 8]))
    np.testing.assert_array_equal(kept.momentum, state.momentum[[0, 2, 8]])
    assert kept.inner.ensemble is None


def test_a_member_that_replaces_a_failed_one_has_the_momentum_of_those_it_combines():
    method = ek.Nesterov(PLAIN)
    _, state, _ = told(method, 5)
    # of momenta that are linear in the members, combinations must be so too
    slope = np.random.default_rng(1).normal(size=(4, 4))
    state = state._replace(momentum=state.ensemble @ slope)
    survivors = np.array([1, 2, 3, 5, 6, 7, 8])
    left = method.select(state, survivors)
    whole = replaced(method, left, survivors, 9, np.random.default_rng(0))
    np.testing.assert_array_equal(whole.ensemble[survivors], state.ensemble[survivors])
    np.testing.assert_array_equal(whole.momentum[survivors], state.momentum[survivors])
    np.testing.assert_allclose(whole.momentum, whole.ensemble @ slope, rtol=1e-9, atol=1e-12)
    for row in (0, 4):
        assert not np.any(np.all(whole.ensemble[row] == left.ensemble, axis=1))
    assert whole.inner.variance == pytest.approx(whole.ensemble.var(0, ddof=1).sum())


@pytest.mark.parametrize("on_failure", ["drop", "resample"])
def test_a_run_with_failures_comes_to_the_same_fit(on_failure):
    target = problem()

    def flaky(u):
        return target.model(u) if abs(u[0]) < 1.5 else np.full(6, np.nan)

    failing = ek.InverseProblem(ek.FunctionModel(flaky), target.prior, 0.1, target.data)
    method = ek.Nesterov(ek.EKI(ek.NormStep(1.0), t_end=None, perturbed=False))
    result = ek.run(failing, method, n_members=30, n_steps=60, rng=0, on_failure=on_failure)
    assert len(json.loads(result.attrs["failures"])) > 0
    solution = np.linalg.lstsq(target.model.matrix, target.data, rcond=None)[0]
    np.testing.assert_allclose(result.u[-1].mean("member"), solution, atol=1e-3)


def test_a_momentum_that_overflows_ends_the_run_with_the_last_good_ensemble():
    method = ek.Nesterov(PLAIN)
    target, state, _ = told(method, 5)
    wild = state._replace(momentum=np.full_like(state.momentum, 1e200) * np.arange(9.0)[:, None])
    with np.errstate(over="ignore"):
        same, info = method.tell(wild, target.model(state.ensemble), target, rng=None)
    assert same is wild
    assert (info.status.code, info.step) == ("diverged", 0.0)
    assert "momentum of step 5 overflowed" in info.status.sentence


def test_a_step_within_that_overflows_ends_it_too():
    target, state, _ = told(ek.Nesterov(PLAIN), 2)
    method = ek.Nesterov(ek.EKI(ek.FixedStep(1e300), t_end=None))
    huge = state._replace(ensemble=state.ensemble * 1e160)
    with np.errstate(all="ignore"):
        same, info = method.tell(
            huge, target.model(state.ensemble), target, rng=np.random.default_rng(0)
        )
    assert same is huge
    assert info.status.code == "diverged"


def test_with_momentum_nobody_claims_the_posterior():
    result = ek.run(problem(), ek.Nesterov(ek.EKI()), n_members=30, rng=0)
    assert result.attrs["status_code"] == "method_finished"
    assert "not a sample of the posterior" in result.attrs["status"]
    stopped = ek.Nesterov(ek.EKI(ek.FixedStep(0.3), t_end=2.0))
    assert ek.run(problem(), stopped, n_members=9, rng=0).attrs["status_code"] == "t_end_reached"


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (ek.TemperedSMC(), "method: must move its members, got the sampler TemperedSMC"),
        (ek.EKI, "method: must be a method such as"),
        (3, "method: must be a method such as"),
    ],
)
def test_what_has_no_step_is_refused(method, message):
    with pytest.raises(TypeError, match=message):
        ek.Nesterov(method)
