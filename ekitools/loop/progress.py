"""Checks of stopping rules at an evaluated ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ekitools.core.arrays import array_namespace, host
from ekitools.results.history import Summary, objective
from ekitools.typing import Array, NoiseModel, Progress, StepInfo, StoppingRule

__all__ = ["stopped"]


def stopped(
    rules: Sequence[StoppingRule],
    info: StepInfo,
    g: Array,
    target: Any,
    summaries: Sequence[Summary],
    mean: np.ndarray | None = None,
) -> StepInfo:
    """The info of a step, with the status of the first rule that fires at its ensemble.

    ``mean`` is the mean of the outputs ``g`` if it is on the host already. If the method has ended
    the run, no rule is asked. After a step that overflowed the rules are asked, because they may
    end the run before this step.
    """
    if info.status is not None and info.status.level != "bad":
        return info
    progress = Progress(
        _residual(info, g, target, mean),
        int(g.shape[1]),
        float(info.spread),
        (*(summary.objective for summary in summaries), objective(info)),
    )
    status = next((s for rule in rules if (s := rule.check(progress)) is not None), None)
    return info if status is None else info._replace(step=0.0, status=status)


def _residual(info: StepInfo, g: Array, target: Any, mean: np.ndarray | None) -> float:
    """‖Γ^{-1/2}(Ḡ − y)‖ of the members that did not fail; NaN without Gaussian noise."""
    if not isinstance(target.noise, NoiseModel):
        return np.nan
    if info.shown is None:
        mean = host(array_namespace(g).mean(g, axis=0)) if mean is None else mean
        mean = mean.astype(np.float64)
    else:
        kept = info.shown.weight > 0
        weight = info.shown.weight[kept] / info.shown.weight[kept].sum()
        rows = host(info.shown.g)[kept].astype(np.float64)
        known = np.isfinite(rows).all(axis=1)
        if not known.any():
            return np.nan
        mean = np.average(rows[known], axis=0, weights=weight[known])
    white = host(target.noise.whiten(mean - host(target.data).astype(np.float64)))
    return float(np.linalg.norm(white))
