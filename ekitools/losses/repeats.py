"""Covariances of the noise from repeated observations."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Literal, TypeAlias

import numpy as np

from ekitools.core.arrays import as_real
from ekitools.core.checks import integer, one_of

__all__ = ["Shrinkage", "covariance_of_repeats"]

Shrinkage: TypeAlias = Literal["ledoit-wolf", "oas"]
_ESTIMATORS: dict[Shrinkage, str] = {"ledoit-wolf": "ledoit_wolf", "oas": "oas"}
"""Functions of `sklearn.covariance`."""


def covariance_of_repeats(
    samples: Any, rank: int | None, diagonal: Any, shrinkage: Shrinkage | None
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """Γ of `ekitools.GaussianNoise.from_samples`: a matrix, or (diag, factor)."""
    samples = _checked(samples)
    n, d = samples.shape
    if shrinkage is not None:
        shrinkage = one_of("shrinkage", shrinkage, _ESTIMATORS)
        if rank is not None or diagonal is not None:
            name = "rank" if rank is not None else "diagonal"
            raise TypeError(
                f"{name}: must not be given with shrinkage, which makes a dense matrix, got both. "
                "Leave one of them out."
            )
        return _shrunk(samples, shrinkage)
    anomalies = (samples - samples.mean(axis=0)) / np.sqrt(n - 1)
    enough = 2 * d + 3  # from there on the inverse is at most twice too large on average
    if rank is None and diagonal is None and n >= enough:
        return anomalies.T @ anomalies
    if diagonal is None:
        raise ValueError(
            f"diagonal: must be given for {n} samples of {d} data"
            + (f" and rank={rank}" if rank is not None else "")
            + ", got None. Directions that the samples do not show would have almost no noise. "
            "Pass diagonal=variances of the independent error of each datum, "
            f'shrinkage="ledoit-wolf" or "oas", or at least {enough} samples.'
        )
    diag = as_real("diagonal", diagonal, ndim=(0, 1)).astype(np.float64)
    if diag.ndim and diag.size != d:
        raise ValueError(f"diagonal: must be one number or have d = {d} entries, got {diag.size}.")
    if np.any(diag <= 0):
        raise ValueError(f"diagonal: variances must be positive, got {diag.min():.6g}.")
    most = min(n - 1, d)
    rank = most if rank is None else integer("rank", rank, most=most)
    _, s, right = np.linalg.svd(anomalies, full_matrices=False)
    return np.broadcast_to(diag, (d,)).copy(), right[:rank].T * s[:rank]


def _checked(samples: Any) -> np.ndarray:
    found = as_real(
        "samples",
        samples,
        ndim=(2,),
        remedy="Pass (N, d): one repeat of all d data in each row.",
    ).astype(np.float64, order="C")
    n, d = found.shape
    if n < 2 or d == 0:
        raise ValueError(
            f"samples: must be (N, d) with N >= 2 repeats of the data, got shape {found.shape}. "
            "Without repeats give the standard deviation: GaussianNoise(sd=...)."
        )
    constant = np.flatnonzero(np.ptp(found, axis=0) == 0)
    if constant.size:
        raise ValueError(
            f"samples: must vary in every column, got {constant.size} constant column(s), the "
            f"first at index {constant[0]}. Leave these data out, because the samples do not show "
            "their noise."
        )
    return found


def _shrunk(samples: np.ndarray, shrinkage: Shrinkage) -> np.ndarray:
    name = _ESTIMATORS[shrinkage]
    try:
        module = import_module("sklearn.covariance")
    except ImportError:
        raise ImportError(
            f'scikit-learn: must be installed for shrinkage="{shrinkage}", and is not. Use '
            'pip install "ekitools[sklearn]".'
        ) from None
    return np.asarray(getattr(module, name)(samples)[0])
