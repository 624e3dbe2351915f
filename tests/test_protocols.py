"""Every public method, schedule, stopping rule, prior and model obeys its contract.

The sweep reads the public names: a new one is tested by being public. Where a class cannot
be made without arguments, `EXAMPLES` says with which.
"""

import dataclasses
import inspect
import json
import pickle
import typing

import numpy as np
import pytest
import xarray as xr
from scipy import stats
from zoo.results import same

import ekitools as ek
from ekitools import typing as contracts
from ekitools.core.options import from_json, to_json
from ekitools.flows.right_hand_sides import Output

EXAMPLES = {
    "FixedStep": [ek.FixedStep(0.3)],
    "NormStep": [ek.NormStep(0.5), ek.NormStep(2.0, 0.5)],
    "ESMDA": [ek.ESMDA(3), ek.ESMDA((4.0, 2.0, 4.0))],
    "EKI": [
        ek.EKI(),
        ek.EKI(ek.FixedStep(0.3), perturbed=False, stop=(ek.Discrepancy(), ek.NoProgress())),
        ek.EKI(ek.NormStep(), t_end=None, tikhonov=True),
    ],
    "GNKI": [ek.GNKI(ek.FixedStep(0.5), refinements=6, rtol=1e-6)],
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
    ],
    "TemperedSMC": [
        ek.TemperedSMC(),
        ek.TemperedSMC((0.2, 1.0), resampling="residual", move="pcn", max_moves=2),
        ek.TemperedSMC(
            move="random_walk",
            max_moves=1,
            start=ek.GaussianStart((0.5, 0.5, 0.5), ((0.6, 0.8, 0.0),), (0.5,)),
        ),
    ],
    "GaussianStart": [ek.GaussianStart((0.0, 1.0), ((0.0, 1.0),), (0.5,))],
    "GaussianPrior": [
        ek.GaussianPrior([1.0, -1.0, 0.5], 2.0),
        ek.GaussianPrior(0.0, [1.0, 2.0, 3.0]),
        ek.GaussianPrior(0.0, np.eye(3) + 0.5),
    ],
    "Prior": [
        ek.Prior({"a": stats.norm(1, 2), "b": stats.lognorm(0.5), "c": stats.uniform(-1, 3)})
    ],
    "GaussianRandomField": [ek.GaussianRandomField((8, 8), n_modes=3)],
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
    "GaussianNoise": [ek.GaussianNoise(0.5), ek.GaussianNoise((np.ones(4), np.ones((4, 1))))],
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


@pytest.mark.parametrize("options", METHODS + SCHEDULES + RULES + FLOWS)
def test_options_are_frozen_comparable_and_survive_json_and_pickle(options):
    assert dataclasses.is_dataclass(options)
    first = dataclasses.fields(options)[:1]
    for field in first:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(options, field.name, 1)
    assert from_json(to_json(options)) == options
    assert pickle.loads(pickle.dumps(options)) == options
    assert hash(options) == hash(from_json(to_json(options)))


class Silent:
    """A source of randomness that says nothing."""

    def standard_normal(self, shape):
        return np.zeros(shape)


@pytest.mark.parametrize("method", METHODS)
class TestMethod:
    def start(self, method, n=9):
        target = problem()
        return target, method.init(target.prior.sample_unconstrained(n, rng=0), target)

    def tell(self, method, state, target, rng):
        return method.tell(state, target.model(method.ask(state)), target, rng=rng)

    def test_it_satisfies_the_contract(self, method):
        assert isinstance(method, contracts.Method)
        _, state = self.start(method)
        assert {"ensemble", "n", "t"} <= set(state._fields)
        assert (state.n, state.t) == (0, 0.0)
        assert method.finished(state) is None

    def test_a_step_is_pure(self, method):
        target, state = self.start(method)
        kept = state.ensemble.copy()
        g = target.model(method.ask(state))
        told = g.copy()
        first, info = method.tell(state, g, target, rng=np.random.default_rng(1))
        again, _ = method.tell(state, g, target, rng=np.random.default_rng(1))
        np.testing.assert_array_equal(first.ensemble, again.ensemble)
        np.testing.assert_array_equal(state.ensemble, kept)
        np.testing.assert_array_equal(g, told)
        assert first.n == 1
        assert first.t == pytest.approx(info.step)
        assert info.misfit.shape == (9,)
        assert info.misfit.dtype == np.float64
        np.testing.assert_allclose(info.misfit, target.noise.misfit(g, target.data))
        assert info.spread == pytest.approx(1.0)

    def test_selecting_members_keeps_their_rows(self, method):
        _, state = self.start(method)
        index = np.array([4, 0, 0])
        picked = method.select(state, index)
        np.testing.assert_array_equal(picked.ensemble, state.ensemble[index])
        np.testing.assert_array_equal(method.ask(picked), method.ask(state)[index])

    def test_permuting_members_permutes_the_step_without_noise(self, method):
        if getattr(method, "keeps_members", False):
            pytest.skip("members are drawn by their weights, in order")
        if getattr(method, "memory", 0):
            pytest.skip("the first members are the latest steps")
        target, state = self.start(method)
        order = np.random.default_rng(0).permutation(9)
        new, _ = self.tell(method, state, target, Silent())
        permuted, _ = self.tell(method, method.select(state, order), target, Silent())
        np.testing.assert_allclose(permuted.ensemble, new.ensemble[order], rtol=1e-9, atol=1e-12)

    def test_it_lowers_the_misfit(self, method):
        result = ek.run(problem(), method, n_members=50, n_steps=8, rng=0)
        assert float(result.misfit[-1].mean()) < 0.5 * float(result.misfit[0].mean())
        assert json.loads(result.attrs["method"])["type"] == type(method).__name__

    def test_its_state_survives_a_checkpoint_bitwise(self, method, tmp_path):
        options = {"n_members": 7, "rng": 0}
        whole = ek.run(problem(), method, n_steps=4, **options)
        ek.run(problem(), method, n_steps=2, checkpoint=tmp_path / "run", **options)
        resumed = ek.resume(tmp_path / "run", problem(), n_steps=4)
        assert same(resumed, whole)

    def test_float32_stays_float32(self, method):
        start = problem().prior.sample(9, rng=0).astype(np.float32)
        result = ek.run(problem(), method, ensemble=start, n_steps=2, rng=0)
        assert (result.u.dtype, result.g.dtype) == (np.float32, np.float32)

    def test_numbers_are_plain(self, method):
        target, state = self.start(method)
        new, _ = self.tell(method, state, target, np.random.default_rng(1))
        for value in new:
            plain = value is None or isinstance(value, int | float | str | tuple)
            assert plain or hasattr(value, "shape")


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("misfit", [[0.0, 0.0], [1.0, 3.0], [1e9, 2e9]])
def test_a_step_rule_gives_a_positive_finite_step(schedule, misfit):
    assert isinstance(schedule, contracts.Schedule)
    seen = contracts.Seen(2, 0.5, 0.5, np.array(misfit), 4, lambda: 2.0)
    h = schedule.step(seen)
    assert isinstance(h, float)
    assert 0 < h < np.inf
    assert schedule.step(seen) == h


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
class TestPrior:
    def test_it_satisfies_the_contract(self, prior):
        assert isinstance(prior, contracts.Prior)
        assert prior.names is None or len(prior.names) == prior.n_parameters
        assert isinstance(prior.fingerprint(), str)
        assert pickle.loads(pickle.dumps(prior)).fingerprint() == prior.fingerprint()

    def test_the_bijection_goes_both_ways_and_leaves_its_input(self, prior):
        z = prior.sample_unconstrained(50, rng=0)
        kept = z.copy()
        u = prior.to_physical(z)
        np.testing.assert_allclose(prior.to_unconstrained(u), z, rtol=1e-9, atol=1e-9)
        np.testing.assert_array_equal(z, kept)
        np.testing.assert_array_equal(u, prior.sample(50, rng=0))

    def test_it_is_standard_normal_when_whitened(self, prior):
        n = 20_000
        white = prior.whiten(prior.sample_unconstrained(n, rng=1))
        assert np.all(np.abs(white.mean(0)) < 4 / np.sqrt(n))
        assert np.all(np.abs(np.cov(white.T) - np.eye(3)) < 4 * np.sqrt(2 / n))

    def test_the_density_is_that_of_the_draws(self, prior):
        """E[1/(p(u) V)] over a box of volume V is the share of draws in it."""
        n = 40_000
        u = prior.sample(n, rng=2)
        low, high = np.quantile(u, [0.3, 0.7], axis=0)
        inside = np.all((u > low) & (u < high), axis=1)
        weights = np.exp(-prior.logpdf(u[inside])) / np.prod(high - low)
        estimate = weights.sum() / n
        assert estimate == pytest.approx(1.0, abs=4 * np.sqrt((weights**2).sum()) / n)

    def test_nan_rows_stay_nan_rows(self, prior):
        z = prior.sample_unconstrained(3, rng=0)
        z[1] = np.nan
        for mapped in (prior.to_physical(z), prior.to_unconstrained(prior.to_physical(z))):
            assert np.all(np.isnan(mapped[1]))
            assert np.all(np.isfinite(mapped[[0, 2]]))

    def test_a_run_starts_from_it_and_keeps_its_names(self, prior):
        result = ek.run(problem(prior), ek.EKI(), n_members=9, n_steps=1, rng=0)
        expected = prior.names or ("u0", "u1", "u2")
        assert tuple(result.parameter.values) == tuple(expected)


@pytest.mark.parametrize("model", instances("__call__"))
def test_a_model_satisfies_the_contract(model):
    assert isinstance(model, contracts.ForwardModel)
    g = model(np.ones((2, 3)) if model.vectorized else np.ones(3))
    assert g.shape == ((2, 4) if model.vectorized else (4,))


@pytest.mark.parametrize("noise", instances("whiten", "misfit"))
def test_a_noise_model_satisfies_the_contract(noise):
    assert isinstance(noise, contracts.NoiseModel)


def test_signatures_are_annotated():
    for name, cls in public_classes().items():
        for attribute, function in inspect.getmembers(cls, inspect.isfunction):
            if attribute.startswith("_"):
                continue
            scope = vars(inspect.getmodule(function)) | {"xr": xr}
            hints = typing.get_type_hints(function, scope)
            assert "return" in hints, f"{name}.{attribute}"
