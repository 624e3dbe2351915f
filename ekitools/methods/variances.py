"""Prior variances that a method learns: their parameters, groups and estimates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ekitools.core.arrays import host
from ekitools.core.checks import integer, sequence
from ekitools.priors.rescaled import RescaledPrior
from ekitools.typing import Array, Batch, Target

__all__ = [
    "Parameter",
    "check_groups",
    "check_independent",
    "check_parameters",
    "kept_sentence",
    "learned_variances",
    "sharing",
    "with_variances",
]

Parameter: TypeAlias = str | int
"""A name, or a position from 0."""

_MOST_NAMED = 10


def check_parameters(argument: str, given: Any) -> tuple[Parameter, ...]:
    """Checked names or positions of parameters: at least one, without repetition."""
    many = sequence(argument, given, "names or positions of parameters")
    found = tuple(
        str(each) if isinstance(each, str) else integer(argument, each, least=0) for each in many
    )
    if not found:
        raise ValueError(f"{argument}: must have at least one parameter, got {given!r:.60}.")
    _check_different(argument, found)
    return found


def check_groups(given: Any) -> tuple[tuple[Parameter, ...], ...]:
    """Checked groups of parameters: no parameter is in two groups."""
    many = sequence("groups", given, "a sequence of groups of parameters")
    groups = tuple(check_parameters("groups", group) for group in many)
    _check_different("groups", [each for group in groups for each in group])
    return groups


def sharing(
    parameters: Sequence[Parameter] | None, groups: Iterable[Sequence[Parameter]], prior: Any
) -> np.ndarray:
    """Number of the variance of every parameter; -1 if its variance is not learned.

    Parameters
    ----------
    parameters : sequence of str or int, or None
        Parameters whose variances are learned; None for all.
    groups : iterable of sequences of str or int
        Groups of parameters that share one variance.
    prior : Prior
        The prior with these parameters.

    Raises
    ------
    ValueError
        If a parameter is not in the prior, groups overlap, or a group contains a parameter whose
        variance is not learned.

    Examples
    --------
    >>> import ekitools as ek
    >>> from ekitools.methods.variances import sharing
    >>> sharing((0, 2, 3), ((2, 3),), ek.GaussianPrior([0.0] * 4, 1.0))
    array([ 0, -1,  2,  2])
    """
    shared = np.arange(prior.n_parameters)
    if parameters is not None:
        shared[:] = -1
        learned = _positions("parameters", parameters, prior)
        shared[learned] = learned
    for group in groups:
        index = _positions("groups", group, prior)
        if np.any(shared[index] < 0):
            raise ValueError(
                "groups: must contain only parameters whose variances are learned, got "
                f"{group}. Add all of them to parameters."
            )
        if np.any(shared[index] != index):
            raise ValueError(
                f"groups: must not overlap, got {group}, which shares a parameter with another "
                "group. Join the two groups."
            )
        shared[index] = index.min()
    return shared


def learned_variances(
    w: np.ndarray, shared: np.ndarray, floor: float
) -> tuple[np.ndarray, np.ndarray]:
    """Variances λ = max(w̄² + var w, floor) by group, and root mean squares of w̄, both ``(p,)``.

    They are 1 and infinity for a parameter whose variance is not learned.
    """
    number, count = shared + 1, np.bincount(shared + 1)
    square, variance = (
        (np.bincount(number, each)[number] / count[number])
        for each in (w.mean(axis=0) ** 2, w.var(axis=0, ddof=1))
    )
    fixed = shared < 0
    variances = np.where(fixed, 1.0, np.maximum(square + variance, floor))
    return variances, np.where(fixed, np.inf, np.sqrt(square))


def check_independent(prior: Any, learned: np.ndarray) -> None:
    """Check that each parameter with a learned variance has a separate whitened coordinate.

    A coordinate that mixes parameters has different slopes along two random directions. The check
    needs only four points, and no p x p matrix.

    Raises
    ------
    ValueError
        If the prior correlates such a parameter with another one.
    """
    draws = np.random.default_rng(0).uniform(1, 2, size=(2, len(learned)))
    rows = np.concatenate([np.zeros((1, len(learned))), draws, draws[:1] * learned])
    origin, first, second, alone = host(prior.unwhiten(rows)).astype(np.float64)
    slopes = (first - origin) / draws[0], (second - origin) / draws[1]
    mixed = learned & ~np.isclose(*slopes, rtol=1e-6, atol=0)
    mixed |= ~learned & ~np.isclose(alone, origin, rtol=1e-6, atol=1e-6 * np.abs(first - origin))
    if mixed.any():
        raise ValueError(
            "prior: must be independent for parameters whose variances are learned, got a prior "
            f"that correlates parameter {int(np.argmax(mixed))} with others. Use independent "
            "parameters, and combine them in the model."
        )


def with_variances(target: Target, variances: Array) -> Any:
    """Target with the prior w ~ N(0, diag λ) in place of w ~ N(0, I)."""
    prior = RescaledPrior(target.prior, np.sqrt(host(variances)))
    return _Learned(target.data, target.noise, prior, target.batch)


def kept_sentence(sizes: np.ndarray, keep: float, names: Sequence[str]) -> str:
    """Sentence that counts and lists the kept parameters.

    ``sizes`` is infinite for a parameter whose variance is not learned.
    """
    learned = np.isfinite(sizes)
    kept = np.flatnonzero(learned & (sizes > keep))
    of = f"{len(kept)} of {int(learned.sum())} parameters {'is' if len(kept) == 1 else 'are'} kept"
    if not kept.size:
        return f"{of}."
    listed = ", ".join(repr(names[i]) if names else str(i) for i in kept[:_MOST_NAMED])
    more = len(kept) - _MOST_NAMED
    return f"{of}: {listed}{f' and {more} more' if more > 0 else ''}."


class _Learned(NamedTuple):
    """Target of a method, with other variances of the prior."""

    data: Array
    noise: Any
    prior: RescaledPrior
    batch: Batch | None


def _positions(argument: str, parameters: Sequence[Parameter], prior: Any) -> np.ndarray:
    """Positions of the parameters in a prior, all different."""
    p, names = prior.n_parameters, prior.names or ()
    found = []
    for each in parameters:
        if isinstance(each, int):
            found.append(integer(argument, each, least=0, most=p - 1))
        elif each in names:
            found.append(names.index(each))
        else:
            known = ", ".join(map(repr, names[:_MOST_NAMED])) + ", ..." * (p > _MOST_NAMED)
            use = f"Use one of {known}" if names else f"Use positions 0 to {p - 1}"
            raise ValueError(f"{argument}: must be parameters of the prior, got {each!r}. {use}.")
    _check_different(argument, found)
    return np.array(found)


def _check_different(argument: str, parameters: Iterable[Parameter]) -> None:
    """Check that no parameter is repeated."""
    seen = set[Parameter]()
    for each in parameters:
        if each in seen:
            raise ValueError(
                f"{argument}: must have every parameter once, got {each!r} twice. Remove one."
            )
        seen.add(each)
