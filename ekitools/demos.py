"""Demonstrations that ``ekitools demo`` runs: a table, result files and figures."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

import ekitools as ek
from ekitools.core.arrays import as_rng
from ekitools.core.checks import flag, integer, one_of
from ekitools.core.terminal import line_width
from ekitools.problems import Example
from ekitools.results.tables import table_lines
from ekitools.typing import Method, Rng

if TYPE_CHECKING:
    import xarray as xr

    from ekitools.theory.rows import Report

__all__ = ["demo", "verification_figure"]


def verification_figure(path: str | Path, report: Report, *, rng: int = 0) -> None:
    """Draw the verified theorems, and the error on a linear problem with and without momentum.

    The lower panels repeat the comparison of Kovachki & Stuart (2019) [1]_.

    Parameters
    ----------
    path : str or Path
        File of the figure. Its extension sets the format.
    report : Report
        A result of `ekitools.theory.verify`.
    rng : int, default 0
        Seed of the ensembles.

    See Also
    --------
    ekitools.plot_theorems, ekitools.plot_error : The two parts of the figure.

    References
    ----------
    .. [1] Kovachki & Stuart (2019), Inverse Problems 35, 095005.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from ekitools.demos import verification_figure
    >>> from ekitools.theory.checks import verify
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     verification_figure(Path(folder) / "theory.png", verify())
    """
    import matplotlib.pyplot as plt

    from ekitools.plots.theorems import size_of
    from ekitools.theory.theorems import momentum_flows, momentum_runs

    rng = integer("rng", rng, least=0)
    width, height = size_of(report)
    figure = plt.figure(figsize=(max(width, 6.4), height + 3.4), layout="constrained")
    above, below = figure.subfigures(
        2, height_ratios=(height, 3.4)
    )  # each part has its own margins
    ek.plot_theorems(report, above.subplots())
    for ax, made, title in zip(
        below.subplots(1, 2),
        (momentum_runs, momentum_flows),
        ("Discrete, steps h = 10", "Continuous"),
        strict=True,
    ):
        results, truth = made(rng)
        ek.plot_error(dict(zip(("EKI", "EKI with momentum"), results, strict=True)), truth, ax)
        ax.set_title(title, fontsize="medium")
    below.suptitle("Linear problem, condition 50")
    figure.savefig(path, dpi=150)
    plt.close(figure)


Demo: TypeAlias = Literal["lynx-hare", "darcy", "deconvolution"]


def demo(
    name: Demo = "lynx-hare",
    *,
    n_members: int = 200,
    rng: Rng = 0,
    out: str | Path = ".",
    progress: bool = False,
    show: Callable[[str], Any] = print,
) -> dict[str, xr.Dataset]:
    """Calibrate a shipped problem, print a table, and write results and figures.

    Parameters
    ----------
    name : {"lynx-hare", "darcy", "deconvolution"}
        The problem.
    n_members : int, default 200
        Ensemble size J.
    rng : None, int or numpy.random.Generator
        Source of randomness.
    out : str or Path
        Folder for ``result.nc`` and the figures.
    progress : bool, default False
        Whether to show progress bars.
    show : callable, default print
        Receives each line of the report.

    Returns
    -------
    dict of str to xarray.Dataset
        Results by method.

    See Also
    --------
    ekitools.problems : The shipped problems.
    ekitools.report : Page with tables and figures of a result.

    Examples
    --------
    >>> import tempfile
    >>> from ekitools.demos import demo
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     results = demo("deconvolution", n_members=50, out=folder, show=lambda line: None)
    >>> results["EKI"].attrs["status_code"]
    'posterior_reached'
    """
    name, n_members = one_of("name", name, _REPORTS), integer("n_members", n_members, least=2)
    rng, progress, out = as_rng(rng), flag("progress", progress), Path(out)
    out.mkdir(parents=True, exist_ok=True)
    example: Example = getattr(ek.problems, name.replace("-", "_"))()
    problem = example.problem
    show(
        f"{name}: {problem.n_parameters} parameters, {problem.n_data} data, "
        f"{n_members} members; y = G(u) + noise, u from the prior."
    )
    # EKI is the baseline for all problems; GNKI refines it for nonlinear models
    methods: dict[str, Method] = {"EKI": ek.EKI()}
    if name != "deconvolution":
        methods["GNKI"] = ek.GNKI()
    results = {}
    for label, method in methods.items():
        start = time.perf_counter()
        results[label] = ek.run(problem, method, n_members=n_members, rng=rng, progress=progress)
        attrs = results[label].attrs
        seconds = time.perf_counter() - start
        show(f"{label}: {attrs['model_runs']} model runs, {seconds:.1f} s. {attrs['status']}")
    show("")
    for line in _REPORTS[name](example, results):
        show(line)
    show("")
    best = results[list(methods)[-1]]
    written = [out / "result.nc"]
    best.to_netcdf(written[0])
    if len(results) > 1:
        written.append(out / "result-eki.nc")
        results["EKI"].to_netcdf(written[1])
    written += _pictures(name, example, best, out)
    show(f"Wrote {', '.join(map(str, written))}.")
    return results


def _pair(mean: float, sd: float) -> str:
    return f"{mean:.4g} ± {sd:.2g}"


def _moments(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    u = u[np.isfinite(u).all(axis=1)]
    return u.mean(axis=0), u.std(axis=0, ddof=1)


def _lynx_hare(example: Example, results: dict[str, xr.Dataset]) -> list[str]:
    """Table of every parameter: prior, each method with its error, and reference posterior."""
    names = example.problem.parameter_names or ()
    prior = example.problem.prior.marginals  # type: ignore[attr-defined]  # a Prior
    reference = np.array([example.reference[n] for n in names]) if example.reference else None
    assert reference is not None
    moments = {k: _moments(result.u.isel(iteration=-1).values) for k, result in results.items()}
    off = {k: (mean - reference[:, 0]) / reference[:, 1] for k, (mean, _) in moments.items()}
    header = ["parameter", "prior"]
    for label in results:
        header += [label, "off by"]
    rows = []
    for i, name in enumerate(names):
        row = [name, _pair(prior[name].mean(), prior[name].std())]
        for label, (mean, sd) in moments.items():
            row += [_pair(mean[i], sd[i]), f"{off[label][i]:+.2f} sd"]
        rows.append([*row, _pair(*reference[i])])
    lines = table_lines([*header, "reference"], rows, width=line_width())
    runs = ", ".join(f"{k} {result.attrs['model_runs']}" for k, result in results.items())
    return [
        *lines,
        f"Model runs: {runs}. 'off by': mean minus reference mean, in standard deviations of the",
        "reference. EKI estimates the slope of a strongly nonlinear model over a broad prior, so",
        "it is biased, by up to several standard deviations with other seeds. GNKI refines the",
        "ensemble near the posterior. (benchmarks/lynx_hare_study.py compares many seeds.)",
    ]


def _deconvolution(example: Example, results: dict[str, xr.Dataset]) -> list[str]:
    """Table of every tenth parameter with the exact posterior, and the errors of all."""
    exact_mean, exact_sd = example.extra["mean"], np.sqrt(np.diag(example.extra["cov"]))
    result = results["EKI"]
    first, last = (_moments(result.u.isel(iteration=i).values) for i in (0, -1))
    names = example.problem.parameter_names or ()
    rows = [
        [
            names[i],
            _pair(first[0][i], first[1][i]),
            _pair(last[0][i], last[1][i]),
            _pair(exact_mean[i], exact_sd[i]),
            f"{example.truth[i]:.3f}" if example.truth is not None else "",
        ]
        for i in range(5, len(names), 10)
    ]
    error = np.linalg.norm(last[0] - exact_mean) / np.linalg.norm(exact_mean)
    header = ["parameter", "prior", "EKI", "exact posterior", "truth"]
    return [
        *table_lines(header, rows, width=line_width()),
        f"{len(rows)} of {len(names)} parameters shown.",
        f"All {len(names)} parameters: relative error of the mean {error:.3f}, ratio of the",
        f"standard deviations {np.mean(last[1] / exact_sd):.3f}. Many members give 0 and 1.",
    ]


def _darcy(example: Example, results: dict[str, xr.Dataset]) -> list[str]:
    """Table of the first modes with the truth, and the errors of the fields."""
    field = example.extra["field"]
    truth, modes = _coarse(example), _modes(example)
    ensembles = {k: result.u.isel(iteration=-1).values for k, result in results.items()}
    rows = [
        [
            field.names[i],
            "0 ± 1",
            *(_pair(*(float(m[i]) for m in _moments(u))) for u in ensembles.values()),
            f"{modes[i]:.3f}",
        ]
        for i in range(8)
    ]
    header = ["parameter", "prior", *results, "truth"]
    lines = table_lines(header, rows, width=line_width())
    lines.append(f"{len(rows)} of {modes.size} parameters shown.")
    for label, u in ensembles.items():
        members = field.field(u[np.isfinite(u).all(axis=1)])
        mean, sd = members.mean(axis=0), members.std(axis=0, ddof=1)
        error = np.linalg.norm(mean - truth) / np.linalg.norm(truth)
        inside = np.mean(np.abs(mean - truth) < 2 * sd)
        lines.append(
            f"{label}: relative error of the mean log-permeability {error:.3f} (prior: 1); "
            f"the truth is within two standard deviations in {100 * inside:.0f} % of the cells."
        )
    return lines


_REPORTS: dict[Demo, Callable[[Example, dict[str, Any]], list[str]]] = {
    "lynx-hare": _lynx_hare,
    "darcy": _darcy,
    "deconvolution": _deconvolution,
}


def _pictures(name: Demo, example: Example, result: xr.Dataset, out: Path) -> list[Path]:
    """Write figures of predictions, densities, convergence, and the signal or field, if any."""
    from ekitools.plots.style import detached

    paths = []

    def save(fig: Any, stem: str) -> None:
        path = out / f"{name}-{stem}.png"
        fig.savefig(path, dpi=150)
        paths.append(path)

    labels = {
        "lynx-hare": {"xlabel": "year", "ylabel": "log of pelts (thousands)"},
        "darcy": {"xlabel": "well number", "ylabel": "pressure"},
        "deconvolution": {"xlabel": "x", "ylabel": "blurred signal"},
    }
    x = None if name == "darcy" else example.x  # well numbers are not coordinates
    fig, ax = detached(figsize=(6.4, 3.8))
    ek.plot_predictive(result, ax, x=x, groups=example.groups).set(**labels[name])
    save(fig, "predictive")
    fig, axes = detached(2, 3, figsize=(6.8, 4.2))
    truth: Any = None
    reference: Any = example.reference
    if name == "darcy":
        truth = dict(zip(example.extra["field"].names, _modes(example).tolist(), strict=True))
    if name == "deconvolution":
        truth, reference = example.truth, (example.extra["mean"], example.extra["cov"])
    ek.plot_ensemble(
        result, axes.ravel(), problem=example.problem, reference=reference, truth=truth
    )
    save(fig, "ensemble")
    fig, axes = detached(2, 1, figsize=(6.4, 5.6))
    ek.plot_misfit(result, ax=axes[0])
    ek.plot_collapse(result, ax=axes[1])
    save(fig, "convergence")
    if name == "deconvolution":
        fig, ax = detached(figsize=(6.4, 3.8))
        _signal(ax, example, result)
        save(fig, "signal")
    if name == "darcy":
        fig, axes = detached(1, 3, figsize=(7.6, 2.7))
        _fields(axes, example, result)
        save(fig, "field")
    return paths


def _coarse(example: Example) -> np.ndarray:
    """True field on the grid of the model."""
    shape = example.extra["field"].shape
    assert example.truth is not None
    return np.asarray(example.truth.reshape(shape[0], 2, shape[1], 2).mean(axis=(1, 3)))


def _modes(example: Example) -> np.ndarray:
    """Coefficients of the true field."""
    return np.asarray(example.extra["field"].coefficients(_coarse(example)))


def _signal(ax: Any, example: Example, result: xr.Dataset) -> None:
    from ekitools.plots.style import BLUE, RED, legend_above

    grid, exact = example.extra["grid"], example.extra["mean"]
    sd = np.sqrt(np.diag(example.extra["cov"]))
    mean, spread = _moments(result.u.isel(iteration=-1).values)
    ax.fill_between(grid, mean - 2 * spread, mean + 2 * spread, color=BLUE, alpha=0.25, lw=0)
    ax.plot(grid, mean, color=BLUE, label="EKI, mean ± 2 sd")
    ax.plot(grid, exact, "--", color="black", lw=1, label="exact posterior, mean ± 2 sd")
    ax.plot(grid, exact - 2 * sd, ":", color="black", lw=1)
    ax.plot(grid, exact + 2 * sd, ":", color="black", lw=1)
    ax.plot(grid, example.truth, color=RED, lw=1, label="truth")
    ax.set(xlabel="x", ylabel="signal u(x)", title="Signal and posterior")
    legend_above(ax)


def _fields(axes: Any, example: Example, result: xr.Dataset) -> None:
    field, wells = example.extra["field"], example.extra["wells"]
    u = result.u.isel(iteration=-1).values
    members = field.field(u[np.isfinite(u).all(axis=1)])
    limit = float(np.max(np.abs(example.truth))) if example.truth is not None else 1.0
    signed = {"cmap": "PuOr", "vmin": -limit, "vmax": limit}
    fields = (
        ("truth", example.truth, signed),
        ("posterior mean", members.mean(axis=0), signed),
        ("posterior sd", members.std(axis=0, ddof=1), {"cmap": "viridis", "vmin": 0}),
    )
    for ax, (title, values, scale) in zip(axes, fields, strict=True):
        image = ax.imshow(np.asarray(values).T, origin="lower", extent=(0, 1, 0, 1), **scale)
        ax.plot(*wells.T, ".", color="black", ms=2)
        ax.set(title=title, xlabel="x", xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        if title != "truth":  # the truth shares the colour bar of the posterior mean
            what = "sd of log-permeability" if title.endswith("sd") else "log-permeability"
            ax.figure.colorbar(image, ax=ax, shrink=0.75, label=f"{what} [1]")
    axes[0].set_ylabel("y")
