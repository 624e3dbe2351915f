r"""Checks of a result for the randomness of its model.

Let y = G(u, ω) + η. Methods that regress outputs on parameters need noise with the sum of the
covariances of η and G(u, ·). Samplers and the importance weights of `check_posterior` average the
likelihood over ω (the pseudo-marginal argument of Andrieu & Roberts 2009, Ann. Stat. 37, 697-725).
They need the covariance of η alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr

from ekitools.problem import InverseProblem
from ekitools.results.linearity import rest_of_linear_fit, rest_of_nodes
from ekitools.results.reading import has_noise, last_evaluated, members_at
from ekitools.results.shifts import Finding
from ekitools.typing import ScaledNoise

__all__ = ["Randomness", "is_stochastic", "noise_of_another_kind", "randomness"]

_MOST = 1.1
"""Largest variance of the outputs, as a share of the stated variance, that is not a finding. The
share is at most 1 for sufficient noise, and its standard error is 5 % with 800 numbers."""

_MOST_LOST = 0.1
"""Largest share of a variance lost by random slopes: 5 % of a standard deviation."""

_MOST_DATA = 2000


class Randomness(NamedTuple):
    """Variance of a stochastic model's outputs, and the finding about the noise."""

    share: float
    """Variance of the outputs about their linear fit over the last ensemble, as a share of the
    stated variance of the noise, averaged over the data; NaN if unknown."""
    finding: Finding


def is_stochastic(result: xr.Dataset) -> bool:
    """Whether the model of a result is stochastic."""
    return bool(result.attrs.get("stochastic", 0))


def randomness(result: xr.Dataset) -> Randomness | None:
    """Check the noise of a result with a stochastic model; None for a deterministic model."""
    if not is_stochastic(result) or not has_noise(result):
        return None
    if result.attrs.get("members") == "kept":
        return Randomness(np.nan, Finding(
            "note",
            "The model is stochastic, and the sample averages over its randomness. The noise of "
            "the problem must therefore be the noise of the observations alone. Noise that also "
            "contains the variance of the model makes the posterior too wide.",
        ))  # fmt: skip
    if "draws" in result:
        return Randomness(np.nan, _of_nodes(result))
    share = _share(result)
    must = (
        "The noise must contain the variance of the observations and the variance of the model's "
        "outputs at fixed parameters. Repeat the model at one u and use "
        "ek.GaussianNoise.from_samples. Give ek.check_posterior another problem, with the noise of "
        "the observations alone."
    )
    if not np.isfinite(share):
        return Randomness(share, Finding("note", f"The model is stochastic. {must}"))
    about = (
        "The model is stochastic. The variance of its outputs about their linear fit over the last "
        f"ensemble is {share:.2g} of the stated variance of the noise."
    )
    if share > _MOST:
        return Randomness(share, Finding(
            "care",
            f"{about} The noise and the spread are too small. {must}",
        ))  # fmt: skip
    return Randomness(share, Finding(
        "note",
        f"{about} This does not show whether the noise is right. {must}",
    ))  # fmt: skip


def noise_of_another_kind(result: xr.Dataset, problem: InverseProblem) -> str:
    """Explain that a problem's noise contains the variance of the model; "" if it need not.

    Members of a stochastic model are right only if their noise contained the variance of the model.
    A likelihood with random outputs needs the noise of the observations alone, so it cannot use the
    noise of the members.
    """
    if not (problem.info.stochastic and is_stochastic(result)):
        return ""
    if result.attrs.get("members") == "kept" or not problem.has_noise:
        return ""
    theirs, ours = result.noise_sd.values, problem.noise_sd
    unknown = isinstance(problem.noise, ScaledNoise)
    close = np.allclose(ours, theirs, rtol=1e-6)
    if not (unknown or close or np.any(ours > theirs * (1 + 1e-6))):
        return ""
    return (
        "The model is stochastic. The noise of an ensemble method must contain the variance of the "
        "model. The likelihoods of this check average over the model's randomness, so they need "
        "the smaller noise of the observations alone. The model was not run. Give a problem with "
        "the same model, prior and data, and the noise of the observations."
    )


def _of_nodes(result: xr.Dataset) -> Finding:
    """Effect of random slopes on a Gaussian represented by nodes.

    A slope is estimated from few outputs, and the variance of the slope counts as information about
    the parameters. The covariance is too small by the factor 1 − tr(Γ⁻¹S)/Σz², where Σz² sums the
    squares of all nodes in one direction.
    """
    at = last_evaluated(result)
    lost = np.nan
    if at >= 0:
        nodes = result.node.isel(iteration=at) if "iteration" in result.node.dims else result.node
        squares = float(np.mean(np.sum(nodes.values**2, axis=0)))
        lost = rest_of_nodes(result.isel(iteration=at)).left / squares
    if lost > _MOST_LOST:
        about = "more than half" if lost > 0.75 else f"about {100 * (1 - np.sqrt(1 - lost)):.2g} %"
        return Finding(
            "care",
            "The model is stochastic. The randomness of the outputs at the nodes is taken for "
            f"slopes, so standard deviations are too small by {about}. Use "
            "ek.ETKI(ek.FixedStep(0.1)), or the mean of repeated runs as the model.",
        )
    return Finding(
        "note",
        "The model is stochastic. The noise must contain the variance of its outputs at fixed "
        "parameters.",
    )


def _share(result: xr.Dataset) -> float:
    """Variance about the linear fit over the last ensemble, as a share of the noise variance."""
    at = last_evaluated(result)
    if at < 0:
        return np.nan
    d = result.sizes["data"]
    some = np.unique(np.linspace(0, d - 1, min(d, _MOST_DATA)).astype(int))
    members = members_at(result.isel(data=some), at)
    kept = members.kept & np.isfinite(members.misfit)
    white = members.g[kept].astype(np.float64) / result.noise_sd.values[some]
    white = white[:, ~np.isnan(white).any(axis=0)]
    if not kept.any() or not white.shape[1]:
        return np.nan
    weight = members.weight[kept] / members.weight[kept].sum()
    return rest_of_linear_fit(members.u[kept], white, weight).left / white.shape[1]
