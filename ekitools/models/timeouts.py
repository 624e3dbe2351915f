"""Time limits of model runs: by a signal if possible, else by a thread."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from ekitools.models.outputs import TimedOutError

__all__ = ["within"]

GRACE = 1.0
"""Seconds for a model to clean up after the timeout, before the next interruption."""

AGAIN = 1e-3
"""Longest wait for a later interruption, in seconds, until the model does not catch one."""

TURN = (5**0.5 - 1) / 2
"""The golden ratio. Multiples of it modulo one fill the unit interval evenly (Weyl)."""


def within(timeout: float | None, call: Callable[[], Any]) -> Any:
    """Run ``call()`` for at most ``timeout`` seconds.

    In the main thread of a process a signal (POSIX) interrupts the call. The signal is
    repeated, so a bare ``except:`` in a loop does not suppress it. A call that returns too late has
    also timed out. An alarm of the caller continues with its remaining time after the call. In
    other threads the call runs in a separate thread, which is abandoned at the timeout.

    Raises
    ------
    TimedOutError
        If the call took longer.
    """
    if timeout is None:
        return call()
    if hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread():
        return _by_signal(timeout, call)
    return _by_thread(timeout, call)


def _by_thread(timeout: float, call: Callable[[], Any]) -> Any:
    box: list[Any] = []

    def work() -> None:
        try:
            box.append((True, call()))
        except BaseException as error:
            box.append((False, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(timeout)
    if not box:  # the thread is abandoned: Python cannot stop it
        raise TimedOutError(timeout)
    fine, value = box[0]
    if not fine:
        raise value
    return value


def _by_signal(timeout: float, call: Callable[[], Any]) -> Any:
    def expire(signum: int, frame: Any) -> None:  # noqa: ARG001 - a handler's signature
        if over:  # a late signal must not start the timer again
            return
        turn = next(turns)
        # the waits differ: equal ones would meet a loop at the same line each time, in its `try`
        wait = AGAIN * max((turn * TURN % 1) ** 3, 1e-3) if turn else GRACE
        signal.setitimer(signal.ITIMER_REAL, wait, AGAIN)
        if frame is None or frame.f_code.co_filename != __file__:  # not after the call is over
            raise TimedOutError(timeout)

    turns, over = itertools.count(), list[bool]()
    previous = signal.signal(signal.SIGALRM, expire)
    start = time.perf_counter()
    remaining, interval = signal.setitimer(signal.ITIMER_REAL, timeout)
    try:
        value = call()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if time.perf_counter() - start < timeout or isinstance(error, TimedOutError):
            raise
        raise TimedOutError(timeout) from None  # instead of the other exception
    finally:
        over.append(True)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL if previous is None else previous)
        if remaining > 0:  # the caller's alarm, at once if it was due during the call
            left = remaining - (time.perf_counter() - start)
            signal.setitimer(signal.ITIMER_REAL, max(left, 1e-6), interval)
    if time.perf_counter() - start > timeout:  # the model has caught or delayed the signal
        raise TimedOutError(timeout)
    return value
