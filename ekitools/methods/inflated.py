"""Covariance inflation, for any method that moves its members."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias, get_args

import numpy as np

from ekitools.core.arrays import array_namespace
from ekitools.core.checks import number, one_of, put
from ekitools.linalg import gaussian_draws, total_variance
from ekitools.methods.around import Around, check_moves, without_posterior
from ekitools.methods.shared import diverged, mapped, with_ensemble
from ekitools.methods.spread import drawn_around
from ekitools.typing import (
    Aim,
    Array,
    Method,
    Redraws,
    Status,
    StepInfo,
    Target,
)

__all__ = ["Inflated"]

Covariance: TypeAlias = Literal["prior", "ensemble"]
"""Source of the covariance of the additive inflation."""
_COVARIANCES: tuple[Covariance, ...] = get_args(Covariance)

_WHY = (
    "with inflation the spread of the ensemble is not the posterior spread. Use the method "
    "without inflation for a sample of the posterior."
)


@dataclass(frozen=True)
class Inflated(Around):
    r"""Covariance inflation, which keeps the spread of a method such as `EKI`.

    After every step h of the method, the deviations E of the new ensemble from its mean ū change by

    .. math::
        E_{ji} \leftarrow \Big(1 - \alpha + \alpha \frac{\sigma_i^-}{\sigma_i}\Big) E_{ji}, \qquad
        E \leftarrow \frac{E}{\sqrt{1 - s h}}, \qquad
        E \leftarrow E + \xi, \quad \xi_j \sim N\Big(0, \frac{a h}{1 - a h} \Sigma\Big),

    in this order. The first change is the relaxation to the spread before the step [1]_, with the
    standard deviations σ⁻ and σ of a parameter before and after the step. The second change is
    multiplicative inflation with the rate s [2]_, and the third is additive inflation with the rate
    a [3]_. Changes with a parameter of zero are left out. The mean ū stays unchanged: the draws ξ
    are shifted to the mean zero, and scaled by √(J/(J − 1)) to keep their covariance. The inflation
    acts in unconstrained coordinates.

    With an end time the ensemble is inflated after the last step too. The ensemble is not a sample
    of the posterior, for any Σh.

    Parameters
    ----------
    method : Method
        A method that moves its members: `EKI`, `ETKI`, `LossEKI`, `GNKI` or your own.
    multiplicative : float, default 0
        Rate s ≥ 0 of the multiplicative inflation for a unit of time. The product s h must be below
        1.
    additive : float, default 0
        Rate a ≥ 0 of the additive inflation for a unit of time. The product a h must be below 1. If
        steps see a part of the data, s and a are multiplied by the share of this part.
    covariance : {"prior", "ensemble"}, default "prior"
        Covariance Σ of the additive inflation. "prior" is the covariance of the prior, and its
        draws leave the span of the ensemble. "ensemble" is the covariance of the new ensemble.
    relaxation : float, default 0
        Share α in [0, 1] of the relaxation. With 1 every parameter keeps the standard deviation
        before the step.
    longest : float, optional
        Largest h that counts for the inflation, s min(h, longest). With step rules that let h grow,
        ``longest=1.0`` bounds the inflation of every step. By default there is no bound.

    Raises
    ------
    TypeError, ValueError
        If the method is a sampler such as `TemperedSMC`, an option is of the wrong kind or out of
        range, or multiplicative, additive and relaxation are all 0. A run raises a ValueError at a
        step with s h or a h of at least 1.

    See Also
    --------
    Spread : Members of `LossEKI` redrawn around their mean.
    EKI : A method for which inflation prevents the collapse of the ensemble.

    Notes
    -----
    With ``tikhonov=True``, constant steps and a linear G the covariance of the ensemble settles at
    s/(1 − s h) times the covariance of the posterior, around the maximum a posteriori estimate.
    Without inflation the covariance falls as 1/Σh. A small s such as 1e-3 prevents that collapse.

    References
    ----------
    .. [1] Whitaker & Hamill (2012), Monthly Weather Review 140, 3078-3089.
    .. [2] Anderson & Anderson (1999), Monthly Weather Review 127, 2741-2758.
    .. [3] Mitchell & Houtekamer (2000), Monthly Weather Review 128, 416-433.

    Examples
    --------
    >>> import ekitools as ek
    >>> problem = ek.problems.linear(p=3, d=6).problem
    >>> plain = ek.EKI(ek.FixedStep(1.0), t_end=None, tikhonov=True)
    >>> for method in (plain, ek.Inflated(plain, multiplicative=0.1)):
    ...     result = ek.run(problem, method, n_members=20, n_steps=200, rng=0)
    ...     print(round(float(result.history_spread[-1]), 2))
    0.03
    0.15
    """

    method: Method
    multiplicative: float = 0.0
    additive: float = 0.0
    covariance: Covariance = "prior"
    relaxation: float = 0.0
    longest: float | None = None

    aim: ClassVar[Aim] = "fit"

    def __post_init__(self) -> None:
        check_moves(
            self.method,
            sampler="whose members keep the spread of the posterior",
            nodes=" and have no sampling error",
            remedy="Use it without inflation.",
        )
        put(
            self,
            multiplicative=number("multiplicative", self.multiplicative, least=0),
            additive=number("additive", self.additive, least=0),
            covariance=one_of("covariance", self.covariance, _COVARIANCES),
            relaxation=number("relaxation", self.relaxation, least=0, most=1),
        )
        if self.longest is not None:
            put(self, longest=number("longest", self.longest, above=0))
        if not (self.multiplicative or self.additive or self.relaxation):
            raise ValueError(
                "multiplicative, additive, relaxation: must not all be 0, which inflates nothing. "
                "Set one of them, such as multiplicative=0.01."
            )

    @property
    def State(self) -> Any:  # noqa: N802 - it is a class
        """The state class of the wrapped method."""
        return self.method.State

    def init(self, ensemble: Array, target: Target) -> Any:
        """The state before the first step."""
        return self.method.init(ensemble, target)

    def ask(self, state: Any) -> Array:
        """The members at which G is wanted, ``(J, p)``."""
        return self.method.ask(state)

    def finished(self, state: Any) -> Status | None:
        """The final status once the wrapped method has finished; None before."""
        return without_posterior(self.method.finished(state), _WHY)

    def redraws(self, n: int) -> bool:
        """Whether the wrapped method redraws members at the end of step n."""
        return isinstance(self.method, Redraws) and self.method.redraws(n)

    def tell(
        self, state: Any, g: Array, target: Target, *, rng: np.random.Generator
    ) -> tuple[Any, StepInfo]:
        """One inflated step. At the end of the run the state is returned unchanged.

        Raises
        ------
        ValueError
            If s h or a h is at least 1.
        """
        new, info = self.method.tell(state, g, target, rng=rng)
        if info.status is not None:
            return state, info._replace(status=without_posterior(info.status, _WHY))
        ensemble = self._inflated(new.ensemble, state.ensemble, info.step, target, rng)
        if not math.isfinite(total_variance(ensemble)):
            status = diverged(
                f"The inflation of step {state.n}", "Use less inflation, or smaller steps."
            )
            return state, info._replace(step=0.0, status=status)
        return with_ensemble(self.method, new, ensemble), info

    def select(self, state: Any, index: np.ndarray) -> Any:
        """The state of the members ``index``."""
        return self.method.select(state, index)

    def map_members(self, state: Any, rows: Callable[[Array], Array], index: np.ndarray) -> Any:
        """The state with ``rows`` of every array that has a row for each member."""
        return mapped(self.method, state, rows, index)

    def _inflated(
        self, u: Array, before: Array, h: float, target: Target, rng: np.random.Generator
    ) -> Array:
        """The ensemble after the three kinds of inflation."""
        xp = array_namespace(u)
        mean = xp.mean(u, axis=0, keepdims=True)
        deviations = u - mean
        if self.relaxation:
            sd, old = (xp.std(each, axis=0, correction=1) for each in (u, before))
            one = xp.ones_like(sd)
            ratio = xp.where(sd > 0, old / xp.where(sd > 0, sd, one), one)
            deviations = deviations * (1 - self.relaxation + self.relaxation * ratio)
        if self.multiplicative:
            share = self._share("multiplicative", self.multiplicative, h, target)
            deviations = deviations / math.sqrt(1 - share)
        if self.additive:
            share = self._share("additive", self.additive, h, target)
            deviations = deviations + self._noise(deviations, share / (1 - share), target, rng)
        return mean + deviations

    def _share(self, name: str, rate: float, h: float, target: Target) -> float:
        """The product s h or a h of a step."""
        seen = 1.0 if target.batch is None else target.batch.share
        counted = seen * (h if self.longest is None else min(h, self.longest))
        if not rate * counted < 1:
            raise ValueError(
                f"{name}: must be below 1/h = {1 / counted:.4g} at a step h = {h:.4g}, got {rate}. "
                f"Use a smaller {name}, smaller steps, or longest= to bound the h that counts."
            )
        return rate * counted

    def _noise(
        self, deviations: Array, variance: float, target: Target, rng: np.random.Generator
    ) -> Array:
        """Draws from N(0, variance Σ), with the mean zero, ``(J, p)``."""
        xp, n = array_namespace(deviations), int(deviations.shape[0])
        if self.covariance == "prior":
            zero = xp.zeros_like(deviations[:1, :])
            return drawn_around(zero, target.prior, math.sqrt(variance), n, rng)
        white = rng.standard_normal((n, n))
        white -= white.mean(axis=0)
        return gaussian_draws(deviations, math.sqrt(variance * n / (n - 1)) * white)
