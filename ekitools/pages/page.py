"""The report of a result: one HTML page that needs no other file."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ekitools._public import lookup
from ekitools._version import __version__
from ekitools.core.checks import as_path
from ekitools.core.markup import figure, folded, page, paragraph, table
from ekitools.pages.correlations import correlation_table, most_reduced
from ekitools.pages.summary import ResultSummary, called, duration, head, summary
from ekitools.plots.convergence import plot_misfit
from ekitools.plots.diagnostic import plot_diagnostic
from ekitools.plots.pairs import plot_pairs
from ekitools.plots.posterior import plot_marginals
from ekitools.plots.predictive import plot_predictive
from ekitools.plots.style import as_svg, detached
from ekitools.results.marginals import start_of
from ekitools.results.reading import attribute, has_noise, last_evaluated, method_of, model_runs

if TYPE_CHECKING:
    from ekitools.problem import InverseProblem

__all__ = ["CITATION", "report"]

CITATION = {
    "author": "The ekitools developers",
    "title": "ekitools: ensemble Kalman inversion in Python",
    "year": "2026",
}
"""The same as in CITATION.cff, which an installed package does not contain."""

_MOST_FAILURES = 30
_MOST_BLOCKS = 8
_MOST_DATA = 400
_MOST_PAIRED = 6
_NUMBER = re.compile(r"-?\b\d+(?:\.\d*)?(?:[eE][-+]?\d+)?")
"""Numbers in reasons, which differ between members: reasons are counted without them."""


def report(
    result: xr.Dataset,
    path: str | Path,
    problem: InverseProblem | None = None,
    *,
    title: str | None = None,
) -> Path:
    """Write a result as one HTML page: the verdict, the checks, tables, figures and versions.

    The page needs no network and no scripts, and contains its figures. It shows the verdict of
    `check_posterior` if there is one, the `summary`, the marginals of the parameters at the start
    and at the end, misfit and spread by iteration, predictions beside the data, pairs and
    correlations of parameters, failures with their reasons, and references. Options, times and
    versions are folded. If there are many parameters, the page shows those whose standard
    deviation was reduced most. If there are many data, it shows some of them, evenly chosen.

    Parameters
    ----------
    result : xarray.Dataset
        A result of `run`, `integrate` or `solve`, or one that was read from a file.
    path : str or Path
        The file. A missing folder is created.
    problem : InverseProblem, optional
        The problem of the result. Draws of its prior replace the first ensemble if the result does
        not hold it.
    title : str, optional
        The heading of the page; by default the names of the method and of the model.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    TypeError, ValueError
        If ``result`` is not a result, ``problem`` belongs to another one, or ``title`` is not a
        text.

    See Also
    --------
    summary : The same text in a notebook or a terminal.

    Notes
    -----
    With the same versions, the same result gives the same page, byte by byte.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import ekitools as ek
    >>> result = ek.run(ek.problems.linear(p=3).problem, ek.EKI(), n_members=50, rng=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = ek.report(result, Path(folder) / "report.html").read_text("utf-8")
    >>> page.count("<figure>")
    5
    """
    path = as_path("path", path, "a file")
    heading = _heading(title)
    summed = summary(result, problem)
    if heading:
        summed = dataclasses.replace(summed, title=heading)
    sections = {
        "parameters": ("Parameters", _parameters(result, problem, summed)),
        "convergence": ("Convergence", _convergence(result)),
        "data": ("Data and predictions", _data(result)),
        "pairs": ("Pairs of parameters", _pairs(result, problem, summed)),
        "failures": ("Failed members", _failures(result)),
        "run": ("Options, times and versions", _run(result)),
        "cite": ("How to cite", _cite(result)),
    }
    links = "".join(f'<li><a href="#{key}">{name}</a></li>' for key, (name, _) in sections.items())
    body = "\n".join(
        f'<section id="{key}"><h2>{name}</h2>\n{content}\n</section>'
        for key, (name, content) in sections.items()
    )
    text = page(
        heading or f"{summed.title}: report",
        f'<header>{head(summed, level=1)}</header>\n<nav aria-label="Sections"><ul>{links}</ul>'
        f"</nav>\n<main>{body}</main>",
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _heading(title: Any) -> str:
    """The user's title after a check, "" for none."""
    if title is None:
        return ""
    if isinstance(title, str) and title.strip():
        return title
    kind = ValueError if isinstance(title, str) else TypeError
    raise kind(
        f"title: must be a text for the heading, got {title!r}. Leave it out for the names of the "
        "method and of the model."
    )


def _parameters(result: xr.Dataset, problem: InverseProblem | None, summed: ResultSummary) -> str:
    names = summed.table.parameter.values.tolist()
    alts = [
        f"{name}: {cells[-1] if len(cells) > 4 else cells[3]}"
        for name, cells in zip(names, summed.rows(), strict=True)
    ]
    start = bool(summed.table.attrs["start"])
    what = "standard deviation left" if start else "90 % interval"
    return _drawn(
        lambda ax: plot_marginals(result, ax, parameters=names, problem=problem),
        (7.5, 1.8 + 0.34 * len(names)),
        alt=f"Intervals of {len(names)} parameters. Share of the {what}: " + "; ".join(alts),
        caption="Medians, 50 % and 90 % intervals at the "
        + ("start and at the end" if start else "end")
        + f", in standard deviations from the mean at the {'start' if start else 'end'}.",
    )


def _convergence(result: xr.Dataset) -> str:
    mean = result.history_misfit.values
    known = mean[np.isfinite(mean)]
    ends = f"from {known[0]:.4g} to {known[-1]:.4g}" if known.size else "not known"
    pictures = [
        _drawn(
            lambda ax: plot_misfit(result, ax),
            (5.0, 3.6),
            alt=f"Mean misfit by iteration, {ends}.",
            caption="Misfit, or loss, of the members.",
        )
    ]
    for name in ("spread", "ess", "acceptance"):
        series = result.get(f"history_{name}")
        if series is None or not np.isfinite(series.values).any():
            continue
        values = series.values[np.isfinite(series.values)]
        pictures.append(
            _drawn(
                lambda ax, name=name: plot_diagnostic(result, f"history_{name}", ax),  # type: ignore[misc]
                (5.0, 3.6),
                alt=f"{name} by iteration, from {values[0]:.4g} to {values[-1]:.4g}.",
                caption=str(series.attrs.get("long_name", name)).capitalize() + ".",
            )
        )
    return f'<div class="pair">{"".join(pictures)}</div>'


def _data(result: xr.Dataset) -> str:
    at = last_evaluated(result)
    if at < 0:
        return "<p>No stored ensemble was evaluated, so there are no predictions to show.</p>"
    d = result.sizes["data"]
    index = np.unique(np.linspace(0, d - 1, min(d, _MOST_DATA)).astype(int))
    ends = sorted({0, at})
    part = result.isel(data=index, iteration=ends)
    noisy = has_noise(result)
    if "position" in part.coords and index.size < d:  # data left out here are no gaps
        part = part.assign_coords(position=("data", np.arange(index.size)))
    blocks = list(dict.fromkeys(part.block.values.tolist())) if "block" in part.coords else []
    text = "" if noisy else (
        "<p>The problem has a loss in place of noise, so the bands show the outputs alone. "
        "Outputs on another scale than the data (such as logits and labels) cannot be compared "
        "with the data.</p>"
    )  # fmt: skip
    some = "" if index.size == d else f" {index.size} of {d} data, evenly chosen."
    iteration = int(result.iteration[at])
    caption = (
        f"predictions of iteration {iteration}"
        + (" with noise" if noisy else "")
        + f"{'; the faint band shows the first stored ensemble' * (at > 0)}.{some}"
    )
    alt = f"data and the predictions of iteration {iteration}: median, 50 % and 90 % bands."
    if not blocks:
        return text + _drawn(
            lambda ax: plot_predictive(part, ax),
            (7.5, 4.0),
            alt=f"{index.size} {alt}",
            caption=f"Data, and {caption}",
        )
    pictures = [
        _drawn(
            lambda ax, block=block: plot_predictive(part, ax, block=block),  # type: ignore[misc]
            (7.5, 3.4),
            alt=f"{block}: {alt}",
            caption=f"Data {block}, and {caption}",
        )
        for block in blocks[:_MOST_BLOCKS]
    ]
    left = len(blocks) - len(pictures)
    more = ""
    if left > 0:
        more = f"<p>{left} more blocks are not shown. Draw them with ek.plot_predictive.</p>"
    return text + "".join(pictures) + more


def _pairs(result: xr.Dataset, problem: InverseProblem | None, summed: ResultSummary) -> str:
    names = most_reduced(summed, _MOST_PAIRED).tolist()
    if len(names) < 2:
        return "<p>The problem has one parameter.</p>"
    size = (1.55 * len(names), 1.5 * len(names))
    drawing, axes = detached(len(names), len(names), figsize=size)
    plot_pairs(result, axes, parameters=names, problem=problem)
    listed, start = ", ".join(map(str, names)), start_of(result, problem)
    chosen = f"the {len(names)} parameters whose standard deviation was reduced most"
    if not start:
        chosen = f"the first {len(names)} parameters"
    behind = {"prior": ", over draws of the prior", "start": ", over the first ensemble"}
    drawn = figure(
        as_svg(drawing),
        size,
        alt=f"Scatter of the last ensemble for every pair of {listed}; densities on the diagonal.",
        caption="Members of the last ensemble" + behind.get(start, "")
        + (f"; {chosen}." if len(names) < result.sizes["parameter"] else "."),
    )  # fmt: skip
    return f"{drawn}\n{correlation_table(result, summed)}"


def _failures(result: xr.Dataset) -> str:
    failures = attribute(result, "failures", [])
    if not failures:
        return "<p>No model run failed.</p>"
    reasons = Counter(_NUMBER.sub("…", failure["reason"]) for failure in failures)
    shown = failures[:_MOST_FAILURES]
    return "\n".join(
        [
            table(
                [(count, reason) for reason, count in reasons.most_common(_MOST_FAILURES)],
                header=["Model runs", "Reason"],
                caption=f"Failed model runs by reason, {len(failures)} in total (without numbers)",
            ),
            folded(
                f"The first {len(shown)} of {len(failures)} failures",
                table(
                    [(f["iteration"], f["member"], f["reason"]) for f in shown],
                    header=["Iteration", "Member", "Reason"],
                    caption="Failed model runs in the order of the run",
                ),
            ),
        ]
    )


def _run(result: xr.Dataset) -> str:
    attrs, options = result.attrs, method_of(result)
    rows = [(name, called(value)) for name, value in options.items() if name != "type"]
    runs = model_runs(result)
    times = [("Model runs", f"{runs}")]
    if "seconds" in attrs:
        seconds = float(attrs["seconds"])
        times += [("Wall time, model runs included", duration(seconds))]
        times += [("Wall time per model run", f"{seconds / max(runs, 1):.3g} s")]
    times += [("Covariances", str(attrs.get("covariance_normalisation", "not recorded")))]
    if "seed" in attrs:
        times += [("Root of the random streams", str(attrs["seed"]))]
    parts = {
        f"Options of {options.get('type', 'the method')}": rows,
        "Model runs, times and randomness": times,
        "Fingerprints of the problem": attribute(result, "problem", {}).items(),
        "Versions of the packages": attribute(result, "versions", {}).items(),
    }
    return "\n".join(folded(name, table(part, caption=name)) for name, part in parts.items())


def _cite(result: xr.Dataset) -> str:
    version = attribute(result, "versions", {}).get("ekitools", __version__)
    author, title, year = CITATION["author"], CITATION["title"], CITATION["year"]
    entry = (
        f"@software{{ekitools,\n  author  = {{{{{author}}}}},\n  title   = {{{title}}},\n"
        f"  year    = {{{year}}},\n  version = {{{version}}}\n}}"
    )
    references = "".join(f"<li>{paragraph(text)}</li>" for text in _references(result))
    return "\n".join(
        [
            f"<p>{paragraph(f'{author} ({year}). {title}, version {version}.')}</p>",
            f"<pre><code>{paragraph(entry)}</code></pre>",
            f"<p>For the method:</p><ul>{references}</ul>" if references else "",
        ]
    )


def _references(result: xr.Dataset) -> list[str]:
    """References in the docstrings of the method and of the classes in its options."""
    found: dict[str, None] = {}
    for name in _types(method_of(result)):
        known = lookup(name)
        section = re.search(r"^References\n-+\n(.*?)(?=^\S[^\n]*\n---|\Z)",
                            inspect.getdoc(known) or "" if known else "", re.M | re.S)  # fmt: skip
        for text in re.split(r"^\.\. \[\d+\] ", section[1], flags=re.M)[1:] if section else []:
            found[" ".join(text.split())] = None
    return list(found)


def _types(options: Any) -> Iterator[str]:
    if isinstance(options, dict):
        yield options.get("type", "")
        for value in options.values():
            yield from _types(value)
    elif isinstance(options, list):
        for value in options:
            yield from _types(value)


def _drawn(draw: Callable[[Any], Any], size: tuple[float, float], *, alt: str, caption: str) -> str:
    drawing, ax = detached(figsize=size)
    draw(ax)
    return figure(as_svg(drawing), size, alt=alt, caption=caption)
