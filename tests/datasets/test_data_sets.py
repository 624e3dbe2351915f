"""Data sets: files made here, over a server on loopback; the real ones where they are."""

import gzip
import hashlib
import http.server
import os
import struct
import threading

import numpy as np
import pytest
from scipy.io import savemat

import ekitools as ek
from ekitools.datasets import files as datafiles
from ekitools.datasets import sets

RNG = np.random.default_rng(0)
ARRAYS = [RNG.integers(0, 256, s, dtype=np.uint8) for s in [(3, 2, 4), (3,), (2, 2, 4), (2,)]]
X = RNG.integers(0, 256, (32, 32, 3, 4), dtype=np.uint8)


def idx(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.delenv("EKITOOLS_DATA", raising=False)
    monkeypatch.setenv("EKITOOLS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server(monkeypatch):
    """What it serves, by path; a value (data, length) claims another length."""
    files = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            found = files.get(self.path)
            if found is None:
                self.send_error(404)
                return
            data, length = found if isinstance(found, tuple) else (found, len(found))
            self.send_response(200)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        base = f"http://127.0.0.1:{running.server_port}/"

        def there(file, data=None):
            raw = b"" if data is None else data
            return file._replace(url=base + file.path, sha256=hashlib.sha256(raw).hexdigest())

        small = tuple(there(f, idx(a)) for f, a in zip(sets._MNIST, ARRAYS, strict=True))
        monkeypatch.setattr(sets, "_MNIST", small)
        monkeypatch.setattr(
            sets, "_SVHN", tuple(there(f)._replace(sha256=None) for f in sets._SVHN)
        )
        files.update(
            {"/" + f.path: gzip.compress(idx(a)) for f, a in zip(small, ARRAYS, strict=True)}
        )
        yield files
        running.shutdown()
        thread.join()


def in_cache(cache):
    return sorted(str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file())


def test_what_is_nowhere_is_downloaded_once(server, cache):
    images = ek.datasets.mnist()
    for got, array in zip(images[:4], ARRAYS, strict=True):
        np.testing.assert_array_equal(got, array)
        assert got.dtype == np.uint8
        assert got.flags.writeable
    assert images.names[7] == "7"
    assert in_cache(cache) == sorted(file.path for file in sets._MNIST)
    server.clear()
    np.testing.assert_array_equal(ek.datasets.mnist(download=False).x_test, ARRAYS[2])


def test_the_data_folder_wins(server, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("EKITOOLS_DATA", str(tmp_path / "data"))
    for file, array in zip(sets._MNIST, ARRAYS, strict=True):
        path = tmp_path / "data" / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(idx(array), 1))  # compressed by someone else
    server.clear()
    np.testing.assert_array_equal(ek.datasets.mnist().y_train, ARRAYS[1])
    assert in_cache(cache) == []
    path.unlink()  # the last is then looked for further on
    with pytest.raises(FileNotFoundError, match=r"t10k-labels.*data or .*cache"):
        ek.datasets.mnist()


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (None, FileNotFoundError, "cannot be downloaded .*404"),
        ((gzip.compress(idx(ARRAYS[0]), mtime=0), 1000), FileNotFoundError, "IncompleteRead"),
        (gzip.compress(idx(ARRAYS[0]), mtime=0)[:-9], ValueError, "must be the published file"),
        (gzip.compress(idx(ARRAYS[0] + 1), mtime=0), ValueError, "its SHA-256 must be"),
        (b"<html>", ValueError, "Not a gzipped file"),
    ],
)
def test_a_download_that_fails_leaves_nothing(server, cache, data, error, message):
    if data is None:
        server.clear()
    else:
        server["/" + sets._MNIST[0].path] = data
    with pytest.raises(error, match=f"mnist/train-images.*{message}"):
        ek.datasets.mnist()
    assert in_cache(cache) == []


def test_a_write_that_fails_leaves_nothing(server, cache, monkeypatch):
    def full(self, target):
        raise OSError("disk full")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(OSError, match="disk full"):
        ek.datasets.mnist()
    assert in_cache(cache) == []


def test_where_nothing_is_found_it_says_where_to_get_it(cache):
    with pytest.raises(FileNotFoundError) as caught:
        ek.datasets.fashion_mnist(download=False)
    for part in (str(cache), "download is False", sets._FASHION[0].url, "EKITOOLS_DATA"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\0\0\x0d\x01" + b"\0" * 8, r"magic number must be .* got b'\\x00\\x00\\r\\x01'"),
        (b"\0\0\x08", "magic number"),
        (idx(ARRAYS[0])[:-1], "must have 24 entries, got 23"),
        (idx(ARRAYS[0]) + b"\0", "must have 24 entries, got 25"),
    ],
)
def test_what_is_no_idx_file(cache, data, message):
    path = cache / sets._MNIST[0].path
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress(data, mtime=0))
    file = sets._MNIST[0]._replace(sha256=None)
    with pytest.raises(ValueError, match=f"{message}.*Delete the file"):
        datafiles.load(file, datafiles.idx, download=False)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (gzip.compress(idx(ARRAYS[0]), mtime=0)[:-9], "ended before the end-of-stream marker"),
        (gzip.compress(idx(ARRAYS[0] + 1), mtime=0), "its SHA-256 must be"),
    ],
    ids=["truncated", "another"],
)
def test_a_file_that_is_not_the_published_one_is_named_with_its_source(cache, data, message):
    file = sets._MNIST[0]
    path = cache / file.path
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message) as caught:
        ek.datasets.mnist(download=False)
    for part in (file.path, str(path), "Delete the file", file.url):
        assert part in str(caught.value)


def test_images_and_labels_must_belong_together(server, monkeypatch):
    files = list(sets._MNIST)
    files[1] = files[3]
    monkeypatch.setattr(sets, "_MNIST", tuple(files))
    with pytest.raises(ValueError, match=r"as many images as labels, got shapes \(3, 2, 4\)"):
        ek.datasets.mnist()


def write_house_numbers(folder, **changes):
    (folder / "svhn").mkdir(parents=True, exist_ok=True)
    content = {"X": X, "y": np.array([[1], [10], [3], [9]], np.uint8)} | changes
    for name in ("train_32x32.mat", "test_32x32.mat"):
        savemat(folder / "svhn" / name, content)


def test_house_numbers(cache):
    write_house_numbers(cache)
    images = ek.datasets.svhn(download=False)
    assert images.x_train.shape == (4, 32, 32, 3)
    np.testing.assert_array_equal(images.x_test[2], X[..., 2])
    np.testing.assert_array_equal(images.y_test, [1, 0, 3, 9])


def test_house_numbers_are_downloaded_only_whole(server, cache, tmp_path):
    write_house_numbers(tmp_path)
    for file in sets._SVHN:
        server["/" + file.path] = (tmp_path / file.path).read_bytes()
    server["/" + sets._SVHN[1].path] = b"<html>"
    with pytest.raises(ValueError, match="svhn/test_32x32.mat: must be the published file"):
        ek.datasets.svhn()
    assert in_cache(cache) == ["svhn/train_32x32.mat"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"X": X[:31]}, r"X must be bytes \(32, 32, 3, n\), got uint8 \(31, 32, 3, 4\)"),
        ({"X": X / 255}, "got float64"),
        ({"y": np.ones((3, 1))}, "y must be 4 labels of 1 to 10"),
        ({"y": np.zeros((4, 1))}, "y must be 4 labels of 1 to 10"),
    ],
)
def test_what_are_no_house_numbers(cache, changes, message):
    write_house_numbers(cache, **changes)
    with pytest.raises(ValueError, match=message):
        ek.datasets.svhn(download=False)


def test_a_series():
    series = sets._series(b'"Month","Sunspots"\n"1749-01",58.0\n"1749-02",62.6', "M")
    np.testing.assert_array_equal(series.values, [58.0, 62.6])
    assert series.dates[1] == np.datetime64("1749-02")
    assert series.name == "Sunspots"
    for bad in (b"", b"a,b", b"a,b\n1,2,3", b"a,b\n1749-01,many", b"a,b\nnever,1"):
        with pytest.raises(ValueError, match=r"."):
            sets._series(bad, "M")


def test_the_cache_is_where_the_platform_has_it(monkeypatch, tmp_path):
    monkeypatch.delenv("EKITOOLS_CACHE")
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    for platform, expected in [
        ("linux", "xdg/ekitools"),
        ("darwin", "Library/Caches/ekitools"),
        ("win32", "local/ekitools/Cache"),
    ]:
        monkeypatch.setattr("sys.platform", platform)
        assert datafiles.cache_folder() == tmp_path / expected
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert datafiles.cache_folder() == tmp_path / ".cache" / "ekitools"


REAL = os.environ.get("EKITOOLS_DATA")


@pytest.mark.skipif(REAL is None, reason="EKITOOLS_DATA is not set")
class TestTheRealOnes:
    @pytest.fixture(autouse=True)
    def data(self, cache, monkeypatch):
        monkeypatch.setenv("EKITOOLS_DATA", REAL)

    @pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
    def test_images(self, name):
        images = getattr(ek.datasets, name)(download=False)
        assert images.x_train.shape == (60_000, 28, 28)
        assert images.x_test.shape == (10_000, 28, 28)
        assert len(images.names) == 10
        counts = np.bincount(images.y_test)
        if name == "mnist":  # as published
            assert images.y_train[:5].tolist() == [5, 0, 4, 1, 9]
            assert counts.tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
        else:
            assert images.y_train[:5].tolist() == [9, 0, 0, 3, 0]
            assert counts.tolist() == [1000] * 10

    def test_series(self):
        temperatures = ek.datasets.melbourne_temperatures(download=False)
        assert temperatures.values.shape == (3650,)
        assert temperatures.values[:2].tolist() == [20.7, 17.9]
        assert temperatures.values.mean() == pytest.approx(11.178, abs=1e-3)
        assert (temperatures.dates[0], temperatures.dates[-1]) == (
            np.datetime64("1981-01-01"),
            np.datetime64("1990-12-31"),
        )
        spots = ek.datasets.zurich_sunspots(download=False)
        assert spots.values.shape == (2820,)
        assert np.all(np.diff(spots.dates) == np.timedelta64(1, "M"))
        assert spots.values.max() == 253.8
