"""Models that misbehave, each in one way. Workers import them from this module."""

from __future__ import annotations

import concurrent.futures as cf
import contextlib
import os
import random
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, Never

import numpy as np
from attack_tools import polite

_own = threading.local()
"""Buffers of one thread: a model that shares them between threads is no model at all."""

SLEEP, TIMEOUT = 1.2, 1.0
"""Seconds that a sleeping model takes, and that it may take."""


class Rude:
    """A model that is rude at one member, or always.

    Parameters
    ----------
    act : str
        A key of `ACTS`.
    at : (p,) array or None
        The member; None is every member.
    """

    vectorized = stochastic = False

    def __init__(self, act, at=None) -> None:
        self.act, self.at = act, at

    def __call__(self, u) -> Any:
        if self.at is None or np.array_equal(u, self.at):
            return ACTS[self.act].fn(u)
        return polite(u)


class Together(Rude):
    """The same for a whole ensemble: one array in return that it uses again, or a list of rows."""

    vectorized = True

    def __call__(self, u) -> Any:
        rows = [own(super(Together, self).__call__(row)) for row in u]
        if ACTS[self.act].cause is not None:
            return rows
        self.buffer = vars(self).get("buffer", np.empty(u.shape))[: len(u)]
        self.buffer[:] = rows
        return self.buffer


def own(row) -> Any:
    return row.copy() if isinstance(row, np.ndarray) else row


# ----------------------------------------------------------------- rude, and yet the outputs count


def fills_one_buffer(u) -> np.ndarray:
    if not hasattr(_own, "buffer"):
        _own.buffer = np.empty(3)
    _own.buffer[:] = polite(u)
    return _own.buffer


def edits_its_input(u) -> np.ndarray:
    g = polite(u)
    u[:] = 1e9
    return g


def returns_its_input(u) -> np.ndarray:
    u[:] = polite(u)
    return u


def edits_later(u) -> np.ndarray:
    """Model that keeps its inputs and outputs, and changes both at the next call."""
    kept = vars(_own).setdefault("kept", [])
    for array in kept:
        with contextlib.suppress(ValueError):  # read-only
            array[:] = np.nan
    kept[:] = [u, polite(u)]
    return kept[1]


def returns_a_read_only_view(u) -> np.ndarray:
    return np.broadcast_to(polite(u), (2, 3))[0]


def returns_a_list(u) -> list[float]:
    return polite(u).tolist()


def prints(u) -> np.ndarray:
    for stream in (sys.stdout, sys.stderr):
        print("\r", end="", file=stream, flush=True)
    return polite(u)


def changes_folder(u) -> np.ndarray:
    os.chdir(tempfile.gettempdir())
    return polite(u)


def seeds_everything(u) -> np.ndarray:
    np.random.seed(7)  # noqa: NPY002 - that is what is rude
    random.seed(7)
    return polite(u)


def makes_numpy_strict(u) -> np.ndarray:
    np.seterr(all="raise")
    return polite(u)


def makes_warnings_errors(u) -> np.ndarray:
    warnings.simplefilter("error")
    return polite(u)


def warns(u) -> np.ndarray:
    warnings.warn("the mesh is coarse", UserWarning, stacklevel=1)
    return polite(u)


def has_an_alarm_of_its_own(u) -> np.ndarray:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, 500.0, 20.0)
    return polite(u)


# ------------------------------------------------------------------------------- rude, and failing


class OwnBaseError(BaseException):
    """Neither an Exception nor one that Python knows."""


class UnspeakableError(Exception):
    def __repr__(self) -> str:
        raise SystemExit("no words")

    __str__ = __repr__


class UnpicklableError(Exception):
    def __reduce__(self) -> Any:
        raise SystemExit("not me")


class LostError(Exception):
    """Error that can be pickled, but not unpickled."""

    def __reduce__(self) -> Any:
        return sys.exit, (3,)


class HidingError(Exception):
    """Error with contents that cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("behind a lock")
        self.lock = threading.Lock()


class Array:
    """Something that says it is an array."""

    shape, dtype = (3,), np.dtype(float)

    def __array__(self, *args, **kwargs) -> Any:
        raise LookupError("no numbers here")


class Shapeless:
    @property
    def shape(self) -> Never:
        raise SystemExit("no shape here")


def raising(error, *arguments) -> Callable[..., Any]:
    def act(u) -> Never:
        raise error(*arguments)

    return act


def returning(make) -> Callable[..., Any]:
    return lambda u: make(polite(u))


def recurses(u) -> Any:
    return recurses(u)


def sleeps_on(u) -> np.ndarray:
    """Model that suppresses all exceptions, in a loop, for a while."""
    end = time.perf_counter() + SLEEP
    while time.perf_counter() < end:
        with contextlib.suppress(BaseException):
            time.sleep(SLEEP)
    return polite(u)


def sleeps_with_an_alarm_of_its_own(u) -> np.ndarray:
    has_an_alarm_of_its_own(u)
    time.sleep(SLEEP)
    return polite(u)


def dies(u) -> None:
    os._exit(3)


class Act(NamedTuple):
    """Behaviour of a model, and the outcome that must follow."""

    fn: Any
    cause: str | None = None
    """What the reason of the failed member says; None where it does not fail."""
    together: str | None = None
    """What ends the run of a vectorized model, if all of its members fail together."""
    ends: str | None = None
    """"interrupted" or "died", where the run ends."""


READ_ONLY = "read-only"

ACTS = {
    "fills one buffer": Act(fills_one_buffer),
    "edits its input": Act(edits_its_input, together=READ_ONLY),
    "returns its input": Act(returns_its_input, together=READ_ONLY),
    "keeps arrays and edits them later": Act(edits_later),
    "returns a read-only view": Act(returns_a_read_only_view),
    "returns a list": Act(returns_a_list),
    "prints": Act(prints),
    "changes the working directory": Act(changes_folder),
    "seeds NumPy and random": Act(seeds_everything),
    "warns": Act(warns),
    "np.seterr(all='raise')": Act(makes_numpy_strict),
    "turns warnings into errors": Act(makes_warnings_errors),
    "an alarm of its own": Act(has_an_alarm_of_its_own),
    "SystemExit": Act(raising(SystemExit, 3), "SystemExit(3)"),
    "GeneratorExit": Act(raising(GeneratorExit), "GeneratorExit()"),
    "StopIteration": Act(raising(StopIteration, 1), "StopIteration(1)"),
    "a BaseException": Act(raising(OwnBaseError, "odd"), "OwnBaseError('odd')"),
    "CancelledError": Act(raising(cf.CancelledError), "CancelledError()"),
    "BrokenExecutor": Act(raising(cf.BrokenExecutor, "mine"), "BrokenExecutor('mine')"),
    "TimeoutError": Act(raising(TimeoutError, "mine"), "TimeoutError('mine')"),
    "MemoryError": Act(raising(MemoryError), "MemoryError()"),
    "endless recursion": Act(recurses, "RecursionError"),
    "an exception of 10 MB": Act(raising(ValueError, "x" * 10**7), "ValueError('xxx"),
    "an exception without repr": Act(raising(UnspeakableError), "UnspeakableError"),
    "an exception that is not pickled": Act(raising(UnpicklableError), "UnpicklableError"),
    "an exception that is not unpickled": Act(raising(LostError, "odd"), "LostError('odd')"),
    "an exception with a lock": Act(raising(HidingError), "HidingError('behind a lock')"),
    "None": Act(returning(lambda g: None), "NoneType"),
    "one number more": Act(returning(lambda g: np.append(g, 0.0)), "(4,)"),
    "a row": Act(returning(lambda g: g[None]), "(1, 3)"),
    "one number": Act(returning(lambda g: g[0]), "()"),
    "nothing": Act(returning(lambda g: g[:0]), "(0,)"),
    "complex numbers": Act(returning(lambda g: g + 0j), "complex128"),
    "strings": Act(returning(lambda g: ["a", "b", "c"]), "<U1"),
    "numbers as strings": Act(returning(lambda g: g.astype(str)), "dtype <U"),
    "bytes": Act(returning(lambda g: b"abc"), "|S3"),
    "objects": Act(returning(lambda g: np.array([object()] * 3)), "dtype object"),
    "numbers as objects": Act(returning(lambda g: g.astype(object)), "dtype object"),
    "a dictionary": Act(returning(lambda g: {"g": g}), "dict"),
    "a generator": Act(returning(lambda g: (each for each in g)), "generator"),
    "dates": Act(returning(lambda g: g.astype("M8[s]")), "datetime64"),
    "a ragged list": Act(returning(lambda g: [1.0, [2.0, 3.0], 4.0]), "array of numbers"),
    "a masked array": Act(
        returning(lambda g: np.ma.array(g, mask=[0, 1, 0])), "output 1 ('y1') is nan"
    ),
    "a masked integer": Act(
        returning(lambda g: np.ma.array([1, 2, 3], mask=[0, 0, 1])), "output 2 ('y2') is nan"
    ),
    "NaN": Act(returning(lambda g: g + np.array([0, np.nan, 0])), "output 1 ('y1') is nan"),
    "infinity": Act(returning(lambda g: g - [0, 0, np.inf]), "-inf at data index 2"),
    "too large a number": Act(returning(lambda g: g + 1e200), "too large to be squared"),
    "an integer that overflows": Act(returning(lambda g: [10**400] * 3), "dtype object"),
    "an array that raises": Act(returning(lambda g: Array()), "no numbers here"),
    "a shape that raises": Act(returning(lambda g: Shapeless()), "no shape here"),
    "sleeps on and suppresses all": Act(sleeps_on, "timed out", together="timed out"),
    "sleeps on with an alarm of its own": Act(
        sleeps_with_an_alarm_of_its_own, "timed out", together="timed out"
    ),
    "KeyboardInterrupt": Act(raising(KeyboardInterrupt), ends="interrupted"),
    "os._exit": Act(dies, "KilledWorker", ends="died"),
}  # fmt: skip
"""What is rude, by name."""
