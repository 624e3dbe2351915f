"""`integrate`: its arguments, what it counts, and what is left when a flow does not go well."""

import json
from dataclasses import dataclass

import numpy as np
import pytest

import ekitools as ek
from ekitools.core.options import from_json
from ekitools.typing import Flow, StochasticFlow

STEP = ek.FixedStep(0.01)
FLOWS = [
    (ek.EKIFlow(), {}),
    (ek.EKIFlow(tikhonov=True), {"method": "LSODA"}),
    (ek.NesterovFlow(), {"method": "BDF"}),
    (ek.GradientFlow(), {"method": "DOP853"}),
    (ek.NaturalGradientFlow(), {"method": "Radau"}),
    (ek.StochasticEKIFlow(), {"step": STEP}),
    (ek.EKSFlow(), {"step": STEP}),
]


class Counting:
    """A linear model that counts its runs, and fails from the n-th batch on."""

    vectorized = True
    stochastic = False

    def __init__(self, matrix, fails_from=None):
        self.linear = ek.LinearModel(matrix)
        self.adjoint = self.linear.adjoint
        self.fails_from = fails_from
        self.runs = self.batches = 0

    def __call__(self, u):
        if len(u) == 3:  # the natural gradient asks for the matrix
            return self.linear(u)
        self.runs += len(u)
        self.batches += 1
        if self.fails_from is not None and self.batches >= self.fails_from:
            raise OSError("the cluster is down")
        return self.linear(u)


def problem(fails_from=None):
    plain = ek.problems.linear(p=3, d=6, rng=0).problem
    model = Counting(plain.model.matrix, fails_from)
    return ek.InverseProblem(model, plain.prior, plain.noise, plain.data)


@pytest.mark.parametrize("t_eval", [None, [0.5, 1.0]])
@pytest.mark.parametrize(("flow", "options"), FLOWS)
def test_every_flow_counts_its_runs_and_says_what_it_was(flow, options, t_eval):
    target = problem()
    result = ek.integrate(target, flow, t_span=(0, 1), n_members=5, rng=0, t_eval=t_eval, **options)
    assert result.attrs["model_runs"] == target.model.runs
    assert np.all(np.diff(result.history_model_runs) >= 0)
    assert int(result.history_model_runs[-1]) == target.model.runs
    assert result.attrs["status_code"] == "t_end_reached"
    assert result.attrs["covariance_normalisation"] == "1/J"
    assert from_json(result.attrs["method"]) == flow
    solver = json.loads(result.attrs["solver"])
    assert solver["method"] == options.get(
        "method",
        getattr(flow, "scheme", "Euler-Maruyama") if "step" in options else "RK45",
    )
    np.testing.assert_array_equal(
        result.g, target.model.linear(result.u.values.reshape(-1, 3)).reshape(result.g.shape)
    )
    assert float(result.t[0]) == (0 if t_eval is None else 0.5)
    assert float(result.t[-1]) == 1
    assert isinstance(flow, StochasticFlow if "step" in options else Flow)


def test_accepted_steps_are_not_evaluated_again():
    target = problem()
    result = ek.integrate(target, ek.EKIFlow(), t_span=(0, 1), n_members=5, rng=0)
    solver = json.loads(result.attrs["solver"])
    assert target.model.batches == solver["nfev"]
    target = problem()
    ek.integrate(target, ek.EKIFlow(), t_span=(0, 1), n_members=5, rng=0, discrepancy=1e-3)
    assert target.model.batches == solver["nfev"]
    target = problem()
    result = ek.integrate(target, ek.EKIFlow(), t_span=(0, 1e3), n_members=5, rng=0, collapsed=0.7)
    assert result.attrs["status_code"] == "collapsed"
    assert target.model.batches == json.loads(result.attrs["solver"])["nfev"] + 1


@pytest.mark.parametrize("t_eval", [None, [0.05, 0.1, 1.0]])
@pytest.mark.parametrize(("flow", "options"), FLOWS)
def test_what_was_computed_before_a_failure_is_kept(flow, options, t_eval):
    arguments = {"t_span": (0, 1), "n_members": 5, "rng": 0, "t_eval": t_eval, **options}
    whole = ek.integrate(problem(), flow, **arguments | {"t_eval": None})
    target = problem(whole.attrs["model_runs"] // 10)
    with pytest.raises(ek.RunError, match="model: failed for member 0 during a flow") as info:
        ek.integrate(target, flow, **arguments)
    assert isinstance(info.value.__cause__, OSError)
    part = info.value.result
    assert part.attrs["status_code"] == "failed"
    # the failing batch was halved to find the member, which counts as no run of its own
    assert 0 < target.model.runs - part.attrs["model_runs"] <= 2 * 5
    assert "the cluster is down" in json.loads(part.attrs["failures"])[0]["reason"]
    n = part.sizes["iteration"]
    if t_eval is None:
        assert 2 <= n < whole.sizes["iteration"]
        np.testing.assert_array_equal(part.u, whole.u[:n])
        np.testing.assert_array_equal(part.g, whole.g[:n])
    else:
        assert 1 <= n <= 5
        assert float(part.t[-1]) < 1
        assert np.all(np.isfinite(part.u))
        assert np.all(np.diff(part.t) > 0)


def test_a_failure_in_the_first_step_leaves_the_first_ensemble():
    for t_eval in (None, [0.5, 1.0]):
        with pytest.raises(ek.RunError) as info:
            ek.integrate(problem(3), ek.EKIFlow(), t_span=(0, 1), n_members=5, rng=0, t_eval=t_eval)
        np.testing.assert_array_equal(info.value.result.t, [0])


@pytest.mark.parametrize(("flow", "options"), FLOWS)
def test_a_failure_at_the_start_leaves_nothing(flow, options):
    with pytest.raises(ek.RunError, match="the cluster is down") as info:
        ek.integrate(problem(1), flow, t_span=(0, 1), n_members=5, **options)
    assert info.value.result is None


@dataclass(frozen=True)
class Explosion:
    """u̇ = u², which leaves every bound at t = 1/u(0)."""

    order = 1

    def acceleration(self, t, u, out, problem):
        return u**2


@pytest.mark.parametrize("method", ["RK45", "BDF"])
@pytest.mark.parametrize("t_eval", [None, [0.4, 2.0], [2.0]])
def test_a_solver_that_gives_up_leaves_what_it_computed(method, t_eval):
    target = ek.InverseProblem(ek.LinearModel([[1.0]]), ek.GaussianPrior(0.0, 1.0), 1.0, [0.0])
    with np.errstate(all="ignore"):
        result = ek.integrate(
            target,
            Explosion(),
            t_span=(0, 2),
            ensemble=[[0.5], [1.0]],
            method=method,
            t_eval=t_eval,
        )
    assert result.attrs["status_code"] == "solver_failed"
    assert "solver failed at t = 1" in result.attrs["status"]
    assert result.sizes["iteration"] >= (2 if t_eval == [0.4, 2.0] else 1)
    assert float(result.t[-1]) == pytest.approx(1)
    early = result.sel(iteration=result.t < 0.9)
    exact = 1 / (1 / np.array([0.5, 1.0]) - early.t.values[:, None])
    np.testing.assert_allclose(early.u[..., 0], exact, rtol=1e-4)


def test_a_rule_that_holds_at_the_start_stops_there():
    for flow, options in ((ek.EKIFlow(), {}), (ek.EKSFlow(), {"step": STEP})):
        target = problem()
        result = ek.integrate(
            target, flow, t_span=(0, 1), n_members=5, rng=0, discrepancy=1e6, t_eval=[1], **options
        )
        assert result.attrs["status_code"] == "discrepancy_reached"
        np.testing.assert_array_equal(result.t, [0])
        assert target.model.batches == 1


def test_where_a_rule_stops_is_kept_beside_the_times_asked_for():
    options = {"t_span": (0, 1e6), "n_members": 20, "rng": 0, "method": "LSODA", "collapsed": 0.1}
    result = ek.integrate(problem(), ek.EKIFlow(), t_eval=[0.01, 1e6], **options)
    assert result.attrs["status_code"] == "collapsed"
    assert result.sizes["iteration"] == 2
    assert float(result.history_spread[-1]) == pytest.approx(0.1, rel=1e-4)
    every = ek.integrate(problem(), ek.EKIFlow(), **options)
    np.testing.assert_allclose(every.u[-1], result.u[-1], rtol=1e-12)
    assert np.all(np.diff(every.t) > 0)


class Loss:
    """Least squares as a loss: no whitening map."""

    n_data = None
    sd = np.nan

    def misfit(self, z, y):
        return 0.5 * ((z - y) ** 2).sum(axis=-1)

    def gradient(self, z, y):
        return z - y

    def fingerprint(self):
        return "loss"


def with_loss():
    target = problem()
    object.__setattr__(target, "noise", Loss())
    return target


def test_a_loss_will_do_where_only_its_gradient_is_used():
    plain = problem()
    unit = ek.InverseProblem(plain.model, plain.prior, 1.0, plain.data)
    for flow, its_own in (*FLOWS[:4], FLOWS[6]):
        options = {"t_span": (0, 0.2), "n_members": 5, "rng": 0, "collapsed": 0.01} | its_own
        expected = ek.integrate(unit, flow, **options)
        np.testing.assert_allclose(
            ek.integrate(with_loss(), flow, **options).u, expected.u, rtol=1e-12
        )


@pytest.mark.parametrize(
    ("flow", "options", "message"),
    [
        (ek.StochasticEKIFlow(), {"step": STEP}, "noise: must be Gaussian for EKI with perturbed"),
        (ek.NaturalGradientFlow(), {}, "noise: must be Gaussian for the natural gradient flow"),
        (
            ek.EKIFlow(),
            {"discrepancy": 1.0},
            "noise: must be Gaussian for the discrepancy principle",
        ),
    ],
)
def test_a_loss_is_refused_where_noise_is_needed(flow, options, message):
    target = with_loss()
    with pytest.raises(TypeError, match=message):
        ek.integrate(target, flow, t_span=(0, 1), n_members=5, **options)
    assert target.model.runs == 0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"t_span": (1, 0)}, ValueError, "t_span: must be .* 0 <= start < end"),
        ({"t_span": (-1, 1)}, ValueError, "t_span: must be"),
        ({"t_span": (0, 1, 2)}, ValueError, "t_span: must be"),
        ({"t_span": (0, np.inf)}, ValueError, "t_span: must be finite"),
        ({"flow": "eki"}, TypeError, "flow: must be a flow such as"),
        ({"flow": ek.EKIFlow}, TypeError, "flow: must be a flow such as"),
        ({"problem": None}, TypeError, "problem: must be an ek.InverseProblem"),
        ({"ensemble": np.ones((4, 3))}, ValueError, "ensemble: must have some spread"),
        ({"ensemble": np.ones((4, 2))}, ValueError, r"ensemble: must be an array \(J, p\)"),
        ({"n_members": 1}, ValueError, "n_members: must be at least 2, got 1"),
        ({"n_members": 5.0}, TypeError, "n_members: must be an integer, got 5.0"),
        ({"t_eval": [0.5, 2.0]}, ValueError, "t_eval: must be within t_span"),
        ({"t_eval": [0.5, 0.5]}, ValueError, "t_eval: must be increasing"),
        ({"t_eval": []}, ValueError, "t_eval: must be increasing times, at least one"),
        ({"t_eval": [0.5, np.nan]}, ValueError, "t_eval: must be finite"),
        ({"discrepancy": 0.0}, ValueError, "discrepancy: must be positive and finite, got 0.0"),
        ({"discrepancy": "1"}, TypeError, "discrepancy: must be a number, got '1'"),
        ({"collapsed": -1}, ValueError, r"collapsed: must be within \(0, 1\), got -1"),
        ({"collapsed": np.nan}, ValueError, r"collapsed: must be within \(0, 1\), got nan"),
        ({"step": STEP}, TypeError, r"step: must be left out for EKIFlow\(tikhonov=False\)"),
        ({"flow": ek.EKSFlow()}, TypeError, "step: must be a step rule"),
        ({"flow": ek.EKSFlow(), "step": 0.1}, TypeError, "step: must be a step rule"),
        (
            {"flow": ek.EKSFlow(), "step": STEP, "rtol": 1e-3},
            TypeError,
            "rtol: must be left out for EKSFlow",
        ),
        (
            {"flow": ek.StochasticEKIFlow(), "step": STEP, "events": []},
            TypeError,
            "events: must be left out for StochasticEKIFlow",
        ),
    ],
)
def test_bad_arguments_are_named_before_any_model_run(options, error, message):
    target = problem()
    arguments = {"problem": target, "flow": ek.EKIFlow(), "t_span": (0, 1)} | options
    with pytest.raises(error, match=message):
        ek.integrate(arguments.pop("problem"), arguments.pop("flow"), **arguments)
    assert target.model.runs == 0


@pytest.mark.parametrize("flow", [ek.GradientFlow(), ek.NaturalGradientFlow()])
def test_a_derivative_is_asked_for_before_any_model_run(flow):
    def never(u):
        raise AssertionError

    target = ek.InverseProblem(ek.FunctionModel(never), ek.GaussianPrior(0.0, 1.0), 1.0, [1.0])
    with pytest.raises(TypeError, match="jacobian: must be given for a model that is not"):
        ek.integrate(target, flow, t_span=(0, 1), n_members=3, rng=0)


@pytest.mark.parametrize(
    ("flow", "options"), [(ek.EKIFlow(tikhonov=True), {}), (ek.EKSFlow(), {"step": STEP})]
)
def test_a_prior_without_a_whitening_map_is_refused(flow, options):
    class Unknown:
        n_parameters = 3

    target = problem()
    object.__setattr__(target, "prior", Unknown())
    with pytest.raises(TypeError, match="prior: must have a whitening map .* got Unknown"):
        ek.integrate(target, flow, t_span=(0, 1), ensemble=np.eye(3), **options)
    assert target.model.runs == 0
