"""The two public errors of a run: `RunError` and `CheckpointError`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["CheckpointError", "RunError"]


class RunError(RuntimeError):
    """Error of a run that cannot continue, because every member or a required member failed.

    Attributes
    ----------
    result : xarray.Dataset or None
        All iterations so far, the failed iteration included; None if there are none.

    See Also
    --------
    CheckpointError : Error of a checkpoint.
    run : The function that raises the error; ``on_failure`` decides about failed members.

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
    """Error of a checkpoint that cannot be written, read or continued; its files stay unchanged.

    Attributes
    ----------
    result : xarray.Dataset or None
        All iterations so far, if a running inversion could not be saved.

    See Also
    --------
    resume : Continue a run from a checkpoint.
    RunError : Error of a run that cannot continue.

    Examples
    --------
    >>> import ekitools as ek
    >>> try:
    ...     ek.resume("nowhere", problem=None)
    ... except ek.CheckpointError as error:
    ...     print(error)
    path: must be a checkpoint folder, got nowhere without a checkpoint.json. Pass ...
    """

    result: Any = None
