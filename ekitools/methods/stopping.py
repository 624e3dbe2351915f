"""Stopping rules: `Discrepancy`, `Collapsed` and `NoProgress`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ekitools.core.checks import check_gaussian, integer, number, put
from ekitools.typing import Progress, Status

__all__ = ["Collapsed", "Discrepancy", "NoProgress"]


@dataclass(frozen=True)
class Discrepancy:
    """Stop when the mean output fits the data within the noise: ‖Γ^{-1/2}(Ḡ − y)‖ ≤ τ√d.

    This is Morozov's discrepancy principle. A closer fit would fit the noise.

    Parameters
    ----------
    tau : float, default 1
        Factor τ > 0.

    Raises
    ------
    TypeError, ValueError
        If ``tau`` is not a positive finite number; at the start of a run, if the problem has a loss
        that is not Gaussian noise.

    See Also
    --------
    NoProgress : Stop when the misfit no longer falls.

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
        """Return a status if the residual is at most τ√d, else None."""
        return self.reached(progress) if self.distance(progress) <= 0 else None

    def distance(self, progress: Progress) -> float:
        """Return ‖Γ^{-1/2}(Ḡ − y)‖ − τ√d."""
        return progress.residual - self.tau * math.sqrt(progress.n_data)

    def reached(self, progress: Progress) -> Status:
        """The status of a run that reached the residual τ√d."""
        return Status(
            "discrepancy_reached",
            "Stopped by the discrepancy principle: the residual of the mean output is "
            f"{progress.residual:.4g} noise standard deviations, at most tau * sqrt(d) = "
            f"{self.tau * math.sqrt(progress.n_data):.4g}. The spread of the ensemble does not "
            "measure uncertainty; use t_end=1 for a posterior.",
            level="good",
        )

    def check_problem(self, problem: Any) -> None:
        """Check that the problem has Gaussian noise."""
        check_gaussian(problem.noise, "the discrepancy principle")


@dataclass(frozen=True)
class Collapsed:
    """Stop when the ensemble has lost its spread and can no longer move.

    Parameters
    ----------
    rtol : float, default 1e-3
        The ensemble counts as collapsed if the root of its total variance, relative to that of the
        initial ensemble, is at most ``rtol``.

    Raises
    ------
    TypeError, ValueError
        If ``rtol`` is not a positive finite number.

    See Also
    --------
    Inflated : A method that keeps the spread.

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
        """Return a status if the relative spread is at most rtol, else None."""
        return self.reached(progress) if self.distance(progress) <= 0 else None

    def distance(self, progress: Progress) -> float:
        """Return the relative spread minus rtol."""
        return progress.spread - self.rtol

    def reached(self, progress: Progress) -> Status:
        """The status of a run whose relative spread fell to rtol."""
        return Status(
            "collapsed",
            f"The ensemble has collapsed: its spread is {progress.spread:.3g} of the initial "
            f"spread, at most rtol = {self.rtol:.3g}. The members can no longer move. "
            "Use more members, smaller or fewer steps, or a wider prior.",
        )


@dataclass(frozen=True)
class NoProgress:
    """Stop when the mean misfit no longer falls.

    Parameters
    ----------
    rtol : float, default 1e-3
        Smallest relative decrease that counts as progress.
    window : int, default 3
        Number of updates over which the decrease is measured.

    Raises
    ------
    TypeError, ValueError
        If ``rtol`` is not a positive finite number, or ``window`` is not a positive integer.

    See Also
    --------
    Discrepancy : Stop when the data are fitted within the noise.

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
        """Return a status if the misfit did not fall within the window, else None."""
        trace = progress.trace
        if len(trace) <= self.window:
            return None
        before, now = trace[-self.window - 1], min(trace[-self.window :])
        if now < before * (1 - self.rtol):
            return None
        return Status(
            "no_progress",
            f"Stopped: the mean misfit went from {before:.4g} to {now:.4g} in {self.window} "
            f"updates, a relative decrease below rtol = {self.rtol:.3g}. The ensemble may be "
            "unable to fit the data better. To improve the fit, use more members or a wider prior.",
        )
