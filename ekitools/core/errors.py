"""The two public errors of a run: `RunError` and `CheckpointError`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["CheckpointError", "RunError"]


class RunError(RuntimeError):
    """A run cannot go on: every member failed, or a failure was asked to be an error.

    Attributes
    ----------
    result : xarray.Dataset or None
        Everything computed so far, the failed iteration included; None where that is nothing.

    Examples
    --------
    >>> import ekitools as ek
    >>> problem = ek.InverseProblem(
    ...     ek.FunctionModel(lambda u: u / 0), ek.GaussianPrior(0.0, [1.0]), 1.0, [2.0])
    >>> import numpy as np
    >>> try:
    ...     with np.errstate(all="ignore"):
    ...         result = ek.run(problem, ek.EKI(), n_members=5, rng=0)
    ... except ek.RunError as error:
    ...     print(error.result.sizes["iteration"])
    1
    """

    result: xr.Dataset | None = None


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written, read, or continued; what is on disk is left alone.

    Attributes
    ----------
    result : xarray.Dataset or None
        What was computed, where a running inversion could not be saved.

    Examples
    --------
    >>> import ekitools as ek
    >>> try:
    ...     ek.resume("nowhere", problem=None)
    ... except ek.CheckpointError as error:
    ...     print(error)
    path: must be a checkpoint folder, got nowhere without a checkpoint.json.
    """

    result: Any = None
