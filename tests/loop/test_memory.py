"""Memory of runs with the ensemble in memory: that of two ensembles."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import ekitools as ek
from ekitools.models.evaluate import evaluate

N, P = 100, 100_000
WHERE = np.arange(20) * 4_900


def problem(vectorized=False):
    def model(u):
        return u[..., WHERE]

    prior = ek.GaussianPrior(np.zeros(P, dtype=np.float32), 1.0)
    return ek.InverseProblem(
        ek.FunctionModel(model, vectorized=vectorized), prior, 0.5, np.ones(20)
    )


@pytest.mark.slow
@pytest.mark.parametrize("store", ["last", "final"])
@pytest.mark.parametrize(
    ("method", "evaluated"),
    [
        (ek.ETKI(ek.ESMDA(3)), "alone"),
        (ek.EKI(ek.ESMDA(3)), "alone"),
        (ek.ETKI(ek.ESMDA(3)), "together"),
        (ek.ETKI(ek.ESMDA(3)), "in threads"),
    ],
    ids=["ETKI", "EKI", "vectorized", "threads"],
)
def test_a_run_needs_the_memory_of_two_ensembles(store, method, evaluated):
    whole = problem(vectorized=evaluated == "together")
    options = {"n_members": N, "rng": 0, "store": store}
    ek.run(whole, method, n_members=5, rng=0, n_steps=1)  # what is loaded counts for nothing
    with ThreadPoolExecutor(2) as threads:
        executor = threads if evaluated == "in threads" else None
        tracemalloc.start()
        try:
            result = ek.run(whole, method, **options, executor=executor)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    labels = 60 * P
    assert peak < 2.5 * result.u.nbytes + labels


@pytest.mark.parametrize("threads", [0, 2])
def test_an_evaluation_copies_one_member_at_a_time(threads):
    u = np.zeros((200, 50_000))
    with ThreadPoolExecutor(max(1, threads)) as pool:
        tracemalloc.start()
        try:
            evaluate(ek.FunctionModel(lambda v: v[:3]), u, 3, executor=pool if threads else None)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 0.1 * u.nbytes


def test_a_model_may_change_its_member():
    def careless(u):
        out = u[WHERE].copy()
        u[:] = np.nan
        return out

    changed = ek.InverseProblem(careless, problem().prior, 0.5, np.ones(20))
    options = {"n_members": 10, "rng": 0, "store": "last"}
    found, expected = (ek.run(each, ek.ETKI(), **options) for each in (changed, problem()))
    np.testing.assert_array_equal(found.u, expected.u)


def test_a_run_that_is_interrupted_in_an_update_shows_the_present_ensemble(monkeypatch):
    """With store="last" the ensemble before has been given up by then."""
    expected = ek.run(problem(), ek.ETKI(ek.ESMDA(4)), n_members=10, rng=0)
    inner, calls = ek.ETKI._analysis, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return inner(*args)

    monkeypatch.setattr(ek.ETKI, "_analysis", interrupted)
    found = ek.run(problem(), ek.ETKI(ek.ESMDA(4)), n_members=10, rng=0, store="last")
    assert found.attrs["status_code"] == "interrupted"
    assert found.iteration.values.tolist() == [2]
    np.testing.assert_array_equal(found.u[-1], expected.u[2])
    assert np.isnan(found.g).all()
