"""Emulated samples beside exact posteriors, and what a sample that is not confirmed says."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from scipy import stats

import ekitools as ek

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

TIMES = np.linspace(0.2, 3.0, 8)
DATA = 1.2 * np.exp(-0.7 * TIMES) + 0.1 * np.random.default_rng(5).standard_normal(8)
PRIOR = {"a": stats.lognorm(0.5), "k": stats.lognorm(0.5)}


class Counted:
    """The model of two parameters, which counts its runs."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, u: np.ndarray) -> np.ndarray:
        self.runs += len(u)
        return u[:, :1] * np.exp(-u[:, 1:2] * TIMES)


def problem_of(noise: Any = 0.1**2, model: Any = None) -> ek.InverseProblem:
    model = ek.FunctionModel(model or Counted(), vectorized=True)
    return ek.InverseProblem(model, ek.Prior(PRIOR), noise, DATA)


def exact(sigma: Any = None) -> tuple[np.ndarray, np.ndarray, float]:
    """Means, standard deviations and log-evidence by quadrature over a, k and perhaps σ."""
    a, k = np.linspace(0.6, 2.2, 161), np.linspace(0.2, 1.8, 161)
    s = np.array([0.1]) if sigma is None else np.exp(np.linspace(-4.0, 0.0, 121))
    grid = np.stack(np.meshgrid(a, k, s, indexing="ij"), axis=-1).reshape(-1, 3)
    square = np.sum((Counted()(grid) - DATA) ** 2, axis=1)
    log = -0.5 * square / grid[:, 2] ** 2
    log += sum(p.logpdf(grid[:, i]) for i, p in enumerate(PRIOR.values()))
    cell = (a[1] - a[0]) * (k[1] - k[0])
    if sigma is not None:
        log += (1 - 8) * np.log(grid[:, 2]) + sigma.logpdf(grid[:, 2])
        cell *= np.log(s[1] / s[0])
    else:
        grid = grid[:, :2]
    top = log.max()
    weight = np.exp(log - top)
    evidence = top + np.log(weight.sum() * cell)
    weight /= weight.sum()
    mean = weight @ grid
    return mean, np.sqrt(weight @ (grid - mean) ** 2), float(evidence)


def moments(sample: Any) -> tuple[np.ndarray, np.ndarray]:
    u, w = sample.u[-1].values, sample.weight[-1].values
    mean = w @ u
    return mean, np.sqrt(w @ (u - mean) ** 2)


@pytest.fixture(scope="module")
def sampled() -> Any:
    model = Counted()
    problem = problem_of(model=model)
    result = ek.run(problem, ek.EKI(), n_members=40, rng=0)
    before = model.runs
    sample = ek.sample_emulated(ek.emulate(result, problem), n_draws=200, rng=0)
    return problem, result, sample, model.runs - before


def test_the_posterior_is_that_of_quadrature(sampled: Any) -> None:
    sample = sampled[2]
    mean, sd, evidence = exact()
    found, spread = moments(sample)
    assert sample.attrs["status_code"] == "posterior_reached"
    # 1,000 particles behind the draws; half of them effective: an error of 0.045 sd
    assert np.max(np.abs(found - mean) / sd) < 4 * 0.045
    assert np.max(np.abs(spread / sd - 1)) < 4 * 0.045
    assert sample.attrs["log_evidence"] == pytest.approx(evidence, abs=0.15)


def test_true_runs_are_counted_and_stored(sampled: Any) -> None:
    problem, _, sample, runs = sampled
    assert sample.attrs["model_runs"] == runs == sample.history_model_runs[-1]
    assert 0.9 * 250 < runs <= 250  # copies of one particle share a run
    u, g = sample.u[-1].values, sample.g[-1].values
    np.testing.assert_allclose(problem.model(u), g)
    assert sample.iteration.values.tolist() == [1, 2]
    assert np.isfinite(sample.u[0].values).all(axis=1).sum() == 50


def test_readers_take_the_sample(sampled: Any) -> None:
    problem, _, sample, _ = sampled
    draws = ek.posterior(sample)
    assert draws.attrs["posterior"] == 1
    assert draws.sizes["draw"] == 200
    assert ek.predict(sample).shape == (200, 8)
    assert "True runs confirm the sample" in str(ek.summary(sample))
    assert ek.to_arviz(sample, problem=problem).posterior.sizes["draw"] == 200
    assert ek.intervals(sample).index.tolist() == ["a", "k"]


def test_the_same_seed_gives_the_same_sample_with_any_executor(sampled: Any) -> None:
    problem, result, sample, _ = sampled
    with ThreadPoolExecutor(2) as executor:
        emulator = ek.emulate(result, problem)
        again = ek.sample_emulated(emulator, n_draws=200, rng=0, executor=executor)
    np.testing.assert_array_equal(again.u.values, sample.u.values)
    np.testing.assert_array_equal(again.weight.values, sample.weight.values)


@pytest.mark.slow
def test_an_unknown_noise_level_is_sampled_too() -> None:
    sigma = stats.lognorm(1.0, scale=0.1)
    problem = problem_of(ek.UnknownNoise(sigma))
    result = ek.run(problem, ek.GNKI(), n_members=60, rng=0)
    sample = ek.sample_emulated(ek.emulate(result, problem), n_draws=300, rng=0)
    mean, sd, evidence = exact(sigma)
    found, spread = moments(sample)
    assert sample.attrs["posterior"] == 1
    assert np.max(np.abs(found - mean) / sd) < 4 * 0.04
    assert np.max(np.abs(spread / sd - 1)) < 4 * 0.06  # the scale has a heavy tail
    assert sample.attrs["log_evidence"] == pytest.approx(evidence, abs=0.2)


class Shifted:
    """A regressor that is wrong, and sure of what it predicts."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> Any:
        self.mean, self.sd = y.mean(), y.std()
        return self

    def predict(self, x: np.ndarray, return_std: bool = False) -> Any:
        mean = self.mean + self.sd * x[:, 0] / 3
        return (mean, np.full(len(x), 0.01)) if return_std else mean


def test_a_wrong_emulator_is_never_confirmed(sampled: Any) -> None:
    problem, result, _, _ = sampled
    emulator = ek.emulate(result, problem, Shifted())
    sample = ek.sample_emulated(emulator, n_draws=100, max_runs=150, rng=0)
    assert sample.attrs["posterior"] == 0
    assert sample.attrs["status_code"] == "not_confirmed"
    assert "use another regressor" in sample.attrs["status"]
    assert sample.attrs["model_runs"] <= 150


def test_a_sample_that_ended_early_is_gone_on_with(sampled: Any) -> None:
    problem, result, sample, _ = sampled
    both = ek.emulate([result, sample], problem)
    assert both.n_runs == ek.emulate(result, problem).n_runs + sample.attrs["model_runs"]


def test_failed_runs_have_no_weight() -> None:
    def failing(u: np.ndarray) -> np.ndarray:
        if u[1] > 0.75:
            raise RuntimeError("too fast")
        return Counted()(u[None])[0]

    problem = ek.InverseProblem(ek.FunctionModel(failing), ek.Prior(PRIOR), 0.1**2, DATA)
    result = ek.run(problem_of(), ek.EKI(), n_members=40, rng=0)
    sample = ek.sample_emulated(ek.emulate(result, problem), n_draws=100, max_runs=150, rng=0)
    last = sample.isel(iteration=-1)
    assert last.failed.any()
    assert (last.weight.values[last.failed.values] == 0).all()
    assert (ek.posterior(sample).k <= 0.75).all()
    always = ek.InverseProblem(ek.FunctionModel(lambda u: 1 / 0), ek.Prior(PRIOR), 0.1**2, DATA)
    with pytest.raises(ek.RunError, match=r"got 50 failures in 50 runs"):
        ek.sample_emulated(ek.emulate(result, always), n_draws=100, max_runs=150, rng=0)


def test_an_interrupt_returns_the_rounds_so_far() -> None:
    calls = []

    def stopping(u: np.ndarray) -> np.ndarray:
        calls.append(len(u))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return Counted()(u)

    result = ek.run(problem_of(), ek.EKI(), n_members=40, rng=0)
    emulator = ek.emulate(result, problem_of(model=stopping))
    sample = ek.sample_emulated(emulator, n_draws=100, rng=0)
    assert sample.attrs["status_code"] == "interrupted"
    assert sample.attrs["model_runs"] <= 50


def test_a_stochastic_model_is_weighted_by_its_own_noise() -> None:
    def noisy(u: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.array([u[0], u[0] + u[1]]) + 0.1 * rng.standard_normal(2)

    model = ek.FunctionModel(noisy, stochastic=True)
    prior = ek.GaussianPrior([0.0, 0.0], 1.0)
    problem = ek.InverseProblem(model, prior, 0.2**2, [0.5, 0.2])
    result = ek.run(problem, ek.EKI(), n_members=60, rng=0)
    sample = ek.sample_emulated(ek.emulate(result, problem), n_draws=400, rng=0)
    A, cov = np.array([[1.0, 0.0], [1.0, 1.0]]), (0.2**2 + 0.1**2) * np.eye(2)
    exact_cov = np.linalg.inv(np.eye(2) + A.T @ np.linalg.solve(cov, A))
    mean = exact_cov @ A.T @ np.linalg.solve(cov, [0.5, 0.2])
    found, spread = moments(sample)
    sd = np.sqrt(np.diag(exact_cov))
    error = 1 / np.sqrt(200)  # of 200 effective draws
    assert np.max(np.abs(found - mean) / sd) < 4 * error
    assert np.max(np.abs(spread / sd - 1)) < 4 * error


def test_what_is_no_emulator_is_refused(sampled: Any) -> None:
    problem, result, _, _ = sampled
    with pytest.raises(TypeError, match=r"^emulator: must be a result of ek\.emulate"):
        ek.sample_emulated(result)
    with pytest.raises(ValueError, match=r"^max_runs: must be .*at least 250"):
        ek.sample_emulated(ek.emulate(result, problem), n_draws=200, max_runs=200)
