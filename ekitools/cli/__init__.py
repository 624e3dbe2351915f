"""The command ``ekitools``: demonstrations, and runs of a user's own file."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ekitools.cli.parser import parser
from ekitools.core.terminal import PLAIN

__all__ = ["main"]

INTERRUPTED, BROKEN_PIPE = 130, 141
"""Exit statuses after Ctrl-C and after a closed pipe, as in shells: 128 + the signal."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    The status is 0 after success, 1 if ``verify`` finds a violated theorem, 2 after an error, 130
    after Ctrl-C and 141 if the reader of the output has closed the pipe.

    Parameters
    ----------
    arguments : sequence of str, optional
        The words after ``ekitools``. The default is the words of the process.

    Examples
    --------
    >>> from ekitools.cli import main
    >>> main(["run", "nowhere.py"])
    2
    """
    for stream in (sys.stdout, sys.stderr):  # an encoding without "±" does not end a run
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=PLAIN)
    try:
        try:
            return _called(arguments)
        finally:  # also after --help, which exits
            sys.stdout.flush()
    except KeyboardInterrupt:
        print("ekitools: interrupted before there was a result.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # the interpreter flushes again at its end, which must not fail
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE


def _called(arguments: Sequence[str] | None) -> int:
    options = parser().parse_args(arguments)
    from ekitools import CheckpointError, RunError
    from ekitools.cli import commands

    try:
        return int(getattr(commands, options.command)(options))
    except BrokenPipeError:
        raise
    except (RunError, CheckpointError, ImportError, OSError, TypeError, ValueError) as error:
        print(f"ekitools: {error}", file=sys.stderr)
        result = error.result if isinstance(error, RunError | CheckpointError) else None
        if result is not None:
            out = Path(options.out or ".")
            path = out if options.command == "run" else out / "result.nc"
            commands.write(result, path)
            print(f"What was computed until then is in {path}.", file=sys.stderr)
        return 2
