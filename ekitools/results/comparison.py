"""Comparison of methods with a reference posterior: errors and costs of all methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import xarray as xr
from scipy.stats import wasserstein_distance

from ekitools.core.checks import one_of
from ekitools.results.alignment import by_label, check_same_data, check_same_names
from ekitools.results.reading import members_at, model_runs, stored_index
from ekitools.results.reference import (
    Reference,
    Sample,
    as_reference,
    as_sample,
    listed,
)
from ekitools.results.tables import table_lines

__all__ = ["check_comparison", "compare", "compare_table"]

Style: TypeAlias = Literal["plain", "markdown"]
_STYLES: tuple[Style, ...] = get_args(Style)

_BLOCK = 512
"""Number of rows of a covariance that are compared at a time, so that no p × p matrix is formed."""

_SDS = "reference standard deviations"

_LABELS = {  # dimensions ("method" is a keyword of Dataset.sel), long name and units
    "reference_mean": (("parameter",), "mean of the reference", "as the parameter"),
    "reference_sd": (("parameter",), "standard deviation of the reference", "as the parameter"),
    "mean": (("label", "parameter"), "mean of the members", "as the parameter"),
    "sd": (
        ("label", "parameter"),
        "standard deviation of the members, normalised by 1/(J-1)",
        "as the parameter",
    ),
    "mean_error": (("label", "parameter"), "mean less the mean of the reference", _SDS),
    "sd_ratio": (("label", "parameter"), "sd divided by the sd of the reference", "1"),
    "wasserstein": (("label", "parameter"), "Wasserstein-1 distance of the marginals", _SDS),
    "mean_error_rms": (("label",), "root mean square of mean_error over parameters", _SDS),
    "mean_error_expected": (
        ("label",),
        "mean_error_rms to be expected of independent exact draws, 1/sqrt(n_effective)",
        _SDS,
    ),
    "mean_error_max": (("label",), "largest |mean_error| of a parameter", _SDS),
    "sd_error_max": (("label",), "largest |sd_ratio - 1| of a parameter", "1"),
    "cov_error": (
        ("label",),
        "relative Frobenius error of the covariance, in reference standard deviations",
        "1",
    ),
    "model_runs": (("label",), "model runs so far", "1"),
    "seconds": (("label",), "wall time of the run", "s"),
    "members": (("label",), "members left", "1"),
    "n_effective": (("label",), "effective number of members, (sum w)^2 / sum w^2", "1"),
}

_COLUMNS = {  # of the table
    "model_runs": "model runs",
    "seconds": "seconds",
    "members": "members",
    "n_effective": "effective",
    "mean_error_rms": "mean, rms",
    "mean_error_expected": "expected",
    "mean_error_max": "mean, worst",
    "sd_error_max": "sd, worst",
    "cov_error": "covariance",
}


def compare(
    results: Mapping[str, xr.Dataset] | Sequence[xr.Dataset] | xr.Dataset,
    reference: Any,
    *,
    iteration: int = -1,
) -> xr.Dataset:
    r"""Compare results of several methods with the exact posterior or another reference.

    Parameter i has the mean m_i and the standard deviation s_i under the reference, and ū_i and σ_i
    under the members. The errors of a parameter are

    .. math::
        \text{mean\_error}_i = (\bar u_i - m_i)/s_i, \quad
        \text{sd\_ratio}_i = \sigma_i/s_i, \quad
        \text{wasserstein}_i = \tfrac1{s_i} \int |F_i(x) - F_i^{ref}(x)|\, dx.

    The third is the Wasserstein-1 distance of the marginals [1]_. The error of the covariance is

    .. math::
        \text{cov\_error} = \|S^{-1}(C - C^{ref})S^{-1}\|_F / \|S^{-1}C^{ref}S^{-1}\|_F,
        \qquad S = \operatorname{diag}(s).

    Even n independent draws from the posterior have a sampling error. Their ``mean_error_rms`` is
    about ``mean_error_expected`` = n^{-1/2}, where n is the effective number of members. For a
    Gaussian marginal their ``wasserstein`` is about 1.29 n^{-1/2}, and their ``sd_ratio`` differs
    from 1 by about (2n)^{-1/2}. Members that depend on each other have larger errors. A
    reference of draws also has an error, of about ``reference_n_effective`` to the power −1/2.

    Parameters
    ----------
    results : mapping of label to xarray.Dataset, or a sequence of xarray.Dataset
        Results of `run`, `resume` or `integrate`, also read from files. They may have different
        sizes, weights, and parameters in any order. All must have the same data. Failed members are
        left out. The labels of a sequence are the names of the methods ("EKI", "EKI 2", ...).
    reference : xarray.Dataset, tuple, array or mapping
        One of

        * a result, for example of a long `TemperedSMC`; the last stored iteration with its weights
          is used;
        * ``(mean, cov)``, a tuple of ``(p,)`` and ``(p, p)``: an exact Gaussian. Its marginals
          are represented by 4096 quantiles, which moves ``wasserstein`` by at most 5.1e-4;
        * draws, ``(n, p)``, or a DataArray with a dimension ``parameter``; rows with NaN are
          left out;
        * a mapping of parameter names to (mean, sd), such as the ``reference`` of an example of
          `ekitools.problems`: ``wasserstein`` and ``cov_error`` are then NaN.

        Parameters are matched by name if the reference has names. A reference with some of the
        parameters restricts the comparison to them. A reference without names has the parameters in
        the order of the first result.
    iteration : int, default -1
        The stored iteration of the results that is compared; −1 is the last one.

    Returns
    -------
    xarray.Dataset
        Along ``label`` and ``parameter``: ``mean``, ``sd``, ``mean_error``, ``sd_ratio``,
        ``wasserstein``; along ``parameter``: ``reference_mean``, ``reference_sd``; along
        ``label``: ``mean_error_rms``, ``mean_error_expected``, ``mean_error_max``,
        ``sd_error_max``, ``cov_error``, ``model_runs``, ``seconds`` (NaN for an earlier iteration
        and for a result without a time), ``members`` and ``n_effective``. All have ``long_name``
        and ``units``. The attribute ``reference`` describes the reference, and
        ``reference_n_effective`` is its number of draws (infinite if it is exact, NaN if unknown).

    Raises
    ------
    TypeError, ValueError
        If there are no results, or one is not the Dataset of a run or has fewer than two members
        left. If the iteration is not stored, or the results have different data. If sizes or names
        do not match, or the results have different parameters and the reference has no names.

    See Also
    --------
    compare_table : The comparison as a table.
    plot_comparison : The comparison as a plot.
    check_posterior : A check by further model runs, which needs no reference.

    Notes
    -----
    The cost is the sorting of p marginals, and O(J p²) for the covariance.

    References
    ----------
    .. [1] Villani (2009), Optimal Transport: Old and New, Springer.

    Examples
    --------
    >>> import ekitools as ek
    >>> example = ek.problems.linear(p=3, d=5)
    >>> results = {
    ...     "EKI": ek.run(example.problem, ek.EKI(), n_members=400, rng=0),
    ...     "SMC": ek.run(example.problem, ek.TemperedSMC(), n_members=400, rng=0),
    ... }
    >>> comparison = ek.compare(results, (example.extra["mean"], example.extra["cov"]))
    >>> bool((comparison.mean_error_rms < 3 * comparison.mean_error_expected).all())
    True
    >>> comparison.sd_ratio.sel(label="EKI").round(1).values
    array([1., 1., 1.])
    """
    labelled = by_label(results)
    first_label, first = next(iter(labelled.items()))
    names = first.parameter.values.tolist()
    exact = as_reference(reference, names)
    for label, result in labelled.items():
        check_same_data(f"results[{label!r}]", result, f"results[{first_label!r}]", first)
        if not exact.named:  # only names say which parameters are meant
            check_same_names(f"results[{label!r}]", result, names, f"results[{first_label!r}]")
    if isinstance(reference, xr.Dataset):
        check_same_data("reference", reference, f"results[{first_label!r}]", first)
    samples = {
        label: _members(label, result, iteration, exact) for label, result in labelled.items()
    }
    each = samples.values()
    error = np.array([sample.mean for sample in each])
    ratio = np.array([sample.sd for sample in each])
    n_effective = np.array([sample.n_effective for sample in each])
    values = {
        "reference_mean": exact.mean,
        "reference_sd": exact.sd,
        "mean": exact.mean + exact.sd * error,
        "sd": exact.sd * ratio,
        "mean_error": error,
        "sd_ratio": ratio,
        "wasserstein": np.array([_distances(sample, exact) for sample in each]),
        "mean_error_rms": np.sqrt(np.mean(error**2, axis=1)),
        "mean_error_expected": 1 / np.sqrt(n_effective),
        "mean_error_max": np.max(np.abs(error), axis=1),
        "sd_error_max": np.max(np.abs(ratio - 1), axis=1),
        "cov_error": _covariance_errors([sample.covariance for sample in each], exact),
        "members": np.array([len(sample.x) for sample in each]),
        "n_effective": n_effective,
    }
    costs = [_cost(result, iteration) for result in labelled.values()]
    for name, column in zip(("model_runs", "seconds"), zip(*costs, strict=True), strict=True):
        values[name] = np.array(column)
    return xr.Dataset(
        {
            name: (dims, values[name], {"long_name": long_name, "units": units})
            for name, (dims, long_name, units) in _LABELS.items()
        },
        coords={
            **_units(next(iter(labelled.values())), exact.names),
            "label": np.array(list(samples), dtype=object),
            "parameter": np.array(exact.names, dtype=object)
            if isinstance(exact.names[0], str)
            else exact.names,
        },
        attrs={
            "title": "comparison of posteriors with a reference",
            "reference": exact.text,
            "reference_n_effective": exact.n_effective,
            "covariance_normalisation": "1/(J-1)",
        },
    )


def compare_table(comparison: xr.Dataset, *, style: Style = "plain") -> str:
    """The comparison as a table with a line for every method.

    Errors of the mean are in standard deviations of the reference. *expected* is the root mean
    square error of independent exact draws, for the *effective* number of members.

    Parameters
    ----------
    comparison : xarray.Dataset
        A result of `compare`.
    style : {"plain", "markdown"}, default "plain"
        Aligned columns, or a table of Markdown.

    Returns
    -------
    str
        The table, without a final line break. Unknown numbers are shown as "-".

    Raises
    ------
    TypeError, ValueError
        If ``comparison`` is something else, or the style is unknown.

    See Also
    --------
    compare : The comparison as a Dataset.
    plot_comparison : The comparison as a plot.

    Examples
    --------
    >>> import ekitools as ek
    >>> example = ek.problems.linear(p=3, d=5)
    >>> result = ek.run(example.problem, ek.EKI(), n_members=400, rng=0)
    >>> table = ek.compare_table(ek.compare([result], example.reference))
    >>> [line.split()[0] for line in table.splitlines()]
    ['method', 'EKI']
    """
    check_comparison(comparison)
    style = one_of("style", style, _STYLES)
    header, rows = ("method", *_COLUMNS.values()), []
    for label in comparison.label.values:
        line = comparison.sel(label=label)
        rows.append((str(label), *(_text(name, float(line[name])) for name in _COLUMNS)))
    if style == "markdown":
        lines = [f"| {' | '.join(row)} |" for row in (header, *rows)]
        return "\n".join([lines[0], "|---|" + "---:|" * len(_COLUMNS), *lines[1:]])
    return "\n".join(table_lines(header, rows, rule=False))


def check_comparison(comparison: Any) -> None:
    """Check that it is a result of `compare`, or an average of such results."""
    needed = {*_COLUMNS, "mean_error", "sd_ratio"}
    if not (isinstance(comparison, xr.Dataset) and needed <= set(comparison.data_vars)):
        raise TypeError(
            "comparison: must be the Dataset that ek.compare returns, got "
            f"{type(comparison).__name__}."
        )


def _text(name: str, value: float) -> str:
    if not np.isfinite(value):
        return "-"
    if name in ("model_runs", "members", "n_effective"):
        return f"{value:,.0f}"
    if name == "seconds":
        return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"
    return f"{value:.3f}" if value < 100 else f"{value:.3g}"


def _members(label: str, result: xr.Dataset, iteration: int, exact: Reference) -> Sample:
    """The members of a result in standard deviations of the reference from its mean."""
    at = {name: i for i, name in enumerate(result.parameter.values.tolist())}
    missing = [name for name in exact.names if name not in at]
    if missing:
        raise ValueError(
            f"results[{label!r}]: must have the parameters that are compared, got none called "
            f"{listed(missing)}. Give a reference only for parameters that all results have."
        )
    try:
        index = stored_index(result, iteration)
    except ValueError as error:
        raise ValueError(f"results[{label!r}], {error}") from None
    u, weight = members_at(result, index).present()
    if len(u) < 2:
        raise ValueError(
            f"results[{label!r}]: must have at least two members left at iteration {iteration}, "
            f"got {len(u)}. Choose another iteration."
        )
    chosen = u[:, [at[name] for name in exact.names]].astype(np.float64)
    return as_sample((chosen - exact.mean) / exact.sd, weight)


def _units(result: xr.Dataset, names: list[Any]) -> dict[str, Any]:
    if "parameter_units" not in result.coords:
        return {}
    return {"parameter_units": ("parameter", result.parameter_units.sel(parameter=names).values)}


def _cost(result: xr.Dataset, iteration: int) -> tuple[float, float]:
    index = stored_index(result, iteration)
    if index < result.sizes["iteration"] - 1:
        runs = result.history_model_runs.sel(history=result.iteration[index]).item()
        return runs, np.nan
    return model_runs(result), result.attrs.get("seconds", np.nan)


def _distances(sample: Sample, exact: Reference) -> np.ndarray:
    if exact.marginals is None:
        return np.full(len(exact.names), np.nan)
    points, weight = exact.marginals
    columns = zip(sample.x.T, points.T, strict=True)
    return np.array([wasserstein_distance(a, b, sample.weight, weight) for a, b in columns])


def _covariance_errors(
    covariances: list[Callable[[slice], np.ndarray]], exact: Reference
) -> np.ndarray:
    if exact.covariance is None:
        return np.full(len(covariances), np.nan)
    off, size = np.zeros(len(covariances)), 0.0
    for start in range(0, len(exact.names), _BLOCK):
        rows = slice(start, start + _BLOCK)
        wanted = exact.covariance(rows)
        off += [np.sum((covariance(rows) - wanted) ** 2) for covariance in covariances]
        size += np.sum(wanted**2)
    return np.sqrt(off / size)
