"""Conversion of results to ArviZ, and ArviZ's plots of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import xarray as xr

from ekitools.core.arrays import as_rng
from ekitools.core.checks import one_of, sequence
from ekitools.plots.style import axes_array, own_colours
from ekitools.problem import InverseProblem, check_problem
from ekitools.results.alignment import as_chains, columns_of
from ekitools.results.groups import parameter_groups, predictive_groups
from ekitools.results.marginals import marginals
from ekitools.typing import Rng

__all__ = ["plot_arviz", "to_arviz"]

Kind: TypeAlias = Literal["forest", "pair", "rank", "trace"]
_KINDS: dict[Kind, int] = {"forest": 20, "pair": 6, "rank": 6, "trace": 6}
"""Plots of ArviZ before and after version 1, and the number of parameters drawn by default."""


def to_arviz(
    result: xr.Dataset | Sequence[xr.Dataset],
    *,
    problem: InverseProblem | None = None,
    iteration: int = -1,
    rng: Rng = 0,
) -> Any:
    """Convert an ensemble to ArviZ, for its plots and summaries.

    The members of an ensemble become the draws of one chain. To get one chain per run, pass
    independent runs as a list; ``rhat`` then compares the runs. Members have no order, because an
    ensemble is not a Markov chain. Effective sample sizes that depend on the order of draws are
    therefore meaningless.

    Parameters
    ----------
    result : xarray.Dataset, or a sequence of them
        A result of `run`, or several results of the same problem: with the same data, noise and
        prior, and with the same parameters in any order. Failed members are left out. Runs with
        different numbers of members are cut to the smallest number, with a warning.
    problem : InverseProblem, optional
        The problem of the result. It is needed for correlated noise, because a result holds only
        the standard deviations of its noise.
    iteration : int, default -1
        The stored iteration that becomes the posterior; −1 is the last one.
    rng : None, int or numpy.random.Generator
        Source of randomness for the noise of the predictions, and for the systematic resampling of
        results with weights.

    Returns
    -------
    arviz.InferenceData or xarray.DataTree
        The type of the installed ArviZ (0.23: the first; 1.x: the second), with these groups:

        ``posterior``, ``prior``
            Parameters, with one variable for each. There is one variable ``u`` for all parameters
            if they are more than 50, or if a name has a slash, which ArviZ's trees do not allow.
        ``posterior_predictive``, ``prior_predictive``
            Draws of the data: outputs plus noise.
        ``predictions``
            Outputs G(u), without noise.
        ``log_likelihood``
            Log-density of every datum, for ``az.loo`` and ``az.loo_pit``. If the noise is
            correlated, it is the log-density given all other data.
        ``observed_data``, ``constant_data``
            The data, and the standard deviations of the noise.
        ``sample_stats``
            The misfit.

        The groups of the data have a variable for each block, with its own dimension and
        coordinates, or a variable ``y`` if the data have no blocks. A group is left out if the
        result lacks its values: the prior if the first ensemble is not stored or not drawn from the
        prior, predictions if the last ensemble was not evaluated, and groups that need noise if the
        problem has a loss.

    Raises
    ------
    TypeError, ValueError
        If ``result`` is not a result, results belong to different problems, or the iteration is not
        stored.

    Warns
    -----
    UserWarning
        If members of the longer chains are left out, if a group is left out because only some
        results have it, or if the noise is correlated and ``problem`` is not given.

    See Also
    --------
    plot_arviz : Plots by ArviZ.
    posterior, predict : Draws of parameters and of predictions without ArviZ.

    Examples
    --------
    >>> import ekitools as ek
    >>> problem = ek.problems.linear(p=2, d=3).problem
    >>> result = ek.run(problem, ek.EKI(), n_members=50, rng=0)
    >>> ek.to_arviz(result).posterior.sizes["draw"]
    50
    """
    results = _runs(result)
    noise = None
    if problem is not None:
        check_problem(problem)
        columns_of(problem, results[0])
        noise = problem.noise if problem.has_noise or problem.n_scales else None
    generator = as_rng(rng)
    groups, chains = parameter_groups(results, iteration, generator)
    groups |= predictive_groups(results, chains, noise, generator)
    return _tree(groups, results[0])


def _tree(groups: dict[str, xr.Dataset], result: xr.Dataset) -> Any:
    """Groups in the type of the installed ArviZ."""
    import arviz

    az: Any = arviz  # before or after version 1
    attributes = {
        name: result.attrs[name]
        for name in ("status", "status_code", "method", "model_runs", "versions")
        if name in result.attrs
    }
    groups["posterior"].attrs = {**attributes, "inference_library": "ekitools"}
    tree = xr.DataTree.from_dict(groups)
    return tree if _generation(az) >= 1 else az.from_datatree(tree)


def plot_arviz(
    result: xr.Dataset | Sequence[xr.Dataset],
    kind: Kind = "forest",
    *,
    ax: Any = None,
    parameters: Any = None,
    iteration: int = -1,
    rng: Rng = 0,
    **options: Any,
) -> np.ndarray:
    """Plot of an ensemble, or of several independent runs, by ArviZ.

    Runs in a list become chains. "forest" shows whether their intervals agree. "rank" shows whether
    each run has its share of low and high values. Members have no order, so "trace" shows their
    scatter, not an evolution in time.

    Parameters
    ----------
    result : xarray.Dataset, or a sequence of them
        As in `to_arviz`.
    kind : {"forest", "pair", "rank", "trace"}
        Kind of plot: ``arviz.plot_forest`` and so on.
    ax : array of matplotlib Axes, optional
        Where to draw, for ArviZ before version 1. For k parameters, the shape is 1 ("forest"), k
        ("rank"), ``(k, 2)`` ("trace") or ``(k - 1, k - 1)`` ("pair"). ArviZ 1.x makes its own
        figures; use `plot_marginals` or `plot_pairs` to draw on given Axes.
    parameters : sequence of labels, optional
        The parameters to draw; by default those whose standard deviations were reduced most, 20 for
        "forest" and 6 for the other kinds.
    iteration, rng
        As in `to_arviz`.
    **options
        Options of ArviZ, which differ between its versions. The figure fits the width of a page
        unless ``figsize`` (ArviZ before version 1) or ``figure_kwargs`` is given.

    Returns
    -------
    ndarray of matplotlib Axes
        The given Axes, or all Axes of the new figure.

    Raises
    ------
    TypeError, ValueError
        If ``result`` is not a result, ``kind``, a parameter or the iteration is unknown, ``ax`` has
        another shape, or ``ax`` is given with ArviZ 1.x.

    See Also
    --------
    to_arviz : The data that ArviZ draws.
    plot_marginals, plot_pairs : Similar plots without ArviZ.

    Examples
    --------
    >>> import ekitools as ek
    >>> problem = ek.problems.linear(p=2, d=3).problem
    >>> runs = [ek.run(problem, ek.EKI(), n_members=50, rng=seed) for seed in range(2)]
    >>> len(ek.plot_arviz(runs, "forest")) >= 1
    True
    """
    kind = one_of("kind", kind, _KINDS)
    results = _runs(result)
    chosen = marginals(results[0], parameters=parameters, most=_KINDS[kind]).parameter
    if chosen.size < results[0].sizes["parameter"] or parameters is not None:
        results = [one.sel(parameter=chosen.values) for one in results]
    data = _tree(parameter_groups(results, iteration, as_rng(rng))[0], results[0])
    import arviz

    az: Any = arviz
    k = results[0].sizes["parameter"]
    if kind == "pair" and k < 2:
        raise ValueError(
            f'parameters: must be two or more for "pair", got {k}. Use "trace" for one parameter.'
        )
    if ax is not None:
        ax = _axes(ax, kind, k, az)
        options["axes" if kind == "trace" else "ax"] = ax.item() if ax.size == 1 else ax
    elif not {"figsize", "figure_kwargs"} & set(options):
        size = _size(kind, k, len(results))
        options |= {"figure_kwargs": {"figsize": size}} if _generation(az) >= 1 else {
            "figsize": size
        }  # fmt: skip
    with own_colours():
        drawn = getattr(az, f"plot_{kind}")(data, backend="matplotlib", **options)
    if ax is not None:  # without the Axes that ArviZ removed above the diagonal of pairs
        return np.array([each for each in ax.flat if each.figure is not None], dtype=object)
    figure = drawn.viz["figure"].item() if hasattr(drawn, "viz") else np.ravel(drawn)[0].figure
    if figure.get_layout_engine() is None:
        figure.set_layout_engine("constrained")  # keeps titles off the numbers above them
    return np.array(figure.axes, dtype=object)


def _size(kind: str, k: int, chains: int) -> tuple[float, float]:
    """Size in inches of a figure of ``k`` parameters that fits the width of a page."""
    heights = {
        "forest": 1.6 + 0.3 * k * chains,
        "pair": 1.7 * (k - 1) + 0.6,
        "rank": 2.8 * math.ceil(k / 3),
        "trace": 1.5 * k,
    }
    return 7.0, max(heights[kind], 2.0)


def _generation(az: Any) -> int:
    return int(az.__version__.split(".")[0])


def _axes(ax: Any, kind: str, k: int, az: Any) -> np.ndarray:
    """The given Axes in the shape that ArviZ expects for k parameters."""
    if _generation(az) >= 1:
        raise ValueError(
            f"ax: must be None with ArviZ {az.__version__}, which makes its own figures, got "
            f"{type(ax).__name__}. Use ek.plot_marginals or ek.plot_pairs, which take Axes."
        )
    shape = {"forest": (1,), "rank": (k,), "trace": (k, 2), "pair": (k - 1, k - 1)}[kind]
    axes = axes_array(ax)
    if axes.size != math.prod(shape):
        grid = ", ".join(map(str, shape))
        raise ValueError(
            f'ax: must be an array of {shape} Axes for "{kind}" of {k} parameters, got '
            f"{axes.shape}. Use plt.subplots({grid})[1]."
        )
    return axes.reshape(shape)


def _runs(result: Any) -> list[xr.Dataset]:
    """One result, or several results of one problem, as chains."""
    one = isinstance(result, xr.Dataset)
    what = "the Dataset that ek.run returns, or a sequence of such Datasets"
    return as_chains((result,) if one else sequence("result", result, what))
