"""Marginals of the parameters at the start and at the end of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ekitools.core.checks import sequence, share
from ekitools.results.alignment import columns_of
from ekitools.results.reading import check_result, members_at, moments, starts_at_prior
from ekitools.results.reference import listed

if TYPE_CHECKING:
    import pandas as pd

    from ekitools.problem import InverseProblem

__all__ = [
    "LEVELS",
    "first_members",
    "frame",
    "intervals",
    "marginals",
    "start_of",
    "weighted_quantiles",
]

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
_COLUMNS = 4096
"""Parameters in one block of quantiles, which avoids a second ensemble in memory."""
_DRAWS = 4000
_MOST_NUMBERS = 20_000_000
"""Largest size of an array of prior draws."""


def intervals(
    result: xr.Dataset, prob: float = 0.9, problem: InverseProblem | None = None
) -> pd.DataFrame:
    """Table of the parameters: means, standard deviations and central intervals.

    Parameters
    ----------
    result : xarray.Dataset
        Result of `run` or `integrate`.
    prob : float, default 0.9
        Probability of the central interval: from the quantile (1 − prob)/2 to (1 + prob)/2.
    problem : InverseProblem, optional
        The problem of the result. Its prior is sampled if the result does not hold the first
        ensemble.

    Returns
    -------
    pandas.DataFrame
        One row for each parameter. The columns ``mean``, ``sd``, ``low``, ``median`` and ``high``
        describe the last ensemble in physical coordinates, without failed members and with the
        weights of the members. ``prior_mean`` and ``prior_sd`` follow if the prior is known, or
        ``start_mean`` and ``start_sd`` if the method started elsewhere. ``sd_ratio`` is ``sd``
        divided by the standard deviation at the start. For a method that aims at a fit, such as
        `LossEKI`, ``sd`` is the spread of the ensemble and does not measure uncertainty.

    Raises
    ------
    TypeError, ValueError
        If ``result`` is not a result, ``problem`` is not the problem of the result, or ``prob`` is
        not within (0, 1).

    See Also
    --------
    posterior : Draws of the parameters.
    summary : Checks of the result, and whether to trust it.

    Examples
    --------
    >>> import ekitools as ek
    >>> problem = ek.InverseProblem(
    ...     ek.LinearModel([[1.0]]), ek.GaussianPrior(0.0, [1.0]), 1.0, [2.0],
    ...     parameter_names=["rate"])
    >>> result = ek.run(problem, ek.EKI(), n_members=1000, rng=0)
    >>> table = ek.intervals(result, 0.9)
    >>> table.loc["rate", ["low", "median", "high"]].round(1).tolist()  # exact: -0.16, 1, 2.16
    [-0.1, 1.1, 2.1]
    """
    tail = (1 - share("prob", prob)) / 2
    return frame(marginals(result, problem, levels=(tail, 0.5, 1 - tail)))


def frame(table: xr.Dataset) -> pd.DataFrame:
    """Convert the dataset of `marginals` to a data frame with the columns of `intervals`."""
    low, median, high = (
        table["quantile"].sel(level=level, drop=True)
        for level in (table.level.min(), 0.5, table.level.max())
    )
    columns = {"mean": table["mean"], "sd": table.sd, "low": low, "median": median, "high": high}
    start = table.attrs["start"]
    if start:
        columns |= {f"{start}_mean": table.start_mean, f"{start}_sd": table.start_sd}
        columns["sd_ratio"] = table.sd_ratio
    return xr.Dataset(columns).drop_vars("parameter_units", errors="ignore").to_dataframe()


def start_of(result: xr.Dataset, problem: InverseProblem | None = None) -> str:
    """The ensemble to compare the end with: "prior", "start" (another start), or "" (none)."""
    if starts_at_prior(result) or problem is not None:
        return "prior"
    return "start" if int(result.iteration[0]) == 0 else ""


def first_members(
    result: xr.Dataset, problem: InverseProblem | None = None, index: Any = slice(None)
) -> tuple[np.ndarray, np.ndarray]:
    """Members of the ensemble that `start_of` names, for the parameters ``index``, and weights.

    The members are the first ensemble, or draws of the problem's prior if the first ensemble is
    not stored.
    """
    if problem is not None and not starts_at_prior(result):
        n = max(100, min(_DRAWS, _MOST_NUMBERS // problem.n_parameters))
        columns = columns_of(problem, result)[index]
        draws = np.asarray(problem.prior.sample(n, rng=0))[:, columns]
        return draws, np.full(n, 1 / n)
    return members_at(result.isel(parameter=index), 0).present(at_start=True)


def marginals(
    result: xr.Dataset,
    problem: InverseProblem | None = None,
    *,
    parameters: Any = None,
    most: int | None = None,
    levels: tuple[float, ...] = LEVELS,
) -> xr.Dataset:
    """Means, standard deviations and quantiles at the start and at the end.

    Parameters
    ----------
    result : xarray.Dataset
        Result of `run` or `integrate`.
    problem : InverseProblem, optional
        The problem of the result. Its prior is sampled if the result does not hold the first
        ensemble.
    parameters : sequence of labels, optional
        Labels of the parameters, in the order of the output; by default all parameters.
    most : int, optional
        Largest number of parameters if ``parameters`` is None. Those with the largest reduction
        of the standard deviation are taken, in this order.
    levels : tuple of float, optional
        Levels of the quantiles, increasing.

    Returns
    -------
    xarray.Dataset
        ``mean``, ``sd`` and ``quantile(level)`` at the end, ``start_mean``, ``start_sd`` and
        ``start_quantile(level)`` at the start (NaN if it is unknown), ``sd_ratio``, and the
        ``position`` in ``result``, along ``parameter``. The attribute ``start`` is the value of
        `start_of`. The attribute ``sd_ratio_quantiles`` holds quantiles over all parameters,
        before ``most`` is applied.

    Raises
    ------
    TypeError, ValueError
        If ``result`` is not a result or has no such parameter, or ``problem`` has other
        parameters.
    """
    check_result(result)
    if problem is not None:
        columns_of(problem, result)
    index: np.ndarray = np.arange(result.sizes["parameter"])
    considered: Any = slice(None)  # a view, because the members may fill the memory
    if parameters is not None:
        index = considered = _positions(result.parameter.values.tolist(), parameters)
    start = start_of(result, problem)
    mean, sd = _mean_and_sd(*members_at(result.isel(parameter=considered), -1).present())
    start_mean, start_sd = np.full((2, index.size), np.nan)
    if start:
        start_mean, start_sd = _mean_and_sd(*first_members(result, problem, considered))
    ratio = np.divide(sd, start_sd, out=np.full(index.size, np.nan), where=start_sd > 0)
    known = ratio[np.isfinite(ratio)]
    shown = np.arange(index.size)
    if parameters is None and most is not None and index.size > most:
        shown = np.argsort(ratio, kind="stable")[:most]
        index = considered = index[shown]
    part = result.isel(parameter=considered)
    u, w = members_at(part, -1).present()
    ends = weighted_quantiles(u, levels, w)
    starts = np.full_like(ends, np.nan)
    if start:
        u, w = first_members(result, problem, considered)
        starts = weighted_quantiles(u, levels, w)
    return xr.Dataset(
        {
            "position": ("parameter", index),
            "start_mean": ("parameter", start_mean[shown]),
            "start_sd": ("parameter", start_sd[shown]),
            "start_quantile": (("level", "parameter"), starts),
            "mean": ("parameter", mean[shown]),
            "sd": ("parameter", sd[shown]),
            "quantile": (("level", "parameter"), ends),
            "sd_ratio": ("parameter", ratio[shown], {"long_name": "sd, relative to the start"}),
        },
        coords={"parameter": part.parameter, "level": list(levels)},
        attrs={
            "start": start,
            "n_parameters": result.sizes["parameter"],
            "sd_ratio_quantiles": np.quantile(known, LEVELS) if known.size else [],
        },
    )


def _positions(names: list[Any], wanted: Any) -> np.ndarray:
    """Positions of the parameters ``wanted`` among ``names``."""
    if isinstance(wanted, str):
        wanted = (wanted,)
    wanted = sequence("parameters", wanted, f"names among {listed(names)}")
    unknown = [name for name in wanted if isinstance(name, np.ndarray) or name not in names]
    if unknown or not wanted:
        raise ValueError(
            f"parameters: must be names among {listed(names)}, got "
            f"{listed(unknown) if unknown else 'none'}."
        )
    return np.array([names.index(name) for name in wanted])


def _mean_and_sd(u: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean, variance = moments(u, w)
    share = 1 - float(w @ w)  # (J − 1)/J for equal weights
    return mean, np.sqrt(variance / share) if share > 1e-12 else np.full_like(mean, np.nan)


def weighted_quantiles(x: np.ndarray, levels: Any, w: np.ndarray) -> np.ndarray:
    """Quantiles along the first axis, interpolated only if all weights are equal.

    Parameters
    ----------
    x : (J, ...)
        Values; the quantiles are NaN if J = 0.
    levels : (q,)
        Probabilities.
    w : (J,)
        Weights, not negative.

    Returns
    -------
    (q, ...)
        The quantiles.
    """
    if not w.size:
        return np.full((len(levels), *x.shape[1:]), np.nan)
    if x.ndim == 2 and x.shape[1] > _COLUMNS:
        columns = range(0, x.shape[1], _COLUMNS)
        parts = [weighted_quantiles(x[:, c : c + _COLUMNS], levels, w) for c in columns]
        return np.concatenate(parts, axis=1)
    x = x.astype(np.float64)
    if np.ptp(w) > 0:
        return np.asarray(np.quantile(x, levels, axis=0, weights=w, method="inverted_cdf"))
    return np.asarray(np.quantile(x, levels, axis=0))
