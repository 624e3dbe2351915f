"""Functions that run on workers: load a model once in a process, and pack outcomes."""

from __future__ import annotations

import io
import pickle
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ekitools.models.extras import Evaluation
from ekitools.models.outputs import Failure, failure_of

__all__ = ["LACKING", "dump", "keep", "load", "received", "run_here", "run_packed"]

KEPT = 2
"""Number of models that a worker keeps."""

LACKING = "lacking"
"""Return value of `run_here` if the worker has no model with this digest."""

_models: OrderedDict[str, Any] = OrderedDict()
_lock = threading.Lock()


def dump(model: Any, dumps: Callable[..., bytes] = pickle.dumps) -> list[bytes | memoryview]:
    """A pickled model in parts, with large arrays as raw memory, for `load`."""
    buffers: list[pickle.PickleBuffer] = []
    pickled = dumps(model, protocol=5, buffer_callback=buffers.append)
    views = [buffer.raw() for buffer in buffers]
    return [pickle.dumps((pickled, [view.nbytes for view in views])), *views]


def load(stream: BinaryIO) -> Any:
    """The model from a ``stream`` of its parts, one after the other."""
    pickled, sizes = pickle.load(stream)
    buffers = [np.empty(size, dtype=np.uint8) for size in sizes]  # aligned like arrays
    for buffer in buffers:
        if stream.readinto(buffer.data) != buffer.nbytes:  # type: ignore[attr-defined]
            raise EOFError("the pickled model is cut off")
    return pickle.loads(pickled, buffers=buffers)


def keep(digest: str, source: bytes | Path) -> Any:
    """The model with this digest, unpickled from ``source`` if the process does not have it."""
    with _lock:
        if digest not in _models:
            with source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as stream:
                _models[digest] = load(stream)
            while len(_models) > KEPT:
                _models.popitem(last=False)
        _models.move_to_end(digest)
        return _models[digest]


def run_here(
    function: Callable[..., Any],
    digest: str,
    source: bytes | Path | None,
    batch: Sequence[tuple[Any, ...]],
) -> Any:
    """Packed return values of ``function(model, *arguments)`` for a batch of arguments."""
    try:
        if source is None and digest not in _models:
            return LACKING
        model = keep(digest, b"" if source is None else source)
    except Exception as error:
        failure = failure_of(error)
        reason = f"model: could not be loaded by the worker ({failure.reason})"
        return [_packed(failure._replace(reason=reason))] * len(batch)
    return [run_packed(function, model, *arguments) for arguments in batch]


def run_packed(function: Callable[..., Any], *arguments: Any) -> Any:
    """Packed return value of ``function``, with exceptions pickled separately."""
    try:
        outcome = function(*arguments)
    except KeyboardInterrupt as error:  # ends the run, but not the worker
        return _packed(Failure("interrupted", error))
    if isinstance(outcome, Evaluation):
        failures = {row: _packed(failure) for row, failure in outcome.failures.items()}
        return outcome._replace(failures=failures)
    return _packed(outcome)


def received(outcome: Any) -> Any:
    """Unpack the return value of `run_packed`.

    Raises
    ------
    KeyboardInterrupt
        If a KeyboardInterrupt ended the model run.
    """
    if isinstance(outcome, Evaluation):
        failures = {row: received(failure) for row, failure in outcome.failures.items()}
        return outcome._replace(failures=failures)
    if not isinstance(outcome, Failure) or outcome.error is None:
        return outcome
    error = _unpickled(outcome)
    if isinstance(error, KeyboardInterrupt):
        raise error
    return outcome._replace(error=error)


def _packed(outcome: Any) -> Any:
    if not isinstance(outcome, Failure) or outcome.error is None:
        return outcome
    data: Any = b""
    try:
        data = pickle.dumps(outcome.error)
    except KeyboardInterrupt:
        raise
    except BaseException:
        pass
    return outcome._replace(error=data)


def _unpickled(failure: Failure) -> BaseException:
    data: Any = failure.error
    try:
        error = pickle.loads(data)
    except KeyboardInterrupt:
        raise
    except BaseException:
        error = None
    return error if isinstance(error, BaseException) else RuntimeError(failure.reason)
