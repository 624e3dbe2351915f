"""Tempered analyses with localization: every parameter is moved by the data near it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ekitools.core.arrays import host, like, take_columns
from ekitools.linalg.kalman import checked_localization
from ekitools.linalg.local_coefficients import Analysis, local_coefficients
from ekitools.linalg.local_score import adapted, check_choice
from ekitools.linalg.whitened import check_independent, is_independent
from ekitools.typing import (
    Array,
    Localization,
    MarginalNoise,
    ScaledNoise,
    StrengthCurve,
    Target,
    Tunable,
    UpdatableEnsemble,
)

__all__ = ["check_localized", "chosen_rule", "localized_analysis", "optional_localization"]


_SOME = 100
"""Number of parameters whose weights are checked before a run."""


def optional_localization(localization: Any, tikhonov: bool) -> Localization | None:
    """The option ``localization`` of a method, checked."""
    if localization is None:
        return None
    if tikhonov:
        raise ValueError(
            "localization: must be None with tikhonov=True, because the prior is not local. Use "
            "t_end=1 without tikhonov."
        )
    return checked_localization(localization)


def check_localized(localization: Localization, ensemble: Array, target: Target) -> None:
    """Check that a problem can be solved by local analyses, before any model run."""
    if target.batch is not None:
        raise TypeError(
            "localization: must be None if a step uses only part of the data. Use problem.whole() "
            "of a series."
        )
    if isinstance(target.noise, ScaledNoise):
        raise TypeError(
            f"localization: must be None if the scales of the noise are unknown, got "
            f"{target.noise!r}. Use ek.GaussianNoise(sd=...)."
        )
    n, p = ensemble.shape
    d = int(target.data.shape[0])
    rule = localization
    if isinstance(rule, Tunable) and rule.strength is None:
        check_choice(target.noise, n, f'{rule.strength_name}="adaptive"')
        rule = rule.with_strength(float(rule.strengths(p, d, target)[0]))
    localizer = rule.located(p, d, target)
    if is_independent(target.noise):
        return
    some = np.arange(min(p, _SOME))
    weights = localizer.weights(some, host(take_columns(ensemble, some)), np.zeros((d, n)))
    if not isinstance(target.noise, MarginalNoise) or (weights.data != 1).any():
        check_independent(target.noise, f"{rule!r:.80}")


def chosen_rule(
    localization: Localization,
    strength: float | None,
    u: Array,
    g: Array,
    target: Target,
    h: float,
) -> tuple[Localization, StrengthCurve | None]:
    """The rule with a strength that is chosen for an analysis with the noise Γ/h, and its curve.

    A strength that was chosen before is kept. A choice for a single small step would leave out data
    that all steps together can use.
    """
    if strength is not None and isinstance(localization, Tunable):
        return localization.with_strength(strength), None
    return adapted(localization, u, _difference(g, target), target.noise, h, target)


def localized_analysis(
    localization: Localization,
    u: Array,
    g: Array,
    target: Target,
    h: float,
    kind: Analysis,
    rng: np.random.Generator,
) -> Array:
    """One local analysis of every parameter, with the noise Γ/h.

    ``kind`` is "transform" for the square root, "perturbed" or "unperturbed".
    """
    difference = _difference(g, target)
    analysis = local_coefficients(localization, difference, target.noise, h, kind, rng)
    located = analysis.located(int(u.shape[1]), target)
    if isinstance(u, UpdatableEnsemble):
        return u.localized(located)
    return like(located.update(host(u)), u)


def _difference(g: Array, target: Target) -> np.ndarray:
    """G(u) − y in double precision, ``(J, d)``."""
    return host(g).astype(np.float64) - np.asarray(target.data)
