"""Checkpoints: bitwise resumption after anything, and clear words about what cannot be resumed."""

import json
import time

import numpy as np
import pytest
from zoo.results import same

import ekitools as ek
from ekitools.loop import checkpoint as files
from ekitools.results.history import FIXED

MATRIX = np.random.default_rng(0).normal(size=(6, 3))

METHODS = {
    "gnki": ek.GNKI(ek.FixedStep(0.5), refinements=3),
    "controller": ek.EKI(),
    "fixed": ek.EKI(ek.FixedStep(0.15)),
    "esmda": ek.EKI(ek.ESMDA(5)),
    "norm": ek.EKI(ek.NormStep(0.5), perturbed=False),
    "tikhonov": ek.EKI(ek.FixedStep(0.5), t_end=None, tikhonov=True),
    "momentum": ek.Nesterov(ek.EKI(ek.FixedStep(0.5), t_end=None)),
    "rules": ek.EKI(
        ek.FixedStep(0.5),
        t_end=None,
        stop=(ek.Discrepancy(0.1), ek.NoProgress(1e-3, 2), ek.Collapsed(1e-3)),
    ),
}


def model(u):
    return np.tanh(MATRIX @ u)


def problem(**changes):
    arguments = {
        "model": ek.FunctionModel(model),
        "prior": ek.GaussianPrior(np.zeros(3), 1.0),
        "noise": 0.01,
        "data": model(np.ones(3)),
    }
    return ek.InverseProblem(**(arguments | changes))


class Interrupt:
    """A model that is interrupted from the keyboard at its n-th run."""

    vectorized = stochastic = False

    def __init__(self, at):
        self.at, self.runs = at, 0

    def __call__(self, u):
        self.runs += 1
        if self.runs == self.at:
            raise KeyboardInterrupt
        return model(u)


@pytest.mark.parametrize("on_failure", ["retry", "drop", "resample"])
@pytest.mark.parametrize("name", METHODS)
def test_a_resumed_run_is_bitwise_the_uninterrupted_one(tmp_path, name, on_failure):
    def flaky(u):
        return model(u) if abs(u[0]) < 1.5 else np.full(6, np.nan)

    options = {"n_members": 12, "n_steps": 6, "rng": 4, "on_failure": on_failure}
    whole = ek.run(problem(model=flaky), METHODS[name], **options)
    assert json.loads(whole.attrs["failures"])
    for stop_at in range(1, len(whole.history) + 2):
        loop = ek.AskTell(problem(), METHODS[name], **options)
        path = tmp_path / str(stop_at)
        for _ in range(stop_at):
            if not loop.done:
                loop.tell(np.array([flaky(u) for u in loop.ask()]))
            loop.save(path)  # with "retry" also while members wait to run again
        resumed = ek.resume(path, problem(model=flaky))
        whole.attrs["problem"] = resumed.attrs["problem"]  # the model's name is not compared
        assert resumed.attrs["model_runs"] == whole.attrs["model_runs"]
        for variable in whole.data_vars:
            np.testing.assert_array_equal(resumed[variable], whole[variable])
        failures = [(f["iteration"], f["member"]) for f in json.loads(resumed.attrs["failures"])]
        expected = [(f["iteration"], f["member"]) for f in json.loads(whole.attrs["failures"])]
        assert failures == expected
        assert resumed.attrs["status"] == whole.attrs["status"]


@pytest.mark.parametrize("store", ["all", "last", "final", 2])
def test_only_what_is_stored_is_on_disk(tmp_path, store):
    method = METHODS["fixed"]
    path = tmp_path / "run"
    result = ek.run(problem(), method, n_members=6, rng=0, checkpoint=path, store=store)
    kinds = sorted(p.name.split("-")[0] for p in path.iterdir())
    assert kinds == ["checkpoint.json", "history", "records", "state"]
    (log,) = path.glob("records-*.npy")
    with log.open("rb") as file:
        blocks = []
        while file.tell() < log.stat().st_size:
            blocks.append(np.load(file, allow_pickle=False))
    logged = [int(n) for n in blocks[1 :: 1 + len(FIXED)]]  # a count stands before
    last = result.iteration.values.tolist()[-1:]  # is in the state file until it is to be kept
    assert [*logged, *(last if logged[-1:] != last else [])] == result.iteration.values.tolist()
    assert same(ek.resume(path, problem()), result)  # nothing left to do


def test_a_spent_budget_can_be_extended(tmp_path):
    def flaky(u):
        return model(u) if abs(u[0]) < 1.5 else np.full(6, np.nan)

    for evaluate_final in (True, False):
        options = {"n_members": 12, "rng": 4, "evaluate_final": evaluate_final}
        whole = ek.run(problem(model=flaky), METHODS["fixed"], n_steps=5, **options)
        path = tmp_path / str(evaluate_final)
        ek.run(problem(model=flaky), METHODS["fixed"], n_steps=2, checkpoint=path, **options)
        resumed = ek.resume(path, problem(model=flaky), n_steps=5)
        assert same(resumed, whole)
        assert same(ek.resume(path, problem(model=flaky)), whole)


def test_a_stochastic_model_draws_the_same_after_resuming(tmp_path):
    def noisy(u, *, rng):
        return model(u) + 0.01 * rng.standard_normal(6)

    stochastic = problem(model=ek.FunctionModel(noisy, stochastic=True))
    options = {"n_members": 6, "rng": 4}
    whole = ek.run(stochastic, METHODS["fixed"], n_steps=4, **options)
    ek.run(stochastic, METHODS["fixed"], n_steps=2, checkpoint=tmp_path / "run", **options)
    assert same(ek.resume(tmp_path / "run", stochastic, n_steps=4), whole)
    assert not np.array_equal(whole.g[0, 0] - model(whole.u[0, 0].values), np.zeros(6))


def test_interrupt_from_the_keyboard_returns_and_keeps_what_was_computed(tmp_path):
    method, options = METHODS["fixed"], {"n_members": 5, "rng": 0}
    whole = ek.run(problem(), method, **options)
    path = tmp_path / "run"
    broken = problem(model=Interrupt(at=13))
    partial = ek.run(broken, method, checkpoint=path, **options)
    assert partial.attrs["status_code"] == "interrupted"
    assert partial.sizes["iteration"] == 2
    np.testing.assert_array_equal(partial.u, whole.u[:2])
    resumed = ek.resume(path, problem())
    np.testing.assert_array_equal(resumed.u, whole.u)
    assert resumed.attrs["status_code"] == "posterior_reached"


def test_interrupt_before_anything_was_computed_is_an_interrupt(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        ek.run(problem(model=Interrupt(at=2)), METHODS["fixed"], n_members=5, rng=0)


def test_there_is_no_pickle_in_any_file(tmp_path):
    ek.run(problem(), METHODS["rules"], n_members=5, n_steps=2, rng=0, checkpoint=tmp_path / "run")
    for path in (tmp_path / "run").glob("*.npy"):
        with path.open("rb") as file:
            while file.tell() < path.stat().st_size:
                assert np.load(file, allow_pickle=False).dtype.kind in "fib"


def test_an_unwritable_folder_is_found_out_before_any_model_run(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")
    counting = Interrupt(at=-1)
    with pytest.raises(ek.CheckpointError, match="checkpoint: cannot write to .*file/run"):
        ek.run(problem(model=counting), ek.EKI(), rng=0, checkpoint=blocker / "run")
    assert counting.runs == 0


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "run"
    ek.run(problem(), METHODS["fixed"], n_members=5, n_steps=2, rng=0, checkpoint=path)
    return path


def test_another_run_in_the_same_folder_is_refused(saved):
    with pytest.raises(ek.CheckpointError, match="already holds a run. Continue it with ek.resume"):
        ek.run(problem(), METHODS["fixed"], n_members=5, rng=0, checkpoint=saved)


def test_another_format_is_refused(saved):
    index = saved / "checkpoint.json"
    meta = json.loads(index.read_text()) | {"format": files.FORMAT + 1, "ekitools": "9.9"}
    del meta["sha256"]  # formats 1 and 2 had none
    index.write_text(json.dumps(meta))
    with pytest.raises(ek.CheckpointError, match=r"format 5, .* format 4. .*ekitools 9.9"):
        ek.resume(saved, problem())


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"data": np.zeros(6)}, "data"),
        ({"noise": 0.02}, "noise"),
        ({"prior": ek.GaussianPrior(np.ones(3), 1.0)}, "prior"),
        ({"parameter_names": ("a", "b", "c")}, "parameter_names"),
        ({"data": np.zeros(6), "noise": 0.02}, "data, noise"),
    ],
)
def test_another_problem_is_refused_by_name(saved, changes, named):
    with pytest.raises(ek.CheckpointError, match=rf"problem: differs .* in its {named}\."):
        ek.resume(saved, problem(**changes))


def test_another_method_is_refused(saved):
    with pytest.raises(ek.CheckpointError, match=r"method: differs .*0\.15.*0\.25"):
        ek.resume(saved, problem(), ek.EKI(ek.FixedStep(0.25)))
    same = ek.resume(saved, problem(), METHODS["fixed"], n_steps=3)
    assert same.sizes["iteration"] == 4


class Halving:
    """A step rule of the user's own: it cannot be rebuilt from its name."""

    def step(self, seen):
        return seen.remaining / 2


def test_a_method_of_the_users_own_has_to_be_passed_again(tmp_path):
    method, options = ek.EKI(Halving()), {"n_members": 5, "rng": 0}
    whole = ek.run(problem(), method, n_steps=4, **options)
    ek.run(problem(), method, n_steps=2, checkpoint=tmp_path / "run", **options)
    with pytest.raises(ek.CheckpointError, match="method: must be passed to resume .*Halving"):
        ek.resume(tmp_path / "run", problem(), n_steps=4)
    assert same(ek.resume(tmp_path / "run", problem(), method, n_steps=4), whole)


def test_a_torch_ensemble_is_resumed_as_one(tmp_path):
    torch = pytest.importorskip("torch")
    start = torch.as_tensor(np.random.default_rng(0).normal(size=(6, 3)), dtype=torch.float32)
    loop = ek.AskTell(problem(), METHODS["fixed"], ensemble=start, rng=0)
    loop.tell(np.tanh(loop.ask().numpy() @ MATRIX.T))
    loop.save(tmp_path / "run")
    again = ek.AskTell.load(tmp_path / "run", problem(), like=start)
    assert isinstance(again.ask(), torch.Tensor)
    assert again.ask().dtype == torch.float32
    assert torch.equal(again.ask(), loop.ask())


def test_checkpoints_every_so_often(tmp_path):
    path = tmp_path / "run"
    seen = []

    def look(info):
        seen.append(json.loads((path / "checkpoint.json").read_text())["counts"][0])

    method = ek.EKI(ek.FixedStep(0.2))
    ek.run(problem(), method, n_members=5, rng=0, checkpoint=path, checkpoint_every=2, on_step=look)
    assert seen == [0, 2, 2, 4, 4, 6]


def test_wall_time_goes_on_counting_after_resuming(tmp_path):
    def slow(u):
        time.sleep(0.004)
        return model(u)

    path, options = tmp_path / "run", {"n_members": 5, "rng": 0}
    slowly = problem(model=ek.FunctionModel(slow))
    first = ek.run(slowly, METHODS["fixed"], n_steps=2, checkpoint=path, **options)
    assert first.attrs["seconds"] >= 3 * 5 * 0.004
    at_once = ek.resume(path, slowly)
    assert at_once.attrs["seconds"] == first.attrs["seconds"]
    second = ek.resume(path, slowly, n_steps=4)
    assert second.attrs["seconds"] >= first.attrs["seconds"] + 2 * 5 * 0.004
