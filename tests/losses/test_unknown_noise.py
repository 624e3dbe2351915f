"""Unknown scales of the noise, beside quadrature over the scales of exact Gaussian posteriors."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

import ekitools as ek

PRIOR = stats.lognorm(1.0, scale=np.exp(-1.0))
X = np.stack([np.ones(16), np.linspace(-1, 1, 16)], axis=1)
Y = X @ [1.0, -0.5] + 0.4 * np.random.default_rng(3).standard_normal(16)
SPECIES = np.tile(["a", "b"], 8)
TWO = X @ [1.0, -0.5] + np.where(SPECIES == "a", 0.2, 0.8) * np.random.default_rng(4).normal(
    size=16
)
METHODS = [ek.GNKI(), ek.EKI(), ek.TemperedSMC()]


def regression(noise: Any = None, data: Any = Y, **options: Any) -> ek.InverseProblem:
    noise = ek.UnknownNoise(PRIOR) if noise is None else noise
    return ek.InverseProblem(
        ek.LinearModel(X), ek.GaussianPrior([0.0, 0.0], 4.0), noise, data, **options
    )


def by_quadrature(
    data: np.ndarray, groups: np.ndarray, known: float | None = None, n: int = 400
) -> tuple[np.ndarray, np.ndarray, float]:
    """Means and standard deviations of β and the scales, and log E exp(-Φ) without 2π."""
    n_scales = int(groups.max()) + 1
    axis = np.linspace(-3.5, 2.5, n if n_scales == 1 else 80)
    rows = []
    for log_s in product(axis, repeat=n_scales):
        s = np.append(np.exp(log_s), known or 1.0)
        variance = s[groups] ** 2
        cov = 4 * X @ X.T + np.diag(variance)
        log_weight = -0.5 * (np.linalg.slogdet(cov)[1] + data @ np.linalg.solve(cov, data))
        log_weight += np.sum(PRIOR.logpdf(s[:n_scales]) + log_s) + n_scales * np.log(
            axis[1] - axis[0]
        )
        gain = 4 * X.T @ np.linalg.inv(cov)
        mean, second = gain @ data, np.diag(4 * np.eye(2) - 4 * gain @ X)
        rows.append((log_weight, *mean, *s[:n_scales], *second, *np.zeros(n_scales)))
    table = np.array(rows)
    total = logsumexp(table[:, 0])
    weight = np.exp(table[:, 0] - total)
    values, variances = np.split(table[:, 1:], 2, axis=1)
    mean = weight @ values
    return mean, np.sqrt(weight @ ((values - mean) ** 2 + variances)), float(total)


ONE = by_quadrature(Y, np.zeros(16, dtype=int))
BOTH = by_quadrature(TWO, (SPECIES == "b").astype(int))


def scores(problem: Any, method: Any, exact: Any, seeds: range, n: int) -> np.ndarray:
    """Errors of means and standard deviations in their Monte-Carlo errors of one run of n."""
    mean, sd, _ = exact
    rows = []
    for seed in seeds:
        result = ek.run(problem, method, n_members=n, rng=seed, store="last")
        u = result.u[-1].values
        w = result.weight[-1].values if "weight" in result else np.full(n, 1 / n)
        found = w @ u
        spread = np.sqrt(w @ (u - found) ** 2 / (1 - w @ w))
        rows.append([np.sqrt(n) * (found - mean) / sd, np.sqrt(n) * (spread / sd - 1)])
    return np.array(rows)


def check_within(errors: np.ndarray) -> None:
    """Check that the mean over the seeds is zero within four of its own standard errors.

    The error of one run is that of n independent draws, or up to 1.3 times that: the particles of
    a sampler are not independent, and a skew density has a less certain standard deviation.
    """
    average = np.sqrt(len(errors)) * errors.mean(axis=0) / 1.3
    assert np.abs(average).max() < 4, average


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize(
    ("seeds", "n"), [(5, 400), pytest.param(30, 400, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_a_linear_regression_has_its_exact_posterior(method: Any, seeds: int, n: int) -> None:
    check_within(scores(regression(), method, ONE, range(seeds), n))


@pytest.mark.parametrize("method", METHODS[:2], ids=lambda m: type(m).__name__)
def test_two_scales_have_their_exact_posterior(method: Any) -> None:
    problem = regression(ek.UnknownNoise(PRIOR, blocks=SPECIES), TWO)
    assert problem.parameter_names == ("u0", "u1", "sigma_a", "sigma_b")
    check_within(scores(problem, method, BOTH, range(5), 200))


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_two_scales_over_thirty_seeds(method: Any) -> None:
    problem = regression(ek.UnknownNoise(PRIOR, blocks=SPECIES), TWO)
    check_within(scores(problem, method, BOTH, range(30), 400))


def test_one_block_may_have_a_known_noise() -> None:
    data = {"a": TWO[SPECIES == "a"], "b": TWO[SPECIES == "b"]}

    def model(u: np.ndarray) -> dict[str, np.ndarray]:
        return {name: X[name == SPECIES] @ u for name in data}

    noise = ek.UnknownNoise(PRIOR, {"a": 1.0, "b": 0.64}, blocks=["a"])
    prior = ek.GaussianPrior([0.0, 0.0], 4.0)
    problem = ek.InverseProblem(model, prior, noise, data)
    assert problem.parameter_names == ("u0", "u1", "sigma_a")
    exact = by_quadrature(TWO, np.where(SPECIES == "a", 0, -1), known=0.8)
    check_within(scores(problem, ek.GNKI(), exact, range(5), 300))
    same = ek.UnknownNoise({"a": PRIOR}, {"a": 1.0, "b": 0.64})
    assert ek.InverseProblem(model, prior, same, data).fingerprint() == problem.fingerprint()


def test_the_evidence_is_that_of_quadrature() -> None:
    found = [
        ek.run(regression(), ek.TemperedSMC(), n_members=500, rng=seed, store="last")
        for seed in range(5)
    ]
    log_evidence = np.array([result.attrs["log_evidence"] for result in found])
    error = log_evidence.std(ddof=1) / np.sqrt(5)
    assert abs(log_evidence.mean() - ONE[2]) < 4 * error < 0.6


def test_inverse_gamma_of_the_variance_is_the_same_as_of_the_scale() -> None:
    variance = ek.UnknownNoise(variance=stats.invgamma(3.0, scale=0.5))
    problem = regression(variance)
    s = problem.prior.sample(4000, rng=0)[:, 2]
    assert stats.kstest(s**2, stats.invgamma(3.0, scale=0.5).cdf).pvalue > 0.01
    at = np.array([[0.1, 0.2, 0.4]])
    expected = stats.invgamma(3.0, scale=0.5).logpdf(0.16) + np.log(0.8)
    expected += stats.norm(0, 2).logpdf([0.1, 0.2]).sum()
    np.testing.assert_allclose(problem.prior.logpdf(at), [expected], rtol=1e-12)


def test_the_loss_is_that_of_scales_among_the_outputs() -> None:
    """`lynx_hare(sigma=None)` has the logarithms of the scales among the outputs."""
    example, other = ek.problems.lynx_hare(), ek.problems.lynx_hare(sigma=None).problem
    problem = ek.InverseProblem(
        example.problem.model,
        example.problem.prior,
        ek.UnknownNoise(PRIOR, blocks=example.groups),
        example.problem.data,
    )
    assert problem.parameter_names == other.parameter_names
    u = other.prior.sample(6, rng=0)
    expected = other.noise.misfit(other.model(u), other.data)
    result = ek.run(problem, ek.TemperedSMC(), ensemble=u, n_steps=1)
    log_s = np.log(u[:, 6:]).sum(axis=1) * 21
    np.testing.assert_allclose(result.misfit[0] + log_s, expected, rtol=1e-10)
    np.testing.assert_allclose(problem.prior.logpdf(u), other.prior.logpdf(u), rtol=1e-10)


@pytest.mark.slow
def test_lynx_and_hare_with_both_scales_unknown() -> None:
    example = ek.problems.lynx_hare()
    reference = ek.problems.lynx_hare(sigma=None).reference
    noise = ek.UnknownNoise(PRIOR, blocks=example.groups)
    problem = ek.InverseProblem(
        example.problem.model, example.problem.prior, noise, example.problem.data
    )
    mean, sd = np.array([reference[name] for name in problem.parameter_names]).T
    for seed in range(2):
        result = ek.run(problem, ek.GNKI(), n_members=200, rng=seed, store="last")
        u = result.u[-1]
        assert result.attrs["model_runs"] <= 5200
        assert np.abs((u.mean("member") - mean) / sd).max() < 0.3
        assert np.abs(u.std("member", ddof=1) / sd - 1).max() < 0.25


# ------------------------------------------------------------------------- results and the loop


def test_readers_of_a_result_know_the_scales() -> None:
    shape = np.linspace(0.5, 2.0, 16)
    problem = regression(ek.UnknownNoise(PRIOR, shape**2))
    result = ek.run(problem, ek.GNKI(), n_members=100, rng=0)
    s = result.u[-1].sel(parameter="sigma").values
    scale = float(np.sqrt(np.mean(s**2)))
    np.testing.assert_allclose(result.noise_sd, scale * shape)
    assert result.attrs["unknown_noise"] == f'{{"sigma": {scale!r}}}'
    r = (result.g[-1].values - Y) / (s[:, None] * shape)
    np.testing.assert_allclose(result.misfit[-1], 0.5 * np.sum(r**2, axis=1))
    assert "loss" not in result.attrs
    summary = ek.summary(result, problem)
    assert summary.table.parameter.values.tolist() == ["u0", "u1", "sigma"]
    assert "sigma" in str(summary)
    assert abs(float(ek.diagnose(result).misfit_mean[-1]) - 8) < 2
    runs = [result, ek.run(problem, ek.GNKI(), n_members=100, rng=1)]
    with pytest.warns(UserWarning, match="the noise has unknown scales .* Pass problem="):
        ek.to_arviz(runs)
    both = ek.to_arviz(runs, problem=problem)
    assert both.posterior["sigma"].shape == (2, 100)
    sd = s[:, None] * shape
    expected = stats.norm(result.g[-1].values, sd).logpdf(Y)
    np.testing.assert_allclose(both.log_likelihood.y[0], expected)
    noise = (both.posterior_predictive.y - both.predictions.y).values[0] / sd
    assert abs(noise.std() - 1) < 5 / np.sqrt(2 * noise.size)


def test_a_simulator_is_not_given_the_scales() -> None:
    seen: list[Any] = []

    def model(u: np.ndarray) -> np.ndarray:
        seen.append(u.shape)
        return X @ u

    problem = ek.InverseProblem(model, ek.GaussianPrior([0.0, 0.0], 4.0), ek.UnknownNoise(PRIOR), Y)
    result = ek.run(problem, ek.GNKI(), n_members=20, rng=0)
    assert set(seen) == {(2,)}
    loop = ek.AskTell(problem, ek.GNKI(), n_members=20, rng=0)
    while not loop.done:
        assert loop.ask().shape == (20, 2)
        loop.tell(loop.ask() @ X.T)
    np.testing.assert_allclose(loop.result().u, result.u, rtol=1e-9)
    with ThreadPoolExecutor(2) as pool:
        same = ek.run(problem, ek.GNKI(), n_members=20, rng=0, executor=pool)
    assert result.u.equals(same.u)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_resume_is_bitwise(method: Any, tmp_path: Any) -> None:
    problem = regression(ek.UnknownNoise(PRIOR, blocks=SPECIES), TWO)
    whole = ek.run(problem, method, n_members=30, rng=0)
    last = int(whole.iteration[-1])
    ek.run(problem, method, n_members=30, rng=0, n_steps=last // 2, checkpoint=tmp_path)
    again = ek.resume(tmp_path, problem, n_steps=1000)
    assert again.u.equals(whole.u)
    assert again.attrs["status_code"] == whole.attrs["status_code"]
    other = regression(ek.UnknownNoise(stats.lognorm(0.9), blocks=SPECIES), TWO)
    with pytest.raises(ek.CheckpointError, match="noise|prior"):
        ek.resume(tmp_path, other)


@pytest.mark.parametrize("on_failure", ["drop", "resample"])
@pytest.mark.parametrize("method", METHODS[:2], ids=lambda m: type(m).__name__)
def test_members_may_fail(method: Any, on_failure: str) -> None:
    def model(u: np.ndarray) -> np.ndarray:
        if u[0] > 2.5:
            raise RuntimeError("too far")
        return X @ u

    problem = ek.InverseProblem(model, ek.GaussianPrior([0.0, 0.0], 4.0), ek.UnknownNoise(PRIOR), Y)
    result = ek.run(problem, method, n_members=300, rng=0, on_failure=on_failure)
    u = result.u[-1].dropna("member")
    assert len(u) == (300 if on_failure == "resample" else np.isfinite(result.u[-1, :, 0]).sum())
    assert np.all(np.abs(u.mean("member") - ONE[0]) < 0.35 * ONE[1])
    assert len(np.unique(u.sel(parameter="sigma"))) == len(u)


def test_gaps_in_the_data_have_no_scale() -> None:
    gaps = TWO.copy()
    gaps[[1, 3, 4]] = np.nan
    kept = np.isfinite(gaps)
    with_gaps = regression(ek.UnknownNoise(PRIOR, blocks=SPECIES), gaps)
    without = ek.InverseProblem(
        ek.LinearModel(X[kept]),
        ek.GaussianPrior([0.0, 0.0], 4.0),
        ek.UnknownNoise(PRIOR, blocks=SPECIES[kept]),
        TWO[kept],
    )
    found = [ek.run(p, ek.EKI(), n_members=30, rng=0).u for p in (with_gaps, without)]
    np.testing.assert_array_equal(*found)
    empty = {"a": [1.0, 2.0], "b": [np.nan, np.nan]}
    model = ek.FunctionModel(lambda u: {"a": u[:2], "b": u[:2]})
    prior = ek.GaussianPrior([0.0, 0.0], 1.0)
    problem = ek.InverseProblem(model, prior, ek.UnknownNoise(PRIOR), empty)
    assert problem.parameter_names == ("u0", "u1", "sigma_a")


@pytest.mark.parametrize("method", METHODS[:2], ids=lambda m: type(m).__name__)
def test_data_without_noise_are_fitted(method: Any) -> None:
    problem = regression(ek.UnknownNoise(stats.halfnorm(scale=1.0)), X @ [1.0, -0.5])
    result = ek.run(problem, method, n_members=30, rng=0, store="last")
    np.testing.assert_allclose(result.u[-1, :, :2].mean("member"), [1.0, -0.5], rtol=1e-3)
    assert result.u[-1, :, 2].max() < 1e-3


def test_single_precision_is_kept() -> None:
    problem = regression()
    ensemble = problem.prior.sample(50, rng=0).astype(np.float32)
    for method in METHODS:
        result = ek.run(problem, method, ensemble=ensemble, rng=0)
        assert result.u.dtype == np.float32
        assert abs(float(result.u[-1, :, 2].mean()) - ONE[0][2]) < 0.1


# ------------------------------------------------------------------------------------ the door


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (lambda: ek.UnknownNoise(), TypeError, "prior, variance: must be given"),
        (lambda: ek.UnknownNoise(PRIOR, variance=PRIOR), TypeError, "got both"),
        (lambda: ek.UnknownNoise(0.5), TypeError, "prior: must be a frozen"),
        (lambda: ek.UnknownNoise(variance=stats.norm()), ValueError, "variance: must be positive"),
        (lambda: ek.UnknownNoise({}), ValueError, "prior: must not be empty"),
        (lambda: ek.UnknownNoise({"a": 1}), TypeError, r"prior\['a'\]: must be a frozen"),
        (lambda: regression(ek.UnknownNoise(PRIOR), noise_sd=0.1), TypeError, "both"),
        (lambda: regression(ek.UnknownNoise(PRIOR, -1.0)), ValueError, "shape: variances"),
        (lambda: regression(ek.UnknownNoise(PRIOR, [1.0, 2.0])), ValueError, "shape: must be for"),
        (lambda: regression(ek.UnknownNoise(PRIOR, ek.Huber(1.0))), TypeError, "shape: must be"),
        (lambda: regression(ek.UnknownNoise(PRIOR, blocks=["a"])), ValueError, "blocks: must have"),
        (lambda: regression(ek.UnknownNoise({"c": PRIOR}, blocks=SPECIES)), ValueError, "'c'"),
        (
            lambda: regression(ek.UnknownNoise(PRIOR, np.eye(16) + 0.1, SPECIES)),
            ValueError,
            "shape: must have no covariance",
        ),
        (
            lambda: regression(parameter_names=["slope", "sigma"]),
            ValueError,
            "parameter_names: must not have 'sigma'",
        ),
        (
            lambda: ek.InverseProblem(
                lambda u: {"a": u}, ek.GaussianPrior([0.0], 1.0),
                ek.UnknownNoise(PRIOR, blocks=["b"]), {"a": [1.0]},
            ),
            ValueError,
            "blocks: must be names of blocks",
        ),
        (
            lambda: ek.InverseProblem(
                ek.FunctionModel(lambda u, inputs: u, takes_inputs=True),
                ek.GaussianPrior([0.0], 1.0),
                ek.UnknownNoise(PRIOR),
                ek.MiniBatches(np.zeros((4, 1)), np.zeros(4), size=2),
            ),
            TypeError,
            "UnknownNoise",
        ),
    ],
)  # fmt: skip
def test_mistakes_are_named(make: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        make()


def test_a_mean_over_correlated_data_of_one_scale_is_fine() -> None:
    dense = np.where(SPECIES[:, None] == SPECIES, 0.1, 0.0) + np.eye(16)
    problem = regression(ek.UnknownNoise(PRIOR, dense, SPECIES), TWO)
    assert problem.n_scales == 2


@pytest.mark.parametrize(
    "method",
    [ek.LossEKI(), ek.CurvatureEKI(), ek.Nesterov(ek.EKI(t_end=None)), ek.EKI(t_end=None)],
    ids=lambda m: type(m).__name__,
)
def test_methods_that_cannot_estimate_scales_say_so(method: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"noise: must have known scales.*ek\.GNKI"):
        ek.run(regression(), method, n_members=10)


def test_flows_and_the_discrepancy_say_so_too() -> None:
    with pytest.raises(TypeError, match="noise: must have known scales for a flow"):
        ek.integrate(regression(), ek.EKIFlow(), t_span=(0, 1))
    with pytest.raises(TypeError, match="noise: must have known scales for the discrepancy"):
        ek.run(regression(), ek.GNKI(), stop=ek.Discrepancy())


def test_members_without_spread_are_refused() -> None:
    ensemble = regression().prior.sample(10, rng=0)
    ensemble[:, :2] = 1.0
    with pytest.raises(ValueError, match="ensemble: must have some spread"):
        ek.run(regression(), ek.EKI(), ensemble=ensemble)
