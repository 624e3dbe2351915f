"""Timing for the benchmarks: functions run alternately, so a slow period affects all of them."""

from __future__ import annotations

import statistics
import time
from pathlib import Path


def timed(functions, repeats) -> list[float]:
    """Median seconds of each function, the functions taken in turn."""
    seconds = [[] for _ in functions]
    for function in functions:
        function()
    for _ in range(repeats):
        for samples, function in zip(seconds, functions, strict=True):
            start = time.perf_counter()
            function()
            samples.append(time.perf_counter() - start)
    return [statistics.median(samples) for samples in seconds]


def peak_mib() -> float:
    """Peak memory of this process; Linux counts the parent's in getrusage, before the exec."""
    return _status_mib("VmHWM")


def present_mib() -> float:
    """Memory of this process now, and from now on the peak is counted anew; Linux only."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status_mib("VmRSS")


def _status_mib(name) -> float:
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (each for each in status.read_text().splitlines() if each.startswith(name))
        return int(line.split()[1]) / 2**10
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
