"""The table of attacks in docs/failures.md: numbers of attacks tried and held.

    python benchmarks/attacks.py [--quick] [--only NAME ...]

Every part is a module with a function `attack`, whose docstring defines when an attack is held.
Attacks that are not held are printed above the table. ``--quick`` takes a sample of each part, in
seconds.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from importlib.util import find_spec

from attack_tools import Row

PARTS = {
    "kills": "attack_processes",
    "faults": "attack_faults",
    "bytes": "attack_checkpoints",
    "outputs": "attack_outputs",
    "folders": "attack_folders",
    "models": "attack_models",
    "inputs": "attack_inputs",
}
"""The module of each part."""


def present(names, *, quick) -> list[str]:
    """Names of the installed parts; the part on inputs is left out of a quick run."""
    return [name for name in names if find_spec(PARTS[name]) and not (quick and name == "inputs")]


def table(names, *, quick=False, report=print) -> list[Row]:
    """Rows of (attack, tried, held) of the named parts."""
    rows = []
    for name in names:
        attack = import_module(PARTS[name]).attack
        rows += attack(quick=quick, report=report)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a sample of each part")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="NAME",
                        help=f"of {', '.join(PARTS)}")  # fmt: skip
    options = parser.parse_args()
    names = present(options.only, quick=options.quick)
    for name in options.only:
        if name not in names:
            print(f"{name}: left out")
    rows = table(names, quick=options.quick)
    rows.append(("all", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    width = max(len(title) for title, *_ in rows)
    print(f"{'attack':<{width}}  tried   held")
    for title, tried, held in rows:
        print(f"{title:<{width}}  {tried:5d}  {held:5d}")


if __name__ == "__main__":
    main()
