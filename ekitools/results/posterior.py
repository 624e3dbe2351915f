"""Draws of the parameters by name: `posterior` of a result, `prior_samples` of a problem."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from ekitools.core.arrays import as_rng, host
from ekitools.core.checks import integer
from ekitools.core.model_info import info_of
from ekitools.problem import InverseProblem, check_problem
from ekitools.results.alignment import as_chains
from ekitools.results.reading import members_at, starts_at_prior, stored_index
from ekitools.results.reference import listed
from ekitools.results.shifts import verdict_of
from ekitools.results.trust import is_posterior, nature
from ekitools.typing import LabelledModel, Rng

__all__ = ["Draws", "draws_of", "in_order_of", "posterior", "prior_samples"]


def posterior(
    result: xr.Dataset | Sequence[xr.Dataset],
    iteration: int = -1,
    *,
    model: LabelledModel | None = None,
    rng: Rng = 0,
) -> xr.Dataset:
    """Draws of the posterior: a dataset with one variable for each parameter, along ``draw``.

    All draws have equal weight. ``.mean("draw")``, ``.std("draw")`` and
    ``.quantile(levels, "draw")`` estimate moments and quantiles of the posterior, and
    ``.to_dataframe()`` has one column for each parameter.

    Parameters
    ----------
    result : xarray.Dataset, or a sequence of them
        Result of `run` or `integrate`. The draws of several results of one problem are joined in
        the order of the results. `to_arviz` keeps such results separate, as chains.
    iteration : int, default -1
        A stored iteration; −1 is the last stored iteration.
    model : LabelledModel, optional
        The model of the problem, if it is an `XarrayModel`. The variables then have the
        dimensions and coordinates of the model's arrays, such as those of a grid. Without
        ``model``, each number is a separate variable with the label of the parameter as name.
    rng : None, int or numpy.random.Generator, default 0
        Source of randomness for a result with weights: its members are resampled systematically,
        and the number of draws is the number of members. The same seed gives the same draws in
        `predict`. A result without weights does not use ``rng``.

    Returns
    -------
    xarray.Dataset
        Parameters in physical coordinates, with the attribute ``units`` if the result has units.
        Failed members are left out. The dataset has the attributes

        ``posterior``
            1 if the ensemble is meant as a sample of the posterior and the run reached the
            posterior, else 0. A method that aims at a fit, such as `LossEKI`, does not sample the
            posterior. The mean of its draws is a fit, and **the spread of its draws does not
            measure uncertainty**.
        ``nature``
            A description of the ensemble in one or two sentences.
        ``status``
            The status of the run in words.
        ``verdict``
            The verdict of `check_posterior`, if all results were checked with the same verdict.
        ``n_draws``, ``n_lost``
            The number of draws, and the number of members that were left out.

    Raises
    ------
    TypeError, ValueError
        If ``result`` is not a result, the results are of different problems, the iteration is not
        stored or has no members left, or ``model`` has other parameters.

    See Also
    --------
    intervals : A table with one row for each parameter.
    predict : Posterior predictive draws of the data.
    prior_samples : Draws of the prior in the same layout.

    Examples
    --------
    >>> import ekitools as ek
    >>> problem = ek.InverseProblem(
    ...     ek.LinearModel([[1.0, 0.0], [0.0, 1.0]]), ek.GaussianPrior([0.0, 0.0], 1.0), 1.0,
    ...     [2.0, 4.0], parameter_names=["rate", "level"])
    >>> result = ek.run(problem, ek.EKI(), n_members=1000, rng=0)
    >>> posterior = ek.posterior(result)
    >>> posterior.rate.dims, posterior.sizes["draw"]
    (('draw',), 1000)
    >>> posterior.rate.quantile([0.05, 0.95], "draw").values.round(1)  # exact: -0.16, 2.16
    array([-0.1,  2.2])
    >>> posterior.to_dataframe().columns.tolist()
    ['rate', 'level']
    """
    drawn = draws_of(result, iteration, as_rng(rng))
    named = _by_name(drawn.u, model)
    named.attrs = {"title": "draws of the parameters", **drawn.attributes()}
    return named


def prior_samples(
    problem: InverseProblem, n: int, *, model: LabelledModel | None = None, rng: Rng = None
) -> xr.Dataset:
    """Draws of the prior: a dataset with one variable for each parameter, along ``draw``.

    Parameters
    ----------
    problem : InverseProblem
        The problem whose prior is sampled.
    n : int
        Number of draws.
    model : LabelledModel, optional
        The model of the problem, if it is an `XarrayModel`. The variables then have the
        dimensions and coordinates of the model's arrays. Without ``model``, each number is a
        separate variable with the label of the parameter as name.
    rng : None, int or numpy.random.Generator, optional
        Source of randomness. By default every call draws other numbers.

    Returns
    -------
    xarray.Dataset
        Parameters in physical coordinates, along ``draw``, with the attribute ``units`` if the
        problem has units.

    Raises
    ------
    TypeError, ValueError
        If ``problem`` is not an `InverseProblem`, ``n`` is not a positive integer, or ``model``
        has other parameters.

    See Also
    --------
    posterior : Draws of the posterior in the same layout.
    Prior : A prior of independent parameters with names.

    Examples
    --------
    >>> import ekitools as ek
    >>> from scipy import stats
    >>> prior = ek.Prior({"rate": stats.lognorm(0.5)})
    >>> problem = ek.InverseProblem(lambda u: u, prior, 0.1, [1.2])
    >>> draws = ek.prior_samples(problem, 1000, rng=0)
    >>> round(float(draws.rate.median()), 1), bool((draws.rate > 0).all())
    (1.0, True)
    """
    check_problem(problem)
    n = integer("n", n)
    u = xr.DataArray(
        host(problem.prior.sample(n, rng=rng)),
        {"parameter": np.asarray(problem.parameter_names)},
        ("draw", "parameter"),
    )
    if problem.info.parameter_units is not None:
        u = u.assign_coords(parameter_units=("parameter", list(problem.info.parameter_units)))
    named = _by_name(u, model)
    named.attrs = {"title": "draws of the prior", "n_draws": n}
    return named


class Draws(NamedTuple):
    """Draws with equal weights from one or several results."""

    results: list[xr.Dataset]
    """The results, with labels in the order of the first result."""
    indices: list[int]
    """Position of the iteration in each result."""
    u: xr.DataArray
    """``(draw, parameter)`` with the coordinates of the result."""
    g: xr.DataArray
    """``(draw, data)``."""
    n_lost: int

    def attributes(self) -> dict[str, Any]:
        """Attributes of the draws, of types that netCDF files can hold."""
        at = list(zip(self.results, self.indices, strict=True))
        status = [str(each.attrs.get("status", "not recorded")) for each in self.results]
        verdicts = {verdict_of(result) if _is_end(result, index) else "" for result, index in at}
        verdict = verdicts.pop() if len(verdicts) == 1 else ""
        return {
            **({"verdict": verdict} if verdict else {}),
            "posterior": int(all(_is_end(*each) and is_posterior(each[0]) for each in at)),
            "nature": " ".join(dict.fromkeys(_nature(*each) for each in at)),
            "status": " ".join(dict.fromkeys(status)),
            "n_draws": self.u.sizes["draw"],
            "n_lost": self.n_lost,
        }


def draws_of(result: Any, iteration: int, rng: np.random.Generator) -> Draws:
    """Draw from the members that did not fail at an iteration, with equal weights.

    Raises
    ------
    TypeError, ValueError
        If ``result`` is not a result, the results are of different problems, or the iteration is
        not stored or has no members left.
    """
    several = isinstance(result, Sequence) and not isinstance(result, str)
    results = as_chains(list(result) if several else [result])
    indices = [stored_index(each, iteration) for each in results]
    u, g, n_members = [], [], 0
    for i, (each, index) in enumerate(zip(results, indices, strict=True)):
        members = members_at(each, index)
        rows = members.equally_weighted(rng)
        if not rows.size:
            raise ValueError(
                f"{f'result[{i}]' if several else 'result'}: must have members that did not fail "
                f"at iteration {int(each.iteration[index])}, got none. Use another iteration."
            )
        u.append(members.u[rows])
        g.append(members.g[rows])
        n_members += len(members.u)
    arrays = {}
    for dim, parts in (("parameter", u), ("data", g)):
        values = np.concatenate(parts)
        known = {
            name: coordinate
            for name, coordinate in results[0].coords.items()
            if coordinate.dims == (dim,)
        }
        known["draw"] = xr.DataArray(np.arange(len(values)), dims="draw")
        arrays[dim] = xr.DataArray(values, known, ("draw", dim))
    n_lost = n_members - arrays["parameter"].sizes["draw"]
    return Draws(results, indices, arrays["parameter"], arrays["data"], n_lost)


def in_order_of(model: Any, u: xr.DataArray) -> xr.DataArray:
    """Reorder the parameters of ``u`` to the order of a model with named parameters.

    Raises
    ------
    ValueError
        If the model has other parameters.
    """
    names = u.parameter.values.tolist()
    known = info_of(model).parameter_names
    if known is None or list(known) == names:
        return u
    if set(known) != set(names) or len(known) != len(names):
        raise ValueError(
            f"model: must have the {len(names)} parameters of the result ({listed(names)}), got "
            f"{len(known)} ({listed(list(known))}). Pass the calibrated model, or another model of "
            "the same parameters."
        )
    return u.sel(parameter=list(known))


def _by_name(u: xr.DataArray, model: Any) -> xr.Dataset:
    """Split ``(draw, parameter)`` into a variable for each parameter, or the model's arrays."""
    draw = np.arange(u.sizes["draw"])
    if model is None:
        units = [""] * u.sizes["parameter"]
        if "parameter_units" in u.coords:
            units = [str(each) for each in u.parameter_units.values]
        columns = zip(u.parameter.values, u.values.T, units, strict=True)
        variables = {
            str(name): ("draw", column, {"units": unit} if unit else {})
            for name, column, unit in columns
        }
        return xr.Dataset(variables, coords={"draw": draw})
    if isinstance(model, type) or not isinstance(model, LabelledModel):
        raise TypeError(
            f"model: must be an ek.XarrayModel, which has labelled arrays, got "
            f"{type(model).__name__}. Omit model= to get one variable for each parameter."
        )
    labelled = model.unflatten_parameters(in_order_of(model, u))
    if isinstance(labelled, xr.DataArray):
        labelled = labelled.to_dataset(name="u" if labelled.name is None else labelled.name)
    return labelled.assign_coords(draw=draw)


def _is_end(result: xr.Dataset, index: int) -> bool:
    return index == result.sizes["iteration"] - 1


def _nature(result: xr.Dataset, index: int) -> str:
    """Describe an ensemble in one or two sentences."""
    if _is_end(result, index):
        return nature(result).sentence
    if index == 0 and starts_at_prior(result):
        return "The initial ensemble, which represents the prior."
    return (
        f"The ensemble at iteration {int(result.iteration[index])}, before the run ended. It is "
        "not a sample of the posterior."
    )
