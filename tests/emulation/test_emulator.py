"""Emulators: likelihood, held-out errors, runs that count, and what is refused."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from scipy import stats

import ekitools as ek
from ekitools.emulation.components import negative_log_likelihood, principal_components
from ekitools.emulation.emulator import Emulator
from ekitools.emulation.runs import near_posterior

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

TIMES = np.linspace(0.2, 3.0, 8)


def decay(u: np.ndarray) -> np.ndarray:
    return u[:, :1] * np.exp(-u[:, 1:2] * TIMES)


def problem_of(noise: Any = 0.02**2, model: Any = decay) -> ek.InverseProblem:
    data = decay(np.array([[1.2, 0.7]]))[0] + 0.02 * np.random.default_rng(5).standard_normal(8)
    prior = ek.Prior({"a": stats.lognorm(0.5), "k": stats.lognorm(0.5)})
    return ek.InverseProblem(ek.FunctionModel(model, vectorized=True), prior, noise, data)


@pytest.fixture(scope="module")
def result() -> Any:
    return ek.run(problem_of(), ek.EKI(), n_members=40, rng=0)


@pytest.fixture(scope="module")
def emulator(result: Any) -> Emulator:
    return ek.emulate(result, problem_of())


class Cubic:
    """A polynomial of degree three by least squares, with the scatter about it."""

    def features(self, x: np.ndarray) -> np.ndarray:
        a, b = np.atleast_2d(x).T
        return np.stack([a**i * b**j for i in range(4) for j in range(4 - i)], axis=1)

    def fit(self, x: np.ndarray, y: np.ndarray) -> Cubic:
        self.coefficients = np.linalg.lstsq(self.features(x), y, rcond=None)[0]
        self.sd = np.std(y - self.features(x) @ self.coefficients)
        return self

    def predict(self, x: np.ndarray, return_std: bool = False) -> Any:
        mean = self.features(x) @ self.coefficients
        return (mean, np.full(len(x), self.sd)) if return_std else mean


def test_the_likelihood_is_that_of_the_gaussian_of_all_data() -> None:
    rng = np.random.default_rng(0)
    groups = np.array([0, 0, 1, 1, 1, -1, -1])
    r = rng.standard_normal((30, 3)) @ rng.standard_normal((3, 7)) + rng.standard_normal(7)
    parts = principal_components(r, groups, 2)
    k = len(parts.basis)
    mean, sd = rng.standard_normal((4, k)), rng.random((4, k))
    precision = np.concatenate([rng.random((4, 2)) + 0.5, np.ones((4, 1))], axis=1)
    found = negative_log_likelihood(parts, mean, sd, precision)
    for i in range(4):
        noise = np.diag(1 / precision[i][groups])
        cov = noise + parts.basis.T @ np.diag(sd[i] ** 2) @ parts.basis
        gap = -(parts.centre + mean[i] @ parts.basis)
        expected = 0.5 * gap @ np.linalg.solve(cov, gap)
        expected += 0.5 * (np.linalg.slogdet(cov)[1] - np.linalg.slogdet(noise)[1])
        assert found[i] == pytest.approx(expected)


def test_known_noise_has_a_term_for_each_component() -> None:
    rng = np.random.default_rng(1)
    r = rng.standard_normal((30, 2)) @ rng.standard_normal((2, 5)) + 1
    parts = principal_components(r, np.full(5, -1), 0)
    mean, sd = rng.standard_normal((6, 2)), rng.random((6, 2))
    found = negative_log_likelihood(parts, mean, sd, np.ones((6, 1)))
    z = -parts.basis @ parts.centre
    terms = 0.5 * ((z - mean) ** 2 / (1 + sd**2) + np.log(1 + sd**2))
    rest = found - terms.sum(axis=1)
    np.testing.assert_allclose(rest, rest[0])


def test_components_keep_the_variance_and_leave_less_than_the_noise() -> None:
    sizes = np.array([100.0, 30.0, 10.0, 1.0, 0.2, 0.01])
    r = np.random.default_rng(2).standard_normal((2000, 6)) * sizes
    parts = principal_components(r, np.full(6, -1), 0)
    assert len(parts.basis) == 4  # 10 000 + 900 + 100 + 1; the rest is 0.2
    assert parts.rest == pytest.approx(0.2, abs=0.02)


def test_wild_outputs_keep_their_direction_and_the_logarithm_of_their_size() -> None:
    r = np.array([[3.0, 4.0], [3e6, 4e6], [-1.0, 0.0], [0.0, 2.0]])
    parts = principal_components(
        np.random.default_rng(3).standard_normal((9, 2)), np.zeros(2) - 1, 0
    )
    data = -parts.basis @ parts.centre
    found = parts.bounded_scores(r, 5.0) - data
    lengths = np.linalg.norm(found, axis=1)
    np.testing.assert_allclose(lengths, [5, 5 * (1 + np.log(1e6)), 1, 2])
    np.testing.assert_allclose(found[1] / lengths[1], found[0] / 5)


def test_runs_near_and_far_are_chosen() -> None:
    misfit = np.concatenate([np.full(900, 1.0), np.full(300, 1e4), np.full(50, 2.0)])
    chosen = near_posterior(misfit, 300, 3, 50, np.random.default_rng(0))
    assert len(chosen.rows) == 300
    assert (~chosen.near).sum() == 100
    assert np.isin(np.arange(1200, 1250), chosen.rows).all()  # the fresh ones
    assert chosen.weight[~chosen.near].max() < 1e-3 * chosen.weight.max()


def test_outputs_are_predicted_within_their_deviations(emulator: Emulator) -> None:
    near = emulator.region.unwhiten(np.random.default_rng(7).standard_normal((200, 2)))
    u = emulator.problem.prior.to_physical(emulator.problem.prior.unwhiten(near))
    mean, sd = emulator.predict(u)
    error = np.abs(mean - decay(u))
    assert error.max() < 0.1 * 0.02  # of the noise
    assert np.mean(error > 3 * np.hypot(sd, 0.05 * 0.02)) < 0.05
    assert emulator.trusted


def test_the_deviation_returns_to_the_spread_far_from_all_runs(emulator: Emulator) -> None:
    _, sd = emulator.components_at(emulator.region.unwhiten(np.full((1, 2), 1e4)))
    assert emulator.unknown(sd, 0.5).all()


def test_equal_runs_count_once(result: Any, emulator: Emulator) -> None:
    twice = ek.emulate([result, result], problem_of())
    assert twice.n_runs == emulator.n_runs
    np.testing.assert_array_equal(twice.z_scores, emulator.z_scores)


def test_runs_of_all_iterations_count(result: Any, emulator: Emulator) -> None:
    assert emulator.n_runs == 40 * result.sizes["iteration"]


def test_parameters_and_data_in_another_order_are_put_in_order(
    result: Any, emulator: Emulator
) -> None:
    turned = result.isel(parameter=[1, 0], data=slice(None, None, -1))
    np.testing.assert_array_equal(ek.emulate(turned, problem_of()).z_scores, emulator.z_scores)


def test_a_regressor_of_the_user_is_copied_for_every_component(result: Any) -> None:
    mine = Cubic()
    emulator = ek.emulate(result, problem_of(), mine)
    assert not vars(mine)
    assert emulator.n_components > 1
    mean, _ = emulator.predict(np.array([1.2, 0.7]))
    np.testing.assert_allclose(mean, decay(np.array([[1.2, 0.7]])), atol=0.02)


def test_a_regressor_that_is_too_sure_is_not_trusted(result: Any) -> None:
    class TooSure(Cubic):
        def predict(self, x: np.ndarray, return_std: bool = False) -> Any:
            mean = np.zeros(len(x))
            return (mean, np.full(len(x), 1e-6)) if return_std else mean

    emulator = ek.emulate(result, problem_of(), TooSure())
    assert not emulator.trusted
    assert emulator.inflation.min() > 1
    with pytest.raises(ValueError, match=r"^emulator: must have .*\.sample_emulated\(emulator\)"):
        emulator.as_problem()


def test_a_stochastic_model_has_noise_in_its_emulator() -> None:
    def noisy(u: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.array([u[0], u[0] + u[1]]) + 0.3 * rng.standard_normal(2)

    model = ek.FunctionModel(noisy, stochastic=True)
    problem = ek.InverseProblem(model, ek.GaussianPrior([0.0, 0.0], 1.0), 0.01, [0.5, 0.2])
    result = ek.run(problem, ek.EKI(), n_members=50, rng=0)
    emulator = ek.emulate(result, problem)
    _, sd = emulator.components_at(emulator.region.mean[None])
    np.testing.assert_allclose(sd, 3.0, rtol=0.3)  # of the noise, whose deviation is 0.1
    assert emulator.trusted


def test_the_problem_of_the_emulator_has_the_posterior_of_the_model(emulator: Emulator) -> None:
    sampler = ek.TemperedSMC(start=emulator.start)
    cheap = ek.run(emulator.as_problem(), sampler, n_members=1000, rng=0, store="last")
    true = ek.run(problem_of(), sampler, n_members=1000, rng=1, store="last")
    sd = true.u[-1].std("member").values
    for moment in (lambda u: u.mean("member"), lambda u: u.std("member")):
        difference = np.abs(moment(cheap.u[-1]) - moment(true.u[-1])).values
        assert (difference < 5 * sd * np.sqrt(2 / 500)).all()  # 5 errors of 500 effective members


def test_what_is_no_emulation_problem_is_refused(result: Any) -> None:
    with pytest.raises(TypeError, match=r"^noise: must be Gaussian for ek\.emulate.*Huber"):
        ek.emulate(result, problem_of(ek.Huber(1.0)))
    few = ek.run(problem_of(), ek.EKI(), n_members=5, n_steps=1, rng=0)
    with pytest.raises(ValueError, match=r"^results: must have at least .* = 14 different runs"):
        ek.emulate(few, problem_of())
    with pytest.raises(ValueError, match=r"^results: must be of the data of the problem"):
        ek.emulate(result.assign(y=result.y + 1), problem_of())
    with pytest.raises(ValueError, match=r"^results: must have evaluated members"):
        ek.emulate(result.assign(g=result.g * np.nan), problem_of())
    with pytest.raises(TypeError, match=r"^regressor: must have fit\(X, y\)"):
        ek.emulate(result, problem_of(), Cubic)  # type: ignore[arg-type]


def test_what_a_regressor_returns_is_checked(result: Any) -> None:
    class MeanAlone(Cubic):
        def predict(self, x: np.ndarray, return_std: bool = False) -> Any:
            return super().predict(x)

    class OneNumber(Cubic):
        def predict(self, x: np.ndarray, return_std: bool = False) -> Any:
            return 0.0, 1.0

    with pytest.raises(TypeError, match=r"^regressor: must return \(mean, standard deviation\)"):
        ek.emulate(result, problem_of(), MeanAlone())
    with pytest.raises(ValueError, match=r"^regressor: must predict \d+ means"):
        ek.emulate(result, problem_of(), OneNumber())


def test_without_scikit_learn_a_regressor_is_asked_for(
    result: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.gaussian_process", None)
    with pytest.raises(ImportError, match=r'"ekitools\[sklearn\]", or pass regressor='):
        ek.emulate(result, problem_of())
    assert ek.emulate(result, problem_of(), Cubic()).n_components > 0
