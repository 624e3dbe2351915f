"""Plots that compare methods: with a reference, and by their errors."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ekitools.core.arrays import as_real
from ekitools.plots.style import (
    COLOURS,
    GREY,
    LINES,
    MARKERS,
    axes_for,
    drawable,
    label_ends,
    legend_above,
    logarithmic,
    shortened,
    whole_numbers,
)
from ekitools.results.alignment import aligned
from ekitools.results.comparison import check_comparison
from ekitools.results.diagnostics import diagnose
from ekitools.results.reading import is_flow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_comparison", "plot_error"]

_MOST_PARAMETERS = 12


def plot_error(results: Mapping[str, xr.Dataset], truth: Any, ax: Any = None) -> Axes:
    """Error of the ensemble mean, ‖ū − u†‖, of several methods.

    The error is drawn by iteration, or by pseudo-time t for results of `integrate`.

    Parameters
    ----------
    results : mapping of label to xarray.Dataset
        Results of `run` or of `integrate` for one problem. Parameters are matched by name.
    truth : (p,)
        u†, in physical coordinates and in the order of the first result.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError
        If there is no result, runs and flows are mixed, results have other parameters or other
        data, or ``truth`` has another size.

    See Also
    --------
    plot_comparison : Methods compared with a reference posterior.

    Examples
    --------
    >>> import ekitools as ek
    >>> example = ek.problems.linear(p=3)
    >>> plain = ek.EKI(ek.FixedStep(0.1), t_end=None, perturbed=False)
    >>> methods = {"EKI": plain, "EKI with momentum": ek.Nesterov(plain)}
    >>> results = {label: ek.run(example.problem, method, n_steps=20, rng=0)
    ...            for label, method in methods.items()}
    >>> ek.plot_error(results, example.truth).get_xlabel()
    'iteration'
    """
    truth = as_real("truth", truth)
    given: Any = results  # a Dataset is a mapping of its variables, too
    if isinstance(given, xr.Dataset) or not isinstance(given, Mapping):
        raise TypeError(
            "results: must be a mapping of labels to results of ek.run, got "
            f"{type(results).__name__}. Pass {{label: result}}."
        )
    found = aligned({f"results[{label!r}]": result for label, result in results.items()})
    results = dict(zip(results, found.values(), strict=True))
    flows = {label: is_flow(result) for label, result in results.items()}
    if len(set(flows.values())) != 1:
        raise ValueError(
            "results: must be results of ek.run alone or of ek.integrate alone, got "
            f"{flows or 'none'} (label: whether it is a flow). Draw them on Axes of their own."
        )
    for label, result in results.items():
        if truth.shape != (result.sizes["parameter"],):
            raise ValueError(
                f"truth: must have p = {result.sizes['parameter']} entries, as {label!r} has, got "
                f"shape {truth.shape}."
            )
    ax = axes_for(ax)
    continuous = all(flows.values())
    for (label, result), colour in zip(results.items(), cycle(LINES)):
        error = np.linalg.norm(diagnose(result)["mean"].values - truth, axis=1)
        x = result.t.values if continuous else result.iteration.values
        ax.plot(x, error, ".-", ms=4, lw=1.2, color=colour, label=_broken(label))
    long = continuous and max(float(result.t[-1]) for result in results.values()) >= 100
    logarithmic(ax, *("xy" if long else "y"))
    if not continuous:
        whole_numbers(ax)
    ax.set(
        xlabel="pseudo-time $t$" if continuous else "iteration",
        ylabel="error of the mean, $|\\bar{u} - u^\\dagger|$",
        title="Error of the ensemble mean",
    )
    label_ends(ax)
    return ax


def plot_comparison(comparison: xr.Dataset, ax: Any = None) -> Axes:
    """Means and spreads of methods beside the reference, or their errors and costs.

    For up to 12 parameters the plot shows the mean and the standard deviation of each parameter and
    method, standardised by the mean and the standard deviation of the reference. For more
    parameters it shows the root mean square error of the mean against the number of model runs.
    Grey bars are the error that the same number of independent exact draws would have.

    Parameters
    ----------
    comparison : xarray.Dataset
        A result of `compare`.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib Axes

    See Also
    --------
    compare_table : The same as a table.
    plot_diagnostic : Any other number of a comparison.

    Examples
    --------
    >>> import ekitools as ek
    >>> example = ek.problems.linear(p=3, d=5)
    >>> result = ek.run(example.problem, ek.EKI(), n_members=50, rng=0)
    >>> ax = ek.plot_comparison(ek.compare({"EKI": result}, example.reference))
    >>> [label.get_text() for label in ax.get_xticklabels()]
    ['u0', 'u1', 'u2']
    """
    check_comparison(comparison)
    ax = axes_for(ax)
    if comparison.sizes["parameter"] <= _MOST_PARAMETERS:
        _by_parameter(comparison, ax)
    else:
        _by_cost(comparison, ax)
    legend_above(ax)
    return ax


def _by_parameter(comparison: xr.Dataset, ax: Any) -> None:
    p, n = comparison.sizes["parameter"], comparison.sizes["label"]
    ax.axhspan(-1, 1, color=GREY, alpha=0.2, lw=0, label="reference, mean ± sd")
    ax.axhline(0, color=GREY, lw=1)
    for i, label in enumerate(comparison.label.values):
        line = comparison.isel(label=i)
        ax.errorbar(
            np.arange(p) + 0.7 * ((i + 0.5) / n - 0.5),
            line.mean_error.values,
            yerr=line.sd_ratio.values,
            fmt=MARKERS[i % len(MARKERS)],
            ms=5,
            color=COLOURS[i % len(COLOURS)],
            label=drawable(label),
        )
    names = shortened(comparison.parameter.values, 24)
    turned = {"rotation": 30, "ha": "right"} if sum(map(len, names)) > 60 else {}
    ax.set_xticks(np.arange(p), names, **turned)
    ax.set_xlim(-0.5, p - 0.5)
    ax.set(
        xlabel="parameter",
        ylabel="(mean ± sd − reference mean)\n/ reference sd",
        title="Comparison with the reference",
    )


def _by_cost(comparison: xr.Dataset, ax: Any) -> None:
    runs = comparison.model_runs.values
    for i, label in enumerate(comparison.label.values):
        ax.plot(
            runs[i],
            comparison.mean_error_rms.values[i],
            MARKERS[i % len(MARKERS)],
            ms=7,
            color=COLOURS[i % len(COLOURS)],
            label=drawable(label),
        )
    exact = comparison.mean_error_expected.values
    ax.vlines(runs, comparison.mean_error_rms.values, exact, color=GREY, lw=1, ls=":", zorder=0)
    ax.plot(
        runs,
        exact,
        "_",
        ms=16,
        mew=2,
        color=GREY,
        zorder=1,
        label="as many exact draws",
    )
    ax.margins(0.12)
    logarithmic(ax, "x", "y")
    ax.set(
        xlabel="model runs",
        ylabel="rms error of the mean\n[reference sd]",
        title="Error and cost",
    )


def _broken(label: Any) -> str:
    """A label in short lines, except for one that has a formula."""
    text = drawable(label)
    return text if "$" in text else fill(text, 22)
