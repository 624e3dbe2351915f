"""What the benchmarks share: functions timed in turn, so that a slow spell meets all of them."""

from __future__ import annotations

import statistics
import time


def timed(functions, repeats):
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
