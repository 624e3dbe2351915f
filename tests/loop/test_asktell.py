"""The loop: what is asked, told, recorded, dropped, resampled, refused."""

import json
import time

import numpy as np
import pytest
from zoo.results import same

import ekitools as ek

MATRIX = np.random.default_rng(0).normal(size=(6, 3))


def problem(model=None, **changes):
    arguments = {
        "model": model or ek.LinearModel(MATRIX),
        "prior": ek.GaussianPrior(np.zeros(3), 1.0),
        "noise": 0.1,
        "data": MATRIX @ np.ones(3),
    }
    return ek.InverseProblem(**(arguments | changes))


def drive(loop, spoil=()):
    """Tell G(u), with the rows in ``spoil`` = {(iteration, row)} made NaN."""
    while not loop.done:
        n, g = loop.n, loop.ask() @ MATRIX.T
        for iteration, row in spoil:
            if iteration == n:
                g[row] = np.nan
        loop.tell(g)
    return loop.result()


def test_the_loop_inside_out_is_the_run():
    loop = ek.AskTell(problem(), ek.EKI(), n_members=20, rng=3)
    expected = ek.run(problem(), ek.EKI(), n_members=20, rng=3)
    assert same(drive(loop), expected)


def test_asking_again_gives_the_same_read_only_members():
    loop = ek.AskTell(problem(), ek.EKI(), n_members=20, rng=3)
    first = loop.ask()
    assert loop.ask() is first
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0


def test_the_variables_of_a_result():
    result = ek.run(problem(), ek.EKI(ek.FixedStep(0.5)), n_members=20, rng=0)
    assert dict(result.sizes) == {
        "iteration": 3,
        "member": 20,
        "parameter": 3,
        "data": 6,
        "history": 3,
    }
    np.testing.assert_allclose(result.g, result.u.values @ MATRIX.T, rtol=1e-12)
    misfit = 0.5 * ((result.g - result.y) ** 2).sum("data") / 0.1
    np.testing.assert_allclose(result.misfit, misfit, rtol=1e-12)
    np.testing.assert_array_equal(result.t, [0, 0.5, 1])
    np.testing.assert_array_equal(result.step, [0.5, 0.5, np.nan])
    np.testing.assert_array_equal(result.history_model_runs, [20, 40, 60])
    np.testing.assert_allclose(result.noise_sd, np.sqrt(0.1))
    assert result.attrs["model_runs"] == 60
    assert json.loads(result.attrs["method"])["step"] == {"type": "FixedStep", "h": 0.5}
    assert list(result.parameter.values) == ["u0", "u1", "u2"]
    assert all(result[name].attrs["long_name"] for name in result.data_vars)


def test_names_are_carried_to_the_result():
    named = problem(parameter_names=("a", "b", "c"), data_names=range(6))
    result = ek.run(named, ek.EKI(ek.FixedStep(1.0)), n_members=5, rng=0)
    assert list(result.parameter.values) == ["a", "b", "c"]
    assert list(result.data.values) == list(range(6))


@pytest.mark.parametrize(
    ("store", "kept"), [("all", [0, 1, 2, 3, 4, 5]), ("last", [5]), (2, [0, 2, 4, 5]), (5, [0, 5])]
)
def test_store_keeps_what_it_says_and_the_history_of_all(store, kept):
    method = ek.EKI(ek.FixedStep(0.2))
    whole = ek.run(problem(), method, n_members=10, rng=0)
    result = ek.run(problem(), method, n_members=10, rng=0, store=store)
    assert result.iteration.values.tolist() == kept
    assert result.history.values.tolist() == [0, 1, 2, 3, 4, 5]
    np.testing.assert_array_equal(result.u, whole.u.sel(iteration=kept))
    np.testing.assert_array_equal(result.history_misfit, whole.history_misfit)


def test_without_a_final_evaluation_the_ensembles_are_the_same():
    with_it = ek.run(problem(), ek.EKI(), n_members=10, rng=0)
    without = ek.run(problem(), ek.EKI(), n_members=10, rng=0, evaluate_final=False)
    np.testing.assert_array_equal(with_it.u, without.u)
    assert with_it.attrs["model_runs"] == without.attrs["model_runs"] + 10
    assert np.all(np.isnan(without.g[-1]))
    assert without.attrs["status_code"] == "posterior_reached"
    budget = ek.run(
        problem(), ek.EKI(ek.FixedStep(0.1)), n_members=10, n_steps=2, rng=0, evaluate_final=False
    )
    assert (budget.attrs["status_code"], budget.attrs["model_runs"]) == ("budget_spent", 20)


def test_dropped_members_are_gone_and_the_others_go_on_as_if_alone():
    method = ek.EKI(ek.FixedStep(0.25), perturbed=False)
    loop = ek.AskTell(problem(), method, n_members=12, rng=0, on_failure="drop")
    start = loop.ask().copy()
    result = drive(loop, spoil=[(0, 3), (0, 7), (2, 0)])
    np.testing.assert_array_equal(np.flatnonzero(result.failed[0]), [3, 7])
    np.testing.assert_array_equal(np.flatnonzero(result.failed[1]), [])
    np.testing.assert_array_equal(np.flatnonzero(result.failed[2]), [0])
    assert np.all(np.isnan(result.u[1:, [3, 7]]))
    assert np.all(np.isfinite(result.u[:3, 0]))
    assert np.all(np.isnan(result.u[3:, 0]))
    np.testing.assert_array_equal(result.history_model_runs, [12, 22, 32, 41, 50])
    kept = np.delete(start, [3, 7], axis=0)
    alone = ek.run(problem(), method, ensemble=kept, n_steps=2, rng=0)
    np.testing.assert_array_equal(result.u[2].dropna("member"), alone.u[2])
    failures = json.loads(result.attrs["failures"])
    assert [(f["iteration"], f["member"]) for f in failures] == [(0, 3), (0, 7), (2, 0)]


def test_resampled_members_are_draws_from_the_survivors_gaussian():
    """Many repeats: mean and covariance of the replacements in standard errors."""
    prior = ek.GaussianPrior([1.0, -2.0], [[2.0, 0.5], [0.5, 1.0]])
    identity = problem(ek.LinearModel(np.eye(2)), prior=prior, data=[0.0, 0.0], noise=1e12)
    n, repeats = 6, 400
    start = prior.sample(n, rng=0)
    drawn = []
    for seed in range(repeats):
        loop = ek.AskTell(
            identity, ek.EKI(), ensemble=start, rng=seed, on_failure="resample", n_steps=1
        )
        g = start.copy()
        g[[1, 4]] = np.nan
        loop.tell(g)
        after = loop.ask()
        np.testing.assert_allclose(np.delete(after, [1, 4], 0), np.delete(start, [1, 4], 0), 1e-4)
        drawn.append(after[[1, 4]])
    drawn = np.concatenate(drawn)
    kept = np.delete(start, [1, 4], axis=0)
    mean, cov = kept.mean(0), np.cov(kept.T)
    error = np.sqrt(np.diag(cov) / len(drawn))
    assert np.all(np.abs(drawn.mean(0) - mean) < 4 * error)
    spread = np.sqrt((cov**2 + np.outer(np.diag(cov), np.diag(cov))) / len(drawn))
    assert np.all(np.abs(np.cov(drawn.T) - cov) < 4 * spread)


def test_resampling_keeps_the_number_of_members_and_the_run_is_repeatable():
    spoil = [(0, 2), (0, 3), (1, 0)]
    loops = [
        ek.AskTell(problem(), ek.EKI(), n_members=8, rng=1, on_failure="resample") for _ in range(2)
    ]
    first, second = (drive(loop, spoil) for loop in loops)
    assert same(first, second)
    assert np.all(np.isfinite(first.u))
    np.testing.assert_array_equal(np.flatnonzero(first.failed[0]), [2, 3])
    assert np.all(np.isnan(first.g[0, [2, 3]]))


def test_the_spread_after_resampling_is_that_of_the_members_drawn():
    loop = ek.AskTell(problem(), ek.EKI(), n_members=8, rng=1, on_failure="resample")
    result = drive(loop, spoil={(0, 2), (0, 5)})
    variance = result.u.var("member").sum("parameter").values
    expected = np.sqrt(variance / variance[0])
    np.testing.assert_allclose(result.history_spread[1:], expected[1:], rtol=1e-9)


@pytest.mark.parametrize("on_failure", ["drop", "resample"])
def test_failures_of_members_in_any_array_kind(on_failure):
    strict = pytest.importorskip("array_api_strict")
    start, spoil = problem().prior.sample(8, rng=0), {(0, 2), (1, 5)}
    options = {"rng": 1, "on_failure": on_failure}
    expected = drive(ek.AskTell(problem(), ek.EKI(), ensemble=start, **options), spoil)
    loop = ek.AskTell(problem(), ek.EKI(), ensemble=strict.asarray(start), **options)
    while not loop.done:
        g = np.asarray(loop.ask()) @ MATRIX.T
        g[[row for iteration, row in spoil if iteration == loop.n]] = np.nan
        loop.tell(g)
    np.testing.assert_allclose(loop.result().u, expected.u, rtol=1e-10, atol=1e-10)


def test_raise_ends_the_run_with_what_was_computed():
    loop = ek.AskTell(problem(), ek.EKI(), n_members=8, rng=1, on_failure="raise")
    with pytest.raises(
        ek.RunError, match='1 of 8 members failed at iteration 1 .* "raise"'
    ) as info:
        drive(loop, spoil=[(1, 5)])
    result = info.value.result
    assert result.sizes["iteration"] == 2
    assert result.attrs["status_code"] == "failed"
    assert bool(result.failed[1, 5])
    assert np.all(np.isfinite(result.u))


def test_fewer_than_two_survivors_end_the_run():
    loop = ek.AskTell(problem(), ek.EKI(), n_members=4, rng=1)
    with pytest.raises(ek.RunError, match="3 of 4 members failed at iteration 1: fewer than 2"):
        drive(loop, spoil=[(1, 0), (1, 1), (1, 2)])


def test_told_reasons_are_recorded_and_their_rows_count_as_failed():
    loop = ek.AskTell(problem(), ek.EKI(), n_members=5, rng=1, on_failure="drop")
    asked = loop.ask()[2]
    loop.tell(loop.ask() @ MATRIX.T, {2: "the mesh was tangled"})
    (failure,) = json.loads(loop.result().attrs["failures"])
    assert failure.pop("u") == asked.tolist()  # of the last iteration, where result.u has NaN
    assert failure == {"iteration": 0, "member": 2, "reason": "the mesh was tangled"}
    assert loop.members.tolist() == [0, 1, 3, 4]
    assert loop.result().attrs["status_code"] == "running"


@pytest.mark.parametrize(
    ("g", "error", "message"),
    [
        (np.zeros((5, 5)), ValueError, r"g: must have the shape .* = \(5, 6\), got \(5, 5\)"),
        (np.zeros((4, 6)), ValueError, r"g: must have the shape"),
        (np.zeros(6), ValueError, "g: must have the shape"),
        (
            np.zeros((5, 6), dtype=complex),
            TypeError,
            "g: must be real numbers, got dtype complex128",
        ),
        (np.full((5, 6), "1"), TypeError, "g: must be real numbers"),
        (None, ValueError, "g: must have the shape"),
    ],
)
def test_bad_outputs_leave_the_loop_as_it_was(g, error, message):
    loop = ek.AskTell(problem(), ek.EKI(), n_members=5, rng=1)
    with pytest.raises(error, match=message):
        loop.tell(g)
    assert same(drive(loop), ek.run(problem(), ek.EKI(), n_members=5, rng=1))


def test_telling_after_the_end_and_asking_for_a_result_before_the_start():
    loop = ek.AskTell(problem(), ek.EKI(), n_members=5, rng=1)
    with pytest.raises(ValueError, match="result: there is none yet. Call ask and tell first"):
        loop.result()
    with pytest.raises(ValueError, match=r"failures: must be from 0 to 4, got 7"):
        loop.tell(loop.ask() @ MATRIX.T, {7: "no such row"})
    drive(loop)
    with pytest.raises(ValueError, match=r"tell: the run is over \(posterior_reached\)"):
        loop.tell(np.zeros((5, 6)))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"problem": None}, TypeError, "problem: must be an ek.InverseProblem, got NoneType"),
        ({"method": ek.EKI}, TypeError, "method: must be a method such as"),
        ({"method": "eki"}, TypeError, "method: must be a method such as"),
        ({"n_members": 1}, ValueError, "n_members: must be at least 2, got 1"),
        ({"n_members": 10.0}, TypeError, "n_members: must be an integer, got 10.0"),
        ({"n_steps": 0}, ValueError, "n_steps: must be at least 1, got 0"),
        ({"on_failure": "ignore"}, ValueError, "on_failure: must be \"retry\", .* got 'ignore'"),
        (
            {"store": 0},
            ValueError,
            'store: must be "all", "last", "final" or a positive integer, got 0',
        ),
        ({"store": "some"}, ValueError, "store: must be"),
        (
            {"ensemble": np.zeros((5, 2))},
            ValueError,
            r"ensemble: must be an array \(J, p\) .* p = 3",
        ),
        ({"ensemble": np.zeros((1, 3))}, ValueError, "ensemble: must be an array .* J >= 2"),
        ({"ensemble": [[0.0] * 3] * 5}, ValueError, "ensemble: must be an array .* got list"),
        ({"ensemble": np.zeros((5, 3), int)}, TypeError, "ensemble: must have a floating dtype"),
        ({"ensemble": np.full((5, 3), np.nan)}, ValueError, "ensemble: must be finite"),
        ({"rng": "dice"}, TypeError, "SeedSequence|rng"),
    ],
)
def test_bad_arguments_are_named_before_any_model_run(changes, error, message):
    arguments = {"problem": problem(), "method": ek.EKI()} | changes
    with pytest.raises(error, match=message):
        ek.AskTell(arguments.pop("problem"), arguments.pop("method"), **arguments)


def test_wall_time_is_that_of_the_user_too_and_ends_with_the_latest_tell():
    loop = ek.AskTell(problem(), ek.EKI(), n_members=5, rng=1)
    assert loop.seconds == 0
    time.sleep(0.02)
    loop.tell(loop.ask() @ MATRIX.T)
    told = loop.seconds
    assert told >= 0.02
    time.sleep(0.001)
    assert loop.result().attrs["seconds"] == loop.seconds == told


# --- memory of the caller ----------------------------------------------------------------------


def test_what_was_told_may_be_used_again():
    loop = ek.AskTell(problem(), ek.EKI(), n_members=20, rng=3)
    expected = ek.run(problem(), ek.EKI(), n_members=20, rng=3)
    buffer = np.empty((20, 6))
    while not loop.done:
        buffer[:] = loop.ask() @ MATRIX.T
        loop.tell(buffer)
        buffer[:] = 0
    assert same(loop.result(), expected)


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_an_ensemble_that_was_given_may_be_changed(kind):
    start = np.random.default_rng(0).normal(size=(20, 3))
    given = start.copy()
    if kind == "torch":
        given = pytest.importorskip("torch").as_tensor(given)
    loop = ek.AskTell(problem(), ek.EKI(), ensemble=given, rng=3)
    given[:] = 0
    np.testing.assert_array_equal(np.asarray(loop.ask()), start)


def test_members_of_another_kind_are_given_as_copies():
    torch = pytest.importorskip("torch")
    start = torch.as_tensor(np.random.default_rng(0).normal(size=(20, 3)))
    loop = ek.AskTell(problem(), ek.EKI(), ensemble=start, rng=3)
    loop.ask()[:] = 0
    assert torch.equal(loop.ask(), start)


def test_reasons_are_cut_and_may_be_anything():
    class Silent:
        def __repr__(self):
            raise ValueError("no words")

    loop = ek.AskTell(problem(), ek.EKI(), n_members=6, rng=1, on_failure="drop")
    loop.tell(loop.ask() @ MATRIX.T, {0: "x" * 5000, 1: Silent()})
    first, second = json.loads(loop.result().attrs["failures"])
    assert len(first["reason"]) == 2000
    assert second["reason"].startswith("Silent (its text cannot be read")
