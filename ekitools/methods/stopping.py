"""Stopping rules: frozen options with one pure function each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ekitools.core.checks import check_gaussian, integer, number, put
from ekitools.typing import Progress, Status

__all__ = ["Collapsed", "Discrepancy", "NoProgress"]


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
    >>> problem = ek.problems.linear(p=2, d=4).problem
    >>> result = ek.run(problem, ek.EKI(t_end=None), stop=ek.Discrepancy(tau=1.1), rng=0)
    >>> result.attrs["status_code"]
    'discrepancy_reached'
    """

    tau: float = 1.0

    def __post_init__(self) -> None:
        put(self, tau=number("tau", self.tau, above=0))

    def check(self, progress: Progress) -> Status | None:
        """Return the status once the residual is within τ√d."""
        return self.reached(progress) if self.distance(progress) <= 0 else None

    def distance(self, progress: Progress) -> float:
        """‖Γ^{-1/2}(Ḡ − y)‖ − τ√d."""
        return progress.residual - self.tau * math.sqrt(progress.n_data)

    def reached(self, progress: Progress) -> Status:
        """The status where the residual has come to τ√d."""
        return Status(
            "discrepancy_reached",
            f"The mean output fits the data to {progress.residual:.4g} noise standard deviations, "
            f"within tau * sqrt(d) = {self.tau * math.sqrt(progress.n_data):.4g}: stopped by the "
            "discrepancy principle. The ensemble's spread is not a posterior spread; use t_end=1 "
            "for one.",
            level="good",
        )

    def check_problem(self, problem: Any) -> None:
        """Check that the problem has Gaussian noise."""
        check_gaussian(problem.noise, "the discrepancy principle")


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
        put(self, rtol=number("rtol", self.rtol, above=0))

    def check(self, progress: Progress) -> Status | None:
        """Return the status once the spread is within rtol of nothing."""
        return self.reached(progress) if self.distance(progress) <= 0 else None

    def distance(self, progress: Progress) -> float:
        """The relative spread less rtol."""
        return progress.spread - self.rtol

    def reached(self, progress: Progress) -> Status:
        """The status where the spread has come to rtol."""
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
        rtol, window = number("rtol", self.rtol, above=0), integer("window", self.window)
        put(self, rtol=rtol, window=window)

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
