"""Flows against the exact linear solution, against each other, and against discrete EKI."""

import numpy as np
import pytest

import ekitools as ek
from ekitools.exact import linear_flow


def problem(p=3, d=6, seed=0):
    return ek.problems.linear(p=p, d=d, rng=seed).problem


@pytest.mark.parametrize(("n", "p", "d"), [(8, 3, 6), (4, 6, 3)])
def test_the_ensemble_flow_is_the_exact_one_up_to_late_times(n, p, d):
    target = problem(p, d)
    start = target.prior.sample(n, rng=1)
    times = [0.0, 1.0, 100.0, 1e4]
    result = ek.integrate(
        target,
        ek.EKIFlow(),
        t_span=(0, 1e4),
        ensemble=start,
        t_eval=times,
        method="LSODA",
        rtol=1e-11,
        atol=1e-13,
    )
    exact = linear_flow(start, target.model, target.data, target.noise, times)
    np.testing.assert_allclose(result.u, exact, rtol=1e-8, atol=1e-8 * np.abs(exact).max())
    np.testing.assert_array_equal(result.t, times)
    assert result.attrs["status_code"] == "t_end_reached"
    assert result.attrs["covariance_normalisation"] == "1/J"


def test_discrete_eki_goes_to_the_flow_at_first_order():
    target = problem()
    start = target.prior.sample(6, rng=1)
    exact = linear_flow(start, target.model, target.data, target.noise, 1.0 * 6 / 5)[0]
    errors = []
    for h in (0.04, 0.02, 0.01):
        method = ek.EKI(ek.FixedStep(h), perturbed=False)
        result = ek.run(target, method, ensemble=start, rng=0, store="last")
        errors.append(np.linalg.norm(result.u[-1] - exact))  # 1/(J-1) is 1/J in another time
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    np.testing.assert_allclose(orders, 1.0, atol=0.15)


def test_tikhonov_goes_to_the_map_estimate():
    target = problem()
    mean, _ = ek.theory.posterior(target.model, target.data, target.prior, target.noise)
    flow = ek.EKIFlow(tikhonov=True)
    result = ek.integrate(target, flow, t_span=(0, 1e5), n_members=8, rng=0, method="LSODA")
    np.testing.assert_allclose(result.u[-1].mean("member"), mean, atol=1e-3)


def test_nesterov_starts_at_rest_with_its_own_limit():
    """A frozen force makes ü + 3/t u̇ = F, whose solution from rest is u0 + F t²/8."""
    target = problem()
    start = target.prior.sample(6, rng=1)
    t = 1e-3
    result = ek.integrate(target, ek.NesterovFlow(), t_span=(0, t), ensemble=start)
    h = 1e-7
    plain = linear_flow(start, target.model, target.data, target.noise, h)[0]
    force = (plain - start) / h
    np.testing.assert_allclose((result.u[-1] - start) / t**2, force / 8, rtol=1e-2, atol=1e-3)


def test_momentum_is_faster_on_an_ill_conditioned_problem():
    matrix = np.diag(np.geomspace(1, 0.02, 6))
    target = ek.InverseProblem(
        ek.LinearModel(matrix), ek.GaussianPrior(np.zeros(6), 1.0), 1.0, matrix @ np.ones(6)
    )
    options = {"t_span": (0, 60), "n_members": 30, "rng": 0}
    plain, fast = (
        ek.integrate(target, flow, **options) for flow in (ek.EKIFlow(), ek.NesterovFlow())
    )
    assert fast.misfit[-1].mean() < 0.5 * plain.misfit[-1].mean()


@pytest.mark.parametrize("flow", [ek.GradientFlow, ek.NaturalGradientFlow])
def test_gradient_flows_go_to_the_least_squares_solution(flow):
    target = problem()
    solution = np.linalg.lstsq(target.model.matrix, target.data, rcond=None)[0]
    result = ek.integrate(target, flow(), t_span=(0, 100), n_members=3, rng=0, method="LSODA")
    np.testing.assert_allclose(result.u[-1], np.tile(solution, (3, 1)), atol=1e-6)
    jacobian = flow(lambda u: target.model.matrix)
    opaque = ek.InverseProblem(
        ek.FunctionModel(lambda u: target.model(u), vectorized=True),
        target.prior,
        target.noise,
        target.data,
    )
    other = ek.integrate(opaque, jacobian, t_span=(0, 100), n_members=3, rng=0, method="LSODA")
    np.testing.assert_allclose(other.u[-1], result.u[-1], atol=1e-6)
    with pytest.raises(TypeError, match="jacobian: must be given for a model that is not"):
        ek.integrate(opaque, flow(), t_span=(0, 1), n_members=3, rng=0)


def test_natural_gradient_decays_at_the_same_rate_in_all_directions():
    target = problem()
    start = target.prior.sample(3, rng=1)
    result = ek.integrate(
        target, ek.NaturalGradientFlow(), t_span=(0, 1), ensemble=start, rtol=1e-10
    )
    solution = np.linalg.lstsq(target.model.matrix, target.data, rcond=None)[0]
    np.testing.assert_allclose(result.u[-1] - solution, np.exp(-1) * (start - solution), rtol=1e-6)


def test_events_stop_the_flow_at_their_thresholds():
    target = problem()
    options = {"t_span": (0, 1e6), "n_members": 20, "rng": 0, "method": "LSODA"}
    result = ek.integrate(target, ek.EKIFlow(), discrepancy=1.2, **options)
    residual = np.linalg.norm((result.g[-1].mean("member") - result.y) / np.sqrt(0.1))
    assert result.attrs["status_code"] == "discrepancy_reached"
    assert residual == pytest.approx(1.2 * np.sqrt(6), rel=1e-4)
    result = ek.integrate(target, ek.EKIFlow(), collapsed=0.1, **options)
    assert result.attrs["status_code"] == "collapsed"
    assert float(result.history_spread[-1]) == pytest.approx(0.1, rel=1e-4)

    def half(t, x):
        return t - 0.5

    half.terminal = True
    result = ek.integrate(target, ek.EKIFlow(), events=half, **options)
    assert result.attrs["status_code"] == "event"
    assert float(result.t[-1]) == pytest.approx(0.5)


def test_the_subspace_property_of_a_nonlinear_flow():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(7, 20)) / 4
    target = ek.InverseProblem(
        ek.FunctionModel(lambda u: np.tanh(u @ matrix.T), vectorized=True),
        ek.GaussianPrior(np.zeros(20), 1.0),
        0.1,
        np.full(7, 0.3),
    )
    result = ek.integrate(target, ek.EKIFlow(), t_span=(0, 10), n_members=5, rng=0)
    first, last = result.u[0].values, result.u[-1].values
    basis = np.linalg.svd(first - first.mean(0), full_matrices=False)[2][:4]
    move = last - first.mean(0)
    np.testing.assert_allclose(move @ basis.T @ basis, move, atol=1e-8)


def test_results_count_model_runs_and_travel(tmp_path):
    target = problem()
    result = ek.integrate(target, ek.EKIFlow(), t_span=(0, 1), n_members=7, rng=0)
    assert result.attrs["model_runs"] % 7 == 0
    assert result.attrs["model_runs"] > 7 * result.sizes["iteration"]
    result.to_netcdf(tmp_path / "flow.nc")
    assert ek.diagnose(result, target).sizes["iteration"] == result.sizes["iteration"]
