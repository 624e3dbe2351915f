"""Every public part goes through the check that ekitools.testing offers for parts of a user's own.

The sweep reads the public names: a new one is tested by being public. `EXAMPLES` has the
arguments of classes that cannot be made without.
"""

import inspect
import json
import typing

import numpy as np
import pytest
import xarray as xr
from scipy import stats
from zoo.own import Wind

import ekitools as ek
from ekitools import typing as contracts
from ekitools.core.options import from_json, to_json
from ekitools.flows.right_hand_sides import Output
from ekitools.testing import check_method, check_model, check_noise, check_prior, check_schedule
from ekitools.testing.options import check_options


def quartic(z, y):
    return ((z - y) ** 4).sum(axis=-1) / 4


def cube(z, y):
    return (z - y) ** 3


EXAMPLES = {
    "FixedStep": [ek.FixedStep(0.3)],
    "NormStep": [ek.NormStep(0.5), ek.NormStep(2.0, 0.5)],
    "ESMDA": [ek.ESMDA(3), ek.ESMDA((4.0, 2.0, 4.0))],
    "EKI": [
        ek.EKI(),
        ek.EKI(ek.FixedStep(0.3), perturbed=False, stop=(ek.Discrepancy(), ek.NoProgress())),
        ek.EKI(ek.NormStep(), t_end=None, tikhonov=True),
    ],
    "GNKI": [
        ek.GNKI(ek.FixedStep(0.5), refinements=6, rtol=1e-6),
        ek.GNKI(start="prior", damping=0.5, rtol=1e-6),
        ek.GNKI(
            start=ek.GaussianStart((0.5, 0.5, 0.5), ((0.6, 0.8, 0.0),), (0.5,)),
            draws="fresh",
            refinements=6,
        ),
    ],
    "UKI": [ek.UKI(), ek.UKI("simplex", h=1.0, centre="output", rtol=1e-6, n_draws=20)],
    "LossEKI": [
        ek.LossEKI(ek.NormStep(0.5)),
        ek.LossEKI(ek.NormStep(5.0, 1.0), spread=ek.Spread(0.1)),
        ek.LossEKI(ek.NormStep(1.0, 0.5), spread=ek.Spread(0.1, every=2, decay=0.1)),
    ],
    "CurvatureEKI": [ek.CurvatureEKI(), ek.CurvatureEKI(0.1, 0.5, memory=3)],
    "MiniBatches": [ek.MiniBatches(np.arange(6.0), np.arange(6.0), 4)],
    "OnlineData": [ek.OnlineData(np.arange(6.0), np.arange(6.0), 4)],
    "Nesterov": [
        ek.Nesterov(ek.LossEKI(ek.NormStep(3.0, 1.0), spread=ek.Spread(0.1, every=2))),
        ek.Nesterov(ek.EKI(ek.FixedStep(0.3), t_end=None, perturbed=False)),
        ek.Nesterov(ek.EKI()),
        ek.Nesterov(ek.GNKI(ek.FixedStep(0.5), refinements=6, rtol=1e-6)),
        ek.Nesterov(ek.EKI(ek.FixedStep(0.3), t_end=None), "theta", restart=True),
        ek.Nesterov(ek.EKI(ek.FixedStep(0.3), t_end=None), 0.5),
    ],
    "Inflated": [
        ek.Inflated(ek.EKI(), multiplicative=0.1, relaxation=0.2),
        ek.Inflated(ek.ETKI(), additive=0.1, covariance="ensemble", longest=1.0),
        ek.Inflated(ek.GNKI(), additive=0.1),
    ],
    "Sparse": [
        ek.Sparse(ek.GNKI(), outer=3),
        ek.Sparse(ek.EKI(), (0, 2), outer=2),
        ek.Sparse(ek.ETKI(), groups=((0, 2),), outer=2, warm=False),
    ],
    "TemperedSMC": [
        ek.TemperedSMC(),
        ek.TemperedSMC((0.2, 1.0), resampling="residual", move="pcn", max_moves=2),
        ek.TemperedSMC(
            move="random_walk",
            max_moves=1,
            start=ek.GaussianStart((0.5, 0.5, 0.5), ((0.6, 0.8, 0.0),), (0.5,)),
        ),
        ek.TemperedSMC(
            start=ek.GaussianStart((0.5, 0.5, 0.5), ((0.6, 0.8, 0.0),), (0.5,), prior_share=0)
        ),
    ],
    "GaussianStart": [ek.GaussianStart((0.0, 1.0), ((0.0, 1.0),), (0.5,), prior_share=0.5)],
    "GaussianPrior": [
        ek.GaussianPrior([1.0, -1.0, 0.5], 2.0),
        ek.GaussianPrior(0.0, [1.0, 2.0, 3.0]),
        ek.GaussianPrior(0.0, np.eye(3) + 0.5),
    ],
    "Prior": [
        ek.Prior(
            {"a": stats.norm(1, 2), "b": stats.lognorm(0.5), "c": stats.uniform(-1, 3)},
            correlation=correlation,
        )
        for correlation in (None, {("a", "c"): -0.7})
    ],
    "BasePrior": [
        ek.JointPrior({"wind": Wind(), "scale": ek.Prior({"scale": stats.lognorm(0.5)})})
    ],
    "JointPrior": [
        ek.JointPrior(
            {"pair": ek.GaussianPrior(0.0, [1.0, 2.0]), "c": ek.Prior({"c": stats.norm()})}
        )
    ],
    "Dirichlet": [ek.Dirichlet([2.0, 1.0, 0.5, 3.0])],
    "Ordered": [ek.Ordered(stats.lognorm(0.5), 3)],
    "Hierarchical": [ek.Hierarchical(stats.norm(), stats.halfnorm(), 1, transform="exp")],
    "GaussianRandomField": [
        ek.GaussianRandomField((8, 8), n_modes=3),
        ek.GaussianRandomField((3,), transform="exp", parameters="values"),
    ],
    "MaternField": [
        ek.MaternField([0.0, 1.0, 3.0], length=2.0, transform="exp"),
        ek.MaternField([0.0, 1.0, 3.0], length=2.0, parameters="values"),
    ],
    "GraphField": [ek.GraphField(2 * np.eye(4) - 0.5, n_modes=3)],
    "FunctionModel": [
        ek.FunctionModel(lambda u: np.full(4, u.sum())),
        ek.FunctionModel(lambda u: u[:, [0, 1, 2, 0]], vectorized=True),
    ],
    "LinearModel": [ek.LinearModel(np.arange(12.0).reshape(4, 3))],
    "XarrayModel": [
        ek.XarrayModel(
            lambda p: xr.DataArray([p.a, p.b, p.c, p.a + p.b], dims="x"),
            ["a", "b", "c"],
            xr.DataArray(np.ones(4), dims="x"),
        )
    ],
    "GaussianNoise": [
        ek.GaussianNoise(0.5),
        ek.GaussianNoise([1.0, 4.0, 0.1]),
        ek.GaussianNoise(np.eye(4) + 0.5),
        ek.GaussianNoise((np.ones(4), np.ones((4, 1)))),
    ],
    "BlockNoise": [
        ek.BlockNoise({"a": 0.5, "b": np.eye(2) + 0.5, "c": np.eye(2) + 0.1}, sizes={"a": 2}),
    ],
    "Huber": [ek.Huber(0.3), ek.Huber(10.0, 1.0)],
    "CrossEntropy": [ek.CrossEntropy(3)],
    "FunctionLoss": [ek.FunctionLoss(quartic, cube)],
}

MATRIX = np.random.default_rng(0).normal(size=(4, 3))


def public_classes():
    named = {name: getattr(ek, name) for name in ek.__all__}
    return {n: c for n, c in named.items() if isinstance(c, type) and not issubclass(c, Exception)}


def instances(*members):
    """Every public class with these members, made ready."""
    found = []
    for name, cls in public_classes().items():
        if all(inspect.isfunction(getattr(cls, member, None)) for member in members):
            found += [pytest.param(x, id=f"{name}-{i}") for i, x in enumerate(examples(name, cls))]
    return found


def examples(name, cls):
    return EXAMPLES[name] if name in EXAMPLES else [cls()]


METHODS = instances("init", "ask", "tell", "finished", "select")
SCHEDULES = instances("step")
RULES = instances("check")
FLOWS = instances("acceleration")
PRIORS = instances("to_physical", "to_unconstrained")
NOISES = instances("whiten", "misfit")
LOSSES = [loss for loss in instances("misfit", "gradient") if loss.id not in {n.id for n in NOISES}]


def problem(prior=None):
    return ek.InverseProblem(
        ek.LinearModel(MATRIX), prior or ek.GaussianPrior(np.zeros(3), 1.0), 0.1, MATRIX.sum(1)
    )


def test_the_sweep_finds_what_there_is():
    assert {type(p.values[0]).__name__ for p in METHODS} >= {"EKI"}
    assert {type(p.values[0]).__name__ for p in SCHEDULES} >= {"FixedStep", "MisfitController"}
    assert {type(p.values[0]).__name__ for p in RULES} >= {"Discrepancy", "Collapsed"}
    assert {type(p.values[0]).__name__ for p in FLOWS} >= {"EKIFlow", "EKSFlow"}
    assert {type(p.values[0]).__name__ for p in PRIORS} >= {"GaussianPrior", "Prior"}
    assert {type(p.values[0]).__name__ for p in NOISES} == {"BlockNoise", "GaussianNoise"}
    assert {type(p.values[0]).__name__ for p in LOSSES} >= {"Huber", "CrossEntropy"}


@pytest.mark.parametrize("options", METHODS + SCHEDULES + RULES + FLOWS)
def test_options_are_rebuilt_from_their_json(options):
    check_options(options, "it")
    assert from_json(to_json(options)) == options
    assert hash(options) == hash(from_json(to_json(options)))


@pytest.mark.parametrize("method", METHODS)
def test_a_method_keeps_its_contract(method):
    check_method(method)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_lowers_the_misfit(method):
    n_members = None if isinstance(method, contracts.Quadrature) else 50
    result = ek.run(problem(), method, n_members=n_members, n_steps=8, rng=0)
    assert float(result.misfit[-1].mean()) < 0.5 * float(result.misfit[0].mean())
    assert json.loads(result.attrs["method"])["type"] == type(method).__name__


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_step_rule_keeps_its_contract(schedule):
    assert isinstance(schedule, contracts.Schedule)
    check_schedule(schedule)


@pytest.mark.parametrize("rule", RULES)
def test_a_stopping_rule_fires_at_a_perfect_fit_and_not_at_the_start(rule):
    assert isinstance(rule, contracts.StoppingRule)
    start = contracts.Progress(100.0, 4, 1.0, (5000.0,))
    end = contracts.Progress(0.0, 4, 1e-9, (1.0,) * 10)
    assert rule.check(start) is None
    status = rule.check(end)
    assert isinstance(status, contracts.Status)
    assert status.code.isidentifier()
    assert status.sentence.endswith(".")


@pytest.mark.parametrize("flow", FLOWS)
def test_a_flow_satisfies_the_contract_and_is_pure(flow):
    assert isinstance(flow, contracts.Flow)
    target = problem()
    u = target.prior.sample(9, rng=0)
    g = target.model(u)
    out = Output(g, target.noise.gradient(g, target.data))
    kept = [array.copy() for array in (u, *out)]
    force = flow.acceleration(0.0, u, out, target)
    assert force.shape == u.shape
    np.testing.assert_array_equal(flow.acceleration(0.0, u, out, target), force)
    if isinstance(flow, contracts.StochasticFlow):
        increment = np.random.default_rng(0).normal(size=flow.increment_shape(9, 4))
        assert flow.diffusion(u, out, increment, target).shape == u.shape
        np.testing.assert_array_equal(flow.diffusion(u, out, 0 * increment, target), 0 * u)
    for array, before in zip((u, *out), kept, strict=True):
        np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize("prior", PRIORS)
def test_a_prior_keeps_its_contract(prior):
    assert isinstance(prior, contracts.Prior)
    check_prior(prior)


@pytest.mark.parametrize("prior", PRIORS)
def test_draws_of_a_prior_are_the_same_in_both_coordinates(prior):
    z = prior.sample_unconstrained(50, rng=0)
    np.testing.assert_array_equal(prior.to_physical(z), prior.sample(50, rng=0))


@pytest.mark.parametrize("prior", PRIORS)
def test_a_run_starts_from_a_prior_and_keeps_its_names(prior):
    result = ek.run(problem(prior), ek.EKI(), n_members=9, n_steps=1, rng=0)
    expected = prior.names or ("u0", "u1", "u2")
    assert tuple(result.parameter.values) == tuple(expected)


@pytest.mark.parametrize("model", instances("__call__"))
def test_a_model_keeps_its_contract(model):
    assert isinstance(model, contracts.ForwardModel)
    check_model(model, ek.GaussianPrior(np.zeros(3), 1.0))


@pytest.mark.parametrize("noise", NOISES + LOSSES)
def test_a_noise_model_or_a_loss_keeps_its_contract(noise):
    assert isinstance(noise, contracts.Loss)
    check_noise(noise)


@pytest.mark.parametrize("noise", NOISES)
def test_a_noise_model_is_one(noise):
    assert isinstance(noise, contracts.NoiseModel)


def test_signatures_are_annotated():
    for name, cls in public_classes().items():
        for attribute, function in inspect.getmembers(cls, inspect.isfunction):
            if attribute.startswith("_"):
                continue
            scope = vars(inspect.getmodule(function)) | {"xr": xr}
            hints = typing.get_type_hints(function, scope)
            assert "return" in hints, f"{name}.{attribute}"
