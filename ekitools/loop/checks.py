"""Checks of the arguments of the loops, before any model run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ekitools.core.arrays import as_array, check_array, host, like, unmasked
from ekitools.core.checks import check_gaussian, check_method, integer
from ekitools.core.deprecation import renamed
from ekitools.core.kinds import checked_like
from ekitools.loop.policies import OnFailure
from ekitools.models.extras import Extra, split_extras
from ekitools.models.outputs import UnfitError
from ekitools.problem import InverseProblem, check_problem, check_whole
from ekitools.results.dataset import RESERVED
from ekitools.results.history import KEPT, Store
from ekitools.typing import (
    Array,
    ByCoefficients,
    ChecksProblem,
    EstimatesNoise,
    HasSupport,
    Method,
    Quadrature,
    ScaledNoise,
    Status,
    StoppingRule,
    Stops,
    is_sampler,
)

__all__ = [
    "all_rules",
    "by_row",
    "check_parts",
    "check_rules",
    "check_streamed",
    "checked_ensemble",
    "checked_kind",
    "checked_nodes",
    "checked_outputs",
    "checked_reference",
    "checked_status",
    "checked_store",
    "outside_sentence",
]


def check_parts(problem: Any, method: Any) -> None:
    """Check a problem and a method, and that the method can solve the problem."""
    check_problem(problem)
    check_method(method)
    if isinstance(problem.noise, ScaledNoise) and not (
        isinstance(method, EstimatesNoise) and method.estimates_noise
    ):
        check_gaussian(problem.noise, type(method).__name__)
    if is_sampler(method):
        check_whole(problem, f"{type(method).__name__}, which keeps members and their outputs")


def all_rules(
    rules: tuple[StoppingRule, ...], method: Method, problem: InverseProblem
) -> tuple[StoppingRule, ...]:
    """The stopping rules of a run, including the rules in the method's options."""
    if isinstance(method, Stops):
        rules += method.stop
    check_rules(rules, problem)
    return rules


def check_rules(rules: Iterable[StoppingRule], problem: InverseProblem) -> None:
    """Check that the problem meets the needs of the stopping rules."""
    for rule in rules:
        if isinstance(rule, ChecksProblem):
            rule.check_problem(problem)


def checked_store(store: Store) -> Store:
    """Check the option ``store`` and return it."""
    if isinstance(store, str) and store in KEPT:
        return store
    try:
        return integer("store", store)
    except (TypeError, ValueError):
        raise ValueError(
            f'store: must be "all", "last", "final" or a positive integer, got {store!r}. Omit it '
            "to keep all iterations."
        ) from None


def check_streamed(
    problem: InverseProblem, method: Method, store: Store, on_failure: OnFailure
) -> None:
    """Check that a run can keep its ensemble on disk.

    Raises
    ------
    TypeError, ValueError
        If the method, the noise, ``store`` or ``on_failure`` needs the ensemble in memory.
    """
    if not (isinstance(method, ByCoefficients) and method.by_coefficients):
        raise TypeError(
            f"method: must update its ensemble by coefficients of the outputs with scratch=, got "
            f"{method!r:.200}. Use ek.ETKI() or ek.EKI() with tikhonov=False, or omit scratch."
        )
    if problem.n_scales:
        raise TypeError(
            f"noise: must have known scales with scratch=, got {problem.noise!r}. Use "
            "ek.GaussianNoise(sd=...), or omit scratch."
        )
    if store != "final":
        raise ValueError(
            f'store: must be "final" with scratch=, got {store!r}. The scratch folder keeps only '
            'the last ensemble; use store="final".'
        )
    if on_failure == "resample":
        raise ValueError(
            'on_failure: must be "drop" or "raise" with scratch=, got \'resample\'. Use "drop".'
        )


def checked_status(status: Any) -> Status:
    """Check a status with a code and a sentence, and return it."""
    if not isinstance(status, Status) or not all(isinstance(text, str) for text in status[:2]):
        raise TypeError(
            f"status: must be an ekitools.typing.Status, got {status!r:.60}. Use "
            'ek.typing.Status("code", "sentence").'
        )
    return status


def checked_ensemble(ensemble: Any, problem: InverseProblem) -> tuple[Array, Array]:
    """An initial ensemble in physical and in unconstrained coordinates, ``(J, p)``.

    Raises
    ------
    TypeError, ValueError
        If the array has another shape or kind, an entry is masked or not finite, or a member lies
        on or outside a bound of the prior.
    """
    p = problem.n_parameters
    ensemble = unmasked("ensemble", ensemble)
    shape = tuple(ensemble.shape) if hasattr(ensemble, "shape") else ()
    if len(shape) != 2 or shape[0] < 2 or shape[1] != p:
        raise ValueError(
            f"ensemble: must be an array (J, p) with J >= 2 and p = {p}, got "
            f"{shape or type(ensemble).__name__}."
        )
    if "float" not in str(ensemble.dtype):
        raise TypeError(
            f"ensemble: must have a floating dtype, got {ensemble.dtype}. Convert it to float64."
        )
    if not np.all(np.isfinite(host(ensemble))):
        raise ValueError(
            "ensemble: must be finite, got NaN or infinite entries. Remove these members."
        )
    unconstrained = problem.prior.to_unconstrained(ensemble)
    outside = ~np.isfinite(host(unconstrained))
    if outside.any():
        raise ValueError(outside_sentence(host(ensemble), outside, problem))
    return ensemble, unconstrained


def checked_nodes(method: Quadrature, target: Any, n_members: int | None, ensemble: Any) -> Any:
    """The initial nodes of a method that places its own members.

    Raises
    ------
    ValueError
        If the user gave an ensemble, or another number of members.
    """
    nodes, who = method.nodes(target), type(method).__name__
    if ensemble is not None:
        raise ValueError(
            f"ensemble: must be left out for {who}, which places its own {len(nodes)} members, got "
            f"shape {np.shape(ensemble)}. Put prior knowledge into the prior."
        )
    if n_members not in (None, len(nodes)):
        raise ValueError(
            f"n_members: must be {len(nodes)} for {who} with p = {nodes.shape[1]}, which "
            f"places its own members, got {n_members}. Leave it out."
        )
    return nodes


def outside_sentence(
    ensemble: np.ndarray, outside: np.ndarray, problem: InverseProblem, first: int = 0
) -> str:
    """The error text for members outside the prior's bounds; ``first`` is the number of row 0."""
    member, parameter = (int(i) for i in np.argwhere(outside)[0])
    name = (problem.parameter_names or ())[parameter]
    value = float(ensemble[member, parameter])
    where = ""
    if isinstance(problem.prior, HasSupport):
        low, high = problem.prior.support(parameter)
        if value in (low, high):
            where = f", which lies on the {'lower' if value == low else 'upper'} bound {value:g}"
        elif not low < value < high:
            where = f", which lies outside ({low:g}, {high:g})"
    rows = np.flatnonzero(outside.any(axis=1))
    more = f" {len(rows)} members are affected." if len(rows) > 1 else ""
    return (
        "ensemble: must lie strictly between the bounds of the prior, got "
        f"{name} = {value!r} in member {first + member}{where}.{more} Move such members inside, "
        "draw new ones with prior.sample(n, rng=...), or widen the prior."
    )


def checked_outputs(g: Any, asked: Array, problem: InverseProblem) -> Array:
    """The checked outputs of the members ``asked``, in their namespace and dtype."""
    n = int(asked.shape[0])
    expected = (n, problem.n_data)
    if problem.layout is not None and not (hasattr(g, "shape") and tuple(g.shape) == expected):
        g = problem.layout.rows("g", g, n)
    g = unmasked("g", g) if hasattr(g, "shape") else as_array("g", g)
    if tuple(g.shape) != expected:
        flatten = len(g.shape) > 2 and g.shape[0] == expected[0]
        remedy = " Flatten the output of each member: g.reshape(len(g), -1)." if flatten else ""
        raise ValueError(
            f"g: must have the shape (number of members, d) = {expected}, got {tuple(g.shape)}."
            f"{remedy}"
        )
    if isinstance(g, np.ndarray) and g.dtype.kind not in "fiu":
        raise TypeError(f"g: must be real numbers, got dtype {g.dtype}.")
    return g if type(g) is type(asked) and g.dtype == asked.dtype else like(g, asked)


def by_row(extras: Mapping[str, Any] | None, n: int) -> dict[int, dict[str, Extra]]:
    """Side products of ``n`` members by row."""
    if extras is None:
        return {}
    if not isinstance(extras, Mapping):
        raise TypeError(
            f'extras: must be a mapping of names to arrays, got {extras!r:.80}. Use {{"flux": '
            "array}."
        )
    if known := RESERVED.intersection(extras):
        raise ValueError(
            f"extras: must not use the names of result variables, got {min(known)!r}. Rename it."
        )
    try:
        return dict(enumerate(split_extras(extras, n)))
    except UnfitError as error:
        raise ValueError(error.reason.removeprefix("model: ") + ".") from None


def checked_kind(like: Any, ensemble: Any, method: Method, scratch: Any) -> Array | None:
    """An empty array of the kind of ``like``; None if ``like`` is None."""
    reference = checked_like(like)
    if reference is None:
        return None
    for given, why in (
        (ensemble is not None, "with ensemble=, which determines the kind of array"),
        (scratch is not None, "with scratch=, which stores NumPy arrays"),
        (isinstance(method, Quadrature), f"for {type(method).__name__}, whose nodes are in NumPy"),
    ):
        if given:
            raise ValueError(f"like: must be left out {why}, got {type(like).__name__}.")
    return reference


def checked_reference(like: Any, ensemble: Any) -> Array | None:
    """An empty array of the kind for a resumed run; None keeps the kind of the checkpoint.

    ``ensemble`` is the former name of ``like``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not an array of a floating dtype, or both are given.
    """
    if ensemble is not None:
        check_array("ensemble", ensemble)
    former, reference = checked_like(ensemble, "ensemble"), checked_like(like)
    return renamed("ensemble", former, "like", reference, since="0.2", until="0.4")
