"""Tempered analyses with localization: every parameter is moved by the data near it."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ekitools.core.arrays import host, like
from ekitools.linalg.local import local_analysis
from ekitools.linalg.local_score import strength_curve
from ekitools.linalg.whitened import check_independent, is_independent
from ekitools.typing import (
    Array,
    Localization,
    MarginalNoise,
    Reported,
    ScaledNoise,
    Target,
    Tunable,
)

__all__ = ["Localized", "check_localized", "localized_analysis", "optional_localization"]


class Localized(NamedTuple):
    """The ensemble after a localized analysis, and what there is to report of it."""

    ensemble: Array
    extra: dict[str, Reported]


def optional_localization(localization: Any, tikhonov: bool) -> Localization | None:
    """The option ``localization`` of a method, checked."""
    if localization is None:
        return None
    if isinstance(localization, type) or not isinstance(localization, Localization):
        raise TypeError(
            f"localization: must be a rule of ek.localization or None, got {localization!r:.80}. "
            "Use ek.localization.Distance(parameters, data, radius)."
        )
    if tikhonov:
        raise ValueError(
            "localization: must be None with tikhonov=True, whose prior is no local datum. Use "
            "t_end=1 without tikhonov."
        )
    return localization


def check_localized(localization: Localization, ensemble: Array, target: Target) -> None:
    """Check that a problem can be solved by local analyses, before any model run."""
    if target.batch is not None:
        raise TypeError(
            "localization: must be None where a step sees a part of the data. Use problem.whole() "
            "of a series."
        )
    if isinstance(target.noise, ScaledNoise):
        raise TypeError(
            f"localization: must be None where the scales of the noise are not known, got "
            f"{target.noise!r}. Give the noise."
        )
    n, p = ensemble.shape
    d = int(target.data.shape[0])
    rule = localization
    if isinstance(rule, Tunable) and rule.strength is None:
        check_independent(target.noise, f'{rule.strength_name}="adaptive"')
        if n < 4:
            raise ValueError(
                f'localization: {rule.strength_name}="adaptive" must have 4 members or more, got '
                f"{n}. Give it a number."
            )
        rule = rule.with_strength(float(rule.strengths(p, d, target)[0]))
    rule.located(p, d, target)
    if not is_independent(target.noise) and not isinstance(target.noise, MarginalNoise):
        check_independent(target.noise, "local analyses")


def localized_analysis(
    localization: Localization,
    u: Array,
    g: Array,
    target: Target,
    h: float,
    kind: str,
    rng: np.random.Generator,
) -> Localized:
    """One local analysis of every parameter, with the noise Γ/h.

    ``kind`` is "transform" for the square root, "perturbed" or "unperturbed". The draws of
    perturbed data are those of the analysis without localization where the noise is independent.
    """
    whole, rule, noise, extra = host(u), localization, target.noise, {}
    independent = is_independent(noise)
    r = host(g).astype(np.float64) - np.asarray(target.data)
    r = noise.whiten(r) if independent else r
    p, d = whole.shape[1], r.shape[1]
    if isinstance(rule, Tunable) and rule.strength is None:
        curve = strength_curve(rule, whole, r, h, target)
        rule = rule.with_strength(curve.chosen)
        extra[curve.name] = Reported(curve.chosen, f"{curve.name} of the localization")
    draw = None
    if kind == "perturbed":
        draw = rng.standard_normal(r.shape) if independent else noise.sample(len(r), rng=rng)
        draw = draw / math.sqrt(h)
    elif kind == "unperturbed":
        draw = np.zeros_like(r)
    localizer = rule.located(p, d, target)
    analysis = local_analysis(r, h, localizer, draw, None if independent else noise)
    return Localized(like(analysis.update(whole), u), extra)
