"""What is predicted with: the mean of an ensemble, or its best member."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["best_member"]


def best_member(result: xr.Dataset) -> xr.DataArray:
    """The member with the lowest misfit at the latest iteration that was evaluated [1]_.

    With mini-batches that is its misfit on one batch. The other prediction is the mean,
    ``result.u[-1].mean("member")``.

    Parameters
    ----------
    result : xarray.Dataset
        What `run` returned.

    Returns
    -------
    xarray.DataArray
        ``u(parameter)`` in physical coordinates, with its ``member`` and ``iteration``.

    Raises
    ------
    ValueError
        If no stored iteration was evaluated.

    References
    ----------
    .. [1] Kovachki & Stuart (2019), Inverse Problems 35, 095005.

    Examples
    --------
    >>> import ekitools as ek
    >>> problem = ek.InverseProblem(
    ...     ek.LinearModel([[1.0]]), ek.GaussianPrior(0.0, [1.0]), 0.1, [2.0])
    >>> result = ek.run(problem, ek.LossEKI(), n_steps=20, rng=0)
    >>> ek.best_member(result).values.round(2)
    array([2.])
    """
    misfit = result.misfit.values
    evaluated = np.flatnonzero(np.isfinite(misfit).any(axis=1))
    if not evaluated.size:
        raise ValueError(
            "result: must have a stored iteration that was evaluated, got none. Use "
            'evaluate_final=True, or store="all".'
        )
    i = int(evaluated[-1])
    return result.u[i, int(np.nanargmin(misfit[i]))]
