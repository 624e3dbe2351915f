"""Base of the tempered Kalman methods: steps h_n with the noise Γ/h_n until Σh = t_end."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import partial
from typing import ClassVar, NamedTuple

import numpy as np

from ekitools.core.arrays import array_namespace, is_numpy, is_updatable, like, take_rows
from ekitools.core.checks import check_schedule, flag, number, put, stopping_rules
from ekitools.core.statuses import CHECK_NEXT
from ekitools.linalg import total_variance
from ekitools.linalg.drafts import Draft
from ekitools.linalg.local_coefficients import Analysis
from ekitools.methods.ahead import Look, look
from ekitools.methods.localized import (
    check_localized,
    chosen_rule,
    localized_analysis,
    optional_localization,
)
from ekitools.methods.parts import check_independent, nothing_used, part_step
from ekitools.methods.shared import diverged, whitened_residual
from ekitools.methods.steps import choose_step, given_up
from ekitools.methods.unknown_noise import (
    Scaling,
    checked_start,
    misfits_of_members,
    tempered_with_scales,
)
from ekitools.typing import (
    Aim,
    Array,
    Localization,
    Reported,
    ScaledNoise,
    Schedule,
    Status,
    StepInfo,
    StoppingRule,
    Target,
    Tunable,
)

__all__ = ["Tempered", "TemperedState"]


class TemperedState(NamedTuple):
    """State of a tempered Kalman method between two steps."""

    ensemble: Array
    n: int
    t: float
    variance: float
    """Trace of the ensemble covariance."""
    initial_variance: float
    used: tuple[float, ...] = ()
    """Σh of every observation, if steps see a part of the data and ``t_end`` is given."""
    scaling: Scaling | None = None
    """Precision used so far, if the scales of the noise are unknown."""
    strength: float | None = None
    """Strength of the localization, if it is chosen at the first step."""


class Tempered(ABC):
    """Base class of methods that repeat an analysis with the noise Γ/h_n."""

    step: Schedule
    t_end: float | None
    tikhonov: bool
    localization: Localization | None
    stop: tuple[StoppingRule, ...]
    estimates_noise: ClassVar[bool]

    @property
    @abstractmethod
    def aim(self) -> Aim:
        """The purpose of the last ensemble: a sample of the posterior, or a fit to the data."""

    @property
    def by_coefficients(self) -> bool:
        """Whether the update needs the outputs alone, without the prior as further data."""
        return not self.tikhonov

    @abstractmethod
    def _analysis(self, u: Array, r: Array, h: float, rng: np.random.Generator) -> Array:
        """The ensemble ``(J, p)`` after one analysis of the whitened residuals ``(J, d)``."""

    @abstractmethod
    def _draft(self, u: Array, r: Array, rng: np.random.Generator, h: Array) -> Draft:
        """The same analysis on a device, not checked; h is an array on the device."""

    @property
    @abstractmethod
    def _kind(self) -> Analysis:
        """Kind of the analysis: "transform", "perturbed" or "unperturbed"."""

    def _mixed(self, u: Array, rng: np.random.Generator) -> Array:  # noqa: ARG002
        """Postprocess the members of a localized analysis; the base class keeps them."""
        return u

    def __post_init__(self) -> None:
        check_schedule(self.step)
        if self.t_end is not None:
            put(self, t_end=number("t_end", self.t_end, above=0, remedy="Use None for no end."))
        put(
            self,
            tikhonov=flag("tikhonov", self.tikhonov),
            stop=stopping_rules(self.stop),
        )
        put(self, localization=optional_localization(self.localization, self.tikhonov))
        if self.tikhonov and self.t_end is not None:
            raise ValueError(
                f"t_end: must be None with tikhonov=True, got {self.t_end}. The regularised "
                "ensemble converges to the maximum a posteriori estimate, and at a finite t_end "
                "the prior would count twice. Stop by n_steps or a stopping rule."
            )

    def init(self, ensemble: Array, target: Target) -> TemperedState:
        """The state before the first step.

        Raises
        ------
        ValueError
            If all members are equal, or if the scales of the noise are unknown and the aim is not
            the posterior.
        TypeError
            If the problem has a loss that is not Gaussian noise, if the noise correlates the
            samples of a batch and ``t_end`` is given, or if localization cannot weight the data.
        """
        variance = checked_start(ensemble, target, type(self).__name__)
        estimated = self.estimates_noise and self.aim == "posterior"
        if isinstance(target.noise, ScaledNoise) and not estimated:
            raise ValueError(
                f"noise: must have known scales for {self!r}, got {target.noise!r}. Use ek.EKI(), "
                "with t_end=1 and perturbed data, or ek.GNKI()."
            )
        if self.localization is not None:
            check_localized(self.localization, ensemble, target)
        if self.t_end is None:
            return TemperedState(ensemble, 0, 0.0, variance, variance)
        check_independent(target)
        return TemperedState(ensemble, 0, 0.0, variance, variance, nothing_used(target))

    def ask(self, state: TemperedState) -> Array:
        """The members at which the loop evaluates G, ``(J, p)``."""
        return state.ensemble

    def finished(self, state: TemperedState) -> Status | None:
        """The status when Σh has reached t_end; None before."""
        if self.t_end is None or state.t < self.t_end:
            return None
        each = " for every observation" if state.used else ""
        if self.t_end != 1:
            sentence = f"Finished: the steps add up to t_end = {self.t_end:g}{each}."
            return Status("t_end_reached", sentence, level="good")
        scales = (
            ""
            if state.scaling is None
            else (
                " The scales of the noise were drawn under a linear fit of the model; compare them "
                "with the scales from ek.GNKI()."
            )
        )
        return Status(
            "posterior_reached",
            f"Finished: all of the data's information was used (the steps add up to 1{each}). "
            f"{CHECK_NEXT}{scales}",
            level="good",
            posterior=self.aim == "posterior",
        )

    def tell(
        self, state: TemperedState, g: Array, target: Target, *, rng: np.random.Generator
    ) -> tuple[TemperedState, StepInfo]:
        """One analysis; at the end of the run the state is returned unchanged."""
        u, status, start = state.ensemble, self.finished(state), None
        unknown = isinstance(target.noise, ScaledNoise)
        if unknown:
            r, misfit = g, misfits_of_members(u, g, target)[0]
            seen = Look(misfit, misfit, None, None)
        else:
            data = whitened_residual(g, target)
            r = self._with_prior(u, data, target) if self.tikhonov else data
            make = None
            if status is None and self._can_draft(u, target):
                start, make = rng.bit_generator.state, partial(self._draft, u, r, rng)
            seen = look(self.step, (state.n, state.t, self._end), data, r, make)
        objective = float(np.mean(seen.total)) if self.tikhonov else None
        spread = math.sqrt(state.variance / state.initial_variance)
        if status is None and target.batch is None:
            n_data = int(g.shape[1])
            status = given_up(self.step, state.n, state.t, self.t_end, seen.total, n_data)
        info = StepInfo(0.0, seen.misfit, status, spread, objective=objective)
        if info.status is not None:
            return state, info

        used, scaling, strength, variance = state.used, None, state.strength, None
        if unknown:
            ensemble, scaling, h, t = tempered_with_scales(state, g, target, self.step, rng)
        elif target.batch is not None and self.t_end is not None:
            h, r, scale, t, used = part_step(self.step, state, self.t_end, target.batch, r)
            ensemble = self._analysis(u, r, scale, rng) if h else u
        else:
            h, t = choose_step(self.step, state.n, state.t, self.t_end, r, seen.total, seen.norm)
            if seen.made is not None and seen.made.has_step(h):
                ensemble, variance = seen.made.ensemble, seen.made.variance
            elif self.localization is None:
                if start is not None:  # a draft has used numbers
                    rng.bit_generator.state = start
                ensemble = self._analysis(u, r, h, rng)
            else:
                left = h if self.t_end is None else self.t_end - state.t
                rule, curve = chosen_rule(self.localization, strength, u, g, target, left)
                if isinstance(rule, Tunable) and rule is not self.localization:
                    strength = rule.strength
                    assert strength is not None
                    told = Reported(
                        strength,
                        f"{rule.strength_name} of the localization",
                        () if curve is None else curve.pairs,
                    )
                    info = info._replace(extra={rule.strength_name: told})
                ensemble = localized_analysis(rule, u, g, target, h, self._kind, rng)
                ensemble = self._mixed(ensemble, rng)
        variance = total_variance(ensemble) if variance is None else variance
        if not math.isfinite(variance):
            status = diverged(
                f"The update of step {state.n} with h = {h:.4g}",
                "Use smaller steps, or a prior under which the model stays finite.",
            )
            return state, info._replace(status=status)
        new = TemperedState(
            ensemble, state.n + 1, t, variance, state.initial_variance, used, scaling, strength
        )
        return new, info._replace(step=h)

    @property
    def _end(self) -> float:
        """The end time, infinite if there is none."""
        return math.inf if self.t_end is None else self.t_end

    def _can_draft(self, u: Array, target: Target) -> bool:
        """Whether the ensemble is on a device, and one analysis uses all data alike."""
        if is_updatable(u) or is_numpy(u) or self.localization is not None:
            return False
        return target.batch is None or self.t_end is None

    def _with_prior(self, u: Array, r: Array, target: Target) -> Array:
        """Whitened residuals of the data and of the prior, ``(J, d + p)``."""
        prior = like(target.prior.whiten(u), r)
        if target.batch is not None:  # an epoch counts the prior and the data once
            prior = math.sqrt(target.batch.share) * prior
        return array_namespace(r).concat([r, prior], axis=1)

    def select(self, state: TemperedState, index: np.ndarray) -> TemperedState:
        """The state of the members ``index``."""
        ensemble = take_rows(state.ensemble, index)
        return state._replace(ensemble=ensemble, variance=total_variance(ensemble))
