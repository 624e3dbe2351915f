"""A distribution by its mean, its standard deviation and its bounds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import optimize, stats
from scipy.special import expit, ndtr

from ekitools.core.checks import number

__all__ = ["bounded"]


def bounded(mean: float, sd: float, lower: float = -np.inf, upper: float = np.inf) -> Any:
    r"""Distribution with a given mean, standard deviation and bounds, for `ekitools.Prior`.

    The transformed variable is normal: x itself without bounds, log(x − lower) or
    log(upper − x) with one bound, and log((x − lower)/(upper − x)) with two bounds. The density
    therefore vanishes at the bounds and has no corners. The mean and the standard deviation are
    those of x itself, to a relative error of about 1e-14.

    Parameters
    ----------
    mean : float
        The mean, strictly between the bounds.
    sd : float
        The standard deviation. With two bounds it must be less than
        √((mean − lower)(upper − mean)), the largest possible value.
    lower : float, optional
        The lower bound; none by default.
    upper : float, optional
        The upper bound; none by default.

    Returns
    -------
    frozen scipy.stats distribution
        `scipy.stats.norm`, `scipy.stats.lognorm` or its mirror image, or `scipy.stats.johnsonsb`.

    Raises
    ------
    TypeError, ValueError
        If ``mean`` is not between the bounds or ``sd`` is not feasible. The error states the
        feasible range.

    See Also
    --------
    ekitools.Prior : Parameters by name with these distributions.

    Notes
    -----
    With one bound at distance δ = mean − lower, σ² = log(1 + (sd/δ)²) and μ = log δ − σ²/2. With
    two bounds μ and σ of the logit-normal [1]_ have no closed form. They are the solution of two
    equations, with moments by the trapezoidal rule, which converges exponentially for analytic
    functions on the real line [2]_. For standard deviations near the largest possible value the
    distribution concentrates at both bounds.

    References
    ----------
    .. [1] Johnson (1949), Biometrika 36, 149-176.
    .. [2] Trefethen & Weideman (2014), SIAM Review 56, 385-458.

    Examples
    --------
    >>> import ekitools as ek
    >>> share = ek.bounded(0.3, 0.1, lower=0, upper=1)
    >>> print(share.mean().round(8), share.std().round(8))
    0.3 0.1
    >>> ek.bounded(0.3, 0.5, 0, 1)
    Traceback (most recent call last):
    ValueError: sd: must be within (0, 0.458258) for a mean of 0.3 between 0 and 1, got 0.5. ...
    """
    mean, sd = number("mean", mean), number("sd", sd, above=0)
    lower = number("lower", lower, infinite=True)
    upper = number("upper", upper, infinite=True)
    if not lower < mean < upper:
        raise ValueError(
            f"lower, mean, upper: must increase strictly, got {lower:g}, {mean:g} and {upper:g}. "
            "Move the mean or a bound."
        )
    below, above = mean - lower, upper - mean
    if math.isinf(below) and math.isinf(above):
        return stats.norm(mean, sd)
    if math.isinf(above):
        s, scale = _lognormal(below, sd)
        return stats.lognorm(s, loc=lower, scale=scale)
    if math.isinf(below):
        s, scale = _lognormal(above, sd)
        return _MIRRORED(s, loc=upper, scale=scale)
    largest = math.sqrt(below) * math.sqrt(above)
    if not sd < largest:
        uniform = (upper - lower) / math.sqrt(12)
        raise ValueError(
            f"sd: must be within (0, {largest:.6g}) for a mean of {mean:g} between {lower:g} and "
            f"{upper:g}, got {sd:g}. A uniform distribution between these bounds has {uniform:.4g}."
        )
    width = upper - lower
    if not min(below, above) / width > 1e-300:
        raise ValueError(
            f"mean: must not be so close to a bound, got {mean:g} between {lower:g} and "
            f"{upper:g}. Leave the other bound out, because it has no effect."
        )
    mu, sigma = _logit_normal(min(below, above) / width, sd / width)
    mu = mu if below <= above else -mu
    return stats.johnsonsb(-mu / sigma, 1 / sigma, loc=lower, scale=width)


def _lognormal(distance: float, sd: float) -> tuple[float, float]:
    """σ and exp(μ) of the log-normal with mean ``distance``."""
    ratio = sd / distance
    variance = math.log1p(ratio * ratio) if ratio < 1 else 2 * math.log(math.hypot(1.0, ratio))
    return math.sqrt(variance), distance * math.exp(-variance / 2)


class _MirroredLognormal(stats.rv_continuous):  # type: ignore[misc]
    """−X with X log-normal of shape s."""

    def _pdf(self, x: Any, s: Any) -> Any:
        return stats.lognorm.pdf(-x, s)

    def _logpdf(self, x: Any, s: Any) -> Any:
        return stats.lognorm.logpdf(-x, s)

    def _cdf(self, x: Any, s: Any) -> Any:
        return stats.lognorm.sf(-x, s)

    def _sf(self, x: Any, s: Any) -> Any:
        return stats.lognorm.cdf(-x, s)

    def _ppf(self, q: Any, s: Any) -> Any:
        return -stats.lognorm.isf(q, s)

    def _isf(self, q: Any, s: Any) -> Any:
        return -stats.lognorm.ppf(q, s)

    def _stats(self, s: Any) -> Any:
        mean, variance, skewness, kurtosis = stats.lognorm.stats(s, moments="mvsk")
        return -mean, variance, -skewness, kurtosis


_MIRRORED = _MirroredLognormal(b=0.0, name="mirrored_lognorm", shapes="s")


def _logit_normal(mean: float, sd: float) -> tuple[float, float]:
    """μ and σ of the normal whose logistic function has these moments, for 0 < ``mean`` ≤ ½.

    The unknowns are μ/√(1 + πσ²/8), close to logit(mean), and log σ. The equations are
    nearly linear in the logits of the mean and of sd²/(mean (1 − mean)).
    """
    logit = math.log(mean) - math.log1p(-mean)
    fraction = (sd / math.sqrt(mean * (1 - mean))) ** 2
    ratio = fraction / (1 - fraction)

    def scaled(x: np.ndarray) -> tuple[float, float]:
        sigma = math.exp(float(np.clip(x[1], -300, 40)))
        return float(x[0]) * math.sqrt(1 + math.pi / 8 * sigma**2), sigma

    def residual(x: np.ndarray) -> np.ndarray:
        found, spread = _moments(*scaled(x))
        return np.array([found - logit, spread - math.log(ratio)])

    # σ is that of a log-normal for a small mean, and about 1.6 ratio near the largest sd
    sigma = math.sqrt(math.log1p((sd / mean / (1 - mean)) ** 2)) + 1.6 * ratio
    stretch = math.sqrt(1 + math.pi / 8 * sigma**2)
    start = np.array([max(logit, (logit - sigma**2 / 2) / stretch), math.log(sigma)])
    with np.errstate(all="ignore"):
        found = optimize.root(residual, start, tol=1e-13)
        error = float(np.max(np.abs(residual(found.x))))
    if not error < 1e-9:
        raise ValueError(
            f"sd: no distribution was found for a mean {mean:.3g} and a standard deviation "
            f"{sd:.3g} of the distance between the bounds (error {error:.1g}). Use a bound that is "
            "closer, or none."
        )
    return scaled(found.x)


def _moments(mu: float, sigma: float) -> tuple[float, float]:
    """Logits of m = E[x] and of Var[x]/(m(1 − m)) for x = expit(μ + σz), z ~ N(0, 1)."""
    if sigma <= 10:
        # over z: the poles of x are π/σ from the real line; x² e^{-z²/2} has its peak before 2σ
        z = _grid(9 + 2 * sigma, min(0.25, math.pi**2 / (20 * sigma)))
        weight = np.exp(-z * z / 2)
        weight /= weight.sum()
        x, rest = expit(mu + sigma * z), expit(-mu - sigma * z)
        m, other, gap = weight @ x, weight @ rest, weight @ (x * rest)
        from_median = -x / m * expit(-mu) * np.expm1(-sigma * z)  # (x - expit(μ))/m, all digits
        relative = weight @ from_median**2 - (weight @ from_median) ** 2
        log_variance = 2 * np.log(m) + np.log(relative)
    else:
        # by parts, E[x] = ∫ x'(t) Φ((μ - t)/σ) dt: the width of x' does not depend on σ
        t = _grid(40 if sigma > 370 else 40 + 9 * sigma, 0.5)
        slope = expit(t) * expit(-t) * 0.5
        m, other = slope @ ndtr((mu - t) / sigma), slope @ ndtr((t - mu) / sigma)
        density = np.exp(-(((t - mu) / sigma) ** 2) / 2) / (math.sqrt(2 * math.pi) * sigma)
        gap = slope @ density
        log_variance = np.log(m * other - gap)
    return float(np.log(m) - np.log(other)), float(log_variance - np.log(gap))


def _grid(reach: float, step: float) -> np.ndarray:
    n = math.ceil(reach / step)
    return np.arange(-n, n + 1) * step
