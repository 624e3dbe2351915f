"""Checks of the correlation matrix of a Gaussian copula."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ekitools.core.arrays import as_real
from ekitools.core.checks import number

__all__ = ["checked_correlation"]


def checked_correlation(names: tuple[str, ...], correlation: Any) -> np.ndarray:
    """A correlation matrix ``(p, p)`` from a matrix or from pairs of names.

    Parameters
    ----------
    names : tuple of str
        Names of the p parameters.
    correlation : (p, p) or mapping of pairs of names to float
        Pairs that are not in a mapping are uncorrelated.

    Raises
    ------
    TypeError, ValueError
        If the matrix is not symmetric and positive definite with a unit diagonal, or a mapping has
        an unknown name.

    Examples
    --------
    >>> from ekitools.priors.correlation import checked_correlation
    >>> checked_correlation(("a", "b"), {("a", "b"): 0.6})
    array([[1. , 0.6],
           [0.6, 1. ]])
    """
    p = len(names)
    if isinstance(correlation, Mapping):
        R = _of_pairs(names, correlation)
    else:
        R = as_real("correlation", correlation, ndim=(2,)).astype(np.float64)
        if R.shape != (p, p):
            raise ValueError(
                f"correlation: must be a ({p}, {p}) matrix for {p} parameters, got shape "
                f"{R.shape}. Or give a mapping of pairs: {{(name, name): 0.5}}."
            )
        if not np.allclose(np.diag(R), 1, rtol=0, atol=1e-8):
            raise ValueError(
                "correlation: must have ones on its diagonal, got "
                f"{np.array2string(np.diag(R), precision=4):.80}. Divide a covariance by its "
                "standard deviations: cov / np.outer(sd, sd)."
            )
        asymmetry = float(np.max(np.abs(R - R.T)))
        if asymmetry > 1e-8:
            raise ValueError(
                f"correlation: must be symmetric, got entries that differ by {asymmetry:.3g} from "
                "their transposes. Use (R + R.T) / 2."
            )
        R = (R + R.T) / 2
        np.fill_diagonal(R, 1)
    smallest = float(np.linalg.eigvalsh(R)[0])
    if smallest <= 1e-12 * p:
        raise ValueError(
            "correlation: must be positive definite, got a smallest eigenvalue of "
            f"{smallest:.3g}. Multiply all correlations by a number below "
            f"{1 / (1 - smallest):.4g}, or remove a parameter that follows from the others."
        )
    return R


def _of_pairs(names: tuple[str, ...], pairs: Mapping[Any, Any]) -> np.ndarray:
    R = np.eye(len(names))
    seen = set()
    for pair, value in pairs.items():
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise TypeError(
                f"correlation: keys must be pairs of names such as ('a', 'b'), got {pair!r}."
            )
        unknown = [name for name in pair if name not in names]
        if unknown:
            raise ValueError(
                f"correlation: names must be among {names}, got {unknown[0]!r} in {pair!r}."
            )
        if pair[0] == pair[1] or frozenset(pair) in seen:
            raise ValueError(
                f"correlation: must have each pair of two names once, got {pair!r}. Remove it."
            )
        seen.add(frozenset(pair))
        i, j = map(names.index, pair)
        R[i, j] = R[j, i] = number(f"correlation[{pair!r}]", value, least=-1, most=1)
    return R
