"""Members through executors: the same bits everywhere, and every fault in its place."""

import concurrent.futures as cf
import contextlib
import math
import multiprocessing
import os
import signal
import threading
import time

import numpy as np
import pytest

import ekitools as ek
from ekitools.models.evaluate import BrokenPoolError, evaluate
from ekitools.models.outputs import TimedOutError
from ekitools.models.timeouts import within

U = np.random.default_rng(0).normal(size=(6, 3))
SEEDS = np.random.SeedSequence(1).spawn(6)


def sine(u):
    return np.sin(np.cumsum(u) * np.arange(1, 4))


def noisy(u, *, rng):
    return sine(u) + rng.standard_normal(3)


def spinning(u):
    while u[0] > 0:  # pure Python that never returns
        pass
    return sine(u)


def stubborn(u):
    while True:
        with contextlib.suppress(Exception):
            time.sleep(30)


def deadly(u):
    if u[0] < -0.5:
        os._exit(1)
    return sine(u)


class OddError(Exception):
    """An error that does not survive pickling."""

    def __init__(self, first, second):
        super().__init__(first)


def odd(u):
    raise OddError("strange", 2)


def spawn(workers):
    return cf.ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def loky(workers):
    return pytest.importorskip("loky").ProcessPoolExecutor(workers)


class Dask:
    """A dask cluster of processes on this machine, as an executor."""

    def __init__(self, workers):
        distributed = pytest.importorskip("distributed")
        self.cluster = distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=False,
            dashboard_address="127.0.0.1:0",
        )
        self.client = distributed.Client(self.cluster)

    def __enter__(self):
        return self.client.get_executor(pure=False)

    def __exit__(self, *error):
        self.client.close()
        self.cluster.close()


POOLS = {"thread": cf.ThreadPoolExecutor, "process": spawn, "loky": loky, "dask": Dask}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("pool", POOLS)
def test_outputs_are_bitwise_the_same_everywhere(pool, workers):
    model, stochastic = ek.FunctionModel(sine), ek.FunctionModel(noisy, stochastic=True)
    together = ek.FunctionModel(np.tanh, vectorized=True)
    here = [
        evaluate(model, U, 3),
        evaluate(stochastic, U, 3, seeds=SEEDS),
        evaluate(together, U, 3),
    ]
    with POOLS[pool](workers) as executor:
        there = [
            evaluate(model, U, 3, executor=executor),
            evaluate(stochastic, U, 3, seeds=SEEDS, executor=executor),
            evaluate(together, U, 3, executor=executor),
        ]
    for a, b in zip(here, there, strict=True):
        np.testing.assert_array_equal(a.g, b.g)
        assert not a.failures
        assert not b.failures


@pytest.mark.parametrize("pool", ["thread", "loky", "dask"])
def test_lambdas_go_where_they_can(pool):
    with POOLS[pool](1) as executor:
        g, failures, _ = evaluate(ek.FunctionModel(lambda u: 2 * u), U, 3, executor=executor)
    np.testing.assert_array_equal(g, 2 * U)
    assert not failures


def test_stochastic_members_have_streams_of_their_own():
    g = evaluate(ek.FunctionModel(noisy, stochastic=True), U, 3, seeds=SEEDS).g
    noise = g - np.array([sine(u) for u in U])
    assert len(np.unique(noise)) == noise.size


@pytest.mark.parametrize("pool", [None, "thread", "process"])
def test_hanging_members_time_out_wherever_they_run(pool):
    u = np.array([[1.0, 0, 0], [-1.0, 0, 0]])
    start = time.perf_counter()
    if pool is None:
        g, failures, _ = evaluate(ek.FunctionModel(spinning), u, 3, timeout=0.3)
    elif pool == "thread":
        u[0, 0] = 1.0
        with cf.ThreadPoolExecutor(2) as executor:
            slow = ek.FunctionModel(lambda u: time.sleep(1.5) if u[0] > 0 else sine(u))
            g, failures, _ = evaluate(slow, u, 3, timeout=0.3, executor=executor)
    else:
        with spawn(1) as executor:
            g, failures, _ = evaluate(
                ek.FunctionModel(spinning), u, 3, timeout=0.3, executor=executor
            )
    assert time.perf_counter() - start < 8
    assert set(failures) == {0}
    assert failures[0].reason == "timed out after 0.3 s"
    assert isinstance(failures[0].error, TimeoutError)
    np.testing.assert_array_equal(g[1], sine(u[1]))


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="signals of POSIX")
def test_a_model_cannot_swallow_its_timeout():
    failures = evaluate(ek.FunctionModel(stubborn), U[:1], 3, timeout=0.2).failures
    assert "timed out" in failures[0].reason


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="signals of POSIX")
def test_the_signal_handler_is_put_back():
    def handler(signum, frame):
        raise AssertionError

    previous = signal.signal(signal.SIGALRM, handler)
    try:
        evaluate(ek.FunctionModel(sine), U, 3, timeout=5)
        assert signal.getsignal(signal.SIGALRM) is handler
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    finally:
        signal.signal(signal.SIGALRM, previous)


def test_timeouts_work_outside_the_main_thread():
    box = []
    model = ek.FunctionModel(lambda u: time.sleep(1) if u[0] > 0 else sine(u))
    u = np.array([[1.0, 0, 0], [-1.0, 0, 0]])
    thread = threading.Thread(target=lambda: box.append(evaluate(model, u, 3, timeout=0.2)))
    thread.start()
    thread.join()
    assert set(box[0].failures) == {0}
    error = evaluate(ek.FunctionModel(lambda u: 1 / 0), u, 3, timeout=5).failures[0].error
    assert isinstance(error, ZeroDivisionError)


@pytest.mark.parametrize("pool", ["process", "loky"])
def test_a_dead_worker_is_named_with_the_remedy(pool):
    u = np.array([[0.0, 0, 0], [-1.0, 0, 0], [0.0, 0, 0]])
    with (
        POOLS[pool](1) as executor,
        pytest.raises(BrokenPoolError, match=r"a worker died .* of 3 members unfinished.*dask"),
    ):
        evaluate(ek.FunctionModel(deadly), u, 3, executor=executor)


@pytest.mark.parametrize("pool", [None, "thread", "process"])
def test_errors_come_home_from_anywhere(pool):
    model = ek.FunctionModel(odd)
    if pool is None:
        failures = evaluate(model, U, 3).failures
    else:
        with POOLS[pool](1) as executor:
            failures = evaluate(model, U, 3, executor=executor).failures
    assert len(failures) == 6
    assert "OddError('strange')" in failures[0].reason
    assert isinstance(failures[0].error, Exception)


def test_an_interrupt_is_not_a_failure_and_cancels_what_waits():
    ran = []

    def interrupt(u):
        ran.append(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(ek.FunctionModel(interrupt), U, 3)
    assert len(ran) == 1


def test_scalars_are_welcome_where_there_is_one_datum():
    for value in (2.0, np.float32(2), np.array(2.0), [2], np.array([2])):
        g, failures, _ = evaluate(ek.FunctionModel(lambda u, v=value: v), U, 1)
        np.testing.assert_array_equal(g, np.full((6, 1), 2.0))
        assert not failures


def test_outputs_take_the_dtype_of_the_members_and_must_fit_it():
    single = U.astype(np.float32)
    g, failures, _ = evaluate(ek.FunctionModel(lambda u: u * 1e30), single, 3)
    assert g.dtype == np.float32
    with np.errstate(over="ignore"):
        g, failures, _ = evaluate(ek.FunctionModel(lambda u: u.astype(float) * 1e300), single, 3)
    assert len(failures) == 6
    assert "fit float32" in failures[0].reason


def test_integers_and_booleans_are_numbers():
    g, failures, _ = evaluate(ek.FunctionModel(lambda u: u > 0), U, 3)
    np.testing.assert_array_equal(g, (U > 0).astype(float))
    assert not failures


def test_torch_members_stay_torch():
    torch = pytest.importorskip("torch")
    u = torch.as_tensor(U)
    g, failures, _ = evaluate(ek.FunctionModel(torch.tanh, vectorized=True), u, 3)
    assert isinstance(g, torch.Tensor)
    assert not failures
    g, failures, _ = evaluate(ek.FunctionModel(sine), u, 3)
    assert isinstance(g, torch.Tensor)
    g, failures, _ = evaluate(ek.FunctionModel(lambda u: u / 0, vectorized=True), u, 3)
    assert len(failures) == 6
    assert math.isinf(float(g[0, 0])) or math.isnan(float(g[0, 0]))


# --- memory that a model uses again -------------------------------------------------------------


class Buffered:
    """A model that fills one array, and returns it."""

    stochastic = False

    def __init__(self, vectorized=False, shape=3):
        self.vectorized, self.buffer = vectorized, np.empty(shape)

    def __call__(self, u):
        self.buffer[...] = sine(u) if u.ndim == 1 else [sine(each) for each in u]
        return self.buffer


@pytest.mark.parametrize("pool", [None, *POOLS])
def test_a_model_may_return_the_same_array_again(pool):
    if pool is None:
        g = evaluate(Buffered(), U, 3).g
    else:
        with POOLS[pool](1) as executor:
            g = evaluate(Buffered(), U, 3, executor=executor).g
    np.testing.assert_array_equal(g, [sine(u) for u in U])


@pytest.mark.parametrize("torch_members", [False, True])
def test_vectorized_outputs_are_copied(torch_members):
    u = U
    if torch_members:
        u = pytest.importorskip("torch").as_tensor(U)
    model = ek.FunctionModel(lambda u: u, vectorized=True)
    g = evaluate(model, u, 3).g
    g[0, 0] = 7
    assert u[0, 0] != 7
    buffered = Buffered(True, (6, 3))
    first = evaluate(buffered, U, 3).g
    evaluate(buffered, 2 * U, 3)
    np.testing.assert_array_equal(first, [sine(each) for each in U])


# --- timeouts ------------------------------------------------------------------------------------


def swallowing(u):
    """Catches everything once, and returns too late."""
    try:
        time.sleep(30)
    except:  # noqa: E722
        time.sleep(0.01)
    return sine(u)


def swallowing_for_ever(u):
    while True:
        try:
            time.sleep(30)
        except:  # noqa: E722
            u = u + 0


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="signals of POSIX")
def test_interruptions_do_not_meet_a_loop_at_the_same_line_each_time(monkeypatch):
    """With equal waits between them, some calls did not end within minutes."""
    monkeypatch.setattr("ekitools.models.timeouts.GRACE", 0.01)
    start = time.perf_counter()
    for _ in range(20):
        with pytest.raises(TimedOutError):
            within(0.01, lambda: swallowing_for_ever(1.0))
    assert time.perf_counter() - start < 20


def disguising(u):
    try:
        time.sleep(30)
    except BaseException as error:
        raise ValueError("something else") from error


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="signals of POSIX")
@pytest.mark.parametrize("model", [swallowing, swallowing_for_ever, disguising])
@pytest.mark.parametrize("pool", [None, "process"])
def test_a_bare_except_does_not_keep_a_timeout_off(model, pool):
    start = time.perf_counter()
    if pool is None:
        failures = evaluate(ek.FunctionModel(model), U[:2], 3, timeout=0.2).failures
    else:
        with spawn(1) as executor:
            failures = evaluate(
                ek.FunctionModel(model), U[:2], 3, timeout=0.2, executor=executor
            ).failures
    assert time.perf_counter() - start < 25
    assert {f.reason for f in failures.values()} == {"timed out after 0.2 s"}
    assert len(failures) == 2


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="signals of POSIX")
def test_an_alarm_of_the_caller_goes_on():
    rung = []
    previous = signal.signal(signal.SIGALRM, lambda *_: rung.append(time.perf_counter()))
    try:
        signal.setitimer(signal.ITIMER_REAL, 50.0, 40.0)
        evaluate(ek.FunctionModel(sine), U, 3, timeout=5)
        remaining, interval = signal.getitimer(signal.ITIMER_REAL)
        assert 40 < remaining < 50
        assert interval == 40.0
        signal.setitimer(signal.ITIMER_REAL, 0.1)  # due while the second member is evaluated
        evaluate(ek.FunctionModel(lambda u: time.sleep(0.08) or sine(u)), U[:2], 3, timeout=5)
        time.sleep(0.02)
        assert len(rung) == 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="signals of POSIX")
def test_a_signal_that_comes_late_does_not_start_the_timer_again(monkeypatch):
    """Else the next one would end the process, once the handler of before is put back."""
    timer = signal.setitimer

    def late(which, seconds, interval=0.0):
        before = timer(which, seconds, interval)
        if seconds == 0:
            signal.raise_signal(signal.SIGALRM)
        return before

    monkeypatch.setattr(signal, "setitimer", late)
    previous = signal.signal(signal.SIGALRM, lambda *_: None)
    try:
        assert not evaluate(ek.FunctionModel(sine), U, 3, timeout=5).failures
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    finally:
        timer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


# --- a vectorized model that fails for some members ----------------------------------------------


class Together:
    """Raises where a member is bad; counts its calls."""

    vectorized, stochastic = True, False

    def __init__(self, bad, least=1):
        self.bad, self.least, self.calls = bad, least, 0

    def __call__(self, u):
        self.calls += 1
        if len(u) < self.least:
            raise TypeError("compiled for another number of members")
        if self.bad(u).any():
            raise FloatingPointError("the solver diverged")
        return np.sin(u)


WIDE = np.random.default_rng(3).normal(size=(100, 3))


def test_a_vectorized_model_that_raises_for_one_member_loses_that_one():
    at = WIDE[37, 0]
    model = Together(lambda u: u[:, 0] == at)
    g, failures, _ = evaluate(model, WIDE, 3)
    assert set(failures) == {37}
    assert failures[37].reason == "FloatingPointError('the solver diverged')"
    assert np.isnan(g[37]).all()
    np.testing.assert_array_equal(np.delete(g, 37, 0), np.sin(np.delete(WIDE, 37, 0)))
    assert model.calls <= 15


def test_the_calls_that_tell_members_apart_are_bounded():
    at = np.sort(WIDE[:, 0])[::8]
    many = Together(lambda u: np.isin(u[:, 0], at))
    g, failures, _ = evaluate(many, WIDE, 3)
    assert many.calls <= 1 + 8 + 6 * 7
    bad = np.flatnonzero(np.isin(WIDE[:, 0], at))
    assert set(bad) <= set(failures)
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(g[:, 0])), sorted(failures))
    assert any("no further calls are allowed" in failure.reason for failure in failures.values())
    broken = Together(lambda u: u[:, 0] < np.inf)
    failures = evaluate(broken, WIDE, 3).failures
    assert len(failures) == 100
    assert broken.calls <= 1 + 2 + 4 + 8 + 16
    assert "no member could be separated" in failures[0].reason


def test_a_model_that_takes_whole_ensembles_only_says_so():
    at = U[2, 0]
    failures = evaluate(Together(lambda u: u[:, 0] == at, least=6), U, 3).failures
    assert len(failures) == 6
    assert failures[0].reason.startswith("FloatingPointError('the solver diverged') (the model")
    assert "also failed for parts of the ensemble" in failures[0].reason


def test_a_ragged_row_costs_its_member():
    model = ek.FunctionModel(lambda u: [[1.0, 2.0, 3.0]] * 5 + [[1.0]], vectorized=True)
    g, failures, _ = evaluate(model, U, 3)
    assert set(failures) == {5}
    np.testing.assert_array_equal(g[:5], [[1.0, 2.0, 3.0]] * 5)


def test_vectorized_is_advised_only_where_the_shape_says_so():
    reason = evaluate(ek.FunctionModel(lambda u: np.zeros(5)), U, 3).failures[0].reason
    assert "vectorized" not in reason
    reason = evaluate(ek.FunctionModel(lambda u: np.zeros((6, 3))), U, 3).failures[0].reason
    assert "needs vectorized=True" in reason
    one = ek.FunctionModel(lambda u: np.zeros(3), vectorized=True)
    assert "needs vectorized=False" in evaluate(one, U, 3).failures[0].reason
    other = ek.FunctionModel(lambda u: np.zeros((2, 3)), vectorized=True)
    assert "vectorized" not in evaluate(other, U, 3).failures[0].reason


def test_reasons_are_cut_and_say_where():
    def long(u):
        raise ValueError("x" * 5000)

    failure = evaluate(ek.FunctionModel(long), U, 3).failures[0]
    assert len(failure.reason) == 2000
    assert "test_evaluate.py, line " in failure.where
    nan = evaluate(ek.FunctionModel(lambda u: np.array([0, np.nan, 0])), U, 3).failures[0]
    assert nan.datum == 1


@pytest.mark.parametrize("vectorized", [False, True])
@pytest.mark.parametrize("timeout", [None, 30.0])
def test_what_a_model_tells_numpy_about_errors_ends_with_it(vectorized, timeout):
    def strict(u):
        np.seterr(all="raise")
        return np.sin(u)

    before = np.geterr()
    try:
        evaluate(ek.FunctionModel(strict, vectorized=vectorized), U, 3, timeout=timeout)
        assert np.geterr() == before
    finally:
        np.seterr(**before)
