"""Members resampled from the draws of a check: an ensemble without the bias of its method."""

from __future__ import annotations

import numpy as np
import xarray as xr

from ekitools.core.arrays import host
from ekitools.methods.smc.resampling import resample
from ekitools.methods.unknown_noise import misfits_of_members
from ekitools.problem import InverseProblem
from ekitools.results.importance import Draws

__all__ = ["resampled"]

_LEAST = 0.5
"""Effective draws for each member: with fewer the copies among the members would be many."""

_STALE = ("posterior_shift", "posterior_shift_error", "posterior_sd_ratio")


def resampled(
    result: xr.Dataset, drawn: Draws, problem: InverseProblem, rng: np.random.Generator
) -> xr.Dataset:
    """The result with draws of a check in place of its last members (Rubin 1988).

    The draws are chosen with probabilities proportional to their importance weights. So the members
    are a sample of the posterior also where the method is slightly biased. Side products of the
    last members, which these draws do not have, become NaN. The result is returned as it is if the
    effective number of draws is below half the number of members.

    References
    ----------
    Rubin (1988), Bayesian Statistics 3, 395-402 (sampling importance resampling).
    """
    n = result.sizes["member"]
    if drawn.ess < _LEAST * n:
        return result
    rows = rng.permutation(resample(drawn.weight, n, rng=rng))
    unconstrained = host(problem.prior.unwhiten(drawn.white[rows]))
    g = drawn.g[rows]
    new = {
        "u": host(problem.prior.to_physical(unconstrained)),
        "g": g,
        "misfit": misfits_of_members(unconstrained, g, problem)[0],
        "failed": np.zeros(n, dtype=bool),
    }
    changed = result.drop_vars(_STALE, errors="ignore").copy(deep=True)
    for name, variable in changed.data_vars.items():
        if variable.dims[:2] != ("iteration", "member"):
            continue
        if name in new:
            variable.values[-1] = new[str(name)]
        elif np.issubdtype(variable.dtype, np.floating):
            variable.values[-1] = np.nan
    return changed
