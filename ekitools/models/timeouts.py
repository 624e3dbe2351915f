"""A limit to the time of one model run: by a signal where one can be had, else by a thread."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from ekitools.models.outputs import TimedOutError

__all__ = ["within"]

GRACE = 1.0
"""Seconds that a model has to clean up after its time is over, before it is interrupted again."""

AGAIN = 1e-4
"""Seconds between later interruptions, which come until one is not caught."""


def within(timeout: float | None, call: Callable[[], Any]) -> Any:
    """``call()``, which may take ``timeout`` seconds.

    In the main thread of a process a signal (POSIX) interrupts the call. It is repeated, so that
    a bare ``except:`` in a loop does not keep it off; a call that returns too late has timed out
    too. An alarm of the caller goes on with its remaining time when the call is over. In other
    threads the call has a thread of its own, which is abandoned.

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
        if over:  # a signal that came before the timer was stopped: it must not start it again
            return
        signal.setitimer(signal.ITIMER_REAL, GRACE if first else AGAIN, AGAIN)
        first.clear()
        if frame is None or frame.f_code.co_filename != __file__:  # not once the call is over
            raise TimedOutError(timeout)

    first, over = [True], list[bool]()
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
        raise TimedOutError(timeout) from None  # another exception in the place of this one
    finally:
        over.append(True)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL if previous is None else previous)
        if remaining > 0:  # the caller's own alarm; at once where it was due meanwhile
            left = remaining - (time.perf_counter() - start)
            signal.setitimer(signal.ITIMER_REAL, max(left, 1e-6), interval)
    if time.perf_counter() - start > timeout:  # the model has caught the signal, or held it off
        raise TimedOutError(timeout)
    return value
