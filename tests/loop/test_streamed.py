"""`apply_update`: the same bits from and to memory, files and stores, whatever the block."""

import subprocess
import sys
import tracemalloc

import array_api_strict
import h5py
import numpy as np
import pytest
import xarray as xr

import ekitools as ek
from ekitools.linalg.columns import part_width

N, P = 16, 150_001
"""More than one block of a matrix product, and no whole number of blocks."""


def case(n=N, p=P, dtype=np.float64, d=20, seed=0):
    """Coefficients, the ensemble, and the analysis of the ensemble in memory."""
    rng = np.random.default_rng(seed)
    u = (3 + rng.normal(size=(n, p))).astype(dtype)
    g, y = rng.normal(size=(n, d)), rng.normal(size=d)
    K = ek.kalman_coefficients(g, y, 0.5, analysis="unperturbed")
    return K, u, ek.kalman_update(u, g, y, 0.5)


def mapped(path, u):
    """A memory map with the numbers of ``u``."""
    file = np.memmap(path, dtype=u.dtype, mode="w+", shape=u.shape)
    file[:] = u
    file.flush()
    return file


def written(path, u):
    """The numbers of a file in the shape and dtype of ``u``."""
    return np.fromfile(path, u.dtype).reshape(u.shape)


def zarr_array(path, u, chunks):
    zarr = pytest.importorskip("zarr")
    store = zarr.create_array(str(path), shape=u.shape, dtype=u.dtype, chunks=chunks)
    store[:] = u
    return store


class Breaking:
    """An array in memory whose columns can be read only so far."""

    def __init__(self, u, last, error):
        self.u, self.last, self.error = u, last, error
        self.shape, self.dtype = u.shape, u.dtype

    def __getitem__(self, key):
        if key[1].stop > self.last:
            raise self.error
        return self.u[key].copy()

    def __setitem__(self, key, value):
        self.u[key] = value


def test_more_than_one_block_is_tested():
    assert P > 2 * part_width(N, 8) > 100_000


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("block", [None, 1, 999, 65_536, 65_537, 100_000, P, 10 * P])
def test_any_block_gives_the_bits_of_kalman_update(block, dtype):
    K, u, expected = case(dtype=dtype)
    before = u.copy()
    new = ek.apply_update(K, u, block=block)
    assert new.dtype == dtype
    np.testing.assert_array_equal(new, expected)
    np.testing.assert_array_equal(u, before)


@pytest.mark.parametrize("p", [1, 2, 63, 64, 65, 1000])
def test_few_columns(p):
    K, u, expected = case(p=p)
    np.testing.assert_array_equal(ek.apply_update(K, u, block=3), expected)


@pytest.mark.parametrize("d", [1, 3, 7])
def test_with_fewer_data_than_members_it_is_kalman_update_to_rounding(d):
    K, u, expected = case(p=1000, d=d)
    np.testing.assert_allclose(ek.apply_update(K, u), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("block", [None, 70_000])
def test_in_place(block):
    K, u, expected = case()
    assert ek.apply_update(K, u, u, block=block) is u
    np.testing.assert_array_equal(u, expected)


def test_a_memory_map_and_in_place(tmp_path):
    K, u, expected = case(dtype=np.float32)
    source, target = mapped(tmp_path / "a", u), mapped(tmp_path / "b", 0 * u)
    assert ek.apply_update(K, source, target) is target
    np.testing.assert_array_equal(written(tmp_path / "b", u), expected)
    np.testing.assert_array_equal(written(tmp_path / "a", u), u)
    ek.apply_update(K, source, source, block=70_000)
    np.testing.assert_array_equal(written(tmp_path / "a", u), expected)


@pytest.mark.parametrize("view", [np.asarray, lambda a: a[:, :], lambda a: a[::1]])
def test_a_private_memory_map_keeps_what_is_written_to_it(tmp_path, view):
    """Pages of such a map are in no file: giving them back would lose the result."""
    K, u, expected = case()
    mapped(tmp_path / "a", u)
    private = np.memmap(tmp_path / "a", dtype=u.dtype, mode="c", shape=u.shape)
    ek.apply_update(K, view(private), view(private))
    np.testing.assert_array_equal(private, expected)
    np.testing.assert_array_equal(written(tmp_path / "a", u), u)


@pytest.mark.parametrize("chunks", [(N, 4_000), (4, 30_000), (1, P), (N, 1)])
def test_hdf5(tmp_path, chunks):
    p = P if chunks[1] > 1 else 500
    K, u, expected = case(p=p)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        source = file.create_dataset("u", data=u, chunks=chunks)
        target = file.create_dataset("new", shape=u.shape, dtype=u.dtype)
        ek.apply_update(K, source, target)
        np.testing.assert_array_equal(target[:], expected)
        np.testing.assert_array_equal(ek.apply_update(K, source), expected)
        ek.apply_update(K, source, source, block=70_000)
        np.testing.assert_array_equal(source[:], expected)


@pytest.mark.parametrize("chunks", [(N, 10_000), (5, 40_000)])
def test_zarr(tmp_path, chunks):
    K, u, expected = case(dtype=np.float32)
    source = zarr_array(tmp_path / "a", u, chunks)
    target = zarr_array(tmp_path / "b", 0 * u, (N, 7_777))
    assert ek.apply_update(K, source, target) is target
    np.testing.assert_array_equal(target[:], expected)
    np.testing.assert_array_equal(source[:], u)
    ek.apply_update(K, source, source)
    np.testing.assert_array_equal(source[:], expected)


def test_from_one_kind_to_another(tmp_path):
    K, u, expected = case()
    target = zarr_array(tmp_path / "b", 0 * u, (N, 10_000))
    ek.apply_update(K, mapped(tmp_path / "a", u), target)
    np.testing.assert_array_equal(target[:], expected)
    labelled = xr.DataArray(u.copy(), dims=("member", "parameter"))
    ek.apply_update(K, labelled, labelled)
    np.testing.assert_array_equal(labelled.values, expected)


def test_stores_are_read_and_written_in_whole_chunks_of_the_target(monkeypatch):
    class Counting(Breaking):
        chunks = (N, 12_345)

        def __setitem__(self, key, value):
            parts.append(key[1])
            super().__setitem__(key, value)

    parts: list = []
    K, u, expected = case()
    target = Counting(np.zeros_like(u), P, None)
    monkeypatch.setattr("ekitools.loop.streamed._BLOCK_BYTES", 1 << 22)
    ek.apply_update(K, u, target)
    np.testing.assert_array_equal(target.u, expected)
    assert [(c.start, c.stop) for c in parts[:2]] == [(0, 24_690), (24_690, 49_380)]
    assert parts[-1].stop == P


@pytest.mark.parametrize("order", ["big", "little"])
def test_any_byte_order(order):
    K, u, expected = case()
    swapped = u.astype(u.dtype.newbyteorder(order))
    new = ek.apply_update(K, swapped)
    assert new.dtype == swapped.dtype
    np.testing.assert_array_equal(new, expected)


@pytest.mark.parametrize("block", [None, 70_000])
def test_any_order_of_the_numbers_in_memory(block):
    K, u, expected = case()
    fortran, gaps = np.asfortranarray(u), np.zeros((N, 2 * P))[:, ::2]
    np.testing.assert_array_equal(ek.apply_update(K, fortran, block=block), expected)
    ek.apply_update(K, fortran, gaps, block=block)
    np.testing.assert_array_equal(gaps, expected)


@pytest.mark.parametrize("block", [None, 999, 70_000])
@pytest.mark.parametrize("chunks", [(N, 10_000), (5, 40_000), (N, 70_001)])
def test_a_dask_array_gives_a_lazy_one(block, chunks, tmp_path):
    da = pytest.importorskip("dask.array")
    K, u, expected = case()
    source = da.from_array(u, chunks=chunks)
    new = ek.apply_update(K, source, block=block)
    assert isinstance(new, da.Array)
    assert new.dtype == u.dtype
    assert new.shape == u.shape
    np.testing.assert_array_equal(new.compute(scheduler="single-threaded"), expected)
    target = mapped(tmp_path / "b", 0 * u)
    ek.apply_update(K, source, target, block=block)
    np.testing.assert_array_equal(target, expected)


@pytest.mark.slow
def test_a_dask_array_is_updated_on_a_cluster(tmp_path):
    da = pytest.importorskip("dask.array")
    distributed, zarr = pytest.importorskip("distributed"), pytest.importorskip("zarr")
    K, u, expected = case(dtype=np.float32)
    store = zarr_array(tmp_path / "a", u, (N, 20_000))
    target = zarr_array(tmp_path / "c", 0 * u, (N, 20_000))
    with (
        distributed.LocalCluster(
            n_workers=1, processes=False, threads_per_worker=2, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        source = da.from_zarr(store)
        new = ek.apply_update(K, source)
        assert isinstance(new, da.Array)

        def worked(dask_scheduler):
            return len(dask_scheduler.transition_log)

        assert client.run_on_scheduler(worked) == 0
        new.to_zarr(str(tmp_path / "b"))
        assert client.run_on_scheduler(worked) > 0
        ek.apply_update(K, source, target)  # block after block
    np.testing.assert_array_equal(zarr.open_array(str(tmp_path / "b"))[:], expected)
    np.testing.assert_array_equal(target[:], expected)


def test_arrays_of_other_libraries_are_updated_in_memory():
    torch = pytest.importorskip("torch")
    K, u, expected = case(p=500)
    tensor = ek.apply_update(K, torch.tensor(u, dtype=torch.float32))
    assert tensor.dtype == torch.float32
    np.testing.assert_allclose(tensor.numpy(), expected, rtol=1e-5, atol=1e-5)
    strict = ek.apply_update(K, array_api_strict.asarray(u))
    assert isinstance(strict, type(array_api_strict.asarray(u)))
    np.testing.assert_allclose(np.asarray(strict), expected, rtol=1e-12, atol=1e-12)
    given = ek.apply_update(torch.tensor(K), u)
    np.testing.assert_array_equal(given, expected)


@pytest.mark.parametrize("error", [OSError("the disk is gone"), KeyboardInterrupt()])
def test_an_interrupted_update_says_which_columns_are_new(error):
    K, u, expected = case()
    source = Breaking(u.copy(), 140_000, error)
    with pytest.raises(type(error)) as caught:
        ek.apply_update(K, source, source, block=70_000)
    (note,) = caught.value.__notes__
    assert "columns 0 to 140000 of target are new" in note
    assert f"from {P} on" in note
    np.testing.assert_array_equal(source.u[:, :140_000], expected[:, :140_000])
    np.testing.assert_array_equal(source.u[:, 140_000:], u[:, 140_000:])


def test_an_interrupted_update_into_a_second_array_leaves_the_source():
    K, u, _ = case()
    source = Breaking(u.copy(), 140_000, OSError("the disk is gone"))
    with pytest.raises(OSError, match="gone"):
        ek.apply_update(K, source, np.empty_like(u), block=70_000)
    np.testing.assert_array_equal(source.u, u)


def test_missing_numbers_of_a_file_are_refused_and_nan_stays_in_its_column():
    class Masking(Breaking):
        def __getitem__(self, key):
            return np.ma.masked_less(self.u[key], 0)

    K, u, expected = case(p=50)
    new = ek.apply_update(K, Masking(np.abs(u), 50, None))
    np.testing.assert_array_equal(new, ek.apply_update(K, np.abs(u)))
    with pytest.raises(ValueError, match="source: must have no masked entries"):
        ek.apply_update(K, Masking(-np.abs(u), 50, None))
    u[3, 7] = np.nan
    new = ek.apply_update(K, u)
    assert np.isnan(new[:, 7]).any()
    np.testing.assert_array_equal(np.delete(new, 7, axis=1), np.delete(expected, 7, axis=1))


def test_a_parameter_without_spread_keeps_its_value_to_the_last_bit():
    K, u, _ = case(p=50)
    u[:, 7] = 1 / 3
    np.testing.assert_array_equal(ek.apply_update(K, u)[:, 7], 1 / 3)


def test_the_bar_counts_bytes(capsys):
    K, u, _ = case()
    ek.apply_update(K, u, block=70_000)
    assert capsys.readouterr().err == ""
    ek.apply_update(K, u, progress=True)
    shown = capsys.readouterr().err
    assert "apply_update: 100%" in shown
    assert "19.2M/19.2M" in shown


def test_memory_is_that_of_a_few_blocks():
    K, u, _ = case(p=1_000_000, dtype=np.float32)
    target = Breaking(np.empty_like(u), 10**7, None)
    source = Breaking(u, 10**7, None)
    tracemalloc.start()
    ek.apply_update(K, source, target, block=100_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * u[:, : 2 * part_width(N, 4)].nbytes


def test_pages_of_memory_maps_are_given_back(tmp_path):
    """192 MB are read and written, with the resident memory of a few blocks."""
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux tells the largest memory of a process without that of its parent")
    code = f"""
import numpy as np, ekitools as ek
def largest():
    return next(int(x.split()[1]) for x in open("/proc/self/status") if x.startswith("VmHWM"))
u = np.memmap({str(tmp_path / "a")!r}, np.float32, "w+", shape=(16, 3_000_000))
K = ek.kalman_coefficients(np.eye(16), np.zeros(16), 1.0)
ek.apply_update(K, u[:, :100_000], u[:, :100_000])
before = largest()
ek.apply_update(K, u, u, block=200_000)
print((largest() - before) / 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 60


@pytest.mark.parametrize("name", ["dask", "zarr", "h5py", "torch", "tqdm"])
def test_nothing_is_imported_for_arrays_of_numpy(name):
    code = (
        "import sys, numpy as np, ekitools as ek\n"
        "ek.apply_update(np.zeros((2, 2)), np.eye(2))\n"
        f"print({name!r} in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


K0, U0 = np.zeros((4, 4)), np.ones((4, 10))
FROZEN = np.ones((4, 10))
FROZEN.flags.writeable = False
WIDE = np.ones((4, 20))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((4, 3)), U0), r"coefficients: must be \(J, J\)"),
        ((np.zeros((1, 1)), U0[:1]), r"coefficients: must be \(J, J\)"),
        ((np.eye(4), U0), "coefficients: rows must sum to 0"),
        ((K0 + np.nan, U0), "coefficients: must be finite"),
        ((K0, U0[:3]), r"source: must be \(J, p\) with the J = 4"),
        ((K0, U0[:, :0]), r"source: must be \(J, p\)"),
        ((K0, U0.astype(int)), "source: must have a floating dtype"),
        ((K0, U0 + 1j), "source: must have a floating dtype"),
        ((K0, U0.tolist()), "source: must be an array"),
        ((K0, np.ma.masked_array(U0, U0 > 0)), "source: must have no masked"),
        ((K0, U0, np.ones((4, 9))), "target: must have the shape"),
        ((K0, U0, U0.astype(np.float32)), "target: must have the shape"),
        ((K0, U0, U0.tolist()), "target: must be a NumPy array"),
        ((K0, U0, FROZEN), "target: must be writeable"),
        ((K0, WIDE[:, :10], WIDE[:, 5:15]), "target: must be source itself"),
        ((K0, U0, array_api_strict.ones((4, 10))), "target: must be a NumPy array"),
        ((K0, array_api_strict.asarray(U0), U0), "target: must be left out"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        ek.apply_update(*arguments)


@pytest.mark.parametrize("options", [{"block": 0}, {"block": 2.0}, {"progress": 1}])
def test_wrong_options(options):
    with pytest.raises((TypeError, ValueError), match=f"{next(iter(options))}: must be"):
        ek.apply_update(K0, U0, **options)
