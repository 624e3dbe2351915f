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
    check_result(result)
    misfit = result.misfit.transpose("iteration", "member").values
    misfit = np.where(np.isfinite(misfit), misfit, np.nan)
    evaluated = np.flatnonzero(np.isfinite(misfit).any(axis=1))
    if not evaluated.size:
        raise ValueError(
            "result: must have a stored iteration that was evaluated, got none. Use "
            'evaluate_final=True, or store="all".'
        )
    i = int(evaluated[-1])
    return result.u.isel(iteration=i, member=int(np.nanargmin(misfit[i])))


_BLOCK = 4096
"""Columns whose moments are taken at once, so that no second ensemble is in memory."""


class Members(NamedTuple):
    """All members at one stored iteration."""

    u: np.ndarray
    g: np.ndarray
    misfit: np.ndarray
    weight: np.ndarray
    """Not negative, not normalised; ones where the result has no weights."""
    failed: np.ndarray
    """Whether the model run of a member failed; of a sampler, that of its proposal."""

    @property
    def lost(self) -> np.ndarray:
        """Which members failed at this iteration; a sampler's refused proposals are not lost."""
        return lost_members(self.failed, self.misfit)

    @property
    def kept(self) -> np.ndarray:
        """Which members are draws: not dropped, not failed at this iteration, not of weight 0."""
        return self.drawn & ~self.lost

    @property
    def drawn(self) -> np.ndarray:
        """Which members have parameters and a weight, whether their model run failed or not."""
        return np.asarray(np.isfinite(self.u).all(axis=1) & (self.weight > 0))

    def present(self, *, at_start: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """``u`` of the members that are draws, and their weights, which add up to 1.

        Every reader of a result takes its members from here.

        Parameters
        ----------
        at_start : bool, default False
            Whether the members stand for the prior. A draw of the prior stays one where the
            model fails.
        """
        kept = self.drawn if at_start else self.kept
        return (self.u if kept.all() else self.u[kept]), _normalised(self.weight[kept])

    def rows(self, *, at_start: bool = False) -> np.ndarray:
        """Which rows have parameters and did not fail, those of weight 0 included.

        Parameters
        ----------
        at_start : bool, default False
            As in `present`.
        """
        finite = np.isfinite(self.u).all(axis=1)
        return np.flatnonzero(finite if at_start else finite & ~self.lost)

    def equally_weighted(
        self, rng: np.random.Generator, n: int | None = None, *, at_start: bool = False
    ) -> np.ndarray:
        """Rows that stand for the ensemble with equal weights: `rows`, or draws from them.

        Members with different weights are resampled systematically. Others come as they are, in
        order, and leave ``rng`` alone.

        Parameters
        ----------
        rng : numpy.random.Generator
            Source of randomness.
        n : int, optional
            How many, at most as many as there are; all by default.
        at_start : bool, default False
            As in `present`.
        """
        rows = self.rows(at_start=at_start)
        weight, n = self.weight[rows], len(rows) if n is None else n
        if not np.any(weight > 0):
            return rows[:0]
        return rows[resample(weight, n, rng=rng)] if np.ptp(weight) > 0 else rows[:n]

    def evaluated(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``g`` and misfit, in double precision, of those that did not fail, and weights."""
        kept = np.isfinite(self.misfit) & (self.weight > 0)
        g, misfit = (x[kept].astype(np.float64) for x in (self.g, self.misfit))
        return g, misfit, _normalised(self.weight[kept])


def stored_index(result: xr.Dataset, iteration: int) -> int:
    """Where a stored iteration is: a number of ``result.iteration``, or from the end if < 0."""
    iteration = integer("iteration", iteration, least=None)
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
    """The members at the stored iteration ``index``, loaded into memory.

    Of a method whose members are nodes they are its draws; none of these counts as failed.
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
    """Draws of the Gaussian that the nodes of an iteration hold, with equal weights."""
    u = at.draws.transpose("draw", "parameter").values
    scores = at.draws_score.transpose("draw", "score").values
    nodes = at.node.transpose("member", "score").values
    g = outputs_of_draws(scores, nodes, at.g.transpose("member", "data").values)
    misfit = at.draws_misfit.values
    return Members(u, g, misfit, np.ones(len(u)), np.zeros(len(u), dtype=bool))


def losses(result: xr.Dataset) -> Losses:
    """Members that the run lost: dropped before the last stored iteration, or failed there."""
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
    """Where the last stored iteration is that has outputs; -1 where none has."""
    known = np.flatnonzero(np.isfinite(result.misfit).any("member").values)
    return int(known[-1]) if known.size else -1


def with_units(labelled: xr.Dataset | xr.DataArray, dim: str, label: Any, text: str = "") -> str:
    """A label of ``dim`` ("parameter" or "data"), or a text for it, with its units if known."""
    name = f"{dim}_units"
    units = ""
    if name in labelled.coords:
        units = str(labelled[name].sel({dim: label}).item())
    text = text or str(label)
    return f"{text} [{units}]" if units else text


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
