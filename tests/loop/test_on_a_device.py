"""Runs of an ensemble on a device: the numbers of NumPy, and next to nothing that crosses."""

import json

import array_api_strict
import numpy as np
import pytest

import ekitools as ek
from ekitools.core.arrays import host
from ekitools.models.evaluate import evaluate
from tests.zoo import counting as zoo
from tests.zoo.counting import CARD, Array, card, counting, xp

RNG = np.random.default_rng(3)
A = RNG.normal(size=(12, 5))
PRIOR = ek.GaussianPrior(np.full(5, 0.2), 1.0)


def quadratic(u):
    space = u.__array_namespace__() if isinstance(u, Array) else np
    z = u @ (space.asarray(A) if isinstance(u, Array) else A).T
    return z + 0.1 * z**2


def problem(model=quadratic, noise=0.1):
    model = ek.FunctionModel(model, vectorized=True)
    return ek.InverseProblem(model, PRIOR, noise, quadratic(np.full((1, 5), 0.4))[0])


METHODS = {
    "EKI": ek.EKI(),
    "EKI by norms": ek.EKI(ek.NormStep(), t_end=None, perturbed=False),
    "EKI tikhonov": ek.EKI(ek.NormStep(), t_end=None, tikhonov=True),
    "ETKI": ek.ETKI(),
    "ETKI rotated": ek.ETKI(rotate=True),
    "GNKI": ek.GNKI(),
    "LossEKI": ek.LossEKI(),
    "LossEKI spread": ek.LossEKI(ek.FixedStep(1e-4), spread=ek.Spread(0.3, every=2), averaging=0.5),
    "CurvatureEKI": ek.CurvatureEKI(memory=2, averaging=0.5),
    "Nesterov": ek.Nesterov(ek.LossEKI()),
    "Sparse": ek.Sparse(ek.GNKI()),
    "ALDI": ek.ALDI(),
    "TemperedSMC": ek.TemperedSMC(),
}
WAITS = {
    "LossEKI": 1,
    "LossEKI spread": 1,
    "CurvatureEKI": 1,
    "Nesterov": 2,
    "EKI": 1,
    "EKI by norms": 1,
    "EKI tikhonov": 1,
    "ETKI": 1,
    "ETKI rotated": 1,
}


@pytest.mark.parametrize("store", ["all", "last", "final", 2])
@pytest.mark.parametrize("name", METHODS)
def test_the_numbers_are_those_of_numpy(name, store):
    start = PRIOR.sample(20, rng=0)
    options = {"rng": 1, "n_steps": 4, "store": store, "stop": ek.Collapsed(1e-9)}
    expected = ek.run(problem(), METHODS[name], ensemble=start, **options)
    found = ek.run(problem(), METHODS[name], ensemble=card(start), **options)
    assert list(found.iteration) == list(expected.iteration)
    for key in expected.data_vars:
        if expected[key].dtype.kind == "f":
            np.testing.assert_allclose(found[key], expected[key], rtol=1e-6, atol=1e-8)
    assert found.attrs["status"] == expected.attrs["status"]


@pytest.mark.parametrize("library", ["torch", "jax", "array_api_strict"])
@pytest.mark.parametrize("name", ["EKI", "ETKI", "GNKI", "LossEKI spread", "CurvatureEKI"])
def test_the_numbers_are_those_of_numpy_in_other_libraries(name, library):
    if library == "jax":
        pytest.importorskip("jax")
        space = pytest.importorskip("jax.numpy")
    else:
        space = pytest.importorskip(library)

    def model(u):
        assert type(u) is type(kind)
        z = u @ space.asarray(A.astype(np.float32)).T
        return z + 0.1 * z**2

    start = PRIOR.sample(20, rng=0).astype(np.float32)
    kind = space.asarray(start)
    options = {"rng": 1, "n_steps": 3, "store": "last"}
    expected = ek.run(problem(), METHODS[name], ensemble=start, **options)
    found = ek.run(problem(model), METHODS[name], ensemble=kind, **options)
    assert found.u.dtype == np.float32
    np.testing.assert_allclose(found.u, expected.u, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.misfit, expected.misfit, rtol=1e-2)


@pytest.mark.parametrize("name", ["EKI", "ETKI", "LossEKI spread", "CurvatureEKI", "Nesterov"])
def test_nothing_depends_on_the_numbers_of_an_array_where_that_is_forbidden(name):
    there = array_api_strict.Device("device1")

    def model(u):
        z = u @ array_api_strict.asarray(A, device=there).T
        return z + 0.1 * z**2

    start = PRIOR.sample(20, rng=0)
    options = {"rng": 1, "n_steps": 3, "store": "last"}
    expected = ek.run(problem(), METHODS[name], ensemble=start, **options)
    flags = array_api_strict.ArrayAPIStrictFlags
    with flags(boolean_indexing=False, data_dependent_shapes=False):
        kind = array_api_strict.asarray(start, device=there)
        found = ek.run(problem(model), METHODS[name], ensemble=kind, **options)
    np.testing.assert_allclose(found.u, expected.u, rtol=1e-6, atol=1e-8)


def step(loop):
    """One step of the loop as `ekitools.run` makes it, and what crossed."""
    with counting() as counts:
        told = evaluate(loop.seen.model, loop._handed(), loop.seen.n_data, later=True)
        loop._take(told.g, told.failures, told.extras, judged=False)
    return counts


@pytest.mark.parametrize("name", WAITS)
@pytest.mark.parametrize("n_members", [8, 30])
def test_how_often_the_host_waits(name, n_members):
    start = card(PRIOR.sample(n_members, rng=0))
    loop = ek.AskTell(problem(), METHODS[name], ensemble=start, rng=1, stop=ek.Collapsed())
    loop.store = loop._history.store = "last"
    assert [step(loop).waits for _ in range(2)] == [WAITS[name]] * 2


def network(inputs, k=4, width=60):
    """A network of one hidden layer as a model of its weights, and its number of weights."""
    m = inputs.shape[1]

    def model(u, inputs):
        space = u.__array_namespace__()
        first = space.reshape(u[:, : m * width], (-1, width, m))
        second = space.reshape(u[:, m * width :], (-1, k, width))
        hidden = space.tanh(first @ inputs.T)
        return space.reshape(space.permute_dims(second @ hidden, (0, 2, 1)), (u.shape[0], -1))

    return model, width * (m + k)


def learning(method_space=card, **options):
    x = RNG.normal(size=(500, 80))
    y = np.eye(4)[RNG.integers(4, size=500)]
    model, p = network(x)
    prior = ek.GaussianPrior(np.zeros(p), np.full(p, 0.02))
    model = ek.FunctionModel(model, vectorized=True, takes_inputs=True)
    data = ek.MiniBatches(x, y, 100, **options)
    learning_problem = ek.InverseProblem(model, prior, ek.CrossEntropy(4), data)
    return learning_problem, method_space(prior.sample(40, rng=0))


@pytest.mark.parametrize("store", ["last", "final"])
@pytest.mark.parametrize(
    "method", [ek.LossEKI(), ek.LossEKI(spread=ek.Spread(0.5, every=100), averaging=0.9)]
)
def test_a_step_of_learning_waits_once_and_moves_less_than_a_megabyte(method, store):
    target, start = learning()
    assert start._values.nbytes > 1.5e6  # the ensemble itself does not fit into the bound
    options = {"rng": 1, "store": store, "evaluate_final": False}
    loop = ek.AskTell(target, method, ensemble=start, **options)
    for _ in range(7):  # into the second epoch
        counts = step(loop)
        assert counts.waits == 1
        assert counts.traffic < 5000  # the misfits, and twice the numbers of the samples
    assert loop.result().sizes["iteration"] == 1
    if store == "last":
        assert np.isfinite(loop.result().u[-1]).all()


def test_members_drawn_on_the_device_cost_no_transfer(monkeypatch):
    with zoo.cupy_installed(monkeypatch):
        target, start = learning(zoo.CupyArray)
        options = {"rng": 1, "store": "last", "draws": "device"}
        loop = ek.AskTell(target, ek.LossEKI(spread=ek.Spread(0.5)), ensemble=start, **options)
        step(loop)  # the prior's mean and standard deviations go to the device once
        for _ in range(3):
            counts = step(loop)
            assert counts.waits == 1
            assert counts.traffic < 5000


def test_samples_are_gathered_where_the_ensemble_is():
    target, start = learning()
    loop = ek.AskTell(target, ek.LossEKI(), ensemble=start, rng=1)
    assert isinstance(loop.inputs, Array)
    expected = ek.AskTell(target, ek.LossEKI(), ensemble=host(start), rng=1)
    np.testing.assert_array_equal(host(loop.inputs), expected.inputs)
    np.testing.assert_array_equal(loop.data, expected.data)
    assert loop.seen.fingerprint() == expected.seen.fingerprint()


def test_samples_of_torch_are_gathered_where_the_ensemble_is(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr("ekitools.problem.in_host_memory", lambda _: False)
    x, y = RNG.normal(size=(60, 3)).astype(np.float32), RNG.normal(size=60).astype(np.float32)
    seen = []

    def model(u, inputs):
        seen.append(type(inputs))
        space = torch if isinstance(u, torch.Tensor) else np
        return space.tanh(u @ inputs.T)

    target = ek.InverseProblem(
        ek.FunctionModel(model, vectorized=True, takes_inputs=True),
        ek.GaussianPrior(np.zeros(3), 1.0),
        0.5,
        ek.MiniBatches(x, y, 20),
    )
    start = target.prior.sample(12, rng=0).astype(np.float32)
    options = {"rng": 1, "n_steps": 5}
    expected = ek.run(target, ek.LossEKI(), ensemble=start, **options)
    found = ek.run(target, ek.LossEKI(), ensemble=torch.as_tensor(start), **options)
    assert seen[-1] is torch.Tensor
    np.testing.assert_allclose(found.u, expected.u, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_a_resumed_run_of_torch_is_bitwise_the_same(name, tmp_path):
    torch = pytest.importorskip("torch")

    def model(u):
        z = u @ torch.as_tensor(A, dtype=u.dtype).T
        return z + 0.1 * z**2

    options = {"n_members": 20, "rng": 0, "like": torch.empty(1)}
    whole = ek.run(problem(model), METHODS[name], n_steps=4, **options)
    ek.run(problem(model), METHODS[name], n_steps=2, checkpoint=tmp_path / "run", **options)
    found = ek.resume(tmp_path / "run", problem(model), n_steps=4)
    np.testing.assert_array_equal(found.u, whole.u)


def test_samples_in_a_file_stay_there(tmp_path):
    x = RNG.normal(size=(50, 3))
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    data = ek.MiniBatches(mapped, RNG.normal(size=50), 10).placed(card(np.ones(1)))
    inputs, targets = data.take(np.arange(3))
    np.testing.assert_array_equal(inputs, x[:3])
    assert isinstance(targets, Array)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("n", "d"), [(20, 300), (60, 7), (60, 50)])
@pytest.mark.parametrize("noise", [0.3, 1e-4])
def test_an_analysis_leaves_ensemble_and_outputs_on_the_device(n, d, noise, dtype):
    rng = np.random.default_rng(0)
    u, g, draw = (rng.normal(size=(n, k)).astype(dtype) for k in (400, d, d))
    y = rng.normal(size=d).astype(dtype)
    model = ek.GaussianNoise(np.full(d, noise))
    with counting() as counts:
        found = ek.kalman_update(card(u), card(g), card(y), model, noise_draw=card(draw))
    assert counts.waits <= 2  # with few digits once more in float64
    assert counts.down <= 2 * 4 * 8
    assert counts.up <= 2 * 8 * d  # the noise, once for each dtype
    assert found.dtype == dtype
    expected = ek.kalman_update(*(a.astype(np.float64) for a in (u, g, y)), model, noise_draw=draw)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(
        host(found), expected, atol=scale * (1e-9, 3e-5)[dtype == np.float32]
    )


@pytest.mark.parametrize("policy", ["retry", "drop", "resample"])
@pytest.mark.parametrize("kind", ["nan", "infinite", "too large"])
@pytest.mark.parametrize("method", [ek.EKI(), ek.LossEKI()])
def test_members_that_fail_on_the_device_are_those_that_fail_in_numpy(policy, kind, method):
    value = {"nan": np.nan, "infinite": np.inf, "too large": 1e200}[kind]

    def failing(u):
        g = quadratic(u)
        space = u.__array_namespace__() if isinstance(u, Array) else np
        return space.where(u[:, :1] > 1.0, space.full_like(g, value), g)

    start = PRIOR.sample(30, rng=0)
    options = {"rng": 1, "n_steps": 3, "on_failure": policy}
    expected = ek.run(problem(failing), method, ensemble=start, **options)
    found = ek.run(problem(failing), method, ensemble=card(start), **options)
    np.testing.assert_allclose(found.u, expected.u, rtol=1e-6, atol=1e-8)
    np.testing.assert_array_equal(found.failed, expected.failed)
    entries = [json.loads(result.attrs["failures"]) for result in (found, expected)]
    places = [[entry.pop("u", [0.0]) for entry in each] for each in entries]
    assert entries[0] == entries[1]
    for there, here in zip(*places, strict=True):
        np.testing.assert_allclose(there, here, rtol=1e-9)
    assert found.attrs["model_runs"] == expected.attrs["model_runs"]


def test_missing_outputs_are_filled_on_the_device_too():
    def gappy(u):
        g = quadratic(u)
        space = u.__array_namespace__() if isinstance(u, Array) else np
        gap = space.zeros_like(g[0, :])
        gap = space.where(space.asarray(np.arange(12) == 3), gap + np.nan, gap)
        return space.where(u[:, :1] > 1.0, g + gap, g)

    start = PRIOR.sample(30, rng=0)
    runs = [
        ek.run(problem(gappy), ek.EKI(), ensemble=u, rng=1, n_steps=3) for u in (start, card(start))
    ]
    assert int(runs[0].missing.sum()) > 0
    np.testing.assert_array_equal(runs[1].missing, runs[0].missing)
    np.testing.assert_allclose(runs[1].u, runs[0].u, rtol=1e-6, atol=1e-8)


class Grumpy:
    """A step rule that does not take numbers that are not finite."""

    def step(self, seen):
        if not np.isfinite(seen.misfit).all():
            raise RuntimeError("not finite")
        return 0.1


def test_what_a_rule_raises_at_outputs_of_failed_members_is_thrown_away():
    def failing(u):
        space = u.__array_namespace__()
        return space.where(u[:, :1] > 1.0, quadratic(u) + np.nan, quadratic(u))

    start = card(PRIOR.sample(30, rng=0))
    options = {"rng": 1, "n_steps": 3, "on_failure": "drop"}
    result = ek.run(problem(failing), ek.EKI(Grumpy()), ensemble=start, **options)
    assert result.failed[0].any()
    assert result.attrs["status_code"] == "budget_spent"


def test_what_a_rule_raises_at_good_outputs_is_raised():
    class Wrong:
        def step(self, seen):
            raise RuntimeError("a mistake")

    with pytest.raises(RuntimeError, match="a mistake"):
        ek.run(problem(), ek.EKI(Wrong()), ensemble=card(PRIOR.sample(9, rng=0)), rng=0)


def test_identical_outputs_are_reported_on_the_device_too():
    def constant(u):
        return xp.zeros((u.shape[0], 12)) + 1.0

    with pytest.warns(RuntimeWarning, match="all 20 members have identical outputs"):
        ek.run(problem(constant), ek.EKI(), ensemble=card(PRIOR.sample(20, rng=0)), n_steps=1)


def test_records_stay_on_the_device_until_they_are_read():
    loop = ek.AskTell(problem(), ek.LossEKI(), ensemble=card(PRIOR.sample(20, rng=0)), store="last")
    step(loop)
    (record,) = loop._history._records
    assert isinstance(record.u.array, Array)
    with counting() as counts:
        first = loop.result()
    assert counts.waits == 2  # u and g
    with counting() as counts:
        second = loop.result()
    assert counts.waits == 0
    np.testing.assert_array_equal(first.u, second.u)


def test_an_iteration_that_is_kept_leaves_the_device_when_the_next_one_comes():
    loop = ek.AskTell(problem(), ek.LossEKI(), ensemble=card(PRIOR.sample(20, rng=0)), store=2)
    for _ in range(4):
        step(loop)
    assert [isinstance(r.u, np.ndarray) for r in loop._history._records] == [True, True, False]


def test_dropped_members_are_rows_of_nan_in_a_late_record():
    loop = ek.AskTell(
        problem(),
        ek.LossEKI(),
        ensemble=card(PRIOR.sample(6, rng=0)),
        on_failure="drop",
        store="last",
    )
    loop.tell(quadratic(loop.ask()), {2: "late"})
    step(loop)
    assert np.isnan(loop.result().u[-1]).all("parameter").values.tolist() == [
        member == 2 for member in range(6)
    ]


def test_the_prior_is_drawn_in_the_kind_of_an_array():
    torch = pytest.importorskip("torch")
    seen = []

    def model(u):
        seen.append((type(u), u.dtype))
        z = u @ torch.as_tensor(A, dtype=u.dtype).T
        return z + 0.1 * z**2

    like = torch.empty(1, dtype=torch.float32)
    found = ek.run(problem(model), ek.EKI(), n_members=30, rng=0, like=like)
    assert set(seen) == {(torch.Tensor, torch.float32)}
    expected = ek.run(problem(), ek.EKI(), n_members=30, rng=0)
    np.testing.assert_allclose(found.u[0], expected.u[0], rtol=1e-6)
    np.testing.assert_allclose(found.u[-1], expected.u[-1], rtol=1e-3, atol=1e-4)
    assert found.u.dtype == np.float32


def test_the_prior_is_drawn_on_the_device_of_an_array():
    loop = ek.AskTell(problem(), ek.EKI(), n_members=30, rng=0, like=card(np.ones(1)))
    assert loop.ask().device is CARD
    strict = array_api_strict.Device("device1")
    like = array_api_strict.ones(1, device=strict)
    assert ek.AskTell(problem(), ek.EKI(), n_members=5, rng=0, like=like).ask().device == strict
    single = ek.AskTell(problem(), ek.EKI(), rng=0, like=np.ones(1, dtype=np.float32)).ask()
    assert single.dtype == np.float32


def test_members_of_the_prior_that_fail_are_drawn_again_in_the_same_kind():
    def failing(u):
        space = u.__array_namespace__() if isinstance(u, Array) else np
        return space.where(u[:, :1] > 1.0, quadratic(u) + np.nan, quadratic(u))

    options = {"n_members": 30, "rng": 1, "n_steps": 2}
    expected = ek.run(problem(failing), ek.EKI(), **options)
    found = ek.run(problem(failing), ek.EKI(), like=card(np.ones(1)), **options)
    assert expected.attrs["model_runs"] > 90
    np.testing.assert_allclose(found.u, expected.u, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("draws", ["host", "device"])
@pytest.mark.parametrize(
    "method",
    [ek.EKI(ek.FixedStep(0.2)), ek.LossEKI(ek.FixedStep(0.1), spread=ek.Spread(0.3))],
)
def test_a_resumed_run_keeps_kind_and_draws(draws, method, tmp_path):
    torch = pytest.importorskip("torch")

    def model(u):
        assert isinstance(u, torch.Tensor)
        assert u.dtype == torch.float32
        return u @ torch.as_tensor(A, dtype=u.dtype).T

    options = {"n_members": 20, "rng": 0, "like": torch.empty(1), "draws": draws}
    whole = ek.run(problem(model), method, n_steps=4, **options)
    ek.run(problem(model), method, n_steps=2, checkpoint=tmp_path / "a", **options)
    resumed = ek.resume(tmp_path / "a", problem(model), n_steps=4)
    np.testing.assert_array_equal(resumed.u, whole.u)
    other = ek.run(problem(model), method, n_steps=4, **(options | {"draws": "host"}))
    assert np.array_equal(other.u, whole.u) == (draws == "host")


def test_a_run_goes_on_in_another_kind_with_like(tmp_path):
    torch = pytest.importorskip("torch")
    method = ek.EKI(ek.FixedStep(0.2))
    options = {"n_members": 20, "rng": 0, "like": card(np.ones(1))}
    ek.run(problem(), method, n_steps=2, checkpoint=tmp_path / "a", **options)
    expected = ek.run(problem(), method, n_steps=4, n_members=20, rng=0)
    seen = []

    def model(u):
        seen.append(type(u))
        z = u @ torch.as_tensor(A).T
        return z + 0.1 * z**2

    like = torch.ones(1, dtype=torch.float64)
    found = ek.resume(tmp_path / "a", problem(model), n_steps=4, like=like)
    np.testing.assert_allclose(found.u, expected.u, rtol=1e-8)
    assert set(seen) == {torch.Tensor}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ensemble": np.ones((3, 5))}, "like: must be left out with ensemble="),
        ({"method": ek.UKI()}, "like: must be left out for UKI"),
        ({"draws": "card"}, 'draws: must be "host" or "device", got .card.'),
    ],
)
def test_arguments_that_do_not_go_with_like(options, message):
    method = options.pop("method", ek.EKI())
    with pytest.raises(ValueError, match=message):
        ek.run(problem(), method, like=np.ones(1), **options)


@pytest.mark.parametrize("as_ensemble", [True, False])
def test_a_flow_gives_the_model_members_of_its_kind(as_ensemble):
    torch = pytest.importorskip("torch")
    seen = []

    def model(u):
        seen.append(type(u))
        z = u @ torch.as_tensor(A).T
        return z + 0.1 * z**2

    start = PRIOR.sample(12, rng=0)
    options = {"t_span": (0, 0.1), "rng": 0}
    expected = ek.integrate(problem(), ek.EKIFlow(), ensemble=start, **options)
    kind = torch.as_tensor(start)
    given = {"ensemble": kind} if as_ensemble else {"ensemble": start, "like": kind}
    found = ek.integrate(problem(model), ek.EKIFlow(), **given, **options)
    assert set(seen) == {torch.Tensor}
    np.testing.assert_allclose(found.u, expected.u, rtol=1e-10)
