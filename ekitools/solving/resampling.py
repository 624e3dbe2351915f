"""Resampling of members from the draws of a check, which removes the bias of the method."""

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
"""Smallest number of effective draws per member. With fewer draws many members would be copies."""

_STALE = ("posterior_shift", "posterior_shift_error", "posterior_sd_ratio")


def resampled(
    result: xr.Dataset, drawn: Draws, problem: InverseProblem, rng: np.random.Generator
) -> xr.Dataset:
    """Replace the last members of a result by draws of a check (Rubin 1988).

    The draws are chosen with probabilities proportional to their importance weights. The members
    are then a sample of the posterior even if the method is slightly biased. Side products of the
    last members become NaN, because the draws have none. The result is unchanged if the effective
    number of draws is below half the number of members.

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
