"""How long a step is, and when to stop: frozen options with one pure function each."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ekitools.typing import Progress, Seen, Status

__all__ = [
    "ESMDA",
    "Collapsed",
    "Discrepancy",
    "FixedStep",
    "MisfitController",
    "NoProgress",
    "NormStep",
]


def _positive(owner: object, **values: float) -> None:
    for name, value in values.items():
        if not 0 < value < math.inf:
            rule = type(owner).__name__
            raise ValueError(f"{name}: must be positive and finite in {rule}, got {value!r}.")


@dataclass(frozen=True)
class FixedStep:
    """The same step h every time: each analysis sees the noise Γ/h.

    Parameters
    ----------
    h : float
        Step, h > 0.

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.EKI(step=ek.FixedStep(0.1)).step
    FixedStep(h=0.1)
    """

    h: float

    def __post_init__(self) -> None:
        _positive(self, h=self.h)

    def step(self, seen: Seen) -> float:  # noqa: ARG002 - the contract's argument
        """Return h."""
        return self.h


@dataclass(frozen=True)
class NormStep:
    r"""The slides' adaptive step h_n = h / (‖D(u_n)‖ + ε).

    D_jk = ⟨G(u_k) − Ḡ, G(u_j) − y⟩_Γ / J, in the Frobenius norm [1]_.

    Parameters
    ----------
    h : float, default 1
        Numerator, h > 0.
    eps : float, default 1e-6
        ε > 0, which bounds the step by h/ε once the ensemble has collapsed.

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
        _positive(self, h=self.h, eps=self.eps)

    def step(self, seen: Seen) -> float:
        """Return h / (‖D‖ + ε)."""
        return self.h / (seen.d_norm() + self.eps)


@dataclass(frozen=True)
class MisfitController:
    r"""The data-misfit controller: as large a step as the misfits allow, without a parameter.

    .. math::
        h = \min\{\max\{d / (2\,\overline{\Phi}), \sqrt{d / (2\,\mathrm{var}\,\Phi)}\},
        1 - \sum h\},
        \qquad \Phi_j = \tfrac12 \|\Gamma^{-1/2}(G(u_j) - y)\|^2,

    which keeps the symmetrised Kullback–Leibler distance between successive tempered
    posteriors bounded [1]_.

    References
    ----------
    .. [1] Iglesias & Yang (2021), Inverse Problems 37, 025008.

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.EKI().step
    MisfitController()
    """

    def step(self, seen: Seen) -> float:
        """Return the controller's h, not yet cut at 1 − Σh."""
        mean, variance = float(np.mean(seen.misfit)), float(np.var(seen.misfit, ddof=1))
        by_mean = seen.n_data / (2 * mean) if mean > 0 else math.inf
        by_variance = math.sqrt(seen.n_data / (2 * variance)) if variance > 0 else math.inf
        h = max(by_mean, by_variance)
        return h if math.isfinite(h) else min(seen.remaining, 1.0)


@dataclass(frozen=True)
class ESMDA:
    """Multiple data assimilation: n analyses with noise α_i Γ and Σ 1/α_i = 1 [1]_.

    Parameters
    ----------
    inflation : int or tuple of float, default 4
        Number n of equal factors α_i = n, or the factors themselves.

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
        if isinstance(self.inflation, int):
            if self.inflation < 1:
                raise ValueError(f"inflation: must be at least 1 analysis, got {self.inflation}.")
            return
        object.__setattr__(self, "inflation", tuple(float(a) for a in self.inflation))
        for alpha in self.inflation:
            _positive(self, inflation=alpha)
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
        """Return 1/α of the analysis at hand; all that remains at and after the last one."""
        steps = self.steps
        return steps[seen.n] if seen.n < len(steps) - 1 else min(seen.remaining, steps[-1])


@dataclass(frozen=True)
class Discrepancy:
    """Stop where the data are fitted to their noise: ‖Γ^{-1/2}(Ḡ − y)‖ ≤ τ√d.

    Morozov's principle; fitting further would fit the noise.

    Parameters
    ----------
    tau : float, default 1
        τ > 0.

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.EKI(step=ek.FixedStep(1.0), t_end=None, stop=(ek.Discrepancy(tau=1.1),)).stop
    (Discrepancy(tau=1.1),)
    """

    tau: float = 1.0

    def __post_init__(self) -> None:
        _positive(self, tau=self.tau)

    def check(self, progress: Progress) -> Status | None:
        """Return the status once the residual is within τ√d."""
        level = self.tau * math.sqrt(progress.n_data)
        if progress.residual > level:
            return None
        return Status(
            "discrepancy_reached",
            f"The mean output fits the data to {progress.residual:.4g} noise standard deviations, "
            f"within tau * sqrt(d) = {level:.4g}: stopped by the discrepancy principle. "
            "The ensemble's spread is not a posterior spread; use t_end=1 for one.",
        )


@dataclass(frozen=True)
class Collapsed:
    """Stop where the ensemble has lost its spread, so that it can no longer move.

    Parameters
    ----------
    rtol : float, default 1e-3
        Root of the total ensemble variance, relative to the initial one, below which the
        ensemble counts as collapsed.

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.Collapsed(1e-4)
    Collapsed(rtol=0.0001)
    """

    rtol: float = 1e-3

    def __post_init__(self) -> None:
        _positive(self, rtol=self.rtol)

    def check(self, progress: Progress) -> Status | None:
        """Return the status once the spread is within rtol of nothing."""
        if progress.spread > self.rtol:
            return None
        return Status(
            "collapsed",
            f"The ensemble's spread is {progress.spread:.3g} of the initial one, at most "
            f"rtol = {self.rtol:.3g}: it has collapsed and moves no further. "
            "Use more members, smaller or fewer steps, or a wider prior.",
        )


@dataclass(frozen=True)
class NoProgress:
    """Stop where the mean misfit has stopped falling.

    Parameters
    ----------
    rtol : float, default 1e-3
        Smallest relative fall that counts as progress.
    window : int, default 3
        Number of updates over which the fall is looked for.

    Examples
    --------
    >>> import ekitools as ek
    >>> ek.NoProgress(window=5)
    NoProgress(rtol=0.001, window=5)
    """

    rtol: float = 1e-3
    window: int = 3

    def __post_init__(self) -> None:
        _positive(self, rtol=self.rtol, window=self.window)

    def check(self, progress: Progress) -> Status | None:
        """Return the status once the best of the window is no better than what came before."""
        trace = progress.trace
        if len(trace) <= self.window:
            return None
        before, now = trace[-self.window - 1], min(trace[-self.window :])
        if now < before * (1 - self.rtol):
            return None
        return Status(
            "no_progress",
            f"The mean misfit went from {before:.4g} to {now:.4g} in {self.window} updates, less "
            f"than rtol = {self.rtol:.3g} of it: stopped. The data may be fitted as well as this "
            "ensemble can; use more members or a wider prior to go on.",
        )
