"""Conversion of results to ArviZ: the only module that imports it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from ekitools.core.arrays import as_rng
from ekitools.core.checks import one_of, sequence
from ekitools.methods.smc.resampling import resample
from ekitools.plots.style import axes_array, own_colours
from ekitools.results.alignment import as_chains
from ekitools.results.marginals import marginals
from ekitools.results.reading import Members, members_at, starts_at_prior, stored_index
from ekitools.typing import Rng

__all__ = ["plot_arviz", "to_arviz"]

_MOST_VARIABLES = 50
_KINDS = {"forest": 20, "pair": 6, "rank": 6, "trace": 6}
"""Pictures that both generations of ArviZ draw, and how many parameters fit in by default."""


def to_arviz(
    result: xr.Dataset | Sequence[xr.Dataset], *, iteration: int = -1, rng: Rng = 0
) -> Any:
    """Carry an ensemble over to ArviZ, for its plots and summaries.

    An ensemble is no Markov chain: its members have no order. They become the draws of one
    chain; independent runs, given as a list, become chains, so that ``rhat`` compares them.
    Effective sample sizes that look at the order of draws mean nothing here.

    Parameters
    ----------
    result : xarray.Dataset, or a sequence of them
        What `run` returned. Several must be runs of the same problem: with the same data, noise
        and prior, and with the same parameters in any order. Failed members are left out. Runs
        with different numbers of members are cut to the smallest number, with a warning.
    iteration : int, default -1
        The stored iteration that becomes the posterior; −1 is the last one.
    rng : None, int or numpy.random.Generator
        Only for results with weights, which are resampled systematically.

    Returns
    -------
    arviz.InferenceData or xarray.DataTree
        What the installed ArviZ works with (0.23: the first; 1.x: the second), with the groups
        ``posterior``, ``prior`` (if it is stored), ``posterior_predictive`` (outputs
        ``g``, without noise), ``observed_data`` and ``sample_stats`` (``misfit``). Up to 50
        parameters are a variable each; more are one variable ``u``, and so are those with a
        name that ArviZ's trees cannot have, for it has a slash.

    Raises
    ------
    TypeError, ValueError
        If ``result`` is no result, results are of different problems, or the iteration is not
        stored.

    Warns
    -----
    UserWarning
        If members of the longer chains, or a group that only some results have, are left out.

    Examples
    --------
    >>> import ekitools as ek
    >>> problem = ek.problems.linear(p=2, d=3).problem
    >>> result = ek.run(problem, ek.EKI(), n_members=50, rng=0)
    >>> ek.to_arviz(result).posterior.sizes["draw"]
    50
    """
    import arviz

    az: Any = arviz  # of either generation

    results, rng = _runs(result), as_rng(rng)
    groups: dict[str, xr.Dataset] = {}
    chains, cut = _chains(results, [stored_index(one, iteration) for one in results], rng)
    groups["posterior"] = _parameters(chains, results[0])
    evaluated = [bool(np.isfinite(g).all()) for _, g, _ in chains]
    if all(evaluated):
        groups["posterior_predictive"] = _stacked(
            "g", [g for _, g, _ in chains], "data", results[0]
        )
        groups["sample_stats"] = _stacked("misfit", [phi for _, _, phi in chains], None, results[0])
    elif any(evaluated):
        _warn_without("posterior_predictive and sample_stats", evaluated, "outputs")
    started = [starts_at_prior(one) for one in results]
    if all(started):
        first, _ = _chains(results, [0] * len(results), rng, at_start=True, told=cut)
        groups["prior"] = _parameters(first, results[0])
    elif any(started):
        _warn_without("prior", started, "a stored prior ensemble")
    groups["observed_data"] = xr.Dataset({"g": results[0].y})
    attributes = {
        name: results[0].attrs[name]
        for name in ("status", "status_code", "method", "model_runs", "versions")
        if name in results[0].attrs
    }
    groups["posterior"].attrs = {**attributes, "inference_library": "ekitools"}
    tree = xr.DataTree.from_dict(groups)
    return tree if _generation(az) >= 1 else az.from_datatree(tree)


def plot_arviz(
    result: xr.Dataset | Sequence[xr.Dataset],
    kind: str = "forest",
    *,
    ax: Any = None,
    parameters: Any = None,
    iteration: int = -1,
    rng: Rng = 0,
    **options: Any,
) -> np.ndarray:
    """One of ArviZ's pictures of an ensemble, or of several independent runs side by side.

    Runs given as a list are chains: "forest" shows whether their intervals agree, "rank" whether
    each has its share of low and high values. In "trace" the members stand in no order: what it
    shows is their scatter, not time.

    Parameters
    ----------
    result : xarray.Dataset, or a sequence of them
        As in `to_arviz`.
    kind : {"forest", "pair", "rank", "trace"}
        Which of ``arviz.plot_forest`` and so on.
    ax : array of matplotlib Axes, optional
        Where to draw, with ArviZ before version 1 alone, which lays k parameters out on 1 Axes
        ("forest"), k ("rank"), ``(k, 2)`` ("trace") or ``(k - 1, k - 1)`` ("pair"). ArviZ 1.x
        makes its own figures and takes no Axes; `plot_marginals` and `plot_pairs` do.
    parameters : sequence of labels, optional
        Which parameters; by default those with the smallest share of their prior standard
        deviation left, 20 for "forest" and 6 for the others.
    iteration, rng
        As in `to_arviz`.
    **options
        For ArviZ, which has other ones from version 1 on.

    Returns
    -------
    ndarray of matplotlib Axes
        Those given, or all of the new figure, whatever the installed ArviZ returns.

    Raises
    ------
    TypeError, ValueError
        If ``result`` is no result, there is no such picture, parameter or iteration, or ``ax``
        has another shape or is not for the installed ArviZ.

    Examples
    --------
    >>> import ekitools as ek
    >>> problem = ek.problems.linear(p=2, d=3).problem
    >>> runs = [ek.run(problem, ek.EKI(), n_members=50, rng=seed) for seed in range(2)]
    >>> len(ek.plot_arviz(runs, "forest")) >= 1
    True
    """
    one_of("kind", kind, _KINDS)
    results = _runs(result)
    chosen = marginals(results[0], parameters=parameters, most=_KINDS[kind]).parameter
    if chosen.size < results[0].sizes["parameter"] or parameters is not None:
        results = [one.sel(parameter=chosen.values) for one in results]
    data = to_arviz(results, iteration=iteration, rng=rng)
    import arviz

    az: Any = arviz
    k = results[0].sizes["parameter"]
    if kind == "pair" and k < 2:
        raise ValueError(f"parameters: must be two or more for pairs, got {k}.")
    if ax is not None:
        ax = _axes(ax, kind, k, az)
        options["axes" if kind == "trace" else "ax"] = ax.item() if ax.size == 1 else ax
    with own_colours():
        drawn = getattr(az, f"plot_{kind}")(data, backend="matplotlib", **options)
    if ax is not None:  # without those that ArviZ took away, above the diagonal of pairs
        return np.array([each for each in ax.flat if each.figure is not None], dtype=object)
    figure = drawn.viz["figure"].item() if hasattr(drawn, "viz") else np.ravel(drawn)[0].figure
    if figure.get_layout_engine() is None:
        figure.set_layout_engine("constrained")  # or titles lie on the numbers above them
    return np.array(figure.axes, dtype=object)


def _generation(az: Any) -> int:
    return int(az.__version__.split(".")[0])


def _axes(ax: Any, kind: str, k: int, az: Any) -> np.ndarray:
    """The Axes given, in the shape in which ArviZ takes them for k parameters."""
    if _generation(az) >= 1:
        raise ValueError(
            f"ax: must be None with ArviZ {az.__version__}, which makes its own figures, got "
            f"{type(ax).__name__}. Use ek.plot_marginals or ek.plot_pairs, which take Axes."
        )
    shape = {"forest": (1,), "rank": (k,), "trace": (k, 2), "pair": (k - 1, k - 1)}[kind]
    axes = axes_array(ax)
    if axes.size != math.prod(shape):
        raise ValueError(
            f'ax: must be an array of {shape} Axes for "{kind}" of {k} parameters, got '
            f"{axes.shape}."
        )
    return axes.reshape(shape)


def _runs(result: Any) -> list[xr.Dataset]:
    """One result, or several of one problem, as chains."""
    one = isinstance(result, xr.Dataset)
    what = "the Dataset that ek.run returns, or a sequence of such Datasets"
    return as_chains((result,) if one else sequence("result", result, what))


Chain = tuple[np.ndarray, np.ndarray, np.ndarray]
"""u, g and misfit of members of equal weight."""


def _chains(
    results: Sequence[xr.Dataset],
    indices: Sequence[int],
    rng: np.random.Generator,
    *,
    at_start: bool = False,
    told: bool = False,
) -> tuple[list[Chain], bool]:
    """The members that are draws, as many of every result, and whether chains were cut.

    Weighted members are resampled. A warning says what is cut, unless it was ``told`` before.
    """
    ensembles = [members_at(one, index) for one, index in zip(results, indices, strict=True)]
    rows = [_rows(each, at_start) for each in ensembles]
    for one, index, members, kept in zip(results, indices, ensembles, rows, strict=True):
        if not np.any(members.weight[kept] > 0):
            raise ValueError(
                "iteration: must hold members that did not fail, got none at "
                f"{int(one.iteration[index])}."
            )
    sizes = [kept.size for kept in rows]
    draws = min(sizes)
    if draws < max(sizes) and not told:
        which = "at the start" if at_start else "that did not fail"
        warnings.warn(
            f"result: the runs have {draws} to {max(sizes)} members {which}; every chain is "
            f"cut to the first {draws}. Use runs of the same n_members to keep all.",
            stacklevel=3,
        )
    chains = []
    for members, kept in zip(ensembles, rows, strict=True):
        weight = members.weight[kept]
        chosen = kept[resample(weight, draws, rng=rng)] if np.ptp(weight) > 0 else kept[:draws]
        chains.append((members.u[chosen], members.g[chosen], members.misfit[chosen]))
    return chains, draws < max(sizes)


def _rows(members: Members, at_start: bool) -> np.ndarray:
    """Members of the chain, those without weight included: they are resampled."""
    finite = np.isfinite(members.u).all(axis=1)
    return np.flatnonzero(finite if at_start else finite & ~members.lost)


def _warn_without(group: str, known: Sequence[bool], what: str) -> None:
    lacking = ", ".join(f"result[{i}]" for i, there in enumerate(known) if not there)
    warnings.warn(
        f"result: {group} is left out, for {lacking} has no {what}. Run with "
        'evaluate_final=True and store="all" to have every group.',
        stacklevel=3,
    )


def _parameters(chains: Sequence[Chain], result: xr.Dataset) -> xr.Dataset:
    whole = _stacked("u", [u for u, _, _ in chains], "parameter", result)
    names = [str(name) for name in result.parameter.values]
    if len(names) > _MOST_VARIABLES or any("/" in name for name in names):
        return whole
    values = whole.u.values
    return xr.Dataset(
        {name: (("chain", "draw"), values[:, :, i]) for i, name in enumerate(names)},
        coords={"chain": whole.chain, "draw": whole.draw},
    )


def _stacked(
    name: str, chains: Sequence[np.ndarray], dim: str | None, result: xr.Dataset
) -> xr.Dataset:
    values = np.stack(chains)
    coords: dict[str, Any] = {"chain": np.arange(len(chains)), "draw": np.arange(values.shape[1])}
    if dim is not None:
        coords[dim] = result[dim].values
    dims = ("chain", "draw") if dim is None else ("chain", "draw", dim)
    return xr.Dataset({name: (dims, values)}, coords=coords)
