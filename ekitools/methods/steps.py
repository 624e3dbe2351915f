"""Step rules (`FixedStep`, `NormStep`, `MisfitController`, `ESMDA`), and the choice of a step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ekitools.core.checks import integer, number, put, sequence
from ekitools.linalg import d_norm
from ekitools.typing import Array, BoundedSchedule, Schedule, Seen, Status

__all__ = [
    "ESMDA",
    "FixedStep",
    "MisfitController",
    "NormStep",
    "choose_step",
    "given_up",
    "landing",
    "rule_step",
]


_FASTER = 2.0
"""A step counts as growing if it exceeds the mean of the earlier steps by this factor. The ratio
was 1.0 in runs whose steps stay too small, and 20 and more for linear models with noise of 1e-9."""


@dataclass(frozen=True)
class FixedStep:
    """Constant step h: every analysis sees the noise Γ/h.

    Parameters
    ----------
    h : float
        Step size, h > 0.

    Raises
    ------
    TypeError, ValueError
        If ``h`` is not a positive finite number.

    See Also
    --------
    MisfitController : The default rule, which adapts the step to the misfits.

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.EKI(step=ek.FixedStep(0.1)).step
    FixedStep(h=0.1)
    """

    h: float

    def __post_init__(self) -> None:
        put(self, h=number("h", self.h, above=0))

    def step(self, seen: Seen) -> float:  # noqa: ARG002 - the contract's argument
        """Return h."""
        return self.h


@dataclass(frozen=True)
class NormStep:
    r"""Adaptive step h_n = h / (‖D(u_n)‖ + ε) of Kovachki & Stuart (2019).

    ‖D‖ is the Frobenius norm of D_jk = ⟨G(u_k) − Ḡ, G(u_j) − y⟩_Γ / J [1]_.

    Parameters
    ----------
    h : float, default 1
        Numerator, h > 0.
    eps : float, default 1e-6
        ε > 0. It bounds the step by h/ε after the ensemble has collapsed.

    Raises
    ------
    TypeError, ValueError
        If ``h`` or ``eps`` is not a positive finite number.

    See Also
    --------
    MisfitController : The default rule, for a run that ends at the posterior.

    References
    ----------
    .. [1] Kovachki & Stuart (2019), Inverse Problems 35, 095005.

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.EKI(step=ek.NormStep(h=2.0), t_end=None).step
    NormStep(h=2.0, eps=1e-06)
    """

    h: float = 1.0
    eps: float = 1e-6

    def __post_init__(self) -> None:
        put(self, h=number("h", self.h, above=0), eps=number("eps", self.eps, above=0))

    def step(self, seen: Seen) -> float:
        """Return h / (‖D‖ + ε)."""
        return self.h / (seen.d_norm() + self.eps)


@dataclass(frozen=True)
class MisfitController:
    r"""Data-misfit controller: a step adapted to the misfits, without a tuning parameter.

    .. math::
        h = \min\{\max\{d / (2\,\overline{\Phi}), \sqrt{d / (2\,\mathrm{var}\,\Phi)}\},
        1 - \sum h\},
        \qquad \Phi_j = \tfrac12 \|\Gamma^{-1/2}(G(u_j) - y)\|^2.

    This step keeps the symmetrised Kullback–Leibler distance between successive tempered
    posteriors bounded [1]_.

    If the linear updates do not lower the misfits, the steps stay as small as the first step, and
    the run would need very many steps. The controller ends such a run after ``max_runs`` model runs
    of every member, with the status "steps_too_small". The run continues if at most ``max_runs``
    further steps of the present size are needed. It also continues if the steps grow, as they do if
    the noise is very small compared with the misfits.

    Parameters
    ----------
    max_runs : int or None, default 30
        Model runs of every member after which the controller may end the run; None for no bound.

    Raises
    ------
    TypeError, ValueError
        If ``max_runs`` is not a positive integer.

    See Also
    --------
    ESMDA : A fixed number of analyses.
    FixedStep : A constant step.

    References
    ----------
    .. [1] Iglesias & Yang (2021), Inverse Problems 37, 025008.

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.EKI().step
    MisfitController(max_runs=30)
    """

    max_runs: int | None = 30

    def __post_init__(self) -> None:
        if self.max_runs is not None:
            bound = integer("max_runs", self.max_runs, remedy="Use None for no bound.")
            put(self, max_runs=bound)

    def step(self, seen: Seen) -> float:
        """Return the h of the controller, before `choose_step` limits h to 1 − Σh."""
        with np.errstate(over="ignore"):  # an infinite variance bounds no step
            mean, variance = float(np.mean(seen.misfit)), float(np.var(seen.misfit, ddof=1))
        by_mean = seen.n_data / (2 * mean) if mean > 0 else math.inf
        by_variance = math.sqrt(seen.n_data / (2 * variance)) if variance > 0 else math.inf
        h = max(by_mean, by_variance)
        return h if math.isfinite(h) else min(seen.remaining, 1.0)

    def given_up(self, seen: Seen) -> Status | None:
        """The status "steps_too_small" if ``max_runs`` is reached and too many steps are left."""
        if self.max_runs is None or seen.n + 1 < self.max_runs:
            return None
        h = self.step(seen)
        if h * self.max_runs >= seen.remaining or self._speeds_up(seen, h):
            return None
        end = seen.t + seen.remaining
        with np.errstate(over="ignore"):
            mean, sd = float(np.mean(seen.misfit)), float(np.std(seen.misfit, ddof=1))
        return Status(
            "steps_too_small",
            f"The steps are too small: after {seen.n + 1} model runs of every member t is "
            f"{seen.t:.3g}, and t = {end:g} needs about {math.ceil(seen.remaining / h)} more steps "
            f"of {h:.3g}. The misfits (mean {mean:.4g}, standard deviation {sd:.4g}, for "
            f"{seen.n_data} data) do not fall, because the linear update of the ensemble does not "
            "improve the fit. The ensemble is not a sample of the posterior. Use "
            "ek.TemperedSMC(), an ensemble near one mode, or a larger noise if the model "
            "cannot fit the data. To continue regardless, use "
            "step=ek.MisfitController(max_runs=None).",
            level="bad",
        )

    def _speeds_up(self, seen: Seen, h: float) -> bool:
        """Whether the steps grow fast enough to reach the end within 3 ``max_runs`` steps.

        Steps that do not grow are equal, and h is t/n. If the noise is very small compared with the
        misfits, t grows exponentially.
        """
        if not h * seen.n > _FASTER * seen.t > 0:
            return False
        growth = math.log1p(seen.remaining / seen.t) / math.log1p(h / seen.t)
        return self.max_runs is not None and growth <= 3 * self.max_runs


@dataclass(frozen=True)
class ESMDA:
    """Multiple data assimilation: n analyses with noise α_i Γ and Σ 1/α_i = 1 [1]_.

    Parameters
    ----------
    inflation : int or tuple of float, default 4
        Number n of equal factors α_i = n, or a tuple of the factors.

    Raises
    ------
    TypeError, ValueError
        If a factor is not positive, or the inverses of the factors do not add up to 1.

    See Also
    --------
    MisfitController : The default rule, which chooses the number of steps.

    References
    ----------
    .. [1] Emerick & Reynolds (2013), Computers & Geosciences 55, 3-15.

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.ESMDA((4.0, 2.0, 4.0)).steps
    (0.25, 0.5, 0.25)
    """

    inflation: int | tuple[float, ...] = 4

    def __post_init__(self) -> None:
        given: Any = self.inflation
        if isinstance(given, str) or not isinstance(given, Iterable):
            put(self, inflation=integer("inflation", given))
            return
        several = sequence("inflation", given, "an integer or a sequence of numbers")
        factors = tuple(number("inflation", alpha, above=0) for alpha in several)
        put(self, inflation=factors)
        total = math.fsum(self.steps)
        if abs(total - 1) > 1e-9:
            raise ValueError(
                f"inflation: the inverses must add up to 1, got {total:.6g}. "
                f"Multiply every factor by {total:.6g}."
            )

    @property
    def steps(self) -> tuple[float, ...]:
        """The steps h_i = 1/α_i."""
        if isinstance(self.inflation, int):
            return (1 / self.inflation,) * self.inflation
        return tuple(1 / alpha for alpha in self.inflation)

    def step(self, seen: Seen) -> float:
        """Return 1/α of the present analysis; the last step takes all that remains of Σh = 1."""
        steps = self.steps
        return steps[seen.n] if seen.n < len(steps) - 1 else min(seen.remaining, steps[-1])


def choose_step(
    schedule: Schedule,
    n: int,
    t: float,
    t_end: float | None,
    r: Array,
    misfit: np.ndarray,
    norm: Callable[[], float] | None = None,
) -> tuple[float, float]:
    """The step h of ``schedule``, limited by ``t_end``, and the pseudo-time after the step.

    ``norm`` returns ‖D‖ if ‖D‖ has been computed already.

    Raises
    ------
    ValueError
        If the rule returns a step that is not positive and finite.
    """
    end = math.inf if t_end is None else t_end
    known = (lambda: d_norm(r, r)) if norm is None else norm
    seen = Seen(n, t, end - t, misfit, int(r.shape[1]), known)
    return landing(t, rule_step(schedule, seen), end)


def given_up(
    schedule: Schedule, n: int, t: float, t_end: float | None, misfit: np.ndarray, n_data: int
) -> Status | None:
    """The status with which ``schedule`` ends the run; None if the run continues."""
    if t_end is None or not isinstance(schedule, BoundedSchedule):
        return None
    return schedule.given_up(Seen(n, t, t_end - t, misfit, n_data, lambda: math.nan))


def rule_step(schedule: Schedule, seen: Seen) -> float:
    """The h of the rule.

    Raises
    ------
    ValueError
        If h is not positive and finite.
    """
    h = schedule.step(seen)
    if not 0 < h < math.inf:
        raise ValueError(
            f"step: must give a positive finite step, got {h} from {schedule!r} at step {seen.n} "
            f"with a mean misfit of {float(np.mean(seen.misfit)):.4g}."
        )
    return h


def landing(t: float, h: float, end: float) -> tuple[float, float]:
    """The step, limited by ``end``, and the time after the step (exactly ``end`` if limited)."""
    return (end - t, end) if h >= (end - t) * (1 - 1e-12) else (h, t + h)
