"""Alignment of results with each other and with a problem, by their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from ekitools.core.arrays import digest
from ekitools.problem import InverseProblem, check_problem
from ekitools.results.reading import attribute, check_result
from ekitools.results.reference import listed, method_names

__all__ = ["aligned", "as_chains", "by_label", "check_same_data", "check_same_names", "columns_of"]


def by_label(results: Any) -> dict[str, xr.Dataset]:
    """Results by label, from a mapping, a sequence or one result.

    The labels of a sequence are the names of the methods.
    """
    if isinstance(results, xr.Dataset):  # a Dataset is also a mapping
        results = [results]
    if isinstance(results, Mapping):
        labels, given = [str(label) for label in results], list(results.values())
    elif isinstance(results, Sequence) and not isinstance(results, str):
        given = list(results)
        for i, result in enumerate(given):
            check_result(result, f"results[{i}]")
        labels = list(method_names(given))
    else:
        raise TypeError(
            "results: must be a mapping of labels to results of ek.run, or a list of such results, "
            f"got {type(results).__name__}."
        )
    if not given:
        raise ValueError("results: must hold at least one result, got none.")
    for label, result in zip(labels, given, strict=True):
        check_result(result, f"results[{label!r}]")
    if len(set(labels)) < len(labels):
        raise ValueError(
            f"results: must have labels that differ as strings, got {labels}. Rename one of them."
        )
    return dict(zip(labels, given, strict=True))


def aligned(results: Mapping[str, xr.Dataset]) -> dict[str, xr.Dataset]:
    """Results of one problem, with their parameters in the order of the first result.

    Parameters
    ----------
    results : mapping of str to xarray.Dataset
        Results by their names in error messages, such as ``results['EKI']``.

    Returns
    -------
    dict of str to xarray.Dataset
        The same results under the same keys.

    Raises
    ------
    TypeError, ValueError
        If a value is not a result, or its parameters or data differ from those of the first.

    Examples
    --------
    >>> import ekitools as ek
    >>> from ekitools.results.alignment import aligned
    >>> problem = ek.problems.linear(p=2, d=3).problem
    >>> result = ek.run(problem, ek.EKI(), n_members=10, rng=0)
    >>> turned = result.isel(parameter=[1, 0])
    >>> aligned({"a": result, "b": turned})["b"].parameter.values.tolist()
    ['u0', 'u1']
    """
    for what, result in results.items():
        check_result(result, what)
    found: dict[str, xr.Dataset] = {}
    for what, result in results.items():
        first_name, first = next(iter(found.items()), (what, result))
        names = first.parameter.values.tolist()
        check_same_names(what, result, names, first_name)
        check_same_data(what, result, first_name, first)
        same_order = result.parameter.values.tolist() == names
        found[what] = result if same_order else result.sel(parameter=first.parameter.values)
    return found


def as_chains(results: Sequence[xr.Dataset], name: str = "result") -> list[xr.Dataset]:
    """Independent runs of one problem, with parameters and data in the order of the first run.

    Parameters
    ----------
    results : sequence of xarray.Dataset
        At least one result.
    name : str, default "result"
        Name of the argument in error messages.

    Returns
    -------
    list of xarray.Dataset

    Raises
    ------
    TypeError, ValueError
        If there is no result, or results differ in parameters, data, noise or prior.
    """
    if not results:
        raise ValueError(f"{name}: must be at least one result, got an empty sequence.")
    several = len(results) > 1
    given = {f"{name}[{i}]" if several else name: each for i, each in enumerate(results)}
    found = aligned(given)
    first_name, first = next(iter(found.items()))
    chains = []
    for (what, result), raw in zip(found.items(), given.values(), strict=True):
        part = _other_part(result, raw, first)
        if part:
            raise ValueError(
                f"{what}: must be a run of the same problem as {first_name}, got a run whose "
                f"{part} differs. Chains may differ only in rng. Use ek.compare for runs of "
                "different problems."
            )
        labels = first["data"].values
        same_order = result["data"].values.tolist() == labels.tolist()
        chains.append(result if same_order or _difference(result, first) else
                      result.sel(data=labels))  # fmt: skip
    return chains


def check_same_names(what: str, result: xr.Dataset, names: Sequence[Any], first: str) -> None:
    """Check that a result has the parameters ``names`` of ``first``, in any order."""
    theirs = result.parameter.values.tolist()
    here, there = set(theirs), set(names)
    missing = [name for name in names if name not in here]
    further = [name for name in theirs if name not in there]
    if missing or further:
        parts = [f"without {listed(missing)}"] if missing else []
        parts += [f"with additional {listed(further)}"] if further else []
        raise ValueError(
            f"{what}: must have the same parameters as {first}, got a result "
            f"{' and '.join(parts)}. Select the parameters that both have with "
            "result.sel(parameter=[...])."
        )


def check_same_data(what: str, result: xr.Dataset, first_name: str, first: xr.Dataset) -> None:
    """Check that two results have the same data, in any order.

    The result of a run with batches holds the batch of its last step, which differs between runs.
    Such a result is accepted beside a run with all data or with the same batches.
    """
    difference = _difference(result, first)
    if difference and not _batched(result, first):
        raise ValueError(
            f"{what}: must have the same data y as {first_name}, got {difference}. Use results of "
            "the same problem."
        )


def columns_of(problem: InverseProblem, result: xr.Dataset) -> np.ndarray:
    """Positions of the parameters of a result in a problem.

    Raises
    ------
    TypeError, ValueError
        If ``problem`` is not a problem, or its parameters are not those of the result.
    """
    check_problem(problem)
    names, theirs = result.parameter.values.tolist(), list(problem.parameter_names or ())
    if len(names) != len(theirs) or set(names) != set(theirs):
        raise ValueError(
            f"problem: must be the problem of the result, with {len(names)} parameters "
            f"({listed(names)}), got a problem with {len(theirs)} ({listed(theirs)})."
        )
    if names == theirs:
        return np.arange(len(names))
    at = {name: i for i, name in enumerate(theirs)}
    return np.array([at[name] for name in names])


def _difference(result: xr.Dataset, first: xr.Dataset) -> str:
    """Difference between the data of two results, in words; "" if there is none."""
    if result.sizes["data"] != first.sizes["data"]:
        return f"{result.sizes['data']} data instead of {first.sizes['data']}"
    labels, theirs = first["data"].values.tolist(), result["data"].values.tolist()
    y = result.y.values
    if labels != theirs:
        at = {label: i for i, label in enumerate(theirs)}
        missing = [label for label in labels if label not in at]
        if missing or len(at) < len(theirs):
            why = f"{listed(missing)} missing" if missing else "repeated names"
            return f"data with other names ({why})"
        y = y[[at[label] for label in labels]]
    if np.array_equal(y, first.y.values, equal_nan=True):
        return ""
    i = int(np.argmax(~((y == first.y.values) | (np.isnan(y) & np.isnan(first.y.values)))))
    return f"other values, such as {y[i]:.6g} instead of {first.y.values[i]:.6g} at {labels[i]}"


def _other_part(result: xr.Dataset, raw: xr.Dataset, first: xr.Dataset) -> str:
    """Part of the problem that differs: "data", "noise" or "prior"; "" if none does.

    ``raw`` is the result before its parameters were reordered. A fingerprint depends on the order
    of the labels, so fingerprints are compared only if the order is the same.
    """
    known, theirs = (attribute(each, "problem", {}) for each in (first, result))
    other = {part for part in ("data", "noise", "prior")
             if part in known and part in theirs and known[part] != theirs[part]}  # fmt: skip
    if "data" in other and _difference(result, first):  # batches of different data
        return "data"
    same_data_order = result["data"].values.tolist() == first["data"].values.tolist()
    sd = result.noise_sd if same_data_order else result.noise_sd.sel(data=first["data"].values)
    estimated = "unknown_noise" in result.attrs and "unknown_noise" in first.attrs
    same_sd = np.array_equal(sd.values, first.noise_sd.values, equal_nan=True)
    other_sd = not (same_sd or estimated)
    if other_sd or ("noise" in other and same_data_order):
        return "noise"
    same_order = raw.parameter.values.tolist() == first.parameter.values.tolist()
    return "prior" if "prior" in other and same_order else ""


def _batched(result: xr.Dataset, first: xr.Dataset) -> bool:
    """Whether data differ only because a result holds a batch of them.

    For a problem with batches, the fingerprint of the data is not the digest of ``y``.
    """
    known = [attribute(each, "problem", {}).get("data") for each in (result, first)]
    if None in known:
        return False
    partial = [
        name != digest(each.y.values) for name, each in zip(known, (result, first), strict=True)
    ]
    return all(partial) if known[0] == known[1] else any(partial)
