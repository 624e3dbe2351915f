"""The final status of tempered sequential Monte Carlo, with the reasons for doubt."""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

from ekitools.methods.smc.modes import modes_of, standard_errors
from ekitools.typing import Level, Status

__all__ = ["ended"]

_MASS, _MEAN = 0.15 / 3, 0.25 / 3
"""Largest standard errors of the mass of a mode, and of a mean in standard deviations. Three such
errors are 0.15, and a quarter of a standard deviation."""

_DRAWS = 2.0
"""A standard error is accepted up to this multiple of the error of as many independent draws."""

_REACH = 10.0
"""Smallest effective number of the start's draws of the prior in the posterior. With fewer draws, a
second mode of the same size may have none, or too few for its mass."""

_FAR_OFF, _TOO_WIDE = 2.0, 1.5
"""Largest offset and width of the particles, in standard deviations of the Gaussian. Above them the
start is doubted, unless enough of its draws of the prior are in the posterior. In runs from EKI and
GNKI on the example problems, the means were within 1.9 and the widths within 1.2."""


def ended(
    x: np.ndarray,
    weight: np.ndarray,
    eve: np.ndarray,
    n_moves: int,
    left: float,
    moved: bool,
    *,
    prior_share: float | None,
    log_ratio: np.ndarray,
    log_start: np.ndarray,
) -> Status:
    """The status at temperature 1.

    Parameters
    ----------
    x : (J, p)
        Particles, in coordinates in which the Gaussian of the start is N(0, I).
    weight : (J,)
        Their weights.
    eve : (J,) of int
        The first particle from which each particle descends.
    n_moves : int
        Number of moves at this temperature.
    left : float
        Correlation of the particles with their positions before the moves.
    moved : bool
        Whether this correlation is small enough.
    prior_share : float or None
        Share of the prior in the start; None for a start from the prior.
    log_ratio : (J,)
        Logarithm of the density of the posterior relative to the start.
    log_start : (J,)
        Logarithm of the density of the start relative to the prior.

    Examples
    --------
    >>> import numpy as np
    >>> from ekitools.methods.smc.ending import ended
    >>> x, equal = np.random.default_rng(0).normal(size=(100, 1)), np.full(100, 0.01)
    >>> options = {"prior_share": None, "log_ratio": np.zeros(100), "log_start": np.zeros(100)}
    >>> ended(x, equal, np.arange(100), 5, 0.1, True, **options).level
    'good'
    >>> ended(x, equal, np.arange(100) // 50, 5, 0.9, False, **options).level
    'care'
    """
    modes = modes_of(x, weight)
    n_modes = int(modes.max()) + 1
    if not moved:
        where = f" within {n_modes} modes" if n_modes > 1 else ""
        return Status(
            "moves_spent",
            f"The temperature is 1, but {n_moves} moves left the particles with a correlation of "
            f"{left:.2g} with their first positions{where}. The sample may be poor. Allow more "
            "max_moves, another move, or more members.",
        )
    within = f" within each of {n_modes} modes" if n_modes > 1 else ""
    finished = (
        f"The temperature is 1 and {n_moves} moves decorrelated the particles{within} "
        f"(correlation {left:.2g})"
    )
    unsure, errors = _unsure(x, weight, eve, modes, n_modes)
    if unsure:
        return _reached(f"{finished}. {unsure} Use more members.", "care")
    found = f"{finished}: they sample the posterior.{errors}"
    if prior_share is None:
        return _reached(found, "good")
    if prior_share > 0:
        everywhere = np.ones(len(x), dtype=bool)
        reach = prior_share * _reach(everywhere, weight, log_ratio + log_start)
        if reach >= _REACH:
            worst = max(_error_of_start(modes == k, weight, log_ratio) for k in range(n_modes))
            if worst > _MASS:
                return _reached(
                    f"{finished}. The start has so few draws in a mode that the standard error of "
                    f"its mass can be {worst:.2g}. Use more members, or compare with a run without "
                    "start=.",
                    "care",
                )
            text = f"{found} The start's draws of the prior would show another mode of this size."
            return _reached(text, "good")
        text = (
            f"{finished}. A mode outside the Gaussian of the start can be missed: of the start's "
            f"draws of the prior only {reach:.2g} (effective number) are in the posterior, and "
            f"{_REACH:.0f} would show another mode."
        )
        return _by_start(text, x, weight)
    text = (
        f"{finished}. They sample the part of the posterior that the start covers; a mode outside "
        "the start is not found."
    )
    return _by_start(text, x, weight)


def _reached(text: str, level: Level) -> Status:
    return Status("posterior_reached", text, level=level, posterior=True)


def _by_start(text: str, x: np.ndarray, weight: np.ndarray) -> Status:
    """The status of a run whose result depends on the Gaussian of its start."""
    doubt = _start_doubt(x, weight)
    return _reached(
        f"{text}{doubt} Compare with a run without start=.", "care" if doubt else "note"
    )


def _unsure(
    x: np.ndarray, weight: np.ndarray, eve: np.ndarray, modes: np.ndarray, n_modes: int
) -> tuple[str, str]:
    """A sentence on errors that are too large, or "", and a sentence on errors that are small."""
    sd = np.sqrt(weight @ (x - weight @ x) ** 2)
    off = float(np.max(standard_errors(x / np.where(sd > 0, sd, 1.0), weight, eve)))
    inside = (modes[:, None] == np.arange(n_modes)).astype(np.float64)
    worst = float(np.max(standard_errors(inside, weight, eve)))
    masses = f"The masses of the modes have standard errors up to {worst:.2g}."
    if worst > _MASS:
        return masses, ""
    if off > max(_MEAN, _DRAWS / np.sqrt(len(x))):
        return f"The means have standard errors up to {off:.2g} standard deviations.", ""
    return "", f" {masses}" * (n_modes > 1)


def _reach(inside: np.ndarray, weight: np.ndarray, log_ratio: np.ndarray) -> float:
    """The effective number of J draws of a distribution that are in a part of the posterior.

    The draws are weighted by the density r of the posterior relative to the distribution. In a part
    of the mass m their effective number is J m²/E_post[r], with the expectation over the part.
    """
    w = weight[inside]
    with np.errstate(divide="ignore"):
        mean = float(logsumexp(log_ratio[inside] + np.log(w)))
    return len(weight) * float(np.exp(min(2 * np.log(w.sum()) - mean, 0.0)))


def _error_of_start(inside: np.ndarray, weight: np.ndarray, log_ratio: np.ndarray) -> float:
    """Standard error of the mass of a mode, from the start's draws inside and outside the mode.

    This is the error without temperatures and without moves between modes, which make the error
    smaller. The error does not depend on chance. The error by the genealogy does: a mode with too
    few particles has a smaller mass, and a smaller error.
    """
    mass, rest = float(weight[inside].sum()), float(weight[~inside].sum())
    if mass == 0 or rest == 0:
        return 0.0
    numbers = [_reach(part, weight, log_ratio) for part in (inside, ~inside)]
    return float(mass * rest * np.sqrt(1 / numbers[0] + 1 / numbers[1]))


def _start_doubt(x: np.ndarray, weight: np.ndarray) -> str:
    """A sentence on a start that is far from the particles, or narrower; "" for a good one."""
    mean = weight @ x
    off = float(np.max(np.abs(mean)))
    centred = x - mean
    share = max(1 - float(weight @ weight), 1e-12)
    wide = float(np.sqrt(np.max(weight @ (centred * centred)) / share))
    if off > _FAR_OFF:
        return f" The mean of the particles is {off:.2g} standard deviations of the start away."
    if wide > _TOO_WIDE:
        return f" The particles are {wide:.2g} times as wide as the start, which was too narrow."
    return ""
