"""Tools of the attacks: a small run, the contents of a folder, and counts of the outcomes."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Never

import numpy as np

import ekitools as ek

MATRIX = np.random.default_rng(0).normal(size=(3, 3))
OPTIONS = {"n_members": 5, "rng": 0}

Row = tuple[str, int, int]
"""An attack, how often it was tried, and how often it was held."""


def polite(u) -> np.ndarray:
    """The model that behaves."""
    return np.tanh(MATRIX @ u)


def never(u) -> Never:
    raise AssertionError("the model was run")


def method(h=0.15) -> ek.EKI:
    return ek.EKI(ek.FixedStep(h))


def problem(fn: Callable = polite) -> ek.InverseProblem:
    prior = ek.GaussianPrior(np.zeros(3), 1.0)
    model = fn if hasattr(fn, "vectorized") else ek.FunctionModel(fn)
    return ek.InverseProblem(model, prior, 0.01, polite(np.ones(3)))


def differs(result, expected, n=None) -> str | None:
    """Difference of the first ``n`` iterations of a run from the expected ones; None if equal."""
    n = expected.sizes["iteration"] if n is None else n
    if result.sizes["iteration"] != n:
        return f"{result.sizes['iteration']} iterations in the place of {n}"
    for name in ("u", "g", "failed"):
        if not np.array_equal(
            result[name].values, expected[name].values[:n], equal_nan=name != "failed"
        ):
            return f"{name} is not bitwise the expected one"
    return None


def contents(folder: Path) -> dict[str, tuple[int, Any]]:
    """Kind and content of everything in a folder, its subfolders included."""
    found = {}
    for path in sorted(folder.rglob("*")):
        kind, content = path.lstat().st_mode, None
        if stat.S_ISLNK(kind):
            content = str(path.readlink())
        elif stat.S_ISREG(kind):
            content = path.read_bytes()
        found[str(path.relative_to(folder))] = (kind, content)
    return found


def start(path: Path, how: Any, fn: Callable = polite) -> Any:
    """The result of a run in the folder, or of its continuation where there is a checkpoint."""
    if (path / "checkpoint.json").exists():
        return ek.resume(path, problem(fn))
    return ek.run(problem(fn), how, checkpoint=path, **OPTIONS)


def whole(path: Path, expected, how: Any) -> str | None:
    """None if the folder continues to the expected result and keeps nothing else."""
    try:
        why = differs(start(path, how), expected)
    except Exception as error:
        return f"{error!r:.300}"
    names = sorted(entry.name.partition("-")[0] for entry in path.iterdir())
    if why is None and names != ["checkpoint.json", "history", "records", "state"]:
        return f"the folder holds {names}"
    return why


def tally(title: str, outcomes: Iterable[str | None], report: Callable[[str], Any] = print) -> Row:
    """The row of an attack. An outcome is None where it was held, else what happened."""
    tried = held = 0
    for outcome in outcomes:
        tried, held = tried + 1, held + (outcome is None)
        if outcome is not None:
            report(f"{title}: {outcome}")
    return title, tried, held
