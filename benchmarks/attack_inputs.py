"""Wrong arguments of every public callable: the number of calls, and how many are refused.

    python benchmarks/attack_inputs.py

The table of `tests/zoo/wrong` has the kind of every argument of every public callable. An argument
receives each wrong value of its kind, and the other arguments are right. ekitools withstands a
value if the call ends in a TypeError or ValueError that names the argument, the rule and the value,
without a model run, a figure or a warning.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from attack_tools import Row

os.environ.setdefault("MPLBACKEND", "agg")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from zoo.wrong.sweep import attack as swept

__all__ = ["attack", "by_kind"]


def by_kind(report=print) -> list[Row]:
    """Rows of (kind of argument, tried, held), swept in a folder of their own."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        os.environ["EKITOOLS_CACHE"] = scratch
        rows = swept(report)
        os.chdir(before)
    return rows


def attack(*, quick=False, report=print) -> list[Row]:
    """One row of (attack, tried, held) for all kinds together."""
    _, tried, held = zip(*by_kind(report), strict=True)
    return [("a wrong argument of a public callable", sum(tried), sum(held))]


def main() -> None:
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    rows = by_kind()
    total = ("all", *(sum(numbers) for numbers in list(zip(*rows, strict=True))[1:]))
    print(f"{'kind of argument':<24}  tried   held")
    for name, tried, held in [*rows, total]:
        print(f"{name:<24}  {tried:5d}  {held:5d}")


if __name__ == "__main__":
    main()
