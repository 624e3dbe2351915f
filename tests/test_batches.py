"""What is seen at step n: batches, streams, and the loop that asks for them."""

import numpy as np
import pytest
from zoo.results import same

import ekitools as ek
from ekitools.core.streams import Streams

N = 7
X = np.random.default_rng(0).normal(size=(N, 2))
Y = np.stack([X @ [1.0, -1.0], X @ [0.5, 2.0]], axis=1)


def heads(u, inputs):
    """Two linear functions of the inputs, sample by sample: (J, m 2)."""
    return np.einsum("jkf,mf->jmk", u.reshape(-1, 2, 2), inputs).reshape(len(u), -1)


def problem(data, noise=0.1, **options):
    model = ek.FunctionModel(heads, vectorized=True, takes_inputs=True)
    return ek.InverseProblem(model, ek.GaussianPrior(np.zeros(4), 1.0), noise, data, **options)


def rows_of(inputs):
    return [int(np.flatnonzero((x == X).all(axis=1))[0]) for x in inputs]


def seen(data, streams, steps):
    return [rows_of(data.batch(n, streams.epoch)[0]) for n in range(steps)]


def test_an_epoch_sees_no_sample_twice_and_the_next_has_another_order():
    data, streams = ek.MiniBatches(X, Y, 3), Streams(0)
    assert data.steps_per_epoch == 2  # the seventh sample is left over
    epochs = np.reshape(seen(data, streams, 100), (50, 6)).tolist()
    assert all(len(set(rows)) == 6 for rows in epochs)
    assert len({tuple(rows) for rows in epochs}) > 45
    share = np.mean([6 not in rows for rows in epochs])  # each is left over now and then
    assert share == pytest.approx(1 / N, abs=4 * np.sqrt(1 / N * (1 - 1 / N) / 50))


def test_a_batch_depends_on_the_root_and_the_step_alone():
    data = ek.MiniBatches(X, Y, 3)
    first = seen(data, Streams(0), 10)
    streams = Streams(0)
    assert [rows_of(data.batch(n, streams.epoch)[0]) for n in reversed(range(10))] == first[::-1]
    assert seen(data, Streams(1), 10) != first
    assert streams.epoch(1).integers(1 << 30) != streams.step(1).integers(1 << 30)


def test_without_shuffling_the_order_is_that_of_the_data():
    data = ek.MiniBatches(X, Y, 3, shuffle=False)
    assert seen(data, Streams(0), 3) == [[0, 1, 2], [3, 4, 5], [0, 1, 2]]


def test_a_stream_goes_through_the_data_in_order_and_ends():
    data, streams = ek.OnlineData(X, Y, size=2, passes=2), Streams(0)
    assert data.n_steps == 6
    assert seen(data, streams, 6) == [[0, 1], [2, 3], [4, 5]] * 2
    assert data.batch(6, streams.epoch) is None
    often = ek.OnlineData(X, Y, size=3, passes=2, repeats=2)
    assert (often.n_steps, often.steps_per_epoch) == (8, 4)
    assert seen(often, streams, 8) == [[0, 1, 2], [0, 1, 2], [3, 4, 5], [3, 4, 5]] * 2


def test_a_step_sees_the_model_at_its_inputs_and_the_data_sample_by_sample():
    whole, streams = problem(ek.MiniBatches(X, Y, 3)), Streams(0)
    assert (whole.n_data, len(whole.data_names), whole.noise_sd.shape) == (6, 6, (6,))
    bound = whole.seen(4, streams)
    inputs, data = whole.data.batch(4, streams.epoch)
    u = np.random.default_rng(1).normal(size=(5, 4))
    np.testing.assert_array_equal(bound.model(u), heads(u, inputs))
    np.testing.assert_array_equal(bound.data, Y[rows_of(inputs)].ravel())
    np.testing.assert_array_equal(bound.data, data)
    exact = np.array([[1.0, -1.0, 0.5, 2.0]])
    np.testing.assert_allclose(bound.model(exact)[0], bound.data, rtol=1e-12)
    assert whole.batched
    assert not bound.batched


def test_an_ordinary_problem_sees_itself():
    ordinary = ek.problems.linear(p=2, d=3).problem
    assert ordinary.seen(5, Streams(0)) is ordinary
    loop = ek.AskTell(ordinary, ek.EKI(), rng=0)
    assert loop.inputs is None
    np.testing.assert_array_equal(loop.data, ordinary.data)


def test_integers_stay_integers_and_one_target_may_be_flat():
    data = ek.MiniBatches(np.arange(6), np.arange(6.0), 2, shuffle=False)
    inputs, targets = data.batch(0, Streams(0).epoch)
    assert inputs.dtype.kind == "i"
    np.testing.assert_array_equal(targets, [0.0, 1.0])


BAD = [
    (lambda: ek.MiniBatches(X, Y[:5], 2), ValueError, r"one row for each of N.*\(7, 2\).*\(5, 2\)"),
    (lambda: ek.MiniBatches(X, Y, 8), ValueError, "size: must be from 1 to 7, got 8. .* 7 samples"),
    (lambda: ek.OnlineData(X, Y, 8), ValueError, "size: must be from 1 to 7, got 8. .* 7 samples"),
    (lambda: ek.MiniBatches(X, Y, 0), ValueError, "size: must be from 1 to 7, got 0"),
    (lambda: ek.OnlineData(X, Y, 1.5), TypeError, "size: must be an integer, got 1.5"),
    (lambda: ek.OnlineData(X, Y, passes=0), ValueError, "passes: must be at least 1"),
    (lambda: ek.OnlineData(X, Y, repeats=0), ValueError, "repeats: must be at least 1"),
    (lambda: ek.MiniBatches(X, np.where(Y > 0, np.nan, Y), 2), ValueError, "targets: must be fini"),
    (lambda: ek.MiniBatches(X * np.inf, Y, 2), ValueError, "inputs: must be finite"),
    (lambda: ek.MiniBatches(X, ["a"] * N, 2), TypeError, "targets: must be an array of real"),
    (
        lambda: ek.InverseProblem(
            ek.LinearModel(np.eye(4)), ek.GaussianPrior(np.zeros(4), 1.0), 1.0, ek.OnlineData(X, Y)
        ),
        TypeError,
        "model: must take inputs= for OnlineData.*takes_inputs=True",
    ),
    (lambda: problem(ek.OnlineData(X, Y), np.ones(3)), ValueError, "noise: must be for the 2 data"),
    (
        lambda: problem(ek.OnlineData(X, Y), ek.CrossEntropy(2)),
        ValueError,
        "data: must be probabilities",
    ),
    (  # labels that are not one-hot
        lambda: problem(ek.MiniBatches(X, np.arange(N), 2), ek.CrossEntropy(N)),
        ValueError,
        "data: must be probabilities .*got 6. Make labels one-hot",
    ),
    (
        lambda: ek.run(problem(ek.OnlineData(X, Y)), ek.TemperedSMC(), rng=0),
        TypeError,
        "problem: must have all its data at once for TemperedSMC",
    ),
    (
        lambda: ek.integrate(problem(ek.OnlineData(X, Y)), ek.EKIFlow(), t_span=(0, 1), rng=0),
        TypeError,
        "problem: must have all its data at once for a flow, got OnlineData",
    ),
]


@pytest.mark.parametrize(("make", "error", "match"), BAD)
def test_mistakes_are_named_before_any_model_run(make, error, match):
    with pytest.raises(error, match=match):
        make()


def test_diagnosing_against_batches_is_refused():
    batched = problem(ek.MiniBatches(X, Y, 3))
    result = ek.run(batched, ek.LossEKI(), n_members=5, n_steps=2, rng=0)
    with pytest.raises(TypeError, match="problem: must have all its data at once"):
        ek.diagnose(result, batched)
    assert "spread" in ek.diagnose(result)


def test_asking_and_telling_is_the_run():
    batched, method = problem(ek.MiniBatches(X, Y, 3)), ek.EKI(ek.FixedStep(0.3), t_end=None)
    loop = ek.AskTell(batched, method, n_members=6, n_steps=5, rng=0)
    while not loop.done:
        np.testing.assert_array_equal(loop.data, Y[rows_of(loop.inputs)].ravel())
        loop.tell(heads(loop.ask(), loop.inputs))
    result = ek.run(batched, method, n_members=6, n_steps=5, rng=0)
    assert same(loop.result(), result)
    np.testing.assert_array_equal(result.y, loop.data)
    assert result.attrs["problem"] == ek.run(batched, method, n_steps=1, rng=1).attrs["problem"]


def test_kalman_updates_one_datum_at_a_time():
    """The analysis as it is written, without perturbed data, over the series."""
    data = ek.OnlineData(X, Y[:, 0], passes=2)
    model = ek.FunctionModel(lambda u, inputs: u @ inputs.T, vectorized=True, takes_inputs=True)
    online = ek.InverseProblem(model, ek.GaussianPrior(np.zeros(2), 1.0), 0.1, data)
    start = online.prior.sample(9, rng=3)
    method = ek.EKI(ek.FixedStep(1.0), t_end=None, perturbed=False)
    result = ek.run(online, method, ensemble=start, rng=0)
    u = start
    for x, y in [*zip(X, Y[:, 0], strict=True)] * 2:
        g = u @ x
        gain = (u - u.mean(0)).T @ (g - g.mean()) / 8 / (g.var(ddof=1) + 0.1)
        u = u + np.outer(y - g, gain)
    np.testing.assert_allclose(result.u[-1], u, rtol=1e-9)
    assert result.attrs["status_code"] == "stream_ended"
    assert result.sizes["iteration"] == 2 * N + 1
    assert np.isnan(result.g[-1]).all()
    assert result.attrs["model_runs"] == 2 * N * 9
    assert result.y.values == Y[-1, 0]


def test_a_stream_may_be_longer_than_the_guard_against_endless_runs():
    many = ek.OnlineData(np.ones((1100, 2)), np.ones((1100, 2)))
    result = ek.run(problem(many), ek.LossEKI(), n_members=3, store="last", rng=0)
    assert result.attrs["status_code"] == "stream_ended"
    assert result.sizes["history"] == 1101


@pytest.mark.parametrize("evaluate_final", [True, False])
@pytest.mark.parametrize(
    "data", [ek.MiniBatches(X, Y, 3), ek.OnlineData(X, Y, 2, passes=3)], ids=repr
)
def test_resuming_is_bitwise_the_run_that_was_never_interrupted(data, evaluate_final, tmp_path):
    method = ek.LossEKI(ek.NormStep(0.5), spread=ek.Spread(0.1, every=2))
    options = {"n_members": 5, "rng": 0, "evaluate_final": evaluate_final}
    whole = ek.run(problem(data), method, n_steps=11, **options)
    ek.run(problem(data), method, n_steps=3, checkpoint=tmp_path / "run", **options)
    assert same(ek.resume(tmp_path / "run", problem(data), n_steps=11), whole)
    other = type(data)(X, Y + 1e-9, data.size)
    with pytest.raises(ek.CheckpointError, match=r"differs .* in its data\."):
        ek.resume(tmp_path / "run", problem(other), n_steps=12)


def test_options_of_the_batches_are_part_of_the_problem():
    prints = {
        problem(data).fingerprint()["data"]
        for data in (
            ek.MiniBatches(X, Y, 3),
            ek.MiniBatches(X, Y, 2),
            ek.MiniBatches(X, Y, 3, shuffle=False),
            ek.MiniBatches(X + 1, Y, 3),
            ek.MiniBatches(X, Y + 1, 3),
            ek.OnlineData(X, Y, 3),
            ek.OnlineData(X, Y, 3, passes=2),
            ek.OnlineData(X, Y, 3, repeats=2),
        )
    }
    assert len(prints) == 8


def test_a_model_of_one_member_with_a_failure_of_its_own():
    def one(u, inputs):
        return heads(u[None], inputs)[0] if u[0] > -1 else np.full(6, np.nan)

    slow = ek.InverseProblem(
        ek.FunctionModel(one, takes_inputs=True),
        ek.GaussianPrior(np.zeros(4), 1.0),
        0.1,
        ek.MiniBatches(X, Y, 3),
    )
    plan = {"n_members": 20, "n_steps": 3, "rng": 0}
    result = ek.run(slow, ek.LossEKI(), on_failure="drop", **plan)
    assert bool(result.failed[0].any())
    again = ek.run(slow, ek.LossEKI(), **plan)  # failed members run again
    assert not again.failed.any()
    assert again.attrs["failed_at_start"] > 0
    assert "takes_inputs=True" in repr(slow.model)


def test_final_keeps_no_members_before_the_end_and_computes_the_same():
    batched = problem(ek.MiniBatches(X, Y, 3))
    method = ek.LossEKI(ek.NormStep(0.5), spread=ek.Spread(0.3, every=2))
    start = batched.prior.sample(6, rng=1)
    kept = start.copy()
    options = {"ensemble": start, "n_steps": 5, "rng": 0}
    last = ek.run(batched, method, store="last", **options)
    final = ek.run(batched, method, store="final", **options)
    np.testing.assert_array_equal(start, kept)
    assert same(final, last)

    loop = ek.AskTell(batched, method, store="final", **options)
    for n in range(3):
        loop.tell(heads(loop.ask(), loop.inputs))
        present = loop.result()
        assert present.iteration.values.tolist() == [n + 1]
        np.testing.assert_array_equal(present.u[0], loop.ask())
        assert np.isnan(present.g).all()
    whole = ek.run(batched, method, store="all", **options)
    np.testing.assert_array_equal(present.u[0], whole.u[3])


def test_final_survives_a_checkpoint(tmp_path):
    batched = problem(ek.MiniBatches(X, Y, 3))
    options = {"n_members": 6, "rng": 0, "store": "final"}
    whole = ek.run(batched, ek.LossEKI(), n_steps=6, **options)
    loop = ek.AskTell(batched, ek.LossEKI(), n_steps=6, **options)
    for _ in range(2):
        loop.tell(heads(loop.ask(), loop.inputs))
    loop.save(tmp_path / "run")
    assert same(ek.resume(tmp_path / "run", batched), whole)
    ek.run(batched, ek.LossEKI(), n_steps=3, checkpoint=tmp_path / "spent", **options)
    assert same(ek.resume(tmp_path / "spent", batched, n_steps=6), whole)


def test_an_update_in_place_that_is_interrupted_says_so(monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    batched = problem(ek.MiniBatches(X, Y, 3))
    loop = ek.AskTell(batched, ek.LossEKI(), n_members=6, store="final", rng=0)
    loop.tell(heads(loop.ask(), loop.inputs))
    monkeypatch.setattr("ekitools.methods.loss_eki.moved", interrupt)
    with pytest.raises(KeyboardInterrupt):
        loop.tell(heads(loop.ask(), loop.inputs))
    assert loop.status.code == "interrupted"
    assert "only a part of the ensemble is updated" in loop.result().attrs["status"]


@pytest.mark.parametrize("kind", [ek.MiniBatches, ek.OnlineData])
def test_data_follow_no_later_edits(kind):
    x, y = X.copy(), Y.copy()
    data = kind(x, y, 2)
    fingerprint = data.fingerprint()
    x[:], y[:] = 0, 0
    np.testing.assert_array_equal(data.inputs, X)
    np.testing.assert_array_equal(data.targets, Y)
    assert fingerprint == kind(X, Y, 2).fingerprint()
    with pytest.raises(ValueError, match="read-only"):
        data.inputs[0] = 1


def test_read_only_data_are_not_copied(tmp_path):
    x = X.copy()
    x.flags.writeable = False
    assert ek.OnlineData(x, Y).inputs is x
    view = X.view()
    view.flags.writeable = False  # X itself can be written to
    assert not np.shares_memory(ek.OnlineData(view, Y).inputs, X)
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert np.shares_memory(ek.OnlineData(mapped, Y).inputs, mapped)


def test_a_model_that_changes_its_inputs_harms_no_other_member():
    def greedy(u, inputs):
        g = heads(u[None], inputs)[0]
        inputs[:] = 0
        return g

    data = ek.OnlineData(X, Y, 2)
    prior = ek.GaussianPrior(np.zeros(4), 1.0)
    results = [
        ek.run(
            ek.InverseProblem(model, prior, 0.1, data),
            ek.EKI(ek.FixedStep(1.0), t_end=None),
            n_members=10,
            rng=0,
        )
        for model in (
            ek.FunctionModel(greedy, takes_inputs=True),
            ek.FunctionModel(lambda u, inputs: heads(u[None], inputs)[0], takes_inputs=True),
        )
    ]
    np.testing.assert_array_equal(results[0].u, results[1].u)
