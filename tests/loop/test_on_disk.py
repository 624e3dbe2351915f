"""Runs with the ensemble on disk: bitwise the runs in memory, resumed after any interrupt."""

import contextlib
import json
import tracemalloc

import h5py
import numpy as np
import pytest
from scipy import stats

import ekitools as ek
from ekitools.loop import ensemble as on_disk
from ekitools.loop.scratch import Scratch
from ekitools.loop.stepping import Stepping
from ekitools.results import diagnostics

P, D = 300, 15
A = np.random.default_rng(0).normal(size=(D, P)) / np.sqrt(P)
Y = np.random.default_rng(1).normal(size=D)

GAUSSIAN = ek.GaussianPrior(np.ones(P), np.linspace(0.5, 2, P))
SINGLE = ek.GaussianPrior(np.ones(P, dtype=np.float32), 1.0)
BOUNDED = ek.Prior(
    {f"a{i}": stats.lognorm(0.5) if i % 2 else stats.uniform(0, 1) for i in range(P)}
)
NAMES = ("u", "g", "misfit", "failed", "t", "step", "history_misfit", "history_spread")


def model(u):
    return np.tanh(A @ u)


def fragile(u):
    """It fails for some members."""
    if int(1e6 * u[1]) % 7 == 0:
        raise ValueError(f"no convergence at {u[1]:.1f}")
    return model(u)


def problem(prior=GAUSSIAN, function=model):
    return ek.InverseProblem(ek.FunctionModel(function), prior, 0.05, Y)


def options(**more):
    return {"n_members": 12, "rng": 0, "store": "final", **more}


def same(found, expected, names=NAMES):
    for name in names:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    for name in ("status", "model_runs", "seed"):
        assert found.attrs[name] == expected.attrs[name]
    failures = [json.loads(each.attrs["failures"]) for each in (found, expected)]
    for failure in failures[1]:
        failure.pop("u", None)  # a run in memory has the parameters for up to 1000 of them
    assert failures[0] == failures[1]


@pytest.mark.parametrize("prior", [GAUSSIAN, SINGLE, BOUNDED], ids=["Gaussian", "f4", "bounded"])
@pytest.mark.parametrize(
    "method",
    [ek.ETKI(), ek.EKI(), ek.EKI(ek.ESMDA(3), perturbed=False), ek.ETKI(rotate=True)],
    ids=["ETKI", "EKI", "unperturbed", "rotate"],
)
@pytest.mark.parametrize("n", [12, 16, 40], ids=["J<d", "d<J<2d", "J>2d"])
def test_a_run_has_the_bits_of_the_run_in_memory(tmp_path, prior, method, n):
    expected = ek.run(problem(prior), method, **options(n_members=n))
    found = ek.run(problem(prior), method, **options(n_members=n, scratch=tmp_path))
    same(found, expected)
    assert found.u.dtype == expected.u.dtype
    assert isinstance(np.asarray(found.u.variable._data).base.base, np.memmap)
    (file,) = tmp_path.iterdir()  # that of the result
    np.testing.assert_array_equal(np.load(file), expected.u[-1])


@pytest.mark.parametrize("prior", [GAUSSIAN, BOUNDED], ids=["Gaussian", "bounded"])
@pytest.mark.parametrize(
    "more",
    [
        {"evaluate_final": False},
        {"n_steps": 2},
        {"n_steps": 2, "evaluate_final": False},
        {"stop": ek.Discrepancy(tau=0.1)},
        {"stop": ek.Discrepancy(tau=100.0)},
    ],
    ids=str,
)
def test_any_end_of_a_run(tmp_path, prior, more):
    expected = ek.run(problem(prior), ek.EKI(ek.ESMDA(4)), **options(**more))
    found = ek.run(problem(prior), ek.EKI(ek.ESMDA(4)), **options(**more, scratch=tmp_path))
    same(found, expected)


@pytest.mark.parametrize("prior", [GAUSSIAN, BOUNDED], ids=["Gaussian", "bounded"])
@pytest.mark.parametrize("method", [ek.ETKI(ek.ESMDA(3)), ek.EKI(ek.ESMDA(3))])
def test_failed_members(tmp_path, prior, method):
    expected = ek.run(problem(prior, fragile), method, **options(n_members=30))
    found = ek.run(problem(prior, fragile), method, **options(n_members=30, scratch=tmp_path))
    lost, failed = np.isnan(expected.u[-1, :, 0]), expected.failed[-1]
    assert failed.any()
    assert (lost & ~failed).any()  # dropped at an earlier iteration
    same(found, expected)


def test_the_result_of_an_error_has_the_members_that_failed(tmp_path):
    def failing(u):
        raise OSError("no licence")

    with pytest.raises(ek.RunError, match="no licence") as caught:
        ek.run(problem(function=failing), ek.ETKI(), **options(scratch=tmp_path))
    expected = GAUSSIAN.sample(12, rng=caught_rng(caught.value.result))
    np.testing.assert_array_equal(caught.value.result.u[-1], expected)


def caught_rng(result):
    """The stream of the initial ensemble of a result."""
    from ekitools.core.streams import Streams

    return Streams(root=[int(x) for x in result.attrs["seed"].strip("[]").split(",")]).prior()


def memory_map(path, u):
    file = np.memmap(path / "u.raw", dtype=u.dtype, mode="w+", shape=u.shape)
    file[:] = u
    return file


def fortran(path, u):
    np.save(path / "u.npy", np.asfortranarray(u))
    return np.load(path / "u.npy", mmap_mode="r")


def zarr_array(path, u):
    zarr = pytest.importorskip("zarr")
    store = zarr.create_array(str(path / "z"), shape=u.shape, dtype=u.dtype, chunks=(12, 70))
    store[:] = u
    return store


def hdf5(path, u):
    return h5py.File(path / "u.h5", "w").create_dataset("u", data=u, chunks=(5, 40))


def dask_array(path, u):
    return pytest.importorskip("dask.array").from_array(u, chunks=(5, 40))


def swapped(path, u):
    return u.astype(u.dtype.newbyteorder())


@pytest.mark.parametrize("made", [memory_map, fortran, zarr_array, hdf5, dask_array, swapped])
@pytest.mark.parametrize("prior", [SINGLE, BOUNDED], ids=["f4", "bounded"])
def test_an_ensemble_of_any_kind(tmp_path, made, prior):
    u = prior.sample(12, rng=3)
    expected = ek.run(problem(prior), ek.ETKI(), ensemble=u, store="final", rng=0)
    ensemble, scratch = made(tmp_path, u), tmp_path / "new" / "scratch"
    found = ek.run(
        problem(prior), ek.ETKI(), ensemble=ensemble, store="final", rng=0, scratch=scratch
    )
    same(found, expected)
    np.testing.assert_array_equal(ensemble[:, :], u)  # it was only read
    assert len(list(scratch.iterdir())) == 1


@pytest.mark.slow
def test_many_blocks_of_columns(tmp_path, monkeypatch):
    """Blocks of the disk that are larger and smaller than those of matrix products."""
    p = 150_001
    rows = np.arange(D) * 10_000

    def observed(u):
        return u[rows]

    for dtype in (np.float64, np.float32):
        prior = ek.GaussianPrior(np.zeros(p, dtype=dtype), 1.0)
        wide = ek.InverseProblem(observed, prior, 0.05, Y)
        for n in (12, 40):
            wanted = options(n_members=n, n_steps=2, stop=())
            expected = ek.run(wide, ek.EKI(ek.ESMDA(2)), **wanted)
            for size in (1 << 10, 1 << 23, 1 << 24):
                monkeypatch.setattr(on_disk, "_BLOCK_BYTES", size)
                found = ek.run(wide, ek.EKI(ek.ESMDA(2)), **wanted, scratch=tmp_path)
                same(found, expected)


@pytest.mark.slow
def test_memory_is_that_of_a_few_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(on_disk, "_BLOCK_BYTES", 1 << 20)
    n, p = 100, 400_000
    prior = ek.GaussianPrior(np.zeros(p, dtype=np.float32), 1.0)
    names = [f"u{i}" for i in range(p)]
    wide = ek.InverseProblem(lambda u: u[:D], prior, 0.05, Y, parameter_names=names)
    tracemalloc.start()
    try:
        result = ek.run(
            wide, ek.ETKI(ek.ESMDA(2)), n_members=n, rng=0, store="final", scratch=tmp_path
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert result.u.nbytes == 4 * n * p
    labels = 120 * p  # of the parameters
    assert peak < 0.3 * result.u.nbytes + labels


@pytest.mark.slow
def test_readers_of_a_result_hold_no_copy_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(diagnostics, "_BLOCK_BYTES", 1 << 20)
    n, p = 100, 50_000
    prior = ek.GaussianPrior(np.zeros(p, dtype=np.float32), 1.0)
    wide = ek.InverseProblem(lambda u: u[:D], prior, 0.05, Y)
    result = ek.run(wide, ek.ETKI(ek.ESMDA(2)), n_members=n, rng=0, store="final", scratch=tmp_path)
    readers = {
        "summary": lambda: str(ek.summary(result)),
        "intervals": lambda: ek.intervals(result),
        "diagnose": lambda: ek.diagnose(result, wide),
        "netCDF": lambda: result.to_netcdf(tmp_path / "result.nc"),
    }
    for name, read in readers.items():
        tracemalloc.start()
        try:
            read()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 0.5 * result.u.nbytes + 300 * p, name


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_executors_get_members_from_the_disk(tmp_path, executor):
    from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

    kind = {"threads": ThreadPoolExecutor, "processes": ProcessPoolExecutor}[executor]
    expected = ek.run(problem(), ek.ETKI(ek.ESMDA(2)), **options())
    with kind(2) as pool:
        found = ek.run(problem(), ek.ETKI(ek.ESMDA(2)), **options(scratch=tmp_path, executor=pool))
    same(found, expected)


def test_a_vectorized_model_gets_some_members_at_a_time(tmp_path, monkeypatch):
    calls = []

    def together(u):
        calls.append(len(u))
        return np.stack([model(row) if int(1e6 * row[1]) % 7 else np.full(D, np.nan) for row in u])

    def vectorized():
        return ek.InverseProblem(ek.FunctionModel(together, vectorized=True), GAUSSIAN, 0.05, Y)

    expected = ek.run(vectorized(), ek.ETKI(ek.ESMDA(2)), **options(n_members=30))
    calls.clear()
    monkeypatch.setattr(on_disk, "_BLOCK_BYTES", 8 * 8 * P)
    found = ek.run(vectorized(), ek.ETKI(ek.ESMDA(2)), **options(n_members=30, scratch=tmp_path))
    assert calls[:4] == [8, 8, 8, 6]
    same(found, expected)


def test_gaps_and_side_products(tmp_path):
    def gappy(u):
        out = model(u)
        if int(1e6 * u[1]) % 3 == 0:
            out[3] = np.nan
        return out, {"largest": np.max(u)}

    for n in (12, P + 10):
        expected = ek.run(problem(function=gappy), ek.ETKI(ek.ESMDA(2)), **options(n_members=n))
        found = ek.run(
            problem(function=gappy),
            ek.ETKI(ek.ESMDA(2)),
            **options(n_members=n, scratch=tmp_path),
        )
        assert int(expected.missing.sum()) > 0
        same(found, expected, (*NAMES, "missing", "largest"))


def test_mini_batches(tmp_path):
    def batch_model(u, inputs):
        return np.tanh(A[np.asarray(inputs)] @ u)

    seen = ek.InverseProblem(
        ek.FunctionModel(batch_model, takes_inputs=True),
        GAUSSIAN,
        0.05,
        ek.MiniBatches(np.arange(D), Y, size=5),
    )
    expected = ek.run(seen, ek.EKI(ek.FixedStep(0.5)), **options())
    same(ek.run(seen, ek.EKI(ek.FixedStep(0.5)), **options(scratch=tmp_path)), expected)


# Checkpoints


class Interrupts:
    """It interrupts the run at one of many moments."""

    def __init__(self, monkeypatch, at=None):
        self.n, self.at = 0, at
        for kind, name in (
            (on_disk, "combine"),
            (Scratch, "write"),
            (Scratch, "bring_to_disk"),
            (Scratch, "commit"),
            (Scratch, "release"),
            (on_disk.StoredEnsemble, "total_variance"),
            (on_disk.PhysicalMembers, "recorded"),
            (Stepping, "_step"),
            (Stepping, "_advance"),
        ):
            self.wrap(monkeypatch, kind, name)

    def wrap(self, monkeypatch, kind, name):
        inner = getattr(kind, name)

        def outer(*args, **more):
            self.count()
            found = inner(*args, **more)
            self.count()
            return found

        monkeypatch.setattr(kind, name, outer)

    def count(self):
        self.n += 1
        if self.n == self.at:
            raise KeyboardInterrupt

    def model(self, u):
        self.count()
        return model(u)


@pytest.mark.slow
@pytest.mark.parametrize(("prior", "every"), [(GAUSSIAN, 2), (BOUNDED, 1)], ids=["f", "bounded"])
def test_a_run_can_be_resumed_after_an_interrupt_at_any_moment(tmp_path, every, prior):
    method, few = ek.EKI(ek.ESMDA(2)), {"n_members": 3, "rng": 0, "store": "final"}
    expected = ek.run(problem(prior), method, **few)

    def begun(at):
        folder = tmp_path / str(at)
        with pytest.MonkeyPatch.context() as patch:
            moments = Interrupts(patch, at)
            watched = problem(prior, moments.model)
            with contextlib.suppress(KeyboardInterrupt):
                ek.run(
                    watched,
                    method,
                    **few,
                    scratch=folder / "scratch",
                    checkpoint=folder / "run",
                    checkpoint_every=every,
                )
        return folder, moments.n

    last = begun(None)[1]
    assert last > 50
    resumed = 0
    for at in range(1, last + 1):
        folder = begun(at)[0]
        if not (folder / "run" / "checkpoint.json").exists():
            continue
        (folder / "scratch" / "of the user.npy").write_text("")
        found = ek.resume(folder / "run", problem(prior))
        same(found, expected)
        files = len(list((folder / "scratch").glob("ensemble-*.npy")))
        assert files <= (1 if prior is GAUSSIAN else 2)
        assert (folder / "scratch" / "of the user.npy").exists()
        resumed += 1
    assert resumed > 0.8 * last


def test_a_checkpoint_holds_no_copy_of_the_ensemble(tmp_path):
    ek.run(
        problem(),
        ek.ETKI(),
        **options(n_members=200, scratch=tmp_path / "s", checkpoint=tmp_path / "c"),
    )
    sizes = sum(file.stat().st_size for file in (tmp_path / "c").iterdir())
    assert sizes < 0.3 * 8 * 200 * P


@pytest.mark.parametrize("prior", [GAUSSIAN, BOUNDED], ids=["Gaussian", "bounded"])
@pytest.mark.parametrize("evaluate_final", [True, False])
def test_a_spent_budget_is_extended(tmp_path, prior, evaluate_final):
    method = ek.EKI(ek.FixedStep(0.25))
    more = options(evaluate_final=evaluate_final)
    expected = ek.run(problem(prior), method, **more, n_steps=4)
    first = ek.run(
        problem(prior),
        method,
        **more,
        n_steps=2,
        scratch=tmp_path / "s",
        checkpoint=tmp_path / "c",
    )
    before = first.u.values.copy()
    same(ek.resume(tmp_path / "c", problem(prior), n_steps=4), expected, NAMES[:6])
    np.testing.assert_array_equal(first.u, before)  # its file is the user's
    again = ek.resume(tmp_path / "c", problem(prior))  # it is over
    same(again, expected, NAMES[:6])


def test_the_scratch_folder_may_move(tmp_path):
    more = options(scratch=tmp_path / "s", checkpoint=tmp_path / "c")
    expected = ek.run(problem(), ek.ETKI(ek.ESMDA(3)), **options())
    ek.run(problem(), ek.ETKI(ek.ESMDA(3)), **more, n_steps=1)
    (tmp_path / "s").rename(tmp_path / "moved")
    with pytest.raises(ek.CheckpointError, match=r"missing or damaged .* pass scratch="):
        ek.resume(tmp_path / "c", problem(), n_steps=9)
    found = ek.resume(tmp_path / "c", problem(), n_steps=9, scratch=tmp_path / "moved")
    same(found, expected)


@pytest.mark.parametrize("damage", ["changed", "cut", "empty", "no array"])
def test_a_damaged_file_of_the_ensemble_is_named(tmp_path, damage):
    more = options(scratch=tmp_path / "s", checkpoint=tmp_path / "c")
    ek.run(problem(), ek.ETKI(ek.ESMDA(3)), **more, n_steps=1)
    (file,) = (tmp_path / "s").iterdir()
    data = bytearray(file.read_bytes())
    if damage == "changed":
        data[-1] ^= 1
    elif damage == "cut":
        del data[-100:]
    elif damage == "empty":
        data.clear()
    else:
        data[:6] = b"nonsen"
    file.write_bytes(data)
    with pytest.raises(ek.CheckpointError, match=file.name):
        ek.resume(tmp_path / "c", problem(), n_steps=9)


def test_a_forged_name_of_a_file_is_refused(tmp_path):
    np.save(tmp_path / "secret.npy", np.ones((2, P)))
    with pytest.raises(ek.RunError, match=r"scratch: must have files named by ekitools"):
        Scratch(tmp_path / "s").opened("../secret.npy")


def test_a_full_disk_ends_the_run_and_it_can_be_resumed(tmp_path, monkeypatch):
    from ekitools.loop import scratch

    reserved = []

    def reserve(path):
        reserved.append(path)
        if len(reserved) == 3:
            raise OSError(28, "No space left on device")

    more = options(scratch=tmp_path / "s", checkpoint=tmp_path / "c")
    expected = ek.run(problem(), ek.ETKI(ek.ESMDA(4)), **options())
    with monkeypatch.context() as patch:
        patch.setattr(scratch, "_reserve", reserve)
        with pytest.raises(ek.RunError, match=r"scratch: cannot write .*No space left") as caught:
            ek.run(problem(), ek.ETKI(ek.ESMDA(4)), **more)
    assert caught.value.result.sizes["history"] == 2
    same(ek.resume(tmp_path / "c", problem()), expected)


def test_no_file_is_left_of_a_run_without_a_result(tmp_path):
    def interrupted(u):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ek.run(problem(function=interrupted), ek.ETKI(), **options(scratch=tmp_path))
    with pytest.raises(ValueError, match="must have some spread"):
        ek.run(
            problem(),
            ek.ETKI(),
            ensemble=np.ones((5, P)),
            store="final",
            scratch=tmp_path,
        )
    assert not list(tmp_path.iterdir())


def test_an_interrupted_run_shows_the_present_ensemble(tmp_path):
    runs = []

    def interrupted(u):
        runs.append(u)
        if len(runs) == 30:
            raise KeyboardInterrupt
        return model(u)

    found = ek.run(problem(function=interrupted), ek.ETKI(), **options(scratch=tmp_path))
    assert found.attrs["status_code"] == "interrupted"
    expected = ek.run(problem(), ek.ETKI(), n_members=12, rng=0)
    np.testing.assert_array_equal(found.u[-1], expected.u[2])
    (file,) = tmp_path.iterdir()
    np.testing.assert_array_equal(np.load(file), expected.u[2])


# Asking and telling


def test_ask_and_tell(tmp_path):
    expected = ek.run(problem(BOUNDED), ek.ETKI(), **options())
    loop = ek.AskTell(problem(BOUNDED), ek.ETKI(), **options(scratch=tmp_path / "s"))
    while not loop.done:
        asked = loop.ask()
        assert isinstance(asked, ek.typing.LargeEnsemble)
        assert len(asked) == asked.shape[0] == 12
        np.testing.assert_array_equal(asked[2:4][1], asked[3])
        g = np.stack([model(asked[j]) for j in range(len(asked))])
        np.testing.assert_array_equal(g, np.stack([model(member) for member in asked]))
        loop.tell(g)
    same(loop.result(), expected)


def test_two_checkpoints_of_one_run_keep_their_files(tmp_path):
    loop = ek.AskTell(problem(), ek.ETKI(ek.ESMDA(3)), **options(scratch=tmp_path / "s"))
    expected = ek.run(problem(), ek.ETKI(ek.ESMDA(3)), **options())
    for n in range(3):
        loop.save(tmp_path / str(n))
        loop.tell(np.stack([model(member) for member in loop.ask()]))
    for n in range(3):
        other = ek.AskTell.load(tmp_path / str(n), problem())
        assert other.n == n
        while not other.done:
            other.tell(np.stack([model(member) for member in other.ask()]))
        same(other.result(), expected)


def test_bars_of_bytes(tmp_path, capsys):
    ek.run(problem(), ek.ETKI(ek.ESMDA(2)), **options(scratch=tmp_path))
    assert capsys.readouterr().err == ""
    ek.run(problem(), ek.ETKI(ek.ESMDA(2)), **options(scratch=tmp_path, progress=True))
    shown = capsys.readouterr().err
    assert "draw: " in shown
    assert "update: " in shown
    assert "/28.8k" in shown


# Wrong arguments


@pytest.mark.parametrize(
    "method",
    [
        ek.GNKI(),
        ek.UKI(),
        ek.ALDI(),
        ek.LossEKI(),
        ek.TemperedSMC(),
        ek.Nesterov(ek.EKI()),
        ek.Sparse(ek.EKI()),
        ek.EKI(t_end=None, tikhonov=True),
        ek.ETKI(t_end=None, tikhonov=True),
    ],
    ids=lambda method: repr(method)[:30],
)
def test_methods_that_need_the_ensemble_in_memory_are_refused(tmp_path, method):
    with pytest.raises(TypeError, match=r"method: must update .* got .* Use ek.ETKI\(\)"):
        ek.run(problem(), method, store="final", scratch=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"store": "all"}, ValueError, 'store: must be "final" with scratch='),
        ({"store": "last"}, ValueError, 'store: must be "final" with scratch='),
        ({"on_failure": "resample"}, ValueError, 'on_failure: must be "drop" or "raise"'),
        ({"ensemble": np.ones((5, P + 1))}, ValueError, r"ensemble: must be an array \(J, p\)"),
        ({"ensemble": np.ones((1, P))}, ValueError, "ensemble: must be .* J >= 2"),
        ({"ensemble": np.ones((5, P), dtype=int)}, TypeError, "ensemble: must have a floating"),
        ({"ensemble": np.full((5, P), np.nan)}, ValueError, "ensemble: must be finite"),
        ({"ensemble": [[1.0] * P] * 5}, ValueError, "ensemble: must be an array .* got list"),
        ({"n_members": 1}, ValueError, "n_members: must be at least 2"),
        ({"scratch": 3}, TypeError, "scratch: must be the path of a folder"),
        ({"scratch": ""}, ValueError, "scratch: must be the path of a folder"),
    ],
    ids=str,
)
def test_wrong_arguments(tmp_path, changes, error, message):
    wanted = {"store": "final", "scratch": tmp_path, **changes}
    with pytest.raises(error, match=message):
        ek.run(problem(), ek.ETKI(), **wanted)
    assert not list(tmp_path.iterdir())


def test_a_member_outside_the_bounds_is_named(tmp_path):
    u = BOUNDED.sample(5, rng=0)
    u[3, 2] = 1.5
    with pytest.raises(ValueError, match=r"a2 = 1.5 in member 3, which lies outside \(0, 1\)"):
        ek.run(problem(BOUNDED), ek.ETKI(), ensemble=u, store="final", scratch=tmp_path)
    assert not list(tmp_path.iterdir())


def test_scratch_must_be_a_folder_that_can_be_written_to(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for path in ("file", "file/below"):
        with pytest.raises(ValueError, match="scratch: must be a folder"):
            ek.run(problem(), ek.ETKI(), store="final", scratch=tmp_path / path)
    monkeypatch.setattr("os.access", lambda *_: False)  # permissions do not bind root
    with pytest.raises(ValueError, match="scratch: must be a folder that can be written to"):
        ek.run(problem(), ek.ETKI(), store="final", scratch=tmp_path)


def test_unknown_scales_are_refused(tmp_path):
    unknown = ek.InverseProblem(model, GAUSSIAN, ek.UnknownNoise(stats.lognorm(1.0)), Y)
    with pytest.raises(TypeError, match="noise: must have known scales with scratch="):
        ek.run(unknown, ek.EKI(), store="final", scratch=tmp_path)


def test_scratch_is_refused_for_a_checkpoint_of_a_run_in_memory(tmp_path):
    ek.run(problem(), ek.ETKI(ek.ESMDA(3)), n_members=5, n_steps=1, checkpoint=tmp_path / "c")
    with pytest.raises(ValueError, match="scratch: must be left out"):
        ek.resume(tmp_path / "c", problem(), scratch=tmp_path)
