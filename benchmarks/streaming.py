"""One analysis of an ensemble on disk: memory, and time compared with a copy of the file.

    OMP_NUM_THREADS=1 python benchmarks/streaming.py [--localized] [--parameters N] [--folder /tmp]

100 members in float32, 10,000 data, and ten million parameters by default. The default size needs
8 GB in the folder: the ensemble and the result. *Copy* reads the file in blocks of 64 MB and writes
each block to a second file. *Update* is `apply_update` from one memory map to a second one, and *in
place* has one map. Each time ends when the data are on the disk, and each begins without pages of
the files in memory. *Update* and *in place* are timed in separate processes, and their memory is
the largest resident memory of the process, with Python and NumPy. The columns of the result are
compared with K U in float64.

With ``--localized`` the parameters are the cells of a square grid, the data lie in random cells,
and Gaspari-Cohn weights reach about 40 data from every cell. The coefficients are then made during
the update. The first columns of the result are compared with a separate analysis of every cell in
float64. The difference is the error of the interpolation between local analyses.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import ekitools as ek

MEMBERS, DATA = 100, 10_000
BLOCK_BYTES = 1 << 26
IN_SUPPORT = 40


def opened(path, mode, p) -> np.memmap:
    """The memory map of an ensemble."""
    return np.memmap(path, np.float32, mode, shape=(MEMBERS, p))


def draw(path, p) -> None:
    """An ensemble of independent normal numbers, written in blocks of rows."""
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        for _ in range(MEMBERS):
            file.write(rng.standard_normal(p, dtype=np.float32))
        os.fsync(file.fileno())


def forget(*paths) -> None:
    """Let the system drop the pages of files, so that they are read from the disk."""
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def copy(source, target) -> float:
    """Seconds of reading a file and writing it to another one."""
    block = bytearray(BLOCK_BYTES)
    start = time.perf_counter()
    with source.open("rb", buffering=0) as file, target.open("wb", buffering=0) as out:
        while n := file.readinto(block):
            out.write(memoryview(block)[:n])
        os.fsync(out.fileno())
    return time.perf_counter() - start


def outputs() -> tuple[np.ndarray, np.ndarray]:
    """The outputs of the members, and the data."""
    rng = np.random.default_rng(1)
    g = rng.standard_normal((MEMBERS, DATA), dtype=np.float32)
    return g, rng.standard_normal(DATA).astype(np.float32)


def distance(p, n=None, resolution=0.5) -> ek.localization.Distance:
    """The rule that localizes the first n cells of a square grid with p cells."""
    side = math.isqrt(p - 1) + 1
    cells = np.stack(np.divmod(np.arange(p if n is None else n), side), axis=1)
    places = np.random.default_rng(2).choice(p, DATA, replace=False)
    wells = np.stack(np.divmod(places, side), axis=1)
    radius = math.sqrt(IN_SUPPORT * p / (math.pi * DATA)) / 2
    return ek.localization.Distance(cells, wells, radius, resolution=resolution)


def analysed(source, target, p, localized) -> tuple[float, float]:
    """Seconds of the coefficients and of the update, in this process."""
    g, y = outputs()
    start = time.perf_counter()
    rule = distance(p) if localized else None
    K = ek.kalman_coefficients(g, y, 100.0, localization=rule)
    middle = time.perf_counter()
    read = opened(source, "r+" if source == target else "r", p)
    written = read if source == target else opened(target, "w+", p)
    ek.apply_update(K, read, written)
    written.flush()
    return middle - start, time.perf_counter() - middle


def apart(source, target, p, localized) -> list[float]:
    """The seconds of `analysed` and the memory in MiB, in a separate process."""
    command = [sys.executable, __file__, "--parameters", str(p), "--child", source, target]
    command += ["--localized"] if localized else []
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [float(each) for each in done.stdout.split()]


def largest_memory() -> float:
    """The largest resident memory of this process in MiB.

    `resource.getrusage` would count the memory of the process that started this one.
    """
    status = Path("/proc/self/status").read_text("utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def largest_error(before, after, p, localized) -> float:
    """Largest error of some columns of the result."""
    g, y = outputs()
    if localized:
        n = 1000
        rule = distance(p, n, resolution=0)
        K = ek.kalman_coefficients(g, y, 100.0, localization=rule)
        expected = ek.apply_update(K, opened(before, "r", p)[:, :n].astype(np.float64))
        return np.abs(opened(after, "r", p)[:, :n] - expected).max()
    K = ek.kalman_coefficients(g, y, 100.0)
    columns = np.linspace(0, p - 1, 1000).astype(int)
    u = opened(before, "r", p)[:, columns].astype(np.float64)
    expected = u + K @ (u - u.mean(axis=0))
    return np.abs(opened(after, "r", p)[:, columns] - expected).max()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parameters", type=int, default=10_000_000)
    parser.add_argument("--localized", action="store_true", help="weights by distance")
    parser.add_argument("--folder", type=Path, help="where the files are written")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", type=Path, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    p, localized = options.parameters, options.localized
    if options.child:
        seconds = analysed(*options.child, p, localized)
        print(*seconds, largest_memory())
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        source, target = Path(folder) / "ensemble", Path(folder) / "new"
        draw(source, p)
        size = source.stat().st_size / 1e9
        print(f"J = {MEMBERS}, p = {p}, d = {DATA}, float32: {size:.1f} GB")
        rows = []
        for _ in range(options.repeats):
            forget(source)
            copied = copy(source, target)
            target.unlink()
            forget(source)
            coefficients, seconds, memory = apart(source, target, p, localized)
            error = largest_error(source, target, p, localized)
            forget(source, target)
            _, in_place, in_place_memory = apart(target, target, p, localized)  # a second analysis
            target.unlink()
            rows.append((copied, coefficients, seconds, in_place, memory, in_place_memory, error))
        copied, coefficients, seconds, in_place, *_ = np.median(rows, axis=0)
        memory, in_place_memory, error = np.max(rows, axis=0)[4:]
        print(f"coefficients: {coefficients:.2f} s")
        print(f"{'':<10}{'seconds':>10}{'times copy':>12}{'MiB':>8}")
        print(f"{'copy':<10}{copied:10.2f}{1:12.2f}")
        print(f"{'update':<10}{seconds:10.2f}{seconds / copied:12.2f}{memory:8.0f}")
        print(f"{'in place':<10}{in_place:10.2f}{in_place / copied:12.2f}{in_place_memory:8.0f}")
        print(f"largest error of an entry: {error:.1e}")


if __name__ == "__main__":
    main()
