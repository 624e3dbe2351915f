"""Covariance inflation, for any method that moves its members."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

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

_WHY = (
    "with inflation: the spread of the ensemble is not that of the posterior. Use the method "
    "without inflation for that."
)


@dataclass(frozen=True)
class Inflated(Around):
    r"""Covariance inflation for a method such as `EKI`: an ensemble that keeps its spread.

    After every step h of the method, with the mean ū and the deviations E of the new ensemble,

    .. math::
        E_{ji} \leftarrow \Big(1 - \alpha + \alpha \frac{\sigma_i^-}{\sigma_i}\Big) E_{ji}, \qquad
        E \leftarrow \frac{E}{\sqrt{1 - s h}}, \qquad
        E \leftarrow E + \xi, \quad \xi_j \sim N\Big(0, \frac{a h}{1 - a h} \Sigma\Big),

    in this order: relaxation to the spread before the step [1]_, where σ⁻ and σ are the standard
    deviations of a parameter before and after it; multiplicative inflation by s [2]_; additive
    inflation by a [3]_. Parts that are zero are left out. The mean ū stays where the method left
    it: the draws ξ are shifted to have the mean zero, and scaled by √(J/(J − 1)) to keep their
    covariance. All this is done in unconstrained coordinates.

    With an end time the ensemble is inflated after the last step too. It is no sample of the
    posterior, whatever Σh.

    Parameters
    ----------
    method : Method
        `EKI`, `ETKI`, `LossEKI`, `GNKI` or your own: one that moves its members.
    multiplicative : float, default 0
        s ≥ 0, for a time of 1: s h must be below 1.
    additive : float, default 0
        a ≥ 0, likewise. Where steps see a part of the data, s and a count by its share.
    covariance : {"prior", "ensemble"}, default "prior"
        Σ of the additive inflation: the covariance of the prior, whose draws do not stay in the
        span of the ensemble, or that of the new ensemble.
    relaxation : float, default 0
        α in [0, 1]: 1 gives every parameter the standard deviation it had before the step.
    longest : float, optional
        The h above which a longer step is not inflated more: s min(h, longest). With step rules
        that let h grow, ``longest=1.0`` bounds the inflation of every step.

    Raises
    ------
    TypeError, ValueError
        If the method is a sampler such as `TemperedSMC`; if an option is of the wrong kind or out
        of range; or if multiplicative, additive and relaxation are all 0. At a step with s h or
        a h of at least 1.

    See Also
    --------
    Spread : Members of `LossEKI` drawn anew around their mean.

    Notes
    -----
    With ``tikhonov=True``, constant steps and a linear G the covariance of the ensemble settles at
    s/(1 − s h) times that of the posterior, around the maximum a posteriori estimate. Without
    inflation it falls as 1/Σh. A small s such as 1e-3 is enough against that collapse.

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
    covariance: str = "prior"
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
            covariance=one_of("covariance", self.covariance, ("prior", "ensemble")),
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
        """That of the method within."""
        return self.method.State

    def init(self, ensemble: Array, target: Target) -> Any:
        """The state before the first step."""
        return self.method.init(ensemble, target)

    def ask(self, state: Any) -> Array:
        """The members at which G is wanted, ``(J, p)``."""
        return self.method.ask(state)

    def finished(self, state: Any) -> Status | None:
        """Set once the method within has come to its end."""
        return without_posterior(self.method.finished(state), _WHY)

    def redraws(self, n: int) -> bool:
        """Whether the method within draws members anew at the end of step n."""
        return isinstance(self.method, Redraws) and self.method.redraws(n)

    def tell(
        self, state: Any, g: Array, target: Target, *, rng: np.random.Generator
    ) -> tuple[Any, StepInfo]:
        """One inflated step, or the end: then the state is returned as it was.

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
        """The state with ``rows`` of all that the method within holds of its members."""
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
        """S h of a step, or a h."""
        seen = 1.0 if target.batch is None else target.batch.share
        counted = seen * (h if self.longest is None else min(h, self.longest))
        if not rate * counted < 1:
            raise ValueError(
                f"{name}: must be below 1/h = {1 / counted:.4g} at a step h = {h:.4g}, got {rate}. "
                "Use a smaller one, smaller steps, or longest= to bound what a step counts."
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
