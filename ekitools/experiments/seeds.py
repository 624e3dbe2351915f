"""Parts of an experiment that are computed with several seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["mean_of", "runs_by_label", "seed_of", "spread_of", "with_seeds"]


def with_seeds(labels: Iterable[str], seeds: int) -> list[str]:
    """The labels of all runs: with one seed the labels, else such as "DNN 2, EKI(R), seed 0".

    All runs of a seed come before those of the next.

    Examples
    --------
    >>> from ekitools.experiments.seeds import with_seeds
    >>> with_seeds(["a", "b"], 1), with_seeds(["a"], 2)
    (['a', 'b'], ['a, seed 0', 'a, seed 1'])
    """
    if seeds == 1:
        return list(labels)
    names = list(labels)
    return [f"{name}, seed {seed}" for seed in range(seeds) for name in names]


def seed_of(label: str) -> tuple[str, int]:
    """The label without its seed, and the seed; 0 for a label without one.

    Examples
    --------
    >>> from ekitools.experiments.seeds import seed_of
    >>> seed_of("a, seed 1"), seed_of("a")
    (('a', 1), ('a', 0))
    """
    name, _, seed = label.partition(", seed ")
    return name, int(seed or 0)


def runs_by_label(
    labels: Iterable[str], numbers: Mapping[str, dict[str, Any]]
) -> dict[str, list[dict[str, Any]]]:
    """The finished runs of every label, one for each seed."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for label in filter(numbers.__contains__, labels):
        runs.setdefault(seed_of(label)[0], []).append(numbers[label])
    return runs


def mean_of(runs: list[dict[str, Any]], key: str) -> float:
    """The mean of a number over the runs that have it; NaN if none has."""
    values = [run[key] for run in runs if key in run]
    return sum(values) / len(values) if values else float("nan")


def spread_of(runs: list[dict[str, Any]], key: str) -> str:
    """The mean of an accuracy, and the lowest and the highest if there are several runs.

    Examples
    --------
    >>> from ekitools.experiments.seeds import spread_of
    >>> spread_of([{"test": 0.5}, {"test": 0.7}], "test")
    '0.6000 (0.5000-0.7000)'
    """
    values = [run[key] for run in runs]
    mean = f"{mean_of(runs, key):.4f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.4f}-{max(values):.4f})"
