"""Steps of EKI and ETKI that a device makes before the host knows the misfits."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ekitools as ek
from ekitools.core.arrays import host
from ekitools.core.fetching import fetched
from ekitools.linalg.drafts import kalman_draft, transform_draft
from ekitools.linalg.transform import transform_update
from ekitools.methods.ahead import step_there
from ekitools.methods.steps import landing, rule_step
from ekitools.models.evaluate import evaluate
from ekitools.typing import Seen
from tests.zoo.counting import card, counting

A = np.random.default_rng(3).normal(size=(12, 5))
PRIOR = ek.GaussianPrior(np.full(5, 0.2), 1.0)
START = PRIOR.sample(20, rng=0)


def linear(u):
    return u @ (A.T if isinstance(u, np.ndarray) else card(A.T))


def problem(noise=0.1, model=linear):
    model = ek.FunctionModel(model, vectorized=True)
    return ek.InverseProblem(model, PRIOR, noise, linear(np.full((1, 5), 0.4))[0])


RULES = {
    "fixed": ek.FixedStep(0.3),
    "norm": ek.NormStep(0.7, 0.1),
    "controller": ek.MisfitController(),
    "esmda": ek.ESMDA(4),
    "esmda falling": ek.ESMDA((8, 4, 1.6)),
}


@given(
    rule=st.sampled_from(list(RULES.values())),
    misfit=st.lists(st.floats(0, 1e200), min_size=2, max_size=9),
    n=st.integers(0, 3),
    t=st.floats(0, 0.999),
    end=st.sampled_from([1.0, 2.5, math.inf]),
    norm=st.floats(0, 1e10),
)
def test_the_step_on_the_device_is_that_of_the_rule(rule, misfit, n, t, end, norm):
    seen = Seen(n, t, end - t, np.array(misfit), 12, lambda: norm)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        there = step_there(rule, (n, t, end), card(misfit), 12, card(np.float64(norm)))
    expected, _ = landing(t, rule_step(rule, seen), end)
    np.testing.assert_allclose(host(there), expected, rtol=1e-12)


def test_the_device_has_no_step_of_a_rule_of_your_own():
    class Own:
        def step(self, seen):
            return 0.1

    assert step_there(Own(), (0, 0.0, 1.0), card([1.0, 2.0]), 12, None) is None


@pytest.mark.parametrize("method", [ek.EKI, ek.ETKI])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("n_members", [8, 20])
def test_every_rule_waits_once(method, rule, n_members):
    start = card(PRIOR.sample(n_members, rng=0))
    loop = ek.AskTell(problem(), method(RULES[rule]), ensemble=start, rng=1, store="final")
    for _ in range(2):
        with counting() as counts:
            told = evaluate(loop.seen.model, loop._handed(), loop.seen.n_data, later=True)
            loop._take(told.g, told.failures, told.extras, judged=False)
        assert counts.waits == 1


class Halved(ek.FixedStep):
    """A rule whose step the device does not know."""

    def step(self, seen):
        return self.h if math.isnan(seen.misfit[0]) else self.h / 2


@pytest.mark.parametrize("method", [ek.EKI, ek.ETKI])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    ("noise", "rule"),
    [(0.1, Halved(0.3)), (1e-6, ek.FixedStep(0.3)), (1e-9, ek.MisfitController())],
    ids=["another step", "too few digits", "very small noise"],
)
def test_a_draft_that_cannot_be_used_leaves_no_trace(method, dtype, noise, rule):
    method = method(rule) if method is ek.EKI else method(rule, rotate=True)
    options = {"rng": 1, "n_steps": 3}
    start = START.astype(dtype)
    expected = ek.run(problem(noise), method, ensemble=start, **options)

    def narrow(u):
        return card(host(u) @ A.T.astype(dtype))

    found = ek.run(problem(noise, narrow), method, ensemble=card(start), **options)
    atol = 1e-6 if dtype == np.float64 else 2e-3
    np.testing.assert_allclose(found.u, expected.u, rtol=0, atol=atol)
    np.testing.assert_allclose(found.history_step, expected.history_step, rtol=1e-4)


@pytest.mark.parametrize("draft", [kalman_draft, transform_draft])
@pytest.mark.parametrize("d", [3, 40])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_draft_is_accepted_if_its_squares_have_digits(draft, d, dtype):
    rng = np.random.default_rng(0)
    u, r = rng.normal(size=(20, 6)).astype(dtype), rng.normal(size=(20, d)).astype(dtype)
    update = transform_update if draft is transform_draft else unperturbed
    well_posed = draft is kalman_draft and d == 3  # FᵀF of three data has all its digits
    for size, accepted in [(1.0, True), (1e9, well_posed), (np.finfo(dtype).max / 1e3, False)]:
        rows, h = dtype(size) * r, card(np.float64(0.7))
        with np.errstate(all="ignore"):
            found = draft(card(u), card(rows), h, None)
            assert found.accepts(*fetched(*found.numbers)) == accepted
        if accepted:
            expected = update(u, rows, 0.7)
            np.testing.assert_allclose(host(found.ensemble), expected, rtol=1e-4, atol=1e-5)


def unperturbed(u, r, h):
    return ek.kalman_update(u, r, np.zeros(r.shape[1], r.dtype), 1.0, step=h)
