"""Readers of a result: its members, moments, best member, units and attributes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from ekitools.core.checks import integer
from ekitools.core.statuses import Losses
from ekitools.methods.smc.resampling import resample
from ekitools.results.checks import attribute, check_result
from ekitools.results.draws import outputs_of_draws
from ekitools.results.history import lost_members

__all__ = [
    "Members",
    "attribute",
    "best_member",
    "check_result",
    "has_noise",
    "is_flow",
    "last_evaluated",
    "losses",
    "members_at",
    "method_of",
    "model_runs",
    "moments",
    "starts_at_prior",
    "stored_index",
    "with_units",
]


def best_member(result: xr.Dataset) -> xr.DataArray:
    """The member with the lowest misfit at the latest evaluated iteration [1]_.

    With mini-batches the misfit is the misfit to one batch. The ensemble mean
    ``result.u[-1].mean("member")`` is another point estimate.

    Parameters
    ----------
    result : xarray.Dataset
        Result of `run` or `integrate`.

    Returns
    -------
    xarray.DataArray
        ``u(parameter)`` in physical coordinates, with the coordinates ``member`` and
        ``iteration``.

    Raises
    ------
    TypeError, ValueError
        If ``result`` is not a result, or no stored iteration was evaluated.

    See Also
    --------
    posterior : Draws of the parameters.
    intervals : Table of means, standard deviations and intervals.

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
    check_result(result)
    misfit = result.misfit.transpose("iteration", "member").values
    misfit = np.where(np.isfinite(misfit), misfit, np.nan)
    evaluated = np.flatnonzero(np.isfinite(misfit).any(axis=1))
    if not evaluated.size:
        raise ValueError(
            "result: must have a stored iteration that was evaluated, got none. Run with "
            'evaluate_final=True or store="all".'
        )
    i = int(evaluated[-1])
    return result.u.isel(iteration=i, member=int(np.nanargmin(misfit[i])))


_BLOCK = 4096
"""Columns in one block of moments, which avoids a second ensemble in memory."""


class Members(NamedTuple):
    """All members at one stored iteration."""

    u: np.ndarray
    g: np.ndarray
    misfit: np.ndarray
    weight: np.ndarray
    """Weights, not negative and not normalised; ones for a result without weights."""
    failed: np.ndarray
    """Whether the model run of a member failed; for a sampler, the run of the proposal."""

    @property
    def lost(self) -> np.ndarray:
        """Mask of members that failed at this iteration; refused proposals are not lost."""
        return lost_members(self.failed, self.misfit)

    @property
    def kept(self) -> np.ndarray:
        """Mask of draws: members that are not dropped, not failed, and not of weight 0."""
        return self.drawn & ~self.lost

    @property
    def drawn(self) -> np.ndarray:
        """Mask of members with parameters and a weight, whether their run failed or not."""
        return np.asarray(np.isfinite(self.u).all(axis=1) & (self.weight > 0))

    def present(self, *, at_start: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """``u`` of the members that are draws, and their weights, which add up to 1.

        All functions that read results use these members.

        Parameters
        ----------
        at_start : bool, default False
            Whether the members represent the prior. Then members whose model run failed are
            draws too.
        """
        kept = self.drawn if at_start else self.kept
        return (self.u if kept.all() else self.u[kept]), _normalised(self.weight[kept])

    def rows(self, *, at_start: bool = False) -> np.ndarray:
        """Rows of the members that have parameters and did not fail, including weight 0.

        Parameters
        ----------
        at_start : bool, default False
            Whether the members represent the prior. Then failed members are included.
        """
        finite = np.isfinite(self.u).all(axis=1)
        return np.flatnonzero(finite if at_start else finite & ~self.lost)

    def equally_weighted(
        self, rng: np.random.Generator, n: int | None = None, *, at_start: bool = False
    ) -> np.ndarray:
        """Rows that represent the ensemble with equal weights: `rows`, or draws from them.

        Members with different weights are resampled systematically. Members with equal weights
        are returned in order, and ``rng`` is not used.

        Parameters
        ----------
        rng : numpy.random.Generator
            Source of randomness.
        n : int, optional
            Number of rows, at most the number of members; all by default.
        at_start : bool, default False
            Whether the members represent the prior. Then failed members are included.
        """
        rows = self.rows(at_start=at_start)
        weight, n = self.weight[rows], len(rows) if n is None else n
        if not np.any(weight > 0):
            return rows[:0]
        return rows[resample(weight, n, rng=rng)] if np.ptp(weight) > 0 else rows[:n]

    def evaluated(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Outputs and misfit, in double precision, and weights of members that did not fail."""
        kept = np.isfinite(self.misfit) & (self.weight > 0)
        g, misfit = (x[kept].astype(np.float64) for x in (self.g, self.misfit))
        return g, misfit, _normalised(self.weight[kept])


def stored_index(result: xr.Dataset, iteration: int) -> int:
    """Position of a stored iteration: a number of ``result.iteration``, or from the end if < 0."""
    iteration = integer("iteration", iteration, least=None)
    stored = [int(i) for i in result.iteration.values]
    if iteration in stored:
        return stored.index(iteration)
    if -len(stored) <= iteration < 0:
        return len(stored) + iteration
    raise ValueError(
        f"iteration: must be a stored iteration ({stored[0]} to {stored[-1]}, {len(stored)} in "
        f"all), or a negative position from the end, got {iteration}. Run with "
        'store="all" to keep every iteration.'
    )


def members_at(result: xr.Dataset, index: int) -> Members:
    """The members at the stored iteration ``index``, loaded into memory.

    For a method whose members are nodes, the draws are returned, and no draw counts as failed.
    """
    at = result.isel(iteration=index)
    if "draws" in at:
        return _draws_at(at)
    weight = np.ones(at.sizes["member"])
    if "weight" in at:
        weight = np.where(np.isfinite(at.weight.values), at.weight.values, 0.0)
    return Members(
        at.u.transpose("member", "parameter").values,
        at.g.transpose("member", "data").values,
        at.misfit.values,
        weight,
        at.failed.values.astype(bool),
    )


def _draws_at(at: xr.Dataset) -> Members:
    """Draws from the Gaussian that the nodes of an iteration hold, with equal weights."""
    u = at.draws.transpose("draw", "parameter").values
    scores = at.draws_score.transpose("draw", "score").values
    nodes = at.node.transpose("member", "score").values
    g = outputs_of_draws(scores, nodes, at.g.transpose("member", "data").values)
    misfit = at.draws_misfit.values
    return Members(u, g, misfit, np.ones(len(u)), np.zeros(len(u), dtype=bool))


def losses(result: xr.Dataset) -> Losses:
    """Lost members: dropped before the last stored iteration, or failed at this iteration."""
    last = members_at(result, -1)
    gone = ~np.isfinite(last.u).all(axis=1)
    n_failed = int(last.lost.sum())
    return Losses(len(gone), int((gone & ~last.lost).sum()), n_failed)


def _normalised(weight: np.ndarray) -> np.ndarray:
    return np.asarray(weight / weight.sum() if weight.size else weight)


def moments(x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance Σ w_j (x_j − x̄)² of every column, in double precision."""
    mean, variance = np.full((2, x.shape[1]), np.nan)
    if not w.size:  # no members
        return mean, variance
    for start in range(0, x.shape[1], _BLOCK):
        columns = slice(start, start + _BLOCK)
        block = x[:, columns].astype(np.float64)
        mean[columns] = w @ block
        variance[columns] = w @ (block - mean[columns]) ** 2
    return mean, variance


def last_evaluated(result: xr.Dataset) -> int:
    """Position of the last stored iteration with outputs; -1 if no iteration has outputs."""
    known = np.flatnonzero(np.isfinite(result.misfit).any("member").values)
    return int(known[-1]) if known.size else -1


def with_units(labelled: xr.Dataset | xr.DataArray, dim: str, label: Any, text: str = "") -> str:
    """A label of ``dim`` ("parameter" or "data"), or ``text`` in its place, with units if known."""
    name = f"{dim}_units"
    units = ""
    if name in labelled.coords:
        units = str(labelled[name].sel({dim: label}).item())
    text = text or str(label)
    return f"{text} [{units}]" if units else text


def method_of(result: xr.Dataset) -> dict[str, Any]:
    """The class name of the method (``type``) and its options; empty if not recorded."""
    return dict(attribute(result, "method", {}))


def model_runs(result: xr.Dataset) -> int:
    """The number of model runs, including those after the last stored iteration."""
    return int(result.attrs.get("model_runs", result.history_model_runs.values[-1]))


def has_noise(result: xr.Dataset) -> bool:
    """Whether the misfit comes from Gaussian noise, and not from another loss.

    Results of version 0.1.0 have no attribute ``aim`` and do not name their loss. With another
    loss their ``noise_sd`` is NaN.
    """
    if "aim" not in result.attrs and not np.isfinite(result.noise_sd.values).all():
        return False
    return "loss" not in result.attrs


def is_flow(result: xr.Dataset) -> bool:
    """Whether the result comes from `integrate`, and not from `run`."""
    return "solver" in result.attrs


def starts_at_prior(result: xr.Dataset) -> bool:
    """Whether the first stored ensemble is that of iteration 0 and represents the prior.

    It does not represent the prior if the method has its own start, such as `TemperedSMC` with
    ``start``.
    """
    return int(result.iteration[0]) == 0 and result.attrs.get("start", "prior") != "method"
