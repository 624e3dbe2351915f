"""One-step-ahead prediction of a series: its scale, its windows, and the errors of references."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

__all__ = ["references", "scaled", "stretches", "windows"]


def scaled(values: np.ndarray) -> np.ndarray:
    """The values of a series in units of its range: from 0 to 1."""
    low, high = float(np.min(values)), float(np.max(values))
    return (values - low) / (high - low)


def windows(series: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """All windows of a series ``(N, width)``, and the value after each window ``(N,)``.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.experiments.one_step_ahead import windows
    >>> windows(np.arange(4), 2)
    (array([[0, 1], [1, 2]]), array([2, 3]))
    """
    return np.lib.stride_tricks.sliding_window_view(series, width)[:-1], series[width:]


def stretches(
    series: np.ndarray, width: int, cuts: list[int]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """`windows` of every part into which a series is cut.

    The first window of a part is the end of the part before. Hence no two parts share a target.
    """
    ends = (0, *cuts, len(series))
    return [windows(series[max(a - width, 0) : b], width) for a, b in pairwise(ends)]


def references(
    x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray
) -> dict[str, float]:
    """Test errors of three simple predictions: a mean, the last value, and linear least squares."""
    design = np.column_stack([x, np.ones(len(x))])
    weights = np.linalg.lstsq(design, y, rcond=None)[0]
    predicted = {
        "the mean": np.mean(y),
        "the last value": x_test[:, -1],
        "linear, least squares": x_test @ weights[:-1] + weights[-1],
    }
    return {name: float(np.mean((p - y_test) ** 2)) for name, p in predicted.items()}
