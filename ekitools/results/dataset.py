"""Labelled Dataset of a history. Only this module gives arrays their labels."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ekitools._version import __version__
from ekitools.losses.formed import FormedNoise
from ekitools.models.extras import Labels
from ekitools.observed.together import Together
from ekitools.problem import InverseProblem
from ekitools.results.draws import variables_of_draws
from ekitools.results.history import History, Record, Summary
from ekitools.results.weights import shift_variables
from ekitools.typing import (
    Drawn,
    Flow,
    LearnsPrior,
    Method,
    Quadrature,
    Redraws,
    Relinearizes,
    SamplingFlow,
    ScaledNoise,
    Status,
    is_sampler,
)

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["RESERVED", "to_dataset", "traits"]


_LONG_NAMES = {
    "u": "parameters, in physical coordinates",
    "g": "model outputs G(u)",
    "misfit": "half the squared distance to the data in noise standard deviations, or the loss",
    "failed": "whether the model failed for this member at this iteration",
    "t": "pseudo-time, the sum of the steps",
    "step": "step h of the update that leaves this ensemble",
    "y": "observed data",
    "noise_sd": "marginal standard deviation of the noise; NaN for a loss",
    "history_t": "pseudo-time, the sum of the steps",
    "history_step": "step h of the update that leaves this ensemble",
    "history_misfit": "mean misfit of the ensemble",
    "history_spread": "root of the total ensemble variance, relative to the initial one",
    "history_model_runs": "model runs so far",
    "history_objective": "mean of what the method minimises",
    "u_average": "exponential average over the steps of the mean of the parameters",
    "weight": "weight of the member, normalised",
    "missing": "number of members whose missing output was filled",
    "seen": "whether the model was run for this observation at this iteration",
    "draws": "draws from the Gaussian of the nodes, in physical coordinates",
    "draws_misfit": "misfit of the draws under the linear map through the outputs of the nodes",
    "draws_score": "draws in coordinates in which the Gaussian is N(0, I)",
    "node": "nodes in coordinates in which the Gaussian is N(0, I)",
    "gaussian_mean": "mean of the last Gaussian, in coordinates in which the prior is N(0, I)",
    "posterior_shift": "mean of the posterior minus mean of the last ensemble, in standard "
    "deviations, to first order",
    "posterior_shift_error": "standard error of posterior_shift",
    "posterior_sd_ratio": "standard deviation of the posterior over that of the last ensemble, to "
    "first order",
    "gaussian_root": "root L of the covariance L L^T of the last Gaussian",
}

RESERVED = frozenset(_LONG_NAMES).union(
    ("iteration", "member", "parameter", "data", "history", "chain", "draw"),
    ("data_units", "parameter_units", "block", "position"),
    ("observation", "data_observation"),
    ("direction", "score"),
)
"""Reserved names, which a side product cannot have."""


def to_dataset(
    history: History,
    problem: InverseProblem,
    status: Status,
    attributes: Mapping[str, Any],
    drawn: Drawn | None = None,
) -> xr.Dataset:
    """Labelled Dataset of a history, with the variables that `ekitools.run` describes.

    ``drawn`` is the Gaussian of the last record if the members are nodes.
    """
    import xarray as xr

    records, summaries = history.records, history.summaries
    series = problem.layout if isinstance(problem.layout, Together) else None
    if series is not None:
        records = [_of_all_data(record, series) for record in history.records]
    noise_sd, scales = _noise_sd(problem, records[-1])
    attributes = {
        "status": status.sentence,
        "status_code": status.code,
        "status_level": status.level,
        "posterior": int(status.posterior),
        **_of_noise(problem),
        **({"stochastic": 1} if problem.info.stochastic else {}),
        **({"unknown_noise": scales} if scales else {}),
        "model_runs": history.model_runs,
        "failures": history.failures,
        **attributes,
    }

    def stacked(name: str) -> np.ndarray:
        rows = [np.asarray(getattr(record, name)) for record in records]
        if len({len(row) for row in rows if row.ndim}) > 1:  # the ensemble has grown
            rows = [_padded(row, n_members) for row in rows]
        return rows[0][None] if len(rows) == 1 else np.stack(rows)

    n_members = max(len(record.u) for record in records)
    per_member = ("iteration", "member")
    variables: dict[str, Any] = {
        "u": ((*per_member, "parameter"), stacked("u")),
        "g": ((*per_member, "data"), stacked("g")),
        "misfit": (per_member, stacked("misfit")),
        "failed": (per_member, stacked("failed")),
        "t": ("iteration", stacked("t")),
        "step": ("iteration", stacked("step")),
        "y": ("data", problem.data),
        "noise_sd": ("data", noise_sd),
    }
    if records[0].weight.size:
        nothing = np.full(records[0].weight.shape, np.nan)  # for an iteration that failed
        weights = [record.weight if record.weight.size else nothing for record in records]
        variables["weight"] = (per_member, np.stack(weights))
    if any(record.average.size for record in records):
        unknown = np.full(records[0].u.shape[1], np.nan)
        averages = [record.average if record.average.size else unknown for record in records]
        variables["u_average"] = (("iteration", "parameter"), np.stack(averages))
    variables |= _by_parameter(records)
    labels: dict[str, Any] = {}
    sizes: dict[str, int] = {"iteration": -1, "member": -1, "parameter": -1, "data": -1}
    for name in dict.fromkeys(name for record in records for name in record.extras):
        values = _stacked_extras(name, records, n_members)
        dims, coordinates = _labelled(name, history.labels[name], values.shape[2:], sizes, labels)
        variables[name] = ((*per_member, *dims), values)
        sizes |= dict(zip(dims, values.shape[2:], strict=True))
        labels |= coordinates
    if any(record.missing.size for record in records):
        none = np.zeros(problem.n_data, dtype=np.int64)
        counts = [record.missing if record.missing.size else none for record in records]
        variables["missing"] = (("iteration", "data"), np.stack(counts))
    if series is not None:
        seen = [np.isin(np.arange(len(series.sizes)), r.observations) for r in records]
        variables["seen"] = (("iteration", "observation"), np.stack(seen))
        labels["observation"] = ("observation", _names(series.observations))
    if drawn is not None:
        variables |= variables_of_draws(drawn, records, problem)
    if status.posterior and attributes.get("prior") != "learned":
        variables |= shift_variables(records[-1], problem, drawn)
    for name in Summary._fields[:-1]:
        values = np.array([getattr(summary, name) for summary in summaries])
        variables[f"history_{name}"] = ("history", values)
    minimised, misfit = (variables[f"history_{name}"][1] for name in ("objective", "misfit"))
    if np.array_equal(minimised, misfit, equal_nan=True):
        del variables["history_objective"]
    reported = summaries[0].extra
    for name in reported:
        values = np.array([s.extra[name].value if name in s.extra else np.nan for s in summaries])
        long_name = {"long_name": reported[name].long_name}
        variables[f"history_{name}"] = ("history", values, long_name)
    curves = {name: each.curve for s in summaries for name, each in s.extra.items() if each.curve}
    for name, curve in curves.items():
        score = [score for _, score in curve]
        variables[f"{name}_score"] = (f"{name}_tried", score, {"long_name": f"score of a {name}"})
    coords: dict[str, Any] = {
        "iteration": [record.iteration for record in records],
        "member": np.arange(n_members),
        "parameter": _names(problem.parameter_names),
        "data": _names(problem.data_names),
        "history": np.arange(len(summaries)),
        **{f"{name}_tried": [value for value, _ in curve] for name, curve in curves.items()},
    }
    for dim in ("parameter", "data"):
        units = getattr(problem.info, f"{dim}_units")
        if units is not None and any(units):
            coords[f"{dim}_units"] = (dim, _names(units))
    coords |= labels
    if problem.layout is not None:
        taken = {*variables, *coords, *sizes, "chain", "draw"}
        for name, values in problem.layout.coordinates().items():
            coords[f"{name}_" if name in taken else name] = ("data", values)
        attributes = {**attributes, "gaps": problem.layout.n_gaps}
    dataset = xr.Dataset(variables, coords=coords)
    for name, text in _LONG_NAMES.items():
        if name in dataset:
            dataset[name].attrs["long_name"] = text
    if "history_log_evidence" in dataset:
        evidence = float(dataset.history_log_evidence[-1]) + history.log_share_that_ran()
        attributes = {**attributes, "log_evidence": evidence}
    dataset.attrs = {
        "title": "ensemble Kalman inversion",
        "problem": problem.fingerprint(),
        "versions": _versions(),
        **attributes,
    }
    for name, value in dataset.attrs.items():  # netCDF takes neither None nor dictionaries
        if not isinstance(value, str | int | float):
            dataset.attrs[name] = json.dumps(value)
    return dataset


def _of_noise(problem: InverseProblem) -> dict[str, str]:
    """Attributes that name the kind of noise, or the loss."""
    noise = problem.noise
    if not problem.has_noise:
        return {"noise": "loss", "loss": type(noise).__name__}
    if isinstance(noise, ScaledNoise):
        return {"noise": "scaled"}
    diagonal = isinstance(noise, FormedNoise) and noise.scale is not None
    return {"noise": "independent" if diagonal else "correlated"}


def _of_all_data(record: Record, series: Together) -> Record:
    """Record with outputs for all data; NaN for data that the step did not use."""
    columns, d = series.columns(record.observations), series.n_data
    g = np.full((len(record.g), d), np.nan, dtype=record.g.dtype)
    g[:, columns] = record.g
    missing = record.missing
    if missing.size:
        missing = np.zeros(d, dtype=np.int64)
        missing[columns] = record.missing
    return record._replace(g=g, missing=missing)


def _noise_sd(problem: InverseProblem, last: Record) -> tuple[np.ndarray, dict[str, float]]:
    """Standard deviations of the noise, and the estimates of unknown scales by name.

    An estimate is the root mean square of the scale over the last members. Noise with these scales
    has the noise variance of the posterior predictive.
    """
    noise = problem.noise
    if not isinstance(noise, ScaledNoise):
        return problem.noise_sd, {}
    found = last.u[:, -noise.n_scales :].astype(np.float64)
    known = np.isfinite(found).all(axis=1)
    weight = last.weight[known] if last.weight.size else None
    if not known.any() or (weight is not None and not weight.sum() > 0):
        return problem.noise_sd, {}
    scales = np.sqrt(np.average(found[known] ** 2, axis=0, weights=weight))
    names = (problem.parameter_names or ())[-noise.n_scales :]
    return noise.sd_at(scales), dict(zip(names, scales.tolist(), strict=True))


def traits(algorithm: Method | Flow) -> dict[str, str]:
    """Attributes with the properties that a method or a flow declares for its ensemble."""
    if isinstance(algorithm, Method):
        aim: str = algorithm.aim
    else:
        aim = "posterior" if isinstance(algorithm, SamplingFlow) else "fit"
    learned = isinstance(algorithm, LearnsPrior) and algorithm.learns_prior
    over = algorithm.linear_over if isinstance(algorithm, Relinearizes) else "ensembles"
    members = "moved"
    if is_sampler(algorithm):
        members = "kept"
    elif isinstance(algorithm, Quadrature):
        members = "nodes"
    elif isinstance(algorithm, Redraws):
        members = "redrawn"
    return {
        "aim": aim,
        "linear_over": over,
        "members": members,
        **({"prior": "learned"} if learned else {}),
    }


def _labelled(
    name: str,
    labels: Labels,
    shape: tuple[int, ...],
    sizes: Mapping[str, int],
    taken: Mapping[str, Any],
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Dimensions of a side product, and its coordinates by name.

    A dimension is prefixed with the name of the side product if its own name is reserved, or used
    for another size or other labels.
    """
    found = {dim: (dim, _names(values)) for dim, values in labels.coordinates().items()}

    def clashes(dim: str, size: int) -> bool:
        theirs, ours = taken.get(dim), found.get(dim)
        same = theirs is ours or (theirs and ours and np.array_equal(theirs[1], ours[1]))
        return dim in RESERVED or sizes.get(dim, size) != size or (dim in sizes and not same)

    plain = labels.dims or tuple(f"{name}_{i}" for i in range(len(shape)))
    named = {d: f"{name}_{d}" if clashes(d, n) else d for d, n in zip(plain, shape, strict=True)}
    coordinates = {named[dim]: (named[dim], values) for dim, (_, values) in found.items()}
    return tuple(named.values()), coordinates


def _stacked_extras(name: str, records: Sequence[Record], n_members: int) -> np.ndarray:
    """Side product at all stored iterations; NaN at iterations without it."""
    known = [record.extras[name] for record in records if name in record.extras]
    nothing = np.full((n_members, *known[0].shape[1:]), np.nan)
    rows = [_padded(record.extras.get(name, nothing), n_members) for record in records]
    return np.stack(rows)


def _by_parameter(records: Sequence[Record]) -> dict[str, Any]:
    """Values that the method reports for every parameter; NaN at iterations without a report."""
    found = {}
    for name in dict.fromkeys(name for record in records for name in record.by_parameter):
        known = [record.by_parameter[name] for record in records if name in record.by_parameter]
        nothing = np.full(known[0].values.shape, np.nan)
        each = [r.by_parameter[name].values if name in r.by_parameter else nothing for r in records]
        long_name = {"long_name": known[0].long_name}
        found[f"parameter_{name}"] = (("iteration", "parameter"), np.stack(each), long_name)
    return found


def _padded(rows: np.ndarray, n: int) -> np.ndarray:
    """``rows`` extended to ``n`` rows with NaN, or with False."""
    shape = (n - len(rows), *rows.shape[1:])
    fill = False if rows.dtype == bool else np.nan
    return np.concatenate([rows, np.full(shape, fill, dtype=rows.dtype)])


def _names(names: Sequence[Any] | np.ndarray | None) -> np.ndarray:
    """Labels as an array; texts become objects, because zarr stores these without a fixed length.

    `ekitools.core.labels.checked_labels` gave all labels one kind when the problem was created.
    """
    if isinstance(names, tuple) and names and isinstance(names[0], str):
        return np.array(names, dtype=object)  # shares the texts, of which there can be millions
    array = np.asarray(names)
    return array.astype(object) if array.dtype.kind == "U" else array


def _versions() -> dict[str, str]:
    import scipy
    import xarray as xr

    return {
        "ekitools": __version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "xarray": xr.__version__,
        "python": platform.python_version(),
    }
