"""Arrays of other libraries and on devices: what crosses, what stays, and what comes together."""

import gc

import array_api_strict
import numpy as np
import pytest

from ekitools.core import devices
from ekitools.core.arrays import beside, double, finfo, host, in_host_memory, like, own, placed
from ekitools.core.draws import DeviceGenerator, check_draws, standard_normal
from ekitools.core.fetching import Awaited, awaiting, fetched
from ekitools.core.kinds import checked_like, empty_like, kind_of, of_kind
from tests.zoo import counting as zoo
from tests.zoo.counting import CARD, card, counting

X = np.arange(6.0).reshape(2, 3)


def strict(x, device="device1"):
    return array_api_strict.asarray(x, device=array_api_strict.Device(device))


@pytest.mark.parametrize("make", [strict, card, zoo.CupyArray])
def test_numbers_of_a_device_come_to_the_host(make, monkeypatch):
    with zoo.cupy_installed(monkeypatch):
        np.testing.assert_array_equal(host(make(X)), X)
        np.testing.assert_array_equal(like(make(X), np.ones(1, dtype=np.float32)), X)


@pytest.mark.parametrize("make", [strict, card, zoo.CupyArray])
def test_numbers_of_the_host_go_to_the_device_in_the_dtype_of_the_reference(make, monkeypatch):
    with zoo.cupy_installed(monkeypatch):
        reference = make(np.ones(1, dtype=np.float32))
        sent = like(X, reference)
        assert type(sent) is type(reference)
        assert sent.device == reference.device
        assert finfo(sent).dtype == np.float32
        rows = devices.take_rows(sent, np.array([1, 1, 0]))
        np.testing.assert_array_equal(host(rows), X[[1, 1, 0]])


def test_an_array_of_the_same_library_does_not_leave_its_device():
    x, reference = card(X), card(np.ones(1, dtype=np.float32))
    with counting() as counts:
        single, copy = like(x, reference), own(x)
        double(single)
    assert (counts.waits, counts.traffic) == (0, 0)
    assert single.dtype == np.float32
    assert copy is not x


def test_float64_is_computed_on_the_host_where_the_device_has_none():
    x = array_api_strict.asarray(
        X, dtype=array_api_strict.float32, device=array_api_strict.Device("no_float64")
    )
    assert isinstance(double(x), np.ndarray)
    assert double(strict(X.astype(np.float32))).dtype == array_api_strict.float64


def test_a_constant_crosses_once_and_is_forgotten_with_the_host_s():
    constant, reference = np.ones(1000), card(np.ones(1))
    with counting() as counts:
        first = placed(constant, reference)
        second = placed(constant, reference)
        third = placed(constant, card(np.ones(1, dtype=np.float32)))
        scalar = placed(np.float64(3.0), reference)
    assert first is second
    assert third.dtype == np.float32
    assert float(scalar) == 3.0
    assert counts.up == 8000 + 4000
    number = id(constant)
    assert number in devices._PLACED
    del constant
    gc.collect()
    assert number not in devices._PLACED


def test_integers_keep_their_dtype_beside_an_ensemble():
    assert beside(np.arange(3), card(np.ones(1, dtype=np.float32))).dtype == np.int64
    assert beside(np.ones(3), card(np.ones(1, dtype=np.float32))).dtype == np.float32


def test_where_the_numbers_are():
    assert in_host_memory(X)
    assert not in_host_memory(card(X))
    torch = pytest.importorskip("torch")
    assert in_host_memory(torch.ones(1))


def test_small_arrays_come_by_one_transfer_in_their_dtypes():
    arrays = [card(X), card(np.float32(2)), card(np.array(True)), np.ones(2), 4.0, True]
    with counting() as counts:
        found = fetched(*arrays)
    assert counts.waits == 1
    assert [a.dtype.kind for a in found] == ["f", "f", "b", "f", "f", "b"]
    assert found[1].dtype == np.float32
    np.testing.assert_array_equal(found[0], X)
    assert (float(found[1]), bool(found[2]), float(found[4])) == (2.0, True, 4.0)


def test_what_is_awaited_comes_along_with_the_first_transfer():
    awaited = Awaited(card(X), card(np.array(False)))
    with counting() as counts, awaiting(awaited):
        assert not awaited.arrived
        fetched(np.ones(1))
        assert not awaited.arrived  # nothing was fetched
        (first,) = fetched(card(np.float64(7)))
        assert awaited.arrived
        fetched(card(np.float64(7)))
    values, flag = awaited.values
    assert (float(first), counts.waits) == (7.0, 2)
    np.testing.assert_array_equal(values, X)
    assert not flag


def test_what_is_elsewhere_does_not_come_along():
    awaited = Awaited(card(X))
    with awaiting(awaited):
        (first,) = fetched(strict(X[0]))
        assert not awaited.arrived
    np.testing.assert_array_equal(first, X[0])
    np.testing.assert_array_equal(awaited.values[0], X)


def test_what_nobody_fetches_is_fetched_when_it_is_read():
    awaited = Awaited(card(X))
    with counting() as counts:
        np.testing.assert_array_equal(awaited.values[0], X)
        awaited.values  # noqa: B018 - it is there
    assert counts.waits == 1


def generator(seed=0):
    return DeviceGenerator(np.random.PCG64(seed))


def test_draws_of_the_host_are_the_same_in_every_kind():
    expected = np.random.default_rng(0).standard_normal((3, 2))
    for reference in (np.ones(1), strict(np.ones(1)), card(np.ones(1))):
        found = standard_normal(np.random.default_rng(0), (3, 2), reference)
        np.testing.assert_array_equal(host(found), expected)


@pytest.mark.parametrize("library", ["torch", "cupy", "jax"])
def test_draws_of_the_device_depend_on_the_stream_alone(library, monkeypatch):
    if library == "cupy":
        reference: object = zoo.CupyArray(np.ones(1, dtype=np.float32))
    elif library == "torch":
        reference = pytest.importorskip("torch").ones(1)
    else:
        reference = pytest.importorskip("jax.numpy").ones(1)
    with zoo.cupy_installed(monkeypatch):
        check_draws("device", reference)
        rng = generator()
        draws = [host(standard_normal(rng, (500, 4), reference)) for _ in range(2)]
        again = host(standard_normal(generator(), (500, 4), reference))
    assert draws[0].dtype == np.float32
    np.testing.assert_array_equal(draws[0], again)
    both = np.stack(draws)
    assert abs(both.mean()) < 4 / np.sqrt(both.size)
    assert abs(both.var() - 1) < 4 * np.sqrt(2 / both.size)
    assert abs(np.corrcoef(draws[0].ravel(), draws[1].ravel())[0, 1]) < 4 / np.sqrt(2000)


def test_a_device_without_random_numbers_is_refused():
    check_draws("host", card(X))
    check_draws("device", X)  # the host is the device of NumPy
    for reference, name in ((card(X), "Array"), (None, "no array")):
        with pytest.raises(TypeError, match=f'^draws: must be "host" .* got "device" with {name}'):
            check_draws("device", reference)


@pytest.mark.parametrize("library", ["torch", "cupy", "jax"])
def test_the_kind_of_an_array_as_texts_and_back(library, monkeypatch):
    if library == "cupy":
        x: object = zoo.CupyArray(X)
    else:
        x = pytest.importorskip("torch" if library == "torch" else "jax.numpy").ones((2, 3))
    with zoo.cupy_installed(monkeypatch):
        kind = kind_of(x)
        assert kind is not None
        assert kind[0] == library
        back = of_kind(*kind)
        assert type(back) is type(x)
        assert (back.dtype, tuple(back.shape)) == (x.dtype, (0,))
    assert kind_of(X) is None
    assert kind_of(strict(X)) is None


def test_halves_of_torch_are_refused():
    torch = pytest.importorskip("torch")
    for dtype in (torch.float16, torch.bfloat16):
        with pytest.raises(TypeError, match="TorchModel for a forward pass in 16 bits"):
            checked_like(torch.empty(1, dtype=dtype))


def test_kinds_that_are_not_there():
    torch = pytest.importorskip("torch")
    for kind in (
        ["torch", "float32", "nowhere"],
        ["torch", "float32", "meta:0" if torch.cuda.is_available() else "cuda:0"],
        ["torch", "no dtype", "cpu"],
        ["os", "system", "cpu"],
    ):
        with pytest.raises(ValueError, match=kind[0]):
            of_kind(*kind)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("cuda", "must be an array of a floating dtype, got str"),
        (1.0, "must be an array of a floating dtype, got float"),
        (np.arange(3), "must have a floating dtype, got int64"),
        (np.ones(1, dtype=np.float16), "must be of float32 or float64, got float16"),
    ],
)
def test_what_is_no_array_to_be_like(given, message):
    with pytest.raises(TypeError, match=f"^like: {message}"):
        checked_like(given)


def test_an_array_to_be_like_is_not_held():
    x = card(np.ones((1000, 2), dtype=np.float32))
    found = checked_like(x)
    assert (found.shape, found.dtype, found.device) == ((0,), np.float32, CARD)
    assert checked_like(None) is None
    assert empty_like(X).shape == (0,)
