"""Groups of a result as ArviZ names them: draws, predictions, likelihoods and data by block."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from ekitools.losses.gaussian import GaussianNoise
from ekitools.results.pointwise import pointwise_log_likelihood
from ekitools.results.reading import has_noise, members_at, starts_at_prior, stored_index
from ekitools.typing import NoiseModel, ScaledNoise

__all__ = ["parameter_groups", "predictive_groups"]

_MOST_VARIABLES = 50


class Chain(NamedTuple):
    """Members of equal weight of one result."""

    u: np.ndarray
    g: np.ndarray
    misfit: np.ndarray


class Chains(NamedTuple):
    """Members of several results, the same number from each."""

    posterior: list[Chain]
    prior: list[Chain] | None
    """None if the first ensemble of a result is not drawn from the prior."""


def parameter_groups(
    results: Sequence[xr.Dataset], iteration: int, rng: np.random.Generator
) -> tuple[dict[str, xr.Dataset], Chains]:
    """The groups ``posterior`` and ``prior``, and their members."""
    indices = [stored_index(one, iteration) for one in results]
    chains, cut = _chains(results, indices, rng)
    groups = {"posterior": _parameters(chains, results[0])}
    started = [starts_at_prior(one) for one in results]
    first = None
    if all(started):
        first, _ = _chains(results, [0] * len(results), rng, at_start=True, warned=cut)
        groups["prior"] = _parameters(first, results[0])
    elif any(started):
        _warn_without("prior", started, "a stored prior ensemble")
    return groups, Chains(chains, first)


def predictive_groups(
    results: Sequence[xr.Dataset],
    chains: Chains,
    noise: NoiseModel | ScaledNoise | None,
    rng: np.random.Generator,
) -> dict[str, xr.Dataset]:
    """The groups of the data: ``predictions``, ``posterior_predictive`` and so on.

    Without ``noise``, independent noise with the standard deviations of the result is used.
    """
    first = results[0]
    y = first.y.values
    noise_is = str(first.attrs.get("noise", "independent" if has_noise(first) else "loss"))
    if noise is None and noise_is == "independent":
        noise = GaussianNoise(np.asarray(first.noise_sd.values, dtype=np.float64) ** 2)
    elif noise is None and noise_is != "loss":
        why = "has unknown scales" if noise_is == "scaled" else "is correlated"
        warnings.warn(
            f"result: posterior_predictive and log_likelihood are left out, because the noise "
            f"{why} and the result holds only its marginal standard deviations. Pass problem= to "
            "include them.",
            stacklevel=4,
        )
    groups = {
        "observed_data": _by_block(y, first),
        "constant_data": _constants(first),
    }
    evaluated = [bool(np.isfinite(chain.misfit).all()) for chain in chains.posterior]
    if all(evaluated):
        g = np.stack([chain.g for chain in chains.posterior])
        misfit = np.stack([chain.misfit for chain in chains.posterior])
        groups["predictions"] = _by_block(g, first)
        groups["sample_stats"] = xr.Dataset({"misfit": (("chain", "draw"), misfit)}, _draws(misfit))
        if noise is not None:
            u = np.stack([chain.u for chain in chains.posterior])
            groups["posterior_predictive"] = _by_block(_noisy(g, u, noise, rng), first)
            pointwise = _log_likelihood(g, u, y, noise)
            groups["log_likelihood"] = _by_block(pointwise, first)
    elif any(evaluated):
        _warn_without("posterior_predictive and sample_stats", evaluated, "outputs")
    if chains.prior is not None and noise is not None:
        g = np.stack([chain.g for chain in chains.prior])
        if np.isfinite(g).all():  # a draw of the prior stays a draw if the model fails
            u = np.stack([chain.u for chain in chains.prior])
            groups["prior_predictive"] = _by_block(_noisy(g, u, noise, rng), first)
    return groups


def _scales(u: np.ndarray, noise: ScaledNoise) -> np.ndarray:
    """The scale of every datum in every draw, ``(chain, draw, d)``."""
    scales = u[..., -noise.n_scales :]
    known = np.ones((*scales.shape[:-1], 1))
    return np.concatenate([scales, known], axis=-1)[..., noise.groups]


def _log_likelihood(
    g: np.ndarray, u: np.ndarray, y: np.ndarray, noise: NoiseModel | ScaledNoise
) -> np.ndarray:
    """Log-density of each datum, ``(chain, draw, d)``, with the scales of each draw."""
    if not isinstance(noise, ScaledNoise):
        return pointwise_log_likelihood(g, y, noise)
    s = _scales(u, noise)
    return pointwise_log_likelihood((g - y) / s, np.zeros(y.size), noise.shape) - np.log(s)


def _noisy(
    g: np.ndarray, u: np.ndarray, noise: NoiseModel | ScaledNoise, rng: np.random.Generator
) -> np.ndarray:
    """``g + η``, ``(chain, draw, d)``."""
    if isinstance(noise, ScaledNoise):
        return g + _scales(u, noise) * _noisy(np.zeros(g.shape), u, noise.shape, rng)
    n, d = g.shape[0] * g.shape[1], g.shape[2]
    if noise.n_data is None:
        return g + rng.standard_normal(g.shape) * noise.sd
    return g + np.asarray(noise.sample(n, rng=rng)).reshape(*g.shape[:2], d)


def _by_block(values: np.ndarray, result: xr.Dataset) -> xr.Dataset:
    """``(..., d)`` as one variable for each block of the data, with its own coordinates.

    Without blocks it is the variable ``y``.
    """
    before = ("chain", "draw")[: values.ndim - 1]
    coords: dict[str, Any] = _draws(values) if before else {}
    if "block" not in result.coords:
        coords["data"] = result["data"].values
        return xr.Dataset({"y": ((*before, "data"), values)}, coords)
    variables = {}
    names = result.block.values
    along = {
        str(name): coordinate.values
        for name, coordinate in result.coords.items()
        if coordinate.dims == ("data",) and name not in ("data", "block")
    }
    for block in dict.fromkeys(names.tolist()):
        rows = np.flatnonzero(names == block)
        name = _name(block)
        dim = f"{name}_id"
        variables[name] = ((*before, dim), values[..., rows])
        coords[dim] = result["data"].values[rows]
        coords |= {f"{name}_{key}": (dim, each[rows]) for key, each in along.items()}
    return xr.Dataset(variables, coords)


def _constants(result: xr.Dataset) -> xr.Dataset:
    """The standard deviations of the noise by block, as ``<block>_sd``."""
    sd = _by_block(result.noise_sd.values, result)
    return sd.rename({name: f"{name}_sd" for name in sd.data_vars})


def _name(block: object) -> str:
    """A name that ArviZ accepts for a variable beside ``chain`` and ``draw``."""
    name = str(block).replace("/", "_")
    return f"{name}_" if name in ("chain", "draw") else name


def _chains(
    results: Sequence[xr.Dataset],
    indices: Sequence[int],
    rng: np.random.Generator,
    *,
    at_start: bool = False,
    warned: bool = False,
) -> tuple[list[Chain], bool]:
    """The members that are draws, the same number from every result, and whether chains were cut.

    Weighted members are resampled. Cut chains cause a warning, unless ``warned`` is True.
    """
    ensembles = [members_at(one, index) for one, index in zip(results, indices, strict=True)]
    rows = [each.rows(at_start=at_start) for each in ensembles]
    for one, index, members, kept in zip(results, indices, ensembles, rows, strict=True):
        if not np.any(members.weight[kept] > 0):
            raise ValueError(
                "iteration: must hold members that did not fail, got none at "
                f"{int(one.iteration[index])}. Use another iteration."
            )
    sizes = [kept.size for kept in rows]
    draws = min(sizes)
    if draws < max(sizes) and not warned:
        which = "at the start" if at_start else "that did not fail"
        warnings.warn(
            f"result: the runs have {draws} to {max(sizes)} members {which}; every chain is "
            f"cut to the first {draws}. Use runs of the same n_members to keep all.",
            stacklevel=5,
        )
    chains = []
    for members in ensembles:
        chosen = members.equally_weighted(rng, draws, at_start=at_start)
        chains.append(Chain(members.u[chosen], members.g[chosen], members.misfit[chosen]))
    return chains, draws < max(sizes)


def _warn_without(group: str, known: Sequence[bool], what: str) -> None:
    lacking = ", ".join(f"result[{i}]" for i, there in enumerate(known) if not there)
    warnings.warn(
        f"result: {group} is left out, because {lacking} has no {what}. Run with "
        'evaluate_final=True and store="all" to have every group.',
        stacklevel=5,
    )


def _parameters(chains: Sequence[Chain], result: xr.Dataset) -> xr.Dataset:
    u = np.stack([chain.u for chain in chains])
    names = [str(name) for name in result.parameter.values]
    if len(names) > _MOST_VARIABLES or any("/" in name for name in names):
        coords = {**_draws(u), "parameter": result.parameter.values}
        return xr.Dataset({"u": (("chain", "draw", "parameter"), u)}, coords)
    return xr.Dataset(
        {name: (("chain", "draw"), u[:, :, i]) for i, name in enumerate(names)}, _draws(u)
    )


def _draws(values: np.ndarray) -> dict[str, Any]:
    return {"chain": np.arange(values.shape[0]), "draw": np.arange(values.shape[1])}
