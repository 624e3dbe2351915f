"""Members resampled from a check, against a posterior by quadrature."""

import numpy as np

import ekitools as ek
from ekitools.results.importance import Draws
from ekitools.solving.resampling import resampled


def problem_of(noise=0.6):
    model = ek.FunctionModel(np.exp, vectorized=True)
    return ek.InverseProblem(model, ek.GaussianPrior([0.0], 1.0), noise**2, [1.0])


def exact_draws(problem, n, rng, proposal_sd=1.0):
    """Draws of a wide Gaussian with their exact weights."""
    x = proposal_sd * rng.standard_normal((n, 1))
    g = np.exp(x)
    log_weight = -problem.noise.misfit(g, problem.data) - 0.5 * x[:, 0] ** 2 * (
        1 - 1 / proposal_sd**2
    )
    weight = np.exp(log_weight - log_weight.max())
    nothing = np.zeros(n)
    return Draws(x, nothing, weight / weight.sum(), g, nothing, 0.0, n, 0, "")


def test_members_become_a_sample_of_the_posterior():
    """An ensemble that is 0.4 sd off: means and quantiles by quadrature, four standard errors."""
    problem, rng = problem_of(), np.random.default_rng(0)
    result = ek.run(problem, ek.EKI(), n_members=300, rng=0)
    result.u.values[-1] += 0.2
    drawn = exact_draws(problem, 2000, rng)
    found = resampled(result, drawn, problem, rng)
    assert found.sizes == result.sizes
    grid = np.linspace(-6, 4, 200_001)
    density = np.exp(-problem.noise.misfit(np.exp(grid)[:, None], problem.data) - grid**2 / 2)
    density /= density.sum()
    mean, u = density @ grid, found.u.values[-1, :, 0]
    sd = np.sqrt(density @ (grid - mean) ** 2)
    assert abs(u.mean() - mean) < 4 * sd / np.sqrt(300)
    assert abs(result.u.values[-1].mean() - mean) > 4 * sd / np.sqrt(300)
    for level in (0.05, 0.5, 0.95):
        quantile = np.interp(level, np.cumsum(density), grid)
        assert abs((u < quantile).mean() - level) < 4 * np.sqrt(level * (1 - level) / 300)


def test_outputs_and_misfits_are_those_of_the_members():
    problem, rng = problem_of(), np.random.default_rng(0)
    result = ek.run(problem, ek.EKI(), n_members=50, rng=0)
    before = result.copy(deep=True)
    found = resampled(result, exact_draws(problem, 500, rng), problem, rng)
    assert result.identical(before)
    last = found.isel(iteration=-1)
    np.testing.assert_allclose(last.g, np.exp(last.u.values))
    np.testing.assert_allclose(last.misfit, problem.noise.misfit(last.g.values, problem.data))
    assert not last.failed.any()
    assert "posterior_shift" in result
    assert "posterior_shift" not in found
    assert found.u[:-1].equals(result.u[:-1])


def test_too_few_effective_draws_change_nothing():
    problem, rng = problem_of(0.05), np.random.default_rng(0)
    result = ek.run(problem, ek.EKI(), n_members=200, rng=0)
    drawn = exact_draws(problem, 500, rng, proposal_sd=2.0)
    assert drawn.ess < 100
    assert resampled(result, drawn, problem, rng) is result


def test_solve_removes_the_bias_of_a_confirmed_ensemble():
    """GNKI on a posterior that is slightly skewed."""
    result = ek.solve(problem_of(0.15), rng=0)
    assert result.attrs["verdict"] == "confirmed"
    assert "resampled" in result.attrs["path"]
    u = ek.posterior(result).u0.values
    error = abs(u.mean() - float(result.checked_mean[0])) / float(result.checked_sd[0])
    assert error < 4 / np.sqrt(len(u))
