"""Processes that are killed at random moments, and several processes at once on one folder.

    python benchmarks/attack_processes.py SEED N

ekitools withstands a kill if the run then resumes from the folder to bitwise the result of an
undisturbed run. It withstands several processes at once if exactly one of them runs the model, the
others end in a `CheckpointError` before their first model run, and the folder then has bitwise the
result of an undisturbed run.

All processes are forks of a process with a single thread, so they start in a millisecond and at the
same time.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from attack_tools import OPTIONS, Row, method, polite, problem, start, tally, whole

import ekitools as ek

METHOD = method(0.05)
"""Twenty-one iterations."""

LONGEST = 1.2
"""The latest kill, as a multiple of the time of one undisturbed run."""

WROTE, REFUSED, NOTHING, REFUSED_LATE = 10, 11, 12, 13
"""How a process ends: its exit status."""


def slowly(u) -> np.ndarray:
    time.sleep(2e-3)
    return polite(u)


def run_in(path, fn=polite) -> int:
    """A run in the folder, or its continuation; what a process does."""
    start(path, METHOD, fn)
    return 0


def forked(action) -> int:
    """The number of a new process that does it and ends with what it returns."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        status = action()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def ended(process) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def killed(path, delay) -> bool:
    """Whether a process that runs in the folder was killed, and not over before."""
    process = forked(lambda: run_in(path))
    time.sleep(delay)
    os.kill(process, signal.SIGKILL)
    return ended(process) == -signal.SIGKILL


def kills(scratch, rng, n, expected, seconds) -> Iterator[str | None]:
    """Every kill is in a folder of its own."""
    done = 0
    while done < n:
        path = scratch / f"{done}-{rng.integers(2**32)}"
        if killed(path, rng.uniform(0, LONGEST * seconds)):
            done += 1
            yield whole(path, expected, METHOD)


def chains(scratch, rng, n, expected, seconds) -> Iterator[str | None]:
    """One run is killed again and again until it is over; all its kills share its fate."""
    done = 0
    while done < n:
        path = scratch / f"{done}-{rng.integers(2**32)}"
        lives = 0
        while lives < n and killed(path, rng.uniform(0, 0.5 * seconds)):
            lives += 1
        yield from [whole(path, expected, METHOD)] * lives
        done += lives


def crowds(scratch, rng, n, expected, size=2, *, left=False) -> Iterator[str | None]:
    """Processes that start at the same time in one new folder, or in that of a killed one."""
    for attempt in range(n):
        path = scratch / f"{attempt}-{rng.integers(2**32)}"
        if left:
            process = forked(lambda path=path: run_in(path, slowly))
            while not (path / "checkpoint.json").exists():
                time.sleep(1e-3)
            time.sleep(rng.uniform(0, 0.1))
            os.kill(process, signal.SIGKILL)
            ended(process)
        gate, opened = os.pipe()

        def member(path=path, gate=gate, opened=opened) -> int:
            os.close(opened)
            os.read(gate, 1)  # until all are there
            calls = []

            def counted(u) -> np.ndarray:
                calls.append(u)
                return slowly(u)

            try:
                run_in(path, counted)
            except ek.CheckpointError:
                return REFUSED_LATE if calls else REFUSED
            return WROTE if calls else NOTHING

        crowd = [forked(member) for _ in range(size)]
        os.close(gate)
        os.close(opened)
        ends = [ended(each) for each in crowd]
        others = [end for end in ends if end != WROTE]
        allowed = {REFUSED, NOTHING} if left else {REFUSED}
        if len(others) != size - 1 or not set(others) <= allowed:
            yield f"processes ended with {ends}"
        else:
            yield whole(path, expected, METHOD)


def attacked(scratch, seed, n, report) -> list[Row]:
    """Rows of all attacks, in this process, which may have one thread only."""
    rng = np.random.default_rng(seed)
    expected = ek.run(problem(), METHOD, **OPTIONS)
    run_in(scratch / "warm")
    begin = time.perf_counter()
    run_in(scratch / "timed")
    seconds = time.perf_counter() - begin
    few = -(-n // 5)
    attacks = {
        "killed at a random moment": kills(scratch, rng, n, expected, seconds),
        "killed again and again": chains(scratch, rng, n, expected, seconds),
        "two processes at once": crowds(scratch, rng, few, expected),
        "five processes at once": crowds(scratch, rng, few, expected, 5),
        "two at once after a kill": crowds(scratch, rng, few, expected, left=True),
        "five at once after a kill": crowds(scratch, rng, few, expected, 5, left=True),
    }
    return [tally(title, outcomes, report) for title, outcomes in attacks.items()]


def attack(*, quick=False, report=print, seed=0) -> list[Row]:
    """The rows, from a process of its own."""
    command = [sys.executable, __file__, str(seed), "2" if quick else "200"]
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    paths = os.pathsep.join(path for path in sys.path if path)
    found = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, **threads, "PYTHONPATH": paths},
    )
    *lines, last = found.stdout.splitlines()
    for line in lines:
        report(line)
    return [tuple(row) for row in json.loads(last)]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        found = attacked(Path(folder), int(sys.argv[1]), int(sys.argv[2]), print)
    print(json.dumps(found))
