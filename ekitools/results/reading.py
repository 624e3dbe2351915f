"""Readers of a result: its members, moments, best member, units and attributes."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

import ekitools.results.accessor  # noqa: F401 - it registers `dataset.eki`

__all__ = [
    "Members",
    "attribute",
    "best_member",
    "check_result",
    "has_noise",
    "is_flow",
    "last_evaluated",
    "members_at",
    "method_of",
    "model_runs",
    "moments",
    "starts_at_prior",
    "stored_index",
    "with_units",
]


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


_BLOCK = 4096
"""Columns whose moments are taken at once, so that no second ensemble is in memory."""


class Members(NamedTuple):
    """All members at one stored iteration."""

    u: np.ndarray
    g: np.ndarray
    misfit: np.ndarray
    weight: np.ndarray
    """Not negative, not normalised; ones where the result has no weights."""

    def present(self) -> tuple[np.ndarray, np.ndarray]:
        """``u`` of those not dropped, and their weights, which add up to 1."""
        kept = np.isfinite(self.u).all(axis=1) & (self.weight > 0)
        return (self.u if kept.all() else self.u[kept]), _normalised(self.weight[kept])

    def evaluated(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``g`` and misfit, in double precision, of those that did not fail, and weights."""
        kept = np.isfinite(self.misfit) & (self.weight > 0)
        g, misfit = (x[kept].astype(np.float64) for x in (self.g, self.misfit))
        return g, misfit, _normalised(self.weight[kept])


def check_result(result: Any, name: str = "result") -> None:
    """Check that it is the Dataset of a run; ``name`` is the argument's."""
    if not isinstance(result, xr.Dataset):
        raise TypeError(
            f"{name}: must be the Dataset that ek.run returns, got {type(result).__name__}."
        )
    needed = ("u", "g", "misfit", "failed", "t", "step", "y", "noise_sd", "history_model_runs")
    missing = [variable for variable in needed if variable not in result]
    if missing:
        raise ValueError(
            f"{name}: must be the Dataset that ek.run returns, got one without "
            f"{', '.join(missing)}."
        )
    if not {"iteration", "member", "parameter"} <= set(result.u.dims):
        raise ValueError(
            f"{name}: must have the dimensions iteration, member and parameter, got u with "
            f"{', '.join(map(str, result.u.dims))}. Select with lists to keep them, such as "
            "result.isel(iteration=[-1])."
        )


def stored_index(result: xr.Dataset, iteration: int) -> int:
    """Where a stored iteration is: a number of ``result.iteration``, or from the end if < 0."""
    stored = [int(i) for i in result.iteration.values]
    if iteration in stored:
        return stored.index(iteration)
    if -len(stored) <= iteration < 0:
        return len(stored) + iteration
    raise ValueError(
        f"iteration: must be one of those stored ({stored[0]} to {stored[-1]}, {len(stored)} of "
        f"them), or count from the end (-1, ...), got {iteration}. Run with "
        'store="all" to keep every iteration.'
    )


def members_at(result: xr.Dataset, index: int) -> Members:
    """The members at the stored iteration ``index``, loaded into memory."""
    at = result.isel(iteration=index)
    weight = np.nan_to_num(at.weight.values) if "weight" in at else np.ones(at.sizes["member"])
    return Members(at.u.values, at.g.values, at.misfit.values, weight)


def _normalised(weight: np.ndarray) -> np.ndarray:
    return np.asarray(weight / weight.sum() if weight.size else weight)


def moments(x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance Σ w_j (x_j − x̄)² of every column, in double precision."""
    mean, variance = np.empty((2, x.shape[1]))
    for start in range(0, x.shape[1], _BLOCK):
        columns = slice(start, start + _BLOCK)
        block = x[:, columns].astype(np.float64)
        mean[columns] = w @ block
        variance[columns] = w @ (block - mean[columns]) ** 2
    return mean, variance


def last_evaluated(result: xr.Dataset) -> int:
    """Where the last stored iteration is that has outputs; -1 where none has."""
    known = np.flatnonzero(np.isfinite(result.misfit.values).any(axis=1))
    return int(known[-1]) if known.size else -1


def with_units(labelled: xr.Dataset | xr.DataArray, dim: str, label: Any, text: str = "") -> str:
    """A label of ``dim`` ("parameter" or "data"), or a text for it, with its units if known."""
    name = f"{dim}_units"
    units = str(labelled[name].sel({dim: label}).item()) if name in labelled.coords else ""
    text = text or str(label)
    return f"{text} [{units}]" if units else text


def attribute(result: xr.Dataset, name: str, default: Any = None) -> Any:
    """The value of an attribute that is written as JSON, such as ``method`` or ``failures``.

    Parameters
    ----------
    result : xarray.Dataset
        What `run` or `integrate` returned, or what was read back from its file.
    name : str
        ``method``, ``solver``, ``problem``, ``versions``, ``failures`` or ``seed``.
    default : optional
        Returned where the attribute is missing, or where its value is not of this type.

    Raises
    ------
    ValueError
        If the attribute is a text that is not JSON.

    Examples
    --------
    >>> import xarray as xr
    >>> from ekitools.results.reading import attribute
    >>> result = xr.Dataset(attrs={"method": '{"type": "EKI"}'})
    >>> attribute(result, "method", {}), attribute(result, "failures", [])
    ({'type': 'EKI'}, [])
    """
    value = result.attrs.get(name)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError(
                f'result: must have JSON in its attribute "{name}", got {value[:60]!r}. Delete the '
                f'attribute (del result.attrs["{name}"]) to read the rest of the result.'
            ) from None
    if value is None or (default is not None and not isinstance(value, type(default))):
        return default
    return value


def method_of(result: xr.Dataset) -> dict[str, Any]:
    """The method's class name, as ``type``, and its options; empty where none is recorded."""
    return dict(attribute(result, "method", {}))


def model_runs(result: xr.Dataset) -> int:
    """The number of model runs, those after the last stored iteration included."""
    return int(result.attrs.get("model_runs", result.history_model_runs.values[-1]))


def has_noise(result: xr.Dataset) -> bool:
    """Whether the misfit is that of Gaussian noise, and not another loss.

    Results of version 0.1.0 have no attribute ``aim`` and do not name their loss: their
    ``noise_sd`` is NaN where there is another loss.
    """
    if "aim" not in result.attrs and not np.isfinite(result.noise_sd.values).all():
        return False
    return "loss" not in result.attrs


def is_flow(result: xr.Dataset) -> bool:
    """Whether `integrate` made the result, and not `run`."""
    return "solver" in result.attrs


def starts_at_prior(result: xr.Dataset) -> bool:
    """Whether the first stored ensemble is that of iteration 0 and stands for the prior.

    It does not where the method brought a start of its own, such as `TemperedSMC` does with
    ``start``.
    """
    return int(result.iteration[0]) == 0 and result.attrs.get("start", "prior") != "method"
